"What the tests share, and the closing line `N passed, N failed`."
import os, subprocess, sys
from collections import Counter
from functools import cache
from pathlib import Path

import forked
import mrcfile
import nbformat
import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent/'shared'/'data'
PYTHON = 'membrane', 'membrane_infer', 'papermill', 'nbdev_clean', 'nbdev_export', 'nbdev_test', 'torchrun' # commands that are Python


@cache
def python():
    "The words that start a Python which has loaded torch already, where there is one, as `sys.executable` starts another."
    return forked.start() if sys.platform == 'linux' else [sys.executable]


@pytest.fixture(scope='session')
def run(tmp_path_factory):
    """Run a command of this environment in a folder (the repository by default); results without a name go to a temporary folder.
    A test that counts memory, threads or modules starts `sys.executable` itself: a fork has those of the process that forked."""
    elsewhere = str(tmp_path_factory.mktemp('output'))
    port = 29500 + int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0')[2:]) # of torchrun, one for each process of the tests
    bin = Path(sys.executable).parent
    def run(*args, cwd=ROOT, **more):
        first, *rest = map(str, args)
        env = os.environ | dict(PATH=f'{bin}{os.pathsep}{os.environ["PATH"]}', MEMBRANE_OUTPUT=elsewhere, PET_MASTER_PORT=str(port)) | more
        if first == sys.executable: words = [*python(), *rest]
        elif first in PYTHON: words = [*python(), str(bin/first), *rest]
        else: words = [first, *rest]
        return subprocess.run(words, cwd=cwd, capture_output=True, text=True, env=env)
    return run


@pytest.fixture(scope='session')
def volumes(tmp_path_factory):
    "A small phantom, its mask, and weights of a small untrained network, as files."
    from membrane_nb.mrc import write_mrc
    from membrane_nb.plain import phantom
    from membrane_nb.unet import UNet
    folder = tmp_path_factory.mktemp('volumes')
    vol, msk, pixel = phantom((24, 96, 80), seed=3)
    write_mrc(folder/'tomo.mrc', vol, pixel)
    write_mrc(folder/'mask.mrc', msk.astype(np.int8), pixel)
    torch.manual_seed(0)
    torch.save(UNet(7, 8).state_dict(), folder/'weights.pt')
    return folder


@pytest.fixture(scope='session')
def cell_and_mask():
    "A phantom, and its mask."
    from membrane_nb.plain import phantom
    return phantom((16, 96, 96), seed=1)[:2]


@pytest.fixture(scope='session')
def cell(cell_and_mask): return cell_and_mask[0]


@pytest.fixture
def files(cell_and_mask, tmp_path):
    "A tomogram, its mask, and three other tomograms."
    from membrane_nb.mrc import write_mrc
    vol, msk = cell_and_mask
    write_mrc(tmp_path/'tomo.mrc', vol, 10.)
    write_mrc(tmp_path/'msk.mrc', msk.astype(np.int8), 10.)
    for name in 'abc': write_mrc(tmp_path/f'{name}.mrc', vol + np.float32(ord(name)), 10.)
    return tmp_path


@pytest.fixture(scope='session')
def segmented(volumes, tmp_path_factory):
    "The folder of the results of `volumes`, without pictures, for tests that read it."
    from membrane_nb.infer import open_job
    job = open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path_factory.mktemp('segmented')/'out', device='cpu', min_size=0)
    return job.run(pictures=False)


@pytest.fixture
def shared():
    "The folder of volumes to try the software on."
    if not SHARED.is_dir(): pytest.skip(f'{SHARED.name}/: the volumes to try the software on are not here')
    return SHARED


def opened(given):
    "A run of training that is opened with these options."
    from membrane_nb.options import RecipeOptions
    from membrane_nb.training import open_run
    return open_run(RecipeOptions(**given))


def trained(**given):
    "The folder of a whole run of training with these options."
    run = opened(given)
    for _ in run.train(): pass
    run.score()
    return run.finish()


def instrument(name, folder):
    "A copy of a page that ends before its lessons."
    nb = nbformat.read(ROOT/'nbs'/f'{name}.ipynb', 4)
    end, = (i for i, cell in enumerate(nb.cells) if '# How it works' in cell.source.splitlines())
    nb.cells = nb.cells[:end]
    path = folder/f'{Path(name).name}.ipynb'
    nbformat.write(nb, path)
    return path


def papermill(run, page, out, *more, cwd=ROOT, **given):
    "Run a page with these parameters, text as it is typed."
    words = [word for name, value in given.items() for word in ('-p' if isinstance(value, (int, float)) else '-r', name, value)]
    return run('papermill', *more, page, out, *words, cwd=cwd)


def stored_mrc(path, data):
    "An MRC file as another program writes it."
    with mrcfile.new(path, data, overwrite=True): pass
    return path


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else '' for p in sorted(folder.rglob('*'))}


_outcomes = Counter()

def pytest_runtest_logreport(report):
    if report.when == 'call' or report.outcome != 'passed': _outcomes[report.outcome] += 1

def pytest_unconfigure(config):
    if hasattr(config, 'workerinput'): return # one of several processes; the first one counts for all
    skipped = f', {_outcomes["skipped"]} skipped' * bool(_outcomes['skipped'])
    print(f'{_outcomes["passed"]} passed, {_outcomes["failed"]} failed{skipped}')
