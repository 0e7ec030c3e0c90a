"""The hot tier in DynamoDB: bodies go out as prebuilt text and pages come in as raw bytes.

botocore keeps signing, endpoints, credentials and retries: `_line` sends the bodies, and its documented
event `before-parse` sets aside that of an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, cast

import msgspec

from ingest import keys
from ingest.chunk import Chunk
from ingest.chunk_page import Answered, decode_get, decode_query, decode_readings
from ingest.errors import Refused, Unavailable
from ingest.item import Attribute, Item
from ingest.keys import Key, Layout
from ingest.manifest import (
    LAYOUT_ATTRIBUTE,
    Manifest,
    decode_layout,
    decode_manifest,
    encode_layout,
    layout_text,
)
from ingest.reading import Span
from ingest.stores import Page, RemainingMs
from ingest.stores._boto_errors import translated
from ingest.stores._line import Line

ITEMS_PER_WRITE = 25
"""BatchWriteItem takes at most 25 puts (API reference, BatchWriteItem)."""
LONGEST_WRITE = 8 * 1024 * 1024
"""Characters one BatchWriteItem may have here; it takes 16 MB. In JSON an item may be 16 times what is billed."""
KEYS_PER_GET = 50
"""BatchGetItem takes 100 keys (API reference, BatchGetItem); so many full chunks take 200 MB once parsed."""
UNIT_BYTES = 4096
"""A read unit carries 4 KB ("DynamoDB read and write operations")."""
_NEWEST_AT_ONCE = 8
_MANIFESTS_AT_ONCE = 50
_STOP_MS = 1_000
"""Below this, no further attempt is begun: the caller needs the rest to fail in order."""
_FIRST_BACKOFF_S = 0.05
_MOST_BACKOFF_S = 5.0

_answer_raw: ContextVar[bool] = ContextVar("_answer_raw", default=False)


def _keep_raw(response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object) -> None:
    if _answer_raw.get() and response_dict["status_code"] == 200:
        customized_response_dict["Raw"] = response_dict["body"]
        response_dict["body"] = b"{}"


class DynamoHotStore:
    """The one table. `sleep` takes seconds, `random` gives numbers in [0, 1)."""

    def __init__(
        self,
        client: Any,
        table: str,
        sleep: Callable[[float], None],
        random: Callable[[], float],
        *,
        workers: int = 4,
    ) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep
        self._random = random
        self._workers = workers
        self._writing = Line(client, "dynamodb", "BatchWriteItem", "batch_write_item")
        self._asking = Line(client, "dynamodb", "Query", "query")
        self._pool: ThreadPoolExecutor | None = None
        events = client.meta.events
        for operation in ("Query", "BatchGetItem"):
            name = f"before-parse.dynamodb.{operation}"
            events.register(name, _keep_raw, unique_id=f"thermocline-keep-{operation}")

    # --- writes -----------------------------------------------------------------------

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        """Put every item; the write units consumed. Raises Unavailable where time runs out."""
        failed: list[Exception] = []

        def put_group(group: Sequence[Item]) -> float:
            try:
                return 0.0 if failed else self._put_group(group, remaining_ms)
            except Exception as error:  # noqa: BLE001 - raised below, when no other thread is writing any more
                failed.append(error)
                return 0.0

        first, *others = list(_write_groups(items)) or [items]
        if others and self._pool is None:
            self._pool = ThreadPoolExecutor(max(1, self._workers - 1))
        elsewhere = self._pool.map(put_group, others) if others and self._pool is not None else ()
        units = (put_group(first) if first else 0.0) + sum(elsewhere)
        if failed:
            raise failed[0]
        return units

    def _put_group(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        units = 0.0
        waiting = {item.key: item for item in items}
        for attempt in range(1_000):
            answer = self._write(list(waiting.values()))
            units += sum(part.get("CapacityUnits", 0.0) for part in answer.get("ConsumedCapacity", []))
            left = answer.get("UnprocessedItems", {}).get(self._table, [])
            if not left:
                return units
            waiting = {key: waiting[key] for key in (_key_of(entry["PutRequest"]["Item"]) for entry in left)}
            pause_s = self._random() * min(_MOST_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt)
            if remaining_ms() - pause_s * 1000 < _STOP_MS:
                break
            self._sleep(pause_s)
        raise Unavailable(
            f"DynamoDB left {len(waiting)} of {len(items)} items of table {self._table} unwritten until the time "
            "ran out (throttled). The batch will be repeated; raise the table's limits if this goes on."
        )

    def _write(self, items: Sequence[Item]) -> dict[str, Any]:
        puts = ",".join([f'{{"PutRequest":{{"Item":{item.body}}}}}' for item in items])
        body = f'{{"RequestItems":{{"{self._table}":[{puts}]}},"ReturnConsumedCapacity":"TOTAL"}}'
        with translated(f"Writing {len(items)} items to table {self._table}"):
            return self._writing.send(body.encode(), RequestItems={self._table: []})

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete the items; missing ones are no error."""
        for start in range(0, len(keys), ITEMS_PER_WRITE):
            entries = [
                {"DeleteRequest": {"Key": _wire_key(key)}} for key in keys[start : start + ITEMS_PER_WRITE]
            ]
            for attempt in range(12):
                with translated(f"Deleting from table {self._table}"):
                    answer = self._client.batch_write_item(RequestItems={self._table: entries})
                entries = answer.get("UnprocessedItems", {}).get(self._table, [])
                if not entries:
                    break
                self._sleep(self._random() * min(_MOST_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt))
            if entries:
                raise Unavailable(
                    f"DynamoDB left {len(entries)} deletes of table {self._table} undone. Try again later."
                )

    # --- reads ------------------------------------------------------------------------

    def read(self, sensor_id: str, span: Span, widest_bucket_s: int) -> Iterator[Page]:
        """Pages of every chunk of the sensor that may hold the span's readings; consistent."""
        partition, low, high = keys.chunk_range(sensor_id, span, widest_bucket_s)
        for page in self._chunk_pages(decode_readings, partition, low, high):
            units = page.told_units or 0
            if units > 1:
                size_bytes = int(units * UNIT_BYTES)
            else:  # one may be all an emulator ever tells, and a page of one is soon weighed
                size_bytes = page.weigh()
                units = max(1, -(-size_bytes // UNIT_BYTES))
            yield Page(page.runs, page.items, units, size_bytes)

    def chunks(self, keys: Sequence[Key]) -> list[Chunk]:
        """The named chunks that exist; consistent."""
        groups = [keys[i : i + KEYS_PER_GET] for i in range(0, len(keys), KEYS_PER_GET)]
        with ThreadPoolExecutor(min(self._workers, max(1, len(groups)))) as pool:
            return [chunk for chunks in pool.map(self._get_group, groups) for chunk in chunks]

    def _get_group(self, keys: Sequence[Key]) -> list[Chunk]:
        found: list[Chunk] = []
        wanted: list[Any] = [_wire_key(key) for key in keys]
        for attempt in range(12):
            request = {self._table: {"Keys": wanted, "ConsistentRead": True}}
            answer = decode_get(self._raw("batch_get_item", RequestItems=request), self._table)
            found.extend(answer.chunks)
            wanted = answer.following
            if not wanted:
                return found
            self._sleep(self._random() * min(_MOST_BACKOFF_S, _FIRST_BACKOFF_S * 2**attempt))
        raise Unavailable(f"DynamoDB left {len(wanted)} keys of table {self._table} unread. Try again later.")

    def newest(self, sensor_id: str, widest_bucket_s: int) -> list[Chunk]:
        """Chunks among which the sensor's newest hot reading is; none where it has none; consistent."""
        found: list[Chunk] = []
        newest_us = 0
        partition = keys.chunk_partition(sensor_id)
        for page in self._chunk_pages(decode_query, partition, ScanIndexForward=False, Limit=_NEWEST_AT_ONCE):
            for chunk in page.chunks:
                _, bucket_s, _, _ = keys.parse_chunk_key(chunk.key)
                if (bucket_s + widest_bucket_s) * keys.US <= newest_us:
                    return found
                found.append(chunk)
                newest_us = max(newest_us, chunk.run.ts_us[-1])
        return found

    def manifests(self, slot_s: int) -> Iterator[list[Manifest]]:
        """The slot's manifests, a few at a time: each names up to a thousand chunks; consistent."""
        for page in self._query(keys.manifest_partition(slot_s)):
            items = page["Items"]
            for start in range(0, len(items), _MANIFESTS_AT_ONCE):
                yield [decode_manifest(item) for item in items[start : start + _MANIFESTS_AT_ONCE]]

    def open_slots(self, until_s: int | None = None) -> list[int]:
        """Slots that may still have manifests, oldest first, up to `until_s` (inclusive)."""
        low = keys.open_slot_key(0)
        high = keys.open_slot_key(until_s).sk if until_s is not None else "~"
        pages = self._query(low.pk, low.sk, high)
        return [keys.parse_open_slot(_key_of(item)) for page in pages for item in page["Items"]]

    def _query(
        self, partition: str, low: str | None = None, high: str | None = None
    ) -> Iterator[dict[str, Any]]:
        request = self._request(partition, low, high)
        while True:
            page = msgspec.json.decode(self._ask(request))
            yield page
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    def _chunk_pages(
        self,
        decode: Callable[[bytes], Answered],
        partition: str,
        low: str | None = None,
        high: str | None = None,
        **options: Any,
    ) -> Iterator[Answered]:
        request = self._request(partition, low, high) | {"ReturnConsumedCapacity": "TOTAL"} | options
        while True:
            page = decode(self._ask(request))
            yield page
            if not page.following:
                return
            request["ExclusiveStartKey"] = page.following

    def _request(self, partition: str, low: str | None, high: str | None) -> dict[str, Any]:
        values: dict[str, Any] = {":p": {"S": partition}}
        condition = "pk = :p"
        if low is not None:
            values |= {":low": {"S": low}, ":high": {"S": high}}
            condition += " AND sk BETWEEN :low AND :high"
        return {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
        }

    def _ask(self, request: dict[str, Any]) -> bytes:
        token = _answer_raw.set(True)
        try:
            with translated(f"Reading table {self._table}"):
                return self._asking.send_raw(msgspec.json.encode(request), **request)
        finally:
            _answer_raw.reset(token)

    def _raw(self, operation: str, **request: Any) -> bytes:
        token = _answer_raw.set(True)
        try:
            with translated(f"Reading table {self._table}"):
                return getattr(self._client, operation)(**request)["Raw"]
        finally:
            _answer_raw.reset(token)

    # --- the layout -------------------------------------------------------------------

    def load_layout(self) -> Layout | None:
        """The layout in force; None where the table has none yet; consistent."""
        with translated(f"Reading the layout of table {self._table}"):
            answer = self._client.get_item(
                TableName=self._table, Key=_wire_key(keys.layout_key()), ConsistentRead=True
            )
        return decode_layout(answer["Item"]) if answer.get("Item") else None

    def save_layout(self, layout: Layout, instead_of: Layout | None) -> None:
        """Replace the layout on condition that it still is `instead_of`. Raises Refused where not."""
        condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(pk)"}
        if instead_of is not None:
            condition = {
                "ConditionExpression": "#l = :old",
                "ExpressionAttributeNames": {"#l": LAYOUT_ATTRIBUTE},
                "ExpressionAttributeValues": {":old": {"S": layout_text(instead_of)}},
            }
        item = msgspec.json.decode(encode_layout(layout).body)
        with translated(f"Writing the layout of table {self._table}"):
            try:
                self._client.put_item(TableName=self._table, Item=item, **condition)
            except self._client.exceptions.ConditionalCheckFailedException as error:
                if self.load_layout() == layout:  # written by this call, whose reply was lost, and sent again
                    return
                raise Refused(
                    "The layout was changed by somebody else at the same time. Look at it and deploy again."
                ) from error


def _write_groups(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """The items in groups that one BatchWriteItem takes, by number and by length."""
    start = length = 0
    for place, item in enumerate(items):
        if place - start == ITEMS_PER_WRITE or (place > start and length + len(item.body) > LONGEST_WRITE):
            yield items[start:place]
            start, length = place, 0
        length += len(item.body)
    if start < len(items):
        yield items[start:]


def _wire_key(key: Key) -> dict[str, Attribute]:
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def _key_of(item: Mapping[str, Attribute]) -> Key:
    return Key(cast(str, item["pk"]["S"]), cast(str, item["sk"]["S"]))
