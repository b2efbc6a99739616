"What lies on the user's disk stays there: results appear whole, under a name that was free or of ours."
import json, os, shutil, subprocess, sys

import numpy as np
import pytest
import torch
from conftest import ROOT, content, opened, trained
from membrane_nb.checks import InputError
from membrane_nb.infer import open_job
from membrane_nb.results import RECORD, Results
from membrane_nb.unet import UNet
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume

TINY = dict(epochs=1, patches_per_epoch=2, patch=32, base=4, batch_size=1)


def test_a_run_named_as_the_folder_of_the_data(volumes, tmp_path):
    "L1, L2: tomogram, mask and notes in data/cell, its neighbours cell.part and cell.old, and a run that is to be called cell."
    for folder in ('cell', 'cell.part', 'cell.old'):
        (tmp_path/'data'/folder).mkdir(parents=True)
        (tmp_path/'data'/folder/'notes.txt').write_text('slice 7')
    for name in ('tomo.mrc', 'mask.mrc'): (tmp_path/'data'/'cell'/name).write_bytes((volumes/name).read_bytes())
    before = content(tmp_path/'data')
    p = dict(tomo=tmp_path/'data'/'cell'/'tomo.mrc', mask=tmp_path/'data'/'cell'/'mask.mrc', output=tmp_path/'data', name='cell') | TINY
    for more in ({}, dict(overwrite=True)):
        with pytest.raises(InputError, match='data/cell: holds .*no list of files of ours'): opened(p | more)
        assert content(tmp_path/'data') == before
    trained(**p | dict(name='run'))
    assert {n: c for n, c in content(tmp_path/'data').items() if not n.startswith('run')} == before


def test_a_phantom_over_somebodys_tomogram(tmp_path):
    "L4: a job without a tomogram, as page 04_infer opens it, into a folder of the user's."
    (tmp_path/'mydata').mkdir()
    (tmp_path/'mydata'/'tomo.mrc').write_text('years of work')
    with pytest.raises(InputError, match='mydata: holds tomo.mrc, and no list of files of ours'): open_job(output=tmp_path/'mydata')
    assert content(tmp_path/'mydata') == {'tomo.mrc': b'years of work'}


@pytest.mark.parametrize('name', ['prob.mrc', 'mask.mrc', '.prob.mrc.part', 'overlays.png'])
def test_an_input_inside_the_folder_of_the_results(volumes, tmp_path, name):
    "L5, L7: also with overwrite, also where the folder is ours."
    (tmp_path/'x').mkdir()
    (tmp_path/'x'/name).write_bytes((volumes/'tomo.mrc').read_bytes())
    with pytest.raises(InputError, match='no list of files of ours'): open_job(tmp_path/'x'/name, weights=volumes/'weights.pt', output=tmp_path/'x', device='cpu')
    (tmp_path/'x'/RECORD).write_text(json.dumps(dict(files=[name])))
    with pytest.raises(InputError, match='which is read'): open_job(tmp_path/'x'/name, weights=volumes/'weights.pt', output=tmp_path/'x', device='cpu', overwrite=True)
    os.symlink(tmp_path/'x', tmp_path/'link')
    with pytest.raises(InputError, match='which is read'): open_job(tmp_path/'x'/name, weights=volumes/'weights.pt', output=tmp_path/'link', device='cpu', overwrite=True)
    assert (tmp_path/'x'/name).read_bytes() == (volumes/'tomo.mrc').read_bytes()


def test_a_manifest_that_names_files_inside(volumes, segmented, tmp_path):
    "L5: a folder of ours is not replaced by a run whose manifest reads from it."
    shutil.copytree(segmented, tmp_path/'out')
    vol = open_volume(volumes/'tomo.mrc')[:]
    for n in '12': write_mrc(tmp_path/f'{n}.mrc', vol + int(n), 10.)
    rows = [f'out/prob.mrc,{volumes}/mask.mrc,train', f'1.mrc,{volumes}/mask.mrc,val', f'2.mrc,{volumes}/mask.mrc,test']
    (tmp_path/'m.csv').write_text('\n'.join(['tomogram,mask,split', *rows]))
    with pytest.raises(InputError, match='holds prob.mrc, which is read'):
        opened(dict(manifest=tmp_path/'m.csv', output=tmp_path, name='out', overwrite=True))


