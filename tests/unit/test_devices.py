"Training in several processes is training in one with a larger batch, and only one of them writes."
import csv, sys
from pathlib import Path

import pytest
import torch
from conftest import python
from membrane_nb.checks import InputError
from membrane_nb.checkpoint import _check_same
from membrane_nb.options import TrainOptions
from membrane_nb.training import _check_shared, open_run, read_recipe
from membrane_nb.card import read_card
from safetensors.torch import load_file

pytest.importorskip('accelerate')
PAIR = 'torchrun', '--nproc-per-node', 2, '--no-python' # what follows is started twice
SMALL = dict(patches_per_epoch=8, patch=32, k=3, base=4, epochs=1, schedule='constant', seed=4)

EPOCHS = """
import sys
from pathlib import Path
import torch
from membrane_nb.sampler import Patches
from membrane_nb.devices import start_team
from membrane_nb.fit import Fit
from membrane_nb.options import TrainOptions
from membrane_nb.phantoms import phantom_parts
from membrane_nb.unet import UNet

out, batch = Path(sys.argv[1]), int(sys.argv[2])
team = start_team('cpu')
parts = phantom_parts(1, n=2, shape=(12, 64, 64))
gradients = []

class Watched(Fit):
    def _step(self, *args):
        loss = super()._step(*args)
        gradients.append([p.grad.clone() for p in self.net.parameters()])
        return loss

def fit(norm, **more):
    torch.manual_seed(3)
    net = UNet(3, 8, norm=norm, dropout=more.pop('dropout', 0.))
    patches = Patches(parts['train'], 8, 3, 32)
    options = TrainOptions(epochs=2, batch_size=batch, schedule='cosine', **more)
    return Watched(net, patches, parts['val'], options, team)

row = next(fit('none', ema=0.).run(out.with_suffix('.none'), {}))
found = dict(row=row, gradients=gradients[0])
straight = fit('batch', dropout=.2)
for _ in straight.run(out.with_suffix('.straight'), {}): pass
next(fit('batch', dropout=.2).run(out.with_suffix('.stopped'), {}))
team.wait_for_everyone()
resumed = fit('batch', dropout=.2)
resumed.load(torch.load(out.with_suffix('.stopped'), weights_only=True))
for _ in resumed.run(out.with_suffix('.resumed'), {}): pass
found |= dict(straight=straight.net.state_dict(), resumed=resumed.net.state_dict())
torch.save(found, out.with_suffix(f'.{team.process_index}'))
team.end_training()
"""


@pytest.fixture(scope='module')
def epochs(run, tmp_path_factory):
    "What each process found in a few epochs: of one process, and of two."
    folder = tmp_path_factory.mktemp('epochs')
    (folder/'epochs.py').write_text(EPOCHS)
    alone = run(sys.executable, folder/'epochs.py', folder/'one', 4)
    assert alone.returncode == 0, alone.stderr[-3000:]
    pair = run(*PAIR, *python(), folder/'epochs.py', folder/'two', 2)
    assert pair.returncode == 0, pair.stderr[-3000:]
    return [torch.load(folder/name) for name in ('one.0', 'two.0', 'two.1')]


def test_two_processes_give_the_gradients_of_one_with_twice_the_batch(epochs):
    one, first, second = epochs
    for a, b, c in zip(one['gradients'], first['gradients'], second['gradients']):
        assert (a - b).abs().max() <= 1e-5 * max(1, a.abs().max())
        assert torch.equal(b, c)
    assert first['row']['train_loss'] == pytest.approx(one['row']['train_loss'], abs=1e-5)
    assert first['row']['val_loss'] == pytest.approx(one['row']['val_loss'], abs=1e-4)


def test_all_processes_hold_the_same_network(epochs):
    "Statistics of batch norm too."
    _, first, second = epochs
    for name, value in first['straight'].items(): assert torch.equal(value, second['straight'][name]), name


def test_two_processes_resume_where_they_were_stopped(epochs):
    for found in epochs:
        for name, value in found['straight'].items(): assert torch.equal(value, found['resumed'][name]), name


def words(tomo, mask, **options):
    "Of the command `membrane`."
    return ['train', tomo, mask, *(word for name, value in options.items() for word in (f'--{name}', value))]


