"""`python benchmarks/fuzz.py [CASES] [KILLS] [--seed N] [--door NAME]`: bad input at every door, and commands that are killed.

A case is a small whole example that is damaged by a seed, and opened as a user would open it (`doors.py`). It may work, or be refused by one sentence
(`InputError`) that names a file or a parameter. All else is wrong: another exception, a hang, a process that dies, many warnings, a result that is
not whole, a file of the user that was changed. A kill is a command that ends by SIGKILL, and is given again (`kills.py`).

A finding is printed as `DOOR SEED: what`. `fuzz.py 1 0 --door DOOR --seed SEED` does that case again and shows its traceback, `fuzz.py 0 1 ...` a kill.
The exit status is 1 where anything was wrong."""
import os
os.environ |= dict(OMP_NUM_THREADS='1', CUDA_VISIBLE_DEVICES='', MPLBACKEND='agg')
import argparse, io, re, resource, sys, tempfile, threading, time, traceback, warnings, zlib
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from queue import Empty, Queue

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT/'tests')]
import doors
import kills
import membrane_nb.infer
import numpy as np
from membrane_nb import summary
from membrane_nb.checks import InputError
from conftest import content

LIMIT = 120    # seconds that a case may take
MEMORY = 2**33 # bytes that a case may take
PROCESSES = 2  # at a time
CONTEXT = get_context('forkserver') # processes begin with all modules loaded

# ---- one case

def try_case(name, seed):
    "Prepare and open; gives opened, refused or wrong, and what was said."
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        for part in ('user', 'work'): (at/part).mkdir()
        os.environ |= dict(XDG_CACHE_HOME=f'{at}/work/cache', MEMBRANE_OUTPUT=f'{at}/work')
        with np.errstate(all='ignore'), quiet(): work = doors.DOORS[name](at, rng)
        before = content(at)
        os.chdir(at/'work')
        verdict, said = outcome(work)
        os.chdir('/')
        after = content(at)
    if verdict == 'refused':
        why = why_unclear(said, {Path(path).name for path in before})
        if why: verdict, said = 'wrong', f'{why}: {said[:200]!r}'
    worked = 'nothing was learned' in said # after a training, whose checkpoint may go on
    lost = [path for path in before if after.get(path) != before[path] and (verdict == 'refused' and not worked or is_users(path))]
    left = [path for path in after if path not in before and is_users(path)]
    if lost: return 'wrong', f'changed or gone: {", ".join(lost)[:200]} ({said[:200]})'
    if left: return 'wrong', f'left among the files of the user: {", ".join(left)[:200]} ({said[:200]})'
    return verdict, said

def is_users(path):
    "Whether a file of a case is the user's; the others are ours, and may be replaced where a case works."
    return path.startswith('user/') or 'notes.txt' in path

def outcome(work):
    "What comes of a case: opened, refused or wrong; and what was said."
    with quiet() as heard:
        check = None
        try:
            check = work()
            if check: check()
        except (InputError, SystemExit) as e: return ('wrong', f'the result cannot be read: {e}') if check else ('refused', str(e))
        except BaseException as e:
            if 'FUZZ_SHOW' in os.environ: traceback.print_exc(file=sys.__stderr__)
            frames = [frame for frame in traceback.extract_tb(e.__traceback__) if 'membrane_nb/' in frame.filename]
            where = f' in {Path(frames[-1].filename).stem}.{frames[-1].name}' if frames else ''
            return 'wrong', f'{type(e).__name__}{where}: {" ".join(str(e).split())[:200]}'
    if len(heard) > 9: return 'wrong', f'{len(heard)} warnings, the last: {heard[-1].message}'
    return 'opened', ''

class quiet(warnings.catch_warnings):
    "A block that says nothing; gives the warnings that a user would have seen."
    def __init__(self): super().__init__(record=True)
    def __enter__(self):
        self.streams = redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO())
        for stream in self.streams: stream.__enter__()
        heard = super().__enter__()
        warnings.simplefilter('ignore')
        for kind in (UserWarning, RuntimeWarning): warnings.simplefilter('always', kind)
        return heard
    def __exit__(self, *error):
        super().__exit__(*error)
        for stream in self.streams[::-1]: stream.__exit__(*error)