def test_default_names_do_not_collide(volumes, tmp_path):
    "L6: two tomograms of one name, and names with a dot in them."
    for name in ('r1/rec.mrc', 'r2/rec.mrc', 'TS_10.00Apx.mrc', 'TS_10.50Apx.mrc'):
        (tmp_path/name).parent.mkdir(exist_ok=True)
        (tmp_path/name).write_bytes((volumes/'tomo.mrc').read_bytes())
    for name in ('r1/rec.mrc', 'r2/rec.mrc', 'TS_10.00Apx.mrc', 'TS_10.50Apx.mrc'):
        job = open_job(tmp_path/name, weights=volumes/'weights.pt', root=tmp_path, device='cpu', engine='torch')
        job.run(pictures=False)
    assert {p.parent.name for p in tmp_path.glob('*/mask.mrc')} == {'rec_membranes', 'rec_membranes_2', 'TS_10.00Apx_membranes', 'TS_10.50Apx_membranes'}


def test_links_are_not_written_through(volumes, tmp_path):
    "L7: links in the place of a result; the folder is refused, and what they point at stays."
    (tmp_path/'o').mkdir()
    (tmp_path/'precious.txt').write_text('precious')
    for name in ('.prob.mrc.part', 'overlays.png'): os.symlink(tmp_path/'precious.txt', tmp_path/'o'/name)
    with pytest.raises(InputError, match='no list of files of ours'): open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'o', device='cpu', overwrite=True)
    assert (tmp_path/'precious.txt').read_text() == 'precious'


def test_runs_of_similar_names(tmp_path):
    "L3: foo.part is a name like any other."
    for name in ('foo.part', 'foo'):
        r = Results(tmp_path/name)
        r.begin()
        (r.part/'weights').write_text(name)
        r.finish()
    assert {p.parent.name: p.read_text() for p in tmp_path.glob('*/weights')} == {'foo.part': 'foo.part', 'foo': 'foo'}


def test_a_finished_result_is_not_replaced_in_silence(volumes, tmp_path):
    "L8, S15: refused; with overwrite nothing of the older one stays, its surface neither."
    torch.manual_seed(0)
    net = UNet(7, 4)
    torch.nn.init.constant_(net.out.bias, -20)
    torch.save(net.state_dict(), tmp_path/'nothing.pt')
    open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu', threshold=.01, min_size=0).run()
    before = content(tmp_path/'out')
    assert 'surface.png' in before
    with pytest.raises(InputError, match='is there already'): open_job(volumes/'tomo.mrc', weights=tmp_path/'nothing.pt', output=tmp_path/'out', device='cpu')
    assert content(tmp_path/'out') == before
    job = open_job(volumes/'tomo.mrc', weights=tmp_path/'nothing.pt', output=tmp_path/'out', device='cpu', overwrite=True)
    job.run()
    assert job.share == 0 and not open_volume(tmp_path/'out'/'mask.mrc')[:].any() and 'surface.png' not in content(tmp_path/'out')


def test_a_volume_cannot_be_written(volumes):
    "L9"
    vol = open_volume(volumes/'tomo.mrc')
    before = vol[0]
    with pytest.raises(TypeError): vol[0] = 0
    vol[0][:] = 0
    assert (vol[0] == before).all() and before.any()


