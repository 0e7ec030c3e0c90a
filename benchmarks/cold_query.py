"""Rows on the time of a cold query: one sensor-day over HTTP with a delay, ours and other engines in turns."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import workload
from benchmarks.archive import stored
from benchmarks.measure import Row
from benchmarks.range_server import BUCKET, RangeServer
from ingest import segment
from ingest.keys import DAY_S
from ingest.plan import Query
from ingest.query import Sources, answer
from ingest.reading import Run, Span
from ingest.stores import Segment
from ingest.stores.cold import S3ColdStore
from ingest.stores.connect import client
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore

SENSORS = 23
"""A day of so many at 1 Hz, two metrics each, fills a segment."""
ASKED = 11
DELAY_S = 0.02
ROUNDS = 15
TWICE_GOAL = 1.2
REGION = "us-east-1"
ONE = "ours, one metric"

Ask = Callable[[], tuple[int, int]]
"""Asks for the sensor-day as Python lists; how many times and values there were."""


def rows() -> list[Row]:
    """Ours against twice the delay, and against each engine that can be had here."""
    fleet = workload.fleet(SENSORS, DAY_S)
    run = fleet[ASKED]
    encoded = segment.encode(fleet)
    entry = stored(encoded, MemoryColdStore())
    with RangeServer() as server:
        server.hold(entry.name, encoded.data)
        asks = {"ours": _ours(server, entry, run, ())}
        for name, make in (("Polars", _polars), ("DuckDB", _duckdb)):
            ask = make(server, entry.name, run.sensor_id)
            if ask is not None:
                asks[name] = ask
        for name, ask in asks.items():
            times, values = ask()
            if values != run.value_count() or times not in (len(run.ts_us), values):
                raise RuntimeError(f"{name} did not find the sensor-day")
        asks[ONE] = _ours(server, entry, run, sorted(run.metrics)[:1])
        server.delay(DELAY_S)
        took_s, costs = _in_turns(server, asks)
    return [
        _twice_row(took_s, costs),
        *(_engine_row(name, took_s, costs) for name in asks if name not in ("ours", ONE)),
    ]


def _in_turns(
    server: RangeServer, asks: dict[str, Ask]
) -> tuple[dict[str, list[float]], dict[str, tuple[int, int]]]:
    """Seconds of every round by engine, and what the last one asked the server for."""
    took_s: dict[str, list[float]] = {name: [] for name in asks}
    costs: dict[str, tuple[int, int]] = {}
    for _ in range(ROUNDS):
        for name, ask in asks.items():
            server.taken()
            began_s = time.perf_counter()
            ask()
            took_s[name].append(time.perf_counter() - began_s)
            costs[name] = server.taken()
    return took_s, costs


def _ours(server: RangeServer, entry: Segment, run: Run, metrics: Sequence[str]) -> Ask:
    catalog = MemoryCatalog()
    catalog.add([entry], 2 * workload.START_S)
    cold = S3ColdStore(client("s3", endpoint_url=server.endpoint_url, region=REGION), BUCKET)
    sources = Sources(MemoryHotStore(), catalog, cold, workload.layout(), lambda: 0.0)
    query = Query(run.sensor_id, Span(run.ts_us[0], run.ts_us[-1] + 1), tuple(metrics))

    def ask() -> tuple[int, int]:
        found = answer(query, sources, workload.START_S + 30 * DAY_S).run
        return (0, 0) if found is None else (len(found.ts_us), sum(map(len, found.metrics.values())))

    return ask


def _polars(server: RangeServer, name: str, sensor_id: str) -> Ask | None:
    try:
        polars: Any = importlib.import_module("polars")
    except ImportError:
        return None
    options = {
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
        "aws_region": REGION,
        "aws_endpoint_url": server.endpoint_url,
        "aws_allow_http": "true",
    }

    def ask() -> tuple[int, int]:
        found = (
            polars.scan_parquet(f"s3://{BUCKET}/{name}", storage_options=options)
            .filter(polars.col("sensor_id") == sensor_id)
            .select(polars.col("ts").dt.epoch("us"), "value")
            .collect()
        )
        return len(found["ts"].to_list()), len(found["value"].to_list())

    return ask


def _duckdb(server: RangeServer, name: str, sensor_id: str) -> Ask | None:
    """None where DuckDB or its httpfs, which it would download, is missing."""
    try:
        duckdb: Any = importlib.import_module("duckdb")
        extension: Any = importlib.import_module("duckdb_extension_httpfs")
    except ImportError:
        return None
    folder = Path(extension.__file__).parent
    library = next(folder.glob(f"extensions/v{duckdb.__version__}/httpfs.duckdb_extension"), None)
    if library is None:
        return None

    connection: Any = duckdb.connect()
    connection.execute(f"load '{library}'")
    connection.execute("set enable_external_file_cache = false")  # each query is to be a cold one

    def ask() -> tuple[int, int]:
        found = connection.execute(
            "select epoch_us(ts) as ts, value from read_parquet(?) where sensor_id = ?",
            [f"{server.endpoint_url}/{BUCKET}/{name}", sensor_id],
        ).fetchnumpy()
        return len(found["ts"].tolist()), len(found["value"].tolist())

    return ask


# --- what the table says ----------------------------------------------------------------

WHAT = f"cold query, one sensor-day at 1 Hz, two metrics, {DELAY_S * 1000:.0f} ms added to each request"


def _twice_row(took_s: dict[str, list[float]], costs: dict[str, tuple[int, int]]) -> Row:
    ratios = [spent_s / (2 * DELAY_S) for spent_s in took_s["ours"]]
    return Row(
        figure=f"{WHAT}: time",
        value=median(ratios),
        unit="x",
        against="twice the delay",
        goal=f"<= {TWICE_GOAL}x",
        met=median(ratios) <= TWICE_GOAL,
        spread=(min(ratios), max(ratios)),
        numbers={
            "ms": median(took_s["ours"]) * 1000,
            "of one metric of two, ms": median(took_s[ONE]) * 1000,
            "requests": costs["ours"][0],
            "KiB": costs["ours"][1] / 1024,
        },
    )


def _engine_row(name: str, took_s: dict[str, list[float]], costs: dict[str, tuple[int, int]]) -> Row:
    ratios = [ours / theirs for ours, theirs in zip(took_s["ours"], took_s[name], strict=True)]
    return Row(
        figure=f"{WHAT}: time over that of {name}",
        value=median(ratios),
        unit="x",
        against=f"{name}, the same object on the same server, times and values as lists",
        goal="<= 1x",
        met=median(ratios) <= 1,
        spread=(min(ratios), max(ratios)),
        numbers={
            "ms": median(took_s["ours"]) * 1000,
            f"{name}, ms": median(took_s[name]) * 1000,
            f"{name}, requests": costs[name][0],
            f"{name}, KiB": costs[name][1] / 1024,
        },
    )
