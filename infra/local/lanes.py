"""One concurrent lane of a shard: gathers records into batches, sends them, and sees failures through."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from infra.local import batching
from infra.local.batching import Record, Rules, Verdict, Work
from infra.local.destinations import Condition, Destinations, Discard
from infra.local.faults import SERVICE_FAULTS
from infra.local.invoker import Answer, Invoker
from infra.local.mappings import SourceMapping

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """Clocks and waits of the local event sources; the waits are far shorter than on AWS.

    `first_backoff_s` doubles with each failure in a row up to `most_backoff_s`. Polling
    slows down step by step while a shard is idle.
    """

    first_backoff_s: float = 0.2
    most_backoff_s: float = 5.0
    poll_s: float = 0.05
    idle_poll_s: float = 0.1
    idle_after_s: float = 5.0
    rescan_s: float = 3.0
    save_s: float = 2.0
    clock: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Trouble:
    """A batch that keeps failing: since when (monotonic seconds), and why."""

    since: float
    reason: str


class Tracker:
    """Which records of a shard were read and which of them are finished; the checkpoint follows from it.

    Thread-safe. Counts run from the start of the process.
    """

    def __init__(self, after: str | None) -> None:
        self._changed = threading.Condition()
        self._open: deque[tuple[str, float | None]] = deque()
        self._finished: set[str] = set()
        self._after = after
        self._read = 0
        self._done = 0

    def begin(self, sequences: Sequence[str], arrived_s: float | None = None) -> None:
        """The records were read, in this order; the first arrived at `arrived_s` (epoch seconds)."""
        with self._changed:
            self._open.extend((sequence, arrived_s) for sequence in sequences)
            self._read += len(sequences)

    def finish(self, sequences: Sequence[str]) -> None:
        """The records are stored, filtered out or given up."""
        with self._changed:
            self._finished.update(sequences)
            while self._open and self._open[0][0] in self._finished:
                self._after = self._open.popleft()[0]
                self._finished.discard(self._after)
                self._done += 1
            self._changed.notify_all()

    @property
    def after(self) -> str | None:
        """The last sequence number up to which all is finished."""
        with self._changed:
            return self._after

    @property
    def oldest_s(self) -> float | None:
        """When the oldest record arrived that is not finished, at the earliest; None where all are."""
        with self._changed:
            return self._open[0][1] if self._open else None

    @property
    def read(self) -> int:
        """How many records were read."""
        with self._changed:
            return self._read

    @property
    def pending(self) -> int:
        """How many records were read and are not finished, nor is everything before them."""
        with self._changed:
            return len(self._open)

    def wait_done(self, count: int, timeout_s: float) -> bool:
        """Wait until the first `count` records are finished; whether they are."""
        with self._changed:
            return self._changed.wait_for(lambda: self._done >= count, timeout_s)


class Lane:
    """A thread that sends one lane's records in order, one batch at a time."""

    def __init__(
        self,
        mapping: Callable[[], SourceMapping],
        shard_id: str,
        tracker: Tracker,
        invoker: Invoker,
        destinations: Destinations,
        timing: Timing,
        name: str,
    ) -> None:
        self._mapping = mapping
        self._shard_id = shard_id
        self._tracker = tracker
        self._invoker = invoker
        self._destinations = destinations
        self._timing = timing
        self._pending: deque[tuple[float, Record]] = deque()
        self._pending_bytes = 0
        self._put = 0
        self._taken = 0
        self._close_until = 0
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self.trouble: Trouble | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, records: Sequence[Record]) -> None:
        """Add records in the order of the shard."""
        now = self._timing.monotonic()
        with self._changed:
            self._pending.extend((now, record) for record in records)
            self._pending_bytes += sum(len(record.body) for record in records)
            self._put += len(records)
            self._changed.notify_all()

    @property
    def pending_bytes(self) -> int:
        """Bytes of the records that are not in a batch yet."""
        return self._pending_bytes

    @property
    def pending(self) -> int:
        """How many records are not in a batch yet."""
        return len(self._pending)

    def close_window(self) -> None:
        """Send what is here now without waiting for its window."""
        with self._changed:
            self._close_until = self._put
            self._changed.notify_all()

    def stop(self) -> None:
        """Ask the thread to end after its current invocation; what is pending stays unfinished."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread."""
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            while batch := self._next_batch():
                self._see_through(batch)
        finally:
            if not self._stopping.is_set():
                self.trouble = Trouble(
                    self._timing.monotonic(), "a lane ended by an internal error; see the log"
                )

    def _next_batch(self) -> tuple[Record, ...]:
        with self._changed:
            while not self._stopping.is_set():
                wait_s = self._seconds_to_close(self._mapping().rules)
                if wait_s == 0.0:
                    return self._take(self._mapping().rules.batch_size)
                self._changed.wait(wait_s)
        return ()

    def _seconds_to_close(self, rules: Rules) -> float | None:
        if not self._pending:
            return None
        if self._taken < self._close_until:
            return 0.0
        waited_s = self._timing.monotonic() - self._pending[0][0]
        return batching.seconds_to_close(len(self._pending), self._pending_bytes, waited_s, rules)

    def _take(self, batch_size: int) -> tuple[Record, ...]:
        count = batching.fitting((record for _, record in self._pending), batch_size)
        batch = tuple(record for _, record in islice(self._pending, count))
        for _ in range(count):
            self._pending.popleft()
        self._pending_bytes -= sum(len(record.body) for record in batch)
        self._taken += count
        return batch

    def _see_through(self, batch: tuple[Record, ...]) -> None:
        """Send a batch and whatever follows from it until each of its records is finished."""
        todo = [Work(batch)]
        failures = 0
        answer = Answer(reached=False)
        while todo and not self._stopping.is_set():
            mapping = self._mapping()
            work = todo.pop()
            old = batching.expired(work.records, self._timing.clock(), mapping.rules.most_age_s)
            if old:
                self._give_up(work.records[:old], "RecordAgeExceeded", work.invocations, answer)
                work = Work(work.records[old:], work.retries, work.invocations)
                if not work.records:
                    continue
            answer = self._invoker.invoke(mapping.function_arn, batching.event_body(work.records))
            if self._stopping.is_set() and not answer.reached:
                return
            verdict = _judge(work, answer, mapping.rules)
            if verdict.done and mapping.service == "kinesis":
                self._invoker.journal.add(self._shard_id, mapping.lanes, verdict.done, answer.log)
            self._tracker.finish([record.sequence for record in verdict.done])
            if verdict.given_up:
                self._give_up(verdict.given_up, "RetryAttemptsExhausted", work.invocations + 1, answer)
            todo.extend(reversed(verdict.again))
            if not verdict.again:
                failures, self.trouble = 0, None
                continue
            failures += 1
            self._note_trouble(mapping, work, answer, failures)
            if verdict.wait:
                self._stopping.wait(self._backoff_s(failures))
        self.trouble = None

    def _backoff_s(self, failures: int) -> float:
        return batching.backoff_s(failures, self._timing.first_backoff_s, self._timing.most_backoff_s)

    def _note_trouble(self, mapping: SourceMapping, work: Work, answer: Answer, failures: int) -> None:
        reason = answer.reason or f"{mapping.function_name} reported failed records"
        since = self.trouble.since if self.trouble is not None else self._timing.monotonic()
        self.trouble = Trouble(since, reason)
        if failures & (failures - 1) == 0:
            count = len(work.records)
            _log.warning("%d records of %s not done, failure %d: %s", count, self._shard_id, failures, reason)

    def _give_up(
        self, records: tuple[Record, ...], condition: Condition, invocations: int, answer: Answer
    ) -> None:
        discard = Discard(
            mapping=self._mapping(),
            shard_id=self._shard_id,
            records=records,
            condition=condition,
            invocations=invocations,
            request_id=answer.request_id,
            function_error=answer.function_error,
        )
        attempts = 0
        while not self._stopping.is_set():
            try:
                self._destinations.send(discard, self._timing.clock())
                break
            except SERVICE_FAULTS as error:
                attempts += 1
                _log.warning("the on-failure destination of %s refused: %s", discard.mapping.uuid, error)
                reason = f"the on-failure destination refused: {error}"
                self.trouble = Trouble(self._timing.monotonic(), reason)
                self._stopping.wait(self._backoff_s(attempts))
        else:
            return
        _log.warning("%d records of %s given up: %s", len(records), self._shard_id, condition)
        self._tracker.finish([record.sequence for record in records])


def _judge(work: Work, answer: Answer, rules: Rules) -> Verdict:
    """The verdict on one invocation; where the function was not reached, the same again."""
    if not answer.reached:
        return Verdict(again=(Work(work.records, work.retries, work.invocations),), wait=True)
    if answer.function_error is not None:
        return batching.after_failure(work, 0, rules)
    failed_at = batching.first_failure(work.records, answer.payload, rules)
    if failed_at == len(work.records):
        return batching.after_success(work)
    return batching.after_failure(work, failed_at, rules)
