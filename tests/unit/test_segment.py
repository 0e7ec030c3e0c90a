"""Segments: exact both ways, read by ranges, proven undamaged, and readable by four other engines."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import segment, segment_file, segment_footer, segment_pages, segment_read, segment_write
from ingest.errors import Corrupt
from ingest.reading import EARLIEST_US, Run, Span, Value, canonical, clip, merge, number, select
from tests import strategies
from tests.other_writers import signed_file

GOLDEN = Path(__file__).parents[1] / "golden" / "segment"
START_US = 1_795_212_000_000_000
ARRIVAL_MS = 1_795_212_000_000
OTHER_MS = ARRIVAL_MS + 61_000
BIG_INT = 9_007_199_254_740_993
AWKWARD: list[Value] = [
    True,
    False,
    "on",
    "",
    "Zürich 🌊\x00",
    0,
    -7,
    21,
    21.5,
    -0.25,
    BIG_INT,
    -BIG_INT,
    10**38 - 1,
    2**60,
    1e22,
    1e23,
    1e40,
    0.1,
    1e-130,
    9.99e125,
    -273.15,
    74.93588199999998,
]


def _fleet(sensors: int, seconds: int, metrics: Sequence[str] = ("humidity", "temperature")) -> list[Run]:
    """Random walks with two decimals on an exact grid."""
    made: list[Run] = []
    for index in range(sensors):
        source = random.Random(index)
        columns: dict[str, list[Any]] = {}
        for metric in metrics:
            level = source.uniform(10, 60)
            column: list[Any] = []
            for _ in range(seconds):
                level += source.gauss(0, 0.05)
                column.append(round(level, 2))
            columns[metric] = column
        times = [START_US + second * 1_000_000 for second in range(seconds)]
        made.append(Run(f"sensor-{index:04d}", times, columns, ARRIVAL_MS))
    return made


@pytest.fixture(scope="module")
def fleet() -> list[Run]:
    return _fleet(100, 1800)


@pytest.fixture(scope="module")
def large(fleet: list[Run]) -> segment.EncodedSegment:
    """360,000 rows in ten row groups; larger than what is read whole."""
    encoded = segment.encode(fleet)
    assert len(encoded.data) > segment_read.WHOLE_BYTES
    return encoded


@pytest.fixture(scope="module")
def small_runs() -> list[Run]:
    first = Run(
        "press-7",
        [START_US + i * 1_000_000 for i in range(len(AWKWARD))],
        {"mixed": list(AWKWARD), "temperature": [None, *(20 + i / 4 for i in range(1, len(AWKWARD)))]},
        {
            "mixed": [ARRIVAL_MS + i for i in range(len(AWKWARD))],
            "temperature": [0] + [OTHER_MS] * (len(AWKWARD) - 1),
        },
    )
    second = Run("site/hall:2", [START_US + 1], {"on": [True], "state": ["idle"]}, ARRIVAL_MS)
    return [first, second]


class _Reads:
    """A `read_range` over bytes that remembers what was asked for."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.ranges: list[tuple[int, int]] = []

    def __call__(self, start: int, end: int) -> bytes:
        self.ranges.append((start, end))
        return self.data[start:end]

    def read_bytes(self) -> int:
        return sum(end - start for start, end in self.ranges)


def _by_sensor(runs: Sequence[Run]) -> dict[str, Any]:
    assert len({run.sensor_id for run in runs}) == len(runs)
    return {run.sensor_id: strategies.ranked_cells(run) for run in runs if run.ts_us}


def _metadata(data: bytes) -> Any:
    return pq.read_metadata(io.BytesIO(data))


# --- exact both ways --------------------------------------------------------------------


@st.composite
def _runs_of_sensors(draw: st.DrawFn) -> list[Run]:
    names = draw(st.lists(strategies.sensor_ids(), min_size=1, max_size=4, unique=True))
    arrival = st.sampled_from([strategies.ARRIVAL_MS, None])
    return [draw(strategies.runs(sensor_id=name, arrival_ms=draw(arrival), max_size=12)) for name in names]


