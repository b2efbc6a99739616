"Damage for `benchmarks/fuzz.py`: of bytes, text, trees of values, tensors, voxels and MRC files. Each takes what is whole and a random generator."
import bz2, copy, gzip, json, zipfile

import numpy as np
import torch

NUMBERS = 0, 1, -1, 2, 3, 7, 255, 2**31 - 1, -2**31, 2**63, -2**64, 10**30, .5, -.5, 1e-30, 1e30, 1e308, float('nan'), float('inf')
WORDS = '', 'x', 'auto', 'none', 'nan', '1', '1e-4', '2, 3', 'a\nb', 'ä\0', '..', '~', 'x' * 5000, 'data', '__class__'
ODD = *NUMBERS, *WORDS, None, True, False, [], {}, [1], [[0, 1], [2]], {'a': 1}, {'a': [None]}
PIECES = (b'\0', b'\xff\xfe', b'\xef\xbb\xbf', b'"', b"'", b',', b';', b'\t', b'\r', b'\n', b'#', b'{', b'}', b': ', b'- ', b'..', b'://', b'*', b'|',
          b'%', b'@', b'yes', b'null', b'NaN', b'1e999', b'[' * 3000, b'9' * 5000, b'&a [*a]', b'!!python/object/apply:os.system ["touch ran"]')

def pick(rng, some):
    "One of some things."
    return some[rng.integers(len(some))]

def cut(data, rng):
    "Bytes that are cut, flipped or overwritten, or lost or got a piece."
    data = bytearray(data)
    at = int(rng.integers(len(data) + 1))
    n = int(2**rng.uniform(0, 11))
    how = rng.integers(6)
    if how == 0: return bytes(data[:at])
    if how == 1: return bytes(data[:at] + data[at + n:])
    if how == 2: return bytes(data[:at] + bytes(len(data[at:at + n])) + data[at + n:])
    if how == 3: return bytes(data[:at] + pick(rng, PIECES) + data[at:])
    if how == 4: return bytes(data[:pick(rng, (0, 1, 4, 100))])
    near = min(len(data), pick(rng, (300, 3000, 10**9)))
    for i in rng.integers(near, size=rng.integers(1, 6)) if near else (): data[i] = rng.integers(256)
    return bytes(data)

def garble(text, rng):
    "A text with lines that are gone, twice there, or odd; or cut as bytes are."
    lines = text.encode().splitlines(True)
    if rng.random() < .4: return cut(text.encode(), rng)
    for _ in range(rng.integers(1, 4)):
        if not lines: break
        i = rng.integers(len(lines))
        at = rng.integers(len(lines[i]) + 1)
        how = rng.integers(6)
        if how == 0: del lines[i]
        elif how == 1: lines.insert(i, pick(rng, lines))
        elif how == 2: lines[i] = b'#' + lines[i]
        elif how == 3: lines[i] = lines[i].replace(pick(rng, (b',', b':', b' ', b'\n', b'train', b'.')), pick(rng, PIECES))
        else: lines[i] = lines[i][:at] + pick(rng, PIECES) + lines[i][at:]
    return b''.join(lines)

def _places(tree):
    "Yield every box of a tree with every key in it."
    if not isinstance(tree, (dict, list)): return
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        yield from _places(tree[key])

def mutate(tree, rng):
    "A tree of dicts, lists and values, of which one to three are changed, swapped, renamed or gone."
    tree = copy.deepcopy(tree)
    for _ in range(rng.integers(1, 4)):
        there = list(_places(tree))
        if not there: break
        box, key = pick(rng, there)
        other, where = pick(rng, there)
        how = rng.integers(6)
        if how == 0: del box[key]
        elif how == 1: box[key] = copy.deepcopy(other[where])
        elif how == 2 and isinstance(box, dict): box[pick(rng, ('x', f'{key}_', 'data', 'path'))] = box.pop(key)
        elif isinstance(box[key], torch.Tensor): box[key] = odd_tensor(box[key], rng)
        else: box[key] = copy.deepcopy(pick(rng, ODD))
    return tree

def write_json(path, rng):
    "Damage a JSON file, as bytes or as a tree."
    if rng.random() < .3: path.write_bytes(cut(path.read_bytes(), rng))
    else: path.write_text(json.dumps(mutate(json.loads(path.read_text()), rng)))

_SAME_SHAPE = (
    lambda v: v * 1e38, lambda v: v * 1e10, lambda v: v * float('nan'), lambda v: -v, lambda v: v * 0, lambda v: v.flip(0), lambda v: v.half(),
    lambda v: v.double() * 1e300)
