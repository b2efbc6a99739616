"Segmentation: sweeps of what 04_infer shows once."
import numpy as np
import pytest
import torch
from scipy.ndimage import label

from membrane_nb.checks import InputError
from membrane_nb.grey import measure_scale
from membrane_nb.infer import Mirrored, fewest_voxels, open_job, remove_small, segment
from membrane_nb.unet import Tiled, UNet, fuse_batchnorm, predict_slice
from membrane_nb.volume import open_volume, write_mrc


@pytest.fixture(scope='module')
def net():
    torch.manual_seed(0)
    return fuse_batchnorm(UNet(3, 8))


@pytest.mark.parametrize('flip', [(0,), (1,), (2,), (0, 1, 2)])
def test_a_mirror_image_gets_the_mirrored_answer(net, flip):
    slab = np.random.default_rng(0).normal(size=(3, 128, 128)).astype(np.float32)
    expected = predict_slice(Mirrored(net), slab).flip([axis - 1 for axis in flip if axis])
    assert torch.allclose(predict_slice(Mirrored(net), np.flip(slab, flip).copy()), expected, atol=1e-4)


@pytest.mark.parametrize('shape', [(13, 131, 257), (1, 40, 33), (2, 7, 90), (5, 16, 16)])
def test_every_voxel_of_any_shape(net, shape):
    vol = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    prob = np.full(shape, -9, np.float32)
    assert list(segment(vol, measure_scale(vol), Tiled(net, 128), prob)) == list(range(shape[0]))
    assert ((0 <= prob) & (prob <= 1)).all()


def test_small_pieces():
    "The same as scipy's 3D pieces, with edges and corners within a slice and faces between slices."
    noise = np.random.default_rng(1).random((9, 40, 50)) < .22
    cross = np.zeros((3, 3, 3), bool)
    cross[1] = cross[:, 1, 1] = True
    lab, _ = label(noise, cross)
    for size in (1, 4, 30):
        got = noise.astype(np.int8)
        remove_small(got, size)
        assert (got == (noise & (np.bincount(lab.ravel())[lab] >= size))).all()
    empty = np.zeros((2, 5, 5), np.int8)
    remove_small(empty, 9)
    assert not empty.any()
    assert [fewest_voxels(1600., pixel, 100) for pixel in (10., 20., 5.)] == [1600, 200, 12800]


def test_what_is_refused(volumes, tmp_path):
    fine = dict(tomo=volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'new', device='cpu')
    open_job(**(fine | dict(output=tmp_path/'out'))).run(pictures=False)
    for bad, said in (
        (dict(tomo='none.mrc'), 'no such file'), (dict(tile=100), 'a multiple of 16'), (dict(threshold=2.), 'parameter threshold'),
        (dict(min_size=-1.), 'parameter min_size'), (dict(device='abacus'), 'device'), (dict(output=volumes/'tomo.mrc'), 'is a file'),
        (dict(output=tmp_path/'out'), 'is there already'), (dict(output=tmp_path), 'and no list of files of ours'),
    ):
        with pytest.raises(InputError, match=said): open_job(**(fine | bad))


def test_a_bright_tomogram_gets_the_same_answer(volumes, tmp_path):
    dark = open_job(volumes/'tomo.mrc', volumes/'weights.pt', tmp_path/'dark', device='cpu')
    write_mrc(tmp_path/'bright.mrc', -open_volume(volumes/'tomo.mrc')[:], 10.)
    bright = open_job(tmp_path/'bright.mrc', volumes/'weights.pt', tmp_path/'bright', device='cpu')
    prob = [open_volume(job.run(pictures=False)/'prob.mrc')[:] for job in (dark, bright)]
    assert np.abs(prob[0] - prob[1]).max() < 1e-4 and 'taken as bright' in bright.notes[0]
