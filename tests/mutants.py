"""Do the lessons of a page fail when its code is wrong? `python tests/mutants.py [page ...]` prints the changes that none of them notices.

Each change is made in a copy of one notebook, which is then run by `nbdev_test`. About half an hour for all; no test runs it."""
import json, os, shutil, subprocess, sys, tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
MUTANTS = {
    '00_data': [
        ('2*part - (k - 1), zs.stop - part', '2*part - (k - 2), zs.stop - part'),
        ('left = left[left <= mine[0] - k]', 'left = left[left < mine[0]]'),
        ('if self.bad: y[~np.isfinite(y)] = 0', 'pass'),
        ('out[raw == self.ignore] = 2', 'pass'),
        ('set(values) != {0, 1, 2}', 'set(values) == {0, 1, 2}'),
        ('-1 if bright else 1, bad', '1 if bright else -1, bad'),
        ('measure_scale(self.seen, self.name', 'measure_scale(self.vol, self.name'),
        ("mode='reflect') # order", "mode='edge') # order"),
        ('pixel / 10 > near', 'pixel > near'),
    ],
    '01_sampler': [
        ("return move(x.copy(), 'bilinear'), move(y[None].astype(np.float32), 'nearest')[0]", "return move(x.copy(), 'bilinear'), np.roll(move(y[None].astype(np.float32), 'nearest')[0], 1, 1)"),
        ('rng.uniform(-20, 20)', 'rng.uniform(-70, 70)'),
        ('rng.uniform(-.22, .22)', 'rng.uniform(-.6, .6)'),
    ],
    '04_infer': [
        ('msk[z] = prob[z] >= np.float32(self.threshold)', 'msk[z] = prob[z] >= .5'),
        ('min(1, depth * nm / 20)', '1'),
        ('np.bincount(piece, sizes)[piece] >= fewest', 'np.bincount(piece, sizes)[piece] > fewest'),
        ('.flip(in_plane)', ''),
    ],
    '10_phantom': [
        ('* defocus * 1e4 * k**2 - np.pi / 2 * cs', '* defocus * 1e4 * k**2 + np.pi / 2 * cs'),
        ('wave, cs = .0197, 2.7e7', 'wave, cs = .01969, 2.7e7'),
        ('np.exp(-fade / 4 * k**2)', 'np.exp(-fade * k**2)'),
        ("if axis == 'y' else y[None, :, None]", "if axis == 'x' else y[None, :, None]"),
        ('np.abs(s) / np.sqrt(np.clip(slope, .16, 6.))', 'np.abs(s)'),
        ('(np.abs(d) - 1.75)**2', '(np.abs(d) - 2.5)**2'),
        ('signal += np.float32(dim) * rest', 'signal += rest'),
        ('signal + np.float32(.3) * noise', 'signal + noise'),
        ('np.float32(ramp * vol.std())', 'np.float32(0 * vol.std())'),
        ('((d <= 2.2) & (there > .5))', '(d <= 2.2)'),
        ('vol = image_cell(sheet * there, rest * there', 'vol = image_cell(sheet, rest'),
        ('outside.std(dtype', 'inside.std(dtype'),
        ('judged = np.full(wide, 2,', 'judged = np.full(wide, 0,'),
        (' + restore * np.exp(-75 * k**2))', ')'),
        ('np.exp(-grainy * (2.5 * k * pixel)**2)', '1'),
        ('return (np.abs(pass_) if flip else pass_)', 'return pass_'),
        ('return [outer, smooth_intersection(inner, -folds)]', 'return [outer, inner]'),
        ('if rng.random() < upright:', 'if rng.random() < .5:'),
        ('rng, dense) + look', 'rng) + look'),
        ('* smooth_noise(shape, rng), rest', ', rest'),
        ('vol * (.4 + .6 * there)', 'vol'),
        ('p=[.5, .1, .2, .2]', 'p=[.2, .1, .2, .5]'),
        ('tilt) + 1 - angle', 'tilt) - 9 - angle'),
        ('((bend, 150, 350)', '((bend, 100, 350)'),
    ],
    '11_view': [
        ('Image.fromarray(img[::-1])', 'Image.fromarray(img)'),
        ('(MISSED_COLOUR, ~found & truth)', '(MISSED_COLOUR, ~found)'),
        ('if step > 1: msk = _shrink_mask(msk, step)', 'if step > 1: msk = msk[::step, ::step]'),
    ],
    '12_metrics': [
        ('i += p >= edges[i + 1]\n', 'pass\n'),
        ('fn = int(t[0, i:].sum()), int(t[1, i:].sum()), int(t[1, :i].sum())', 'fn = int(t[0, i:].sum()), int(t[1, i:].sum()), int(t[1, :i + 1].sum())'),
        ('dice[best] - .001)\n    low', 'dice[best] - .01)\n    low'),
        ('threshold=(low + high) // 2', 'threshold=low'),
        ('int(worse[worse < best].max(initial=-1)) + 1', 'int(np.flatnonzero(dice >= dice[best] - .001).min())'),
        ('dice = np.mean(curves, axis=0)', "dice = pr_curve(sum(tallies))['dice']"),
        ('dice = np.mean(curves, axis=0)', 'dice = np.max(curves, axis=0)'),
        (' for t in tallies if t[1].any()]', ' for t in tallies]'),
        ('block = min(3 * reach,', 'block = min(reach,'),
        ('block = min(3 * reach, depth // 3)', 'block = min(3 * reach, depth // 6)'),
        ('draws = depth // block - 1', 'draws = depth // block'),
        (' * student.ppf(.975, draws) / 1.96', ''),
        ('argmax(autocorrelation <= 0)', 'argmax(autocorrelation <= .5 * autocorrelation[0])'),
        ('_reach(parts[0] - whole * parts[1])', '_reach(parts[1])'),
        ("    if reach > depth // 3: return float('nan'), float('nan')\n", ''),
        ('if depth < 64 or', 'if'),
        ('[parts, parts[:, :block - 1]], 1)', '[parts, parts[:, -block + 1:]], 1)'),
        ('(w - z) ** 2 for', 'abs(w - z) for'),
        ('(lines & sets[::-1])', '(lines & sets)'),
        ('[:, 0, 2]), 1)', '[:, 2, 2]), 1)'),
        ('(np.arange(len(both)) + .5)', 'np.arange(len(both))'),
        ('halo, n = 16, 10,', 'halo, n = 16, 9,'),
        ('~(below & above & p', '~(above & p'),
        ("mode='edge'), solid[2]", "mode='constant'), solid[2]"),
        ('(p == 1) & (m != 2)', '(p == 1)'),
        ('(t[1] * pr_curve', '(t[0] * pr_curve'),
    ],
    '14_results': [
        ('if folder.exists() and (why := not_ours(folder))', 'if False'),
        ('any(path.samefile(p) for p in inside)', 'False'),
        ('if ours is None:', 'if False:'),
        ('p.lstat().st_mtime_ns > record.lstat().st_mtime_ns', 'False'),
        ('self.old.rename(self.folder)', 'shutil.rmtree(self.old)'),
        ('try: self.lock.acquire(timeout=0)\n    except Timeout:\n        if self.given', 'try: pass\n    except Timeout:\n        if self.given'),
    ],
    '15_volume': [
        ('max(sides) > 1.01 * min(sides)', 'max(sides) > 9 * min(sides)'),
        ('x -= first\n', 'pass\n'),
        ('key=lambda h: abs(int(h.nx))', 'key=lambda h: -abs(int(h.nx))'),
        ('def __getitem__(self, key): return np.array(self._map()[key])', 'def __getitem__(self, key): return self._map()[key]'),
        ('h.nsymbt = len(like.extended)', 'h.nsymbt = 0'),
        ('for name in _GEOMETRY:', 'for name in _GEOMETRY[:3]:'),
    ],
    '18_mesh': [
        ('return trimesh.Trimesh(verts, tri, process=False)', 'return trimesh.Trimesh(verts, tri[:, ::-1], process=False)'),
        ('return _pair_faces(verts, tri)', 'return verts, tri'),
        ('verts = _match_volume(verts, tri, part.sum())', 'pass'),
        ('+ np.asarray(origin) / 10', '- np.asarray(origin) / 10'),
        ('(verts - 3.5) * step', '(verts - 4) * step'),
    ],
}


