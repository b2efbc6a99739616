"Painting by hand: the right voxels, undo, and a file that holds every stroke, also when the kernel is killed."
import os, signal, subprocess, sys

import numpy as np
import pytest

from conftest import ROOT
from membrane_nb.browser import Browser, annotate, browse, linked, write_notebook
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.mrc import open_mrc, write_mrc
from membrane_nb.painter import BACKGROUND, NOT_ANNOTATED, Annotation, annotation_path, ridge_cost, snap, stroke_voxels
from membrane_nb.plain import phantom


@pytest.fixture(scope='module')
def cell(): return phantom((8, 96, 80), seed=5)


@pytest.fixture
def tomo(cell, tmp_path): return write_mrc(tmp_path/'cell.mrc', cell[0], cell[2])


class Silent(Browser):
    "A browser that keeps what it sends to a page that is not there."
    def send(self, content, buffers=()):
        if content['kind'] != 'again': self.__dict__.setdefault('sent', []).append((content, buffers))
    def hear(self, **content):
        self._answer(self, content, [])
        return self.sent[-1][0]


def test_a_stroke_is_what_lies_within_its_radius():
    rng = np.random.default_rng(0)
    for _ in range(4):
        points, radius = rng.uniform(-5, 45, (4, 2)), rng.uniform(1, 6)
        along = np.concatenate([np.linspace(a, b, 200) for a, b in zip(points, points[1:])])
        voxels = np.indices((40, 40)).reshape(2, -1).T
        nearest = np.linalg.norm(voxels[:, None] - along[None], axis=2).min(1).reshape(40, 40)
        painted = stroke_voxels(points, radius, (40, 40))
        assert painted[nearest <= radius].all() and not painted[nearest > radius + .2].any()


def test_a_small_brush_paints_the_voxel_under_the_mouse():
    for point in ((3.49, 4.51), (0, 0), (-.4, 9.4)):
        painted = stroke_voxels([point], .01, (10, 10))
        assert painted[tuple(np.rint(point).astype(int).clip(0, 9))] and painted.sum() <= 4


def test_a_line_follows_a_dark_ridge_of_either_sign():
    y, x = np.indices((80, 120))
    ridge = 40 + 15 * np.sin(np.arange(120) / 18)
    img = 1 - np.exp(-((y - ridge) / 2.5)**2)
    clicks = [(ridge[10], 10), (ridge[60], 60), (ridge[110], 110)]
    for sign in (1, -1):
        way = snap(ridge_cost(sign * img, 1.5, sign), clicks)
        assert np.abs(way[:, 0] - ridge[way[:, 1]]).max() < 2
        assert np.abs(np.diff(way, axis=0)).max() == 1, 'no gap'
    outside = snap(ridge_cost(img, 1.5), [(-20, -20), (200, 200)])
    assert outside.min() >= 0 and (outside.max(0) <= (79, 119)).all()


def test_each_stroke_is_on_the_disk(tomo, tmp_path):
    paper = Annotation(tomo, tmp_path/'a.mrc')
    assert (open_mrc(tmp_path/'a.mrc')[:] == NOT_ANNOTATED).all()
    paper.stroke(3, [(20, 30), (20, 50)], 4.)
    on_disk = open_mrc(tmp_path/'a.mrc')
    assert (on_disk[3] == stroke_voxels([(20, 30), (20, 50)], 2., (96, 80))).all() # 10 Å a voxel
    assert (np.delete(on_disk[:], 3, 0) == NOT_ANNOTATED).all() and on_disk.pixel == tomo.pixel
    paper.stroke(3, [(20, 40)], 4., BACKGROUND)
    paper.stroke(3, [(60, 40)], 4., NOT_ANNOTATED)
    assert open_mrc(tmp_path/'a.mrc')[3][20, 40] == 0 and open_mrc(tmp_path/'a.mrc')[3][60, 40] == 2


def test_undo_and_redo(tomo, tmp_path):
    paper = Annotation(tomo, tmp_path/'a.mrc')
    states = [open_mrc(paper.path)[:]]
    for z, y in ((3, 20), (3, 30), (5, 20)):
        paper.stroke(z, [(y, 40)], 6.)
        states.append(open_mrc(paper.path)[:])
    for state in states[-2::-1]:
        paper.undo()
        assert np.array_equal(open_mrc(paper.path)[:], state)
    assert paper.undo() is None and not paper.annotated
    for state in states[1:]:
        paper.redo()
        assert np.array_equal(open_mrc(paper.path)[:], state)
    paper.undo()
    paper.stroke(6, [(1, 1)])
    assert paper.redo() is None, 'a new stroke ends what could be done again'