_OTHERS = (
    lambda v: v[None], lambda v: v.reshape(-1)[:1], lambda v: v.int(), lambda v: v.bool(), lambda v: v.to(torch.complex64), lambda v: v.to_sparse(),
    lambda v: v.to('meta'), lambda v: torch.ones(1).expand(2**40), lambda v: torch.zeros(0))

def odd_tensor(v, rng, ways=_SAME_SHAPE + _OTHERS):
    "A tensor of other numbers, another type or another shape."
    try: return pick(rng, ways)(v)
    except (RuntimeError, IndexError, TypeError): return torch.zeros(0)

def odd_numbers(state, rng):
    "A state dict of which a few tensors hold other numbers."
    names = [pick(rng, list(state)) for _ in range(rng.integers(1, 4))]
    return state | {name: odd_tensor(state[name], rng, _SAME_SHAPE) for name in names}

def repack(path, rng):
    "A zip archive with one member that is empty, damaged or far larger than the file."
    with zipfile.ZipFile(path) as old: members = {i.filename: old.read(i) for i in old.infolist()}
    name = pick(rng, list(members))
    members[name] = pick(rng, (bytes(3 * 10**7), b'', cut(members[name], rng)))
    with zipfile.ZipFile(path, 'w', pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED))) as new:
        for name, data in members.items(): new.writestr(name, data)

def odd_voxels(vol, rng):
    "Grey values that no microscope gives, perhaps in a box only."
    vol = vol.astype(np.float64)
    vol = pick(rng, (vol, vol * 1e38, vol * 1e-38, vol * 0, np.rint(vol), 1. * (vol > 0), -vol, vol + 1e6))
    box = tuple(slice(*sorted(rng.integers(0, n + 1, 2))) for n in vol.shape)
    if rng.random() < .5: vol[box] = pick(rng, (np.nan, np.inf, 0, 1e38, -1e38, 1e5))
    return as_kind(vol, rng)

def odd_mask(msk, rng):
    "A mask of other values, another type, another shape, or turned."
    msk = msk.astype(np.float64)
    few = np.zeros_like(msk)
    few[::5] = msk[::5]
    values = (msk, msk * 255, msk * 255 - 128, msk * 0, msk * 0 + 1, 1 - msk, few, msk * 2 + few, msk / 2, -msk, msk * np.nan, msk * 1e30,
              msk * rng.integers(0, 60, msk.shape))
    turned = (msk[::-1], msk[:, ::-1], msk[..., ::-1], msk.transpose(0, 2, 1), msk[1:], np.roll(msk, 9, 1), msk[:, :, :1], np.zeros((1, 1, 1)))
    return as_kind(pick(rng, values + turned), rng)

def as_kind(vol, rng):
    "Voxels in one of the types that MRC has."
    with np.errstate(all='ignore'): return vol.astype(pick(rng, ('i1', 'i2', 'u2', 'f2', 'f4')))

def damage_mrc(path, rng):
    "Another byte order, odd words in the header, damaged bytes, packed or not."
    raw = path.read_bytes()
    order = pick(rng, '<<>')
    if order == '>': raw = _big_endian(raw)
    for _ in range(pick(rng, (0, 0, 1, 1, 2))):
        at = 4 * int(rng.integers(56)) # of 56 words
        raw = raw[:at] + _odd_word(order, rng) + raw[at + 4:]
    if rng.random() < .15: raw = cut(raw, rng)
    pack = pick(rng, (bytes, lambda data: gzip.compress(data, 1, mtime=0), bz2.compress))
    raw = pack(raw)
    if rng.random() < .15: raw = cut(raw, rng)
    path.write_bytes(raw)

def _big_endian(raw):
    "The same file in the other byte order."
    size = {0: 1, 1: 2, 2: 4, 6: 2, 12: 2}[int.from_bytes(raw[12:16], 'little')] # of a voxel
    head = np.frombuffer(raw[:208], 'u4').byteswap().tobytes() + b'MAP \x11\x11\0\0'
    return head + raw[216:1024] + np.frombuffer(raw[1024:], f'u{size}').byteswap().tobytes()

def _odd_word(order, rng):
    "Four bytes of a header: a whole number, or a float."
    with np.errstate(all='ignore'):
        if rng.random() < .3: return np.array(pick(rng, NUMBERS), f'{order}f4').tobytes()
        return np.array(pick(rng, (*NUMBERS[:9], 4, 12, 16, 40, 48)), np.int64).astype(f'{order}i4').tobytes()
