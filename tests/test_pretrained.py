"The weights that ship: what they are, and that they have seen phantoms and nothing else."
import json

import numpy as np
import torch
from conftest import ROOT
from safetensors.torch import load_file

from membrane_nb.data import read_mrc, write_mrc
from membrane_nb.infer import open_job
from membrane_nb.metrics import scores, tally
from membrane_nb.phantom import phantom
from membrane_nb.train import fingerprint
from membrane_nb.unet import pretrained, read_card


def stages():
    "The card of the weights, then that of the weights they were trained on from, and so on."
    card = read_card(pretrained())
    while card:
        yield card
        card = card.get('start')


def test_trained_on_phantoms_alone():
    "Every volume of every card is a phantom by its name, and the parameters that made it name no file."
    seen = {p: set() for p in ('train', 'val', 'test')}
    for card in stages():
        assert all(d['name'].startswith('various phantom ') for d in card['data'])
        assert not any(card['parameters'][n] for n in ('tomo', 'mask', 'manifest'))
        assert card['parameters']['init'] == ('pretrained' if card.get('start') else '')
        for d in card['data']: seen[d['part']].add(d['name'])
    assert all(seen.values()) and not seen['train'] & (seen['val'] | seen['test']) and not seen['val'] & seen['test']


def test_real_volumes_are_in_no_training_set(shared):
    "The hash of no volume to try the software on, nor of the mask, is among those of the card."
    data = [d for card in stages() for d in card['data']]
    seen = {d[n] for d in data for n in ('tomogram', 'mask')}
    assert len(seen) == 2 * len(data)
    volumes = [read_mrc(p) for p in sorted(shared.glob('*.mrc*'))]
    assert len(volumes) == 5 and not seen & {fingerprint(v) for v in volumes}
    mask = volumes[[v.path.name for v in volumes].index('mito_mask.mrc.gz')][:]
    assert not seen & {fingerprint(mask.astype(t)) for t in (np.uint8, np.int8)}


def test_small_half_precision_and_finite():
    state = load_file(pretrained())
    assert pretrained().stat().st_size < 16e6
    assert {v.dtype for v in state.values() if v.ndim > 1} == {torch.float16}
    assert all(torch.isfinite(v).all() for v in state.values())


def test_the_card_tells_the_story():
    card = read_card(pretrained())
    json.dumps(card, allow_nan=False)
    assert len(card['commit']) == 40 and card['seed'] == card['parameters']['seed'] and 0 < card['threshold'] < 1
    for name in ('intended_use', 'fails', 'disclosure'): assert len(card[name]) > 80
    assert all(e['low'] <= e['dice'] <= e['high'] for e in card['evidence'].values() if 'low' in e)


def test_the_readme_quotes_the_card():
    evidence = read_card(pretrained())['evidence']
    mean = lambda n: np.mean([r[n] for name, r in evidence.items() if name.startswith('phantom')])
    quotes = [f'{r["dice"]:.3f} ({r["low"]:.3f} to {r["high"]:.3f}) | {r["surface"]:.3f} |' for name, r in evidence.items() if name.endswith('all slices')]
    quotes += [f'{mean("dice"):.3f} (mean) | {mean("surface"):.3f} (mean) |', f'| {evidence["microtubules.mrc"]["percent_called_membrane"]:.2f} % |']
    said = (ROOT/'README.md').read_text()
    assert len(quotes) == 4 and [q for q in quotes if q not in said] == []


def test_used_when_no_weights_are_named(tmp_path):
    "A phantom of a seed that no run uses, segmented by the weights that ship at the threshold of their card."
    vol, msk, pixel = phantom((12, 160, 160), seed=777)
    job = open_job(write_mrc(tmp_path/'t.mrc', vol, pixel).path, '', tmp_path/'out', device='cpu')
    assert job.threshold == read_card(pretrained())['threshold'] and job.notes == []
    for _ in job.run(): pass
    assert scores(tally(read_mrc(tmp_path/'out'/'mask.mrc')[:].astype(np.uint8), msk))['dice'] > .85
