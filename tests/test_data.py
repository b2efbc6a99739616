"Scale, mask, split, manifest and slabs, case by case."
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo, at_pixel, check_unchanged, slabs
from membrane_nb.split import read_manifest, read_parts, split, split_few, split_tomo
from membrane_nb.blank import Blank
from membrane_nb.grey import Scale, measure_scale
from membrane_nb.lines import only_near, widen_lines
from membrane_nb.mask import Mask
from membrane_nb.store import fingerprint
from membrane_nb.plain import phantom
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import Resampled
from scipy.ndimage import distance_transform_edt


@pytest.fixture(scope='module')
def cell():
    return phantom((16, 96, 96), seed=1)[:2]


@pytest.fixture
def files(cell, tmp_path):
    "A tomogram, its mask, and three other tomograms."
    vol, msk = cell
    write_mrc(tmp_path/'tomo.mrc', vol, 10.)
    write_mrc(tmp_path/'msk.mrc', msk.astype(np.int8), 10.)
    for name in 'abc': write_mrc(tmp_path/f'{name}.mrc', vol + np.float32(ord(name)), 10.)
    return tmp_path


def test_scaled_values():
    grey = np.array([100, 150, 9999, np.nan, -32768])
    assert (Scale(100., 80., 130., bad=1)(grey[:4]) == np.float32([0, 1, 5, 0])).all()
    assert (Scale(100., 80., 130., sign=-1)(grey[:2]) == np.float32([0, -1])).all()
    hole = Blank((1, 1, 2), [np.array([[True, False]])])
    assert (Scale(100., 80., 130., blank=hole).slice(np.array([[[-32768, 125]]]), 0) == np.float32([0, .5])).all()
    assert Scale(100., 80., 130.).spread(grey)[2] == np.float32((9999 - 100) / 50)


@pytest.mark.parametrize('dtype', ['int8', 'uint8', 'int16', 'uint16', '>i2', 'float16', 'float32', '>f4', 'float64'])
def test_quantiles_of_every_type(cell, dtype):
    "All are exact here: whole numbers are counted, and a volume of few floats is read completely."
    grey = np.clip(100 + 20 * cell[0], 0, 127).astype(dtype)
    scale = measure_scale(grey)
    assert np.allclose([scale.median, scale.p5, scale.p95], np.quantile(grey.astype(np.float32), [.5, .05, .95]), rtol=1e-6)
    assert scale.error == 0 and scale.voxels == fingerprint(grey)


def test_quantiles_of_a_sample():
    "A large volume of floats is thinned, and the stated error holds."
    vol = np.random.default_rng(0).gamma(2, size=(20, 700, 700)).astype(np.float32)
    scale, exact = measure_scale(vol), np.quantile(vol, [.5, .05, .95])
    assert 0 < scale.error < .002
    assert np.abs(np.array([scale.median, scale.p5, scale.p95]) - exact).max() < 4 * scale.error * (exact[2] - exact[1])


def test_signs(cell):
    vol = cell[0]
    assert [measure_scale(v).sign for v in (vol, -vol, 1e-15 * vol, -1e-15 * vol)] == [1, -1, 1, -1]
    assert [measure_scale(-vol, density=d).sign for d in ('auto', 'dark', 'bright')] == [-1, 1, -1]
    with pytest.raises(InputError, match='wanted auto, dark or bright'): measure_scale(vol, density='grey')


@pytest.mark.parametrize('kind, said', [('flat', 'a.mrc: 90 % of its voxels are 0.0; wanted a tomogram with contrast'), ('mask', 'holds only 2 different values, as a mask does'),
                                        ('bool', 'holds bool; wanted grey values'), ('int32', 'holds int32; wanted grey values of 8 or 16 bits, or floats')])
def test_what_is_no_tomogram(cell, kind, said):
    vol, msk = cell
    with pytest.raises(InputError, match=said): measure_scale(dict(flat=0 * vol, mask=msk, bool=msk > 0, int32=vol.astype(np.int32))[kind], 'a.mrc')


