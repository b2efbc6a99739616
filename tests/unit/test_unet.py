"The network: shapes for every option, tiles that equal whole slices, the reach, and the network of the original scripts."
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from conftest import ROOT
from membrane_nb.checks import InputError
from membrane_nb.devices import pick_device
from membrane_nb.unet import Block, Tiled, UNet, _auto_tile, fuse_batchnorm, halo, predict_slice
from membrane_nb.weights import load_unet


@pytest.mark.parametrize('norm', ['none', 'batch', 'group'])
def test_block(norm):
    assert Block(7, 16, norm)(torch.randn(2, 7, 32, 48)).shape == (2, 16, 32, 48)
    assert Block(1, 16, norm, dims=3)(torch.randn(2, 1, 7, 32, 48)).shape == (2, 16, 7, 32, 48)


def test_block_of_no_norm():
    with pytest.raises(InputError, match='wanted none, batch or group'): Block(7, 16, 'layer')


@pytest.mark.parametrize('k, depth', [(1, 2), (5, 3), (7, 4)])
def test_logits_of_every_shape(k, depth):
    assert UNet(k, 8, depth)(torch.randn(1, k, 32, 48)).shape == (1, 1, 32, 48)


@pytest.mark.parametrize('given', [dict(k=4), dict(base=0), dict(base=1025), dict(depth=9), dict(dims=4), dict(norm='group', base=12), dict(norm='layer')])
def test_networks_that_could_not_work(given):
    with pytest.raises(InputError, match='wanted'): UNet(**given)


@pytest.mark.parametrize('dims', [2, 3])
def test_every_slice_is_heard(dims):
    torch.manual_seed(0)
    net, slab = UNet(7, 8, 3, dims=dims).eval(), torch.randn(1, 7, 32, 48)
    want = net(slab)
    assert want.shape == (1, 1, 32, 48)
    for z in range(7):
        other = slab.clone()
        other[:, z] += 1
        assert (net(other) - want).abs().max() > 1e-5


def test_slices_are_never_halved():
    net = UNet(7, 8, 3, dims=3)
    assert {p.shape[2:] for name, p in net.named_parameters() if 'up' in name and p.ndim == 5} == {(1, 2, 2)}


def test_diagram_shows_channels_and_pixels():
    "The drawing of the page is that of the network."
    words = set(re.findall('>([^<>]+)</text>', (ROOT/'docs'/'unet.svg').read_text()))
    shapes = []
    net = UNet()
    for block in net.modules():
        if isinstance(block, Block): block.register_forward_hook(lambda _, x, out: shapes.append(out.shape[1:]))
    with torch.no_grad(): net(torch.zeros(1, 7, 256, 256))
    channels, pixels = {str(s[0]) for s in shapes}, {f'{s[1]} x {s[2]}' for s in shapes}
    assert {'32', '64', '128', '256', '512'} == channels <= words
    assert {'256 x 256', '16 x 16'} <= pixels <= words and f'{net.k} slices' in words


@pytest.mark.parametrize('y, x', [(1, 1), (5, 40), (131, 257)])
def test_a_slice_of_any_size(y, x):
    slab = np.random.default_rng(0).normal(size=(3, y, x)).astype(np.float32)
    assert predict_slice(UNet(k=3, base=4).eval(), slab).shape == (y, x)


@pytest.mark.parametrize('depth', [1, 2, 3, 4])
def test_halo_is_the_reach_rounded_up(depth):
    "Weights are all positive, so that nothing cancels."
    net = UNet(1, 1, depth, 'none').double()
    for p in net.parameters(): p.data.fill_(.1)
    n = 2 * halo(depth) + 2**(depth + 1)
    x = torch.ones(1, 1, n, n, dtype=torch.double, requires_grad=True)
    net(x)[0, 0, n//2, n//2].backward()
    reach = n//2 - int(x.grad[0, 0].abs().sum(0).nonzero().min())
    assert 0 <= halo(depth) - reach < 2**depth


@pytest.mark.parametrize('dims', [2, 3])
def test_merged_normalisations(dims):
    torch.manual_seed(0)
    net = UNet(3, 8, dims=dims).train()
    for _ in range(3): net(torch.randn(4, 3, 64, 64))
    x = torch.randn(1, 3, 64, 64)
    before = sum(p.numel() for p in net.parameters())
    with torch.no_grad():
        want = net.eval()(x)
        got = fuse_batchnorm(net)(x)
    assert torch.allclose(got, want, atol=1e-4)
    assert sum(p.numel() for p in net.parameters()) < before


@pytest.fixture(scope='module')
def loud():
    "A network in double precision whose weights let far pixels be heard."
    torch.manual_seed(0)
    net = UNet(3, 4, norm='none').double().eval()
    for p in net.parameters(): nn.init.kaiming_uniform_(p) if p.ndim > 1 else nn.init.zeros_(p)
    return net


@pytest.mark.parametrize('tile', [0, -16, 24])
def test_tiles_off_the_grid(loud, tile):
    with pytest.raises(InputError, match='wanted a multiple of 16'): Tiled(loud, tile)


def test_largest_tile():
    with torch.device('meta'): nets = [UNet(base=8), UNet(base=32), UNet(base=1024), UNet(3, 8, 8)]
    assert [_auto_tile(net, (9, 4096, 4096)) for net in nets] == [2080, 944, 64, 256]
    with torch.device('meta'): nets = [UNet(dims=3), UNet(norm='group')]
    assert _auto_tile(nets[0], (4096, 4096)) > 0 and _auto_tile(nets[1], (4096, 4096)) == 0


def test_the_network_of_the_original_scripts(tmp_path):
    "A plain state dict loads, and gives the logits of that network, spelt out by its operations from the tensors alone."
    torch.manual_seed(0)
    old = UNet(7, 32, norm='none').state_dict()
    torch.save(old, tmp_path/'best_weights.pt')
    def conv(x, name): return F.relu(F.conv2d(x, old[name + '.weight'], old[name + '.bias'], padding=1))
    def block(x, name): return conv(conv(x, name + '.net.0'), name + '.net.2')
    def up(x, name): return F.conv_transpose2d(x, old[name + '.weight'], old[name + '.bias'], stride=2)
    slab = torch.randn(1, 7, 64, 48)
    x, skips = slab, []
    for i in (1, 2, 3, 4):
        skips.append(block(x, f'enc{i}'))
        x = F.max_pool2d(skips[-1], 2)
    x = block(x, 'bottleneck')
    for i in (4, 3, 2, 1): x = block(torch.cat([skips.pop(), up(x, f'up{i}')], 1), f'dec{i}')
    want = F.conv2d(x, old['out.weight'], old['out.bias'])
    with torch.no_grad(): assert torch.allclose(load_unet(tmp_path/'best_weights.pt')(slab), want, atol=1e-5)


@pytest.mark.parametrize('name, said', [*((n, 'not known') for n in ('abacus', 'meta', 'hpu', '', 'cuda:x')), ('cuda:99', 'not on this machine')])
def test_devices(name, said):
    with pytest.raises(InputError, match=said): pick_device(name)
