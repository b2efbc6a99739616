"Everything about the package stands in settings.ini; this file hands it to setuptools."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup

cfg = ConfigParser(interpolation=None)
cfg.read('settings.ini', encoding='utf-8')
s = cfg['DEFAULT']
extras = {name.removesuffix('_requirements'): s[name].split() for name in s if name.endswith('_requirements')}
extras['all'] = [one for name, needs in extras.items() if name not in ('docs', 'dev') for one in needs]
extras['dev'] += extras['docs'] + extras['all']
setup(
    name=s['lib_name'],
    version=s['version'],
    description=s['description'],
    long_description=Path('README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    keywords=s['keywords'].split(),
    license=s['license'],
    author=s['author'],
    classifiers=[
        'Development Status :: 4 - Beta',
        'Intended Audience :: Science/Research',
        'Operating System :: MacOS',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Bio-Informatics',
        'Topic :: Scientific/Engineering :: Image Processing',
        'Typing :: Typed',
    ],
    packages=[s['lib_path']],
    package_data={s['lib_path']: ['py.typed', 'static/*', 'pretrained/*']},
    python_requires=f">={s['min_python']}",
    install_requires=s['requirements'].split(),
    extras_require=extras,
    entry_points={
        'console_scripts': s['console_scripts'].split('\n'),
        'nbdev': f"{s['lib_name']}={s['lib_name']}._modidx:d",
    },
)
