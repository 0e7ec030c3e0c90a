"""CSV files played back: what a cell becomes, what is refused and why, order, pacing, real files."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import BadInput, NotFound
from ingest.reading import Run, merge
from sensors import replay
from sensors.replay import RejectedLine, open_csv, paced, read_csv

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
T0_MS = 1_700_000_000_000


def write(folder: Path, text: str | bytes, name: str = "press-7.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def played(path: Path, sensor_id: str | None = None, **options: Any) -> tuple[list[Run], list[RejectedLine]]:
    items = list(read_csv(open_csv(path, sensor_id), **options))
    return [i for i in items if isinstance(i, Run)], [i for i in items if isinstance(i, RejectedLine)]


def cells(folder: Path, *texts: str) -> tuple[list[Any], list[RejectedLine]]:
    """What each text becomes as the only value of its line."""
    lines = "".join(f"{T0_MS + i},{text},1\n" for i, text in enumerate(texts))
    runs, rejected = played(write(folder, "ts_ms,value,other\n" + lines))
    return runs[0].metrics.get("value", [None] * len(texts)), rejected


def test_a_file_is_one_run_of_its_sensor(tmp_path: Path) -> None:
    path = write(tmp_path, "ts_ms,temperature,door\n1700000000000,21.4,true\n1700000060000,21.5,\n")
    runs, rejected = played(path)
    assert runs == [
        Run(
            "press-7",
            [1_700_000_000_000_000, 1_700_000_060_000_000],
            {"temperature": [21.4, 21.5], "door": [True, None]},
            0,
        )
    ]
    assert rejected == []


@pytest.mark.parametrize("name", [path.name for path in sorted(DATA.glob("*.csv"))] or ["none"])
def test_the_shared_files_give_exactly_their_rows(name: str) -> None:
    if not (DATA / name).is_file():
        pytest.skip("../shared/data is not beside this repository")
    runs, rejected = played(DATA / name, "press-7")
    assert rejected == []
    assert {run.sensor_id for run in runs} == {"press-7"}
    assert all(len(run.ts_us) <= replay.RUN_READINGS for run in runs)
    rows = [line.split(",") for line in (DATA / name).read_text().splitlines()[1:]]
    found = [pair for run in runs for pair in zip(run.ts_us, run.metrics["value"], strict=True)]
    assert [ts_us for ts_us, _ in found] == [int(ts_ms) * 1000 for ts_ms, _ in rows]
    for (_, value), (_, text) in zip(found, rows, strict=True):
        assert Decimal(repr(value)) == Decimal(text)
        assert isinstance(value, float if "." in text else int)


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    texts = [
        "9007199254740993",
        "-" + "9" * 38,
        "+5",
        "007",
        "0.1",
        "-0.0",
        "1e3",
        ".5",
        "5.",
        "1.10",
        "1e-130",
    ]
    values, rejected = cells(tmp_path, *texts)
    assert values == [9007199254740993, -int("9" * 38), 5, 7, 0.1, 0.0, 1000.0, 0.5, 5.0, 1.1, 1e-130]
    assert [type(value) for value in values] == [int] * 4 + [float] * 7
    assert rejected == []


def test_seventeen_digits_that_stand_for_a_double_are_that_double(tmp_path: Path) -> None:
    values, rejected = cells(tmp_path, "73.967322069999994", "0.10000000000000001", "0.30000000000000004")
    assert values == [73.96732207, 0.1, 0.30000000000000004]
    assert rejected == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1" * 39, "int_too_long"),
        ("-" + "1" * 5000, "int_too_long"),
        ("0.1234567890123456789", "not_exact"),
        ("12345678901234567.5", "not_exact"),
        ("1e126", "number_out_of_range"),
        ("1e400", "number_out_of_range"),
        ("1e-131", "number_out_of_range"),
        ("-1e-99999999999999999999", "number_out_of_range"),
        ("NaN", "not_finite"),
        ("-inf", "not_finite"),
        ("Infinity", "not_finite"),
        ("é" * 20_000, "text_too_long"),
    ],
)
def test_a_value_that_cannot_be_kept_costs_its_cell_alone(tmp_path: Path, text: str, reason: str) -> None:
    values, rejected = cells(tmp_path, "1", text, "2")
    assert values == [1, None, 2]
    assert [(r.line, r.column, r.reason) for r in rejected] == [(3, "value", reason)]
    assert str(rejected[0]).startswith(f"{tmp_path / 'press-7.csv'} line 3, column value holds ")


def test_a_zero_written_long_is_zero(tmp_path: Path) -> None:
    assert cells(tmp_path, "0.00000000000000000000000", "0e999", "-0", "0" * 9000) == (
        [0.0, 0.0, 0, 0],
        [],
    )


def test_bools_and_texts(tmp_path: Path) -> None:
    texts = [
        "true",
        "false",
        "True",
        "running",
        '"a, b"',
        '"say ""hi"""',
        "Ünïcode ☃",
        "1_000",
        "12:30",
        "0x10",
        ".",
    ]
    values, rejected = cells(tmp_path, *texts)
    assert values[:2] == [True, False]
    assert values[2:] == ["True", "running", "a, b", 'say "hi"', "Ünïcode ☃", "1_000", "12:30", "0x10", "."]
    assert rejected == []


