"""Reads the shards of a Kinesis or DynamoDB stream by their public APIs, as records of a Lambda event."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from botocore.exceptions import ClientError

from infra.local.batching import Record
from infra.local.faults import error_code
from infra.local.mappings import SourceMapping

Wanted = Callable[[Mapping[str, Any]], bool]
PAGE_BYTES = 8_000_000
"""About how much one GetRecords call should return; Kinesis itself stops at 10 MB ("GetRecords")."""
_FIRST_LIMIT = 50
_UNKNOWN_SIZE_BYTES = 1_000
_MOST_LIMIT = {"kinesis": 10_000, "dynamodb": 1_000}


@dataclass(frozen=True, slots=True)
class Shard:
    """One shard and those it came from; parents that the stream no longer lists are left out."""

    shard_id: str
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What one read returned: the sequence numbers of all records, the wanted ones as Lambda records,
    where to go on (None at the end of a closed shard), and when the newest and oldest record arrived."""

    sequences: list[str]
    records: list[Record]
    following: str | None
    newest_s: float | None
    oldest_s: float | None = None


class ShardSource(Protocol):
    """One stream: which shards it has and how one is read. Methods raise what boto3 raises."""

    def shards(self) -> list[Shard]:
        """Every shard the stream lists, parents included."""
        ...

    def iterator(self, shard_id: str, after: str | None, *, from_horizon: bool) -> str:
        """Where to read from: after a sequence number, else the horizon, else the mapping's own start."""
        ...

    def read(self, shard_id: str, iterator: str, wanted: Wanted | None) -> Page:
        """The next page."""
        ...


def open_source(mapping: SourceMapping, kinesis: Any, streams: Any) -> ShardSource:
    """The source a mapping reads from."""
    if mapping.service == "kinesis":
        return KinesisSource(mapping, kinesis)
    return DynamoSource(mapping, streams)


