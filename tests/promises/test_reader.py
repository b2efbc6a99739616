"What a newcomer meets first: weights in the wheel, one meaning of a path, a page that works before it explains."
import os, re, shutil, subprocess, sys

import nbformat
import pytest
from conftest import ROOT


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    "The package as a wheel installs it, without its dependencies, away from the repository."
    folder = tmp_path_factory.mktemp('wheel')
    source = folder/'source'
    source.mkdir()
    for name in ('settings.ini', 'setup.py', 'README.md'): shutil.copy(ROOT/name, source/name)
    shutil.copytree(ROOT/'membrane_nb', source/'membrane_nb', ignore=shutil.ignore_patterns('__pycache__'))
    pip = [sys.executable, '-m', 'pip', '--quiet', '--disable-pip-version-check']
    subprocess.run([*pip, 'wheel', '--no-deps', '--wheel-dir', folder, source], check=True)
    wheel, = folder.glob('*.whl')
    subprocess.run([*pip, 'install', '--no-deps', '--target', folder/'site', wheel], check=True)
    return folder/'site'


def test_a_wheel_segments_with_the_weights_that_ship(installed, tmp_path):
    code = ("import membrane_nb; from membrane_nb.infer import open_job; "
            "print(membrane_nb.__file__); print(open_job(output='found').run(pictures=False))")
    env = os.environ | dict(PYTHONPATH=str(installed))
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed)), 'the library of the checkout was used'
    assert {'mask.mrc', 'prob.mrc', 'segmentation.json'} <= {p.name for p in (tmp_path/'found').iterdir()}


@pytest.mark.parametrize('folder', ['.', 'nbs', 'data'])
def test_a_path_means_the_same_wherever_the_kernel_starts(run, folder):
    "JupyterLab starts a kernel in the folder of the notebook, papermill where it was called."
    code = "from membrane_nb.page import work_at_root; work_at_root(); import os; print(os.getcwd())"
    done = run(sys.executable, '-c', code, cwd=ROOT/folder)
    assert done.stdout.strip() == str(ROOT)


def test_outside_of_a_repository_paths_start_where_papermill_was_called(run, tmp_path):
    (tmp_path/'settings.ini').write_text('[DEFAULT]\nlib_name = another')
    code = "from membrane_nb.page import work_at_root; work_at_root(); import os; print(os.getcwd())"
    done = run(sys.executable, '-c', code, cwd=tmp_path)
    assert done.stdout.strip() == str(tmp_path)


@pytest.mark.parametrize('page', ['index', '00_data', '01_sampler', '02_unet', '03_train', '04_infer'])
def test_a_page_with_paths_works_at_the_root(page):
    "After its cell of parameters, before any file is opened."
    cells = [c.source for c in nbformat.read(ROOT/'nbs'/f'{page}.ipynb', 4).cells if c.cell_type == 'code']
    calls = [i for i, source in enumerate(cells) if 'work_at_root()' in source]
    opens = [i for i, source in enumerate(cells) if 'Tomo.open(' in source or 'open_run(' in source or 'open_job(' in source]
    assert calls and calls[0] <= min(opens, default=calls[0])


def test_a_notebook_of_ones_own_is_ignored_by_git():
    if not (ROOT/'.git').exists(): pytest.skip('no git repository here')
    names = ['out.ipynb', 'data/my_tomogram.ipynb', 'data/cell.mrc', 'output/cell/card.json', 'cell.local.ipynb']
    done = subprocess.run(['git', 'check-ignore', *names], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == names


def test_lab_starts_at_the_root():
    done = subprocess.run(['make', '--dry-run', 'lab'], cwd=ROOT, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if 'jupyter lab' in line)
    assert '--notebook-dir .' in line and 'nbs/index.ipynb' in line and '--LabApp.news_url=None' in line


@pytest.mark.parametrize('page, work', [('03_train', 'run.train('), ('04_infer', 'job.run(')])
def test_the_run_stands_before_the_definitions(page, work):
    cells = [c.source for c in nbformat.read(ROOT/'nbs'/f'{page}.ipynb', 4).cells]
    run = next(i for i, source in enumerate(cells) if work in source)
    first_definition = next(i for i, source in enumerate(cells) if '#| export' in source)
    assert run < first_definition


PAGES = sorted(str(p.relative_to(ROOT/'nbs'))[:-6] for p in (ROOT/'nbs').rglob('[!.]*.ipynb'))

@pytest.mark.parametrize('page', PAGES)
def test_a_picture_lies_in_the_first_screen(page):
    "In one of the first five cells that a reader sees: a drawn one, or an image in the text."
    cells = [c for c in nbformat.read(ROOT/'nbs'/f'{page}.ipynb', 4).cells if not c.source.startswith('#| hide')]
    pictures = 'image/jpeg', 'image/png', 'image/svg+xml'
    shown = [i for i, c in enumerate(cells)
             if '![' in c.source and c.cell_type == 'markdown' or '```' in c.source and c.cell_type == 'markdown'
             or any(kind in o.get('data', {}) for o in c.get('outputs', []) for kind in pictures)]
    assert shown and shown[0] < 6


def test_a_module_imports_from_floors_below_its_own():
    "The table of docs/design.md is the truth."
    rows = re.findall(r'^\| (\d+) \| (.*) \|$', (ROOT/'docs'/'design.md').read_text(), re.M)
    floor = {name: int(number) for number, names in rows for name in re.findall(r'`(\w+)`', names)}
    modules = {p.stem: p.read_text() for p in (ROOT/'membrane_nb').glob('[a-z]*.py')}
    assert floor.keys() == modules.keys()
    upwards = [(name, other) for name, text in modules.items()
               for other in re.findall(r'from (?:\.|membrane_nb\.)(\w+) import', text) if floor[other] >= floor[name]]
    assert upwards == []