@given(st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: not x or 1e-130 <= abs(x) < 1e125))
def test_every_double_comes_back_from_its_shortest_text(number: float) -> None:
    assert replay.cell_value(repr(number)) == number
    assert replay.cell_value(f"{number:.16e}") == number


@given(st.integers(-(10**38) + 1, 10**38 - 1))
def test_every_int_of_38_digits_comes_back(number: int) -> None:
    value = replay.cell_value(str(number))
    assert value == number
    assert isinstance(value, int)


@pytest.mark.parametrize(
    ("text", "ts_us"),
    [
        ("2026-11-20T22:00:00Z", 1_795_212_000_000_000),
        ("2026-11-20t22:00:00.5z", 1_795_212_000_500_000),
        ("2026-11-20 23:30:00.123456+01:30", 1_795_212_000_123_456),
        ("2026-11-20T20:00:00.1234560-02:00", 1_795_212_000_123_456),
    ],
)
def test_timestamps_are_rfc_3339(tmp_path: Path, text: str, ts_us: int) -> None:
    runs, _ = played(write(tmp_path, f"timestamp,value\n{text},1\n"))
    assert runs[0].ts_us == [ts_us]


@pytest.mark.parametrize(
    "text",
    ["2026-11-20T22:00:00", "2026-11-20", "2026-13-20T22:00:00Z", "2026-11-20T22:00:60Z", "yesterday", "",
     "2026-11-20T22:00:00+25:00",
     "1700000000000", "\uff12026-11-20T22:00:00Z"],
)  # fmt: skip
def test_a_timestamp_that_is_none_costs_its_line(tmp_path: Path, text: str) -> None:
    runs, rejected = played(write(tmp_path, f"timestamp,value\n{text},1\n2026-11-20T22:00:00Z,2\n"))
    assert [run.metrics["value"] for run in runs] == [[2]]
    assert [(r.line, r.reason) for r in rejected] == [(2, "time")]
    assert "RFC 3339" in rejected[0].message


def test_milliseconds_may_have_decimals_down_to_a_microsecond(tmp_path: Path) -> None:
    lines = "1700000000000.5,1\n1700000000000.123,2\n1700000000000.1249,3\nx,4\n1e12,5\n"
    runs, rejected = played(write(tmp_path, "ts_ms,value\n" + lines))
    assert dict(zip(runs[0].ts_us, runs[0].metrics["value"], strict=True)) == {
        1_700_000_000_000_123: 2,
        1_700_000_000_000_125: 3,
        1_700_000_000_000_500: 1,
    }
    assert [r.line for r in rejected] == [5, 6]


