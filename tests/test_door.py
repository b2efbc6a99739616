"Bad input gets one sentence before any work starts, an exit code that is not 0, and leaves what was on disk."
import shutil
from collections import namedtuple

import mrcfile
import numpy as np
import pytest
import torch

from conftest import ROOT
from membrane_nb.data import InputError, create, read_mrc, read_parts, write_mrc
from membrane_nb.infer import open_job


def save(path, data):
    with mrcfile.new(path, data, overwrite=True): pass
    return path


@pytest.fixture
def bad(tmp_path, volumes):
    "Files that are wrong, each in one way."
    whole = (volumes/'tomo.mrc').read_bytes()
    (tmp_path/'text.mrc').write_text('not a tomogram ' * 200)
    (tmp_path/'cut.mrc').write_bytes(whole[:-1000])
    (tmp_path/'empty.mrc').write_bytes(b'')
    save(tmp_path/'complex.mrc', np.zeros((4, 8, 8), np.complex64))
    save(tmp_path/'flat.mrc', np.zeros((8, 8), np.float32))
    save(tmp_path/'constant.mrc', np.zeros((24, 96, 80), np.float32))
    save(tmp_path/'other.mrc', np.ones((24, 96, 81), np.int8))
    save(tmp_path/'none.mrc', np.zeros((24, 96, 80), np.int8))
    save(tmp_path/'soft.mrc', np.full((24, 96, 80), .5, np.float32))
    save(tmp_path/'three.mrc', np.full((24, 96, 80), 3, np.int8))
    save(tmp_path/'thin.mrc', np.random.default_rng(0).normal(size=(12, 32, 32)).astype(np.float32))
    save(tmp_path/'thinmask.mrc', np.ones((12, 32, 32), np.int8))
    torch.save({'layer.weight': torch.ones(3)}, tmp_path/'other.pt')
    return tmp_path


TOMOGRAMS = {'missing.mrc': 'no such file', 'text.mrc': 'is not an MRC file', 'cut.mrc': 'is truncated', 'empty.mrc': 'is empty',
             'complex.mrc': 'holds complex numbers', 'flat.mrc': '2D data', 'constant.mrc': 'wanted a tomogram with contrast'}
MASKS = {'other.mrc': 'wanted (24, 96, 80), as the tomogram', 'none.mrc': 'has no membrane voxel', 'soft.mrc': 'wanted an integer mask',
         'three.mrc': 'holds the value 3', 'missing.mrc': 'no such file'}


@pytest.mark.parametrize('name', TOMOGRAMS)
def test_command_line_refuses_a_tomogram(run, bad, volumes, name):
    done = run('membrane_infer', '--tomo', bad/name, '--weights', volumes/'weights.pt', '--output', bad/'out')
    assert done.returncode not in (0, None)
    assert TOMOGRAMS[name] in done.stderr and name in done.stderr
    assert 'Traceback' not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(bad.glob('out/*'))


@pytest.mark.parametrize('name', TOMOGRAMS)
def test_training_refuses_a_tomogram(bad, volumes, name):
    with pytest.raises(InputError) as e: read_parts(str(bad/name), str(volumes/'mask.mrc'), '', 7)
    assert name in str(e.value) and TOMOGRAMS[name] in str(e.value)


@pytest.mark.parametrize('name', MASKS)
def test_training_refuses_a_mask(bad, volumes, name):
    with pytest.raises(InputError) as e: read_parts(str(volumes/'tomo.mrc'), str(bad/name), '', 7)
    assert MASKS[name] in str(e.value)


def test_too_few_slices_for_the_split(bad):
    with pytest.raises(InputError, match='has 12 annotated slices; wanted at least three, 7 or more apart'):
        read_parts(str(bad/'thin.mrc'), str(bad/'thinmask.mrc'), '', 7)


def test_papermill_shows_one_sentence(run, bad, tmp_path):
    "The executed notebook and papermill's own message hold the sentence, and no frame of a library below ours."
    done = run('papermill', ROOT/'nbs'/'03_train.ipynb', tmp_path/'out.ipynb', '-p', 'tomo', bad/'cut.mrc', '-p', 'mask', bad/'none.mrc', '-p', 'output', bad/'runs')
    assert done.returncode != 0
    assert 'InputError' in done.stderr and 'cut.mrc: is truncated' in done.stderr
    assert 'torch' not in done.stderr.split('Exception encountered')[1] and 'numpy' not in done.stderr.split('Exception encountered')[1]


@pytest.mark.parametrize('wrong', [('patch', 100, 'a multiple of 16'), ('k', 4, 'an odd number'), ('epochs', 'many', 'wanted int')])
def test_papermill_refuses_a_parameter(run, tmp_path, wrong):
    name, value, wanted = wrong
    done = run('papermill', ROOT/'nbs'/'03_train.ipynb', tmp_path/'out.ipynb', '-p', name, value, '-p', 'output', tmp_path/'runs')
    assert done.returncode != 0 and f'parameter {name}: found' in done.stderr and wanted in done.stderr


@pytest.mark.parametrize('name, said', [('other.pt', 'wanted the weights of a U-Net'), ('text.mrc', 'cannot be read'), ('missing.pt', 'no such file')])
def test_weights_that_do_not_fit(run, bad, volumes, name, said):
    done = run('membrane_infer', '--tomo', volumes/'tomo.mrc', '--weights', bad/name, '--output', bad/'out')
    assert done.returncode != 0 and said in done.stderr and 'Traceback' not in done.stderr


def test_not_a_number_is_background(bad, volumes):
    "NaN and infinite voxels are counted, said, and segmented as background grey."
    vol = read_mrc(volumes/'tomo.mrc')[:].copy()
    vol[3, 10:20, 10:20], vol[5, 0, 0] = np.nan, np.inf
    job = open_job(write_mrc(bad/'holes.mrc', vol, 10.).path, volumes/'weights.pt', bad/'out', device='cpu')
    assert job.notes == ['holes.mrc: 101 voxels are NaN or infinite; they are treated as background']
    for _ in job.run(): pass
    assert np.isfinite(read_mrc(bad/'out'/'prob.mrc')[:]).all()


def test_folder_that_cannot_be_written(run, bad, volumes):
    done = run('membrane_infer', '--tomo', volumes/'tomo.mrc', '--weights', volumes/'weights.pt', '--output', bad/'text.mrc'/'out')
    assert done.returncode != 0 and 'cannot be written' in done.stderr and 'Traceback' not in done.stderr
    done = run('papermill', ROOT/'nbs'/'03_train.ipynb', bad/'out.ipynb', '-p', 'output', bad/'text.mrc'/'out')
    assert done.returncode != 0 and 'cannot be written' in done.stderr


def test_disk_too_full(monkeypatch, bad, volumes):
    "The room is asked for before anything is written: the result of the last run is still there."
    old = write_mrc(bad/'out'/'prob.mrc', np.ones((2, 3, 4), np.float32))
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda p: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(InputError, match='0.0 GB free; the results need'): open_job(volumes/'tomo.mrc', volumes/'weights.pt', bad/'out')
    with pytest.raises(InputError, match='the results need'), create(bad/'out'/'prob.mrc', (900, 900, 900), np.float32): pass
    assert (old[:] == 1).all()
