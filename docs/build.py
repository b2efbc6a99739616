"""`make docs`: the notebooks and the pages of docs/ as a site in _docs/. `python docs/build.py FOLDER` puts it elsewhere.

nbdev's page processors prepare the notebooks, Sphinx writes the pages. No cell is run: the site shows the stored outputs."""
import inspect, os, re, shutil, sys, tempfile, textwrap
from importlib import import_module
from pathlib import Path

import plotly.io
from execnb.nbio import mk_cell, read_nb, write_nb
from fastcore.docments import docments
from nbdev.doclinks import NbdevLookup
from nbdev.process import NBProcessor
from nbdev.processors import add_show_docs, clean_magics, hide_line, populate_language, strip_ansi
from plotly.offline import get_plotlyjs
from sphinx.cmd.build import main as sphinx

ROOT = Path(__file__).resolve().parent.parent
EMPTY = inspect.Parameter.empty
SECTIONS = {  # page: title, sentence, patterns of its pages
    'howto': ('How to', 'Your task, in ten to thirty lines.',
        ['docs/install.md', 'docs/howto_segment.md', 'docs/howto_annotate.md', 'docs/howto_correct.md', 'docs/howto_measure.md',
         'docs/howto_cluster.md', 'docs/howto_noisy.md']),
    'walkthrough': ('Walk-through', 'From a tomogram on disk to a segmented membrane.', ['nbs/0*.ipynb']),
    'toolbox': ('Toolbox', 'What the pages of the walk-through stand on, from the ground up.', ['nbs/toolbox/*.ipynb']),
    'more': ('More', 'Many tomograms, on one machine or many, and the commands.', ['nbs/more/*.ipynb']),
    'evidence': ('Evidence', 'Executed studies: how good it is, where it fails, and how long it takes.', ['nbs/evidence/*.ipynb']),
    'reference': ('Reference', 'What is fixed: files, weights, options of a cluster.', ['docs/formats.md', 'docs/weights.md', 'docs/cluster.md', 'docs/cite.md']),
    'contributors': ('Contributors', 'How the software is built and changed.', ['CONTRIBUTING.md', 'docs/design.md', 'docs/style.md', 'CHANGELOG.md'])}


def signature(name, symbol):
    "The call of a function or class, without types."
    def shown(p):
        star = {p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '')
        value = '' if p.default is p.empty else f'={p.default!r}'
        return star + p.name + value
    parameters = inspect.signature(symbol).parameters.values()
    call = f'{name}({", ".join(shown(p) for p in parameters if p.name != "self")})'
    return textwrap.fill(call, 88, subsequent_indent=' ' * 4, break_long_words=False, break_on_hyphens=False)


def row(first, d, default=EMPTY):
    "A line of a table of parameters: its name, then type, default and comment."
    anno = d.get('anno', EMPTY)
    kind = '' if anno in (EMPTY, None, type(None)) else f'`{getattr(anno, "__name__", anno)}`'
    value = '' if default is EMPTY else f'`{default!r}`'
    said = (d.get('docment') or '').replace('\n', ' ')
    return f'| {first} | ' + ' | '.join(text.replace('|', r'\|') for text in (kind, value, said)) + ' |'


def api(name, symbol):
    "What a page says of a function or class: a heading, the call, the docstring and a table of the parameters (docments)."
    plain = isinstance(symbol, property) or inspect.isclass(symbol) and issubclass(symbol, Exception)
    call = name if plain else signature(name, inspect.unwrap(symbol))
    symbol = getattr(symbol, 'fget', None) or inspect.unwrap(symbol)
    lines = [f'(api-{name.lower()})=', f'### {name}', '', '```python', call, '```', '', inspect.getdoc(symbol) or '', '']
    docs = {} if plain else docments(symbol, full=True)
    parameters = [] if plain else inspect.signature(symbol).parameters.values()
    rows = [row(f'`{p.name}`', docs.get(p.name, {}), p.default) for p in parameters if p.name != 'self']
    if 'return' in docs and not inspect.isclass(symbol): rows.append(row('*returns*', docs['return']))
    if rows: lines += ['| | type | default | |', '|---|---|---|---|', *rows, '']
    return '\n'.join(lines)


def for_sphinx(output):
    "An output as Sphinx can show it; None for a widget, which needs a kernel: every page shows its picture beside it."
    data = output.get('data', {})
    if 'application/vnd.jupyter.widget-view+json' in data: return None
    if figure := data.pop('application/vnd.plotly.v1+json', None):
        figure.pop('config', None)
        html = plotly.io.from_json(plotly.io.json.to_json_plotly(figure)).to_html(full_html=False, include_plotlyjs='_static/plotly.min.js')
        output['data'] = {'text/html': html}
    return output


