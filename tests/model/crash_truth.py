"""What was sent to a deployment, and what every answer of it must show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ingest.kinesis_records import Record
from ingest.reading import Run, canonical
from ingest.wire import decode_all

Cell = tuple[str, int, str]
"""Sensor, instant and metric."""


@dataclass(slots=True)
class Truth:
    """What was sent, and what every answer from now on must show.

    `sent`: per cell each value's text with its arrival; values of a cell differ. `floor`: the least
    arrival that may be shown of a cell: the stream was told that it is stored (I1), or a query has
    shown it (I3); what arrived earlier must not come back (I2).
    """

    sent: dict[Cell, dict[str, int]] = field(default_factory=dict[Cell, dict[str, int]])
    floor: dict[Cell, int] = field(default_factory=dict[Cell, int])

    def copy(self) -> Truth:
        """The same truth over again."""
        return Truth({cell: dict(values) for cell, values in self.sent.items()}, dict(self.floor))

    def send(self, records: Sequence[Record]) -> None:
        """The stream holds the records."""
        for cell, value, arrival_ms in _values(records):
            self.sent.setdefault(cell, {})[value] = arrival_ms

    def stored(self, records: Sequence[Record]) -> None:
        """The stream was told that the records are done."""
        for cell, _, arrival_ms in _values(records):
            self.floor[cell] = max(arrival_ms, self.floor.get(cell, 0))

    def check(
        self, sensor_id: str, run: Run | None, floor: Mapping[Cell, int], *, whole: bool = True
    ) -> None:
        """Hold an answer over everything against the `floor` there was when its query began."""
        shown: dict[Cell, str] = {}
        if run is not None:
            assert all(a < b for a, b in pairwise(run.ts_us)), f"I2/I7: {sensor_id}: {run.ts_us}"
            columns = run.metrics.items()
            shown = {
                (sensor_id, ts_us, name): canonical(value)
                for name, column in columns
                for ts_us, value in zip(run.ts_us, column, strict=True)
                if value is not None
            }
        for cell, value in shown.items():
            assert value in self.sent.get(cell, {}), f"{cell}: {value} was never sent"
            arrival_ms = self.sent[cell][value]
            assert arrival_ms >= floor.get(cell, 0), f"I2: {cell}: {value} came back"
            if whole:
                self.floor[cell] = max(arrival_ms, self.floor.get(cell, 0))
        missing = [cell for cell in floor if cell[0] == sensor_id and cell not in shown]
        assert not missing or not whole, f"I1/I3: not found: {missing}"


def _values(records: Sequence[Record]) -> Iterator[tuple[Cell, str, int]]:
    for one in records:
        runs, _ = decode_all([one.data], one.arrival_ms)
        for run in runs:
            for name, column in run.metrics.items():
                for ts_us, value in zip(run.ts_us, column, strict=True):
                    if value is not None:
                        yield (run.sensor_id, ts_us, name), canonical(value), one.arrival_ms
