"""The use case of reading: a query is answered from both tiers, merged, and told with its cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from ingest import segment as segment_format
from ingest.aggregate import Windows, aggregate
from ingest.errors import NotFound, Unavailable
from ingest.keys import Layout
from ingest.plan import Query, check, plan
from ingest.reading import EARLIEST_US, Run, Span, clip, merge, select, take
from ingest.segment_read import Footer
from ingest.stores import Catalog, ColdStore, HotStore, Segment

ATTEMPTS = 4
"""How often a cold read goes back to the catalog because an object is gone (compacted meanwhile)."""
SEGMENTS_AT_ONCE = 16
"""How many segments are read at the same time: half of a client's connections."""


@dataclass(slots=True)
class Cost:
    """What an answer cost. `ms` is the time of the whole call."""

    items: int = 0
    read_units: float = 0.0
    objects: int = 0
    requests: int = 0
    bytes: int = 0
    ms: float = 0.0


@dataclass(slots=True)
class Answer:
    """Readings (or windows) in time order. `run` is None where there is nothing.

    `hot_rows` and `cold_rows` count the readings each tier gave, before merging.
    `next_us` is where to go on when `limit` cut the answer; None when it is whole.
    """

    run: Run | None
    windows: Windows | None = None
    hot_rows: int = 0
    cold_rows: int = 0
    next_us: int | None = None
    cost: Cost = field(default_factory=Cost)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where an answer comes from. `clock` gives seconds (of any epoch) to time the call with."""

    hot: HotStore
    catalog: Catalog
    cold: ColdStore
    layout: Layout
    clock: Callable[[], float]


class TooMuch(Exception):
    """A span holds more than the caller takes at once; it may ask for a shorter one. `cost` is what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.cost = Cost()


class Watch(Protocol):
    """Told what an answer reads, while it does. Any method may raise TooMuch, which ends the answer."""

    def coming(self, footer: Footer, picked: Sequence[int], sensor_id: str, span: Span) -> None:
        """Row groups of a segment that are about to be read; from several threads."""
        ...

    def read(self, runs: Sequence[Run]) -> None:
        """Runs that were read, clipped to the span; from several threads."""
        ...

    def found(self, hot: Sequence[Run], cold: Sequence[Run]) -> None:
        """All that the answer is made of, by tier, before it is merged."""
        ...


def answer(query: Query, sources: Sources, now_s: float, watch: Watch | None = None) -> Answer:
    """The readings of one sensor in the half-open span, from both tiers, none twice.

    Hot is read before the catalog: what expires meanwhile was catalogued before. Raises
    BadInput naming the part of the query that is wrong, Unavailable, Corrupt, and whatever
    `watch` raises.
    """
    began_s = sources.clock()
    check(query)
    planned = plan(query, sources.layout, now_s)
    found = Answer(None)
    hot: list[Run] = []
    cold: list[Run] = []
    try:
        if planned.hot is not None:
            hot = _read_hot(query.sensor_id, planned.hot, planned.widest_bucket_s, sources, found, watch)
        if planned.cold is not None:
            cold = _read_cold(query, planned.cold, sources, now_s, found, watch)
    except TooMuch as stopped:
        stopped.cost = found.cost
        raise
    if watch is not None:
        watch.found(hot, cold)
    run = _joined([*hot, *cold], query)
    if run is not None and query.every_us is not None:
        windows = aggregate(run, query.every_us, query.aggregates or ("mean",))
        if query.limit is not None and len(windows.start_us) > query.limit:
            found.next_us = windows.start_us[query.limit]
            windows = _first_windows(windows, query.limit)
        found.windows = windows
    elif run is not None and query.limit is not None and len(run.ts_us) > query.limit:
        found.next_us = run.ts_us[query.limit]
        run = take(run, 0, query.limit)
    found.run = run
    found.cost.ms = (sources.clock() - began_s) * 1000
    return found


def _joined(runs: Sequence[Run], query: Query) -> Run | None:
    clipped = [clip(run, query.span) for run in runs]
    present = [run for run in clipped if run.ts_us]
    if not present:
        return None
    chosen = select(merge(present), query.metrics)
    return chosen if chosen.ts_us else None


def _read_hot(
    sensor_id: str, span: Span, widest_bucket_s: int, sources: Sources, found: Answer, watch: Watch | None
) -> list[Run]:
    runs: list[Run] = []
    for page in sources.hot.read(sensor_id, span, widest_bucket_s):
        found.cost.items += page.items
        found.cost.read_units += page.read_units
        found.cost.bytes += page.size_bytes
        found.cost.requests += 1
        clipped = [clip(run, span) for run in page.runs]
        if watch is not None:
            watch.read(clipped)
        runs.extend(clipped)
    found.hot_rows = sum(len(run.ts_us) for run in runs)
    return runs


