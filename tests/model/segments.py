"""Parquet in the simulation: limits so small that a few readings meet them, and objects decoded once."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from ingest import archive, query, segment, write
from ingest.reading import Run, Span, clip, select
from ingest.stores import hot, registry
from tests.model.wire_clients import InlineExecutor

_read_runs = segment.read_runs
_decoded: dict[bytes, list[Run]] = {}
MOST_HELD = 400


def runs_of(data: bytes) -> list[Run]:
    """Every run of an object: decoded once, since bytes that are alike hold what is alike."""
    found = _decoded.get(data)
    if found is None:
        if len(_decoded) > MOST_HELD:
            _decoded.clear()
        found = _decoded[data] = _read_runs(lambda start, end: data[start:end], len(data), 0)
    return found


def read_runs(
    read_range: segment.ReadRange,
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


@contextmanager
def small_limits(*, remember: bool) -> Generator[None]:
    """Small groups, rounds and segments; with `remember`, objects are
    decoded once, else read by the library's own ranged reader every time."""
    changed: list[tuple[Any, str, Any]] = [
        (write, "MOST_VALUES_AT_ONCE", 600),
        (archive, "CHUNKS_PER_ROUND", 20),
        (archive, "CHUNKS_PER_READ", 7),
        (archive, "VALUES_PER_SEGMENT", 900),
        (hot, "ThreadPoolExecutor", InlineExecutor),
        (query, "ThreadPoolExecutor", InlineExecutor),
        (registry, "ThreadPoolExecutor", InlineExecutor),
        (hot, "KEYS_PER_GET", 4),
        (hot, "ITEMS_PER_WRITE", 5),
    ]
    if remember:
        changed.append((segment, "read_runs", read_runs))
    held = [(place, name, getattr(place, name)) for place, name, _ in changed]
    for place, name, value in changed:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in held:
            setattr(place, name, value)
