"""What is refused and why: the Reject value, its reasons, and the object a batch's rejects are kept in."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from ingest.envelope import GZIP_MAGIC, Unopened, inflate
from ingest.errors import Corrupt

VERSION = 1
"""Version of the object that `encode_rejects` makes."""
MOST_INFLATED_BYTES = 256 * 1024 * 1024
"""What one object of rejects may inflate to: far above what one Lambda event (6 MB) leads to."""

REASONS: dict[str, str] = {
    "bad_base64": "The record's data is not base64; look at what put the event together, then send it again.",
    "bad_line": "A line is not InfluxDB line protocol; the detail says at which column. Correct the sender.",
    "bad_metric_name": "A metric's name must match [A-Za-z_][A-Za-z0-9_.-]{0,63}; rename it at the sender.",
    "bad_sensor_id": (
        "A sensor id must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127} without `..` and empty path parts; "
        "rename it at the sender."
    ),
    "bad_timestamp": "The time cannot be read; send epoch milliseconds as a number or RFC 3339 text.",
    "empty_record": "The record holds nothing; find out why the sender sends empty payloads.",
    "inflate_failed": "The gzip or zstd envelope is damaged or cut short; send it again.",
    "inflate_limit": (
        "The payload inflates beyond 8 MiB, its stream record beyond 32 MiB, or it wears more than 2 envelopes; "
        "send smaller payloads."
    ),
    "int_too_long": "An integer has more than 38 digits, which DynamoDB cannot hold; send it as text.",
    "kpl_bad_index": "An aggregated record points outside its own key tables; update the sender's aggregation.",
    "kpl_bad_md5": "An aggregated record's MD5 does not fit its content: it was damaged on the way; send it again.",
    "kpl_empty": "An aggregated record holds no user record; update the sender's aggregation.",
    "kpl_limit": "An aggregated record holds more than 20,000 user records or 10 MiB; aggregate less.",
    "kpl_malformed": "An aggregated record is not the message it claims to be; update the sender's aggregation.",
    "kpl_truncated": "An aggregated record is too short to hold its checksum; send it again.",
    "length_mismatch": "A column is longer or shorter than the run's times; send one value (or null) per instant.",
    "missing_field": "A required field is missing; send sensor_id, a time and metrics.",
    "name_conflict": (
        "Two series of line protocol have a value for the same sensor, metric and instant, and only one can be kept; "
        "give each a tag sensor_id of its own."
    ),
    "no_metrics": "A reading has no metric with a value; send at least one, or do not send the reading.",
    "not_finite": "The value is NaN or infinite; leave the metric out where there is no measurement.",
    "not_json": "The payload is neither JSON nor line protocol; send one of the formats that FORMATS.md lists.",
    "not_utf8": "The payload or a text value is not valid UTF-8; encode it as UTF-8.",
    "number_out_of_range": (
        "The number's magnitude is outside 1e-130 to 9.99e125, which DynamoDB cannot hold; scale it or send text."
    ),
    "reading_too_large": "A text value is longer than 32 KiB; shorten it or keep it elsewhere and send its address.",
    "sensor_mismatch": "The payload names another sensor than the MQTT topic it came by; correct the sender.",
    "too_deep": "The JSON is nested too deeply to be read; readings are flat, so correct the sender.",
    "too_large": (
        "One record holds more than 200,000 readings, 10,000 metric names or 4,000,000 cells; send several records."
    ),
    "ts_out_of_range": (
        "The time is before 2000-01-01 or more than 24 h after arrival; check the sensor's clock and its unit (ms)."
    ),
    "unexpected": "The decoder failed on these bytes, which is an error of ours; report it with the payload.",
    "unknown_format": "The JSON is none of the formats that FORMATS.md lists; correct the sender.",
    "unknown_sensor": (
        "The sensor is not registered, and this deployment refuses such ones; add it with `thermocline sensors set`, "
        "then `thermocline rejects retry`."
    ),
    "wrong_type": "A field or value has a type that cannot be stored; send numbers, booleans or text.",
}
"""Every reason code, with what it means and what to do next."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a user record that could not be stored.

    `part` tells where inside the user record ("line 3", "metric temperature"); `payload`
    is the smallest self-contained piece of the original bytes, None meaning the whole user
    record; `count` is how many values or readings were lost to it. `addressed_to` is the sensor
    that the MQTT topic of an addressed payload named, fit or not; None for all other payloads.
    """

    reason: str
    detail: str
    part: str = ""
    payload: bytes | None = None
    sensor_id: str | None = None
    count: int = 1
    addressed_to: str | None = None


@dataclass(frozen=True, slots=True)
class Reject:
    """A problem as it is kept: with the place it came from and its bytes.

    `id` is `keys.reject_id` of the stream, shard, sequence and `offset` (the user record's place
    in the Kinesis record, then part and reason), so it is the same in every batch; `arrival_ms` is when the stream
    took the record (epoch milliseconds); `sha256` is that of `payload`, in hex; `addressed_to` is as
    in Problem.
    """

    id: str
    reason: str
    detail: str
    stream_arn: str
    shard_id: str
    sequence: str
    offset: str
    arrival_ms: int
    sensor_id: str | None
    count: int
    sha256: str
    payload: bytes
    addressed_to: str | None = None


def encode_rejects(rejects: Sequence[Reject]) -> bytes:
    """One object: gzip'd JSON, the same bytes for the same rejects, each distinct payload once."""
    payloads: dict[str, str] = {}
    entries: list[dict[str, object]] = []
    for reject in rejects:
        if reject.sha256 not in payloads:
            payloads[reject.sha256] = base64.b64encode(reject.payload).decode()
        kept = _KEPT if reject.addressed_to is None else (*_KEPT, _ADDRESS)
        entries.append({name: getattr(reject, name) for name in kept})
    return _packed({"version": VERSION, "rejects": entries, "payloads": payloads})


