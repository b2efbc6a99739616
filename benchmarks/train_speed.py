"""`python benchmarks/train_speed.py`: how fast this machine trains, and where the time goes.

Each way to train has a process of its own. They take turns, so that what else the machine does hits all alike;
given are medians over the turns. `--base 16 --size 128 --batch 8` measures another network."""
import argparse, json, os, subprocess, sys, time
from contextlib import contextmanager
from statistics import median

PASSIVE = dict(OMP_WAIT_POLICY='PASSIVE')
# precision, loader workers, how threads wait (nothing: as torch comes, they spin)
WAYS = {'float32, threads spin': ('fp32', 0, {}), 'float32': ('fp32', 0, PASSIVE),
        'bf16': ('bf16', 0, PASSIVE), 'bf16, 1 worker': ('bf16', 1, PASSIVE)}
PLAIN = 'float32' # what the others are compared with


def new_fit(base, size, batch, patches, precision, workers, device='cpu'):
    "A network and patches of a phantom, with all augmentation."
    import torch
    from membrane_nb.data import Tomo
    from membrane_nb.plain import phantom
    from membrane_nb.sampler import Patches
    from membrane_nb.fit import Fit
    from membrane_nb.options import TrainOptions
    from membrane_nb.unet import UNet
    cell = Tomo(*phantom((32, 384, 384), seed=0), 'phantom')
    torch.manual_seed(0)
    ds = Patches([(cell, range(32))], patches, size=size, augment='full', device='' if device == 'cpu' else device)
    options = TrainOptions(batch_size=batch, precision=precision, workers=workers, schedule='cosine')
    return Fit(UNet(base=base).to(device), ds, [], options)


def answer(settings):
    "The process of one way: for each line that comes in, an epoch; its patches a second go out."
    from membrane_nb.devices import share_cores
    fit = new_fit(**settings)
    print(share_cores(fit.options.workers), flush=True)
    for epoch, line in enumerate(sys.stdin):
        start = time.monotonic()
        fit.train_epoch(epoch)
        print(len(fit.patches) / (time.monotonic() - start), flush=True)


def own_process(*words, **env):
    "This program in a process of its own, that answers line by line."
    env = {name: value for name, value in os.environ.items() if name != 'OMP_WAIT_POLICY'} | env
    command = [sys.executable, __file__, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


@contextmanager
def busy(yes):
    "Beside one process that keeps a core busy, or alone."
    other = subprocess.Popen([sys.executable, '-c', 'while True: pass']) if yes else None
    try: yield
    finally:
        if other: other.kill(), other.wait()


def training_speed(base=32, size=256, batch=2, patches=8, rounds=3):
    "A dict a way: threads, and patches a second when the machine is quiet and beside a busy process."
    settings = dict(base=base, size=size, batch=batch, patches=patches)
    children, rows = {}, {}
    for name, (precision, workers, env) in WAYS.items():
        given = json.dumps(settings | dict(precision=precision, workers=workers))
        children[name] = own_process('answer', given, **env)
    def ask(name):
        children[name].stdin.write('\n')
        children[name].stdin.flush()
        return float(children[name].stdout.readline())
    try:
        for name, child in children.items():
            rows[name] = dict(threads=int(child.stdout.readline()), quiet=[], busy=[])
            ask(name) # a first epoch, which is slower
        for _ in range(rounds):
            for state in ('quiet', 'busy'):
                with busy(state == 'busy'):
                    for name in children: rows[name][state].append(ask(name))
    finally:
        for child in children.values(): child.kill()
    return {name: row | {state: median(row[state]) for state in ('quiet', 'busy')} for name, row in rows.items()}


def stages(base=32, size=256, batch=2, patches=8, precision='fp32'):
    "Milliseconds a patch that each stage of training takes, in this process."
    import torch
    from membrane_nb import fit as fitting, sampler
    fit = new_fit(base, size, batch, patches, precision, 0)
    fit.train_epoch(0)
    spent = {}
    def timed(owner, name, stage):
        inner = getattr(owner, name)
        def outer(*args, **named):
            start = time.monotonic()
            try: return inner(*args, **named)
            finally: spent[stage] = spent.get(stage, 0) + time.monotonic() - start
        setattr(owner, name, outer)
        return owner, name, inner
    def augmented(*args): return change(*args)
    change, sampler._CHANGES['full'] = sampler._CHANGES['full'], lambda *args: sampler._augment(*args)
    sampler._augment = augmented
    changed = [timed(sampler.Patches, '__getitems__', 'cut'), timed(sampler, '_augment', 'augment'),
               timed(fit.net, 'forward', 'forward'), timed(fitting, 'loss_sums', 'loss'),
               timed(torch.Tensor, 'backward', 'backward'), timed(fit.opt, 'step', 'optimiser'),
               timed(fit, 'average', 'moving average')]
    start = time.monotonic()
    fit.train_epoch(1)
    total = time.monotonic() - start
    for owner, name, inner in changed: setattr(owner, name, inner)
    sampler._CHANGES['full'] = change
    spent['cut'] -= spent['augment']
    spent['rest'] = total - sum(spent.values())
    return {stage: 1000 * seconds / patches for stage, seconds in spent.items()}


def measure(base=32, size=256, batch=2, patches=8, rounds=3):
    "`training_speed` of a network, and `stages` in both precisions."
    network = dict(base=base, size=size, batch=batch, patches=patches)
    found = dict(network=network, ways=training_speed(**network, rounds=rounds))
    return found | dict(stages={precision: stages(**network, precision=precision) for precision in ('fp32', 'bf16')})


def lines(found):
    "What was measured, in words."
    rows, split = found['ways'], found['stages']
    plain = rows[PLAIN]['quiet']
    said = ['{base} channels, batches of {batch} patches of {size} pixels, {patches} a turn'.format(**found['network']),
            f'{"patches a second":24}{"threads":>9}{"quiet":>9}{"busy":>9}{"busy/quiet":>12}{"quiet / float32":>17}']
    said += [f'{name:24}{row["threads"]:9}{row["quiet"]:9.2f}{row["busy"]:9.2f}{row["busy"] / row["quiet"]:12.2f}{row["quiet"] / plain:17.2f}' for name, row in rows.items()]
    said.append(f'{"milliseconds a patch":24}' + ''.join(f'{precision:>18}' for precision in split))
    for stage in split['fp32']:
        said.append(f'{stage:24}' + ''.join(f'{s[stage]:10.1f} ({s[stage] / sum(s.values()):4.0%})' for s in split.values()))
    return said


if __name__ == '__main__':
    if sys.argv[1:2] == ['answer']: answer(json.loads(sys.argv[2]))
    else:
        for name, value in (('OMP_WAIT_POLICY', 'PASSIVE'), ('THP_MEM_ALLOC_ENABLE', '1')): os.environ.setdefault(name, value)
        parser = argparse.ArgumentParser(description=__doc__)
        for name, value in dict(base=32, size=256, batch=2, patches=8, rounds=3).items():
            parser.add_argument(f'--{name}', type=int, default=value)
        print(*lines(measure(**vars(parser.parse_args()))), sep='\n')
