"""Rows on queries of the hot tier beside databases that hold the same readings: VictoriaMetrics and SQLite."""

from __future__ import annotations

import http.client
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlencode

import msgspec

from benchmarks import hot_query, workload
from benchmarks.hot_query import HOUR_S
from benchmarks.measure import Row
from benchmarks.noop_server import HOST, REGION, NoopServer
from ingest.keys import US
from ingest.reading import Run
from ingest.stores.connect import client

SENSORS = 100
CHUNK_READINGS = 300
ROUNDS = 15
REPEAT = 10
EVERY_S = 60
AIM = 0.5
SERVER = "victoria-metrics"
START_S = 30

Hour = Callable[[], object]
"""Reads one sensor-hour, or its means by minute, into lists."""


def rows() -> list[Row]:
    """An hour and an hour by minute, against each peer that can be had here."""
    fleet = workload.fleet(SENSORS, HOUR_S)
    run = fleet[SENSORS // 2]
    made: list[Row] = []
    with NoopServer() as server, tempfile.TemporaryDirectory() as folder:
        server.answer("Query", hot_query.page_of(hot_query.chunks_of(run, CHUNK_READINGS)))
        dynamodb = client("dynamodb", endpoint_url=server.endpoint_url, region=REGION)
        ours = hot_query.reader(run, dynamodb), hot_query.reader(run, dynamodb, EVERY_S * US)
        with _victoria(fleet, run, Path(folder)) as theirs:
            if theirs:
                made.extend(_pair("VictoriaMetrics", ours, theirs, aim=True))
            else:
                print(
                    f"  left out: {SERVER} is not installed (Debian has a package of that name)", flush=True
                )
        made.extend(_pair("SQLite", ours, _sqlite(fleet, run, Path(folder)), aim=False))
    return made


def _pair(name: str, ours: Sequence[Hour], theirs: Sequence[Hour], *, aim: bool) -> Iterator[Row]:
    for what, our_read, their_read in zip(("one hour", "one hour by minute"), ours, theirs, strict=True):
        our_s, their_s, our_cpu_s, their_cpu_s = _in_turns(our_read, their_read)
        ratios = [a / b for a, b in zip(our_s, their_s, strict=True)]
        yield Row(
            figure=f"hot query, {what} of one sensor at 1 Hz, beside {name}",
            value=median(ratios),
            unit="x",
            against=f"time until the client has {name}'s answer in lists; DynamoDB's own time is not in ours",
            goal=f"aim: <= {AIM}x" if aim else None,
            met=median(ratios) <= AIM if aim else None,
            spread=(min(ratios), max(ratios)),
            numbers={
                "ms": median(our_s) * 1000,
                f"{name}, ms": median(their_s) * 1000,
                "CPU of the client, ms": median(our_cpu_s) * 1000,
                f"{name}'s client, ms": median(their_cpu_s) * 1000,
            },
        )


def _in_turns(*sides: Hour) -> tuple[list[float], ...]:
    """Seconds per call of both sides, round by round, then CPU seconds of this process alike."""
    wall_s: tuple[list[float], ...] = tuple([] for _ in sides)
    cpu_s: tuple[list[float], ...] = tuple([] for _ in sides)
    for side in sides:
        side()
    for _ in range(ROUNDS):
        for side, side_wall_s, side_cpu_s in zip(sides, wall_s, cpu_s, strict=True):
            began_s, began_cpu_s = time.perf_counter(), time.process_time()
            for _ in range(REPEAT):
                side()
            side_wall_s.append((time.perf_counter() - began_s) / REPEAT)
            side_cpu_s.append((time.process_time() - began_cpu_s) / REPEAT)
    return *wall_s, *cpu_s


# --- VictoriaMetrics --------------------------------------------------------------------


@contextmanager
def _victoria(fleet: Sequence[Run], run: Run, folder: Path) -> Generator[tuple[Hour, Hour] | None]:
    """Both reads over a server of its own that holds the fleet; None where it is not installed."""
    program = shutil.which(SERVER)
    if program is None:
        yield None
        return
    with socket.create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    command = [
        program,
        f"-storageDataPath={folder / 'victoria'}",
        f"-httpListenAddr={HOST}:{port}",
        "-retentionPeriod=100y",
        "-loggerLevel=ERROR",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        connection = _connected(port)
        for stored in fleet:
            _ask(connection, "/api/v1/import", body=b"\n".join(_lines(stored)))
        _ask(connection, "/internal/force_flush")
        yield _victoria_reads(connection, run)
        connection.close()
    finally:
        process.terminate()
        process.wait()


def _connected(port: int) -> http.client.HTTPConnection:
    ends_s = time.monotonic() + START_S
    while True:
        connection = http.client.HTTPConnection(HOST, port)
        try:
            _ask(connection, "/health")
        except OSError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.05)
        else:
            return connection


def _ask(connection: http.client.HTTPConnection, path: str, body: bytes | None = None) -> bytes:
    connection.request("GET" if body is None else "POST", path, body)
    answer = connection.getresponse()
    found = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{SERVER} answered {answer.status} to {path.partition('?')[0]}: {found[:200]!r}")
    return found


def _lines(run: Run) -> Iterator[bytes]:
    """The run as JSON lines of VictoriaMetrics' own import, a line per metric."""
    timestamps = [ts_us // 1000 for ts_us in run.ts_us]
    for name, column in run.metrics.items():
        metric = {"__name__": name, "sensor": run.sensor_id}
        yield msgspec.json.encode({"metric": metric, "values": column, "timestamps": timestamps})


def _victoria_reads(connection: http.client.HTTPConnection, run: Run) -> tuple[Hour, Hour]:
    series = f'{{sensor="{run.sensor_id}"}}'
    start_s = run.ts_us[0] // US
    hour = {"match[]": series, "start": start_s, "end": start_s + HOUR_S - 1}
    means = f"avg_over_time({series}[{EVERY_S}s])"
    # A point of avg_over_time looks back from its instant, both ends counted by the millisecond.
    minutes = {
        "query": means,
        "start": start_s + EVERY_S - 1,
        "end": start_s + HOUR_S - 1,
        "step": EVERY_S,
        "nocache": 1,
    }
    export = f"/api/v1/export?{urlencode(hour)}"
    by_minute = f"/api/v1/query_range?{urlencode(minutes)}"

    def read_hour() -> list[dict[str, Any]]:
        return [msgspec.json.decode(line) for line in _ask(connection, export).splitlines()]

    def read_minutes() -> dict[str, dict[str, list[dict[str, list[object]]]]]:
        return msgspec.json.decode(_ask(connection, by_minute))

    found = {str(line["metric"]["__name__"]): line["values"] for line in read_hour()}
    if found != run.metrics:
        raise RuntimeError("VictoriaMetrics did not give back what was stored")
    if [len(line["values"]) for line in read_minutes()["data"]["result"]] != [HOUR_S // EVERY_S] * 2:
        raise RuntimeError("VictoriaMetrics gave other than a mean for each minute")
    return read_hour, read_minutes


# --- SQLite -----------------------------------------------------------------------------


def _sqlite(fleet: Sequence[Run], run: Run, folder: Path) -> tuple[Hour, Hour]:
    """Both reads over a file that holds the fleet, a row per reading in the order of sensor and time."""
    names = sorted(run.metrics)
    database = sqlite3.connect(folder / "readings.sqlite")
    columns = ", ".join(f"{name} REAL" for name in names)
    database.execute(
        f"CREATE TABLE readings (sensor INTEGER, ts INTEGER, {columns}, PRIMARY KEY (sensor, ts)) WITHOUT ROWID"
    )
    with database:
        for number, stored in enumerate(fleet):
            cells = zip(stored.ts_us, *(stored.metrics[name] for name in names), strict=True)
            database.executemany(
                "INSERT INTO readings VALUES (?, ?, ?, ?)", ((number, *row) for row in cells)
            )
    picked = list(names)
    number = fleet.index(run)
    where = "FROM readings WHERE sensor = ? AND ts >= ? AND ts < ?"
    asked = (number, run.ts_us[0], run.ts_us[0] + HOUR_S * US)
    hour = f"SELECT ts, {', '.join(picked)} {where} ORDER BY ts"
    means = ", ".join(f"avg({name})" for name in picked)
    minutes = f"SELECT ts / {EVERY_S * US} AS minute, {means} {where} GROUP BY minute ORDER BY minute"

    def read_hour() -> list[tuple[float, ...]]:
        return list(zip(*database.execute(hour, asked), strict=True))

    def read_minutes() -> list[tuple[float, ...]]:
        return list(zip(*database.execute(minutes, asked), strict=True))

    if list(map(list, read_hour())) != [run.ts_us, *(run.metrics[name] for name in names)]:
        raise RuntimeError("SQLite did not give back what was stored")
    if len(read_minutes()[0]) != HOUR_S // EVERY_S:
        raise RuntimeError("SQLite gave other than a mean for each minute")
    return read_hour, read_minutes
