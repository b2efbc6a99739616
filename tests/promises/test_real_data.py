"Real volumes go through, as they are; skipped where they are absent. They are never trained on for anything that ships."
import numpy as np
import pytest

from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.split import read_parts
from membrane_nb.infer import open_job
from membrane_nb.volume import open_volume


def found_in(shared, volumes, tmp_path, name):
    "What was decided about a volume, and the probabilities."
    job = open_job(shared/name, weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu')
    job.run(pictures=False)
    vol, prob, msk = open_volume(shared/name), open_volume(tmp_path/'out'/'prob.mrc'), open_volume(tmp_path/'out'/'mask.mrc')
    assert prob.shape == msk.shape == vol.shape and prob.pixel == msk.pixel == vol.pixel
    return job.notes, prob


def test_mito(shared):
    parts = read_parts(str(shared/'mito_tomo.mrc'), str(shared/'mito_mask.mrc.gz'), '', 7)
    assert {p: len(zs) for p, [(_, zs)] in parts.items()} == dict(train=58, val=13, test=13)
    tomo = parts['train'][0][0]
    assert tomo.pixel == 8 and tomo.scale.sign == 1 and .06 < tomo.rows.sum() / np.prod(tomo.vol.shape) < .063


def test_microtubules_are_recognised_as_inverted(shared, volumes, tmp_path):
    notes, _ = found_in(shared, volumes, tmp_path, 'microtubules.mrc')
    assert any('microtubules.mrc: membranes are taken as bright, its sign is turned' in note for note in notes)


@pytest.mark.parametrize('name', ['mito_tomo.mrc', 'mito_noisy_tomo.mrc', 'chlamydomonas_z129.mrc'])
def test_dark_volumes_are_not_turned(shared, volumes, tmp_path, name):
    notes = open_job(shared/name, weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu').notes
    assert len(notes) == 2 and f'{name}: membranes are taken as dark' in notes[0] and 'agrees with torch' in notes[1]


def test_one_slice_is_segmented(shared, volumes, tmp_path):
    _, prob = found_in(shared, volumes, tmp_path, 'chlamydomonas_z129.mrc')
    assert prob.shape == (1, 924, 924) and prob[0].min() >= 0 and prob[0].max() <= 1


def test_a_mask_of_another_tomogram(shared):
    with pytest.raises(InputError, match='as the tomogram'): Tomo.open(shared/'microtubules.mrc', shared/'mito_mask.mrc.gz')
