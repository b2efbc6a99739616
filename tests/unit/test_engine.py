"A faster engine says what torch says, opens no connection, and gives way where it cannot be trusted."
import json, shutil, subprocess, sys
from pathlib import Path

import numpy as np
import pytest
import torch

from membrane_nb import engine
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo, slabs
from membrane_nb.grey import measure_scale
from membrane_nb.engine import (OpenVino, Torch, _agree, check_engine, compare, _find_membrane,
    _int8_path, make_int8, pick_engine, read_int8)
from membrane_nb.stream import WriteBehind, _Predict, _prefetch, _read_blocks
from membrane_nb.infer import open_job
from membrane_nb.stream import predict_volume
from membrane_nb.metrics import scores, tally
from membrane_nb.plain import phantom
from membrane_nb.unet import Tiled, UNet, fuse_batchnorm, in_tiles, predict_slice
from membrane_nb.weights import load_unet, pretrained
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume

pytest.importorskip('openvino')


@pytest.fixture(scope='module')
def cell(): return Tomo(*phantom((12, 160, 176), seed=781), name='cell', density='dark')


@pytest.fixture(scope='module')
def shipped(): return fuse_batchnorm(load_unet(pretrained()))


def slab_of(cell, k): return cell.slab(6, k)


@pytest.mark.parametrize('precision, largest', [('fp32', 1e-4), ('bf16', .1), ('int8', .4)])
def test_openvino_says_what_torch_says(cell, shipped, precision, largest):
    path = _int8_path(pretrained()) if precision == 'int8' else ''
    found = compare(OpenVino(shipped, precision, path), Torch(shipped), slab_of(cell, 7), .5)
    assert _agree(found) and found['largest'] < largest


@pytest.mark.parametrize('shape', [dict(k=1, base=4), dict(k=3, base=8, norm='group'), dict(k=3, base=4, norm='none', depth=2), dict(k=3, base=4, dims=3)])
@pytest.mark.parametrize('size', [(33, 50), (64, 16)])
def test_any_network_on_any_slice(shape, size):
    torch.manual_seed(0)
    net = fuse_batchnorm(UNet(**shape))
    slab = np.random.default_rng(0).normal(size=(shape['k'], *size)).astype(np.float32)
    expected = predict_slice(net, slab)
    assert torch.equal(predict_slice(Torch(net), slab), expected)
    assert torch.allclose(predict_slice(OpenVino(net), slab), expected, atol=2e-4)


def test_tiles_are_run_by_openvino_too(cell, shipped):
    slab, vino = slab_of(cell, 7), OpenVino(shipped)
    assert torch.allclose(predict_slice(Tiled(vino, 64), slab).sigmoid(), predict_slice(vino, slab).sigmoid(), atol=1e-4)


SIGNAL = """
import signal, torch
from membrane_nb.engine import OpenVino
from membrane_nb.unet import UNet
heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
net = UNet(k=1, base=4).eval()
engines = [OpenVino(net), OpenVino(net)]
with torch.inference_mode():
    for one in engines: one(torch.zeros(1, 1, 32, 32))
del one
while engines: del engines[0] # in the order in which they came
signal.raise_signal(signal.SIGUSR1)
assert heard
"""

def test_signals_are_heard_after_two_engines(run):
    done = run(sys.executable, '-c', SIGNAL)
    assert done.returncode == 0, f'{done.returncode} {done.stderr[-2000:]}'


def test_the_shipped_weights_have_their_int8_beside_them():
    assert _int8_path(pretrained()).parent == pretrained().parent


def test_an_int8_model_is_made_once_and_belongs_to_its_weights(cell, tmp_path, monkeypatch):
    pytest.importorskip('nncf')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'cache'))
    monkeypatch.setattr(engine, '_slabs_of_phantoms', lambda k: [slab_of(cell, k)[None, :, :64, :64]] * 3)
    for seed in (0, 1):
        torch.manual_seed(seed)
        torch.save(UNet(3, 4).state_dict(), tmp_path/'w.pt')
        path = _int8_path(tmp_path/'w.pt')
        assert not path.exists() # also where other weights had that name before
        net = fuse_batchnorm(load_unet(tmp_path/'w.pt'))
        fast, record, _ = pick_engine(net, cell, .5, tmp_path/'w.pt', 'openvino', 'int8')
        assert path.exists() and record['precision'] == 'int8' and fast.precision == 'int8'
    assert len(list((tmp_path/'cache'/'membrane_nb').glob('*.xml'))) == 2
    before = path.stat().st_mtime_ns
    assert make_int8(tmp_path/'w.pt').stat().st_mtime_ns > before # and again only where it is asked for


