"""`make bench`: how fast this repository is on this machine. Writes output/speed/NAME.json; 02_speed shows them.

`python benchmarks/bench.py` measures everything, `python benchmarks/bench.py open memory` those parts. MONAI is compared where it is installed
(`pip install --no-deps monai`).
What is compared runs in turn, each time in a process of its own; times are medians. Memory is the peak of a process, as the system counts it."""
import json, os, platform, resource, subprocess, sys, threading, time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
os.environ.setdefault('THP_MEM_ALLOC_ENABLE', '1')
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import many
import train_speed
from membrane_nb import data, engine, infer
from membrane_nb.data import Tomo, slabs
from membrane_nb.grey import measure_scale
from membrane_nb.infer import open_job
from membrane_nb.plain import phantom
from membrane_nb.page import output_root, repo_root
from membrane_nb.sampler import Patches, batches
from membrane_nb.unet import fuse_batchnorm
from membrane_nb.weights import load_unet, pretrained
from membrane_nb.mrc import new_mrc
from membrane_nb.volume import open_volume

ROUNDS = 2
AS_TORCH_COMES = {'plain loop': dict(THP_MEM_ALLOC_ENABLE='0', OMP_WAIT_POLICY='ACTIVE')} # no large pages, threads that spin while they wait
AVX2 = dict(ONEDNN_MAX_CPU_ISA='AVX2', ATEN_CPU_CAPABILITY='avx2') # as on a processor without AVX512 (torch and OpenVINO both obey the first)
PLANE = 1024, 1024


def peak():
    "The most memory this process had, in GB. Linux: of this program alone; `getrusage` would count the parent it was forked from."
    status = Path('/proc/self/status')
    if not status.exists(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    return int(next(line for line in status.read_text().splitlines() if line.startswith('VmHWM')).split()[1]) / 2**20


def now_used():
    "The memory of this process at this moment, in GB."
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 2**30


def machine():
    "Processor, cores, and what it computes with."
    names = [line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines() if line.startswith('model name')] if Path('/proc/cpuinfo').exists() else []
    vino = engine._openvino()
    able = engine._core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES') if vino else []
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else ''
    return dict(processor=names[0] if names else platform.processor(), cores=os.cpu_count(), threads=torch.get_num_threads(),
                able=[word for word in able if word in ('FP32', 'BF16', 'INT8')], gpu=gpu, torch=torch.__version__, openvino=vino.__version__.split('-')[0] if vino else '')


def folder():
    "Where the volumes and the measurements lie."
    path = output_root()/'speed'
    path.mkdir(parents=True, exist_ok=True)
    return path


def volume(n, msk=False):
    "A tomogram of n slices of 1024 x 1024 (or its mask), made of phantoms laid side by side; float32, int8."
    path = folder()/f'{"mask" if msk else "tomo"}{n}.mrc'
    if path.exists(): return path
    both = phantom((64, 256, 256), seed=0)
    with new_mrc(path, (n, *PLANE), np.int8 if msk else np.float32, both[2]) as out:
        for z in range(n): out[z] = np.tile(both[int(msk)][z % 64], (4, 4))
    return path


def child(step, *args, **env):
    "What a step returns in a fresh process, and the seconds of that process."
    start = time.monotonic()
    done = subprocess.run([sys.executable, __file__, 'step', step, *map(str, args)], capture_output=True, text=True, env=os.environ | env)
    if done.returncode: raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1]) | dict(process=time.monotonic() - start)


def in_turn(ways, rounds=ROUNDS, **env):
    "Each way's results, a list each; the ways run in turn, with these variables of the environment. A way is (step, *args)."
    found = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (step, *args) in ways.items(): found[name].append(child(step, *args, **env | AS_TORCH_COMES.get(name, {})))
    return found


def middle(runs, name): return median(run[name] for run in runs)


# --- steps: each runs in a process of its own ---------------------------------------------------------

class Clock:
    "Seconds spent in some functions, each by its own name; threads add up."
    def __init__(self): self.seconds = {}
    def wrap(self, owner, name, stage):
        inner = getattr(owner, name)
        def timed(*args, **options):
            start = time.perf_counter()
            try: return inner(*args, **options)
            finally: self.seconds[stage] = self.seconds.get(stage, 0) + time.perf_counter() - start
        setattr(owner, name, timed)


