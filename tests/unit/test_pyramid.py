"OME-Zarr: what a new store holds, its coarser levels, and what it never replaces."
import json, math, signal, sys
import mrcfile
import numpy as np
import pytest
import zarr
from membrane_nb.checks import InputError
from membrane_nb.plain import phantom
from membrane_nb.mrc import new_mrc, write_mrc
from membrane_nb.pyramid import new_zarr, write_zarr
from membrane_nb.volume import open_volume
from stores import axes, stored


@pytest.fixture(scope='module')
def cell():
    return phantom((20, 96, 80), seed=1)[0]


def attributes(path):
    return json.loads((path/'.zattrs').read_text())['multiscales'][0]


def test_a_new_store_is_ome_zarr_0_4(tmp_path):
    "What the specification of version 0.4 asks for, and where each level lies."
    rng = np.random.default_rng(0)
    vol = rng.normal(size=(21, 300, 530)).astype(np.float32)
    with new_mrc(tmp_path/'in.mrc', vol.shape, np.float32, 7.5) as given: given[:] = vol
    with mrcfile.mmap(tmp_path/'in.mrc', 'r+') as f: f.header.origin = (8, 16, 24)
    path = write_zarr(tmp_path/'cell.ome.zarr', vol, like=open_volume(tmp_path/'in.mrc')).path
    assert json.loads((path/'.zgroup').read_text()) == dict(zarr_format=2)
    image = attributes(path)
    assert image['version'] == '0.4' and image['name'] == 'cell' and image['type'] == 'mean'
    assert image['axes'] == axes('zyx')
    assert [d['path'] for d in image['datasets']] == ['0', '1', '2']
    group = zarr.open_group(path, mode='r')
    for level, entry in enumerate(image['datasets']):
        scale, move = entry['coordinateTransformations']
        wide = 2**level
        assert scale == dict(type='scale', scale=[7.5 * wide] * 3)
        assert move == dict(type='translation', translation=[o + (wide - 1) / 2 * 7.5 for o in (24, 16, 8)])
        array = group[entry['path']]
        assert array.shape == tuple(math.ceil(n / wide) for n in vol.shape)
        meta = json.loads((path/entry['path']/'.zarray').read_text())
        assert meta['dimension_separator'] == '/' and meta['compressor']['id'] == 'blosc' and meta['zarr_format'] == 2 and meta['filters'] is None
    assert np.allclose(group['1'][3, 5, 7], vol[6:8, 10:12, 14:16].mean(), atol=1e-6)
    assert np.allclose(group['2'][1, 70, 100], vol[4:8, 280:284, 400:404].mean(), atol=1e-6)
    assert np.allclose(group['1'][-1, -1, -1], vol[20:, 298:, 528:].mean(), atol=1e-6), 'a block at the edge has fewer voxels'
    assert max(group['2'].shape[1:]) <= 256


def test_coarse_levels_of_whole_numbers(tmp_path):
    "A mask takes the maximum, so that a line stays; a tomogram takes the mean if told."
    msk = np.zeros((4, 600, 600), np.int8)
    msk[1, 301] = 1
    group = zarr.open_group(write_zarr(tmp_path/'m.zarr', msk).path, mode='r')
    assert attributes(tmp_path/'m.zarr')['type'] == 'maximum' and group['2'][:, 75].all() and group['2'][:].sum() == 150
    grey = np.random.default_rng(0).integers(-99, 99, (4, 300, 300)).astype(np.int16)
    coarse = zarr.open_group(write_zarr(tmp_path/'g.zarr', grey, mean=True).path, mode='r')['1']
    assert coarse.dtype == np.int16 and coarse[1, 2, 3] == np.rint(grey[2:4, 4:6, 6:8].mean())


def test_a_size_that_is_not_known(cell, tmp_path):
    "It has no unit in the store, and stays unknown."
    vol = write_zarr(tmp_path/'a.zarr', cell)
    assert vol.pixel == 0 and 'unit' not in attributes(vol.path)['axes'][0] and 'taken as unknown' in vol.notes[0]


def test_filled_and_read_back(cell, tmp_path):
    "What is written can be read and changed while the block is open, as of a new MRC file."
    with new_zarr(tmp_path/'a.zarr', cell.shape, np.float32, 8.) as new:
        assert not (tmp_path/'a.zarr').exists()
        new[:] = cell
        assert (new[3] == cell[3]).all()
        new[3] = new[3] > 0
        new[-1] = 5
    want = cell.copy()
    want[3], want[-1] = cell[3] > 0, 5
    assert (open_volume(tmp_path/'a.zarr')[:] == want).all() and [p.name for p in tmp_path.iterdir()] == ['a.zarr']


