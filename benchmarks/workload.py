"""What is stored and read in the measurements: fleets, Lambda events, and the real series."""

from __future__ import annotations

import base64
import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ingest.keys import DAY_S, US, Layout, Period, first_layout
from ingest.reading import Column, Run, Value, number
from ingest.wire_encode import encode_reading
from sensors.lanes import Delivery, Lane, lane_keys, lane_of, pieces
from sensors.simulator import Faults, Fleet, truth

START_S = 1_763_676_000
"""When the made-up fleets begin: 2025-11-20T22:00:00Z, the start of an hour."""
SEED = 7
SERIES = Path(__file__).resolve().parents[2] / "shared" / "data"
STREAM = "arn:aws:kinesis:us-east-1:000000000000:stream/readings"


def layout() -> Layout:
    """Widths and retentions as `thermocline up` has them: buckets of an hour."""
    return first_layout(Period(0, 3_600, DAY_S, 7 * DAY_S, 5 * 365 * DAY_S))


def fleet(sensors: int, seconds: int, jitter_ms: int = 0) -> list[Run]:
    """Temperature and humidity of a made-up fleet at 1 Hz, one run per sensor; each reading up to so late or early."""
    faults = Faults(jitter=1.0 if jitter_ms else 0.0)
    made = Fleet(sensors, 1.0, START_S * US, seconds * US, SEED, faults=faults, jitter_ms=jitter_ms)
    return list(truth(made).values())


def arrival_ms(runs: Sequence[Run]) -> int:
    """A second after the last reading."""
    return max(run.ts_us[-1] for run in runs) // 1000 + 1_000


# --- records and events -----------------------------------------------------------------


def columnar(runs: Iterable[Run]) -> list[tuple[str, bytes]]:
    """Sensor and payload of every run, as our publisher sends them."""
    return [(run.sensor_id, payload) for run in runs for payload, _ in pieces(run)]


def single(runs: Sequence[Run]) -> list[tuple[str, bytes]]:
    """Sensor and payload of every reading, one JSON object each, in the order they were taken."""
    payloads: list[tuple[str, bytes]] = []
    for place in range(max(len(run.ts_us) for run in runs)):
        for run in runs:
            if place < len(run.ts_us):
                cells: dict[str, Value | None] = {name: of[place] for name, of in run.metrics.items()}
                metrics = {name: cell for name, cell in cells.items() if cell is not None}
                payloads.append((run.sensor_id, encode_reading(run.sensor_id, run.ts_us[place], metrics)))
    return payloads


def aggregated(payloads: Iterable[tuple[str, bytes]], lanes: int) -> list[list[bytes]]:
    """The payloads as KPL-aggregated records, packed as our publisher packs them: a list per lane."""
    packing = [Lane(key) for key in lane_keys(lanes)]
    nothing = Delivery(Run("s", [], {}, 0), None, 0)
    for sensor_id, payload in payloads:
        packing[lane_of(sensor_id, lanes)].add(payload, 1, nothing)
    for lane in packing:
        lane.close()
    return [[record.data for record in lane.ready] for lane in packing if lane.ready]


def event(records: Iterable[bytes], arrived_ms: int) -> dict[str, Any]:
    """What Lambda hands a function for these records ("Using AWS Lambda with Amazon Kinesis")."""
    return {"Records": [_entry(place, data, arrived_ms) for place, data in enumerate(records)]}


def _entry(place: int, data: bytes, arrived_ms: int) -> dict[str, Any]:
    sequence = f"495903382714902566{place:038d}"
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "lane-0",
            "sequenceNumber": sequence,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": arrived_ms / 1000,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/store-readings",
        "awsRegion": "us-east-1",
        "eventSourceARN": STREAM,
    }


# --- the real series --------------------------------------------------------------------


def series() -> list[Run]:
    """The real series (`ts_ms,value`) beside the checkout, by name; none where the folder is missing."""
    return [_read(path) for path in sorted(SERIES.glob("*.csv"))]


def _read(path: Path) -> Run:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ts_us = [int(row["ts_ms"]) * 1_000 for row in rows]
    column: Column = [number(row["value"]) for row in rows]
    return Run(path.stem, ts_us, {"value": column}, 0)
