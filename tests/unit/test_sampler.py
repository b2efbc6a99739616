"Patches: every anchor, window and crop is what its page says, for many shapes, places and chances."
import tracemalloc
from collections import Counter

import numpy as np
import pytest
import torch

from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.split import split
from membrane_nb.mask import Mask
from membrane_nb.plain import phantom
from membrane_nb.sampler import ForegroundVoxels, Patches, batches, crop, random_window


@pytest.fixture(scope='module')
def cell():
    return Tomo(*phantom((32, 128, 160), seed=2), 'phantom')


def half_annotated(cell):
    "The tomogram with a mask whose left half is not annotated."
    msk = np.asarray(cell.msk[:])
    msk[:, :, :80] = 2
    return Tomo(cell.vol, msk), msk


def test_anchors_are_the_membrane_voxels(cell):
    anchors = ForegroundVoxels(cell, range(4, 20))
    places = [(z + 4, y, x) for z, y, x in np.argwhere(cell.msk[4:20] == 1).tolist()]
    assert len(anchors) == len(places)
    assert [anchors[i] for i in range(0, len(anchors), 97)] == places[::97]


@pytest.mark.parametrize('n, size', [(160, 64), (40, 64), (64, 64), (9, 64)])
def test_windows_hold_their_voxel(n, size):
    rng = np.random.default_rng(0)
    for at in rng.integers(n, size=2000):
        first = random_window(at, n, size, rng)
        assert first <= at < first + size


@pytest.mark.parametrize('z, y, x', [(0, -8, -8), (31, 72, 104), (15, 3, -5), (1, 40, 40)])
def test_crop_is_a_piece_of_the_mirrored_volume(cell, z, y, x):
    padded = np.pad(cell.vol, ((3, 3), (8, 8), (8, 8)), mode='reflect')
    assert np.array_equal(crop(cell.vol, z, y, x, 7, 64), padded[z:z + 7, y + 8:y + 72, x + 8:x + 72])


def test_crop_of_a_single_slice(cell):
    assert crop(cell.vol[:1], 0, -70, 0, 7, 256).shape == (7, 256, 256)


@pytest.mark.parametrize('p', [0., .3, .8, 1.])
def test_share_of_patches_with_membrane(cell, p):
    "With a single membrane voxel, a random patch hardly ever holds it, an anchored one always."
    one = np.zeros(cell.vol.shape, np.uint8)
    one[9, 50, 70] = 1
    ds = Patches([(Tomo(cell.vol, one, empty='background'), range(32))], n=2000, size=8, p_membrane=p)
    held = [z == 9 and y <= 50 < y + 8 and x <= 70 < x + 8 for _, _, z, y, x in map(ds.where, range(2000))]
    assert abs(np.mean(held) - p) < 3 * (p * (1 - p) / 2000) ** .5 + 1e-9


def test_windows_hang_over_by_an_eighth(cell):
    ds = Patches([(cell, range(32))], n=400_000, size=64, p_membrane=0)
    first = np.array([ds.where(j)[2:] for j in range(4000)])
    assert first.min(0).tolist() == [0, -8, -8]
    assert first.max(0).tolist() == [31, 72, 104]


def test_two_parts_are_counted(cell):
    ds = Patches([(cell, range(4, 20)), (cell, range(32))], n=10, k=5, size=64)
    group, = ds.groups
    assert group.membrane.tolist() == [len(ForegroundVoxels(cell, range(4, 20))), len(ForegroundVoxels(cell, range(4, 20))) + cell.rows.sum()]
    assert group.voxels.tolist() == [16 * 128 * 160, 48 * 128 * 160]


def test_a_data_set_counts_once_however_large_it_is(cell):
    "A slice beside volumes, two tomograms of one data set, one without membrane; and the share that phantoms are given."
    def tomo(zs, group, bare=False): return Tomo(cell.vol[zs], Mask(cell.msk[zs] * (not bare), '2', empty='background'), group=group)
    parts = [(tomo(slice(None), 'a'), range(32)), (tomo(slice(None), 'a'), range(32)), (tomo(slice(9, 10), 'b'), range(1)), (tomo(slice(5, 6), 'c', True), range(1))]
    for shares, wanted in (({}, dict(a=1/3, b=1/3, c=1/3)), (dict(a=.5), dict(a=.5, b=.25, c=.25)), (dict(a=.5, other=.4), dict(a=.5, b=.25, c=.25)),
                           (dict(a=0.), dict(a=0, b=.5, c=.5))):
        ds = Patches(parts, n=3000, size=32, shares=shares)
        drawn = Counter(ds.where(j)[1].group for j in range(3000))
        assert {group: drawn[group] / 3000 for group in wanted} == pytest.approx(wanted, abs=.03)


