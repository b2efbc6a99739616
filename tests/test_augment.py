"Changes of a patch: mask and image are changed alike, one seed gives one patch, and shapes and types stay."
import numpy as np
import pytest
import torch

from membrane_nb.augment import augment_patch, random_affine, random_cutout, random_flip_rot90, random_spectrum
from membrane_nb.augment import _filter_patch, _patch_frequencies
from membrane_nb.data import Tomo
from membrane_nb.phantom import phantom


@pytest.fixture(scope='module')
def patch():
    "A scaled patch of seven slices and its mask."
    tomo = Tomo(*phantom((32, 128, 160), seed=2), 'phantom')
    return tomo.scale(tomo.vol[6:13, 30:94, 50:114]), tomo.msk[9, 30:94, 50:114]


def test_flips_keep_values_slices_and_mask_together(patch):
    img, _ = patch
    rng = np.random.default_rng(0)
    seen = {a.tobytes(): (a, b) for a, b in (random_flip_rot90(img, img[3], rng) for _ in range(300))}
    assert len(seen) == 16
    means = img.mean((1, 2))
    for a, b in seen.values():
        assert np.array_equal(a[3], b)
        assert np.array_equal(np.sort(a, None), np.sort(img, None))
        assert np.allclose(a.mean((1, 2)), means, atol=1e-5) or np.allclose(a.mean((1, 2)), means[::-1], atol=1e-5)


def test_affine_keeps_membrane_dark(patch):
    img, msk = patch
    contrast = lambda i, m: i[3][m == 1].mean() - i[3][m == 0].mean()
    a, b = random_affine(img, msk, np.random.default_rng(1))
    assert (a.shape, a.dtype, b.dtype) == (img.shape, np.float32, np.uint8)
    assert abs(contrast(a, b) - contrast(img, msk)) < .25 * abs(contrast(img, msk))


def pose(img):
    "Centre (y, x) in pixels, direction in degrees and area of a bright bar."
    at = np.argwhere(img > 0)
    weight = img[tuple(at.T)]
    y, x = np.linalg.eigh(np.cov(at.T, aweights=weight))[1][:, 1]
    return *np.average(at, axis=0, weights=weight), np.degrees(np.arctan(y / x)), weight.sum()


def test_affine_moves_image_and_mask_alike():
    "Direction and area of a bar differ as whole pixels differ from shares of them."
    bar = np.zeros((64, 64), np.uint8)
    bar[29:35, 17:47] = 1
    warps = [random_affine(bar[None].astype(np.float32), bar, np.random.default_rng(i)) for i in range(300)]
    poses = np.array([[pose(img[0]), pose(msk)] for img, msk in warps])
    apart = np.abs(poses[:, 0] - poses[:, 1]).max(0)
    assert (apart < [1e-3, 1e-3, 3, 36]).all(), apart


def test_spectrum_keeps_the_shape(patch):
    f = _patch_frequencies(patch[0].shape)
    assert _filter_patch(patch[0], random_spectrum(f, np.random.default_rng(3))).shape == patch[0].shape


def test_cutouts(patch):
    "A box is blank and not judged, or the middle slice and its mask stay."
    img, msk = patch
    kinds = set()
    for i in range(40):
        a, b = random_cutout(img, msk, np.random.default_rng(i))
        box = (b == 2) & (msk != 2)
        kinds.add(bool(box.any()))
        assert (a[:, box] == 0).all()
        if box.any(): assert np.array_equal(a[:, ~box], img[:, ~box])
        else: assert np.array_equal(a[3], img[3]) and np.array_equal(b, msk)
    assert kinds == {True, False}


def test_one_seed_one_patch(patch):
    img, msk = patch
    before = img.copy(), msk.copy()
    for i in range(24):
        a, b = augment_patch(img, msk, np.random.default_rng(i))
        c, d = augment_patch(img, msk, np.random.default_rng(i))
        assert np.array_equal(a, c) and np.array_equal(b, d)
        assert (a.shape, a.dtype, b.dtype) == (img.shape, np.float32, np.uint8)
    assert np.array_equal(img, before[0]) and np.array_equal(msk, before[1])


@pytest.mark.parametrize('k', [1, 3])
def test_thin_patches(patch, k):
    img, msk = patch
    for i in range(24):
        changed, _ = augment_patch(img[3:3 + k].copy(), msk, np.random.default_rng(i))
        assert torch.from_numpy(changed.copy()).shape == (k, 64, 64)
