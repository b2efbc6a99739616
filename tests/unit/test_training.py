"Training: what its page does not sweep."
import csv, json, os, shutil
from contextlib import nullcontext
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
import yaml
from membrane_nb.checks import InputError
from membrane_nb.data import Tomo
from membrane_nb.mask import Mask
from membrane_nb.metrics import choose_threshold
from membrane_nb.plain import phantom
from membrane_nb.page import repo_root
from membrane_nb.results import RECORD
from membrane_nb.sampler import Patches
from membrane_nb.devices import SingleProcess, own_share, share_cores, start_team, sums_of_all
from membrane_nb.fit import Fit, evaluate
from membrane_nb.loss import bce_dice, loss_sums
from membrane_nb.phantoms import _one_phantom, phantom_parts
from membrane_nb.provenance import check_leak, provenance_of
from membrane_nb.summary import run_card, scores_in_words
from membrane_nb.options import RecipeOptions, TrainOptions
from membrane_nb.training import read_recipe, _write_run
from membrane_nb.card import read_card, write_card
from membrane_nb.provenance import read_provenance
from membrane_nb.unet import UNet
from membrane_nb.weights import load_unet, pretrained
from membrane_nb.mrc import write_mrc
from membrane_nb.store import fingerprint, first_fingerprint
from membrane_nb.volume import open_volume
from safetensors.torch import load_file, save_file
from skimage.morphology import skeletonize
from conftest import opened


@pytest.fixture(scope='module')
def small():
    return phantom_parts(1, n=2, shape=(12, 64, 64))


@pytest.fixture(scope='module')
def trained(small, tmp_path_factory):
    "A small network after its run, with the best weights in it."
    fit = new_fit(small)
    for _ in fit.run(tmp_path_factory.mktemp('run')/'last.ckpt', {}): pass
    fit.net.load_state_dict(fit.best)
    return fit


def new_fit(small, **more):
    torch.manual_seed(3)
    settings = dict(lr=1e-2, batch_size=4, schedule='cosine') | more
    return Fit(UNet(3, 4, 4), Patches(small['train'], 12, 3, 32), small['val'], TrainOptions(**settings))


@pytest.mark.parametrize('wrong', [
    dict(patch=100), dict(patch=16), dict(k=4), dict(norm='x'), dict(name='a/b'), dict(name='..'), dict(p_membrane=2.),
    dict(epochs=0), dict(dropout=1.), dict(base=10**6), dict(seed=2**64), dict(phantoms=10**9), dict(norm='group', base=12), dict(real_fraction=.5), dict(line=200.),
    dict(phantom_raw=.5, phantom_hard=.6)])
def test_a_parameter_that_no_run_can_have(wrong):
    RecipeOptions()
    with pytest.raises(InputError, match=f'parameter {list(wrong)[-1]}: found'): RecipeOptions(**wrong)


def test_opening_a_run_writes_nothing(tmp_path):
    opened(dict(output=tmp_path/'runs'))
    assert not list(tmp_path.iterdir())


def test_what_is_not_annotated_costs_nothing():
    msk = torch.tensor([[0, 1, 1, 2]])
    good, other = torch.tensor([[-9., 9, 9, 0]]), torch.tensor([[-9., 9, 9, 50]])
    loss = [bce_dice(loss_sums(logits, msk)).item() for logits in (good, other, -good)]
    assert loss[0] == loss[1] < .01 and loss[2] > 4
    assert torch.allclose(loss_sums(other, msk)[1:], torch.tensor([3., 2, 2, 2]), atol=1e-3)


def test_various_phantoms_have_about_the_voxels_asked_for():
    parts = phantom_parts(1, n=1, shape=(12, 64, 64), pixel=9.)
    assert all(9 / 1.3 <= tomo.pixel <= 9 * 1.3 for tomos in parts.values() for tomo, _ in tomos)


def test_two_fits_share_nothing(small):
    one, two = new_fit(small), new_fit(small)
    assert one.best is None and one.history == [] and one.history is not two.history
    assert all(torch.equal(v, two.net.state_dict()[n]) for n, v in one.net.state_dict().items())


def test_constant_rate(small):
    assert new_fit(small, schedule='constant').rate(7) == .01


def test_convolutions_along_z_are_trained(small):
    solid = Fit(UNet(3, 4, 2, dims=3), Patches(small['train'], 8, 3, 32), small['val'])
    assert np.isfinite(solid.train_epoch(0))


