"""Examples and doors for `benchmarks/fuzz.py`. A door writes damaged copies of examples into `at/user` or `at/work`, and gives the function that opens
them as a user would. That function may give another, which checks what came of it."""
import json, os, pickle, shutil
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import yaml
from damage import cut, damage_mrc, garble, mutate, ODD, odd_mask, odd_numbers, odd_voxels, pick, repack, write_json
from safetensors.torch import save_file

from membrane_nb import engine, training as train
from membrane_nb.checks import check_parameters
from membrane_nb.cli import membrane
from membrane_nb.data import Tomo
from membrane_nb.split import read_parts
from membrane_nb.infer import open_job
from membrane_nb.plain import phantom
from membrane_nb.many import open_many, segment_item
from membrane_nb.options import ManyOptions, OneOptions, RecipeOptions
from membrane_nb.report import contact_sheet, read_report, report_table, write_report
from membrane_nb.unet import UNet
from membrane_nb.mrc import write_mrc
from membrane_nb.pyramid import write_zarr
from membrane_nb.volume import open_volume
from stores import stored

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = Path(os.environ.get('FUZZ_EXAMPLES', 'none')) # whole files, of `make_examples`
SMALL = dict(epochs=2, patches_per_epoch=2, patch=32, k=3, base=1, batch_size=1, device='cpu') # of 03_train
KEPT = dict(seed=0, n=1, shape=(16, 64, 64), pixel=10.) # of the phantoms that are kept

# ---- examples

def make_examples(at):
    "A small whole file of every kind, the same bits in every run."
    vol, msk, pixel = phantom((16, 48, 40), seed=3)
    (at/'data').mkdir()
    for i in range(3): write_mrc(at/f'tomo{i}.mrc', vol + i, pixel)
    for i in range(2): shutil.copy2(at/f'tomo{i}.mrc', at/'data')
    write_mrc(at/'mask.mrc', msk.astype(np.int8), pixel)
    write_zarr(at/'ours.zarr', vol, pixel)
    stored(at/'two.zarr', vol, chunks=(8, 32, 32))
    stored(at/'three.zarr', vol, '0.5', chunks=(8, 32, 32))
    stored(at/'shards.zarr', vol, '0.5', chunks=(4, 16, 16), shards=(8, 32, 32))
    torch.manual_seed(0)
    flat = UNet(3, 2, 2).state_dict()
    nets = dict(flat=flat, solid=UNet(3, 2, 2, dims=3).state_dict(), group=UNet(3, 8, 2, norm='group').state_dict(), deep=UNet(3, 1).state_dict())
    for name, state in nets.items(): torch.save(state, at/f'{name}.pt')
    torch.save(flat, at/'legacy.pt', _use_new_zipfile_serialization=False)
    train_small(at/'runs', dict(name='run', epochs=1))
    next(open_training(run_parameters(at/'runs', dict(name='stopped'))).train())
    segment_all(at/'data', at/'results', at/'flat.pt')
    train.phantom_parts(**KEPT, folder=at/'phantoms')
    make_int8(at/'small', flat)

def make_int8(at, state):
    "Weights with their int8 model beside them."
    at.mkdir()
    save_file(state, at/'weights.safetensors')
    slabs = np.random.default_rng(0).normal(size=(3, 1, 3, 32, 32)).astype(np.float32)
    engine._slabs_of_phantoms = lambda k: list(slabs) # the true ones take a minute
    engine.make_int8(at/'weights.safetensors', at/engine._int8_path(at/'weights.safetensors').name)

# ---- what users do

MODELS = {'03_train': RecipeOptions, '04_infer': OneOptions, '04_many': ManyOptions}

@lru_cache
def parameters(page):
    "What a page, or a recipe for it, may set, with its defaults."
    return {name: field.default for name, field in MODELS[page].model_fields.items()}

def open_training(given):
    "Open a run of these options."
    return train.open_run(RecipeOptions(**given))

def run_parameters(output, p):
    "Parameters of 03_train for a small run."
    data = dict(tomo=str(EXAMPLES/'tomo0.mrc'), mask=str(EXAMPLES/'mask.mrc'), output=str(output), name='run')
    return parameters('03_train') | SMALL | data | p

