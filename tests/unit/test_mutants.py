"Each change that `mutants.py` makes has its place, so that none is passed over in silence."
import subprocess, sys

import pytest
from conftest import ROOT
from mutants import MUTANTS, lost


@pytest.mark.parametrize('page', MUTANTS)
def test_every_place_is_found_exactly_once(page):
    assert lost([page]) == []


def test_a_place_that_is_gone_ends_the_command(monkeypatch, tmp_path):
    monkeypatch.setitem(MUTANTS, 'toolbox/01_checks', [('not there', 'pass'), ('import', 'pass')])
    missing = lost(['toolbox/01_checks'])
    assert missing[0] == "toolbox/01_checks: found 0 times: 'not there'" and missing[1].startswith('toolbox/01_checks: found ')
    (tmp_path/'tests').mkdir()
    (tmp_path/'tests'/'mutants.py').write_text((ROOT/'tests'/'mutants.py').read_text().replace("'val = test - (k - 1) - size'", "'gone'"))
    (tmp_path/'nbs').symlink_to(ROOT/'nbs')
    done = subprocess.run([sys.executable, tmp_path/'tests'/'mutants.py', 'toolbox/16_split'], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines() == ["toolbox/16_split: found 0 times: 'gone'"]
