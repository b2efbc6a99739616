"A mask is read for what it was meant, held against its tomogram once, and judged where somebody annotated."
import json

import mrcfile
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.split import read_parts, _split_few
from membrane_nb.infer import open_job
from membrane_nb.lines import only_near
from membrane_nb.mask import Mask, slices_in_words
from membrane_nb.placement import _Move, measure_placement
from membrane_nb.plain import phantom, random_phantom
from membrane_nb.sampler import Patches
from membrane_nb.view import browse, show_errors, show_ortho, show_slices
from membrane_nb.mrc import write_mrc
from membrane_nb.pyramid import write_zarr
from membrane_nb.volume import open_volume


@pytest.fixture(scope='module')
def cell(volumes):
    "The tomogram and the mask of the fixture `volumes`, as arrays."
    return open_volume(volumes/'tomo.mrc')[:], open_volume(volumes/'mask.mrc')[:].astype(np.uint8)


@pytest.fixture
def opened(volumes, tmp_path):
    "Write a mask beside the tomogram and open both."
    def open_both(msk, name='m.mrc', **options):
        write = write_zarr if name.endswith('zarr') else write_mrc
        write(tmp_path/name, msk, 10.)
        return Tomo.open(volumes/'tomo.mrc', tmp_path/name, **options)
    return open_both


def few_slices(msk, zs):
    "The mask with these slices alone annotated."
    few = np.zeros_like(msk)
    few[zs] = msk[zs]
    return few


# what the numbers mean

@pytest.fixture(scope='module')
def small():
    "The mask of a phantom."
    return phantom((16, 96, 96), seed=1)[1]


def test_masks_of_every_type(small):
    msk = small
    instances = np.arange(1, 17, dtype=np.int32)[:, None, None] * msk
    for same in (msk, msk.astype(bool), 7 * msk, msk.astype(np.float32), 300 * msk.astype(np.int16), instances, 100_000 * instances, instances.astype('>i2')):
        assert (Mask(same)[:] == msk).all() and (Mask(same).rows == msk.sum(axis=2)).all()


def test_values_that_mean_not_annotated(small):
    "auto takes 2 where the values are 0, 1 and 2; another number may be named, a negative one too."
    msk = small
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
def test_what_is_no_mask(small, kind, ignore, said):
    msk = small
    kinds = dict(empty=0 * msk, half=msk * np.float32(.5), nan=np.where(msk, np.nan, 0).astype(np.float32), negative=np.where(np.arange(96) < 8, -1, msk.astype(np.int8)), whole=msk)
    with pytest.raises(InputError, match=said): Mask(kinds[kind], ignore)


STORED = {
    '0/255 as -128/127': lambda m: (255 * m.astype(int) - 128).astype(np.int8),
    '0/1 as -128/-127': lambda m: (m.astype(int) - 128).astype(np.int8),
    '0/255 as 0/-1': lambda m: -m.astype(np.int8),
    '0/254 as 0/-2': lambda m: -2 * m.astype(np.int8),
    '0/128 as 0/-128': lambda m: (-128 * m.astype(int)).astype(np.int8),
    '0/200 as 0/-56': lambda m: (200 * m.astype(np.uint8)).view(np.int8),
    'a number an instance, over 127': lambda m: (m * (9 * np.arange(1, 25, dtype=np.uint8))[:, None, None]).view(np.int8),
    'instances that were shifted by 128': lambda m: ((m * (9 * np.arange(1, 25, dtype=int))[:, None, None]) - 128).astype(np.int8),
    '0/127/255': lambda m: np.where(np.arange(80) < 40, 127 * m, 255 * m).astype(np.uint8).view(np.int8),
    '0/65535 as 0/-1': lambda m: -m.astype(np.int16),
    '0/65535 as -32768/32767': lambda m: (65535 * m.astype(int) - 32768).astype(np.int16),
    'instances over 32767': lambda m: (m * (2000 * np.arange(1, 25)).astype(np.uint16)[:, None, None]).view(np.int16),
    'floats of 0 and 255': lambda m: 255 * m.astype(np.float32),
    'half-precision floats': lambda m: m.astype(np.float16),
    'floats of -128 and 127': lambda m: 255 * m.astype(np.float32) - 128,
    'int16 of -128 and 127': lambda m: 255 * m.astype(np.int16) - 128,
}

