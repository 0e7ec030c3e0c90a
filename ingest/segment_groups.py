"""A stored segment as a series of row groups: what each may hold, and the runs of some of its sensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ingest.reading import Run, Span
from ingest.segment import read_groups
from ingest.segment_read import Footer, ReadRange, Source, read_footer

HELD_BYTES = 1024 * 1024
"""A smaller object is read once and held."""


@dataclass(frozen=True, slots=True)
class Group:
    """One row group. Sensors and times are inclusive."""

    first_sensor: str
    last_sensor: str
    first_us: int
    last_us: int
    rows: int


class SegmentGroups:
    """One stored segment, of which only the footer is held (small ones: all). Raises Corrupt."""

    def __init__(self, read_range: ReadRange, size_bytes: int, footer_bytes: int) -> None:
        if size_bytes <= HELD_BYTES:
            whole = read_range(0, size_bytes)
            read_range = lambda start, end: whole[start:end]  # noqa: E731
        self._read_range = read_range
        self._size_bytes = size_bytes
        self._footer: Footer = read_footer(Source(read_range, size_bytes), footer_bytes)
        parquet: Any = self._footer.parquet
        self.groups = [self._group(parquet.row_group(index)) for index in range(parquet.num_row_groups)]

    def runs(self, low: str, high: str, span: Span | None) -> list[Run]:
        """The runs of the sensors from `low` on and before `high`, of the half-open span where given."""
        picked = [
            index
            for index, group in enumerate(self.groups)
            if group.first_sensor < high
            and group.last_sensor >= low
            and (span is None or (group.first_us < span.end_us and group.last_us >= span.start_us))
        ]
        if not picked:
            return []
        source = Source(self._read_range, self._size_bytes)
        found = read_groups(source, self._footer, picked, span)
        return [run for run in found if low <= run.sensor_id < high]

    def _group(self, group: Any) -> Group:
        column = self._footer.column
        sensor = group.column(column["sensor_id"]).statistics
        times = group.column(column["ts"]).statistics
        return Group(sensor.min, sensor.max, times.min_raw, times.max_raw, group.num_rows)
