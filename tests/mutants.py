"""Do the lessons of a page, or its tests, fail when its code is wrong? `make mutants` prints the changes that nothing notices, and
`python tests/mutants.py [page ...]` those of some pages.

Each change is made in a copy of one notebook, which is then run by `nbdev_test`, and so are the page's own tests (`unit/test_<module>.py`).
About half an hour for all; no test runs it. A change whose place is not found exactly once ends the command before any run,
with exit code 1; `unit/test_mutants.py` looks for that too."""
import json, os, shutil, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTANTS = {
    '00_data': [
        ('measure_scale(self.resampled, self.name', 'measure_scale(self.vol, self.name'),
        ("mode='reflect') # order", "mode='edge') # order"),
    ],
    '01_sampler': [
        ('before = self.up_to[row - 1] if row else 0', 'before = 0'),
        ('before = int(up_to[part - 1]) if part else 0', 'before = 0'),
    ],
    '04_infer': [
        ('found = img >= self.threshold', 'found = img >= .5'),
    ],
    'toolbox/04_results': [
        ('other = _foreign_files(folder) or', 'other ='),
        ('any(file.samefile(path) for path in there)', 'False'),
        ('if ours is None:', 'if False:'),
        ('path.lstat().st_mtime_ns > record.lstat().st_mtime_ns', 'False'),
        ('self.old.rename(self.folder)', 'shutil.rmtree(self.old)'),
        ('self.lock.acquire(timeout=0)\n    except Timeout:\n        if self.given', 'pass\n    except Timeout:\n        if self.given'),
        ('while self._taken(): self._next()', 'pass'),
    ],
    'toolbox/05_store': [
        ('apart = img - np.float32(mean)', 'apart = img'),
        ('def __getitem__(self, key): return np.array(self._map()[key])', 'def __getitem__(self, key): return self._map()[key]'),
    ],
    'toolbox/06_mrc': [
        ('max(sides) > 1.01 * min(sides)', 'max(sides) > 9 * min(sides)'),
        ("min(_as_record(raw, '<'), _as_record(raw, '>'), key=_oddness)", "_as_record(raw, '<')"),
        ('h.nsymbt = len(like.extended)', 'h.nsymbt = 0'),
        ('for name in _GEOMETRY:', 'for name in _GEOMETRY[:3]:'),
    ],
    'toolbox/09_volume': [
        ('return np.where(good, img, middle)', 'return img'),
    ],
    'toolbox/10_fourier': [
        ('tilt) + 1 - angle', 'tilt) - 9 - angle'),
        ("x if axis == 'y' else y", "y if axis == 'y' else x"),
        ('x = (s[:, None] - sin * z) / cos', 'x = (s[:, None] + sin * z) / cos'),
        ('s = cos * x + sin * z[:, None]', 's = cos * x - sin * z[:, None]'),
    ],
    'toolbox/11_grey': [
        ('if self.bad: out[~np.isfinite(out)] = 0', 'pass'),
        ('sign=-1 if bright else 1', 'sign=1 if bright else -1'),
    ],
    'toolbox/13_mask': [
        ('out[raw == self.ignore] = 2', 'pass'),
        ('set(self.values) != {0, 1, 2}', 'set(self.values) == {0, 1, 2}'),
    ],
    'toolbox/14_lines': [
        ('!= 1) * pixel / 10', '!= 1) * pixel'),
        ('distance <= line / 2', 'distance <= line'),
    ],
    'toolbox/16_split': [
        ('val = test - (k - 1) - size', 'val = test - (k - 2) - size'),
        ('left = left[left <= mine[0] - k]', 'left = left[left < mine[0]]'),
        ('stop = val - (k - 1)', 'stop = val - (k - 2)'),
        ('if first != part:', 'if False:'),
    ],
    'toolbox/28_windows': [
        ('first = at - rng.integers(size)', 'first = at - size // 2'),
        ("(before, after), mode='reflect')", "(before, after), mode='edge')"),
    ],
    'toolbox/17_overlay': [
        ('Image.fromarray(img[::-1])', 'Image.fromarray(img)'),
        ('(MISSED_COLOUR, ~found & truth)', '(MISSED_COLOUR, ~found)'),
        ('if step > 1: msk = shrink_mask(msk, step)', 'if step > 1: msk = msk[::step, ::step]'),
    ],
    'toolbox/21_metrics': [
        ('i += prob >= edges[i + 1]\n', 'pass\n'),
        ('fn = int(counts[1, :i].sum())', 'fn = int(counts[1, :i + 1].sum())'),
        ('dice[best] - .001)\n    low', 'dice[best] - .01)\n    low'),
        ('middle = (low + high) // 2', 'middle = low'),
        ('int(worse[worse < best].max(initial=-1)) + 1', 'int(np.flatnonzero(dice >= dice[best] - .001).min())'),
        ('dice = np.mean(curves, axis=0)', "dice = _pr_curve(sum(tallies))['dice']"),
        ('dice = np.mean(curves, axis=0)', 'dice = np.max(curves, axis=0)'),
        (' for counts in tallies if counts[1].any()]', ' for counts in tallies]'),
        ('block = min(3 * reach,', 'block = min(reach,'),
        ('block = min(3 * reach, depth // 3)', 'block = min(3 * reach, depth // 6)'),
        ('draws = depth // block - 1', 'draws = depth // block'),
        (' * stdtrit(draws, .975) / 1.96', ''),
        ('argmax(autocorrelation <= 0)', 'argmax(autocorrelation <= .5 * autocorrelation[0])'),
        ('_reach(parts[0] - whole * parts[1])', '_reach(parts[1])'),
        ('    if reach > depth // 3: return nothing\n', ''),
        ('if depth < 64 or', 'if'),
        ('[parts, parts[:, :block - 1]], 1)', '[parts, parts[:, -block + 1:]], 1)'),
        ('(w - z) ** 2)', 'abs(w - z))'),
        ('abs(directions[:, 0, 2])', 'abs(directions[:, 2, 2])'),
        ('halo = 10 #', 'halo = 9 #'),
        ('inside = below & above', 'inside = above'),
        ("mode='edge')\n    inside", "mode='constant')\n    inside"),
        ('(p == 1) & (m != 2)', '(p == 1)'),
    ],
    'toolbox/22_shapes': [
        ('np.abs(s) / np.sqrt(np.clip(slope, .16, 6.))', 'np.abs(s)'),
        ('return [outer, smooth_intersection(inner, -folds)]', 'return [outer, inner]'),
        ('if rng.random() < upright:', 'if rng.random() < .5:'),
        ('((bend, 150, 350)', '((bend, 100, 350)'),
    ],
    'toolbox/23_scene': [
        ('(nm - apart / 2)**2', '(nm - apart / 1.4)**2'),
        ('crowd(d, pixel, dense, rng)', 'crowd(d, pixel, 1., rng)'),
        (' * smooth_noise(shape, rng)', ''),
    ],
    'toolbox/24_plain': [
        ('turn = by_defocus - by_aberration', 'turn = by_defocus + by_aberration'),
        ('_WAVELENGTH = .0197', '_WAVELENGTH = .01969'),
        ('np.exp(-fade / 4 * k**2)', 'np.exp(-fade * k**2)'),
        ('tilt, axis)', "tilt, 'y')"),
        ('signal = sheet + np.float32(dim) * rest', 'signal = sheet + rest'),
        ('signal + np.float32(.3) * noise', 'signal + noise'),
        ('np.float32(ramp * vol.std())', 'np.float32(0 * vol.std())'),
        ('((d <= HALF_THICKNESS) & (there > .5))', '(d <= HALF_THICKNESS)'),
        ('sheet, rest = sheet * there, rest * there', 'pass'),
        ('outside.std(dtype', 'inside.std(dtype'),
        ('judged = np.full(msk.shape, 2,', 'judged = np.full(msk.shape, 0,'),
        (' + restore * coarse', ''),
        ('np.exp(-grainy * (2.5 * k * pixel)**2)', '1'),
        ('if flip: transfer = np.abs(transfer)', 'pass'),
        ('vol * (.4 + .6 * there)', 'vol'),
        ('p=[.5, .1, .2, .2]', 'p=[.2, .1, .2, .5]'),
    ],
    'toolbox/25_raw': [
        ('np.cos(np.radians(25))**2', 'np.cos(np.radians(75))**2'),
        ('kept = places[full[tuple(at.T)] & off_membrane]', 'kept = places[off_membrane]'),
        ('[crop] & (not bare)', '[crop]'),
    ],
    'toolbox/27_augment': [
        ('return img, msk[:, 0].to(torch.uint8)', 'return img, msk[:, 0].to(torch.uint8).roll(1, 2)'),
        ('-math.pi / 9, math.pi / 9', '-math.pi / 3, math.pi / 3'),
        ('-.35, .35', '-.7, .7'),
    ],
    'toolbox/37_stream': [
        ('.flip(in_plane)', ''),
    ],
    'toolbox/39_pieces': [
        ('min(1, depth * nm / 20)', '1'),
        ('voxels[piece] >= min_voxels', 'voxels[piece] > min_voxels'),
    ],
    'toolbox/18_mesh': [
        ('return trimesh.Trimesh(verts, tri, process=False)', 'return trimesh.Trimesh(verts, tri[:, ::-1], process=False)'),
        ('return _pair_faces(verts, tri)', 'return verts, tri'),
        ('verts = _match_volume(verts, tri, part.sum())', 'pass'),
        ('+ np.asarray(origin) / 10', '- np.asarray(origin) / 10'),
        ('(verts - 3.5) * step', '(verts - 4) * step'),
    ],
}


