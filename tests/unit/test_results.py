"A folder of results, place by place: what is refused, what is emptied, and what stays as it was."
import json, os

import pytest
from membrane_nb.checks import InputError
from membrane_nb.page import output_root, repo_root, work_at_root
from membrane_nb.results import CHECKPOINT, _LOCK, RECORD, Results, damage, _foreign_files, versions


def finished(folder, **files):
    "A folder of results with these files."
    r = Results(folder)
    r.begin()
    for name, text in files.items(): (r.part/name).write_text(text)
    return r.finish()


def test_files_of_others(tmp_path):
    "No list, a damaged list, a file beside the list, a link, a file changed after it: refused, with overwrite too, and left alone."
    data = tmp_path/'data'
    data.mkdir()
    (data/'cell.mrc').write_text('a tomogram')
    for text in (None, '{', '[]', '{"files": 7}'):
        if text: (data/RECORD).write_text(text)
        assert 'no list of files of ours' in _foreign_files(data)
    with pytest.raises(InputError, match='data: holds .*, and no list of files of ours'): Results(data, overwrite=True)
    assert (data/'cell.mrc').read_text() == 'a tomogram'
    cell = finished(tmp_path/'cell', prob='probabilities')
    assert _foreign_files(cell) == '' and json.loads((cell/RECORD).read_text())['files'] == ['prob']
    (cell/'notes.txt').write_text('look at slice 7')
    with pytest.raises(InputError, match='holds notes.txt, which no run of ours wrote'): Results(cell, overwrite=True)
    (cell/'notes.txt').unlink()
    (cell/'link').symlink_to(data)
    assert _foreign_files(cell) == 'link, which no run of ours wrote'
    (cell/'link').unlink()
    os.utime(cell/'prob', ns=(2 * 10**18, 2 * 10**18))
    assert _foreign_files(cell) == 'prob, which was changed after the run'


def test_files_that_are_missing_or_have_another_size(tmp_path):
    "In folders too; a list of an earlier version has no sizes; a folder without a list is no result."
    r = Results(tmp_path/'cell')
    r.begin()
    (r.part/'prob.ome.zarr').mkdir()
    for name in ('mask', 'prob.ome.zarr/0', 'note'): (r.part/name).write_text(name)
    cell = r.finish()
    assert damage(cell) == {}
    (cell/'mask').write_text('m')
    (cell/'prob.ome.zarr'/'0').unlink()
    (cell/'note').write_text('note, longer')
    assert damage(cell) == {'mask': 'has 1 bytes; the run wrote 4', 'note': 'has 12 bytes; the run wrote 4', 'prob.ome.zarr/0': 'is missing'}
    (cell/RECORD).write_text(json.dumps(dict(files=['mask', 'note', 'gone'])))
    assert damage(cell) == dict(gone='is missing')
    assert damage(tmp_path) is None and damage(tmp_path/'none') is None


def test_a_place_that_cannot_be(tmp_path):
    (tmp_path/'file').write_text('text')
    (tmp_path/'.cell.part').mkdir()
    (tmp_path/'.cell.part'/'notes.txt').write_text('look at slice 7')
    (tmp_path/'.old.old').mkdir()
    (tmp_path/'.old.old'/'notes.txt').write_text('look at slice 7')
    for name, said in (('file', 'is a file'), ('file/cell', 'cannot be written'), ('cell', 'cell.part: is not of a run of ours'),
                       ('old', '.old.old: holds notes.txt'), ('n' * 241, '1 to 240 bytes')):
        with pytest.raises(InputError, match=said): Results(tmp_path/name, overwrite=True)
    with pytest.raises(InputError, match='1 to 240 bytes'): Results('/')
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.cell.part', '.old.old', 'file']


def test_a_taken_name(tmp_path):
    "Refused where it was given, else the next free one; with overwrite the older result goes when the new one is complete."
    cell = finished(tmp_path/'cell', mask='a mask')
    with pytest.raises(InputError, match='is there already; wanted another name, or overwrite=True'): Results(cell)
    assert Results(cell, given=False).folder.name == 'cell_2'
    two = Results(cell, overwrite=True)
    two.begin()
    assert (cell/'mask').read_text() == 'a mask'
    (two.part/'prob').touch()
    assert sorted(p.name for p in two.finish().iterdir()) == [RECORD, 'prob'] and [p.name for p in tmp_path.iterdir()] == ['cell']