def why_unclear(message, files):
    "What is wrong with the sentence of a refusal; '' where it is one line that names a file or a parameter."
    if not message or '\n' in message: return 'is not one line'
    if len(message) > 10_000: return f'has {len(message)} letters'
    names = {name for page in ('03_train', '04_infer', '04_many') for name in doors.parameters(page)}
    files = files | {path.name for path in doors.EXAMPLES.iterdir()}
    named = names & set(re.findall(r'\w+', message)) or any(file in message for file in files)
    if named or message.startswith('/'): return '' # a path that a damaged file names
    return 'names neither file nor parameter'

# ---- many cases, in processes

def serve(pipe):
    "Runs in a process of its own: do the cases that come."
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    membrane_nb.infer.library_commit = summary.library_commit = str # to ask git takes longer than a case
    while task := pipe.recv(): pipe.send(try_case(*task))

class Worker:
    "A process that does one case after the other; where it dies or hangs, another takes its place."
    process = None

    def __call__(self, name, seed):
        if self.process is None: self.start()
        self.pipe.send((name, seed))
        said = f'did not end within {LIMIT} s'
        try:
            if self.pipe.poll(LIMIT): return self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            said = f'the process died ({self.process.exitcode})'
        self.process.kill()
        self.process = None
        return 'wrong', said

    def start(self):
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=serve, args=[theirs], daemon=True)
        self.process.start()
        theirs.close()

    def end(self):
        if self.process: self.pipe.send(None)

def do_all(tasks, make_worker):
    "Do tasks (name, seed), some at a time; prints findings as they come, and gives counts of verdicts for each name."
    counts = {name: Counter() for name, _ in tasks}
    waiting = Queue()
    for task in tasks: waiting.put(task)
    def work(worker):
        while True:
            try: name, seed = waiting.get_nowait()
            except Empty: return worker.end()
            verdict, said = worker(name, seed)
            counts[name][verdict] += 1
            if verdict == 'wrong': print(f'{name} {seed}: {said}', flush=True)
    threads = [threading.Thread(target=work, args=[make_worker()]) for _ in range(PROCESSES)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return counts

def told(counts):
    "A line for each name; gives whether anything was wrong."
    for name, count in counts.items():
        words = [f'{n} {verdict}' for verdict, n in sorted(count.items())]
        print(f'{name:16} {count.total():5}: {", ".join(words)}')
    return any(count['wrong'] for count in counts.values())

def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('cases', type=int, nargs='?', default=10_000)
    options.add_argument('kills', type=int, nargs='?', default=200)
    options.add_argument('--seed', type=int, default=0, help='of the first case of each door')
    options.add_argument('--door', default='', help='one door, or one command to kill')
    given = options.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        doors.EXAMPLES = Path(folder)
        os.environ['FUZZ_EXAMPLES'] = folder
        if given.cases == 1: os.environ['FUZZ_SHOW'] = 'yes'
        with quiet(): doors.make_examples(doors.EXAMPLES)
        before = content(doors.EXAMPLES)
        CONTEXT.set_forkserver_preload(['fuzz', 'torch._dynamo', 'membrane_nb.view'])
        names = [name for name in doors.DOORS if given.door in ('', name)]
        cases = [(names[i % len(names)], given.seed + i // len(names)) for i in range(given.cases if names else 0)]
        wrong = told(do_all(cases, Worker))
        names = [name for name in kills.COMMANDS if given.door in ('', name)]
        tasks = kills.tasks(names, given.kills, given.seed) if given.kills and names else []
        with tempfile.TemporaryDirectory() as place:
            scenes = {name: kills.Scene(name, doors.EXAMPLES, Path(place)) for name in dict(tasks)}
            wrong |= told(do_all(tasks, lambda: kills.Killer(scenes)))
        if content(doors.EXAMPLES) != before: wrong = not print('an example was changed')
    print(f'{len(cases)} cases, {len(tasks)} kills, {time.monotonic() - start:.0f} s')
    sys.exit(int(wrong))

if __name__ == '__main__': main()
