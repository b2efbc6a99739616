"Volumes on disk: every type, byte order and archive; what is refused; what a written file keeps; other voxel sizes."
import bz2, gzip, io, os, pickle, shlex, sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from conftest import stored_mrc
from membrane_nb.checks import InputError
from membrane_nb.mrc import new_mrc, voxel_size, write_mrc
from membrane_nb.volume import open_volume


@pytest.mark.parametrize('dtype', ['int8', 'int16', 'float32', 'uint16', 'float16', '>i2', '>f4', '>f2', '>u2'])
@pytest.mark.parametrize('pack', [None, gzip, bz2])
@pytest.mark.parametrize('stamp', [True, False])
def test_every_type_order_and_archive(cell, tmp_path, dtype, pack, stamp):
    "Also where the machine stamp is missing; a packed file leaves nothing on the disk, and is handed to another process."
    some = (20 * cell[:3]).astype(dtype)
    path = stored_mrc(tmp_path/'b.mrc', some)
    raw = path.read_bytes()
    if not stamp: raw = raw[:212] + bytes(4) + raw[216:]
    path.write_bytes(pack.compress(raw) if pack else raw)
    vol = open_volume(path, folder=tmp_path)
    assert (vol[:] == some).all() and (vol[-1, 4:6, ::2] == some[-1, 4:6, ::2]).all() and len(list(vol)) == 3
    assert (pickle.loads(pickle.dumps(vol))[2] == some[2]).all() and [p.name for p in tmp_path.iterdir()] == ['b.mrc']


def test_what_is_refused(cell, tmp_path):
    path = write_mrc(tmp_path/'a.mrc', cell, 10.).path
    raw = path.read_bytes()
    (tmp_path/'cut.mrc').write_bytes(raw[:-9])
    (tmp_path/'cut.mrc.gz').write_bytes(gzip.compress(raw[:-9]))
    (tmp_path/'broken.mrc.gz').write_bytes(gzip.compress(raw)[:2000])
    stored_mrc(tmp_path/'flat.mrc', np.zeros((9, 9), np.float32))
    (tmp_path/'mode.mrc').write_bytes(raw[:12] + np.array([16], '<i4').tobytes() + raw[16:])
    for name, said in (('cut.mrc', 'is truncated'), ('cut.mrc.gz', 'is truncated'), ('broken.mrc.gz', 'cannot be unpacked'),
                       ('flat.mrc', 'holds 2D data of shape \\(9, 9\\)'), ('mode.mrc', 'has mode 16; wanted 0, 1, 2, 6 or 12')):
        with pytest.raises(InputError, match=said): open_volume(tmp_path/name, folder=tmp_path)
    with mrcfile.mmap(path, 'r+') as f: f.voxel_size = (10, 5, 2)
    with pytest.raises(InputError, match='voxels of 10 x 5 x 2 Å'): open_volume(path)
    assert open_volume(path, pixel=10.).pixel == 10


@pytest.mark.parametrize('sides, pixel, said', [((10, 10, 10), 10, ''), ((1, 1, 1), 0, 'taken as unknown'), ((0, 0, 0), 0, ''), ((10, 10.05, 10), 10, 'taken as 10.0')])
def test_voxel_sizes(cell, tmp_path, sides, pixel, said):
    path = write_mrc(tmp_path/'a.mrc', cell).path
    with mrcfile.mmap(path, 'r+') as f: f.voxel_size = sides
    vol = open_volume(path)
    assert vol.pixel == pixel and said in ''.join(vol.notes) and bool(vol.notes) == bool(said)
    assert voxel_size(path, vol.header)[0] == pixel


@pytest.mark.parametrize('sides', [(.0134,) * 3, (.49,) * 3, (101,) * 3, (4e4,) * 3, (.1, .2, .3)])
def test_a_size_that_no_tomogram_has_is_unknown(cell, tmp_path, sides):
    "S6: as 1 Å is; the parameter voxel_size says what it is."
    path = write_mrc(tmp_path/'a.mrc', cell).path
    with mrcfile.mmap(path, 'r+') as f: f.voxel_size = sides
    vol = open_volume(path)
    assert vol.pixel == 0 and len(vol.notes) == 1 and 'a size that no tomogram has (0.5 to 100 Å); taken as unknown' in vol.notes[0]
    assert open_volume(path, 9.).pixel == 9 and open_volume(path, 9.).notes == []


def test_cells_without_voxels_have_no_size(cell, tmp_path):
    "S6: mx, my, mz of 0 or below were taken as 1."
    path = write_mrc(tmp_path/'a.mrc', cell, 10.).path
    for n in (0, -3):
        with mrcfile.mmap(path, 'r+', permissive=True) as f:
            for side in ('mx', 'my', 'mz'): f.header[side] = n
            f.header.cella = (10, 10, 10)
        assert open_volume(path).pixel == 0 and open_volume(write_mrc(tmp_path/'b.mrc', cell, like=open_volume(path, 7.)).path).pixel == 7


