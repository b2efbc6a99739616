"Many tomograms: each costs itself only, whatever is wrong with it or with its worker."
import json, os, shutil, signal, subprocess, sys, threading, time
from pathlib import Path
from types import SimpleNamespace

import cloudpickle
import mrcfile
import numpy as np
import pytest
import torch
from conftest import ROOT
from membrane_nb.checks import InputError
from membrane_nb.infer import open_job, what_decides
from membrane_nb.plain import phantom
from membrane_nb.results import RECORD
from membrane_nb.many import (Many, _alone, _file_stamp, open_many, segment_item, segment_many,
    _why_other)
from membrane_nb.report import COLUMNS, contact_sheet, read_report, write_report
from membrane_nb.tomograms import Item, is_many, list_tomograms
from membrane_nb.workers import _row_of_future, submit_all, local_client, _worker_environment
from membrane_nb.card import write_card
from membrane_nb.weights import pretrained
from membrane_nb.mrc import write_mrc
from membrane_nb.options import ManyOptions, OneOptions
from membrane_nb.store import first_fingerprint
from membrane_nb.volume import open_volume

PLAIN = dict(device='cpu', pictures=False, min_size=0., engine='torch')
cloudpickle.register_pickle_by_value(sys.modules[__name__]) # workers do not know this file


@pytest.fixture(scope='module')
def session(tmp_path_factory):
    "Three small tomograms and one that is torn."
    folder = tmp_path_factory.mktemp('session')
    for i, name in enumerate(('a', 'b', 'c')):
        vol, msk, pixel = phantom((16, 96, 96), seed=40 + i)
        write_mrc(folder/f'{name}.mrc', vol, pixel)
        write_mrc(folder/f'{name}.msk', msk.astype(np.int8), pixel)
    (folder/'torn.mrc').write_bytes((folder/'a.mrc').read_bytes()[:70_000])
    return folder


@pytest.fixture(scope='module')
def weights(volumes):
    return volumes/'weights.pt'


@pytest.fixture(scope='module')
def done(session, weights, tmp_path_factory):
    "The folder after a run with two workers, and the run."
    output = tmp_path_factory.mktemp('many')/'results'
    many = open_many(session, output, weights=weights, workers=2, threads=1, **PLAIN)
    many.run()
    return output, many


@pytest.fixture(scope='module')
def cluster():
    "A scheduler of its own with two workers, as a cluster would be."
    from distributed import LocalCluster
    with _worker_environment(1), LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=None, host='127.0.0.1',
                                             dashboard_address='127.0.0.1:0', silence_logs=50) as cluster: yield cluster


def states(output):
    return {row['name']: row['state'] for row in read_report(output)}


def test_a_folder_gives_a_result_each_and_a_report(session, done):
    "A bad file costs itself only, and its sentence is in the report."
    output, many = done
    assert states(output) == dict(a='done', b='done', c='done', torn='failed')
    assert sorted(p.name for p in output.iterdir() if p.name[0] != '.') == ['a_membranes', 'b_membranes', 'c_membranes', 'report.csv']
    rows = {row['name']: row for row in read_report(output)}
    assert 'torn.mrc: is truncated' in rows['torn']['remark'] and many.summary() == '4 tomograms: 3 done, 0 skipped, 1 failed'
    record = json.loads((output/'a_membranes'/'segmentation.json').read_text())
    assert record['threads'] == 1 and float(rows['a']['share']) == pytest.approx(record['membrane_share'], abs=1e-4)
    assert rows['a']['worker'] in ('0', '1') and int(rows['a']['voxels_per_second']) > 0
    assert not list(output.glob('.*.part'))


@pytest.fixture
def worker_here(monkeypatch):
    "The workers of a run are one thread of this process."
    from distributed import Client
    here = dict(processes=False, n_workers=1, threads_per_worker=1, dashboard_address='127.0.0.1:0', silence_logs=50, set_as_default=False)
    monkeypatch.setattr('membrane_nb.many.local_client', lambda *_: Client(**here))


def test_one_worker_gives_the_same_bits(session, weights, done, worker_here, tmp_path):
    segment_many(f'{session}/[ab].mrc', tmp_path/'one', weights=weights, workers=1, threads=1, **PLAIN)
    for name in 'ab':
        for file in ('prob.mrc', 'mask.mrc'):
            two, one = (folder/f'{name}_membranes'/file for folder in (done[0], tmp_path/'one'))
            assert np.array_equal(open_volume(two)[:], open_volume(one)[:])


def test_a_restart_does_what_is_missing(session, weights, done, monkeypatch):
    "What is finished is skipped, also when its file was copied; without work no cluster is started."
    output, _ = done
    again = open_many(session, output, weights=weights, **PLAIN)
    assert again.count('skipped') == 3 and [item.name for item in again.todo] == ['torn']
    os.utime(session/'a.mrc', (1, 1))
    monkeypatch.setattr('membrane_nb.many.local_client', lambda *_: pytest.fail('a cluster was started'))
    good = open_many(f'{session}/[abc].mrc', output, weights=weights, **PLAIN)
    good.run()
    assert states(output) == dict.fromkeys('abc', 'skipped')