@settings(max_examples=150, deadline=None)
@given(_runs_of_sensors())
def test_what_goes_in_comes_out(runs: list[Run]) -> None:
    decoded = segment.decode(segment.encode(runs).data)
    assert _by_sensor(decoded) == _by_sensor(runs)
    assert [run.sensor_id for run in decoded] == sorted(run.sensor_id for run in runs)
    for run in decoded:
        assert all(a < b for a, b in zip(run.ts_us, run.ts_us[1:], strict=False))
        assert all(
            any(cell is not None for cell in cells) for cells in zip(*run.metrics.values(), strict=True)
        )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        strategies.runs(sensor_id="one", arrival_ms=None, max_size=8, last_us=EARLIEST_US + 50),
        min_size=2,
        max_size=4,
    )
)
def test_merged_duplicates_keep_their_arrivals(runs: list[Run]) -> None:
    merged = merge(runs)
    (decoded,) = segment.decode(segment.encode([merged]).data)
    assert strategies.ranked_cells(decoded) == strategies.ranked_cells(merged)


@settings(max_examples=80, deadline=None)
@given(_runs_of_sensors(), st.data())
def test_a_part_is_what_clip_and_select_leave(runs: list[Run], data: st.DataObject) -> None:
    encoded = segment.encode(runs)
    run = data.draw(st.sampled_from(runs))
    edges = st.sampled_from([ts + d for ts in run.ts_us for d in (-1, 0, 1)])
    span = Span(data.draw(edges), data.draw(edges))
    metrics = data.draw(st.lists(st.sampled_from([*run.metrics, "absent"]), max_size=2, unique=True))
    found = segment.decode(encoded.data, run.sensor_id, span, metrics)
    wanted = [clip(run, span)]
    if metrics:
        wanted = [select(wanted[0], metrics)] if set(metrics) & set(run.metrics) else []
    assert _by_sensor(found) == _by_sensor(wanted)


@settings(max_examples=200, deadline=None)
@given(st.lists(strategies.numbers(), min_size=1, max_size=30))
def test_a_number_reads_back_as_its_canonical_text_does(numbers: list[int | float]) -> None:
    run = Run("one", list(range(START_US, START_US + len(numbers))), {"m": list(numbers)}, ARRIVAL_MS)
    (decoded,) = segment.decode(segment.encode([run]).data)
    wanted = [number(canonical(value)) for value in numbers]
    assert decoded.metrics["m"] == wanted
    assert list(map(type, decoded.metrics["m"])) == list(map(type, wanted))


def test_only_numbers_that_no_double_holds_use_the_exact_column(small_runs: list[Run]) -> None:
    table = pq.read_table(io.BytesIO(segment.encode(small_runs).data))
    texts = [text for text in table.column("exact").to_pylist() if text is not None]
    assert texts == [str(BIG_INT), str(-BIG_INT), str(10**38 - 1), str(2**60)]


def test_minus_zero_is_stored_as_zero() -> None:
    table = pq.read_table(io.BytesIO(segment.encode([Run("one", [START_US], {"m": [-0.0]}, 1)]).data))
    assert math.copysign(1, table.column("value").to_pylist()[0]) == 1


def test_constant_arrival_comes_back_as_one_number(fleet: list[Run], large: segment.EncodedSegment) -> None:
    (decoded,) = segment.decode(large.data, "sensor-0042")
    assert decoded == fleet[42]


def test_a_file_is_read_as_bytes_are(tmp_path: Path, small_runs: list[Run]) -> None:
    path = tmp_path / "one.parquet"
    path.write_bytes(segment.encode(small_runs).data)
    with path.open("rb") as file:
        assert _by_sensor(segment.decode(file)) == _by_sensor(small_runs)


def test_the_same_runs_in_any_order_give_the_same_bytes(fleet: list[Run]) -> None:
    some = fleet[:5]
    assert segment.encode(some).data == segment.encode(some[::-1]).data


