"""What a gateway holds between broker and stream: messages in order, what is acknowledged, when to flush; pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

from sensors.ends import Ends

QUIET_LEAST = 10
"""So many messages must wait before silence counts as a sign that the broker's window is full."""
PROMPT_S = 1.0
"""A broker whose window was full sends more within this time of an acknowledgement, or a twentieth of `flush_s`."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received. `mid` is the broker's packet identifier; 0 where it awaits no answer."""

    mid: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages taken together, in order. `session` is the connection they came by, `size_bytes` their payload."""

    messages: list[Message]
    session: int
    size_bytes: int


class Gathering:
    """The messages of a gateway that are not acknowledged yet.

    Messages are taken in batches, batches are settled in the order in which they were taken,
    and so packet identifiers come out in the order of receipt, as MQTT asks for (MQTT 5,
    section 4.6). What belongs to a lost connection is never acknowledged: the broker sends
    it again, under identifiers that may be others by then.

    A flush is due when something has waited for `flush_s`, when `flush_bytes` of payload wait,
    or when half of the window waits, so that the other half can arrive meanwhile. The window
    is how many unacknowledged messages the broker sends: `window` is what it was asked for. A broker
    may allow fewer without saying so. Then it falls silent, which is noticed after a tenth of
    `flush_s` and taken as its window until more than that are seen to arrive.

    With `ends`, a flush is due by time a little after the next end. Messages that came since then wait
    for the next flush, except those whose readings are all from before the end; such a one is sent now, and
    acknowledged in its turn. Sensors may well be silent for a tenth of so long a time. So silence counts as
    the broker's only if more arrives promptly once something was acknowledged; if not, so many messages
    may wait in silence from then on.
    """

    def __init__(self, *, window: int, flush_s: float, flush_bytes: int, ends: Ends | None = None) -> None:
        self.session = 0
        self.window = window
        self._most = window
        self._flush_s = flush_s
        self._flush_bytes = flush_bytes
        self._ends = ends
        self._waiting: list[Message] = []
        self._received_s: list[float] = []
        self._waiting_bytes = 0
        self._due_s = self._end_s = 0.0
        self._last_s = 0.0
        self._taken: deque[Batch] = deque()
        self._unacknowledged: deque[Message] = deque()
        self._settled: set[int] = set()
        self._suspected = self._harmless = 0
        self._freed_s: float | None = None

    def add(self, message: Message, now_s: float) -> None:
        """Take a message in; `now_s` counts seconds from any moment."""
        if not self._waiting:
            self._await_flush(now_s)
        if self._freed_s is not None:
            self._judge_silence(is_the_brokers=now_s - self._freed_s <= min(PROMPT_S, self._flush_s / 20))
        self._last_s = now_s
        self._waiting.append(message)
        self._received_s.append(now_s)
        self._waiting_bytes += len(message.payload)
        self._unacknowledged.append(message)
        if len(self._unacknowledged) > self.window:
            self.window = self._most

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until a flush is due: 0 where it is, None where nothing waits."""
        count = len(self._waiting)
        if not count:
            return None
        if count >= max(1, self.window // 2) or self._waiting_bytes >= self._flush_bytes:
            return 0.0
        due_s = self._due_s
        if self._is_telling() and not self._taken:
            due_s = min(due_s, self._last_s + self._flush_s / 10)
        return max(0.0, due_s - now_s)

    def take(self, now_s: float) -> Batch:
        """What is to be sent now, as one batch that is to be settled: everything that waits, but for messages
        from after the end where it is the clock that makes the flush due."""
        quiet = now_s - self._last_s >= self._flush_s / 10
        if quiet and not self._taken and self._is_telling() and len(self._unacknowledged) < self.window:
            self._suspected = len(self._unacknowledged)
            if self._ends is None:
                self._judge_silence(is_the_brokers=True)
        taken, kept = self._waiting, 0
        if self._ends is not None and now_s >= self._due_s:
            taken, kept = self._until_end(self._ends)
        size_bytes = self._waiting_bytes
        self._waiting_bytes = sum(len(message.payload) for message in self._waiting) if kept else 0
        if kept:
            self._await_flush(now_s)
        else:
            self._waiting, self._received_s = [], []
        batch = Batch(taken, self.session, size_bytes - self._waiting_bytes)
        self._taken.append(batch)
        return batch

    def _is_telling(self) -> bool:
        """Whether so many messages wait that silence may be the broker's."""
        return len(self._unacknowledged) >= max(QUIET_LEAST, self._harmless + 1)

    def _judge_silence(self, *, is_the_brokers: bool) -> None:
        if is_the_brokers:
            self.window = self._suspected
        else:
            self._harmless = max(self._harmless, self._suspected)
        self._suspected, self._freed_s = 0, None

    def _await_flush(self, now_s: float) -> None:
        """Say when what waits from now on is due."""
        if self._ends is None:
            self._due_s = now_s + self._flush_s
        else:
            self._end_s = now_s + self._ends.in_s()
            self._due_s = self._end_s + self._ends.lag_s

    def _until_end(self, ends: Ends) -> tuple[list[Message], int]:
        """The messages that belong before the last end, and how many others go on waiting."""
        first = bisect_left(self._received_s, self._end_s)
        taken, kept, kept_s, end_us = self._waiting[:first], list[Message](), list[float](), ends.last_us()
        for message, received_s in zip(self._waiting[first:], self._received_s[first:], strict=True):
            if ends.is_before(message, end_us):
                taken.append(message)
            else:
                kept.append(message)
                kept_s.append(received_s)
        self._waiting, self._received_s = kept, kept_s
        return taken, len(kept)

    def settle(self, now_s: float) -> list[int]:
        """Kinesis accepted the oldest batch: the packet identifiers to acknowledge now, in order."""
        batch = self._taken.popleft()
        if batch.session != self.session:
            return []
        if self._suspected:
            self._freed_s = now_s
        self._settled.update(map(id, batch.messages))
        mids: list[int] = []
        while self._unacknowledged and id(self._unacknowledged[0]) in self._settled:
            message = self._unacknowledged.popleft()
            self._settled.discard(id(message))
            if message.mid:
                mids.append(message.mid)
        return mids

    def connection_lost(self) -> int:
        """Forget what waits, and acknowledge nothing of what was taken: how many messages will come again.

        Messages that await no answer (QoS 0) will not; they are kept.
        """
        lost = len(self._unacknowledged)
        kept = [place for place, message in enumerate(self._waiting) if not message.mid]
        self._received_s = [self._received_s[place] for place in kept]
        self._waiting = [self._waiting[place] for place in kept]
        self._waiting_bytes = sum(len(message.payload) for message in self._waiting)
        self._unacknowledged = deque(self._waiting)
        self._settled.clear()
        self._suspected, self._freed_s = 0, None
        self.session += 1
        return lost - len(self._unacknowledged)

    @property
    def unacknowledged(self) -> int:
        """Messages of this connection that are not acknowledged."""
        return len(self._unacknowledged)

    @property
    def held_bytes(self) -> int:
        """Payload held: what waits and what was taken and is not settled, whatever its connection."""
        return self._waiting_bytes + sum(batch.size_bytes for batch in self._taken)