def test_a_run_without_patience_left_trains_no_more(small, tmp_path):
    idle = new_fit(small, patience=2, epochs=50)
    idle.history = [dict(val_loss=loss) for loss in (19., 15., 16., 17.)]
    assert idle.finished and list(idle.run(tmp_path/'idle.ckpt', {})) == []


def test_the_threshold_is_chosen_on_validation(small, trained):
    card = run_card(dict(seed=0), small, trained)
    tallies = [evaluate(trained.net, [tomogram])[1] for tomogram in small['val']]
    assert card['threshold'] == choose_threshold(tallies)['threshold'] and card['start'] == []


def test_a_card_tells_of_all_runs_before(small, trained):
    first = run_card(dict(seed=0), small, trained)
    second = run_card(dict(seed=1), small, trained, first)
    third = run_card(dict(seed=2), small, trained, second)
    told = [(run['run'], run['date'], run['changed']) for run in third['start']]
    assert told == [(1, second['date'], dict(seed=1)), (2, first['date'], dict(seed=0))]


def test_what_is_written_is_read(small, trained, tmp_path):
    card, seen = run_card(dict(seed=0), small, trained), provenance_of(small, [])
    _write_run(tmp_path, trained, card, seen)
    assert read_card(tmp_path/'weights.safetensors').threshold == card['threshold']
    assert len(read_provenance(tmp_path/'weights.safetensors')) == len(seen)
    assert len(list(csv.DictReader(open(tmp_path/'history.csv')))) == 5


def one_slice(tmp_path):
    "A tomogram with a single annotated slice, as files."
    vol, msk, pixel = phantom((16, 96, 96), seed=6)
    msk = np.where(np.arange(16)[:, None, None] == 8, msk, 2).astype(np.int8)
    write_mrc(tmp_path/'cell.mrc', vol, pixel)
    write_mrc(tmp_path/'mask.mrc', msk, pixel)
    return dict(tomo=str(tmp_path/'cell.mrc'), mask=str(tmp_path/'mask.mrc'))


def test_fine_tuning_works_from_one_slice_and_the_card_says_so(tmp_path):
    tuning = yaml.safe_load((repo_root()/'recipes'/'finetune.yaml').read_text())
    small = dict(output=str(tmp_path/'runs'), device='cpu', patch=32, patches_per_epoch=8, epochs=1)
    run = opened(dict(**tuning | one_slice(tmp_path) | small))
    assert any('too few of its slices' in note for note in run.notes)
    for _ in run.train(): pass
    assert run.score()['test_distance'] == dict(slices=0, nm=0.)


def test_training_from_nothing_still_wants_three_slices(tmp_path):
    with pytest.raises(InputError, match='at least three'):
        opened(dict(**one_slice(tmp_path), output=str(tmp_path/'runs'), device='cpu'))


def test_a_blend_is_the_mean_with_other_weights(tmp_path):
    "Another blend is only another ending of the same run; weights of another network are refused before it."
    vol, msk, pixel = phantom((40, 64, 64), seed=6)
    files = dict(tomo=str(write_mrc(tmp_path/'cell.mrc', vol, pixel).path), mask=str(write_mrc(tmp_path/'mask.mrc', msk, pixel).path))
    small = files | dict(output=str(tmp_path/'runs'), name='one', init='pretrained', device='cpu', patch=32, patches_per_epoch=8, epochs=1)
    found = {}
    for blend in ('', str(pretrained())):
        run = opened(dict(**small, average_with=blend, resume=bool(found)))
        for _ in run.train(): pass
        run.score()
        run.finish()
        found[blend] = load_unet(tmp_path/'runs'/'one'/'weights.safetensors').state_dict()
    alone, mean = found.values()
    for name, value in load_unet(pretrained()).state_dict().items():
        if value.is_floating_point(): assert torch.allclose(mean[name], (value + alone[name]) / 2, atol=1e-5)


