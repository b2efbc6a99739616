"The weights that ship: what they are, what they have seen, and what they have not."
import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from membrane_nb.card import read_card
from membrane_nb.checks import InputError
from membrane_nb.grey import measure_scale
from membrane_nb.infer import open_job
from membrane_nb.metrics import scores, tally
from membrane_nb.mrc import write_mrc
from membrane_nb.plain import phantom
from membrane_nb.provenance import read_provenance
from membrane_nb.store import first_fingerprint
from membrane_nb.volume import open_volume
from membrane_nb.weights import find_weights, pretrained

PHANTOMS = 'various phantom ', 'raw phantom ', 'hard phantom '


def card_of_the_weights(): return json.loads(pretrained().with_name('card.json').read_text('utf-8'))


def evidence_of_each(): return json.loads(pretrained().with_name('provenance.json').read_text('utf-8'))['evidence']


def sources(): return json.loads((ROOT/'benchmarks'/'real_slices.json').read_text('utf-8'))


def stages():
    "The parameters of the weights, then those of the weights they were trained on, and so on."
    card = card_of_the_weights()
    return [card['parameters']] + [card['parameters'] | run['changed'] for run in card['start']]


def test_trained_on_phantoms_and_on_named_pictures():
    "Every volume of every run is a phantom by its name, but for the pictures of the last run, which trained and did nothing else."
    data = read_provenance(pretrained())
    assert {d['run'] for d in data} == set(range(len(stages())))
    pictures = [d for d in data if not d['name'].startswith(PHANTOMS)]
    assert {(d['run'], d['part']) for d in pictures} == {(0, 'train')}
    assert {d['name'] for d in pictures} == {f'{name}.mrc' for name in sources()} and len(pictures) == len(sources())
    seen = {part: {d['name'] for d in data if d['part'] == part} for part in ('train', 'val', 'test')}
    assert all(seen.values()) and not seen['train'] & (seen['val'] | seen['test']) and not seen['val'] & seen['test']
    for run, parameters in enumerate(stages()): assert bool(parameters.get('manifest')) == (run == 0)


def test_the_card_names_every_picture_with_its_source():
    said = card_of_the_weights()['pictures']
    assert said.keys() == sources().keys()
    for name, about in sources().items():
        assert said[name] == {key: about[key] for key in ('group', 'repository', 'commit', 'path', 'licence', 'pixel')}


def test_other_volumes_are_in_no_training_set(shared):
    "No fingerprint of a volume to try the software on, of the slices A, B and F, or of a mask is among those of the runs."
    data = read_provenance(pretrained())
    seen = {d[n] for d in data for n in ('tomogram', 'mask')}
    assert len({d['tomogram'] for d in data}) == len(data)
    def fingerprints(vol): return {first_fingerprint(vol), measure_scale(vol, density='dark').voxels}
    volumes = {p.name: open_volume(p) for p in sorted(shared.glob('*.mrc*'))}
    assert {'mito_tomo.mrc', 'mito_noisy_tomo.mrc', 'mito_mask.mrc.gz'} <= volumes.keys()
    mask = volumes.pop('mito_mask.mrc.gz')
    for vol in volumes.values(): assert not seen & fingerprints(vol)
    assert not seen & {first_fingerprint(mask[:].astype(kind)) for kind in (np.uint8, np.int8)}
    drawn = np.load(shared/'hand_drawn_slices.npz')['images']
    slices = [np.repeat(img[None].astype(kind), n, axis=0) for img in drawn for kind in (np.uint8, np.float32) for n in (1, 7)]
    assert len(slices) == 72 and not seen & set().union(*map(fingerprints, slices))
    trained = np.load(shared/'real_slices.npz')['ring_image'][None]
    assert measure_scale(trained, density='dark').voxels in seen, 'the fingerprints are not those of a run'