@pytest.mark.parametrize('filler', [-32768, 1e6])
def test_voxels_without_data(cell, filler):
    "NaN, infinite ones and a filler are counted and become background; the rest is scaled as if they were not there."
    broken = cell[0].copy()
    broken[2, :5, 0] = np.nan
    broken[3, 0, 0] = np.inf
    broken[4:6] = filler
    scale = measure_scale(broken)
    scaled = np.stack([scale.slice(broken, z) for z in range(len(broken))])
    assert (scale.bad, scale.sign) == (6, 1) and scale.blank[4:6].all() and scale.blank.share < .15
    assert not scaled[4:6].any() and not scaled[2, :5, 0].any() and scaled[3, 0, 0] == 0
    rest = np.delete(cell[0], [4, 5], axis=0)
    assert abs(scale.median - np.median(rest)) < .01


def test_masks_of_every_type(cell):
    msk = cell[1]
    instances = np.arange(1, 17, dtype=np.int32)[:, None, None] * msk
    for same in (msk, msk.astype(bool), 7 * msk, msk.astype(np.float32), 300 * msk.astype(np.int16), instances, 100_000 * instances, instances.astype('>i2')):
        assert (Mask(same)[:] == msk).all() and (Mask(same).rows == msk.sum(axis=2)).all()


def test_values_that_mean_not_annotated(cell):
    "auto takes 2 where the values are 0, 1 and 2; another number may be named, a negative one too."
    msk = cell[1]
    three, four = msk.copy(), msk.copy()
    three[:, :8] = four[:, :8] = 2
    four[:, 9:12] = 5
    for other, ignore, skipped in ((three, 'auto', 2), (three, '2', 2), (three, '1', 1), (three, 'none', None), (four, 'auto', None), (four, '5', 5),
                                   (three.astype(np.int8) - 1, '-1', -1)):
        want = np.where(other == skipped, 2, other > 0) if skipped is not None else (other > 0)
        mask = Mask(other, ignore)
        assert (mask[:] == want).all() and (mask.rows == (want == 1).sum(axis=2)).all()
    assert Mask(three, 'auto', 'm').note.startswith('m: 0 is background (') and '2 is not annotated (8.33 %)' in Mask(three).note
    assert '1 and 2 are membrane' in Mask(three, 'none').note and '1 to 5 (3 values) are membrane' in Mask(four).note


@pytest.mark.parametrize('kind, ignore, said', [('empty', 'auto', r'has no membrane voxel \(values 0 \(100 %\)\)'), ('half', 'auto', 'holds the value 0.5; wanted a mask of whole'),
                                                ('nan', 'auto', 'holds the value nan'), ('negative', 'auto', 'holds the value -1; wanted 0 and above'), ('whole', 'two', "parameter ignore: found 'two'")])
def test_what_is_no_mask(cell, kind, ignore, said):
    msk = cell[1]
    kinds = dict(empty=0 * msk, half=msk * np.float32(.5), nan=np.where(msk, np.nan, 0).astype(np.float32), negative=np.where(np.arange(96) < 8, -1, msk.astype(np.int8)), whole=msk)
    with pytest.raises(InputError, match=said): Mask(kinds[kind], ignore)


def test_only_near(cell, tmp_path):
    "The annotation stays; what is not annotated stays so; a slice without annotation is not judged; the mask is known by its file."
    msk = cell[1].copy()
    msk[3] = 0
    judged = only_near(Mask(msk), 10., 8., tmp_path)
    for z in (0, 5, 15): assert (judged[z] == np.where(msk[z] == 1, 1, 2 * (distance_transform_edt(msk[z] != 1) > 8))).all()
    assert (judged[3] == 2).all() and judged.voxels == fingerprint(msk) and not list(tmp_path.iterdir())
    with pytest.raises(InputError, match='has no voxel size'): only_near(Mask(msk), 0., 8., tmp_path)


