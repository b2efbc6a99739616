"The sign, the scale and the look of a tomogram, decided with the network at hand."
import json

import numpy as np
import pytest

from membrane_nb.checks import InputError
from membrane_nb.data import Tomo, _resample_to
from membrane_nb.infer import find_sign, open_job
from membrane_nb.metrics import scores, tally
from membrane_nb.plain import phantom
from membrane_nb.weights import load_unet, pretrained
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume


@pytest.fixture(scope='module')
def cell(tmp_path_factory):
    "A phantom as a file, and the same with its sign turned."
    folder = tmp_path_factory.mktemp('cell')
    vol, msk, pixel = phantom((12, 128, 128), seed=780)
    return write_mrc(folder/'dark.mrc', vol, pixel).path, write_mrc(folder/'bright.mrc', -vol, pixel).path, msk


def test_a_turned_tomogram_gives_the_same_mask(cell, tmp_path):
    dark, bright, _ = cell
    masks = [open_volume(open_job(path, output=tmp_path/path.stem, device='cpu').run(pictures=False)/'mask.mrc')[:] for path in (dark, bright)]
    assert masks[0].any() and np.array_equal(*masks)


def test_the_sign_that_was_taken_is_said_and_kept(cell, tmp_path):
    job = open_job(cell[1], output=tmp_path/'out', device='cpu')
    assert [n for n in job.notes if 'are taken as bright, its sign is turned (the network finds' in n]
    assert json.loads((job.run(pictures=False)/'segmentation.json').read_text())['scale']['sign'] == -1


def test_density_is_not_overruled(cell, tmp_path):
    job = open_job(cell[0], output=tmp_path/'out', contrast='bright', device='cpu')
    assert job.tomo.scale.sign == -1 and any('as contrast says' in n for n in job.notes)


def test_where_nothing_is_found_the_sign_is_undecided():
    noise = np.random.default_rng(0).standard_normal((9, 96, 96)).astype(np.float32)
    sign, why = find_sign(Tomo(noise), load_unet(pretrained()), .999999)
    assert sign == 1 and why.startswith('undecided') and 'contrast' in why


def test_next_to_nothing_comes_with_advice(cell, tmp_path, capsys):
    job = open_job(cell[0], output=tmp_path/'out', threshold=.999999, device='cpu')
    folder = job.run(pictures=False)
    said = [n for n in json.loads((folder/'segmentation.json').read_text())['notes'] if 'finetune.yaml' in n]
    assert job.share < .001 and len(said) == 1 and said[0] in capsys.readouterr().err


@pytest.mark.parametrize('pixel, spread, zoom, factor', [
    (20., 1.2, 0., 2.), (20., 2.5, 0., 1.), (5., 2.5, 0., 1.), (3., 2.5, 0., .3), (10., 1.2, .5, .5), (0., 1.2, 1.5, 1.5), (10., 1.2, 1., 1.)])
def test_how_large_the_network_sees_it(pixel, spread, zoom, factor):
    seen, _ = _resample_to(np.zeros((10, 40, 60), np.float32), pixel, 10., 'v', spread, zoom)
    expected = tuple(round(n * factor) for n in (10, 40, 60)) if .33 <= factor <= 3 else (10, 40, 60)
    assert seen.shape == expected


def test_a_zoom_is_undone_in_the_results(cell, tmp_path):
    folder = open_job(cell[0], output=tmp_path/'out', zoom=.8, device='cpu').run(pictures=False)
    msk = open_volume(folder/'mask.mrc')
    assert msk.shape == cell[2].shape and scores(tally(msk[:].astype(bool), cell[2]))['dice'] > .6


@pytest.mark.parametrize('zoom', [-1, 5])
def test_a_zoom_that_cannot_be(cell, tmp_path, zoom):
    with pytest.raises(InputError, match='parameter zoom'): open_job(cell[0], output=tmp_path/'out', zoom=zoom)


def test_zooms_are_tried_in_the_pixels_of_the_slice(cell, tmp_path):
    job = open_job(cell[0], output=tmp_path/'out', device='cpu')
    probs = job.try_zooms((1., .5, 1.5))
    assert [prob.shape for prob in probs] == [(128, 128)] * 3 and all(0 <= prob.min() and prob.max() <= 1 for prob in probs)
    folder = job.run(pictures=False)
    assert abs(probs[0] - open_volume(folder/'prob.mrc')[6]).mean() < .02
