"The names at the top: what they are, what they cost, and the lines of the README."
import inspect, subprocess, sys
from importlib import import_module

import pytest
from conftest import ROOT
import membrane_nb
import membrane_nb as mb

MODULES = sorted(path.stem for path in (ROOT/'membrane_nb').glob('[a-z]*.py'))


def test_every_name_is_what_it_should_be():
    "Also when every module is loaded: no module bears the name of a verb."
    for name in MODULES: import_module(f'membrane_nb.{name}')
    assert not set(mb.__all__) & set(MODULES)
    kinds = dict(Tomo=type, InputError=type)
    for name in mb.__all__:
        if name == 'train' and not hasattr(membrane_nb.training, 'train'): continue # comes with the options of training
        found = getattr(mb, name)
        assert isinstance(found, type) if name in kinds else inspect.isfunction(found), name
        assert found.__name__ == name and found.__doc__
    assert set(mb.__all__) <= set(dir(mb)) and mb.__version__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"): mb.nothing


def test_importing_costs_nothing():
    "Under a tenth of a second, and without torch or numpy."
    code = ("import sys, time; start = time.perf_counter(); import membrane_nb; taken = time.perf_counter() - start; "
            "print(taken, 'torch' in sys.modules, 'numpy' in sys.modules, len(dir(membrane_nb)))")
    done = [subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True).stdout.split() for _ in range(3)]
    assert min(float(taken) for taken, *_ in done) < .1 and done[0][1:3] == ['False', 'False'] and int(done[0][3]) >= 12


def test_a_tomogram_is_opened_and_found_in(volumes, tmp_path):
    cell = mb.open_tomogram(volumes/'tomo.mrc', volumes/'mask.mrc', contrast='dark')
    assert repr(cell).startswith('tomo.mrc: (24, 96, 80) float32, 10 Å\ntomo.mrc: membranes are taken as dark (as contrast says)')
    assert cell._repr_html_().startswith('<img src="data:image/jpeg;base64,') and 'as contrast says' in cell._repr_html_()
    with pytest.raises(mb.InputError, match='parameter density: is called contrast now'): mb.open_tomogram(volumes/'tomo.mrc', density='dark')
    found = mb.segment(volumes/'tomo.mrc', volumes/'mask.mrc', output=tmp_path/'found', device='cpu', engine='torch')
    assert found.mask.shape == found.probability.shape == cell.vol.shape and found.scores['dice'] > .5
    assert (found.mask[:] <= (found.probability[:] >= .5)).all() and found.folder == tmp_path/'found'
    assert repr(found).startswith(f'{tmp_path}/found: mask.mrc, overlays.png') and 'of the voxels are membrane, Dice 0.' in repr(found)
    html = found._repr_html_()
    assert html.startswith('<img') and all(note[:30] in html for note in found.remarks if "'" not in note[:30])


def test_a_run_that_is_stopped_leaves_nothing(volumes, tmp_path, monkeypatch):
    from membrane_nb.infer import Job
    monkeypatch.setattr(Job, 'draw', lambda job: 1 / 0)
    with pytest.raises(ZeroDivisionError): mb.segment(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'found', device='cpu')
    assert list(tmp_path.iterdir()) == []


def test_the_four_lines(volumes, tmp_path):
    "Open, segment, train, segment with what was trained."
    if not hasattr(import_module('membrane_nb.training'), 'train'): pytest.skip('train comes with the options of training')
    tiny = dict(k=3, base=8, epochs=1, patches_per_epoch=2, batch_size=1, patch=32, output=tmp_path, device='cpu')
    run = mb.train(volumes/'tomo.mrc', volumes/'mask.mrc', **tiny)
    found = mb.segment(volumes/'tomo.mrc', weights=run.weights, output=tmp_path/'found', device='cpu')
    assert found.mask.shape == (24, 96, 80)
