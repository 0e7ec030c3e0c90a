"""Which records of a stream were stored together, and what the function said of each such batch."""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from infra.local.batching import Record, lane_of

MOST_BATCHES = 10_000
"""Older batches are forgotten; `dropped` counts them."""
TOLD = ("readings", "chunks", "write_units", "units", "written_s", "new_sensors", "sensors")
"""What is kept of the line `stored` of store_readings."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """One batch: the records of a shard's lane (of `lanes`) from `first` to `last`, both included.

    `told` is what the function's log says of it, empty where its log had no such line.
    """

    shard_id: str
    lane: int
    lanes: int
    first: str
    last: str
    records: int
    told: dict[str, Any]


class Journal:
    """The newest batches, oldest first. Thread-safe; kept in memory, from the start of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches: deque[StoredBatch] = deque(maxlen=MOST_BATCHES)
        self._added = 0

    def add(self, shard_id: str, lanes: int, records: Sequence[Record], log: str) -> None:
        """A batch was stored; `log` is the end of what the function logged."""
        lane = lane_of(records[0].order_key, lanes)
        batch = StoredBatch(
            shard_id, lane, lanes, records[0].sequence, records[-1].sequence, len(records), stored_line(log)
        )
        with self._lock:
            self._batches.append(batch)
            self._added += 1

    def snapshot(self) -> dict[str, Any]:
        """The batches as JSON, and how many were dropped."""
        with self._lock:
            found = list(self._batches)
            dropped = self._added - len(found)
        return {"batches": [asdict(batch) for batch in found], "dropped": dropped}


def stored_line(log: str) -> dict[str, Any]:
    """What the last line `stored` of a log says; empty where there is none."""
    for line in reversed(log.splitlines()):
        if '"stored"' not in line:
            continue
        try:
            document: Any = json.loads(line[line.index("{") :])
        except ValueError:
            continue
        if isinstance(document, dict) and cast(dict[str, Any], document).get("message") == "stored":
            said = cast(dict[str, Any], document)
            return {name: said[name] for name in TOLD if name in said}
    return {}
