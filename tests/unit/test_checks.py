"What is refused, and in which words: files, parameters, choices and ranges."
import datetime, os

import pytest
from membrane_nb.checks import (InputError, check_choices, check_parameters, check_ranges,
    existing_file, expanded, progress, read_json, read_text, to_json)
from membrane_nb.results import Results

NOTEBOOK = dict(__annotations__=dict(epochs=int, lr=float, name=str, on=bool), epochs=3, lr=1, name='a', on=True, In=['# Parameters\nepochs = 3\n'])


@pytest.mark.parametrize('name, said', [
    ('none.mrc', 'no such file; wanted an MRC file'), ('.', 'is a folder'), ('empty.mrc', 'is empty'), ('fifo', 'is not a regular file'),
    ('n' * 300, 'is too long for the name of a file'), ('text.mrc/a.mrc', 'no such file')])
def test_a_file_that_is_none(tmp_path, name, said):
    (tmp_path/'empty.mrc').touch()
    (tmp_path/'text.mrc').write_text('text')
    os.mkfifo(tmp_path/'fifo')
    with pytest.raises(InputError, match=said): existing_file(tmp_path/name, 'an MRC file')


def test_a_missing_file_says_where_it_was_looked_for(tmp_path, monkeypatch):
    "A relative path starts at the current folder; an absolute one needs no such word."
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f'^a.mrc: no such file, looked for from {tmp_path}; wanted an MRC file$'): existing_file('a.mrc', 'an MRC file')
    with pytest.raises(InputError, match='a.mrc: no such file; wanted'): existing_file(tmp_path/'a.mrc', 'an MRC file')


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    (tmp_path/'a.mrc').write_text('text')
    assert existing_file('~/a.mrc', 'an MRC file') == tmp_path/'a.mrc'


@pytest.mark.parametrize('given, said', [
    (dict(In=['# Parameters\nepoch = 9\n']), 'parameter epoch: unknown; wanted one of epochs, lr, name, on'),
    (dict(epochs='many'), "parameter epochs: found 'many' \\(str\\); wanted int"), (dict(epochs=3.5), 'wanted int'), (dict(epochs=True), 'wanted int'),
    (dict(lr=float('inf')), 'wanted a finite number'), (dict(lr='0.1 nm'), 'wanted float'), (dict(name=None), 'wanted text'), (dict(on=1), 'wanted bool')])
def test_a_parameter_that_is_wrong(given, said):
    with pytest.raises(InputError, match=said): check_parameters(NOTEBOOK | given)


def test_parameters_that_are_right():
    "Only the last cell of papermill's counts; numbers become what was declared."
    cells = ['# Parameters\nother = 1\n', 'import os', '# Parameters\nlr = 1\n']
    assert check_parameters(NOTEBOOK | dict(In=cells)) == dict(epochs=3, lr=1., name='a', on=True)


@pytest.mark.parametrize('word, number', [('1e-4', 1e-4), (' 3 ', 3.), ('+.5', .5), ('2.', 2.), ('1E5', 1e5), (10**400, None), ('1e999', None)] + [
    (word, None) for word in ('nan', 'inf', '-inf', '', ' ', '12abc', '1_0', '0x10', 'True', '1,5', '1e', '.', '٣')])
def test_text_that_reads_as_a_float(word, number):
    "D6: YAML reads `1e-4` as a word."
    if number is not None:
        assert check_parameters(NOTEBOOK | dict(lr=word))['lr'] == number
        return
    with pytest.raises(InputError, match='parameter lr: found .*; wanted'): check_parameters(NOTEBOOK | dict(lr=word))


@pytest.mark.parametrize('given, number', [('3', 3), ('1e3', 1000), (1e3, 1000), ('3.0', 3), ('9223372036854775807', 2**63 - 1)] + [
    (given, None) for given in ('1.5', '1e-1', '1e400', '1e999999999', '9' * 5000, 1e300, float('nan'), float('inf'), True, None, [3], '3 x')])
def test_text_and_floats_that_are_whole(given, number):
    if number is not None:
        found = check_parameters(NOTEBOOK | dict(epochs=given))['epochs']
        assert found == number and type(found) is int
        return
    with pytest.raises(InputError, match='parameter epochs: found .*; wanted int'): check_parameters(NOTEBOOK | dict(epochs=given))


@pytest.mark.parametrize('word', ['True', 'true', 'yes', '1', ''])
def test_text_is_no_yes_or_no(word):
    with pytest.raises(InputError, match='parameter on: found .* wanted bool'): check_parameters(NOTEBOOK | dict(on=word))


@pytest.mark.parametrize('value', [123, 1.5, float('nan'), True, None, ['a'], dict(a=1), datetime.date(2024, 11, 28), datetime.datetime(2024, 11, 28, 3)])
def test_a_name_that_arrives_as_something_else(value):
    "L2: papermill makes 123 of 01_23 and of 012_3; which of them was typed, nobody can tell."
    with pytest.raises(InputError, match='parameter name: found .*; wanted text: -r name .* or quotes in a recipe') as e: check_parameters(NOTEBOOK | dict(name=value))
    assert '\n' not in str(e.value)


def test_the_number_of_a_label_may_be_a_number():
    "A value of a mask names nothing: 2 is 2, however it was typed."
    kinds = dict(ignore=str, label=str)
    assert check_parameters(dict(__annotations__=kinds, ignore=2, label=1)) == dict(ignore='2', label='1')
    with pytest.raises(InputError, match='parameter label: found True'): check_parameters(dict(__annotations__=kinds, ignore='auto', label=True))


