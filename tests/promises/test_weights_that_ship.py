"The weights that ship: what they are, and that they have seen phantoms and nothing else."
import json

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import load_file

from membrane_nb.store import first_fingerprint
from membrane_nb.infer import open_job
from membrane_nb.metrics import scores, tally
from membrane_nb.plain import phantom
from membrane_nb.card import read_card
from membrane_nb.provenance import read_provenance
from membrane_nb.weights import find_weights, pretrained
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume


both = pytest.mark.parametrize('name', ['', 'raw'])

def card_of_the_weights(name=''): return json.loads(pretrained(name).with_name('card.json').read_text('utf-8'))


def evidence_of_each(): return json.loads(pretrained().with_name('provenance.json').read_text('utf-8'))['evidence']


def stages(name):
    "The parameters of the weights, then those of the weights they were trained on, and so on."
    card = card_of_the_weights(name)
    return [card['parameters']] + [card['parameters'] | run['changed'] for run in card['start']]


@both
def test_trained_on_phantoms_alone(name):
    "Every volume of every run is a phantom by its name, and the parameters that made it name no file."
    seen = {p: set() for p in ('train', 'val', 'test')}
    runs = [[d for d in read_provenance(pretrained(name)) if d['run'] == i] for i in range(len(stages(name)))]
    assert sum(map(len, runs)) == len(read_provenance(pretrained(name)))
    for i, (parameters, data) in enumerate(zip(stages(name), runs)):
        assert data and all(d['name'].startswith(('various phantom ', 'raw phantom ', 'hard phantom ')) for d in data)
        assert not any(parameters[n] for n in ('tomo', 'mask', 'manifest'))
        assert bool(parameters['init']) == (i + 1 < len(runs))
        for d in data: seen[d['part']].add(d['name'])
    assert all(seen.values()) and not seen['train'] & (seen['val'] | seen['test']) and not seen['val'] & seen['test']


@pytest.mark.parametrize('name, earlier', [('', [1, 2, 3, 4, 5, 6, 7]), ('raw', [1, 2, 3, 4, 5, 6])])
def test_the_card_counts_what_was_seen(name, earlier):
    "The runs; the volumes of each part, and their seeds, are those of provenance.json."
    card, rows = card_of_the_weights(name), read_provenance(pretrained(name))
    assert [run['run'] for run in card['start']] == earlier
    for part, said in card['data'].items():
        names = [d['name'].split()[-1] for d in rows if d['run'] == 0 and d['part'] == part]
        assert said['volumes'] == len(names) and said['what'].endswith(f'{min(names)} to {max(names)}')


@both
def test_real_volumes_are_in_no_training_set(shared, name):
    "The hash of no volume to try the software on, nor of the mask, is among those of the runs, which are of the first rule."
    data = read_provenance(pretrained(name))
    seen = {d[n] for d in data for n in ('tomogram', 'mask')}
    assert {len(name) for name in seen} == {64}
    assert len({d['tomogram'] for d in data}) == len(data)
    volumes = {p.name: open_volume(p) for p in sorted(shared.glob('*.mrc*'))}
    assert {'mito_tomo.mrc', 'mito_noisy_tomo.mrc', 'mito_mask.mrc.gz'} <= volumes.keys()
    assert not seen & {first_fingerprint(v) for v in volumes.values()}
    pictures = [v for n in ('traced_slices', 'hand_drawn_slices') for k, v in np.load(shared/f'{n}.npz').items() if v.ndim > 1]
    slabs = [np.repeat(img[None].astype(t), 7, 0) for v in pictures for img in (v if v.ndim == 3 else [v]) for t in (np.uint8, np.float32)]
    assert len(slabs) > 50 and not seen & {first_fingerprint(v) for v in slabs}
    mask = volumes['mito_mask.mrc.gz'][:]
    assert not seen & {first_fingerprint(mask.astype(t)) for t in (np.uint8, np.int8)}


