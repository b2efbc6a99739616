"""Real slices with membranes that we traced by hand: fetch the published pictures, and build what any program can be scored on.

    python benchmarks/real_slices.py FOLDER [--from https://raw.githubusercontent.com] [--npz real_slices.npz]

`real_slices.json` beside this file says of each picture where it was published, in which commit, under which licence, and how it was cropped and
scaled; `real_slices_lines.npz` holds our lines (BSD-3-Clause, as this repository). FOLDER then holds the published files, and `real_slices.npz`:
NAME_image (y, x) uint8, NAME_line and NAME_ignore (y, x) bool, and NAME_group. What is neither line nor ignored is not membrane. Lettering that was
painted over before the lines were drawn is still in the pictures `yeast` and `dense_body` that are built here.
The same pictures lie beside it as NAME.mrc and NAME_line.mrc (1 a line, 2 not decided), with manifest.csv, which 03_train reads:

    papermill nbs/03_train.ipynb out.ipynb -f recipes/pretrained/9_real.yaml -r manifest FOLDER/manifest.csv
"""
import argparse, hashlib, io, json, sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from PIL import Image
from skimage.transform import rescale

from membrane_nb.checks import InputError
from membrane_nb.mrc import write_mrc

HERE = Path(__file__).parent
SITE = 'https://raw.githubusercontent.com'
LARGEST = 50_000_000  # bytes of a published picture
LINE = 3.5            # nm, the thickness that a line stands for


def sources(path=HERE/'real_slices.json'):
    "Name of each picture to where it comes from."
    return json.loads(Path(path).read_text(encoding='utf-8'))


def fetch(entry, folder, site=SITE):
    "The published file of a picture, from the folder or else from the site; another content than ours raises `InputError`."
    path = Path(folder)/f'{entry["sha256"][:12]}_{Path(entry["path"]).name}'
    url = f'{site}/{entry["repository"]}/{entry["commit"]}/{entry["path"]}'
    if path.exists(): data = path.read_bytes()
    else:
        try:
            with urlopen(url, timeout=60) as answer: data = answer.read(LARGEST)
        except (URLError, OSError) as e: raise InputError(f'{url}: cannot be fetched ({e}); wanted a published picture') from None
    if hashlib.sha256(data).hexdigest() != entry['sha256']:
        raise InputError(f'{path if path.exists() else url}: is another file than the one that was traced; wanted SHA-256 {entry["sha256"]}')
    path.write_bytes(data)
    return data


def build(entry, data):
    "The picture (y, x) uint8 as it was traced: cropped to its box, scaled, and cropped again."
    grey = Image.open(io.BytesIO(data)).convert('L').crop(entry['box'])
    scale = entry['scale']
    if entry['resize'] == 'bicubic':
        img = np.asarray(grey.resize([round(n * scale) for n in grey.size], Image.Resampling.BICUBIC))
    else:
        order = 3 if entry['resize'] == 'cubic' else 1
        img = rescale(np.asarray(grey, float), scale, order=order, anti_aliasing=entry['resize'] == 'linear', preserve_range=True)
    top, _, left, _ = [round(n * scale) for n in entry.get('crop', (0, 0, 0, 0))]
    height, width = entry['shape']
    return np.rint(img).clip(0, 255).astype(np.uint8)[top:top + height, left:left + width]


def lines(name, shape, path=HERE/'real_slices_lines.npz'):
    "What we traced in a picture: where a membrane is, and where nobody could decide; two (y, x) bool."
    n = shape[0] * shape[1]
    with np.load(path) as kept: return [np.unpackbits(kept[f'{name}_{kind}'])[:n].reshape(shape) > 0 for kind in ('line', 'ignore')]


def write_manifest(folder, npz, without=()):
    "Write pictures and lines as single slices (MRC), with a manifest of all that train; groups may be left out."
    rows = ['tomogram,mask,split,group,line']
    with np.load(npz) as kept:
        for name, entry in sources().items():
            if f'{name}_image' not in kept or entry['group'] in without: continue
            mask = np.where(kept[f'{name}_line'] > 0, 1, np.where(kept[f'{name}_ignore'] > 0, 2, 0)).astype(np.uint8)
            for path, img in ((f'{name}.mrc', kept[f'{name}_image']), (f'{name}_line.mrc', mask)):
                write_mrc(Path(folder)/path, img[None], entry['pixel'])
            rows.append(f'{name}.mrc,{name}_line.mrc,train,{entry["group"]},{LINE}')
    (Path(folder)/'manifest.csv').write_text('\n'.join(rows) + '\n')
    return Path(folder)/'manifest.csv'


def main(folder, site=SITE):
    "Build real_slices.npz in a folder; pictures that cannot be had are left out, and named."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    arrays, missing = {}, []
    for name, entry in sources().items():
        try: image = build(entry, fetch(entry, folder, site))
        except InputError as e:
            print(e, file=sys.stderr)
            missing.append(name)
            continue
        line, ignore = lines(name, image.shape)
        arrays |= {f'{name}_image': image, f'{name}_line': line, f'{name}_ignore': ignore, f'{name}_group': entry['group']}
    np.savez_compressed(folder/'real_slices.npz', **arrays)
    write_manifest(folder, folder/'real_slices.npz')
    print(f'{folder/"real_slices.npz"}: {len(arrays) // 4} pictures' + f', without {", ".join(missing)}' * bool(missing))
    return missing


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('folder')
    parser.add_argument('--from', dest='site', default=SITE, help='where the repositories lie')
    parser.add_argument('--npz', help='pictures that were built before: nothing is fetched')
    given = parser.parse_args()
    if given.npz:
        Path(given.folder).mkdir(parents=True, exist_ok=True)
        print(write_manifest(given.folder, given.npz))
    else: sys.exit(bool(main(given.folder, given.site)))