def train_small(output, p):
    "A whole run without pictures."
    run = open_training(run_parameters(output, p))
    run.results.picture = lambda name, draw: []
    for _ in run.train(): pass
    run.score()
    run.finish()
    return lambda: check_numbers(run.fit.best)

def segment(at, tomo='', weights='', **options):
    "Segment a tomogram without pictures."
    options = dict(output=at/'work'/'out', device='cpu', engine='torch', min_size=0.) | options
    folder = open_job(tomo or EXAMPLES/'tomo0.mrc', weights=weights or EXAMPLES/'flat.pt', **options).run(pictures=False)
    return lambda: check_result(folder)

def segment_all(tomograms, output, weights, **options):
    "A run over many tomograms, in this process: no dask cluster is started."
    many = open_many(tomograms, output, weights=weights, device='cpu', engine='torch', min_size=0., pictures=False, **options)
    many._make_output()
    for item in many.todo:
        many.rows.append(segment_item(item, many.folder_of(item), many.options, many.asked))
    write_report(many.output, many.rows)

# ---- what came of it

class Wrong(Exception):
    "A result that is not as it should be."

def check_numbers(state):
    "Weights are finite."
    for name, v in state.items():
        if not np.isfinite(v).all(): raise Wrong(f'{name} of the weights is not finite')

def check_result(folder):
    "Probabilities are numbers from 0 to 1, and a mask is made of 0 and 1."
    for path in folder.glob('prob.*'):
        prob = open_volume(path)[:]
        msk = open_volume(path.with_name(path.name.replace('prob', 'mask')))[:]
        if not ((prob >= 0) & (prob <= 1)).all(): raise Wrong(f'{path.name} holds {prob.min()} to {prob.max()}')
        if not np.isin(msk, (0, 1)).all(): raise Wrong(f'the mask holds {np.unique(msk)[:9]}')

def check_same(folder, other):
    "Two results hold the same voxels."
    for name in ('prob.mrc', 'mask.mrc'):
        if not np.array_equal(open_volume(folder/name)[:], open_volume(other/name)[:]): raise Wrong(f'{folder.name}: another {name}')

# ---- the doors

DOORS = {}

def door(prepare):
    "Put a door on the list."
    DOORS[prepare.__name__] = prepare
    return prepare

def take(at, *names):
    "Copy examples into the user's folder; gives the last one's path."
    for name in names:
        path = at/'user'/Path(name).name
        copy = shutil.copytree if (EXAMPLES/name).is_dir() else shutil.copy2
        copy(EXAMPLES/name, path)
    return path

@door
def mrc(at, rng):
    path = write_mrc(at/'user'/'tomo.mrc', odd_voxels(open_volume(EXAMPLES/'tomo0.mrc')[:], rng), 10.).path
    damage_mrc(path, rng)
    pixel = pick(rng, (0., 10.))
    if rng.random() < .6: return lambda: Tomo.open(path, pixel=pixel) and None
    return lambda: segment(at, path, voxel_size=pixel, format=pick(rng, ('mrc', 'zarr')), contrast=pick(rng, ('auto', 'bright')))

@door
def mask(at, rng):
    msk = odd_mask(open_volume(EXAMPLES/'mask.mrc')[:], rng)
    path = write_mrc(at/'user'/'mask.mrc', msk, pick(rng, (10., 10., 10., 0., 13., 1e5))).path
    if rng.random() < .2: damage_mrc(path, rng)
    odd = dict(ignore=pick(rng, ('auto', 'none', '1', '2', '-1', '0', '128', 'x', '')), label=pick(rng, ('', '', '1', '1,3', '255', 'x', '-128')))
    odd |= dict(empty=pick(rng, ('auto', 'background', 'unlabelled', 'x')), trust_mask=bool(rng.integers(2)))
    if rng.random() < .5: return lambda: segment(at, mask=path, **odd)
    odd = {name: value for name, value in odd.items() if name in parameters('03_train')}
    return lambda: train_small(at/'work', odd | dict(mask=str(path), ignore_beyond=pick(rng, (0., 8., 1e5)), epochs=1))

