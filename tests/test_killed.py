"A process that is killed leaves the last good run, and its work goes on where it was."
import json, signal, subprocess, sys, time

import torch
from safetensors.torch import load_file

from conftest import ROOT

RUN = """
import sys, torch
from pathlib import Path
from membrane_nb.sampler import Patches
from membrane_nb.train import Fit, close_run, open_run, phantom_parts, write_run
from membrane_nb.unet import UNet
runs, epochs, resume = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == 'resume'
parts = phantom_parts(0, n=1, shape=(8, 64, 64))
part = open_run(runs, 'run', resume, dict(base=8))
torch.manual_seed(1)
fit = Fit(UNet(3, 8, dropout=.1), Patches(parts['train'], 8, 3, 32), parts['val'], epochs, schedule='constant')
if resume: fit.load(part/'last.ckpt')
for row in fit.run(part/'last.ckpt', dict(base=8)): print(row['epoch'], flush=True)
write_run(part, fit, dict(epochs=epochs))
close_run(part)
"""
start = lambda *args: subprocess.Popen([sys.executable, '-c', RUN, *map(str, args)], stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_killed_and_resumed(tmp_path):
    assert start(tmp_path, 1, 'new').wait() == 0
    first = load_file(tmp_path/'run'/'weights.safetensors')
    killed = start(tmp_path, 40, 'new')
    while killed.stdout.readline().strip() != '4': pass
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert all(torch.equal(v, first[n]) for n, v in load_file(tmp_path/'run'/'weights.safetensors').items())
    assert json.loads((tmp_path/'run'/'card.json').read_text()) == dict(epochs=1)
    again = start(tmp_path, 9, 'resume')
    assert int(again.stdout.readline()) in (5, 6) and again.wait() == 0
    (tmp_path/'straight').mkdir()
    assert start(tmp_path/'straight', 9, 'new').wait() == 0
    resumed, straight = (torch.load(f/'run'/'last.ckpt', weights_only=True)['net'] for f in (tmp_path, tmp_path/'straight'))
    assert all(torch.equal(v, straight[n]) for n, v in resumed.items())
    assert [p.name for p in tmp_path.glob('run*')] == ['run']


SEGMENT = """
import sys, time
from membrane_nb.infer import open_job
for z in open_job(*sys.argv[1:4], device='cpu').run(): print(z, flush=True); time.sleep(.05)
"""


def test_killed_segmentation_leaves_the_last_result(volumes, tmp_path):
    args = [sys.executable, '-c', SEGMENT, str(volumes/'tomo.mrc'), str(volumes/'weights.pt'), str(tmp_path)]
    assert subprocess.run(args, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    before = {n: (tmp_path/n).read_bytes() for n in ('prob.mrc', 'mask.mrc')}
    killed = subprocess.Popen(args, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while killed.stdout.readline().strip() != '5': pass
    killed.kill(); killed.wait()
    assert {n: (tmp_path/n).read_bytes() for n in before} == before
    assert subprocess.run(args, cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ['mask.mrc', 'prob.mrc']