@pytest.mark.parametrize(
    "runs",
    [
        [],
        [Run("one", [], {}, 1)],
        [Run("one", [1], {"m": [None]}, 1)],
        [Run("one", [1], {"m": [1]}, 1), Run("one", [2], {"m": [1]}, 1)],
        [Run("one", [1], {"m": [math.nan]}, 1)],
        [Run("one", [1], {"m": [math.inf]}, 1)],
        [Run("one", [1], {"m": [10**400]}, 1)],
    ],
    ids=["no run", "no reading", "no value", "a sensor twice", "nan", "infinity", "too large"],
)
def test_what_a_segment_cannot_hold_is_refused(runs: list[Run]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  what is meant is the class
        segment.encode(runs)


# --- facts ------------------------------------------------------------------------------


def test_facts_stand_in_the_metadata_and_in_the_footer(small_runs: list[Run]) -> None:
    encoded = segment.encode(small_runs)
    carried = segment.metadata(encoded)
    assert (encoded.rows, encoded.sensors) == (2 * len(AWKWARD) - 1 + 2, 2)
    assert (encoded.first_us, encoded.last_us) == (START_US, START_US + (len(AWKWARD) - 1) * 1_000_000)
    assert (encoded.first_sensor, encoded.last_sensor) == ("press-7", "site/hall:2")
    assert all(text.isascii() for pair in carried.items() for text in pair)
    facts = segment.facts_of(carried)
    assert facts is not None
    assert segment.metadata(facts) == carried
    from_footer = segment.summary(_Reads(encoded.data), len(encoded.data))
    assert segment.metadata(from_footer) == carried | {"sha256": ""}


@pytest.mark.parametrize("missing", ["rows", "sha256", "version", "footer-bytes"])
def test_incomplete_metadata_is_no_fact(missing: str, small_runs: list[Run]) -> None:
    carried = segment.metadata(segment.encode(small_runs))
    assert segment.facts_of({name: text for name, text in carried.items() if name != missing}) is None
    assert segment.facts_of(carried | {"version": "9"}) is None


# --- read by ranges ---------------------------------------------------------------------


def test_one_sensor_costs_the_footer_and_one_row_group(
    fleet: list[Run], large: segment.EncodedSegment
) -> None:
    for index in (0, 42, 99):
        reads = _Reads(large.data)
        found = segment.read_runs(reads, len(large.data), large.footer_bytes, fleet[index].sensor_id)
        assert found == [fleet[index]]
        assert len(reads.ranges) == 2
        assert reads.read_bytes() < len(large.data) / 6


def test_neighbouring_row_groups_are_one_read(fleet: list[Run], large: segment.EncodedSegment) -> None:
    reads = _Reads(large.data)
    span = Span(START_US + 10_000_000, START_US + 20_000_000)
    found = segment.read_runs(reads, len(large.data), large.footer_bytes, span=span, metrics=["humidity"])
    assert _by_sensor(found) == _by_sensor([select(clip(run, span), ["humidity"]) for run in fleet])
    assert len(reads.ranges) == 2


@pytest.mark.parametrize("guess", [0, 8, 100, 10**9])
def test_a_wrong_footer_length_only_costs_reads(
    guess: int, large: segment.EncodedSegment, fleet: list[Run]
) -> None:
    reads = _Reads(large.data)
    assert segment.read_runs(reads, len(large.data), guess, "sensor-0007") == [fleet[7]]
    assert len(reads.ranges) <= 3


def test_nothing_is_read_that_cannot_match(large: segment.EncodedSegment) -> None:
    for sensor_id, span in (
        ("absent", None),
        (None, Span(0, START_US)),
        (None, Span(large.last_us + 1, 2**62)),
    ):
        reads = _Reads(large.data)
        assert segment.read_runs(reads, len(large.data), large.footer_bytes, sensor_id, span) == []
        assert reads.ranges == [(len(large.data) - large.footer_bytes, len(large.data))]


def test_a_small_object_is_one_read(small_runs: list[Run]) -> None:
    encoded = segment.encode(small_runs)
    reads = _Reads(encoded.data)
    assert _by_sensor(segment.read_runs(reads, len(encoded.data), encoded.footer_bytes)) == _by_sensor(
        small_runs
    )
    assert reads.ranges == [(0, len(encoded.data))]


def test_a_sensor_that_fits_lies_in_one_row_group_and_a_longer_one_is_cut_by_time() -> None:
    long = Run("b", list(range(START_US, START_US + 90_000)), {"m": [1.5] * 90_000}, ARRIVAL_MS)
    runs = [_fleet(1, 5000)[0], long, Run("c", [START_US], {"m": [1]}, ARRIVAL_MS)]
    runs[0].sensor_id = "a"
    encoded = segment.encode(runs)
    groups = [_metadata(encoded.data).row_group(i) for i in range(_metadata(encoded.data).num_row_groups)]
    bounds = [(g.column(0).statistics.min, g.column(0).statistics.max, g.num_rows) for g in groups]
    assert bounds == [("a", "a", 10_000), ("b", "b", 43_200), ("b", "b", 43_200), ("b", "c", 3_601)]
    reads = _Reads(encoded.data)
    span = Span(START_US + 40_000, START_US + 40_010)
    (found,) = segment.read_runs(reads, len(encoded.data), encoded.footer_bytes, "b", span)
    assert found == clip(long, span)


# --- the file ---------------------------------------------------------------------------


def test_the_schema_is_what_formats_says(large: segment.EncodedSegment) -> None:
    assert [(field.name, str(field.type)) for field in pq.read_schema(io.BytesIO(large.data))] == [
        ("sensor_id", "string"),
        ("metric", "string"),
        ("ts", "timestamp[us, tz=UTC]"),
        ("value", "double"),
        ("exact", "string"),
        ("flag", "bool"),
        ("text", "string"),
        ("arrival", "int64"),
    ]
    group = _metadata(large.data).row_group(0)
    columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert "RLE_DICTIONARY" in columns["sensor_id"].encodings
    assert "DELTA_BINARY_PACKED" in columns["ts"].encodings
    assert "RLE_DICTIONARY" in columns["arrival"].encodings
    told = {name for name, column in columns.items() if column.statistics and column.statistics.has_min_max}
    assert told == {"sensor_id", "metric", "ts", "value"}
    assert [columns[name].statistics.null_count for name in ("value", "exact", "flag", "text")] == [
        0,
        *[group.num_rows] * 3,
    ]


def test_sizes_stay_what_was_measured(fleet: list[Run], large: segment.EncodedSegment) -> None:
    assert len(large.data) / large.rows < 1.55  # two decimals, on a grid: 1.47 measured
    assert large.footer_bytes < 500 * _metadata(large.data).num_row_groups + 700


def test_the_smallest_value_encoding_is_chosen() -> None:
    source = random.Random(1)
    times = list(range(START_US, START_US + 5000))
    few: list[Any] = [source.choice([19.5, 20.5, 21.25, 1e9 / 3]) for _ in times]
    long: list[Any] = [source.uniform(70, 80) for _ in times]
    for column, encoding in ((few, "RLE_DICTIONARY"), (long, "BYTE_STREAM_SPLIT")):
        data = segment.encode([Run("one", times, {"m": column}, ARRIVAL_MS)]).data
        assert encoding in _metadata(data).row_group(0).column(3).encodings


def _awkward_fleet() -> list[Run]:
    """Row groups of several pages: dictionaries of one and two bytes, none at all, nulls in every pattern."""
    source = random.Random(11)
    times = list(range(START_US, START_US + 5_003))
    word = ["idle", "on", "", "Zürich"]
    columns: list[dict[str, list[Any]]] = [
        {"few": [source.choice([1.5, 2.25, -3.0]) for _ in times]},
        {"walk": [round(20 + 15 * math.sin(i / 700) + source.gauss(0, 0.1), 2) for i in range(5_003)]},
        {"noise": [source.uniform(-1, 1) * 10.0 ** source.randint(-9, 9) for _ in times]},
        {"count": list(range(5_003)), "on": [source.random() < 0.5 for _ in times]},
        {"mixed": [source.choice([True, "x", 7, 7.5, BIG_INT, 1, 0]) for _ in times]},
        {
            "sparse": [source.choice([None, 1.25, 2]) for _ in times],
            "state": [source.choice(word) for _ in times],
        },
        {"same": [21.5] * 5_003, "zero": [0] * 5_003, "unset": [None] * 5_002 + [False]},
    ]
    runs: list[Run] = []
    for place, metrics in enumerate(columns):
        arrivals = {
            name: [0 if cell is None else ARRIVAL_MS + i // 700 for i, cell in enumerate(cells)]
            for name, cells in metrics.items()
        }
        runs.append(Run(f"s-{place}", times, metrics, arrivals if place % 2 else ARRIVAL_MS))
    return runs


def test_pages_of_every_kind_come_back() -> None:
    runs = _awkward_fleet()
    encoded = segment.encode(runs)
    assert _metadata(encoded.data).num_row_groups >= 2
    assert _by_sensor(segment.decode(encoded.data)) == _by_sensor(runs)
    for run in runs:
        assert _by_sensor(segment.decode(encoded.data, run.sensor_id)) == _by_sensor([run])


@pytest.mark.parametrize("distinct", [1, 2, 255, 256, 257, 65_535, 65_536, 65_537])
def test_dictionaries_at_their_limits(distinct: int) -> None:
    values = np.concatenate([np.arange(distinct) / 4, np.zeros(3)])
    chunk = segment_pages.doubles_chunk(values, None, [len(values)])
    found = pq.read_table(io.BytesIO(_file_of(chunk, len(values)))).column("value").to_numpy()
    assert np.array_equal(found, values)
    assert (chunk.dictionary_bytes > 0) == (distinct <= 65_536 and chunk.encodings[-1] == 8)


def _file_of(chunk: segment_pages.Chunk, rows: int) -> bytes:
    """A file of this one chunk."""
    element = segment_footer.Element("value", segment_footer.DOUBLE, True)
    data, found = segment_file.joined([(rows, [chunk])], [element], {})
    assert found == rows
    return data


# --- damage -----------------------------------------------------------------------------


def test_no_flipped_bit_changes_an_answer(small_runs: list[Run]) -> None:
    data = segment.encode(small_runs).data
    wanted = _by_sensor(small_runs)
    unnoticed = 0
    for place in range(len(data)):
        damaged = data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]
        try:
            found = segment.decode(damaged)
        except Corrupt:
            continue
        unnoticed += 1
        assert _by_sensor(found) == wanted
    assert unnoticed <= 4  # the magic at the beginning, which nobody reads


def test_damage_in_a_row_group_that_is_not_read_does_no_harm(
    large: segment.EncodedSegment, fleet: list[Run]
) -> None:
    place = len(large.data) // 2
    damaged = large.data[:place] + bytes([large.data[place] ^ 1]) + large.data[place + 1 :]
    assert segment.decode(damaged, "sensor-0001") == [fleet[1]]
    with pytest.raises(Corrupt, match="row group"):
        segment.decode(damaged)


def test_other_readers_can_check_pages(large: segment.EncodedSegment) -> None:
    place = len(large.data) // 2
    damaged = large.data[:place] + bytes([large.data[place] ^ 1]) + large.data[place + 1 :]
    with pytest.raises(OSError, match=r"(?i)crc|checksum"):
        pq.read_table(io.BytesIO(damaged), page_checksum_verification=True)


@pytest.mark.parametrize("keep", [0, 3, 11, 12, 500, -1, -8, -9])
def test_a_cut_object_is_corrupt(keep: int, small_runs: list[Run]) -> None:
    with pytest.raises(Corrupt):
        segment.decode(segment.encode(small_runs).data[:keep])


def test_a_short_answer_is_corrupt(large: segment.EncodedSegment) -> None:
    with pytest.raises(Corrupt, match="came back as"):
        segment.read_runs(lambda start, end: large.data[start : end - 1], len(large.data), large.footer_bytes)


def _foreign() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"sensor_id": ["one"], "value": [1.5]}), sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "0 bytes"),
        (b"sensor_id,ts,value\none,1,2\n" * 9, "does not end as a Parquet file"),
        (_foreign(), "carries no footer-sha256"),
        (signed_file(pa.table({"value": [1.5]}), {"version": "1"}), "lacks the column sensor_id"),
        (signed_file(segment_write.SCHEMA.empty_table(), {"version": "2"}), "version is 2"),
        (signed_file(segment_write.SCHEMA.empty_table(), {"version": "1"}), "lacks a fact"),
    ],
    ids=["nothing", "not Parquet", "not ours", "a column short", "newer", "no facts"],
)
def test_what_is_no_segment_has_no_summary(data: bytes, why: str) -> None:
    with pytest.raises(Corrupt, match=why):
        segment.summary(_Reads(data), len(data))