@door
def ome_zarr(at, rng):
    path = take(at, pick(rng, ('ours.zarr', 'two.zarr', 'three.zarr', 'shards.zarr')))
    files = [p for p in sorted(path.rglob('*')) if p.is_file()]
    about = [p for p in files if p.name in ('.zattrs', '.zarray', '.zgroup', 'zarr.json')]
    chunks = [p for p in files if p not in about]
    how = rng.integers(6)
    if how < 2: write_json(pick(rng, about), rng)
    if how == 2: pick(rng, about).unlink()
    if how == 3: pick(rng, chunks).unlink()
    if how == 5: name_codec(path, at/'user'/'ran', rng)
    if how > 3: chunk = pick(rng, chunks); chunk.write_bytes(cut(chunk.read_bytes(), rng))
    if rng.random() < .5: return lambda: Tomo.open(path) and None
    return lambda: segment(at, path, format='zarr')

class Harm:
    "Unpickling this makes a file."
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)

def name_codec(path, harm, rng):
    "The array names another codec, and its chunks do harm if that is pickle."
    file = next(p for p in (path/'0'/'.zarray', path/'0'/'zarr.json') if p.exists())
    about = json.loads(file.read_text())
    name = pick(rng, ('pickle', 'pickle', 'json2', 'msgpack2', 'vlen-utf8', 'base64', 'delta', 'quantize', 'lz4', 'crc32', 'gzip', 'no such', '', 7))
    if file.name == '.zarray': about |= pick(rng, (dict(compressor=dict(id=name)), dict(filters=[dict(id=name)])))
    else: about['codecs'] = [dict(name=pick(rng, (name, f'numcodecs.{name}')), configuration=dict(id=name)), *about['codecs']][:rng.integers(1, 4)]
    file.write_text(json.dumps(about))
    for chunk in file.parent.rglob('*'):
        if chunk.is_file() and chunk.name[0] != '.' and chunk != file: chunk.write_bytes(pickle.dumps(Harm(harm)))

@door
def weights(at, rng):
    path = take(at, pick(rng, ('flat.pt', 'legacy.pt', 'solid.pt', 'group.pt', 'deep.pt', 'small/weights.safetensors')))
    how = rng.integers(4)
    if how == 0 or path.suffix != '.pt': path.write_bytes(cut(path.read_bytes(), rng))
    elif how == 1 and path.name != 'legacy.pt': repack(path, rng)
    elif how == 2: torch.save(mutate(torch.load(path), rng), path)
    else: torch.save(odd_numbers(torch.load(path), rng), path)
    if rng.random() < .7: return lambda: segment(at, weights=path)
    p = pick(rng, (dict(init=str(path)), dict(init=str(EXAMPLES/'flat.pt'), average_with=str(path))))
    return lambda: train_small(at/'work', p | dict(epochs=1))

def record(at, rng, name):
    "A run whose card or provenance is damaged, to segment with or to start from."
    path = take(at, 'runs/run/card.json', 'runs/run/provenance.json', 'runs/run/weights.safetensors')
    write_json(path.with_name(name), rng)
    if rng.random() < .4: return lambda: segment(at, weights=path)
    p = dict(tomo=str(EXAMPLES/f'tomo{rng.integers(2)}.mrc'), init=str(path), epochs=1)
    if rng.random() < .4: p |= dict(init='', average_with=str(path))
    return lambda: train_small(at/'work', p)

@door
def card(at, rng): return record(at, rng, 'card.json')

@door
def provenance(at, rng): return record(at, rng, 'provenance.json')

@door
def manifest(at, rng):
    path = take(at, 'tomo0.mrc', 'tomo1.mrc', 'tomo2.mrc', 'mask.mrc').with_name('list.csv')
    text = '# three\ntomogram,mask,split\ntomo0.mrc,mask.mrc,train\ntomo1.mrc,mask.mrc,val\ntomo2.mrc,mask.mrc,test\n'
    path.write_bytes(garble(text, rng))
    return lambda: read_parts('', '', str(path), 3) and None

