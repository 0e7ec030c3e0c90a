"""Segments of our own writer are read without Arrow where they can be, and to the same values as with it."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import segment, segment_columns, segment_rows
from ingest.reading import Run, Span
from tests import strategies

START_US = 1_795_212_000_000_000
US = 1_000_000
ARRIVAL_MS = 1_795_212_000_000


@contextmanager
def without(name: str) -> Generator[None]:
    """One of the two ways of reading is closed."""

    def closed(*_: object) -> Any:
        raise segment_columns.Foreign("closed by the test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment_rows, name, closed)
        yield


def both(data: bytes, *asked: Any) -> tuple[list[Run], list[Run]]:
    """What is read without Arrow, and what Arrow reads."""
    with without("_read_any"):
        ours = segment.decode(data, *asked)
    with without("_read_ours"):
        return ours, segment.decode(data, *asked)


def kinds(runs: Sequence[Run]) -> list[list[type]]:
    return [list(map(type, column)) for run in runs for column in run.metrics.values()]


def walk(source: random.Random, count: int, decimals: int) -> list[float]:
    level, cells = 20.0, list[float]()
    for _ in range(count):
        level += source.gauss(0, 0.05)
        cells.append(round(level, decimals))
    return cells


@pytest.mark.parametrize("decimals", [0, 2, 17])
@pytest.mark.parametrize("arrivals", ["one", "per batch", "per value"])
def test_columns_of_numbers_need_no_arrow(decimals: int, arrivals: str) -> None:
    source = random.Random(7)
    count = 30_000  # a sensor of two metrics takes more than a row group
    columns: dict[str, Any] = {name: walk(source, count, decimals) for name in ("a", "b")}
    width = {"one": count, "per batch": 300, "per value": 1}[arrivals]
    ranks = [ARRIVAL_MS + place // width for place in range(count)]
    times = [START_US + place * US for place in range(count)]
    runs = [
        Run("one", times, columns, ARRIVAL_MS if arrivals == "one" else {"a": ranks, "b": ranks}),
        Run("two", times[::2], {"a": columns["a"][::2]}, ARRIVAL_MS + 9),
    ]
    data = segment.encode(runs).data
    for asked in ((), ("one",), ("two",), ("one", Span(START_US + 5, START_US + 21_000 * US), ("b",))):
        ours, arrows = both(data, *asked)
        assert ours == arrows
        assert kinds(ours) == kinds(arrows)
    (whole,) = segment.decode(data, "one")
    assert whole == runs[0]


def test_arrivals_that_stay_for_long_are_one_object_each() -> None:
    count = 3_000
    ranks = {"a": [ARRIVAL_MS + place // 300 for place in range(count)]}
    run = Run("one", [START_US + place for place in range(count)], {"a": [0.5] * count}, ranks)
    (found,) = segment.decode(segment.encode([run]).data)
    assert found == run
    assert len(set(map(id, found.arrivals("a")))) == 10


@st.composite
def numeric_runs(draw: st.DrawFn) -> list[Run]:
    names = draw(st.lists(strategies.sensor_ids(), min_size=1, max_size=3, unique=True))
    made: list[Run] = []
    for name in names:
        count = draw(st.integers(1, 20))
        cells = draw(st.lists(strategies.numbers(), min_size=count, max_size=count))
        start_us = START_US + draw(st.integers(0, 5))
        arrival_ms = draw(st.sampled_from([ARRIVAL_MS, ARRIVAL_MS + 1]))
        made.append(
            Run(
                name,
                list(range(start_us, start_us + count)),
                {"m": list(cells), "n": [1] * count},
                arrival_ms,
            )
        )
    return made


@settings(max_examples=150, deadline=None)
@given(numeric_runs())
def test_both_ways_read_the_same(runs: list[Run]) -> None:
    ours, arrows = both(segment.encode(runs).data)
    assert ours == arrows
    assert kinds(ours) == kinds(arrows)


def test_what_has_texts_is_read_by_arrow() -> None:
    run = Run("one", [START_US, START_US + 1], {"m": ["on", 2]}, ARRIVAL_MS)
    data = segment.encode([run]).data
    assert segment.decode(data) == [run]
    with without("_read_any"), pytest.raises(segment_columns.Foreign):
        segment.decode(data)


@pytest.mark.parametrize(
    "damage", [b"", b"\x15", b"\x15\x04\x15\x02", b"\x00" * 30, b"\xff" * 30, b"\x15\x04\x15\x02\x15\x09\x00"]
)
def test_bytes_that_are_no_pages_are_left_to_arrow(damage: bytes) -> None:
    with pytest.raises(segment_columns.Foreign):
        segment_columns.read_runs_chunk(memoryview(damage), 5, texts=True)


def test_a_thorough_segment_has_fewer_bytes_and_the_same_rows() -> None:
    count = 20_000
    cells: Any = walk(random.Random(3), count, 2)
    run = Run("one", [START_US + place * US for place in range(count)], {"m": cells}, ARRIVAL_MS)
    quick, thorough = segment.encode([run]), segment.encode([run], thorough=True)
    assert len(thorough.data) < 0.95 * len(quick.data)
    assert segment.decode(thorough.data) == segment.decode(quick.data) == [run]
