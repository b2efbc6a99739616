"""Measure membranes that are known, and count what the intervals hold: `python benchmarks/measures.py`.

Writes output/measures/known.json and spikes.json, which nbs/evidence/04_measures.ipynb shows. What is there already is kept.
"""
import json, sys

import numpy as np

from membrane_nb.infer import segment
from membrane_nb.measuring import measure_volume
from membrane_nb.mrc import write_mrc
from membrane_nb.page import output_root
from membrane_nb.plain import phantom
from membrane_nb.spikes import known_phantom, look_for_spikes

FOLDER = output_root()/'measures'
PIXELS, CONTRASTS = (8., 10., 13.), (.5, 1., 2.) # Å; contrast-to-noise ratio of a voxel
FIRST = 1000 # seed: none of these phantoms was looked at while the method was made


def keep(name, rows): # also after every step, so that a run that is stopped is not lost
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER/f'{name}.json').write_text(json.dumps(rows))
    return rows


def kept(name):
    path = FOLDER/f'{name}.json'
    return json.loads(path.read_text()) if path.exists() else []


def known_rows(rounds=2):
    "A row for each membrane of `rounds` phantoms of every voxel size and contrast."
    rows = kept('known')
    done = {row['seed'] for row in rows}
    cases = [(pixel, cnr) for _ in range(rounds) for pixel in PIXELS for cnr in CONTRASTS]
    for seed, (pixel, cnr) in enumerate(cases, FIRST):
        if seed in done: continue
        grid = (1, 3, 4) if pixel < 9 else (2, 3, 3)
        known = known_phantom(seed, pixel, cnr, grid)
        voxels = np.bincount(known.labels.ravel())
        look = known.look
        measured = measure_volume(known.vol, known.labels, voxels, pixel, tilt=look['tilt'], axis=look['axis'])
        for row in measured.rows:
            rows.append(row | known.truth[row['instance'] - 1] | dict(seed=seed, pixel=pixel, cnr=cnr))
        keep('known', rows)
        print(seed, pixel, cnr, len(measured.rows), flush=True)
    return rows


def spike_rows(n=20):
    "Predicted and true recall of phantoms that no weights have seen."
    rows = kept('spikes')
    rng = np.random.default_rng(FIRST)
    for i in range(n):
        cnr, seed = float(np.exp(rng.uniform(np.log(.3), np.log(2)))), FIRST * 1000 + i
        if i < len(rows): continue
        vol, msk, pixel = phantom((52, 160, 160), seed, cnr=cnr, cell=dict(fill=.03))
        path = FOLDER/'phantom.mrc'
        write_mrc(path, vol, pixel)
        found = segment(path, output=str(FOLDER/'found'), overwrite=True, contrast='dark')
        hit = found.mask[:] == 1
        try: seen = look_for_spikes(vol, hit, pixel, n=12, contrast='dark')
        except ValueError: seen = None # no room
        row = dict(seed=seed, cnr=cnr, true=float(hit[msk == 1].mean()))
        if seen: row |= dict(predicted=seen.recall, spikes=len(seen.parts), found=seen.found, by_tilt=seen.by_tilt)
        rows.append(row)
        keep('spikes', rows)
        print(row, flush=True)
    return rows


if __name__ == '__main__':
    what = sys.argv[1:] or ['known', 'spikes']
    if 'known' in what: known_rows()
    if 'spikes' in what: spike_rows()