def test_a_block_that_fails(cell, tmp_path):
    "The older store stays, and nothing lies beside it; a file or folder of the user is never replaced."
    old = write_zarr(tmp_path/'a.zarr', cell).path
    with pytest.raises(KeyboardInterrupt), new_zarr(old, (9, 9, 9), np.float32) as new:
        new[0] = 7
        raise KeyboardInterrupt
    assert (open_volume(old)[:] == cell).all()
    write_zarr(old, cell + 1)
    assert (open_volume(old)[:] == cell + 1).all() and [p.name for p in tmp_path.iterdir()] == ['a.zarr']
    (tmp_path/'mine').mkdir()
    (tmp_path/'mine'/'thesis.txt').write_text('all of it')
    (tmp_path/'file.zarr').write_text('a file')
    (tmp_path/'link.zarr').symlink_to(old)
    for name, said in (('mine', 'holds thesis.txt, and no list of files of ours'), ('file.zarr', 'is a file'), ('link.zarr', 'is a link')):
        with pytest.raises(InputError, match=f'{said}.*; wanted'): write_zarr(tmp_path/name, cell)
    with pytest.raises(InputError, match='cannot be written'): write_zarr(tmp_path/'none'/'a.zarr', cell)
    with pytest.raises(InputError, match='is an address; wanted a folder on this machine'): write_zarr('s3://bucket/a.zarr', cell)
    with pytest.raises(InputError, match='has room for'), new_zarr(tmp_path/'huge.zarr', (1000, 10**6, 10**6), np.float32): pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ['a.zarr', 'file.zarr', 'link.zarr', 'mine'] and (tmp_path/'mine'/'thesis.txt').exists()


KILLED = """
import os, signal, sys
from pathlib import Path
import membrane_nb.pyramid as v
here, when = sys.argv[1:]
def dies(*args): os.kill(os.getpid(), signal.SIGKILL)
if when == 'end':
    write = v._write_levels
    v._write_levels = lambda *args: dies(write(*args))
if when == 'renames':
    rename = Path.rename
    Path.rename = lambda path, new: dies() if path.name.endswith('.part') else rename(path, new)
with v.new_zarr(here, (8, 300, 300), 'float32') as new:
    new[0] = 7
    if when == 'middle': dies()
"""


@pytest.mark.parametrize('when', ['middle', 'end'])
def test_a_killed_writer_leaves_no_store(run, tmp_path, when):
    done = run(sys.executable, '-c', KILLED, tmp_path/'a.zarr', when)
    assert done.returncode == -signal.SIGKILL
    left, = tmp_path.iterdir()
    assert left.name.startswith('.a.zarr.') and left.name.endswith('.part')


@pytest.mark.parametrize('when', ['middle', 'end', 'renames'])
def test_a_killed_writer_loses_no_older_store(run, cell, tmp_path, when):
    "L1: also between the two renames, after which the next run puts the old store back."
    old = write_zarr(tmp_path/'a.zarr', cell).path
    done = run(sys.executable, '-c', KILLED, old, when)
    assert done.returncode == -signal.SIGKILL and old.exists() == (when != 'renames')
    with pytest.raises(KeyboardInterrupt), new_zarr(old, (9, 9, 9), np.float32): raise KeyboardInterrupt
    assert (open_volume(old)[:] == cell).all() and [p.name for p in tmp_path.iterdir()] == ['a.zarr']
    run(sys.executable, '-c', KILLED, old, when)
    assert write_zarr(old, cell + 1)[3, 4, 5] == cell[3, 4, 5] + 1 and [p.name for p in tmp_path.iterdir()] == ['a.zarr']


@pytest.mark.parametrize('file', ['notes.txt', 'labels/.zgroup', 'labels/mine/0/.zarray', '0/0/0/0', '0/1/0/7'])
def test_a_store_that_is_not_only_ours_is_never_replaced(cell, tmp_path, file):
    "L1: a file beside ours, labels as napari keeps them, a voxel that was corrected; and a store of another program."
    path = write_zarr(tmp_path/'a.zarr', cell).path
    (path/file).parent.mkdir(parents=True, exist_ok=True)
    (path/file).write_text('mine')
    (path/file).touch()
    for door in (lambda: write_zarr(path, cell), lambda: write_zarr(path, cell, like=open_volume(path))):
        with pytest.raises(InputError, match=f'^[^\\n]*a.zarr: holds {file.split("/")[0]}.*; wanted another folder for the results$'): door()
    assert (path/file).read_text() == 'mine' and [p.name for p in tmp_path.iterdir()] == ['a.zarr']
    with pytest.raises(InputError, match='and no list of files of ours'): write_zarr(stored(tmp_path/'b.zarr', cell), cell)


def test_a_store_lies_where_the_start_of_a_header_says(cell, tmp_path):
    "S14: by the voxel size that was named, if one was."
    with mrcfile.new(tmp_path/'a.mrc', cell) as f: f.voxel_size, f.nstart = 8., (4, -5, 600)
    for pixel, side in ((0., 8.), (10., 10.)):
        store = write_zarr(tmp_path/'a.zarr', cell, like=open_volume(tmp_path/'a.mrc', pixel))
        assert (store.pixel, store.origin) == (side, (4 * side, -5 * side, 600 * side))
        back = write_mrc(tmp_path/'back.mrc', cell, like=store)
        assert back.origin == store.origin and back.pixel == side


def test_what_we_write_is_whole(tmp_path):
    "S10: no chunk of ours is left out, also where there is no membrane, in no level."
    msk = np.zeros((40, 600, 600), np.int8)
    msk[3, 4, 5] = 1
    there = write_zarr(tmp_path/'m.zarr', msk, 10.)
    assert there.notes == [] and open_volume(tmp_path/'m.zarr'/'2').notes == ['2: is a plain Zarr array; axes taken as z, y, x, voxel size and origin as unknown']
