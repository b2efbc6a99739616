"Weights and cards that are damaged, or made to do harm: one sentence, or a network that loads."
import json, re, warnings, zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from membrane_nb.checks import InputError
from membrane_nb.card import Card, read_card, write_card
from membrane_nb.provenance import read_provenance
from membrane_nb.unet import UNet
from membrane_nb.weights import from_state, load_unet


@pytest.fixture(scope='module')
def files(tmp_path_factory):
    "Small networks in 2.5D and 3D in every format that is read."
    folder = tmp_path_factory.mktemp('weights')
    torch.manual_seed(0)
    flat, solid = UNet(3, 4, 2).state_dict(), UNet(3, 4, 2, dims=3).state_dict()
    torch.save(flat, folder/'flat.pt')
    torch.save(solid, folder/'solid.pt')
    torch.save(flat, folder/'legacy.pt', _use_new_zipfile_serialization=False)
    save_file(flat, folder/'flat.safetensors')
    save_file(solid, folder/'solid.safetensors')
    return sorted(folder.iterdir())


def damaged(whole, rng, how):
    "A copy that is cut, has strange bytes anywhere, has them in its first 3000, or lost a piece."
    copy = bytearray(whole)
    if how == 0: return copy[:rng.integers(1, len(copy))]
    if how == 3:
        start = rng.integers(len(copy))
        del copy[start:start + rng.integers(1, 2000)]
        return copy
    for at in rng.integers(0, len(copy) if how == 1 else 3000, rng.integers(1, 6)): copy[at] = rng.integers(256)
    return copy


def test_damaged_anywhere(files, tmp_path):
    "Five files, 60 copies each; no warning of a library either."
    rng, refused = np.random.default_rng(0), 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for file in files:
            bad = tmp_path/f'bad{file.suffix}'
            for i in range(60):
                bad.write_bytes(damaged(file.read_bytes(), rng, i % 4))
                try: net = load_unet(bad)
                except InputError as e:
                    assert str(e).startswith(str(bad)) and '\n' not in str(e) and len(str(e)) < 400
                    refused += 1
                else: assert all(torch.isfinite(v).all() for v in net.state_dict().values())
    assert refused > 200


GOOD = UNet(3, 4, 2).state_dict()
ODD = {'endless': GOOD | {'out.bias': torch.ones(1).expand(2**40)}, 'endless kernel': GOOD | {'enc1.net.0.weight': torch.ones(1, 1, 1, 1).expand(2**16, 3, 3, 3)},
       'nested': GOOD | {'more': {'a': torch.ones(1)}}, 'a list': [torch.ones(1)], 'nothing': None, 'empty': {}, 'a number for a name': GOOD | {7: torch.ones(1)},
       'sparse': GOOD | {'out.bias': torch.ones(1).to_sparse()}, 'meta': GOOD | {'out.bias': torch.ones(1, device='meta')},
       'complex': GOOD | {'out.bias': torch.ones(1, dtype=torch.complex64)}, 'integers': GOOD | {'out.bias': torch.ones(1, dtype=torch.int32)},
       'eighths': GOOD | {'out.bias': torch.ones(1).to(torch.float8_e4m3fn)},
       'not finite in float32': GOOD | {'out.bias': torch.tensor([1e300], dtype=torch.float64)}, 'a line break': GOOD | {'a\nb' * 99: torch.ones(1)}}


@pytest.mark.parametrize('name', ODD)
def test_odd_contents(name, tmp_path):
    torch.save(ODD[name], tmp_path/'odd.pt')
    with pytest.raises(InputError) as e: load_unet(tmp_path/'odd.pt')
    assert str(e.value).startswith(str(tmp_path/'odd.pt: ')) and '\n' not in str(e.value) and len(str(e.value)) < 400


def test_small_file_that_unpacks_to_a_large_one(files, tmp_path):
    "An archive of 100 MB in 100 KB is refused unread."
    plain = next(f for f in files if f.name == 'flat.pt')
    with zipfile.ZipFile(plain) as a, zipfile.ZipFile(tmp_path/'bomb.pt', 'w', zipfile.ZIP_DEFLATED) as b:
        for i in a.infolist(): b.writestr(i.filename, bytes(100_000_000) if i.filename.endswith('/data/0') else a.read(i.filename))
    with pytest.raises(InputError, match='cannot be read'): load_unet(tmp_path/'bomb.pt')


def test_weights_without_the_number_of_batches_are_read():
    "As older versions of torch wrote them; no answer depends on it."
    state = UNet(3, 4, 2).state_dict()
    for name in [name for name in state if name.endswith('num_batches_tracked')]: del state[name]
    assert from_state(state).state_dict()['dec1.net.4.num_batches_tracked'] == 0


@pytest.mark.parametrize('given', [dict(k=3, base=4, depth=2, norm='group'), dict(k=5, base=8, depth=4, norm='batch'), dict(k=5, base=8, depth=3, norm='none'),
                                   dict(k=5, base=4, depth=2, dims=3)])
def test_the_shape_is_read_off_the_tensors(given, tmp_path):
    "The network, and its answer, are those that were saved."
    net = UNet(**given).eval()
    save_file(net.state_dict(), tmp_path/'w.safetensors')
    back = load_unet(tmp_path/'w.safetensors')
    assert {name: getattr(back, name) for name in given} == given
    slab = torch.randn(1, net.k, 32, 48)
    with torch.no_grad(): assert torch.equal(back(slab), net(slab))