def test_only_one_process_writes_and_prints(run, volumes, tmp_path):
    files = dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='pair')
    command = Path(sys.executable).parent/'membrane'
    done = run(*PAIR, *python(), command, *words(**SMALL | files), CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ['pair']
    assert {'card.json', 'weights.safetensors', 'last.ckpt', 'history.png'} <= {path.name for path in (tmp_path/'pair').iterdir()}
    assert done.stdout.count('epoch 1: train loss') == done.stdout.count('best epoch 1') == 1
    assert read_card(tmp_path/'pair'/'weights.safetensors').parameters['processes'] == 2
    assert len(list(csv.DictReader(open(tmp_path/'pair'/'history.csv')))) == 1


def test_patches_that_cannot_be_shared_are_refused():
    with pytest.raises(InputError, match='found 9; wanted a multiple of 2, the number of processes'):
        _check_shared(TrainOptions(patches_per_epoch=9), 2)


def test_a_run_of_two_processes_does_not_go_on_in_one(tmp_path):
    about = dict(parameters=dict(schedule='constant', processes=2), data=[])
    with pytest.raises(InputError, match='was run with processes=2, now 1'):
        _check_same(tmp_path, about['parameters'], dict(schedule='constant'))


def test_the_command_does_what_the_page_does(run, volumes, tmp_path):
    p = SMALL | dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path)
    done = run('membrane', *words(**p, name='command'))
    assert done.returncode == 0, done.stderr[-3000:]
    page = open_run(TrainOptions(**p, name='page'))
    for _ in page.train(): pass
    page.score()
    page.finish()
    cards = [read_card(tmp_path/name/'weights.safetensors').model_dump() for name in ('page', 'command')]
    for card in cards: card.pop('date'), card['parameters'].pop('name')
    assert cards[0] == cards[1]
    assert load_file(tmp_path/'page'/'weights.safetensors').keys() == (command := load_file(tmp_path/'command'/'weights.safetensors')).keys()
    assert all(torch.equal(value, command[name]) for name, value in page.fit.best.items())


def test_a_notebook_starts_two_processes(run, volumes, tmp_path):
    "As the page shows it."
    p = SMALL | dict(output=str(tmp_path), name='launched')
    files = str(volumes/'tomo.mrc'), str(volumes/'mask.mrc')
    code = f"""
from accelerate import notebook_launcher
from membrane_nb.training import train
def work(): train(*{files!r}, **{p!r})
notebook_launcher(work, num_processes=2, use_port='29517')
"""
    done = run(sys.executable, '-c', code, CUDA_VISIBLE_DEVICES='')
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in tmp_path.iterdir()] == ['launched']
    assert read_card(tmp_path/'launched'/'weights.safetensors').parameters['processes'] == 2


def test_a_recipe_and_single_values(tmp_path):
    (tmp_path/'recipe.yaml').write_text('epochs: 7\nlr: 0.5\n')
    given = TrainOptions(**read_recipe(tmp_path/'recipe.yaml') | dict(lr='0.25'))
    assert (given.epochs, given.lr, given.resume) == (7, .25, False)


@pytest.mark.parametrize('recipe, words, wanted', [
    ('lr: 1e-4\nepochs: 1e1\nignore_beyond: "50"\n', {}, dict(lr=1e-4, epochs=10, ignore_beyond=50.)),
    ('name: "2024_11_28"\n', dict(output='007'), dict(name='2024_11_28', output='007')),
    ('', dict(name='01_23', tomo='2024.10', resume=True, lr='1e-3'), dict(name='01_23', tomo='2024.10', resume=True, lr=1e-3)),
])
def test_what_words_of_a_recipe_and_of_the_command_mean(tmp_path, recipe, words, wanted):
    "L2, D6: words of the command stay as they were typed; YAML guesses."
    (tmp_path/'recipe.yaml').write_text(recipe or '{}')
    given = TrainOptions(**read_recipe(tmp_path/'recipe.yaml') | words)
    assert {name: getattr(given, name) for name in wanted} == wanted


@pytest.mark.parametrize('recipe, said', [
    ('name: 2024_11_28', 'parameter name: found 20241128 .* wanted text: -r name'), ('name: 007', 'parameter name: found 7 '), ('name: 2024-11-28', 'parameter name: found datetime.date'),
    ('tomo: 01_23', 'parameter tomo: found .* wanted text: -r tomo'), ('name: 12:30:45', 'parameter name: found 45045'), ('name: on', 'parameter name: found True'), ('name:', 'parameter name: found None'),
    ('lr: .nan', 'parameter lr: found nan; wanted a finite number'), ('lr: fast', "parameter lr: found 'fast' .* wanted float"), ('epochs: 12abc', 'wanted int'), ('resume: "True"', 'wanted bool'),
    ('epohcs: 3', 'parameter epohcs: unknown; .*; nearest is epochs$')])
def test_recipes_that_are_refused(tmp_path, recipe, said):
    (tmp_path/'recipe.yaml').write_text(recipe)
    with pytest.raises(InputError, match=said): TrainOptions(**read_recipe(tmp_path/'recipe.yaml'))