def test_an_engine_that_differs_gives_way(cell, shipped, monkeypatch):
    bad = dict(largest=1., mean=.1, changed=.1)
    monkeypatch.setattr(engine, 'compare', lambda *args: bad)
    fast, record, notes = pick_engine(shipped, cell, .5, pretrained())
    assert (record, notes) == (dict(engine='torch', precision='fp32'), []) and fast.net is shipped


def test_an_engine_that_was_named_is_taken_and_its_difference_said(cell, shipped, monkeypatch):
    monkeypatch.setattr(engine, 'compare', lambda *args: dict(largest=1., mean=.1, changed=.1))
    fast, record, notes = pick_engine(shipped, cell, .5, pretrained(), 'openvino', 'int8')
    assert fast.name == 'openvino' and fast.precision == 'int8' and 'DIFFERS from torch' in notes[0]


def test_without_openvino_torch_runs(cell, shipped, monkeypatch, tmp_path):
    for name in ('_openvino', '_core'): monkeypatch.setattr(engine, name, lambda: None)
    assert pick_engine(shipped, cell, .5, pretrained())[1] == dict(engine='torch', precision='fp32')
    with pytest.raises(InputError, match='openvino is not installed'): open_job(output=tmp_path/'out', engine='openvino', device='cpu')


@pytest.mark.parametrize('options, said', [
    (dict(engine='onnx'), 'parameter engine'), (dict(precision='fp8'), 'parameter precision'), (dict(engine='torch', precision='int8'), 'not for torch')])
def test_what_does_not_go_together_is_refused(tmp_path, options, said):
    with pytest.raises(InputError, match=said): open_job(output=tmp_path/'out', device='cpu', **options)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copied(tmp_path):
    "The weights that ship, with their int8 model beside them, in a folder where it may be damaged."
    for path in pretrained().parent.glob('*.*'): shutil.copy(path, tmp_path/path.name)
    return tmp_path/'weights.safetensors'


def cut(path): path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 3])
def emptied(path): path.write_bytes(b'')
def folder(path): path.unlink(); path.mkdir()
def flipped(path): path.write_bytes(path.read_bytes()[:-9] + bytes(9))
def of_other_weights(path):
    "As where the model of other weights was copied: its numbers, or its record."
    numbers = path.with_suffix('.bin')
    if path.suffix == '.json': path.write_text(json.dumps(json.loads(path.read_text()) | dict(weights_sha256='0' * 64)))
    else: numbers.write_bytes(numbers.read_bytes()[::-1])


@pytest.mark.parametrize('kind', ['.xml', '.bin', '.json'])
@pytest.mark.parametrize('damage', [cut, emptied, Path.unlink, folder, flipped, of_other_weights])
def test_a_damaged_int8_model_is_one_sentence(copied, damage, kind):
    "Cut, empty, missing, a folder, changed bytes, or the file of other weights."
    damage(_int8_path(copied).with_suffix(kind))
    assert engine._candidates('auto', 'auto', torch.device('cpu'), copied)[0] == ('openvino', 'int8')
    with pytest.raises(InputError) as e: read_int8(copied)
    assert 'int8-' in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize('damage, kind', [(cut, '.bin'), (Path.unlink, '.xml'), (of_other_weights, '.json')])
def test_a_damaged_int8_model_is_passed_over_with_a_sentence(cell, shipped, copied, damage, kind):
    "`auto` goes on with the next engine."
    damage(_int8_path(copied).with_suffix(kind))
    fast, record, notes = pick_engine(shipped, cell, .5, copied)
    assert record['precision'] != 'int8' and fast.precision != 'int8'
    assert 'int8-' in notes[0] and notes[0].endswith('; passed over') and '\n' not in notes[0]


def test_a_damaged_int8_model_is_made_again_where_int8_is_named(cell, shipped, copied, monkeypatch):
    whole = _int8_path(copied).read_bytes()
    cut(_int8_path(copied))
    def made(weights): _int8_path(weights).write_bytes(whole)
    monkeypatch.setattr(engine, 'make_int8', made)
    fast, record, notes = pick_engine(shipped, cell, .5, copied, 'openvino', 'int8')
    assert fast.precision == 'int8' and notes[0].endswith('; made again') and len(record['model_sha256']) == 64


