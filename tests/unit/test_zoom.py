"How large the network sees a tomogram whose voxel size is not known."
import json

import pytest
from membrane_nb.infer import open_job, segment
from membrane_nb.mrc import write_mrc
from membrane_nb.plain import phantom

FAST = dict(contrast='dark', device='cpu', engine='torch')


@pytest.fixture(scope='module')
def fine():
    "A phantom with voxels of 4 Å, finer than the network knows."
    return phantom((16, 320, 320), seed=8, pixel=4.)[0][4:12, 96:, 96:].copy()


def test_an_unknown_voxel_size_is_found_out(fine, tmp_path):
    "The smaller size is taken, said in one sentence, and undone in the results."
    path = write_mrc(tmp_path/'cell.mrc', fine, 0.).path
    found = segment(path, output=tmp_path/'out', **FAST)
    said = [note for note in found.remarks if 'parameter zoom' in note]
    assert len(said) == 1 and 'so that size is taken' in said[0]
    assert found.mask.shape == fine.shape
    record = json.loads((found.folder/'segmentation.json').read_text())
    assert record['seen_shape'] == [6, 157, 157] and record['asked']['zoom'] == 0


@pytest.mark.parametrize('given', [dict(zoom=1.), dict(zoom=.5)])
def test_a_zoom_that_is_named_is_taken(fine, tmp_path, given):
    job = open_job(write_mrc(tmp_path/'cell.mrc', fine, 0.).path, output=tmp_path/'out', **FAST, **given)
    assert not [note for note in job.notes if 'parameter zoom' in note]
    assert job.tomo.resampled.shape[-1] == round(given['zoom'] * 224)


def test_a_header_is_believed_and_a_hand_is_not(fine, tmp_path):
    "A voxel size in the header decides alone; one that a user names is tried against 0.7 of it."
    path = write_mrc(tmp_path/'cell.mrc', fine, 10.).path
    assert not [note for note in open_job(path, output=tmp_path/'a', **FAST).notes if 'parameter zoom' in note]
    notes = open_job(path, output=tmp_path/'b', voxel_size=10., **FAST).notes
    assert len([note for note in notes if 'parameter zoom' in note]) == 1