def test_traced_slices_train_beside_phantoms(volumes, tmp_path):
    "Single slices with lines, a row of train is enough; phantoms have their share, and validate and test."
    vol, msk = open_volume(volumes/'tomo.mrc')[:], open_volume(volumes/'mask.mrc')[:]
    rows = ['tomogram,mask,split,group,line']
    for z in (6, 12, 18):
        write_mrc(tmp_path/f'{z}.mrc', vol[z:z + 1], 10.)
        write_mrc(tmp_path/f'{z}_line.mrc', skeletonize(msk[z] > 0)[None].astype(np.uint8), 10.)
        rows.append(f'{z}.mrc,{z}_line.mrc,train,cell,3.5')
    (tmp_path/'m.csv').write_text('\n'.join(rows))
    p = dict(manifest=tmp_path/'m.csv', output=tmp_path/'runs', name='run', device='cpu', k=3, base=4, patch=32, patches_per_epoch=4, epochs=1, phantoms=1, ignore_beyond=50.)
    with pytest.raises(InputError, match='has no val tomogram'): opened(p)
    run = opened(p | dict(real_fraction=.25))
    fit = run.start()
    drawn = [fit.patches.where(j)[1].group for j in range(400)]
    assert set(drawn) == {'cell', 'phantoms'} and abs(drawn.count('cell') / 400 - .25) < .08
    first = run.parts['train'][0][0]
    assert set(np.unique(first.msk[0])) == {0, 1, 2} and first.rows.sum() == (first.msk[0] == 1).sum() > 2 * skeletonize(msk[6] > 0).sum()
    assert all((tomo.msk[0] != 2).all() for tomo, _ in run.parts['val']) and [len(run.parts[part]) for part in ('train', 'val', 'test')] == [4, 1, 1]
    for _ in run.train(): pass
    run.score()
    folder = run.finish()
    seen = read_provenance(folder/'weights.safetensors')
    assert [row['part'] for row in seen] == ['train'] * 4 + ['val', 'test'] and seen[0]['mask'] == first.msk.voxels
    (tmp_path/'m.csv').write_text('\n'.join(rows).replace('3.5', '5'))
    with pytest.raises(InputError, match='was trained on other'): opened(p | dict(real_fraction=.25, resume=True))


def test_a_run_starts_from_the_mean_of_several_weights(tmp_path):
    a, b = (weights_that_saw(tmp_path/name, [a_row(name, 'train', 0, 20)]) for name in 'ab')
    state = load_file(b)
    save_file({name: value * 1.5 if value.is_floating_point() else value for name, value in state.items()}, b)
    run = opened(dict(output=tmp_path/'runs', init=f'{a}, {b}', device='cpu'))
    assert all(torch.allclose(value.float(), state[name].float() * (1.25 if value.is_floating_point() else 1), rtol=1e-3, atol=1e-4) for name, value in run.net.state_dict().items())
    assert [row['tomogram'] for row in run.provenance] == ['a', 'b']
    twice = weights_that_saw(tmp_path/'twice', [a_row('a', 'train', 0, 20), a_row('a', 'train', 0, 20) | dict(run=1)])
    assert len(opened(dict(output=tmp_path/'runs', init=twice, device='cpu')).provenance) == 2 # in this run and in one before
    save_file(UNet(7, 8).state_dict(), tmp_path/'small.safetensors')
    with pytest.raises(InputError, match='small.safetensors: has base=8; wanted 16'): opened(dict(output=tmp_path/'runs', init=f'{a}, {tmp_path/"small.safetensors"}'))


def test_a_blend_with_another_network_is_refused(tmp_path):
    for wrong, said in ((str(tmp_path/'none.pt'), 'no such file'), (f'{pretrained()}, {pretrained()}', 'has base=16; wanted 32')):
        with pytest.raises(InputError, match=said): opened(dict(output=str(tmp_path/'runs'), average_with=wrong))


