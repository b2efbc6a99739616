"Weights files that are damaged, or made to do harm: one sentence, or a network that loads."
import warnings, zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from membrane_nb.checks import InputError
from membrane_nb.unet import UNet, load_unet


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