IN_STORES = '0/255 as -128/127', '0/65535 as 0/-1', 'instances over 32767', 'floats of 0 and 255', 'half-precision floats' # each type once or twice

@pytest.mark.filterwarnings('error::RuntimeWarning') # a float16 has no 2**31
@pytest.mark.parametrize('how, name', [(how, 'm.mrc') for how in STORED] + [(how, 'm.ome.zarr') for how in IN_STORES])
def test_numbers_that_lost_their_sign_are_read_as_they_were_meant(cell, opened, how, name):
    "S1: IMOD and Amira write bytes with a sign; and the same in 16 bits, in floats, and in stores."
    tomo = opened(STORED[how](cell[1]), name)
    assert (tomo.msk[:] == cell[1]).all() and (tomo.rows == cell[1].sum(axis=2)).all()
    assert tomo.msk.note.count('0 is background') == 1
    assert ('in the file is read as' in tomo.msk.note) == (STORED[how](cell[1]).min() < 0)


def test_a_float_that_is_no_count_is_refused(cell, opened):
    for value in (.5, 1e35, np.inf, np.nan):
        with pytest.raises(InputError, match='holds the value .*; wanted a mask of whole numbers'): opened(np.where(cell[1], np.float32(value), 0))


def test_a_thin_mask_of_signed_bytes(cell, opened):
    "S1: so few voxels that the bytes do not look unsigned, and so many that they do."
    for share in (1, 2, 12):
        msk = np.zeros_like(cell[1])
        msk[:, 10:10 + share] = 1
        raw = (255 * msk.astype(int) - 128).astype(np.int8)
        assert (opened(raw, trust_mask=True).msk[:] == msk).all()


@pytest.mark.parametrize('values, ways', [((-1, 0, 1), dict(ignore='-1')), ((-1, 0, 1), dict(label='1')), ((-100, 0, 3), dict(ignore='-100')),
                                          ((-128, 0, 1), dict(ignore='-128')), ((-2, 0, 5), dict(label='5'))])
def test_the_advice_of_a_refusal_is_accepted(cell, opened, values, ways):
    "S1: one negative number beside small ones may mean not annotated; the sentence names two ways, and both work."
    odd, background, membrane = values
    raw = np.where(cell[1], membrane, background).astype(np.int8)
    raw[:, :, :9] = odd
    with pytest.raises(InputError, match=f'holds the value {odd}; wanted 0 and above: name it with ignore .* or name what is membrane with label'): opened(raw)
    tomo = opened(raw, **ways)
    want = np.where(raw == membrane, 1, np.where(raw == odd, 2 if 'ignore' in ways else 0, 0))
    assert (tomo.msk[:] == want).all()


def test_a_label_picks_what_is_membrane(cell, opened):
    "D8: 1 membrane, 2 ribosome, 3 microtubule; with label all others are background, unless ignore names them."
    msk = cell[1].copy()
    msk[:, :30][msk[:, :30] == 1] = 3
    msk[:, 90:] = 2
    for label, ignore, background, skipped in (('1', 'auto', (0, 2, 3), ()), ('1,3', 'auto', (0, 2), ()), ('1, 3', '2', (0,), (2,)), ('1', 'none', (0, 2, 3), ())):
        tomo = opened(msk, label=label, ignore=ignore)
        want = np.where(np.isin(msk, background), 0, np.where(np.isin(msk, skipped), 2, 1))
        assert (tomo.msk[:] == want).all() and (tomo.rows == (want == 1).sum(axis=2)).all()
    assert 'are membrane' in opened(msk, label='1,3').msk.note and '1 is membrane' in opened(msk, label='1').msk.note
    with pytest.raises(InputError, match="has no voxel of 7 .*wanted values that it holds in the parameter label"): opened(msk, label='1,7')
    with pytest.raises(InputError, match="parameter label: found 'one'; wanted the numbers"): opened(msk, label='one')


