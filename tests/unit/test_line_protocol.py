"""What line protocol means here: values, names, times, what one bad line costs, and that no bytes make it fail."""

from __future__ import annotations

import gzip
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from influxdb_client.client.write.point import Point
from influxdb_client.domain.write_precision import WritePrecision

from ingest.gather import MOST_READINGS
from ingest.line_grammar import whole_lines
from ingest.line_names import SPELLED, SPELLED_IN_METRICS, metric_of, sensor_name, sensor_of
from ingest.line_protocol import decode_lines, is_line_protocol
from ingest.reading import Value, canonical, is_metric_name, is_sensor_id
from ingest.reject import REASONS, Problem
from ingest.wire import decode, decode_all
from ingest.write_unknown import unknown_sensors
from tests import strategies as own
from tests.line_writer import line
from tests.world import record

NOW_MS = own.ARRIVAL_MS
NOW_US = NOW_MS * 1000
NOW_NS = NOW_US * 1000
AT = str(NOW_NS)
Cells = dict[tuple[str, int, str], str]


def read(body: str | bytes, precision: str = "ns") -> tuple[Cells, list[Problem]]:
    """The values by sensor, instant and metric, as canonical text, and what could not be used."""
    raw = body.encode() if isinstance(body, str) else body
    runs, problems = decode_lines(raw, NOW_MS, precision)
    for run in runs:
        assert is_sensor_id(run.sensor_id)
        assert run.ts_us == sorted(set(run.ts_us))
        assert all(map(is_metric_name, run.metrics))
        assert all(len(column) == len(run.ts_us) for column in run.metrics.values())
    for problem in problems:
        assert problem.reason in REASONS
        assert problem.count > 0
        assert problem.payload is None or problem.payload in raw
    found = {
        (run.sensor_id, ts_us, name): canonical(value)
        for run in runs
        for name, column in run.metrics.items()
        for ts_us, value in zip(run.ts_us, column, strict=True)
        if value is not None
    }
    return found, problems


def told(body: str, precision: str = "ns") -> list[tuple[str, str]]:
    """Reason and place of each problem."""
    return [(problem.reason, problem.part) for problem in read(body, precision)[1]]


# --- values, times ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("21.5", "21.5"),
        ("-0.0", "0"),
        ("1.", "1"),
        (".5", "0.5"),
        ("+1e3", "1000"),
        ("1E-3", "0.001"),
        ("12i", "12"),
        ("-12i", "-12"),
        ("+12i", "12"),
        ("18446744073709551615u", "18446744073709551615"),
        ("9007199254740993i", "9007199254740993"),
        ("9" * 38 + "i", "9" * 38),
        ("t", "true"),
        ("TRUE", "true"),
        ("False", "false"),
        ("f", "false"),
        ('""', ""),
        ('"a b,c=d"', "a b,c=d"),
        (r'"say \"hi\" \\ \n"', r'say "hi" \ \n'),
        ('"two\nlines"', "two\nlines"),
        ('"# °C"', "# °C"),
    ],
)
def test_a_value_of_every_kind(text: str, value: str) -> None:
    assert read(f"m,sensor_id=s v={text} {AT}") == ({("s", NOW_US, "m.v"): value}, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NaN", "not_finite"),
        ("-inf", "not_finite"),
        ("+Infinity", "not_finite"),
        ("1e400", "number_out_of_range"),
        ("1e-200", "number_out_of_range"),
        ("9" * 39 + "i", "int_too_long"),
        ("9" * 5000 + "i", "int_too_long"),
        ("-5u", "wrong_type"),
        ("1_0", "wrong_type"),
        ("0x10", "wrong_type"),
        ("1.5i", "wrong_type"),
        ("i", "wrong_type"),
        ("tRue", "wrong_type"),
        ("abc", "wrong_type"),
        ("１2", "wrong_type"),  # noqa: RUF001 - a digit that is not ASCII
        ("1 2 3".replace(" ", "\t"), "wrong_type"),
        ('"' + "x" * 40_000 + '"', "reading_too_large"),
    ],
)
def test_a_bad_value_costs_only_itself(text: str, reason: str) -> None:
    body = f"m,sensor_id=s v={text},w=1 {AT}\nm,sensor_id=s v=2 {NOW_NS + 1000}"
    found, problems = read(body)
    assert found == {("s", NOW_US, "m.w"): "1", ("s", NOW_US + 1, "m.v"): "2"}
    assert [(problem.reason, problem.part) for problem in problems] == [(reason, "line 1, metric m.v")]


