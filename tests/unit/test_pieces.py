"Connected pieces, small ones removed."
import numpy as np
from scipy.ndimage import label
from membrane_nb.pieces import min_piece, remove_small


def test_small_pieces():
    "The same as scipy's 3D pieces, with edges and corners within a slice and faces between slices."
    noise = np.random.default_rng(1).random((9, 40, 50)) < .22
    cross = np.zeros((3, 3, 3), bool)
    cross[1] = cross[:, 1, 1] = True
    lab, _ = label(noise, cross)
    for size in (1, 4, 30):
        got = noise.astype(np.int8)
        remove_small(got, size)
        assert (got == (noise & (np.bincount(lab.ravel())[lab] >= size))).all()
    empty = np.zeros((2, 5, 5), np.int8)
    remove_small(empty, 9)
    assert not empty.any()
    assert [min_piece(1600., pixel, 100) for pixel in (10., 20., 5.)] == [1600, 200, 12800]
