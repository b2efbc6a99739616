"Every voxel: any shape, edges by mirroring, tiles that give what the whole slice gives."
import numpy as np
import pytest
import torch
from torch import nn
from membrane_nb.grey import measure_scale
from membrane_nb.stream import Mirrored, predict_volume
from membrane_nb.unet import Tiled, UNet, fuse_batchnorm, predict_slice


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
    assert list(predict_volume(vol, measure_scale(vol), Tiled(net, 128), prob)) == list(range(shape[0]))
    assert ((0 <= prob) & (prob <= 1)).all()


@pytest.fixture(scope='module')
def loud():
    "A network in double precision whose weights let far pixels be heard."
    torch.manual_seed(0)
    net = UNet(3, 4, norm='none').double().eval()
    for p in net.parameters(): nn.init.kaiming_uniform_(p) if p.ndim > 1 else nn.init.zeros_(p)
    return net


@pytest.mark.parametrize('tile, y, x', [(64, 261, 397), (16, 131, 257), (128, 131, 257), (512, 17, 300), (16, 1, 5)])
def test_tiles_equal_the_whole_slice(loud, tile, y, x):
    "Shapes that fit no grid, tiles smaller and larger than the slice: to rounding, to the edge."
    slab = np.random.default_rng(0).normal(size=(3, y, x))
    assert torch.allclose(predict_slice(Tiled(loud, tile), slab), predict_slice(loud, slab), atol=1e-10, rtol=0)