@pytest.mark.parametrize(
    ("precision", "at", "ts_us"),
    [
        ("ns", NOW_NS, NOW_US),
        ("ns", NOW_NS + 500, NOW_US),
        ("ns", NOW_NS + 501, NOW_US + 1),
        ("ns", NOW_NS + 1500, NOW_US + 2),
        ("us", NOW_US + 1, NOW_US + 1),
        ("ms", NOW_MS + 1, NOW_US + 1000),
        ("s", NOW_MS // 1000 + 1, NOW_US + 1_000_000),
        ("s", None, NOW_US),
    ],
)
@pytest.mark.parametrize("end", ["", "\r", "  "])
def test_times_in_every_unit(precision: str, at: int | None, ts_us: int, end: str) -> None:
    body = line("m", {"sensor_id": "s"}, {"v": 1.5}, at) + end
    assert read(body, precision) == ({("s", ts_us, "m.v"): "1.5"}, [])


@pytest.mark.parametrize("at", ["-1", "0", str(NOW_US), str(NOW_NS + 24 * 3600 * 10**9), "9" * 30, "9" * 60])
def test_a_time_in_another_unit_is_refused_rather_than_guessed(at: str) -> None:
    assert told(f"m v=1 {at}") == [("ts_out_of_range", "line 1")]


# --- lines ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "column"),
    [
        ("m", 2),
        ("m,sensor_id=s", 14),
        ("m ", 2),
        ("m v", 3),
        ("m v= 1", 5),
        ("m v=1,", 7),
        ("m v=1,,w=2", 7),
        ("m =1", 3),
        (",a=b v=1", 1),
        ("m, v=1", 3),
        ("m,a v=1", 3),
        ("m,a= v=1", 5),
        ("m,a=b=c v=1", 5),
        ("m,a=b,a=c v=1", 7),
        ("m v=1 12x", 7),
        ("m v=1 1.5", 7),
        ('m v="open', 5),
        ('m v="a"b 1', 8),
    ],
)
def test_a_bad_line_costs_itself_and_says_where(bad: str, column: int) -> None:
    good = f"m,sensor_id=s v=1 {AT}"
    found, problems = read(f"# made by hand\n{good}\n\n{bad}\n   \n{good.replace('v', 'w')}\n")
    assert found == {("s", NOW_US, "m.v"): "1", ("s", NOW_US, "m.w"): "1"}
    assert [(problem.reason, problem.part) for problem in problems] == [("bad_line", "line 4")]
    assert problems[0].payload == bad.encode()
    assert f"column {column}:" in problems[0].detail


def test_a_line_that_is_no_utf_8_costs_itself() -> None:
    found, problems = read(b"m v=\xff\nm v=1 " + AT.encode())
    assert found == {("m", NOW_US, "m.v"): "1"}
    assert [(problem.reason, problem.part) for problem in problems] == [("not_utf8", "line 1")]


def test_texts_may_hold_line_ends_and_an_open_one_takes_no_other_line_with_it() -> None:
    whole = f'm a="one\n# two\n\\"three\n",b="x" {AT}'
    found, problems = read(f'{whole}\nm a="open\nm c=1 {AT}\nm d="y" {AT}')
    assert found == {
        ("m", NOW_US, "m.a"): 'one\n# two\n"three\n',
        ("m", NOW_US, "m.b"): "x",
        ("m", NOW_US, "m.c"): "1",
        ("m", NOW_US, "m.d"): "y",
    }
    assert [(problem.reason, problem.part) for problem in problems] == [("bad_line", "line 5")]


def test_what_stands_in_a_text_is_never_read_as_a_line() -> None:
    """Also where the line that the text belongs to is refused as a whole."""
    inner = f'"x\nm,sensor_id=other v=666 {AT}\n"'
    for head, at in (("m,sensor_id=s", "1"), ("m,sensor_id=s", "9" * 60), ("m,sensor_id=bad\\ id", AT)):
        found, problems = read(f"{head} a={inner} {at}\nm,sensor_id=s v=1 {AT}")
        assert found == {("s", NOW_US, "m.v"): "1"}
        assert [problem.part for problem in problems] == ["line 1"]