def test_times_outside_what_a_reading_may_have_are_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path, f"ts_ms,value\n0,1\n-5,1\n946684799999,1\n946684800000,2\n{T0_MS},3\n4102444800000,4\n"
    )
    runs, rejected = played(path, latest_us=(T0_MS + 1) * 1000)
    assert runs[0].metrics["value"] == [2, 3]
    assert [(r.line, r.reason) for r in rejected] == [(n, "time_range") for n in (2, 3, 4, 7)]


def test_the_sensor_column_names_the_sensor_of_each_line(tmp_path: Path) -> None:
    text = f"sensor_id,ts_ms,value\na,{T0_MS},1\nb/c,{T0_MS},2\n,{T0_MS},3\n../x,{T0_MS},4\na,{T0_MS + 1},5\n"
    runs, rejected = played(write(tmp_path, text))
    assert {run.sensor_id: run.metrics["value"] for run in runs} == {"a": [1, 5], "b/c": [2]}
    assert [(r.line, r.reason) for r in rejected] == [(4, "sensor_id"), (5, "sensor_id")]
    runs, rejected = played(write(tmp_path, text), "spare")
    assert {run.sensor_id: run.metrics["value"] for run in runs} == {"a": [1, 5], "b/c": [2], "spare": [3]}
    assert [r.line for r in rejected] == [5]


def test_bad_lines_cost_only_themselves(tmp_path: Path) -> None:
    good = f"{T0_MS},1,2\n"
    text = f"ts_ms,a,b\n{good}{T0_MS},1\n{T0_MS},1,2,3\n\n{T0_MS},,\n{T0_MS + 1},3,\n".encode()
    text += f"{T0_MS + 2},".encode() + b"\xff\xfe,4\n" + f"{T0_MS + 3},{'x' * 200_000},5\n".encode()
    text += b"y" * (replay.LINE_BYTES + 5) + b"\n" + f"{T0_MS + 4},6,7".encode()
    runs, rejected = played(write(tmp_path, text))
    assert [(r.line, r.column, r.reason) for r in rejected] == [
        (3, "", "columns"),
        (4, "", "columns"),
        (6, "", "no_value"),
        (8, "a", "not_utf8"),
        (9, "", "not_csv"),
        (10, "", "too_long"),
    ]
    (run,) = runs
    assert [instant // 1000 - T0_MS for instant in run.ts_us] == [0, 1, 2, 4]
    assert run.metrics == {"a": [1, 3, None, 6], "b": [2, None, 4, 7]}


def test_an_unclosed_quote_is_found(tmp_path: Path) -> None:
    lines = "".join(f"{T0_MS + i},{i}\n" for i in range(20_000))
    runs, rejected = played(write(tmp_path, f'ts_ms,value\n{T0_MS},"oops\n{lines}'))
    assert "unclosed quote" in rejected[0].message
    assert rejected[0].line == 2
    assert runs


def test_unsorted_lines_come_sorted_and_the_last_of_an_instant_stands(tmp_path: Path) -> None:
    text = f"ts_ms,a,b\n{T0_MS + 2},1,\n{T0_MS},2,3\n{T0_MS + 2},4,5\n{T0_MS},,6\n"
    runs, rejected = played(write(tmp_path, text))
    assert runs == [Run("press-7", [T0_MS * 1000, (T0_MS + 2) * 1000], {"a": [2, 4], "b": [6, 5]}, 0)]
    assert rejected == []


def test_many_sensors_and_lines_stay_within_the_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "RUN_READINGS", 50)
    monkeypatch.setattr(replay, "HELD_READINGS", 200)
    text = "ts_ms,sensor_id,value\n" + "".join(f"{T0_MS + i},s{i % 7},{i}\n" for i in range(5000))
    runs, _ = played(write(tmp_path, text))
    assert max(len(run.ts_us) for run in runs) <= 50
    for sensor in range(7):
        mine = merge([run for run in runs if run.sensor_id == f"s{sensor}"])
        assert mine.metrics["value"] == list(range(sensor, 5000, 7))


