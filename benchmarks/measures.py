"""Measure membranes that are known, and count what the intervals hold: `python benchmarks/measures.py [STEP ...]`.

Steps: calibrate, known, intervals, distances, spikes; real TOMOGRAM MASK (any tomogram with its mask); cryocat PYTHON (of an environment with cryoCAT 0.7.1).
Each writes output/measures/STEP.json, which nbs/evidence/04_measures.ipynb shows. What is there already is kept.
"""
import json, os, subprocess, sys, time
from pathlib import Path

import numpy as np

from membrane_nb import thickness
from membrane_nb.infer import open_job, segment
from membrane_nb.measuring import (_add_and_look, _as_segmented, _open_tomogram, _thickness_row,
    _to_others, measure_volume)
from membrane_nb.mrc import write_mrc
from membrane_nb.page import output_root
from membrane_nb.plain import _image_cell, phantom, random_look
from membrane_nb.scene import bilayer, crowd
from membrane_nb.shapes import HALF_THICKNESS, random_rotation
from membrane_nb.spikes import add_spikes, known_phantom, look_for_spikes, measure_contrast
from membrane_nb.surface import trace
from membrane_nb.volume import open_volume

FOLDER = output_root()/'measures'
PIXELS, CONTRASTS = (8., 10., 13.), (.5, 1., 2.) # Å; contrast-to-noise ratio of a voxel
CASES = [(pixel, cnr) for pixel in PIXELS for cnr in CONTRASTS]
NARROW = thickness.NARROW
CALIBRATE, FIRST = 3000, 2000 # seeds; 2 * FIRST is that of `intervals`
SCORED = 2 * FIRST + 117 # from this seed on intervals are scored; those before choose `STRETCH`


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
    "Intervals as they come: what `STRETCH` of 46_thickness is chosen by, with those of `known`. `intervals` scores it on others."
    as_it_is, thickness.STRETCH = thickness.STRETCH, 1.
    thickness.NARROW = np.inf
    for rows, seed, pixel, cnr in steps('calibrate', CALIBRATE, rounds):
        known = known_phantom(seed, pixel, cnr)
        series = dict(tilt=known.look['tilt'], axis=known.look['axis'])
        found = thickness.measure_thickness(trace(known.vol, known.labels, pixel, **series), **series)
        for number, one in found.items():
            true = known.truth[number - 1]['apart']
            rows.append(dict(seed=seed, pixel=pixel, cnr=cnr, apart=true, nm=one.nm, low=one.low, high=one.high))
    thickness.STRETCH, thickness.NARROW = as_it_is, NARROW
    others = [row for row in kept('known') + kept('intervals') if row['seed'] < SCORED]
    rows = kept('calibrate') + [as_it_came(row) for row in others]
    for some in (PIXELS, *zip(PIXELS)): print(some, f'{best_stretch([row for row in rows if row["pixel"] in some]):.2f}')


def as_it_came(row):
    "A row of `known` without its stretch."
    nm, low, high = [row[f'thickness_{name}nm'] for name in ('', 'low_', 'high_')]
    return row | dict(nm=nm, low=nm + (low - nm) / thickness.STRETCH, high=nm + (high - nm) / thickness.STRETCH)


def best_stretch(rows):
    "The factor with which 68 of 100 intervals hold the truth, of those that are narrow enough; each phantom counts the same."
    seeds, true, nm, low, high = np.array([[row[name] for name in ('seed', 'apart', 'nm', 'low', 'high')] for row in rows]).T
    needed = np.where(true < nm, (nm - true) / np.maximum(nm - low, 1e-9), (true - nm) / np.maximum(high - nm, 1e-9))
    told = high - low <= NARROW
    factors = np.arange(.4, 1.6, .01)
    held = [[np.mean(needed[told & (seeds == seed)] <= factor) for factor in factors] for seed in np.unique(seeds[told])]
    return factors[np.abs(np.mean(held, 0) - .68).argmin()]


def known(rounds=4):
    "A row for each membrane of phantoms of every voxel size and contrast."
    for rows, seed, pixel, cnr in steps('known', FIRST, rounds):
        phantom = known_phantom(seed, pixel, cnr)
        look = phantom.look
        measured = measure_volume(phantom.vol, phantom.labels, pixel, tilt=look['tilt'], axis=look['axis'])
        for row in measured.rows:
            rows.append(row | phantom.truth[row['instance'] - 1] | dict(seed=seed, pixel=pixel, cnr=cnr))


def intervals(rounds=19):
    "Thickness alone, of many small phantoms: what one phantom has in common, as its defocus, moves all its intervals."
    for rows, seed, pixel, cnr in steps('intervals', 2 * FIRST, rounds):
        phantom = known_phantom(seed, pixel, cnr, (1, 2, 3))
        series = dict(tilt=phantom.look['tilt'], axis=phantom.look['axis'])
        found = thickness.measure_thickness(trace(phantom.vol, phantom.labels, pixel, **series), **series)
        for number, true in enumerate(phantom.truth, 1):
            rows.append(_thickness_row(found.get(number)) | true | dict(seed=seed, pixel=pixel, cnr=cnr))


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


