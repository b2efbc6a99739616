"What other programs open is read back, by their own library where PyPI has it."
import json, runpy, sys
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
import trimesh
from conftest import ROOT
from membrane_nb.checks import InputError
from membrane_nb.handover import export, middle_points, open_found, relion_angles, spread_out
from membrane_nb.mrc import write_mrc
from membrane_nb.results import Results, damage, _foreign_files
from membrane_nb.volume import open_volume
from scipy.spatial.transform import Rotation

SIZE, MIDDLE = (36, 44, 40), (17., 22., 19.) # z, y, x
PIXEL = 12.


def written(folder, name='cell.mrc'):
    "A finished segmentation of a vesicle of 15.6 nm, with origin, beside its tomogram."
    z, y, x = np.indices(SIZE)
    far = np.sqrt((z - MIDDLE[0])**2 + (y - MIDDLE[1])**2 + (x - MIDDLE[2])**2)
    with mrcfile.new(folder/name, np.zeros(SIZE, np.float32)) as f:
        f.voxel_size = PIXEL
        f.header.origin = (100, 200, 300)
    results = Results(folder/'cell_membranes')
    results.begin()
    write_mrc(results.part/'mask.mrc', (np.abs(far - 13) <= 2).astype(np.int8), like=open_volume(folder/name))
    (results.part/'segmentation.json').write_text(json.dumps(dict(tomogram=name)))
    return results.finish()


@pytest.fixture
def cell(tmp_path): return written(tmp_path)


def test_numbers_and_their_table(cell, capsys):
    found = open_found(cell)
    assert found.tomo == (cell.parent/'cell.mrc').resolve() and found.name == 'cell' and len(found.rows) == 1
    assert abs(found.rows[0]['area_nm2'] / (4 * np.pi * 15.6**2) - 1) < .1
    assert _foreign_files(cell) == '' and damage(cell) == {} and tuple(found.origin) == (100, 200, 300)
    assert 'its membranes are numbered' in capsys.readouterr().err
    open_found(cell).rows
    assert capsys.readouterr().err == ''


def test_relion(cell, capsys):
    starfile = pytest.importorskip('starfile')
    folder = export(cell, 'relion', spacing=6., name='TS_01', unbinned='161,177,144', unbinned_pixel=3.)
    assert capsys.readouterr().out == f'RELION-5: Import, Coordinates, input file {folder}/import.star\n'
    table = starfile.read(folder/'particles.star')
    assert set(table.rlnTomoName) == {'TS_01'} and set(table.rlnTomoManifoldIndex) == {1} and len(table) > 20
    assert (table[['rlnTomoSizeX', 'rlnTomoSizeY', 'rlnTomoSizeZ']].to_numpy() == (161, 177, 144)).all()
    xyz = table[[f'rlnCenteredCoordinate{a}Angst' for a in 'XYZ']].to_numpy()
    radial = xyz + np.array([161, 177, 144]) * 1.5 - np.array(MIDDLE[::-1]) * PIXEL
    away = np.linalg.norm(radial, axis=1)
    assert np.abs(away - 13 * PIXEL).max() < PIXEL
    def turn(kind): return Rotation.from_euler('ZYZ', table[[f'{kind}{a}' for a in ('Rot', 'Tilt', 'Psi')]].to_numpy(), degrees=True)
    normal = (turn('rlnAngle') * turn('rlnTomoSubtomogram')).inv().apply([0, 0, 1])
    assert (np.einsum('ni,ni->n', normal, radial) / away).min() > .9
    apart = np.linalg.norm(xyz[:, None] - xyz, axis=2) + 1e9 * np.eye(len(xyz))
    assert apart.min() > 60
    job = starfile.read(folder/'import.star', always_dict=True)
    job, = job.values()
    assert list(job.columns) == ['rlnTomoName', 'rlnTomoImportParticleFile'] and job.rlnTomoImportParticleFile[0] == str(folder/'particles.star')
    with pytest.raises(InputError, match="found '1,2,3' and 0; wanted both or none"): export(cell, 'relion', unbinned='1,2,3')
    with pytest.raises(InputError, match="found '1,x'; wanted three numbers"): export(cell, 'relion', unbinned='1,x', unbinned_pixel=2.)
    assert folder.exists()


