"""Lanes: which sensors travel together, and their runs packed into Kinesis records; sends nothing."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ingest.errors import BadInput
from ingest.reading import Run, take
from ingest.wire_encode import encode_run

RECORD_BYTES = 1024 * 1024
"""The most a record holds, its partition key included ("PutRecords", Amazon Kinesis API Reference)."""
AIM_BYTES = 256 * 1024
"""Size at which an aggregated record is full: small enough that many fit one Lambda event."""
PIECE_READINGS = 2_000
PIECE_BYTES = 200_000
"""A longer run travels as several user records, in order."""

OnAccepted = Callable[[Run], None]


def _aggregation() -> Any:
    """The module that packs user records. It puts itself on sys.path; that is undone here."""
    path = list(sys.path)
    try:
        return importlib.import_module("aws_kinesis_agg.aggregator")
    finally:
        sys.path[:] = path


_aggregator = _aggregation()


@dataclass(slots=True, eq=False)
class Delivery:
    """A run under way; `left` of its pieces are not accepted yet."""

    run: Run
    on_accepted: OnAccepted | None
    left: int


@dataclass(slots=True, eq=False)
class Record:
    """A Kinesis record ready to be sent, and what it takes along (a delivery once per piece).

    `tried_s` is when it was first sent, `not_before_s` when it may be sent again.
    """

    data: bytes
    readings: int
    deliveries: list[Delivery]
    tries: int = 0
    tried_s: float | None = None
    not_before_s: float = 0.0


@dataclass(slots=True, eq=False)
class Lane:
    """Records of some sensors in the order in which they must be accepted.

    `ready` ones can be sent; a further one is open, and takes user records until it is full.
    """

    key: str
    ready: deque[Record] = field(default_factory=deque[Record])
    ready_bytes: int = 0
    open_bytes: int = 0
    _packing: Any = None
    _readings: int = 0
    _deliveries: list[Delivery] = field(default_factory=list[Delivery])

    def add(self, payload: bytes, readings: int, delivery: Delivery) -> None:
        """Append one user record. One that is long travels alone, not aggregated."""
        if len(payload) > PIECE_BYTES:
            self.close()
            self._append(Record(payload, readings, [delivery]))
            return
        if self._packing is None or not self._packing.add_user_record(self.key, payload):
            self.close()
            self._packing = _aggregator.AggRecord(AIM_BYTES)
            self._packing.add_user_record(self.key, payload)
        self.open_bytes += len(payload)
        self._readings += readings
        self._deliveries.append(delivery)

    def close(self) -> None:
        """Make the open record, if there is one, ready."""
        if self._packing is not None:
            data: bytes = self._packing.get_contents()[2]
            self._append(Record(data, self._readings, self._deliveries))
            self._packing, self.open_bytes, self._readings, self._deliveries = None, 0, 0, []

    def accepted(self) -> Record:
        """Take the first ready record away: it is where it belongs."""
        record = self.ready.popleft()
        self.ready_bytes -= len(record.data)
        return record

    def next_bytes(self) -> int:
        """What the first ready record adds to a call, its partition key included."""
        return len(self.ready[0].data) + len(self.key)

    def deliveries(self) -> Iterator[Delivery]:
        """What is under way in this lane, in order; a delivery once per piece."""
        for record in self.ready:
            yield from record.deliveries
        yield from self._deliveries

    def _append(self, record: Record) -> None:
        self.ready.append(record)
        self.ready_bytes += len(record.data)


def lane_of(sensor_id: str, lanes: int) -> int:
    """The lane of a sensor, `[0, lanes)`: the same in every process and on every machine."""
    digest = hashlib.blake2b(sensor_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") * lanes >> 64


def lane_keys(lanes: int) -> list[str]:
    """One partition key per lane, such that the lanes lie evenly over the shards.

    Kinesis places a record by the MD5 of its key ("Amazon Kinesis Data Streams terminology
    and concepts"): the hash of key `i` lies in the i-th of `lanes` equal parts of its range.
    Raises BadInput where `lanes` is below 1.
    """
    if lanes < 1:
        raise BadInput(f"lanes: {lanes} cannot be used; give 1 or more.")
    keys: dict[int, str] = {}
    number = 0
    while len(keys) < lanes:
        key = f"lane-{number}"
        hashed = hashlib.md5(key.encode(), usedforsecurity=False).digest()
        keys.setdefault(int.from_bytes(hashed, "big") * lanes >> 128, key)
        number += 1
    return [keys[lane] for lane in range(lanes)]


def pieces(run: Run) -> Iterator[tuple[bytes, int]]:
    """The run as payloads and how many readings each holds, in order.

    Raises BadInput where one reading is longer than a record.
    """
    for start in range(0, len(run.ts_us), PIECE_READINGS):
        yield from _halved(take(run, start, start + PIECE_READINGS))


def _halved(run: Run) -> Iterator[tuple[bytes, int]]:
    payload = encode_run(run)
    readings = len(run.ts_us)
    if len(payload) > PIECE_BYTES and readings > 1:
        yield from _halved(take(run, 0, readings // 2))
        yield from _halved(take(run, readings // 2, readings))
        return
    if len(payload) > RECORD_BYTES - 1024:
        raise BadInput(
            f"sensor {run.sensor_id}: its reading at {run.ts_us[0]} µs takes {len(payload)} bytes, "
            "and a Kinesis record holds 1 MiB; shorten its texts."
        )
    yield payload, readings
