"""Deletes items whose `ttl` is past: tickets by key, chunks and catalog entries by a sweep of the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from botocore.exceptions import ClientError

from infra.deploy import TTL_ATTRIBUTE
from infra.local.faults import error_code
from ingest import keys
from ingest.keys import Key
from ingest.stores import HotStore

DELETES_AT_ONCE = 100
"""The most actions of one TransactWriteItems ("Amazon DynamoDB Transactions: How it works")."""
GETS_AT_ONCE = 100
"""The most items of one BatchGetItem ("BatchGetItem", API reference)."""
Progress = Callable[[str], None]


class Sweep:
    """Finds chunks and catalog entries whose `ttl` is past, page by page, and deletes them.

    A chunk goes only when no slot that was due by the same time has a manifest left: its own
    slot lies before its `ttl`, and its manifest was written before it. So after the chunk
    was seen, an empty slot means that it is catalogued.
    """

    def __init__(self, table: ExpiringTable, hot: HotStore, page_items: int) -> None:
        self._table = table
        self._hot = hot
        self._page_items = page_items
        self.kept = self.chunks = self.entries = 0
        self._resume: dict[str, Any] | None = None
        self._began_s = 0.0
        self._earliest_s = float("inf")
        self._next_s = 0.0

    def step(self, now_s: float) -> int:
        """Sweep one page, where anything can be due by now; how many items were deleted."""
        if now_s < self._next_s:
            return 0
        if self._resume is None:
            self._began_s, self._earliest_s = now_s, float("inf")
        before = self.chunks + self.entries
        self._resume = self._page(now_s)
        if self._resume is None:
            self._next_s = max(now_s + 1, min(self._earliest_s, self._began_s + self._shortest_s(now_s)))
        return self.chunks + self.entries - before

    def whole(self, now_s: float, progress: Progress) -> None:
        """Sweep the whole table as of `now_s`; `chunks`, `entries` and `kept` then say what became of them."""
        while True:
            self._resume = self._page(now_s)
            if self._resume is None:
                return
            progress(f"{self.chunks} expired chunks deleted")

    def _page(self, now_s: float) -> dict[str, Any] | None:
        found, resume = self._table.scan(self._page_items, self._resume)
        chunks = [key for key, ttl_s in found if ttl_s <= now_s and key.pk.startswith(keys.CHUNK_PREFIX)]
        entries = [key for key, ttl_s in found if ttl_s <= now_s and key.pk.startswith(keys.CATALOG_PREFIX)]
        later = [ttl_s for _, ttl_s in found if ttl_s > now_s]
        if chunks and any(self._open(now_s)):
            later.append(int(now_s) + 5)
            self.kept += len(chunks)
            chunks = []
        self._earliest_s = min([self._earliest_s, *later])
        self.chunks += self._table.delete_if_past(chunks, now_s)
        self.entries += self._table.delete_if_past(entries, now_s)
        return resume

    def _open(self, now_s: float) -> Iterator[bool]:
        """For each slot due by then, whether it still has manifests."""
        for slot_s in self._hot.open_slots(int(now_s)):
            yield any(page for page in self._hot.manifests(slot_s))

    def _shortest_s(self, now_s: float) -> float:
        """How long a chunk that is written from now on lives at least."""
        layout = self._hot.load_layout()
        return layout.at(now_s).hot_retention_s if layout is not None else 60.0


class ExpiringTable:
    """What the clock does to the table itself: looking at `ttl`, and deleting where it is past."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table

    def scan(
        self, limit: int, resume: dict[str, Any] | None
    ) -> tuple[list[tuple[Key, int]], dict[str, Any] | None]:
        """Key and `ttl` of those of the next `limit` items that have one; where to go on, None at the end."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "Limit": limit,
            "ProjectionExpression": "pk, sk, #ttl",
            "ExpressionAttributeNames": {"#ttl": TTL_ATTRIBUTE},
        }
        if resume is not None:
            request["ExclusiveStartKey"] = resume
        page: dict[str, Any] = self._client.scan(**request)
        found = [
            (Key(item["pk"]["S"], item["sk"]["S"]), int(item[TTL_ATTRIBUTE]["N"]))
            for item in cast(list[dict[str, Any]], page["Items"])
            if TTL_ATTRIBUTE in item
        ]
        return found, page.get("LastEvaluatedKey") or None

    def present(self, wanted: Sequence[Key]) -> set[Key]:
        """Which of the items exist; consistent."""
        found: set[Key] = set()
        for start in range(0, len(wanted), GETS_AT_ONCE):
            asked: Any = [
                {"pk": {"S": key.pk}, "sk": {"S": key.sk}} for key in wanted[start : start + GETS_AT_ONCE]
            ]
            while asked:
                request = {"Keys": asked, "ConsistentRead": True, "ProjectionExpression": "pk, sk"}
                answer: Any = self._client.batch_get_item(RequestItems={self._table: request})
                items: list[Any] = answer["Responses"].get(self._table, [])
                found.update(Key(item["pk"]["S"], item["sk"]["S"]) for item in items)
                asked = answer.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
        return found

    def delete_if_past(self, wanted: Sequence[Key], now_s: float) -> int:
        """Delete each item on condition that it exists and its `ttl` is not after `now_s`; how many went."""
        groups = [wanted[i : i + DELETES_AT_ONCE] for i in range(0, len(wanted), DELETES_AT_ONCE)]
        return sum(self._delete_group(group, now_s) for group in groups)

    def _delete_group(self, group: Sequence[Key], now_s: float) -> int:
        condition = {
            "TableName": self._table,
            "ConditionExpression": "#ttl <= :now",
            "ExpressionAttributeNames": {"#ttl": TTL_ATTRIBUTE},
            "ExpressionAttributeValues": {":now": {"N": str(int(now_s))}},
        }
        while group:
            deletes = [
                {"Delete": {"Key": {"pk": {"S": key.pk}, "sk": {"S": key.sk}}, **condition}} for key in group
            ]
            try:
                self._client.transact_write_items(TransactItems=deletes)
            except ClientError as error:
                refused = _refused(error)
                if not refused:
                    raise
                group = [key for key, why in zip(group, refused, strict=True) if not why]
            else:
                return len(group)
        return 0


def _refused(error: ClientError) -> list[bool]:
    """Which actions of a cancelled transaction did not meet their condition; [] for any other error."""
    if error_code(error) != "TransactionCanceledException":
        return []
    reasons = cast(list[dict[str, str]], cast(Any, error.response).get("CancellationReasons") or [])
    refused = [reason.get("Code") == "ConditionalCheckFailed" for reason in reasons]
    return refused if any(refused) else []