def exported(page):
    "The sources of the cells of a page that are exported."
    cells = json.loads((ROOT/'nbs'/f'{page}.ipynb').read_text())['cells']
    sources = [''.join(cell['source']) for cell in cells]
    return [source for source in sources if source.startswith('#| export')]


def lost(pages):
    "The places of changes that are not found exactly once, a sentence each."
    found = []
    for page in pages:
        cells = exported(page)
        for old, _ in MUTANTS[page]:
            times = sum(cell.count(old) for cell in cells)
            if times != 1: found.append(f'{page}: found {times} times: {old!r}')
    return found


def survives(page, old, new):
    "Run a copy of the page with `old` changed to `new` in what it exports; whether all lessons, and the tests of the page, still pass."
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        shutil.copytree(ROOT/'membrane_nb', tmp/'membrane_nb')
        for name in ('settings.ini', 'setup.py'): shutil.copy(ROOT/name, tmp/name)
        (tmp/'nbs'/page).parent.mkdir(parents=True)
        nb = json.loads((ROOT/'nbs'/f'{page}.ipynb').read_text())
        for cell in nb['cells']:
            source = ''.join(cell['source'])
            if source.startswith('#| export'): cell['source'] = source.replace(old, new)
        (tmp/'nbs'/f'{page}.ipynb').write_text(json.dumps(nb))
        env = os.environ | dict(IN_TEST='1', OMP_NUM_THREADS='1', MEMBRANE_OUTPUT=str(tmp/'out'), PYTHONPATH=str(tmp))
        bin = Path(sys.executable).parent
        checks = [[bin/'nbdev_test', '--path', f'nbs/{page}.ipynb']]
        export = {name: value for name, value in env.items() if name != 'IN_TEST'} # with it nbdev_export does nothing
        subprocess.run([bin/'nbdev_export'], cwd=tmp, env=export, check=True, capture_output=True)
        tests = ROOT/'tests'/'unit'/f'test_{page.split("_", 1)[1]}.py'
        if tests.exists():
            shutil.copytree(ROOT/'tests', tmp/'tests')
            checks.append([bin/'pytest', '-q', '-x', f'tests/unit/{tests.name}'])
        for check in checks:
            if subprocess.run(check, cwd=tmp, env=env, capture_output=True).returncode: return ''
        return f'survives: {old!r} -> {new!r}'


if __name__ == '__main__':
    pages = sys.argv[1:] or list(MUTANTS)
    if missing := lost(pages): sys.exit('\n'.join(missing))
    jobs = [(page, *change) for page in pages for change in MUTANTS[page]]
    with ThreadPoolExecutor(max(1, os.cpu_count() // 2)) as pool: said = list(pool.map(lambda job: survives(*job), jobs))
    for job, word in zip(jobs, said):
        if word: print(f'{job[0]}: {word}')
    print(f'{len(jobs)} mutants, {sum(map(bool, said))} not noticed')