def test_an_int8_model_of_an_earlier_version_is_passed_over(cell, shipped, copied):
    "It has no hash beside it, so nobody knows what it is."
    _int8_path(copied).with_suffix('.json').unlink()
    assert 'no such file' in pick_engine(shipped, cell, .5, copied)[2][0]


def test_a_model_that_openvino_does_not_take_is_one_sentence(cell, shipped, copied, monkeypatch):
    path = _int8_path(copied)
    path.write_text('<net name="x" version="11"><layers/></net>')
    hashes = dict(weights_sha256=engine.weights_hash(copied), model_sha256=engine._model_hash(path))
    path.with_suffix('.json').write_text(json.dumps(hashes))
    assert 'openvino int8: does not run here' in pick_engine(shipped, cell, .5, copied)[2][0]
    with pytest.raises(InputError, match='openvino int8: does not run here'): pick_engine(shipped, cell, .5, copied, precision='int8')


class Blind(OpenVino):
    "An int8 model that never finds a membrane."
    def forward(self, x):
        logits = super().forward(x)
        return torch.full_like(logits, -9) if self.precision == 'int8' else logits


def with_membrane(zs, plane=(160, 176)):
    "A tomogram of noise, with membranes in a few slices, in a corner of the plane."
    vol, _, pixel = phantom((24, 160, 176), seed=781)
    empty = np.random.default_rng(0).normal(0, vol.std() / 2, (24, *plane)).astype(np.float32)
    empty[zs, :160, :176] = vol[zs]
    return Tomo(empty, pixel=pixel, density='dark')


@pytest.mark.parametrize('zs', [slice(0, 8), slice(17, 24), slice(9, 24)])
def test_an_empty_middle_lets_no_blind_model_through(shipped, monkeypatch, zs):
    monkeypatch.setattr(engine, 'OpenVino', Blind)
    tomo = with_membrane(zs)
    assert zs.start <= _find_membrane(tomo, Torch(shipped), .5)[0] < zs.stop
    assert pick_engine(shipped, tomo, .5, pretrained())[1]['precision'] != 'int8'


def test_an_empty_middle_of_the_plane_lets_no_blind_model_through(shipped, monkeypatch):
    "Data in a corner of a large box."
    monkeypatch.setattr(engine, 'OpenVino', Blind)
    tomo = with_membrane(slice(0, 24), (640, 640))
    assert _find_membrane(tomo, Torch(shipped), .5)[1] == (.25, .25)
    assert pick_engine(shipped, tomo, .5, pretrained())[1]['precision'] != 'int8'


def test_without_membrane_no_int8_model_is_trusted(shipped, monkeypatch):
    monkeypatch.setattr(engine, 'OpenVino', Blind)
    vol = np.random.default_rng(0).normal(size=(9, 96, 96)).astype(np.float32)
    fast, record, notes = pick_engine(shipped, Tomo(vol, density='dark'), .5, pretrained())
    assert record['precision'] != 'int8' and (not notes or 'torch finds no membrane there' in notes[-1])


def test_thin_membranes_let_no_blind_model_through(cell, shipped):
    "They are fewer voxels than the limit of a fifth of a percent."
    assert _agree(dict(mean=.0001, changed=.0003, membrane=.03)) and not _agree(dict(mean=.0001, changed=.0003, membrane=.0004))


def test_the_note_says_which_slice_was_compared(cell, shipped):
    fast, record, notes = pick_engine(shipped, cell, .5, pretrained())
    z, _, zs = _find_membrane(cell, Torch(shipped), .5)
    assert len(zs) == 5 and f'on slice {z} (of slices {", ".join(map(str, zs))}, torch finds most membrane there)' in notes[-1]
    assert record['precision'] != 'int8' or record['model_sha256'] == read_int8(pretrained())[1]


@pytest.mark.parametrize('depth', [1, 2, 3, 6])
def test_thin_tomograms_are_looked_at_too(shipped, depth):
    zs = _find_membrane(Tomo(phantom((depth, 96, 96), seed=3)[0], density='dark'), Torch(shipped), .5)[2]
    assert zs == sorted(set(zs)) and 0 <= zs[0] and zs[-1] < depth