def test_patches_are_what_the_tomogram_holds(cell):
    "No training patch reads a slice that validation or test read; a label 2 arrives as it is."
    tomo, msk = half_annotated(cell)
    parts = split(range(32), 5)
    ds = Patches([(tomo, parts['train'])], n=60, k=5, size=48, augment='none')
    for j in range(60):
        _, t, z, y, x = ds.where(j)
        assert z in parts['train'] and z + 2 < parts['val'].start - 2
        img, lab = ds[j]
        assert np.array_equal(img.numpy(), t.scale(crop(t.vol, z, y, x, 5, 48)))
        assert np.array_equal(lab[0].numpy(), crop(msk, z, y, x, 1, 48)[0])


@pytest.mark.parametrize('augment', ['none', 'flips', 'full'])
def test_patches_of_one_slice(cell, augment):
    ds = Patches([(cell, range(32))], n=20, k=1, size=32, augment=augment)
    assert {tuple(ds[j][0].shape) for j in range(20)} == {(1, 32, 32)}


@pytest.mark.parametrize('given, said', [(dict(k=4), 'k: found 4; wanted an odd number'), (dict(k=0), 'wanted an odd number'),
    (dict(p_membrane=1.1), 'wanted a chance'), (dict(augment='all'), "augment: found 'all'; wanted none, flips or full")])
def test_what_is_refused(cell, given, said):
    with pytest.raises(InputError, match=said): Patches([(cell, range(32))], **given)


def test_slices_without_membrane_are_refused(cell):
    one = np.zeros(cell.vol.shape, np.uint8)
    one[9, 50, 70] = 1
    with pytest.raises(InputError, match='no membrane voxel in slices'): Patches([(Tomo(cell.vol, one), range(20, 30))])


def test_epochs_are_the_same_whoever_loads_them(cell):
    ds = Patches([(cell, range(18)), (half_annotated(cell)[0], range(18))], n=10, size=64, seed=5)
    for one, two, other in zip(batches(ds, 3), batches(ds, 3, workers=2), batches(ds, 4)):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
        assert not torch.equal(one[0], other[0])


class Huge:
    "A mask of ones that is only known by its shape."
    shape, dtype = (512, 1024, 1024), np.dtype(np.int8)
    def __len__(self): return 512
    def __getitem__(self, key):
        whole = np.broadcast_to(np.int8(1), self.shape)
        return whole[key].copy()


def test_drawing_needs_no_memory_beyond_the_row_tables():
    tomo = Tomo.__new__(Tomo)
    tomo.vol = tomo.msk = Huge()
    tomo.rows = np.full((512, 1024), 1024, np.int32)
    tomo.name = 'huge'
    tomo.group = ''
    tracemalloc.start()
    ds = Patches([(tomo, range(512))], n=200)
    for j in range(200): ds.where(j)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(ds.groups[0].anchors[0]) == 2**29 and peak < 20e6


@pytest.mark.parametrize('n, batch_size, processes', [(12, 2, 2), (12, 1, 3), (10, 2, 5), (8, 4, 4)])
def test_processes_share_every_batch(cell, n, batch_size, processes):
    "Batch by batch, they have what one process has with a batch as large as theirs together."
    ds = Patches([(cell, range(32))], n=n, size=32, augment='full')
    shares = [batches(ds, 2, batch_size, process=i, processes=processes) for i in range(processes)]
    for (img, msk), *parts in zip(batches(ds, 2, batch_size * processes), *shares, strict=True):
        for i, (own, own_msk) in enumerate(parts):
            assert torch.equal(own, img[i::processes]) and torch.equal(own_msk, msk[i::processes])


@pytest.mark.parametrize('augment', ['none', 'flips', 'full'])
@pytest.mark.parametrize('kind', ['<f4', '>f4', 'i1', '<u2', '>i2', 'f2'])
def test_volumes_on_a_device_give_the_same_patches(cell, kind, augment):
    "Whatever the data type and the byte order; with and without a mask."
    grey = cell.vol / np.abs(cell.vol).max() * 100
    if kind == '<u2': grey = grey + 100
    vol = grey.astype(kind)
    tomos = Tomo(vol, half_annotated(cell)[1], name='with'), Tomo(vol, name='without')
    given = dict(parts=[(tomo, range(32)) for tomo in tomos], n=12, size=64, augment=augment)
    here, there = Patches(**given), Patches(**given, device='cpu')
    assert len(there.held) == 2 and not here.held
    for one, two in zip(batches(here, 1), batches(there, 1, workers=2), strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_a_worker_computes_with_one_thread():
    class Threads(torch.utils.data.Dataset):
        n, device = 4, ''
        def __getitems__(self, js): return torch.tensor([torch.get_num_threads() for _ in js])
    assert torch.cat(list(batches(Threads(), 0, 2, workers=2))).tolist() == [1] * 4
