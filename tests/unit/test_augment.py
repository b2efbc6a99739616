"Changes of a patch: mask and image are changed alike, one seed gives one patch, and shapes and types stay."
import numpy as np
import pytest
import torch

from membrane_nb.augment import (augment_patches, random_affine, random_cutout, random_flip_rot90,
    random_spectrum)
from membrane_nb.augment import _filter_patches, _patch_frequencies
from membrane_nb.data import Tomo
from membrane_nb.plain import phantom


@pytest.fixture(scope='module')
def patch():
    "A scaled patch of seven slices and its mask, a batch of one: (1, 7, 64, 64) and (1, 64, 64)."
    tomo = Tomo(*phantom((32, 128, 160), seed=2), 'phantom')
    img, msk = tomo.scale(tomo.vol[6:13, 30:94, 50:114]), tomo.msk[9, 30:94, 50:114]
    return torch.from_numpy(img)[None], torch.from_numpy(msk)[None]


def rngs(*seeds): return [np.random.default_rng(seed) for seed in seeds]


def many(patch, n): return patch[0].repeat(n, 1, 1, 1), patch[1].repeat(n, 1, 1)


def test_flips_keep_values_slices_and_mask_together(patch):
    img = patch[0][0]
    rng = np.random.default_rng(0)
    seen = {a.numpy().tobytes(): (a, b) for a, b in (random_flip_rot90(img, img[3], rng) for _ in range(300))}
    assert len(seen) == 16
    means = img.mean((1, 2))
    for a, b in seen.values():
        assert torch.equal(a[3], b)
        assert torch.equal(a.flatten().sort().values, img.flatten().sort().values)
        same = [torch.allclose(a.mean((1, 2)), other, atol=1e-5) for other in (means, means.flip(0))]
        assert any(same)


def test_affine_keeps_membrane_dark(patch):
    img, msk = patch
    def contrast(i, m): return i[0, 3][m[0] == 1].mean() - i[0, 3][m[0] == 0].mean()
    a, b = random_affine(img, msk, rngs(1))
    assert (a.shape, a.dtype, b.dtype) == (img.shape, torch.float32, torch.uint8)
    assert abs(contrast(a, b) - contrast(img, msk)) < .25 * abs(contrast(img, msk))


def pose(img):
    "Centre (y, x) in pixels, direction in degrees and area of a bright bar."
    at = np.argwhere(img > 0)
    weight = img[tuple(at.T)]
    y, x = np.linalg.eigh(np.cov(at.T, aweights=weight))[1][:, 1]
    return *np.average(at, axis=0, weights=weight), np.degrees(np.arctan(y / x)), weight.sum()


def test_affine_moves_image_and_mask_alike():
    "Direction and area of a bar differ as whole pixels differ from shares of them."
    bar = torch.zeros((1, 128, 128), dtype=torch.uint8)
    bar[0, 58:70, 34:94] = 1
    imgs, msks = random_affine(*many((bar[None].float(), bar), 300), rngs(*range(300)))
    poses = np.array([[pose(img[0]), pose(msk)] for img, msk in zip(imgs.numpy(), msks.numpy())])
    apart = np.abs(poses[:, 0] - poses[:, 1]).max(0)
    assert (apart < [1e-3, 1e-3, 3, 72]).all(), apart


def test_spectrum_keeps_the_shape(patch):
    f = _patch_frequencies(patch[0])
    assert _filter_patches(patch[0], random_spectrum(f, rngs(3))).shape == patch[0].shape


def test_cutouts(patch):
    "A box is blank and not judged, or the middle slice and its mask stay."
    img, msk = patch[0][0], patch[1][0]
    kinds = set()
    for a, b in zip(*random_cutout(*many(patch, 40), rngs(*range(40)))):
        box = (b == 2) & (msk != 2)
        kinds.add(bool(box.any()))
        assert (a[:, box] == 0).all()
        if box.any(): assert torch.equal(a[:, ~box], img[:, ~box])
        else: assert torch.equal(a[3], img[3]) and torch.equal(b, msk)
    assert kinds == {True, False}


def test_one_seed_one_patch_whatever_the_others_are(patch):
    img, msk = patch
    before = img.clone(), msk.clone()
    together, masks = augment_patches(*many(patch, 24), rngs(*range(24)))
    for i in range(24):
        a, b = augment_patches(img, msk, rngs(i))
        assert torch.allclose(a[0], together[i], atol=1e-4) and torch.equal(b[0], masks[i])
        assert (a.shape, a.dtype, b.dtype) == (img.shape, torch.float32, torch.uint8)
    assert torch.equal(img, before[0]) and torch.equal(msk, before[1])


@pytest.mark.parametrize('k', [1, 3])
def test_thin_patches(patch, k):
    img, msk = many((patch[0][:, 3:3 + k], patch[1]), 24)
    assert augment_patches(img, msk, rngs(*range(24)))[0].shape == (24, k, 64, 64)
