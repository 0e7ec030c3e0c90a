"""Hypothesis strategies for whatever a reading may hold, and how two runs are compared."""

from __future__ import annotations

import math
import string
from collections.abc import Iterable

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ingest.reading import (
    AHEAD_US,
    EARLIEST_US,
    LEAST_MAGNITUDE,
    MAX_INT_DIGITS,
    MOST_MAGNITUDE,
    Column,
    Run,
    Value,
    canonical,
    is_metric_name,
    is_sensor_id,
)

ARRIVAL_MS = 1_795_212_000_000
"""2026-11-20T22:00:00Z: when the runs made here arrived, unless told otherwise."""
LATEST_US = ARRIVAL_MS * 1000 + AHEAD_US - 1
"""The last instant a reading that arrived at ARRIVAL_MS may have."""
MOST_READINGS = 40

_EXTREME_FLOATS = (
    0.0,
    0.1,
    -273.15,
    1e15,
    1e16,
    -1e22,
    123456789012345680.0,
    2.0**53 + 2,
    1.7976931348623157e100,
    LEAST_MAGNITUDE,
    -LEAST_MAGNITUDE,
    MOST_MAGNITUDE,
    -MOST_MAGNITUDE,
    math.nextafter(1.0, 2.0),
)
_EXTREME_INTS = (
    0,
    -1,
    2**53 + 1,
    -(2**53) - 1,
    2**63,
    -(2**63) - 1,
    2**64,
    10**MAX_INT_DIGITS - 1,
    1 - 10**MAX_INT_DIGITS,
)
_SENSOR_PARTS = st.text(string.ascii_letters + string.digits + "._:-", min_size=1, max_size=12)
_METRIC_REST = st.text(string.ascii_letters + string.digits + "_.-", max_size=12)


def sensor_ids() -> SearchStrategy[str]:
    """Every shape of sensor id that is allowed, up to 128 characters."""
    parts = st.lists(_SENSOR_PARTS, min_size=1, max_size=4).map("/".join)
    longest = st.sampled_from(["a" * 128, "9:" * 64, "x/" * 63 + "yz", "0", "press-7", "site/hall.2/press:7"])
    return st.one_of(parts.filter(is_sensor_id), longest)


def metric_names() -> SearchStrategy[str]:
    """Every shape of metric name that is allowed, up to 64 characters."""
    made = st.tuples(st.sampled_from(string.ascii_letters + "_"), _METRIC_REST).map("".join)
    known = st.sampled_from(
        ["temperature", "humidity", "a" * 64, "_", "sensor_id", "ts", "t0_us", "metrics", "n"]
    )
    return st.one_of(made.filter(is_metric_name), known)


def texts(max_size: int = 20) -> SearchStrategy[str]:
    """Text values: all of Unicode but lone surrogates, the empty text and NUL among them."""
    return st.text(max_size=max_size)


def floats() -> SearchStrategy[float]:
    """Every float a reading may hold, negative and extreme ones among them; never -0.0."""
    magnitudes = st.floats(min_value=LEAST_MAGNITUDE, max_value=MOST_MAGNITUDE)
    signed = st.tuples(magnitudes, st.booleans()).map(lambda pair: -pair[0] if pair[1] else pair[0])
    ordinary = st.integers(-99_999, 99_999).map(lambda hundredths: hundredths / 100)
    return st.one_of(ordinary, signed, st.sampled_from(_EXTREME_FLOATS))


def ints() -> SearchStrategy[int]:
    """Every int a reading may hold: up to 38 digits, both signs."""
    limit = 10**MAX_INT_DIGITS - 1
    return st.one_of(
        st.integers(-1000, 1000),
        st.integers(-(2**65), 2**65),
        st.integers(-limit, limit),
        st.sampled_from(_EXTREME_INTS),
    )


def numbers() -> SearchStrategy[int | float]:
    """Any number a reading may hold."""
    return st.one_of(floats(), ints())


def values() -> SearchStrategy[Value]:
    """Any value a reading may hold."""
    return st.one_of(floats(), ints(), st.booleans(), texts())


def columns(size: int) -> SearchStrategy[Column]:
    """Columns of one length: of one kind, constant or mixed, with and without absent values."""
    kinds: list[SearchStrategy[Value]] = [
        st.integers(-999, 999).map(lambda tenths: tenths / 10),
        floats(),
        ints(),
        st.booleans(),
        texts(),
        values(),
    ]
    full = st.sampled_from(kinds).flatmap(lambda kind: st.lists(kind, min_size=size, max_size=size))
    sparse = st.sampled_from(kinds).flatmap(
        lambda kind: st.lists(st.one_of(st.none(), kind), min_size=size, max_size=size)
    )
    constant = values().map(lambda value: [value] * size)
    return st.one_of(full, sparse, constant)  # pyright: ignore[reportReturnType]


