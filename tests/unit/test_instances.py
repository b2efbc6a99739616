"One number a membrane: touching ones apart, one membrane whole, tiles like the whole, little memory."
import subprocess, sys

import numpy as np
import pytest
from conftest import ROOT
from membrane_nb import instances
from membrane_nb.checks import InputError
from membrane_nb.instances import NumberedMembranes, compare_numbers
from membrane_nb.mrc import new_mrc, write_mrc
from membrane_nb.plain import number_phantom, phantom
from membrane_nb.volume import open_volume
from scipy.ndimage import label


def ball(size, at, radius):
    grid = np.indices((size,) * 3, np.float32)
    return np.abs(np.sqrt(sum((axis - a)**2 for axis, a in zip(grid, at))) - radius) <= 2.2


def sheets(*places, size=40):
    "Flat membranes across y."
    msk = np.zeros((size,) * 3, bool)
    for y in places: msk[:, y:y + 4] = True
    return msk


def test_a_vesicle_that_touches_is_apart_in_tiles_too(monkeypatch):
    msk = ball(48, (24, 20, 24), 12)
    msk[:, 32:37] = True
    whole = NumberedMembranes(msk, 10.)
    assert whole.dtype == np.int8 and label(msk)[1] == 1 and [row['number'] for row in whole.table] == [1, 2]
    assert ((whole[:] > 0) == msk).all() and whole[24][34, 2] == 1 and whole[24][8, 24] == 2
    assert sum(row['voxels'] for row in whole.table) == msk.sum()
    row = whole.table[1]
    assert (row['z_first'], row['z_last']) == (10, 38) and abs(row['area_nm2'] / (4 * np.pi * 144) - 1) < .1
    monkeypatch.setattr(instances, '_TILE', (30, 48, 26))
    tiled = NumberedMembranes(msk, 10.)
    assert (tiled[:] == whole[:]).all() and tiled.table == whole.table


def test_a_bridge_joins_nothing():
    msk = sheets(10, 22)
    msk[18:22, 10:26, 18:22] = True
    found = NumberedMembranes(msk, 10.)[:]
    assert label(msk)[1] == 1 and found.max() == 2
    assert len(np.unique(found[:, 10:14])) == len(np.unique(found[:, 22:26])) == 1


@pytest.mark.parametrize('radius', [8, 12, 16])
def test_one_membrane_stays_whole(radius):
    assert NumberedMembranes(ball(48, (24, 24, 24), radius), 10.)[:].max() == 1


def test_nothing_and_no_voxel_size():
    empty = NumberedMembranes(np.zeros((4, 20, 20), np.int8), 10.)
    assert empty.table == [] and not empty[:].any()
    with pytest.raises(InputError, match='voxel size of the mask is not known'): NumberedMembranes(np.ones((4, 4, 4)), 0.)


def test_the_numbers_of_a_phantom_are_its_mask():
    "And they take no random number from it."
    for seed, kinds in ((1, ('thylakoid',)), (3, None)):
        _, msk, _ = phantom((12, 64, 64), seed, cell=dict(kinds=kinds))
        truth = number_phantom((12, 64, 64), seed, kinds=kinds)
        assert ((truth > 0) == msk).all() and truth.dtype == np.uint16
    thick = number_phantom((12, 64, 64), 1, kinds=('thylakoid',), thickness=6.)
    thin = number_phantom((12, 64, 64), 1, kinds=('thylakoid',))
    assert (thick[thin > 0] == thin[thin > 0]).all() and (thick > 0).sum() > (thin > 0).sum()


def test_scores():
    truth = np.repeat([1, 2, 0], 100).reshape(3, 10, 10)
    assert compare_numbers(truth, 3 - truth) == dict(adapted_rand_error=0., whole=1.)
    joined = compare_numbers(truth, (truth > 0).astype(int))
    assert joined['whole'] == 0 and joined['adapted_rand_error'] == pytest.approx(1/3, abs=.01)
    assert compare_numbers(truth, np.where(truth == 1, 1, 0))['whole'] == .5


def test_as_a_file(tmp_path):
    msk = sheets(10, 22).astype(np.int8)
    write_mrc(tmp_path/'mask.mrc', msk, 8.)
    mask = open_volume(tmp_path/'mask.mrc')
    write_mrc(tmp_path/'instances.mrc', NumberedMembranes(mask, mask.pixel, tmp_path), like=mask)
    back = open_volume(tmp_path/'instances.mrc')
    assert back.dtype == np.int8 and back.pixel == 8 and set(np.unique(back[:])) == {0, 1, 2}


PEAK = """
import sys
from bench import peak
from membrane_nb.instances import NumberedMembranes
from membrane_nb.volume import open_volume
found = NumberedMembranes(open_volume(sys.argv[1]), 10., sys.argv[2])
print(len(found.table), 1024 * peak())
"""

def test_memory_does_not_grow_with_the_slices(tmp_path):
    "Two masks of 256 x 256, with membrane in 20 slices; one has 300 slices more, which as numbers would be 79 MB."
    row = np.int8(np.abs(np.arange(256) % 128 - 64) < 2)[:, None] * np.ones(256, np.int8)
    def megabytes(depth):
        with new_mrc(tmp_path/f'{depth}.mrc', (depth, 256, 256), np.int8, 10.) as out:
            for z in range(depth): out[z] = row if z < 20 else 0
        words = [sys.executable, '-c', PEAK, tmp_path/f'{depth}.mrc', tmp_path]
        done = subprocess.run(list(map(str, words)), cwd=ROOT/'benchmarks', capture_output=True, text=True, check=True)
        many, peak = done.stdout.split()
        assert many == '2'
        return float(peak)
    assert megabytes(400) < megabytes(100) + 20
