"""The catalog in DynamoDB: one item per segment, found by date."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from ingest import keys
from ingest.item import Attribute
from ingest.keys import Key
from ingest.reading import EARLIEST_US, Span
from ingest.stores import Segment
from ingest.stores._boto_errors import translated

REQUESTS_PER_WRITE = 25
"""BatchWriteItem takes at most 25 puts or deletes (API reference, BatchWriteItem)."""
LATEST_US = 4_102_444_800_000_000
"""2100-01-01T00:00:00Z: `find` looks no further, each year being a query of its own."""

_TEXTS = ("name", "date", "digest", "first_sensor", "last_sensor", "etag", "sha256")
_NUMBERS = ("size_bytes", "rows", "first_us", "last_us", "footer_bytes", "written_s")


class DynamoCatalog:
    """The segments' entries in the one table."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        """Put entries that DynamoDB forgets at `expires_at_s`; the same again changes nothing."""
        unique = {_key(segment): segment for segment in segments}  # a batch must not name a key twice
        self._write(
            {"PutRequest": {"Item": encode_entry(segment, expires_at_s)}} for segment in unique.values()
        )

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        """Segments that may hold readings of the span (and sensor), by date and name; consistent."""
        return select_segments(self.entries(span), span, sensor_id)

    def remove(self, segments: Sequence[Segment]) -> None:
        """Forget entries; missing ones are no error."""
        unique = dict.fromkeys(map(_key, segments))
        self._write({"DeleteRequest": {"Key": {"pk": {"S": key.pk}, "sk": {"S": key.sk}}}} for key in unique)

    def _write(self, requests: Iterable[dict[str, Any]]) -> None:
        everything = list(requests)
        for start in range(0, len(everything), REQUESTS_PER_WRITE):
            group = everything[start : start + REQUESTS_PER_WRITE]
            with translated(f"Writing {len(group)} catalog entries to table {self._table}"):
                answer = self._client.batch_write_item(RequestItems={self._table: group})
                # One by one, what was not processed is retried by the client, with its own back-off.
                for left in answer.get("UnprocessedItems", {}).get(self._table, []):
                    if "PutRequest" in left:
                        self._client.put_item(TableName=self._table, Item=left["PutRequest"]["Item"])
                    else:
                        self._client.delete_item(TableName=self._table, Key=left["DeleteRequest"]["Key"])

    def entries(self, span: Span) -> Iterator[Segment]:
        """Every entry of the dates that the span touches, by date and digest, page by page; consistent."""
        for partition, low, high in date_ranges(span):
            request: dict[str, Any] = {
                "TableName": self._table,
                "KeyConditionExpression": "pk = :p AND sk BETWEEN :low AND :high",
                "ExpressionAttributeValues": {
                    ":p": {"S": partition},
                    ":low": {"S": low},
                    ":high": {"S": high},
                },
                "ConsistentRead": True,
            }
            while True:
                with translated(f"Reading the catalog in table {self._table}"):
                    page = self._client.query(**request)
                yield from map(decode_entry, page["Items"])
                if not page.get("LastEvaluatedKey"):
                    break
                request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _key(segment: Segment) -> Key:
    return keys.catalog_key(segment.date, segment.digest)


def date_ranges(span: Span) -> list[tuple[str, str, str]]:
    """The catalog's partitions and sort-key bounds of every date the span touches; none for an empty span."""
    possible = span.overlap(Span(EARLIEST_US, LATEST_US))
    if possible.is_empty():
        return []
    return keys.catalog_ranges(keys.date_of(possible.start_us), keys.date_of(possible.end_us - 1))


def select_segments(segments: Iterable[Segment], span: Span, sensor_id: str | None) -> list[Segment]:
    """Those whose times and sensors allow a reading of the span and sensor, by date and name."""
    found = [
        segment
        for segment in segments
        if not span.is_empty()
        and segment.first_us < span.end_us
        and segment.last_us >= span.start_us
        and (sensor_id is None or segment.first_sensor <= sensor_id <= segment.last_sensor)
    ]
    return sorted(found, key=lambda segment: (segment.date, segment.name))


def encode_entry(segment: Segment, expires_at_s: int) -> dict[str, Attribute]:
    """A catalog item; `ttl` is epoch seconds."""
    key = _key(segment)
    item: dict[str, Attribute] = {"pk": {"S": key.pk}, "sk": {"S": key.sk}, "ttl": {"N": str(expires_at_s)}}
    item |= {name: {"S": getattr(segment, name)} for name in _TEXTS}
    item |= {name: {"N": str(getattr(segment, name))} for name in _NUMBERS}
    return item


def decode_entry(item: Mapping[str, Attribute]) -> Segment:
    """The inverse of `encode_entry`."""
    texts: dict[str, Any] = {name: cast(str, item[name]["S"]) for name in _TEXTS}
    numbers: dict[str, Any] = {name: int(cast(str, item[name]["N"])) for name in _NUMBERS}
    return Segment(**texts, **numbers)
