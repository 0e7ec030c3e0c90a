"""Rows on storing: readings per core-second of the batch door, against the usual handler."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from benchmarks import workload
from benchmarks.measure import Row, on_one_core, take_turns
from benchmarks.noop_server import REGION, TABLE, NoopServer
from benchmarks.usual import Usual
from ingest.reading import Run
from ingest.stores.connect import client
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryColdStore
from ingest.stores.registry import DynamoRegistry
from ingest.stores.rejects import S3RejectStore
from lambdas.store_readings import handle

SENSORS = 100
READINGS_EACH = 100
READINGS = SENSORS * READINGS_EACH
ROUNDS = 7
REPEAT = 12
COLUMNAR_GOAL = 100
SINGLE_GOAL = 40
WITH_EVENT_GOAL = 18
DECODING_GOAL = 0.12
LONG_MS = 600_000
PER_CORE = "readings per core-second"
"""Name of the absolute speed among a row's numbers."""
USUAL = "readings per core-second of the usual handler"
_Call = Callable[[], object]


def rows() -> list[Row]:
    """Columnar runs, and single JSON objects; each against the usual handler, and columnar against decoding alone."""
    fleet = workload.fleet(SENSORS, READINGS_EACH)
    objects = workload.single(fleet)
    arrived_ms = workload.arrival_ms(fleet)
    plain = workload.event([payload for _, payload in objects], arrived_ms)
    runs, singles = _event(workload.columnar(fleet), arrived_ms), _event(objects, arrived_ms)
    with NoopServer() as server, on_one_core([server.pid]):
        usual = Usual(server.endpoint_url)

        def store_usual() -> None:
            if usual.store(plain) != READINGS:
                raise RuntimeError("the usual handler did not store every reading")

        store_runs, store_singles = (batch_door(server, event, READINGS) for event in (runs, singles))
        return [
            _against_usual("storing columnar runs of 100 readings", COLUMNAR_GOAL, store_runs, store_usual),
            _against_usual(
                "storing single JSON objects, KPL-aggregated (100 sensors x 100 readings)",
                SINGLE_GOAL,
                store_singles,
                store_usual,
            ),
            _against_usual(
                "storing single JSON objects, KPL-aggregated, json.loads of the event counted",
                WITH_EVENT_GOAL,
                _after_parsing(singles, store_singles),
                _after_parsing(plain, store_usual),
                f"{USUAL}, json.loads of its event counted",
            ),
            _against_usual(
                "storing single JSON objects, a Kinesis record each, json.loads of the event counted",
                None,
                _after_parsing(plain, batch_door(server, plain, READINGS)),
                _after_parsing(plain, store_usual),
                f"{USUAL}, json.loads of the same event counted",
            ),
            _against_decoding(store_runs, workload.event(_payloads(fleet), arrived_ms)),
        ]


def _payloads(fleet: Sequence[Run]) -> list[bytes]:
    return [payload for _, payload in workload.columnar(fleet)]


def _event(payloads: Sequence[tuple[str, bytes]], arrived_ms: int) -> dict[str, Any]:
    (records,) = workload.aggregated(payloads, 1)
    return workload.event(records, arrived_ms)


def _after_parsing(event: Mapping[str, Any], store: _Call) -> _Call:
    """Stores after parsing the event's text, as the managed runtime does before it calls the handler."""
    text = json.dumps(event)

    def parse_and_store() -> None:
        json.loads(text)
        store()

    return parse_and_store


def _against_usual(figure: str, goal: int | None, door: _Call, usual: _Call, against: str = USUAL) -> Row:
    paired = take_turns(door, usual, ROUNDS, REPEAT)
    ratio, spread = paired.ratio()
    numbers = {PER_CORE: READINGS / paired.ours_median_s, "usual handler": READINGS / paired.usual_median_s}
    told = None if goal is None else f">= {goal}x"
    return Row(figure, ratio, "x", against, told, None if goal is None else ratio >= goal, spread, numbers)


def _against_decoding(door: _Call, event: Mapping[str, Any]) -> Row:
    """The door beside what no door can do without: base64, and JSON into columns, which all are held at the end."""
    decoder = msgspec.json.Decoder(_Columns)
    texts = [record["kinesis"]["data"] for record in event["Records"]]

    def decode() -> list[_Columns]:
        return [decoder.decode(msgspec.convert(text, bytes)) for text in texts]

    def decode_and_forget() -> None:
        for text in texts:
            decoder.decode(msgspec.convert(text, bytes))

    paired = take_turns(door, lambda: [decode() for _ in range(REPEAT)], ROUNDS, REPEAT)
    forgetful = take_turns(door, lambda: [decode_and_forget() for _ in range(REPEAT)], ROUNDS, REPEAT)
    share, spread = paired.ratio(usual_work=REPEAT)
    return Row(
        figure="storing columnar runs of 100 readings, as a share of decoding them",
        value=share,
        unit="x",
        against="base64 and JSON into columns alone, the columns held until all are there",
        goal=f">= {DECODING_GOAL}x",
        met=share >= DECODING_GOAL,
        spread=spread,
        numbers={
            PER_CORE: READINGS / paired.ours_median_s,
            "decoding": READINGS * REPEAT / paired.usual_median_s,
            "decoding, each run dropped at once": READINGS * REPEAT / forgetful.usual_median_s,
            "share of that": forgetful.ratio(usual_work=REPEAT)[0],
        },
    )


class _Columns(msgspec.Struct, gc=False):
    """A columnar run, as little looked at as a decoder can."""

    sensor_id: str
    t0_us: int
    dt_us: list[int] | int
    metrics: dict[str, list[int | float]]


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