def decode_rejects(data: bytes) -> list[Reject]:
    """The inverse of `encode_rejects`, in the same order.

    Raises Corrupt where the bytes are damaged, of another version, or inflate beyond
    MOST_INFLATED_BYTES.
    """
    with _readable():
        document = _opened(data)
        payloads = {digest: _payload(digest, text) for digest, text in document["payloads"].items()}
        return [_reject(entry, payloads) for entry in document["rejects"]]


@dataclass(frozen=True, slots=True)
class StoredAgain:
    """Rejects that were put through the door again and are stored now: their ids, and when
    (epoch milliseconds). Kept beside the rejects, which stay as they are."""

    ids: frozenset[str]
    at_ms: int


def encode_stored_again(stored: StoredAgain) -> bytes:
    """One object, in the form of an object of rejects that keeps none."""
    document: dict[str, object] = {"version": VERSION, "rejects": [], "payloads": {}}
    return _packed({**document, "stored_again": sorted(stored.ids), "at_ms": stored.at_ms})


def decode_stored_again(data: bytes) -> StoredAgain:
    """The inverse of `encode_stored_again`. Raises Corrupt as `decode_rejects` does."""
    with _readable():
        document = _opened(data)
        ids, at_ms = cast(list[Any], document["stored_again"]), document["at_ms"]
        if type(at_ms) is not int or type(ids) is not list or not all(type(one) is str for one in ids):
            raise ValueError("a field has the wrong type")
        return StoredAgain(frozenset(ids), at_ms)


def _packed(document: Mapping[str, object]) -> bytes:
    return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), 6, mtime=0)


def _opened(data: bytes) -> dict[str, Any]:
    if not data.startswith(GZIP_MAGIC):
        raise Corrupt("An object of rejects is not gzip; it was not written by this project or is damaged.")
    document: dict[str, Any] = json.loads(inflate(data, MOST_INFLATED_BYTES))
    if document["version"] != VERSION:
        raise Corrupt(
            f"Rejects of version {document['version']} cannot be read; read them with a newer release."
        )
    return document


@contextmanager
def _readable() -> Generator[None]:
    """Whatever a damaged object leads to comes out as Corrupt."""
    try:
        yield
    except (Unopened, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Corrupt(f"An object of rejects cannot be read ({type(error).__name__}: {error}).") from error


_TEXTS = ("id", "reason", "detail", "stream_arn", "shard_id", "sequence", "offset", "sha256")
_KEPT = (*_TEXTS, "arrival_ms", "sensor_id", "count")
_ADDRESS = "addressed_to"


def _payload(digest: str, text: str) -> bytes:
    try:
        payload = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise ValueError("a payload is not base64") from error
    if hashlib.sha256(payload).hexdigest() != digest:
        raise ValueError("a payload does not have its sha256")
    return payload


def _reject(entry: dict[str, Any], payloads: dict[str, bytes]) -> Reject:
    texts = [entry[name] for name in _TEXTS]
    numbers = (entry["arrival_ms"], entry["count"])
    sensor_id = entry["sensor_id"]
    if not all(type(text) is str for text in texts) or not all(type(number) is int for number in numbers):
        raise ValueError("a field has the wrong type")
    addressed_to = entry.get(_ADDRESS)
    if any(text is not None and type(text) is not str for text in (sensor_id, addressed_to)):
        raise ValueError("sensor_id or addressed_to is not text")
    fields: dict[str, Any] = {name: entry[name] for name in _KEPT}
    return Reject(**fields, payload=payloads[cast(str, entry["sha256"])], addressed_to=addressed_to)
