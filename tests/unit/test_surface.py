"Mid-surfaces, areas and curvatures of shapes that are known."
import numpy as np
import pytest

from membrane_nb.shapes import ball
from membrane_nb.surface import Sheets, curvature, is_seen, mid_surface, ridge_points, rim_edges, trace


def sphere(radius, pixel, middle=0.):
    "Distance to a sphere in nm, in a box that holds it, and its centre in voxels."
    n = int((2 * radius + 14) * 10 / pixel)
    axis = (np.arange(n) - n / 2 + middle) * pixel / 10
    at = np.stack(np.meshgrid(axis, axis, axis, indexing='ij'))
    return np.abs(ball(at, (radius,) * 3)), n / 2 - middle


@pytest.mark.parametrize('pixel', [7., 10., 14.])
def test_a_sphere_has_its_area_and_curvature(pixel):
    "Within 5 %, from a mask alone, wherever its middle lies within a voxel."
    distance, centre = sphere(16, pixel, .37)
    sheets = trace(np.zeros(distance.shape), (distance <= 2.2).astype(int), pixel)
    body = mid_surface(sheets, 1)
    mean, gauss = curvature(body)
    assert body.is_watertight and body.volume > 0
    assert abs(body.area / (4 * np.pi * 16**2) - 1) < .05
    assert abs(np.median(mean) * 16 - 1) < .05 and abs(np.median(gauss) * 16**2 - 1) < .05


def test_points_lie_in_the_middle_to_a_part_of_a_voxel():
    distance, centre = sphere(14, 10.)
    places, normals = ridge_points(distance <= 2.2, 10.)
    radii = np.linalg.norm(places - centre, axis=1)
    assert abs(radii.mean() - 14) < .3 and radii.std() < .1
    outwards = (places - centre) / radii[:, None]
    assert np.abs((normals * outwards).sum(1)).min() > .98


def test_the_grey_values_correct_a_mask_that_lies_off():
    "By a voxel, along x; only parts that are seen move."
    distance, centre = sphere(14, 10.)
    vol = -np.exp(-(distance / 2)**2)
    off = np.roll(distance <= 2.2, 1, axis=2)
    sheets = trace(vol, off.astype(int), 10., tilt=90.)
    radii = np.linalg.norm(sheets.places - centre, axis=1)
    before = np.linalg.norm(ridge_points(off, 10.)[0] - centre, axis=1)
    assert before.std() > .5 and radii.std() < .85 * before.std()


def test_a_block_border_neither_loses_nor_doubles_a_point(monkeypatch):
    distance, _ = sphere(12, 10.)
    labels = (distance <= 2.2).astype(int)
    whole = trace(np.zeros(labels.shape), labels, 10.)
    monkeypatch.setattr('membrane_nb.surface._boxes', lambda shape, side: [
        (slice(a, b), slice(0, shape[1]), slice(0, shape[2])) for a, b in ((0, 19), (19, shape[0]))])
    parts = trace(np.zeros(labels.shape), labels, 10.)
    assert len(whole.places) == len(parts.places)
    assert np.allclose(sorted(map(tuple, whole.places.round(3))), sorted(map(tuple, parts.places.round(3))), atol=.01)


def test_a_sheet_that_ends_at_the_border_is_not_trimmed_there():
    "A flat sheet through the whole box has the area of the box."
    labels = np.zeros((24, 40, 40), int)
    labels[10:15] = 1
    body = mid_surface(trace(np.zeros(labels.shape), labels, 10.), 1)
    assert len(rim_edges(body)) and abs(body.area / 40**2 - 1) < .1


def test_bright_membranes_and_no_membrane():
    distance, centre = sphere(12, 10.)
    labels = (distance <= 2.2).astype(int)
    dark, bright = (trace(sign * np.exp(-(distance / 2)**2), labels, 10., -sign) for sign in (-1, 1))
    assert np.allclose(dark.profiles, bright.profiles, atol=1e-5) and isinstance(dark, Sheets)
    assert trace(np.zeros((8, 8, 8)), np.zeros((8, 8, 8), int), 10.) is None


def test_the_wedge_follows_the_tilt_axis():
    tilted = np.array([[np.sin(np.radians(45)), 0, np.cos(np.radians(45))]]) # normal between z and x
    assert is_seen(tilted, 60, 'y') and not is_seen(tilted, 60, 'x')
