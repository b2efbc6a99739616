"Scores: what their page does not sweep."
import tracemalloc

import numpy as np
import pytest
from membrane_nb.metrics import (_pr_curve, _reach, _angles_to_beam, bootstrap, choose_threshold,
    recall_by_angle, scores, surface_dice, tally)
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.signal import lfilter
from scipy.spatial import cKDTree

z, y, x = np.ogrid[-32:32, -48:48, -48:48]
radius = np.sqrt(z**2 + y**2 + x**2)
shell = abs(radius - 28) < 2
right_ignored = np.where(x > 20, 2, shell)


@pytest.fixture
def rng(): return np.random.default_rng(0)


@pytest.fixture
def soft(rng):
    "A probability that is higher where membrane is, and the membrane."
    truth = rng.random((64, 64)) < .2
    return np.clip(truth * .3 + rng.normal(.3, .1, truth.shape), 0, 1).astype(np.float32), truth


@pytest.mark.parametrize('kind', [np.float16, np.float32, np.float64])
def test_bins_are_exact_at_their_edges(kind):
    edge = (np.arange(1000) / 1000).astype(np.float32)
    beside = [np.nextafter(edge, np.float32(1)), np.nextafter(edge[1:], np.float32(0))]
    p = np.concatenate([edge, *beside, [0, 1]]).astype(kind)
    counts = tally(p, np.ones(p.shape, bool))[1]
    assert [counts[i:].sum() for i in range(1000)] == [(p >= i / 1000).sum() for i in range(1000)]


def test_what_is_counted(rng):
    prob, msk = rng.random((3, 64, 65), np.float32), rng.integers(0, 3, (3, 64, 65), np.uint8)
    assert tally(prob, msk).sum(1).tolist() == [(msk == 0).sum(), (msk == 1).sum()]
    assert tally(prob > .5, msk)[:, [0, -1]].sum() == (msk < 2).sum()
    for p, m, why in ((prob * 9 - 4, msk, 'lies in 0..1'), (prob * np.nan, msk, 'lies in 0..1'), (prob, msk + 1, 'not 0, 1, 2'),
                      (prob, msk[:2], 'of one shape')):
        with pytest.raises(ValueError, match=why): tally(p, m)
    pred, kept = prob >= .3, msk != 2
    both = (pred & (msk == 1)).sum()
    assert scores(tally(prob, msk), .3)['dice'] == 2 * both / ((pred & kept).sum() + (msk == 1).sum())
    curve = _pr_curve(tally(prob, msk))
    for i in (0, 250, 999):
        at = scores(tally(prob, msk), i / 1000)
        assert all(curve[name][i] == at[name] for name in ('precision', 'recall', 'dice'))
    with pytest.raises(ValueError, match='is not one of'): scores(tally(prob, msk), .12345)


def test_a_membrane_that_was_missed():
    wall = np.eye(8, dtype=bool)
    assert [scores(tally(wall & False, wall))[name] for name in ('dice', 'iou', 'recall')] == [0, 0, 0]


def test_the_range_of_the_threshold(soft):
    "Neither end can be moved, and no threshold is better."
    p, truth = soft
    chosen = choose_threshold([tally(p, truth)])
    dice = np.array([scores(tally(p >= i / 1000, truth))['dice'] for i in range(1000)])
    low, mid, high = (round(1000 * chosen[name]) for name in ('low', 'threshold', 'high'))
    assert low <= dice.argmax() <= high and mid == (low + high) // 2
    assert (dice[low:high + 1] >= dice.max() - .001).all() and max(dice[[low - 1, high + 1]]) < dice.max() - .001
    assert choose_threshold([tally(np.where(truth, .9, .5), truth)]) == dict(threshold=.7, low=.501, high=.9)


def test_a_second_hill_of_dice_does_not_count():
    hills = np.zeros((2, 10), int)
    hills[1, 2], hills[0, 5], hills[1, 8] = 5000, 7501, 10_000
    assert np.flatnonzero(_pr_curve(hills)['dice'] > .7999).tolist() == [0, 1, 2, 6, 7, 8]
    assert choose_threshold([hills]) == dict(threshold=.7, low=.6, high=.8)


def test_a_tomogram_without_membrane_has_no_vote(soft):
    p, truth = soft
    empty = tally(p, truth & False)
    assert choose_threshold([tally(p, truth), empty]) == choose_threshold([tally(p, truth)])
    with pytest.raises(ValueError, match='no membrane voxel'): choose_threshold([empty])


def test_each_tomogram_has_one_vote(rng):
    "The second has ten times the membrane and is brighter."
    few, many = rng.random((64, 64)) < .05, rng.random((64, 64)) < .5
    faint, bright = (np.clip(.3 * m + rng.normal(at, .1, m.shape), 0, 1) for m, at in ((few, .2), (many, .4)))
    both = [tally(faint, few), tally(bright, many)]
    pooled, voted = (choose_threshold(t)['threshold'] for t in ([sum(both)], both))
    mean = {top: np.mean([scores(t, top)['dice'] for t in both]) for top in (pooled, voted)}
    assert mean[voted] > mean[pooled] + .01