def test_whole_lines_are_those_that_are_read() -> None:
    lines = [f'm a="one\ntwo" {AT}', 'm a="open', "", f"m v=1 {AT}", "# x"]
    assert list(whole_lines("\n".join(lines).encode())) == [text.encode() for text in lines]


def test_the_last_value_of_a_field_and_of_an_instant_wins() -> None:
    assert read(f"m v=1,v=2 {AT}")[0] == {("m", NOW_US, "m.v"): "2"}
    assert read(f"m v=2 {AT}\nm v=1 {AT}")[0] == {("m", NOW_US, "m.v"): "1"}


def test_more_lines_than_one_record_may_hold_are_refused_together() -> None:
    assert told("m v=1\n" * (MOST_READINGS + 1)) == [("too_large", "")]
    assert told("\n" * (MOST_READINGS + 1)) == []


# --- names ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "sensor_id"),
    [
        ("m,host=h,entity_id=e,device=d,sensor=x,sensor_id=s", "s"),
        ("m,host=h,entity_id=e,device=d,sensor=x", "x"),
        ("m,host=h,entity_id=e,device=d", "d"),
        ("m,host=h,entity_id=e", "e"),
        ("m,host=h,room=r", "h"),
        ("m,room=r,floor=2", "m/2/r"),
        ("m,floor=2,room=r", "m/2/r"),
        ("m", "m"),
        (r"room\ temp,sensor=hall\ 2", "hall_2"),
        ("m,sensor=22°", "22deg"),
        ("m,sensor_id=site1/hall:2", "site1/hall:2"),
    ],
)
def test_which_tag_names_the_sensor(head: str, sensor_id: str) -> None:
    assert {key[0] for key in read(f"{head} v=1 {AT}")[0]} == {sensor_id}


def test_a_sensor_id_tag_is_taken_as_it_stands_or_refused() -> None:
    found, problems = read(f"m,sensor_id=hall\\ 2 v=1 {AT}\nm,sensor_id=a v=1 {AT}")
    assert set(found) == {("a", NOW_US, "m.v")}
    assert [(problem.reason, problem.part) for problem in problems] == [("bad_sensor_id", "line 1")]


@pytest.mark.parametrize(
    ("measurement", "field", "metric"),
    [
        ("weather", "temperature", "weather.temperature"),
        ("°C", "value", "degC.value"),
        ("%", "value", "percent.value"),
        ("µg/m³", "value", "ug_m3.value"),
        ("kWh", "value", "kWh.value"),
        ("Room Temp", "2m", "Room_Temp.2m"),
        ("2m", "t", "_2m.t"),
        ("sensor.outside", "friendly_name_str", "sensor.outside.friendly_name_str"),
    ],
)
def test_measurement_and_field_name_the_metric(measurement: str, field: str, metric: str) -> None:
    assert metric_of(measurement, field) == metric
    body = line(measurement, {"sensor_id": "s"}, {field: 1.5}, NOW_NS)
    assert read(body)[0] == {("s", NOW_US, metric): "1.5"}


NAMES = st.one_of(st.text(min_size=1, max_size=8), st.text("ab_ /°.-é", min_size=1, max_size=90))


@given(NAMES, NAMES)
@example("é", "è")
@example("a" * 70, "a" * 71)
@example("a\x00b", "a_b")
def test_names_that_differ_stay_apart(one: str, other: str) -> None:
    def spelled(name: str) -> str:
        text = name.translate(str.maketrans(SPELLED_IN_METRICS))
        return f"_{text}" if text[:1].isascii() and text[:1].isdigit() else text

    first, second = metric_of(one, "v"), metric_of(other, "v")
    assert is_metric_name(first)
    assert (first == second) == (spelled(one) == spelled(other))


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, min_size=1, max_size=3))
@example(["a/b", "c"], ["a", "b/c"])
@example(["a", "b"], ["a/b"])
@example(["..", "x"], ["__", "x"])
@example(["-a"], ["a"])
def test_sensors_that_differ_stay_apart(one: list[str], other: list[str]) -> None:
    def spelled(parts: list[str]) -> list[str]:
        return [part.translate(str.maketrans(SPELLED)) for part in parts]

    first, second = sensor_name(*one), sensor_name(*other)
    assert is_sensor_id(first)
    if "/".join(one) != "/".join(other):
        assert (first == second) <= ("/".join(spelled(one)) == "/".join(spelled(other)))