def test_a_result_made_otherwise_is_not_taken_for_done(session, weights, done, tmp_path):
    output, _ = done
    with pytest.raises(InputError, match=r'a_membranes: was made with threshold 0.5, not 0.4 \(2 more like it\); wanted overwrite=True'):
        open_many(session, output, weights=weights, threshold=.4, **PLAIN)
    with pytest.raises(InputError, match='was made with weights_sha256'): open_many(session, output, **PLAIN)
    write_mrc(tmp_path/'a.mrc', phantom((16, 96, 96), seed=50)[0], 10.)
    with pytest.raises(InputError, match='a_membranes: was made from other voxels than those of'): open_many(f'{tmp_path}/*.mrc', output, weights=weights, **PLAIN)
    open_job(session/'a.mrc', weights=weights, output=tmp_path/'single'/'a_membranes', device='cpu', engine='torch').run(pictures=False)
    with pytest.raises(InputError, match='a_membranes: was made with min_size 1600.0, not 0.0'): open_many(session, tmp_path/'single', weights=weights, **PLAIN)
    assert open_many(session, tmp_path/'single', weights=weights, **PLAIN | dict(min_size=1600.)).count('skipped') == 1, 'a run of one tomogram keeps the same record'
    assert len(open_many(session, output, weights=weights, threshold=.4, overwrite=True, **PLAIN).todo) == 4


def one_scored(folder, weights):
    "`again(mask, **more)` opens the run over the one tomogram of a folder, which has a mask."
    def again(mask='a.msk', **more):
        (folder/'list.csv').write_text(f'tomogram,mask\na.mrc,{mask}\n')
        return open_many(folder/'list.csv', folder/'out', **dict(weights=weights) | PLAIN | more)
    again.result = folder/'out'/'a_membranes'
    again.folder = folder
    return again


@pytest.fixture(scope='module')
def finished(session, weights, tmp_path_factory):
    "A folder with the finished result of one tomogram that has a mask."
    folder = tmp_path_factory.mktemp('finished')
    for name in ('a.mrc', 'a.msk'): shutil.copy(session/name, folder/name)
    assert work(one_scored(folder, weights)())['state'] == 'done'
    return folder


@pytest.fixture
def scored(finished, weights, tmp_path):
    "A copy of that folder, in which nothing has changed since the run: the record has the times of the copies."
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    again = one_scored(tmp_path, weights)
    file = again.result/'segmentation.json'
    then, text = file.stat(), file.read_text()
    for name in ('a.mrc', 'a.msk'): text = text.replace(*(str((place/name).stat().st_ctime_ns) for place in (finished, tmp_path)))
    file.write_text(text)
    os.utime(file, ns=(then.st_atime_ns, then.st_mtime_ns))
    return again


def work(many):
    "Do the first tomogram of a run, here."
    item = many.todo[0]
    return segment_item(item, many.folder_of(item), many.options.changed(threads=1, pictures=False), many.asked)


def test_the_same_run_again_has_nothing_to_do(scored):
    again = scored()
    assert again.todo == [] and float(again.rows[0]['dice']) >= 0
    os.utime(scored.folder/'a.msk', (1, 1))
    shutil.move(scored.folder/'a.msk', scored.folder/'b.msk')
    assert scored('b.msk').todo == [], 'the voxels of the mask decide, not its name'


def another(path):
    "Write a mask with one voxel more."
    msk = open_volume(path)[:]
    msk[0, 0, 0] = 1
    return write_mrc(path.with_name('other.msk'), msk, 10.).path


def test_another_mask_is_another_result(scored):
    "Another file, the same file changed, no mask any more."
    wanted = '; wanted overwrite=True, or another output'
    other = another(scored.folder/'a.msk')
    with pytest.raises(InputError, match='was scored with another mask than .*other.msk' + wanted): scored('other.msk')
    with pytest.raises(InputError, match='was made with a mask' + wanted): scored('')
    stat = (scored.folder/'a.msk').stat()
    (scored.folder/'a.msk').write_bytes(other.read_bytes())
    os.utime(scored.folder/'a.msk', ns=(stat.st_atime_ns, stat.st_mtime_ns)) # as if nothing had happened
    with pytest.raises(InputError, match='was scored with another mask'): scored()
    assert len(scored(overwrite=True).todo) == 1


def test_a_mask_that_came_later_is_another_result(scored):
    many = scored('', overwrite=True)
    assert work(many)['dice'] == ''
    assert scored('').todo == []
    with pytest.raises(InputError, match='was made with no mask'): scored()


def test_a_mask_that_is_gone_is_said(scored):
    (scored.folder/'a.msk').unlink()
    row = work(scored())
    assert row['state'] == 'failed' and 'a.msk: no such file' in row['remark']


@pytest.mark.parametrize('more, said', [
    (dict(ignore='none'), 'ignore auto, not none'), (dict(contrast='bright'), 'contrast auto, not bright'), (dict(zoom=.9), 'zoom 0.0, not 0.9'),
    (dict(voxel_size=9.), 'voxel_size 0.0, not 9.0'), (dict(tta=True), 'tta False, not True'), (dict(engine='auto'), 'engine torch, not auto')])
