"S5 and S15: blank space is found for what it is, takes no part in grey values, and holds no membrane."
import json

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, gaussian_filter, rotate

from membrane_nb.data import Tomo
from membrane_nb.blank import Blank, find_blank, widened
from membrane_nb.grey import measure_scale
from membrane_nb.infer import open_job
from membrane_nb.plain import phantom, random_phantom
from membrane_nb.raw import raw_phantom
from membrane_nb.sampler import Patches, crop
from membrane_nb.fit import evaluate
from membrane_nb.weights import load_unet, pretrained
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import Resampled, open_volume

WIDE = 28 # voxels of a rim


@pytest.fixture(scope='module')
def cell():
    "A phantom with grey values around 1000, and its mask."
    vol, msk, _ = phantom((16, 160, 160), seed=99)
    return np.float32(1000 + 100 * vol), msk


def in_box(cell, fill, deep=0):
    "A phantom in a box, filled by a number or by a mode of np.pad; where its data are; the mask."
    vol, msk = cell
    wide = (deep, deep), (WIDE, WIDE), (WIDE, WIDE)
    there = np.pad(np.ones(vol.shape, bool), wide)
    how = dict(mode=fill) if isinstance(fill, str) else dict(constant_values=fill)
    return np.pad(vol, wide, **how), there, np.pad(msk, wide)

def two_values(cell, a, b):
    vol, there, msk = in_box(cell, a)
    right = np.arange(vol.shape[2]) > vol.shape[2] // 2
    vol[~there & right] = b
    return vol, there, msk

def with_ramp(cell, fill, deep=0):
    "Three voxels lead from the data to the filling."
    vol, there, msk = in_box(cell, 'edge', deep)
    share = np.clip(1 - distance_transform_edt(~there) / 4, 0, 1)
    return np.float32(share * vol + (1 - share) * fill), there, msk

def with_noise(cell, fill, part):
    vol, there, msk = in_box(cell, fill)
    noise = np.random.default_rng(0).normal(size=vol.shape) * part * cell[0].std()
    return np.float32(np.where(there, vol, vol + noise)), there, msk

def turned(cell, fill, order=1):
    "A tilted field of view."
    vol, there, msk = in_box(cell, fill)
    turn = lambda img, value, order: rotate(img, 8, (1, 2), reshape=False, order=order, cval=value)
    return turn(vol, fill, order), turn(np.float32(there), 0, 1) > .999, turn(np.float32(msk), 0, 1) > .5

def one_side(cell):
    vol, there, msk = in_box(cell, 0.)
    return tuple(a[:, WIDE:-WIDE, WIDE:] for a in (vol, there, msk))

def means_of_slices(cell):
    "Each slice is filled with its own mean, as IMOD does."
    vol, there, msk = in_box(cell, 0.)
    return np.where(there, vol, cell[0].mean(axis=(1, 2), keepdims=True)), there, msk

CASES = dict(
    one=lambda c: in_box(c, 0.), mean=lambda c: in_box(c, 1000.), means=means_of_slices, nan=lambda c: in_box(c, np.nan),
    two=lambda c: two_values(c, 0., -500.), two_near=lambda c: two_values(c, 1000., 990.),
    ramp=lambda c: with_ramp(c, 0.), ramp_to_mean=lambda c: with_ramp(c, 1000.),
    noise=lambda c: with_noise(c, 0., .01), more_noise=lambda c: with_noise(c, 1000., .05), loud_noise=lambda c: with_noise(c, -50., .5),
    edges=lambda c: in_box(c, 'edge'), long_ramp=lambda c: in_box(c, 'linear_ramp'), one_side=one_side,
    ends=lambda c: in_box(c, 0., 6), repeated_ends=lambda c: in_box(c, 'edge', 6), ramp_at_ends=lambda c: with_ramp(c, 0., 6),
    turned=lambda c: turned(c, 0.), turned_mean=lambda c: turned(c, 1000.), turned_cubic=lambda c: turned(c, 0., 3),
)

