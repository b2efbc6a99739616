"Volumes on disk: every type, byte order and archive; what is refused; what a written file keeps; other voxel sizes."
import bz2, gzip, hashlib, os, pickle

import mrcfile
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.phantom import phantom
from membrane_nb.volume import Resampled, fingerprint, first_fingerprint, new_mrc, open_volume, scratch, volume_name, voxel_size, write_mrc


@pytest.fixture(scope='module')
def cell():
    return phantom((16, 96, 96), seed=1)[0]


def stored(path, data):
    with mrcfile.new(path, data, overwrite=True): pass
    return path


@pytest.mark.parametrize('dtype', ['int8', 'int16', 'float32', 'uint16', 'float16', '>i2', '>f4', '>f2', '>u2'])
@pytest.mark.parametrize('pack', [None, gzip, bz2])
@pytest.mark.parametrize('stamp', [True, False])
def test_every_type_order_and_archive(cell, tmp_path, dtype, pack, stamp):
    "Also where the machine stamp is missing; a packed file leaves nothing on the disk, and is handed to another process."
    some = (20 * cell[:3]).astype(dtype)
    path = stored(tmp_path/'b.mrc', some)
    raw = path.read_bytes()
    if not stamp: raw = raw[:212] + bytes(4) + raw[216:]
    path.write_bytes(pack.compress(raw) if pack else raw)
    vol = open_volume(path, folder=tmp_path)
    assert (vol[:] == some).all() and (vol[-1, 4:6, ::2] == some[-1, 4:6, ::2]).all() and len(list(vol)) == 3
    assert (pickle.loads(pickle.dumps(vol))[2] == some[2]).all() and [p.name for p in tmp_path.iterdir()] == ['b.mrc']


def test_what_is_refused(cell, tmp_path):
    path = write_mrc(tmp_path/'a.mrc', cell, 10.).path
    raw = path.read_bytes()
    (tmp_path/'cut.mrc').write_bytes(raw[:-9])
    (tmp_path/'cut.mrc.gz').write_bytes(gzip.compress(raw[:-9]))
    (tmp_path/'broken.mrc.gz').write_bytes(gzip.compress(raw)[:2000])
    stored(tmp_path/'flat.mrc', np.zeros((9, 9), np.float32))
    (tmp_path/'mode.mrc').write_bytes(raw[:12] + np.array([16], '<i4').tobytes() + raw[16:])
    for name, said in (('cut.mrc', 'is truncated'), ('cut.mrc.gz', 'is truncated'), ('broken.mrc.gz', 'cannot be unpacked'),
                       ('flat.mrc', 'holds 2D data of shape \\(9, 9\\)'), ('mode.mrc', 'has mode 16; wanted 0, 1, 2, 6 or 12')):
        with pytest.raises(InputError, match=said): open_volume(tmp_path/name, folder=tmp_path)
    with mrcfile.mmap(path, 'r+') as f: f.voxel_size = (10, 5, 2)
    with pytest.raises(InputError, match='voxels of 10 x 5 x 2 Å'): open_volume(path)
    assert open_volume(path, pixel=10.).pixel == 10


@pytest.mark.parametrize('sides, pixel, said', [((10, 10, 10), 10, ''), ((1, 1, 1), 0, 'taken as unknown'), ((0, 0, 0), 0, ''), ((10, 10.05, 10), 10, 'taken as 10.0')])
def test_voxel_sizes(cell, tmp_path, sides, pixel, said):
    path = write_mrc(tmp_path/'a.mrc', cell).path
    with mrcfile.mmap(path, 'r+') as f: f.voxel_size = sides
    vol = open_volume(path)
    assert vol.pixel == pixel and said in ''.join(vol.notes) and bool(vol.notes) == bool(said)
    assert voxel_size(path, vol.header)[0] == pixel


def test_a_stack_of_images_has_no_z_to_compare(cell, tmp_path):
    path = write_mrc(tmp_path/'a.mrc', cell, 10.).path
    with mrcfile.mmap(path, 'r+', permissive=True) as f: f.header.mz = 1
    assert open_volume(path).pixel == 10


def test_names():
    assert [volume_name(n) for n in ('r/TS_10.00Apx.mrc', 'a.rec.gz', 'b.mrcs', 'c.ST.bz2', 'cell', 'd.v2')] == ['TS_10.00Apx', 'a', 'b', 'c', 'cell', 'd.v2']


def test_a_written_file(cell, tmp_path):
    "It is valid, keeps the geometry of another, and states its range."
    with mrcfile.new(tmp_path/'in.mrc', cell) as f:
        f.voxel_size, f.nstart, f.header.origin = 8.69, (4, 5, 6), (10, 20, 30)
        f.add_label('aligned by hand')
        f.set_extended_header(np.frombuffer(b'tilt series 7', np.uint8))
    given = open_volume(tmp_path/'in.mrc')
    out = write_mrc(tmp_path/'out.mrc', cell < 0, like=given)
    assert (out.pixel, out.origin, out.dtype) == (8.69, (10., 20., 30.), np.int8) and (out[:] == (cell < 0)).all()
    assert [int(out.header[f'n{a}start']) for a in 'xyz'] == [4, 5, 6] and out.header.label[0] == given.header.label[0]
    assert out.extended == b'tilt series 7' and out.header.exttyp == given.header.exttyp
    whole = write_mrc(tmp_path/'whole.mrc', cell, 10.)
    assert mrcfile.validate(whole.path, print_file=open(os.devnull, 'w'))
    assert [float(whole.header[n]) for n in ('dmin', 'dmax', 'dmean', 'rms')] == pytest.approx([cell.min(), cell.max(), cell.mean(dtype=float), cell.std(dtype=float)], rel=1e-4, abs=1e-5)


