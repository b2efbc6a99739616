"Slices and tomograms for training, validation and test; manifests."
import pytest
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.split import _read_manifest, read_parts, split, split_tomo


def test_the_split_of_a_tomogram(cell_and_mask):
    "Slabs, or slices dealt out where a slab would hold no annotation."
    vol, msk = cell_and_mask
    assert split_tomo(Tomo(vol, msk), 3) == split(range(16), 3)
    gap, val = msk.copy(), split(range(16), 3)['val']
    gap[val.start:val.stop] = 0
    dealt = Tomo(vol, gap)
    assert all(dealt.rows[zs.start:zs.stop].any() for zs in split_tomo(dealt, 3).values())


def test_a_manifest(files):
    "A mark at its start, spaces, comments, empty lines, columns in any order and more of them."
    (files/'m.csv').write_text('# mine\n split , mask,note, tomogram\n\ntrain, msk.mrc,,a.mrc\n#\nval, msk.mrc,x,b.mrc\ntest, msk.mrc,,c.mrc\ntrain, msk.mrc,,a.mrc\n', 'utf-8-sig')
    parts = _read_manifest(files/'m.csv')
    assert {part: [(t.name, zs) for t, zs in tomos] for part, tomos in parts.items()} == dict(
        train=[('a.mrc', range(16))] * 2, val=[('b.mrc', range(16))], test=[('c.mrc', range(16))])
    assert read_parts('', '', str(files/'m.csv'), 7).keys() == parts.keys()


def test_a_manifest_with_data_sets_and_lines(files):
    "A column may be empty: then a tomogram is a data set of its own, and the parameter `line` counts."
    (files/'m.csv').write_text('tomogram,mask,split,line,group\na.mrc,msk.mrc,train,3.5,cells\nb.mrc,msk.mrc,val,,\nc.mrc,msk.mrc,test,0,cells\n')
    tomos = [tomo for part in _read_manifest(files/'m.csv', line=2.).values() for tomo, _ in part]
    assert [(tomo.line, tomo.group) for tomo in tomos] == [(3.5, 'cells'), (2., 'b.mrc'), (0., 'cells')]
    for wrong, said in (('thin', "line 2 has the line 'thin'; wanted nm"), ('-1', 'parameter line: found -1'), ('nan', 'parameter line: found nan')):
        (files/'m.csv').write_text(f'tomogram,mask,split,line\na.mrc,msk.mrc,train,{wrong}\n')
        with pytest.raises(InputError, match=said): _read_manifest(files/'m.csv', ('train',))


@pytest.mark.parametrize('mark', [';', '\t', '; '])
def test_a_manifest_as_a_spreadsheet_writes_it(files, mark):
    "D11: semicolons or tabs; a comma may then be a letter of a name."
    (files/'a.mrc').rename(files/'a, first.mrc')
    rows = ('tomogram', 'mask', 'split'), ('a, first.mrc', 'msk.mrc', 'train'), ('b.mrc', 'msk.mrc', 'val'), ('c.mrc', 'msk.mrc', 'test')
    (files/'list.csv').write_text('\ufeff# from a spreadsheet\r\n' + '\r\n'.join(mark.join(row) for row in rows))
    parts = _read_manifest(files/'list.csv')
    assert [part[0][0].name for part in parts.values()] == ['a, first.mrc', 'b.mrc', 'c.mrc']


@pytest.mark.parametrize('text, said', [
    ('', 'is empty; wanted a manifest'), ('# mine\n', 'has columns none; wanted tomogram, mask, split'), ('a,b\n', 'has columns a, b'), ('tomogram,mask,split\n', 'has no train tomogram'),
    ('tomogram,mask,split\n\na.mrc,msk.mrc,trian\n', "line 3 has the split 'trian'; wanted train, val or test"), ('tomogram,mask,split\na.mrc,msk.mrc\n', 'line 2 has 2 fields; wanted 3'),
    ('tomogram,mask,split\na.mrc,,train\n', 'line 2 names a.mrc and no mask; wanted both'), ('x' * (10**7 + 1), 'is larger than 10 MB; wanted a manifest'),
    ('tomogram,mask,split\na.mrc,msk.mrc,train\nb.mrc,msk.mrc,val\na.mrc,msk.mrc,test\n', r'a.mrc \(train\) and a.mrc \(test\) hold the same voxels')])
def test_a_manifest_that_is_wrong(files, text, said):
    (files/'m.csv').write_text(text)
    with pytest.raises(InputError, match=said): _read_manifest(files/'m.csv')


def test_the_parts_of_a_run(files):
    tomo, mask = str(files/'tomo.mrc'), str(files/'msk.mrc')
    parts = read_parts(tomo, mask, '', 3)
    assert [zs for [(_, zs)] in parts.values()] == list(split(range(16), 3).values())
    assert parts['val'][0][0].notes[-1] == 'tomo.mrc: slices 0 to 7 to train, 10 to 11 to validate, 14 to 15 to test'
    assert read_parts('', '', '', 3) == {}
    for given, said in (((tomo, '', ''), 'stands alone; wanted a tomogram and its mask'), (('', mask, ''), 'stands alone'), ((tomo, mask, 'm.csv'), 'wanted one of the two'), (('', mask, 'm.csv'), 'wanted one of the two')):
        with pytest.raises(InputError, match=said): read_parts(*given, 3)