def as_type(vol, kind):
    "As whole numbers."
    if kind == 'float32': return vol
    limits = np.iinfo(kind)
    step = 20 if kind.endswith('int8') else 300
    grey = (np.nan_to_num(vol) - 1000) * (step / 10) + (limits.min + limits.max + 1) / 2
    return np.rint(grey).clip(limits.min, limits.max).astype(kind)

def far(there, reach=4.5):
    "The data that lie deeper than some voxels."
    return distance_transform_edt(np.pad(there, 9, mode='edge'))[9:-9, 9:-9, 9:-9] > reach


KINDS_OF_RIM = 'one', 'two', 'ramp', 'edges', 'turned', 'noise', 'nan'

@pytest.mark.parametrize('case', CASES)
def test_blank_space_is_found_for_what_it_is(cell, case):
    "One case of each kind of rim as whole numbers too: all of it or what lies within two voxels; hardly anything else; the scale is that of the data."
    floats, there, _ = CASES[case](cell)
    deep, deeper = far(there), far(there, 6.5)
    for kind in ('float32', 'int16', 'uint8') if case in KINDS_OF_RIM else ('float32',):
        vol = as_type(floats, kind)
        scale = measure_scale(vol)
        blank = find_blank(vol)
        assert blank.near[:][~there].mean() > .999, kind
        assert blank[:][deep].mean() < .002 and blank.near[:][deeper].mean() < .001, kind
        inside = np.quantile(vol[deeper], [.5, .05, .95])
        assert np.abs(np.array([scale.median, scale.p5, scale.p95]) - inside).max() < .06 * (inside[2] - inside[1]) + (kind != 'float32'), kind
        assert all((scale.slice(vol, z)[blank[z]] == 0).all() for z in range(len(vol))), kind


@pytest.mark.parametrize('case', KINDS_OF_RIM)
def test_blank_space_of_a_single_slice(cell, case):
    vol, there, _ = CASES[case](cell)
    blank = find_blank(vol[8:9])
    assert blank.near[0][~there[8]].mean() > .999 and blank[0][far(there)[8]].mean() < .003


def found(vol, folder):
    "The mask and the probabilities of a volume, by the weights that ship."
    folder.mkdir()
    job = open_job(write_mrc(folder/'tomo.mrc', vol, 10.).path, output=folder/'out', contrast='dark').run(pictures=False)
    assert open_volume(job/'mask.mrc').shape == vol.shape
    return open_volume(job/'mask.mrc')[:] > 0, open_volume(job/'prob.mrc')[:]


@pytest.fixture(scope='module')
def without_rim(cell, tmp_path_factory):
    "The mask of the phantom alone."
    return found(cell[0], tmp_path_factory.mktemp('plain')/'plain')[0]


