"""What senders may send, what becomes of it, and that no bytes make the decoder fail."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import instant
from ingest.reading import AHEAD_US, EARLIEST_US, Run, canonical, is_metric_name, is_sensor_id, number_problem
from ingest.reject import REASONS, Problem
from ingest.senml import split_name
from ingest.wire import decode
from ingest.wire_encode import encode_reading, encode_run
from tests import strategies as own

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GOLDEN = Path(__file__).parent.parent / "golden" / "wire"
ARRIVAL_MS = own.ARRIVAL_MS
NOW_US = ARRIVAL_MS * 1000
GOOD = {"sensor_id": "beside", "ts": ARRIVAL_MS, "metrics": {"kept": 1.5}}
GOOD_CELLS = {"beside": {(NOW_US, "kept"): ("number", "1.5")}}


def lines(*documents: object) -> bytes:
    return b"\n".join(
        document if isinstance(document, bytes) else json.dumps(document).encode() for document in documents
    )


def outcome(payload: bytes) -> tuple[dict[str, dict[tuple[int, str], tuple[str, str]]], dict[str, int]]:
    """The cells per sensor and how many were lost per reason, after checking what always holds."""
    runs, problems = decode(payload, ARRIVAL_MS)
    check(runs, problems)
    lost: dict[str, int] = {}
    for problem in problems:
        lost[problem.reason] = lost.get(problem.reason, 0) + problem.count
    return own.cells_by_sensor(runs), lost


def check(runs: list[Run], problems: list[Problem]) -> None:
    """What holds for any payload: runs are valid and one per sensor, problems are named and told apart."""
    assert len({run.sensor_id for run in runs}) == len(runs)
    for run in runs:
        assert is_sensor_id(run.sensor_id)
        assert run.ts_us == sorted(set(run.ts_us))
        assert run.ts_us
        assert run.ts_us[0] >= EARLIEST_US
        assert run.ts_us[-1] < NOW_US + AHEAD_US
        assert run.arrival_ms == ARRIVAL_MS
        for name, column in run.metrics.items():
            assert is_metric_name(name)
            assert len(column) == len(run.ts_us)
            assert any(value is not None for value in column)
            for value in column:
                assert value is None or type(value) in (bool, int, float, str)
                if isinstance(value, str):
                    value.encode()
                elif value is not None:
                    assert number_problem(value) is None
                    assert str(value) != "-0.0"
        assert all(any(value is not None for value in row) for row in zip(*run.metrics.values(), strict=True))
    assert len({(problem.part, problem.reason) for problem in problems}) == len(problems)
    for problem in problems:
        assert problem.reason in REASONS
        assert problem.count > 0
        assert problem.detail
        assert (problem.part + problem.detail).isascii() or problem.reason == "not_json"
        assert problem.sensor_id is None or is_sensor_id(problem.sensor_id)


# --- golden payloads --------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.expected.json")), ids=lambda path: path.name)
def test_payloads_of_every_format_decode_as_they_always_did(path: Path) -> None:
    expected = json.loads(path.read_text())
    runs, problems = decode(
        path.with_name(path.name.removesuffix(".expected.json")).read_bytes(), expected["arrival_ms"]
    )
    assert [
        {"sensor_id": run.sensor_id, "ts_us": run.ts_us, "metrics": run.metrics} for run in runs
    ] == expected["runs"]
    assert [
        {
            "reason": problem.reason,
            "part": problem.part,
            "count": problem.count,
            "payload": None if problem.payload is None else problem.payload.decode(),
        }
        for problem in problems
    ] == expected["problems"]
    kinds = [[list(map(type, column)) for column in run.metrics.values()] for run in runs]
    assert kinds == [
        [list(map(type, column)) for column in run["metrics"].values()] for run in expected["runs"]
    ]


def test_a_published_run_keeps_its_bytes() -> None:
    run = Run(
        "press-7", [NOW_US, NOW_US + 1000, NOW_US + 2000], {"t": [20.5, None, 3.0], "n": [1.0, 2.0, -3.0]}, 0
    )
    assert encode_run(run) == (
        b'{"sensor_id":"press-7","t0_us":1795212000000000,"dt_us":1000,"metrics":{"t":[20.5,null,3.0],"n":[1,2,-3]}}'
    )
    assert encode_reading("press-7", 1386018900123456, {"t": 21.4, "on": True}) == (
        b'{"sensor_id":"press-7","ts":1386018900123.456,"metrics":{"t":21.4,"on":true}}'
    )


# --- round trips ------------------------------------------------------------------------


def wrapped(payload: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(
        [payload, gzip.compress(payload), zstd.compress(payload), zstd.compress(gzip.compress(payload))]
    )


@settings(max_examples=250, deadline=None)
@given(own.runs(), st.data())
def test_a_run_comes_back_as_it_was_sent(run: Run, data: st.DataObject) -> None:
    payload = data.draw(wrapped(encode_run(run)))
    runs, problems = decode(payload, ARRIVAL_MS)
    assert problems == []
    (found,) = runs
    assert (found.sensor_id, found.arrival_ms, found.ts_us) == (run.sensor_id, ARRIVAL_MS, run.ts_us)
    assert own.cells(found) == own.cells(run)


def as_readings(run: Run) -> list[tuple[int, dict[str, Any]]]:
    return [
        (ts_us, {name: column[i] for name, column in run.metrics.items() if column[i] is not None})
        for i, ts_us in enumerate(run.ts_us)
    ]


@settings(max_examples=150, deadline=None)
@given(own.runs(max_size=8), own.runs(max_size=8), st.randoms(use_true_random=False))
def test_single_readings_in_any_order_and_form_are_the_run_they_came_from(
    left: Run, right: Run, shuffle: random.Random
) -> None:
    documents = [
        encode_reading(run.sensor_id, ts_us, m) for run in (left, right) for ts_us, m in as_readings(run)
    ]
    expected = own.cells_by_sensor([left, right])
    ordered = left.sensor_id != right.sensor_id
    if ordered:
        shuffle.shuffle(documents)
    assert outcome(b"\n".join(documents)) == (expected, {})
    assert outcome(b"[" + b" ,\n ".join(documents) + b"]") == (expected, {})
    found: dict[str, dict[tuple[int, str], tuple[str, str]]] = {}
    for document in documents:
        for sensor_id, cells in outcome(document)[0].items():
            found.setdefault(sensor_id, {}).update(cells)
    assert found == expected


@settings(max_examples=150, deadline=None)
@given(own.runs(max_size=1))
def test_all_forms_of_one_reading_mean_the_same(run: Run) -> None:
    ((ts_us, metrics),) = as_readings(run)
    ts_ms = json.loads(encode_reading("x", ts_us, {}))["ts"]
    nested = {"sensor_id": run.sensor_id, "ts": ts_ms, "metrics": metrics}
    expected = ({run.sensor_id: own.cells(run)}, {})
    assert outcome(encode_reading(run.sensor_id, ts_us, metrics)) == expected
    assert outcome(json.dumps(nested, indent=2).encode()) == expected
    assert outcome(json.dumps(nested | {"beside": 1}).encode()) == expected
    assert outcome(encode_run(run)) == expected
    assert outcome(lines(b"", encode_run(run), b" ", encode_run(run), b"")) == expected
    if not {"sensor_id", "ts", "metrics", "t0_us"} & metrics.keys():
        assert outcome(json.dumps({"sensor_id": run.sensor_id, "ts": ts_ms} | metrics).encode()) == expected
    pack = [{"bn": run.sensor_id + "/", "bt": ts_us / 1e6}]
    for name, value in metrics.items():
        field = {"number": "v", "flag": "vb", "text": "vs"}[own.kind_of(value)]
        pack.append({"n": name, field: value})
    if instant.from_seconds(instant.add(ts_us / 1e6, 0)) == ts_us:
        assert outcome(json.dumps(pack).encode()) == expected


BAD_VALUES = ["NaN", "-Infinity", "1e400", "9" * 5000, "1e126", "1e-131", "[[]]", "{}", '"\\ud800"']


@settings(max_examples=150, deadline=None)
@given(own.runs(), st.data())
def test_a_bad_value_costs_only_itself(run: Run, data: st.DataObject) -> None:
    expected = own.cells(run)
    count = 0
    texts: list[str] = []
    for name, column in run.metrics.items():
        cells = [json.dumps(value) for value in column]
        for i in data.draw(st.sets(st.integers(0, len(column) - 1), max_size=3)):
            cells[i] = data.draw(st.sampled_from(BAD_VALUES))
            expected.pop((run.ts_us[i], name), None)
            count += 1
        texts.append(f'"{name}":[{",".join(cells)}]')
    deltas = [later - earlier for earlier, later in pairwise(run.ts_us)]
    head = f'{{"sensor_id":"{run.sensor_id}","t0_us":{run.ts_us[0]},"dt_us":{deltas},"metrics":'
    found, lost = outcome(f"{head}{{{','.join(texts)}}}}}".encode())
    assert found == ({run.sensor_id: expected} if expected else {})
    assert sum(lost.values()) == count
    assert "no_metrics" not in lost


# --- times ------------------------------------------------------------------------------


@given(st.integers(EARLIEST_US, own.LATEST_US))
def test_milliseconds_with_three_decimals_are_exact(ts_us: int) -> None:
    text = f"{ts_us // 1000}.{ts_us % 1000:03d}"
    payload = f'{{"sensor_id":"a","ts":{text},"metrics":{{"m":1}}}}'.encode()
    assert outcome(payload)[0] == {"a": {(ts_us, "m"): ("number", "1")}}


@given(
    st.integers(EARLIEST_US, own.LATEST_US),
    st.integers(-1439, 1439),
    st.integers(0, 9),
    st.sampled_from("Tt "),
)
def test_rfc_3339_in_every_dress_is_the_same_instant(
    ts_us: int, offset_min: int, digits: int, between: str
) -> None:
    ts_us -= ts_us % 10 ** max(0, 6 - digits)
    zone = dt.timezone(dt.timedelta(minutes=offset_min))
    at = dt.datetime.fromtimestamp(ts_us // 1_000_000, zone)
    fraction = "." + f"{ts_us % 1_000_000:06d}000"[:digits] if digits else ""
    offset = f"{'-' if offset_min < 0 else '+'}{abs(offset_min) // 60:02d}:{abs(offset_min) % 60:02d}"
    text = at.strftime(f"%Y-%m-%d{between}%H:%M:%S") + fraction + offset
    assert instant.from_text(text) == ts_us


@pytest.mark.parametrize(
    ("text", "ts_us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2013-12-02T21:15:00z", 1386018900_000_000),
        ("2013-12-02t21:15:00.1234564999Z", None),
        ("2013-12-02t21:15:00.123456499Z", 1386018900_123_456),
        ("2013-12-02t21:15:00.123456501Z", 1386018900_123_457),
        ("2013-12-02t21:15:00.999999999Z", 1386018901_000_000),
        ("2016-12-31T23:59:60Z", 1483228800_000_000),
        ("2016-12-31T22:59:60.5-01:00", 1483228800_500_000),
        ("2016-12-31T22:59:60Z", None),
        ("2024-02-30T00:00:00Z", None),
        ("2023-02-29T00:00:00Z", None),
        ("2024-01-01T24:00:00Z", None),
        ("2024-01-01T00:60:00Z", None),
        ("2024-01-01T00:00:61Z", None),
        ("2024-01-01T00:00:00+24:00", None),
        ("2024-01-01T00:00:00", None),
        ("2024-01-01", None),
        ("0000-01-01T00:00:00Z", None),
        ("2024-01-01T00:00:00Z\n", None),
        ("٢٠٢٤-01-01T00:00:00Z", None),
        ("1386018900123", None),
        ("", None),
    ],
)
def test_rfc_3339_edges(text: str, ts_us: int | None) -> None:
    if ts_us is None:
        with pytest.raises(ValueError):  # noqa: PT011 - the message is for the reject, its kind is what counts
            instant.from_text(text)
    else:
        assert instant.from_text(text) == ts_us


@pytest.mark.parametrize(("ts_us", "kept"), [(EARLIEST_US, True), (EARLIEST_US - 1, False)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_first_and_last_instant_that_are_kept(ts_us: int, kept: bool, mirrored: bool) -> None:
    if mirrored:
        ts_us = EARLIEST_US + NOW_US + AHEAD_US - 1 - ts_us
    cells = {"a": {(ts_us, "m"): ("number", "1")}} if kept else {}
    lost = {} if kept else {"ts_out_of_range": 1}
    assert outcome(encode_reading("a", ts_us, {"m": 1})) == (cells, lost)
    assert outcome(encode_run(Run("a", [ts_us], {"m": [1]}, 0))) == (cells, lost)


@pytest.mark.parametrize(
    "ts", ["true", "null", "[]", "NaN", "1e400", "9" * 5000, '"soon"', '"2024-13-01T00:00:00Z"']
)
def test_a_time_that_cannot_be_read_is_named(ts: str) -> None:
    payload = f'{{"sensor_id":"a","ts":{ts},"metrics":{{"m":1}}}}'.encode()
    assert outcome(lines(payload, GOOD)) == (GOOD_CELLS, {"bad_timestamp": 1})


# --- hostile input ----------------------------------------------------------------------

HOSTILE: dict[str, tuple[bytes, str]] = {
    "nothing like JSON": (b"temperature=21", "not_json"),
    "bytes": (b"\x00\x01\x02", "not_json"),
    "cut short": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":1', "not_json"),
    "trailing comma": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":1},}', "not_json"),
    "two documents": (b'{"sensor_id":"a"}{"sensor_id":"b"}', "not_json"),
    "byte order mark": (b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), "not_json"),
    "UTF-16": (json.dumps(GOOD).encode("utf-16"), "not_utf8"),
    "invalid UTF-8": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":"\xff"}}', "not_utf8"),
    "deep array": (b"[" * 100_000 + b"]" * 100_000, "too_deep"),
    "deep object": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too_deep"),
    "deep metric": (
        b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        "too_deep",
    ),
    "a number": (b"5", "unknown_format"),
    "null": (b"null", "unknown_format"),
    "another object": (b'{"hello":"world"}', "unknown_format"),
    "empty array": (b"[]", "empty_record"),
    "no sensor": (b'{"ts":1795212000000,"metrics":{"m":1}}', "missing_field"),
    "no time": (b'{"sensor_id":"a","metrics":{"m":1}}', "missing_field"),
    "no step": (b'{"sensor_id":"a","t0_us":1795212000000000,"metrics":{"m":[1]}}', "missing_field"),
    "no metrics": (b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":[]}', "missing_field"),
    "empty metrics": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{}}', "no_metrics"),
    "flat without metrics": (b'{"sensor_id":"a","ts":1795212000000}', "no_metrics"),
    "only null": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":null}}', "no_metrics"),
    "empty columns": (
        b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":1,"metrics":{"m":[]}}',
        "no_metrics",
    ),
    "null columns": (
        b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":1,"metrics":{"m":[null]}}',
        "no_metrics",
    ),
    "sensor is a number": (b'{"sensor_id":5,"ts":1795212000000,"metrics":{"m":1}}', "wrong_type"),
    "metrics is an array": (b'{"sensor_id":"a","ts":1795212000000,"metrics":[1]}', "wrong_type"),
    "value is an array": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":[1]}}', "wrong_type"),
    "column is a number": (
        b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":1,"metrics":{"m":1}}',
        "wrong_type",
    ),
    "t0 is a fraction": (
        b'{"sensor_id":"a","t0_us":1795212000000000.5,"dt_us":1,"metrics":{"m":[1]}}',
        "bad_timestamp",
    ),
    "a delta is text": (
        b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":["1"],"metrics":{"m":[1,2]}}',
        "bad_timestamp",
    ),
    "a delta is true": (
        b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":[true],"metrics":{"m":[1,2]}}',
        "bad_timestamp",
    ),
    "step is null": (
        b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":null,"metrics":{"m":[1]}}',
        "bad_timestamp",
    ),
    "uneven columns": (
        b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":1,"metrics":{"m":[1],"n":[1,2]}}',
        "length_mismatch",
    ),
    "NaN": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":NaN}}', "not_finite"),
    "infinite": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":-Infinity}}', "not_finite"),
    "beyond doubles": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":1e400}}', "number_out_of_range"),
    "beyond the table": (
        b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":1e126}}',
        "number_out_of_range",
    ),
    "too small": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":-9e-131}}', "number_out_of_range"),
    "39 digits": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":1%s}}' % (b"0" * 38), "int_too_long"),
    "5,000 digits": (
        b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":-%s}}' % (b"9" * 5000),
        "int_too_long",
    ),
    "lone surrogate": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":"\\ud800"}}', "not_utf8"),
    "surrogate as name": (b'{"sensor_id":"a","ts":1795212000000,"metrics":{"\\ud800":1}}', "bad_metric_name"),
    "surrogate as sensor": (b'{"sensor_id":"\\udfff","ts":1795212000000,"metrics":{"m":1}}', "bad_sensor_id"),
    "long text": (
        json.dumps({"sensor_id": "a", "ts": ARRIVAL_MS, "metrics": {"m": "é" * 16_385}}).encode(),
        "reading_too_large",
    ),
    "1970": (b'{"sensor_id":"a","ts":0,"metrics":{"m":1}}', "ts_out_of_range"),
    "2100": (b'{"sensor_id":"a","ts":"2100-01-01T00:00:00Z","metrics":{"m":1}}', "ts_out_of_range"),
    "seconds for ms": (b'{"sensor_id":"a","ts":1795212000,"metrics":{"m":1}}', "ts_out_of_range"),
    "a year of 400 digits": (
        b'{"sensor_id":"a","t0_us":%s,"dt_us":1,"metrics":{"m":[1]}}' % (b"9" * 300),
        "ts_out_of_range",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused_with_their_reason_and_cost_no_neighbour(name: str) -> None:
    payload, reason = HOSTILE[name]
    assert outcome(payload) == ({}, {reason: 1})
    for document in (
        payload + b"\n" + json.dumps(GOOD).encode(),
        json.dumps(GOOD).encode() + b"\r\n\r\n" + payload,
    ):
        if name != "UTF-16":
            assert outcome(document) == (GOOD_CELLS, {reason: 1})
            (problem,) = decode(document, ARRIVAL_MS)[1]
            assert problem.payload in (None, payload, payload + b"\r")
            assert problem.part.startswith("line ")


SENSORS = [
    "",
    "..",
    "a..b",
    "../etc/passwd",
    "/a",
    "a/",
    "a//b",
    "-a",
    "a b",
    "a\n",
    "a\x00",
    "a#b",
    "a%2e",
    "é",
    "\u202ea",
    "<img onerror>",
    "x" * 129,
    "x" * 100_000,
]


@pytest.mark.parametrize("sensor_id", SENSORS, ids=lambda text: ascii(text[:20]))
def test_hostile_sensor_ids_enter_through_no_format(sensor_id: str) -> None:
    reading = {"sensor_id": sensor_id, "ts": ARRIVAL_MS, "metrics": {"m": 1}}
    columnar = {"sensor_id": sensor_id, "t0_us": NOW_US, "dt_us": [], "metrics": {"m": [1]}}
    flat = {"sensor_id": sensor_id, "ts": ARRIVAL_MS, "m": 1}
    for document in (reading, columnar, flat, [reading], [columnar]):
        assert outcome(json.dumps(document).encode()) == ({}, {"bad_sensor_id": 1})
    assert outcome(lines(reading, GOOD, columnar)) == (GOOD_CELLS, {"bad_sensor_id": 2})
    cells, _ = outcome(json.dumps([{"bn": sensor_id, "n": "m", "v": 1}]).encode())
    assert all(is_sensor_id(found) for found in cells)


def test_a_bad_metric_name_costs_only_that_metric() -> None:
    for name in ("", "9", "a b", "a\n", "é", "a" * 65, "a/b", "\x00", "a" * 100_000):
        assert outcome(json.dumps(GOOD | {"metrics": {name: 1, "kept": 1.5}}).encode()) == (
            GOOD_CELLS,
            {"bad_metric_name": 1},
        )
        columnar = {
            "sensor_id": "beside",
            "t0_us": NOW_US,
            "dt_us": 5,
            "metrics": {name: [1, 2], "kept": [1.5, None]},
        }
        assert outcome(json.dumps(columnar).encode()) == (GOOD_CELLS, {"bad_metric_name": 2})


def test_the_last_value_of_an_instant_wins_within_a_record() -> None:
    first, last = (
        {"sensor_id": "a", "ts": ARRIVAL_MS, "metrics": {"m": 9, "n": 1}},
        {"sensor_id": "a", "ts": ARRIVAL_MS},
    )
    expected = {"a": {(NOW_US, "m"): ("number", "1"), (NOW_US, "n"): ("number", "1")}}
    assert outcome(lines(first, last | {"metrics": {"m": 1}})) == (expected, {})
    assert outcome(lines(first, {"sensor_id": "a", "t0_us": NOW_US, "dt_us": [], "metrics": {"m": [1]}})) == (
        expected,
        {},
    )
    assert outcome(json.dumps([first, last | {"metrics": {"m": 1}}]).encode()) == (expected, {})
    columns = {"m": [7, 8, 9, 1], "n": [1, None, None, None]}
    repeated = json.dumps(
        {"sensor_id": "a", "t0_us": NOW_US, "dt_us": [5, -5, 0], "metrics": columns}
    ).encode()
    expected["a"][NOW_US + 5, "m"] = ("number", "8")
    assert outcome(repeated) == (expected, {})
    keys_twice = b'{"sensor_id":"x","sensor_id":"a","ts":1795212000000,"metrics":{"m":9,"m":1}}'
    assert outcome(keys_twice) == ({"a": {(NOW_US, "m"): ("number", "1")}}, {})


def test_zero_has_no_sign() -> None:
    for value in (b"-0.0", b"-0", b"0.0", b"-0e5"):
        single = b'{"sensor_id":"a","ts":1795212000000,"metrics":{"m":%s}}' % value
        column = (
            b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":[1,1],"metrics":{"m":[1.5,%s,null]}}' % value
        )
        mixed = (
            b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":[1,1],"metrics":{"m":["x",%s,true]}}' % value
        )
        assert outcome(single)[0]["a"][NOW_US, "m"] == ("number", "0")
        assert outcome(column)[0]["a"][NOW_US + 1, "m"] == ("number", "0")
        assert outcome(mixed)[0]["a"][NOW_US + 1, "m"] == ("number", "0")


def test_text_up_to_the_limit_is_kept_and_longer_text_costs_only_itself() -> None:
    good, bad = "é" * 16_384, "é" * 16_385
    document = {"sensor_id": "a", "t0_us": NOW_US, "dt_us": 1, "metrics": {"m": [good, bad, None, good]}}
    cells, lost = outcome(json.dumps(document).encode())
    assert set(cells["a"]) == {(NOW_US, "m"), (NOW_US + 3, "m")}
    assert lost == {"reading_too_large": 1, "no_metrics": 1}


def test_columns_of_the_wrong_length_cost_only_themselves_where_the_times_are_listed() -> None:
    document = {"sensor_id": "a", "t0_us": NOW_US, "dt_us": [1], "metrics": {"m": [1, 2], "n": [1, None, 3]}}
    cells, lost = outcome(json.dumps(document).encode())
    assert cells["a"] == {(NOW_US, "m"): ("number", "1"), (NOW_US + 1, "m"): ("number", "2")}
    assert lost == {"length_mismatch": 2}


def test_readings_out_of_time_are_left_out_of_a_run() -> None:
    document = {
        "sensor_id": "a",
        "t0_us": EARLIEST_US - 2,
        "dt_us": 1,
        "metrics": {"m": [1, 2, 3, 4], "n": [1, 2, None, None]},
    }
    cells, lost = outcome(json.dumps(document).encode())
    assert cells["a"] == {(EARLIEST_US, "m"): ("number", "3"), (EARLIEST_US + 1, "m"): ("number", "4")}
    assert lost == {"ts_out_of_range": 2}


# --- envelopes --------------------------------------------------------------------------


def zeros(kind: str, size_mib: int) -> bytes:
    if kind == "zstd":
        return zstd.compress(bytes(size_mib << 20))
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(size_mib)), packer.flush()])


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_bomb_is_refused(kind: str) -> None:
    bomb = zeros(kind, 200)
    assert len(bomb) < 1 << 20
    assert outcome(bomb) == ({}, {"inflate_limit": 1})
    assert outcome(gzip.compress(bomb)) == ({}, {"inflate_limit": 1})


def test_envelopes_have_limits() -> None:
    payload = json.dumps(GOOD).encode()
    for pack in (gzip.compress, zstd.compress):
        assert outcome(pack(payload)) == (GOOD_CELLS, {})
        assert outcome(pack(pack(payload))) == (GOOD_CELLS, {})
        assert outcome(pack(pack(pack(payload)))) == ({}, {"inflate_limit": 1})
        assert outcome(pack(payload[:9]) + pack(payload[9:])) == (GOOD_CELLS, {})
        assert outcome(pack(b"")) == ({}, {"empty_record": 1})
        assert outcome(pack(payload) + b"x") == ({}, {"inflate_failed": 1})
        assert outcome(pack(b"") * 2000 + pack(payload)) == ({}, {"inflate_limit": 1})
        whole = payload + b" " * ((8 << 20) - len(payload))
        assert outcome(pack(whole)) == (GOOD_CELLS, {})
        assert outcome(pack(whole + b" ")) == ({}, {"inflate_limit": 1})
        for cut in range(1, len(pack(payload))):
            assert outcome(pack(payload)[:cut])[0] == {}


# --- limits of one record ---------------------------------------------------------------


def test_no_record_yields_more_than_it_may() -> None:
    start = b'{"sensor_id":"a","t0_us":1795212000000000,"dt_us":1,"metrics":{"m":['
    assert outcome(start + b"1," * 200_000 + b"1]}}") == ({}, {"too_large": 1})
    runs, problems = decode(start + b"1," * 199_999 + b"1]}}", ARRIVAL_MS)
    assert (len(runs[0].ts_us), problems) == (200_000, [])
    names = {f"m{i}": 1 for i in range(10_001)}
    assert outcome(json.dumps(GOOD | {"metrics": names}).encode() + b"\n{}") == ({}, {"too_large": 1})
    assert outcome(b"[" + b"1," * 200_000 + b"1]") == ({}, {"too_large": 1})
    assert outcome(b"{}\n" * 200_001) == ({}, {"too_large": 1})


def test_sparse_columns_do_not_blow_up() -> None:
    documents = [
        b'{"sensor_id":"a","ts":%d,"metrics":{"m%d":1}}' % (ARRIVAL_MS - i, i % 5000) for i in range(20_000)
    ]
    assert outcome(b"\n".join(documents)) == ({}, {"too_large": 1})


def test_problems_are_bounded_in_number_and_bytes_and_lose_no_count() -> None:
    documents = [b"x%d" % i for i in range(5_000)]
    payload = b"\n".join([json.dumps(GOOD).encode(), *documents])
    runs, problems = decode(payload, ARRIVAL_MS)
    assert own.cells_by_sensor(runs) == GOOD_CELLS
    assert len(problems) == 1_001
    assert sum(problem.count for problem in problems) == 5_000
    assert {problem.payload for problem in problems} == {*documents[:1000], None}


def test_what_is_kept_of_bad_lines_is_never_more_than_what_arrived() -> None:
    payload = gzip.compress(
        b"\n".join([json.dumps(GOOD).encode(), *(b"x" * 1000 + b"%d" % i for i in range(100))])
    )
    runs, problems = decode(payload, ARRIVAL_MS)
    assert own.cells_by_sensor(runs) == GOOD_CELLS
    assert [problem.part for problem in problems] == [f"line {number}" for number in range(2, 102)]
    assert {problem.payload for problem in problems} == {None}


# --- SenML ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "name", "sensor_id", "metric"),
    [
        ("sensor-1/", "temperature", "sensor-1", "temperature"),
        ("sensor-1", "temperature", "sensor-1", "temperature"),
        ("sensor-1:", "temperature", "sensor-1", "temperature"),
        ("site", "press/temp", "site/press", "temp"),
        ("", "site/press/temp", "site/press", "temp"),
        ("", "temperature", "temperature", "value"),
        ("urn:dev:ow:10e2073a01080063:", "temperature", "urn:dev:ow:10e2073a01080063", "temperature"),
        ("urn:dev:ow:10e2073a01080063", "temperature", "urn:dev:ow:10e2073a01080063", "temperature"),
        ("", "urn:dev:ow:10e2073a01080063", "urn:dev:ow:10e2073a01080063", "value"),
        ("", "urn:dev:mac:a024befffe804ff1", "urn:dev:mac:a024befffe804ff1", "value"),
        ("", "urn:dev:mac:a024befffe804ff1:hum", "urn:dev:mac:a024befffe804ff1", "hum"),
        ("urn:dev:mac:a024befffe804ff1", "", "urn:dev:mac:a024befffe804ff1", "value"),
        ("urn:dev:ow:10e2073a01080063/3303/0/", "5700", "urn:dev:ow:10e2073a01080063/3303/0/5700", "value"),
        ("2001:db8::2/", "humidity", "2001:db8::2", "humidity"),
    ],
)
def test_senml_names_become_sensor_and_metric(base: str, name: str, sensor_id: str, metric: str) -> None:
    assert split_name(base, name) == (sensor_id, metric)
    cells, lost = outcome(json.dumps([{"bn": base, "n": name, "v": 1}]).encode())
    assert (cells, lost) == ({sensor_id: {(NOW_US, metric): ("number", "1")}}, {})


@pytest.mark.parametrize(
    ("pack", "ts_us"),
    [
        ([{"n": "a/m", "v": 1}], NOW_US),
        ([{"n": "a/m", "v": 1, "t": -1.000001}], NOW_US - 1_000_001),
        ([{"n": "a/m", "v": 1, "t": 3600}], NOW_US + 3_600_000_000),
        ([{"n": "a/m", "v": 1, "t": 1795211999.123456}], 1_795_211_999_123_456),
        ([{"n": "a/m", "v": 1, "bt": 1795211999, "t": 0.1}], 1_795_211_999_100_000),
        ([{"bt": 1795212000}, {"n": "a/m", "v": 1, "t": -5}], NOW_US - 5_000_000),
        ([{"bt": -100}, {"n": "a/m", "v": 1, "t": -5.5}], NOW_US - 105_500_000),
    ],
)
def test_senml_times_are_relative_below_2_to_the_28(pack: list[dict[str, Any]], ts_us: int) -> None:
    assert outcome(json.dumps(pack).encode()) == ({"a": {(ts_us, "m"): ("number", "1")}}, {})


def test_senml_base_values_are_added_as_decimals() -> None:
    pack = [
        {"bn": "a/", "bv": 0.1, "bs": 10},
        {"n": "m", "v": 21.2},
        {"n": "c", "v": 1, "s": 5},
        {"n": "t", "vs": "x"},
    ]
    cells, lost = outcome(json.dumps(pack).encode())
    assert {name: text for (_, name), (_, text) in cells["a"].items()} == {
        "m": "21.3",
        "c": "1.1",
        "c.sum": "15",
        "t": "x",
    }
    assert lost == {}


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"n": "b", "v": True}, "wrong_type"),
        ({"n": "b", "v": "1"}, "wrong_type"),
        ({"n": "b", "vs": 1}, "wrong_type"),
        ({"n": "b", "vb": 1}, "wrong_type"),
        ({"n": "b", "vd": "aGk"}, "wrong_type"),
        ({"n": "b", "v": 1, "vb": True}, "unknown_format"),
        ({"n": "b"}, "no_metrics"),
        ({"n": 5, "v": 1}, "wrong_type"),
        ({"n": "b", "v": 1, "t": "now"}, "wrong_type"),
        ({"n": "b", "v": 1, "t": -1e300}, "ts_out_of_range"),
        ({"n": "b", "v": 1, "t": 1e300}, "ts_out_of_range"),
        ({"n": "b", "v": 1e126}, "number_out_of_range"),
        ({"n": "b c", "v": 1}, "bad_sensor_id"),
        (5, "wrong_type"),
        (None, "wrong_type"),
        ([], "wrong_type"),
    ],
)
def test_a_bad_senml_record_costs_only_itself(record: object, reason: str) -> None:
    pack = [{"bn": "beside/", "n": "kept", "v": 1.5}, record, {"n": "also", "v": 2}]
    cells, lost = outcome(json.dumps(pack).encode())
    assert cells == {"beside": {(NOW_US, "kept"): ("number", "1.5"), (NOW_US, "also"): ("number", "2")}}
    assert lost == {reason: 1}


@pytest.mark.parametrize(
    "base", [{"bn": 5}, {"bt": "x"}, {"bv": None}, {"bs": True}, {"bver": 11}, {"must_": 1}]
)
def test_a_bad_senml_base_costs_all_that_follows(base: dict[str, Any]) -> None:
    pack = [{"bn": "beside/", "n": "kept", "v": 1.5}, base, {"n": "also", "v": 2}]
    cells, lost = outcome(json.dumps(pack).encode())
    assert cells == GOOD_CELLS
    assert list(lost.values()) == [2]


# --- fuzz -------------------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["sensor_id", "ts", "metrics", "t0_us", "dt_us", "n", "v", "bn", "bt", "m"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(JSON_VALUES)
def test_no_json_makes_the_decoder_fail(value: object) -> None:
    cells, lost = outcome(json.dumps(value).encode())
    assert cells or lost or isinstance(value, list)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"{", b"["]))
def test_no_bytes_make_the_decoder_fail(data: bytes, start: bytes) -> None:
    cells, lost = outcome(start + data)
    assert cells or lost


def mutated(payload: bytes, chance: random.Random, tokens: list[bytes]) -> bytes:
    changed = bytearray(payload)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(changed) + 1)
        match chance.randrange(6):
            case 0 if at < len(changed):
                changed[at] ^= 1 << chance.randrange(8)
            case 1 if at < len(changed):
                changed[at] = chance.randrange(256)
            case 2:
                del changed[at : at + chance.randint(1, 9)]
            case 3:
                changed[at:at] = chance.choice(tokens)
            case 4:
                end = at + chance.randint(1, 30)
                changed[at:at] = changed[at:end]
            case _:
                changed[at : at + chance.randint(1, 6)] = chance.choice(tokens)
    return bytes(changed)


def test_twenty_thousand_damaged_payloads_of_every_format() -> None:
    chance = random.Random(7)
    seeds = [
        path.read_bytes() for path in sorted(GOLDEN.iterdir()) if not path.name.endswith(".expected.json")
    ]
    tokens = [
        b"null",
        b"NaN",
        b"1e400",
        b"-0.0",
        b"true",
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"\n",
        b"-",
        b"9" * 40,
    ]
    tokens += [
        b"\\ud800",
        b"\xff",
        b"\x00",
        b'"ts":',
        b'"metrics":',
        b'"t0_us":',
        b'"dt_us":',
        b"\xef\xbb\xbf",
        b'""',
        b"1e-400",
    ]
    kept = 0
    for _ in range(20_000):
        cells, lost = outcome(mutated(chance.choice(seeds), chance, tokens))
        assert cells or lost
        kept += bool(cells)
    assert 2_000 < kept < 18_000


def test_canonical_texts_survive_the_wire() -> None:
    for value in (1e22, 123456789012345680.0, 0.1 + 0.2, 5e-100, 2**53 + 1, 10**38 - 1, -1e125, 1e15, 1e16):
        (run,) = decode(encode_run(Run("a", [NOW_US], {"m": [value]}, 0)), ARRIVAL_MS)[0]
        found = run.metrics["m"][0]
        assert found is not None
        assert canonical(found) == canonical(value)
