"""Commands that are killed, for `benchmarks/fuzz.py`.

A command works in a folder where the user has notes and, perhaps, an older result. It ends by SIGKILL, at a random moment or at a step on the disk,
as between two renames. What lies under a name then must be whole, old or new; and the command that is given again (with `resume`, where there is a
checkpoint) must leave what it leaves when nobody kills it, and nothing else."""
import io, os, shutil, signal, tempfile, time
from contextlib import redirect_stderr, redirect_stdout
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from membrane_nb.training import train
from membrane_nb.cli import membrane
from membrane_nb.results import Results
from membrane_nb.mrc import write_mrc
from membrane_nb.pyramid import write_zarr

CONTEXT = get_context('forkserver')
PATIENCE = 300 # seconds that a command may take

# ---- commands: they have the examples, a folder to work in, and whether they make what is there before the kill

def train_one(data, folder, first, resume=False, **options):
    "`membrane train`"
    p = dict(epochs=3, patches_per_epoch=2, patch=32, k=3, base=1, batch_size=1, device='cpu', schedule='constant')
    p |= dict(tomo=data/'tomo0.mrc', mask=data/'mask.mrc', output=folder, name='run')
    p |= dict(seed=int(first), overwrite=True, resume=resume) | options
    train(**p)

def train_longer(data, folder, first, resume=False):
    "More epochs for a run that is finished."
    options = dict(epochs=1) if first else {}
    train_one(data, folder, False, not first, **options)

def segment(data, folder, first, resume=False, **options):
    "`membrane segment`"
    infer(tomo=data/'tomo0.mrc', output=folder/'out', threshold=.3 if first else .5, overwrite=True, weights=data/'flat.pt', **options)

def segment_zarr(data, folder, first, resume=False):
    "`membrane segment --format zarr`"
    segment(data, folder, first, format='zarr')

def segment_folder(data, folder, first, resume=False):
    "`membrane segment` for a folder of tomograms; it goes on where it was."
    infer(tomo=data/'data', output=folder/'many', workers=1, weights=data/'flat.pt')

def infer(**options):
    "The command with its words."
    words = ['--overwrite'] * options.pop('overwrite', False) + [f'--{name}={value}' for name, value in options.items()]
    membrane(['segment', '--device=cpu', '--engine=torch', '--min_size=0', *words])

def make_store(data, folder, first, resume=False):
    "`write_zarr`, by a program of the user."
    write_zarr(folder/'new.zarr', np.full((20, 300, 300), 2 - first, np.int16), 10.)

def make_mrc(data, folder, first, resume=False):
    "`write_mrc`, by a program of the user."
    write_mrc(folder/'new.mrc', np.full((20, 300, 300), 2 - first, np.int16), 10.)

COMMANDS = dict( # whether something older is there, and how many of 40 kills
    train=(train_one, False, 8), train_over=(train_one, True, 7), train_longer=(train_longer, True, 6),
    infer=(segment, False, 3), infer_over=(segment, True, 4), zarr_over=(segment_zarr, True, 4),
    infer_folder=(segment_folder, False, 2), store_over=(make_store, True, 3), mrc_over=(make_mrc, True, 3))

# ---- a command in a process of its own

STEPS = ['mkdir', 'rename', 'replace', 'unlink', 'rmdir', 'pwrite', 'fsync'] # of the module os

def count_steps(stop, log):
    "Write down each step on the disk; this process ends before the step of number `stop`."
    done = []
    def counted(name, step):
        def count(*args, **more):
            if name == 'open' and 'r' in str(more.get('mode', [*args, 'r', 'r'][1])): return step(*args, **more)
            print(name, file=log, flush=True)
            if len(done) == stop: os.kill(os.getpid(), signal.SIGKILL)
            done.append(name)
            return step(*args, **more)
        return count
    for name in STEPS: setattr(os, name, counted(name, getattr(os, name)))
    io.open = counted('open', io.open) # of `Path.write_text` and the like

def no_picture(results, name, draw):
    "An empty file: pictures take longer than all else."
    (results.part/name).touch()
    return []

def perform(work, args, stop, place):
    "Runs in a process of its own, the first of its group."
    os.setsid()
    os.chdir(Path(__file__).parent.parent)
    Results.picture = no_picture
    with open(place/'said', 'w') as said, open(place/'steps', 'w') as log, redirect_stdout(said), redirect_stderr(said):
        count_steps(stop, log)
        try: work(*args)
        except BaseException as e:
            print(f'{type(e).__name__}: {e}', flush=True)
            raise

def give(work, *args, stop=None, after=PATIENCE, crowd=False):
    "Give a command, and kill it before a step or after some seconds; gives exit code, what it said, its steps, seconds."
    with tempfile.TemporaryDirectory() as place:
        place = Path(place)
        for name in ('said', 'steps'): (place/name).touch()
        start = time.monotonic()
        process = CONTEXT.Process(target=perform, args=(work, args, stop, place))
        process.start()
        process.join(after)
        if crowd: kill_group(process.pid)
        process.kill()
        process.join()
        seconds = time.monotonic() - start
        while alive(process.pid) and time.monotonic() < start + PATIENCE: time.sleep(.1) # workers that it started
        kill_group(process.pid)
        return process.exitcode, (place/'said').read_text(), (place/'steps').read_text().split(), seconds