def test_two_processes_in_one_folder(run, volumes, tmp_path):
    "S1: the second is refused while the first one works; its result is of one tomogram."
    first = open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu')
    first.results.begin()
    code = f"from membrane_nb.infer import open_job; open_job({str(volumes/'tomo.mrc')!r}, weights={str(volumes/'weights.pt')!r}, output={str(tmp_path/'out')!r}, device='cpu').run()"
    second = run(sys.executable, '-c', code)
    assert second.returncode != 0 and 'another run writes there now' in second.stderr
    first.run(pictures=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['out']


def test_a_tomogram_that_changes_while_it_is_read(volumes, tmp_path):
    "S7: replaced in the middle, the work ends in an error and leaves no result."
    (tmp_path/'t.mrc').write_bytes((volumes/'tomo.mrc').read_bytes())
    job = open_job(tmp_path/'t.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu')
    write_mrc(tmp_path/'t.mrc', 2 * open_volume(tmp_path/'t.mrc')[:], 10.)
    with pytest.raises(InputError, match='t.mrc: was changed while it was read'): job.run(pictures=False)
    job.results.abandon()
    assert sorted(p.name for p in tmp_path.iterdir()) == ['t.mrc']


def test_a_picture_that_fails_is_a_remark(volumes, tmp_path, monkeypatch):
    "D8: the masks survive."
    import membrane_nb.view
    monkeypatch.setattr(membrane_nb.view, 'show_ortho', lambda *a, **k: 1 / 0)
    job = open_job(volumes/'tomo.mrc', weights=volumes/'weights.pt', output=tmp_path/'out', device='cpu')
    job.run()
    assert any(n.startswith('views.png: could not be drawn') for n in job.notes)
    assert {'mask.mrc', 'overlays.png'} <= set(content(tmp_path/'out')) and 'views.png' not in content(tmp_path/'out')


def test_odd_surroundings(run, volumes, tmp_path):
    "D8: a closed stdout, an odd backend, a name that is not UTF-8, one column."
    name = os.fsdecode(b'cell\xff.mrc')
    (tmp_path/name).write_bytes((volumes/'tomo.mrc').read_bytes())
    done = run('membrane_infer', '--tomo', os.fsdecode(os.fsencode(tmp_path/name)), '--weights', volumes/'weights.pt', '--output', tmp_path/'one', MPLBACKEND='nonsense')
    assert done.returncode == 0 and 'Traceback' not in done.stderr, done.stderr
    assert (tmp_path/'one'/'mask.mrc').exists()
    write_mrc(tmp_path/'column.mrc', np.random.default_rng(0).normal(size=(9, 40, 1)).astype(np.float32), 10.)
    code = f'{os.path.dirname(sys.executable)}/membrane_infer --tomo {tmp_path}/column.mrc --weights {volumes}/weights.pt --output {tmp_path}/two >&-'
    done = subprocess.run(['bash', '-c', code], capture_output=True, text=True)
    assert 'Traceback' not in done.stderr and (tmp_path/'two'/'mask.mrc').exists()


def test_files_are_readable_by_the_group(volumes, tmp_path):
    "Results have the permissions that the user's umask gives, weights too."
    p = dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='run', k=3, **TINY)
    folder = trained(**p)
    (tmp_path/'plain').touch()
    assert {p.stat().st_mode for p in folder.iterdir()} == {(tmp_path/'plain').stat().st_mode}


@pytest.mark.skipif(not hasattr(os, 'posix_fallocate'), reason='this system cannot take room on the disk before it is used')
def test_a_disk_that_fills(run, volumes, tmp_path):
    "D1: no room for a file (here by a limit of the process) is one sentence, and nothing stays."
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from membrane_nb.cli import membrane_infer
import membrane_nb.view
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
membrane_infer({['--tomo', str(volumes/'tomo.mrc'), '--weights', str(volumes/'weights.pt'), '--output', str(tmp_path/'out'), '--device', 'cpu']})
"""
    done = run(sys.executable, '-c', code)
    assert done.returncode == 1 and 'no room for 738,304 bytes' in done.stderr and 'Traceback' not in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_an_archive_that_holds_more_than_its_header_says(volumes, tmp_path):
    "D4: it is unpacked as far as the header says, and that is said."
    import gzip
    (tmp_path/'t.mrc.gz').write_bytes(gzip.compress((volumes/'tomo.mrc').read_bytes() + bytes(10**8)))
    vol = open_volume(tmp_path/'t.mrc.gz', folder=tmp_path)
    assert (vol[:] == open_volume(volumes/'tomo.mrc')[:]).all() and 'is longer than its header says' in vol.notes[0]
    assert [p.name for p in tmp_path.iterdir()] == ['t.mrc.gz']


def test_a_finished_run_goes_on(volumes, tmp_path):
    "With a constant rate, more epochs of a finished run replace it by one rename; last.ckpt is kept for that."
    for epochs, resume in ((1, False), (2, True)):
        r = opened(dict(tomo=volumes/'tomo.mrc', mask=volumes/'mask.mrc', output=tmp_path, name='run', k=3, schedule='constant', ignore_beyond=8., resume=resume, **(TINY | dict(epochs=epochs))))
        fit = r.start()
        assert len(fit.history) == epochs - 1
        for _ in r.train(): pass
        r.score()
        r.finish()
    assert len((tmp_path/'run'/'history.csv').read_text().splitlines()) == 3 and sorted(p.name for p in tmp_path.iterdir()) == ['run']


def test_make_clean_leaves_the_output():
    "R1"
    said = subprocess.run(['make', '-n', 'clean'], cwd=ROOT, capture_output=True, text=True).stdout
    assert 'rm -rf' in said and 'output' not in said


def test_the_commit_is_the_library_s_own(tmp_path, monkeypatch):
    "R2: not that of the repository in which the command was called."
    from membrane_nb.results import library_commit
    mine = library_commit()
    subprocess.run('git init -q . && git -c user.name=a -c user.email=b commit -q --allow-empty -m x', shell=True, cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    other = subprocess.run(['git', 'rev-parse', 'HEAD'], capture_output=True, text=True).stdout.strip()
    assert library_commit() == mine != other