def test_small_half_precision_and_finite():
    state = load_file(pretrained())
    assert pretrained().stat().st_size < 16e6
    assert {v.dtype for v in state.values() if v.ndim > 1} == {torch.float16}
    assert all(torch.isfinite(v).all() for v in state.values())


def test_the_weights_named_raw_are_gone(tmp_path):
    assert find_weights('') == find_weights('pretrained') == pretrained()
    with pytest.raises(InputError, match='^weights raw: no longer ship; wanted pretrained'): find_weights('raw')
    with pytest.raises(InputError, match='^weights raw'): open_job('', weights='raw', output=tmp_path/'out', device='cpu')
    assert list(tmp_path.iterdir()) == []


def test_the_card_tells_the_story():
    card, each = card_of_the_weights(), evidence_of_each()
    json.dumps([card, each], allow_nan=False)
    assert pretrained().with_name('card.json').stat().st_size < 15_000 + 1_200 * len(stages()), 'two pages, and some lines a run'
    assert len(card['commit']) == 40 and card['seed'] == card['parameters']['seed'] and 0 < card['threshold'] < 1
    for name in ('intended_use', 'fails', 'disclosure'): assert len(card[name]) > 80
    intervals = [e for e in [*card['evidence'].values(), *each.values()] if 'low' in e]
    assert len(intervals) == 2 + 2 + 48 and sum(e['low'] is None for e in intervals) == 48, '32 slices are too few for an interval'
    assert all(e['low'] <= e['dice'] <= e['high'] for e in intervals if e['low'] is not None)


def test_the_card_sums_up_its_evidence():
    "Means and standard errors are those of the single phantoms; the rows of real volumes are the same."
    said, each = card_of_the_weights()['evidence'], evidence_of_each()
    phantoms = [e for name, e in each.items() if name.startswith('phantom')]
    assert len(phantoms) == said['phantoms']['phantoms'] == 48
    for name in ('dice', 'precision', 'recall', 'surface'):
        values, summary = np.array([e[name] for e in phantoms]), said['phantoms'][name]
        np.testing.assert_allclose([summary['mean'], summary['standard_error']], [values.mean(), values.std(ddof=1) / 48**.5], atol=1e-6)
    real = [name for name in each if not name.startswith('phantom')]
    assert set(said) == {'phantoms', *real}
    for name in real: assert said[name] == each[name]


def test_the_page_of_the_weights_quotes_the_card():
    card = card_of_the_weights()
    evidence = card['evidence']
    mean = lambda n: evidence['phantoms'][n]['mean']
    quotes = [f'{r["dice"]:.3f} ({r["low"]:.3f} to {r["high"]:.3f}) | {r["surface"]:.3f} | {r["ratio"]:.2f} |' for r in evidence.values() if 'low' in r]
    quotes += [f'{mean("dice"):.3f} (mean) | {mean("surface"):.3f} (mean) |', f'| {evidence["microtubules.mrc"]["percent_called_membrane"]:.2f} % |']
    quotes += [f'{f1:.2f}' for f1 in card['left_out']['f1'].values()]
    said = (ROOT/'docs'/'weights.md').read_text()
    assert len(quotes) == 7 and [q for q in quotes if q not in said] == []


def test_used_when_no_weights_are_named(tmp_path):
    "Small phantoms of seeds that no run uses, segmented by the weights that ship at the threshold of their card."
    counts = 0
    for seed in (777, 778, 779):
        vol, msk, pixel = phantom((12, 160, 160), seed=seed)
        job = open_job(write_mrc(tmp_path/f'{seed}.mrc', vol, pixel).path, output=tmp_path/f'{seed}', device='cpu')
        assert job.threshold == read_card(pretrained()).threshold == card_of_the_weights()['threshold'] and len(job.notes) == 2 and 'taken as dark' in job.notes[0]
        job.run(pictures=False)
        counts = counts + tally(open_volume(tmp_path/f'{seed}'/'mask.mrc')[:].astype(np.uint8), msk)
    assert scores(counts)['dice'] > .85
