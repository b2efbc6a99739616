"Sign, voxel size, scale and the meaning of mask values are decided in one place, on what the network sees, and said."
import json

import mrcfile
import numpy as np
import pytest
import torch
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.grey import measure_scale, skewness
from membrane_nb.mask import Mask
from membrane_nb.store import fingerprint
from membrane_nb.infer import open_job
from membrane_nb.plain import phantom, random_phantom
from membrane_nb.unet import UNet
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume


@pytest.fixture(scope='module')
def cell():
    return phantom((24, 96, 80), seed=3)


def test_bright_tomograms_that_are_resampled(cell, tmp_path):
    "S10: the sentence about the sign, and the sign, are one decision, on what the network sees."
    vol, msk, _ = cell
    for step, pixel in ((1, 10.), (2, 20.)):
        part = np.ascontiguousarray(vol[::step, ::step, ::step])
        for sign in (1, -1):
            write_mrc(tmp_path/'t.mrc', sign * part, pixel)
            job = open_job(tmp_path/'t.mrc', output=tmp_path/f'{step}{sign}', device='cpu')
            turned = any('its sign is turned' in n for n in job.notes)
            assert turned == (job.tomo.scale.sign == -1) == (sign == -1)
        dark, bright = (Tomo(s * part, pixel=pixel, wanted=10.) for s in (1, -1))
        assert np.allclose(dark.scale(dark.resampled[3]), bright.scale(bright.resampled[3]), atol=1e-4)


@pytest.mark.parametrize('seed', range(12))
def test_the_sign_of_resampled_phantoms(seed):
    "S10: inverted phantoms of every kind, given at twice the voxel size: the same decision as for themselves, turned."
    vol, msk, pixel = random_phantom(seed, (16, 96, 96))
    dark = Tomo(vol, pixel=2 * pixel, wanted=pixel, density='dark')
    bright = Tomo(-vol, pixel=2 * pixel, wanted=pixel, density='bright')
    assert (dark.scale.sign, bright.scale.sign) == (1, -1)
    assert np.allclose(dark.scale(dark.resampled[5]), bright.scale(bright.resampled[5]), atol=1e-3)
    auto = Tomo(-vol, pixel=2 * pixel, wanted=pixel)
    assert (auto.scale.sign == -1) == (auto.scale.skew > .3) == any('its sign is turned' in n for n in auto.notes)


def test_density_says_what_the_skewness_does_not(cell):
    "S11: small scales are measured like any other; where the skewness is small, density decides."
    vol = cell[0]
    assert abs(skewness(1e-15 * vol, measure_scale(1e-15 * vol)) - skewness(vol, measure_scale(vol))) < 1e-3
    noise = np.random.default_rng(0).normal(size=(9, 64, 64)).astype(np.float32)
    assert [measure_scale(noise, density=d).sign for d in ('auto', 'dark', 'bright')] == [1, 1, -1]


def test_filler_is_background(cell):
    "S13: 7 % of the voxels are -32768."
    vol = (1000 * cell[0]).astype(np.int16)
    filled = vol.copy()
    filled[:, :7] = -32768
    tomo = Tomo(filled, name='t.mrc')
    assert all(tomo.blank[z][:7].all() and not tomo.scale.slice(filled, z)[:7].any() for z in range(len(filled)))
    assert any('7.3 % of its voxels are blank space' in n for n in tomo.notes)
    assert abs(tomo.scale.p5 - measure_scale(vol[:, 9:]).p5) < 1 # two voxels beside it do not count either
    assert not measure_scale(vol).blank


def test_odd_headers_are_said(cell, tmp_path):
    "S13: unsigned bytes under mode 0, axes 0, 0, 0, more bytes than the header says, sides that differ by less than 1 %."
    vol = cell[0]
    bytes_ = np.clip(128 + 30 * vol, 0, 255).astype(np.uint8)
    write_mrc(tmp_path/'u.mrc', bytes_.view(np.int8), 10.)
    u = open_volume(tmp_path/'u.mrc')
    assert (u[:] == bytes_).all() and 'look unsigned' in u.notes[0]
    assert open_volume(write_mrc(tmp_path/'s.mrc', np.clip(30 * vol, -128, 127).astype(np.int8), 10.).path).notes == []
    raw = write_mrc(tmp_path/'t.mrc', vol, 10.).path.read_bytes()
    (tmp_path/'long.mrc').write_bytes(raw + raw)
    assert 'is longer than its header says' in open_volume(tmp_path/'long.mrc').notes[0]
    (tmp_path/'axes.mrc').write_bytes(raw[:64] + bytes(12) + raw[76:])
    assert 'does not say the order of its axes' in open_volume(tmp_path/'axes.mrc').notes[0]
    with mrcfile.mmap(tmp_path/'t.mrc', 'r+') as f: f.header.cella.z = 10.05 * 24
    t = open_volume(tmp_path/'t.mrc')
    assert t.pixel == 10 and 'its voxels are 10 x 10 x 10.05 Å; taken as 10.0 Å' in t.notes[0]
    assert any('10.05' in n for n in Tomo.open(tmp_path/'t.mrc').notes)


