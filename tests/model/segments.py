"""Segments in the simulation: limits so small that a few readings meet them, and objects that cost little."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import msgspec

from ingest import archive, compact, compact_plan, query, segment, segment_write, write
from ingest.reading import Run, Span, clip, select, take
from ingest.segment_groups import Group
from ingest.segment_read import ReadRange
from ingest.stores import hot, registry
from tests.model.wire_clients import InlineExecutor

Objects = Literal["read", "remembered", "plain"]
"""Parquet read by the library's own ranged reader each time; Parquet that is decoded once; or no
Parquet: the runs as they are, in JSON."""
READINGS_PER_GROUP = 100
_read_runs = segment.read_runs
_decoded: dict[bytes, list[Run]] = {}
MOST_HELD = 400


def runs_of(data: bytes) -> list[Run]:
    """Every run of an object: decoded once, since bytes that are alike hold what is alike."""
    found = _decoded.get(data)
    if found is None:
        if data[:1] == b"[":
            found = [Run(*parts) for parts in msgspec.json.decode(data[:-8])]
        else:
            found = _read_runs(lambda start, end: data[start:end], len(data), 0)
        _remember(data, found)
    return found


def _remember(data: bytes, runs: list[Run]) -> None:
    if len(_decoded) > MOST_HELD:
        _decoded.clear()
    _decoded[data] = runs


def read_runs(
    read_range: ReadRange,
    size_bytes: int,
    footer_bytes: int,
    sensor_id: str | None = None,
    span: Span | None = None,
    metrics: Sequence[str] = (),
    coming: object = None,
) -> list[Run]:
    """As the library's, which reads an object this small in one request, with the decoding remembered."""
    del footer_bytes, coming
    found = [run for run in runs_of(read_range(0, size_bytes)) if sensor_id in (None, run.sensor_id)]
    clipped = [run if span is None else clip(run, span) for run in found]
    chosen = [select(run, metrics) for run in clipped if run.ts_us]
    return [run for run in chosen if run.ts_us]


class Groups:
    """As the library's `SegmentGroups`, with the decoding remembered: a few readings of a sensor are a group."""

    def __init__(self, read_range: ReadRange, size_bytes: int, _: int) -> None:
        self._runs = runs_of(read_range(0, size_bytes))
        self.groups: list[Group] = []
        for run in self._runs:
            for start in range(0, len(run.ts_us), READINGS_PER_GROUP):
                part = take(run, start, min(start + READINGS_PER_GROUP, len(run.ts_us)))
                times = part.ts_us
                group = Group(run.sensor_id, run.sensor_id, times[0], times[-1], part.value_count())
                self.groups.append(group)

    def runs(self, low: str, high: str, span: Span | None) -> list[Run]:
        """The runs of the sensors from `low` on and before `high`, of the half-open span where given."""
        found = [run for run in self._runs if low <= run.sensor_id < high]
        clipped = [run if span is None else clip(run, span) for run in found]
        return [run for run in clipped if run.ts_us]


def plain(runs: Sequence[Run], _: Mapping[str, str], level: int) -> tuple[bytes, int]:
    """In place of a Parquet file: the runs as JSON with an ending of the same form, and its rows."""
    del level
    parts = [(run.sensor_id, run.ts_us, run.metrics, run.arrival_ms) for run in runs]
    data = msgspec.json.encode(parts) + b"\0\0\0\0PAR1"
    _remember(data, list(runs))
    return data, sum(run.value_count() for run in runs)


@contextmanager
def small_limits(objects: Objects) -> Generator[None]:
    """Small groups, rounds and segments, and `objects` of that kind."""
    changed: list[tuple[Any, str, Any]] = [
        (write, "MOST_VALUES_AT_ONCE", 600),
        (archive, "CHUNKS_PER_ROUND", 20),
        (archive, "CHUNKS_PER_READ", 7),
        (archive, "VALUES_PER_SEGMENT", 900),
        (compact_plan, "VALUES_PER_SEGMENT", 1_500),
        (segment_write, "ROWS_PER_GROUP", 300),
        (hot, "ThreadPoolExecutor", InlineExecutor),
        (query, "ThreadPoolExecutor", InlineExecutor),
        (registry, "ThreadPoolExecutor", InlineExecutor),
        (hot, "KEYS_PER_GET", 4),
        (hot, "ITEMS_PER_WRITE", 5),
    ]
    if objects != "read":
        changed += [(segment, "read_runs", read_runs), (compact, "SegmentGroups", Groups)]
    if objects == "plain":
        changed.append((segment, "parquet", plain))
    held = [(place, name, getattr(place, name)) for place, name, _ in changed]
    for place, name, value in changed:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in held:
            setattr(place, name, value)
