"""Runs of a page: what `merge` makes of them is what it makes of the chunks one by one, in every order."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.chunk import decode_item, encode, item_size
from ingest.chunk_page import decode_readings
from ingest.errors import Corrupt
from ingest.keys import US
from ingest.reading import Column, Run, merge
from tests import strategies as make

BUCKET_S = 1_795_212_000
START_US = BUCKET_S * US
SENSOR = "press-7"

Items = list[dict[str, Any]]


def items_of(runs: list[Run]) -> Items:
    return [
        json.loads(item.body)
        for place, run in enumerate(runs)
        for item in encode(run, run.ts_us[0] // US // 3600 * 3600, f"batch{place}", BUCKET_S + 100)
    ]


def query(items: Items, separators: tuple[str, str] = (",", ":")) -> bytes:
    return json.dumps({"Items": items, "Count": len(items)}, separators=separators).encode()


def kinds(run: Run) -> dict[str, list[type]]:
    return {name: list(map(type, column)) for name, column in run.metrics.items()}


def check(items: Items, separators: tuple[str, str] = (",", ":")) -> int:
    """How many runs the items become, after a look that nothing else becomes of them."""
    page = decode_readings(query(items, separators))
    merged, expected = merge(page.runs), merge([decode_item(item).run for item in items])
    assert merged == expected
    assert kinds(merged) == kinds(expected)
    assert set(map(type, merged.ts_us)) == {int}
    assert (page.items, page.weigh()) == (len(items), sum(map(item_size, items)))
    return len(page.runs)


# --- every order, every kind ------------------------------------------------------------

plain_columns = st.sampled_from(["numbers", "whole", "constant", "text", "flag", "mixed", "holes"])


def column_of(kind: str, count: int, seed: int) -> Column:
    """A column of this kind, which is another for another seed."""
    cells: dict[str, Column] = {
        "numbers": [seed + i / 4 for i in range(count)],
        "whole": [seed * i for i in range(count)],
        "constant": [seed] * count,
        "text": [f"state {seed}"] * count,
        "flag": [seed % 2 == 0] * count,
        "mixed": [i if i % 2 else f"{i}" for i in range(count)],
        "holes": [None if i % 3 == 1 else i + seed for i in range(count)],
    }
    return cells[kind]


@st.composite
def pieces(draw: st.DrawFn) -> list[Run]:
    """Runs of one sensor that follow one another, leave gaps or overlap, on a grid or not, in any order."""
    runs: list[Run] = []
    at_us = START_US
    for seed in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 6))
        at_us += draw(st.sampled_from([0, 0, 0, 1, 7 * US, 3600 * US, -2 * US]))
        step_us = draw(st.sampled_from([1, US, US, 10 * US]))
        late = draw(st.sampled_from([0, 0, 3])) if step_us > 3 and count > 2 else 0
        ts_us = [at_us + i * step_us + (late if i == 1 else 0) for i in range(count)]
        names = draw(st.sampled_from([("b", "a"), ("b", "a"), ("b", "a"), ("a", "b"), ("a",)]))
        metrics = {name: column_of(draw(plain_columns), count, seed + 1) for name in names}
        if any(column[0] is None or None in column for column in metrics.values()):
            metrics["a"] = column_of("numbers", count, seed)
        runs.append(Run(SENSOR, ts_us, metrics, draw(st.sampled_from([make.ARRIVAL_MS, 7, 7]))))
        at_us = ts_us[-1] + step_us
    return draw(st.permutations(runs))


@given(pieces(), st.sampled_from([(",", ":"), (", ", ": ")]))
@settings(max_examples=400)
def test_the_runs_of_a_page_merge_to_what_its_chunks_merge_to(runs, separators):
    check(items_of(runs), separators)


@given(
    st.lists(
        make.runs(first_us=START_US, last_us=START_US + 3600 * US - 1, max_size=12), min_size=1, max_size=4
    )
)
@settings(max_examples=200)
def test_so_do_runs_of_every_value(runs):
    check(items_of([Run(SENSOR, run.ts_us, run.metrics, run.arrival_ms) for run in runs]))


# --- one run ----------------------------------------------------------------------------


def minute(place: int, metrics: dict[str, str], arrival_ms: int = 7, first_us: int | None = None) -> Run:
    start_us = START_US + place * 60 * US if first_us is None else first_us
    columns = {name: column_of(kind, 60, place) for name, kind in metrics.items()}
    return Run(SENSOR, [start_us + i * US for i in range(60)], columns, arrival_ms)


@pytest.mark.parametrize(
    "kind_of",
    [
        lambda place: "numbers",
        lambda place: "whole",
        lambda place: "constant",
        lambda place: "text",
        lambda place: "flag",
        lambda place: ("numbers", "constant", "text", "whole")[place % 4],
    ],
    ids=["numbers", "whole", "constant", "text", "flag", "by turns"],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
def test_chunks_that_follow_one_another_are_one_run(kind_of, separators):
    runs = [minute(place, {"b": kind_of(place), "a": "numbers"}) for place in (3, 0, 2, 61, 1)]
    assert check(items_of(runs), separators) == 1


def test_so_are_chunks_of_which_one_lacks_values():
    runs = [minute(0, {"a": "numbers", "b": "whole"}), minute(1, {"b": "holes", "a": "whole"})]
    assert check(items_of(runs)) == 1


def test_so_are_chunks_of_different_arrivals_whose_arrivals_are_kept():
    runs = [minute(place, {"a": "numbers", "b": "whole"}, arrival_ms=place) for place in (2, 0, 1)]
    items = items_of(runs)
    assert check(items) == 1
    (run,) = decode_readings(query(items)).runs
    assert run.arrival_ms == {name: [0] * 60 + [1] * 60 + [2] * 60 for name in "ab"}


def test_so_are_chunks_off_the_grid_and_single_readings():
    jitter = [i * US + i % 7 * 1000 for i in range(60)]
    late = Run(SENSOR, [START_US + 60 * US + at for at in jitter], {"a": column_of("numbers", 60, 1)}, 7)
    rare = Run(SENSOR, [START_US + 200 * US + i**3 for i in range(9)], {"a": column_of("whole", 9, 2)}, 7)
    one = Run(SENSOR, [START_US + 300 * US], {"a": [5.5]}, 7)
    items = items_of([one, rare, late, minute(0, {"a": "numbers"})])
    assert ["t" in item for item in items] == [False, True, True, False]
    assert check(items) == 1


# --- a closer look ----------------------------------------------------------------------


@pytest.mark.parametrize("shift_us", [-US, -59 * US, -60 * US, -60 * US + 1])
def test_chunks_that_share_an_instant_or_interlace_stay_apart(shift_us):
    runs = [
        minute(0, {"a": "numbers"}, arrival_ms=8),
        minute(1, {"a": "whole"}, first_us=START_US + 60 * US + shift_us),
    ]
    assert check(items_of(runs)) == 2
    assert check(items_of(runs[::-1])) == 2


def test_the_last_instant_counts_not_only_the_first_of_each():
    runs = [
        minute(0, {"a": "numbers"}),
        Run(SENSOR, [START_US + 10 * US], {"a": [1.5]}, 9),
        minute(1, {"a": "whole"}),
    ]
    assert check(items_of(runs)) == 3


def test_other_metrics_missing_instants_and_texts_stay_apart():
    plain = minute(0, {"a": "numbers", "b": "whole"})
    holed = minute(1, {"a": "numbers", "b": "whole"})
    del holed.ts_us[20], holed.metrics["a"][20], holed.metrics["b"][20]
    for other in (minute(1, {"b": "numbers"}), minute(1, {"a": "numbers", "b": "mixed"}), holed):
        assert check(items_of([plain, other])) == 2


@pytest.mark.parametrize("text", ["1E+2", "1e2", "1" + "0" * 38, "9" * 20, "5.0"])
def test_numbers_that_look_like_others_are_read_as_one_by_one(text):
    items = items_of([minute(place, {"a": "numbers"}) for place in range(3)])
    items[1]["v"]["M"]["a"]["L"][1]["N"] = text
    check(items)


def test_two_chunks_whose_faults_cancel_out_are_told():
    items = items_of([minute(place, {"a": "numbers", "b": "numbers"}) for place in range(3)])
    items[0]["n"], items[1]["n"] = {"N": "59"}, {"N": "61"}
    with pytest.raises(Corrupt, match="batch0"):
        decode_readings(query(items))


def test_lists_that_are_longer_and_shorter_by_as_much_are_told():
    items = items_of([minute(place, {"a": "numbers"}) for place in range(2)])
    first, second = (item["v"]["M"]["a"]["L"] for item in items)
    second.append(first.pop())
    with pytest.raises(Corrupt, match="batch0"):
        decode_readings(query(items))


def test_an_empty_page_has_no_runs():
    page = decode_readings(query([]))
    assert (page.runs, page.items, page.weigh(), page.following) == ([], 0, 0, None)
