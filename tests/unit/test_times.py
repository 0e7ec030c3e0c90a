"""Times and durations on the command line: what is understood, what is refused, and that texts read back."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import BadInput
from ingest.times import END_US, US, format_duration, format_time, parse_duration, parse_time

NOW_US = 1_795_212_000_000_000  # 2026-11-20T22:00:00Z
HOUR_US = 3600 * US
INSTANTS = st.integers(0, 7_289_654_400 * US - 1)  # 1970 to 2200


@pytest.mark.parametrize(
    ("text", "expected_us"),
    [
        ("now", NOW_US),
        ("-1h", NOW_US - HOUR_US),
        ("now-5m", NOW_US - 300 * US),
        ("now+10d", NOW_US + 240 * HOUR_US),
        ("now-1h30m", NOW_US - 5400 * US),
        ("now - 1.5h", NOW_US - 5400 * US),
        ("+250ms", NOW_US + 250_000),
        (" 2013-12-01 ", 1_385_856_000 * US),
        ("2013-12-02T21:15:00Z", 1_386_018_900 * US),
        ("2013-12-02t21:15:00z", 1_386_018_900 * US),
        ("2013-12-02T21:15:00", 1_386_018_900 * US),
        ("2013-12-02 21:15", 1_386_018_900 * US),
        ("2013-12-02T22:15:00+01:00", 1_386_018_900 * US),
        ("2013-12-02T22:15:00+0100", 1_386_018_900 * US),
        ("2013-12-02T15:45:00-05:30", 1_386_018_900 * US),
        ("2013-12-03T11:14:00+13:59", 1_386_018_900 * US),
        ("2013-12-02T21:15:00.25Z", 1_386_018_900_250_000),
        ("2013-12-02T21:15:00.123456789Z", 1_386_018_900_123_456),
        ("2016-12-31T23:59:60Z", 1_483_228_800 * US),
        ("1969-12-31T23:59:59.5Z", -500_000),
        ("0001-01-01", -62_135_596_800 * US),
        ("9999-12-31T23:59:59.999999Z", END_US - 1),
        ("0", 0),
        ("1386018900", 1_386_018_900 * US),
        ("1386018900.25", 1_386_018_900_250_000),
        ("1386018900.1234567", 1_386_018_900_123_456),
        ("13860189001", 13_860_189_001_000),
        ("1386018900250", 1_386_018_900_250_000),
        ("1386018900250.5", 1_386_018_900_250_500),
        ("1386018900250001", 1_386_018_900_250_001),
        ("1386018900250001999", 1_386_018_900_250_001),
    ],
)
def test_a_time_is_understood(text: str, expected_us: int) -> None:
    assert parse_time(text, NOW_US) == expected_us


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "yesterday",
        "Now",
        "now-",
        "-",
        "--1h",
        "now-1h-2h",
        "-1h30",
        "-1.5.5h",
        "-1M",
        "2013-13-01",
        "2013-02-29",
        "2013-12-02T24:00:00Z",
        "2013-12-02T21:60:00Z",
        "2013-12-02T21:15:61Z",
        "2013-12-02T21:15:00+24:00",
        "2013-12-02T21:15:00+01:60",
        "2013-12-02T21:15:00.1234567891Z",
        "2013-12-02T21:15:00,5Z",
        "2013-12-02Z",
        "2013-12",
        "13-12-02",
        "0000-01-01",
        "0001-01-01T00:00:00+00:01",
        "now+9000y",
        "-9000y",
        "99999999999999999999999",
        "9" * 5000,
        "1e9",
        "1_000",
        "\u0662\u0660\u0661\u0663-\u0661\u0662-\u0660\u0661",
        "1386018900\n1",
    ],
)
def test_what_is_no_time_is_refused_with_the_option_and_examples(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_time(text, NOW_US, "--from")
    message = str(refused.value)
    assert message.startswith("--from: ")
    assert repr(text) in message
    assert "now-5m" in message


def test_a_refused_time_says_what_was_probably_meant() -> None:
    with pytest.raises(BadInput, match=r"use -1h\."):
        parse_time("1h", NOW_US)
    with pytest.raises(BadInput, match="5m minutes"):
        parse_time("-5", NOW_US)
    with pytest.raises(BadInput, match="0001 to 9999"):
        parse_time("now+9000y", NOW_US)


@pytest.mark.parametrize(
    ("text", "expected_us"),
    [
        ("0s", 0),
        ("1us", 1),
        ("250ms", 250_000),
        ("1s", US),
        ("0.000001s", 1),
        ("1.5h", 5400 * US),
        ("10m", 600 * US),
        ("1h30m", 5400 * US),
        ("1d12h30m15s250ms1us", 131_415_250_001),
        ("7d", 7 * 24 * HOUR_US),
        ("2w", 14 * 24 * HOUR_US),
        ("5y", 5 * 365 * 24 * HOUR_US),
        (" 1h ", HOUR_US),
    ],
)
def test_a_duration_is_understood(text: str, expected_us: int) -> None:
    assert parse_duration(text) == expected_us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h",
        "-1h",
        "+1h",
        "1h1h",
        "30m1h",
        "1 h",
        "1H",
        "1min",
        "1e3s",
        "1h30",
        "0.1us",
        "1.0000001s",
        "1.s",
        "\u0663s",
    ],
)
def test_what_is_no_duration_is_refused_with_the_option_and_examples(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_duration(text, "--every")
    assert str(refused.value).startswith(f"--every: {text!r} ")
    assert "1h30m" in str(refused.value)


@pytest.mark.parametrize("text", ["10", "1.5", " 60 "])
def test_a_bare_number_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(BadInput, match=f"{text.strip()}s is seconds"):
        parse_duration(text, "--every")


@pytest.mark.parametrize(
    ("ts_us", "expected"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_386_018_900 * US, "2013-12-02T21:15:00Z"),
        (1_386_018_900_250_000, "2013-12-02T21:15:00.25Z"),
        (1_386_018_900_000_001, "2013-12-02T21:15:00.000001Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (-62_135_596_800 * US, "0001-01-01T00:00:00Z"),
        (END_US - 1, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_time_is_written_with_as_many_decimals_as_needed(ts_us: int, expected: str) -> None:
    assert format_time(ts_us) == expected


@pytest.mark.parametrize(
    ("length_us", "expected"),
    [
        (0, "0s"),
        (1, "1us"),
        (250_000, "250ms"),
        (1_500, "1.5ms"),
        (1_500_000, "1.5s"),
        (60 * US, "1m"),
        (5400 * US, "1h30m"),
        (86_400 * US, "1d"),
        (7 * 86_400 * US, "7d"),
        (5 * 365 * 86_400 * US, "5y"),
        (90_061_250_000, "1d1h1m1.25s"),
        (-300 * US, "-5m"),
    ],
)
def test_a_duration_is_written_shortly(length_us: int, expected: str) -> None:
    assert format_duration(length_us) == expected


@given(INSTANTS)
def test_a_written_time_reads_back(ts_us: int) -> None:
    assert parse_time(format_time(ts_us), NOW_US) == ts_us


@given(INSTANTS, st.integers(-1439, 1439))
def test_any_offset_means_the_same_instant(ts_us: int, offset_minutes: int) -> None:
    local = format_time(ts_us + offset_minutes * 60 * US).removesuffix("Z")
    sign, minutes = "-" if offset_minutes < 0 else "+", abs(offset_minutes)
    assert parse_time(f"{local}{sign}{minutes // 60:02}:{minutes % 60:02}", NOW_US) == ts_us


@given(INSTANTS)
def test_times_agree_with_the_standard_library(ts_us: int) -> None:
    expected = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_us)
    assert datetime.fromisoformat(format_time(ts_us)) == expected
    assert parse_time(expected.isoformat(), NOW_US) == ts_us


@given(st.integers(10**15, 10**16 - 1))
def test_epoch_digits_mean_the_same_in_every_unit(ts_us: int) -> None:
    seconds_us = ts_us // US * US
    assert parse_time(str(seconds_us // US), NOW_US) == seconds_us
    assert parse_time(str(ts_us // 1000), NOW_US) == ts_us // 1000 * 1000
    assert parse_time(str(ts_us), NOW_US) == ts_us
    assert parse_time(f"{ts_us}999", NOW_US) == ts_us


@given(st.integers(0, 10**17))
def test_a_written_duration_reads_back(length_us: int) -> None:
    assert parse_duration(format_duration(length_us)) == length_us


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_bad_input(text: str) -> None:
    for parse in (lambda: parse_time(text, NOW_US), lambda: parse_duration(text)):
        with suppress(BadInput):
            assert isinstance(parse(), int)