@pytest.mark.parametrize('sides', [(1.34,) * 3, (1,) * 3, (0,) * 3, (.0134,) * 3, (10, 5, 2), (10.04, 10, 10), (np.nan,) * 3])
@pytest.mark.parametrize('counts', [None, (192, 96, 32)])
def test_a_named_size_is_written_into_every_result(cell, tmp_path, sides, counts):
    "S6: whatever the header says, for a cell of more voxels than there are too."
    path = write_mrc(tmp_path/'a.mrc', cell).path
    with mrcfile.mmap(path, 'r+', permissive=True) as f:
        if counts: f.header.mx, f.header.my, f.header.mz = counts
        for side, size, n in zip('xyz', sides, counts or cell.shape[::-1]): f.header.cella[side] = size * n
        f.nstart = (4, 5, 6)
    out = write_mrc(tmp_path/'b.mrc', cell, like=open_volume(path, 10.))
    with mrcfile.open(out.path) as f: assert f.voxel_size.tolist() == pytest.approx((10, 10, 10))
    assert open_volume(out.path).pixel == 10 and open_volume(out.path).notes == [] and open_volume(out.path).origin == (40, 50, 60)
    assert [int(out.header[n]) for n in ('mx', 'my', 'mz')] == list(counts or cell.shape[::-1])


def test_a_header_that_was_believed_is_kept_as_it_is(cell, tmp_path):
    "Also its unknown size, and sides that differ a little."
    for sides in ((8.69,) * 3, (1,) * 3, (.0134,) * 3, (10, 10.05, 10)):
        path = write_mrc(tmp_path/'a.mrc', cell).path
        with mrcfile.mmap(path, 'r+') as f: f.voxel_size = sides
        assert write_mrc(tmp_path/'b.mrc', cell, like=open_volume(path)).header.cella == open_volume(path).header.cella


@pytest.mark.parametrize('origin, start, where', [((0, 0, 0), (4, -5, 600), (40, -50, 6000)), ((1, 0, 0), (4, 5, 6), (1, 0, 0)), ((0, 0, 0), (0, 0, 0), (0, 0, 0)), ((np.nan, 0, 0), (1, 2, 3), (10, 20, 30))])
def test_where_a_volume_lies(cell, tmp_path, origin, start, where):
    "S14: the origin of the header, else its start in voxels of the size that is believed, as ChimeraX has it; both stay as they are in what is written."
    with mrcfile.new(tmp_path/'a.mrc', cell) as f: f.voxel_size, f.header.origin, f.nstart = 10., origin, start
    vol = open_volume(tmp_path/'a.mrc')
    assert vol.origin == where
    out = write_mrc(tmp_path/'b.mrc', cell, like=vol)
    assert out.origin == where and [int(out.header[f'n{a}start']) for a in 'xyz'] == list(start) and np.array_equal(out.header.origin.tolist(), origin, equal_nan=True)
    if not any(np.nan_to_num(origin)): assert open_volume(tmp_path/'a.mrc', 20.).origin == tuple(2 * n for n in where)


def changed(raw, **fields):
    "A file with other values in its header: offset and bytes."
    for place, value in fields.items(): raw = raw[:int(place[1:])] + value + raw[int(place[1:]) + len(value):]
    return raw


FITS = {'no "MAP"': dict(_208=bytes(4)), 'a stack of volumes (ispg 401)': dict(_88=b'\x91\1\0\0'), 'promises 2147483647 bytes of an extended header': dict(_92=b'\xff\xff\xff\x7f'),
        'promises 4096 bytes of an extended header': dict(_92=b'\0\x10\0\0'), 'promises -1 bytes': dict(_92=b'\xff' * 4)}

@pytest.mark.parametrize('said', FITS)
@pytest.mark.parametrize('pack', [None, gzip, bz2])
def test_a_file_whose_size_fits_is_opened(cell, tmp_path, said, pack):
    "D7: and it is said; a byte more or less is refused."
    raw = changed(write_mrc(tmp_path/'a.mrc', cell, 10.).path.read_bytes(), **FITS[said])
    pressed = pack.compress if pack else bytes
    (tmp_path/'a.mrc').write_bytes(pressed(raw))
    vol = open_volume(tmp_path/'a.mrc', folder=tmp_path)
    assert (vol[:] == cell).all() and vol.pixel == 10 and len(vol.notes) == 1 and said in vol.notes[0]
    out = write_mrc(tmp_path/'b.mrc', cell, like=vol)
    assert (out[:] == cell).all() and out.extended == b'' and mrcfile.validate(out.path, print_file=io.StringIO()) or 'ispg' in said
    for other in (raw[:-1], raw + b'1'):
        if 'stack' in said: continue
        (tmp_path/'a.mrc').write_bytes(pressed(other))
        with pytest.raises(InputError, match='; wanted'): open_volume(tmp_path/'a.mrc', folder=tmp_path)


