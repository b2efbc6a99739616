"""Measure membranes that are known, and count what the intervals hold: `python benchmarks/measures.py [STEP ...]`.

Steps: calibrate, known, distances, spikes, mito (of a tomogram with its mask: `--tomo cell.mrc --mask mask.mrc`).
Each writes output/measures/STEP.json, which nbs/evidence/04_measures.ipynb shows. What is there already is kept.
"""
import argparse, json, sys

import numpy as np

from membrane_nb import thickness
from membrane_nb.instances import NumberedMembranes
from membrane_nb.infer import segment
from membrane_nb.measuring import _to_others, measure_volume
from membrane_nb.mrc import write_mrc
from membrane_nb.page import output_root
from membrane_nb.plain import _image_cell, phantom, random_look
from membrane_nb.scene import bilayer, crowd
from membrane_nb.shapes import HALF_THICKNESS, random_rotation
from membrane_nb.spikes import add_spikes, known_phantom, look_for_spikes
from membrane_nb.surface import trace

FOLDER = output_root()/'measures'
PIXELS, CONTRASTS = (8., 10., 13.), (.5, 1., 2.) # Å; contrast-to-noise ratio of a voxel
CASES = [(pixel, cnr) for pixel in PIXELS for cnr in CONTRASTS]
CALIBRATE, FIRST = 3000, 2000 # seeds: what calibrates the intervals is not what they are scored on


def keep(name, rows): # also after every step, so that a run that is stopped is not lost
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER/f'{name}.json').write_text(json.dumps(rows))
    return rows


def kept(name):
    path = FOLDER/f'{name}.json'
    return json.loads(path.read_text()) if path.exists() else []


def steps(name, first, rounds):
    "Yield the rows so far, and seed, voxel size and contrast of each case that is still to do."
    rows = kept(name)
    done = {row['seed'] for row in rows}
    for seed, (pixel, cnr) in enumerate(CASES * rounds, first):
        if seed in done: continue
        before = len(rows)
        yield rows, seed, pixel, cnr
        keep(name, rows)
        print(name, seed, pixel, cnr, len(rows) - before, flush=True)


def calibrate(rounds=5):
    "Intervals as they come, of phantoms that are not scored: what `STRETCH` of 46_thickness is chosen by."
    stretch, thickness.STRETCH = thickness.STRETCH, {8: 1., 13: 1.}
    narrow, thickness.NARROW = thickness.NARROW, np.inf
    for rows, seed, pixel, cnr in steps('calibrate', CALIBRATE, rounds):
        known = known_phantom(seed, pixel, cnr)
        series = dict(tilt=known.look['tilt'], axis=known.look['axis'])
        found = thickness.measure_thickness(trace(known.vol, known.labels, pixel, **series), **series)
        for number, one in found.items():
            true = known.truth[number - 1]['apart']
            rows.append(dict(seed=seed, pixel=pixel, cnr=cnr, apart=true, nm=one.nm, low=one.low, high=one.high))
    thickness.STRETCH, thickness.NARROW = stretch, narrow
    rows = kept('calibrate')
    for pixel in PIXELS: print(f'{pixel:g} Å: stretch {best_stretch([row for row in rows if row["pixel"] == pixel]):.2f}')


def best_stretch(rows):
    "The factor with which 68 % of the intervals that are narrow enough hold the truth."
    true, nm, low, high = np.array([[row[name] for name in ('apart', 'nm', 'low', 'high')] for row in rows]).T
    needed = np.where(true < nm, (nm - true) / np.maximum(nm - low, 1e-9), (true - nm) / np.maximum(high - nm, 1e-9))
    factors = np.arange(.3, 2, .01)
    told = [(high - low) * factor <= thickness.NARROW for factor in factors]
    held = [np.mean(needed[some] <= factor) for some, factor in zip(told, factors)]
    return factors[np.abs(np.array(held) - .68).argmin()]


