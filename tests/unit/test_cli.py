"The command line: how a tomogram is named, and which words are refused."
import shutil, sys

import pytest
from conftest import ROOT
from membrane_nb.checks import InputError
from membrane_nb.cli import _one_name, membrane_infer


def command(run, *words, cwd=ROOT):
    return run('membrane_infer', *words, cwd=cwd)


def test_the_tomogram_is_the_first_word(run, volumes, tmp_path):
    "D12"
    (tmp_path/'data').mkdir()
    shutil.copy(volumes/'tomo.mrc', tmp_path/'data'/'my cell.mrc')
    done = command(run, 'data/my cell.mrc', '--weights', volumes/'weights.pt', '--device', 'cpu', '--engine', 'torch', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f'{tmp_path}/my cell_membranes: mask.mrc') and (tmp_path/'my cell_membranes'/'mask.mrc').exists()


@pytest.mark.parametrize('words, said', [
    ([], 'found no tomogram; wanted one'),
    (['a.mrc', 'b.mrc'], 'found 2 tomograms (a.mrc ...); wanted one; or for many a folder, a list (CSV), or a pattern in quotes'),
    (['a.mrc', '--tomo', 'b.mrc'], 'found 2 tomograms'),
    (['a.mrc', '--tta', 'b.mrc'], "found 'b.mrc'; wanted a tomogram, and then options"),
    (['a.mrc', '--thresold', '.5'], '; nearest is threshold'),
    (['a.mrc', '--min-sise=4'], '; nearest is min_size'),
    (['cell.mrc'], 'cell.mrc: no such file, looked for from {}; there is data/cell.mrc; wanted an MRC file'),
    (['--tomo', 'cell.mrc', '--weights', 'w.pt'], 'w.pt: no such file, looked for from {}; there is data/w.pt; wanted weights'),
])
def test_words_that_are_refused(run, tmp_path, words, said):
    "In one sentence, with exit code 1, and nothing is written."
    (tmp_path/'data').mkdir()
    for name in ('cell.mrc', 'w.pt'): (tmp_path/'data'/name).touch()
    done = command(run, *words, cwd=tmp_path)
    assert done.returncode == 1 and said.format(tmp_path) in done.stderr
    assert done.stderr.startswith('membrane_infer: ') and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ['data']


def test_a_program_that_calls_the_command_keeps_its_own_words(monkeypatch):
    "Words of another program's command line are not read as ours."
    monkeypatch.setattr(sys, 'argv', ['another', '--its-option'])
    with pytest.raises(SystemExit, match='none.mrc: no such file'): membrane_infer('none.mrc')
    with pytest.raises(SystemExit, match='none.mrc: no such file'): membrane_infer(tomo='none.mrc')


def test_one_name():
    assert _one_name('a.mrc', '') == _one_name(['a.mrc'], '') == _one_name([], 'a.mrc') == 'a.mrc'
    with pytest.raises(InputError, match='found no tomogram'): _one_name('', '')
