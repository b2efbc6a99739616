"No leak: what one part of a run reads, no other part reads."
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.split import split, _split_few


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
    assert _split_few([3, 9, 20, 41, 60], 7) == dict(train=range(3, 21), val=range(41, 42), test=range(60, 61))
    assert _split_few(np.arange(0, 96, 8), 7) == dict(train=range(0, 57), val=range(64, 73), test=range(80, 89))
    for marked in ([5, 6, 7, 30], [2, 50], [9]):
        with pytest.raises(InputError, match=f'a.mrc: has {len(marked)} annotated slices; wanted at least three, 7 or more apart'): _split_few(np.array(marked), 7, 'a.mrc')
    rng = np.random.default_rng(0)
    for k in (1, 3, 7):
        for _ in range(200):
            marked = np.flatnonzero(rng.random(90) < .1)
            try: parts = _split_few(marked, k)
            except InputError: continue
            centres = [{z for z in marked if z in zs} for zs in parts.values()]
            assert all(centres) and not any(reads(a, k) & reads(b, k) for a, b in zip(centres, centres[1:]))
