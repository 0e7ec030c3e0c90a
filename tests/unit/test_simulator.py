"""The made-up fleet: what is repeatable, what faults do, and that `truth` is what was sent."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.errors import BadInput
from ingest.reading import Run, canonical, is_metric_name, is_sensor_id, merge
from sensors.simulator import (
    EXTRA_METRICS,
    Faults,
    Fleet,
    parse_faults,
    runs,
    sensor_id,
    truth,
    with_extras,
)

START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


def fleet(**changes: Any) -> Fleet:
    return replace(Fleet(5, 1.0, START_US, 60 * SECOND_US, seed=7), **changes)


def sent(made: Fleet, batch_s: float) -> dict[str, list[Run]]:
    found: dict[str, list[Run]] = {}
    for group in runs(made, batch_s):
        for run in group:
            found.setdefault(run.sensor_id, []).append(run)
    return found


def merged(made: Fleet, batch_s: float) -> dict[str, Run]:
    return {name: plain(merge(parts)) for name, parts in sent(made, batch_s).items()}


def plain(run: Run) -> Run:
    return Run(run.sensor_id, run.ts_us, dict(sorted(run.metrics.items())), 0)


def column(run: Run, name: str) -> list[Any]:
    return run.metrics[name]


def readings(groups: list[Run]) -> int:
    return sum(len(run.ts_us) for run in groups)


def test_the_default_fleet_is_temperature_and_humidity_on_an_exact_grid() -> None:
    found = sent(fleet(), 10)
    assert sorted(found) == ["sim-0001", "sim-0002", "sim-0003", "sim-0004", "sim-0005"]
    for parts in found.values():
        assert [instant for run in parts for instant in run.ts_us] == [
            START_US + i * SECOND_US for i in range(60)
        ]
        assert len(parts) == 6
        for run in parts:
            assert list(run.metrics) == ["temperature", "humidity"]
            assert run.arrival_ms == 0
            assert all(len(canonical(value).partition(".")[2]) <= 2 for value in column(run, "temperature"))
            assert all(len(canonical(value).partition(".")[2]) <= 1 for value in column(run, "humidity"))


@pytest.mark.parametrize(("rate_hz", "batch_s"), [(1.0, 300.0), (0.3, 60.0), (10.0, 7.0), (1 / 600, 60.0)])
def test_slices_end_at_multiples_of_their_length(rate_hz: float, batch_s: float) -> None:
    made = fleet(rate_hz=rate_hz, duration_us=1_900 * SECOND_US, start_us=START_US + 123_456_789)
    batch_us = round(batch_s * SECOND_US)
    for parts in sent(made, batch_s).values():
        slices = [{ts // batch_us for ts in run.ts_us} for run in parts]
        assert all(len(found) == 1 for found in slices), "no run is in two"
        assert len(slices) == len(set().union(*slices)), "and none has two runs"


def test_the_values_look_like_a_day_of_weather() -> None:
    day = fleet(rate_hz=1 / 60, duration_us=86_400 * SECOND_US, sensors=3)
    for run in truth(day).values():
        warm, damp = column(run, "temperature"), column(run, "humidity")
        assert 4.0 <= max(warm) - min(warm) <= 13.0
        assert max(abs(a - b) for a, b in pairwise(warm)) < 0.5
        assert all(0.0 <= value <= 100.0 for value in damp)
    assert len({tuple(run.metrics["temperature"]) for run in truth(day).values()}) == 3


def test_the_same_seed_sends_the_same_readings_on_every_machine() -> None:
    text = repr([run for group in runs(with_extras(fleet(), ",".join(EXTRA_METRICS)), 7) for run in group])
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "933c8e1bd0e88d64cbe96c3cbd2ae7d17186d600d2cb1deffb990a94081ad2d7"
    )
    assert truth(fleet(seed=8)) != truth(fleet())


@given(
    batch_s=st.sampled_from([0.5, 1, 7, 30, 60, 1000]),
    other_s=st.sampled_from([3, 45]),
    late=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    duplicate=st.sampled_from([0.0, 0.01, 0.3, 1.0]),
    dropout=st.sampled_from([0.0, 0.1, 0.9]),
    jitter=st.sampled_from([0.0, 0.2, 1.0]),
    seed=st.integers(-5, 2**64),
)
@settings(max_examples=40, deadline=None)
def test_what_is_sent_is_the_truth_whatever_the_faults_and_slices(
    batch_s: float, other_s: float, late: float, duplicate: float, dropout: float, jitter: float, seed: int
) -> None:
    made = fleet(faults=Faults(late, duplicate, dropout, jitter), seed=seed)
    made = with_extras(made, "pressure,counter,switch,state")
    expected = {name: plain(run) for name, run in truth(made).items()}
    assert merged(made, batch_s) == expected
    assert merged(made, other_s) == expected
    for parts in sent(made, batch_s).values():
        for run in parts:
            assert run.ts_us
            assert all(a < b for a, b in pairwise(run.ts_us))


def test_a_sensor_is_the_same_in_a_larger_fleet_and_a_longer_run() -> None:
    small, large = truth(fleet()), truth(fleet(sensors=300, duration_us=600 * SECOND_US))
    assert len(large) == 300
    for name, run in small.items():
        assert large[name].ts_us[:60] == run.ts_us
        assert large[name].metrics["temperature"][:60] == run.metrics["temperature"]


def test_a_large_fleet_comes_in_bounded_lists() -> None:
    groups = list(runs(fleet(sensors=3000, duration_us=100 * SECOND_US), 100))
    assert len(groups) == 3
    assert sum(map(readings, groups)) == 300_000


def test_late_readings_are_sent_in_a_later_slice() -> None:
    made = fleet(faults=Faults(late=0.2), sensors=20)
    latest, late = 0, 0
    for group in runs(made, 10):
        for run in group:
            behind = (latest - run.ts_us[-1]) // (10 * SECOND_US)
            late += len(run.ts_us) if behind > 0 else 0
        latest = max(latest, *(run.ts_us[-1] for run in group))
    assert 0.1 < late / made.readings < 0.3
    assert readings([run for group in runs(made, 10) for run in group]) == made.readings


def test_duplicates_are_sent_twice_with_the_same_values() -> None:
    made = fleet(faults=Faults(duplicate=1.0))
    for parts in sent(made, 10).values():
        assert readings(parts) == 2 * made.instants
    some = fleet(faults=Faults(duplicate=0.1), sensors=50)
    total = readings([run for group in runs(some, 10) for run in group])
    assert 0.07 < total / some.readings - 1 < 0.13


def test_drop_outs_are_never_sent() -> None:
    made = fleet(faults=Faults(dropout=0.25), sensors=50)
    kept = readings(list(truth(made).values()))
    assert 0.7 < kept / made.readings < 0.8
    assert truth(fleet(faults=Faults(dropout=1.0))) == {}
    assert list(runs(fleet(faults=Faults(dropout=1.0)), 10)) == []


def test_jitter_leaves_the_grid_by_whole_milliseconds_and_keeps_the_order() -> None:
    made = fleet(faults=Faults(jitter=0.5), jitter_ms=40, sensors=20)
    offsets = [(instant - START_US) % SECOND_US for run in truth(made).values() for instant in run.ts_us]
    moved = [offset for offset in offsets if offset]
    assert 0.4 < len(moved) / len(offsets) < 0.6
    assert all(offset % 1000 == 0 and offset <= 40_000 for offset in moved)
    fast = fleet(faults=Faults(jitter=1.0), rate_hz=500.0, duration_us=SECOND_US, jitter_ms=1000)
    for run in truth(fast).values():
        assert all(a < b for a, b in pairwise(run.ts_us))


def test_counters_never_fall_and_switches_and_states_hold_for_a_while() -> None:
    made = with_extras(
        fleet(rate_hz=0.1, duration_us=2 * 86_400 * SECOND_US), "counter, switch, state, pressure"
    )
    for run in truth(made).values():
        counter, switch, state = (column(run, name) for name in ("counter", "switch", "state"))
        assert all(type(value) is int for value in counter)
        assert all(a <= b for a, b in pairwise(counter))
        assert counter[-1] > counter[0]
        assert {type(value) for value in switch} == {bool}
        assert set(switch) == {True, False}
        assert set(state) == {"idle", "running", "paused", "fault"}
        assert sum(a != b for a, b in pairwise(state)) < len(state) / 20
        assert all(950 < value < 1050 for value in column(run, "pressure"))


def test_names_are_valid_and_sort_in_order() -> None:
    assert all(is_sensor_id(sensor_id(i)) for i in (0, 9_998, 9_999, 1_000_000))
    assert [sensor_id(i) for i in range(3)] == ["sim-0001", "sim-0002", "sim-0003"]
    assert all(is_metric_name(name) for name in EXTRA_METRICS)


@pytest.mark.parametrize(
    ("rate_hz", "duration_s", "instants"),
    [(1.0, 600, 600), (10.0, 1.5, 15), (3.0, 60, 180), (1.0, 1.5, 2), (0.01, 1000, 10), (1.0, 0.5, 1)],
)
def test_how_many_readings_a_sensor_takes(rate_hz: float, duration_s: float, instants: int) -> None:
    made = fleet(rate_hz=rate_hz, duration_us=int(duration_s * SECOND_US))
    assert made.instants == instants
    for run in truth(made).values():
        assert len(run.ts_us) == instants
        assert run.ts_us[-1] < START_US + made.duration_us


def test_faults_are_read_by_name() -> None:
    assert parse_faults("late=0.01, duplicate=0.02") == Faults(late=0.01, duplicate=0.02)
    assert parse_faults("dropout=1,jitter=0") == Faults(dropout=1.0)
    assert parse_faults("") == Faults()


@pytest.mark.parametrize(
    "text", ["lat=0.1", "late", "late=", "late=x", "late=1.5", "late=nan", "late=-1", "late=0,late=0"]
)
def test_a_fault_that_cannot_be_read_says_which_and_what_to_write(text: str) -> None:
    with pytest.raises(BadInput, match=r"^faults: .*lat"):
        parse_faults(text)


def test_an_unknown_fault_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match="late, duplicate, dropout, jitter"):
        parse_faults("flood=0.1")


def test_extras_are_added_by_name_and_given_fractions_stay() -> None:
    made = with_extras(fleet(faults=Faults(dropout=0.5)), "pressure,jitter,dropout")
    assert made.metrics == ("temperature", "humidity", "pressure")
    assert made.faults == Faults(dropout=0.5, jitter=1.0)
    assert with_extras(fleet(), "dropout").faults.dropout == 0.05
    with pytest.raises(BadInput, match=r"with: 'sound' .*pressure, counter, switch, state, jitter, dropout"):
        with_extras(fleet(), "sound")


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("sensors", 0, "sensors"),
        ("rate_hz", 0.0, "rate"),
        ("rate_hz", float("nan"), "rate"),
        ("rate_hz", 1e9, "rate"),
        ("duration_us", 0, "duration"),
        ("start_us", 0, "start"),
        ("jitter_ms", -1, "jitter"),
        ("metrics", (), "metrics"),
        ("metrics", ("sound",), "metrics"),
    ],
)
def test_a_fleet_that_cannot_be_says_which_option_is_wrong(field: str, value: Any, named: str) -> None:
    with pytest.raises(BadInput, match=rf"^{named}: "):
        replace(fleet(), **{field: value})


def test_slices_need_a_length() -> None:
    with pytest.raises(BadInput, match=r"^batch: "):
        next(runs(fleet(), 0))