def test_a_misspelt_parameter_is_told_its_neighbour():
    for wrong, right in (('epohcs', 'epochs'), ('Epochs', 'epochs'), ('epoch', 'epochs'), ('nmae', 'name')):
        with pytest.raises(InputError, match=f'parameter {wrong}: unknown; wanted one of epochs, lr, name, on; nearest is {right}$'):
            check_parameters(NOTEBOOK | dict(In=[f'# Parameters\n{wrong} = 9\n']))
    with pytest.raises(InputError, match='wanted one of epochs, lr, name, on$'): check_parameters(NOTEBOOK | dict(In=['# Parameters\nquite_other = 9\n']))


def test_a_missing_file_that_lies_in_data(tmp_path, monkeypatch):
    "What is typed without its folder, or with one that is not there."
    monkeypatch.chdir(tmp_path)
    (tmp_path/'data').mkdir()
    (tmp_path/'cell.mrc').write_text('text')
    (tmp_path/'data'/'two.mrc').write_text('text')
    wanted = [('two.mrc', 'data/two.mrc'), ('data/data/two.mrc', 'data/two.mrc'), (tmp_path/'two.mrc', 'data/two.mrc'), ('old/cell.mrc', 'cell.mrc')]
    for typed, there in wanted:
        with pytest.raises(InputError, match=f'no such file.*; there is {there}; wanted an MRC file$'): existing_file(typed, 'an MRC file')
    with pytest.raises(InputError, match=f'^three.mrc: no such file, looked for from {tmp_path}; wanted an MRC file$'): existing_file('three.mrc', 'an MRC file')


def test_choices_and_ranges():
    "What is not given is not checked; both ends of a range are allowed."
    check_choices(dict(other=3), dict(dims=(2, 3)))
    check_ranges(dict(lr=1, p=0), dict(lr=(0, 1), p=(0, 1), epochs=(1, 9)))
    with pytest.raises(InputError, match='found 4; wanted 2 or 3'): check_choices(dict(dims=4), dict(dims=(2, 3)))
    for value in (-1, 1.1, float('nan')):
        with pytest.raises(InputError, match='parameter lr: found .*; wanted 0 to 1'): check_ranges(dict(lr=value), dict(lr=(0, 1)))


def test_progress_yields_and_speaks(capsys, monkeypatch):
    monkeypatch.delenv('JPY_SESSION_NAME', raising=False)
    assert list(progress(iter('abc'), 3, 'letters')) == ['a', 'b', 'c'] and capsys.readouterr().out == ''
    assert list(progress('abc', 3, 'letters', every=0)) == ['a', 'b', 'c']
    assert capsys.readouterr().out.splitlines()[-1] == '3 of 3 letters, 0 s, 0 s left'


def test_json_without_nan():
    assert to_json(dict(a=[float('nan'), 1.], b=(float('inf'),), c='ä'), None) == '{"a": [null, 1.0], "b": [null], "c": "ä"}'


@pytest.mark.parametrize('content, said', [
    (b'', 'is empty'), (b'{', 'is not JSON'), (b'[1]', 'wanted an object'), (b'3', 'wanted an object'), (b'\xff{}', 'is not text in UTF-8'), (b'[' * 10**5, 'is not JSON'),
    (b'{"a": NaN}', 'is not JSON'), (b'{"a": 1e999}', 'is not JSON'), (b'{"a": "\\ud800"}', 'is not JSON'), (b'{"a": "' + b'x' * 10**6 + b'"}', 'is larger than 0.5 MB')])
def test_json_that_is_no_record(tmp_path, content, said):
    (tmp_path/'a.json').write_bytes(content)
    with pytest.raises(InputError, match=said) as e: read_json(tmp_path/'a.json', 'a record', .5)
    assert str(e.value).startswith(f'{tmp_path}/a.json: ') and '\n' not in str(e.value) and len(str(e.value)) < 400


def test_text_and_records_that_are_whole(tmp_path):
    (tmp_path/'a.json').write_bytes(b'\xef\xbb\xbf{"a": {"b": [1, null]}}')
    assert read_json(tmp_path/'a.json', 'a record') == dict(a=dict(b=[1, None])) and read_text(tmp_path/'a.json', 'text')[0] == '{'


@pytest.mark.parametrize('name', ['~nobody_has_this_name/a.mrc', 'a\0.mrc', '\0'])
def test_a_name_that_no_system_takes(name):
    with pytest.raises(InputError, match='wanted the name of a file'): existing_file(name, 'an MRC file')


def test_a_missing_store_that_lies_in_data(tmp_path, monkeypatch):
    from membrane_nb.volume import open_volume
    monkeypatch.chdir(tmp_path)
    (tmp_path/'data'/'cell.ome.zarr').mkdir(parents=True)
    with pytest.raises(InputError, match='no such folder, looked for from .*; there is data/cell.ome.zarr; wanted an OME-Zarr store'): open_volume('cell.ome.zarr')
    with pytest.raises(InputError, match='no such folder, looked for from [^;]*; wanted an OME-Zarr store'): open_volume('other.zarr')


@pytest.mark.parametrize('path', ['x' * 300, '/tmp/' + 'ä' * 128 + '/run', '/'.join(['y' * 200] * 30)])
def test_a_name_that_no_disk_takes_is_refused(path):
    with pytest.raises(InputError, match=r'is too long for the name of a file; wanted 255 bytes at most'): expanded(path)
    with pytest.raises(InputError, match=r'is too long for the name of a file'): Results(path + '/run')
    assert expanded('/tmp/' + 'ä' * 127) and expanded('')
