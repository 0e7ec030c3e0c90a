"""DynamoDB's TTL and the archiver's schedule, as the local stack keeps them: through public APIs only.

TTL is never enabled on the emulator, which would delete without a stream record. A conditional
DeleteItem does what TTL does on AWS: the item goes, and its REMOVE appears in the table's stream.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from botocore.exceptions import ClientError

from infra.deploy import TTL_ATTRIBUTE
from infra.local.faults import SERVICE_FAULTS, error_code
from infra.local.invoker import Answer
from ingest import keys
from ingest.errors import ThermoclineError, Unavailable
from ingest.keys import Key
from ingest.stores import HotStore

_log = logging.getLogger(__name__)
SCHEDULE_EVENT = {"source": "thermocline.schedule"}
Progress = Callable[[str], None]
DELETES_AT_ONCE = 100
"""The most actions of one TransactWriteItems ("Amazon DynamoDB Transactions: How it works")."""


@dataclass(frozen=True, slots=True)
class ClockOptions:
    """How often the clock looks and how much it does at a time.

    `grace_s` is how long the archiver waits for a chunk that a manifest names, and
    `stuck_limit_s`, which must be longer, how long it may make no headway. `overdue_s` is how
    long a due slot's manifests may stay after its ticket is gone before the archiver is asked
    directly. `sweep_items` are scanned per tick: a scan keeps the emulator busy.
    """

    grace_s: int
    tick_s: float = 1.0
    overdue_s: float = 2.0
    look_again_s: float = 5.0
    sweep_items: int = 200
    full_sweep_items: int = 1_000
    rounds: int = 4
    stuck_limit_s: float = 120.0


@dataclass(slots=True)
class Expired:
    """How many items of each kind went."""

    tickets: int = 0
    chunks: int = 0
    entries: int = 0


class TtlClock:
    """Expires tickets when their slot is due, has overdue slots archived, and sweeps out old chunks.

    `archive` invokes the archiver with an event and waits; `drain` returns when every
    record of the table's stream is handled (raising Unavailable where one keeps failing);
    `idle` says whether any is being handled.
    """

    def __init__(
        self,
        hot: HotStore,
        dynamodb: Any,
        table: str,
        archive: Callable[[bytes], Answer],
        *,
        drain: Callable[[], None],
        idle: Callable[[], bool],
        options: ClockOptions,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._hot = hot
        self._table = ExpiringTable(dynamodb, table)
        self._archive = archive
        self._drain = drain
        self._idle = idle
        self._options = options
        self._clock = clock
        self._busy = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(1, "ttl-clock-archive")
        self._asked: Future[Answer] | None = None
        self._ticket_gone: dict[int, float] = {}
        self._look_at: dict[int, float] = {}
        self._next_tidy_s = 0.0
        self._sweep = Sweep(self._table, hot, options.sweep_items)

    def start(self) -> None:
        """Start ticking in a thread."""
        self._thread = threading.Thread(target=self._run, name="ttl-clock", daemon=True)
        self._thread.start()

    def stop(self, limit_s: float = 2.0) -> None:
        """Stop ticking; an archiver that was asked goes on by itself."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(limit_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def tick(self) -> None:
        """What the clock does each second: tickets, overdue slots, a page of the sweep."""
        now_s = self._clock()
        self._expire_due(now_s)
        self._sweep.step(now_s)

    def manifests_due(self, until_s: int | None = None) -> int:
        """How many manifests are due (up to `until_s`, else now) and not archived yet."""
        limit = int(self._clock()) if until_s is None else until_s
        return sum(self._manifests(slot_s) for slot_s in self._hot.open_slots(limit))

    def archive_due(self, progress: Progress, until_s: int | None = None) -> None:
        """Expire every ticket due by `until_s` (else now) and return when all those slots are catalogued.

        Raises Unavailable with the archiver's reason where it makes no headway for too long.
        """
        with self._busy:
            self._archive_until(int(self._clock()) if until_s is None else until_s, progress)

    def run_at(self, now_s: int, progress: Progress) -> Expired:
        """Everything the clock would do at that time (epoch seconds): what went.

        First the layout learns how early chunks leave, so that every query looks cold; then
        tickets; then, when every slot due by then is catalogued, chunks. Raises Unavailable.
        """
        with self._busy:
            self._save_early_expiry(now_s)
            went = Expired()
            for _ in range(self._options.rounds):
                went.tickets += self._archive_until(now_s, progress)
                sweep = Sweep(self._table, self._hot, self._options.full_sweep_items)
                sweep.whole(now_s, progress)
                went.chunks += sweep.chunks
                went.entries += sweep.entries
                if not sweep.kept:
                    break
            else:
                progress("readings kept arriving; the newest stay in the hot tier")
            progress(f"{went.chunks} expired chunks deleted")
            return went

    def _run(self) -> None:
        while not self._stopping.wait(self._options.tick_s):
            if not self._busy.acquire(blocking=False):
                continue
            try:
                self.tick()
            except (*SERVICE_FAULTS, ThermoclineError) as error:
                if not self._stopping.is_set():
                    _log.warning("the TTL clock missed a tick: %s", error)
            finally:
                self._busy.release()

    # --- each second ------------------------------------------------------------------

    def _expire_due(self, now_s: float) -> None:
        overdue: list[int] = []
        slots = self._hot.open_slots(int(now_s))
        for slot_s in slots:
            if self._look_at.get(slot_s, 0.0) > now_s:
                continue
            if self._table.delete_if_past([keys.ticket_key(slot_s)], now_s):
                self._ticket_gone[slot_s] = now_s
                continue
            if not self._manifests(slot_s):
                self._look_at[slot_s] = now_s + self._options.look_again_s
            elif now_s - self._ticket_gone.setdefault(slot_s, now_s) >= self._options.overdue_s:
                overdue.append(slot_s)
        for known in (self._ticket_gone, self._look_at):
            for slot_s in known.keys() - set(slots):
                del known[slot_s]
        if overdue and self._idle():
            self._ask(max(overdue))
        elif slots and slots[0] < now_s - self._options.grace_s and now_s >= self._next_tidy_s:
            self._next_tidy_s = now_s + 10 * self._options.look_again_s
            self._ask(int(now_s - self._options.grace_s))

    def _manifests(self, slot_s: int) -> int:
        return sum(len(page) for page in self._hot.manifests(slot_s))

    def _ask(self, until_s: int) -> None:
        """Have the archiver archive every open slot up to `until_s`, unless it is at it."""
        if self._asked is None or self._asked.done():
            self._asked = self._pool.submit(self._archive_and_tell, until_s)

    def _archive_and_tell(self, until_s: int) -> Answer:
        answer = self._archive(_schedule_event(until_s))
        if answer.reason and not self._stopping.is_set():
            _log.warning("overdue slots were not archived: %s", answer.reason)
        return answer

    # --- up to a time -----------------------------------------------------------------

    def _archive_until(self, until_s: int, progress: Progress) -> int:
        """Archive what is due by then; how many tickets it took."""
        slots = self._hot.open_slots(until_s)
        tickets = self._table.delete_if_past([keys.ticket_key(slot_s) for slot_s in slots], until_s)
        fewest, since_s, reason = -1, self._clock(), ""
        while True:
            self._drain()
            left = self.manifests_due(until_s)
            if left == 0:
                return tickets
            now_s = self._clock()
            if fewest < 0 or left < fewest:
                fewest, since_s = left, now_s
            if now_s - since_s > self._options.stuck_limit_s:
                raise Unavailable(
                    f"{left} manifests due by {until_s} are not archived, and none was for "
                    f"{now_s - since_s:.0f} s. {reason or 'Their chunks may still be missing.'}"
                )
            progress(f"{left} manifests to archive")
            answer = self._archive(_schedule_event(until_s))
            reason = answer.reason
            if self._stopping.wait(0.1 if not reason and self.manifests_due(until_s) < left else 1.0):
                raise Unavailable("The local stack is stopping.")

    def _save_early_expiry(self, now_s: int) -> None:
        early_s = int(now_s - self._clock()) + 1
        held = self._hot.load_layout()
        if held is None or early_s <= 1:
            return
        wanted = held.expired_early(early_s)
        if wanted != held:
            self._hot.save_layout(wanted, held)


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


def _schedule_event(until_s: int) -> bytes:
    return json.dumps({**SCHEDULE_EVENT, "until_s": until_s}).encode()
