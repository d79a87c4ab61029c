"""How statements are written: what one Python takes, all must."""

import re
from pathlib import Path

import pytest

import tq_sqlite

FILES = sorted(Path(tq_sqlite.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_no_value_is_bound_by_number(file: Path) -> None:
    found = re.findall(r".*\?[0-9].*", file.read_text())
    assert not found, "Python 3.12 warns of ?1 bound from a sequence, 3.14 refuses it: write ?, or :name and a mapping"
