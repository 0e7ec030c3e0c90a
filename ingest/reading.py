"""What a reading is: its value types, Run, Span, and `merge`, the one rule for duplicates."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice, repeat
from operator import lt

Value = bool | int | float | str
Column = list[Value | None]

SENSOR_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}"
METRIC_PATTERN = r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"
EARLIEST_US = 946_684_800_000_000
"""2000-01-01T00:00:00Z: no reading is older."""
AHEAD_US = 24 * 3600 * 1_000_000
"""How far past its arrival a reading's time may lie (24 h, exclusive)."""
MAX_INT_DIGITS = 38
"""DynamoDB's Number holds 38 significant digits ("Supported data types and naming rules")."""
LEAST_MAGNITUDE = 1e-130
MOST_MAGNITUDE = 9.999999999999998e125
"""DynamoDB's Number range for magnitudes, both ends inclusive."""

_sensor_id = re.compile(SENSOR_ID_PATTERN)
_metric = re.compile(METRIC_PATTERN)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of time `[start_us, end_us)`, microseconds since the epoch, UTC."""

    start_us: int
    end_us: int

    def holds(self, ts_us: int) -> bool:
        """Whether the instant lies in the span (start yes, end no)."""
        return self.start_us <= ts_us < self.end_us

    def is_empty(self) -> bool:
        """Whether no instant lies in the span."""
        return self.start_us >= self.end_us

    def overlap(self, other: Span) -> Span:
        """The instants both spans hold; empty (`is_empty`) where there are none."""
        return Span(max(self.start_us, other.start_us), min(self.end_us, other.end_us))


@dataclass(slots=True)
class Run:
    """Readings of one sensor in strictly increasing time order, held column-wise.

    `metrics[name][i]` belongs to `ts_us[i]`; None means that metric is absent there. At
    least one metric is present at each instant. `arrival_ms` is what `merge` ranks by:
    one number where every value arrived together, else one list per metric, aligned
    with the column (0 where the value is absent).
    """

    sensor_id: str
    ts_us: list[int]
    metrics: dict[str, Column]
    arrival_ms: int | dict[str, list[int]]
    encoded: tuple[bytes, int] | None = field(default=None, repr=False, compare=False)
    """The columns as JSON, in their order, and the step of the grid (0 where it is not known): what a
    decoder may leave for the encoder. Whatever makes another run of this one leaves it out."""

    def arrivals(self, metric: str) -> Iterable[int]:
        """Arrival of each value of the metric, aligned with its column."""
        if isinstance(self.arrival_ms, int):
            return repeat(self.arrival_ms, len(self.ts_us))
        return self.arrival_ms[metric]

    def value_count(self) -> int:
        """How many values are present, over all metrics."""
        return sum(len(column) - column.count(None) for column in self.metrics.values())


def is_sensor_id(text: str) -> bool:
    """Whether the text may name a sensor: the pattern by full match, no `..`, no empty path part."""
    return (
        _sensor_id.fullmatch(text) is not None
        and ".." not in text
        and "//" not in text
        and not text.endswith("/")
    )


def is_metric_name(text: str) -> bool:
    """Whether the text may name a metric (full match)."""
    return _metric.fullmatch(text) is not None


def canonical(value: Value) -> str:
    """The one text of a value, the same from both tiers and from every format.

    Numbers: shortest text that reads back as the same number; integral values of up to
    38 digits in full and without `.0`; `-0.0` is `0`. Booleans: `true`, `false`.
    """
    if isinstance(value, str):
        return value
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, int):
        return str(value)
    if value.is_integer():
        if -1e15 < value < 1e15:
            return str(int(value))
        whole = Decimal(repr(value))
        if whole.adjusted() < MAX_INT_DIGITS:
            return format(whole, "f").removesuffix(".0")
    return repr(value)


def number(text: str) -> int | float:
    """The number a canonical (or any decimal) text stands for: int where integral, else float.

    The inverse of `canonical` for numbers. Raises ValueError where the text is no number.
    """
    digits = text[1:] if text[:1] == "-" else text
    if digits.isdigit() and len(digits) <= MAX_INT_DIGITS:  # DynamoDB returns 9.99e125 as 126 digits
        return int(text)
    value = float(text)
    if value.is_integer():
        whole = Decimal(text)
        if whole.adjusted() < MAX_INT_DIGITS and whole == int(whole):
            return int(whole)
    return value


def number_problem(value: int | float) -> str | None:
    """Why DynamoDB could not hold the number exactly, as a reject reason; None where it can."""
    if isinstance(value, int):
        return "int_too_long" if abs(value) >= 10**MAX_INT_DIGITS else None
    if not math.isfinite(value):
        return "not_finite"
    magnitude = abs(value)
    if magnitude != 0 and not LEAST_MAGNITUDE <= magnitude <= MOST_MAGNITUDE:
        return "number_out_of_range"
    return None


def _rank(value: Value) -> tuple[str, int]:
    return canonical(value), 0 if isinstance(value, str) else 1 if isinstance(value, bool) else 2


def _wins(arrival: int, value: Value, held: tuple[int, Value]) -> bool:
    if arrival != held[0]:
        return arrival > held[0]
    return _rank(value) > _rank(held[1])


def merge(runs: Iterable[Run]) -> Run:
    """One run holding, per instant and metric, the value of the greatest (arrival, canonical text).

    The outcome does not depend on the order or grouping of the runs. All runs must be of
    one sensor; at least one is needed (ValueError). Each value keeps its arrival.
    """
    ordered = sorted((run for run in runs if run.ts_us), key=lambda run: run.ts_us[0])
    if not ordered:
        raise ValueError("merge needs at least one run with a reading")
    if all(map(_precedes, ordered, islice(ordered, 1, None))):
        return concat(ordered)
    clusters: list[list[Run]] = []
    end_us = -1
    for run in ordered:
        if clusters and run.ts_us[0] <= end_us:
            clusters[-1].append(run)
        else:
            clusters.append([run])
        end_us = max(end_us, run.ts_us[-1])
    return concat([cluster[0] if len(cluster) == 1 else _overlay(cluster) for cluster in clusters])


def _precedes(run: Run, other: Run) -> bool:
    return run.ts_us[-1] < other.ts_us[0]


def _overlay(runs: list[Run]) -> Run:
    best: dict[str, dict[int, tuple[int, Value]]] = {}
    for run in runs:
        for metric, column in run.metrics.items():
            cells = best.setdefault(metric, {})
            for ts_us, value, arrival in zip(run.ts_us, column, run.arrivals(metric), strict=True):
                if value is None:
                    continue
                held = cells.get(ts_us)
                if held is None or _wins(arrival, value, held):
                    cells[ts_us] = (arrival, value)
    instants = sorted({ts_us for cells in best.values() for ts_us in cells})
    metrics: dict[str, Column] = {}
    arrivals: dict[str, list[int]] = {}
    absent = (0, None)
    for metric, cells in best.items():
        found = [cells.get(ts_us, absent) for ts_us in instants]
        arrivals[metric] = [arrival for arrival, _ in found]
        metrics[metric] = [value for _, value in found]
    return Run(runs[0].sensor_id, instants, metrics, arrivals)


def concat(runs: Sequence[Run]) -> Run:
    """The runs one after another; they must not overlap and stand in time order."""
    if len(runs) == 1:
        return runs[0]
    names = sorted({metric for run in runs for metric in run.metrics})
    ts_us: list[int] = []
    metrics: dict[str, Column] = {name: [] for name in names}
    for run in runs:
        ts_us += run.ts_us
    for name, whole in metrics.items():
        for run in runs:
            column = run.metrics.get(name)
            whole.extend(repeat(None, len(run.ts_us)) if column is None else column)
    first = runs[0].arrival_ms
    arrival_ms: int | dict[str, list[int]]
    if isinstance(first, int) and all(run.arrival_ms == first for run in runs):
        arrival_ms = first
    else:
        arrival_ms = {name: [] for name in names}
        for run in runs:
            for name in names:
                known = name in run.metrics
                arrival_ms[name].extend(run.arrivals(name) if known else repeat(0, len(run.ts_us)))
    return Run(runs[0].sensor_id, ts_us, metrics, arrival_ms)


def settle(sensor_id: str, ts_us: list[int], metrics: dict[str, Column], arrival_ms: int) -> Run:
    """A run from columns in the order they arrived within one record: sorted by time, the last
    value of an instant and metric winning. Columns must be as long as `ts_us`."""
    if all(map(lt, ts_us, islice(ts_us, 1, None))):
        return Run(sensor_id, ts_us, metrics, arrival_ms)
    instants = sorted(set(ts_us))
    place = {ts: i for i, ts in enumerate(instants)}
    settled: dict[str, Column] = {}
    for name, column in metrics.items():
        cells: Column = [None] * len(instants)
        for ts, value in zip(ts_us, column, strict=True):
            if value is not None:
                cells[place[ts]] = value
        settled[name] = cells
    return Run(sensor_id, instants, settled, arrival_ms)


def take(run: Run, start: int, end: int) -> Run:
    """The readings at positions `[start, end)`."""
    if start <= 0 and end >= len(run.ts_us):
        return run
    arrival_ms = run.arrival_ms
    if not isinstance(arrival_ms, int):
        arrival_ms = {name: values[start:end] for name, values in arrival_ms.items()}
    metrics = {name: column[start:end] for name, column in run.metrics.items()}
    return Run(run.sensor_id, run.ts_us[start:end], metrics, arrival_ms)


def clip(run: Run, span: Span) -> Run:
    """The readings whose instants the half-open span holds."""
    ts_us = run.ts_us
    if ts_us and span.start_us <= ts_us[0] and ts_us[-1] < span.end_us:
        return run
    return take(run, bisect_left(ts_us, span.start_us), bisect_left(ts_us, span.end_us))


def instants_present(columns: Sequence[Column]) -> list[int]:
    """The places at which one of the columns, all of one length, holds a value."""
    if not columns:
        return []
    first, *others = columns
    return [
        i
        for i, cell in enumerate(first)
        if cell is not None or any(column[i] is not None for column in others)
    ]


def select(run: Run, names: Sequence[str]) -> Run:
    """Only the named metrics, and only the instants at which one of them is present.

    No names means all metrics. Names the run lacks are left out."""
    kept = {
        name: column
        for name, column in run.metrics.items()
        if (not names or name in names) and _holds_a_value(column)
    }
    if len(kept) == len(run.metrics):
        return run
    columns = list(kept.values())
    arrival_ms = run.arrival_ms
    if not isinstance(arrival_ms, int):
        arrival_ms = {name: arrival_ms[name] for name in kept}
    chosen = Run(run.sensor_id, run.ts_us, kept, arrival_ms)
    if any(None not in column for column in columns):
        return chosen
    return _pick(chosen, instants_present(columns))


def _holds_a_value(column: Column) -> bool:
    return (bool(column) and column[0] is not None) or column.count(None) < len(column)


def _pick(run: Run, places: list[int]) -> Run:
    """The readings at these positions."""
    arrival_ms = run.arrival_ms
    if not isinstance(arrival_ms, int):
        arrival_ms = {name: [values[i] for i in places] for name, values in arrival_ms.items()}
    metrics = {name: [column[i] for i in places] for name, column in run.metrics.items()}
    return Run(run.sensor_id, [run.ts_us[i] for i in places], metrics, arrival_ms)
