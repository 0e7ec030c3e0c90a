"""What passes between `rejects retry` and the batch door: payloads of rejects as an event's records, and the
answer that says what is still wrong with them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ingest import keys
from ingest.envelope import MOST_ADDRESS_BYTES, address, is_addressed
from ingest.keys import Layout
from ingest.kinesis_records import KPL_MAGIC, Record, failures, records
from ingest.reject import Reject
from ingest.stores import HotStore, Registry, RemainingMs
from ingest.write import LEAST_GROUP_MS, Stored, store_batch
from ingest.write_unknown import ClosedRegistry

SOURCE = "thermocline.retry"
"""`source` of the events that carry rejects."""
MOST_PROBLEMS = 2_100
"""How many problems of one payload are told apart; a user record has fewer."""
_RECORD_BYTES = 400
"""More than an event's record weighs beside its data."""

Told = Mapping[str, Mapping[str, int]]
"""What is wrong with a payload: reason, then mark of the part, then how many values or readings."""


# --- payloads of rejects ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Payload:
    """The bytes that one or several rejects of a user record share, as the record of an event."""

    rejects: list[Reject]
    sequence: str
    data: str

    @property
    def size_bytes(self) -> int:
        """What its record weighs in an event, at most."""
        return len(json.dumps(self.data)) + _RECORD_BYTES

    def record(self, at_ms: int) -> dict[str, Any]:
        """The record Lambda would deliver, from a shard of the attempt's own.

        Under its own shard and sequence it could make the batch id of a batch that once held its
        record, and take the place of that batch's chunk. The attempt's time keeps one attempt
        from taking the place of another's, made by an earlier or later release.
        """
        first = self.rejects[0]
        kinesis: dict[str, Any] = {"sequenceNumber": self.sequence, "data": self.data}
        if first.arrival_ms:
            kinesis["approximateArrivalTimestamp"] = first.arrival_ms / 1000
        return {
            "eventID": f"retry-{at_ms}:{self.sequence}",
            "eventSourceARN": first.stream_arn,
            "kinesis": kinesis,
        }


def payloads_of(rejects: Iterable[Reject]) -> list[Payload]:
    """The rejects of one object by the bytes they share; each problem of a user record is in one object."""
    shared: dict[str, list[Reject]] = {}
    for reject in rejects:
        place = f"{place_of(reject)[0]}/{reject.sha256}"
        name = keys.reject_id(reject.stream_arn, reject.shard_id, reject.sequence, place)
        shared.setdefault(name, []).append(reject)
    return [Payload(held, name, _data(held)) for name, held in shared.items()]


def _data(rejects: Sequence[Reject]) -> str:
    """What stood in the event's `data`: the payload, in what it came in where that decides how it is read."""
    first = rejects[0]
    payload = first.payload
    if any(reject.reason == "bad_base64" for reject in rejects):
        return payload.decode(errors="replace")
    sensor = _addressed_to(rejects)
    if sensor is not None:
        cut = len(payload) >= MOST_ADDRESS_BYTES and any(reject.reason == "too_large" for reject in rejects)
        payload = address(sensor, payload + b"\0" if cut else payload)
    elif payload.startswith(KPL_MAGIC) and not _is_stream_record(rejects):
        payload = _aggregate_of_one(payload)
    return base64.b64encode(payload).decode()


def _addressed_to(rejects: Sequence[Reject]) -> str | None:
    """The sensor that an MQTT topic named. Only an addressed payload can be a `sensor_mismatch`: it
    must never be stored for the sensor that it names itself."""
    for reject in rejects:
        if reject.addressed_to is not None:
            return reject.addressed_to
        if reject.reason == "sensor_mismatch" and not is_addressed(reject.payload):
            return reject.sensor_id or ""
    return None


def _is_stream_record(rejects: Sequence[Reject]) -> bool:
    """Whether the payload is a whole stream record, which may be an aggregate."""
    first = rejects[0]
    known = first.stream_arn and first.shard_id and first.sequence and first.arrival_ms
    whole = any(reject.reason.startswith("kpl_") or reject.reason == "unexpected" for reject in rejects)
    return whole or not known