@door
def csv_list(at, rng):
    path = take(at, 'tomo0.mrc', 'tomo1.mrc', 'mask.mrc').with_name('list.csv')
    path.write_bytes(garble('tomogram,mask,name\n# two\ntomo0.mrc,mask.mrc,first\ntomo1.mrc,,second\n', rng))
    return lambda: segment_all(path, at/'work'/'out', EXAMPLES/'flat.pt')

@door
def recipe(at, rng):
    path = at/'user'/'recipe.yaml'
    text = pick(rng, sorted((ROOT/'recipes').glob('*.yaml'))).read_text()
    if rng.random() < .5: path.write_bytes(garble(text, rng))
    else: path.write_text(yaml.safe_dump(mutate(pick(rng, (yaml.safe_load(text), parameters('03_train'))), rng)))
    safe = run_parameters(at/'work', dict(manifest='', init='', average_with='', resume=False))
    places = {name: safe[name] for name in ('tomo', 'mask', 'output', 'name', 'manifest', 'init', 'average_with', 'resume')}
    return lambda: open_training(train.read_recipe(path) | places) and None

@door
def odd_parameters(at, rng):
    page, opener = pick(rng, (('03_train', open_training), ('04_infer', open_job), ('04_many', open_many), ('04_infer', membrane)))
    declared = parameters(page)
    kinds = {name: type(value) for name, value in declared.items()}
    place = dict(tomo=str(EXAMPLES/'tomo0.mrc'), mask=str(EXAMPLES/'mask.mrc'), weights=str(EXAMPLES/'flat.pt'), tomograms=str(EXAMPLES/'data'))
    place = {name: path for name, path in place.items() if name in declared} | dict(output=str(at/'work'/'out'), device='cpu')
    odd = {pick(rng, list(declared)): pick(rng, ODD) for _ in range(rng.integers(1, 4))}
    if rng.random() < .9: odd = {name: value for name, value in odd.items() if name not in place and name not in ('scheduler', 'init', 'manifest')}
    given = declared | place | odd | dict(__annotations__=kinds)
    if opener is open_training: return lambda: train.open_run(check_parameters(given, RecipeOptions)) and None
    if opener is not membrane: return lambda: opener(**dict(check_parameters(given, MODELS[page]))) and None
    words = [f'--{name}={given[name]}' for name in declared if type(given[name]) is not bool]
    return lambda: membrane(['segment', *words])

@door
def checkpoint(at, rng):
    shutil.copytree(EXAMPLES/'runs'/'.stopped.part', at/'work'/'.stopped.part')
    path = at/'work'/'.stopped.part'/'last.ckpt'
    if rng.random() < .3: path.write_bytes(cut(path.read_bytes(), rng))
    else: torch.save(mutate(torch.load(path), rng), path)
    return lambda: train_small(at/'work', dict(name='stopped', resume=True))

@door
def kept_phantoms(at, rng):
    folder = shutil.copytree(EXAMPLES/'phantoms', at/'work'/'phantoms')
    files = [p for p in sorted(folder.rglob('*')) if p.is_file()]
    path = pick(rng, files)
    with np.load(path, allow_pickle=False) as f: kept = dict(f)
    how = rng.integers(4)
    if how == 0: path.write_bytes(cut(path.read_bytes(), rng))
    if how == 1: path.write_bytes(pick(rng, files).read_bytes())
    if how == 2: kept |= {name: odd_voxels(np.atleast_1d(v), rng) for name, v in kept.items() if v.dtype.kind != 'U' and rng.random() < .5}
    if how == 3: kept = {name: pick(rng, (v, v.reshape(-1)[:1], v.astype(str), np.array([{}], object))) for name, v in kept.items() if rng.random() < .8}
    if how > 1: np.savez(path, **kept)
    def work():
        made = train.phantom_parts(**KEPT, folder=folder)
        return lambda: check_phantoms(made, train.phantom_parts(**KEPT, folder=EXAMPLES/'phantoms'))
    return work