def known(rounds=5):
    "A row for each membrane of phantoms of every voxel size and contrast."
    for rows, seed, pixel, cnr in steps('known', FIRST, rounds):
        phantom = known_phantom(seed, pixel, cnr)
        look = phantom.look
        measured = measure_volume(phantom.vol, phantom.labels, pixel, tilt=look['tilt'], axis=look['axis'])
        for row in measured.rows:
            rows.append(row | phantom.truth[row['instance'] - 1] | dict(seed=seed, pixel=pixel, cnr=cnr))


def pair_of_membranes(pixel, rng):
    "Distances (z, y, x) to two parallel sheets or two concentric shells, how far they are apart, their kind."
    n = round(640 / pixel)
    axis = (np.arange(n) - n / 2) * pixel / 10
    p = np.stack(np.meshgrid(axis, axis, axis, indexing='ij')) + rng.uniform(-1, 1, (3, 1, 1, 1))
    p = np.tensordot(random_rotation(.5, rng), p, 1)
    kind = str(rng.choice(['sheets', 'shells']))
    if kind == 'sheets':
        apart = rng.uniform(7, 25)
        return np.abs(p[0] - apart / 2), np.abs(p[0] + apart / 2), apart, kind
    apart, inner = rng.uniform(7, 13), rng.uniform(9, 13)
    out = np.linalg.norm(p, axis=0)
    return np.abs(out - inner), np.abs(out - inner - apart), apart, kind


def distances(rounds=6):
    "Two membranes at a known distance."
    for rows, seed, pixel, cnr in steps('distances', FIRST, rounds):
        rng = np.random.default_rng([seed, 12])
        one, two, apart, kind = pair_of_membranes(pixel, rng)
        core, thick = rng.uniform(0, 1), rng.uniform(2.8, 5.5)
        sheet = bilayer(one, pixel, core, thick) + bilayer(two, pixel, core, thick)
        labels = np.where(one <= HALF_THICKNESS, 1, np.where(two <= HALF_THICKNESS, 2, 0))
        look = random_look(rng)
        rest = crowd(np.minimum(one, two).astype(np.float32), pixel, .5, rng)
        vol = _image_cell(sheet, rest, (labels > 0).astype(np.uint8), pixel, rng, cnr, **look)
        found = _to_others(trace(vol, labels, pixel, tilt=look['tilt'], axis=look['axis']), 1)
        rows.append(dict(seed=seed, pixel=pixel, cnr=cnr, kind=kind, apart=apart, nearest=found.min(), median=np.median(found)))


def spikes(n=20):
    "Predicted and true recall of phantoms that no weights have seen."
    rows = kept('spikes')
    rng = np.random.default_rng(FIRST)
    for seed in range(FIRST * 1000, FIRST * 1000 + n):
        cnr = float(np.exp(rng.uniform(np.log(.3), np.log(2))))
        if seed in {row['seed'] for row in rows}: continue
        vol, msk, pixel = phantom((52, 160, 160), seed, cnr=cnr, cell=dict(fill=.03))
        rows.append(dict(seed=seed, cnr=cnr) | predict_recall(vol, msk, pixel, 12))
        keep('spikes', rows)
        print(rows[-1], flush=True)


def predict_recall(vol, msk, pixel, n):
    "Recall of the true mask, and of spikes."
    path = FOLDER/'phantom.mrc'
    write_mrc(path, vol, pixel)
    found = segment(path, output=str(FOLDER/'found'), overwrite=True, contrast='dark')
    hit = found.mask[:] == 1
    row = dict(true=float(hit[msk == 1].mean()))
    try: added = add_spikes(vol, hit, pixel, n)
    except ValueError: return row # no room
    seen = look_for_spikes(vol, hit, added, contrast='dark')
    return row | dict(predicted=seen.recall, spikes=len(seen.parts), found=seen.found, by_tilt=seen.by_tilt, by_contrast=seen.by_contrast)


if __name__ == '__main__':
    names = sys.argv[1:] or ['calibrate', 'known', 'distances', 'spikes']
    for name in names: globals()[name]()