def test_slices_keep_sensors_together_in_time(tmp_path: Path) -> None:
    lines = "".join(f"{T0_MS + 100 * i},{name},{i}\n" for i in range(50) for name in "ab")
    runs, _ = played(write(tmp_path, "ts_ms,sensor_id,value\n" + lines), slice_us=1_000_000)
    assert len(runs) == 10
    assert all(a.ts_us[0] <= b.ts_us[0] for a, b in pairwise(runs))
    assert all(len({ts_us // 1_000_000 for ts_us in run.ts_us}) == 1 for run in runs)


def test_all_bytes_of_the_file_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, "ts_ms,value\r\n" + "".join(f"{T0_MS + i},{i}\r\n" for i in range(20_000)))
    told: list[int] = []
    runs, rejected = played(path, on_bytes=told.append)
    assert sum(told) == path.stat().st_size
    assert len(told) > 3
    assert (sum(len(run.ts_us) for run in runs), rejected) == (20_000, [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("time,value\n1,2\n", "no time column"),
        ("ts_ms,timestamp,value\n", "more than one time column"),
        ("ts_ms,a,a\n", "names 'a' twice"),
        ("ts_ms,wind speed\n", "'wind speed', cannot be a metric"),
        ("ts_ms,value,\n", "column 3, '', cannot be a metric"),
        ("ts_ms,sensor_id\n", "no column besides"),
        (b"\xff\xfet\x00s\x00", "no time column"),
        (b"x" * 2_000_000, "is empty"),
    ],
)
def test_a_header_that_cannot_be_used_is_told_before_anything_is_sent(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    with pytest.raises(BadInput) as raised:
        open_csv(write(tmp_path, text))
    assert says in str(raised.value)
    assert str(tmp_path / "press-7.csv") in str(raised.value)


def test_a_byte_order_mark_and_spaces_in_the_header_do_no_harm(tmp_path: Path) -> None:
    runs, _ = played(write(tmp_path, b"\xef\xbb\xbfts_ms , value\r\n" + f" {T0_MS} , 21.4 \r\n".encode()))
    assert runs == [Run("press-7", [T0_MS * 1000], {"value": [21.4]}, 0)]


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        open_csv(tmp_path / "absent.csv")
    with pytest.raises(BadInput, match="cannot be read"):
        open_csv(tmp_path)


def test_the_sensor_needs_a_usable_name(tmp_path: Path) -> None:
    path = write(tmp_path, f"ts_ms,value\n{T0_MS},1\n", "my press.csv")
    with pytest.raises(BadInput, match="--sensor"):
        open_csv(path)
    with pytest.raises(BadInput, match=r"^sensor: 'a b'"):
        open_csv(path, "a b")
    assert played(path, "press-7")[0][0].sensor_id == "press-7"


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def now(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.s += seconds


def test_pacing_releases_a_run_when_its_last_reading_is_due() -> None:
    clock = Clock()
    runs = [Run("a", [t * 1_000_000 for t in times], {"v": [1] * len(times)}, 0)
            for times in ([100, 160], [220], [10], [400])]  # fmt: skip
    released = [(clock.s, run.ts_us[-1] // 1_000_000) for run in paced(runs, 60, clock.now, clock.sleep)]
    assert released == [(1001.0, 160), (1002.0, 220), (1002.0, 10), (1005.0, 400)]
    with pytest.raises(BadInput, match=r"^speed: "):
        next(paced(runs, 0, clock.now, clock.sleep))


def test_pacing_lets_refused_lines_through_at_once() -> None:
    clock = Clock()
    refused = RejectedLine("f", 2, "", "time", "has none.")
    items = [refused, Run("a", [0], {"v": [1]}, 0), refused]
    assert list(paced(items, 1, clock.now, clock.sleep)) == items
    assert Counter(type(item) for item in items)[RejectedLine] == 2
    assert clock.s == 1000.0
