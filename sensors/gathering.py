"""What a gateway holds between broker and stream: messages in order, what is acknowledged, when to flush; pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

QUIET_LEAST = 10
"""So many messages must wait before silence counts as a sign that the broker's window is full."""


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
    """

    def __init__(self, *, window: int, flush_s: float, flush_bytes: int) -> None:
        self.session = 0
        self.window = window
        self._most = window
        self._flush_s = flush_s
        self._flush_bytes = flush_bytes
        self._waiting: list[Message] = []
        self._waiting_bytes = 0
        self._first_s = 0.0
        self._last_s = 0.0
        self._taken: deque[Batch] = deque()
        self._unacknowledged = 0

    def add(self, message: Message, now_s: float) -> None:
        """Take a message in; `now_s` counts seconds from any moment."""
        if not self._waiting:
            self._first_s = now_s
        self._last_s = now_s
        self._waiting.append(message)
        self._waiting_bytes += len(message.payload)
        self._unacknowledged += 1
        if self._unacknowledged > self.window:
            self.window = self._most

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until a flush is due: 0 where it is, None where nothing waits."""
        count = len(self._waiting)
        if not count:
            return None
        if count >= max(1, self.window // 2) or self._waiting_bytes >= self._flush_bytes:
            return 0.0
        due_s = self._first_s + self._flush_s
        if self._unacknowledged >= QUIET_LEAST and not self._taken:
            due_s = min(due_s, self._last_s + self._flush_s / 10)
        return max(0.0, due_s - now_s)

    def take(self, now_s: float) -> Batch:
        """Everything that waits, as one batch that is to be settled."""
        quiet = now_s - self._last_s >= self._flush_s / 10
        if quiet and not self._taken and QUIET_LEAST <= self._unacknowledged < self.window:
            self.window = self._unacknowledged
        batch = Batch(self._waiting, self.session, self._waiting_bytes)
        self._waiting, self._waiting_bytes = [], 0
        self._taken.append(batch)
        return batch

    def settle(self) -> list[int]:
        """Kinesis accepted the oldest batch: the packet identifiers to acknowledge now, in order."""
        batch = self._taken.popleft()
        if batch.session != self.session:
            return []
        self._unacknowledged -= len(batch.messages)
        return [message.mid for message in batch.messages if message.mid]

    def connection_lost(self) -> int:
        """Forget what waits, and acknowledge nothing of what was taken: how many messages will come again.

        Messages that await no answer (QoS 0) will not; they are kept.
        """
        lost = self._unacknowledged
        self._waiting = [message for message in self._waiting if not message.mid]
        self._waiting_bytes = sum(len(message.payload) for message in self._waiting)
        self._unacknowledged = len(self._waiting)
        self.session += 1
        return lost - self._unacknowledged

    @property
    def unacknowledged(self) -> int:
        """Messages of this connection that are not acknowledged."""
        return self._unacknowledged

    @property
    def held_bytes(self) -> int:
        """Payload held: what waits and what was taken and is not settled, whatever its connection."""
        return self._waiting_bytes + sum(batch.size_bytes for batch in self._taken)
