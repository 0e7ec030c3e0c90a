"""DynamoDB's TTL and the archiver's schedule, as the local stack keeps them: through public APIs only.

TTL is never enabled on the emulator, which would delete without a stream record. A conditional
DeleteItem does what TTL does on AWS: the item goes, and its REMOVE appears in the table's stream.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from infra.local.faults import SERVICE_FAULTS
from infra.local.invoker import Answer
from infra.local.sweep import ExpiringTable, Progress, Sweep
from ingest import keys
from ingest.errors import ThermoclineError, Unavailable
from ingest.stores import HotStore

_log = logging.getLogger(__name__)
SCHEDULE_EVENT = {"source": "thermocline.schedule"}


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
        self._ticked_s = clock()

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

    def status(self) -> dict[str, Any]:
        """Whether the clock's thread lives, and how many seconds ago it last ticked without a fault."""
        alive = self._thread is not None and self._thread.is_alive()
        return {"alive": alive, "quiet_s": round(self._clock() - self._ticked_s, 1)}

    def tick(self) -> None:
        """What the clock does each second: tickets, overdue slots, a page of the sweep."""
        now_s = self._clock()
        self._expire_due(now_s)
        self._sweep.step(now_s)
        self._ticked_s = now_s

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


def _schedule_event(until_s: int) -> bytes:
    return json.dumps({**SCHEDULE_EVENT, "until_s": until_s}).encode()
