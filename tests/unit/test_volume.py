"A volume at another voxel size."
import numpy as np
import pytest
from membrane_nb.volume import Resampled


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
