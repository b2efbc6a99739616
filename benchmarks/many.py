"""`python benchmarks/many.py [ROUNDS]`: two tomograms by one dask worker and by two, each with one thread. The ratio of the times, and whether
the results are the same bits. Runs are interleaved; starting the workers counts. On a machine with less than two free cores the ratio means nothing."""
import os, shutil, sys, tempfile, time
from pathlib import Path
from statistics import median

import numpy as np

from membrane_nb.phantom import phantom
from membrane_nb.scale import open_many, read_report
from membrane_nb.volume import open_volume, write_mrc

SHAPE = (64, 256, 256)


def make_tomograms(folder):
    "Two phantoms of different membranes and one size."
    folder.mkdir()
    for seed in (930, 931):
        vol, _, pixel = phantom(SHAPE, seed=seed)
        write_mrc(folder/f'phantom{seed}.mrc', vol, pixel)


def timed(tomograms, output, workers):
    "Seconds of a whole run, and the longest sum of seconds that one worker worked."
    many = open_many(tomograms, output, device='cpu', pictures=False, workers=workers, threads=1, overwrite=True)
    start = time.monotonic()
    many.run()
    seconds = time.monotonic() - start
    busy = {}
    for row in read_report(output): busy[row['worker']] = busy.get(row['worker'], 0) + float(row['seconds'])
    return seconds, max(busy.values())


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
        print(f'same bits: {same_bits(folder/"1", folder/"2")}; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores')
    finally:
        shutil.rmtree(folder)


if __name__ == '__main__': main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
