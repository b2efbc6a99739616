"""A Python that has loaded torch already, for the commands of the tests and for the kernels of pages.

Each command is a process of its own, and would load torch for three seconds; more than a hundred are started. So one process, which runs none
of our code, loads what comes from others, and forks where a command is wanted. The fork gets the words, folder, environment and open files of
the command, and does what Python would; then it ends. On Linux only: other systems do not fork safely after all that is loaded.

    python forked.py SOCKET                   serves; `start` starts it
    python -S forked.py SOCKET WORD ...       stands for `python WORD ...`, as the kernel of a page does"""
import json, os, signal, socket, sys
if __name__ != '__main__' or len(sys.argv) == 2: # what stands for Python starts fast
    import atexit, gc, runpy, select, shutil, subprocess, tempfile, threading, time
    from contextlib import suppress
    from importlib import import_module
    from pathlib import Path

LOADED = ('torch', 'torch._dynamo', 'accelerate', 'scipy.ndimage', 'scipy.stats', 'skimage.measure', 'skimage.morphology', 'pydantic', 'mrcfile', 'safetensors.torch', 'matplotlib.figure',
          'fastcore.test', 'IPython', 'ipykernel.kernelapp', 'plotly.graph_objects', 'ipywidgets', 'openvino', 'trimesh', 'tqdm', 'filelock', 'papermill.cli')


def ask(path, words, folder, env, files):
    "The connection to a new process that runs Python with these words."
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    socket.send_fds(connection, [b'.'], files)
    connection.sendall(json.dumps([words, folder, env]).encode() + b'\n')
    return connection


def serve(path):
    "Fork for each that asks, and say how its process ended; a process ends with whoever asked. Returns in the forks alone: the words."
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    gc.freeze() # else the first collection in a fork copies all that is loaded
    asked = {}
    while os.getppid() != 1:
        while asked and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            connection = next(c for c, pid in asked.items() if pid == ended[0])
            with suppress(OSError): connection.sendall(f'{os.waitstatus_to_exitcode(ended[1])}\n'.encode()) # if somebody still waits
            connection.close()
            asked.pop(connection)
        for ready in select.select([listener, *asked], [], [], .02 if asked else 1)[0]:
            if ready is not listener: # it closed its end
                if not ready.recv(99): os.kill(asked[ready], signal.SIGKILL)
                continue
            connection = listener.accept()[0]
            files = socket.recv_fds(connection, 1, 3)[1]
            words, folder, env = json.loads(connection.makefile().readline())
            pid = os.fork()
            if not pid:
                for other in (listener, connection, *asked): other.close()
                become(folder, env, files)
                return words
            for file in files: os.close(file)
            connection.sendall(f'{pid}\n'.encode())
            asked[connection] = pid
    sys.exit()


def become(folder, env, files):
    "Take the folder, environment and open files of a command."
    for number, file in enumerate(files): os.dup2(file, number)
    for file in files: os.close(file)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)
    sys.stdout = sys.__stdout__ = open(1, 'w', closefd=False)
    sys.stderr = sys.__stderr__ = open(2, 'w', 1, errors='backslashreplace', closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def as_python(words):
    "Do what Python does with these words."
    first, *rest = words
    sys.path.pop(0) # the folder of this file
    if first == '-c':
        sys.path.insert(0, '')
        sys.argv = ['-c', *rest[1:]]
        main = sys.modules['__main__'] = type(sys)('__main__')
        exec(compile(rest[0], '<string>', 'exec'), vars(main))
    elif first == '-m':
        sys.path.insert(0, os.getcwd())
        if rest[0] == 'ipykernel_launcher': # matplotlib, which is loaded, has not seen the variable that a kernel sets for it
            sys.modules['matplotlib'].rcParams['backend'] = 'module://matplotlib_inline.backend_inline'
        sys.argv = rest
        runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(first))
        sys.argv = words
        runpy.run_path(first, run_name='__main__')


def end_after(words):
    "Do what Python does with these words, and end as it does, but for taking apart all that is loaded: that costs seconds."
    code = 0
    try: as_python(words)
    except SystemExit as e:
        code = e.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except Exception:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed: stream.flush()
    os._exit(code)


def stand_for(path, words):
    "Ask for a process, hand on the signals, and end as it ended."
    connection = ask(path, words, os.getcwd(), dict(os.environ), [0, 1, 2])
    said = connection.makefile()
    pid = int(said.readline())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, lambda number, _: os.kill(pid, number))
    code = int(said.readline() or 1)
    if code < 0:
        if -code != signal.SIGKILL: signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def start():
    "Start the process that forks; the words that stand for `python`. Kernels of pages are forks, too, until this process ends."
    folder = Path(tempfile.mkdtemp(prefix='forks_'))
    words = [sys.executable, '-S', __file__, str(folder/'socket')]
    server = subprocess.Popen([sys.executable, *words[2:]], env=os.environ | dict(OMP_NUM_THREADS='1'))
    atexit.register(lambda: (server.terminate(), server.wait(), shutil.rmtree(folder)))
    while not (folder/'socket').exists():
        assert server.poll() is None, 'the process that forks has ended'
        time.sleep(.05)
    kernel = folder/'kernels'/'python3'
    kernel.mkdir(parents=True)
    argv = [*words, '-m', 'ipykernel_launcher', '-f', '{connection_file}']
    (kernel/'kernel.json').write_text(json.dumps(dict(argv=argv, display_name='Python 3', language='python')))
    os.environ['JUPYTER_PATH'] = str(folder)
    return words


if __name__ == '__main__':
    path, *words = sys.argv[1:]
    if words: stand_for(path, words)
    for name in LOADED:
        with suppress(ImportError): import_module(name)
    end_after(serve(path))
