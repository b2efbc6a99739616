"Training: what its page does not sweep."
import csv, os, sys

import numpy as np
import pytest
import torch
import yaml
from membrane_nb.checks import InputError
from membrane_nb.metrics import choose_threshold
from membrane_nb.phantom import phantom
from membrane_nb.results import repo_root
from membrane_nb.sampler import Patches
from membrane_nb.train import (Alone, Fit, bce_dice, check_run, evaluate, loss_sums, open_run, own_share, phantom_parts,
                               provenance_of, run_card, scores_in_words, share_cores, start_team, sums_of_all, write_run)
from membrane_nb.unet import UNet, load_unet, pretrained, read_card, read_provenance
from membrane_nb.volume import write_mrc
from test_door import parameters


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
    settings = dict(lr=1e-2) | more
    return Fit(UNet(3, 4, 4), Patches(small['train'], 12, 3, 32), small['val'], **settings)


@pytest.mark.parametrize('wrong', [
    dict(patch=100), dict(patch=16), dict(k=4), dict(norm='x'), dict(name='a/b'), dict(name='..'), dict(p_membrane=2.),
    dict(epochs=0), dict(dropout=1.), dict(base=10**6), dict(seed=2**64), dict(phantoms=10**9), dict(norm='group', base=12),
    dict(phantom_raw=.5, phantom_hard=.6)])
def test_a_parameter_that_no_run_can_have(wrong):
    check_run(parameters())
    with pytest.raises(InputError, match=f'parameter {list(wrong)[-1]}: found'): check_run(parameters() | wrong)


def test_opening_a_run_writes_nothing(tmp_path):
    open_run(parameters(output=tmp_path/'runs'))
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
    write_run(tmp_path, trained, card, seen)
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
    run = open_run(parameters(**tuning | one_slice(tmp_path) | small))
    assert any('too few of its slices' in note for note in run.notes)
    fit = run.start()
    for _ in fit.run(run.results.part/'last.ckpt', run.about): pass
    assert run.score(fit)['test_distance'] == dict(slices=0, nm=0.)


def test_training_from_nothing_still_wants_three_slices(tmp_path):
    with pytest.raises(InputError, match='at least three'):
        open_run(parameters(**one_slice(tmp_path), output=str(tmp_path/'runs'), device='cpu'))


def test_a_blend_is_the_mean_with_other_weights(tmp_path):
    "Another blend is only another ending of the same run; weights of another network are refused before it."
    vol, msk, pixel = phantom((40, 64, 64), seed=6)
    files = dict(tomo=str(write_mrc(tmp_path/'cell.mrc', vol, pixel).path), mask=str(write_mrc(tmp_path/'mask.mrc', msk, pixel).path))
    small = files | dict(output=str(tmp_path/'runs'), name='one', init='pretrained', device='cpu', patch=32, patches_per_epoch=8, epochs=1)
    found = {}
    for blend in ('', str(pretrained())):
        run = open_run(parameters(**small, blend=blend, resume=bool(found)))
        fit = run.start()
        for _ in fit.run(run.results.part/'last.ckpt', run.about): pass
        run.finish(fit, run.score(fit))
        found[blend] = load_unet(tmp_path/'runs'/'one'/'weights.safetensors').state_dict()
    alone, mean = found.values()
    for name, value in load_unet(pretrained()).state_dict().items():
        if value.is_floating_point(): assert torch.allclose(mean[name], (value + alone[name]) / 2, atol=1e-5)


def test_a_blend_with_another_network_is_refused(tmp_path):
    for wrong, said in ((str(tmp_path/'none.pt'), 'no such file'), (f'{pretrained()}, {pretrained()}', 'has base=16; wanted 32')):
        with pytest.raises(InputError, match=said): open_run(parameters(output=str(tmp_path/'runs'), blend=wrong))


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
    one = Alone()
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
    class Pair(Alone):
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


