"The command line: how a tomogram is named, and which words are refused."
import os, shutil, sys

import pytest
from conftest import ROOT
from membrane_nb.checks import InputError
from membrane_nb.cli import _one_name, membrane, membrane_infer
from membrane_nb.options import (ConvertOptions, ExportOptions, FetchOptions, ManyOptions, MeasureOptions,
    OneOptions, RecipeOptions)


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
    with pytest.raises(SystemExit, match='none.mrc: no such file'): membrane_infer(['none.mrc'])
    with pytest.raises(SystemExit, match='none.mrc: no such file'): membrane_infer(['--tomo', 'none.mrc'])


def test_one_name():
    assert _one_name(['a.mrc'], '') == _one_name([], 'a.mrc') == 'a.mrc'
    with pytest.raises(InputError, match='found no tomogram'): _one_name([], '')


@pytest.mark.parametrize('command, models', [('segment', (OneOptions, ManyOptions)), ('train', (RecipeOptions,)), ('fetch', (FetchOptions,)),
    ('export', (ExportOptions,)), ('convert', (ConvertOptions,)), ('measure', (MeasureOptions,))])
def test_every_option_is_in_the_help(capsys, command, models):
    with pytest.raises(SystemExit, match='0'): membrane([command, '--help'])
    said = ' '.join(capsys.readouterr().out.split())
    for model in models:
        for name, field in model.model_fields.items():
            if name != 'tomograms': assert f'--{name} ' in said and ' '.join(field.description.split()[:2]) in said, name
    assert '--no_trust_mask' not in said


def test_the_help_of_all(capsys):
    membrane(['--help'])
    assert 'membrane segment' in capsys.readouterr().out
    with pytest.raises(SystemExit, match="membrane: found 'look'; wanted segment or train or measure or annotate or fetch or export or convert"): membrane(['look'])


@pytest.mark.parametrize('words, said', [
    (['segment', 'x.mrc', '--density', 'dark'], 'membrane segment: parameter density: is called contrast now; wanted contrast'),
    (['segment', 'x.mrc', '--contrast', 'grey'], "parameter contrast: found 'grey'; wanted auto, dark or bright"),
    (['segment', 'x.mrc', '--min-size=-1'], 'parameter min_size: found -1.0; wanted 0 to '),
    (['segment', 'x.mrc', '--threshold'], 'argument --threshold: expected one argument'),
    (['segment', 'x.mrc', '--workers', '2'], '--workers 2: is for many tomograms; wanted a folder'),
    (['segment', '.', '--mask', 'm.mrc'], '--mask m.mrc: is for one tomogram; wanted a list'),
    (['train', 'a.mrc', 'b.mrc', 'c.mrc'], "membrane train: found 'c.mrc'; wanted a tomogram and its mask"),
    (['train', '-f', 'none.yaml'], 'none.yaml: no such file'),
    (['train', '--epoch', '3'], 'membrane train: parameter epoch: unknown; .*; nearest is epochs'),
])
def test_words_that_the_command_refuses(tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=said): membrane(words)
    assert not list(tmp_path.iterdir())


def test_only_the_first_process_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for rank, said in (('0', 'membrane segment: none.mrc: no such file'), ('1', '^1$')):
        monkeypatch.setenv('RANK', rank)
        with pytest.raises(SystemExit, match=said): membrane(['segment', 'none.mrc'])


def test_recipes_and_words(tmp_path, monkeypatch):
    "Later recipes win, and what is typed wins over all; yes and no can be typed."
    from membrane_nb import training
    (tmp_path/'a.yaml').write_text('epochs: 3\nlr: 0.1\noverwrite: true\n')
    (tmp_path/'b.yaml').write_text('lr: 0.2\n')
    given = {}
    monkeypatch.setattr(training, 'train', lambda **options: given.update(options), raising=False)
    membrane(['train', 'cell.mrc', 'few.mrc', '-f', str(tmp_path/'a.yaml'), '-f', str(tmp_path/'b.yaml'), '--batch-size', '4', '--no-overwrite'])
    assert given == dict(tomo='cell.mrc', mask='few.mrc', epochs=3, lr=.2, batch_size='4', overwrite=False)


def test_the_command_waits_for_torch_as_it_should():
    "The variables are set before torch is loaded."
    import subprocess
    code = ("import os, sys\nfrom membrane_nb.cli import _prepare\nassert 'torch' not in sys.modules\n_prepare()\n"
            "print(os.environ['OMP_WAIT_POLICY'], os.environ['THP_MEM_ALLOC_ENABLE'])")
    plain = {name: value for name, value in os.environ.items() if name not in ('OMP_WAIT_POLICY', 'THP_MEM_ALLOC_ENABLE')}
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, env=plain, capture_output=True, text=True)
    assert done.stdout.split() == ['PASSIVE', '1'], done.stderr
