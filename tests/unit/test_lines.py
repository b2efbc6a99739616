"Traced lines as bands, and what is near an annotation."
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.lines import only_near, widen_lines
from membrane_nb.mask import Mask
from membrane_nb.store import fingerprint
from membrane_nb.plain import phantom
from scipy.ndimage import distance_transform_edt


@pytest.fixture(scope='module')
def cell():
    return phantom((16, 96, 96), seed=1)[:2]


def test_only_near(cell, tmp_path):
    "The annotation stays; what is not annotated stays so; a slice without annotation is not judged; the mask is known by its file."
    msk = cell[1].copy()
    msk[3] = 0
    judged = only_near(Mask(msk), 10., 8., tmp_path)
    for z in (0, 5, 15): assert (judged[z] == np.where(msk[z] == 1, 1, 2 * (distance_transform_edt(msk[z] != 1) > 8))).all()
    assert (judged[3] == 2).all() and judged.voxels == fingerprint(msk) and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match='has no voxel size'): only_near(Mask(msk), 0., 8., tmp_path)


@pytest.mark.parametrize('pixel, line', [(10., 3.5), (20., 3.5), (5., 6.), (10., .5)])
def test_lines_become_bands(cell, tmp_path, pixel, line):
    "As thick as a membrane is, undecided at either side; what is not annotated stays so; a line alone where voxels are large."
    msk = np.zeros_like(cell[1])
    msk[2, 40, 10:70] = 1
    msk[2, :10] = msk[7, :10] = 2
    bands = widen_lines(Mask(msk, '2', empty='background'), pixel, line, tmp_path)
    distance = distance_transform_edt(msk[2] != 1) * pixel / 10
    expected = np.where(distance <= line / 2, 1, np.where(distance <= line, 2, msk[2]))
    assert (bands[2] == expected).all() and (bands[7] == msk[7]).all() and not bands[3].any()
    assert bands.voxels == fingerprint(msk) and (bands.rows[2] == (expected == 1).sum(axis=1)).all()
    with pytest.raises(InputError, match='has no voxel size'): widen_lines(Mask(msk, '2'), 0., line, tmp_path)