def test_workers_and_threads_are_no_more_than_the_cores(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.setattr('os.sched_getaffinity', lambda pid: set(range(8)), raising=False)
    try:
        for workers, processes, threads in ((0, 1, 8), (1, 1, 7), (3, 2, 1), (1, 2, 3), (20, 1, 1)):
            torch.set_num_threads(8)
            assert share_cores(workers, processes) == threads == torch.get_num_threads()
        torch.set_num_threads(2)
        assert share_cores(1) == 2, 'fewer threads are left as they are'
    finally: torch.set_num_threads(before)


def member(i, n):
    "One of several processes, without the others."
    one = SingleProcess()
    one.process_index, one.num_processes = i, n
    return one


@pytest.mark.parametrize('n', [1, 2, 3, 7, 50])
@pytest.mark.parametrize('zs', [range(0), range(5, 6), range(10, 37)])
def test_shares_of_slices_are_all_slices_once(zs, n):
    assert [z for i in range(n) for z in own_share(zs, member(i, n))] == list(zs)


def test_gradients_of_two_parts_add_up_to_that_of_the_whole():
    "Where the sums of the loss are those of all voxels; the mean of two losses has another gradient."
    torch.manual_seed(0)
    logits, msk = torch.randn(2, 1, 8, 8, dtype=torch.double), torch.randint(0, 3, (2, 1, 8, 8))
    whole = logits.clone().requires_grad_()
    bce_dice(loss_sums(whole, msk)).backward()
    total = loss_sums(logits, msk)
    class Pair(SingleProcess):
        def reduce(self, tensor, how): return total
    for i in range(2):
        part = logits[i].clone().requires_grad_()
        loss = bce_dice(sums_of_all(loss_sums(part, msk[i]), Pair()))
        loss.backward()
        assert torch.allclose(part.grad, whole.grad[i], atol=1e-6)
        alone = logits[i].clone().requires_grad_()
        bce_dice(loss_sums(alone, msk[i])).backward()
        assert not torch.allclose(alone.grad / 2, whole.grad[i], atol=1e-5)


def test_a_process_of_several_takes_no_numbered_device(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '2')
    with pytest.raises(InputError, match="device: found 'cuda:1'; wanted auto, cpu or cuda"): start_team('cuda:1')


PARTS_OF_A_ROW = dict(mask='', run=0)

def a_row(tomo, part, *slices, **more):
    return dict(name='cell.mrc', tomogram=tomo, part=part, slices=list(slices)) | PARTS_OF_A_ROW | more


@pytest.fixture
def cell_files(tmp_path):
    "A tomogram of 60 slices and its mask, as files; slices 54 to 59 test."
    vol, msk, pixel = phantom((60, 64, 64), seed=6)
    write_mrc(tmp_path/'cell.mrc', vol, pixel)
    write_mrc(tmp_path/'mask.mrc', msk.astype(np.int8), pixel)
    return dict(tomo=str(tmp_path/'cell.mrc'), mask=str(tmp_path/'mask.mrc'))


def weights_that_saw(folder, rows, **card):
    "Copies of the weights that ship with another history."
    folder.mkdir()
    shutil.copy(pretrained(), folder/'weights.safetensors')
    write_card(folder, card, rows)
    return str(folder/'weights.safetensors')


@pytest.mark.parametrize('rule', [fingerprint, first_fingerprint])
@pytest.mark.parametrize('door', ['init', 'average_with'])
def test_test_slices_do_not_come_in_by_init_or_blend(cell_files, tmp_path, rule, door):
    "Also where the other weights know the same tomogram from other slices; by fingerprints of today and of before."
    known = rule(open_volume(cell_files['tomo']))
    good = weights_that_saw(tmp_path/'good', [a_row(known, 'train', 0, 20, shape=[60, 64, 64])])
    bad = weights_that_saw(tmp_path/'bad', [a_row(known, 'train', 0, 20), a_row(known, 'train', 40, 60)])
    other = dict(init='average_with', average_with='init')[door]
    with pytest.raises(InputError, match=f'{door}: these weights were trained on slices 40 to 59 of cell.mrc'):
        opened(dict(**cell_files, output=tmp_path/'runs', device='cpu', **{door: bad, other: good}))


def test_no_row_of_a_provenance_is_lost(cell_files, tmp_path):
    "The same tomogram by other slices, another part or another mask; equal rows are kept once."
    known = fingerprint(open_volume(cell_files['tomo']))
    first = [a_row(known, 'train', 0, 10), a_row('ab', 'test', 0, 5)]
    second = [a_row(known, 'train', 0, 10), a_row(known, 'train', 5, 20), a_row(known, 'val', 0, 10), a_row(known, 'train', 0, 10, mask='cd')]
    init, blend = weights_that_saw(tmp_path/'one', first), weights_that_saw(tmp_path/'two', second)
    run = opened(dict(**cell_files, output=tmp_path/'runs', device='cpu', init=init, average_with=f'{blend}, {init}'))
    rows = [(row['tomogram'], row['part'], *row['slices'], row['mask']) for row in run.provenance]
    wanted = [(row['tomogram'], row['part'], *row['slices'], row['mask']) for row in first + second[1:]]
    assert rows == wanted
    assert [row['run'] for row in provenance_of(run.parts, run.provenance)] == [0, 0, 0] + [1] * len(wanted)


def test_the_provenance_that_ships_is_compared_by_its_own_rule(tmp_path):
    "A phantom that trained the sets from which the weights that ship started was told by the first rule, and is found by it."
    row = next(row for row in read_provenance(pretrained()) if row['part'] == 'train' and not row['tomogram'].startswith('v2:'))
    assert row['name'].startswith(('various phantom', 'raw phantom')) and row['shape']
    vol, msk, pixel = np.zeros(row['shape'], np.float32), np.zeros(row['shape'], np.uint8), 10.
    msk[:, :9] = 1
    vol[::2] += np.random.default_rng(0).normal(size=vol[::2].shape)
    tomo = Tomo(vol, Mask(msk, name='m'), pixel, 'cell.mrc', density='dark')
    rows = [row | dict(tomogram=first_fingerprint(vol))]
    with pytest.raises(InputError, match='init: these weights were trained on slices 0 to'): check_leak(dict(test=[(tomo, range(0, 9))]), rows, 7)
    check_leak(dict(test=[(tomo, range(0, 9))]), read_provenance(pretrained()), 7)


def test_the_first_fingerprint_is_taken_only_where_it_could_match(monkeypatch):
    "It costs another pass over the volume."
    taken = []
    monkeypatch.setattr('membrane_nb.provenance.first_fingerprint', lambda vol: taken.append(1) or 'none')
    vol, msk, pixel = phantom((12, 64, 64), seed=3)
    parts = dict(val=[(Tomo(vol, msk, pixel, density='dark'), range(0, 9))])
    check_leak(parts, [a_row('ab', 'train', 0, 9, shape=[13, 64, 64]), a_row('v2:ab', 'train', 0, 9)], 7)
    assert not taken
    for row in (a_row('ab', 'train', 0, 9, shape=[12, 64, 64]), a_row('ab', 'train', 0, 9)): check_leak(parts, [row], 7)
    assert len(taken) == 2, 'the shape fits, or is not told'


def test_a_card_of_an_earlier_version_is_compared(cell_files, tmp_path):
    "It lists the volumes itself, by the first rule and without their shape."
    bad = weights_that_saw(tmp_path/'bad', [])
    (tmp_path/'bad'/'provenance.json').unlink()
    seen = dict(name='cell.mrc', part='train', slices=[40, 60], tomogram=first_fingerprint(open_volume(cell_files['tomo'])), mask='cd')
    (tmp_path/'bad'/'card.json').write_text(json.dumps(dict(data=[seen])))
    with pytest.raises(InputError, match='init: these weights were trained on slices 40 to 59'):
        opened(dict(**cell_files, output=tmp_path/'runs', device='cpu', init=bad))


@pytest.mark.parametrize('kind', ['>f4', '>i2', '<i2', '<f2'])
def test_the_same_numbers_in_two_parts_of_a_manifest_are_refused(tmp_path, kind):
    "Another byte order, or another type that holds the same numbers."
    vol, msk, pixel = phantom((40, 64, 64), seed=6)
    vol = np.rint(vol * 100).astype(np.float32)
    write_mrc(tmp_path/'a.mrc', vol, pixel)
    write_mrc(tmp_path/'b.mrc', 1 + vol, pixel)
    write_mrc(tmp_path/'m.mrc', msk.astype(np.int8), pixel)
    with mrcfile.new(tmp_path/'c.mrc', vol.astype(kind)) as f: f.voxel_size = pixel
    if kind[0] == '>': assert open_volume(tmp_path/'c.mrc').dtype.byteorder == '>'
    (tmp_path/'list.csv').write_text('tomogram,mask,split\na.mrc,m.mrc,train\nb.mrc,m.mrc,val\nc.mrc,m.mrc,test\n')
    with pytest.raises(InputError, match='hold the same voxels'): opened(dict(manifest=tmp_path/'list.csv', output=tmp_path/'runs', device='cpu'))


def test_weights_to_blend_with_are_an_input(cell_files, tmp_path):
    "The folder that holds them is not replaced, with overwrite neither."
    blend = weights_that_saw(tmp_path/'mine', [])
    files = sorted(p.name for p in (tmp_path/'mine').iterdir())
    (tmp_path/'mine'/RECORD).write_text(json.dumps(dict(files=files)))
    for more in (dict(average_with=blend), dict(init='pretrained', average_with=f'{pretrained()}, {blend}')):
        with pytest.raises(InputError, match='mine: holds weights.safetensors, which is read'):
            opened(dict(**cell_files, **dict(init='pretrained') | more, output=tmp_path, name='mine', overwrite=True, device='cpu'))


@pytest.fixture
def stopped(cell_files, tmp_path):
    "The parameters of a run that was stopped after an epoch, and its checkpoint."
    p = dict(**cell_files, output=tmp_path/'runs', name='run', device='cpu', k=3, base=4, patch=32, patches_per_epoch=2, batch_size=2, epochs=2)
    run = opened(p)
    next(run.train())
    run.results.lock.release(force=True)
    return p | dict(resume=True), run.results.part/'last.ckpt'


def without(d, name): return {n: v for n, v in d.items() if n != name}

BROKEN = {
    'about is a list': lambda s: s | dict(about=[1]), 'about has no data': lambda s: s | dict(about=without(s['about'], 'data')),
    'parameters are a word': lambda s: s | dict(about=s['about'] | dict(parameters='k')), 'history is a word': lambda s: s | dict(history='long'),
    'an epoch is empty': lambda s: s | dict(history=[{}]), 'a loss is a word': lambda s: s | dict(history=[s['history'][0] | dict(val_loss='low')]),
    'net is none': lambda s: s | dict(net=None), 'net lost a tensor': lambda s: s | dict(net=without(s['net'], 'out.bias')),
    'net has another shape': lambda s: s | dict(net=UNet(3, 8).state_dict()), 'smooth is a list': lambda s: s | dict(smooth=[]),
    'best is none': lambda s: s | dict(best=None), 'best is endless': lambda s: s | dict(best=s['best'] | {'out.weight': torch.ones(1).expand(1, 2**40, 1, 1)}),
    'all are of another network': lambda s: s | dict.fromkeys(('net', 'smooth', 'best'), UNet(3, 8).state_dict()),
    'optimiser is empty': lambda s: s | dict(opt={}), 'optimiser has no moments': lambda s: s | dict(opt=s['opt'] | dict(state={})),
    'moments have another shape': lambda s: s | dict(opt=s['opt'] | dict(state=s['opt']['state'] | {0: s['opt']['state'][0] | dict(exp_avg=torch.ones(3))})),
    'a step is a truth value': lambda s: s | dict(opt=s['opt'] | dict(state=s['opt']['state'] | {0: s['opt']['state'][0] | dict(step=torch.tensor(True))})),
    'a rate is a word': lambda s: s | dict(opt=s['opt'] | dict(param_groups=[s['opt']['param_groups'][0] | dict(betas='two')])),
    'random numbers are short': lambda s: s | dict(rng=s['rng'][:9]), 'random numbers are floats': lambda s: s | dict(rng=s['rng'].float()),
    'those of the cards are a word': lambda s: s | dict(rng_cuda='none'), 'weights are NaN': lambda s: s | dict(net=s['net'] | {'out.bias': torch.tensor([np.nan])})}

def test_a_checkpoint_of_another_structure_is_one_sentence(stopped):
    p, path = stopped
    state = torch.load(path, weights_only=True)
    assert opened(p).checkpoint
    for name, broken in BROKEN.items():
        torch.save(broken(state), path)
        with pytest.raises(InputError) as e: opened(p)
        assert str(e.value).startswith(f'{path}: ') and '\n' not in str(e.value), name


def test_a_checkpoint_of_before_is_resumed_or_refused(stopped, cell_files):
    "It has the fingerprints of the first rule, and lacks parameters that came later."
    p, path = stopped
    state = torch.load(path, weights_only=True)
    names = [first_fingerprint(open_volume(cell_files[name])) for name in ('tomo', 'mask')]
    later = 'half', 'line', 'real_fraction', 'label', 'trust_mask'
    about = dict(parameters={name: value for name, value in state['about']['parameters'].items() if name not in later}, data=[[part, *names, first, last] for part, _, _, first, last in state['about']['data']])
    torch.save(state | dict(about=about), path)
    assert opened(p).checkpoint
    with pytest.raises(InputError, match='was run with half=None, now True'): opened(p | dict(half=True))
    write_mrc(cell_files['tomo'], open_volume(cell_files['tomo'])[:] + 1, 10.)
    with pytest.raises(InputError, match='was trained on other voxels'): opened(p)


KEPT = dict(kind='various phantom', seed=7, shape=(8, 48, 48), pixels=(9., 11.), thickness=4.4)

@pytest.mark.parametrize('damage', ['cut', 'empty', 'text', 'swapped', 'swapped by another shape', 'changed', 'of before', 'compressed', 'folder'])
def test_a_damaged_kept_phantom_is_made_again_with_a_sentence(tmp_path, capsys, damage):
    wanted = _one_phantom(**KEPT, folder=tmp_path)
    path, = tmp_path.glob('*.npz')
    whole = path.read_bytes()
    if damage == 'cut': path.write_bytes(whole[:len(whole) // 2])
    if damage == 'empty': path.write_bytes(b'')
    if damage == 'text': path.write_text('not a phantom')
    if damage.startswith('swapped'):
        _one_phantom(**KEPT | dict(seed=8, shape=(8, 48, 48 + 16 * (damage != 'swapped'))), folder=tmp_path)
        shutil.move(next(p for p in tmp_path.glob('*.npz') if p != path), path)
    with np.load(tmp_path/path.name) if damage in ('changed', 'of before', 'compressed') else nullcontext({}) as kept: parts = dict(kept)
    if damage == 'changed': np.savez(path, **parts | dict(pixel=parts['pixel'] + 1))
    if damage == 'of before': np.savez(path, **without(parts, 'sha256'))
    if damage == 'compressed': np.savez_compressed(path, **parts | dict(vol=np.zeros((8, 480, 4800), np.float32)))
    if damage == 'folder': path.unlink(), path.mkdir()
    if damage == 'folder':
        with pytest.raises(InputError, match='cannot be kept'): _one_phantom(**KEPT, folder=tmp_path)
        return
    again = _one_phantom(**KEPT, folder=tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(wanted, again)) and path.read_bytes() == whole
    assert 'is not the phantom that was kept under this name; made again' in capsys.readouterr().out
    assert _one_phantom(**KEPT, folder=tmp_path)[2] == wanted[2] and capsys.readouterr().out == ''


def test_two_runs_that_make_the_same_phantom_do_not_meet(tmp_path, monkeypatch):
    "Each writes under a name of its own, and the last one to finish gives the name."
    names = []
    replace = os.replace
    def noted(part, path):
        names.append(Path(part).name)
        replace(part, path)
    monkeypatch.setattr('os.replace', noted)
    for _ in range(2):
        _one_phantom(**KEPT, folder=tmp_path)
        for path in tmp_path.glob('*.npz'): path.unlink()
    assert len(set(names)) == 2 and not list(tmp_path.iterdir())


@pytest.mark.parametrize('content, said', [
    (b'epochs: [', 'is not YAML'), (b'\xff\xfe\x00', 'is not text in UTF-8'), (b'- epochs', 'wanted a line for each parameter'), (b'epochs', 'wanted a line for each parameter'),
    (b'7: 8', 'wanted a line for each parameter'), (b'? [a, b]\n: 3', 'is not YAML'), (b'a: !!python/object:os.system {}', 'is not YAML'), (b'[' * 10_000, 'is not YAML'),
    (b'epochs: ' + b'9' * 5000, 'is not YAML'), (b'epochs: 2024-13-45', 'is not YAML|found'), (b'', 'is empty'), (b'epochs: {a: 1}', 'parameter epochs: found')])
def test_a_recipe_that_is_none_is_one_sentence(tmp_path, content, said):
    (tmp_path/'r.yaml').write_bytes(content)
    with pytest.raises(InputError, match=said) as e: RecipeOptions(**read_recipe(tmp_path/'r.yaml'))
    assert '\n' not in str(e.value) and len(str(e.value)) < 600


@pytest.mark.parametrize('content', [b'# only a remark\n', b'---\n...\n', b'\xef\xbb\xbfepochs: 5\n'])
def test_a_recipe_may_hold_comments_alone_or_a_byte_order_mark(tmp_path, content):
    (tmp_path/'r.yaml').write_bytes(content)
    assert RecipeOptions(**read_recipe(tmp_path/'r.yaml')).epochs == 5


def test_weights_that_16_bits_do_not_hold_are_refused_and_not_written(stopped):
    p, _ = stopped
    run = opened(p | dict(resume=False, overwrite=True, half=True, name='other'))
    next(run.train())
    run.fit.best['out.weight'][:] = 1e6
    with pytest.raises(InputError, match='the weights of this run: out.weight holds NaN or infinite numbers'): run.score()


@pytest.mark.parametrize('door', ['init', 'average_with'])
def test_weights_so_large_that_they_answer_nan_are_refused_at_once(cell_files, tmp_path, door):
    path = tmp_path/'large.safetensors'
    save_file({name: v * 1e36 if name.endswith('weight') else v for name, v in load_unet(pretrained()).state_dict().items()}, path)
    with pytest.raises(InputError, match='answers with NaN or infinite numbers'):
        opened(dict(**cell_files, output=tmp_path/'runs', device='cpu', **dict(init='pretrained') | {door: str(path)}))


def test_a_network_that_learned_nothing_writes_no_card(small, trained, tmp_path):
    "D1: its threshold would be 0, which `read_card` refuses."
    dull = new_fit(small)
    dull.history, dull.best = trained.history, trained.best
    with torch.no_grad(): dull.net.out.bias -= 50
    with pytest.raises(InputError, match='nothing was learned: the network calls next to no voxel .* wanted more epochs'):
        run_card(dict(seed=0), small, dull)
    with torch.no_grad():
        for weight in dull.net.parameters(): weight *= 0
    card = run_card(dict(seed=0), small, dull)
    assert 'nothing was learned yet' in scores_in_words(card)[-1]
    _write_run(tmp_path, dull, card, [])
    assert 0 < read_card(tmp_path/'weights.safetensors').threshold < 1
    assert 'nothing was learned' not in scores_in_words(run_card(dict(seed=0), small, trained))[-1]


@pytest.mark.parametrize('wrong', [dict(threshold=0.), dict(threshold=1.), dict(threshold=float('nan')), dict(pixel=1e4), dict(spread=.5), dict(density='grey')])
def test_every_card_is_one_that_is_read(trained, tmp_path, wrong):
    card = dict(threshold=.5, pixel=None, spread=1.2, density='dark', scores=dict(test=dict(dice=float('nan'))))
    with pytest.raises(InputError, match=f'card.json: {list(wrong)[0]}: found'): _write_run(tmp_path, trained, card | wrong, [])
    assert not (tmp_path/'card.json').exists()
    _write_run(tmp_path, trained, card, [])
    assert read_card(tmp_path/'weights.safetensors').pixel == 0


def test_a_command_that_learns_nothing_ends_with_one_sentence(run, volumes, tmp_path):
    "D1: exit 1, no folder takes the name, the checkpoint stays. A mean with weights that call nothing membrane stands for a training that failed."
    from safetensors.torch import save_file
    torch.manual_seed(0)
    state = UNet(3, 4).state_dict()
    state['out.bias'] -= 1e4
    save_file(state, tmp_path/'dull.safetensors')
    (tmp_path/'r.yaml').write_text(f'average_with: {tmp_path}/dull.safetensors')
    small = dict(patches_per_epoch=4, patch=32, k=3, base=4, epochs=1, output=tmp_path, name='01_23')
    words = [word for name, value in small.items() for word in (f'--{name}', value)]
    done = run('membrane', 'train', '-f', tmp_path/'r.yaml', volumes/'tomo.mrc', volumes/'mask.mrc', *words)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith('membrane train: nothing was learned')
    assert not (tmp_path/'01_23').exists() and (tmp_path/'.01_23.part'/'last.ckpt').exists()


def test_a_run_is_followed_in_a_place_that_is_seen(volumes, tmp_path):
    "A line an epoch, also of a run that was stopped and goes on; in the end it lies in the folder alone."
    p = dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='run', k=3, base=4, patch=32, patches_per_epoch=4, epochs=3)
    followed = tmp_path/'run.history.csv'
    lines = []
    for resume in (False, True):
        run = opened(p | dict(resume=resume))
        for row in run.train():
            lines.append(len(followed.read_text().splitlines()))
            if not resume: break
        run.results.lock.release(force=True)
    assert lines == [2, 3, 4]
    told = followed.read_text()
    run.score()
    folder = run.finish()
    assert (folder/'history.csv').read_text() == told and not os.path.lexists(followed)
    assert [row['epoch'] for row in csv.DictReader(open(folder/'history.csv'))] == ['1', '2', '3']


def test_a_network_that_answers_with_nan_is_not_scored(small):
    net = UNet(3, 4, 2).eval()
    with torch.no_grad(): net.out.bias.fill_(np.nan)
    with pytest.raises(InputError, match='phantom .*: the network answers with NaN in slice 0'): evaluate(net, small['val'])


def test_a_run_that_is_resumed_with_nothing_left_to_do_keeps_its_checkpoint(stopped):
    p, _ = stopped
    for epochs in (2, 2, 3):
        run = opened(p | dict(epochs=epochs))
        for _ in run.train(): pass
        assert len(run.fit.history) == epochs
        run.score()
        folder = run.finish()
        assert (folder/'last.ckpt').exists()


def test_a_file_of_the_user_is_not_taken_for_the_history(volumes, tmp_path):
    (tmp_path/'run.history.csv').write_text('mine')
    run = opened(dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='run', k=3, base=4, patch=32, patches_per_epoch=4, epochs=1))
    for _ in run.train(): pass
    run.score()
    run.finish()
    assert (tmp_path/'run.history.csv').read_text() == 'mine'
