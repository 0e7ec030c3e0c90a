"""Rows on the hot query: client time from a raw Query page to columns of numbers, against boto3's resource."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from benchmarks import workload
from benchmarks.measure import Row, on_one_core, take_turns
from benchmarks.noop_server import REGION, TABLE, NoopServer
from benchmarks.usual import Usual
from ingest import chunk, keys
from ingest.item import Item, item_size
from ingest.keys import Key
from ingest.plan import Query
from ingest.query import Answer, Sources, answer
from ingest.reading import Run, Span, take
from ingest.stores.connect import client
from ingest.stores.hot import UNIT_BYTES, DynamoHotStore
from ingest.stores.memory import MemoryCatalog, MemoryColdStore

HOUR_S = 3_600
CHUNK_READINGS = (60, 300)
"""A window of one minute, the template's default, and one of five, Lambda's longest."""
ROUNDS = 9
REPEAT = 40
GOALS = {"boto3's resource for the same chunks": 25, "boto3's resource for an item per reading": 40}
PAGE_BYTES = 1_048_576
"""A Query page holds at most 1 MB ("Paginating table query results"); an hour fits."""

UsualItems = list[dict[str, Any]]


def rows() -> list[Row]:
    """For each chunk length, one row against the same chunks and one against an item per reading."""
    (run,) = workload.fleet(1, HOUR_S)
    made: list[Row] = []
    with NoopServer() as chunks, NoopServer() as single, on_one_core([chunks.pid, single.pid]):
        single_page = page_of(_items_per_reading(run))
        single.answer("Query", single_page)
        for readings in CHUNK_READINGS:
            page = page_of(chunks_of(run, readings))
            chunks.answer("Query", page)
            sides = (
                (Usual(chunks.endpoint_url), page, _from_chunks),
                (Usual(single.endpoint_url), single_page, _from_readings),
            )
            for against, (usual, its_page, columns_of) in zip(GOALS, sides, strict=True):
                ours = reader(run, CannedClient(page))
                calling = reader(run, client("dynamodb", endpoint_url=chunks.endpoint_url, region=REGION))
                figure = f"hot query of one sensor-hour at 1 Hz, {HOUR_S // readings} chunks of {readings}"
                made.append(
                    _row(f"{figure}, against {against}", run, ours, calling, usual, its_page, columns_of)
                )
    return made


def _row(
    figure: str,
    run: Run,
    ours: Callable[[], Answer],
    calling: Callable[[], Answer],
    usual: Usual,
    its_page: bytes,
    columns_of: Callable[[UsualItems], dict[str, list[float]]],
) -> Row:
    bounds = keys.chunk_range(run.sensor_id, span_of(run), HOUR_S)
    against = figure.rpartition("against ")[2]
    for found in (ours().run, calling().run):
        if found is None or (found.ts_us, found.metrics) != (run.ts_us, run.metrics):
            raise RuntimeError("the hot query did not give back what was stored")
    expected = {"ts_us": run.ts_us, **run.metrics}
    if columns_of(usual.parse(its_page)) != expected or columns_of(usual.read(*bounds)) != expected:
        raise RuntimeError("boto3's resource did not give back what was stored")
    paired = take_turns(ours, lambda: columns_of(usual.parse(its_page)), ROUNDS, REPEAT)
    called = take_turns(calling, lambda: columns_of(usual.read(*bounds)), ROUNDS, REPEAT)
    ratio, spread = paired.ratio()
    return Row(
        figure=figure,
        value=ratio,
        unit="x",
        against="client time from the page's bytes to columns of numbers",
        goal=f">= {GOALS[against]}x",
        met=ratio >= GOALS[against],
        spread=spread,
        numbers={
            "ms": paired.ours_median_s * 1000,
            "boto3's resource, ms": paired.usual_median_s * 1000,
            "with the call, x": called.ratio()[0],
            "with the call, ms": called.ours_median_s * 1000,
            "boto3's resource with the call, ms": called.usual_median_s * 1000,
        },
    )


# --- our side ---------------------------------------------------------------------------


class CannedClient:
    """A DynamoDB client whose every Query is answered by one page, already there."""

    def __init__(self, page: bytes) -> None:
        self._page = page
        self.meta = SimpleNamespace(events=self)

    def register(self, *_: object, **__: object) -> None:
        """Take the store's hooks, for which there is no use without a call."""

    def query(self, **_: object) -> dict[str, bytes]:
        """The page as the store's own hook leaves it."""
        return {"Raw": self._page}


