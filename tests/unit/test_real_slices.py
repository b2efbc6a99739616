"The pictures of the open benchmark are fetched, checked and built; nothing here reaches the internet."
import hashlib, io, sys, threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from membrane_nb.split import _read_manifest

sys.path.insert(0, str(ROOT/'benchmarks'))
import real_slices  # noqa: E402


@pytest.fixture
def site(tmp_path):
    "A server of this machine with one published picture, and what the benchmark says of it."
    grey = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)
    path = tmp_path/'site'/'someone'/'paper'/'c0ffee'/'figures'/'cell.png'
    path.parent.mkdir(parents=True)
    Image.fromarray(grey).save(path)
    entry = dict(repository='someone/paper', commit='c0ffee', path='figures/cell.png', sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
                 box=[10, 5, 70, 55], crop=[2, 48, 4, 60], scale=.5, resize='linear', shape=[23, 28], group='cells')
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path/'site')
    handler.log_message = lambda *args: None
    with ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_address[1]}', entry, path
        server.shutdown()


def test_a_picture_is_fetched_once_and_built(site, tmp_path):
    address, entry, path = site
    first = real_slices.build(entry, real_slices.fetch(entry, tmp_path, address))
    assert first.shape == (23, 28) and first.dtype == np.uint8 and first.std() > 10
    path.unlink()
    assert (real_slices.build(entry, real_slices.fetch(entry, tmp_path, address)) == first).all()


def test_a_picture_without_scaling_is_the_published_one(site, tmp_path):
    address, entry, path = site
    plain = {name: entry[name] for name in entry if name != 'crop'} | dict(scale=1., shape=[50, 60])
    img = real_slices.build(plain, real_slices.fetch(plain, tmp_path, address))
    assert (img == np.asarray(Image.open(io.BytesIO(path.read_bytes())))[5:55, 10:70]).all()


def test_another_file_and_a_missing_one_are_refused(site, tmp_path):
    address, entry, path = site
    with pytest.raises(real_slices.InputError, match='is another file than the one that was traced'):
        real_slices.fetch(entry | dict(sha256='0' * 64), tmp_path, address)
    path.unlink()
    with pytest.raises(real_slices.InputError, match='cannot be fetched'): real_slices.fetch(entry, tmp_path, address)
    assert not list(tmp_path.glob('*.png'))


def test_every_picture_has_its_source_licence_and_lines():
    "22 pictures of 16 groups, under licences that allow to name and train on them."
    entries = real_slices.sources()
    assert len(entries) == 22 and len({entry['group'] for entry in entries.values()}) == 16
    assert {entry['licence'] for entry in entries.values()} <= {'MIT', 'Apache-2.0', 'BSD-3-Clause', 'CC-BY-4.0', 'CC0-1.0', 'MPL-2.0', 'MIT (site template)'}
    for name, entry in entries.items():
        line, ignore = real_slices.lines(name, entry['shape'])
        assert line.any() == (name != 'microtubule_lamella') and ignore.any()


def test_without_a_network_all_are_named_and_nothing_is_built(tmp_path, capsys):
    missing = real_slices.main(tmp_path/'built', 'http://127.0.0.1:9')
    assert len(missing) == 22 and 'without ring, bacterium' in capsys.readouterr().out


def test_lines_are_those_of_the_folder_that_trains(shared):
    "The lines of the repository are those that train, to the pixel."
    with np.load(shared/'real_slices.npz') as given:
        for name, entry in real_slices.sources().items():
            line, ignore = real_slices.lines(name, entry['shape'])
            assert (line == given[f'{name}_line']).all() and (ignore == given[f'{name}_ignore']).all()
            assert entry['group'] == str(given[f'{name}_group'])


def test_the_manifest_has_each_picture_with_its_line(tmp_path, monkeypatch):
    "As single slices that a training reads; a group may be left out."
    rng = np.random.default_rng(0)
    entries = {name: dict(pixel=pixel, group=group) for name, pixel, group in (('a', 10., 'x'), ('b', 21.5, 'x'), ('c', 10., 'y'))}
    monkeypatch.setattr(real_slices, 'sources', lambda: entries)
    arrays = {}
    for name in entries:
        line = np.zeros((64, 80), bool)
        line[30] = True
        image = rng.integers(100, 156, (64, 80)).astype(np.uint8)
        image[29:32] -= 80
        arrays |= {f'{name}_image': image, f'{name}_line': line, f'{name}_ignore': np.arange(64)[:, None] + np.zeros(80) < 9}
    np.savez(tmp_path/'p.npz', **arrays)
    for without, names in ((), ['a', 'b', 'c']), (('x',), ['c']):
        parts = _read_manifest(real_slices.write_manifest(tmp_path, tmp_path/'p.npz', without), ('train',), density='dark', ignore='2', empty='background')
        tomos = [tomo for tomo, _ in parts['train']]
        assert [tomo.name for tomo in tomos] == [f'{name}.mrc' for name in names]
        for tomo, name in zip(tomos, names):
            assert (tomo.vol[0] == arrays[f'{name}_image']).all() and tomo.line == real_slices.LINE
            assert (tomo.pixel, tomo.group) == (entries[name]['pixel'], entries[name]['group'])
            assert (tomo.msk[0] == np.where(arrays[f'{name}_line'], 1, 2 * arrays[f'{name}_ignore'])).all()