@st.composite
def instants(
    draw: DrawFn,
    min_size: int = 1,
    max_size: int = MOST_READINGS,
    first_us: int = EARLIEST_US,
    last_us: int = LATEST_US,
) -> list[int]:
    """Strictly increasing times within `[first_us, last_us]`: grids, grids with gaps, irregular ones."""
    size = draw(st.integers(min_size, max_size))
    widest = max(1, (last_us - first_us) // max(1, size))
    steps = [step for step in (1, 1000, 333_333, 1_000_000, 60_000_000, 3_600_000_000) if step <= widest]
    step = draw(st.sampled_from(steps))
    shape = draw(st.sampled_from(["grid", "gaps", "jitter", "any"]))
    if shape == "grid":
        deltas = [step] * (size - 1)
    elif shape == "gaps":
        most = max(1, min(5, widest // step))
        deltas = [
            step * count
            for count in draw(st.lists(st.integers(1, most), min_size=size - 1, max_size=size - 1))
        ]
    else:
        most = widest if shape == "any" else min(widest, 2 * step)
        deltas = draw(st.lists(st.integers(1, most), min_size=size - 1, max_size=size - 1))
    latest = last_us - sum(deltas)
    at = draw(st.one_of(st.just(first_us), st.just(latest), st.integers(first_us, latest)))
    times = [at]
    for delta in deltas:
        at += delta
        times.append(at)
    return times


@st.composite
def runs(
    draw: DrawFn,
    *,
    sensor_id: str | None = None,
    arrival_ms: int | None = ARRIVAL_MS,
    max_size: int = MOST_READINGS,
    max_metrics: int = 4,
    first_us: int = EARLIEST_US,
    last_us: int = LATEST_US,
) -> Run:
    """Valid runs: increasing times, columns of every kind, at least one value per instant.

    `arrival_ms` None gives each value its own arrival, as `merge` makes them.
    """
    times = draw(instants(1, max_size, first_us, last_us))
    names = draw(st.lists(metric_names(), min_size=1, max_size=max_metrics, unique=True))
    metrics: dict[str, Column] = {name: draw(columns(len(times))) for name in names}
    for i, cells in enumerate(zip(*metrics.values(), strict=True)):
        if all(cell is None for cell in cells):
            metrics[names[0]][i] = 0
    metrics = {name: column for name, column in metrics.items() if any(cell is not None for cell in column)}
    sensor = draw(sensor_ids()) if sensor_id is None else sensor_id
    if arrival_ms is not None:
        return Run(sensor, times, metrics, arrival_ms)
    some_ms = st.integers(ARRIVAL_MS - 3, ARRIVAL_MS)
    arrivals = {
        name: [0 if cell is None else draw(some_ms) for cell in column] for name, column in metrics.items()
    }
    return Run(sensor, times, metrics, arrivals)


def kind_of(value: Value) -> str:
    """What a value is, numbers being one kind: `number`, `flag` or `text`."""
    return "text" if isinstance(value, str) else "flag" if isinstance(value, bool) else "number"


def cells(run: Run) -> dict[tuple[int, str], tuple[str, str]]:
    """The values of a run by (instant, metric), as kind and canonical text; absent ones left out.

    Two runs with the same cells hold the same readings, whatever their columns look like.
    """
    return {
        (ts_us, name): (kind_of(value), canonical(value))
        for name, column in run.metrics.items()
        for ts_us, value in zip(run.ts_us, column, strict=True)
        if value is not None
    }


def ranked_cells(run: Run) -> dict[tuple[int, str], tuple[str, str, int]]:
    """As `cells`, with the arrival of each value."""
    return {
        (ts_us, name): (kind_of(value), canonical(value), arrival)
        for name, column in run.metrics.items()
        for ts_us, value, arrival in zip(run.ts_us, column, run.arrivals(name), strict=True)
        if value is not None
    }


def cells_by_sensor(held: Iterable[Run]) -> dict[str, dict[tuple[int, str], tuple[str, str]]]:
    """The cells of many runs, per sensor; later runs win where two hold the same instant and metric."""
    found: dict[str, dict[tuple[int, str], tuple[str, str]]] = {}
    for run in held:
        found.setdefault(run.sensor_id, {}).update(cells(run))
    return found
