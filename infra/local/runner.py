"""The process in which a local stack's event sources and TTL clock run; keeper.py starts it, again if need be."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from infra.local.compactor import Compactor
from infra.local.control import ControlServer
from infra.local.event_sources import EventSources, connect
from infra.local.faults import SERVICE_FAULTS
from infra.local.sweep import Progress
from infra.local.ttl_clock import ClockOptions, TtlClock
from infra.local.watch import health
from ingest import keys
from ingest.errors import Unavailable
from ingest.reading import EARLIEST_US, Span
from ingest.settings import Settings
from ingest.stores import Segment
from ingest.stores import connect as library
from ingest.stores.cold import S3ColdStore

INDEX_LIMIT_S = 15.0
PARENT_GONE_LIMIT_S = 0.3
"""What is under way may take so long to end where the parent is gone: nobody is left to keep it for."""


@dataclass(frozen=True, slots=True)
class Task:
    """What the process is to run. `state_file` is where it notes what it has read: a later process with the
    same task goes on there. `grace_s` is how long a function may run, and so how long a chunk is waited for."""

    endpoint_url: str
    region: str
    outputs: dict[str, str]
    state_file: str
    window_s: float
    grace_s: int


@dataclass(frozen=True, slots=True)
class Parts:
    """What runs around the emulator once it is deployed, and what reaches across those parts."""

    sources: EventSources
    clock: TtlClock
    compactor: Compactor
    stores: library.Stores
    rejects_bucket: S3ColdStore

    @classmethod
    def make(cls, task: Task) -> Parts:
        """The event sources and the clock of a deployment, not started yet."""
        outputs = task.outputs
        settings = Settings(outputs["TableName"], outputs["ArchiveBucket"], outputs["RejectsBucket"])
        stores = library.stores(settings, endpoint_url=task.endpoint_url, region=task.region)
        sources = EventSources(
            connect(task.endpoint_url, task.region),
            state_file=Path(task.state_file),
            stream_window_s=task.window_s,
        )
        archiver = outputs["ArchiveExpiredFunction"]
        clock = TtlClock(
            stores.hot,
            library.client("dynamodb", endpoint_url=task.endpoint_url, region=task.region),
            outputs["TableName"],
            lambda event: sources.invoker.invoke(archiver, event),
            drain=lambda: sources.flush(only="dynamodb"),
            idle=lambda: sources.pending("dynamodb") == 0,
            options=ClockOptions(grace_s=task.grace_s, stuck_limit_s=task.grace_s + 60.0),
        )
        compaction = outputs["CompactArchiveFunction"]
        compactor = Compactor(lambda event: sources.invoker.invoke(compaction, event))
        s3 = library.client("s3", endpoint_url=task.endpoint_url, region=task.region)
        return cls(sources, clock, compactor, stores, S3ColdStore(s3, settings.rejects_bucket))

    def start(self) -> None:
        """Start the event sources, then the clock and the compactor."""
        self.sources.start()
        self.clock.start()
        self.compactor.start()

    def stop(self, limit_s: float) -> None:
        """Stop the clock, then the event sources; each may end within `limit_s` what it is at."""
        self.compactor.stop()
        self.clock.stop(limit_s)
        self.sources.stop(limit_s)

    def store_all(self, progress: Progress) -> None:
        """Return when every record that is in the stream now is stored."""
        self.sources.flush(progress, only="kinesis")

    def segments(self) -> Sequence[Segment]:
        """Every segment in the catalog."""
        return self.stores.catalog.find(self._everything())

    @staticmethod
    def _everything() -> Span:
        return Span(EARLIEST_US, int((time.time() + 2 * keys.DAY_S) * keys.US))

    def index_all(self, progress: Progress) -> None:
        """Return when every segment in the bucket is in the catalog, be it as a superseded one.

        An object that is named like one and cannot be cataloged is waited for 15 s, then
        told of: it holds nobody up for ever.
        """
        deadline = time.monotonic() + INDEX_LIMIT_S
        while True:
            names = set(self.stores.cold.names(keys.SEGMENT_PREFIX))
            missing = {name for name in names if keys.parse_segment_name(name) is not None}
            entries = self.stores.catalog.entries(self._everything())
            missing -= {keys.segment_name(entry.date, entry.digest) for entry in entries}
            if not missing:
                return
            progress(f"{len(missing)} segments to index")
            if time.monotonic() > deadline:
                progress(f"{len(missing)} objects could not be indexed, such as {min(missing)}")
                return
            time.sleep(0.1)


class Runner:
    """What the process does when asked, by the control server's calls."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.stop_wanted = threading.Event()

    def status(self) -> dict[str, Any]:
        """Of the event sources, the clock and the catalog. Raises Unavailable."""
        segments = self._parts.segments()
        return {
            "sources": self._parts.sources.status(),
            "health": health(
                self._parts.sources, self._parts.stores.hot, self._parts.rejects_bucket, time.time()
            ),
            "ttl_clock": self._parts.clock.status(),
            "manifests_due": self._parts.clock.manifests_due(),
            "segments": len(segments),
            "segment_rows": sum(segment.rows for segment in segments),
            "segment_bytes": sum(segment.size_bytes for segment in segments),
        }

    def batches(self) -> dict[str, Any]:
        """Which batches were stored since this process began (`infra.local.journal.Journal.snapshot`)."""
        return self._parts.sources.invoker.journal.snapshot()

    def store(self, progress: Progress) -> None:
        """Return when everything sent so far is stored. Raises Unavailable."""
        with _translated():
            self._parts.store_all(progress)

    def flush(self, progress: Progress) -> None:
        """Return when everything sent so far is stored, archived where due, and indexed. Raises Unavailable."""
        with _translated():
            self._parts.store_all(progress)
            self._parts.clock.archive_due(progress)
            self._parts.index_all(progress)

    def expire(self, now_s: int, progress: Progress) -> dict[str, int]:
        """Store everything, then run the TTL clock as if it were `now_s`: what went. Raises Unavailable."""
        with _translated():
            self._parts.store_all(progress)
            return asdict(self._parts.clock.run_at(now_s, progress))

    def request_stop(self) -> None:
        """Have the process stop soon."""
        self.stop_wanted.set()


def main() -> None:
    """Read a task from stdin, run it, tell on stdout where to ask, and stop when told to or when stdin ends.

    A line on stdin says within how many seconds to stop. The lifeline is stdin itself: it
    ends with the parent, however that went, so that this process never outlives it.
    """
    order = sys.stdin.readline()
    if not order:
        return  # the stack did not get so far
    task = Task(**cast(dict[str, Any], json.loads(order)))
    parts = Parts.make(task)
    try:
        parts.start()
    except Exception as error:  # noqa: BLE001 - whatever happened, the parent is told
        _tell({"error": type(error).__name__, "message": str(error)})
        os._exit(1)
    server = ControlServer(Runner(parts))
    _tell({"control_url": server.url, "token": server.token})
    told = sys.stdin.readline()
    parts.stop(float(told) if told.strip() else PARENT_GONE_LIMIT_S)
    sys.stderr.flush()
    os._exit(0)  # invocations under way are left to themselves


@contextmanager
def _translated() -> Generator[None]:
    """What a client raises of itself comes out as Unavailable."""
    try:
        yield
    except SERVICE_FAULTS as error:
        raise Unavailable(f"The emulator did not do what it was asked ({error}). Try again.") from error


def _tell(message: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