class _Limits:
    """How many records to ask for, so that a page stays near PAGE_BYTES whatever the records weigh."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._next: dict[str, int] = {}

    def get(self, shard_id: str) -> int:
        return self._next.get(shard_id, _FIRST_LIMIT)

    def learn(self, shard_id: str, count: int, size_bytes: int) -> None:
        if count:
            fits = int(PAGE_BYTES / max(1.0, size_bytes / count))
            self._next[shard_id] = max(1, min(self._most, fits, self.get(shard_id) * 4))


class KinesisSource:
    """A Kinesis data stream."""

    def __init__(self, mapping: SourceMapping, client: Any) -> None:
        self._mapping = mapping
        self._client = client
        self._arn = mapping.source_arn
        self._limits = _Limits(_MOST_LIMIT["kinesis"])

    def shards(self) -> list[Shard]:
        """Every shard the stream lists, parents included."""
        request: dict[str, Any] = {"StreamARN": self._arn}
        listed: list[dict[str, Any]] = []
        while True:
            answer: dict[str, Any] = self._client.list_shards(**request)
            listed += answer["Shards"]
            if not answer.get("NextToken"):
                break
            request = {"StreamARN": self._arn, "NextToken": answer["NextToken"]}
        known = {one["ShardId"] for one in listed}
        return [
            Shard(
                one["ShardId"],
                tuple(
                    one[name] for name in ("ParentShardId", "AdjacentParentShardId") if one.get(name) in known
                ),
            )
            for one in listed
        ]

    def iterator(self, shard_id: str, after: str | None, *, from_horizon: bool) -> str:
        """Where to read from."""
        request: dict[str, Any] = {"StreamARN": self._arn, "ShardId": shard_id}
        if after is not None:
            request |= {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": after}
        elif from_horizon:
            request["ShardIteratorType"] = "TRIM_HORIZON"
        else:
            request["ShardIteratorType"] = self._mapping.start
            if self._mapping.start == "AT_TIMESTAMP":
                request["Timestamp"] = self._mapping.start_at_s
        return str(self._client.get_shard_iterator(**request)["ShardIterator"])

    def read(self, shard_id: str, iterator: str, wanted: Wanted | None) -> Page:
        """The next page."""
        answer: dict[str, Any] = self._client.get_records(
            ShardIterator=iterator, Limit=self._limits.get(shard_id)
        )
        found = cast(list[dict[str, Any]], answer["Records"])
        self._limits.learn(shard_id, len(found), sum(len(one["Data"]) for one in found))
        records = [
            self._record(shard_id, one) for one in found if wanted is None or wanted(_kinesis_view(one))
        ]
        arrived = [one["ApproximateArrivalTimestamp"].timestamp() for one in (*found[-1:], *found[:1])]
        sequences = [one["SequenceNumber"] for one in found]
        return Page(sequences, records, answer.get("NextShardIterator"), *(arrived or (None,)))

    def _record(self, shard_id: str, found: dict[str, Any]) -> Record:
        sequence: str = found["SequenceNumber"]
        arrived_s = found["ApproximateArrivalTimestamp"].timestamp()
        head = {
            "eventSource": "aws:kinesis",
            "eventVersion": "1.0",
            "eventID": f"{shard_id}:{sequence}",
            "eventName": "aws:kinesis:record",
            "invokeIdentityArn": f"arn:aws:iam::{self._arn.split(':')[4]}:role/lambda-role",
            "awsRegion": self._arn.split(":")[3],
            "eventSourceARN": self._arn,
        }
        inner = {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": found["PartitionKey"],
            "sequenceNumber": sequence,
            "approximateArrivalTimestamp": round(arrived_s, 3),
        }
        data = base64.b64encode(found["Data"])
        body = b'{"kinesis":%b,"data":"%b"},%b' % (_json(inner)[:-1], data, _json(head)[1:])
        return Record(sequence, found["PartitionKey"], arrived_s, body)


class DynamoSource:
    """The stream of a DynamoDB table."""

    def __init__(self, mapping: SourceMapping, client: Any) -> None:
        self._mapping = mapping
        self._client = client
        self._arn = mapping.source_arn
        self._view = ""
        self._limits = _Limits(_MOST_LIMIT["dynamodb"])

    def shards(self) -> list[Shard]:
        """Every shard the stream lists, parents included."""
        request: dict[str, Any] = {"StreamArn": self._arn}
        listed: list[dict[str, Any]] = []
        while True:
            described: dict[str, Any] = self._client.describe_stream(**request)["StreamDescription"]
            self._view = str(described.get("StreamViewType", ""))
            listed += described["Shards"]
            last = described.get("LastEvaluatedShardId")
            if not last:
                break
            request["ExclusiveStartShardId"] = last
        known = {one["ShardId"] for one in listed}
        return [
            Shard(one["ShardId"], (one["ParentShardId"],) if one.get("ParentShardId") in known else ())
            for one in listed
        ]

    def iterator(self, shard_id: str, after: str | None, *, from_horizon: bool) -> str:
        """Where to read from."""
        request: dict[str, Any] = {"StreamArn": self._arn, "ShardId": shard_id}
        kind = "TRIM_HORIZON" if from_horizon else self._mapping.start
        if after is not None:
            try:
                answer = self._client.get_shard_iterator(
                    **request, ShardIteratorType="AFTER_SEQUENCE_NUMBER", SequenceNumber=after
                )
                return str(answer["ShardIterator"])
            except ClientError as error:
                if error_code(error) != "TrimmedDataAccessException":
                    raise
                kind = "TRIM_HORIZON"
        return str(self._client.get_shard_iterator(**request, ShardIteratorType=kind)["ShardIterator"])

    def read(self, shard_id: str, iterator: str, wanted: Wanted | None) -> Page:
        """The next page."""
        answer: dict[str, Any] = self._client.get_records(
            ShardIterator=iterator, Limit=self._limits.get(shard_id)
        )
        found = cast(list[dict[str, Any]], answer["Records"])
        sizes = (one["dynamodb"].get("SizeBytes") or _UNKNOWN_SIZE_BYTES for one in found)
        self._limits.learn(shard_id, len(found), sum(sizes))
        records: list[Record] = []
        for one in found:
            event = self._event(one)
            if wanted is None or wanted(event):
                records.append(_dynamo_record(event))
        arrived = [_created_s(one) for one in (*found[-1:], *found[:1])]
        sequences = [str(one["dynamodb"]["SequenceNumber"]) for one in found]
        return Page(sequences, records, answer.get("NextShardIterator"), *(arrived or (None,)))

    def _event(self, found: dict[str, Any]) -> dict[str, Any]:
        change = dict(found["dynamodb"])
        change["ApproximateCreationDateTime"] = _created_s(found)
        if self._view:
            change.setdefault("StreamViewType", self._view)
        event: dict[str, Any] = {
            "eventID": found["eventID"],
            "eventName": found["eventName"],
            "eventVersion": found.get("eventVersion", "1.1"),
            "eventSource": "aws:dynamodb",
            "awsRegion": self._arn.split(":")[3],
            "dynamodb": _plain(change),
            "eventSourceARN": self._arn,
        }
        identity = found.get("userIdentity")
        if identity:
            event["userIdentity"] = {"type": identity.get("Type"), "principalId": identity.get("PrincipalId")}
        return event


def _dynamo_record(event: dict[str, Any]) -> Record:
    change = event["dynamodb"]
    order_key = json.dumps(change.get("Keys", {}), sort_keys=True)
    created_s = change["ApproximateCreationDateTime"]
    return Record(str(change["SequenceNumber"]), order_key, created_s, _json(event))


def _created_s(found: dict[str, Any]) -> int:
    return int(found["dynamodb"]["ApproximateCreationDateTime"].timestamp())


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _plain(member) for name, member in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [_plain(element) for element in cast(list[Any], value)]
    return value


def _kinesis_view(found: dict[str, Any]) -> dict[str, Any]:
    """What a filter pattern sees of a Kinesis record: its metadata, and `data` decoded ("Using event
    filtering with a Kinesis event source"); data that is no JSON is seen as text."""
    raw: bytes = found["Data"]
    try:
        data: Any = json.loads(raw)
    except (ValueError, RecursionError):
        data = raw.decode("utf-8", "replace")
    return {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": found["PartitionKey"],
        "sequenceNumber": found["SequenceNumber"],
        "approximateArrivalTimestamp": found["ApproximateArrivalTimestamp"].timestamp(),
        "data": data,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
