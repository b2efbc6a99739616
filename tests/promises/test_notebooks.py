"The notebooks are the software: they run, they are clean, the library is what they export, and papermill is obeyed."
import json, os, shutil

import nbformat
import numpy as np
import pytest
from conftest import ROOT, SHARED, instrument, papermill, python, trained
from nbclient import NotebookClient
from outputs import differs, shown
from membrane_nb.split import read_parts
from membrane_nb.metrics import choose_threshold
from membrane_nb.plain import phantom
from membrane_nb.fit import evaluate
from membrane_nb.weights import load_unet
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume

PAGES = sorted(str(p.relative_to(ROOT/'nbs')) for p in (ROOT/'nbs').rglob('[!.]*.ipynb'))
NOTEBOOKS = [name for name in PAGES if not name.startswith('evidence/')]
# a few steps of training: with one thread instead of two, Dice after 2 epochs is 0.42 instead of 0.34, the threshold 0.49 instead of 0.37
TRAINING = 'index.ipynb', '03_train.ipynb'
EVIDENCE = [name for name in PAGES if name.startswith('evidence/')]
contents = lambda folder: {p.relative_to(folder): p.read_bytes() for d in ('nbs', 'membrane_nb') for p in (folder/d).rglob('*.*')}


def test_exported_and_clean(run, tmp_path):
    "A second nbdev_export and nbdev_clean change nothing."
    for name in ('nbs', 'membrane_nb', 'settings.ini', 'setup.py', 'README.md'):
        copy = shutil.copytree if (ROOT/name).is_dir() else shutil.copy
        copy(ROOT/name, tmp_path/name, **(dict(ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')) if (ROOT/name).is_dir() else {}))
    before = contents(tmp_path)
    for command in ('nbdev_export', 'nbdev_clean'):
        done = run(command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    after = contents(tmp_path)
    assert [str(p) for p in after if after[p] != before.get(p)] == []
    assert after.keys() == before.keys()


def test_the_house_is_complete():
    assert {'index.ipynb', '00_data.ipynb', '01_sampler.ipynb', '02_unet.ipynb', '03_train.ipynb', '04_infer.ipynb'} < set(NOTEBOOKS)
    assert {p.name for p in (ROOT/'nbs').iterdir() if p.is_dir() and p.name[0] != '.'} == {'toolbox', 'more', 'evidence'}


def test_nothing_unused_or_unknown(run):
    "Rule F of ruff: unused imports, unknown names."
    done = run('ruff', 'check', 'membrane_nb', 'tests', 'benchmarks', 'docs')
    assert done.returncode == 0, done.stdout


def execute(path, output):
    "A notebook after all its cells have run in a fresh kernel, in the folder where Jupyter starts it; the tour, elsewhere (D2)."
    nb = nbformat.read(path, 4)
    env = os.environ | dict(MEMBRANE_OUTPUT=str(output), OMP_NUM_THREADS='1', IN_TEST='1')
    place = output if path.name == 'index.ipynb' else ROOT/'nbs'
    python() # with it, kernels start fast
    client = NotebookClient(nb, timeout=1200, kernel_name='python3', resources=dict(metadata=dict(path=str(place))))
    client.execute(env=env)
    return nb


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebook_runs_and_shows_what_is_stored(tmp_path, name):
    "Every page runs, and what its cells return is what the reader sees in the stored page."
    now = execute(ROOT/'nbs'/name, tmp_path)
    stored = nbformat.read(ROOT/'nbs'/name, 4)
    stale = []
    for i, (cell, then) in enumerate(zip(now.cells, stored.cells)):
        if 'shared' in then.source and not SHARED.is_dir(): continue # shows a volume that is not here
        exact = 'exact' in then.metadata.get('tags', [])
        difference = differs(shown(then), shown(cell), .2 if name in TRAINING else .02, exact)
        if difference: stale.append(f'cell {i}: {difference}')
    assert not stale, f'{name}: stored outputs are not those of the code: {stale}'


def test_nbdev_test_runs_a_page(run):
    done = run('nbdev_test', '--path', 'nbs/toolbox/01_checks.ipynb', '--do_print')
    assert done.returncode == 0 and 'Completed' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize('name', NOTEBOOKS + EVIDENCE)
def test_notebook_is_small_and_quiet(name):
    "No notebook above 1 MB, no output above 200 KB, no error or stderr, no widget state."
    path = ROOT/'nbs'/name
    nb = nbformat.read(path, 4)
    outputs = [o for c in nb.cells for o in c.get('outputs', [])]
    assert path.stat().st_size < 1_000_000
    assert max((len(json.dumps(o)) for o in outputs), default=0) < 200_000
    assert not [o for o in outputs if o.output_type == 'error' or o.get('name') == 'stderr']
    assert 'widgets' not in nb.metadata


@pytest.mark.parametrize('name', EVIDENCE)
def test_evidence_is_stored(name):
    "Every code cell of a study that shows something was run, in order, and its output is there."
    cells = [c for c in nbformat.read(ROOT/'nbs'/name, 4).cells if c.cell_type == 'code']
    assert sum(bool(c.outputs) for c in cells) >= len(cells) / 2
    assert cells[-1].outputs


def has_pictures(path):
    "Whether an executed page carries its figures, as nothing must force another backend on its kernel."
    outputs = [o for c in nbformat.read(path, 4).cells for o in c.get('outputs', [])]
    return sum(bool({'image/png', 'image/jpeg', 'image/svg+xml'} & o.get('data', {}).keys()) for o in outputs) >= 2


SMALL = dict(patches_per_epoch=4, patch=32, k=3, base=4)


def test_headless_run_obeys_its_parameters(run, volumes, tmp_path):
    "A cluster's log has a line an epoch. L2: the name is the one that was typed."
    page = instrument('03_train', tmp_path)
    done = papermill(run, page, tmp_path/'out.ipynb', '--log-output', tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', epochs=2,
                     name='01_23', output=tmp_path, **SMALL)
    assert done.returncode == 0 and 'epoch 1: train loss' in done.stderr + done.stdout, done.stderr[-3000:]
    run_of = tmp_path/'01_23'
    card = json.loads((run_of/'card.json').read_text())
    assert {n: card['parameters'][n] for n in SMALL} == SMALL
    assert len((run_of/'history.csv').read_text().splitlines()) == 3
    data = json.loads((run_of/'provenance.json').read_text())['data']
    assert data[0]['name'] == 'tomo.mrc' and data[0]['shape'] == [24, 96, 80]
    val = read_parts(volumes/'tomo.mrc', volumes/'mask.mrc', '', 3)['val']
    counts = [evaluate(load_unet(run_of/'weights.safetensors'), [v])[1] for v in val]
    assert card['threshold'] == pytest.approx(choose_threshold(counts)['threshold'], abs=.01), 'the card speaks of other weights than those beside it'
    assert {'weights.safetensors', 'last.ckpt', 'history.png', 'validation.png'} <= {p.name for p in run_of.iterdir()}
    page = ROOT/'nbs'/'04_infer.ipynb' # with its lessons
    done = papermill(run, page, 'out2.ipynb', cwd=tmp_path, tomo=volumes/'tomo.mrc', weights='01_23/weights.safetensors', output='result')
    assert done.returncode == 0, done.stderr[-3000:]
    assert has_pictures(tmp_path/'out.ipynb') and has_pictures(tmp_path/'out2.ipynb')
    assert {'prob.mrc', 'mask.mrc', 'overlays.png', 'views.png', 'segmentation.json'} <= {p.name for p in (tmp_path/'result').iterdir()}


def test_fine_tuning_on_a_few_slices(volumes, tmp_path):
    "Three annotated slices, the rest of the mask empty: the weights that ship go on learning, and what is far from the annotation is ignored."
    msk = open_volume(volumes/'mask.mrc')[:].copy()
    msk[[z for z in range(24) if z not in (3, 12, 20)]] = 0
    write_mrc(tmp_path/'few.mrc', msk, 10.)
    folder = trained(tomo=volumes/'tomo.mrc', mask=tmp_path/'few.mrc', init='pretrained', ignore_beyond=20.,
                     name='tuned', output=tmp_path, epochs=1, patches_per_epoch=4, patch=32)
    card = json.loads((folder/'card.json').read_text())
    data = json.loads((folder/'provenance.json').read_text())['data']
    assert [d['slices'] for d in data if d['run'] == 0] == [[3, 4], [12, 13], [20, 21]]
    assert {n: card['parameters'][n] for n in ('k', 'base', 'init')} == dict(k=7, base=16, init='pretrained')


def test_manifest_holds_whole_tomograms_out(run, tmp_path):
    """Three tomograms, one a part; the one with other voxels is remarked upon. D2: from a folder outside of the repository, in which
    the lessons leave nothing."""
    rows = ['tomogram,mask,split']
    for seed, (part, size) in enumerate((('train', 10.), ('val', 10.), ('test', 14.))):
        vol, msk, pixel = phantom((8, 64, 64), seed=3 + seed, pixel=size)
        write_mrc(tmp_path/f'{part}.mrc', vol, pixel)
        write_mrc(tmp_path/f'{part}_mask.mrc', msk.astype(np.int8), pixel)
        rows.append(f'{part}.mrc,{part}_mask.mrc,{part}')
    (tmp_path/'list.csv').write_text('\n'.join(rows))
    done = papermill(run, ROOT/'nbs'/'03_train.ipynb', 'out.ipynb', cwd=tmp_path, manifest='list.csv', name='many', output='.', epochs=1, **SMALL)
    assert done.returncode == 0, done.stderr[-3000:]
    assert {p.name for p in tmp_path.iterdir()} == {'out.ipynb', 'list.csv', 'many'} | {f'{part}{end}.mrc' for part in ('train', 'val', 'test') for end in ('', '_mask')}
    data = json.loads((tmp_path/'many'/'provenance.json').read_text())['data']
    assert [(d['name'], d['part'], d['slices']) for d in data] == [(f'{p}.mrc', p, [0, 8]) for p in ('train', 'val', 'test')]
    printed = ''.join(o.get('text', '') for c in nbformat.read(tmp_path/'out.ipynb', 4).cells for o in c.get('outputs', []))
    assert 'test.mrc: its voxels are 14.0 Å, those of the others 10.0;' in printed and 'val.mrc: its voxels' not in printed


@pytest.mark.parametrize('nb', ['03_train.ipynb', '04_infer.ipynb'])
def test_a_misspelt_parameter_stops_the_run(run, tmp_path, nb):
    done = papermill(run, ROOT/'nbs'/nb, tmp_path/'out.ipynb', epohcs=50, output=tmp_path/'none')
    assert done.returncode != 0
    assert 'parameter epohcs: unknown; wanted one of' in done.stderr
    assert not (tmp_path/'none').exists()


def test_a_tomogram_without_a_mask_is_looked_at(run, volumes, tmp_path):
    "The first thing a biologist does."
    done = papermill(run, instrument('00_data', tmp_path), tmp_path/'out.ipynb', tomo=volumes/'tomo.mrc')
    assert done.returncode == 0, done.stderr[-3000:]
    assert has_pictures(tmp_path/'out.ipynb') and 'tomo.mrc: membranes are taken as dark' in (tmp_path/'out.ipynb').read_text()


@pytest.mark.parametrize('nb', ['00_data.ipynb', '01_sampler.ipynb', '02_unet.ipynb'])
def test_a_page_opens_the_tomogram_it_is_given(run, tmp_path, nb):
    done = papermill(run, ROOT/'nbs'/nb, tmp_path/'out.ipynb', tomo=tmp_path/'none.mrc')
    assert done.returncode != 0 and 'none.mrc: no such file' in done.stderr


def test_where_nothing_is_found(run, volumes, tmp_path):
    "D12: the page ends well, and says so. R3: scores that are no numbers become null."
    page = instrument('04_infer', tmp_path)
    done = papermill(run, page, tmp_path/'out.ipynb', tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', threshold=.999999, output=tmp_path/'none')
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads((tmp_path/'none'/'segmentation.json').read_text(), parse_constant=lambda word: pytest.fail(word))
    assert record['membrane_share'] == 0 and record['scores']['precision'] is None
    assert 'no membrane was found' in (tmp_path/'out.ipynb').read_text()


@pytest.mark.parametrize('nb, name, value', [('03_train.ipynb', 'name', '01_23'), ('04_infer.ipynb', 'tomo', '007'),
                                             ('more/04_many.ipynb', 'tomograms', '2024.10')])
def test_a_name_that_papermill_takes_for_a_number_is_refused(run, tmp_path, nb, name, value):
    "L2: nobody can tell which of 01_23 and 012_3 was typed."
    done = run('papermill', ROOT/'nbs'/nb, tmp_path/'out.ipynb', '-p', name, value)
    assert done.returncode != 0 and f'wanted text: -r {name}' in done.stderr, done.stderr[-2000:]
    assert [path.name for path in tmp_path.iterdir()] == ['out.ipynb']
