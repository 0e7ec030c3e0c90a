"""Windows: every aggregate against a plain recomputation, over half-open windows aligned to the epoch."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ingest.aggregate import AGGREGATES, aggregate, aggregate_function
from ingest.errors import BadInput
from ingest.reading import Run
from tests import strategies as make

T0 = 1_795_212_000_000_000


def run(times: list[int], **metrics: list) -> Run:
    return Run("s", [T0 + t for t in times], metrics, 1)


@given(make.runs(first_us=T0, last_us=T0 + 10_000_000), st.integers(1, 3_000_000))
def test_windows_hold_each_reading_once(held, every_us):
    windows = aggregate(held, every_us, ["count", "first", "last"])
    assert windows.start_us == sorted({ts // every_us * every_us for ts in held.ts_us})
    for metric, column in held.metrics.items():
        groups = [
            [
                v
                for ts, v in zip(held.ts_us, column, strict=True)
                if start <= ts < start + every_us and v is not None
            ]
            for start in windows.start_us
        ]
        assert windows.columns[metric]["count"] == [len(group) or None for group in groups]
        assert windows.columns[metric]["first"] == [group[0] if group else None for group in groups]
        assert windows.columns[metric]["last"] == [group[-1] if group else None for group in groups]


def test_the_edges_of_a_window_are_half_open():
    windows = aggregate(run([0, 999, 1000, 1999, 5000], a=[1, 2, 3, 4, 5]), 1000, ["sum", "count"])
    assert [start - T0 for start in windows.start_us] == [0, 1000, 5000]
    assert windows.columns["a"] == {"sum": [3, 7, 5], "count": [2, 2, 1]}


numbers = st.lists(st.one_of(st.integers(-(10**20), 10**20), st.floats(-1e9, 1e9)), min_size=1, max_size=30)


@given(numbers)
def test_numbers_against_exact_arithmetic(values):
    found = {name: aggregate_function(name)(values) for name in AGGREGATES}
    exact = sum(map(Fraction, values))
    assert (found["min"], found["max"], found["count"]) == (min(values), max(values), len(values))
    if all(isinstance(value, int) for value in values):
        assert found["sum"] == exact
    else:
        assert found["sum"] == pytest.approx(float(exact), rel=1e-12, abs=1e-6)
    assert found["mean"] == pytest.approx(float(exact / len(values)), rel=1e-12, abs=1e-6)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_sums_and_means_do_not_depend_on_the_order(values, rng):
    shuffled = rng.sample(values, len(values))
    for name in ("sum", "mean"):
        assert aggregate_function(name)(values) == aggregate_function(name)(shuffled)
    assert aggregate_function("sum")(values) == math.fsum(values)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30), st.floats(0, 100).map(lambda p: round(p, 1)))
def test_quantiles_interpolate_as_numpy_does(values, percent):
    assume(percent < 100)
    found = aggregate_function(f"p{percent:g}")(values)
    assert found == pytest.approx(np.quantile(values, percent / 100), rel=1e-9, abs=1e-9)


def test_the_median_and_the_ends():
    values = [5, 1, 4, 2]
    assert aggregate_function("p50")(values) == statistics.median(values)
    assert aggregate_function("p0")(values) == 1
    assert aggregate_function("p100")(values) == 5


def test_booleans_count_as_zero_and_one_and_texts_have_no_sum():
    windows = aggregate(run([0, 1, 2], on=[True, False, True], note=["a", "b", "c"]), 1000, list(AGGREGATES))
    assert windows.columns["on"]["sum"] == [2]
    assert windows.columns["on"]["mean"] == [2 / 3]
    assert windows.columns["note"] == {
        "mean": [None],
        "min": [None],
        "max": [None],
        "sum": [None],
        "count": [3],
        "first": ["a"],
        "last": ["c"],
    }


def test_a_metric_absent_from_a_window_has_no_aggregate_there():
    windows = aggregate(run([0, 1000], a=[1, None], b=[None, 2]), 1000, ["count", "mean"])
    assert windows.columns == {
        "a": {"count": [1, None], "mean": [1, None]},
        "b": {"count": [None, 1], "mean": [None, 2]},
    }


@pytest.mark.parametrize("name", ["", "avg", "p101", "p", "p-1", "MEAN", "p1.2345"])
def test_unknown_aggregates_are_named(name):
    with pytest.raises(BadInput, match="agg"):
        aggregate_function(name)
