"Three slices annotated by the line tool, with simulated clicks every 60 voxels along the truth: F1, clicks, seconds of the program."
import sys, tempfile, time
from pathlib import Path

import numpy as np
from skimage.morphology import skeletonize

from membrane_nb.painter import Annotation
from membrane_nb.volume import open_volume

EVERY = 60 # voxels between two clicks
SECONDS = 1.5 # a person takes for one click, so we suppose


def midlines(msk):
    "The mid-lines of a slice of a mask, each as an ordered list of voxels."
    left = set(map(tuple, np.argwhere(skeletonize(msk))))
    def near(p): return [q for q in ((p[0] + a, p[1] + b) for a in (-1, 0, 1) for b in (-1, 0, 1)) if q in left]
    lines = []
    while left:
        ends = [p for p in left if len(near(p)) == 2] # itself and one neighbour
        way = [min(ends or left)]
        left.discard(way[0])
        while near(way[-1]):
            way.append(min(near(way[-1]), key=lambda q: abs(q[0] - way[-1][0]) + abs(q[1] - way[-1][1])))
            left.discard(way[-1])
        if len(way) > 8: lines.append(way)
    return lines


def f1(found, truth):
    "F1, precision, recall."
    both = (found & truth).sum()
    return 2 * both / (found.sum() + truth.sum()), both / found.sum(), both / truth.sum()


def main(tomo, mask, zs=(20, 48, 76)):
    vol, msk = open_volume(tomo), open_volume(mask)
    clicks = sum(len(line[::EVERY]) + 1 for z in zs for line in midlines(msk[z] == 1))
    for size in (3.5, 4.4):
        with tempfile.TemporaryDirectory() as folder:
            paper = Annotation(vol, Path(folder)/'mask.mrc')
            start = time.perf_counter()
            for z in zs:
                for line in midlines(msk[z] == 1): paper.line(z, [*line[::EVERY], line[-1]], size)
            taken = time.perf_counter() - start
            found, truth = (np.stack([v[z] == 1 for z in zs]) for v in (paper, msk))
            print(f'{size} nm: F1 %.3f, precision %.3f, recall %.3f' % f1(found, truth), f'{clicks} clicks, {taken:.1f} s of the program, {SECONDS * clicks + taken:.0f} s in all at {SECONDS} s a click')


if __name__ == '__main__': main(*sys.argv[1:3])
