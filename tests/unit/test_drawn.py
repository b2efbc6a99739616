"What was drawn in other programs becomes a mask."
import mrcfile
import numpy as np
import pytest
from membrane_nb.checks import InputError
from membrane_nb.drawn import convert
from membrane_nb.mrc import write_mrc
from membrane_nb.volume import open_volume

SIZE, PIXEL = (36, 44, 40), 12.


@pytest.fixture
def tomo(tmp_path):
    "A tomogram with an origin."
    with mrcfile.new(tmp_path/'tomo.mrc', np.zeros(SIZE, np.float32)) as f:
        f.voxel_size = PIXEL
        f.header.origin = (100, 200, 300)
    return tmp_path/'tomo.mrc'


@pytest.mark.parametrize('suffix', ['tif', 'npy', 'mrc', 'zarr'])
def test_labels_become_a_mask(tmp_path, tomo, capsys, suffix):
    labels = np.zeros(SIZE, np.int32)
    labels[5, 3:9, 4], labels[20, :4, 7] = 1, 2
    path = tmp_path/f'labels.{suffix}'
    if suffix == 'tif': pytest.importorskip('tifffile').imwrite(path, labels.astype(np.uint8))
    if suffix == 'npy': np.save(path, labels)
    if suffix == 'mrc': write_mrc(path, labels.astype(np.float32), 1.)
    if suffix == 'zarr': pytest.importorskip('zarr').save(str(path), labels)
    mask = convert(path, tomo)
    assert mask == tmp_path/'tomo_mask.mrc' and capsys.readouterr().out == f'{mask}: values 0 to 2, 2 of 36 slices hold some\n'
    back = open_volume(mask)
    assert (back[:] == labels).all() and back.dtype == np.int8 and back.pixel == PIXEL and back.origin == (100, 200, 300)
    with pytest.raises(InputError, match='tomo_mask.mrc: is there already; wanted another name'): convert(path, tomo)


def test_labels_that_are_refused(tmp_path, tomo):
    for array, said in ((np.zeros(SIZE[::-1]), 'has the shape .40, 44, 36.; wanted that of .*tomo.mrc, .36, 44, 40.'),
                        (np.full(SIZE, .5), 'holds fractions; wanted whole numbers'),
                        (np.full(SIZE, 10**6), 'holds values from 1000000 to 1000000; wanted')):
        np.save(tmp_path/'bad.npy', array)
        with pytest.raises(InputError, match=said): convert(tmp_path/'bad.npy', tomo)
    (tmp_path/'bad.tif').write_text('no picture')
    with pytest.raises(InputError, match='bad.tif: cannot be read'): convert(tmp_path/'bad.tif', tomo)
    with pytest.raises(InputError, match='gone.npy: cannot be read'): convert(tmp_path/'gone.npy', tomo)
    assert not (tmp_path/'tomo_mask.mrc').exists()
