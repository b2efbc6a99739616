"The pages, the browser and the painter, by mouse and keys, in JupyterLab: what changes on the screen, and on the disk."
import io, json, os, shutil, signal, socket, subprocess, sys, time, urllib.request
from importlib.util import find_spec
from statistics import median

import nbformat
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from membrane_nb.mrc import open_mrc, write_mrc
from membrane_nb.painter import Annotation, stroke_voxels
from membrane_nb.plain import phantom
from conftest import ROOT, instrument

SHOTS = ROOT/'build'/'browser' # the page where a test failed, and the latencies
CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
PATIENCE = int(os.environ.get('MEMBRANE_BROWSER', 0)) # seconds to wait for the page; a busy machine needs more


def why_not():
    "A few words where there is no browser; '' where these tests can run."
    if not PATIENCE: return 'make test-browser runs these'
    if not CHROMIUM: return 'no Chromium here (apt-get install chromium)'
    if not find_spec('playwright'): return 'no Playwright here (pip install playwright)'
    return ''

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or 'runs')


# ---- JupyterLab, and a page of Chromium

@pytest.fixture(scope='module')
def lab(tmp_path_factory):
    "The address of a JupyterLab, and its folder."
    folder = tmp_path_factory.mktemp('lab')
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    own = dict(JUPYTER_CONFIG_DIR=str(folder/'.config'), JUPYTER_DATA_DIR=str(folder/'.data'), JUPYTER_RUNTIME_DIR=str(folder/'.runtime'))
    env = os.environ | own | dict(PYTHONPATH=str(ROOT), MEMBRANE_OUTPUT=str(folder/'output'), OMP_NUM_THREADS='1')
    settings = { # no question about news, and no look at whether JupyterLab should be built anew
        '.config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings': dict(fetchNews='false', checkForUpdates=False),
        '.config/labconfig/page_config.json': dict(buildCheck=False, buildAvailable=False),
    }
    for name, values in settings.items():
        (folder/name).parent.mkdir(parents=True, exist_ok=True)
        (folder/name).write_text(json.dumps(values))
    command = [sys.executable, '-m', 'jupyter', 'lab', '--no-browser', f'--port={port}', '--port-retries=0', '--allow-root',
        '--IdentityProvider.token=', '--LabApp.news_url=None', '--LabApp.expose_app_in_browser=True', f'--ServerApp.root_dir={folder}']
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
    from playwright.sync_api import Error, sync_playwright
    with sync_playwright() as play:
        try: browser = play.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--enable-unsafe-swiftshader'])
        except Error as e: pytest.skip(f'Chromium does not start here: {e.message.splitlines()[0]}')
        page = browser.new_page(viewport=dict(width=1280, height=1000))
        page.set_default_timeout(PATIENCE * 1000)
        yield page
        browser.close()


@pytest.fixture(autouse=True)
def picture(request, page):
    "Keep a picture of the page where a test fails."
    failed = request.session.testsfailed
    yield
    if request.session.testsfailed == failed: return
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS/f'{request.node.name}.png')


READY = """() => { // a kernel is connected and waits
  const kernel = window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel;
  return kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}"""
RUN_ALL = "async () => { await window.jupyterapp.commands.execute('notebook:run-all-cells'); }"
OUTPUTS = "() => window.jupyterapp.shell.currentWidget.context.model.toJSON().cells"
SHUT_DOWN = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"

def run_all(page):
    "Run all cells of the notebook that is open; none may fail."
    page.wait_for_function(READY)
    page.evaluate(RUN_ALL)
    cells = [cell for cell in page.evaluate(OUTPUTS) if cell['cell_type'] == 'code']
    wrong = [out for cell in cells for out in cell['outputs'] if out['output_type'] == 'error']
    assert not wrong, wrong[0]['evalue']
    assert all(cell['execution_count'] for cell in cells if cell['source'].strip())
    return cells

def show(page, lab, name, sources):
    "Write cells into a notebook, open it, and run all."
    url, folder = lab
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nb.metadata['kernelspec'] = dict(name='python3', display_name='Python 3')
    nbformat.write(nb, folder/f'{name}.ipynb')
    page.goto(f'{url}/doc/tree/{name}.ipynb')
    return run_all(page)