def _aggregate_of_one(payload: bytes) -> bytes:
    """An aggregated record that holds one user record: what keeps a payload from being taken for one itself."""
    record = b"\x08\x00\x1a" + _varint(len(payload)) + payload
    message = b"\x0a\x01-\x1a" + _varint(len(record)) + record
    return KPL_MAGIC + message + hashlib.md5(message, usedforsecurity=False).digest()


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)


# --- at the door ------------------------------------------------------------------------


class _Collector:
    """Keeps rejects in memory: those of a retry are kept already."""

    def __init__(self) -> None:
        self.rejects: list[Reject] = []

    def keep(self, name: str, rejects: Sequence[Reject]) -> None:
        """Remember the rejects."""
        del name
        self.rejects.extend(rejects)


def is_retry(event: Mapping[str, Any]) -> bool:
    """Whether an event carries rejects and is to be answered by `store_again`."""
    return event.get("source") == SOURCE


def store_again(
    event: Mapping[str, Any],
    *,
    hot: HotStore,
    registry: Registry | ClosedRegistry,
    layout: Layout,
    now_s: int,
    remaining_ms: RemainingMs,
    codec: str = "list",
) -> tuple[Stored, dict[str, Any]]:
    """Store what the event's records hold, keep no reject, and answer what is still wrong.

    The answer is a partial batch response with `retried`: by the sequence of each record that was
    dealt with, its problems (Told). Payloads of different arrivals are stored apart: a chunk has one
    arrival, the greatest of its values, and none may gain on a correction that came after it.
    Raises Unavailable.
    """
    stored = Stored()
    told: dict[str, dict[str, dict[str, int]]] = {}
    by_arrival = sorted(records(event), key=lambda record: (record.arrival_ms, record.stream_arn))
    for _, found in groupby(by_arrival, key=lambda record: (record.arrival_ms, record.stream_arn)):
        together = list(found)
        if told and remaining_ms() < LEAST_GROUP_MS:
            stored.failed_sequence = together[0].sequence
            break
        kept = _Collector()
        done = store_batch(
            together,
            hot=hot,
            registry=registry,
            rejects=kept,
            layout=layout,
            now_s=now_s,
            remaining_ms=remaining_ms,
            codec=codec,
        )
        told |= _problems(together[: done.records], kept.rejects)
        _add(stored, done)
        if done.failed_sequence is not None:
            stored.failed_sequence = done.failed_sequence
            break
    return stored, {**failures(stored.failed_sequence), "retried": told}


def _problems(
    dealt_with: Sequence[Record], rejects: Sequence[Reject]
) -> dict[str, dict[str, dict[str, int]]]:
    told: dict[str, dict[str, dict[str, int]]] = {record.sequence: {} for record in dealt_with}
    for reject in rejects:
        marks = told[reject.sequence].setdefault(reject.reason, {})
        part = mark(place_of(reject)[1])
        marks[part] = marks.get(part, 0) + reject.count
    for by_reason in told.values():
        if sum(map(len, by_reason.values())) > MOST_PROBLEMS:
            by_reason.update({reason: {mark(""): sum(m.values())} for reason, m in by_reason.items()})
    return told


def _add(total: Stored, done: Stored) -> None:
    """Count what was stored; rejects are not counted a second time."""
    total.records += done.records
    total.readings += done.readings
    total.values += done.values
    total.chunks += done.chunks
    total.write_units += done.write_units
    total.sensors += done.sensors
    total.new_sensors += done.new_sensors
    if total.oldest_arrival_ms is None:  # the first is the oldest
        total.oldest_arrival_ms = done.oldest_arrival_ms


def place_of(reject: Reject) -> tuple[str, str]:
    """The user record's place in its stream record, and the part inside it, from `offset`."""
    index, _, rest = reject.offset.partition("/")
    return index, "" if rest == reject.reason else rest.removesuffix(f"/{reject.reason}")


def mark(part: str) -> str:
    """A part in few characters: names of metrics from a payload may be long."""
    return hashlib.sha256(part.encode(errors="surrogatepass")).hexdigest()[:12]