def test_masks_are_made_binary(cell, tmp_path):
    "S14 and the contract: any whole numbers; classes 1 and 2 are both membrane unless 0, 1 and 2 are all there, and it is said."
    vol, msk, _ = cell
    instances = np.arange(1, 25, dtype=np.int16)[:, None, None] * msk
    for other in (msk.astype(bool), 255 * msk, 7 * msk.astype(np.int16), msk.astype(np.float32), instances, 1000 * instances.astype(np.uint16)):
        if other.dtype != bool: other = open_volume(write_mrc(tmp_path/'m.mrc', other).path)[:]
        assert (Tomo(vol, other).msk[:] == msk).all()
    classes = msk.copy()
    classes[12:] *= 2
    auto, none, one = (Tomo(vol, classes, ignore=i) for i in ('auto', 'none', '1'))
    assert [(t.msk[:] == 1).sum() for t in (auto, none, one)] == [(classes == 1).sum(), (classes > 0).sum(), (classes == 2).sum()]
    assert '2 is not annotated' in auto.notes[-1] and '1 and 2 are membrane' in none.notes[-1]
    assert (Mask(msk.astype(np.int8) - 1 + 2 * msk.astype(np.int8), '-1')[:] == np.where(msk == 1, 1, 2)).all()


def test_every_slice_is_read(cell):
    "S16: one slice of large values among many, and alternating slices, both move the quantiles as they should."
    rng = np.random.default_rng(0)
    vol = rng.normal(size=(64, 300, 300)).astype(np.float32)
    vol[1::2] *= 5
    scale = measure_scale(vol)
    exact = np.quantile(vol, [.5, .05, .95])
    assert abs(np.array([scale.median, scale.p5, scale.p95]) - exact).max() < .01 * (exact[2] - exact[1])


def test_small_pieces_in_nm(volumes, tmp_path):
    "S6: 1600 nm³ in the voxels of the tomogram, also without a card; without any voxel size it is said that nothing is removed."
    vol = open_volume(volumes/'tomo.mrc')[:]
    min_voxels = {}
    for pixel in (0., 5., 10., 40.):
        job = open_job(write_mrc(tmp_path/'t.mrc', vol, pixel).path, weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu')
        min_voxels[pixel] = job.min_voxels
    assert min_voxels == {0.: 0, 5.: round(1600 / .125 * 12 / 20), 10.: 1600, 40.: 25}
    job = open_job(write_mrc(tmp_path/'t.mrc', vol, 0.).path, weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu')
    assert any('no small piece is removed' in n for n in job.notes)


def test_header_statistics_of_a_large_mean(tmp_path):
    "S18"
    vol = (30000 + np.random.default_rng(0).normal(size=(8, 200, 200))).astype(np.float32)
    header = write_mrc(tmp_path/'t.mrc', vol).header
    assert abs(float(header.rms) / vol.astype(float).std() - 1) < 1e-5


def test_a_segmentation_says_where_it_came_from(volumes, tmp_path):
    job = open_job(volumes/'tomo.mrc', output=tmp_path/'out', device='cpu')
    job.run()
    record = json.loads((tmp_path/'out'/'segmentation.json').read_text())
    assert record['voxels'] == fingerprint(open_volume(volumes/'tomo.mrc')) and len(record['weights_sha256']) == 64
    assert record['threshold'] == job.threshold and record['notes'][0].startswith('tomo.mrc: membranes are taken as dark')
    assert {'engine', 'versions', 'seconds', 'scale', 'commit', 'min_size'} <= record.keys()


def test_group_norm_is_never_tiled(volumes, tmp_path):
    "S12"
    torch.save(UNet(7, 8, norm='group').state_dict(), tmp_path/'group.pt')
    with pytest.raises(InputError, match='group'): open_job(volumes/'tomo.mrc', weights=tmp_path/'group.pt', output=tmp_path/'out', device='cpu', tile=64)
    assert open_job(volumes/'tomo.mrc', weights=tmp_path/'group.pt', output=tmp_path/'out', device='cpu').record['tile'] == 0
