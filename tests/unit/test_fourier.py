"A tilt series: what is projected is projected back to its place, by the geometry of the tilts."
import numpy as np
import pytest
from scipy import fft

from membrane_nb.fourier import back_project, project


def test_a_point_comes_back_to_its_place():
    vol = np.zeros((24, 20, 40), np.float32)
    vol[15, 7, 12] = 1
    angles = np.arange(-60, 61, 3)
    series = project(vol, angles)
    ramped = fft.irfft(fft.rfft(series) * fft.rfftfreq(40), 40)
    back = back_project(ramped, angles, 24)
    assert np.unravel_index(back.argmax(), back.shape) == (15, 7, 12)


@pytest.mark.parametrize('angle', [-60, -17, 0, 33, 60])
def test_a_ray_meets_a_point_where_geometry_says(angle):
    vol = np.zeros((25, 3, 61), np.float32)
    vol[17, 1, 33] = 1
    picture = project(vol, [angle])[0]
    x = np.cos(np.radians(angle)) * (33 - 30) + np.sin(np.radians(angle)) * (17 - 12)
    seen = np.flatnonzero(picture[1]) - 30 # of the point and, at steep tilts, of its mirror images
    assert abs(seen - x).min() < .6
    assert not picture[[0, 2]].any()


@pytest.mark.parametrize('angle', [-45, 0, 60])
def test_a_slab_of_ones_is_as_thick_as_the_ray_is_long(angle):
    ones = np.ones((16, 4, 50), np.float32)
    assert np.allclose(project(ones, [angle]), 16 / np.cos(np.radians(angle)), rtol=1e-4)
