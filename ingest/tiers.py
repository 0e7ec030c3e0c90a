"""Which tier the readings of each stretch of time came from, told coarsely enough to be drawn."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median_low
from typing import Literal

from ingest.reading import Run, Span, select

MOST_STRETCHES = 500
JOINED_STEPS = 2
"""Readings up to so many of their usual distances apart belong to one stretch."""

Origin = Literal["hot", "cold", "both"]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A half-open stretch of time in which there are readings, and where they are."""

    span: Span
    tier: Origin


class TierMap:
    """Collects the stretches of a span, at most MOST_STRETCHES of them, whatever it holds.

    The span is divided into at most as many cells of equal length, and a stretch is a row of cells
    that hold readings of the same tier, or of both. Memory is that of the cells.
    """

    def __init__(self, span: Span, metrics: Sequence[str] = ()) -> None:
        self._span = span
        self._metrics = metrics
        self._cell_us = max(1, -(-(span.end_us - span.start_us) // MOST_STRETCHES))
        self._hot: set[int] = set()
        self._cold: set[int] = set()

    def add(self, hot: Sequence[Run], cold: Sequence[Run], kept: Span) -> None:
        """Runs as each tier gave them; only readings of the kept span, and of the metrics, count."""
        within = kept.overlap(self._span)
        for runs, cells in ((hot, self._hot), (cold, self._cold)):
            for run in runs:
                chosen = select(run, self._metrics) if self._metrics else run
                self._occupy(chosen.ts_us, within, cells)

    def _occupy(self, ts_us: Sequence[int], within: Span, cells: set[int]) -> None:
        start_us, cell_us = self._span.start_us, self._cell_us
        place = bisect_left(ts_us, within.start_us)
        while place < len(ts_us) and ts_us[place] < within.end_us:
            cell = (ts_us[place] - start_us) // cell_us
            cells.add(cell)
            place = bisect_left(ts_us, start_us + (cell + 1) * cell_us, lo=place + 1)

    def stretches(self) -> list[Stretch]:
        """The stretches in time order, none overlapping; clipped to the span."""
        return list(self._joined())

    def _joined(self) -> Iterator[Stretch]:
        cells = sorted(self._hot | self._cold)
        if not cells:
            return
        steps = [later - earlier for earlier, later in pairwise(cells)]
        near = JOINED_STEPS * median_low(steps) if steps else 1
        first = last = cells[0]
        for cell in cells[1:]:
            if cell - last > near or self._tier(cell) != self._tier(first):
                yield self._stretch(first, last)
                first = cell
            last = cell
        yield self._stretch(first, last)

    def _tier(self, cell: int) -> Origin:
        if cell not in self._cold:
            return "hot"
        return "both" if cell in self._hot else "cold"

    def _stretch(self, first: int, last: int) -> Stretch:
        start_us = self._span.start_us + first * self._cell_us
        end_us = self._span.start_us + (last + 1) * self._cell_us
        return Stretch(Span(start_us, min(end_us, self._span.end_us)), self._tier(first))