class Shown:
    "A browser on the page."
    def __init__(self, page, n=0, across=192):
        self.page = page
        self.across = across # voxels
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
        "Wait until the browser says that it shows this."
        arg = [self.root.element_handle(), name, str(value)]
        self.page.wait_for_function('([e, name, value]) => e.getAttribute(`data-${name}`) === value', arg=arg)
    def changed(self, name, act):
        "Do something, and wait until this changes."
        arg = [self.root.element_handle(), name, self.data(name)]
        act()
        self.page.wait_for_function('([e, name, before]) => e.getAttribute(`data-${name}`) !== before', arg=arg)
    def named(self, name): return self.root.locator(f'[name={name}]')
    def words(self, name): return self.named(name).inner_text()
    def click(self, name): self.named(name).click()
    def press(self, key): self.page.keyboard.press(key)
    def plane(self, name='xy'): return self.root.locator(f'canvas[data-plane={name}]')
    def picture(self, name='xy'):
        "The pixels of a plane, (y, x, 3)."
        self.page.mouse.move(2, 2)
        self.quiet()
        return np.asarray(Image.open(io.BytesIO(self.plane(name).screenshot())).convert('RGB')).astype(int)
    def orange(self):
        "How many pixels are membrane."
        rgb = self.picture()
        return int((rgb[..., 0] - rgb[..., 2] > 40).sum())
    def at(self, y, x):
        "Where a voxel is on the screen."
        box = self.plane().bounding_box()
        scale = box['width'] / self.across
        return box['x'] + (x + .5) * scale, box['y'] + box['height'] - (y + .5) * scale
    def go(self, z):
        self.named('z').fill(str(z))
        self.until('z', z)
    def stroke(self, start, end):
        "Draw with the mouse, and wait until it is painted."
        self.page.mouse.move(*self.at(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end), steps=5)
        self.changed('painted', self.page.mouse.up)
    def line(self, points):
        "Click along some points, press Enter, and wait until the line is painted."
        self.click('line')
        for y, x in points: self.page.mouse.click(*self.at(y, x))
        self.changed('painted', lambda: self.press('Enter'))


# ---- the five pages

FASTER = { # what the page gets in place of its defaults
    '00_data': '',
    '01_sampler': '',
    '02_unet': '',
    '03_train': 'epochs, patches_per_epoch, base, patch = 1, 4, 8, 64',
    '04_infer': 'tomo, mask = "{folder}/cell.mrc", "{folder}/truth.mrc"',
}

@pytest.mark.parametrize('name', FASTER)
def test_page(name, cell, lab, page):
    "A page of the walk-through is opened, and all cells of its instrument run."
    url, folder = lab
    path = instrument(name, folder)
    nb = nbformat.read(path, 4)
    after, = (i for i, c in enumerate(nb.cells) if 'parameters' in c.metadata.get('tags', []))
    nb.cells.insert(after + 1, nbformat.v4.new_code_cell(FASTER[name].format(folder=folder)))
    nbformat.write(nb, path)
    page.goto(f'{url}/doc/tree/{path.name}')
    cells = run_all(page)
    kinds = {kind for c in cells for out in c['outputs'] for kind in out.get('data', {})}
    assert kinds & {'image/jpeg', 'image/png', 'image/svg+xml'}, 'a picture'
    if name in ('00_data', '04_infer'): assert Shown(page).picture().std() > 5
    page.evaluate(SHUT_DOWN)


# ---- look

@pytest.fixture(scope='module')
def cell(lab):
    "A phantom of 24 slices in the folder of JupyterLab, with its mask and a probability: volume, mask, Å."
    vol, msk, pixel = phantom((24, 192, 192), seed=5)
    write_mrc(lab[1]/'cell.mrc', vol, pixel)
    write_mrc(lab[1]/'truth.mrc', msk.astype(np.int8), pixel)
    write_mrc(lab[1]/'prob.mrc', (msk * .8 + .1).astype(np.float32), pixel)
    return vol, msk, pixel


LOOK = (
    "import membrane_nb as mb\nfrom membrane_nb.view import surface\nfrom membrane_nb.volume import open_volume",
    "b = mb.browse(open_volume('cell.mrc'), open_volume('prob.mrc'))\nb",
    "surface(open_volume('truth.mrc'), 10., faces=4000)",
)

@pytest.fixture(scope='module')
def look(cell, lab, page):
    "A notebook with a browser and a surface."
    show(page, lab, 'look', LOOK)
    return Shown(page)


def test_planes(look, page):
    first = look.picture()
    assert look.data('z') == '12'
    look.plane().click(position=dict(x=40, y=60))
    look.press('ArrowUp')
    look.until('z', 13)
    assert np.abs(look.picture() - first).mean() > 1, 'another slice'
    look.press('PageDown')
    look.until('z', 3)
    page.mouse.move(*look.at(100, 100))
    page.mouse.wheel(0, -100)
    look.until('z', 4)
    look.press('t')
    page.wait_for_function("document.querySelectorAll('.mb canvas[data-plane]').length === 3")
    look.quiet()
    page.mouse.click(*look.at(50, 60))
    look.until('x', 60)
    look.until('y', 50)
    assert look.picture('zy').std() > 5 and look.picture('xz').std() > 5
    look.click('three')
    page.wait_for_function("document.querySelectorAll('.mb canvas[data-plane]').length === 1")


