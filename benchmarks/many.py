"""`python benchmarks/many.py [ROUNDS]`: two tomograms by one dask worker and by two, each with one thread. The ratio of the times, and whether
the results are the same bits. Runs are interleaved; starting the workers counts. On a machine with less than two free cores the ratio means nothing."""
import os, resource, shutil, sys, tempfile, time
from pathlib import Path
from statistics import median

import numpy as np

from membrane_nb.phantom import phantom
from membrane_nb.scale import open_many, read_report
from membrane_nb.volume import new_mrc, open_volume

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


def main(rounds):
    folder = Path(tempfile.mkdtemp())
    try:
        make_tomograms(folder/'tomograms')
        times = {1: [], 2: []}
        for _ in range(rounds):
            for workers in times: times[workers].append(timed(folder/'tomograms', folder/str(workers), workers))
        for what, i in (('whole run', 0), ('work alone', 1)):
            one, two = (median(t[i] for t in times[workers]) for workers in (1, 2))
            print(f'{what}: one worker {one:.1f} s, two workers {two:.1f} s, {one / two:.2f} times as fast')
        one, two = (median(t[2] for t in times[workers]) for workers in (1, 2))
        print(f'processor time of the workers: {one:.1f} s and {two:.1f} s')
        print(f'same bits: {same_bits(folder/"1", folder/"2")}; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores')
    finally:
        shutil.rmtree(folder)


if __name__ == '__main__': main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
