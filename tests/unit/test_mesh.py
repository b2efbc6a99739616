"Surfaces: closed, facing outwards, as thick as the mask and where the mask is, also where it is averaged in blocks."
import numpy as np
import pytest
import trimesh
from skimage.measure import marching_cubes

from membrane_nb.mesh import _simplify, block_mean, extract_surface
from membrane_nb.plain import phantom


@pytest.fixture(scope='module')
def msk(): return phantom((32, 160, 160), seed=5)[1]


def ball(): return np.linalg.norm(np.indices((60, 70, 80)) - np.reshape((30, 35, 45), (3, 1, 1, 1)), axis=0) <= 20


def test_blocks(msk):
    part = block_mean(msk, 3)
    assert part.shape == (11, 54, 54) and np.isclose(part.sum() * 27, msk.sum())
    assert (block_mean(msk * .5, 3) == part).all() and not block_mean(msk * 2, 3).any()
    assert (block_mean(msk.astype(bool), 3) == part).all()


def test_simplified(msk):
    verts, tri = marching_cubes(np.pad(block_mean(msk, 2), 1), .4)[:2]
    v, f = _simplify(verts, tri, 3000)
    assert len(f) <= 3000 and np.allclose(np.ptp(v, 0), np.ptp(verts, 0), rtol=.1)
    assert len(_simplify(verts, tri, 10**9)[1]) == len(tri)
    assert trimesh.Trimesh(v, f, process=False).is_watertight


def test_closed_and_outwards(msk):
    "Membranes that end at the border too, and a mask that is mere noise."
    noise = np.random.default_rng(0).random((24, 48, 48)) < .3
    for m in (ball(), msk, noise):
        body = extract_surface(m, 10., 4000)
        assert len(body.faces) <= 4000
        assert body.is_watertight and body.is_winding_consistent and body.volume > 0
    body = extract_surface(ball(), 10., 2000)
    away = body.triangles.mean(1) - (45.5, 35.5, 30.5)
    assert ((body.face_normals * away).sum(1) > 0).all()


def test_where_it_lies():
    "In nm from the first corner, moved by the origin; in voxels where the voxel size is not known, and then without an origin."
    body = extract_surface(ball(), 10., 2000)
    assert np.linalg.norm(body.vertices - (45.5, 35.5, 30.5), axis=1).std() < .4
    assert np.allclose(extract_surface(ball(), 20., 2000).vertices, 2 * body.vertices)
    assert np.allclose(extract_surface(ball(), 0, 2000).vertices, body.vertices)
    moved = dict(faces=2000, origin=(1000, 0, -500))
    assert np.allclose(extract_surface(ball(), 10., **moved).vertices - body.vertices, (100, 0, -50))
    assert np.allclose(extract_surface(ball(), 0, **moved).vertices, body.vertices)


@pytest.mark.parametrize('side', [140, 210])
def test_as_thick_as_the_mask(side):
    "A hollow sphere, radius 60 and 4 voxels thick: volume and area, in blocks of one voxel (140) and of two (210)."
    i = (np.arange(side) - side / 2.1)**2
    r = np.sqrt(i[:, None, None] + i[:, None] + i)
    body = extract_surface((r >= 58) & (r < 62), 0)
    assert abs(body.volume / (4/3 * np.pi * (62**3 - 58**3)) - 1) < .05
    assert abs(body.area / (4 * np.pi * (62**2 + 58**2)) - 1) < .05


@pytest.mark.parametrize('z', [50, 51, 52, 53])
def test_a_thin_sheet_in_blocks(z):
    "It stays wherever it falls between the blocks, and whatever thick body lies beside it."
    msk = np.zeros((68, 512, 512), np.uint8)
    msk[:40, :60, :60] = 1
    msk[z:z + 3, 100:400, 100:400] = 1
    v = extract_surface(msk, 10., faces=10**6).vertices
    sheet = v[(v[:, 0] > 120) & (v[:, 0] < 380) & (v[:, 1] > 120) & (v[:, 1] < 380)]
    assert len(sheet) and abs(sheet[:, 2].mean() - z - 1.5) < 1


def test_it_lies_where_its_mask_lies(tmp_path):
    "S14: by the start of the header where the origin is 0; also of a `Mask`, which is read from a file."
    import mrcfile
    from membrane_nb.mask import Mask
    from membrane_nb.volume import open_volume
    with mrcfile.new(tmp_path/'ball.mrc', ball().astype(np.int8)) as f: f.voxel_size, f.nstart = 10, (512, 0, -7)
    body = extract_surface(ball(), 10., 2000)
    msk = open_volume(tmp_path/'ball.mrc')
    for given in (msk, Mask(msk)): assert np.allclose(extract_surface(given, 10., 2000).vertices - body.vertices, (512, 0, -7), atol=1e-2)
    assert np.allclose(extract_surface(Mask(ball().astype(np.int8)), 10., 2000).vertices, body.vertices)
