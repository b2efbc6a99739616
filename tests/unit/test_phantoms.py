"The catalogue of phantoms that a run draws from: made once, kept, and named by the code that makes them."
from membrane_nb.raw import raw_phantom
from membrane_nb.phantoms import phantom_code, phantom_parts


def test_phantoms_are_made_once_and_kept(tmp_path):
    options = dict(n=2, shape=(6, 64, 64), pixel=9., zoom=2., raw=.5, folder=tmp_path/'kept')
    parts = phantom_parts(2, **options)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path/'kept').iterdir()}
    assert len(files) == 4 and {path.suffix for path in files} == {'.npz'}
    again = phantom_parts(2, **options)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path/'kept').iterdir()}
    for part in parts:
        for (one, _), (other, _) in zip(parts[part], again[part]):
            assert one.voxels == other.voxels and one.name == other.name
    names = [tomo.name.rsplit(' ', 1)[0] for part in parts.values() for tomo, _ in part]
    assert sorted(names) == ['raw phantom'] * 2 + ['various phantom'] * 2


def test_the_name_of_the_code_is_that_of_its_phantoms(monkeypatch):
    import membrane_nb.phantoms as train
    before = phantom_code()
    assert before == phantom_code()
    monkeypatch.setitem(train._MAKERS, 'raw phantom', lambda seed, shape: raw_phantom(seed + 1, shape))
    assert before != phantom_code()