def test_a_share_that_no_membrane_has(cell, opened):
    "S1, S2: inverted, or all membrane; the ways on are accepted."
    for msk in (1 - cell[1], np.ones_like(cell[1]), np.where(cell[1], 1, 2).astype(np.uint8)):
        with pytest.raises(InputError, match='% of what is annotated is membrane .*wanted at most 50 %.*label.*ignore.*trust_mask'): opened(msk)
        assert opened(msk, trust_mask=True).rows.any()
    assert (opened(1 - cell[1], label='0').msk[:] == cell[1]).all()


# which slices are annotated

@pytest.mark.parametrize('zs, empty, annotated', [
    ([3, 12, 20], 'auto', [3, 12, 20]), ([12], 'auto', [12]), (range(4, 16), 'auto', range(4, 16)), (range(0, 24, 2), 'auto', range(24)),
    ([*range(4, 10), *range(11, 16)], 'auto', range(4, 16)), ([3, 12, 20], 'background', range(24)), (range(0, 24, 2), 'unlabelled', range(0, 24, 2)),
    (range(24), 'auto', range(24)), (range(24), 'unlabelled', range(24))])
def test_what_a_slice_without_membrane_means(cell, zs, empty, annotated):
    "S4: not annotated where few slices hold membrane, or outside of one block; else background; the parameter says otherwise."
    msk = few_slices(cell[1], list(zs))
    mask = Mask(msk, empty=empty)
    others = np.setdiff1d(range(24), annotated)
    assert list(mask.annotated) == list(annotated) and (mask[others] == 2).all()
    assert (mask[list(annotated)] == msk[list(annotated)]).all() and (mask.rows == msk.sum(axis=2)).all()
    for key in (5, slice(3, 9), (slice(None), 4), (Ellipsis, 3), (slice(2, 20, 3), slice(1, 5)), [1, 12, 3], -1): assert (mask[key] == mask[:][key]).all()
    if len(mask.annotated) == 3: assert '3 slices are annotated: 3, 12, 20' in mask.note


def test_slices_that_are_marked_as_not_annotated_do_not_count(cell):
    "S4: where the mask itself says which slices nobody annotated, an empty one is background."
    msk = np.full_like(cell[1], 2)
    msk[[3, 9, 12, 20]] = cell[1][[3, 9, 12, 20]]
    msk[9] = 0
    mask = Mask(msk)
    assert list(mask.annotated) == [3, 9, 12, 20] and not mask[9].any() and '4 slices are annotated: 3, 9, 12, 20' in mask.note


def test_slices_in_words():
    assert [slices_in_words(np.array(zs)) for zs in ([12, 36, 60, 84], range(8), [5], [1, 2, 3, 9, 10])] == ['12, 36, 60, 84', '0 to 7', '5', '1 to 3, 9 to 10']
    assert slices_in_words(np.arange(0, 99, 3)).endswith('33, and 21 more') and slices_in_words(np.arange(0, 99, 3), 0).endswith('93, 96')


def test_a_mask_without_membrane(cell, opened):
    "D9: refused, with the way on; then a negative example: every slice is annotated, none has membrane."
    for empty in ('auto', 'unlabelled'):
        with pytest.raises(InputError, match='has no membrane voxel .*; wanted values above 0, or empty=background for a tomogram without membrane'): opened(0 * cell[1], empty=empty)
    tomo = opened(0 * cell[1], empty='background')
    assert tomo.membrane_range == range(24) and not tomo.msk[:].any() and 'no voxel is membrane' in tomo.msk.note
    with pytest.raises(InputError, match='parameter empty: found .*wanted auto, background or unlabelled'): Mask(cell[1], empty='none')