def _segments(span: Span, sensor_id: str, sources: Sources, now_s: float) -> list[Segment]:
    """What the catalog lists, without what is past its cold retention: the bucket's lifecycle may have
    removed the object before DynamoDB, which takes days, forgets the entry ("Expired items and TTL")."""
    oldest_s = now_s - sources.layout.at(now_s).cold_retention_s
    return [found for found in sources.catalog.find(span, sensor_id) if found.written_s > oldest_s]


def _read_cold(
    query: Query, span: Span, sources: Sources, now_s: float, found: Answer, watch: Watch | None
) -> list[Run]:
    """Runs of the span's segments. An object that is gone sends the reader back to the catalog."""
    runs: dict[str, list[Run]] = {}
    for _ in range(ATTEMPTS):
        segments = _segments(span, query.sensor_id, sources, now_s)
        listed = {segment.name for segment in segments}
        runs = {name: kept for name, kept in runs.items() if name in listed}
        missing = [segment for segment in segments if segment.name not in runs]
        read = _read_segments(missing, query, span, sources, found.cost, watch)
        runs |= {name: given for name, given in read.items() if given is not None}
        if None in read.values():
            continue
        flat = [run for segment in segments for run in runs[segment.name]]
        found.cold_rows = sum(len(run.ts_us) for run in flat)
        return flat
    raise _objects_missing()


def _objects_missing() -> Unavailable:
    return Unavailable(
        "Segments named by the catalog are missing from the archive bucket. If this stays so, run "
        "`thermocline archive reindex` and look at the bucket's lifecycle rules."
    )


def _read_segments(
    segments: Sequence[Segment],
    query: Query,
    span: Span,
    sources: Sources,
    cost: Cost,
    watch: Watch | None,
) -> dict[str, list[Run] | None]:
    """Each segment's runs by its name, None where its object is gone; several are read at once."""
    costs = [Cost() for _ in segments]

    def read(segment: Segment, its_cost: Cost) -> list[Run] | None:
        try:
            return _read_segment(segment, query, span, sources, its_cost, watch)
        except NotFound:
            return None

    try:
        if len(segments) > 1:
            with ThreadPoolExecutor(min(SEGMENTS_AT_ONCE, len(segments))) as pool:
                read_runs = list(pool.map(read, segments, costs))
        else:
            read_runs = list(map(read, segments, costs))
    finally:
        for its_cost in costs:
            cost.objects += its_cost.objects
            cost.requests += its_cost.requests
            cost.bytes += its_cost.bytes
    return {segment.name: given for segment, given in zip(segments, read_runs, strict=True)}


def _read_segment(
    segment: Segment, query: Query, span: Span, sources: Sources, cost: Cost, watch: Watch | None = None
) -> list[Run]:
    cost.objects += 1

    def read_range(start: int, end: int) -> bytes:
        cost.requests += 1
        data = sources.cold.read(segment.name, start, end)
        cost.bytes += len(data)
        return data

    def coming(footer: Footer, picked: Sequence[int]) -> None:
        if watch is not None:
            watch.coming(footer, picked, query.sensor_id, span)

    runs = segment_format.read_runs(
        read_range, segment.size_bytes, segment.footer_bytes, query.sensor_id, span, query.metrics, coming
    )
    if watch is not None:
        watch.read(runs)
    return runs


def _first_windows(windows: Windows, count: int) -> Windows:
    columns = {
        metric: {name: column[:count] for name, column in by_name.items()}
        for metric, by_name in windows.columns.items()
    }
    return Windows(windows.every_us, windows.start_us[:count], columns)


# --- the newest reading -----------------------------------------------------------------


def latest(sensor_id: str, sources: Sources, now_s: float) -> Run | None:
    """The sensor's newest reading, as a run of one; None where neither tier has any.

    The cold tier is looked at where it may hold a newer one than the hot tier. Raises
    BadInput, Unavailable, Corrupt.
    """
    check(Query(sensor_id, Span(0, 1)))
    chunks = sources.hot.newest(sensor_id, sources.layout.widest_bucket_s)
    best = merge([chunk.run for chunk in chunks]) if chunks else None
    newest_us = best.ts_us[-1] if best else EARLIEST_US
    may_be_gone = Span(newest_us, sources.layout.cold_until_us(now_s))
    if not may_be_gone.is_empty():
        best = _newest_cold(sensor_id, may_be_gone, best, sources, now_s)
    return None if best is None else take(best, len(best.ts_us) - 1, len(best.ts_us))


def _newest_cold(sensor_id: str, span: Span, best: Run | None, sources: Sources, now_s: float) -> Run | None:
    for _ in range(ATTEMPTS):
        segments = _segments(span, sensor_id, sources, now_s)
        segments.sort(key=lambda segment: -segment.last_us)
        try:
            for segment in segments:
                if best is not None and segment.last_us < best.ts_us[-1]:
                    break
                runs = _read_segment(segment, Query(sensor_id, span), span, sources, Cost())
                present = [run for run in (*runs, *([best] if best else [])) if run.ts_us]
                if present:
                    best = merge(present)
        except NotFound:
            continue
        return best
    raise _objects_missing()
