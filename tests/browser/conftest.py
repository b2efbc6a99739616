"JupyterLab in a folder of its own, and a page of Debian's Chromium that shows a notebook of it."
import os, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
SHOTS = ROOT/'build'/'browser' # screenshots of what failed


def pytest_collection_modifyitems(items):
    "Without a browser, or without its driver, these tests say so."
    why = '' if CHROMIUM else 'no Chromium here (apt-get install chromium)'
    try: import playwright # noqa: F401
    except ImportError: why = 'no Playwright here (pip install playwright)'
    if not os.environ.get('MEMBRANE_BROWSER'): why = 'make test-browser runs these'
    for item in items:
        if why and Path(item.fspath).parent == Path(__file__).parent: item.add_marker(pytest.mark.skip(reason=why))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    "Keep a picture of the page where a test failed."
    report = (yield).get_result()
    page = getattr(item, 'funcargs', {}).get('page')
    if report.when != 'call' or report.passed or page is None: return
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS/f'{item.name}.png')


@pytest.fixture(scope='session')
def lab(tmp_path_factory):
    "The address of a JupyterLab, and its folder."
    folder = tmp_path_factory.mktemp('lab')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    env = os.environ | dict(PYTHONPATH=str(ROOT), JUPYTER_CONFIG_DIR=str(folder/'.config'), JUPYTER_DATA_DIR=str(folder/'.data'),
        JUPYTER_RUNTIME_DIR=str(folder/'.runtime'), OMP_NUM_THREADS='1')
    command = [sys.executable, '-m', 'jupyter', 'lab', '--no-browser', f'--port={port}', '--port-retries=0', '--allow-root', '--IdentityProvider.token=',
        '--LabApp.news_url=None', '--LabApp.expose_app_in_browser=True', f'--ServerApp.root_dir={folder}']
    with (folder/'lab.log').open('w') as log: server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    url = f'http://127.0.0.1:{port}'
    for _ in range(600):
        try: urllib.request.urlopen(f'{url}/api/status'); break
        except OSError: time.sleep(.5)
        assert server.poll() is None, (folder/'lab.log').read_text()
    yield url, folder
    server.terminate()
    server.wait(20)


@pytest.fixture(scope='session')
def page():
    "An empty page of 1280 by 1000 pixels."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        page = browser.new_page(viewport=dict(width=1280, height=1000))
        page.set_default_timeout(int(os.environ['MEMBRANE_BROWSER']) * 1000) # a busy machine needs more
        yield page
        browser.close()


@pytest.fixture(scope='session')
def notebook(lab, page):
    "Opens a notebook of some cells, and runs them all."
    url, folder = lab
    def show(name, *cells):
        "Write the cells into a file, show it, run it."
        nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        nb.metadata['kernelspec'] = dict(name='python3', display_name='Python 3')
        nbformat.write(nb, folder/f'{name}.ipynb')
        page.goto(f'{url}/doc/tree/{name}.ipynb')
        run_all(page)
    return show


def run_all(page):
    "Run all cells as soon as the kernel is there."
    page.wait_for_function('window.jupyterapp')
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")