def test_threshold(look, cell):
    look.go(4)
    assert look.orange() > 500
    look.named('threshold').fill('0.95')
    assert look.orange() == 0, 'nothing is above .95'
    assert '0.00 % of this slice' in look.words('share')
    look.named('threshold').fill('0.5')
    assert f'{100 * cell[1][4].mean():.2f} % of this slice' in look.words('share')
    assert f'{100 * cell[1].mean():.2f} % of all' in look.words('share')
    filled = look.orange()
    look.click('outline')
    assert 0 < look.orange() < filled, 'the edge alone'
    look.click('outline')
    look.press('o')
    assert look.orange() == 0, 'overlay off'
    look.press('o')


def test_contrast(look, page):
    before = look.picture()
    box = look.root.locator('.mb-histogram').bounding_box()
    y = box['y'] + box['height'] / 2
    page.mouse.move(box['x'] + .74 * box['width'], y)
    page.mouse.down()
    page.mouse.move(box['x'] + .5 * box['width'], y, steps=4)
    page.mouse.up()
    assert look.picture().mean() > before.mean() + 20, 'brighter'
    look.click('auto')
    assert abs(look.picture().mean() - before.mean()) < 1


def test_surface(look, page):
    "A drag turns the surface."
    figure = page.locator('.js-plotly-plot')
    figure.scroll_into_view_if_needed()
    eye = "() => JSON.stringify(document.querySelector('.js-plotly-plot')._fullLayout.scene._scene.getCamera().eye)"
    page.wait_for_function(eye)
    page.wait_for_timeout(1000)
    before, first = figure.screenshot(), page.evaluate(eye)
    assert np.asarray(Image.open(io.BytesIO(before)).convert('L')).std() > 5, 'there is a surface'
    box = figure.bounding_box()
    page.mouse.move(box['x'] + 300, box['y'] + 250)
    page.mouse.down()
    page.mouse.move(box['x'] + 420, box['y'] + 200, steps=6)
    page.mouse.up()
    page.wait_for_timeout(1000)
    assert page.evaluate(eye) != first and figure.screenshot() != before


# ---- paint

PAINT = (
    "import os\nfrom pathlib import Path\nimport membrane_nb as mb\nsize = Path('pid').write_text(str(os.getpid()))",
    "p = mb.annotate('cell.mrc', at=12)\np",
    "if len(p.paper.annotated) == 3: mb.train('cell.mrc', 'cell_annotation.mrc', init='pretrained', ignore_beyond=50, epochs=1, "
    "patches_per_epoch=2, patch=64, name='tuned', output='runs', device='cpu')",
)
TRACED = (3, 12, 20) # slices: to train, to validate and to test on

@pytest.fixture(scope='module')
def painter(cell, lab, page):
    "A notebook with a painter, and the mask that it paints."
    show(page, lab, 'paint', PAINT)
    return Shown(page), lab[1]/'cell_annotation.mrc'


