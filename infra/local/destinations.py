"""Where records go that were given up: the on-failure record for S3 (with the payload) and SQS (without)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from infra.local.batching import Record, event_body
from infra.local.mappings import SourceMapping

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]
_BATCH_INFO = {"kinesis": "KinesisBatchInfo", "dynamodb": "DDBStreamBatchInfo"}


@dataclass(frozen=True, slots=True)
class Discard:
    """Records one mapping gave up, why, and how the last invocation ended (`function_error` None where
    the function returned normally and reported failures)."""

    mapping: SourceMapping
    shard_id: str
    records: Sequence[Record]
    condition: Condition
    invocations: int
    request_id: str
    function_error: str | None


def invocation_record(discard: Discard, now_s: float, *, with_payload: bool) -> dict[str, Any]:
    """The JSON document Lambda sends ("Retain discarded batch records for a Kinesis Data Streams event
    source in Lambda"); `payload` holds the whole event as text, for S3 only."""
    first, last = discard.records[0], discard.records[-1]
    response: dict[str, Any] = {"statusCode": 200, "executedVersion": "$LATEST"}
    if discard.function_error is not None:
        response["functionError"] = discard.function_error
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": discard.request_id,
            "functionArn": discard.mapping.function_arn,
            "condition": discard.condition,
            "approximateInvokeCount": discard.invocations,
        },
        "responseContext": response,
        "version": "1.0",
        "timestamp": _instant(now_s),
        _BATCH_INFO[discard.mapping.service]: {
            "shardId": discard.shard_id,
            "startSequenceNumber": first.sequence,
            "endSequenceNumber": last.sequence,
            "approximateArrivalOfFirstRecord": _instant(first.arrived_s),
            "approximateArrivalOfLastRecord": _instant(last.arrived_s),
            "batchSize": len(discard.records),
            "streamArn": discard.mapping.source_arn,
        },
    }
    if with_payload:
        document["payload"] = event_body(discard.records).decode()
    return document


def object_name(discard: Discard, now_s: float, unique: str) -> str:
    """`aws/lambda/<mapping>/<shard>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<unique>`, the same page's convention."""
    at = datetime.fromtimestamp(now_s, UTC)
    return (
        f"aws/lambda/{discard.mapping.uuid}/{discard.shard_id}/{at:%Y/%m/%d}/{at:%Y-%m-%dT%H.%M.%S}-{unique}"
    )


class Destinations:
    """Sends what was given up to where each mapping says."""

    def __init__(self, s3: Any, sqs: Any) -> None:
        self._s3 = s3
        self._sqs = sqs

    def send(self, discard: Discard, now_s: float) -> None:
        """Send one on-failure record; nothing without a destination. Raises what boto3 raises."""
        arn = discard.mapping.on_failure
        if not arn:
            return
        parts = arn.split(":")
        if parts[2] == "s3":
            document = invocation_record(discard, now_s, with_payload=True)
            name = object_name(discard, now_s, str(uuid.uuid4()))
            body = json.dumps(document).encode()
            self._s3.put_object(Bucket=parts[5], Key=name, Body=body, ContentType="application/json")
        else:
            document = invocation_record(discard, now_s, with_payload=False)
            url = self._sqs.get_queue_url(QueueName=parts[5])["QueueUrl"]
            self._sqs.send_message(QueueUrl=url, MessageBody=json.dumps(document))


def _instant(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