def step_segment(n, name='auto', precision='auto', device='cpu', threads='0', base='16'):
    "Segment n slices from file to file, and say where the time went."
    n = int(n)
    if int(threads): torch.set_num_threads(int(threads))
    path = volume(n)
    weights = '' if base == '16' else _random_weights(int(base))
    clock, used, done = Clock(), [], threading.Event()
    clock.wrap(data.Scale, '__call__', 'scale')
    clock.wrap(type(open_volume(path)), '__getitem__', 'read')
    clock.wrap(infer._Answer, '__setitem__', 'write')
    clock.wrap(infer.Pieces, 'add', 'small pieces')
    clock.wrap(infer.Pieces, 'remove', 'small pieces')
    start = time.perf_counter()
    def watch():
        while not done.wait(.25): used.append([round(time.perf_counter() - start, 2), round(now_used(), 3)])
    threading.Thread(target=watch, daemon=True).start()
    job = open_job(path, weights=weights, output=folder()/f'out{n}', device=device, overwrite=True, engine=name, precision=precision)
    opened = time.perf_counter() - start
    opening = dict(clock.seconds)
    clock.seconds.clear()
    clock.wrap(type(job.net), 'forward', 'network')
    job.run(pictures=False)
    wall = time.perf_counter() - start
    done.set()
    return dict(wall=wall, open=opened, opening=opening, run=wall - opened, stages=clock.seconds, peak=peak(), memory=used,
                engine=job.record['engine'], precision=job.record['precision'], check=job.record.get('against_torch'),
                voxels=n * PLANE[0] * PLANE[1], share=job.share)


def _random_weights(base):
    "Weights of another size, for its speed only."
    path = folder()/f'base{base}.pt'
    torch.manual_seed(0)
    from membrane_nb.unet import UNet
    torch.save(UNet(base=base).state_dict(), path)
    return path


def _network(): return load_unet(pretrained())


def step_plain(n):
    "The loop that ours is measured against, file to file: 256-tiles without halo, batches of 2, float32, default memory format."
    def run(net, slab):
        tiles = [slab[:, y:y + 256, x:x + 256] for y in range(0, slab.shape[1], 256) for x in range(0, slab.shape[2], 256)]
        out = [net(torch.from_numpy(np.stack(tiles[i:i + 2]))).sigmoid().numpy()[:, 0] for i in range(0, len(tiles), 2)]
        rows = slab.shape[2] // 256
        tiles = np.concatenate(out)
        return np.concatenate([np.concatenate(tiles[i:i + rows], 1) for i in range(0, len(tiles), rows)])
    return _by_slice(int(n), run)


def step_monai(n):
    "The same network in the sliding window of MONAI, with its usual overlap of a quarter."
    from monai.inferers import sliding_window_inference
    return _by_slice(int(n), lambda net, slab: sliding_window_inference(torch.from_numpy(slab[None]), (256, 256), 2, net, .25).sigmoid().numpy()[0, 0])


def _by_slice(n, run):
    "Read, scale, predict and write n slices one after the other."
    net = _network() # batch normalisation not merged
    start = time.perf_counter()
    vol = open_volume(volume(n))
    with torch.inference_mode(), new_mrc(folder()/'plain_prob.mrc', vol.shape, np.float32) as prob, new_mrc(folder()/'plain_mask.mrc', vol.shape, np.int8) as msk:
        for z, slab in slabs(vol, measure_scale(vol), net.k, range(n)):
            prob[z] = run(net, slab)
            msk[z] = prob[z] >= .5
    return dict(wall=time.perf_counter() - start, peak=peak(), voxels=n * PLANE[0] * PLANE[1])


def step_matmul(kind='float32', size=2048):
    "GFLOP a second of a large matrix product."
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    if device == 'cuda': size = 8192
    a = torch.randn(size, size, device=device).to(getattr(torch, kind))
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        (a @ a).sum().item()
        seconds.append(time.perf_counter() - start)
    return dict(gflops=2 * size**3 / min(seconds) / 1e9)


def step_flop():
    "GFLOP of the shipped network for a slice of 1024 x 1024 with its borders."
    net = fuse_batchnorm(_network())
    with FlopCounterMode(display=False) as count, torch.device('meta'): net.to('meta')(torch.empty(1, net.k, 1040, 1040))
    return dict(gflop=count.get_total_flops() / 1e9)


def step_open(n):
    "The first batch of a whole tomogram and its mask."
    start = time.perf_counter()
    tomo = Tomo.open(volume(int(n)), volume(int(n), True))
    x, _ = next(iter(batches(Patches([(tomo, tomo.membrane_range)]), 0)))
    return dict(seconds=time.perf_counter() - start, peak=peak(), batch=list(x.shape))


