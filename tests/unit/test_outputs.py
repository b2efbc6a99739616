"The comparison of stored outputs notices what a reader would notice, and nothing else."
import base64, io

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_output
from outputs import differs, shown
from PIL import Image


def picture(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, 'PNG')
    return [('picture', base64.b64encode(out.getvalue()).decode())]


@pytest.mark.parametrize('stored, now', [
    ('Dice 0.83, 12 s', 'Dice 0.84, 90 s'), ('5 of 10 batches, 34 s, 34 s left\nloss 0.6', 'loss 0.61'), ("{'seconds': 0.1}", "{'seconds': 3.2}")])
def test_times_and_last_digits_may_differ(stored, now):
    assert not differs([('text', stored)], [('text', now)])


@pytest.mark.parametrize('stored, now', [
    ('(32, 96, 96)', '(16, 96, 96)'), ('Dice 0.83', 'Dice 0.73'), ('membranes are dark', 'membranes are bright'), ('3 slices', '')])
def test_another_value_is_noticed(stored, now):
    assert differs([('text', stored)], [('text', now)])


@pytest.mark.parametrize('stored, now', [('0.7', '0.75'), ('0.5', '0.500001'), ("{'pixel': 9.27}", "{'pixel': 9.3}")])
def test_what_was_decided_once_is_compared_exactly(stored, now):
    "The threshold of a card that ships."
    assert differs([('text', stored)], [('text', now)], exact=True)
    assert not differs([('text', stored)], [('text', now)]) and not differs([('text', stored)], [('text', stored)], exact=True)


@pytest.mark.parametrize('stored, now', [
    ('torch.Size([1, 1, 32, 48])', 'torch.Size([1, 1, 32, 49])'), ('112 slices', '113 slices'), ('(3, 100, 100)', '(3, 100, 101)'), ('[8, 24]', '[8, 25]'),
    ('20,000 voxels', '20,021 voxels'), ('phantom 5', 'phantom 6'), ('93 %', '92 %')])
def test_whole_numbers_are_the_same(stored, now):
    assert differs([('text', stored)], [('text', now)], .2)


def test_voxels_and_bytes_differ_a_little_from_processor_to_processor():
    assert not differs([('text', '{0: 34306, 1: 2558}')], [('text', '{0: 34307, 1: 2557}')])


def test_another_picture_is_noticed():
    rng = np.random.default_rng(0)
    disc = np.uint8(200 * (np.hypot(*np.mgrid[-100:100, -100:100]) < 50))
    noisy = (disc + rng.integers(0, 20, disc.shape)).astype(np.uint8)
    assert not differs(picture(disc), picture(noisy))
    assert differs(picture(disc), picture(np.roll(disc, 40, axis=1)))
    assert differs(picture(disc), [])


def test_progress_of_a_busy_machine_is_nothing_to_compare():
    busy = new_code_cell(outputs=[new_output('stream', name='stdout', text='5 of 10 batches, 34 s, 34 s left\n')])
    assert shown(busy) == shown(new_code_cell()) == []
