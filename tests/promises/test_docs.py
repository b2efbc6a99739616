"The site: it is built without a network, no page makes a request to another host, and every link leads somewhere."
import re, sys
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import pytest
from conftest import ROOT
from membrane_nb.options import (ConvertOptions, ExportOptions, ManyOptions, MeasureOptions, OneOptions,
    PaintOptions, RecipeOptions)

pytest.importorskip('sphinx', reason="Sphinx is not installed: pip install '.[docs]'")
pytest.importorskip('myst_nb', reason="myst-nb is not installed: pip install '.[docs]'")

ELSEWHERE = re.compile(r'^\s*(https?:)?//')
LOADED = ('script', 'src'), ('img', 'src'), ('iframe', 'src'), ('source', 'src'), ('video', 'src'), ('audio', 'src'), ('embed', 'src'), ('object', 'data'), ('link', 'href')


class Page(HTMLParser):
    "What a page loads, where its links lead, and the anchors it has."
    def __init__(self, path):
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()
        self.text = path.read_text(encoding='utf-8')
        self.feed(self.text)
    def handle_starttag(self, tag, attributes):
        a = dict(attributes)
        self.anchors |= {a[n] for n in ('id', 'name') if a.get(n)}
        self.loads += [a[n] for t, n in LOADED if t == tag and a.get(n)]
        if a.get('srcset'): self.loads += [part.split()[0] for part in a['srcset'].split(',')]
        if tag == 'a' and a.get('href'): self.links.append(a['href'])


@pytest.fixture(scope='module')
def site(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp('docs')/'site'
    done = run(sys.executable, ROOT/'docs'/'build.py', folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'WARNING' not in done.stderr, done.stderr[-3000:]
    return folder


@pytest.fixture(scope='module')
def pages(site): return {path.resolve(): Page(path) for path in site.glob('*.html')}


def test_every_page_is_there(site, pages):
    wanted = {p.stem for p in (ROOT/'nbs').rglob('[!.]*.ipynb')} | {p.stem for p in (ROOT/'docs').glob('*.md')} | {'index', 'search'}
    assert wanted <= {p.stem for p in pages}


def test_no_page_makes_a_request_to_another_host(site, pages):
    "Nor does a style sheet, or a module that a program imports."
    found = [(path.name, url) for path, page in pages.items() for url in page.loads if ELSEWHERE.match(url)]
    for path in [*site.glob('*.html'), *site.rglob('*.css'), *site.rglob('*.js')]:
        text = path.read_text(encoding='utf-8')
        if path.suffix != '.js': found += [(path.name, m) for m in re.findall(r'url\(\s*["\']?((?:https?:)?//[^)"\']*)|@import\s*["\']((?:https?:)?//[^"\']*)', text)]
        found += [(path.name, m) for m in re.findall(r'\b(?:from|import)\s*\(?\s*["\']((?:https?:)?//[^"\']*)', text)]
    assert found == []


def test_what_a_page_loads_is_there(pages):
    lost = [(path.name, url) for path, page in pages.items() for url in page.loads
            if not url.startswith('data:') and not (path.parent/unquote(urlsplit(url).path)).exists()]
    assert lost == []


def test_every_link_leads_somewhere(pages):
    lost = []
    for path, page in pages.items():
        for url in page.links:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc: continue
            target = (path.parent/unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or anchor and target in pages and anchor not in pages[target].anchors: lost.append((path.name, url))
    assert lost == []


def test_figures_and_parameters_are_shown(pages):
    "The surfaces that turn are drawn by the program in the site, and no markdown is left unread."
    text = {path.stem: page.text for path, page in pages.items()}
    assert any('Plotly.newPlot' in t and '_static/plotly.min.js' in t for t in text.values())
    assert all('requirejs' not in t and 'require.min.js' not in t for t in text.values())
    assert [n for n, t in text.items() if re.search(r'^\| ?-{2,}|^:::|^```', t, re.M)] == []
    assert 'id="api-unet"' in text['02_unet'] and '<th class="head"><p>type</p></th>' in text['02_unet']


def texts(): return [*ROOT.glob('*.md'), *(ROOT/'docs').glob('*.md')]


def test_every_file_that_a_text_links_is_there():
    "In the repository; the links of the site are those of `test_every_link_leads_somewhere`."
    linked = [(path, target) for path in texts() for target in re.findall(r'\]\(([^)#:]+)[#)]', path.read_text(encoding='utf-8'))]
    assert len(linked) > 40 and [(path.name, target) for path, target in linked if not (path.parent/target).exists()] == []


def test_every_option_of_a_how_to_is_one():
    kinds = OneOptions, ManyOptions, PaintOptions, RecipeOptions, ExportOptions, ConvertOptions, MeasureOptions
    known = {name for kind in kinds for name in kind.model_fields} | {'help'}
    slurm = {'array', 'gres', 'cpus-per-task'}
    for path in [ROOT/'README.md', ROOT/'docs'/'install.md', *(ROOT/'docs').glob('howto_*.md')]:
        named = set(re.findall(r'(?<![\w-])--([a-z][\w-]*)', path.read_text(encoding='utf-8')))
        assert named - known - slurm - {'index-url'} == set(), path.name


def test_the_readme_is_read_in_one_breath(): assert len((ROOT/'README.md').read_text(encoding='utf-8').splitlines()) <= 60


def test_the_release_is_named_everywhere():
    version = re.search(r'^version = (.*)', (ROOT/'settings.ini').read_text(), re.M)[1]
    released = r'^## (\S+) \(\d' # with a date; what is in the making has none
    assert re.search(released, (ROOT/'CHANGELOG.md').read_text(), re.M)[1] == version
    assert f'{{{version}}}' in (ROOT/'docs'/'cite.md').read_text()


def test_the_citation_names_the_version():
    said, settings = (ROOT/'CITATION.cff').read_text(), (ROOT/'settings.ini').read_text()
    assert re.search(r'^version: (.*)', said, re.M)[1] == re.search(r'^version = (.*)', settings, re.M)[1]