def step_gpu(batch=64):
    "A graphics card: the network alone on whole slices, a step of training on a batch that is there, and training that cuts and changes its patches on the card."
    flop = step_flop()['gflop']
    net = engine.Torch(fuse_batchnorm(_network()).to('cuda'), 'bf16')
    slabs = torch.randn(8, net.k, 1040, 1040, device='cuda')
    with torch.inference_mode(): slab = _on_card(lambda: net(slabs)) / len(slabs)
    found = dict(slab=slab, gflops=flop / slab)
    for base in (16, 32):
        fit = train_speed.new_fit(base, 256, batch, 4096, 'bf16', 0, 'cuda')
        img = torch.randn(batch, net.k, 256, 256, device='cuda')
        msk = (torch.rand(batch, 1, 256, 256, device='cuda') > .9).to(torch.uint8)
        fit.net.train()
        found[f'step{base}'] = batch / _on_card(lambda: fit._step(0, img, msk))
        fit.train_epoch(0) # a first one, which is slower
        start = time.perf_counter()
        fit.train_epoch(1)
        found[f'epoch{base}'] = len(fit.patches) / (time.perf_counter() - start)
    return found | dict(peak=torch.cuda.max_memory_allocated() / 2**30)


def _on_card(work, times=10):
    "The median of the seconds that some work takes on a graphics card."
    seconds = []
    for i in range(times + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds[3:])


STEPS = {name[5:]: step for name, step in list(globals().items()) if name.startswith('step_')}


# --- parts: what is compared, each kept as a file -----------------------------------------------------

def part_tomogram():
    "64 slices from file to file: the plain loop, MONAI (16 slices), and ours with each engine."
    ways = {'plain loop': ('plain', 64), 'plain loop, large pages': ('plain', 64), 'torch fp32': ('segment', 64, 'torch', 'fp32')}
    if find_spec('monai'): ways['MONAI'] = ('monai', 16)
    if engine._openvino():
        for low in ('fp32', 'bf16', 'int8'): ways[f'openvino {low}'] = ('segment', 64, 'openvino', low)
    ways['auto'] = ('segment', 64)
    if torch.cuda.is_available(): ways['gpu'] = ('segment', 64, 'auto', 'auto', 'cuda')
    runs = in_turn(ways, 2)
    return dict(runs=runs, flop=child('flop')['gflop'], matmul={kind: child('matmul', kind)['gflops'] for kind in ('float32', 'bfloat16')})


def part_avx2():
    "64 slices from file to file, without what is newer than AVX2: the plain loop, 32 bits, and what `auto` takes."
    return dict(runs=in_turn({'plain loop': ('plain', 64), 'openvino fp32': ('segment', 64, 'openvino', 'fp32'), 'auto': ('segment', 64)}, **AVX2))


def part_memory():
    "The peak for 16, 64 and 512 slices, and the memory over time."
    return {str(n): child('segment', n) for n in (16, 64, 512)}


def part_open():
    "From opening a tomogram of 512 slices and its mask to the first batch of training."
    volume(512), volume(512, True)
    return dict(runs=[child('open', 512) for _ in range(ROUNDS)])


def part_threads():
    "One thread and all."
    return dict(runs=in_turn({str(n): ('segment', 16, 'auto', 'auto', 'cpu', n) for n in sorted({1, os.cpu_count()})}))


def part_base():
    "Networks of base 16, 24 and 32, with bfloat16 (32 bits where that is not known)."
    low = 'bf16' if 'BF16' in machine()['able'] else 'fp32'
    return dict(runs=in_turn({str(base): ('segment', 16, 'openvino', low, 'cpu', 0, base) for base in (16, 24, 32)}), precision=low)


class Busy:
    "Another program that keeps one core busy."
    def __enter__(self): self.other = subprocess.Popen([sys.executable, '-c', 'while True: pass'])
    def __exit__(self, *error): self.other.kill()


def part_busy():
    "Quiet, and beside another program that keeps one core busy: with waiting threads that sleep, and with threads that spin."
    found = dict(quiet=[], busy=[], spinning=[])
    for _ in range(ROUNDS):
        found['quiet'].append(child('segment', 16))
        with Busy():
            found['busy'].append(child('segment', 16))
            found['spinning'].append(child('segment', 16, 'torch', 'fp32', OMP_WAIT_POLICY='ACTIVE'))
    return dict(runs=found)


def part_many():
    "Two tomograms by one dask worker and by two, a thread each; medians of three rounds."
    return many.measure(3)


def part_training():
    "Training with 32 bits and with 16, with and without a process that cuts patches, quiet and busy."
    return dict(large=train_speed.measure(rounds=1), small=train_speed.measure(base=16, size=192, batch=4, patches=16, rounds=1))


def part_gpu():
    "A graphics card, where there is one: 512 slices from file to file, the network alone, training."
    if not torch.cuda.is_available(): return {}
    volume(512)
    runs = [child('segment', 512, 'auto', 'auto', 'cuda') for _ in range(ROUNDS + 1)] # the first one warms the disk
    return dict(runs=dict(file_to_file=runs[1:]), alone=child('gpu'), matmul=child('matmul', 'bfloat16')['gflops'])