def test_another_parameter_is_another_result(scored, more, said):
    with pytest.raises(InputError, match=f'a_membranes: was made with {said}; wanted overwrite=True'): scored(**more)


def test_where_the_work_is_done_changes_nothing(scored):
    assert scored(tile=32, device='auto', workers=2, threads=3, pictures=True).todo == []


def test_every_parameter_of_a_job_is_in_the_record_or_says_where():
    "A new option that decides the answer cannot be forgotten; a run over many tomograms has it too."
    where = OneOptions.names('where')
    assert what_decides(OneOptions(), pretrained()).keys() >= OneOptions().record().keys() - where
    assert OneOptions.model_fields.keys() - {'tomo', 'mask'} <= ManyOptions.model_fields.keys()
    assert where == {'tomo', 'mask', 'weights', 'output', 'overwrite', 'device', 'tile'}
    assert ManyOptions.names('where') - where == {'tomograms', 'pictures', 'scheduler', 'workers', 'threads'}


def test_a_card_that_changed_is_another_result(session, weights, tmp_path):
    "The voxel size of the weights decides how a tomogram is resampled."
    from safetensors.torch import save_file
    save_file(torch.load(weights), tmp_path/'w.safetensors')
    for pixel in (0, 12.):
        write_card(tmp_path, dict(pixel=pixel), [])
        if pixel: break
        assert work(open_many(f'{session}/a.mrc', tmp_path/'out', weights=tmp_path/'w.safetensors', **PLAIN))['state'] == 'done'
    with pytest.raises(InputError, match='was made with weights_pixel 0.0, not 12.0'): open_many(f'{session}/a.mrc', tmp_path/'out', weights=tmp_path/'w.safetensors', **PLAIN)


def test_a_header_with_another_voxel_size_is_another_result(scored):
    with mrcfile.mmap(scored.folder/'a.mrc', 'r+') as f: f.voxel_size = 13.
    with pytest.raises(InputError, match='was made with voxels of 10 Å, not 13, as .*a.mrc says now'): scored()


@pytest.mark.parametrize('name', ['mask.mrc', 'prob.mrc', 'segmentation.json'])
@pytest.mark.parametrize('keep', [None, 0, .5, 2000])
def test_a_damaged_result_is_made_again_with_a_sentence(scored, name, keep):
    "A file that is missing, empty, cut in the middle or near its end."
    file = scored.result/name
    whole = file.read_bytes()
    if keep is None: file.unlink()
    else: file.write_bytes(whole[:int(len(whole) * keep) if keep < 1 else len(whole) - keep])
    many = scored()
    assert many.count('skipped') == 0
    row = work(many)
    assert row['state'] == 'done' and f'its {name} ' in row['remark'] and row['remark'].endswith('made again')
    assert scored().todo == [] and (name == 'segmentation.json' or file.read_bytes() == whole)


def test_a_result_that_somebody_worked_on_is_not_made_again(scored):
    "A mask that was corrected by hand and saved in another type is larger; a picture that was cut is no result of ours any more."
    msk = open_volume(scored.result/'mask.mrc')[:].astype(np.float32)
    write_mrc(scored.result/'mask.mrc', msk, 10.)
    before = (scored.result/'mask.mrc').read_bytes()
    row = work(scored())
    assert row['state'] == 'failed' and 'holds mask.mrc, which was changed after the run; wanted another folder' in row['remark']
    assert (scored.result/'mask.mrc').read_bytes() == before


@pytest.mark.parametrize('changed', [
    dict(seconds='long'), dict(membrane_share=None), dict(shape=[1, 2]), dict(shape='16'), dict(scores=[1]), dict(scores=dict(dice='good')), dict(voxels=7),
    dict(asked=[1]), dict(stamps=[]), dict(pixel=None)])
def test_a_record_of_other_structure_is_no_finished_result(scored, changed):
    file = scored.result/'segmentation.json'
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    many = scored()
    assert many.count('skipped') == 0 and work(many)['state'] == 'failed', 'whole JSON that somebody changed is kept'


@pytest.mark.parametrize('text', ['{', '[]', '{"files": 7}', '{"files": [7]}', '{"files": "mask.mrc"}', '{"files": [], "sizes": 3}', '[' * 10**5, '\xff'])
def test_a_damaged_list_of_files_is_one_sentence(scored, text):
    (scored.result/RECORD).write_text(text, encoding='latin-1')
    with pytest.raises(InputError, match='no list of files of ours|which no run of ours wrote'): scored(overwrite=True)
    with pytest.raises(InputError, match='no list of files of ours|which no run of ours wrote'): scored()


