"""The row on the whole embedded stack: how fast a fleet's readings become queryable, and where the time goes."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Row
from infra.local.stack import LocalOptions, LocalStack
from ingest.keys import DAY_S, US
from ingest.plan import Query
from ingest.query import Sources, answer
from ingest.reading import Span
from ingest.settings import Settings
from ingest.stores.connect import client, stores
from sensors import simulator
from sensors.publisher import Publisher

SENSORS = 1_000
SECONDS = 100
LANES = 20


@dataclass(frozen=True, slots=True)
class Took:
    """Wall seconds of the steps, and CPU seconds of the processes meanwhile."""

    start_s: float
    send_s: float
    store_s: float
    here_cpu_s: float
    emulator_cpu_s: float
    functions_cpu_s: float
    invocations: float


def rows(door_per_core_s: float) -> list[Row]:
    """The row, against the batch door's own speed in the same run (readings per core-second)."""
    took = _run()
    readings = SENSORS * SECONDS
    per_s = readings / (took.send_s + took.store_s)
    return [
        Row(
            figure=f"embedded stack, {readings:,} simulated readings from sent to queryable",
            value=per_s / door_per_core_s,
            unit="x",
            against="readings per core-second of the batch door, first row: what the emulator hides",
            numbers={
                "readings per second": per_s,
                "sending, s": took.send_s,
                "then until stored, s": took.store_s,
                "CPU of the emulator, s": took.emulator_cpu_s,
                "of the functions, s": took.functions_cpu_s,
                "of sender and event sources, s": took.here_cpu_s,
                "invocations": took.invocations,
                "starting the stack before, s": took.start_s,
            },
        )
    ]


def _run() -> Took:
    stack = LocalStack(LocalOptions(private=True))
    began_s = time.perf_counter()
    try:
        stack.start(lambda _: None)
        started_s = time.perf_counter()
        emulator, functions = _cpu_of_children()
        here_s = time.process_time()
        start_us = (int(time.time()) - SECONDS) * US
        fleet = simulator.Fleet(SENSORS, 1.0, start_us, SECONDS * US)
        _send(stack, fleet)
        sent_s = time.perf_counter()
        stack.store(lambda _: None)
        stored_s = time.perf_counter()
        here_s = time.process_time() - here_s
        emulator_after, functions_after = _cpu_of_children()
        _check(stack, fleet)
        counted = stack.status()["functions"]
        invocations = sum(of.get("Invocations", 0.0) for of in counted.values() if "ReadingsStored" in of)
    finally:
        stack.stop()
    return Took(
        started_s - began_s,
        sent_s - started_s,
        stored_s - sent_s,
        here_s,
        emulator_after - emulator,
        functions_after - functions,
        invocations,
    )


def _send(stack: LocalStack, fleet: simulator.Fleet) -> None:
    kinesis = client("kinesis", endpoint_url=stack.endpoint_url, region=stack.region)
    publisher = Publisher(
        kinesis,
        stack.outputs["StreamName"],
        lanes=LANES,
        now=time.monotonic,
        sleep=time.sleep,
        random=random.random,
    )
    for runs in simulator.runs(fleet, 600.0):
        publisher.publish(runs)


def _check(stack: LocalStack, fleet: simulator.Fleet) -> None:
    """Raise where a sensor's answer is not what it sent, or readings are missing in the count."""
    outputs = stack.outputs
    settings = Settings(outputs["TableName"], outputs["ArchiveBucket"], outputs["RejectsBucket"])
    found = stores(settings, endpoint_url=stack.endpoint_url, region=stack.region)
    layout = found.hot.load_layout()
    if layout is None:
        raise RuntimeError("the stack has no layout")
    sources = Sources(found.hot, found.catalog, found.cold, layout, time.perf_counter)
    span = Span(fleet.start_us, fleet.start_us + DAY_S * US)
    truth = simulator.truth(simulator.Fleet(1, 1.0, fleet.start_us, fleet.duration_us))
    for sensor_id, sent in truth.items():
        run = answer(Query(sensor_id, span), sources, time.time()).run
        if run is None or (run.ts_us, run.metrics) != (sent.ts_us, sent.metrics):
            raise RuntimeError(f"the answer for {sensor_id} is not what it sent")
    if stack.status()["readings"] != fleet.readings:
        raise RuntimeError("the stack did not count every reading as stored")


def _cpu_of_children() -> tuple[float, float]:
    """CPU seconds so far of the emulator, and of the functions in its process group; 0 without /proc."""
    tick_s = 1 / os.sysconf("SC_CLK_TCK")
    here = str(os.getpid())
    leaders: dict[str, float] = {}
    members: list[tuple[str, float]] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            spent_s = (int(fields[11]) + int(fields[12])) * tick_s
            if fields[1] == here and fields[2] == folder.name:
                leaders[folder.name] = spent_s
            else:
                members.append((fields[2], spent_s))
    return sum(leaders.values()), sum(spent_s for group, spent_s in members if group in leaders)