@pytest.mark.parametrize('engine_name', ['auto', 'openvino'])
def test_bfloat16_that_cannot_be_had_is_refused_and_not_replaced(cell, shipped, monkeypatch, engine_name):
    "Openvino on a processor without it; torch can be had, if the user leaves the choice."
    monkeypatch.setattr(engine, '_has_bf16', lambda: False)
    if engine_name == 'openvino':
        with pytest.raises(InputError, match='precision: found bf16, which openvino has not on this processor'): check_engine('openvino', 'bf16', torch.device('cpu'))
    else:
        check_engine('auto', 'bf16', torch.device('cpu'))
        assert 'run by torch bf16' in pick_engine(shipped, cell, .5, pretrained(), 'auto', 'bf16')[2][0]


@pytest.mark.parametrize('precision', ['auto', 'fp32', 'bf16'])
def test_engine_torch_means_torch(cell, shipped, precision):
    fast, record, _ = pick_engine(shipped, cell, .5, pretrained(), 'torch', precision)
    assert fast.name == record['engine'] == 'torch' and record['precision'] == ('fp32' if precision == 'auto' else precision)


@pytest.mark.parametrize('precision', ['auto', 'fp32', 'int8'])
def test_engine_openvino_means_openvino(cell, shipped, precision):
    fast, record, _ = pick_engine(shipped, cell, .5, pretrained(), 'openvino', precision)
    assert fast.name == record['engine'] == 'openvino' and precision in ('auto', record['precision'])


class Large(torch.nn.Module):
    "A network whose answers are numbers in an empty slab, and none where there is something."
    def __init__(self):
        super().__init__()
        self.net, self.k, self.depth, self.base, self.norm, self.dims, self.layout = self, 3, 2, 4, 'none', 2, torch.channels_last
        self.weight = torch.nn.Parameter(torch.zeros(1))
    def forward(self, x): return (x[:, 1:2] * 1e30)**2 - (x[:, 1:2] * 1e30)**2


def test_answers_that_are_no_numbers_are_refused_before_the_work_and_in_it(cell):
    "Where the engine is compared, and in every slice that is written."
    with pytest.raises(InputError, match='cell: the network answers with NaN in slice'): _find_membrane(cell, Large(), .5)
    prob = np.empty(cell.vol.shape, np.float32)
    with pytest.raises(InputError, match='slice 0: the network answers with NaN'): list(predict_volume(cell.vol, cell.scale, Large(), prob))


def test_the_record_says_what_ran(cell, tmp_path):
    path = write_mrc(tmp_path/'cell.mrc', cell.vol, cell.pixel).path
    job = open_job(path, output=tmp_path/'out', device='cpu')
    record = json.loads((job.run(pictures=False)/'segmentation.json').read_text())
    assert record['engine'] == 'openvino' and record['against_torch'].keys() == {'largest', 'mean', 'changed'} and 'openvino' in record['versions']
    exact = open_job(path, output=tmp_path/'exact', device='cpu', engine='torch')
    record = json.loads((exact.run(pictures=False)/'segmentation.json').read_text())
    assert (record['engine'], record['precision']) == ('torch', 'fp32') and 'against_torch' not in record
    a, b = (open_volume(tmp_path/name/'mask.mrc')[:] for name in ('out', 'exact'))
    assert scores(tally(a > 0, b))['dice'] > .98