def as_of_before(scored, mask=''):
    "The result as earlier versions wrote it: other fingerprints, fewer parameters, no mask, no sizes."
    file = scored.result/'segmentation.json'
    record = json.loads(file.read_text())
    asked = {name: record['asked'][name] for name in ('weights_sha256', 'threshold', 'min_size', 'tta', 'density', 'pixel', 'zoom', 'engine', 'precision', 'format')}
    record |= dict(voxels=first_fingerprint(open_volume(scored.folder/'a.mrc')), asked=asked | dict(adapt=False), stamp=_file_stamp(scored.folder/'a.mrc')[:2])
    for name in ('mask', 'stamps'): del record[name]
    file.write_text(json.dumps(record))
    (scored.result/RECORD).write_text(json.dumps(dict(made_by='membrane_nb', files=sorted(p.name for p in scored.result.iterdir() if p.name != RECORD))))
    return record


def test_results_of_before_are_finished_or_refused_with_a_sentence(scored):
    work(scored('', overwrite=True))
    record = as_of_before(scored)
    assert scored('').count('skipped') == 1
    os.utime(scored.folder/'a.mrc', (1, 1))
    assert scored('').count('skipped') == 1, 'its voxels are compared by the rule of before'
    with pytest.raises(InputError, match='was scored by an earlier version, which kept no fingerprint of the mask; wanted overwrite'): scored()
    with pytest.raises(InputError, match='was made with threshold 0.5, not 0.4'): scored('', threshold=.4)
    file = scored.result/'segmentation.json'
    file.write_text(json.dumps(record | dict(asked=record['asked'] | dict(adapt=True))))
    with pytest.raises(InputError, match='was made with adapt True, which this version does not know'): scored('')
    file.write_text(json.dumps({name: value for name, value in record.items() if name != 'asked'}))
    with pytest.raises(InputError, match='was made by another command of an earlier version, which kept no parameters'): scored('')
    write_mrc(scored.folder/'a.mrc', open_volume(scored.folder/'a.mrc')[:] + 1, 10.)
    file.write_text(json.dumps(record))
    with pytest.raises(InputError, match='was made from other voxels'): scored('')


@pytest.mark.parametrize('name', ['mask.mrc', 'prob.mrc'])
def test_a_cut_result_of_before_is_made_again(scored, name):
    work(scored('', overwrite=True))
    as_of_before(scored)
    file = scored.result/name
    file.write_bytes(file.read_bytes()[:3000])
    row = work(scored(''))
    assert row['state'] == 'done' and f'its {name} is damaged; made again' in row['remark']


def test_a_result_of_another_int8_model_is_another_result(scored):
    file = scored.result/'segmentation.json'
    record = json.loads(file.read_text())
    assert _why_other(record, scored().items[0], record['asked'] | dict(int8_model='ab')) == '', 'it was run by torch'
    record |= dict(precision='int8', asked=record['asked'] | dict(int8_model='cd'))
    assert _why_other(record, scored().items[0], record['asked'] | dict(int8_model='ab')) == 'was made with int8_model cd, not ab'
    assert _why_other(record, scored().items[0], record['asked'] | dict(int8_model='')) == '', 'this machine has none'


def test_chunks_of_a_store_that_are_missing_are_noticed(session, weights, tmp_path):
    pytest.importorskip('zarr')
    plain = PLAIN | dict(format='zarr')
    assert work(open_many(f'{session}/a.mrc', tmp_path/'out', weights=weights, **plain))['state'] == 'done'
    chunks = [p for p in (tmp_path/'out'/'a_membranes'/'prob.ome.zarr'/'0').rglob('*') if p.is_file() and p.name[0] != '.']
    chunks[0].unlink()
    row = work(open_many(f'{session}/a.mrc', tmp_path/'out', weights=weights, **plain))
    assert row['state'] == 'done' and 'is missing; made again' in row['remark']


GOOD = ','.join(COLUMNS)

@pytest.mark.parametrize('text, said', [
    (b'', 'is empty'), (b'\xff\xfe', 'is not text'), (b'name,file\n', 'has columns name, file'), (f'{GOOD}\na,b\n'.encode(), 'line 2 has 2 fields, not 9'),
    (f'{GOOD}\na,a.mrc,maybe,,,,,,\n'.encode(), "line 2 has the state 'maybe'"), (f'{GOOD}\na,a.mrc,done,,,,,,\n'.encode(), "line 2 has the share ''"),
    (f'{GOOD}\na,a.mrc,done,1,x,,,,\n'.encode(), "line 2 has the share 'x'"), (f'{GOOD}\na,a.mrc,done,1,nan,,,,\n'.encode(), "line 2 has the share 'nan'"),
    (f'{GOOD}\na,"a.mrc'.encode(), 'is not CSV'), (f'{GOOD}\n{"x" * 200_000},a.mrc,failed,,,,,,\n'.encode(), 'is not CSV')])
def test_a_damaged_report_is_one_sentence(tmp_path, text, said):
    (tmp_path/'report.csv').write_bytes(text)
    with pytest.raises(InputError, match=said): read_report(tmp_path)
    with pytest.raises(InputError, match=said): contact_sheet(tmp_path)


