"Bad input gets one sentence before any work starts, an exit code that is not 0, and leaves what was on disk."
import os, shutil, subprocess, sys
from collections import namedtuple

import mrcfile
import numpy as np
import pytest
import torch
from conftest import ROOT, opened, stored_mrc, trained
from membrane_nb.checks import InputError
from membrane_nb.split import read_parts
from membrane_nb.infer import open_job
from membrane_nb.mrc import new_mrc, write_mrc
from membrane_nb.volume import open_volume


@pytest.fixture
def bad(tmp_path, volumes):
    "Files that are wrong, each in one way."
    whole = (volumes/'tomo.mrc').read_bytes()
    (tmp_path/'text.mrc').write_text('not a tomogram ' * 200)
    (tmp_path/'cut.mrc').write_bytes(whole[:-1000])
    (tmp_path/'empty.mrc').write_bytes(b'')
    (tmp_path/'zip.mrc').write_bytes(b'PK\x03\x04' + bytes(3000))
    (tmp_path/'folder.mrc').mkdir()
    os.mkfifo(tmp_path/'fifo.mrc')
    (tmp_path/'huge.mrc').write_bytes(np.array([2**30, 2**30, 16], '<i4').tobytes() + whole[12:2000])
    (tmp_path/'extended.mrc').write_bytes(whole[:92] + np.array([-5], '<i4').tobytes() + whole[96:] + b'more') # as it fits no size
    (tmp_path/'turned.mrc').write_bytes(whole[:64] + np.array([1, 1, 1], '<i4').tobytes() + whole[76:])
    stored_mrc(tmp_path/'complex.mrc', np.zeros((4, 8, 8), np.complex64))
    stored_mrc(tmp_path/'flat.mrc', np.zeros((8, 8), np.float32))
    stored_mrc(tmp_path/'constant.mrc', np.zeros((24, 96, 80), np.float32))
    stored_mrc(tmp_path/'other.mrc', np.ones((24, 96, 81), np.int8))
    stored_mrc(tmp_path/'none.mrc', np.zeros((24, 96, 80), np.int8))
    stored_mrc(tmp_path/'soft.mrc', np.full((24, 96, 80), .5, np.float32))
    stored_mrc(tmp_path/'below.mrc', np.full((24, 96, 80), -3, np.int8))
    stored_mrc(tmp_path/'thin.mrc', np.random.default_rng(0).normal(size=(12, 32, 32)).astype(np.float32))
    thin = np.zeros((12, 32, 32), np.int8)
    thin[:, 8:12] = 1
    stored_mrc(tmp_path/'thinmask.mrc', thin)
    for name, sides in (('oblong.mrc', (10, 5, 2)), ('nan.mrc', (np.nan,) * 3), ('negative.mrc', (-8, -8, -8))):
        shutil.copy(volumes/'tomo.mrc', tmp_path/name)
        with mrcfile.mmap(tmp_path/name, 'r+', permissive=True) as f:
            for side, size, n in zip('xyz', sides, (80, 96, 24)): f.header.cella[side] = size * n
    torch.save({'layer.weight': torch.ones(3)}, tmp_path/'other.pt')
    return tmp_path


TOMOGRAMS = {'missing.mrc': 'no such file', 'text.mrc': 'is not an MRC file', 'cut.mrc': 'is truncated', 'empty.mrc': 'is empty',
             'complex.mrc': 'holds complex numbers', 'flat.mrc': '2D data', 'constant.mrc': 'wanted a tomogram with contrast',
             'zip.mrc': 'is not an MRC file', 'folder.mrc': 'is a folder', 'fifo.mrc': 'is not a regular file', 'huge.mrc': 'is truncated',
             'extended.mrc': 'extended header', 'turned.mrc': 'order (1, 1, 1)', 'none.mrc': 'wanted a tomogram with contrast',
             'oblong.mrc': 'voxels of 10 x 5 x 2 Å; wanted one size', 'nan.mrc': 'the parameter voxel_size', 'negative.mrc': 'the parameter voxel_size'}