def test_a_block_that_fails(cell, tmp_path):
    "The old file stays, and nothing lies beside it; a disk without the room is refused before."
    old = write_mrc(tmp_path/'out.mrc', cell)
    with pytest.raises(KeyboardInterrupt), new_mrc(tmp_path/'out.mrc', (9, 9, 9), np.float32) as new:
        new[0] = 7
        raise KeyboardInterrupt
    with pytest.raises(InputError, match='needs 4,000,000,000,001,024'), new_mrc(tmp_path/'huge.mrc', (1000, 10**6, 10**6), np.float32): pass
    with pytest.raises(InputError, match='cannot be written'), new_mrc(tmp_path/'none'/'a.mrc', (2, 2, 2), np.float32): pass
    assert (open_volume(old.path)[:] == cell).all() and [p.name for p in tmp_path.iterdir()] == ['out.mrc']


def test_a_volume_that_is_filled(tmp_path):
    "A number, an image, several slices; negative places; what does not fit is refused."
    vol, want = scratch((6, 4, 5), np.int16, tmp_path), np.zeros((6, 4, 5), np.int16)
    whole = np.arange(120).reshape(6, 4, 5)
    for at, img in ((1, 7), (-1, whole[2]), (slice(2, 4), whole[:2]), (slice(None), whole), (slice(0, 2), 3), (slice(3, None), whole[0])):
        vol[at] = want[at] = img
        assert (vol[:] == want).all()
    with pytest.raises(ValueError): vol[0] = np.zeros((5, 4))
    with pytest.raises(IndexError): vol[6] = 0


def reference(vol, shape):
    "Resampling along z, written out; the plane is not changed."
    out = np.empty((shape[0], *vol.shape[1:]))
    step = len(vol) / shape[0]
    for z in range(shape[0]):
        weights = np.maximum(0, 1 - np.abs(np.arange(len(vol)) - ((z + .5) * step - .5)) / max(1, step))
        out[z] = np.tensordot(weights / weights.sum(), vol, 1)
    return out


@pytest.mark.parametrize('depth', [1, 5, 16, 23, 40])
def test_resampled(cell, depth):
    "A triangle along z; one slice, a range, a negative place and a plane are parts of the whole; a constant stays constant."
    seen = Resampled(cell, (depth, 96, 96))
    assert np.allclose(seen[:], reference(cell, seen.shape), atol=1e-3)
    assert (seen[-1] == seen[depth - 1]).all() and (seen[0:2, ::2, 4] == seen[:][0:2, ::2, 4]).all() and len(list(seen)) == depth
    assert seen[3:3].shape == (0, 96, 96)
    assert np.ptp(Resampled(np.full((3, 4, 5), 7.), (depth, 9, 9))[:]) == 0


def test_resampled_volumes_without_numbers(cell):
    "NaN and infinite voxels become the median of their slice; a slice of nothing else becomes 0."
    holes = cell.copy()
    holes[3, 5, 5], holes[4, 7, 7], holes[9] = np.nan, np.inf, np.nan
    seen = Resampled(holes, (11, 50, 40))[:]
    assert np.isfinite(seen).all() and np.abs(seen).max() <= np.abs(cell).max()


WHOLE = np.random.default_rng(0).integers(-100, 100, (5, 7, 9))

@pytest.mark.parametrize('kind', ['i1', '<i2', '>i2', '<f2', '>f2', '<f4', '>f4', '<f8', '>f8'])
def test_a_fingerprint_is_of_numbers(kind):
    "Byte order and type do not count, nor do the order of the axes in memory and the sign of zero."
    assert fingerprint(WHOLE.astype(kind)) == fingerprint(WHOLE.astype('f4')) == fingerprint(np.asfortranarray(WHOLE.astype(kind)))
    other = WHOLE.astype(kind)
    other[4, 6, 8] += 1
    assert fingerprint(other) != fingerprint(WHOLE.astype('f4'))
    zeros = np.zeros((2, 3, 4), np.float32)
    assert fingerprint(-zeros) == fingerprint(zeros) == fingerprint(zeros.astype(bool)) != fingerprint(zeros.reshape(2, 4, 3))


@pytest.mark.parametrize('kind', ['<i4', '>i4', '<i8', '>i8', '<u4', '>u8'])
def test_wide_whole_numbers_keep_all_their_digits(kind):
    large = np.abs(WHOLE) + 2**24
    assert fingerprint(large.astype(kind)) == fingerprint(large.astype('i8')) != fingerprint((large + 1).astype(kind))


def test_the_rule_of_a_fingerprint_is_told_and_stays(cell):
    "By hand: shape as text, then little-endian numbers; the first rule as it was, with type and byte order."
    by_hand = hashlib.sha256(b'(16, 96, 96)' + cell.astype('<f4').tobytes()).hexdigest()
    assert fingerprint(cell) == f'v2:{by_hand}'
    assert first_fingerprint(cell) == hashlib.sha256(b"((16, 96, 96), '<f4')" + cell.tobytes()).hexdigest()


def test_a_fingerprint_of_a_file_is_that_of_its_numbers(cell, tmp_path):
    numbers = np.rint(cell * 50).astype(np.float32)
    found = {fingerprint(open_volume(stored(tmp_path/f'{kind[1:]}{kind[0] == ">"}.mrc', numbers.astype(kind)), pixel=1.)) for kind in ('<i2', '>i2', '<f4', '>f4', '<f2')}
    assert found == {fingerprint(numbers)}
