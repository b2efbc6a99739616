"The browser and the painter, by mouse and keys, in JupyterLab: what changes on the screen, and on the disk."
import io, json, os, shutil, socket, subprocess, sys, time, urllib.request
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import nbformat
import numpy as np
import pytest
from PIL import Image

from membrane_nb.mrc import open_mrc, write_mrc
from membrane_nb.painter import stroke_voxels
from membrane_nb.plain import phantom

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT/'build'/'browser' # the page at the end of each test, and the latencies
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
PATIENCE = int(os.environ.get('MEMBRANE_BROWSER', 0)) # seconds to wait for the page; a busy machine needs more


def why_not():
    "A few words where there is no browser; '' where these tests can run."
    if not PATIENCE: return 'make test-browser runs these'
    if not CHROMIUM: return 'no Chromium here (apt-get install chromium)'
    if not find_spec('playwright'): return 'no Playwright here (pip install playwright)'
    return ''

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or 'runs')

CELLS = (
    "import membrane_nb as mb\nfrom membrane_nb.volume import open_volume",
    "b = mb.browse(open_volume('cell.mrc'), open_volume('prob.mrc'))\nb",
    "p = mb.annotate('cell.mrc', at=12)\np",
    "if p.paper.annotated: mb.train('cell.mrc', 'cell_annotation.mrc', init='pretrained', ignore_beyond=50, epochs=1, "
    "patches_per_epoch=2, patch=64, name='tuned', output='runs', device='cpu')",
    "def blurred(name): # a probability, as noise\n    vol = open_volume(name)\n    return (vol[:] - vol[:].min()).astype('f4') / 200",
    "small = mb.annotate('noise400.mrc')\nsmall",
    "large = mb.annotate('noise1024.mrc')\nlarge",
    "small_found = mb.browse(open_volume('noise400.mrc'), blurred('noise400.mrc'))\nsmall_found",
    "large_found = mb.browse(open_volume('noise1024.mrc'), blurred('noise1024.mrc'))\nlarge_found",
)


@pytest.fixture(scope='module')
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
    for _ in range(2 * PATIENCE):
        try: urllib.request.urlopen(f'{url}/api/status'); break
        except OSError: time.sleep(.5)
        assert server.poll() is None, (folder/'lab.log').read_text()
    yield url, folder
    server.terminate()
    server.wait(60)


@pytest.fixture(scope='module')
def page():
    "An empty page of 1280 by 1000 pixels."
    from playwright.sync_api import sync_playwright
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        page = browser.new_page(viewport=dict(width=1280, height=1000))
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        browser.close()


@pytest.fixture(autouse=True)
def picture(request, page):
    "Keep a picture of the page as a test leaves it."
    yield
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS/f'{request.node.name}.png')