def test_a_killed_kernel_loses_nothing(tomo, tmp_path):
    code = ("import sys; from membrane_nb.mrc import open_mrc; from membrane_nb.painter import Annotation\n"
            "paper = Annotation(open_mrc(sys.argv[1]), sys.argv[2])\n"
            "for i in range(10_000): paper.stroke(i % 8, [(i // 8 % 96, 10), (i // 8 % 96, 60)], 2.); print(i, flush=True)")
    child = subprocess.Popen([sys.executable, '-c', code, str(tomo.path), str(tmp_path/'a.mrc')], stdout=subprocess.PIPE,
        env=os.environ | dict(PYTHONPATH=str(ROOT)), text=True)
    for _ in range(12): last = int(child.stdout.readline())
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    paper = Annotation(tomo, tmp_path/'a.mrc')
    assert paper.annotated == set(range(8))
    for i in range(last + 1): assert paper[i % 8][i // 8, 10:61].all()
    paper.stroke(0, [(90, 70)])
    assert {p.name for p in tmp_path.iterdir()} == {'cell.mrc', 'a.mrc'}, 'nothing else is left'


def test_a_slice_starts_as_it_was_found(cell, tomo, tmp_path):
    vol, msk, _ = cell
    paper = Annotation(tomo, tmp_path/'a.mrc', found=msk)
    paper.stroke(4, [(0, 0)], 1., BACKGROUND)
    same = np.array_equal(paper[4][5:], msk[4][5:])
    assert same and paper.annotated == {4}
    prob = Annotation(tomo, tmp_path/'b.mrc', found=msk * np.float32(.6))
    prob.threshold = .7
    prob.put(4, prob.start(4))
    assert not prob[4].any() and prob.annotated == {4}


def test_the_mask_is_one_that_training_reads(tomo, tmp_path):
    paper = Annotation(tomo, annotation_path(tomo.path))
    for z in (1, 6): paper.line(z, [(10, 10), (80, 60)])
    paper.save()
    mask = Tomo.open(tomo.path, tmp_path/'cell_annotation.mrc').msk
    assert mask.annotated.tolist() == [1, 6] and 'cell_annotation.mrc: 2 slices are annotated: 1, 6' in mask.note
    header = open_mrc(paper.path).header
    assert (header.dmin, header.dmax) == (0, 2)


def test_what_is_no_painted_mask_is_left_alone(cell, tomo, tmp_path):
    vol, msk, pixel = cell
    write_mrc(tmp_path/'labels.mrc', (3 * msk).astype(np.int8), pixel)
    write_mrc(tmp_path/'grey.mrc', vol.astype(np.float32), pixel)
    write_mrc(tmp_path/'small.mrc', msk[:4].astype(np.int8), pixel)
    for name, why in (('labels', 'holds other values'), ('grey', 'holds float32'), ('small', r'has shape \(4, 96, 80\)'), ('cell', 'holds')):
        before = (tmp_path/f'{name}.mrc').read_bytes()
        with pytest.raises(InputError, match=why): Annotation(tomo, tmp_path/f'{name}.mrc')
        assert (tmp_path/f'{name}.mrc').read_bytes() == before


def test_the_page_is_answered(tomo, tmp_path):
    silent = Silent(tomo, paper=Annotation(tomo, tmp_path/'a.mrc'))
    assert silent.hear(kind='take', z=2)['text'] == 'a.mrc: annotated slices: 2'
    silent.hear(kind='line', z=4, points=[[10, 10], [80, 60]], size=4.4, value=1)
    assert silent.annotated == [2, 4]
    way = silent.hear(kind='way', z=4, points=[[10, 10], [80, 60]])
    assert way['points'][0] == [10, 10] and way['points'][-1] == [80, 60]
    silent.hear(kind='undo')
    assert silent.annotated == [2]
    planes = silent.hear(kind='planes', planes=['xy', 'zy', 'xz'], at=[4, 40, 40], mean=3, limits=silent.limits, number=7)
    assert planes['number'] == 7 and [(p['layers'][0]['rows'], p['layers'][0]['columns']) for p in planes['planes']] == [(96, 80), (96, 8), (8, 80)]
    assert silent.hear(kind='stroke', z=99, points=[[1, 1]], size=1, value=1)['wrong']
    assert 'written' in silent.hear(kind='save')['text']


def test_planes_across_z_are_those_of_the_volume(cell, tomo):
    browser = browse(tomo, cell[1])
    for copy in (browser.grey_copy, browser.found_copy): copy.thread.join()
    at = (3, 50, 20)
    assert np.array_equal(browser.layers('zy', at)['found'], cell[1][:, :, 20].T)
    assert np.array_equal(browser.layers('xz', at)['found'], cell[1][:, 50])
    lo, hi = browser.limits
    exact = ((cell[0][:, 50] - lo) / (hi - lo) * 255).clip(0, 255)
    assert np.abs(browser.picture('xz', at).astype(float) - exact).max() < 4


def test_the_share_of_each_threshold(cell, tomo):
    prob = np.random.default_rng(0).random(tomo.shape, np.float32)
    silent = Silent(tomo, prob)
    silent.found_copy.thread.join()
    for threshold in (.1, .5, .62, .99):
        assert silent.shares[round(200 * threshold)] == pytest.approx((prob >= np.float32(threshold)).mean(), abs=1e-4)


def test_two_browsers_move_together(tomo):
    one, two = browse(tomo), browse(tomo)
    linked(one, two)
    one.at = [1, 2, 3]
    assert two.at == [1, 2, 3]


def test_the_door_and_its_notebook(tomo, tmp_path, monkeypatch):
    from membrane_nb import cli
    painter = annotate(tomo.path, at=3)
    assert painter.paper.path == tmp_path/'cell_annotation.mrc' and painter.at == [3, 48, 40] and painter.info['paint']
    calls = []
    monkeypatch.setattr(cli.subprocess, 'run', calls.append)
    cli.membrane(['annotate', str(tomo.path), '--contrast', 'dark'])
    notebook = tmp_path/'cell_annotation.ipynb'
    assert calls[0][-1] == str(notebook) and "contrast='dark'" in notebook.read_text()
    notebook.write_text('mine')
    assert write_notebook(tomo.path) == notebook and notebook.read_text() == 'mine'
    with pytest.raises(SystemExit, match='none.mrc: no such file'): cli.membrane(['annotate', 'none.mrc'])
