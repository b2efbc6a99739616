"""`make bench`: the figures this repository promises, measured on this machine. `python benchmarks/bench.py FOLDER` keeps its volumes there.

Times are medians of interleaved runs, memory is the peak of a process of its own, as the system counts it."""
import os, resource, subprocess, sys, tempfile, time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from membrane_nb.data import Tomo, measure_scale, slabs
from membrane_nb.infer import open_job
from membrane_nb.phantom import phantom
from membrane_nb.sampler import Patches, batches
from membrane_nb.train import Fit, phantom_parts
from membrane_nb.unet import UNet, auto_tile, fuse_batchnorm, predict_slice
from membrane_nb.volume import new_mrc, open_volume

SHAPE = (512, 1024, 1024)


def peak():
    "The most memory this process had, in GB. Linux: of this program alone; `getrusage` would count the parent it was forked from."
    status = Path('/proc/self/status')
    if not status.exists(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30
    return int(next(line for line in status.read_text().splitlines() if line.startswith('VmHWM')).split()[1]) / 2**20


def make_volumes(folder):
    "A float32 tomogram of the usual size with its mask, and parts of it of 16 and 64 slices: phantoms laid side by side."
    vol, msk, pixel = phantom((64, 256, 256), seed=0)
    def fill(name, part, dtype, n):
        if (folder/name).exists(): return
        with new_mrc(folder/name, (n, *SHAPE[1:]), dtype, pixel) as out:
            for z in range(n): out[z] = np.tile(part[z % 64], (4, 4))
    fill('tomo.mrc', vol, np.float32, SHAPE[0])
    fill('mask.mrc', msk, np.int8, SHAPE[0])
    for n in (16, 64): fill(f'tomo{n}.mrc', vol, np.float32, n)
    torch.manual_seed(0)
    torch.save(UNet().state_dict(), folder/'weights.pt')


def first_batch(folder):
    "From the start of the process to the first batch of the whole tomogram."
    tomo = Tomo.open(folder/'tomo.mrc', folder/'mask.mrc')
    x, y = next(iter(batches(Patches([(tomo, tomo.membrane_range)]), 0)))
    print(tuple(x.shape), f'{peak():.2f}')


def segment(folder, n):
    "Segment n slices and print the peak."
    open_job(folder/f'tomo{n}.mrc', folder/'weights.pt', folder/f'out{n}', device='cpu', overwrite=True).run(pictures=False)
    print(f'{peak():.2f}')


def in_its_own_process(*args, **env):
    "Seconds from start to end of a fresh process, and the last word it printed."
    start = time.monotonic()
    out = subprocess.run([sys.executable, __file__, *map(str, args)], capture_output=True, text=True, check=True, env=os.environ | env).stdout
    return time.monotonic() - start, float(out.split()[-1])


def plain(net, slab):
    "The loop that ours is measured against: 256-tiles without halo, batches of 2, default memory format."
    tiles = [slab[:, y:y + 256, x:x + 256] for y in range(0, slab.shape[1], 256) for x in range(0, slab.shape[2], 256)]
    with torch.inference_mode():
        for i in range(0, len(tiles), 2): net(torch.from_numpy(np.stack(tiles[i:i + 2]))).sigmoid().numpy()


def speed(folder, way, n=6):
    "Label n slices in one way and print the median of the seconds a slice takes."
    vol = open_volume(folder/'tomo16.mrc')
    assert auto_tile(UNet(), vol.shape) == 0
    torch.manual_seed(0)
    net, run = (UNet().eval(), plain) if way == 'plain' else (fuse_batchnorm(UNet()), predict_slice)
    seconds, start = [], time.monotonic()
    for z, slab in slabs(vol, measure_scale(vol), 7, range(4, 4 + n)):
        run(net, slab)
        seconds.append(time.monotonic() - start)
        start = time.monotonic()
    print(f'{median(seconds):.3f}')


def same_weights():
    "Two runs of one seed, and one that is stopped and resumed, of the mission's network: are the weights the same bits?"
    parts = phantom_parts(0, n=1, shape=(16, 128, 128))
    def fit():
        torch.manual_seed(0)
        return Fit(UNet(), Patches(parts['train'], 8, size=64), parts['val'], 4)
    with tempfile.TemporaryDirectory() as tmp:
        a, b, c, d = fit(), fit(), fit(), fit()
        for f in (a, b):
            for _ in f.run(Path(tmp)/'a.ckpt', {}): pass
        for row in c.run(Path(tmp)/'c.ckpt', {}):
            if row['epoch'] == 2: break
        d.load(torch.load(Path(tmp)/'c.ckpt', weights_only=True))
        for _ in d.run(Path(tmp)/'c.ckpt', {}): pass
    same = lambda x, y: all(torch.equal(v, y.net.state_dict()[n]) for n, v in x.net.state_dict().items())
    return same(a, b), same(a, d)


def report(folder):
    make_volumes(folder)
    print(f'{torch.get_num_threads()} threads, torch {torch.__version__}; tomogram {SHAPE} float32, mask int8')
    runs = [in_its_own_process('first_batch', folder) for _ in range(3)]
    print(f'start to first batch   {median(t for t, _ in runs):6.1f} s   wanted <= 10')
    print(f'  peak memory          {max(m for _, m in runs):6.2f} GB  wanted <= 1.5')
    memory = {n: in_its_own_process('segment', folder, n)[1] for n in (16, 64)}
    for n, m in memory.items(): print(f'segment {n} slices, peak {m:6.2f} GB  wanted <= 1.5')
    ways = {'plain loop': ('plain', '0'), 'plain loop, large pages': ('plain', '1'), 'ours': ('ours', '1')}
    seconds = {name: [] for name in ways}
    for _ in range(3):
        for name, (way, pages) in ways.items():
            seconds[name].append(in_its_own_process('speed', folder, way, THP_MEM_ALLOC_ENABLE=pages)[1])
    ours = median(seconds['ours'])
    for name, s in seconds.items(): print(f'{name}: {median(s):.2f} s a slice; ours is {median(s) / ours:.2f} times as fast')
    print('  wanted >= 1.2 times the plain loop')
    print('same seed, same weights: {}; stopped and resumed, same weights: {}'.format(*same_weights()))


if __name__ == '__main__':
    steps = dict(first_batch=first_batch, segment=segment, speed=speed)
    if sys.argv[1:2] and sys.argv[1] in steps: steps[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    elif sys.argv[1:]: report(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as tmp: report(Path(tmp))