@both
def test_small_half_precision_and_finite(name):
    state = load_file(pretrained(name))
    assert pretrained(name).stat().st_size < 16e6
    assert {v.dtype for v in state.values() if v.ndim > 1} == {torch.float16}
    assert all(torch.isfinite(v).all() for v in state.values())


def test_the_weights_named_raw(tmp_path):
    "Their card has the same looks, fewer than eleven; a job takes them by name."
    card = card_of_the_weights('raw')
    assert card['looks'] == card_of_the_weights()['looks'] and len(card['looks']['times']) <= 10
    for name in ('intended_use', 'fails', 'disclosure'): assert len(card[name]) > 80
    assert find_weights('raw') == pretrained('raw') != pretrained() and find_weights('') == pretrained()
    assert open_job('', weights='raw', output=tmp_path/'out', device='cpu').weights == pretrained('raw')


def test_the_card_tells_the_story():
    card, each = card_of_the_weights(), evidence_of_each()
    json.dumps([card, each], allow_nan=False)
    assert pretrained().with_name('card.json').stat().st_size < 5_000 + 1_200 * len(stages('')), 'a page and some lines a run'
    assert len(card['commit']) == 40 and card['seed'] == card['parameters']['seed'] and 0 < card['threshold'] < 1
    for name in ('intended_use', 'fails', 'disclosure'): assert len(card[name]) > 80
    intervals = [e for e in [*card['evidence'].values(), *each.values()] if 'low' in e]
    assert len(intervals) == 4 + 52 and sum(e['low'] is None for e in intervals) == 2 + 2 + 48, '32 or 56 slices are too few for an interval'
    assert all(e['low'] <= e['dice'] <= e['high'] for e in intervals if e['low'] is not None)


def test_the_card_sums_up_its_evidence():
    "Means and standard errors are those of the single phantoms; the rows of real volumes are the same."
    said, each = card_of_the_weights()['evidence'], evidence_of_each()
    phantoms = [e for name, e in each.items() if name.startswith('phantom')]
    assert len(phantoms) == said['phantoms']['phantoms'] == 48
    for name in ('dice', 'surface', 'seen_dice', 'most_dice'):
        values, summary = np.array([e[name] for e in phantoms]), said['phantoms'][name]
        np.testing.assert_allclose([summary['mean'], summary['standard_error']], [values.mean(), values.std(ddof=1) / 48**.5], atol=1e-6)
    real = [name for name in each if not name.startswith('phantom')]
    assert set(said) == {'phantoms', *real}
    for name in real:
        assert said[name].keys() == each[name].keys()
        np.testing.assert_allclose(np.array(list(said[name].values()), float), np.array(list(each[name].values()), float), atol=1e-6)


def test_the_page_of_the_weights_quotes_the_card():
    evidence = card_of_the_weights()['evidence']
    mean = lambda n: evidence['phantoms'][n]['mean']
    quotes = [f'{r["dice"]:.3f} ({r["low"]:.3f} to {r["high"]:.3f}) | {r["surface"]:.3f} |' for name, r in evidence.items() if name.endswith('all slices')]
    quotes += [f'{mean("dice"):.3f} (mean) | {mean("surface"):.3f} (mean) |', f'| {evidence["microtubules.mrc"]["percent_called_membrane"]:.2f} % |']
    said = (ROOT/'docs'/'weights.md').read_text()
    assert len(quotes) == 4 and [q for q in quotes if q not in said] == []


def test_used_when_no_weights_are_named(tmp_path):
    "A phantom of a seed that no run uses, segmented by the weights that ship at the threshold of their card."
    vol, msk, pixel = phantom((12, 160, 160), seed=777)
    job = open_job(write_mrc(tmp_path/'t.mrc', vol, pixel).path, output=tmp_path/'out', device='cpu')
    assert job.threshold == read_card(pretrained()).threshold == card_of_the_weights()['threshold'] and len(job.notes) == 2 and 'taken as dark' in job.notes[0]
    job.run(pictures=False)
    assert scores(tally(open_volume(tmp_path/'out'/'mask.mrc')[:].astype(np.uint8), msk))['dice'] > .85