def test_no_connection_is_opened(cell, tmp_path):
    "Every socket raises, and so does the package that would report."
    path = write_mrc(tmp_path/'cell.mrc', cell.vol, cell.pixel).path
    code = f"""
import socket, sys
def closed(*args, **options): raise AssertionError('a connection was opened')
socket.socket.connect = socket.create_connection = socket.getaddrinfo = closed
from membrane_nb.infer import open_job
job = open_job({str(path)!r}, output={str(tmp_path/'out')!r}, device='cpu', engine='openvino', precision='fp32')
job.run(pictures=False)
assert sys.modules.get('openvino_telemetry') is None
print(job.record['engine'])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.split() == ['openvino'], done.stderr


class Small(torch.nn.Module):
    "A network for which memory runs out with more than `most` slabs."
    k, depth = 3, 2
    def __init__(self, most):
        super().__init__()
        self.most, self.resampled, self.weight = most, [], torch.nn.Parameter(torch.zeros(1))
    def forward(self, x):
        self.resampled.append(len(x))
        if len(x) > self.most: raise torch.cuda.OutOfMemoryError('no memory')
        return x[:, 1:2]


@pytest.mark.parametrize('most, tried', [(8, [8, 2]), (3, [8, 4, 2, 2, 2, 2, 2]), (1, [8, 4, 2] + 10 * [1])])
def test_where_memory_runs_out_half_as_many_slabs_are_taken(most, tried):
    block = np.random.default_rng(0).normal(size=(12, 8, 8)).astype(np.float32)
    net = Small(most)
    probs = np.stack(list(_Predict(net, 8)([block])))
    assert net.resampled == tried and np.allclose(probs, 1 / (1 + np.exp(-block[1:-1])), atol=1e-6)


def test_memory_that_does_not_hold_one_slab_is_an_error():
    with pytest.raises(torch.cuda.OutOfMemoryError): list(_Predict(Small(0), 2)([np.zeros((3, 8, 8), np.float32)]))


@pytest.mark.parametrize('shape', [(1, 20, 30), (5, 33, 16), (70, 600, 700)])
def test_blocks_hold_the_slabs(shape):
    vol = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    scale, net = measure_scale(vol, density='dark'), Small(1)
    windows = (block[i:i + net.k] for block in _read_blocks(vol, scale, net) for i in range(len(block) - net.k + 1))
    for (z, slab), window in zip(slabs(vol, scale, net.k, range(len(vol))), windows, strict=True):
        assert np.array_equal(window[:, 2:2 + shape[1], 2:2 + shape[2]], slab), z


def test_blocks_change_nothing_but_the_last_bit_of_a_sigmoid(cell, shipped):
    prob = np.empty(cell.vol.shape, np.float32)
    assert list(predict_volume(cell.vol, cell.scale, Torch(shipped), prob)) == list(range(len(prob)))
    for z, slab in slabs(cell.vol, cell.scale, shipped.k, range(len(prob))):
        assert np.allclose(prob[z], predict_slice(shipped, slab).sigmoid().numpy(), rtol=1e-6, atol=1e-7)


def test_an_error_of_a_thread_reaches_the_reader(cell, shipped):
    class Broken:
        shape, dtype = cell.vol.shape, cell.vol.dtype
        def __len__(self): return self.shape[0]
        def __getitem__(self, z):
            if z == 7: raise OSError('the disk is gone')
            return cell.vol[z]
    class Full(dict):
        def __setitem__(self, z, img):
            if z == 4: raise OSError('the disk is full')
    net = in_tiles(Torch(shipped), cell.vol.shape)
    with pytest.raises(OSError, match='gone'): list(predict_volume(Broken(), cell.scale, net, {}))
    with pytest.raises(OSError, match='full'): list(predict_volume(cell.vol, cell.scale, net, Full()))


def test_items_stay_in_order_and_errors_are_raised():
    assert list(_prefetch(iter(range(5)))) == list(range(5))
    with pytest.raises(ZeroDivisionError):
        with WriteBehind(lambda n: 1 / n) as work:
            for n in (2, 1, 0, 1): work(n)
    assert next(_prefetch(iter([1, 2, 3]))) == 1 # and the thread ends with it


def test_the_dice_of_a_volume_stays(shared, shipped):
    vol, msk = open_volume(shared/'mito_tomo.mrc'), open_volume(shared/'mito_mask.mrc.gz')
    tomo = Tomo(vol, pixel=vol.pixel, density='dark')
    fast = OpenVino(shipped, 'int8', _int8_path(pretrained()))
    zs = range(4, 96, 23)
    dice = []
    for net in (Torch(shipped), fast):
        probs = [predict_slice(net, tomo.slab(z, 7)).sigmoid().numpy() for z in zs]
        dice.append(scores(tally(np.stack(probs), np.stack([msk[z] for z in zs])), .5)['dice'])
    assert abs(dice[0] - dice[1]) < .003


def test_the_dice_of_pictures_stays(shared, shipped):
    "All 18 hand-drawn slices together, each repeated in place of its neighbours."
    drawn = np.load(shared/'hand_drawn_slices.npz')
    engines = [Torch(shipped), OpenVino(shipped, 'bf16'), OpenVino(shipped, 'int8', _int8_path(pretrained()))]
    counts = [0] * len(engines)
    for img, msk in zip(drawn['images'], drawn['masks']):
        tomo = Tomo(np.repeat(img[None].astype(np.float32), 7, 0), density='dark')
        slab = tomo.slab(3, 7)
        for i, net in enumerate(engines): counts[i] = counts[i] + tally(predict_slice(net, slab).sigmoid().numpy(), (msk > 0).astype(np.uint8))
    dice = [scores(c, .5)['dice'] for c in counts]
    assert abs(dice[1] - dice[0]) < .003 and abs(dice[2] - dice[0]) < .003