def test_a_report_keeps_odd_names(tmp_path):
    rows = [dict.fromkeys(COLUMNS, '') | dict(name=name, file=f'{name}.mrc', state='failed') for name in ('#1', 'a,b', 'a"b', 'a\u2028b', 'a\nb', 'ä')]
    write_report(tmp_path, rows)
    assert [row['name'] for row in read_report(tmp_path)] == sorted(row['name'] for row in rows)


def test_a_contact_sheet_without_a_result_is_one_sentence(scored):
    write_report(scored.folder/'out', scored().rows)
    shutil.rmtree(scored.result)
    with pytest.raises(InputError, match='mask.mrc: no such file'): contact_sheet(scored.folder/'out')


def test_a_list_has_masks_and_names(session, weights, tmp_path):
    "Its paths count from its folder; a mask is scored against; a name tells two files apart."
    (session/'list.csv').write_text('tomogram, mask, name\na.mrc, a.msk, first\n# not this one\nb.mrc,,second\n')
    many = open_many(session/'list.csv', tmp_path/'out', weights=weights, **PLAIN)
    assert [(item.name, bool(item.mask)) for item in many.items] == [('first', True), ('second', False)]
    row = segment_item(many.items[0], many.folder_of(many.items[0]), many.options.changed(threads=1, pictures=False), many.asked)
    assert 0 <= float(row['dice']) <= 1 and row['worker'] == 'none'


def test_stores_and_addresses(session, weights, tmp_path):
    "A store of OME-Zarr in a folder is a tomogram, a store alone is not a folder of many; an address stays as it is."
    pytest.importorskip('zarr')
    from membrane_nb.pyramid import write_zarr
    (tmp_path/'data').mkdir()
    write_zarr(tmp_path/'data'/'cell.ome.zarr', open_volume(session/'a.mrc')[:], 10.)
    assert is_many(tmp_path/'data') and not is_many(tmp_path/'data'/'cell.ome.zarr')
    many = open_many(tmp_path/'data', tmp_path/'out', weights=weights, format='zarr', **PLAIN)
    item, = many.items
    assert item.name == 'cell'
    row = segment_item(item, many.folder_of(item), many.options.changed(pictures=False), many.asked)
    write_report(many.output, [row])
    assert len(contact_sheet(many.output).axes) == 1
    assert open_many(tmp_path/'data', tmp_path/'out', weights=weights, format='zarr', **PLAIN).count('skipped') == 1
    (tmp_path/'list.csv').write_text('tomogram\nhttps://example.org/run/cell.zarr\n')
    item, = open_many(tmp_path/'list.csv', tmp_path/'two', weights=weights, **PLAIN).items
    assert item.file == 'https://example.org/run/cell.zarr' and item.name == 'cell'


def test_a_worker_with_other_weights_is_noticed(session, weights, tmp_path):
    many = open_many(session, tmp_path/'out', weights=weights, **PLAIN)
    item = many.items[0]
    row = segment_item(item, many.folder_of(item), many.options.changed(pictures=False), many.asked | dict(weights_sha256='another'))
    assert row['state'] == 'failed' and 'this worker has other weights' in row['remark']
    assert not many.output.exists() or not list(many.output.iterdir())


@pytest.mark.parametrize('given, said', [
    (dict(tomograms='{0}/*.rec'), 'no tomogram found; wanted a folder, a pattern'),
    (dict(tomograms='{1}/empty'), 'no tomogram found; wanted tomograms in it'),
    (dict(tomograms='{1}/none.csv'), 'no such file'),
    (dict(output='{0}/results'), 'lies in the folder of the tomograms'),
    (dict(output='{0}/a.mrc'), 'is a file; wanted a folder'),
    (dict(weights='{0}/a.mrc'), 'cannot be read; wanted a whole weights file'),
    (dict(threshold=2.), 'parameter threshold: found 2'),
    (dict(contrast='grey'), "parameter contrast: found 'grey'"),
    (dict(engine='steam'), "parameter engine: found 'steam'"),
    (dict(format='tiff'), "parameter format: found 'tiff'"),
    (dict(engine='torch', precision='int8'), 'int8 is not for torch'),
    (dict(workers=-1), 'parameter workers: found -1'),
    (dict(device='abacus'), 'device abacus: not known'),
    (dict(scheduler='nonsense'), 'scheduler nonsense: does not answer'),
    (dict(scheduler='tcp://127.0.0.1:9'), 'does not answer'),
])
def test_refused_before_any_work(session, weights, tmp_path, monkeypatch, given, said):
    monkeypatch.setattr('membrane_nb.workers._ANSWER', .5)
    (tmp_path/'empty').mkdir()
    filled = {name: value.format(session, tmp_path) if isinstance(value, str) else value for name, value in given.items()}
    with pytest.raises(InputError, match=said): open_many(**dict(tomograms=session, output=tmp_path/'out', weights=weights) | PLAIN | filled)
    assert not (tmp_path/'out').exists()


