"What Sphinx is told. `docs/build.py` lays out the pages."
from configparser import ConfigParser
from pathlib import Path

import ziamath
from docutils.nodes import SkipNode
from latex2mathml.converter import convert

HERE = Path(__file__).resolve().parent
config = ConfigParser(interpolation=None)
config.read(HERE.parent/'settings.ini', encoding='utf-8')
about = config['DEFAULT']

project, author, version = about['title'], about['author'], about['version']
copyright = author
html_title = project

extensions = ['myst_nb']
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'deflist']
myst_heading_anchors = 3
suppress_warnings = ['myst.header']  # a short page has its definitions right below its title
nb_execution_mode = 'off'
nb_merge_streams = True
nb_render_markdown_format = 'myst'
nb_code_prompt_show = nb_code_prompt_hide = 'Source'
nb_ipywidgets_js = {}  # no widget is shown: its programs would come from another host

html_theme = 'pydata_sphinx_theme'
html_theme_options = dict(header_links_before_dropdown=8, show_toc_level=1, navbar_align='left', footer_start=['copyright'], footer_end=[])
html_static_path = [str(HERE/'site.css'), str(Path(ziamath.__file__).parent/'fonts'/'STIXTwoMath-Regular.ttf')]
html_css_files = ['site.css']
html_copy_source = False
html_show_sourcelink = False


def inline_math(self, node):
    "Equations are MathML, which browsers draw without a program."
    self.body.append(convert(node.astext()))
    raise SkipNode


def block_math(self, node):
    self.body.append(convert(node.astext(), display='block'))
    raise SkipNode


def setup(app): app.add_html_math_renderer('mathml', (inline_math, None), (block_math, None))
