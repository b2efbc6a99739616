"""Compare what the cells of a notebook show with what is stored.

Words and whole numbers are the same: shapes, counts, slices, numbers of a card. Those of four digits and more count voxels
or bytes, and may differ by a thousandth from processor to processor. Other numbers were measured, and are nearly the same,
but what an epoch of a training says of its validation: from one processor to another, Dice .37 became .81 where the train
loss differed by .002. What the training comes to at its end is shown by other cells, and compared;
all of them are the same where the cell has the tag `exact`, because it shows what was decided once, as in a card that ships."""
import base64, io, re

import numpy as np
from PIL import Image

NUMBER = re.compile(r'-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?')
# what differs from run to run, or from processor to processor: the engine that was taken, how many threads there are, the best epoch, times, memory, the names of temporary folders, lines of progress, the validation of an epoch
UNSTABLE = re.compile(r"\d+ of \d+ \w+, .*left|run by \w+ \w+, which .* torch [^)]*\)|'largest': [\d.]+|'seconds': [\d.]+|[\d.]+ ?(s|ms|min|MB|kB|GB)\b|/tmp/\S+|validation loss [\d.]+, Dice [\d.]+|0x[0-9a-f]+|best epoch \d+|\d+ at a time; threads for each: \d+")
PICTURES = 'image/png', 'image/jpeg'


def shown(cell):
    "What a cell shows, a (kind, content) each; progress, errors' channel and widgets left out."
    found = []
    printed = ''
    for output in cell.get('outputs', []):
        data = output.get('data', {})
        if output.output_type == 'stream': printed += output.text * (output.name == 'stdout')
        elif any('widget' in kind for kind in data): continue
        elif any(kind in data for kind in PICTURES): found.append(('picture', next(data[kind] for kind in PICTURES if kind in data)))
        elif any('plotly' in kind for kind in data): found.append(('surface', ''))
        elif 'text/html' in data or 'image/svg+xml' in data or 'text/markdown' in data: found.append(('page', ''))
        elif 'text/plain' in data: found.append(('text', data['text/plain']))
    steady = UNSTABLE.sub('', printed).strip() # a busy machine prints lines of progress where a quiet one prints nothing
    return found + [('text', printed)] * bool(steady)


def differs(stored, now, tolerance=.02, exact=False):
    "In a sentence what differs, or an empty text; `tolerance` of measured numbers in a text, beside 5 % of each."
    if [kind for kind, _ in stored] != [kind for kind, _ in now]:
        return f'stored {[kind for kind, _ in stored]}, now {[kind for kind, _ in now]}'
    for (kind, then), (_, new) in zip(stored, now):
        if kind == 'text' and not same_text(then, new, tolerance, exact): return f'stored {then!r}, now {new!r}'
        if kind == 'picture' and not same_picture(then, new): return 'another picture'
    return ''


def same_text(a, b, tolerance, exact):
    "Whether the words are the same, and the numbers as the head of this file says."
    a, b = UNSTABLE.sub('', a), UNSTABLE.sub('', b)
    if a == b: return True # hashes too, whose digits are no numbers
    if NUMBER.sub('#', a).split() != NUMBER.sub('#', b).split(): return False
    return all(same_number(*pair, tolerance, exact) for pair in zip(NUMBER.findall(a), NUMBER.findall(b)))


def same_number(a, b, tolerance, exact):
    "Whether two numbers, as they are written, are the same, or near enough for what they are."
    then, now = (float(number.replace(',', '')) for number in (a, b))
    if exact: return then == now
    whole = not set('.e') & set(a + b)
    if whole: return abs(then - now) <= (abs(then) / 1000 if abs(then) >= 1000 else 0)
    return abs(then - now) <= tolerance + .05 * abs(now)


def same_picture(a, b):
    "Whether two pictures, seen from afar, differ by less than 5 % of the grey values."
    a, b = (Image.open(io.BytesIO(base64.b64decode(p))).convert('L') for p in (a, b))
    if np.abs(np.subtract(a.size, b.size)).max() > 4: return False
    a, b = (np.asarray(p.resize((32, 32), Image.BOX), float) for p in (a, b))
    return np.abs(a - b).mean() < 12