def local_links(text):
    "Links between notebooks, docs/ and the root lead to pages of the site; names that nbdev found lead to their section."
    text = re.sub(r'\]\((?:\.\./)*(?:nbs/|docs/)?(?:toolbox/|more/|evidence/)?(?=[\w.]+\.(?:ipynb|md|jpg|png|svg))', '](', text)
    text = re.sub(r'\[(`_\w+`)\]\([^)]*\)', r'\1', text)  # a private helper has no section
    return re.sub(r'\]\(https://membrane-nb\.github\.io/membrane_nb/\w+\.html#([\w.]+)\)', r'](#api-\1)', text)


def page(path, out):
    "Prepare a notebook: what is exported is described, its code folded below."
    nb = read_nb(path)
    NBProcessor(nb=nb, procs=[populate_language, strip_ansi, hide_line, add_show_docs, clean_magics]).process()
    exported = re.search(r'default_exp (\w+)', path.read_text(encoding='utf-8'))
    names = vars(import_module(f'membrane_nb.{exported[1]}')) if exported else {}
    link, cells, code, first = NbdevLookup().linkify, [], [], 0
    for cell in nb.cells:
        hidden = cell.cell_type == 'raw' or cell.directives_.keys() & {'hide', 'default_exp'}
        if hidden or not cell.source: continue
        described = re.fullmatch(r'show_doc\((.*)\)', cell.source)
        if described: cell = mk_cell(api(described[1], eval(described[1], names)), 'markdown')
        elif code: cells.append(code.pop())
        first = first if described else len(cells)
        if cell.cell_type == 'markdown':
            text = cell.source
            if cells: text = re.sub(r'^# ', '## ', text, flags=re.M)  # a page has one title
            cell.source = local_links(link(text))
        else: cell.outputs = [o for o in map(for_sphinx, cell.outputs) if o]
        if cell.directives_.keys() & {'export', 'exports'}:
            cell.metadata['tags'] = ['hide-input']
            code = [cell]
        else: cells.insert(first if described else len(cells), cell)  # nbdev has them in reverse
    nb.cells = cells + code
    nb.metadata.pop('widgets', None)
    write_nb(nb, out/path.name)


def section(pages, out):
    "A line for each page, with its first sentence, and the table of contents that Sphinx wants."
    lines, contents = [], ['```{toctree}', ':hidden:', '']
    for p in pages:
        text = '\n'.join(c.source for c in read_nb(p).cells[:3]) if p.suffix == '.ipynb' else p.read_text(encoding='utf-8')
        title = p.stem if p.suffix == '.ipynb' else re.search(r'^# (.*)', text, re.M)[1]
        said = re.search(r'^> (.*)', text, re.M)
        lines.append(f'- [{title}]({p.name})' + (f': {said[1]}' if said else ''))
        contents.append(f'{title} <{p.stem}>')
    return '\n'.join(lines + ['', *contents, '```', ''])


def sources(out):
    "Lay out what Sphinx reads: every page in one folder, so no two pages may have one name."
    notebooks = sorted((ROOT/'nbs').rglob('[!.]*.ipynb'))
    texts = [*(ROOT/'docs').glob('*.md'), ROOT/'CONTRIBUTING.md', ROOT/'CHANGELOG.md']
    names = [path.stem for path in (*notebooks, *texts)] + [*SECTIONS]
    if twice := {name for name in names if names.count(name) > 1}: sys.exit(f'{", ".join(twice)}: name of two pages; wanted one')
    for path in notebooks: page(path, out)
    for path in texts:
        (out/path.name).write_text(local_links(path.read_text(encoding='utf-8')), encoding='utf-8')
    for path in [*(ROOT/'docs').glob('*.jpg'), *(ROOT/'docs').glob('*.svg')]: shutil.copy(path, out)
    contents = ['```{toctree}', ':hidden:', '']
    for name, (title, said, pages) in SECTIONS.items():
        pages = [out/path.name for pattern in pages for path in sorted(ROOT.glob(pattern))]
        (out/f'{name}.md').write_text(f'# {title}\n\n{said}\n\n{section(pages, out)}', encoding='utf-8')
        contents.append(name)
    contents = '\n'.join(contents + ['```'])
    front = out/'index.ipynb'
    nb = read_nb(front)
    nb.cells.append(mk_cell(contents, 'markdown'))
    write_nb(nb, front)


if __name__ == '__main__':
    site = Path(sys.argv[1] if sys.argv[1:] else ROOT/'_docs').resolve()
    if sys.argv[1:] and site.exists(): sys.exit(f'{site}: is there already; wanted another folder')
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as tmp:
        pages, built = Path(tmp)/'pages', Path(tmp)/'site'
        pages.mkdir()
        sources(pages)
        if sphinx(['-q', '-b', 'html', '-c', 'docs', '-d', f'{tmp}/doctrees', str(pages), str(built)]): sys.exit(1)
        (built/'_static'/'plotly.min.js').write_text(get_plotlyjs(), encoding='utf-8')
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(built, site)
    print(f'{site}/index.html')