@pytest.mark.parametrize('table, said', [
    ('tomogram\na.mrc\nb/a.rec\n', 'both give a; wanted names that differ'),
    ('tomogram,name\na.mrc,../up\n', "has the name '../up'"),
    ('file\na.mrc\n', 'has columns file; wanted tomogram'),
    ('tomogram,mask\n,b.mrc\n', 'line 2 names no tomogram'),
    ('tomogram\n', 'no tomogram found; wanted a line for each'),
])
def test_lists_that_are_refused(tmp_path, table, said):
    (tmp_path/'list.csv').write_text(table)
    with pytest.raises(InputError, match=said): open_many(tmp_path/'list.csv', tmp_path/'out')


def folder_of(place, *names):
    "Empty files, and the folders that they need."
    for name in names:
        (place/name).parent.mkdir(parents=True, exist_ok=True)
        (place/name).touch()
    return place


def listed(tomograms):
    return [str(Path(item.file).name) for item in list_tomograms(tomograms)]


IMOD = ('TS_01.st', 'TS_01.st.mdoc', 'TS_01_orig.st', 'TS_01.preali', 'TS_01.ali', 'TS_01_full.rec', 'TS_01.rec', 'TS_01.rec~', 'TS_01.mrc~', 'TS_01.tlt', 'tilt.com',
        'TS_02.mrc', 'TS_02.mrc.mdoc', 'TS_02_preali.mrc', 'TS_02_ali.mrc', 'TS_02_full_rec.mrc', 'TS_02_rec.mrc', '.TS_03.mrc')


@pytest.mark.parametrize('pattern', ['', '*', '**', 'TS_0*', '*.*', '*[12]*'])
def test_a_folder_as_imod_leaves_it(tmp_path, capsys, pattern):
    "D11: tilt series, and tomograms before they were trimmed, are left out, and that is said in one sentence."
    place = folder_of(tmp_path, *IMOD)
    assert listed(place/pattern) == ['TS_01.rec', 'TS_02_rec.mrc']
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and 'TS_01.st is a tilt series' in said and 'TS_01_full.rec is TS_01.rec before it was trimmed' in said


def test_what_a_pattern_names_is_not_left_out(tmp_path, capsys):
    place = folder_of(tmp_path, *IMOD)
    assert listed(place/'*1.st') == ['TS_01.st'] and listed(place/'*_full.rec') == ['TS_01_full.rec']
    assert capsys.readouterr().err == ''
    folder_of(tmp_path/'series', 'TS_01.st', 'TS_02.st.gz')
    with pytest.raises(InputError, match='series: TS_01.st is a tilt series; wanted tomograms'): list_tomograms(tmp_path/'series')


def test_brackets_in_the_name_of_a_folder(tmp_path):
    "They are its name before they are a pattern, also where the pattern would match another folder."
    folder_of(tmp_path, 'run[2]/a.mrc', 'run[2]/sub[x]/c.mrc', 'run2/b.mrc', 'cell [1] x.mrc', 'cell [1] y.mrc')
    assert is_many(tmp_path/'run[2]') and is_many(f'{tmp_path}/run[2]/*.mrc') and not is_many(tmp_path/'cell [1] x.mrc')
    assert listed(tmp_path/'run[2]') == listed(tmp_path/'run[2]'/'*.mrc') == listed(f'{tmp_path}/run[2]/[ab].mrc') == ['a.mrc']
    assert listed(f'{tmp_path}/run[2]/**/*.mrc') == ['a.mrc', 'c.mrc'] and listed(f'{tmp_path}/run[2]/sub[x]/*') == ['c.mrc']
    assert listed(f'{tmp_path}/run[0-9]/*.mrc') == ['b.mrc'] and listed(f'{tmp_path}/cell [1] ?.mrc') == ['cell [1] x.mrc', 'cell [1] y.mrc']


@pytest.mark.parametrize('name', ['my cell.mrc', 'zelle_ä.rec', '細胞.mrc', 'CELL.MRC', 'cell.Rec.gz', 'a;b.mrc', 'TS_10.00Apx.mrc', "o'hara.map", 'b.OME.ZARR/.zattrs'])
def test_names_of_all_kinds(tmp_path, name):
    folder_of(tmp_path, name)
    wanted = [name.split('/')[0]]
    assert listed(tmp_path) == listed(tmp_path/'*') == wanted
    (tmp_path/'list.csv').write_text(f'tomogram\n{wanted[0]}\n')
    assert listed(tmp_path/'list.csv') == wanted


def test_our_own_results_are_not_taken_as_tomograms(session, done, tmp_path, capsys):
    "D11: `**` finds them below; they are left out, and that is said."
    folder_of(tmp_path, 'a.mrc', 'deep/b.mrc', 'results/a_membranes/.membrane_nb.json', 'results/a_membranes/mask.mrc', 'results/a_membranes/prob.zarr/.zattrs')
    for pattern in ('**', '**/*', '**/*.mrc'): assert listed(tmp_path/pattern) == ['a.mrc', 'b.mrc']
    assert 'mask.mrc is the result of a run' in capsys.readouterr().err
    with pytest.raises(InputError, match='a_membranes: mask.mrc is the result of a run; wanted tomograms'): list_tomograms(tmp_path/'results'/'a_membranes')