# --- golden files -----------------------------------------------------------------------


def _golden_runs(version: str) -> list[Run]:
    stored = json.loads((GOLDEN / f"{version}.json").read_text(encoding="utf-8"))
    return [Run(**run) for run in stored]


@pytest.mark.parametrize("version", ["v1", "v1-own-pages"])
def test_old_versions_stay_readable(version: str) -> None:
    data = (GOLDEN / f"{version}.parquet").read_bytes()
    decoded = segment.decode(data)
    wanted = _golden_runs(version)
    assert _by_sensor(decoded) == _by_sensor(wanted)
    assert [repr(run) for run in decoded] == [repr(run) for run in wanted]
    facts = segment.summary(_Reads(data), len(data))
    assert facts.rows == sum(run.value_count() for run in wanted)


# --- other engines ----------------------------------------------------------------------

Row = tuple[str, str, int, float | None, str | None, bool | None, str | None, int, str]
_NAMES = ("sensor_id", "metric", "ts", "value", "exact", "flag", "text", "arrival", "date")


def _row(cells: dict[str, Any]) -> Row:
    at = cells["ts"]
    ts_us = round((at - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)
    plain = {name: None if cell is None or cell != cell else cell for name, cell in cells.items()}  # noqa: PLR0124
    plain |= {"ts": ts_us, "date": str(cells["date"])[:10]}
    return tuple(plain[name] for name in _NAMES)  # pyright: ignore[reportReturnType]


def _by_pyarrow(folder: Path) -> list[dict[str, Any]]:
    return pyarrow.dataset.dataset(folder, partitioning="hive").to_table().to_pylist()


def _by_pandas(folder: Path) -> list[dict[str, Any]]:
    frame = pytest.importorskip("pandas").read_parquet(folder)
    assert str(frame["value"].dtype) == "float64"
    return frame.astype(object).to_dict("records")


def _by_polars(folder: Path) -> list[dict[str, Any]]:
    polars = pytest.importorskip("polars")
    return polars.scan_parquet(folder / "**/*.parquet", hive_partitioning=True).collect().to_dicts()


def _by_duckdb(folder: Path) -> list[dict[str, Any]]:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        files = f"read_parquet('{folder}/**/*.parquet', hive_partitioning = true)"
        found = connection.execute(f"select * replace (epoch_us(ts) as ts) from {files}")
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [row | {"ts": datetime.fromtimestamp(row["ts"] / 1e6, UTC)} for row in rows]


@pytest.mark.parametrize("read", [_by_pyarrow, _by_pandas, _by_polars, _by_duckdb])
def test_other_engines_read_the_hive_tree(
    read: Callable[[Path], list[dict[str, Any]]], tmp_path: Path, small_runs: list[Run]
) -> None:
    whole = [
        Run("all-int", [START_US, START_US + 1], {"count": [1, 2]}, 5),
        Run("z", [START_US + 2], {"s": ["x"]}, 5),
    ]
    wanted: list[Row] = []
    for date, runs in (("2026-11-20", small_runs), ("2026-11-21", whole)):
        folder = tmp_path / "readings" / "v1" / f"date={date}"
        folder.mkdir(parents=True)
        (folder / "one.parquet").write_bytes(segment.encode(runs).data)
        wanted.extend(_expected(runs, date))
    found = read(tmp_path / "readings" / "v1")
    assert sorted(map(_row, found), key=repr) == sorted(wanted, key=repr)


@pytest.mark.parametrize("read", [_by_pyarrow, _by_pandas, _by_polars, _by_duckdb])
def test_other_engines_read_pages_of_every_kind(
    read: Callable[[Path], list[dict[str, Any]]], tmp_path: Path
) -> None:
    runs = _awkward_fleet()
    folder = tmp_path / "date=2026-11-20"
    folder.mkdir()
    (folder / "one.parquet").write_bytes(segment.encode(runs).data)
    assert sorted(map(_row, read(tmp_path)), key=repr) == sorted(_expected(runs, "2026-11-20"), key=repr)


def test_other_engines_find_one_sensor_among_many(tmp_path: Path, large: segment.EncodedSegment) -> None:
    path = tmp_path / "one.parquet"
    path.write_bytes(large.data)
    columns: list[list[Any]] = list(_fleet(43, 1800)[42].metrics.values())
    wanted = sum(cell for column in columns for cell in column)
    ours = pyarrow.dataset.dataset(path).to_table(filter=pyarrow.dataset.field("sensor_id") == "sensor-0042")
    polars = pytest.importorskip("polars")
    theirs = polars.scan_parquet(path).filter(polars.col("sensor_id") == "sensor-0042").collect()
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        where = f"from '{path}' where sensor_id = 'sensor-0042'"
        (summed, least) = connection.execute(f"select sum(value), min(value) {where}").fetchone()
    assert ours.num_rows == len(theirs) == 3600
    assert math.isclose(sum(ours.column("value").to_pylist()), wanted)
    assert math.isclose(theirs["value"].sum(), wanted)
    assert math.isclose(summed, wanted)
    assert least == theirs["value"].min()


def _expected(runs: Sequence[Run], date: str) -> list[Row]:
    rows: list[Row] = []
    for run in runs:
        for (ts_us, metric), (kind, text, arrival) in strategies.ranked_cells(run).items():
            value = float(text) if kind == "number" else None
            exact = text if value is not None and canonical(value) != text else None
            flag = text == "true" if kind == "flag" else None
            word = text if kind == "text" else None
            rows.append((run.sensor_id, metric, ts_us, value, exact, flag, word, arrival, date))
    return rows
