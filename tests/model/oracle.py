"""What the simulation knows to be true: every value that was sent, and which of them must be found by now."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

from ingest.keys import CHUNK_PREFIX, MANIFEST_PREFIX, Key
from ingest.manifest import decode_manifest
from ingest.plan import Query
from ingest.reading import Run, Value, canonical

Cell = tuple[int, str]
"""Instant and metric."""
Cells = tuple[tuple[str, int, str, Value], ...]
"""What was sent together: sensor, instant, metric, value."""


class Oracle:
    """Per sensor and cell: the values with their arrivals, in order, and the least arrival an answer may show.

    A cell must be found once its batch was stored (I1) or a query has shown it (I3). Of conflicting
    values one that arrived earlier than what is stored, or was seen, must not come back (I2).
    """

    def __init__(self) -> None:
        self.sent: dict[str, dict[Cell, list[tuple[int, str]]]] = {}
        self.least: dict[str, dict[Cell, int]] = {}
        self.last: dict[str, dict[Cell, tuple[int, str]]] = {}
        self.submitted: dict[str, dict[Cell, str]] = {}

    def submit(self, cells: Cells) -> None:
        """A sender's caller was told: taken over. Of what it submits for a cell the last is to stay."""
        for sensor_id, ts_us, metric, value in cells:
            self.submitted.setdefault(sensor_id, {})[ts_us, metric] = text(value)

    def send(self, arrival_ms: int, cells: Cells) -> None:
        """The stream has accepted a record."""
        for sensor_id, ts_us, metric, value in cells:
            cell = (ts_us, metric)
            told = (arrival_ms, text(value))
            self.sent.setdefault(sensor_id, {}).setdefault(cell, []).append(told)
            last = self.last.setdefault(sensor_id, {})
            if cell not in last or last[cell][0] <= arrival_ms:
                last[cell] = told

    def stored(self, arrival_ms: int, cells: Cells) -> None:
        """The stream was told that a record is done."""
        for sensor_id, ts_us, metric, _ in cells:
            least = self.least.setdefault(sensor_id, {})
            cell = (ts_us, metric)
            if least.get(cell, 0) < arrival_ms:
                least[cell] = arrival_ms

    @property
    def readings(self) -> int:
        """How many different readings (sensor and instant) the stream has accepted."""
        return sum(len({ts_us for ts_us, _ in cells}) for cells in self.sent.values())

    def due(self, sensor_id: str) -> dict[Cell, int]:
        """What every query of the sensor that begins now has to show."""
        return dict(self.least.get(sensor_id, {}))

    def check(self, query: Query, due: dict[Cell, int], run: Run | None, *, whole: bool = True) -> None:
        """Hold an answer against what was `due` when the query began; `whole` where both tiers were read."""
        assert run is None or run.ts_us, "I7: an empty answer is None"
        assert run is None or run.sensor_id == query.sensor_id, "I7: an answer about another sensor"
        times = run.ts_us if run is not None else []
        assert all(a < b for a, b in pairwise(times)), "I2/I7: the instants are not sorted, each once"
        assert not times or (query.span.holds(times[0]) and query.span.holds(times[-1])), (
            "I7: an instant lies outside the half-open span"
        )
        found = cells_of(run) if run is not None else {}
        sent = self.sent.get(query.sensor_id, {})
        least = self.least.setdefault(query.sensor_id, {})
        for cell, shown in found.items():
            floor = due.get(cell, 0) if whole else 0
            ranks = [arrival for arrival, value in sent.get(cell, ()) if value == shown]
            assert ranks, f"I1: {query.sensor_id} {cell}: {shown} was never sent"
            fresh = [arrival for arrival in ranks if arrival >= floor]
            assert fresh, f"I2: {query.sensor_id} {cell}: {shown} came back, though a later value was stored"
            if whole and least.get(cell, 0) < fresh[0]:
                least[cell] = min(fresh)
        if whole:
            holds, metrics = query.span.holds, query.metrics
            missing = [
                cell
                for cell in due
                if cell not in found and holds(cell[0]) and (not metrics or cell[1] in metrics)
            ]
            assert not missing, f"I1/I3: {query.sensor_id} lacks {len(missing)} values, such as {missing[:3]}"

    def check_final(self, query: Query, run: Run | None) -> None:
        """At rest every cell holds the value that was submitted and arrived last, and nothing is missing."""
        found = cells_of(run) if run is not None else {}
        for cell, value in self.submitted.get(query.sensor_id, {}).items():
            assert cell in found, f"I1: {query.sensor_id} {cell} was taken over by a sender and is lost"
            assert found[cell] == value, f"I2: {query.sensor_id} {cell} is {found[cell]}, {value} came later"
        wanted = self.last.get(query.sensor_id, {})
        missing = [cell for cell in wanted if cell not in found]
        assert not missing, (
            f"I1: at rest {query.sensor_id} lacks {len(missing)} values, such as {missing[:3]}"
        )
        for cell, (_, value) in wanted.items():
            assert found[cell] == value, f"I2: at rest {query.sensor_id} {cell} is {found[cell]}, not {value}"


def written_once(key: Key, before: Any, after: Any) -> None:
    """I6: a chunk that is put again is the same but for its expiry, and a manifest names no less than it did."""
    if before is None:
        return
    if key.pk.startswith(CHUNK_PREFIX):
        same = all(before.get(name) == after.get(name) for name in {*before, *after} - {"ttl"})
        assert same, f"I6: {key} was put in the place of another with the same key"
    elif key.pk.startswith(MANIFEST_PREFIX):
        left = set(decode_manifest(before).chunks) - set(decode_manifest(after).chunks)
        assert not left, f"I6: {key} was replaced, and {sorted(left)[:2]} of it are named no more"


@lru_cache(20_000, typed=True)
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
