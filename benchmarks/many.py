"""`python benchmarks/many.py [ROUNDS]`: two tomograms by one dask worker and by two, each with one thread. The ratio of the times, and whether
the results are the same bits. Runs are interleaved; starting the workers counts. On a machine with less than two free cores the ratio means nothing.

One worker has all cores for what it does beside its one thread, as reading and writing; so it also runs with a single core, as a cluster would give it."""
import os, resource, shutil, sys, tempfile, time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median

import numpy as np

from membrane_nb.plain import phantom
from membrane_nb.many import open_many
from membrane_nb.report import read_report
from membrane_nb.mrc import new_mrc
from membrane_nb.volume import open_volume

SHAPE = (128, 512, 512) # large enough that starting a worker, some seconds, does not count much


def make_tomograms(folder):
    "Two tomograms of different membranes and one size: phantoms laid side by side."
    folder.mkdir()
    for seed in (930, 931):
        vol, _, pixel = phantom((64, 256, 256), seed=seed)
        with new_mrc(folder/f'phantom{seed}.mrc', SHAPE, np.float32, pixel) as out:
            for z in range(SHAPE[0]): out[z] = np.tile(vol[z % 64], (2, 2))


def children():
    "Processor time of the processes that this one has started and that have ended."
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def one_core():
    "This process and those that it starts have a single core (Linux)."
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try: yield
    finally: os.sched_setaffinity(0, before)


def timed(tomograms, output, workers):
    "Seconds of a whole run, the longest sum of seconds that one worker worked, and the processor time of all workers."
    many = open_many(tomograms, output, device='cpu', pictures=False, workers=workers, threads=1, overwrite=True)
    start, before = time.monotonic(), children()
    many.run()
    seconds, cpu = time.monotonic() - start, children() - before
    busy = {}
    for row in read_report(output): busy[row['worker']] = busy.get(row['worker'], 0) + float(row['seconds'])
    return seconds, max(busy.values()), cpu


def same_bits(a, b):
    "Whether two folders hold the same probabilities and masks."
    files = [path.relative_to(a) for path in a.glob('*_membranes/*.mrc')]
    return len(files) == 4 and all(np.array_equal(open_volume(a/file)[:], open_volume(b/file)[:]) for file in files)


def measure(rounds=1):
    "Seconds of whole runs, of the longest worker, and of processors, for one worker on one core, one and two; whether all give the same bits."
    folder = Path(tempfile.mkdtemp())
    try:
        make_tomograms(folder/'tomograms')
        ways = ['1', '2']
        if hasattr(os, 'sched_setaffinity'): ways.insert(0, '1 on 1 core')
        times = {way: [] for way in ways}
        for _ in range(rounds):
            for way, found in times.items():
                with one_core() if 'core' in way else nullcontext():
                    found.append(timed(folder/'tomograms', folder/way, int(way[0])))
        middles = {way: [median(t[i] for t in found) for i in range(3)] for way, found in times.items()}
        same = all(same_bits(folder/way, folder/'2') for way in times)
        return dict(seconds=middles, same=same, load=os.getloadavg()[0])
    finally:
        shutil.rmtree(folder)


def lines(found):
    "What was measured, in words."
    said, two = [], found['seconds']['2']
    for way, one in found['seconds'].items():
        if way == '2': continue
        who = 'one worker' + way[1:]
        said += [f'{what}: {who} {one[i]:.1f} s, two workers {two[i]:.1f} s, {one[i] / two[i]:.2f} times as fast' for i, what in enumerate(('whole run', 'work alone'))]
        said.append(f'processor time: {who} {one[2]:.1f} s, two workers {two[2]:.1f} s')
    return [*said, f'same bits: {found["same"]}; load of the machine {found["load"]:.1f} on {os.cpu_count()} cores']


if __name__ == '__main__': print(*lines(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1)), sep='\n')