def predict_recall(vol, msk, pixel, n, rounds=2):
    "Recall of the true mask, and of spikes."
    path = FOLDER/'phantom.mrc'
    write_mrc(path, vol, pixel)
    job = open_job(path, output=str(FOLDER/'found'), overwrite=True, contrast='dark')
    hit = open_volume(job.run(pictures=False)/'mask.mrc')[:] == 1
    row = dict(true=float(hit[msk == 1].mean()), contrasts=(measure_contrast(vol, msk, pixel), measure_contrast(vol, hit, pixel)))
    each = []
    for seed in range(rounds):
        try: added = add_spikes(vol, hit, pixel, n, seed)
        except ValueError: return row # no room
        seen = look_for_spikes(vol, hit, added, contrast='dark')
        each += [spike | dict(voxels=int(there.sum()), usual=seen.contrast) for spike, there in zip(seen.rows, added.masks)]
    part, voxels = np.array([[spike['found_fraction'], spike['voxels']] for spike in each]).T
    return row | dict(predicted=float((part * voxels).sum() / voxels.sum()), spikes=len(each), each=each)


def real(tomo, mask):
    "Predicted and true recall of a tomogram with a mask, its thickness, and the peak memory of `measure`."
    found = segment(tomo, mask, output=str(FOLDER/'real'), overwrite=True)
    hits = [(np.count_nonzero(found.mask[z][found.tomo.msk[z] == 1]), np.count_nonzero(found.tomo.msk[z] == 1)) for z in range(len(found.mask))]
    del found
    words = [sys.executable, '-c', MEASURE, tomo, str(FOLDER/'real'), str(FOLDER/'real_measures')]
    start = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    row |= dict(tomogram=Path(tomo).name, true=float(np.divide(*np.sum(hits, 0))), seconds=time.monotonic() - start)
    keep('real', [row])
    vol, opened, record = _open_tomogram(FOLDER/'real', tomo, FOLDER)
    seen = _add_and_look(vol, opened.mask, 40, record['scale']['sign'], {}, FOLDER, _as_segmented(record, ''))
    print(seen)
    row |= dict(predicted=seen.recall, spikes=len(seen.parts), found=seen.found, by_tilt=seen.by_tilt, by_contrast=seen.by_contrast, each=seen.rows)
    keep('real', [row])
    print(row, flush=True)


MEASURE = """
import json, sys
import membrane_nb as mb
tomo, found, output = sys.argv[1:]
table = mb.measure(found, tomo=tomo, output=output, overwrite=True)
peak, = [int(line.split()[1]) / 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')] # MB, of Linux
print(json.dumps(dict(peak_mb=peak, rows=table.rows)))
"""


def cryocat(python):
    "Thickness by cryoCAT, with its defaults, of the first phantoms of `known` with a contrast-to-noise ratio of 1."
    folder = FOLDER/'cryocat'
    folder.mkdir(parents=True, exist_ok=True)
    for rows, seed, pixel, cnr in steps('cryocat', FIRST, 1):
        if cnr != 1: continue
        phantom = known_phantom(seed, pixel, cnr)
        write_mrc(folder/'tomo.mrc', phantom.vol, pixel)
        write_mrc(folder/'labels.mrc', phantom.labels.astype(np.int8), pixel)
        words = [python, '-c', CRYOCAT, str(folder), str(len(phantom.truth))]
        alone = {name: value for name, value in os.environ.items() if name != 'PYTHONPATH'}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=alone)
        for row in json.loads(done.stdout.splitlines()[-1]):
            rows.append(row | dict(seed=seed, pixel=pixel, cnr=cnr, apart=phantom.truth[row['instance'] - 1]['apart']))


CRYOCAT = """
import json, pickle, sys
import numpy as np, pandas as pd
from cryocat import memthick
folder, n = sys.argv[1:]
rows = []
for i in range(1, int(n) + 1):
    row = dict(instance=i)
    try:
        memthick.run_full_pipeline(f'{folder}/labels.mrc', output_dir=f'{folder}/{i}', membrane_labels={'m': i},
            use_gpu=False, num_cpu_threads=1, tomo_path=f'{folder}/tomo.mrc')
        row['thickness'] = float(pd.read_csv(f'{folder}/{i}/labels_m_thickness_cleaned.csv').thickness_nm.median())
        with open(f'{folder}/{i}/labels_m_int_profiles_cleaned.pkl', 'rb') as f: profiles = pickle.load(f)
        row['minima'] = float(np.median([one['features']['separation_distance'] * one['voxel_size'] for one in profiles])) # nm
        row['profiles'] = len(profiles)
    except Exception as e: row['failed'] = repr(e)
    rows.append(row)
print()
print(json.dumps(rows))
"""


if __name__ == '__main__':
    what = sys.argv[1:]
    if what[:1] in (['real'], ['cryocat']): globals()[what[0]](*what[1:])
    else:
        for name in what or ['calibrate', 'known', 'intervals', 'distances', 'spikes']: globals()[name]()
