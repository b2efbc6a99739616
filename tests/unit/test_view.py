"Pictures: every view shows a volume the same way up, and the small cases that the page does not show."
import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.offsetbox import TextArea
from PIL import Image

from membrane_nb.checks import InputError
from membrane_nb.plain import phantom
from membrane_nb.render import Stage
from membrane_nb.view import (IGNORE_COLOUR, MEMBRANE_COLOUR, where_membrane, shrink_mask, browse,
    contrast_limits, jpeg, overlay, render_slice, _scale_bar, show_images, show_ortho, show_slices,
    show_surface, surface, to_uint8)


@pytest.fixture(scope='module')
def letter():
    "A mask in the shape of an L, its foot at low y and its upright at low x, in the lower slices."
    msk = np.zeros((12, 60, 60), np.uint8)
    msk[1:7, 10:50, 15:21] = 1
    msk[1:7, 10:16, 15:40] = 1
    return msk


def seen(fig, panel=0):
    "The pixels of a panel as they are on the screen, rows from the top: where they are orange."
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    rgb = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    left, bottom, right, top = fig.axes[panel].get_window_extent().extents.astype(int)
    rgb = rgb[len(rgb) - top:len(rgb) - bottom, left:right]
    return rgb[..., 0] - rgb[..., 2] > 60


def is_L(orange):
    "Whether an L is seen: wide at the bottom, high at the left."
    rows, columns = np.flatnonzero(orange.any(1)), np.flatnonzero(orange.any(0))
    return orange[rows[-1]].sum() > 2 * orange[rows[0]].sum() and orange[:, columns[0]].sum() > 2 * orange[:, columns[-1]].sum()


def middle(orange): return np.argwhere(orange).mean(0) / orange.shape


def test_every_view_shows_an_L(letter):
    grey = letter * 0
    figures = show_slices(grey, letter, zs=[2], opacity=1), show_ortho(grey, letter, at=(2, 55, 55), opacity=1), show_images([grey[2]], msks=[letter[2]], opacity=1)
    for fig in figures: assert is_L(seen(fig))
    assert is_L(seen(show_images([grey[2]], msks=[letter[2]], outline=True)))
    sent = np.asarray(Image.open(io.BytesIO(browse(grey, letter, 1).children[1].value))).astype(int)
    assert is_L(sent[..., 0] - sent[..., 2] > 60)
    assert not is_L(letter[2] == 1), 'row 0 at the top is no L'


def test_the_other_cuts(letter):
    "The upright lies in the left half of zy, the lower half of xz: z runs to the right there, and upwards here."
    fig = show_ortho(letter * 0, letter, at=(2, 12, 18), opacity=1)
    (zy_row, zy_column), (xz_row, xz_column) = middle(seen(fig, 1)), middle(seen(fig, 2))
    assert zy_column < .4 and xz_row > .6
    assert abs(zy_row - .5) < .05 and xz_column < .5


def test_the_surface_is_no_mirror(letter):
    "x to the right, y away, z up, seen from above: a right-handed picture, as the slices with z towards you."
    stage = Stage((6., 6., 1.2))
    def at(*places): return stage.place(np.array([places]))[0, :2]
    right, away = at(3, 2, .2) - at(2, 2, .2), at(2, 3, .2) - at(2, 2, .2)
    assert right[0] > 0 and away[1] > 0 and right[0] * away[1] - right[1] * away[0] > 0
    column, row, _ = stage.place(np.argwhere(letter.T) / 10).mean(0) # x y z of its voxels, nm
    found = middle(seen(show_surface(letter, 10.)))
    assert np.allclose(found, (1 - row / stage.shape[0], column / stage.shape[1]), atol=.04)
    x, y, z = surface(letter, 10.).data[0].x, surface(letter, 10.).data[0].y, surface(letter, 10.).data[0].z
    assert np.ptp(x[y < 20]) > 2 * np.ptp(x[y > 40]) and z.max() < 8


def test_grey_values():
    vol = phantom((8, 96, 96), seed=5)[0]
    lo, hi = contrast_limits(vol)
    assert contrast_limits(vol * 0)[1] > 0 and contrast_limits(vol * np.nan) == (0, 1)
    got = to_uint8(np.array([[-99., lo, (lo + hi) / 2, hi + 1, 9e9, np.nan]]), lo, hi)
    assert np.abs(got.astype(int) - [[0, 0, 127, 255, 255, 0]]).max() <= 1
    assert jpeg(got)[:3] == b'\xff\xd8\xff'