def test_negative_examples_in_a_manifest(cell, tmp_path):
    "D9: beside others, in any part; a part of none but negative ones is refused; with near they stay background."
    vol, msk = cell
    rows = []
    for i, (part, bare) in enumerate([('train', 0), ('train', 1), ('val', 0), ('val', 1), ('test', 0), ('test', 1)]):
        write_mrc(tmp_path/f'{i}.mrc', vol + np.float32(i), 10.)
        write_mrc(tmp_path/f'm{i}.mrc', (0 if bare else 1) * msk.astype(np.int8), 10.)
        rows.append(f'{i}.mrc,m{i}.mrc,{part}\n')
    (tmp_path/'m.csv').write_text('tomogram,mask,split\n' + ''.join(rows))
    with pytest.raises(InputError, match='m1.mrc: has no membrane voxel .*empty=background'): read_parts('', '', str(tmp_path/'m.csv'), 7)
    parts = read_parts('', '', str(tmp_path/'m.csv'), 7, empty='background')
    assert [[zs for _, zs in tomos] for tomos in parts.values()] == 3 * [[range(24)] * 2]
    patches = Patches(parts['train'], n=60, size=32)
    assert any(patches.where(j)[1] is parts['train'][1][0] for j in range(60))
    assert not only_near(parts['train'][1][0].msk, 10., 5., tmp_path)[:].any()
    (tmp_path/'m.csv').write_text('tomogram,mask,split\n' + ''.join(rows[i] for i in (0, 3, 4)))
    with pytest.raises(InputError, match='none of the val masks holds membrane; wanted one'): read_parts('', '', str(tmp_path/'m.csv'), 7, empty='background')
    with pytest.raises(InputError, match='m1.mrc: has no membrane voxel; wanted some to learn from'):
        read_parts(str(tmp_path/'1.mrc'), str(tmp_path/'m1.mrc'), '', 7, empty='background')


def test_which_annotated_slices_are_too_near():
    with pytest.raises(InputError, match=r'has 3 annotated slices; wanted at least three, 7 or more apart, .*; too near are 5 and 9$'): _split_few(np.array([5, 9, 40]), 7)
    with pytest.raises(InputError, match=r'has 2 annotated slices; wanted at least three, .* with k=7$'): _split_few(np.array([5, 40]), 7)
    with pytest.raises(InputError, match=r'too near are 0 and 1, 1 and 2, 2 and 3, 1 more pairs$'): _split_few(np.arange(5), 7)


def test_patches_of_sparse_masks_are_drawn_where_something_is_annotated(cell):
    "S4: no patch of which every voxel is ignored; those of full masks are what they were."
    vol, msk = cell
    sparse = Patches([(Tomo(vol, few_slices(msk, [3, 12, 20])), range(24))], n=100, size=32, p_membrane=.3)
    assert {sparse.where(j)[2] for j in range(100)} == {3, 12, 20}
    full = Patches([(Tomo(vol, msk), range(2, 20))], n=200, size=32, p_membrane=.3)
    places = [full.where(j)[2:] for j in range(200)]
    rng = np.random.default_rng((0, 0, 3))
    assert {z for z, *_ in places} == set(range(2, 20)) and hash(tuple(places)) == hash(tuple(full.where(j)[2:] for j in range(200)))
    for j in range(200): # as it was: a voxel of the block, then the corner
        rng = np.random.default_rng((0, 0, j))
        if rng.random() < .3: continue
        assert places[j][0] == 2 + np.unravel_index(int(rng.integers(18 * 96 * 80)), (18, 96, 80))[0]


# where it lies

WRONG = {
    'mirrored along y': lambda m: m[:, ::-1], 'mirrored along z': lambda m: m[::-1], 'mirrored along z and y': lambda m: m[::-1, ::-1],
    'mirrored along x': lambda m: m[:, :, ::-1], 'with x and y exchanged': lambda m: m.transpose(0, 2, 1),
    'shifted by -4 along y': lambda m: np.roll(m, 4, 1), r'shifted by \+5 along x': lambda m: np.roll(m, -5, 2),
    r'shifted by \+3 along y and -3 along x': lambda m: np.roll(m, (-3, 3), (1, 2)), 'shifted by -6 along z': lambda m: np.roll(m, 6, 0)}

@pytest.fixture(scope='module')
def square(tmp_path_factory):
    "A tomogram of square slices, on disk, and its mask."
    folder = tmp_path_factory.mktemp('square')
    vol, msk, _ = phantom((32, 128, 128), seed=4)
    write_mrc(folder/'tomo.mrc', vol, 10.)
    return folder/'tomo.mrc', msk

