"""Rows on the archive: a cold query's requests and bytes, bytes at rest, and how fast they are made."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence

from benchmarks import workload
from benchmarks.measure import Row, on_one_core, take_turns
from ingest import keys, segment
from ingest.archive import catalog_entry
from ingest.keys import DAY_S
from ingest.plan import Query
from ingest.query import Sources, answer
from ingest.reading import Run, Span
from ingest.segment import EncodedSegment
from ingest.stores import ObjectHead, Segment
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore

HOUR_S = 3_600
SEGMENT_SENSORS = 1_000
ASKED = 500
REQUESTS_GOAL = 2
KIB_GOAL = 130
SPEED_SENSORS = 200
ROUNDS = 5
GZIP_LEVEL = 6
BYTES_GOAL = 0.3
SPEED_GOAL = 25


def rows() -> list[Row]:
    """The cold query, then bytes and speed."""
    fleet = workload.fleet(SEGMENT_SENSORS, HOUR_S)
    return [*_cold_rows(fleet), *_archive_rows(fleet[:SPEED_SENSORS])]


# --- one sensor-hour out of a large segment ---------------------------------------------


class CountingStore(MemoryColdStore):
    """A cold store that counts what is read: bytes, request by request."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """As the store's own."""
        data = super().read(name, start, end)
        self.reads.append(len(data))
        return data


def _cold_rows(fleet: Sequence[Run]) -> list[Row]:
    encoded = segment.encode(fleet)
    cold, catalog, layout = CountingStore(), MemoryCatalog(), workload.layout()
    catalog.add([_stored(encoded, cold)], 2 * workload.START_S)
    asked = fleet[ASKED]
    sources = Sources(MemoryHotStore(), catalog, cold, layout, lambda: 0.0)
    span = Span(asked.ts_us[0], asked.ts_us[-1] + 1)
    found = answer(Query(asked.sensor_id, span), sources, workload.START_S + 30 * DAY_S).run
    if found is None or found.ts_us != asked.ts_us or found.metrics != asked.metrics:
        raise RuntimeError("the cold query did not give back what was archived")
    kib, whole_kib = sum(cold.reads) / 1024, len(encoded.data) / 1024
    what = f"one sensor-hour out of a segment of {SEGMENT_SENSORS:,} sensors"
    return [
        Row(
            figure=f"cold query, {what}: requests",
            value=len(cold.reads),
            unit="requests",
            against="1 for the whole object",
            goal=f"<= {REQUESTS_GOAL} requests",
            met=len(cold.reads) <= REQUESTS_GOAL,
            numbers={"requests": len(cold.reads)},
        ),
        Row(
            figure=f"cold query, {what}: bytes",
            value=kib,
            unit="KiB",
            against=f"{whole_kib:,.0f} KiB, the whole object",
            goal=f"<= {KIB_GOAL} KiB",
            met=kib <= KIB_GOAL,
            numbers={
                "whole object over what was read": whole_kib / kib,
                "footer, KiB": encoded.footer_bytes / 1024,
            },
        ),
    ]


def _stored(encoded: EncodedSegment, cold: MemoryColdStore) -> Segment:
    date = keys.date_of(encoded.first_us)
    digest = keys.chunks_digest([])
    name = keys.segment_name(date, digest)
    etag = cold.put(name, encoded.data, segment.metadata(encoded))
    head = ObjectHead(len(encoded.data), etag, workload.START_S + DAY_S)
    return catalog_entry(name, date, digest, encoded, head)


# --- bytes at rest, and the making of them ----------------------------------------------


def json_lines(runs: Sequence[Run]) -> list[str]:
    """One JSON object per reading, by sensor and time."""
    return [
        json.dumps(
            {"sensor_id": run.sensor_id, "ts": ts_us // 1000, **dict(zip(run.metrics, cells, strict=True))}
        )
        for run in runs
        for ts_us, cells in zip(run.ts_us, zip(*run.metrics.values(), strict=True), strict=True)
    ]


def _zipped(lines: Sequence[str]) -> bytes:
    return gzip.compress("\n".join(lines).encode(), GZIP_LEVEL)


def _archive_rows(fleet: Sequence[Run]) -> list[Row]:
    readings = sum(len(run.ts_us) for run in fleet)
    with on_one_core():
        paired = take_turns(lambda: segment.encode(fleet), lambda: _zipped(json_lines(fleet)), ROUNDS)
    lines = json_lines(fleet)
    ours, theirs = len(segment.encode(fleet).data), len(_zipped(lines))
    as_taken = [line for place in range(HOUR_S) for line in lines[place::HOUR_S]]
    ratio, spread = paired.ratio()
    return [
        Row(
            figure="archive, bytes at rest per reading",
            value=ours / theirs,
            unit="",
            against=f"JSON lines of the same readings in the same order in gzip, level {GZIP_LEVEL}",
            goal=f"<= {BYTES_GOAL}",
            met=ours / theirs <= BYTES_GOAL,
            numbers={
                "bytes per reading": ours / readings,
                "gzip'd JSON lines": theirs / readings,
                "in the order they were taken": len(_zipped(as_taken)) / readings,
            },
        ),
        Row(
            figure="archive, encoding speed",
            value=ratio,
            unit="x",
            against=f"json.dumps and gzip, level {GZIP_LEVEL}, of the same readings",
            goal=f">= {SPEED_GOAL}x",
            met=ratio >= SPEED_GOAL,
            spread=spread,
            numbers={
                "readings per core-second": readings / paired.ours_median_s,
                "json.dumps and gzip": readings / paired.usual_median_s,
            },
        ),
    ]
