"""Rows on storing: readings per core-second of the batch door, against the usual handler."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks import workload
from benchmarks.measure import Row, on_one_core, take_turns
from benchmarks.noop_server import REGION, TABLE, NoopServer
from benchmarks.usual import Usual
from ingest.stores.connect import client
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryColdStore
from ingest.stores.registry import DynamoRegistry
from ingest.stores.rejects import S3RejectStore
from lambdas.store_readings import handle

SENSORS = 100
READINGS_EACH = 100
ROUNDS = 7
REPEAT = 12
COLUMNAR_GOAL = 100
SINGLE_GOAL = 40
LONG_MS = 600_000
PER_CORE = "readings per core-second"
"""Name of the absolute speed among a row's numbers."""


def rows() -> list[Row]:
    """Columnar runs, and single JSON objects."""
    fleet = workload.fleet(SENSORS, READINGS_EACH)
    objects = workload.single(fleet)
    arrived_ms = workload.arrival_ms(fleet)
    plain = workload.event([payload for _, payload in objects], arrived_ms)
    with NoopServer() as server, on_one_core([server.pid]):
        usual = Usual(server.endpoint_url)
        return [
            _row(
                "storing columnar runs of 100 readings",
                COLUMNAR_GOAL,
                _event(workload.columnar(fleet), arrived_ms),
                plain,
                server,
                usual,
            ),
            _row(
                "storing single JSON objects, KPL-aggregated (100 sensors x 100 readings)",
                SINGLE_GOAL,
                _event(objects, arrived_ms),
                plain,
                server,
                usual,
            ),
        ]


def _event(payloads: Sequence[tuple[str, bytes]], arrived_ms: int) -> dict[str, Any]:
    (records,) = workload.aggregated(payloads, 1)
    return workload.event(records, arrived_ms)


def _row(
    figure: str,
    goal: int,
    event: Mapping[str, Any],
    plain: Mapping[str, Any],
    server: NoopServer,
    usual: Usual,
) -> Row:
    readings = SENSORS * READINGS_EACH
    door = batch_door(server, event, readings)
    if usual.store(plain) != readings:
        raise RuntimeError("the usual handler did not store every reading")
    paired = take_turns(door, lambda: usual.store(plain), ROUNDS, REPEAT)
    ratio, spread = paired.ratio()
    ours, theirs = readings / paired.ours_median_s, readings / paired.usual_median_s
    return Row(
        figure=figure,
        value=ratio,
        unit="x",
        against="readings per core-second of the usual handler",
        goal=f">= {goal}x",
        met=ratio >= goal,
        spread=spread,
        numbers={PER_CORE: ours, "usual handler": theirs},
    )


def batch_door(server: NoopServer, event: Mapping[str, Any], readings: int) -> Callable[[], object]:
    """The batch door over the real stores; every call stores the event and checks that all of it went."""
    dynamodb = client("dynamodb", endpoint_url=server.endpoint_url, region=REGION)
    hot = DynamoHotStore(dynamodb, TABLE, time.sleep, random.random)
    registry = DynamoRegistry(dynamodb, TABLE)
    rejects = S3RejectStore(MemoryColdStore())
    layout = workload.layout()
    now_s = workload.START_S + READINGS_EACH + 2

    def store() -> None:
        stored = handle(event, hot, registry, rejects, layout, now_s, lambda: LONG_MS)
        if stored.readings != readings or stored.rejects:
            raise RuntimeError(f"the door stored {stored.readings} of {readings} readings")

    return store