MASKS = {'other.mrc': 'wanted (24, 96, 80), as the tomogram', 'none.mrc': 'has no membrane voxel', 'soft.mrc': 'holds the value 0.5',
         'below.mrc': 'holds the value -3', 'missing.mrc': 'no such file'}


@pytest.mark.parametrize('name', TOMOGRAMS)
def test_a_tomogram_is_refused_at_every_door(bad, volumes, name):
    for door in (lambda: open_job(bad/name, weights=volumes/'weights.pt', output=bad/'out', device='cpu'),
                 lambda: read_parts(str(bad/name), str(volumes/'mask.mrc'), '', 7)):
        with pytest.raises(InputError) as e: door()
        assert name in str(e.value) and TOMOGRAMS[name] in str(e.value) and '\n' not in str(e.value)
    assert not list(bad.glob('*out*'))


@pytest.mark.parametrize('name', ['missing.mrc', 'cut.mrc', 'constant.mrc'])
def test_command_line_refuses_a_tomogram(run, bad, volumes, name):
    done = run('membrane_infer', '--tomo', bad/name, '--weights', volumes/'weights.pt', '--output', bad/'out')
    assert done.returncode not in (0, None)
    assert TOMOGRAMS[name] in done.stderr and name in done.stderr
    assert 'Traceback' not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert not list(bad.glob('*out*'))


def test_the_parameter_pixel_is_the_way_on(bad, volumes):
    for name in ('oblong.mrc', 'nan.mrc'):
        assert open_job(bad/name, weights=volumes/'weights.pt', output=bad/'out', device='cpu', voxel_size=10.).tomo.pixel == 10


@pytest.mark.parametrize('name', MASKS)
def test_training_refuses_a_mask(bad, volumes, name):
    with pytest.raises(InputError) as e: read_parts(str(volumes/'tomo.mrc'), str(bad/name), '', 7)
    assert MASKS[name] in str(e.value)


def test_a_mask_named_as_tomogram(volumes):
    "S9: the mask is no tomogram, and one file is not both."
    for name in ('mask.mrc', 'tomo.mrc'):
        with pytest.raises(InputError, match='wanted two files'): read_parts(str(volumes/name), str(volumes/name), '', 7)
    with pytest.raises(InputError, match='different values, as a mask does|wanted a tomogram with contrast'): open_job(volumes/'mask.mrc', weights=volumes/'weights.pt', output=volumes/'no')


def test_too_few_slices_for_the_split(bad):
    with pytest.raises(InputError, match='has 12 annotated slices; wanted at least three, 7 or more apart'):
        read_parts(str(bad/'thin.mrc'), str(bad/'thinmask.mrc'), '', 7)


@pytest.mark.parametrize('text, said', [
    (b'tomogram,mask,split\ntomo.mrc,mask.mrc\n', 'line 2 has 2 fields'), (b'\x00\x01,\xff\xfe', 'is not text'),
    (b'tomogram,mask,split\n# note\n' + 200_000 * b'x' + b',m,train\n', 'is not CSV'), (b'tomogram,mask\n', 'wanted tomogram, mask, split'),
    (b'tomogram,mask,split\nt.mrc,m.mrc,train\n', 'has no val tomogram'), (b'tomogram,mask,split\n,m.mrc,train\n', 'line 2 names no tomogram')])
def test_a_damaged_manifest(tmp_path, text, said):
    "D11"
    (tmp_path/'m.csv').write_bytes(text)
    with pytest.raises(InputError, match=said): read_parts('', '', str(tmp_path/'m.csv'), 7)


@pytest.mark.parametrize('how', ['copy', 'link', 'hard link', 'gz'])
def test_the_same_voxels_in_two_parts(volumes, tmp_path, how):
    "S8: found by their fingerprint, whatever the name."
    import gzip
    other = tmp_path/('other.mrc.gz' if how == 'gz' else 'other.mrc')
    if how == 'gz': other.write_bytes(gzip.compress((volumes/'tomo.mrc').read_bytes()))
    else: dict(copy=shutil.copy, link=os.symlink).get(how, os.link)(volumes/'tomo.mrc', other)
    write_mrc(tmp_path/'third.mrc', 1 + open_volume(volumes/'tomo.mrc')[:], 10.)
    rows = [(volumes/'tomo.mrc', 'train'), (tmp_path/'third.mrc', 'val'), (other, 'test')]
    (tmp_path/'m.csv').write_text('tomogram,mask,split\n' + ''.join(f'{t},{volumes/"mask.mrc"},{p}\n' for t, p in rows))
    with pytest.raises(InputError, match='hold the same voxels'): read_parts('', '', str(tmp_path/'m.csv'), 7)


