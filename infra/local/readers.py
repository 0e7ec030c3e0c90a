"""One reader per shard: polls it, drops what the filter does not want, and deals the rest to its lanes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from botocore.exceptions import ClientError

from infra.local.batching import MOST_PAYLOAD_BYTES, Record, lane_of
from infra.local.destinations import Destinations
from infra.local.faults import SERVICE_FAULTS, error_code
from infra.local.invoker import Invoker
from infra.local.lanes import Lane, Timing, Tracker, Trouble
from infra.local.mappings import SourceMapping
from infra.local.shards import Page, ShardSource, Wanted

_log = logging.getLogger(__name__)
_GONE = ("ResourceNotFoundException",)
_READ_AHEAD = 2
"""How many full batches per lane are read ahead of the function."""


class ShardReader:
    """Reads one shard from a checkpoint on and keeps its lanes fed; a thread of its own."""

    def __init__(
        self,
        mapping: Callable[[], SourceMapping],
        source: ShardSource,
        shard_id: str,
        after: str | None,
        *,
        from_horizon: bool,
        invoker: Invoker,
        destinations: Destinations,
        timing: Timing,
    ) -> None:
        self._mapping = mapping
        self._source = source
        self.shard_id = shard_id
        self._from_horizon = from_horizon
        self._timing = timing
        self.tracker = Tracker(after)
        self._last_read = after
        self._seen_until_s = 0.0
        self._ended = False
        self._trouble: Trouble | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()
        name = f"{mapping().function_name}/{shard_id[-6:]}"
        self._lanes = [
            Lane(mapping, shard_id, self.tracker, invoker, destinations, timing, f"{name}/{lane}")
            for lane in range(mapping().lanes)
        ]
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def drained(self) -> bool:
        """Whether the shard is closed, read to its end, and every record of it finished."""
        return self._ended and self.tracker.pending == 0

    def trouble(self) -> Trouble | None:
        """The oldest trouble of the reader or one of its lanes."""
        all_of_them = (self._trouble, *(lane.trouble for lane in self._lanes))
        troubles = [one for one in all_of_them if one is not None]
        return min(troubles, key=lambda one: one.since, default=None)

    def has_read(self, until_s: float) -> bool:
        """Whether every record that arrived up to this instant (epoch seconds) was read."""
        return self._ended or self._seen_until_s > until_s

    def poll_now(self) -> None:
        """Read at once instead of at the next poll."""
        self._wake.set()

    def close_windows(self) -> None:
        """Send what the lanes hold now without waiting for their windows."""
        for lane in self._lanes:
            lane.close_window()

    def stop(self) -> None:
        """Ask all threads to end after what they are at."""
        self._stopping.set()
        self._wake.set()
        for lane in self._lanes:
            lane.stop()

    def join(self, deadline: float, monotonic: Callable[[], float]) -> None:
        """Wait for the threads, at most until the deadline (monotonic seconds)."""
        self._thread.join(max(0.0, deadline - monotonic()))
        for lane in self._lanes:
            lane.join(max(0.0, deadline - monotonic()))

    def _run(self) -> None:
        iterator: str | None = None
        wanted = self._mapping().wanted()
        last_found = self._timing.monotonic()
        failures = 0
        while not self._stopping.is_set():
            if self._is_full():
                self._stopping.wait(self._timing.poll_s)
                continue
            self._wake.clear()
            started_s = self._timing.clock()
            try:
                if iterator is None:
                    iterator = self._source.iterator(
                        self.shard_id, self._last_read, from_horizon=self._from_horizon
                    )
                page = self._source.read(self.shard_id, iterator, wanted)
            except SERVICE_FAULTS as error:
                if self._stopping.is_set() or self._is_gone(error):
                    return
                failures += 1
                self._note(error, failures)
                iterator = None
                self._stopping.wait(min(self._timing.most_backoff_s, self._timing.poll_s * 2**failures))
                continue
            failures, self._trouble = 0, None
            self._deal(page, wanted)
            self._seen_until_s = page.newest_s if page.newest_s is not None else started_s
            iterator = page.following
            if iterator is None:
                self._ended = True
                return
            now = self._timing.monotonic()
            if page.sequences:
                last_found = now
            else:
                self._wake.wait(self._pause_s(now - last_found))

    def _deal(self, page: Page, wanted: Wanted | None) -> None:
        if page.sequences:
            self._last_read = page.sequences[-1]
        self.tracker.begin(page.sequences, page.oldest_s)
        if wanted is not None and len(page.records) < len(page.sequences):
            kept = {record.sequence for record in page.records}
            self.tracker.finish([sequence for sequence in page.sequences if sequence not in kept])
        hands: list[list[Record]] = [[] for _ in self._lanes]
        for record in page.records:
            hands[lane_of(record.order_key, len(self._lanes))].append(record)
        for lane, hand in zip(self._lanes, hands, strict=True):
            if hand:
                lane.put(hand)

    def _pause_s(self, idle_s: float) -> float:
        return self._timing.poll_s if idle_s < self._timing.idle_after_s else self._timing.idle_poll_s

    def _is_full(self) -> bool:
        batches = _READ_AHEAD * len(self._lanes)
        return (
            sum(lane.pending_bytes for lane in self._lanes) >= batches * MOST_PAYLOAD_BYTES
            or sum(lane.pending for lane in self._lanes) >= batches * self._mapping().rules.batch_size
        )

    def _is_gone(self, error: Exception) -> bool:
        if not isinstance(error, ClientError) or error_code(error) not in _GONE:
            return False
        _log.warning("%s is gone from %s", self.shard_id, self._mapping().source_arn)
        self._ended = True
        return True

    def _note(self, error: Exception, failures: int) -> None:
        since = self._trouble.since if self._trouble is not None else self._timing.monotonic()
        self._trouble = Trouble(since, f"{self.shard_id} could not be read: {error}")
        if failures & (failures - 1) == 0:
            _log.warning("%s could not be read, failure %d: %s", self.shard_id, failures, error)