READY = """() => { // a kernel is connected and waits
  const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
  return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
RUN_ALL = "window.jupyterapp.commands.execute('notebook:run-all-cells')"

def show(page, url, folder, name, cells):
    "Write cells into a notebook, open it, and run all."
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    nb.metadata['kernelspec'] = dict(name='python3', display_name='Python 3')
    nbformat.write(nb, folder/f'{name}.ipynb')
    page.goto(f'{url}/doc/tree/{name}.ipynb')
    page.wait_for_function(READY)
    page.evaluate(RUN_ALL)


@pytest.fixture(scope='module')
def cell(lab, page):
    "A phantom of 24 slices in the folder of JupyterLab, with a probability, and a notebook that shows it."
    vol, msk, pixel = phantom((24, 192, 192), seed=5)
    write_mrc(lab[1]/'cell.mrc', vol, pixel)
    write_mrc(lab[1]/'prob.mrc', (msk * .8 + .1).astype(np.float32), pixel)
    for side in (400, 1024): write_mrc(lab[1]/f'noise{side}.mrc', np.random.default_rng(0).integers(-99, 99, (16, side, side)).astype(np.int16), pixel)
    show(page, *lab, 'look_and_paint', CELLS)
    return vol, msk, pixel


# ends the kernel without a word to it, and starts another
KILL = """async () => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  await kernel.restart();
}"""


class Shown:
    "A browser on the page."
    def __init__(self, page, n=0, across=192):
        self.page = page
        self.across = across
        self.root = page.locator('.mb').nth(n)
        page.wait_for_function('n => document.querySelectorAll(".mb[data-answered]").length > n', arg=n)
        self.root.scroll_into_view_if_needed()
        self.quiet()

    def data(self, name): return self.root.get_attribute(f'data-{name}')
    def quiet(self):
        "Wait until nothing has been drawn for a while."
        before = None
        while before != (before := self.data('drawn')): self.page.wait_for_timeout(400)
    def until(self, name, value):
        self.page.wait_for_function('([e, name, value]) => e.getAttribute(`data-${name}`) === value', arg=[self.root.element_handle(), name, str(value)])
    def plane(self, name='xy'): return self.root.locator(f'canvas[data-plane={name}]')
    def picture(self, name='xy'):
        self.page.mouse.move(2, 2)
        self.quiet()
        return np.asarray(Image.open(io.BytesIO(self.plane(name).screenshot())).convert('RGB')).astype(int)
    def orange(self):
        rgb = self.picture()
        return int((rgb[..., 0] - rgb[..., 2] > 40).sum())
    def at(self, y, x):
        "Where a voxel is on the screen."
        box = self.plane().bounding_box()
        scale = box['width'] / self.across
        return box['x'] + (x + .5) * scale, box['y'] + box['height'] - (y + .5) * scale
    def press(self, key): self.page.keyboard.press(key)


def test_planes_threshold_and_contrast(cell, page):
    shown = Shown(page)
    first = shown.picture()
    assert shown.data('z') == '12'
    shown.plane().click(position=dict(x=40, y=60))
    shown.press('ArrowUp')
    shown.until('z', 13)
    assert np.abs(shown.picture() - first).mean() > 1, 'another slice'
    shown.press('PageDown')
    shown.until('z', 3)
    page.mouse.move(*shown.at(100, 100))
    page.mouse.wheel(0, -100)
    shown.until('z', 4)

    assert shown.orange() > 500
    threshold = shown.root.locator('[data-name=threshold]')
    threshold.fill('0.95')
    assert shown.orange() == 0, 'nothing is above .95'
    assert '0.00 % of this slice' in shown.root.locator('.mb-bar').nth(1).inner_text()
    threshold.fill('0.5')
    share = 100 * cell[1][4].mean()
    assert f'{share:.2f} % of this slice' in shown.root.locator('.mb-bar').nth(1).inner_text()
    assert f'{100 * cell[1].mean():.2f} % of all' in shown.root.locator('.mb-bar').nth(1).inner_text()
    shown.press('o')
    assert shown.orange() == 0, 'overlay off'

    before = shown.picture()
    box = shown.root.locator('.mb-histogram').bounding_box()
    y = box['y'] + box['height'] / 2
    page.mouse.move(box['x'] + .74 * box['width'], y)
    page.mouse.down()
    page.mouse.move(box['x'] + .5 * box['width'], y, steps=4)
    page.mouse.up()
    assert shown.picture().mean() > before.mean() + 20, 'brighter'

    shown.press('t')
    page.wait_for_function("document.querySelector('.mb').querySelectorAll('canvas[data-plane]').length === 3")
    shown.quiet()
    page.mouse.click(*shown.at(50, 60))
    shown.until('x', 60)
    shown.until('y', 50)
    assert shown.picture('zy').std() > 5 and shown.picture('xz').std() > 5


def test_painting(cell, lab, page):
    vol, msk, pixel = cell
    folder = lab[1]
    shown = Shown(page, 1)
    mask = folder/'cell_annotation.mrc'
    assert (open_mrc(mask)[:] == 2).all()

    shown.root.get_by_role('button', name='brush').click()
    page.mouse.move(*shown.at(150, 30))
    page.mouse.down()
    page.mouse.move(*shown.at(150, 70), steps=5)
    page.mouse.up()
    shown.until('painted', 1)
    painted = open_mrc(mask)[12]
    wanted = stroke_voxels([(150, 30), (150, 70)], 5 * 10 / pixel, painted.shape)
    assert (painted != wanted).sum() < .05 * wanted.sum() and set(np.unique(painted)) == {0, 1}
    assert (np.delete(open_mrc(mask)[:], 12, 0) == 2).all(), 'other slices are not annotated'
    orange = shown.orange()
    assert orange > 500

    shown.root.get_by_role('button', name='line').click()
    ridge = np.argwhere(msk[12] == 1)
    ends = ridge[len(ridge) // 3], ridge[len(ridge) // 3 + 12]
    for y, x in ends: page.mouse.click(*shown.at(y, x))
    page.wait_for_timeout(500)
    shown.press('Enter')
    shown.until('painted', 2)
    after = open_mrc(mask)[12]
    new = (after == 1) & (painted != 1)
    assert all(after[y, x] == 1 for y, x in ends) and new.any()

    shown.press('Control+z')
    shown.until('painted', 3)
    assert np.array_equal(open_mrc(mask)[12], painted)
    shown.press('Control+z')
    shown.until('painted', 4)
    assert (open_mrc(mask)[:] == 2).all() and shown.orange() == 0
    for n in (5, 6):
        shown.press('Control+y')
        shown.until('painted', n)
    assert np.array_equal(open_mrc(mask)[12], after)

    shown.root.get_by_role('button', name='eraser').click()
    page.mouse.click(*shown.at(150, 50))
    shown.until('painted', 7)
    assert open_mrc(mask)[12][150, 50] == 0
    shown.root.get_by_role('button', name='save').click()
    page.wait_for_function("e => e.innerText.includes('written')", arg=shown.root.element_handle())
    assert open_mrc(mask).header.dmin == 0

    for z in (3, 20): # slices to train, validate and test on
        shown.root.locator('[data-name=z]').fill(str(z))
        shown.until('z', z)
        shown.root.get_by_role('button', name='brush').click()
        y, x = np.argwhere(msk[z] == 1)[100]
        before = int(shown.data('painted'))
        page.mouse.click(*shown.at(y, x))
        shown.until('painted', before + 1)
    saved = open_mrc(mask)[:]

    page.evaluate(KILL)
    page.wait_for_timeout(3000)
    assert np.array_equal(open_mrc(mask)[:], saved), 'a kernel that ends loses nothing'
    page.wait_for_function(READY)
    page.evaluate(RUN_ALL)
    weights = folder/'runs'/'tuned'/'weights.safetensors'
    for _ in range(240):
        if weights.exists(): break
        time.sleep(.5)
    assert weights.exists(), 'fine-tuning takes the mask up'


SLIDE = """([root, value]) => { // from a move of the slider to the last pixel, ms
  const slider = root.querySelector('[data-name=threshold]'), start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event('input'));
  return performance.now() - start;
}"""

def milliseconds(shown, act, done='answered', taken='ms', times=20):
    "The median of what some moves took, from the event to the picture, as the page measures it."
    found = []
    for i in range(times):
        before = shown.data(done)
        act(i)
        shown.page.wait_for_function('([e, name, before]) => e.getAttribute(`data-${name}`) !== before', arg=[shown.root.element_handle(), done, before])
        found.append(float(shown.data(taken)))
    return median(found)


def test_latency(cell, page):
    "A table of what a move takes; nothing is asserted of time, which is the machine's."
    table = {}
    for side, n in ((400, 2), (1024, 3)):
        shown = Shown(page, n, side)
        row = table[side] = {}
        row['stroke'] = milliseconds(shown, lambda i: stroke(shown, side * .3 + i), 'painted', 'stroke-ms')
        shown.root.focus()
        row['key'] = milliseconds(shown, lambda i: shown.press('ArrowUp' if i % 2 else 'ArrowDown'))
        row['contrast'] = milliseconds(shown, lambda i: shown.root.get_by_role('button', name='auto').click())
        shown.press('t')
        shown.quiet()
        row['key, three planes'] = milliseconds(shown, lambda i: shown.press('ArrowUp' if i % 2 else 'ArrowDown'))
        shown = Shown(page, n + 2, side)
        row['threshold'] = median(page.evaluate(SLIDE, [shown.root.element_handle(), .3 + i / 50]) for i in range(20))
    print(json.dumps(table, indent=1))
    (SHOTS/'latency.json').write_text(json.dumps(table, indent=1))


def stroke(shown, y):
    "A short stroke of the brush."
    shown.root.get_by_role('button', name='brush').click()
    shown.page.mouse.move(*shown.at(y, 50))
    shown.page.mouse.down()
    shown.page.mouse.move(*shown.at(y, 90), steps=3)
    shown.page.mouse.up()