def kill_group(group):
    "Kill all processes of a group, where there is one."
    try: os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError): pass

def alive(group):
    "Whether a process of a group still runs."
    for process in psutil.process_iter(['status']):
        try:
            if os.getpgid(process.pid) == group and process.info['status'] != psutil.STATUS_ZOMBIE: return True
        except ProcessLookupError: continue
    return False

# ---- what lies in a folder

VARYING = 'segmentation.json', 'card.json', 'history.csv', 'last.ckpt', '.membrane_nb.json', 'report.csv' # hold times, or names of folders

def state(folder):
    "Every file with its hash; of those that hold times, that they are there."
    found = {}
    for path in sorted(folder.rglob('*')):
        if path.is_dir() or path.name == '.many.lock': continue
        voxels = path.read_bytes()[1024 if path.suffix == '.mrc' else 0:] # a header holds the time
        found[str(path.relative_to(folder))] = '' if path.name in VARYING else sha256(voxels).hexdigest()
    return found

def under(name, found):
    "What lies under a name."
    return {path.removeprefix(f'{name}/'): file for path, file in found.items() if path == name or path.startswith(f'{name}/')}

def why_not_whole(found, before, after):
    "What is wrong after a kill; '' where each name holds what was there before, or what comes after."
    for name in {result_of(path) for path in (*before, *after)}:
        now, old, new = (under(name, each) for each in (found, before, after))
        aside = under(f'.{name}.old', found) # the next run puts it back
        if now in (old, new) or not now and aside == old: continue
        return f'{name} is neither old nor new: {sorted(now.items() ^ (new or old).items())[:3]}'
    return ''

def result_of(path):
    "The name of the result that a file belongs to."
    first, *rest = Path(path).parts
    return f'{first}/{rest[0]}' if first == 'many' else first

# ---- kills

class Scene:
    "A command, what lies there before, and what it leaves."
    def __init__(self, name, data, place):
        self.data = data
        self.folder = place/name
        self.work, older, _ = COMMANDS[name]
        self.folder.mkdir()
        (self.folder/'notes.txt').write_text('mine')
        if older: self.whole(self.folder, True)
        self.before = state(self.folder)
        copy = shutil.copytree(self.folder, place/f'{name} done')
        self.steps, self.seconds = self.whole(copy, False)
        self.after = state(copy)

    def whole(self, folder, first):
        "The command, not killed: its steps and seconds."
        code, said, steps, seconds = give(self.work, self.data, folder, first)
        if code: raise RuntimeError(f'{self.work.__name__}: {said[-1000:]}')
        return steps, seconds

    def kill(self, seed, folder):
        "Kill the command once and give it again: what was found, and what is wrong."
        rng = np.random.default_rng(seed)
        crowd = bool(rng.integers(2))
        moment = self.moment(rng)
        code, said, *_ = give(self.work, self.data, folder, False, crowd=crowd, **moment)
        if code not in (0, -signal.SIGKILL): return 'wrong', f'{moment}: ends with {code} ({said[-300:]})'
        found = state(folder)
        wrong = why_not_whole(found, self.before, self.after)
        if wrong: return 'wrong', f'{moment}: {wrong}'
        resume = any(path.endswith('.part/last.ckpt') for path in found)
        code, said, *_ = give(self.work, self.data, folder, False, resume)
        if code: return 'wrong', f'{moment}: the next run ends with {code} ({said[-300:]})'
        last = state(folder)
        if last != self.after: return 'wrong', f'{moment}: the next run leaves {sorted(last.items() ^ self.after.items())[:3]}'
        if resume: return 'resumed', ''
        return 'old' if found == self.before else 'new' if found == self.after else 'between', ''

    def moment(self, rng):
        "When to kill: before or after a rename, before any step, or after some seconds."
        renames = [i for i, step in enumerate(self.steps) if step in ('rename', 'replace')]
        way = rng.integers(3)
        if way == 0: return dict(stop=int(renames[rng.integers(len(renames))] + rng.integers(2)))
        if way == 1: return dict(stop=int(rng.integers(len(self.steps))))
        return dict(after=float(rng.uniform(0, self.seconds)))

class Killer:
    "Does one kill after the other, each in a copy of what was there."
    def __init__(self, scenes): self.scenes = scenes

    def __call__(self, name, seed):
        scene = self.scenes[name]
        with tempfile.TemporaryDirectory() as place: return scene.kill(seed, shutil.copytree(scene.folder, Path(place)/name))

    def end(self): "Nothing is left to do."

def tasks(names, kills, seed):
    "Which commands to kill: each its share."
    total = sum(COMMANDS[name][2] for name in names)
    numbers = {name: round(kills * COMMANDS[name][2] / total) or 1 for name in names}
    return [(name, seed + i) for name, n in numbers.items() for i in range(n)]