@pytest.mark.parametrize('case', ['one', 'two', 'ramp', 'noise', 'edges', 'repeated_ends', 'turned', 'nan'])
def test_the_mask_inside_is_that_without_a_rim(cell, without_rim, case, tmp_path):
    "S5: Dice inside; no membrane in blank space nor within two voxels of it."
    vol, there, truth = CASES[case](cell)
    deep, inside = far(there, 2), far(there, 6) # near a rim the network sees less around a voxel
    msk, prob = found(vol, tmp_path/'rim')
    if case == 'turned': without, _ = found(rotate(np.pad(cell[0], ((0, 0), (WIDE, WIDE), (WIDE, WIDE)), mode='reflect'), 8, (1, 2), reshape=False, order=1), tmp_path/'turned')
    else: without = np.pad(without_rim, [((a - b) // 2,) * 2 for a, b in zip(vol.shape, cell[0].shape)])
    dice = lambda a, part: 2 * (a & (truth > 0) & part).sum() / ((a & part).sum() + ((truth > 0) & part).sum())
    assert dice(msk, inside) > .97 * dice(without, inside) > .8
    assert dice(msk, deep) > .9 * dice(without, deep)
    assert not msk[~deep].any() and not prob[~deep].any()


@pytest.mark.parametrize('case, format', [('one', 'mrc'), ('edges', 'zarr'), ('ramp', 'mrc')])
def test_no_value_bleeds_through_resampling(cell, case, format, tmp_path):
    "S5: voxels of 20 Å, shown to the network at 10 and brought back."
    vol, there, truth = CASES[case](cell)
    halves = lambda a: a.reshape(a.shape[0] // 2, 2, a.shape[1] // 2, 2, a.shape[2] // 2, 2)
    vol, there = np.float32(halves(vol).mean((1, 3, 5))), halves(there).all((1, 3, 5))
    job = open_job(write_mrc(tmp_path/'t.mrc', vol, 20.).path, output=tmp_path/'out', contrast='dark', format=format, zoom=2.)
    assert job.tomo.resampled.shape == tuple(2 * n for n in vol.shape)
    folder = job.run(pictures=False)
    msk = open_volume(folder/job.file('mask'))[:] > 0
    assert msk.any() and not msk[~far(there, 2)].any()
    assert any('blank space' in note for note in json.loads((folder/'segmentation.json').read_text())['notes'])


@pytest.mark.parametrize('shape', [(16, 96, 96), (31, 200, 150), (9, 60, 70)])
def test_resampled_data_do_not_depend_on_what_is_blank(shape):
    rng = np.random.default_rng(0)
    vol = rng.normal(size=(16, 96, 96)).astype(np.float32)
    img = np.zeros((96, 96), bool)
    img[:, :20] = True
    blank = Blank(vol.shape, [img] * 14 + [np.ones_like(img)] * 2)
    held = blank[:]
    a = Resampled(np.where(held, -1e4, vol), shape, blank)
    b = Resampled(np.where(held, np.nan, vol), shape, blank)
    there = ~np.stack([a.blank_at(z) for z in range(shape[0])])
    assert .6 < there.mean() < .75 and np.allclose(a[:][there], b[:][there], atol=1e-4) and np.abs(a[:]).max() < 6
    plain, seen = Resampled(vol, shape)[:], a[:]
    deep = distance_transform_edt(there) > 3
    assert np.allclose(seen[deep], plain[deep], atol=1e-5) and (Resampled(vol, shape, None)[:] == plain).all()


@pytest.mark.parametrize('kind', ['phantom', 'random', 'raw', 'int8', 'few levels', 'smooth', 'smooth in z', 'repeated slice', 'fine in z', 'noise-free'])
@pytest.mark.parametrize('seed', [3, 4, 5])
def test_no_false_alarm(kind, seed):
    "Data without a rim have no blank space, be they quiet, coarse, smooth, or free of noise."
    shape = 12, 128, 128
    make = dict(random=random_phantom, raw=raw_phantom)
    vol = make[kind](seed, shape)[0] if kind in make else phantom(shape, seed)[0]
    if kind == 'int8': vol = (20 * vol / vol.std()).clip(-128, 127).astype(np.int8)
    if kind == 'few levels': vol = np.rint(vol / vol.std()).clip(-2, 2).astype(np.int8)
    if kind == 'smooth': vol = gaussian_filter(vol, 2)
    if kind == 'smooth in z': vol = gaussian_filter(vol, (3, 0, 0))
    if kind == 'repeated slice': vol = np.repeat(vol[6:7], 7, axis=0)
    if kind == 'fine in z': vol = np.repeat(vol, 2, axis=0)
    if kind == 'noise-free': vol = np.where(phantom(shape, seed)[1] > 0, -1, 0).astype(np.float32) + gaussian_filter(np.float32(phantom(shape, seed)[1]), 1)
    assert not find_blank(vol) and not measure_scale(vol).blank


def test_real_pictures(shared):
    "The black corners of some, and no blank space in others."
    real = np.load(shared/'real_slices.npz')
    share = {name[:-6]: find_blank(real[name][None]).share for name in real.files if name.endswith('_image')}
    assert all(share[name] > .008 for name in ('organelles', 'bacterium', 'yeast_raw', 'nuclear_envelope', 'microtubule_lamella'))
    assert not any(share[name] for name in ('ring', 'golgi', 'er', 'synapse_sirt', 'synapse_isonet', 'cell_edge_raw', 'diatom_a', 'bacterial_edge'))
    hand = np.load(shared/'hand_drawn_slices.npz')['images']
    assert np.mean([find_blank(img[None]).share for img in hand]) < .001


def test_a_bright_tomogram_off_the_centre_of_a_large_box(cell, tmp_path):
    "S15: votes are counted where the data are."
    vol = np.zeros((8, 880, 880), np.float32) # 512 voxels in its middle hold no data
    vol[:, 10:170, 10:170] = 2000 - cell[0][4:12]
    job = open_job(write_mrc(tmp_path/'t.mrc', vol, 10.).path, output=tmp_path/'out')
    assert job.tomo.scale.sign == -1 and job.tomo.scale.skew > .3
    msk = open_volume(job.run(pictures=False)/'mask.mrc')[:, 10:170, 10:170] > 0
    truth = cell[1][4:12] > 0
    assert 2 * (msk & truth).sum() / (msk.sum() + truth.sum()) > .85


def test_skewness_is_asked_where_no_vote_says_anything(cell, tmp_path):
    "S15: a threshold that nothing reaches."
    path = write_mrc(tmp_path/'t.mrc', 2000 - cell[0], 10.).path
    job = open_job(path, output=tmp_path/'out', threshold=.999999)
    assert job.tomo.scale.sign == -1 and any('so skewness' in note for note in job.notes)


def test_nothing_is_learnt_from_blank_space(cell):
    "Grey values are 0 there; the mask of a patch says: not annotated; validation counts no membrane there."
    vol, there, msk = CASES['edges'](cell)
    msk[~there] = 1 # an annotation that leaks over the edge
    tomo = Tomo(vol, msk)
    patches = Patches([(tomo, range(16))], n=4, size=216, augment='none')
    img, label = patches[0]
    _, _, z, y, x = patches.where(0)
    assert {int(v) for v in np.unique(label)} == {0, 1, 2} and 0 < float((label == 2).float().mean()) < .6
    held = crop(tomo.blank, z, y, x, 7, 216)
    assert held.any() and not img.numpy()[held].any()
    _, counts = evaluate(load_unet(pretrained()), [(tomo, range(8, 9))])
    leaked = np.count_nonzero((msk[8] == 1) & tomo.blank.near[8])
    assert leaked and counts[1, 0] >= leaked, 'membrane was found in blank space'
    slab = tomo.slab(8, 7)
    assert not slab[:, tomo.blank[8]].any()


def test_it_is_said_once_and_kept(cell):
    notes = Tomo(CASES['two'](cell)[0], name='t.mrc').notes
    assert [n for n in notes if 'blank' in n] == ['t.mrc: 45 % of its voxels are blank space; no membrane is looked for there, nor within two voxels of it']
    assert not any('blank' in note for note in Tomo(cell[0]).notes)


def test_blank_space_is_read_like_a_volume(cell):
    img = np.random.default_rng(0).random((30, 41)) > .5
    blank = widened(Blank((3, 30, 41), [None, img, None]))
    held = np.stack([0 * img, img, 0 * img])
    assert (blank[:] == held).all() and (blank[1:, 3:9, ::2] == held[1:, 3:9, ::2]).all() and blank[0:0].shape == (0, 30, 41)
    assert blank.share == held.mean() and blank and not Blank((3, 30, 41))
    assert blank.near[0].all() == blank.near[2].all() and len(list(blank)) == 3