def test_a_network_that_learned_nothing_writes_no_card(small, trained, tmp_path):
    "D1: its threshold would be 0, which `read_card` refuses."
    dull = new_fit(small, history=trained.history, best=trained.best)
    with torch.no_grad(): dull.net.out.bias -= 50
    with pytest.raises(InputError, match='nothing was learned: the network calls next to no voxel .* wanted more epochs'):
        run_card(dict(seed=0), small, dull)
    with torch.no_grad():
        for weight in dull.net.parameters(): weight *= 0
    card = run_card(dict(seed=0), small, dull)
    assert 'nothing was learned yet' in scores_in_words(card)[-1]
    write_run(tmp_path, dull, card, [])
    assert 0 < read_card(tmp_path/'weights.safetensors').threshold < 1
    assert 'nothing was learned' not in scores_in_words(run_card(dict(seed=0), small, trained))[-1]


@pytest.mark.parametrize('wrong', [dict(threshold=0.), dict(threshold=1.), dict(threshold=float('nan')), dict(pixel=1e4), dict(spread=.5), dict(density='grey')])
def test_every_card_is_one_that_is_read(trained, tmp_path, wrong):
    card = dict(threshold=.5, pixel=None, spread=1.2, density='dark', scores=dict(test=dict(dice=float('nan'))))
    with pytest.raises(InputError, match=f'card.json: {list(wrong)[0]}: found'): write_run(tmp_path, trained, card | wrong, [])
    assert not (tmp_path/'card.json').exists()
    write_run(tmp_path, trained, card, [])
    assert read_card(tmp_path/'weights.safetensors').pixel == 0


def test_a_command_that_learns_nothing_ends_with_one_sentence(run, volumes, tmp_path):
    "D1: exit 1, no folder takes the name, the checkpoint stays. A mean with weights that call nothing membrane stands for a training that failed."
    from safetensors.torch import save_file
    torch.manual_seed(0)
    state = UNet(3, 4).state_dict()
    state['out.bias'] -= 1e4
    save_file(state, tmp_path/'dull.safetensors')
    files = dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, blend=tmp_path/'dull.safetensors')
    small = dict(patches_per_epoch=4, patch=32, k=3, base=4, epochs=1)
    done = run(sys.executable, '-m', 'membrane_nb.train', *(str(w) for n, v in (files | small).items() for w in ('-p', n, v)), '-r', 'name', '01_23')
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith('membrane_nb.train: nothing was learned')
    assert not (tmp_path/'01_23').exists() and (tmp_path/'.01_23.part'/'last.ckpt').exists()


def test_a_run_is_followed_in_a_place_that_is_seen(volumes, tmp_path):
    "A line an epoch, also of a run that was stopped and goes on; in the end it lies in the folder alone."
    p = parameters(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='run', k=3, base=4, patch=32, patches_per_epoch=4, epochs=3)
    followed = tmp_path/'run.history.csv'
    lines = []
    for resume in (False, True):
        run = open_run(p | dict(resume=resume))
        fit = run.start()
        for row in fit.run(run.results.part/'last.ckpt', run.about):
            lines.append(len(followed.read_text().splitlines()))
            if not resume: break
        run.results.lock.release(force=True)
    assert lines == [2, 3, 4]
    told = followed.read_text()
    folder = run.finish(fit, run.score(fit))
    assert (folder/'history.csv').read_text() == told and not os.path.lexists(followed)
    assert [row['epoch'] for row in csv.DictReader(open(folder/'history.csv'))] == ['1', '2', '3']


def test_a_file_of_the_user_is_not_taken_for_the_history(volumes, tmp_path):
    (tmp_path/'run.history.csv').write_text('mine')
    run = open_run(parameters(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='run', k=3, base=4, patch=32, patches_per_epoch=4, epochs=1))
    fit = run.start()
    for _ in fit.run(run.results.part/'last.ckpt', run.about): pass
    run.finish(fit, run.score(fit))
    assert (tmp_path/'run.history.csv').read_text() == 'mine'