def survives(page, old, new):
    "Run a copy of the page with `old` changed to `new` in what it exports; whether all lessons still pass."
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        for name in ('membrane_nb',): shutil.copytree(ROOT/name, tmp/name)
        for name in ('settings.ini', 'setup.py'): shutil.copy(ROOT/name, tmp/name)
        (tmp/'nbs').mkdir()
        nb = json.loads((ROOT/'nbs'/f'{page}.ipynb').read_text())
        found = 0
        for cell in nb['cells']:
            source = ''.join(cell['source'])
            if not source.startswith('#| export') or old not in source: continue
            found += 1
            cell['source'] = source.replace(old, new)
        if not found: return f'not found: {old!r}'
        (tmp/'nbs'/f'{page}.ipynb').write_text(json.dumps(nb))
        env = os.environ | dict(IN_TEST='1', OMP_NUM_THREADS='1', MEMBRANE_OUTPUT=str(tmp/'out'), PYTHONPATH=str(tmp))
        done = subprocess.run([Path(sys.executable).parent/'nbdev_test', '--path', f'nbs/{page}.ipynb'], cwd=tmp, env=env, capture_output=True)
        return f'survives: {old!r} -> {new!r}' if done.returncode == 0 else ''


if __name__ == '__main__':
    jobs = [(page, *m) for page in sys.argv[1:] or MUTANTS for m in MUTANTS[page]]
    with ThreadPoolExecutor(max(1, os.cpu_count() // 2)) as pool: said = list(pool.map(lambda job: survives(*job), jobs))
    for job, word in zip(jobs, said):
        if word: print(f'{job[0]}: {word}')
    print(f'{len(jobs)} mutants, {sum(map(bool, said))} not noticed')
