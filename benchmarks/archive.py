"""Rows on the archive: a cold query's requests and bytes, bytes at rest, and how fast they are made."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from random import Random

from benchmarks import workload
from benchmarks.measure import Row, cpu_s, on_one_core, take_turns
from ingest import keys, segment
from ingest.archive import catalog_entry
from ingest.keys import DAY_S
from ingest.plan import Query
from ingest.query import Sources, answer
from ingest.reading import Run, Span, merge, take
from ingest.segment import EncodedSegment
from ingest.stores import ObjectHead, Segment
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore

HOUR_S = 3_600
SEGMENT_SENSORS = 1_000
ASKED = 500
REQUESTS_GOAL = 2
KIB_GOAL = 130
SPEED_SENSORS = 200
PIECE_S = 300
ROUNDS = 5
GZIP_LEVEL = 6
USUAL_LEVEL = 9
"""What `gzip.compress` takes when it is not told."""
RECORDS_BY_THEMSELVES = 20_000
JITTER_MS = 5
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
    catalog.add([stored(encoded, cold)], 2 * workload.START_S)
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


def stored(encoded: EncodedSegment, cold: MemoryColdStore) -> Segment:
    """What the catalog says of a segment that is put into the store."""
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


def _zipped(lines: Sequence[str], level: int = GZIP_LEVEL) -> bytes:
    return gzip.compress("\n".join(lines).encode(), level)


def as_taken(lines: Sequence[str]) -> list[str]:
    """The lines of a fleet in the order in which its readings were taken."""
    return [line for place in range(HOUR_S) for line in lines[place::HOUR_S]]


def _archive_rows(fleet: Sequence[Run]) -> list[Row]:
    return [_bytes_row(fleet), _speed_row(fleet)]


def _bytes_row(fleet: Sequence[Run]) -> Row:
    readings = sum(len(run.ts_us) for run in fleet)
    lines = json_lines(fleet)
    ours, theirs = len(segment.encode(fleet).data), len(_zipped(lines))
    jittered = workload.fleet(len(fleet), HOUR_S, JITTER_MS)
    jittered_lines = json_lines(jittered)
    ours_jittered = len(segment.encode(jittered).data)
    return Row(
        figure="archive, bytes at rest per reading",
        value=ours / theirs,
        unit="",
        against=f"JSON lines of the same readings in the same order in gzip, level {GZIP_LEVEL}",
        goal=f"<= {BYTES_GOAL}",
        met=ours / theirs <= BYTES_GOAL,
        numbers={
            "bytes per reading": ours / readings,
            "gzip'd JSON lines": theirs / readings,
            f"over gzip level {USUAL_LEVEL}": ours / len(_zipped(lines, USUAL_LEVEL)),
            "over lines in the order they were taken": ours / len(_zipped(as_taken(lines))),
            f"with {JITTER_MS} ms of jitter, bytes per reading": ours_jittered / readings,
            "then over the same order": ours_jittered / len(_zipped(jittered_lines)),
            "then over the order they were taken": ours_jittered / len(_zipped(as_taken(jittered_lines))),
        },
    )


def _speed_row(fleet: Sequence[Run]) -> Row:
    readings = sum(len(run.ts_us) for run in fleet)
    pieces = [[take(run, at, at + PIECE_S) for at in range(0, HOUR_S, PIECE_S)] for run in fleet]
    shuffled = Random(workload.SEED)
    for of_sensor in pieces:
        shuffled.shuffle(of_sensor)
    shuffled.shuffle(pieces)
    with on_one_core():
        paired = take_turns(
            lambda: segment.encode([merge(of_sensor) for of_sensor in pieces]),
            lambda: _zipped(json_lines(fleet), USUAL_LEVEL),
            ROUNDS,
        )
        lines = json_lines(fleet)
        level_s = cpu_s(lambda: _zipped(lines))
        dumps_s = cpu_s(lambda: json_lines(fleet))
        alone_s = cpu_s(lambda: [_zipped([line], USUAL_LEVEL) for line in lines[:RECORDS_BY_THEMSELVES]])
    alone_s = alone_s * readings / RECORDS_BY_THEMSELVES + dumps_s
    ratio, spread = paired.ratio()
    return Row(
        figure="archive, writing speed, sort included",
        value=ratio,
        unit="x",
        against=f"json.dumps of each record and gzip, level {USUAL_LEVEL}, of all of them",
        goal=f">= {SPEED_GOAL}x",
        met=ratio >= SPEED_GOAL,
        spread=spread,
        numbers={
            "readings per core-second": readings / paired.ours_median_s,
            "json.dumps and gzip": readings / paired.usual_median_s,
            f"over gzip level {GZIP_LEVEL}": (dumps_s + level_s) / paired.ours_median_s,
            "over gzip of each record by itself": alone_s / paired.ours_median_s,
        },
    )