def test_overlay():
    grey = np.full((1, 4), 100, np.uint8)
    rgb = overlay(grey, np.array([[0, 1, 2, .5]]), 1)
    assert rgb[0, :3].tolist() == [[100] * 3, list(MEMBRANE_COLOUR), list(IGNORE_COLOUR)]
    assert rgb[0, 3].tolist() == [(100 + c) // 2 for c in MEMBRANE_COLOUR]
    assert (overlay(grey, np.ones((1, 4), bool), 0) == 100).all()
    assert where_membrane(np.array([0, 1, 2, .5, .49])).tolist() == [False, True, False, True, False]


def test_a_shrunk_mask_keeps_membrane():
    assert shrink_mask(np.array([[2, 1], [2, 0]]), 2).item() == 1
    assert shrink_mask(np.array([[2, 0], [0, 0]]), 2).item() == 2
    assert shrink_mask(np.array([[.1, .7], [.2, 0]]), 2).item() == .7
    thin = np.zeros((2048, 2048), np.uint8)
    thin[1001] = 1
    small = render_slice(thin * 0., 0, 1, thin, longest=512)
    assert (small[250] == overlay(np.zeros((1, 1), np.uint8), np.ones((1, 1)))).all() and small.any(2).sum() == 512
    assert render_slice(thin[:160, :161], 0, 1, thin[:160, :161], longest=64).shape == (54, 54, 3)


def test_scale_bars():
    from matplotlib.figure import Figure
    ax = Figure().subplots()
    assert [_scale_bar(ax, *given) for given in ((1000, 10.), (160, 0), (1000, 13.68), (1, 10.))] == [200, 20, 200, .2]
    assert [bar.txt_label.get_text() for bar in ax.artists] == ['200 nm', '20 voxels', '200 nm', '0.2 nm']


def test_titles_shapes_and_units():
    vol, msk, pixel = phantom((32, 96, 96), seed=5)
    assert [ax.get_title() for ax in show_slices(vol, msk, n=4).axes] == ['z = 4', 'z = 12', 'z = 20', 'z = 28']
    assert len(show_images([vol[0]] * 5).axes) == 5
    fig = show_ortho(vol, msk, at=(16, 80, 30), pixel=pixel)
    assert [ax.get_title() for ax in fig.axes[:3]] == ['xy, z = 16', 'zy, x = 30', 'xz, y = 80']
    assert show_ortho(vol[:1]).axes[0].artists[0].txt_label.get_text() == '20 voxels'
    for shape in ((1, 1, 96), (1, 96, 1), (32, 96, 1), (32, 1, 96)): show_ortho(vol[:shape[0], :shape[1], :shape[2]]).savefig(io.BytesIO())
    for view in (show_slices, show_ortho, browse):
        with pytest.raises(InputError, match='has the shape'): view(vol, msk[:9])
    assert len(browse(vol).children[0].children) == 1 and len(browse(vol, msk).children[0].children) == 2


def test_every_picture_is_400_pixels_wide():
    vol = phantom((8, 96, 64), seed=5)[0]
    for fig in (show_images([vol[0, :64]]), show_images([vol[0, :64]] * 2), show_images([vol[0, :64]] * 6, titles=['a']), show_ortho(vol), show_ortho(vol[:, :64])):
        FigureCanvasAgg(fig).draw()
        assert fig.axes[0].get_window_extent().width >= 400


def test_surfaces_are_small():
    vol, msk, pixel = phantom((32, 160, 160), seed=5)
    few = surface(msk, pixel, faces=4000)
    assert len(few.data[0].i) <= 4000 and max(few.layout.scene.aspectratio[a] for a in 'xyz') == 1
    assert len(few.to_json()) < 100_000 and len(surface(msk, pixel).to_json()) < 1_500_000
    for figure, bar in ((show_surface(msk, pixel), '50 nm'), (show_surface(msk, 0, 500), '50 voxels')):
        texts = [area.get_text() for area in figure.axes[0].findobj(TextArea)]
        assert texts == [bar]
    axes = few.layout.scene.xaxis, surface(msk, 0, 500).layout.scene.zaxis
    assert [axis.title.text for axis in axes] == ['x, nm', 'z, voxels']


def test_errors_of_a_large_slice():
    "A line that was found is green from end to end, though the picture is a quarter of the slice."
    from membrane_nb.view import TRUE_COLOUR, show_errors
    vol = np.random.default_rng(0).normal(size=(2, 2048, 2048)).astype(np.float32)
    msk = np.zeros(vol.shape, np.uint8)
    msk[:, 1001] = 1
    img = show_errors(vol, msk, msk, n=1).axes[0].images[0].get_array()
    assert img.shape == (1024, 1024, 3) and (np.abs(img[500].astype(int) - TRUE_COLOUR).max(1) < 110).all() and (img[500, :, 1] > img[500, :, 0]).all()
    with pytest.raises(InputError, match='has the shape'): show_errors(vol, msk[:1], msk)


def test_an_outline_shows_what_is_not_annotated(letter):
    "In blue, beside the membranes in orange; a slice that is not annotated at all has no outline."
    both = letter.copy()
    both[3, 30:, 45:] = 2
    outlines = show_images([both[3]] * 3, msks=[letter[3], both[3], np.full_like(letter[3], 2)], outline=True).axes
    colours = [[tuple(np.round(c.get_edgecolor()[0][:3] * 255)) for c in ax.collections] for ax in outlines]
    assert colours == [[MEMBRANE_COLOUR], [IGNORE_COLOUR, MEMBRANE_COLOUR], []]


def test_each_piece_has_its_colour_and_the_slice_hides_what_lies_below():
    "Two balls of two sizes, one below the other; the slice of the tomogram lies between them."
    z, y, x = np.indices((40, 60, 60))
    low, high = ((z - at)**2 + (y - 30)**2 + (x - 30)**2 < r**2 for at, r in ((10, 9), (30, 8)))
    msk = (low | high).astype(np.uint8)
    without, through = (np.asarray(show_surface(msk, 10., vol=vol).axes[0].images[0].get_array()).astype(int) for vol in (None, np.zeros(msk.shape)))
    def orange(img): return (img[..., 0] - img[..., 2] > 60).sum()
    def blue(img): return (img[..., 2] - img[..., 0] > 60).sum()
    assert orange(without) > 1000 and blue(without) > 1000
    assert orange(through) == 0 and blue(through) > .95 * blue(without)


def test_a_surface_without_a_mask_is_a_sentence():
    assert show_surface(None, 10.) == 'no mask: there is no surface'