@pytest.mark.parametrize('move', WRONG)
def test_a_mask_that_lies_wrong(square, tmp_path, move):
    "S2: looking warns and names the move; training and scoring refuse; trust_mask keeps the mask as it is."
    path, msk = square
    wrong = write_mrc(tmp_path/'m.mrc', WRONG[move](msk).astype(np.int8), 10.).path
    said = f'm.mrc: fits its tomogram far better {move} \\(contrast of the membrane'
    with pytest.raises(InputError, match=said + '.*; wanted it so, or trust_mask=True to keep it'): read_parts(str(path), str(wrong), '', 7)
    tomo = Tomo.open(path, wrong)
    assert 'training and scoring refuse it' in tomo.notes[-1]
    kept = Tomo.open(path, wrong, trust_mask=True)
    kept.check_mask()
    assert 'kept as it is (trust_mask)' in kept.notes[-1] and (kept.msk[:] == WRONG[move](msk)).all()


def test_scoring_refuses_a_mask_that_lies_wrong(volumes, cell, tmp_path):
    "S2: open_job, before any folder; with trust_mask it is scored."
    write_mrc(tmp_path/'m.mrc', cell[1][:, ::-1].astype(np.int8), 10.)
    options = dict(mask=tmp_path/'m.mrc', device='cpu', engine='torch')
    with pytest.raises(InputError, match='far better mirrored along y'): open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', **options)
    assert not (tmp_path/'out').exists()
    assert open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', trust_mask=True, **options).tomo.msk


@pytest.mark.parametrize('seed', range(6))
def test_a_mask_that_lies_right_is_not_accused(seed):
    "S2: dark and bright; whole, of three slices, thick, thin, half, of one slice, of a volume of one slice."
    from scipy.ndimage import binary_dilation, binary_erosion
    vol, msk, pixel = phantom((16, 96, 96), seed=seed) if seed < 3 else random_phantom(seed, (16, 96, 96))
    half = msk.copy()
    half[:, :, :48] = 0
    z = int(msk.sum(axis=(1, 2)).argmax())
    masks = [msk, few_slices(msk, [2, 8, 13]), binary_dilation(msk, np.ones((1, 5, 5))), binary_erosion(msk, np.ones((1, 2, 2))), half, few_slices(msk, [z])]
    for sign in (1, -1):
        for mask in masks:
            if mask.mean() > .4: continue # thick membranes of a dense scene: refused for their share
            tomo = Tomo(sign * vol, mask.astype(np.uint8), pixel)
            assert not tomo.misfit and not any('fits' in note for note in tomo.notes)
    one = Tomo(vol[z:z + 1], msk[z:z + 1], pixel)
    assert not one.misfit


def test_a_symmetrical_mask_is_not_accused():
    "S2: a ring in the middle is its own mirror image."
    y, x = np.mgrid[-48:48, -48:48] + .5
    ring = np.abs(np.hypot(y, x) - 30) < 2
    vol = np.random.default_rng(0).normal(size=(16, 96, 96)).astype(np.float32) - 3 * ring
    assert not Tomo(vol, np.repeat(ring[None], 16, 0).astype(np.uint8)).misfit


def test_the_mask_of_another_tomogram(cell):
    "S2: it fits nowhere, which is said, not refused."
    other = phantom((24, 96, 80), seed=8)[1]
    tomo = Tomo(cell[0], other)
    assert 'neither darker nor brighter than what lies around it; is it the mask of another tomogram?' in tomo.notes[-1]
    tomo.check_mask()


def test_a_placement_takes_large_slices_thinned(cell):
    "Slices of more than 1024 voxels are looked at in steps."
    vol, msk = (np.kron(v, np.ones((1, 15, 15), v.dtype)) for v in (cell[0][:4], cell[1][:4]))
    from membrane_nb.grey import measure_scale
    assert measure_placement(vol, Mask(msk), measure_scale(vol)).better is None
    assert measure_placement(vol, Mask(msk[:, ::-1]), measure_scale(vol)).better == _Move(flip=(1,))


# what its header says

