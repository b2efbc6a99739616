"A threshold that is kept by hand: what is written anew, and the same command run again."
import shutil
from dataclasses import replace

import numpy as np
import pytest

import membrane_nb as mb
from membrane_nb.checks import InputError
from membrane_nb.infer import kept_result
from membrane_nb.mrc import open_mrc
from membrane_nb.options import OneOptions
from membrane_nb.pieces import remove_small
from membrane_nb.results import damage, _foreign_files

HOW = dict(device='cpu', engine='torch')


@pytest.fixture(scope='module')
def result(volumes, tmp_path_factory):
    "One segmentation for all tests."
    return mb.segment(volumes/'tomo.mrc', volumes/'mask.mrc', output=tmp_path_factory.mktemp('found')/'found', min_size=400, **HOW)


@pytest.fixture
def found(result, tmp_path):
    "A copy of it, to be changed."
    shutil.copytree(result.folder, tmp_path/'found')
    mask, prob = (open_mrc(tmp_path/'found'/f'{name}.mrc') for name in ('mask', 'prob'))
    return replace(result, folder=tmp_path/'found', mask=mask, probability=prob)


def test_a_threshold_is_kept(found, volumes, tmp_path, capsys):
    prob, first = found.probability[:], found.record
    seconds = (found.folder/'prob.mrc').stat().st_mtime_ns
    said = found.keep(.6)
    assert said.startswith('found: kept at 0.6 by hand') and damage(found.folder) == {} and _foreign_files(found.folder) == ''
    mask = (prob >= np.float32(.6)).astype(np.int8)
    pieces, _ = remove_small(mask, round(400 / (found.tomo.pixel / 10)**3 * min(1, len(mask) * found.tomo.pixel / 200)))
    assert np.array_equal(found.mask[:], mask) and np.array_equal(found.probability[:], prob)
    record = found.record
    assert (record['threshold'], record['membrane_share']) == (.6, pytest.approx(mask.mean()))
    assert record['asked'] == first['asked'] and record['scores']['dice'] == found.scores['dice'] != first['scores']['dice']
    assert record['steps'][0]['threshold'] == first['threshold'] and record['steps'][1]['pieces_removed'] == pieces
    assert found.mask.header.cella.x == found.tomo.vol.header.cella.x

    again = mb.segment(volumes/'tomo.mrc', volumes/'mask.mrc', output=tmp_path/'found', min_size=400, overwrite=True, **HOW)
    assert 'kept at 0.6 by hand' in capsys.readouterr().err
    assert again.share == found.share and (found.folder/'prob.mrc').stat().st_mtime_ns == seconds
    assert np.array_equal(again.mask[:], mask) and again.threshold == .6

    same = dict(tomo=str(volumes/'tomo.mrc'), mask=str(volumes/'mask.mrc'), output=str(tmp_path/'found'), min_size=400., **HOW)
    assert kept_result(OneOptions(**same)).share == found.share
    for other in (dict(min_size=500.), dict(threshold=.4), dict(mask=''), dict(output=str(tmp_path/'other'))):
        assert kept_result(OneOptions(**same | other)) is None


def test_a_folder_with_files_of_others_is_left_alone(found):
    (found.folder/'notes.txt').write_text('mine')
    before = found.mask[:]
    with pytest.raises(InputError, match='notes.txt'): found.keep(.6)
    assert np.array_equal(found.mask[:], before) and (found.folder/'notes.txt').read_text() == 'mine'
    with pytest.raises(InputError, match='parameter threshold'): found.keep(1.)


def test_a_work_that_fails_leaves_the_result(found, monkeypatch):
    before, record = found.mask[:], found.record
    monkeypatch.setattr('membrane_nb.found.score_mask', lambda msk, tomo: 1 / 0)
    with pytest.raises(ZeroDivisionError): found.keep(.6)
    assert np.array_equal(found.mask[:], before) and found.record == record
    assert [p.name for p in found.folder.parent.iterdir()] == ['found']
