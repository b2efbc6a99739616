"Grey values on one scale, and their sign: every type, samples, fillers, sizes."
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.blank import Blank
from membrane_nb.grey import Scale, measure_scale
from membrane_nb.store import fingerprint
from membrane_nb.plain import phantom


@pytest.fixture(scope='module')
def cell():
    return phantom((16, 96, 96), seed=1)[:2]


def test_scaled_values():
    grey = np.array([100, 150, 9999, np.nan, -32768])
    assert (Scale(100., 80., 130., bad=1)(grey[:4]) == np.float32([0, 1, 5, 0])).all()
    assert (Scale(100., 80., 130., sign=-1)(grey[:2]) == np.float32([0, -1])).all()
    hole = Blank((1, 1, 2), [np.array([[True, False]])])
    assert (Scale(100., 80., 130., blank=hole).slice(np.array([[[-32768, 125]]]), 0) == np.float32([0, .5])).all()
    assert Scale(100., 80., 130.).spread(grey)[2] == np.float32((9999 - 100) / 50)


@pytest.mark.parametrize('dtype', ['int8', 'uint8', 'int16', 'uint16', '>i2', 'float16', 'float32', '>f4', 'float64'])
def test_quantiles_of_every_type(cell, dtype):
    "All are exact here: whole numbers are counted, and a volume of few floats is read completely."
    grey = np.clip(100 + 20 * cell[0], 0, 127).astype(dtype)
    scale = measure_scale(grey)
    assert np.allclose([scale.median, scale.p5, scale.p95], np.quantile(grey.astype(np.float32), [.5, .05, .95]), rtol=1e-6)
    assert scale.error == 0 and scale.voxels == fingerprint(grey)


def test_quantiles_of_a_sample():
    "A large volume of floats is thinned, and the stated error holds."
    vol = np.random.default_rng(0).gamma(2, size=(20, 700, 700)).astype(np.float32)
    scale, exact = measure_scale(vol), np.quantile(vol, [.5, .05, .95])
    assert 0 < scale.error < .002
    assert np.abs(np.array([scale.median, scale.p5, scale.p95]) - exact).max() < 4 * scale.error * (exact[2] - exact[1])


def test_signs(cell):
    vol = cell[0]
    assert [measure_scale(v).sign for v in (vol, -vol, 1e-15 * vol, -1e-15 * vol)] == [1, -1, 1, -1]
    assert [measure_scale(-vol, density=d).sign for d in ('auto', 'dark', 'bright')] == [-1, 1, -1]
    with pytest.raises(InputError, match='wanted auto, dark or bright'): measure_scale(vol, density='grey')


@pytest.mark.parametrize('kind, said', [('flat', 'a.mrc: 90 % of its voxels are 0.0; wanted a tomogram with contrast'), ('mask', 'holds only 2 different values, as a mask does'),
                                        ('bool', 'holds bool; wanted grey values'), ('int32', 'holds int32; wanted grey values of 8 or 16 bits, or floats')])
def test_what_is_no_tomogram(cell, kind, said):
    vol, msk = cell
    with pytest.raises(InputError, match=said): measure_scale(dict(flat=0 * vol, mask=msk, bool=msk > 0, int32=vol.astype(np.int32))[kind], 'a.mrc')


@pytest.mark.parametrize('filler', [-32768, 1e6])
def test_voxels_without_data(cell, filler):
    "NaN, infinite ones and a filler are counted and become background; the rest is scaled as if they were not there."
    broken = cell[0].copy()
    broken[2, :5, 0] = np.nan
    broken[3, 0, 0] = np.inf
    broken[4:6] = filler
    scale = measure_scale(broken)
    scaled = np.stack([scale.slice(broken, z) for z in range(len(broken))])
    assert (scale.bad, scale.sign) == (6, 1) and scale.blank[4:6].all() and scale.blank.share < .15
    assert not scaled[4:6].any() and not scaled[2, :5, 0].any() and scaled[3, 0, 0] == 0
    rest = np.delete(cell[0], [4, 5], axis=0)
    assert abs(scale.median - np.median(rest)) < .01


@pytest.mark.filterwarnings('error::RuntimeWarning')
@pytest.mark.parametrize('size, opens', [(1e-40, False), (1e-20, True), (1e20, True), (1e33, True)])
def test_grey_values_of_any_size(cell, size, opens):
    "No warning, whatever a damaged file holds; numbers that floats hardly tell apart are no contrast."
    vol = cell[0] * np.float32(size)
    if opens: assert np.isfinite(Tomo(vol).scale(vol)).all()
    else:
        with pytest.raises(InputError, match='wanted a tomogram with contrast'): Tomo(vol)
