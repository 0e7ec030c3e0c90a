"""Columns that are stored as the text they have: that nothing odd gets through, and the chunks made of it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import chunk_list
from ingest.chunk import decode_item, encode
from ingest.gather import clean_column
from ingest.item import item_size
from ingest.number_text import number_text, split_columns
from ingest.reading import Run
from ingest.usual import usual_run
from ingest.wire import decode
from tests import strategies as make
from tests.strategies import ARRIVAL_MS

BUCKET_S = ARRIVAL_MS // 1000 // 3_600 * 3_600 - 3_600
FIRST_US = BUCKET_S * 1_000_000

ODD: list[Any] = [
    None,
    True,
    False,
    "1",
    "",
    "\ud800",
    float("nan"),
    float("inf"),
    -0.0,
    1e-7,
    1e300,
    5e-324,
    10**38,
    -(10**38),
    10**5_000,
]
FINE: list[Any] = [0, 0.0, -0.05, 21.4, -3, 10**37, 1e15, 0.1 + 0.2, 123456789012345.6, 2**64]
cells = st.one_of(st.sampled_from(FINE), st.sampled_from(ODD), st.integers(), st.floats())


@pytest.mark.parametrize(
    "cell", ODD, ids=lambda cell: repr(cell)[:20] if cell != 10**5_000 else "5,000 digits"
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_odd_cell_anywhere_is_seen(cell: Any, place: int) -> None:
    column: list[Any] = [1.5, 2.5]
    column.insert(place, cell)
    assert number_text([[1.5, 2.5, 3.5], column], 3) is None
    assert number_text([column, [1, 2, 3]], 3) is None


def test_usual_numbers_are_taken() -> None:
    assert number_text([FINE], len(FINE)) is not None
    assert split_columns(b"[[1.5,-2],[0.05,3]]", ";") == ["1.5;-2", "0.05;3"]


@given(st.lists(cells, min_size=1, max_size=6))
def test_what_is_taken_needs_no_closer_look(column: list[Any]) -> None:
    text = number_text([column], len(column))
    if text is not None:
        cleaned, refused, holes = clean_column(column)
        assert (cleaned, refused, holes) == (column, {}, False)
        assert list(map(repr, cleaned)) == list(map(repr, column))
        assert json.loads(text) == [column]


@given(make.runs(first_us=FIRST_US, last_us=FIRST_US + 3_599_999_999))
def test_a_chunk_is_the_same_text_by_the_short_way(run: Run) -> None:
    plain = chunk_list.plain_body(run, BUCKET_S)
    assert plain is None or plain == chunk_list.body(run, BUCKET_S).json
    for item in encode(run, BUCKET_S, "abcdefghijklmnop", 1_764_000_000):
        stored = json.loads(item.body)
        assert item.size_bytes == item_size(stored)


def columnar(cell: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    def payload(count: int, step: Any, names: list[str], data: list[Any], lost: int) -> bytes:
        metrics = {
            name: [data[(place + i) % len(data)] for i in range(count)] for place, name in enumerate(names)
        }
        if lost and names:
            metrics[names[0]] = metrics[names[0]][:-1]
        dt_us = step if not isinstance(step, list) else (step * count)[: count - 1]
        fields = {"sensor_id": "press-7", "t0_us": FIRST_US, "dt_us": dt_us, "metrics": metrics}
        return msgspec.json.encode(fields)

    steps = st.one_of(st.integers(-1, 10**9), st.lists(st.integers(-1, 10**6), min_size=1, max_size=3))
    names = st.lists(st.sampled_from(["t", "h", "no good"]), unique=True, max_size=3)
    values = st.lists(cell, min_size=1, max_size=4)
    return st.builds(payload, st.integers(1, 5), steps, names, values, st.sampled_from([0, 0, 0, 1]))


@given(columnar(st.sampled_from([None, True, "x", -0.0, 1e-7, 10**38, 0, 21.4, -0.05, 7])))
def test_a_columnar_run_read_quickly_is_what_it_is_read_closely(payload: bytes) -> None:
    quick = usual_run(payload, ARRIVAL_MS)
    runs, problems = decode(payload, ARRIVAL_MS)
    if quick is not None:
        assert ([quick], []) == (runs, problems)
        assert repr(quick) == repr(runs[0])
        assert quick.encoded is not None
        stored = [item.body for item in encode(quick, BUCKET_S, "abcdefghijklmnop", 1_764_000_000)]
        assert stored == [item.body for item in encode(runs[0], BUCKET_S, "abcdefghijklmnop", 1_764_000_000)]
        (chunk,) = map(decode_item, map(json.loads, stored))
        assert (chunk.run.ts_us, chunk.run.metrics) == (quick.ts_us, quick.metrics)


def test_a_usual_run_is_read_quickly() -> None:
    payload = b'{"sensor_id":"a","t0_us":%d,"dt_us":%s,"metrics":{"t":[1.5,0,-2.5],"h":[7,7,7]}}'
    for dt_us in (b"1000000", b"[1000000,999999]"):
        quick = usual_run(payload % (FIRST_US, dt_us), ARRIVAL_MS)
        assert quick is not None
        assert decode(payload % (FIRST_US, dt_us), ARRIVAL_MS) == ([quick], [])
