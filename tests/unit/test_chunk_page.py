"""Answers of the service, decoded whole: chunk for chunk and byte for byte as their items one by one."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.chunk import Chunk, decode_item, encode, item_size
from ingest.chunk_page import decode_get, decode_query, decode_readings
from ingest.errors import Corrupt
from ingest.item import number_size
from ingest.keys import US
from ingest.reading import Column, Run, number
from tests import strategies as make

BUCKET_S = 1_795_212_000
START_US = BUCKET_S * US
END_US = START_US + 3600 * US
GOLDEN = sorted((Path(__file__).parent.parent / "golden" / "chunk").glob("*.json"))
SEPARATORS = [(",", ":"), (", ", ": ")]
"""How JSON is written by the service, and by emulators."""

Items = list[dict[str, Any]]


def items_of(runs: list[Run], codecs: list[str]) -> Items:
    return [
        json.loads(item.body)
        for place, (run, codec) in enumerate(zip(runs, codecs, strict=False))
        for item in encode(run, BUCKET_S, f"batch{place}", BUCKET_S + 100, codec)
    ]


def query(items: Items, separators: tuple[str, str] = (",", ":"), **more: object) -> bytes:
    return json.dumps({"Items": items, "Count": len(items)} | more, separators=separators).encode()


# --- the plain decoder: what every attribute means, one value at a time -----------------


def plain_value(attribute: dict[str, Any]) -> Any:
    ((kind, value),) = attribute.items()
    if kind == "N":
        return number(value)
    if kind == "NULL":
        return None
    return [plain_value(element) for element in value] if kind == "L" else value


def plain_run(item: dict[str, Any]) -> Run:
    """The run of a chunk of lists."""
    found = {name: plain_value(item[name]) for name in item if name in ("n", "at", "t0", "dt", "t")}
    columns: dict[str, Column] = {}
    for name, stored in item["v"]["M"].items():
        columns[name] = plain_value(stored) if "L" in stored else []
    places = max(map(len, columns.values())) or found["n"]
    for name, stored in item["v"]["M"].items():
        if "L" not in stored:
            columns[name] = [plain_value(stored)] * places
    times = [START_US + found["t0"]]
    for place in range(1, places):
        if "t" not in found:
            times.append(times[0] + place * found["dt"])
        elif "dt" in found:
            times.append(times[0] + place * found["dt"] + found["t"][place - 1])
        else:
            times.append(times[-1] + found["t"][place - 1])
    kept = [i for i in range(places) if any(column[i] is not None for column in columns.values())]
    return Run(
        item["pk"]["S"].removeprefix("s#"),
        [times[i] for i in kept],
        {name: [column[i] for i in kept] for name, column in columns.items()},
        found["at"],
    )


def same(found: list[Chunk], expected: list[Chunk]) -> bool:
    """Equal, and of equal types: 1, 1.0 and True are three things."""
    return found == expected and [kinds(chunk.run) for chunk in found] == [
        kinds(chunk.run) for chunk in expected
    ]


def kinds(run: Run) -> list[Any]:
    return [
        [type(ts_us) for ts_us in run.ts_us],
        type(run.arrival_ms),
        *([type(cell) for cell in column] for column in run.metrics.values()),
    ]


some_runs = st.lists(make.runs(first_us=START_US, last_us=END_US - 1, max_size=12), min_size=1, max_size=4)


# --- the same chunks --------------------------------------------------------------------


@given(some_runs, st.sampled_from(SEPARATORS))
@settings(max_examples=200)
def test_lists_come_back_as_the_plain_decoder_reads_them(runs, separators):
    items = items_of(runs, ["list"] * len(runs))
    found = decode_query(query(items, separators))
    assert [chunk.run for chunk in found.chunks] == [plain_run(item) for item in items]
    assert same(found.chunks, [decode_item(item) for item in items])
    assert found.weigh() == sum(map(item_size, items))
    assert not found.following


@given(
    some_runs,
    st.lists(st.sampled_from(["list", "packed"]), min_size=4, max_size=4),
    st.sampled_from(SEPARATORS),
)
def test_both_codecs_in_any_order(runs, codecs, separators):
    items = items_of(runs, codecs)
    found = decode_query(query(items, separators))
    assert same(found.chunks, [decode_item(item) for item in items])
    assert found.weigh() == sum(map(item_size, items))


# Texts that are, or become on the way, what stands for numbers.
NASTY = [
    "",
    "1",
    ",",
    "1,2",
    "N",
    "NULL",
    "ULLtrue",
    '"},{"N":"',
    '{"N":"1"}',
    "E",
    "]",
    "[",
    "null",
    "\\",
    "ü",
]


@given(
    st.lists(
        st.one_of(st.sampled_from(NASTY), make.numbers(), st.none(), st.booleans()), min_size=2, max_size=6
    )
)
@example(["x", 3])
@example([3, "x", 4])
@example([True, 1])
def test_texts_among_numbers_stay_texts(cells):
    if cells[0] is None:
        cells[0] = 0
    times = [START_US + place * place * US for place in range(len(cells))]
    other: Column = [*[1.5] * (len(cells) - 1), 2]
    run = Run("s", times, {"a": cells, "b": other}, make.ARRIVAL_MS)
    items = items_of([run], ["list"])
    found = decode_query(query(items))
    assert same(found.chunks, [decode_item(item) for item in items])
    assert make.ranked_cells(found.chunks[0].run) == make.ranked_cells(run)
    assert found.weigh() == sum(map(item_size, items))


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_was_once_written_is_read_for_ever(path):
    item = json.loads(path.read_text())["item"]
    found = decode_query(query([item]))
    assert same(found.chunks, [decode_item(item)])
    assert found.weigh() == item_size(item)


# --- weight -----------------------------------------------------------------------------

digits = st.text("0012345", min_size=1, max_size=9)


@st.composite
def number_texts(draw) -> str:
    """Numbers as the service writes them: many zeros, no exponent, no needless digit."""
    whole = draw(digits).lstrip("0") or "0"
    part = draw(st.one_of(st.just(""), digits)).rstrip("0")
    text = f"{whole}.{part}" if part else whole
    return f"-{text}" if draw(st.booleans()) and text != "0" else text


@given(st.lists(number_texts(), min_size=2, max_size=30))
@example(["0", "0", "0"])
@example(["100", "10000", "100000", "-2000"])
@example(["0.001", "-0.0001", "10.001", "0.00001", "100.001"])
@settings(max_examples=300)
def test_numbers_weigh_together_what_they_weigh_alone(texts):
    items = items_of(
        [Run("s", [START_US + i for i in range(len(texts))], {"a": [0.5] * len(texts)}, 1)], ["list"]
    )
    items[0]["v"] = {"M": {"a": {"L": [{"N": text} for text in texts]}}}
    rest = item_size(items[0]) - sum(number_size(text) for text in texts)
    assert decode_query(query(items)).weigh() == rest + sum(map(number_size, texts))


@pytest.mark.parametrize(
    "text", ["1E+2", "1" + "0" * 38, "9" * 38, "-" + "1" + "0" * 125, "1.5", "0." + "0" * 60 + "1"]
)
def test_long_numbers_and_exponents_are_read_as_one_by_one(text):
    items = items_of([Run("s", [START_US, START_US + 1], {"a": [1, 2]}, 1)], ["list"])
    items[0]["v"]["M"]["a"]["L"][1]["N"] = text
    assert same(decode_query(query(items)).chunks, [decode_item(item) for item in items])
    assert decode_query(query(items)).chunks[0].run.metrics["a"] == [1, number(text)]


# --- damage -----------------------------------------------------------------------------


def good() -> Items:
    times = [START_US + step for step in (0, 1, 5)]
    runs = [
        Run(f"press-{i}", times, {"a": [1, 2, 3], "b": [1.5, None, "x"], "c": [4, 4, 4]}, 7) for i in range(3)
    ]
    return items_of(runs, ["list"] * 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"c": {"S": "z"}},
        {"c": None},
        {"n": {"N": "2"}},
        {"n": {"N": "4"}},
        {"n": {"S": "x"}},
        {"n": {"N": "x"}},
        {"n": {"N": "3.5"}},
        {"t": {"L": [{"N": "1"}]}},
        {"t": {"L": [{"N": "1"}, {"N": "0"}]}},
        {"t": {"L": [{"N": "5"}, {"N": "-1"}]}},
        {"t": {"L": [{"N": "1"}, {"N": "4.5"}]}},
        {"t": {"L": [{"N": "1"}, {"NULL": True}]}},
        {"t": {"N": "1"}},
        {"t0": None},
        {"v": {"M": {"a": {"L": [{"N": "1"}]}, "b": {"L": [{"N": "1"}, {"N": "2"}, {"N": "3"}]}}}},
        {"v": {"M": {"a": {"L": [{"SS": ["1"]}, {"N": "2"}, {"N": "3"}]}}}},
        {"v": {"M": {"a": {"L": [{"L": [{"N": "1"}]}, {"N": "2"}, {"N": "3"}]}}}},
        {"v": {"M": {"a": {"L": [{"N": "1"}, {"N": "2"}, {"B": "AAAA"}]}}}},
        {"v": {"M": {"a": {"B": "AAAA"}}}},
        {"v": {"M": {"a": {"SS": ["x"]}}}},
        {"v": {"M": {"a": {"N": "x"}}}},
        {"v": {"L": []}},
        {"at": None},
        {"ttl": None},
        {"sk": {"S": "2026-11-20T22:00Z"}},
    ],
)
def test_the_chunk_that_contradicts_itself_is_named(changes):
    items = good()
    items[1] = {name: value for name, value in (items[1] | changes).items() if value is not None}
    with pytest.raises(Corrupt, match="press-1"):
        decode_query(query(items))
    with pytest.raises(Corrupt, match="press-1"):
        decode_readings(query(items))


def test_an_attribute_nobody_knows_is_passed_over_and_weighed():
    items = good()
    items[1]["note"] = {"S": "kept"}
    found = decode_query(query(items, LastEvaluatedKey={"pk": {"S": "x"}}))
    assert same(found.chunks, [decode_item(item) for item in items])
    assert found.weigh() == sum(map(item_size, items))
    assert found.following == {"pk": {"S": "x"}}


# --- answers ----------------------------------------------------------------------------


def test_an_empty_answer_holds_nothing():
    found = decode_query(query([]))
    assert (found.chunks, found.following, found.told_units, found.weigh()) == ([], None, None, 0)
    got = decode_get(b'{"Responses":{},"UnprocessedKeys":{}}', "readings")
    assert (got.chunks, got.following, got.weigh()) == ([], [], 0)


@pytest.mark.parametrize("note", [False, True])
def test_the_answer_to_a_get_has_chunks_and_what_is_left(note):
    items = good()
    if note:
        items[2]["note"] = {"BOOL": True}
    left = [{"pk": {"S": "s#x"}, "sk": {"S": "y"}}]
    answer = {"Responses": {"readings": items}, "UnprocessedKeys": {"readings": {"Keys": left}}}
    found = decode_get(json.dumps(answer).encode(), "readings")
    assert same(found.chunks, [decode_item(item) for item in items])
    assert (found.weigh(), found.following) == (sum(map(item_size, items)), left)


# --- corners ----------------------------------------------------------------------------


def test_a_reading_with_an_empty_list_of_steps_is_read_and_weighed():
    items = items_of([Run("s", [START_US], {"a": [2.5]}, 1)], ["list"])
    items[0]["t"] = {"L": []}
    found = decode_query(query(items))
    assert same(found.chunks, [decode_item(item) for item in items])
    assert found.weigh() == item_size(items[0])


def test_a_missing_instant_is_told_from_one_whose_first_metric_is_absent():
    steps = [place for place in range(40) if place != 20]
    columns: dict[str, Column] = {
        "a": [None if step == 7 else step + 0.5 for step in steps],
        "b": [step + 0.25 for step in steps],
    }
    run = Run("s", [START_US + step * US for step in steps], columns, 1)
    items = items_of([run], ["list"])
    assert "t" not in items[0]
    assert [chunk.run for chunk in decode_query(query(items)).chunks] == [run]
