"""A Lambda Kinesis event to records, a record to its user records (strict KPL), and the failure report."""

from __future__ import annotations

import binascii
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, cast

import msgspec

from ingest.reject import Problem

KPL_MAGIC = b"\xf3\x89\x9a\xc2"
"""What an aggregated record begins with ("KPL aggregated record format")."""
MOST_USER_RECORDS = 20_000
"""How many user records one aggregated record may hold."""
MOST_AGGREGATE_BYTES = 10 * 1024 * 1024
"""What one aggregated record may weigh: the largest record a stream can be set to take."""
MOST_ARRIVAL_MS = 253_402_300_800_000
"""10000-01-01T00:00:00Z, past which no date can be written."""

_SHORT_HEAD = Struct("6B")
"""Of a Record: tag, length; tag and value of the key index; tag and length of the data."""
_LONG_HEAD = Struct("8B")
"""The same with lengths of two bytes."""
_MD5_BYTES = 16
_MOST_VARINT_BYTES = 10
_LENGTH_DELIMITED = 2


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a stream as Lambda delivers it.

    `arrival_ms` is the stream's approximate arrival time (epoch milliseconds, 0 where
    unknown). Where `problem` is set the record cannot be used, and `data` is whatever is
    known of its bytes.
    """

    stream_arn: str
    shard_id: str
    sequence: str
    arrival_ms: int
    data: bytes
    problem: Problem | None


# --- the event --------------------------------------------------------------------------


def records(event: Mapping[str, Any]) -> list[Record]:
    """The records of a Lambda Kinesis event, in order. Never raises, whatever the event holds.

    Source: "Using AWS Lambda with Amazon Kinesis", the shape of the event.
    """
    entries = event.get("Records")
    if not isinstance(entries, list):
        return []
    listed = cast(list[object], entries)
    try:
        known = msgspec.convert(listed, list[_Entry])
    except (ValueError, RecursionError):  # ValidationError is a ValueError
        return [_record(entry) for entry in listed]
    return [_usual_record(one) or _record(entry) for one, entry in zip(known, listed, strict=True)]


class _Kinesis(msgspec.Struct, gc=False, rename="camel"):
    sequence_number: str
    data: bytes
    approximate_arrival_timestamp: int | float


class _Entry(msgspec.Struct, gc=False):
    """A record of an event as Lambda writes it; its data is taken out of base64 at once."""

    eventID: str  # noqa: N815 - the event's name
    eventSourceARN: str  # noqa: N815
    kinesis: _Kinesis


def _usual_record(entry: _Entry) -> Record | None:
    """The record where nothing is odd about it, else None."""
    kinesis = entry.kinesis
    shard_id, sequence, stream_arn = (
        entry.eventID.rpartition(":")[0],
        kinesis.sequence_number,
        entry.eventSourceARN,
    )
    if not (shard_id and sequence and stream_arn and entry.eventID.isascii()):
        return None
    arrival_ms = _arrival_ms(kinesis.approximate_arrival_timestamp)
    if arrival_ms is None or not sequence.isascii() or not stream_arn.isascii():
        return None
    return Record(stream_arn, shard_id, sequence, arrival_ms, kinesis.data, None)


def _record(entry: object) -> Record:
    fields = _mapping(entry)
    kinesis = _mapping(fields.get("kinesis"))
    shard_id, _, numbered = _text(fields.get("eventID")).rpartition(":")
    sequence = _text(kinesis.get("sequenceNumber")) or numbered
    stream_arn = _text(fields.get("eventSourceARN"))
    arrival_ms = _arrival_ms(kinesis.get("approximateArrivalTimestamp"))
    data, problem = _data(kinesis.get("data"))
    known = {"eventID": shard_id, "sequenceNumber": sequence, "eventSourceARN": stream_arn}
    missing = [name for name, text in known.items() if not text]
    if arrival_ms is None:
        missing.append("approximateArrivalTimestamp")
    if missing and problem is None:
        problem = Problem("missing_field", f"the event does not tell {', '.join(missing)}")
    return Record(stream_arn, shard_id, sequence, arrival_ms or 0, data, problem)


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) and value.isascii() else ""


def _arrival_ms(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    milliseconds = round(value * 1000)
    return milliseconds if 0 < milliseconds < MOST_ARRIVAL_MS else None


def _data(value: object) -> tuple[bytes, Problem | None]:
    if not isinstance(value, (str, bytes)):
        return b"", Problem("missing_field", "the event's record has no data")
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    try:
        return binascii.a2b_base64(raw, strict_mode=True), None
    except binascii.Error as error:
        return raw, Problem("bad_base64", f"data: {error}")


def failures(sequence: str | None) -> dict[str, list[dict[str, str]]]:
    """The partial batch response: the first sequence number that failed, None where all is stored.

    Lambda repeats the batch from there ("Configuring partial batch response with Kinesis
    Data Streams and Lambda").
    """
    return {"batchItemFailures": [] if sequence is None else [{"itemIdentifier": sequence}]}


# --- KPL aggregation --------------------------------------------------------------------


class _Malformed(Exception):
    """The aggregate is not valid: `reason` is a reject code."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def user_records(data: bytes) -> tuple[list[bytes], Problem | None]:
    """The user records of a Kinesis record: itself where it is plain, else what was aggregated in it.

    A record that begins with KPL_MAGIC must be valid to the last byte (checksum, message,
    indexes), else nothing is taken from it and the problem says why. Never raises.
    """
    if not data:
        return [], Problem("empty_record", "no bytes")
    if not data.startswith(KPL_MAGIC):
        return [data], None
    try:
        return _aggregated(data), None
    except _Malformed as error:
        return [], Problem(error.reason, str(error))


def _aggregated(data: bytes) -> list[bytes]:
    if len(data) > MOST_AGGREGATE_BYTES:
        raise _Malformed("kpl_limit", f"more than {MOST_AGGREGATE_BYTES} bytes")
    if len(data) < len(KPL_MAGIC) + _MD5_BYTES:
        raise _Malformed("kpl_truncated", f"{len(data)} bytes cannot hold magic and checksum")
    message = data[len(KPL_MAGIC) : -_MD5_BYTES]
    if hashlib.md5(message, usedforsecurity=False).digest() != data[-_MD5_BYTES:]:
        raise _Malformed("kpl_bad_md5", "the checksum does not fit the message")
    found = _Aggregate()
    _read_aggregate(message, found)
    if len(found.payloads) > MOST_USER_RECORDS:
        raise _Malformed("kpl_limit", f"more than {MOST_USER_RECORDS} user records")
    if not found.payloads:
        raise _Malformed("kpl_empty", "no user record")
    if found.most_key >= found.keys:
        raise _Malformed("kpl_bad_index", f"partition key {found.most_key} of {found.keys}")
    if found.most_hash_key >= found.hash_keys:
        raise _Malformed("kpl_bad_index", f"explicit hash key {found.most_hash_key} of {found.hash_keys}")
    return found.payloads


@dataclass(slots=True)
class _Aggregate:
    """What an AggregatedRecord held: sizes of its tables, greatest indexes into them, payloads."""

    keys: int = 0
    hash_keys: int = 0
    most_key: int = -1
    most_hash_key: int = -1
    payloads: list[bytes] = field(default_factory=list[bytes])


def _read_aggregate(message: bytes, found: _Aggregate) -> None:
    """AggregatedRecord: partition_key_table = 1, explicit_hash_key_table = 2 (texts), records = 3."""
    at, end = 0, len(message)
    while at < end:
        at = _read_usual_records(message, at, end, found)
        if len(found.payloads) > MOST_USER_RECORDS:
            raise _Malformed("kpl_limit", f"more than {MOST_USER_RECORDS} user records")
        if at >= end:
            return
        number, at, until = _field(message, at, end)
        if number == 3:
            _read_record(message, at, until, found)
        elif number in (1, 2):
            _check_text(message, at, until)
            found.keys += number == 1
            found.hash_keys += number == 2
        else:
            raise _Malformed("kpl_malformed", f"field {number} is not one of an AggregatedRecord")
        at = until


def _read_usual_records(message: bytes, at: int, end: int, found: _Aggregate) -> int:
    """Where the first Record begins that has another form than producers write, or something else; their payloads
    are taken.

    That form: a key index below 128, data, nothing else, and lengths of at most two bytes.
    """
    payloads, most_key = found.payloads, found.most_key
    short, long = _SHORT_HEAD.unpack_from, _LONG_HEAD.unpack_from
    last = end - _LONG_HEAD.size
    for _ in range(MOST_USER_RECORDS + 1 - len(payloads)):
        if at > last:
            break
        tag, length, key_tag, key, data_tag, size = short(message, at)
        start, until = at + 6, at + 2 + length
        if length >= 0x80:
            tag, length, more, key_tag, key, data_tag, size, more_size = long(message, at)
            start, until = at + 7, at + 3 + (length & 0x7F | more << 7)
            if size >= 0x80:
                start, size, more = at + 8, size & 0x7F | more_size << 7, more | more_size
            if more >= 0x80:
                break
        if start + size != until or tag != 0x1A or data_tag != 0x1A or key_tag != 0x08 or key >= 0x80:
            break
        if until > end:
            break
        payloads.append(message[start:until])
        if key > most_key:  # noqa: PLR1730 - max is a call, ten thousand times
            most_key = key
        at = until
    found.most_key = most_key
    return at


def _read_record(message: bytes, at: int, end: int, found: _Aggregate) -> None:
    """Record: partition_key_index = 1, explicit_hash_key_index = 2 (varints), data = 3, tags = 4."""
    key = hash_key = -1
    payload: bytes | None = None
    while at < end:
        tag = message[at]
        if tag == 0x08 and key < 0:
            key, at = _varint(message, at + 1, end)
        elif tag == 0x10 and hash_key < 0:
            hash_key, at = _varint(message, at + 1, end)
        elif tag == 0x1A and payload is None:
            _, start, at = _field(message, at, end)
            payload = message[start:at]
        elif tag == 0x22:
            _, start, at = _field(message, at, end)
            _check_tag(message, start, at)
        else:
            raise _Malformed("kpl_malformed", "a field of a Record is unknown or given twice")
    if key < 0 or payload is None:
        raise _Malformed("kpl_malformed", "a Record lacks its partition key or its data")
    found.most_key = max(found.most_key, key)
    found.most_hash_key = max(found.most_hash_key, hash_key)
    found.payloads.append(payload)


def _check_tag(message: bytes, at: int, end: int) -> None:
    """Tag: key = 1 (required), value = 2 (texts)."""
    seen: set[int] = set()
    while at < end:
        number, at, until = _field(message, at, end)
        if number not in (1, 2) or number in seen:
            raise _Malformed("kpl_malformed", "a field of a Tag is unknown or given twice")
        _check_text(message, at, until)
        seen.add(number)
        at = until
    if 1 not in seen:
        raise _Malformed("kpl_malformed", "a Tag lacks its key")


def _check_text(message: bytes, at: int, end: int) -> None:
    try:
        message[at:end].decode()
    except UnicodeDecodeError as error:
        raise _Malformed("kpl_malformed", "a key is not UTF-8") from error


def _field(message: bytes, at: int, end: int) -> tuple[int, int, int]:
    """Number, start and end of the length-delimited field whose tag stands at `at`."""
    tag, at = _varint(message, at, end)
    if tag & 7 != _LENGTH_DELIMITED:
        raise _Malformed("kpl_malformed", f"a field has wire type {tag & 7}")
    length, at = _varint(message, at, end)
    if length > end - at:
        raise _Malformed("kpl_malformed", "a field reaches beyond its message")
    return tag >> 3, at, at + length


def _varint(message: bytes, at: int, end: int) -> tuple[int, int]:
    """A base-128 number and the position after it ("Protocol Buffers: Encoding")."""
    value = 0
    for position in range(at, min(end, at + _MOST_VARINT_BYTES)):
        byte = message[position]
        value |= (byte & 0x7F) << (7 * (position - at))
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, position + 1
    raise _Malformed("kpl_malformed", "a number is cut short or longer than 64 bits")
