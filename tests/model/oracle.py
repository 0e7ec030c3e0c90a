"""What the simulation knows to be true: every value that was sent, and which of them must be found by now."""

from __future__ import annotations

from itertools import pairwise

from ingest.plan import Query
from ingest.reading import Run, Value, canonical

Cell = tuple[int, str]
"""Instant and metric."""
Sent = tuple[tuple[str, int, str, Value], ...]
"""What one stream record holds: sensor, instant, metric, value."""


class Oracle:
    """Per sensor and cell: the values with their arrivals, in order, and the least arrival an answer may show.

    A cell must be found once its batch was stored (I1) or a query has shown it (I3). Of conflicting
    values one that arrived earlier than what is stored, or was seen, must not come back (I2).
    """

    def __init__(self) -> None:
        self.sent: dict[str, dict[Cell, list[tuple[int, str]]]] = {}
        self.least: dict[str, dict[Cell, int]] = {}

    def send(self, arrival_ms: int, cells: Sent) -> None:
        """The stream has accepted a record."""
        for sensor_id, ts_us, metric, value in cells:
            of_sensor = self.sent.setdefault(sensor_id, {})
            of_sensor.setdefault((ts_us, metric), []).append((arrival_ms, text(value)))

    def stored(self, arrival_ms: int, cells: Sent) -> None:
        """The stream was told that a record is done."""
        for sensor_id, ts_us, metric, _ in cells:
            self._raise(sensor_id, (ts_us, metric), arrival_ms)

    def due(self, sensor_id: str) -> dict[Cell, int]:
        """What every query of the sensor that begins now has to show."""
        return dict(self.least.get(sensor_id, {}))

    def check(self, query: Query, due: dict[Cell, int], run: Run | None, *, whole: bool = True) -> None:
        """Hold an answer against what was `due` when the query began; `whole` where both tiers were read."""
        found = cells_of(run) if run is not None else {}
        assert run is None or run.ts_us, "an empty answer is None"
        assert run is None or run.sensor_id == query.sensor_id
        times = run.ts_us if run is not None else []
        assert all(a < b for a, b in pairwise(times)), "I7: the instants are not sorted"
        assert all(map(query.span.holds, times)), "I7: an instant lies outside the half-open span"
        sent = self.sent.get(query.sensor_id, {})
        for cell, shown in found.items():
            floor = due.get(cell, 0) if whole else 0
            ranks = [arrival for arrival, value in sent.get(cell, ()) if value == shown]
            assert ranks, f"{query.sensor_id} {cell}: {shown} was never sent"
            fresh = [arrival for arrival in ranks if arrival >= floor]
            assert fresh, f"I2: {query.sensor_id} {cell}: {shown} came back, though a later value was stored"
            if whole:
                self._raise(query.sensor_id, cell, min(fresh))
        if whole:
            wanted = (cell for cell in due if query.span.holds(cell[0]))
            missing = [c for c in wanted if c not in found and (not query.metrics or c[1] in query.metrics)]
            assert not missing, f"I1/I3: {query.sensor_id} lacks {len(missing)} values, such as {missing[:3]}"

    def _raise(self, sensor_id: str, cell: Cell, arrival_ms: int) -> None:
        least = self.least.setdefault(sensor_id, {})
        least[cell] = max(least.get(cell, 0), arrival_ms)


def text(value: Value) -> str:
    """A value's text with its kind."""
    return f"{'text' if isinstance(value, str) else 'flag' if isinstance(value, bool) else ''} {canonical(value)}"


def cells_of(run: Run) -> dict[Cell, str]:
    """The values of a run as texts by cell."""
    return {
        (ts_us, name): text(value)
        for name, column in run.metrics.items()
        for ts_us, value in zip(run.ts_us, column, strict=True)
        if value is not None
    }
