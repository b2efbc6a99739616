"The memory of a job is that of a few blocks of slices, whatever the number of slices."
import subprocess, sys

import numpy as np
import torch

from conftest import ROOT
from membrane_nb.mrc import new_mrc
from membrane_nb.unet import UNet

PEAK = "from bench import peak; print(1024 * peak())"
SEGMENT = "import sys; from membrane_nb.infer import open_job\ntomo, weights, output = sys.argv[1:4]\nopen_job(tomo, weights=weights, output=output, device='cpu', overwrite=True).run(pictures=False)\n" + PEAK
START = """
import sys
from membrane_nb.data import Tomo
from membrane_nb.sampler import Patches, batches
t = Tomo.open(*sys.argv[1:3])
next(iter(batches(Patches([(t, t.membrane_range)]), 0)))
""" + PEAK


def volume(path, shape, dtype):
    rng = np.random.default_rng(0)
    one = (rng.normal(size=shape[1:]) > 1 if dtype == np.int8 else rng.normal(size=shape[1:])).astype(dtype)
    with new_mrc(path, shape, dtype) as out:
        for z in range(shape[0]): out[z] = one
    return path


peak = lambda code, *args: float(subprocess.run([sys.executable, "-c", code, *map(str, args)], cwd=ROOT/"benchmarks", capture_output=True, text=True, check=True).stdout.split()[-1])


def test_segmenting_more_slices_takes_no_more_memory(tmp_path):
    "160 slices more would be 360 MB of input, probabilities and mask, were they held. Both volumes are longer than the two blocks of 30 slices that are in memory."
    torch.save(UNet(7, 4, 1).state_dict(), tmp_path/'weights.pt') # as small as a network can be that reads as many slices
    megabytes = [peak(SEGMENT, volume(tmp_path/f'{n}.mrc', (n, 512, 512), np.float32), tmp_path/'weights.pt', tmp_path/'out') for n in (80, 240)]
    assert megabytes[1] < megabytes[0] + 60, megabytes


def test_first_batch_of_a_large_tomogram(tmp_path):
    "A float32 tomogram of 1 GB with its mask: the first batch is there before 0.5 GB are in memory, torch and all."
    tomo = volume(tmp_path/'tomo.mrc', (256, 1024, 1024), np.float32)
    mask = volume(tmp_path/'mask.mrc', (256, 1024, 1024), np.int8)
    assert peak(START, tomo, mask) < 500
