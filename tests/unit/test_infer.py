"Segmentation: sweeps of what 04_infer shows once."
import json, re, shutil

import numpy as np
import pytest

from membrane_nb.checks import InputError
from membrane_nb.infer import open_job
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume


def test_what_is_refused(volumes, tmp_path):
    fine = dict(tomo=volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'new', device='cpu')
    open_job(**(fine | dict(output=tmp_path/'out'))).run(pictures=False)
    for bad, said in (
        (dict(tomo='none.mrc'), 'no such file'), (dict(tile=100), 'a multiple of 16'), (dict(threshold=2.), 'parameter threshold'),
        (dict(min_size=-1.), 'parameter min_size'), (dict(device='abacus'), 'device'), (dict(output=volumes/'tomo.mrc'), 'is a file'),
        (dict(output=tmp_path/'out'), 'is there already'), (dict(output=tmp_path), 'and no list of files of ours'),
    ):
        with pytest.raises(InputError, match=said): open_job(**(fine | bad))


def test_a_bright_tomogram_gets_the_same_answer(volumes, tmp_path):
    dark = open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'dark', device='cpu')
    write_mrc(tmp_path/'bright.mrc', -open_volume(volumes/'tomo.mrc')[:], 10.)
    bright = open_job(tmp_path/'bright.mrc', weights=volumes/'weights.pt', output=tmp_path/'bright', device='cpu')
    prob = [open_volume(job.run(pictures=False)/'prob.mrc')[:] for job in (dark, bright)]
    assert np.abs(prob[0] - prob[1]).max() < 1e-4 and 'taken as bright' in bright.notes[0]


def test_a_named_voxel_size_is_in_every_result(volumes, tmp_path):
    "S6: header 1.342 Å, true 10; MRC and OME-Zarr, the mask, the probability, the record, and where they lie."
    import mrcfile
    shutil.copy(volumes/'tomo.mrc', tmp_path/'t.mrc')
    with mrcfile.mmap(tmp_path/'t.mrc', 'r+') as f: f.voxel_size, f.nstart = 1.342, (10, 0, -20)
    for format in ('mrc', 'zarr'):
        job = open_job(tmp_path/'t.mrc', weights=volumes/'weights.pt', output=tmp_path/format, device='cpu', voxel_size=10., format=format, threshold=.01)
        folder = job.run(pictures=False)
        assert json.loads((folder/'segmentation.json').read_text())['pixel'] == 10
        for name in ('mask', 'prob'):
            vol = open_volume(folder/job.file(name))
            assert (vol.pixel, vol.origin, vol.notes) == (10, (100, 0, -200), [])


def test_what_was_too_small_is_said(volumes, tmp_path):
    "S6: pieces and their share; where it is most of what was found, the advice names voxel_size and min_size."
    import mrcfile
    shutil.copy(volumes/'tomo.mrc', tmp_path/'t.mrc')
    with mrcfile.mmap(tmp_path/'t.mrc', 'r+') as f: f.voxel_size = 1.342
    threshold = float(np.quantile(open_volume(open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'a', device='cpu').run(pictures=False)/'prob.mrc')[:], .5))
    notes = {}
    for pixel, min_size in ((0., 1600.), (0., 0.), (10., 1600.)):
        job = open_job(tmp_path/'t.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu', threshold=threshold, min_size=min_size, voxel_size=pixel, overwrite=True)
        folder = job.run(pictures=False)
        notes[pixel, min_size] = json.loads((folder/'segmentation.json').read_text())['notes']
        left = int(open_volume(folder/'mask.mrc')[:].sum())
        found = int((open_volume(folder/'prob.mrc')[:] >= np.float32(threshold)).sum())
        assert job.removed[1] == (1 - left / found if job.min_voxels else 0) or abs(job.removed[1] - 1 + left / found) < 1e-9
    n, = re.findall(r't.mrc: (\d+) pieces smaller than 1600 nm³ were removed, 100.0% of what was found', '\n'.join(notes[0., 1600.]))
    assert int(n) > 0 and 'name the voxel size (voxel_size, now 1.342 Å), keep smaller pieces (min_size, now 1600 nm³)' in notes[0., 1600.][-1]
    assert not any('were removed' in note or 'min_size' in note for note in notes[0., 0.])
    assert not any('name the voxel size' in note for note in notes[10., 1600.])


@pytest.mark.parametrize('pixel', [-1., .01, .49, 100.5, 1000.])
def test_a_size_that_no_tomogram_has_is_not_named_either(volumes, tmp_path, pixel):
    with pytest.raises(InputError, match='parameter voxel_size: found .*; wanted 0.5 to 100|parameter voxel_size: found .*; wanted 0 to 100'):
        open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu', voxel_size=pixel)
