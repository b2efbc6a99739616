"Everything about the package stands in settings.ini; this file hands it to setuptools."
from configparser import ConfigParser
from setuptools import setup

cfg = ConfigParser(interpolation=None)
cfg.read('settings.ini', encoding='utf-8')
s = cfg['DEFAULT']
docs = s['docs_requirements'].split()
more = s['all_requirements'].split()
setup(name=s['lib_name'], version=s['version'], description=s['description'], license=s['license'],
      author=s['author'], packages=[s['lib_path']], package_data={s['lib_path']: ['pretrained/*', 'pretrained/raw/*']}, python_requires=f">={s['min_python']}",
      install_requires=s['requirements'].split(), extras_require={'all': more, 'dev': s['dev_requirements'].split() + docs + more, 'docs': docs},
      entry_points={'console_scripts': s['console_scripts'].split('\n'), 'nbdev': f"{s['lib_name']}={s['lib_name']}._modidx:d"})