@pytest.mark.parametrize('mark', [',', ';', '\t', ', ', '; '])
@pytest.mark.parametrize('name', ['list.csv', 'LIST.CSV', 'list.tsv'])
def test_a_list_as_a_spreadsheet_writes_it(tmp_path, mark, name):
    folder_of(tmp_path, 'my, cell.mrc', 'b.mrc')
    rows = ['tomogram', 'mask', 'name'], ['"my, cell.mrc"', '', 'first'], ['b.mrc', 'b;c.msk' if mark[0] != ';' else 'b.msk', '2']
    (tmp_path/name).write_text('\ufeff' + '\r\n'.join(mark.join(row) for row in rows), encoding='utf-8')
    assert is_many(tmp_path/name)
    assert [(Path(item.file).name, item.name, bool(item.mask)) for item in list_tomograms(tmp_path/name)] == [('my, cell.mrc', 'first', False), ('b.mrc', '2', True)]


def test_what_is_not_ours_is_left_alone(session, weights, done, tmp_path):
    "A folder of somebody else under the name of a result, a report of another program, and a result as an input."
    (tmp_path/'a_membranes').mkdir()
    (tmp_path/'a_membranes'/'notes.txt').write_text('mine')
    with pytest.raises(InputError, match='holds notes.txt'): open_many(session, tmp_path, weights=weights, overwrite=True, **PLAIN)
    (tmp_path/'out').mkdir()
    (tmp_path/'out'/'report.csv').write_text('mine')
    with pytest.raises(InputError, match='report.csv: is no report of ours'): open_many(session, tmp_path/'out', weights=weights, **PLAIN)
    with pytest.raises(InputError, match='is the result of a run; wanted tomograms'): open_many(f'{done[0]}/*/mask.mrc', tmp_path/'two', weights=weights, **PLAIN)


def test_two_runs_at_one_place(session, weights, tmp_path):
    many = open_many(session, tmp_path, weights=weights, **PLAIN)
    with _alone(tmp_path), pytest.raises(InputError, match='another run writes there now'): many.run()


def wait_for_file(folder):
    "In a worker: its next tomogram says who works on it, once its folder is held, and never goes on."
    from membrane_nb.infer import Job
    def run(self, pictures=True):
        self.results.begin()
        (self.results.part/'prob.mrc').write_text('half')
        (folder/'held').write_text(str(os.getpid()))
        threading.Event().wait()
    def held_once(self, pictures=True):
        try: (folder/'first').touch(exist_ok=False)
        except FileExistsError: return whole(self, pictures)
        return run(self, pictures)
    whole, Job.run = Job.run, held_once


def kill(folder):
    "Kill the process that holds a tomogram, with no chance to clean up."
    while not (folder/'held').exists() or not (folder/'held').read_text(): time.sleep(.05)
    assert list((folder/'out').glob('.*.part/prob.mrc'))
    os.kill(int((folder/'held').read_text()), signal.SIGKILL)


def test_a_killed_worker_costs_one_task(session, weights, cluster, tmp_path):
    "It is done again by another worker, which empties what the dead one left; the others are not done twice."
    from distributed import Client
    many = open_many(f'{session}/[abc].mrc', tmp_path/'out', weights=weights, scheduler=cluster.scheduler_address, threads=1, **PLAIN)
    with Client(cluster, set_as_default=False) as client: client.run(wait_for_file, tmp_path)
    killer = threading.Thread(target=kill, args=[tmp_path])
    killer.start()
    many.run()
    killer.join()
    assert states(tmp_path/'out') == dict.fromkeys('abc', 'done')
    emptied = [row for row in read_report(tmp_path/'out') if 'was left by a run that did not end; emptied' in row['remark']]
    assert len(emptied) == 1
    assert sorted(p.name for p in (tmp_path/'out').iterdir() if not p.name.startswith('.many')) == ['a_membranes', 'b_membranes', 'c_membranes', 'report.csv']


def test_a_tomogram_that_kills_every_worker_is_given_up():
    "Dask gives up after four deaths, and says so by an exception of this name."
    class KilledWorker(Exception): allowed_failures = 3
    class Task:
        status = 'error'
        def exception(self): return KilledWorker()
    row = _row_of_future(Task(), Item(Path('a.mrc'), 'a'))
    assert row['state'] == 'failed' and row['remark'].startswith('4 workers died over it; wanted more memory')