def part_browser():
    "From a key or the mouse to the picture in JupyterLab and Chromium, milliseconds, planes of 400 x 400 and 1024 x 1024."
    env = os.environ | dict(MEMBRANE_BROWSER='180')
    subprocess.run([sys.executable, '-m', 'pytest', 'tests/browser', '-k', 'latency', '-q', '-rs', '-p', 'no:xdist'], cwd=repo_root(), env=env, check=True)
    paths = {side: repo_root()/f'build/browser/latency{side}.json' for side in ('400', '1024')}
    return {side: json.loads(path.read_text()) for side, path in paths.items() if path.exists()} # none without Chromium


PARTS = {name[5:]: part for name, part in list(globals().items()) if name.startswith('part_')}


def measured(name, again=False):
    "A part's measurements: those kept, or new ones."
    path = folder()/f'{name}.json'
    if again or not path.exists():
        found = dict(machine=machine(), date=time.strftime('%Y-%m-%d %H:%M')) | PARTS[name]()
        path.write_text(json.dumps(found, indent=1))
    return json.loads(path.read_text())


def rows_of_tomogram(found):
    "A row a way: seconds, millions of voxels a second, times the plain loop (median of the ratios of each round), share that is not the network, peak."
    rows = []
    plain = found['runs']['plain loop']
    for name, runs in found['runs'].items():
        ratios = [a['wall'] / a['voxels'] * b['voxels'] / b['wall'] for a, b in zip(plain, runs)]
        rest = [1 - run['stages']['network'] / run['run'] for run in runs if 'stages' in run]
        rows.append(dict(way=name, seconds=middle(runs, 'wall'), mvoxels=runs[0]['voxels'] / middle(runs, 'wall') / 1e6, times_plain=median(ratios),
                         not_network=median(rest) if rest else None, peak=max(run['peak'] for run in runs)))
    return rows


def gpu_lines(found):
    "What was measured on a graphics card, in words."
    if 'alone' not in found: return ['  no graphics card here']
    runs, alone, peak = found['runs']['file_to_file'], found['alone'], found['matmul']
    stages = ', '.join(f'{name} {seconds:.1f} s' for name, seconds in runs[-1]['stages'].items())
    return [f'  {found["machine"]["gpu"]}: 512 slices of 1024 x 1024 from file to file in {middle(runs, "wall"):.1f} s (wanted 8), {runs[-1]["open"]:.1f} s of it to open',
            f'  of the threads, side by side: {stages}',
            f'  network alone: {alone["gflops"] / 1e3:.0f} TFLOP/s, {alone["gflops"] / peak:.0%} of a large matrix product in bfloat16 ({peak / 1e3:.0f} TFLOP/s; wanted 45%)',
            f'  training, patches of 7 x 256 x 256 a second: {alone["step16"]:.0f} at base 16, {alone["step32"]:.0f} at base 32 (wanted 1500); {alone["epoch16"]:.0f} and {alone["epoch32"]:.0f} with the cutting of patches']


def report(names):
    for name in names:
        found = measured(name, again=True)
        print(f'-- {name}: {PARTS[name].__doc__}')
        if name in ('tomogram', 'avx2'):
            for row in rows_of_tomogram(found): print('  ' + '  '.join(f'{key} {value:.3g}' if isinstance(value, float) else f'{key} {value}' for key, value in row.items()))
            print('  wanted: 1.8 times the plain loop' if name == 'avx2' else '  wanted: 6 times the plain loop with bfloat16, 9 times as the goal with int8; not network: at most 0.1')
        elif name == 'memory':
            for n, run in found.items():
                if n.isdigit(): print(f'  {n} slices: peak {run["peak"]:.2f} GB (wanted 1.5), {run["wall"]:.1f} s')
        elif name == 'open': print(f'  {middle(found["runs"], "seconds"):.1f} s (wanted 3), peak {max(r["peak"] for r in found["runs"]):.2f} GB (wanted 0.8)')
        elif name == 'browser' and '1024' in found: print(*(f'  {act}: {found["400"][act]:.0f} ms, {ms:.0f} ms (wanted 100)' for act, ms in found['1024'].items()), sep='\n')
        elif name == 'gpu': print(*gpu_lines(found), sep='\n')
        elif name == 'many': print(*many.lines(found), '  wanted: 1.7 times', sep='\n')
        elif name == 'training': print(*train_speed.lines(found['large']), *train_speed.lines(found['small']), '  wanted: bf16 at least 2 times float32; busy at least half of quiet', sep='\n')
        elif 'runs' in found:
            for way, runs in found['runs'].items(): print(f'  {way}: {middle(runs, "wall"):.2f} s' if 'wall' in runs[0] else f'  {way}: {runs}')


if __name__ == '__main__':
    if sys.argv[1:2] == ['step']: print(json.dumps(STEPS[sys.argv[2]](*sys.argv[3:])))
    else: report(sys.argv[1:] or list(PARTS))