def test_every_byte_order_without_mark_or_stamp(cell, tmp_path):
    "D7: also under the stamp of the other order."
    for dtype in ('<i2', '>i2', '<f4', '>f4', 'i1'):
        raw = stored_mrc(tmp_path/'a.mrc', (20 * cell[:3]).astype(dtype)).read_bytes()
        for stamp in (bytes(4), b'DD\0\0', b'\x11\x11\0\0', b'rand'):
            for mark in (b'MAP ', bytes(4), b'\0\0\x80\x3f'):
                (tmp_path/'a.mrc').write_bytes(changed(raw, _208=mark, _212=stamp))
                assert (open_volume(tmp_path/'a.mrc')[:] == (20 * cell[:3]).astype(dtype)).all()


def test_what_fits_no_size_is_refused(cell, tmp_path):
    "D7: random bytes, several volumes, and a stack that counts by nothing."
    rng = np.random.default_rng(0)
    raw = write_mrc(tmp_path/'a.mrc', cell, 10.).path.read_bytes()
    for i in range(300):
        (tmp_path/'a.mrc').write_bytes(rng.bytes(int(rng.integers(1024, 9000))) if i % 2 else changed(rng.bytes(5000), _0=np.array([9, 9, 9, 1], '<i4').tobytes()))
        with pytest.raises(InputError, match='is not an MRC file|its header says voxels of'): open_volume(tmp_path/'a.mrc')
    (tmp_path/'a.mrc').write_bytes(changed(raw, _88=b'\x91\1\0\0', _36=b'\4\0\0\0'))
    with pytest.raises(InputError, match='holds 4 volumes; wanted one'): open_volume(tmp_path/'a.mrc', 10.)
    (tmp_path/'a.mrc').write_bytes(changed(raw, _88=b'\x91\1\0\0', _36=bytes(4)))
    assert open_volume(tmp_path/'a.mrc', 10.).shape == cell.shape


def numpy_archive(cell):
    out = io.BytesIO()
    np.savez(out, cell)
    return out.getvalue()


def numpy_file(cell):
    out = io.BytesIO()
    np.save(out, cell)
    return out.getvalue()


def tiff(cell):
    import tifffile
    out = io.BytesIO()
    tifffile.imwrite(out, cell)
    return out.getvalue()


def png(cell):
    from PIL import Image
    out = io.BytesIO()
    Image.fromarray((99 * (cell[0] > 0)).astype(np.uint8)).save(out, 'PNG')
    return out.getvalue()


FOREIGN = {'a TIFF file': tiff, 'a NumPy file': numpy_file, 'a NumPy archive': numpy_archive, 'a picture of one slice': png,
           'an HDF5 file': lambda cell: b'\x89HDF\r\n\x1a\n' + bytes(3000), 'an NRRD file': lambda cell: b'NRRD0004\ntype: float', 'a NIfTI file': lambda cell: b'\x5c\1' + bytes(342) + b'n+1\0' + bytes(2000),
           'a DICOM file': lambda cell: bytes(128) + b'DICM' + bytes(3000), 'a MetaImage file': lambda cell: b'ObjectType = Image\n', 'an EM file': lambda cell: b'\6\0\0\5' + bytes(3000), 'a file of DigitalMicrograph': lambda cell: b'\0\0\0\4' + bytes(3000),
           'an IMOD model': lambda cell: b'IMODV1.2mod' + bytes(3000), 'an Amira file': lambda cell: b'# AmiraMesh BINARY-LITTLE-ENDIAN 2.1' + bytes(3000), 'an archive': lambda cell: b'PK\3\4' + bytes(3000), 'a surface': lambda cell: b'ply\nformat ascii',
           'JSON': lambda cell: b'{"type": "orientedPoint"}\n' * 90, 'a STAR file': lambda cell: b'\ndata_particles\n\nloop_\n_rlnCoordinateX #1\n1\n', 'text (CSV': lambda cell: 'x,y,z\ngröße\n'.encode() * 200}

@pytest.mark.parametrize('what', FOREIGN)
@pytest.mark.parametrize('name', ['mask.mrc', 'a mask.xyz', 'mask.rec.gz'])
def test_a_foreign_file_is_told_what_it_is(run, cell, tmp_path, what, name):
    "D10: by its first bytes, whatever its name; the line for Python makes the file that it says, and nothing is replaced."
    path = tmp_path/name
    raw = FOREIGN[what](cell)
    path.write_bytes(gzip.compress(raw) if name.endswith('.gz') else raw)
    with pytest.raises(InputError) as e: open_volume(path)
    said = str(e.value)
    assert said.startswith(f'{path}: is not an MRC file but {what}') and '; wanted MRC or OME-Zarr: ' in said and '\n' not in said
    if raw[:2] not in (b'II', b'\x93N', b'PK', b'\x89P') or what == 'an archive' or name.endswith('.gz'): return
    command = shlex.split(said.partition('; python ')[2])
    assert not Path(command[-1]).exists()
    done = run(sys.executable, *command)
    assert done.returncode == 0, done.stderr
    assert np.allclose(open_volume(command[-1])[:], np.where(cell[:1] > 0, 99, 0) if 'slice' in what else cell)


