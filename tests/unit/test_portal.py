"The CryoET Data Portal by the number of a run, against a portal on this machine; never against the internet."
import copy, json, sys

import numpy as np
import pytest
import membrane_nb as mb
from membrane_nb import portal as library
from membrane_nb.checks import InputError
from membrane_nb.cli import membrane
from membrane_nb.mrc import write_mrc
from membrane_nb.plain import phantom
from membrane_nb.portal import download, fetch, files_of, list_run, portal_numbers, read_labels
from membrane_nb.split import read_parts
from membrane_nb.summary import scores_in_words
from membrane_nb.volume import open_volume

pytest.importorskip('cryoet_data_portal', reason="the portal's client is not installed: pip install '.[portal]'")
TOMO, MASK = 'portal_14122_101.mrc', 'portal_14122_101_7_mask.mrc'
TINY = dict(k=3, base=8, epochs=1, patches_per_epoch=2, batch_size=1, patch=32, device='cpu')


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    from portals import Portal
    server = Portal(tmp_path_factory.mktemp('portal'))
    server.first = copy.deepcopy(server.tables)
    yield server
    server.close()


@pytest.fixture
def small(server, tmp_path, monkeypatch):
    "A portal with one run, one tomogram and one mask; the work is done in an empty folder."
    server.tables, server.cuts, server.asked, server.ranges = copy.deepcopy(server.first), [], [], True
    monkeypatch.setenv('MEMBRANE_PORTAL', server.url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(library, '_WAIT', 0)
    return server


def files(folder): return sorted(path.name for path in folder.glob('[!.]*'))


def test_what_is_fetched(small, tmp_path, capsys):
    "The list, what will be fetched, tomogram, mask, labels, a row; a second time nothing is fetched."
    got = mb.fetch(14122)
    said = capsys.readouterr().err
    assert 'tomogram 101: 24 x 96 x 80 voxels of 10 Å, raw, WBP, 0.7 MB, default for viewing' in said
    assert 'annotation 7 (membrane): on tomogram 101; labels of membrane made by a person (manual), ground truth, by A. Bee, C. Dee; ' in said
    assert 'to data/: tomogram 101 (0.7 MB), mask of annotation 7 (0.2 MB)' in said
    assert files(tmp_path/'data') == ['manifest.csv', TOMO, MASK.replace('.mrc', '.labels.json'), MASK]
    vol, msk, pixel = phantom((24, 96, 80), seed=3)
    mask = open_volume(got.mask)
    assert (open_volume(got.tomogram)[:] == vol).all() and (mask[:] == msk).all() and mask.dtype == np.int8 and mask.pixel == pixel
    assert got.labels == read_labels(got.mask) and got.labels.licence == 'CC0' and got.labels.run == 14122
    assert (tmp_path/'data'/'manifest.csv').read_text() == f'tomogram,mask,split,group\n{TOMO},{MASK},train,portal_10301\n'
    assert len(read_parts('', '', 'data/manifest.csv', 3, needed=('train',))['train']) == 1
    small.asked.clear()
    assert repr(mb.fetch('portal:14122/7')) == repr(got) and small.asked == []


def test_a_broken_transfer_goes_on(small, tmp_path):
    "In the same call, and after a call that gave up."
    small.cuts = [1000, 200_000]
    download(f'{small.url}/tomo.mrc', tmp_path/'a.mrc', 738_304)
    assert [start for _, start in small.asked] == [0, 1000, 201_000]
    small.asked.clear()
    small.cuts = [5000] + [0] * 5
    with pytest.raises(InputError, match=r'broke off after 5,000 of 738,304 bytes .*the same command goes on from there'): fetch(14122)
    assert files(tmp_path/'data') == [] and [start for _, start in small.asked] == [0] + [5000] * 5
    small.asked.clear()
    fetch(14122)
    assert small.asked[0] == ('tomo.mrc', 5000)
    for name in ('a.mrc', f'data/{TOMO}'): assert (tmp_path/name).read_bytes() == (small.folder/'tomo.mrc').read_bytes()


def test_a_server_without_ranges(small, tmp_path):
    "It begins anew, and the file is whole."
    small.ranges, small.cuts = False, [300_000]
    download(f'{small.url}/tomo.mrc', tmp_path/'a.mrc')
    assert (tmp_path/'a.mrc').read_bytes() == (small.folder/'tomo.mrc').read_bytes()


def test_a_file_that_is_not_what_the_portal_says(small, tmp_path):
    "Another size, no file, a file of ours in the way, a mask of another shape, a mask without membrane."
    small.tables['tomograms'][0]['fileSizeMrc'] = 5.
    with pytest.raises(InputError, match='has 738,304 bytes; wanted 5, as the portal says'): fetch(14122)
    small.tables['tomograms'][0] |= dict(fileSizeMrc=738304., httpsMrcFile=f'{small.url}/none.mrc')
    with pytest.raises(InputError, match=r'none.mrc: the server says 404 \(Not Found\); wanted the file'): fetch(14122)
    (tmp_path/'data'/TOMO).write_bytes(b'mine')
    with pytest.raises(InputError, match='has 4 bytes; wanted 738,304, or another folder'): fetch(14122)
    with pytest.raises(InputError, match='file:///tmp/x: is no address of a file; wanted https://'): download('file:///tmp/x', tmp_path/'x.mrc')
    small.tables['tomograms'][0]['httpsMrcFile'] = f'{small.url}/tomo.mrc'
    for shape, said in (((24, 96, 64), 'wanted .24, 96, 80., as the tomogram'), ((24, 96, 80), 'holds no membrane')):
        write_mrc(small.folder/'other.mrc', np.zeros(shape, np.int8), 10.)
        small.tables['annotationFiles'][0] |= dict(httpsPath=f'{small.url}/other.mrc', fileSize=None)
        with pytest.raises(InputError, match=said): fetch(14122, output=tmp_path/f'{shape[2]}')
    assert not (tmp_path/'80'/MASK).exists() and not (tmp_path/'80'/'manifest.csv').exists()


def test_a_wrong_number(small):
    with pytest.raises(InputError, match='portal:99: no run of the CryoET Data Portal has this number'): fetch(99)
    for name in ('portal:', 'portal:TS_1', 'portal:1/2/3/4', '-3', '9' * 12):
        with pytest.raises(InputError, match='names no run of the CryoET Data Portal; wanted portal:14122'): fetch(name)
    assert portal_numbers(' 14122/5/6') == (14122, [5, 6])


@pytest.mark.parametrize('change', [
    lambda t: t['annotations'][0].update(objectName='ribosome', objectId='GO:0022626'),
    lambda t: t['annotationShapes'][0].update(shapeType='Point'),
    lambda t: t['annotationFiles'][0].update(alignmentId=2),
    lambda t: t['annotationFiles'][0].update(tomogramVoxelSpacingId=2),
    lambda t: t['annotationFiles'][0].update(format='zarr'),
    lambda t: t['annotations'].clear(),
    lambda t: t['tomograms'][0].update(httpsMrcFile=None),
])
def test_no_annotation(small, tmp_path, change):
    "No membrane, points alone, another alignment or voxel spacing, no MRC, nothing at all: nothing is fetched."
    change(small.tables)
    with pytest.raises(InputError, match='portal:14122: has 1 tomograms and no mask of membrane that lies on one'): fetch(14122)
    assert small.asked == [] and not (tmp_path/'data'/TOMO).exists()


def test_no_network(small, tmp_path, monkeypatch):
    "One sentence; what was fetched before is used without a network."
    got = fetch(14122)
    monkeypatch.setenv('MEMBRANE_PORTAL', 'http://127.0.0.1:9')
    with pytest.raises(InputError, match=r'the CryoET Data Portal .*: does not answer .*; wanted a network, or files that were fetched before') as e: fetch(14122)
    assert len(str(e.value).splitlines()) == 1
    assert files_of('portal:14122') == files_of('portal:14122/101/7') == (got.tomogram, got.mask)
    with pytest.raises(InputError, match='does not answer'): files_of('portal:14122/8')
    assert files_of('portal:14122', 'mine.mrc') == (got.tomogram, 'mine.mrc') and files_of('cell.mrc', 'm.mrc') == ('cell.mrc', 'm.mrc')


def test_without_the_client(small, monkeypatch):
    "A sentence names the extra."
    library._client.cache_clear()
    monkeypatch.setitem(sys.modules, 'cryoet_data_portal', None)
    with pytest.raises(InputError, match=r"needs the package cryoet-data-portal; wanted it installed: pip install '\.\[portal\]'"): mb.open_tomogram('portal:14122')


def test_several_tomograms(small):
    "The default for viewing, then ground truth, then what a curator recommends; a tie is refused with a list."
    small.add_tomogram(102, processing='denoised')
    small.add_tomogram(103, alignmentId=2)
    assert list_run(14122).choose().name == 'portal:14122/101/7'
    small.tables['tomograms'][1]['isVisualizationDefault'] = True
    with pytest.raises(InputError, match=r'has 2 annotated tomograms that are alike; wanted portal:14122/101/7 \(10 Å, raw; membrane by a person\) or portal:14122/102/7 \(10 Å, denoised; '): fetch(14122)
    assert list_run(14122).choose([102]).name == 'portal:14122/102/7'
    with pytest.raises(InputError, match='portal:14122/103: is not annotated; wanted portal:14122/101/7 .* or '): fetch('14122/103')
    small.add_annotation(8, groundTruthStatus=False, isCuratorRecommended=True)
    assert list_run(14122).choose([101]).name == 'portal:14122/101/7'
    small.tables['annotations'][0]['groundTruthStatus'] = False
    assert list_run(14122).choose([101]).name == 'portal:14122/101/8'
    assert list_run(14122).choose([101, 7]).name == 'portal:14122/101/7'


def test_labels_made_by_a_program(small, tmp_path):
    "It is said where the tomogram is opened, in card, provenance and record, and wherever a score is told."
    small.tables['annotations'][0] |= dict(methodType='automated', annotationSoftware='MemBrain-seg', groundTruthStatus=False)
    words = 'labels of membrane made by a program (automated, MemBrain-seg), not called ground truth, by A. Bee, C. Dee; CryoET Data Portal, run 14122, annotation 7, CC0'
    run = mb.train('portal:14122', output=tmp_path, **TINY)
    assert run.folder.name == 'portal_14122_101' and f'{MASK}: {words}' in run.notes
    assert run.card['labels'] == dict.fromkeys(('train', 'val', 'test'), [words])
    assert f'test is scored against {words}' in scores_in_words(run.card) and f'val is scored against {words}' in repr(run)
    seen = json.loads((run.folder/'provenance.json').read_text())['data']
    assert {row['labels']['method'] for row in seen} == {'automated'}
    found = mb.segment('portal:14122', root=tmp_path, weights=run.weights, device='cpu', engine='torch')
    assert found.folder.name == 'portal_14122_101_membranes' and repr(found).endswith(' against labels made by a program')
    record = json.loads((found.folder/'segmentation.json').read_text())
    assert record['labels']['software'] == 'MemBrain-seg' and f'{MASK}: scored against labels made by a program' in record['notes']


def test_a_mask_that_was_changed(small):
    "Who corrects a mask of the portal is told so; a record that is damaged is refused."
    got = fetch(14122)
    assert not mb.open_tomogram('portal:14122', got.mask).notes[-1].endswith('changed since')
    msk = open_volume(got.mask)[:]
    msk[5] = 0
    write_mrc(got.mask, msk, 10.)
    assert mb.open_tomogram(got.tomogram, got.mask).remarks[1].endswith('annotation 7, CC0, and changed since')
    got.mask.with_suffix('.labels.json').write_text('{}')
    with pytest.raises(InputError, match='labels.json: run: found'): mb.open_tomogram(got.tomogram, got.mask)


def test_a_look_before_fetching(small, tmp_path, monkeypatch):
    "Seven slices of the finest level that does not cost too much; no MRC file is asked for."
    cell = mb.open_tomogram('portal:14122', contrast='dark')
    assert cell.vol.shape == (7, 96, 80) and cell.pixel == 10 and (cell.vol == phantom((24, 96, 80), seed=3)[0][9:16]).all()
    assert 'slices 9 to 15 of 24, read in place with voxels of 10 Å; fetch it to see all: membrane fetch 14122' in repr(cell) and 'by a person' in repr(cell)
    assert small.asked == [] and files(tmp_path) == []
    monkeypatch.setattr(library, '_MOST', 2e5) # the whole has 7e5 bytes
    half = mb.open_tomogram('portal:14122')
    assert half.vol.shape == (7, 48, 40) and half.pixel == 20 and 'slices 3 to 9 of 12, read in place with voxels of 20 Å' in repr(half)
    small.tables['tomograms'][0]['httpsOmezarrDir'] = None
    with pytest.raises(InputError, match='has no OME-Zarr store to look into; wanted it fetched: membrane fetch 14122'): mb.open_tomogram('portal:14122')


def test_rows_of_a_manifest(small, tmp_path, capsys):
    "A row that was edited stays, others are added, and a manifest with other columns is left alone."
    fetch(14122)
    path = tmp_path/'data'/'manifest.csv'
    path.write_text(f'tomogram,mask,split,group,line\n{TOMO},{MASK},test,mine,')
    small.add_tomogram(102)
    fetch(14122)
    fetch('14122/102')
    assert path.read_text().splitlines()[1:] == [f'{TOMO},{MASK},test,mine,', 'portal_14122_102.mrc,portal_14122_102_7_mask.mrc,train,portal_10301,']
    path.write_text('tomogram;mask;split\n')
    fetch(14122)
    assert path.read_text() == 'tomogram;mask;split\n' and 'no row was added' in capsys.readouterr().err


def test_the_command(small, tmp_path, capsys):
    membrane(['fetch', '14122', '--output', 'here'])
    assert files(tmp_path/'here') == ['manifest.csv', TOMO, MASK.replace('.mrc', '.labels.json'), MASK]
    assert capsys.readouterr().out.endswith('train on it: membrane train portal:14122\n')
    with pytest.raises(SystemExit, match='^membrane fetch: portal:99: no run'): membrane(['fetch', '99'])
    with pytest.raises(SystemExit, match='^membrane fetch: parameter run: found nothing; wanted membrane fetch RUN'): membrane(['fetch'])
    with pytest.raises(SystemExit, match='^membrane fetch: .*here/manifest.csv: cannot be made'): membrane(['fetch', '14122', '--output', 'here/manifest.csv'])