@pytest.mark.parametrize('pixel, line', [(10., 3.5), (20., 3.5), (5., 6.), (10., .5)])
def test_lines_become_bands(cell, tmp_path, pixel, line):
    "As thick as a membrane is, undecided at either side; what is not annotated stays so; a line alone where voxels are large."
    msk = np.zeros_like(cell[1])
    msk[2, 40, 10:70] = 1
    msk[2, :10] = msk[7, :10] = 2
    bands = widen_lines(Mask(msk, '2', empty='background'), pixel, line, tmp_path)
    distance = distance_transform_edt(msk[2] != 1) * pixel / 10
    expected = np.where(distance <= line / 2, 1, np.where(distance <= line, 2, msk[2]))
    assert (bands[2] == expected).all() and (bands[7] == msk[7]).all() and not bands[3].any()
    assert bands.voxels == fingerprint(msk) and (bands.rows[2] == (expected == 1).sum(axis=1)).all()
    with pytest.raises(InputError, match='has no voxel size'): widen_lines(Mask(msk, '2'), 0., line, tmp_path)


def reads(zs, k):
    "The slices that patches centred on `zs` read."
    return {z + d for z in zs for d in range(-(k//2), k//2 + 1)}


@pytest.mark.parametrize('k', [1, 3, 5, 7, 11])
def test_a_split_does_not_leak(k):
    "For every number of slices: what a part reads, no other part reads; all three hold slices, and at most 2(k - 1) serve none."
    with pytest.raises(InputError, match='v: has .* annotated slices; wanted at least'): split(range(2 * k), k, 'v')
    for n in range(2 * k + 1, 140):
        parts = split(range(5, 5 + n), k)
        train, val, test = (reads(parts[part], k) for part in ('train', 'val', 'test'))
        assert all(parts.values()) and not train & val and not val & test and not train & test
        assert list(parts) == ['train', 'val', 'test'] and sum(map(len, parts.values())) == n - 2 * (k - 1)
    assert [len(zs) for zs in split(range(112), 7).values()] == [70, 15, 15]


def test_few_slices_are_dealt_out():
    assert split_few([3, 9, 20, 41, 60], 7) == dict(train=range(3, 21), val=range(41, 42), test=range(60, 61))
    assert split_few(np.arange(0, 96, 8), 7) == dict(train=range(0, 57), val=range(64, 73), test=range(80, 89))
    for marked in ([5, 6, 7, 30], [2, 50], [9]):
        with pytest.raises(InputError, match=f'a.mrc: has {len(marked)} annotated slices; wanted at least three, 7 or more apart'): split_few(np.array(marked), 7, 'a.mrc')
    rng = np.random.default_rng(0)
    for k in (1, 3, 7):
        for _ in range(200):
            marked = np.flatnonzero(rng.random(90) < .1)
            try: parts = split_few(marked, k)
            except InputError: continue
            centres = [{z for z in marked if z in zs} for zs in parts.values()]
            assert all(centres) and not any(reads(a, k) & reads(b, k) for a, b in zip(centres, centres[1:]))


def test_the_split_of_a_tomogram(cell):
    "Slabs, or slices dealt out where a slab would hold no annotation."
    vol, msk = cell
    assert split_tomo(Tomo(vol, msk), 3) == split(range(16), 3)
    gap, val = msk.copy(), split(range(16), 3)['val']
    gap[val.start:val.stop] = 0
    dealt = Tomo(vol, gap)
    assert all(dealt.rows[zs.start:zs.stop].any() for zs in split_tomo(dealt, 3).values())


def test_other_voxel_sizes(cell):
    vol = cell[0]
    for given, wanted, said in ((0., 9., 'its voxel size is not known; taken for the 9 Å'), (50., 9., 'too far from the 9 Å of the weights to resample; expect little')):
        seen, notes = at_pixel(vol, given, wanted, 'v')
        assert seen is vol and said in notes[0]
    assert all(at_pixel(vol, 13.5, wanted, 'v') == (vol, []) for wanted in (13.5, 11.3, 16.2, 0.))
    coarse = Tomo(-vol, pixel=20., name='coarse.mrc', wanted=10.)
    assert coarse.seen.shape == (32, 192, 192) and coarse.scale == measure_scale(coarse.seen) and coarse.voxels == fingerprint(-vol)
    membrane = Resampled(cell[1], coarse.seen.shape)[16] > .9
    assert coarse.scale(coarse.seen[16])[membrane].mean() < 0


def test_a_tomogram_of_files(cell, files):
    vol, msk = cell
    t = Tomo.open(files/'tomo.mrc', files/'msk.mrc')
    assert (t.membrane_range, t.scale, t.voxels, t.pixel, len(t.files)) == (range(16), measure_scale(vol), fingerprint(vol), 10, 2)
    write_mrc(files/'thin.mrc', vol[:9])
    with pytest.raises(InputError, match='thin.mrc: is named as tomogram and as mask; wanted two files'): Tomo.open(files/'thin.mrc', files/'thin.mrc')
    with pytest.raises(InputError, match='msk.mrc: has shape .* as the tomogram'): Tomo.open(files/'thin.mrc', files/'msk.mrc')
    with pytest.raises(InputError, match='parameter pixel'): Tomo.open(files/'tomo.mrc', pixel=-1.)
    check_unchanged([t])
    write_mrc(files/'msk.mrc', 0 * msk.astype(np.int8), 10.)
    with pytest.raises(InputError, match='msk.mrc: was changed'): check_unchanged([t])


@pytest.mark.filterwarnings('error::RuntimeWarning')
@pytest.mark.parametrize('bad', [np.inf, -np.inf, np.nan, np.frombuffer(b'\x01\x00\xa0\x7f', '<f4')[0]])
def test_what_is_no_number_gives_no_warning(cell, tmp_path, bad):
    "Also one that processors call signalling, as damaged bytes make it; in a rim, in the data, in what is written."
    vol = cell[0].copy()
    vol[:, 30:40] = bad
    vol[:, :, :20] = -9
    tomo = Tomo(vol)
    assert (tomo.scale(vol)[:, 30:40, 20:] == 0).all() and tomo.blank
    write_mrc(tmp_path/'bad.mrc', vol, 10.)


@pytest.mark.filterwarnings('error::RuntimeWarning')
@pytest.mark.parametrize('size, opens', [(1e-40, False), (1e-20, True), (1e20, True), (1e33, True)])
def test_grey_values_of_any_size(cell, size, opens):
    "No warning, whatever a damaged file holds; numbers that floats hardly tell apart are no contrast."
    vol = cell[0] * np.float32(size)
    if opens: assert np.isfinite(Tomo(vol).scale(vol)).all()
    else:
        with pytest.raises(InputError, match='wanted a tomogram with contrast'): Tomo(vol)


def test_a_manifest(files):
    "A mark at its start, spaces, comments, empty lines, columns in any order and more of them."
    (files/'m.csv').write_text('# mine\n split , mask,note, tomogram\n\ntrain, msk.mrc,,a.mrc\n#\nval, msk.mrc,x,b.mrc\ntest, msk.mrc,,c.mrc\ntrain, msk.mrc,,a.mrc\n', 'utf-8-sig')
    parts = read_manifest(files/'m.csv')
    assert {part: [(t.name, zs) for t, zs in tomos] for part, tomos in parts.items()} == dict(
        train=[('a.mrc', range(16))] * 2, val=[('b.mrc', range(16))], test=[('c.mrc', range(16))])
    assert read_parts('', '', str(files/'m.csv'), 7).keys() == parts.keys()


def test_a_manifest_with_data_sets_and_lines(files):
    "A column may be empty: then a tomogram is a data set of its own, and the parameter `line` counts."
    (files/'m.csv').write_text('tomogram,mask,split,line,group\na.mrc,msk.mrc,train,3.5,cells\nb.mrc,msk.mrc,val,,\nc.mrc,msk.mrc,test,0,cells\n')
    tomos = [tomo for part in read_manifest(files/'m.csv', line=2.).values() for tomo, _ in part]
    assert [(tomo.line, tomo.group) for tomo in tomos] == [(3.5, 'cells'), (2., 'b.mrc'), (0., 'cells')]
    for wrong, said in (('thin', "line 2 has the line 'thin'; wanted nm"), ('-1', 'parameter line: found -1'), ('nan', 'parameter line: found nan')):
        (files/'m.csv').write_text(f'tomogram,mask,split,line\na.mrc,msk.mrc,train,{wrong}\n')
        with pytest.raises(InputError, match=said): read_manifest(files/'m.csv', ('train',))


@pytest.mark.parametrize('mark', [';', '\t', '; '])
def test_a_manifest_as_a_spreadsheet_writes_it(files, mark):
    "D11: semicolons or tabs; a comma may then be a letter of a name."
    (files/'a.mrc').rename(files/'a, first.mrc')
    rows = ('tomogram', 'mask', 'split'), ('a, first.mrc', 'msk.mrc', 'train'), ('b.mrc', 'msk.mrc', 'val'), ('c.mrc', 'msk.mrc', 'test')
    (files/'list.csv').write_text('\ufeff# from a spreadsheet\r\n' + '\r\n'.join(mark.join(row) for row in rows))
    parts = read_manifest(files/'list.csv')
    assert [part[0][0].name for part in parts.values()] == ['a, first.mrc', 'b.mrc', 'c.mrc']



@pytest.mark.parametrize('text, said', [
    ('', 'is empty; wanted a manifest'), ('# mine\n', 'has columns none; wanted tomogram, mask, split'), ('a,b\n', 'has columns a, b'), ('tomogram,mask,split\n', 'has no train tomogram'),
    ('tomogram,mask,split\n\na.mrc,msk.mrc,trian\n', "line 3 has the split 'trian'; wanted train, val or test"), ('tomogram,mask,split\na.mrc,msk.mrc\n', 'line 2 has 2 fields; wanted 3'),
    ('tomogram,mask,split\na.mrc,,train\n', 'line 2 names a.mrc and no mask; wanted both'), ('x' * (10**7 + 1), 'is larger than 10 MB; wanted a manifest'),
    ('tomogram,mask,split\na.mrc,msk.mrc,train\nb.mrc,msk.mrc,val\na.mrc,msk.mrc,test\n', r'a.mrc \(train\) and a.mrc \(test\) hold the same voxels')])
def test_a_manifest_that_is_wrong(files, text, said):
    (files/'m.csv').write_text(text)
    with pytest.raises(InputError, match=said): read_manifest(files/'m.csv')


def test_the_parts_of_a_run(files):
    tomo, mask = str(files/'tomo.mrc'), str(files/'msk.mrc')
    parts = read_parts(tomo, mask, '', 3)
    assert [zs for [(_, zs)] in parts.values()] == list(split(range(16), 3).values())
    assert parts['val'][0][0].notes[-1] == 'tomo.mrc: slices 0 to 7 to train, 10 to 11 to validate, 14 to 15 to test'
    assert read_parts('', '', '', 3) == {}
    for given, said in (((tomo, '', ''), 'stands alone; wanted a tomogram and its mask'), (('', mask, ''), 'stands alone'), ((tomo, mask, 'm.csv'), 'wanted one of the two'), (('', mask, 'm.csv'), 'wanted one of the two')):
        with pytest.raises(InputError, match=said): read_parts(*given, 3)


def mirrored(z, n):
    "Where slice z lies when a volume of n slices is mirrored at both ends, again and again."
    last = n - 1
    return last - abs(last - abs(z) % max(1, 2 * last))


@pytest.mark.parametrize('n', range(1, 10))
def test_slabs_are_mirrored(n):
    "For every number of slices and every k, also where the slab is thicker than the volume."
    vol = np.arange(n, dtype=np.float32)[:, None, None] + np.zeros((n, 2, 3), np.float32)
    scale = Scale(0., 0., 10.)
    for k in range(1, 10, 2):
        for zs in (range(n), range(n // 2, n)):
            got = dict(slabs(vol, scale, k, zs))
            assert list(got) == list(zs)
            for z in zs: assert (got[z] == scale(vol[[mirrored(i, n) for i in range(z - k // 2, z + k // 2 + 1)]])).all()


def test_slabs_read_each_slice_once(cell):
    class Counted:
        shape, read = cell[0].shape, []
        def __len__(self): return 16
        def __getitem__(self, z):
            self.read.append(int(z))
            return cell[0][z]
    scale = measure_scale(cell[0])
    padded = np.pad(scale(cell[0]), ((3, 3), (0, 0), (0, 0)), mode='reflect')
    for z, slab in slabs(Counted(), scale, 7, range(16)): assert (slab == padded[z:z + 7]).all()
    assert sorted(Counted.read) == list(range(16))
