"""Runs to windows: mean, min, max, sum, count, first, last and quantiles over half-open windows."""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

from ingest.errors import BadInput
from ingest.reading import Column, Run, Value

_QUANTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?|100)")
Numbers = list[int | float]
"""What of a window's values can be reckoned with; booleans are ints."""


@dataclass(slots=True)
class Windows:
    """Aggregates per window. `start_us[i]` begins window i, which ends `every_us` later (exclusive).

    Only windows that hold a reading are present. `columns[metric][aggregate][i]` is None
    where the metric is absent in the window or the aggregate needs numbers and it has none.
    """

    every_us: int
    start_us: list[int]
    columns: dict[str, dict[str, Column]]


def _sum(numbers: Numbers) -> int | float:
    return sum(numbers) if all(isinstance(value, int) for value in numbers) else math.fsum(numbers)


def _mean(numbers: Numbers) -> float:
    return math.fsum(numbers) / len(numbers)


def _quantile(share: float) -> Callable[[Numbers], int | float]:
    def of(numbers: Numbers) -> int | float:
        ordered = sorted(numbers)
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        if low == place:
            return ordered[low]
        return ordered[low] + (ordered[low + 1] - ordered[low]) * (place - low)

    return of


_OF_NUMBERS: dict[str, Callable[[Numbers], Value]] = {"mean": _mean, "min": min, "max": max, "sum": _sum}
_OF_VALUES: dict[str, Callable[[Sequence[Value]], Value]] = {
    "count": len,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
AGGREGATES = (*_OF_NUMBERS, *_OF_VALUES)
"""Sums and means are correctly rounded (math.fsum), so they do not depend on the order of reading.
Booleans count as 0 and 1; texts only have count, first and last."""


def aggregate_function(name: str) -> Callable[[Sequence[Value]], Value | None]:
    """The aggregate of that name, of at least one value; `p0` to `p100` are quantiles, interpolated linearly.

    It gives None where it needs numbers and there are none. Raises BadInput.
    """
    of_values = _OF_VALUES.get(name)
    if of_values is not None:
        return of_values
    of_numbers = _of_numbers(name)

    def of(values: Sequence[Value]) -> Value | None:
        numbers = [value for value in values if not isinstance(value, str)]
        return of_numbers(numbers) if numbers else None

    return of


def _of_numbers(name: str) -> Callable[[Numbers], Value]:
    known = _OF_NUMBERS.get(name)
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
    ts_us = run.ts_us
    starts: list[int] = []
    bounds: list[int] = [0]
    while bounds[-1] < len(ts_us):
        start_us = ts_us[bounds[-1]] // every_us * every_us
        starts.append(start_us)
        bounds.append(bisect_left(ts_us, start_us + every_us, lo=bounds[-1]))
    columns = {metric: _aggregate_column(column, bounds, names) for metric, column in run.metrics.items()}
    return Windows(every_us, starts, columns)


def _aggregate_column(column: Column, bounds: Sequence[int], names: Sequence[str]) -> dict[str, Column]:
    """The named aggregates of the values between each bound and the next."""
    kinds = set(map(type, column))
    windows: list[Column] = [column[low:high] for low, high in pairwise(bounds)]
    if type(None) in kinds:
        windows = [[value for value in window if value is not None] for window in windows]
    found: dict[str, Column] = {}
    for name in names:
        plain = str not in kinds and name not in _OF_VALUES
        function = cast(Callable[[Column], Value], (_of_numbers if plain else aggregate_function)(name))
        found[name] = [function(window) if window else None for window in windows]
    return found
