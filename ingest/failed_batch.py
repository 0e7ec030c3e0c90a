"""A batch that Lambda gave up, as its S3 on-failure destination keeps it: decoded, never made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from ingest import keys


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """What the object says. `event` is the event that the function failed on, to be invoked again as it is.

    `date` is when it was given up (`YYYY-MM-DD`, None where the object's name does not tell);
    `arrival_ms` is that of its first record (epoch milliseconds, 0 where unknown). Where `problem`
    is not empty the object cannot be used, for the reason it gives, and the rest is what is known.
    """

    id: str
    name: str
    date: str | None
    size_bytes: int
    problem: str = ""
    condition: str = ""
    stream_arn: str = ""
    shard_id: str = ""
    first_sequence: str = ""
    last_sequence: str = ""
    arrival_ms: int = 0
    count: int = 0
    event: Mapping[str, Any] = field(default_factory=dict[str, Any])


def decode_failed_batch(name: str, data: bytes) -> FailedBatch:
    """The batch an object holds. Never raises: what cannot be read has a `problem`.

    Source: "Retain discarded batch records for a Kinesis Data Streams event source in Lambda".
    """
    known: dict[str, Any] = {
        "id": keys.failed_batch_id(name),
        "name": name,
        "date": keys.parse_failed_batch_name(name),
    }
    known["size_bytes"] = len(data)
    try:
        document = _mapping(json.loads(data))
        payload = document.get("payload")
        event = _mapping(json.loads(payload) if isinstance(payload, str) else payload)
    except (ValueError, RecursionError) as error:
        return FailedBatch(**known, problem=f"it is not JSON ({error})")
    records: Any = event.get("Records")
    entries = cast(list[Any], records) if isinstance(records, list) else []
    told = _mapping(document.get("KinesisBatchInfo"))
    problem = ""
    if not told:
        problem = "it is no batch of a Kinesis stream"
    elif not entries:
        problem = "it carries no records; only the S3 destination of an event source mapping does"
    return FailedBatch(
        **known,
        problem=problem,
        condition=_text(_mapping(document.get("requestContext")).get("condition")),
        stream_arn=_text(told.get("streamArn")),
        shard_id=_text(told.get("shardId")),
        first_sequence=_text(told.get("startSequenceNumber")),
        last_sequence=_text(told.get("endSequenceNumber")),
        arrival_ms=_instant_ms(told.get("approximateArrivalOfFirstRecord")),
        count=len(entries),
        event=event,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], value) if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _instant_ms(value: object) -> int:
    try:
        return max(0, round(datetime.fromisoformat(_text(value)).timestamp() * 1000))
    except (ValueError, OverflowError):
        return 0
