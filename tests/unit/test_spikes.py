"Membranes that are added to a tomogram: where they lie, how strong they are, and how they are counted."
import numpy as np
import pytest

from membrane_nb.checks import InputError
from membrane_nb.spikes import add_spikes, known_phantom, measure_contrast, score_spikes


def noise(shape=(60, 120, 120)):
    "A tomogram with noise and one membrane, dark by 2, and its mask."
    rng = np.random.default_rng(0)
    msk = np.zeros(shape, np.int8)
    msk[:, 10:14] = 1
    return rng.standard_normal(shape).astype(np.float32) - 2 * msk, msk


def test_spikes_lie_where_there_is_no_membrane_and_apart():
    vol, msk = noise()
    spikes = add_spikes(vol, msk, 10., n=6)
    assert 2 <= len(spikes.boxes) <= 6
    taken = np.zeros(msk.shape, int)
    for box, there in zip(spikes.boxes, spikes.masks):
        taken[box] += 1
        assert not msk[box][there].any() and there.any()
    assert taken.max() == 1


def test_spikes_have_the_contrast_of_the_tomogram():
    vol, msk = noise()
    assert abs(measure_contrast(vol, msk, 10.) + 2) < .1
    spikes = add_spikes(vol, msk, 10., n=6)
    there = np.concatenate([image[one] for image, one in zip(spikes.images, spikes.masks)])
    assert -3 < there.mean() < -1 and spikes.contrast == pytest.approx(measure_contrast(vol, msk, 10.))


def test_without_a_membrane_the_noise_stands_for_the_contrast():
    vol, msk = noise()
    assert measure_contrast(vol, 0 * msk, 10.) == 0
    assert add_spikes(vol, 0 * msk, 10., n=2).contrast == pytest.approx(-vol[30].std())


def test_they_are_counted_by_membrane_voxel_and_orientation():
    vol, msk = noise()
    spikes = add_spikes(vol, msk, 10., n=4)
    found = np.zeros(msk.shape, np.int8)
    found[spikes.boxes[0]][spikes.masks[0]] = 1
    seen = score_spikes(spikes, found, 5)
    assert seen.found == 1 and seen.parts[0] == 1 and not seen.parts[1:].any()
    share = spikes.masks[0].sum() / sum(one.sum() for one in spikes.masks)
    assert seen.recall == pytest.approx(share) and len(seen.by_tilt) == 3
    assert 'could not be seen' in repr(score_spikes(spikes, 0 * found, 0)) and 'no membrane was found' in repr(score_spikes(spikes, 0 * found, 0))


def test_a_tomogram_without_room_is_refused():
    vol, msk = noise((20, 60, 60))
    with pytest.raises(InputError, match='has no place without membrane'): add_spikes(vol, msk, 10.)


def test_the_same_seed_gives_the_same_known_phantom():
    one, two = known_phantom(3, 14., grid=(1, 1, 2)), known_phantom(3, 14., grid=(1, 1, 2))
    assert (one.vol == two.vol).all() and one.truth == two.truth and one.labels.max() == 2