@pytest.mark.parametrize('given, said', [
    (dict(patch=100), 'a multiple of 16'), (dict(patch=16), 'wanted 32 to'), (dict(k=4), 'an odd number'), (dict(name='..'), 'a plain name'),
    (dict(name='n' * 300), 'is too long for the name'), (dict(name='n' * 250), 'of 1 to 240 bytes'), (dict(seed=2**64), 'wanted 0 to'), (dict(base=10**6), 'wanted 1 to 1024'),
    (dict(phantoms=10**9), 'wanted 1 to 10000'), (dict(norm='group', base=12), 'a multiple of 8'), (dict(device='meta'), 'device'),
    (dict(lr=1e300), 'wanted 1e-12'), (dict(resume=True, name='none'), 'wanted a run to resume'), (dict(contrast='grey'), 'auto, dark or bright')])
def test_training_refuses_a_parameter(tmp_path, given, said):
    "D7, D9: at the door, and no folder is left."
    with pytest.raises(InputError, match=said): opened(dict(output=tmp_path/'runs') | given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('given, said', [
    (dict(threshold=1.5), 'threshold'), (dict(tile=100), 'a multiple of 16'), (dict(min_size=1e300), 'min_size'), (dict(device='hpu'), 'device'),
    (dict(contrast='grey'), 'contrast'), (dict(voxel_size=-1.), 'voxel_size'), (dict(output='o' * 300), 'is too long for the name')])
def test_inference_refuses_a_parameter(volumes, tmp_path, monkeypatch, given, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said): open_job(**(dict(tomo=volumes/'tomo.mrc', weights=volumes/'weights.pt', output='out') | given))
    assert not list(tmp_path.iterdir())


def test_weights_trained_on_what_is_now_tested(volumes, tmp_path):
    "S8: the history of the weights to start from is compared with the parts of the run."
    p = dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='one', epochs=1, patches_per_epoch=1, patch=32, base=4, k=3)
    weights = str(trained(**p)/'weights.safetensors')
    opened(p | dict(name='two', init=weights))
    msk = open_volume(volumes/'mask.mrc')[:]
    msk[12:] = 0
    write_mrc(tmp_path/'late.mrc', msk, 10.)
    with pytest.raises(InputError, match='were trained on slices'): opened(p | dict(name='three', init=weights, mask=str(tmp_path/'late.mrc')))


def test_what_changed_before_resume(volumes, tmp_path):
    "S9: a tomogram or mask with other voxels is no run to resume. D3: nor is a damaged checkpoint."
    tomo, mask = (shutil.copy(volumes/n, tmp_path/n) for n in ('tomo.mrc', 'mask.mrc'))
    p = dict(tomo=tomo, mask=mask, output=tmp_path/'runs', name='run', epochs=2, patches_per_epoch=1, patch=32, base=4, k=3)
    first = opened(p)
    next(first.train())
    first.results.lock.release(force=True)
    assert opened(p | dict(resume=True)).checkpoint
    with pytest.raises(InputError, match='was run with batch_size=2, now 1'): opened(p | dict(resume=True, batch_size=1))
    changed = open_volume(tomo)[:]
    changed[0, 0, 0] += 1
    write_mrc(tomo, changed, 10.)
    with pytest.raises(InputError, match='was trained on other voxels'): opened(p | dict(resume=True))
    shutil.copy(volumes/'tomo.mrc', tomo)
    whole = (first.results.part/'last.ckpt').read_bytes()
    for content in (b'', whole[:1000], b'not a checkpoint'):
        (first.results.part/'last.ckpt').write_bytes(content)
        with pytest.raises(InputError, match='last.ckpt: cannot be read'): opened(p | dict(resume=True))
    torch.save(dict(net=1), first.results.part/'last.ckpt')
    with pytest.raises(InputError, match='is no checkpoint of a run'): opened(p | dict(resume=True))