WIDE = UNet(3, 8).state_dict()

@pytest.mark.parametrize('said, changed', [
    ('out.weight has shape (2,); wanted (1, 8, 1, 1)', {'out.weight': torch.ones(2)}),
    ("'extra' is not part of it", {'extra': torch.ones(2)}),
    ('holds torch.int64; wanted torch.float16', {'out.bias': torch.ones(1, dtype=torch.int64)}),
    ('out.bias holds NaN', {'out.bias': torch.tensor([np.nan])}),
    ('holds negative variances', {'enc1.net.1.running_var': -torch.ones(8)}),
    ('found 4; wanted an odd number', {'enc1.net.0.weight': torch.ones(8, 4, 3, 3)}),
    ('wanted 1 to 1024', {'enc1.net.0.weight': torch.ones(1, 1, 1, 1).expand(65536, 7, 3, 3)})])
def test_tensors_that_do_not_fit(said, changed):
    with pytest.raises(InputError, match=re.escape(said)): from_state(WIDE | changed)


def test_a_tensor_is_missing():
    with pytest.raises(InputError, match='wanted the weights of a U-Net'): from_state({'layer.weight': torch.ones(3)})
    with pytest.raises(InputError, match='out.bias is missing'): from_state({n: v for n, v in WIDE.items() if n != 'out.bias'})


@pytest.mark.parametrize('slices', [torch.ones(7), torch.tensor(5.), torch.tensor(4), torch.tensor(10**12 + 1)])
def test_slices_of_a_3d_network(slices):
    with pytest.raises(InputError, match='wanted'): from_state(UNet(5, 4, 2, dims=3).state_dict() | dict(slices=slices))


def test_files_that_are_no_weights(tmp_path):
    save_file(WIDE, tmp_path/'w.safetensors')
    (tmp_path/'cut.safetensors').write_bytes((tmp_path/'w.safetensors').read_bytes()[:999])
    torch.save({'conv.weight': torch.ones(3)}, tmp_path/'other.pt')
    torch.save(dict(net=WIDE), tmp_path/'nested.pt')
    torch.save(WIDE | {'out.bias': torch.ones(1).expand(2**40)}, tmp_path/'endless.pt')
    for name, said in (('none.pt', 'no such file'), ('.', 'is a folder'), ('cut.safetensors', 'cannot be read'), ('other.pt', 'wanted the weights of a U-Net'),
                       ('nested.pt', 'holds more than tensors'), ('endless.pt', 'claims to hold 4,398,0')):
        with pytest.raises(InputError, match=said): load_unet(tmp_path/name)


@pytest.fixture
def card(tmp_path):
    "Read a card that holds this text."
    def read(text):
        (tmp_path/'card.json').write_text(text, encoding='utf-8')
        return read_card(tmp_path/'w.safetensors')
    return read


def test_cards(card, tmp_path):
    "A byte order mark, which editors on Windows write, is not an error; weights in a .pt have no card."
    assert card('{"threshold": 0.4, "pixel": null}') == Card(threshold=.4)
    assert card('\ufeff{"fails": "flat membranes"}').model_extra == dict(fails='flat membranes')
    assert read_card(tmp_path/'w.pt') == Card()


@pytest.mark.parametrize('text', ['', '{"threshold":', '[1]', '{"pixel": NaN}', '{"scores": {"dice": 1e999}}', '[' * 100_000, '{"fails": "' + 'x' * 4_000_000 + '"}'],
                         ids=['empty', 'cut', 'a list', 'NaN', 'infinite', 'deep', 'large'])
def test_cards_that_are_no_json(card, text):
    with pytest.raises(InputError, match='card.json: '): card(text)


@pytest.mark.parametrize('threshold', ['1.5', '-1', '0', '1', 'true', '"0.5"', 'null'])
def test_thresholds_that_cannot_be(card, threshold):
    with pytest.raises(InputError, match='threshold: found'): card(f'{{"threshold": {threshold}}}')


@pytest.mark.parametrize('wrong', ['"pixel": -1', '"pixel": 1e9', '"pixel": []', '"commit": 7', '"density": "grey"', '"scores": []'])
def test_fields_that_cannot_be(card, wrong):
    with pytest.raises(InputError, match='wanted'): card(f'{{{wrong}}}')


def test_a_card_that_is_a_folder(tmp_path):
    (tmp_path/'card.json').mkdir()
    with pytest.raises(InputError, match='is a folder'): read_card(tmp_path/'w.safetensors')


ROWS = [dict(name=f'{i}.mrc', part='train', slices=[0, 9], tomogram='ab', mask='cd', run=i) for i in range(2)]

def test_provenance(tmp_path):
    write_card(tmp_path, dict(threshold=.3, scores=dict(test=dict(dice=np.nan))), ROWS, evidence=dict(a=1))
    assert read_card(tmp_path/'w.safetensors').scores == dict(test=dict(dice=None))
    assert read_provenance(tmp_path/'w.safetensors') == ROWS
    assert read_provenance(tmp_path/'w.pt') == []
    assert json.loads((tmp_path/'provenance.json').read_text())['evidence'] == dict(a=1)
