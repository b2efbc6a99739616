"""What `membrane export FOLDER copick` writes, read by copick: `make test-copick`.

`write` runs with membrane_nb, `read` with copick, in an environment of its own because copick wants zarr below 3.
"""
import sys
from pathlib import Path

import numpy as np

RADIUS, MIDDLE, PIXEL = 13, (17, 22, 19), 12.


def write(folder):
    "A vesicle, found and handed on."
    from membrane_nb.handover import export
    from membrane_nb.mrc import write_mrc
    folder.mkdir(parents=True, exist_ok=True)
    far = np.sqrt(sum((axis - at)**2 for axis, at in zip(np.indices((36, 44, 40)), MIDDLE)))
    write_mrc(folder/'mask.mrc', (np.abs(far - RADIUS) <= 2).astype(np.int8), PIXEL)
    export(folder, 'copick', spacing=8., name='cell')


def read(folder):
    "Open the project as copick does, and compare."
    import copick
    root = copick.from_file(str(folder/'copick'/'copick_config.json'))
    run = root.get_run('cell')
    far = np.sqrt(sum((axis - at)**2 for axis, at in zip(np.indices((36, 44, 40)), MIDDLE)))
    wanted = np.abs(far - RADIUS) <= 2
    mask, = run.get_segmentations(name='membrane')
    numbers, = run.get_segmentations(name='membrane', is_instance=True)
    assert mask.voxel_size == numbers.voxel_size == PIXEL
    assert ((mask.numpy() > 0) == wanted).all() and ((numbers.numpy() == 1) == wanted).all()
    picks, = run.get_picks(object_name='membrane')
    at, turn = picks.numpy()
    away = at - np.array(MIDDLE[::-1]) * PIXEL
    assert len(at) > 10 and np.abs(np.linalg.norm(away, axis=1) - RADIUS * PIXEL).max() < PIXEL
    assert (np.einsum('ni,ni->n', turn[:, :3, 2], away) > 0).all()
    assert {point.instance_id for point in picks.points} == {1}
    mesh, = run.get_meshes(object_name='membrane')
    low, high = mesh.mesh.bounds
    assert np.abs((low + high) / 2 - np.array(MIDDLE[::-1]) * PIXEL).max() < PIXEL
    print(f'copick {copick.__version__} reads mask, numbers, {len(at)} oriented points and the surface')


if __name__ == '__main__': globals()[sys.argv[1]](Path(sys.argv[2]))