def test_a_new_file_replaces_no_other(cell, tmp_path):
    "L1: a folder, a text, a store; the tomogram that the result lies on. An older MRC file is replaced, as its name was given."
    (tmp_path/'notes.mrc').write_text('all of it')
    (tmp_path/'folder.mrc').mkdir()
    for name in ('notes.mrc', 'folder.mrc'):
        with pytest.raises(InputError, match='is there and is no MRC file; wanted another name'): write_mrc(tmp_path/name, cell)
    tomo = write_mrc(tmp_path/'cell.mrc', cell)
    with pytest.raises(InputError, match='is read, and is never changed; wanted another name'): write_mrc(tomo.path, cell > 0, like=tomo)
    assert (open_volume(tomo.path)[:] == cell).all() and (tmp_path/'notes.mrc').read_text() == 'all of it'
    assert (write_mrc(tomo.path, cell + 1)[:] == cell + 1).all()


def test_a_stack_of_images_has_no_z_to_compare(cell, tmp_path):
    path = write_mrc(tmp_path/'a.mrc', cell, 10.).path
    with mrcfile.mmap(path, 'r+', permissive=True) as f: f.header.mz = 1
    assert open_volume(path).pixel == 10


def test_a_written_file(cell, tmp_path):
    "It is valid, keeps the geometry of another, and states its range."
    with mrcfile.new(tmp_path/'in.mrc', cell) as f:
        f.voxel_size, f.nstart, f.header.origin = 8.69, (4, 5, 6), (10, 20, 30)
        f.add_label('aligned by hand')
        f.set_extended_header(np.frombuffer(b'tilt series 7', np.uint8))
    given = open_volume(tmp_path/'in.mrc')
    out = write_mrc(tmp_path/'out.mrc', cell < 0, like=given)
    assert (out.pixel, out.origin, out.dtype) == (8.69, (10., 20., 30.), np.int8) and (out[:] == (cell < 0)).all()
    assert [int(out.header[f'n{a}start']) for a in 'xyz'] == [4, 5, 6] and out.header.label[0] == given.header.label[0]
    assert out.extended == b'tilt series 7' and out.header.exttyp == given.header.exttyp
    whole = write_mrc(tmp_path/'whole.mrc', cell, 10.)
    assert mrcfile.validate(whole.path, print_file=open(os.devnull, 'w'))
    assert [float(whole.header[n]) for n in ('dmin', 'dmax', 'dmean', 'rms')] == pytest.approx([cell.min(), cell.max(), cell.mean(dtype=float), cell.std(dtype=float)], rel=1e-4, abs=1e-5)


def test_a_block_that_fails(cell, tmp_path):
    "The old file stays, and nothing lies beside it; a disk without the room is refused before."
    old = write_mrc(tmp_path/'out.mrc', cell)
    with pytest.raises(KeyboardInterrupt), new_mrc(tmp_path/'out.mrc', (9, 9, 9), np.float32) as new:
        new[0] = 7
        raise KeyboardInterrupt
    with pytest.raises(InputError, match='needs 4,000,000,000,001,024'), new_mrc(tmp_path/'huge.mrc', (1000, 10**6, 10**6), np.float32): pass
    with pytest.raises(InputError, match='cannot be written'), new_mrc(tmp_path/'none'/'a.mrc', (2, 2, 2), np.float32): pass
    assert (open_volume(old.path)[:] == cell).all() and [p.name for p in tmp_path.iterdir()] == ['out.mrc']


def test_what_a_killed_writer_left_is_removed_and_no_more(tmp_path):
    "A writer at work keeps its file, and so do files of other names."
    left, other = tmp_path/'.a[1].mrc.0123abcd.part', tmp_path/'.ab.mrc.0123abcd.part'
    for path in (left, other): path.write_bytes(b'half')
    with new_mrc(tmp_path/'a[1].mrc', (1, 4, 4), np.float32) as first:
        assert not left.exists()
        write_mrc(tmp_path/'a[1].mrc', np.ones((1, 4, 4), np.float32))
        first[0] = np.full((4, 4), 2, np.float32)
    assert (open_volume(tmp_path/'a[1].mrc')[:] == 2).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['.ab.mrc.0123abcd.part', 'a[1].mrc']