def test_papermill_shows_one_sentence(run, bad, tmp_path):
    "The executed notebook and papermill's own message hold the sentence, and no frame of a library below ours."
    done = run('papermill', ROOT/'nbs'/'03_train.ipynb', tmp_path/'out.ipynb', '-p', 'tomo', bad/'cut.mrc', '-p', 'mask', bad/'none.mrc', '-p', 'output', bad/'runs')
    assert done.returncode != 0
    assert 'InputError' in done.stderr and 'cut.mrc: is truncated' in done.stderr
    assert 'torch' not in done.stderr.split('Exception encountered')[1] and 'numpy' not in done.stderr.split('Exception encountered')[1]
    assert not (bad/'runs').exists()


@pytest.mark.parametrize('name, said', [('other.pt', 'wanted the weights of a U-Net'), ('text.mrc', 'cannot be read'), ('missing.pt', 'no such file'), ('folder.mrc', 'is a folder')])
def test_weights_that_do_not_fit(bad, volumes, name, said):
    with pytest.raises(InputError, match=said): open_job(volumes/'tomo.mrc', weights=bad/name, output=bad/'out')


def test_not_a_number_is_background(bad, volumes):
    "NaN and infinite voxels are counted, said, and segmented as background grey."
    vol = open_volume(volumes/'tomo.mrc')[:]
    vol[3, 10:20, 10:20], vol[5, 0, 0] = np.nan, np.inf
    job = open_job(write_mrc(bad/'holes.mrc', vol, 10.).path, weights=volumes/'weights.pt', output=bad/'out', device='cpu')
    assert 'holes.mrc: 101 voxels are NaN or infinite; they are treated as background' in job.notes
    assert np.isfinite(open_volume(job.run(pictures=False)/'prob.mrc')[:]).all()


def test_folder_that_cannot_be_written(bad, volumes):
    with pytest.raises(InputError, match='cannot be written'): open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=bad/'text.mrc'/'out')
    with pytest.raises(InputError, match='cannot be written'): opened(dict(output=bad/'text.mrc'/'out'))


def test_disk_too_full(monkeypatch, bad, volumes):
    "D1: the room is asked for before anything is written, in bytes: the result of the last run is still there."
    old = write_mrc(bad/'prob.mrc', np.ones((2, 3, 4), np.float32))
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr(shutil, 'disk_usage', lambda p: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(InputError, match='has room for 1,000 bytes; the result needs'): open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=bad/'out', device='cpu')
    with pytest.raises(InputError, match='needs 2,916,001,024'), new_mrc(bad/'prob.mrc', (900, 900, 900), np.float32): pass
    assert (old[:] == 1).all() and not list(bad.glob('.*'))


def test_few_open_files(run, volumes, tmp_path):
    "D2: 300 slices are read with 64 files at most, as a Mac allows 256."
    vol = open_volume(volumes/'tomo.mrc')
    with new_mrc(tmp_path/'many.mrc', (300, 96, 80), np.float32, 10.) as out:
        for z in range(300): out[z] = vol[z % 24]
    code = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); from membrane_nb.data import Tomo; Tomo.open({str(tmp_path/'many.mrc')!r})"
    assert run(sys.executable, '-c', code).returncode == 0


def test_importing_changes_nothing():
    "The library sets no environment variable and no number of threads; what the command line needs imports no widgets."
    code = """import os, sys, torch
before, threads = dict(os.environ), torch.get_num_threads()
import membrane_nb.training, membrane_nb.infer
assert dict(os.environ) == before and torch.get_num_threads() == threads
assert not {'plotly', 'ipywidgets', 'jupyterlab'} & set(sys.modules), 'widgets'
"""
    assert subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=os.environ | dict(IN_TEST='1', OMP_NUM_THREADS='2')).returncode == 0
