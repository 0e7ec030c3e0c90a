"""The usual way, for comparison: boto3's resource, Decimal, and an item per reading."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import boto3 as _boto3

from benchmarks.noop_server import REGION, TABLE

_boto: Any = cast(Any, _boto3)


class Usual:
    """A handler and a reader as samples and tutorials have them, over boto3's resource as it comes."""

    def __init__(self, endpoint_url: str) -> None:
        anyone = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        resource = _boto.resource("dynamodb", endpoint_url=endpoint_url, region_name=REGION, **anyone)
        self._table = resource.Table(TABLE)

    def store(self, event: Mapping[str, Any]) -> int:
        """Store a batch whose records are one JSON object each, an item per reading; how many."""
        count = 0
        with self._table.batch_writer() as writer:
            for record in event["Records"]:
                payload = base64.b64decode(record["kinesis"]["data"])
                reading = json.loads(payload, parse_float=Decimal)
                writer.put_item(
                    Item={"sensor": reading["sensor_id"], "ts": reading["ts"], **reading["metrics"]}
                )
                count += 1
        return count

    def read(self, partition: str, low: str, high: str) -> list[dict[str, Any]]:
        """The items of a partition between two sort keys, page by page, as boto3 gives them."""
        request: dict[str, Any] = {
            "KeyConditionExpression": "pk = :p AND sk BETWEEN :low AND :high",
            "ExpressionAttributeValues": {":p": partition, ":low": low, ":high": high},
            "ConsistentRead": True,
        }
        items: list[dict[str, Any]] = []
        while True:
            page = self._table.query(**request)
            items.extend(page["Items"])
            if "LastEvaluatedKey" not in page:
                return items
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def parse(self, page: bytes) -> list[dict[str, Any]]:
        """The items of one page as `read` gives them, from the bytes of the answer on: boto3's own parser and types."""
        client = self._table.meta.client
        model = client.meta.service_model.operation_model("Query")
        answer: dict[str, Any] = {"status_code": 200, "headers": {}, "body": page}
        parsed = client._response_parser.parse(answer, model.output_shape)  # noqa: SLF001 - it has no public name
        client.meta.events.emit("after-call.dynamodb.Query", http_response=None, parsed=parsed, model=model)
        return parsed["Items"]
