"""Holds the table of README.md to the tests: every entry is there, and every test it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
PAGE = Path(__file__).resolve().parent / "README.md"
ENTRIES = [*(f"F{number}" for number in range(1, 33)), *(f"S{number}" for number in range(1, 13))]
REFERENCE = re.compile(r"`((?:\w+/)?test_\w+\.py)((?:::\w+)*)`")
SIMULATION = ("model/test_simulation.py", "")


def rows(text: str) -> dict[str, list[str]]:
    """The cells of each row of the catalogue, by entry. Raises ValueError where an entry stands twice."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if re.fullmatch(r"[FS]\d+", cells[0]):
            if cells[0] in found:
                raise ValueError(f"{cells[0]} stands twice")
            found[cells[0]] = cells
    return found


def references(text: str) -> list[tuple[str, str]]:
    """Every file, and test in it (empty for a whole file), that a text names; `simulation` is one of them."""
    named = [(file, test.removeprefix("::")) for file, test in REFERENCE.findall(text)]
    return [*named, SIMULATION] if re.search(r"\bsimulation\b", text) else named


@cache
def found_in(file: Path) -> frozenset[str]:
    """What pytest would call the file's tests, without importing it."""

    def walk(body: list[ast.stmt], before: str) -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.ClassDef):
                yield from walk(node.body, f"{before}{node.name}::")
            elif isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield before + node.name

    return frozenset(walk(ast.parse(file.read_text()).body, ""))


def test_every_entry_of_the_catalogue_has_its_row():
    found = rows(PAGE.read_text())
    assert list(found) == ENTRIES
    for entry, cells in found.items():
        assert len(cells) == 4, f"{entry} has {len(cells)} cells"
        assert all(cells), f"{entry} has an empty cell"


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_names_tests_that_exist(entry):
    """Also an entry that does not apply names what stands in its place, and says why."""
    _, _, does, shown_by = rows(PAGE.read_text())[entry]
    named = references(shown_by)
    assert named, f"{entry} names no test"
    for file, test in named:
        path = TESTS / file
        assert path.is_file(), f"{entry} names {file}, which is not there"
        assert found_in(path), f"{entry} names {file}, which holds no test"
        assert not test or test in found_in(path), f"{entry} names {file}::{test}, which is not there"
    assert "does not apply" not in does or len(does) > 60, f"{entry} does not say why it does not apply"


def test_what_the_cells_hold_is_nothing_but_references():
    """A name that is misspelt must not pass for a word."""
    for entry, cells in rows(PAGE.read_text()).items():
        rest = REFERENCE.sub("", cells[3]).replace("simulation", "").replace(",", "").strip()
        assert rest == "", f"{entry}: {rest}"


def test_every_file_named_on_the_page_exists():
    for name in set(re.findall(r"`((?:tests/)?[\w/]+\.py)`", PAGE.read_text())):
        places = (TESTS.parent / name, TESTS / name, PAGE.parent / name, TESTS.parent / "ingest" / name)
        assert any(place.is_file() for place in places), name


def test_a_missing_test_or_entry_would_be_noticed():
    text = "| F1 | a | b | `unit/test_x.py::TestA::test_b`, simulation |\n| F3 | a | b | `test_locks.py` |"
    assert list(rows(text)) == ["F1", "F3"]
    assert references(text)[:2] == [("unit/test_x.py", "TestA::test_b"), ("test_locks.py", "")]
    assert "test_every_entry_of_the_catalogue_has_its_row" in found_in(Path(__file__))
    with pytest.raises(ValueError, match="twice"):
        rows(text + "\n| F1 | a | b | c |")
