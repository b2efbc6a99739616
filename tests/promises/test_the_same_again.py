"A process that is killed leaves the last good run, and its work goes on where it was."
import io, os, shutil, signal, subprocess, sys, time

import pytest
import torch
from conftest import ROOT, opened, python, trained
from membrane_nb.checks import InputError
from membrane_nb.infer import open_job
from membrane_nb.results import Results
from safetensors.torch import load_file

TRAIN = """
import ast, sys
from membrane_nb.options import TrainOptions
from membrane_nb.training import open_run
run = open_run(TrainOptions(**ast.literal_eval(sys.argv[1])))
for row in run.train(): print(row['epoch'], flush=True)
run.score()
run.finish()
"""
SMALL = dict(patches_per_epoch=4, patch=32, k=3, base=4, dropout=.1, schedule='constant')

def options(volumes, output, **p):
    return dict(tomo=str(volumes/'tomo.mrc'), mask=str(volumes/'mask.mrc'), output=str(output), name='run') | SMALL | p


def train(volumes, output, **p):
    p = options(volumes, output, **p)
    return subprocess.Popen([*python(), '-c', TRAIN, repr(p)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_killed_and_resumed(volumes, tmp_path):
    trained(**options(volumes, tmp_path, epochs=1))
    first = load_file(tmp_path/'run'/'weights.safetensors')
    with pytest.raises(InputError, match='is there already; wanted another name, or overwrite=True'): opened(options(volumes, tmp_path, epochs=1))
    killed = train(volumes, tmp_path, epochs=400, overwrite=True)
    while killed.stdout.readline().strip() != '3': pass
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert all(torch.equal(v, first[n]) for n, v in load_file(tmp_path/'run'/'weights.safetensors').items())
    resumed = train(volumes, tmp_path, epochs=5, resume=True)
    said, wrong = resumed.communicate()
    assert resumed.returncode == 0 and int(said.split()[0]) in (4, 5), wrong
    straight = train(volumes, tmp_path/'straight', epochs=5)
    assert straight.wait() == 0
    a, b = (torch.load(f/'run'/'last.ckpt', weights_only=True)['net'] for f in (tmp_path, tmp_path/'straight'))
    assert all(torch.equal(v, b[n]) for n, v in a.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ['run', 'straight']


def test_a_killed_run_is_not_thrown_away(volumes, tmp_path):
    "L8: without resume, the checkpoint of a killed run is refused, not removed."
    killed = train(volumes, tmp_path, epochs=400)
    while killed.stdout.readline().strip() != '1': pass
    killed.kill()
    killed.communicate()
    with pytest.raises(InputError, match='is a run that was stopped; wanted resume=True'): Results(tmp_path/'run')
    assert (tmp_path/'.run.part'/'last.ckpt').exists()
    assert Results(tmp_path/'run', given=False).folder.name == 'run_2'


class Killed(BaseException): "As SIGKILL: nobody catches it."


def die_at(monkeypatch, stop):
    "Raise `Killed` before the step on the disk of this number."
    done = []
    def counted(name, step):
        def count(*args, **more):
            if name == 'open' and args[1:2] == ('r',): return step(*args, **more)
            if len(done) == stop: raise Killed
            done.append(name)
            return step(*args, **more)
        return count
    for name in ('mkdir', 'rename', 'replace', 'unlink', 'rmdir'): monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    monkeypatch.setattr(io, 'open', counted('open', io.open))


@pytest.mark.parametrize('end', [Results.finish, Results.abandon])
@pytest.mark.parametrize('stop', range(16))
def test_killed_between_any_two_steps_of_an_end(tmp_path, monkeypatch, stop, end):
    "What is half written, half named or half removed is no obstacle to the next run; under the name lies the old or the new."
    def begun(text):
        results = Results(tmp_path/'out', overwrite=True)
        results.begin()
        (results.part/'deep').mkdir()
        for name in ('a', 'deep/b', 'z'): (results.part/name).write_text(text)
        return results
    def found(): return {path.read_text() for path in (tmp_path/'out').rglob('[abz]')}
    begun('old').finish()
    second = begun('new')
    with monkeypatch.context() as m:
        die_at(m, stop)
        try: end(second)
        except Killed: pass
    second.lock.release(force=True)
    assert found() in ({'old'}, {'new'}, set())
    begun('next').finish()
    assert found() == {'next'} and [path.name for path in tmp_path.iterdir()] == ['out']


SEGMENT = """
import sys, time
from membrane_nb.infer import open_job
tomo, weights, output = sys.argv[1:4]
job = open_job(tomo, weights=weights, output=output, device='cpu', overwrite=True)
job.results.begin()
for z in job.steps():
    print(z, flush=True)
    if z == 5: time.sleep(600) # until it is killed
"""


def test_killed_segmentation_leaves_the_last_result(volumes, segmented, tmp_path):
    "S2, D10: the old results are whole, and what the dead run left is emptied by the next one."
    place = dict(tomo=volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'out')
    shutil.copytree(segmented, tmp_path/'out')
    before = {p.name: p.read_bytes() for p in (tmp_path/'out').iterdir()}
    killed = subprocess.Popen([*python(), '-c', SEGMENT, *map(str, place.values())], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while killed.stdout.readline().strip() != '5': pass
    with pytest.raises(InputError, match='another run writes there now'): open_job(**place, device='cpu', overwrite=True).results.begin()
    killed.kill()
    killed.communicate()
    assert {p.name: p.read_bytes() for p in (tmp_path/'out').iterdir()} == before
    open_job(**place, device='cpu', overwrite=True).run(pictures=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out']


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_the_command_line_cleanly(volumes, tmp_path, number):
    "D10: a cluster's SIGTERM and a closed terminal leave nothing behind, and one line is said."
    from membrane_nb.mrc import new_mrc
    from membrane_nb.volume import open_volume
    import numpy as np
    vol = open_volume(volumes/'tomo.mrc')
    with new_mrc(tmp_path/'long.mrc', (600, 96, 80), np.float32, 10.) as out:
        for z in range(600): out[z] = vol[z % 24]
    command = [*python(), f'{os.path.dirname(sys.executable)}/membrane_infer', '--tomo', tmp_path/'long.mrc', '--weights', volumes/'weights.pt', '--output', tmp_path/'out']
    heard = lambda: signal.signal(signal.SIGINT, signal.default_int_handler) # a shell's background job would ignore it
    done = subprocess.Popen([str(c) for c in command], stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    while not (tmp_path/'.out.part'/'.lock').exists():
        assert done.poll() is None
        time.sleep(.05)
    done.send_signal(number)
    said = done.communicate()[1]
    assert done.returncode == 1 and said.splitlines()[-1] == 'membrane_infer: stopped' and 'Traceback' not in said
    assert sorted(p.name for p in tmp_path.iterdir()) == ['long.mrc']
