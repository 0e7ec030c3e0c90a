"""Where a gateway's batches end by the clock, and which late messages still belong before an end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.wire import decode
from sensors.topics import Topics

if TYPE_CHECKING:
    from sensors.gathering import Message

MOST_LAG_S = 2.0
"""So long after an end readings that were taken before it are waited for, or a tenth of the interval."""


@dataclass(frozen=True, slots=True)
class Ends:
    """Ends at whole multiples of `every_s` since the epoch: where that divides the buckets' width, no batch
    has readings of two buckets. `now_ms` is the time of day."""

    every_s: float
    topics: Topics
    now_ms: Callable[[], int]

    @property
    def lag_s(self) -> float:
        """How long after an end the batch is taken."""
        return min(MOST_LAG_S, self.every_s / 10)

    def in_s(self) -> float:
        """Seconds until the next end: more than 0, at most the interval."""
        every_us = self._every_us
        return (every_us - self.now_ms() * 1000 % every_us) / 1e6

    def last_us(self) -> int:
        """The end that was passed last, epoch microseconds."""
        now_us = self.now_ms() * 1000
        return now_us - now_us % self._every_us

    def is_before(self, message: Message, end_us: int) -> bool:
        """Whether none of the message's readings is taken at the end or later; what cannot be read is before it."""
        sensor_id = self.topics.sensor_of(message.topic)
        if sensor_id is None:
            return True
        runs, problems = decode(message.payload, self.now_ms(), sensor_id)
        return bool(problems) or all(run.ts_us[-1] < end_us for run in runs)

    @property
    def _every_us(self) -> int:
        return max(1, round(self.every_s * 1e6))
