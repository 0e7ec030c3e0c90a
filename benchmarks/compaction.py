"""Rows on compaction: a day of many sensors as the archiver writes it, compacted, and one sensor's day read from it."""

from __future__ import annotations

import resource
import sys
import time

from benchmarks import workload
from benchmarks.archive import CountingStore
from benchmarks.measure import Row
from ingest import keys, segment
from ingest.archive import ALL_DATES, catalog_entry
from ingest.compact import Compacted, Compaction, compact
from ingest.keys import DAY_S, US
from ingest.plan import Query
from ingest.query import Sources, answer
from ingest.reading import Run, Span
from ingest.stores import Catalog, ObjectHead
from ingest.stores.memory import MemoryCatalog, MemoryHotStore
from sensors.simulator import Fleet, truth

SENSORS = 1_000
HOUR_S = 3_600
HOURS = 24
ASKED = 500
METRIC = "temperature"
REQUESTS_GOAL = 3
SHARE_GOAL = 0.01
DAY_START_S = workload.START_S // DAY_S * DAY_S


def rows(sensors: int = SENSORS) -> list[Row]:
    """The query before and after, and what compaction takes."""
    cold, catalog = CountingStore(), MemoryCatalog()
    asked = [_archive_hour(number, sensors, cold, catalog) for number in range(HOURS)]
    before, _ = _ask(asked, cold, catalog)
    began_s, began_cpu_s = time.monotonic(), time.process_time()
    done = _compacted(cold, catalog)
    cpu_s, wall_s = time.process_time() - began_cpu_s, time.monotonic() - began_s
    after, day_bytes = _ask(asked, cold, catalog)
    share = sum(after) / day_bytes
    what = f"one sensor, one day at 1 Hz out of {sensors:,} sensors, after compaction"
    return [
        Row(
            figure=f"cold query, {what}: requests",
            value=len(after),
            unit="requests",
            against=f"{len(before)} before",
            goal=f"<= {REQUESTS_GOAL} requests",
            met=len(after) <= REQUESTS_GOAL,
            numbers={
                "segments before": done.segments_before,
                "segments after": done.segments_after,
            },
        ),
        Row(
            figure=f"cold query, {what}: share of the day's bytes",
            value=share * 100,
            unit="%",
            against=f"{sum(before) / done.bytes_before * 100:.2f} % before",
            goal=f"< {SHARE_GOAL * 100:.0f} %",
            met=share < SHARE_GOAL,
            numbers={"KiB read": sum(after) / 1024, "the day, MiB": day_bytes / 1024 / 1024},
        ),
        Row(
            figure="compaction, values per core-second",
            value=done.rows_before / cpu_s,
            unit="values/s",
            against=f"{HOURS} segments of an hour each",
            numbers={
                "values": done.rows_before,
                "seconds": wall_s,
                "bytes after over before": done.bytes_after / done.bytes_before,
                "most memory of the process, MiB": _most_memory_mib(),
            },
        ),
    ]


def _archive_hour(number: int, sensors: int, cold: CountingStore, catalog: Catalog) -> Run:
    """One hour's segment, as the archiver writes it; the asked sensor's run."""
    start_us = (DAY_START_S + number * HOUR_S) * US
    made = Fleet(sensors, 1.0, start_us, HOUR_S * US, workload.SEED + number)
    runs = [
        Run(r.sensor_id, r.ts_us, {METRIC: r.metrics[METRIC]}, r.ts_us[-1] // 1000)
        for r in truth(made).values()
    ]
    encoded = segment.encode(runs)
    date, digest = keys.date_of(start_us), keys.chunks_digest([keys.chunk_key("s", start_us // US, "b", 0)])
    name = keys.segment_name(date, digest)
    etag = cold.put(name, encoded.data, segment.metadata(encoded))
    head = ObjectHead(len(encoded.data), etag, DAY_START_S + 2 * DAY_S)
    catalog.add([catalog_entry(name, date, digest, encoded, head)], DAY_START_S + 9_999 * DAY_S)
    return runs[min(ASKED, sensors - 1)]


def _compacted(cold: CountingStore, catalog: Catalog) -> Compacted:
    work = Compaction(
        cold=cold,
        catalog=catalog,
        layout=workload.layout(),
        now=lambda: DAY_START_S + 3 * DAY_S,
        grace_s=DAY_S,
        remaining_ms=lambda: 900_000,
    )
    (done,) = compact(work, ALL_DATES)
    if done.rows_before != done.rows_after or done.groups != 1:
        raise RuntimeError(f"compaction did not do what it should: {done}")
    return done


def _ask(asked: list[Run], cold: CountingStore, catalog: Catalog) -> tuple[list[int], int]:
    """Bytes of each request for the asked sensor's day, and those of the whole day."""
    cold.reads.clear()
    span = keys.date_span(keys.date_of(DAY_START_S * US))
    sources = Sources(MemoryHotStore(), catalog, cold, workload.layout(), lambda: 0.0)
    run = answer(
        Query(asked[0].sensor_id, Span(span.start_us, span.end_us)), sources, DAY_START_S + 30 * DAY_S
    ).run
    times = [ts_us for hour in asked for ts_us in hour.ts_us]
    values = [value for hour in asked for value in hour.metrics[METRIC]]
    if run is None or run.ts_us != times or run.metrics[METRIC] != values:
        raise RuntimeError("the cold query did not give back what was archived")
    return list(cold.reads), sum(found.size_bytes for found in catalog.find(span))


def _most_memory_mib() -> float:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 1024 / (1024 if sys.platform == "darwin" else 1)