def arc(msk):
    "Five voxels (y, x) along the largest membrane of a slice."
    pieces, _ = label(msk == 1)
    at = np.argwhere(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)
    y, x = (at - at.mean(0)).T
    turn = np.degrees(np.arctan2(y, x))
    near = [at[np.abs(turn - angle) < 4] for angle in range(-90, 91, 30)]
    return [some[len(some) // 2].tolist() for some in near if len(some)][:5]


def test_stroke(painter, cell):
    "A stroke is in the mask where the mouse went, and undo takes it back."
    shown, mask = painter
    assert (open_mrc(mask)[:] == 2).all()
    shown.click('brush')
    shown.stroke((150, 30), (150, 70))
    painted = open_mrc(mask)[12]
    wanted = stroke_voxels([(150, 30), (150, 70)], 5 * 10 / cell[2], painted.shape)
    assert (painted != wanted).sum() < .05 * wanted.sum() and set(np.unique(painted)) == {0, 1}
    assert (np.delete(open_mrc(mask)[:], 12, 0) == 2).all(), 'other slices are not annotated'
    assert shown.orange() > 500
    shown.click('eraser')
    shown.stroke((150, 50), (150, 50))
    erased = open_mrc(mask)[12]
    assert erased[150, 50] == 0 and erased.sum() < painted.sum()
    for key, wanted in (('z', painted), ('z', 2), ('y', painted), ('z', 2)):
        shown.changed('painted', lambda: shown.press(f'Control+{key}'))
        assert (open_mrc(mask)[12] == wanted).all()
    assert shown.orange() == 0


@pytest.fixture(scope='module')
def traced(painter, cell):
    "Lines along a membrane of three slices; the mask as it is then."
    shown, mask = painter
    for z in TRACED:
        shown.go(z)
        shown.line(arc(cell[1][z]))
    return open_mrc(mask)[:]


def test_line(traced, painter, cell, lab, tmp_path):
    "A line follows the membrane: in the mask are the voxels that Python's own line has."
    twin = Annotation(open_mrc(lab[1]/'cell.mrc'), tmp_path/'twin.mrc')
    for z in TRACED: twin.line(z, arc(cell[1][z]))
    assert np.array_equal(traced, open_mrc(twin.path)[:])
    assert cell[1][traced == 1].mean() > .8, 'on the membrane'
    assert painter[0].orange() > 100


def test_save(traced, painter, page):
    shown, mask = painter
    shown.click('save')
    page.wait_for_function("e => e.innerText.includes('written')", arg=shown.root.element_handle())
    assert open_mrc(mask).header.dmin == 0 and np.array_equal(open_mrc(mask)[:], traced)


@pytest.fixture(scope='module')
def reborn(traced, painter, lab, page):
    "The painter after its kernel was killed and all cells ran again; the last one trains. With the mask before that."
    shown, mask = painter
    os.kill(int((lab[1]/'pid').read_text()), signal.SIGKILL)
    page.locator('.jp-Dialog .jp-mod-accept').click() # the kernel has died, and starts anew
    before = open_mrc(mask)[:]
    run_all(page)
    return Shown(page), before


def test_killed_kernel(reborn, traced, painter):
    "All that was painted outlives the kernel, and is painted on."
    shown, before = reborn
    assert np.array_equal(before, traced) and np.array_equal(open_mrc(painter[1])[:], traced)
    assert shown.data('z') == '12' and shown.orange() > 100
    shown.click('brush')
    shown.stroke((150, 30), (150, 70))
    assert open_mrc(painter[1])[12][150, 50] == 1


def test_fine_tuning(reborn, lab):
    "A step of training takes the painted slices: one to train, one to validate and one to test on."
    card = json.loads((lab[1]/'runs'/'tuned'/'card.json').read_text())
    parts = zip(('train', 'val', 'test'), TRACED)
    assert card['data'] == {part: [f'cell.mrc, slices {z}'] for part, z in parts}
    assert (lab[1]/'runs'/'tuned'/'weights.safetensors').exists()


# ---- how long it takes

TIMED = (
    "import membrane_nb as mb\nfrom membrane_nb.volume import open_volume",
    "def blurred(name): # a probability, as noise\n    vol = open_volume(name)\n    return (vol[:] - vol[:].min()).astype('f4') / 200",
    "name = 'noise{side}.mrc'\nmb.annotate(name)",
    "mb.browse(open_volume(name), blurred(name))",
)
SLIDE = """([root, value]) => { // from a move of the slider to the last pixel, ms
  const slider = root.querySelector('[name=threshold]'), start = performance.now();
  slider.value = value;
  slider.dispatchEvent(new Event('input', { bubbles: true }));
  return performance.now() - start;
}"""

def milliseconds(shown, act, done='answered', taken='ms', times=20):
    "The median of what some moves took, from the event to the picture, as the page measures it."
    found = []
    for i in range(times):
        shown.changed(done, lambda: act(i))
        found.append(float(shown.data(taken)))
    return median(found)


@pytest.mark.parametrize('side', [400, 1024])
def test_latency(side, lab, page):
    "A table of what a move takes; nothing is asserted of time, which is the machine's."
    noise = np.random.default_rng(0).integers(-99, 99, (16, side, side)).astype(np.int16)
    write_mrc(lab[1]/f'noise{side}.mrc', noise, 10.)
    show(page, lab, f'timed{side}', [source.replace('{side}', str(side)) for source in TIMED])
    shown = Shown(page, 0, side)
    row = {}
    shown.click('brush')
    row['stroke'] = milliseconds(shown, lambda i: shown.stroke((side * .3 + i, 50), (side * .3 + i, 90)), 'painted', 'stroke-ms')
    row['contrast'] = milliseconds(shown, lambda i: shown.click('auto'))
    up_or_down = lambda i: shown.press('ArrowUp' if i % 2 else 'ArrowDown')
    row['slice'] = milliseconds(shown, up_or_down)
    shown.press('t')
    shown.quiet()
    row['slice, three planes'] = milliseconds(shown, up_or_down)
    shown = Shown(page, 1, side)
    shown.click('fit') # this browser takes the keys now
    row['slice and probability'] = milliseconds(shown, up_or_down)
    row['threshold'] = median(page.evaluate(SLIDE, [shown.root.element_handle(), .3 + i / 50]) for i in range(20))
    assert all(row.values())
    print(json.dumps({side: row}))
    SHOTS.mkdir(parents=True, exist_ok=True)
    (SHOTS/f'latency{side}.json').write_text(json.dumps(row))
    page.evaluate(SHUT_DOWN)