def test_files_that_come_while_the_work_goes_on(tmp_path):
    "They are not lost: the results take the next free name, with overwrite and without."
    for overwrite in (True, False):
        r = Results(tmp_path/f'{overwrite}', overwrite=overwrite)
        r.begin()
        r.folder.mkdir()
        (r.folder/'notes.txt').write_text('look at slice 7')
        assert r.finish().name == f'{overwrite}_2' and (tmp_path/f'{overwrite}'/'notes.txt').read_text() == 'look at slice 7'


def test_what_a_run_left(tmp_path):
    "Emptied with one sentence, folders and links too; what a link points at stays; a checkpoint stays for the run that resumes it."
    r = Results(tmp_path/'cell')
    assert r.begin() == []
    (tmp_path/'precious').mkdir()
    (r.part/'folder').mkdir()
    (r.part/'link').symlink_to(tmp_path/'precious')
    assert len(r.begin()) == 1 and [p.name for p in r.part.iterdir()] == [_LOCK] and (tmp_path/'precious').exists()
    (r.part/CHECKPOINT).touch()
    (r.part/'half').touch()
    with pytest.raises(InputError, match='is a run that was stopped; wanted resume=True, another name, or overwrite=True'): Results(tmp_path/'cell')
    again = Results(tmp_path/'cell', resume=True)
    assert again.checkpoint == r.part/CHECKPOINT and again.begin() == []
    assert sorted(p.name for p in r.part.iterdir()) == [_LOCK, CHECKPOINT]
    again.abandon()
    assert again.part.exists()
    with pytest.raises(InputError, match='wanted a run to resume'): Results(tmp_path/'none', resume=True)


def test_a_death_between_two_renames(tmp_path):
    "The older folder is put back; where the new one has its name already, the older one goes."
    finished(tmp_path/'cell', mask='kept').rename(tmp_path/'.cell.old')
    with pytest.raises(InputError, match='cell: is there already'): Results(tmp_path/'cell').begin()
    assert (tmp_path/'cell'/'mask').read_text() == 'kept' and [p.name for p in tmp_path.iterdir()] == ['cell']
    finished(tmp_path/'new', mask='old').rename(tmp_path/'.new.old')
    (tmp_path/'cell').rename(tmp_path/'new')
    Results(tmp_path/'new', overwrite=True).begin()
    assert not (tmp_path/'.new.old').exists() and (tmp_path/'new'/'mask').read_text() == 'kept'


def test_where_relative_paths_start(tmp_path, monkeypatch):
    (tmp_path/'membrane_nb').mkdir()
    (tmp_path/'settings.ini').touch()
    (tmp_path/'nbs'/'deep').mkdir(parents=True)
    monkeypatch.chdir(tmp_path/'nbs'/'deep')
    monkeypatch.delenv('MEMBRANE_OUTPUT', raising=False)
    monkeypatch.delenv('IN_TEST', raising=False)
    assert output_root() == repo_root()/'output' == tmp_path/'output'
    work_at_root()
    assert os.getcwd() == str(tmp_path)
    monkeypatch.setenv('MEMBRANE_OUTPUT', '/fast')
    assert str(output_root()) == '/fast'
    assert list(versions()) == ['membrane_nb', 'torch', 'numpy', 'python'] and all(isinstance(v, str) for v in versions().values())


def test_nbdev_test_leaves_nothing_under_output(tmp_path, monkeypatch):
    "nbdev sets IN_TEST while it runs the pages."
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MEMBRANE_OUTPUT', raising=False)
    monkeypatch.setenv('IN_TEST', '1')
    place = output_root()
    assert place == output_root() and place.is_dir() and repo_root() not in place.parents and tmp_path not in place.parents
    monkeypatch.setenv('MEMBRANE_OUTPUT', '/fast')
    assert str(output_root()) == '/fast'
