"""The catalog in DynamoDB: one item per segment, found by date."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ingest import keys
from ingest.errors import Refused
from ingest.item import Attribute
from ingest.keys import Key
from ingest.reading import Span
from ingest.stores import Entry, Segment, Superseded
from ingest.stores._boto_errors import is_lost_race, translated
from ingest.stores.catalog_entry import (
    date_ranges,
    decode_entry,
    encode_announced,
    encode_entry,
    key_of,
    select_segments,
    visible,
)

REQUESTS_PER_WRITE = 25
"""BatchWriteItem takes at most 25 puts or deletes (API reference, BatchWriteItem)."""
ACTIONS_PER_SWAP = 100
"""TransactWriteItems takes at most 100 actions (API reference, TransactWriteItems)."""
LOST_RACE = "Another compaction or deletion came first. Nothing was changed; run it again."

_AS_SEEN = "superseded_s = :seen"
_NOT_SUPERSEDED = "attribute_not_exists(superseded_s)"
_ANNOUNCED = "attribute_not_exists(#name) AND attribute_not_exists(doomed)"


class DynamoCatalog:
    """The segments' entries in the one table."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        """Put entries that DynamoDB forgets at `expires_at_s`; the same again changes nothing, and what is
        superseded stays so, unless it was deleted and the object is newer than that."""
        for segment in segments:
            condition = f"{_NOT_SUPERSEDED} OR gone_s < :written"
            self._put(segment, expires_at_s, condition, {":written": _number(segment.written_s)})

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        """Segments that may hold readings of the span (and sensor), by date and name; consistent."""
        return select_segments(visible(lambda: self.entries(span)), span, sensor_id)

    def remove(self, segments: Sequence[Segment]) -> None:
        """Forget entries; missing ones are no error."""
        unique = list(dict.fromkeys(map(key_of, segments)))
        for start in range(0, len(unique), REQUESTS_PER_WRITE):
            group = [
                {"DeleteRequest": {"Key": _item_key(key)}} for key in unique[start:][:REQUESTS_PER_WRITE]
            ]
            with translated(f"Removing {len(group)} catalog entries from table {self._table}"):
                answer = self._client.batch_write_item(RequestItems={self._table: group})
                # One by one, what was not processed is retried by the client, with its own back-off.
                for left in answer.get("UnprocessedItems", {}).get(self._table, []):
                    self._client.delete_item(TableName=self._table, Key=left["DeleteRequest"]["Key"])

    def entries(self, span: Span) -> Iterator[Entry]:
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

    def look_up(self, date: str, digest: str) -> Entry | None:
        """One entry, or None; consistent."""
        key = _item_key(keys.catalog_key(date, digest))
        with translated(f"Reading the catalog in table {self._table}"):
            item = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
        return decode_entry(item) if item else None

    # --- compaction -----------------------------------------------------------------------

    def announce(
        self, date: str, digests: Sequence[str], by: Sequence[str], now_s: int, expires_at_s: int
    ) -> None:
        """Note objects that are about to be written as superseded by those they are made from; all or none.
        Raises Refused where one is catalogued, or being deleted."""
        puts = [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": encode_announced(Superseded(date, digest, tuple(by), now_s), expires_at_s),
                    "ConditionExpression": f"attribute_not_exists(pk) OR ({_ANNOUNCED})",
                    "ExpressionAttributeNames": {"#name": "name"},
                }
            }
            for digest in digests
        ]
        self._transact(puts, f"Announcing {len(puts)} segments of {date}")

    def renounce(self, date: str, digests: Sequence[str], now_s: int, expires_at_s: int) -> None:
        """Note of objects whose deletion has begun that they are to be deleted once more."""
        for digest in digests:
            self._update(
                keys.catalog_key(date, digest),
                "SET superseded_s = :now, #ttl = :ttl REMOVE gone_s",
                "attribute_exists(doomed)",
                {":now": _number(now_s), ":ttl": _number(expires_at_s)},
                {"#ttl": "ttl"},
            )

    def swap(
        self,
        old: Sequence[Segment],
        new: Sequence[Segment],
        announced_s: int,
        now_s: int,
        expires_at_s: int,
    ) -> None:
        """Catalog `new` and supersede `old` in one transaction of at most 100 entries together.
        Raises Refused, with nothing changed, where one of them is not as it must be."""
        by = {"L": [{"S": segment.digest} for segment in new]}
        supersede = [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": _item_key(key_of(segment)),
                    "UpdateExpression": "SET superseded_s = :now, #by = :by",
                    "ConditionExpression": f"etag = :etag AND {_NOT_SUPERSEDED}",
                    "ExpressionAttributeNames": {"#by": "by"},
                    "ExpressionAttributeValues": {
                        ":now": _number(now_s),
                        ":by": by,
                        ":etag": {"S": segment.etag},
                    },
                }
            }
            for segment in old
        ]
        catalog = [
            {
                "Put": {
                    "TableName": self._table,
                    "Item": encode_entry(segment, expires_at_s),
                    "ConditionExpression": f"superseded_s = :then AND {_ANNOUNCED}",
                    "ExpressionAttributeNames": {"#name": "name"},
                    "ExpressionAttributeValues": {":then": _number(announced_s)},
                }
            }
            for segment in new
        ]
        self._transact([*supersede, *catalog], f"Swapping {len(old)} segments for {len(new)}")

    def doom(self, entry: Superseded) -> bool:
        """Note that the object is being deleted; False where the entry is no longer as it was seen."""
        values: dict[str, Attribute] = {":yes": {"BOOL": True}, ":seen": _number(entry.superseded_s)}
        return self._update(key_of(entry), "SET doomed = :yes", _AS_SEEN, values)

    def bury(self, entry: Superseded, now_s: int, expires_at_s: int) -> None:
        """Note that the object was deleted; an entry that is no longer as it was seen stays."""
        values = {
            ":gone": _number(now_s),
            ":ttl": _number(expires_at_s),
            ":seen": _number(entry.superseded_s),
        }
        self._update(key_of(entry), "SET gone_s = :gone, #ttl = :ttl", _AS_SEEN, values, {"#ttl": "ttl"})

    def revive(self, segment: Segment, expires_at_s: int) -> bool:
        """Catalog a superseded segment again; False where its deletion has begun, or it is not superseded."""
        return self._put(
            segment, expires_at_s, "attribute_exists(superseded_s) AND attribute_not_exists(doomed)"
        )

    # --- requests -------------------------------------------------------------------------

    def _put(
        self,
        segment: Segment,
        expires_at_s: int,
        condition: str,
        values: dict[str, Attribute] | None = None,
    ) -> bool:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Item": encode_entry(segment, expires_at_s),
            "ConditionExpression": condition,
        }
        if values:
            request["ExpressionAttributeValues"] = values
        try:
            with translated(f"Writing a catalog entry to table {self._table}"):
                self._client.put_item(**request)
        except Refused:
            return False
        return True

    def _update(
        self,
        key: Key,
        change: str,
        condition: str,
        values: dict[str, Attribute],
        names: dict[str, str] | None = None,
    ) -> bool:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Key": _item_key(key),
            "UpdateExpression": change,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": values,
        }
        if names:
            request["ExpressionAttributeNames"] = names
        try:
            with translated(f"Changing a catalog entry of table {self._table}"):
                self._client.update_item(**request)
        except Refused:
            return False
        return True

    def _transact(self, actions: Sequence[dict[str, Any]], what: str) -> None:
        if len(actions) > ACTIONS_PER_SWAP:
            raise ValueError(f"a transaction takes {ACTIONS_PER_SWAP} entries, not {len(actions)}")
        with translated(f"{what} in table {self._table}"):
            try:
                self._client.transact_write_items(TransactItems=actions)
            except self._client.exceptions.ClientError as error:
                if is_lost_race(error):
                    raise Refused(f"{what} in table {self._table} was refused. {LOST_RACE}") from error
                raise


def _item_key(key: Key) -> dict[str, Attribute]:
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def _number(value: int) -> Attribute:
    return {"N": str(value)}
