"Scale, mask, split, manifest and slabs, case by case."
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo, _resample_to, check_unchanged, slabs
from membrane_nb.grey import Scale, measure_scale
from membrane_nb.store import fingerprint
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import Resampled


def test_other_voxel_sizes(cell_and_mask):
    vol = cell_and_mask[0]
    for given, wanted, said in ((0., 9., 'its voxel size is not known; taken for the 9 Å'), (50., 9., 'too far from the 9 Å of the weights to resample; expect little')):
        seen, notes = _resample_to(vol, given, wanted, 'v')
        assert seen is vol and said in notes[0]
    assert all(_resample_to(vol, 13.5, wanted, 'v') == (vol, []) for wanted in (13.5, 11.3, 16.2, 0.))
    coarse = Tomo(-vol, pixel=20., name='coarse.mrc', wanted=10.)
    assert coarse.resampled.shape == (32, 192, 192) and coarse.scale == measure_scale(coarse.resampled) and coarse.voxels == fingerprint(-vol)
    membrane = Resampled(cell_and_mask[1], coarse.resampled.shape)[16] > .9
    assert coarse.scale(coarse.resampled[16])[membrane].mean() < 0


def test_a_tomogram_of_files(cell_and_mask, files):
    vol, msk = cell_and_mask
    t = Tomo.open(files/'tomo.mrc', files/'msk.mrc')
    assert (t.membrane_range, t.scale, t.voxels, t.pixel, len(t.files)) == (range(16), measure_scale(vol), fingerprint(vol), 10, 2)
    write_mrc(files/'thin.mrc', vol[:9])
    with pytest.raises(InputError, match='thin.mrc: is named as tomogram and as mask; wanted two files'): Tomo.open(files/'thin.mrc', files/'thin.mrc')
    with pytest.raises(InputError, match='msk.mrc: has shape .* as the tomogram'): Tomo.open(files/'thin.mrc', files/'msk.mrc')
    with pytest.raises(InputError, match='parameter voxel_size'): Tomo.open(files/'tomo.mrc', pixel=-1.)
    check_unchanged([t])
    write_mrc(files/'msk.mrc', 0 * msk.astype(np.int8), 10.)
    with pytest.raises(InputError, match='msk.mrc: was changed'): check_unchanged([t])


@pytest.mark.filterwarnings('error::RuntimeWarning')
@pytest.mark.parametrize('bad', [np.inf, -np.inf, np.nan, np.frombuffer(b'\x01\x00\xa0\x7f', '<f4')[0]])
def test_what_is_no_number_gives_no_warning(cell_and_mask, tmp_path, bad):
    "Also one that processors call signalling, as damaged bytes make it; in a rim, in the data, in what is written."
    vol = cell_and_mask[0].copy()
    vol[:, 30:40] = bad
    vol[:, :, :20] = -9
    tomo = Tomo(vol)
    assert (tomo.scale(vol)[:, 30:40, 20:] == 0).all() and tomo.blank
    write_mrc(tmp_path/'bad.mrc', vol, 10.)


def mirrored(z, n):
    "Where slice z lies when a volume of n slices is mirrored at both ends, again and again."
    last = n - 1
    return last - abs(last - abs(z) % max(1, 2 * last))


@pytest.mark.parametrize('n', range(1, 10))
def test_slabs_are_mirrored(n):
    "For every number of slices and every k, also where the slab is thicker than the volume."
    vol = np.arange(n, dtype=np.float32)[:, None, None] + np.zeros((n, 2, 3), np.float32)
    scale = Scale(0., 0., 10.)
    for k in range(1, 10, 2):
        for zs in (range(n), range(n // 2, n)):
            got = dict(slabs(vol, scale, k, zs))
            assert list(got) == list(zs)
            for z in zs: assert (got[z] == scale(vol[[mirrored(i, n) for i in range(z - k // 2, z + k // 2 + 1)]])).all()


def test_slabs_read_each_slice_once(cell_and_mask):
    class Counted:
        shape, read = cell_and_mask[0].shape, []
        def __len__(self): return 16
        def __getitem__(self, z):
            self.read.append(int(z))
            return cell_and_mask[0][z]
    scale = measure_scale(cell_and_mask[0])
    padded = np.pad(scale(cell_and_mask[0]), ((3, 3), (0, 0), (0, 0)), mode='reflect')
    for z, slab in slabs(Counted(), scale, 7, range(16)): assert (slab == padded[z:z + 7]).all()
    assert sorted(Counted.read) == list(range(16))