def test_a_scheduler_whose_workers_do_not_fit_is_refused(session, weights, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr('membrane_nb.__version__', '99')
    with pytest.raises(InputError, match='has membrane_nb .*; wanted 99, as here'):
        open_many(session, tmp_path/'out', weights=weights, scheduler=cluster.scheduler_address, **PLAIN)


def test_tasks_whose_scheduler_is_gone_are_rows():
    from distributed import Client, LocalCluster
    with LocalCluster(processes=False, n_workers=1, threads_per_worker=1, dashboard_address='127.0.0.1:0', silence_logs=50) as cluster:
        client = Client(cluster, set_as_default=False)
        items = [Item(Path(f'{name}.mrc'), name) for name in 'ab']
        threading.Timer(.3, cluster.close).start()
        rows = list(submit_all(client, items, lambda item: client.submit(time.sleep, 2, pure=False)))
    assert [row['name'] for row in rows] == ['a', 'b']
    assert all(row['state'] == 'failed' and 'the scheduler went away' in row['remark'] for row in rows)


def test_the_command_line_says_how_many_failed(session, weights, done, worker_here, capsys):
    with pytest.raises(InputError, match='report.csv: 1 of 4 failed, the first: .*torn.mrc: is truncated'):
        segment_many(session, done[0], weights=weights, workers=1, **PLAIN)
    assert '4 tomograms: 0 done, 3 skipped, 1 failed' in capsys.readouterr().out


def look_around():
    "In a worker: its threads, and how they wait."
    return os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY']


def ports():
    "Where this process and its children listen."
    import psutil
    found = set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try: found |= {c.laddr for c in process.net_connections() if c.status == 'LISTEN'}
        except psutil.NoSuchProcess: pass
    assert {address.ip for address in found} <= {'127.0.0.1'}
    return {address.port for address in found}


STRANGER = """
import asyncio, os, sys
from distributed import Client
from distributed.comm import connect
from distributed.security import Security

Security.temporary().get_connection_args('client') # loads all that it takes
if os.geteuid() == 0: os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)

async def ask(address, **key):
    comm = await connect(address, timeout=5, **key)
    await comm.write(dict(op='identity', reply=True))
    return await asyncio.wait_for(comm.read(), 5)

async def answer(port, protocol):
    "Whether a port speaks with one who has no key of the run."
    own = Security.temporary().get_connection_args('client') if protocol == 'tls' else {}
    try: return await ask(f'{protocol}://127.0.0.1:{port}', **own)
    except Exception: return None

for port in map(int, sys.argv[1:]):
    for protocol in ('tcp', 'tls'):
        if asyncio.run(answer(port, protocol)): print(port, protocol)
print('asked')
"""


def strangers_hear(found):
    "The ports at which another user of the machine, or this one without the key, gets an answer."
    done = subprocess.run([sys.executable, '-c', STRANGER, *map(str, found)], capture_output=True, text=True, cwd='/')
    *heard, last = done.stdout.splitlines() or ['']
    assert last == 'asked', done.stderr[-2000:]
    return heard


def test_nothing_listens_without_a_key(cluster):
    "X1: another user of a login node could run code as the one who segments. A worker that died is started again in the same way."
    plain = int(cluster.scheduler_address.rpartition(':')[2])
    assert strangers_hear([plain]) == [f'{plain} tcp'], 'the question is asked in vain'
    environment, others = dict(os.environ), ports()
    with local_client(2, 3) as client:
        assert client.submit(look_around).result() == ('3', 'PASSIVE')
        assert len(ports() - others) == 5, 'a scheduler, two workers and their nannies'
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        while len(working := client.run(os.getpid, on_error='ignore')) < 2 or victim in working.values(): time.sleep(.2)
        mine = ports() - others
        assert len(mine) == 5 and strangers_hear(mine) == []
    assert dict(os.environ) == environment


@pytest.mark.parametrize('scheduler, key', [('tcp://node1:8786', False), ('node1:8786', False), ('tls://node1:8786', True)])
def test_a_plain_scheduler_is_remarked_upon(capsys, scheduler, key):
    "Whoever reaches its port can run code as the one who started it."
    Many(ManyOptions(scheduler=scheduler), [], Path('out'), {})._say_where(SimpleNamespace(nthreads=dict))
    assert ('has no key: whoever reaches it can run code as you' in capsys.readouterr().err) != key


def test_the_page_leaves_the_tomograms_alone(run, session, weights, tmp_path):
    "Its lessons work on phantoms of their own; a run whose results are all there is short."
    before = {path.name: path.stat().st_mtime_ns for path in session.iterdir()}
    given = dict(tomograms=f'{session}/[a]*.mrc', output=tmp_path/'out', weights=weights, threads=1, device='cpu', engine='torch')
    done = run('papermill', ROOT/'nbs'/'more'/'04_many.ipynb', tmp_path/'out.ipynb', *(str(a) for n, v in given.items() for a in ('-p', n, v)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert states(tmp_path/'out') == dict(a='done')
    assert sorted(p.name for p in (tmp_path/'out').iterdir() if p.name[0] != '.') == ['a_membranes', 'report.csv']
    assert {'overlays.png', 'mask.mrc'} <= {p.name for p in (tmp_path/'out'/'a_membranes').iterdir()}
    assert {path.name: path.stat().st_mtime_ns for path in session.iterdir()} == before


def test_the_contact_sheet_shows_what_was_done(done):
    assert len(contact_sheet(done[0]).axes) == 3
    assert len(contact_sheet(done[0], most=2).axes) == 2


def test_the_module_needs_no_dask_before_it_is_used():
    code = "import sys; sys.modules['distributed'] = None; import membrane_nb.many as s; assert 'dask' not in sys.modules; s.open_many('x')"
    said = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True).stderr
    assert 'InputError: many tomograms: dask.distributed is not installed; wanted' in said.splitlines()[-1]
