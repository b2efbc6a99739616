"From a folder of a segmentation to a table."
import csv, json

import numpy as np
import pytest

import membrane_nb as mb
from membrane_nb.checks import InputError
from membrane_nb.cli import membrane
from membrane_nb.instances import NumberedMembranes
from membrane_nb.measuring import measure_volume, read_points
from membrane_nb.mrc import write_mrc
from membrane_nb.plain import _image_cell
from membrane_nb.scene import bilayer
from membrane_nb.shapes import ball
from membrane_nb.store import fingerprint
from membrane_nb.thickness import measure_thickness


def vesicle(apart=3.5, bright=False):
    "A vesicle with a radius of 12 nm, imaged, and its mask."
    axis = np.arange(38) - 18.3
    at = np.stack(np.meshgrid(axis, axis, axis, indexing='ij'))
    distance = np.abs(ball(at, (12, 12, 12)))
    msk = (distance <= 2.2).astype(np.uint8)
    sheet = bilayer(distance, 10., .3, apart)
    vol = _image_cell(sheet, 0 * sheet, msk, 10., np.random.default_rng(0), 2., flip=True)
    return (-vol if bright else vol), msk


@pytest.fixture
def found(tmp_path):
    "A folder as `segment` writes it."
    vol, msk = vesicle()
    folder = tmp_path/'cell_membranes'
    folder.mkdir()
    write_mrc(tmp_path/'cell.mrc', vol, 10.)
    write_mrc(folder/'mask.mrc', msk.astype(np.int8), 10.)
    record = dict(tomogram='cell.mrc', voxels=fingerprint(vol), pixel=10., scale=dict(sign=1))
    (folder/'segmentation.json').write_text(json.dumps(record))
    return folder


def test_the_command_writes_a_table_figures_and_surfaces(found, capsys):
    membrane(['measure', str(found), '--within', '20'])
    said = capsys.readouterr().out
    folder = found.parent/'cell_measures'
    assert said.startswith(str(folder)) and '1 membranes' in said
    row, = csv.DictReader((folder/'measures.csv').open())
    assert abs(float(row['area_nm2']) / (4 * np.pi * 144) - 1) < .05 and row['ends'] == 'closed'
    assert row['nearest_membrane_nm'] == '' and row['area_within_20_nm_of_another_nm2'] == '0'
    assert {'thickness.png', 'area.png', 'curvature.png', 'distance.png', 'thickness.ply', 'curvature.glb'} <= {p.name for p in folder.iterdir()}


def test_what_is_refused(found):
    with pytest.raises(InputError, match='cell_measures: is there already|is not the tomogram'):
        write_mrc(found.parent/'other.mrc', vesicle()[0] + 1, 10.)
        mb.measure(found, tomo=str(found.parent/'other.mrc'))
    assert not (found.parent/'cell_measures').exists()
    with pytest.raises(InputError, match='unknown; wanted one of'): mb.measure(found, withn=3)
    (found.parent/'cell.mrc').unlink()
    with pytest.raises(InputError, match='lies neither beside it nor here'): mb.measure(found)
    with pytest.raises(InputError, match='no such file'): mb.measure(found.parent)


def test_bright_membranes_measure_the_same():
    vol, msk = vesicle()
    labels = NumberedMembranes(msk, 10.)
    dark = measure_volume(vol, labels, 10.)
    bright = measure_volume(-vol, labels, 10., sign=-1)
    assert dark.rows[0]['thickness_nm'] == pytest.approx(bright.rows[0]['thickness_nm'], nan_ok=True)


def test_thickness_of_noise_cannot_be_told():
    _, msk = vesicle()
    noise = np.random.default_rng(0).standard_normal(msk.shape)
    labels = NumberedMembranes(msk, 10.)
    row, = measure_volume(noise, labels, 10.).rows
    assert row['thickness_kind'] == 'cannot be told' and np.isnan(row['thickness_nm']) and row['area_nm2'] > 0


def test_an_interval_holds_its_median():
    vol, msk = vesicle(4.5)
    labels = NumberedMembranes(msk, 10.)
    one, = measure_thickness(measure_volume(vol, labels, 10.).sheets).values()
    assert one.low < one.high and 2.5 <= one.low and one.high <= 6.1 and len(one.local) == len(one.patches)
    assert one.kind == 'cannot be told' or one.low <= one.nm <= one.high


def test_an_empty_mask_has_an_empty_table():
    labels = NumberedMembranes(np.zeros((8, 16, 16), np.int8), 10.)
    measured = measure_volume(np.zeros((8, 16, 16)), labels, 10.)
    assert measured.rows == [] and repr(measured).startswith('0 membranes')


@pytest.mark.parametrize('text, said', [
    ('data_', 'has no particles'),
    ('loop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n', 'has no particles'),
    ('loop_\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnCoordinateZ\n1 2 x\n', 'is no number'),
])
def test_a_star_file_that_is_none(tmp_path, text, said):
    (tmp_path/'p.star').write_text(text)
    with pytest.raises(InputError, match=said): read_points(tmp_path/'p.star')


def test_a_star_file_with_optics(tmp_path):
    "The block of particles is the last one."
    text = 'data_optics\nloop_\n_rlnOpticsGroup #1\n1\n\ndata_particles\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateZ #2\n_rlnCoordinateY #3\n1 3 2\n'
    (tmp_path/'p.star').write_text(text)
    assert read_points(tmp_path/'p.star').tolist() == [[3, 2, 1]]


def test_an_empty_mask_says_what_would_have_been_seen(tmp_path, capsys):
    noise = np.random.default_rng(0).standard_normal((28, 64, 64)).astype(np.float32)
    write_mrc(tmp_path/'cell.mrc', noise, 20.)
    found = mb.segment(tmp_path/'cell.mrc', output=tmp_path/'cell_membranes', contrast='dark', device='cpu')
    membrane(['measure', str(found.folder), '--spikes', '3'])
    said = capsys.readouterr().out
    assert '0 membranes' in said and 'no membrane was found; of' in said and 'nothing is promised for rims and for flat' in said
    rows = list(csv.DictReader((tmp_path/'cell_measures'/'spikes.csv').open()))
    assert 1 <= len(rows) <= 3 and all(0 <= float(row['found_fraction']) <= 1 for row in rows)
    assert {p.name for p in (tmp_path/'cell_measures').glob('[!.]*')} == {'measures.csv', 'spikes.csv', 'spikes.png'}
    (tmp_path/'other.pt').write_bytes(b'other weights')
    with pytest.raises(InputError, match='other.pt did not make this segmentation'):
        mb.measure(found, spikes=3, weights=str(tmp_path/'other.pt'), overwrite=True)
