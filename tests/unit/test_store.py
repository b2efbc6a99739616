"A volume on disk: its name, how it is filled, its fingerprint."
import hashlib
import numpy as np
import pytest
from conftest import stored_mrc
from membrane_nb.store import fingerprint, first_fingerprint, scratch, volume_name
from membrane_nb.volume import open_volume


def test_names():
    assert [volume_name(n) for n in ('r/TS_10.00Apx.mrc', 'a.rec.gz', 'b.mrcs', 'c.ST.bz2', 'cell', 'd.v2')] == ['TS_10.00Apx', 'a', 'b', 'c', 'cell', 'd.v2']


def test_a_volume_that_is_filled(tmp_path):
    "A number, an image, several slices; negative places; what does not fit is refused."
    vol, want = scratch((6, 4, 5), np.int16, tmp_path), np.zeros((6, 4, 5), np.int16)
    whole = np.arange(120).reshape(6, 4, 5)
    for at, img in ((1, 7), (-1, whole[2]), (slice(2, 4), whole[:2]), (slice(None), whole), (slice(0, 2), 3), (slice(3, None), whole[0])):
        vol[at] = want[at] = img
        assert (vol[:] == want).all()
    with pytest.raises(ValueError): vol[0] = np.zeros((5, 4))
    with pytest.raises(IndexError): vol[6] = 0


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
    found = {fingerprint(open_volume(stored_mrc(tmp_path/f'{kind[1:]}{kind[0] == ">"}.mrc', numbers.astype(kind)), pixel=1.)) for kind in ('<i2', '>i2', '<f4', '>f4', '<f2')}
    assert found == {fingerprint(numbers)}