def test_the_angles_turn_z_to_the_normal():
    normal = np.random.default_rng(0).normal(size=(50, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    normal[:3] = np.eye(3)[2], -np.eye(3)[2], np.eye(3)[0]
    sub = Rotation.from_euler('ZYZ', relion_angles(normal), degrees=True)
    assert np.allclose((Rotation.from_euler('ZYZ', [0, 90, 0], degrees=True) * sub).inv().apply([0, 0, 1]), normal)


def test_chimerax(cell, capsys):
    folder = export(cell, 'chimerax')
    assert capsys.readouterr().out == f'chimerax {folder}/open.cxc\n'
    lines = (folder/'open.cxc').read_text().splitlines()
    assert lines[0] == f'open "{cell.parent}/cell.mrc"' and 'open membranes.glb' in lines
    mesh, = trimesh.load_scene(folder/'membranes.glb').geometry.values()
    middle = np.array(MIDDLE[::-1]) * PIXEL + (100, 200, 300)
    assert np.abs(mesh.bounds.mean(0) - middle).max() < PIXEL and np.allclose(np.ptp(mesh.bounds, axis=0), 30 * PIXEL, atol=2 * PIXEL)


def test_imod(cell, capsys):
    ImodModel = pytest.importorskip('imodmodel').ImodModel
    folder = export(cell, 'imod', spacing=8.)
    assert capsys.readouterr().out == f'3dmod {cell.parent}/cell.mrc {folder}/membranes.mod\n'
    model = ImodModel.from_file(folder/'membranes.mod')
    head, thing = model.header, model.objects[0]
    assert (head.xmax, head.ymax, head.zmax, head.objsize) == (40, 44, 36, 1) and head.pixelsize == pytest.approx(1.2) and head.units == -9
    assert thing.header.name in ('membrane 1', b'membrane 1') and thing.header.contsize == 1 and len(model.objects) == 1
    far = np.linalg.norm(thing.contours[0].points - (19.5, 22.5, 17), axis=1)
    assert len(far) > 10 and np.abs(far - 13).max() < 1


def test_napari(cell, capsys, monkeypatch):
    "The script, with a napari that only takes notes."
    folder = export(cell, 'napari')
    assert capsys.readouterr().out == f'python {folder}/view.py\n'
    calls = []
    viewer = SimpleNamespace(add_image=lambda a, **how: calls.append((a, how)), add_labels=lambda a, **how: calls.append((a, how)))
    monkeypatch.setitem(sys.modules, 'napari', SimpleNamespace(Viewer=lambda: viewer, run=lambda: None))
    runpy.run_path(folder/'view.py')
    (image, how), (labels, same) = calls
    assert image.shape == labels.shape == SIZE and labels.dtype == np.uint16 and set(np.unique(labels)) == {0, 1}
    assert how['scale'] == same['scale'] == (12, 12, 12) and same['translate'] == (300, 200, 100)


def test_copick_names_and_layout(cell, capsys):
    pytest.importorskip('zarr')
    folder = export(cell, 'copick', spacing=8.)
    assert capsys.readouterr().out == f'copick browse -c {folder}/copick_config.json\n'
    run = folder/'ExperimentRuns'/'cell'
    config = json.loads((folder/'copick_config.json').read_text())
    assert config['overlay_root'] == f'local://{folder}/' and config['pickable_objects'][0]['name'] == 'membrane'
    for kind, dtype in (('Segmentations', '|u1'), ('InstanceSegmentations', '<u2')):
        store = run/kind/'12.000_membranenb_0_membrane.zarr'
        array = json.loads((store/'0'/'.zarray').read_text())
        image = json.loads((store/'.zattrs').read_text())['multiscales'][0]
        assert array['zarr_format'] == 2 and array['dtype'] == dtype and array['shape'] == list(SIZE)
        assert image['version'] == '0.4' and [a['name'] + a['unit'] for a in image['axes']] == ['zangstrom', 'yangstrom', 'xangstrom']
        assert image['datasets'][0]['coordinateTransformations'][0]['scale'] == [12, 12, 12]
    picks = json.loads((run/'Picks'/'membranenb_0_membrane.json').read_text())
    at = np.array([[p['location'][a] for a in 'xyz'] for p in picks['points']]) - np.array(MIDDLE[::-1]) * PIXEL
    turn = np.array([p['transformation_'] for p in picks['points']])
    assert np.abs(np.linalg.norm(at, axis=1) - 13 * PIXEL).max() < PIXEL and (turn[:, :3, 3] == 0).all()
    assert (np.einsum('ni,ni->n', turn[:, :3, 2], at) > 0).all() and {p['instance_id'] for p in picks['points']} == {1}
    assert (run/'Meshes'/'membranenb_0_membrane.glb').exists() and _foreign_files(cell) == ''


def test_an_export_is_ours_until_somebody_changes_it(cell, tmp_path):
    folder = export(cell, 'chimerax')
    export(cell, 'chimerax')
    assert _foreign_files(cell) == ''
    (folder/'mine.txt').write_text('a note')
    with pytest.raises(InputError, match='holds mine.txt'): export(cell, 'chimerax')
    assert 'mine.txt' in _foreign_files(cell)
    with pytest.raises(InputError, match='holds no mask.mrc; wanted a folder that membrane segment has made'): export(tmp_path, 'imod')
    with pytest.raises(InputError, match="found 'blender'; wanted napari, chimerax"): export(cell, 'blender')
    with pytest.raises(InputError, match='gone.mrc: no such file; wanted the tomogram'): export(cell, 'napari', tomo='gone.mrc')
    assert not (cell/'imod').exists()


def test_points():
    assert spread_out(np.zeros(0, int), np.zeros((0, 3)), 1.).size == 0
    number, place, _ = middle_points(np.zeros((4, 4, 4), np.uint8), 1., 1.)
    assert len(number) == len(place) == 0
    place = np.column_stack([np.arange(0, 50, .5)] + [np.zeros(100)] * 2)
    stays = spread_out(np.zeros(100, int), place, 3.)
    gaps = np.diff(place[stays, 0])
    assert gaps.min() > 3 and gaps.max() < 6.5
    assert spread_out(np.arange(100), place, 3.).all() # each of a membrane of its own


@pytest.mark.parametrize('words, said', [
    (['export'], 'membrane export: parameter folder: found nothing; wanted folder that membrane segment has made'),
    (['export', 'x'], 'parameter program: found nothing'),
    (['export', 'x', 'napari'], 'x: holds no mask.mrc'),
    (['export', 'x', 'imod', 'y'], "found 'y'; wanted folder and program"),
    (['export', 'x', 'imod', '--spaceing', '3'], '; nearest is spacing'),
    (['convert', 'a.tif'], 'membrane convert: parameter tomo: found nothing; wanted the tomogram'),
    (['convert', 'a.tif', 'gone.mrc'], 'gone.mrc: no such file'),
])
def test_the_commands_refuse_in_one_sentence(tmp_path, monkeypatch, words, said):
    from membrane_nb.cli import membrane
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as e: membrane(words)
    assert said in str(e.value) and '\n' not in str(e.value)


def test_the_commands(cell, capsys):
    from membrane_nb.cli import membrane
    membrane(['export', str(cell), 'imod', '--spacing', '20'])
    assert capsys.readouterr().out.startswith('3dmod ') and (cell/'imod'/'membranes.mod').exists()
    np.save(cell.parent/'drawn.npy', np.ones(SIZE, bool))
    membrane(['convert', str(cell.parent/'drawn.npy'), str(cell.parent/'cell.mrc')])
    assert (cell.parent/'cell_mask.mrc').exists()


def test_the_test_of_copick_is_its_own():
    "`make test-copick` has a virtual environment, because copick wants zarr below 3."
    assert 'build/copick' in (ROOT/'Makefile').read_text() and (ROOT/'benchmarks'/'copick_reads.py').exists()
