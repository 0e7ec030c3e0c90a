"""Rows on the hot query: client time from raw Query pages to a run, against boto3's resource."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from benchmarks import workload
from benchmarks.measure import Row, on_one_core, take_turns
from benchmarks.noop_server import REGION, TABLE, NoopServer
from benchmarks.usual import Usual
from ingest import chunk, keys
from ingest.item import Item
from ingest.plan import Query
from ingest.query import Sources, answer
from ingest.reading import Run, Span, take
from ingest.stores.connect import client
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryCatalog, MemoryColdStore

HOUR_S = 3_600
CHUNK_READINGS = (60, 300)
"""A window of one minute, the template's default, and one of five, Lambda's longest."""
ROUNDS = 9
REPEAT = 10
GOAL = 25
PAGE_BYTES = 1_048_576
"""A Query page holds at most 1 MB ("Paginating table query results"); an hour fits."""


def rows() -> list[Row]:
    """One row per chunk length."""
    (run,) = workload.fleet(1, HOUR_S)
    with NoopServer() as server, on_one_core([server.pid]):
        return [_row(run, readings, server) for readings in CHUNK_READINGS]


def _row(run: Run, readings: int, server: NoopServer) -> Row:
    items = _items(run, readings)
    server.answer("Query", _page(items))
    span = Span(run.ts_us[0], run.ts_us[0] + HOUR_S * keys.US)
    dynamodb = client("dynamodb", endpoint_url=server.endpoint_url, region=REGION)
    hot = DynamoHotStore(dynamodb, TABLE, time.sleep, random.random)
    layout = workload.layout()
    sources = Sources(hot, MemoryCatalog(), MemoryColdStore(), layout, time.perf_counter)
    query = Query(run.sensor_id, span)
    now_s = span.end_us / keys.US
    usual = Usual(server.endpoint_url)
    bounds = keys.chunk_range(run.sensor_id, span, layout.widest_bucket_s)

    found = answer(query, sources, now_s).run
    if found is None or found.ts_us != run.ts_us or found.metrics != run.metrics:
        raise RuntimeError("the hot query did not give back what was stored")
    if len(usual.read(*bounds)) != len(items):
        raise RuntimeError("boto3's resource did not read every chunk")
    paired = take_turns(lambda: answer(query, sources, now_s), lambda: usual.read(*bounds), ROUNDS, REPEAT)
    ratio, spread = paired.ratio()
    return Row(
        figure=f"hot query of one sensor-hour at 1 Hz, {len(items)} chunks of {readings}",
        value=ratio,
        unit="x",
        against="client time of boto3's resource for the same chunks, left as Decimals",
        goal=f">= {GOAL}x",
        met=ratio >= GOAL,
        spread=spread,
        numbers={"ms": paired.ours_median_s * 1000, "boto3's resource, ms": paired.usual_median_s * 1000},
    )


def _items(run: Run, readings: int) -> list[Item]:
    """The hour as chunks of so many readings, each of a batch of its own."""
    items: list[Item] = []
    expires_at_s = run.ts_us[0] // keys.US + 7 * keys.DAY_S
    for start in range(0, HOUR_S, readings):
        batch = keys.batch_id(workload.STREAM, "shardId-000000000000", HOUR_S, [str(start)])
        bucket_s = keys.bucket_start_s(run.ts_us[start], HOUR_S)
        items.extend(chunk.encode(take(run, start, start + readings), bucket_s, batch, expires_at_s))
    return sorted(items, key=lambda item: item.key)


def _page(items: Sequence[Item]) -> bytes:
    if sum(item.size_bytes for item in items) > PAGE_BYTES:
        raise RuntimeError("the hour does not fit one page")
    bodies = ",".join(item.body for item in items)
    return f'{{"Items":[{bodies}],"Count":{len(items)},"ScannedCount":{len(items)}}}'.encode()