def check_phantoms(some, others):
    "The same voxels, masks and voxel sizes."
    for part in some:
        for (a, _), (b, _) in zip(some[part], others[part]):
            same = np.array_equal(a.vol, b.vol) and np.array_equal(a.msk[:], b.msk[:]) and a.pixel == b.pixel
            if not same: raise Wrong(f'{a.name}: another phantom')

@door
def int8_model(at, rng):
    path = take(at, *(f'small/{p.name}' for p in EXAMPLES.glob('small/*'))).with_name('weights.safetensors')
    for file in [pick(rng, sorted((at/'user').glob('int8*'))) for _ in range(rng.integers(1, 3))]:
        if rng.random() < .1: file.write_bytes(b'')
        else: file.write_bytes(cut(file.read_bytes(), rng))
    if rng.random() < .1: file.unlink()
    def check():
        far = open_volume(at/'work'/'out'/'prob.mrc')[:] - open_volume(EXAMPLES/'results'/'tomo0_membranes'/'prob.mrc')[:]
        if not np.abs(far).mean() < .01: raise Wrong(f'the probabilities are off by {np.abs(far).mean():.3f}')
    return lambda: segment(at, weights=path, engine='auto') and check

@door
def report(at, rng):
    folder = shutil.copytree(EXAMPLES/'results', at/'work'/'out')
    (folder/'report.csv').write_bytes(garble((folder/'report.csv').read_text(), rng))
    if rng.random() < .5: return lambda: segment_all(EXAMPLES/'data', folder, EXAMPLES/'flat.pt')
    return lambda: (read_report(folder), report_table(folder), contact_sheet(folder)) and None

@door
def finished(at, rng):
    out = shutil.copytree(EXAMPLES/'results', at/'work'/'out')
    folder = out/f'tomo{rng.integers(2)}_membranes'
    path = pick(rng, [p for p in sorted(folder.rglob('*')) if p.is_file()])
    if rng.random() < .2: path.unlink()
    elif path.suffix == '.json': write_json(path, rng)
    else: path.write_bytes(path.read_bytes()[:-int(rng.integers(1, 3000))])
    if rng.random() < .1: (folder/'notes.txt').write_text('mine')
    overwrite = bool(rng.random() < .3)
    def check():
        for row in read_report(out):
            if row['state'] != 'failed': check_same(out/f'{row["name"]}_membranes', EXAMPLES/'results'/f'{row["name"]}_membranes')
    return lambda: segment_all(EXAMPLES/'data', out, EXAMPLES/'flat.pt', overwrite=overwrite) or check

@door
def in_the_way(at, rng):
    work = at/'work'
    shutil.copytree(EXAMPLES/'results'/'tomo0_membranes', work/'out')
    shutil.copytree(EXAMPLES/'runs'/'run', work/'run')
    shutil.copytree(EXAMPLES/'ours.zarr', work/'new.zarr')
    places = 'out', '.out.part', '.out.old', 'new.zarr', '.new.zarr.old', 'new.zarr/labels', 'new.zarr/0', 'run', '.run.part', '.run.old', 'phantoms'
    for place in [work/pick(rng, places) for _ in range(rng.integers(1, 3))]:
        place.mkdir(parents=True, exist_ok=True)
        (place/pick(rng, ('notes.txt', 'notes.txt.mrc', '.notes.txt'))).write_text('mine')
    again = dict(overwrite=bool(rng.random() < .8))
    inside = work/'run'/'weights.safetensors'
    seen = dict(tomo=str(EXAMPLES/'tomo1.mrc'), epochs=1) | again
    return pick(rng, (
        lambda: segment(at, **again), lambda: segment(at, format='zarr', **again), lambda: segment(at, weights=inside, output=work/'run', **again),
        lambda: write_zarr(work/'new.zarr', np.ones((4, 20, 20), np.float32)) and None, lambda: train_small(work, seen),
        lambda: train_small(work, seen | dict(init=str(inside))), lambda: train_small(work, seen | dict(average_with=str(inside)))))