def test_series_that_come_down_to_the_same_name_are_told_and_not_mixed() -> None:
    body = (
        f"cpu,cpu=cpu0,host=h usage=1,steal=5 {AT}\n"
        f"cpu,cpu=cpu1,host=h usage=2 {AT}\n"
        f"cpu,host=h,cpu=cpu0 usage=3 {AT}\n"
        f"cpu,cpu=cpu1,host=h usage=4,idle=6 {NOW_NS + 1000}\n"
        f"°C,sensor_id=s v=1 {AT}\ndegC,sensor_id=s v=2 {AT}\n"
        f"m a\\ b=1,a_b=2 {AT}"
    )
    found, problems = read(body)
    assert found == {
        ("h", NOW_US, "cpu.usage"): "3",
        ("h", NOW_US, "cpu.steal"): "5",
        ("h", NOW_US + 1, "cpu.usage"): "4",
        ("h", NOW_US + 1, "cpu.idle"): "6",
        ("s", NOW_US, "degC.v"): "1",
        ("m", NOW_US, "m.a_b"): "1",
    }
    assert [(problem.reason, problem.part) for problem in problems] == [
        ("name_conflict", "line 2, metric cpu.usage"),
        ("name_conflict", "line 6, metric degC.v"),
        ("name_conflict", "line 7, metric m.a_b"),
    ]


# --- round trips ------------------------------------------------------------------------

TEXTS = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r"), min_size=1, max_size=10
)
HOSTILE = st.text(' ,=\\"#°ab', min_size=1, max_size=8)


def _names() -> st.SearchStrategy[str]:
    """Names that line protocol can carry: no backslash at the end, where it would escape what follows."""
    return st.one_of(TEXTS, HOSTILE).map(lambda text: text.strip().rstrip("\\")).filter(bool)


@st.composite
def points(draw: st.DrawFn) -> list[tuple[str, dict[str, str], dict[str, Value], int]]:
    """Rows of one series for each sensor: measurement, tags, fields and time in microseconds."""
    found: list[tuple[str, dict[str, str], dict[str, Value], int]] = []
    for number in range(draw(st.integers(1, 3))):
        measurement = draw(_names().filter(lambda text: not text.startswith("#")))
        tags = draw(st.dictionaries(_names(), _names(), max_size=2)) | {"sensor_id": f"sensor-{number}"}
        keys = draw(st.lists(_names(), min_size=1, max_size=3, unique_by=lambda key: metric_of("m", key)))
        for row in range(draw(st.integers(1, 4))):
            values = draw(st.lists(own.values(), min_size=len(keys), max_size=len(keys)))
            found.append((measurement, tags, dict(zip(keys, values, strict=True)), NOW_US + row))
    return found


def _cells(rows: list[tuple[str, dict[str, str], dict[str, Value], int]]) -> Cells:
    return {
        (sensor_of(measurement, tags), ts_us, metric_of(measurement, key)): canonical(value)
        for measurement, tags, fields, ts_us in rows
        for key, value in fields.items()
    }


@given(points(), st.randoms(use_true_random=False), st.sampled_from(["\n", "\r\n", "\n\n", "\n#x\n"]))
@settings(max_examples=300)
def test_what_was_written_is_read(rows: list[Any], random: Any, between: str) -> None:
    written: list[str] = []
    for measurement, tags, fields, ts_us in rows:
        shuffled = list(tags.items())
        random.shuffle(shuffled)
        written.append(line(measurement, dict(shuffled), fields, ts_us))
    found, problems = read(between.join(written), "us")
    assert not problems
    assert found == _cells(rows)


@given(points())
@settings(max_examples=200)
def test_what_the_client_of_influxdb_writes_is_read(rows: list[Any]) -> None:
    written: list[str] = []
    for measurement, tags, fields, ts_us in rows:
        point = Point(measurement)
        for name, text in tags.items():
            point.tag(name, text)
        for name, value in fields.items():
            point.field(name, value)
        written.append(point.time(ts_us, WritePrecision.US).to_line_protocol())
    spoilt = any("\t" in text for row in rows for text in (row[0], *row[1], *row[1].values(), *row[2]))
    found, problems = read("\n".join(written), "us")
    assert not problems
    if not spoilt:  # the client writes a tab in a name as a backslash and a t
        assert found == _cells(rows)


