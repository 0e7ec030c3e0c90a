"""Runs to windows: mean, min, max, sum, count, first, last and quantiles over half-open windows."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ingest.errors import BadInput
from ingest.reading import Column, Run, Value

_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?|100)")


@dataclass(slots=True)
class Windows:
    """Aggregates per window. `start_us[i]` begins window i, which ends `every_us` later (exclusive).

    Only windows that hold a reading are present. `columns[metric][aggregate][i]` is None
    where the metric is absent in the window or the aggregate needs numbers and it has none.
    """

    every_us: int
    start_us: list[int]
    columns: dict[str, dict[str, Column]]


def _numbers(values: Sequence[Value]) -> list[int | float]:
    return [value for value in values if not isinstance(value, str)]


def _sum(values: Sequence[Value]) -> Value | None:
    numbers = _numbers(values)
    if not numbers:
        return None
    if all(isinstance(value, int) for value in numbers):
        return sum(numbers)
    return math.fsum(numbers)


def _mean(values: Sequence[Value]) -> Value | None:
    numbers = _numbers(values)
    return math.fsum(numbers) / len(numbers) if numbers else None


def _least(values: Sequence[Value]) -> Value | None:
    return min(_numbers(values), default=None)


def _greatest(values: Sequence[Value]) -> Value | None:
    return max(_numbers(values), default=None)


def _quantile(share: float) -> Callable[[Sequence[Value]], Value | None]:
    def of(values: Sequence[Value]) -> Value | None:
        numbers = sorted(_numbers(values))
        if not numbers:
            return None
        place = share * (len(numbers) - 1)
        low = math.floor(place)
        if low == place:
            return numbers[low]
        return numbers[low] + (numbers[low + 1] - numbers[low]) * (place - low)

    return of


AGGREGATES: dict[str, Callable[[Sequence[Value]], Value | None]] = {
    "mean": _mean,
    "min": _least,
    "max": _greatest,
    "sum": _sum,
    "count": len,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
"""Sums and means are correctly rounded (math.fsum), so they do not depend on the order of reading.
Booleans count as 0 and 1; texts only have count, first and last."""


def aggregate_function(name: str) -> Callable[[Sequence[Value]], Value | None]:
    """The aggregate of that name; `p0` to `p100` are quantiles, interpolated linearly. Raises BadInput."""
    known = AGGREGATES.get(name)
    if known is not None:
        return known
    quantile = _QUANTILE.fullmatch(name)
    if quantile is not None:
        return _quantile(float(quantile[1]) / 100)
    raise BadInput(
        f"agg: {name!r} is no aggregate; use {', '.join(AGGREGATES)} or a quantile such as p50 or p99.9."
    )


def aggregate(run: Run, every_us: int, names: Sequence[str]) -> Windows:
    """The named aggregates of each metric per window; windows are aligned to the epoch."""
    functions = {name: aggregate_function(name) for name in names}
    starts: list[int] = []
    bounds: list[int] = [0]
    while bounds[-1] < len(run.ts_us):
        start_us = run.ts_us[bounds[-1]] // every_us * every_us
        starts.append(start_us)
        bounds.append(bisect_left(run.ts_us, start_us + every_us, lo=bounds[-1]))
    columns: dict[str, dict[str, Column]] = {}
    for metric, column in run.metrics.items():
        columns[metric] = {name: [] for name in names}
        for low, high in pairwise(bounds):
            present = [value for value in column[low:high] if value is not None]
            for name, function in functions.items():
                columns[metric][name].append(function(present) if present else None)
    return Windows(every_us, starts, columns)