def test_headers_that_differ(volumes, tmp_path):
    "S3: voxel size, origin and start are compared once, and said in one note; what is not known says nothing."
    msk = (volumes/'mask.mrc').read_bytes()
    def notes(pixel=None, **header):
        "The notes after a change of the header of the mask."
        (tmp_path/'m.mrc').write_bytes(msk)
        with mrcfile.mmap(tmp_path/'m.mrc', 'r+') as f:
            if pixel: f.voxel_size = pixel
            for name, value in header.items(): f.header[name] = value
        return [n for n in Tomo.open(volumes/'tomo.mrc', tmp_path/'m.mrc').notes if 'its header says' in n]
    assert notes() == notes(pixel=1.) == notes(pixel=10.05) == []
    assert 'm.mrc: its header says voxels of 13.4 Å (the tomogram: 10)' in notes(pixel=13.4)[0]
    assert 'its origin at 50, 0, 0 (the tomogram: 0, 0, 0)' in notes(origin=(50, 0, 0))[0]
    assert 'its start at 0, 0, 7' in notes(nzstart=7)[0] and len(notes(pixel=5, nzstart=7, origin=(9, 9, 9))) == 1


# what is judged and shown

def test_a_sparse_mask_is_scored_on_its_annotated_slices(volumes, cell, tmp_path):
    "S4: Dice is that of these slices, and the result says which they are."
    job = open_job(volumes/'tomo.mrc', output=tmp_path/'full', mask=volumes/'mask.mrc', device='cpu', engine='torch')
    job.run(pictures=False)
    assert json.loads((tmp_path/'full'/'segmentation.json').read_text())['scored_slices'] == '0 to 23' and not job.scored()
    found, msk = open_volume(tmp_path/'full'/'mask.mrc')[:] == 1, cell[1] == 1
    zs = [3, 12, 20]
    write_mrc(tmp_path/'few.mrc', few_slices(cell[1], zs).astype(np.int8), 10.)
    job = open_job(volumes/'tomo.mrc', output=tmp_path/'few', mask=tmp_path/'few.mrc', device='cpu', engine='torch')
    job.run(pictures=False)
    dice = 2 * (found & msk)[zs].sum() / (found[zs].sum() + msk[zs].sum())
    record = json.loads((tmp_path/'few'/'segmentation.json').read_text())
    assert record['scores']['dice'] == pytest.approx(dice) and record['scored_slices'] == '3, 12, 20'
    assert 'few.mrc: scored on 3 annotated slices: 3, 12, 20' in record['notes'] and any('3 slices are annotated' in n for n in record['notes'])


def test_a_tomogram_without_membrane_is_scored(volumes, cell, tmp_path):
    "D9: Dice is not defined; the share of false positives is given."
    write_mrc(tmp_path/'none.mrc', 0 * cell[1].astype(np.int8), 10.)
    job = open_job(volumes/'tomo.mrc', output=tmp_path/'out', mask=tmp_path/'none.mrc', empty='background', device='cpu', engine='torch')
    job.run(pictures=False)
    record = json.loads((tmp_path/'out'/'segmentation.json').read_text())
    assert record['scores'] == dict(false_positive_share=pytest.approx(job.share))
    assert any('holds no membrane, so Dice is not defined' in note for note in record['notes'])


def test_views_open_on_annotated_slices(cell):
    "S4: slices, errors, browser and cuts."
    vol, msk = cell
    mask = Mask(few_slices(msk, [3, 9, 20]))
    titles = lambda fig: [ax.get_title() for ax in fig.axes]
    assert titles(show_slices(vol, mask)) == ['z = 3', 'z = 9', 'z = 20'] and titles(show_slices(vol, mask, n=1)) == ['z = 9']
    assert [t.split(':')[0] for t in titles(show_errors(vol, msk, mask))] == ['z = 3', 'z = 9', 'z = 20']
    assert browse(vol, mask).children[0].children[0].value == 9 and browse(vol, msk).children[0].children[0].value == 12
    assert titles(show_ortho(vol, mask))[0] == 'xy, z = 9' and browse(vol, msk, at=5).children[0].children[0].value == 5
    assert Tomo(vol, few_slices(msk, [3, 9, 20])).middle == 9 and Tomo(vol).middle == Tomo(vol, msk).middle == 12


@pytest.mark.parametrize('empty', ['auto', 'background'])
def test_a_mask_of_which_nothing_is_annotated_is_refused(empty):
    with pytest.raises(InputError, match='no voxel of it is annotated'): Mask(np.full((4, 8, 8), 7, np.int8), ignore='7', empty=empty)