@given(points(), st.integers(0, 10))
def test_a_plain_line_means_the_same_beside_odd_ones(rows: list[Any], odd: int) -> None:
    """Lines that are read fast and those that are read with care agree: an end of line that only the latter know."""
    plain = [line(*row) for row in rows]
    careful = [text + "\r" if place % 2 == odd % 2 else text for place, text in enumerate(plain)]
    assert read("\n".join(plain), "us") == read("\n".join(careful), "us")


# --- as a wire format ---------------------------------------------------------------------

LINES = f"m,sensor_id=a v=1.5 {AT}\nm,sensor_id=b v=2 {AT}"


def test_line_protocol_is_one_of_the_wire_formats() -> None:
    for payload in (LINES.encode(), gzip.compress(LINES.encode())):
        runs, problems = decode(payload, NOW_MS)
        assert not problems
        assert {run.sensor_id: run.metrics for run in runs} == {"a": {"m.v": [1.5]}, "b": {"m.v": [2.0]}}
    runs, problems = decode_all(
        [LINES.encode(), b'{"sensor_id":"c","ts":%d,"metrics":{"x":1}}' % NOW_MS], NOW_MS
    )
    assert [run.sensor_id for run in runs] == ["a", "b", "c"]
    assert not problems


def test_a_topic_that_names_the_sensor_holds_for_lines_too() -> None:
    runs, problems = decode(f"m,room=x v=1 {AT}".encode(), NOW_MS, "hall")
    assert ([run.sensor_id for run in runs], problems) == (["hall"], [])
    runs, problems = decode(f"m,sensor_id=other v=1 {AT}".encode(), NOW_MS, "hall")
    assert (runs, [problem.reason for problem in problems]) == ([], ["sensor_mismatch"])


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"  ",
        b"hello",
        b"hello world",
        b"# a b=c",
        b"1",
        b'"a b=1"',
        b'{"a b=1',
        b"[1, x=2",
        b"\xff\xfe a=1"[:2],
    ],
)
def test_other_payloads_are_not_taken_for_lines(payload: bytes) -> None:
    assert not is_line_protocol(payload)
    runs, problems = decode(payload, NOW_MS)
    assert not runs
    assert problems[0].reason not in ("bad_line", "name_conflict")


def test_a_line_of_json_among_others_makes_it_json_lines() -> None:
    runs, problems = decode(b'm v=1\n{"sensor_id":"c","ts":%d,"metrics":{"x":1}}' % NOW_MS, NOW_MS)
    assert [run.sensor_id for run in runs] == ["c"]
    assert [problem.reason for problem in problems] == ["not_json"]


# --- whatever comes -----------------------------------------------------------------------


@given(st.binary(max_size=80), st.sampled_from([b"", b"m,a=b v=1,w=", b'm v="', b"m,", b"\\ "]))
@settings(max_examples=500)
def test_no_bytes_make_it_fail(data: bytes, start: bytes) -> None:
    read(start + data)
    read(data.replace(b"\x00", b"\n") + b"\nm v=1 " + AT.encode())


@pytest.mark.parametrize(
    "piece",
    [
        b'm v="\n',
        b'm v="\n\n\n\n',
        b'm v="\n",b="\n',
        b'm v="\\"\n\\"\n',
        b"a" * 50 + b"\\ ",
        b"m v=1,",
        b",=",
        b"m,a=b,",
    ],
)
def test_no_body_takes_long(piece: bytes) -> None:
    body = piece * (1_000_000 // len(piece))
    began = time.process_time()
    is_line_protocol(body)
    read(body)
    assert time.process_time() - began < 8


def test_lines_of_an_unknown_sensor_are_kept_so_that_each_can_be_read_again() -> None:
    """Also those whose texts hold line ends, and those that are good alone but not together."""
    body = f'm,sensor_id=a v=1 {AT}\nm,sensor_id=b v=2\nm,sensor_id=a s="x\ny" {AT}\nbad\n'
    conflict = f"cpu,cpu=0,host=h u=1 {AT}\ncpu,cpu=1,host=h u=2 {AT}"
    told = [problem for _, _, problem in unknown_sensors(record(1, body.encode()), {"a"})]
    assert [problem.payload for problem in told] == [
        f'm,sensor_id=a v=1 {AT}\nm,sensor_id=a s="x\ny" {AT}'.encode()
    ]
    told = [problem for _, _, problem in unknown_sensors(record(1, conflict.encode()), {"h"})]
    assert [problem.payload for problem in told] == [text.encode() for text in conflict.split("\n")]