def volumes(depth, after_four, n=2000):
    "Tallies of `n` volumes of Dice 0.8, (n, z, 2, 2), whose slices correlate by `after_four` at a distance of four."
    near = after_four ** .25
    noise = np.random.default_rng(depth).normal(size=(n, depth))
    noise[:, 1:] *= np.sqrt(1 - near**2)
    hits = np.round(10_000 * (.8 + .05 * lfilter([1], [1, -near], noise))).astype(int)
    missed = 10_000 - hits
    return np.stack([np.stack([0 * hits, missed], 2), np.stack([missed, hits], 2)], 2)


@pytest.mark.parametrize('depth, after_four, least, most', [
    (64, .72, .89, 1), (96, .72, .91, 1), (256, .72, .935, .975), (64, 0., .935, .965), (96, 0., .935, .965), (256, 0., .935, .965)])
def test_how_often_an_interval_holds_the_truth(depth, after_four, least, most):
    ends = np.array([bootstrap(v, n=400) for v in volumes(depth, after_four)])
    low, high = ends[np.isfinite(ends[:, 0])].T
    held = ((low <= .8) & (.8 <= high)).mean()
    print(f'{depth} slices, {after_four} after four: {held:.1%} held, {np.isnan(ends[:, 0]).mean():.1%} nan')
    assert least < held < most


def test_intervals_that_are_not_known():
    assert [_reach(np.tile([1., -1.], 60)), _reach(np.zeros(120))] == [1, 1]
    some = volumes(96, .72, 3)[0]
    assert bootstrap(some) == bootstrap(some) != bootstrap(some, seed=1)
    for v in (some[:63], some * 0, np.sort(some, 0)): assert np.isnan(bootstrap(v)[0])


@pytest.mark.parametrize('shape, pixel, tol', [((9, 33, 20), 10, 1.), ((14, 21, 40), 13.48, 2.), ((3, 30, 30), 7.84, 4.), ((1, 40, 40), 10, 3)])
def test_surface_dice_is_that_of_its_definition(rng, shape, pixel, tol):
    p, m = gaussian_filter(rng.normal(size=(2, *shape)), (0, 1, 1, 1)) > .1
    m = np.where(rng.random(shape) < .1, 2, m)
    sets = [p & (m != 2), m == 1]
    a, b = (np.argwhere(s & ~binary_erosion(s | (m == 2), border_value=1)) * pixel / 10 for s in sets)
    d = np.concatenate([cKDTree(b).query(a)[0], cKDTree(a).query(b)[0]])
    assert surface_dice(p, m, pixel, tol) == (d <= tol + 1e-9).mean()


def test_the_tolerance_of_surface_dice(rng):
    true, off = np.zeros((2, 12, 32, 32), bool)
    true[5], off[7] = True, True
    assert [scores(tally(off, true))['dice'], surface_dice(off, true, 10, 1.9), surface_dice(off, true, 10, 2)] == [0, 0, 1]
    assert surface_dice(off, true, 14.08, 2 * 14.08 / 10) == 1
    assert np.isnan(surface_dice(true & False, true & False, 10, 2)) and surface_dice(true & False, true, 10, 2) == 0
    line, beside = np.zeros((2, 12, 32, 32), bool)
    line[5, 10], beside[7, 12] = True, True # two slices and two rows apart: 2.83 voxels
    assert [surface_dice(beside, line, 10, tol) for tol in (2.8, 2.9)] == [0, 1]
    with pytest.raises(ValueError, match='bool or 0/1'): surface_dice(shell * .7, shell, 10, 1)


def test_a_cut_by_ignored_slices_is_no_surface():
    "Else a sheet three times too thick would score the better the fewer of its slices are annotated."
    swollen, sparse = np.zeros((2, 12, 32, 32), np.uint8)
    swollen[:, :, 10:19], sparse[:, :, 13:16], sparse[::2] = 1, 1, 2
    assert [surface_dice(swollen, sparse, 10, tol) for tol in (1, 3)] == [0, 1]


@pytest.mark.parametrize('score', [lambda p, m: surface_dice(p, m, 10, 1), lambda p, m: recall_by_angle(p, m)['recall'].tolist()])
def test_what_is_predicted_in_ignored_voxels_changes_nothing(rng, score):
    pred = np.roll(shell, 2, axis=1)
    other = np.where(right_ignored == 2, rng.random(shell.shape) < .5, pred)
    assert score(pred, right_ignored) == score(other, right_ignored)


def test_angles_on_spheres():
    true = np.degrees(np.arccos(abs(z) / np.maximum(radius, 1)))
    for r in (12, 20, 28):
        sphere = abs(radius - r) < 2
        assert np.percentile(abs(_angles_to_beam(sphere, slice(None)) - true[sphere]), 95) < 4
    assert recall_by_angle(shell, right_ignored)['count'].sum() == (right_ignored == 1).sum()


@pytest.mark.parametrize('score', [tally, lambda p, m: surface_dice(p, m, 10, 2), recall_by_angle])
def test_memory_does_not_grow_with_the_slices(tmp_path, score):
    def peak(n):
        file = np.memmap(tmp_path/'msk', np.uint8, 'w+', shape=(n, 128, 96))
        file[:] = np.pad(np.resize(shell, (n, 96, 96)), ((0, 0), (16, 16), (0, 0)))
        tracemalloc.start()
        score(file, file)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most / 1e6
    assert peak(128) < 1.1 * peak(64) + .1
