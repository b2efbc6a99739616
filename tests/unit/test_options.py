"Options are declared once: pages, recipes, cards and commands agree with the models."
import json, re

import nbformat
import pytest
from conftest import ROOT, instrument, papermill
from membrane_nb.card import read_card
from membrane_nb.checks import InputError, check_parameters
from membrane_nb.options import LookOptions, ManyOptions, OneOptions, RecipeOptions, TrainOptions, options_of
from membrane_nb.training import read_recipe
from membrane_nb.weights import pretrained

PAGES = {'00_data': LookOptions, '01_sampler': LookOptions, '02_unet': LookOptions, '03_train': TrainOptions, '04_infer': OneOptions, 'more/04_many': ManyOptions}
RECIPES = sorted(str(path.relative_to(ROOT/'recipes')) for path in (ROOT/'recipes').rglob('*.yaml'))
OURS = 'pretrained/', # recipes of the weights that ship


def parameters(page):
    "The source of the one cell of parameters of a page."
    cells = nbformat.read(ROOT/'nbs'/f'{page}.ipynb', 4).cells
    cell, = (cell for cell in cells if 'parameters' in cell.metadata.get('tags', []))
    return cell.source


@pytest.mark.parametrize('page', PAGES)
def test_the_cell_of_parameters_is_the_model(page):
    "Names, types, defaults and help."
    fields = PAGES[page].model_fields
    exec(parameters(page), found := {})
    assert found['__annotations__'].keys() == fields.keys()
    for name, field in fields.items():
        assert found['__annotations__'][name] is type(field.default), name
        assert found[name] == field.default and type(found[name]) is type(field.default), name
    helps = dict(re.findall(r'^(\w+): .*?  # (.*)$', parameters(page), re.M))
    assert helps == {name: field.description for name, field in fields.items()}


def test_what_a_user_needs_stands_first():
    exec(parameters('03_train'), found := {})
    assert list(found['__annotations__'])[:8] == ['tomo', 'mask', 'init', 'epochs', 'patches_per_epoch', 'lr', 'name', 'device']


@pytest.mark.parametrize('recipe', RECIPES)
def test_every_recipe_is_known(recipe):
    "Each name is an option, and of the type it has there; a user's recipe needs no more than the page of training has."
    given = read_recipe(ROOT/'recipes'/recipe)
    model = RecipeOptions if recipe.startswith(OURS) else TrainOptions
    options = model(**dict(tomo='cell.mrc') | given)
    for name, value in given.items():
        assert getattr(options, name) == value and type(value) is type(model.model_fields[name].default), name


def test_there_are_recipes():
    assert set(RECIPES) >= {'quick.yaml', 'local.yaml', 'full.yaml', 'baseline.yaml', 'finetune.yaml'}


def test_a_card_that_ships_is_read():
    "Under the names of version 0.1; nothing of it is lost."
    record = read_card(pretrained()).parameters
    kept = options_of(record).record()
    assert {name: kept[name] for name in record} == record


def test_a_name_of_the_last_version_is_told_the_present_one():
    said = {'density': 'contrast', 'pixel': 'voxel_size', 'near': 'ignore_beyond', 'phantom_pixel': 'phantom_voxel_size',
            'phantom_thick': 'phantom_thickness', 'blend': 'average_with', 'blend_share': 'average_fraction'}
    for old, new in said.items():
        with pytest.raises(InputError, match=f'^parameter {old}: is called {new} now; wanted {new}$'): RecipeOptions(**{old: 1})
    page = dict(__annotations__=dict(lr=float), lr=1., near=50, In=['# Parameters\nnear = 50\n'])
    with pytest.raises(InputError, match='parameter near: is called ignore_beyond now'): check_parameters(page, TrainOptions)


def test_a_page_checks_names_types_and_ranges():
    def page(**given): return dict(__annotations__=dict(lr=float), In=['# Parameters\n' + ''.join(f'{n} = {v!r}\n' for n, v in given.items())]) | dict(lr=1.) | given
    assert check_parameters(page(lr='1e-4'), TrainOptions) == TrainOptions(lr=1e-4)
    for given, said in ((dict(epohcs=3), 'nearest is epochs'), (dict(lr=1e9), 'parameter lr: found .*; wanted 1e-12 to 100'), (dict(lr='fast'), 'wanted float')):
        with pytest.raises(InputError, match=said): check_parameters(page(**given), TrainOptions)


def test_every_option_of_the_page_of_training_arrives_in_the_card(run, volumes, tmp_path):
    "By papermill, on the page without its lessons; a manifest takes the place of tomo and mask."
    given = dict(
        init='', epochs=1, patches_per_epoch=4, lr=.002, name='all', device='cpu', line=3., ignore_beyond=900., real_fraction=.5, phantoms=1,
        ignore='none', label='1', empty='unlabelled', trust_mask=True, contrast='dark', voxel_size=11., k=3, base=8, norm='group', dims=3, dropout=.1,
        patch=32, p_membrane=.7, augment='full', batch_size=1, schedule='cosine', ema=.8, patience=3, weight_decay=.02, bce_weight=.6,
        output=tmp_path, seed=7, precision='bf16', workers=1, resume=False, overwrite=True)
    assert TrainOptions.model_fields.keys() == given.keys() | {'tomo', 'mask', 'manifest'}
    files = dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc')
    done = papermill(run, instrument('03_train', tmp_path), tmp_path/'out.ipynb', **given | files)
    assert done.returncode == 0, done.stderr[-3000:]
    kept = options_of(json.loads((tmp_path/'all'/'card.json').read_text())['parameters'])
    wanted = given | {name: str(value) for name, value in files.items()} | dict(output=str(tmp_path))
    assert {name: getattr(kept, name) for name in wanted} == wanted
