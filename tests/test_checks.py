"What is refused, and in which words: files, parameters, choices and ranges."
import os

import pytest
from membrane_nb.checks import InputError, check_choices, check_parameters, check_ranges, existing_file, progress, read_json, read_text, to_json

NOTEBOOK = dict(__annotations__=dict(epochs=int, lr=float, name=str, on=bool), epochs=3, lr=1, name=14122, on=True, In=['# Parameters\nepochs = 3\n'])


@pytest.mark.parametrize('name, said', [
    ('none.mrc', 'no such file; wanted an MRC file'), ('.', 'is a folder'), ('empty.mrc', 'is empty'), ('fifo', 'is not a regular file'),
    ('n' * 300, 'cannot be read'), ('text.mrc/a.mrc', 'no such file')])
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
    (dict(epochs='many'), "parameter epochs: found 'many' \\(str\\); wanted int"), (dict(epochs=3.), 'wanted int'), (dict(epochs=True), 'wanted int'),
    (dict(lr=float('inf')), 'wanted a finite number'), (dict(lr='0.1'), 'wanted float'), (dict(name=None), 'wanted str'), (dict(on=1), 'wanted bool')])
def test_a_parameter_that_is_wrong(given, said):
    with pytest.raises(InputError, match=said): check_parameters(NOTEBOOK | given)


def test_parameters_that_are_right():
    "Only the last cell of papermill's counts; numbers become what was declared."
    cells = ['# Parameters\nother = 1\n', 'import os', '# Parameters\nlr = 1\n']
    assert check_parameters(NOTEBOOK | dict(In=cells)) == dict(epochs=3, lr=1., name='14122', on=True)
    assert check_parameters(NOTEBOOK | dict(In=[], name=1.5))['name'] == '1.5'


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