def reader(run: Run, dynamodb: Any, every_us: int | None = None) -> Callable[[], Answer]:
    """The query of the run's hour over the real store and this client; means per window where one is given."""
    hot = DynamoHotStore(dynamodb, TABLE, time.sleep, random.random)
    sources = Sources(hot, MemoryCatalog(), MemoryColdStore(), workload.layout(), time.perf_counter)
    span = span_of(run)
    query = Query(run.sensor_id, span, every_us=every_us, aggregates=("mean",) if every_us else ())
    return lambda: answer(query, sources, span.end_us / keys.US)


def span_of(run: Run) -> Span:
    """The run's hour."""
    return Span(run.ts_us[0], run.ts_us[0] + HOUR_S * keys.US)


def chunks_of(run: Run, readings: int) -> list[Item]:
    """The hour as chunks of so many readings, each of a batch of its own."""
    items: list[Item] = []
    expires_at_s = run.ts_us[0] // keys.US + 7 * keys.DAY_S
    for start in range(0, HOUR_S, readings):
        batch = keys.batch_id(workload.STREAM, "shardId-000000000000", HOUR_S, [str(start)])
        bucket_s = keys.bucket_start_s(run.ts_us[start], HOUR_S)
        items.extend(chunk.encode(take(run, start, start + readings), bucket_s, batch, expires_at_s))
    return sorted(items, key=lambda item: item.key)


def page_of(items: Sequence[Item]) -> bytes:
    """A Query's answer that holds the items, as the service gives it: numbers without needless zeros, and the units."""
    size_bytes = sum(item.size_bytes for item in items)
    if size_bytes > PAGE_BYTES:
        raise RuntimeError("the hour does not fit one page")
    bodies = ",".join(item.body.replace('.0"', '"') for item in items)
    units = f'{{"TableName":"{TABLE}","CapacityUnits":{-(-size_bytes // UNIT_BYTES)}}}'
    counts = f'"Count":{len(items)},"ScannedCount":{len(items)}'
    return f'{{"Items":[{bodies}],{counts},"ConsumedCapacity":{units}}}'.encode()


# --- the usual side ---------------------------------------------------------------------


def _items_per_reading(run: Run) -> list[Item]:
    items: list[Item] = []
    for place, ts_us in enumerate(run.ts_us):
        key = Key(run.sensor_id, str(ts_us // 1000))
        cells = "".join(f',"{name}":{{"N":"{column[place]}"}}' for name, column in run.metrics.items())
        body = f'{{"pk":{{"S":"{key.pk}"}},"sk":{{"S":"{key.sk}"}}{cells}}}'
        items.append(Item(key, body, item_size(json.loads(body))))
    return items


def _from_chunks(items: UsualItems) -> dict[str, list[float]]:
    """Times and values of chunks on a grid, all of one hour, as columns of numbers."""
    columns: dict[str, list[float]] = {"ts_us": []}
    for item in sorted(items, key=lambda item: item["t0"]):
        bucket_us = keys.bucket_from_text(item["sk"].partition("#")[0]) * keys.US
        first_us, step_us = bucket_us + int(item["t0"]), int(item["dt"])
        columns["ts_us"].extend(range(first_us, first_us + int(item["n"]) * step_us, step_us))
        for name, column in item["v"].items():
            columns.setdefault(name, []).extend(map(float, column))
    return columns


def _from_readings(items: UsualItems) -> dict[str, list[float]]:
    """Times and values of items of one reading each, as columns of numbers."""
    names = [name for name, cell in items[0].items() if isinstance(cell, Decimal)]
    columns: dict[str, list[float]] = {name: [float(item[name]) for item in items] for name in names}
    return {"ts_us": [int(item["sk"]) * 1000 for item in items], **columns}
