"Training in several processes is training in one with a larger batch, and only one of them writes."
import csv, sys

import pytest
import torch
from membrane_nb.train import open_run, page_parameters, parse_command
from membrane_nb.unet import read_card
from safetensors.torch import load_file

pytest.importorskip('accelerate')
SMALL = dict(patches_per_epoch=8, patch=32, k=3, base=4, epochs=1, schedule='constant', seed=4)

STEP = """
import sys, torch
from membrane_nb.sampler import Patches
from membrane_nb.train import Fit, phantom_parts, start_team
from membrane_nb.unet import UNet
out, norm, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
team = start_team('cpu')
parts = phantom_parts(1, n=2, shape=(12, 64, 64))
torch.manual_seed(3)
fit = Fit(UNet(3, 8, norm=norm), Patches(parts['train'], 8, 3, 32), parts['val'], batch_size=batch, ema=0., team=team)
step, gradients = fit._step, []
def kept(*args):
    loss = step(*args)
    gradients.append([p.grad.clone() for p in fit.net.parameters()])
    return loss
fit._step = kept
row = fit._epoch(0)
if team.is_main_process: torch.save((gradients, row, fit.net.state_dict()), out)
if team.process_index == 1: torch.save(fit.net.state_dict(), out + '.second')
team.end_training()
"""


@pytest.fixture(scope='module')
def step(run, tmp_path_factory):
    "An epoch in some processes: gradients of its steps, its row of the history, and the network."
    folder = tmp_path_factory.mktemp('step')
    (folder/'step.py').write_text(STEP)
    def step(processes, norm, batch):
        out = folder/f'{processes}_{norm}.pt'
        how = ['torchrun', '--nproc-per-node', processes] if processes > 1 else [sys.executable]
        done = run(*how, folder/'step.py', out, norm, batch)
        assert done.returncode == 0, done.stderr[-3000:]
        return torch.load(out), out.with_name(f'{out.name}.second')
    return step


def test_two_processes_give_the_gradients_of_one_with_twice_the_batch(step):
    (one, row, net), _ = step(1, 'none', 4)
    (two, row_two, net_two), second = step(2, 'none', 2)
    assert len(one) == len(two) == 2
    for a, b in zip(one[0], two[0]): assert (a - b).abs().max() <= 1e-5 * max(1, a.abs().max())
    assert row_two['train_loss'] == pytest.approx(row['train_loss'], abs=1e-5)
    assert row_two['val_loss'] == pytest.approx(row['val_loss'], abs=1e-4)
    for name, value in torch.load(second).items(): assert torch.equal(value, net_two[name])


def test_statistics_of_batch_norm_are_the_same_in_all_processes(step):
    (_, row, net), second = step(2, 'batch', 2)
    for name, value in torch.load(second).items(): assert torch.equal(value, net[name]), name


def words(**parameters):
    return [str(word) for name, value in parameters.items() for word in ('-p', name, value)]


@pytest.fixture(scope='module')
def pair(run, volumes, tmp_path_factory):
    "A run of two epochs in two processes."
    folder = tmp_path_factory.mktemp('pair')
    command = ['torchrun', '--nproc-per-node', 2, '-m', 'membrane_nb.train']
    def train(name, **more):
        files = dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=folder, name=name)
        return run(*command, *words(**SMALL | files | more), CUDA_VISIBLE_DEVICES='')
    return folder, train, train('pair', epochs=2)


def test_only_one_process_writes_and_prints(pair):
    folder, _, done = pair
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in folder.iterdir()] == ['pair']
    assert {'card.json', 'weights.safetensors', 'last.ckpt', 'history.png'} <= {path.name for path in (folder/'pair').iterdir()}
    assert [line[:7] for line in done.stdout.splitlines() if line.startswith('epoch')] == ['epoch 1', 'epoch 2']
    assert read_card(folder/'pair'/'weights.safetensors').parameters['processes'] == 2
    assert len(list(csv.DictReader(open(folder/'pair'/'history.csv')))) == 2


def test_two_processes_resume_where_they_were_stopped(pair):
    folder, train, _ = pair
    assert train('half').returncode == 0
    done = train('half', epochs=2, resume=True)
    assert done.returncode == 0, done.stderr[-3000:]
    straight, resumed = (load_file(folder/name/'weights.safetensors') for name in ('pair', 'half'))
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())


def test_patches_that_cannot_be_shared_are_refused_once(pair):
    folder, train, _ = pair
    done = train('odd', patches_per_epoch=9)
    assert done.returncode != 0 and not (folder/'odd').exists()
    assert done.stderr.count('found 9; wanted a multiple of 2, the number of processes') == 1


def test_the_module_does_what_the_page_does(run, volumes, tmp_path):
    p = SMALL | dict(tomo=str(volumes/'tomo.mrc'), mask=str(volumes/'mask.mrc'), output=str(tmp_path))
    done = run(sys.executable, '-m', 'membrane_nb.train', *words(**p, name='module'))
    assert done.returncode == 0, done.stderr[-3000:]
    known = page_parameters()
    page = open_run({name: known[name] for name in known['__annotations__']} | p | dict(name='page'))
    fit = page.start()
    for _ in fit.run(page.results.part/'last.ckpt', page.about): pass
    page.finish(fit, page.score(fit))
    cards = [read_card(tmp_path/name/'weights.safetensors').model_dump() for name in ('page', 'module')]
    for card in cards: card.pop('date'), card['parameters'].pop('name')
    assert cards[0] == cards[1]
    assert load_file(tmp_path/'page'/'weights.safetensors').keys() == (module := load_file(tmp_path/'module'/'weights.safetensors')).keys()
    assert all(torch.equal(value, module[name]) for name, value in fit.best.items())


def test_a_notebook_starts_two_processes(run, volumes, tmp_path):
    "As the page shows it."
    p = parse_command(words(**SMALL, tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='launched'))
    code = f"from accelerate import notebook_launcher; from membrane_nb.train import run_training; notebook_launcher(run_training, [{p!r}], num_processes=2, use_port='29517')"
    done = run(sys.executable, '-c', code, CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ['launched']
    assert read_card(tmp_path/'launched'/'weights.safetensors').parameters['processes'] == 2


def test_a_recipe_and_single_values(tmp_path):
    (tmp_path/'recipe.yaml').write_text('epochs: 7\nlr: 0.5\n')
    given = parse_command(['-f', str(tmp_path/'recipe.yaml'), '-p', 'lr', '0.25'])
    assert (given['epochs'], given['lr'], given['resume']) == (7, .25, False)
