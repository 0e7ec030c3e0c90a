"""Runs every event source mapping of the emulator as AWS documents it, through public APIs only.

Sources: "Using Lambda with Kinesis Data Streams", "Using Lambda with DynamoDB Streams", "Lambda
parameters for Amazon Kinesis Data Streams event source mappings", "Configuring partial batch response",
"Retain discarded batch records", "Control which events Lambda sends to your function".
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

from infra.local.counters import Counters
from infra.local.destinations import Destinations
from infra.local.faults import SERVICE_FAULTS
from infra.local.invoker import Invoker
from infra.local.lanes import Timing, Trouble
from infra.local.mappings import Service, SourceMapping, read_mapping
from infra.local.readers import ShardReader
from infra.local.shards import Shard, ShardSource, open_source
from ingest.errors import BadInput, Unavailable
from ingest.stores.connect import client

_log = logging.getLogger(__name__)
Checkpoints = dict[str, dict[str, str]]
"""Mapping's uuid, then shard, then the last sequence number up to which all is finished."""


@dataclass(frozen=True, slots=True)
class SourceClients:
    """The clients the event sources use: `functions` only invokes, `mappings` lists and changes mappings."""

    kinesis: Any
    streams: Any
    functions: Any
    mappings: Any
    s3: Any
    sqs: Any


def connect(endpoint_url: str, region: str) -> SourceClients:
    """Clients for an emulator. The one that invokes never retries and waits as long as a function may run;
    what became of an invocation is for the rules of its mapping to say."""

    def make(service: str, **options: Any) -> Any:
        return client(service, endpoint_url=endpoint_url, region=region, max_pool_connections=64, **options)

    once = {"total_max_attempts": 1}
    return SourceClients(
        kinesis=make("kinesis"),
        streams=make("dynamodbstreams"),
        functions=make("lambda", retries=once, read_timeout=930),
        mappings=make("lambda", retries={"total_max_attempts": 3}),
        s3=make("s3"),
        sqs=make("sqs"),
    )


class MakeReader(Protocol):
    """Makes and starts the reader of one shard."""

    def __call__(
        self, running: RunningMapping, shard_id: str, after: str | None, *, from_horizon: bool
    ) -> ShardReader:
        """The reader, from `after` on, else from the horizon, else from the mapping's start."""
        ...


class RunningMapping:
    """One mapping: its current settings and a reader for each shard whose parents are drained."""

    def __init__(
        self,
        mapping: SourceMapping,
        source: ShardSource,
        checkpoints: dict[str, str],
        make_reader: MakeReader,
    ) -> None:
        self.mapping = mapping
        self._source = source
        self._checkpoints = checkpoints
        self._make_reader = make_reader
        self._first_look = True
        self.readers: dict[str, ShardReader] = {}

    def look_for_shards(self) -> None:
        """Start a reader for each shard that is new, oldest generation first.

        The mapping's StartingPosition holds for the shards of the first look; a shard that
        appears later is read from its beginning. Raises what boto3 raises.
        """
        shards = self._source.shards()
        for shard in shards:
            if shard.shard_id not in self.readers and self._parents_drained(shard):
                after = self._checkpoints.get(shard.shard_id)
                self.readers[shard.shard_id] = self._make_reader(
                    self, shard.shard_id, after, from_horizon=not self._first_look
                )
        self._first_look = False

    def _parents_drained(self, shard: Shard) -> bool:
        return all(parent in self.readers and self.readers[parent].drained for parent in shard.parents)

    def checkpoints(self) -> dict[str, str]:
        """The checkpoint of each shard that has one."""
        found = {shard_id: reader.tracker.after for shard_id, reader in self.readers.items()}
        return self._checkpoints | {shard_id: after for shard_id, after in found.items() if after is not None}

    def stop(self) -> None:
        """Ask all readers to stop; returns at once."""
        for reader in self.readers.values():
            reader.stop()

    def join(self, deadline: float, monotonic: Callable[[], float]) -> None:
        """Wait for their threads, at most until the deadline (monotonic seconds)."""
        for reader in self.readers.values():
            reader.join(deadline, monotonic)


class EventSources:
    """Every Kinesis and DynamoDB event source mapping, run in threads of this process.

    Mappings are listed again every few seconds: new ones are started, changed ones take
    effect, deleted ones stop. Each is switched off in the emulator itself first, so that no
    record is delivered twice. `stream_window_s` stands in for the batching window of Kinesis
    mappings where the template's whole seconds are too coarse.
    """

    def __init__(
        self,
        clients: SourceClients,
        *,
        state_file: Path | None = None,
        stream_window_s: float | None = None,
        timing: Timing | None = None,
    ) -> None:
        self._clients = clients
        self._state_file = state_file
        self._stream_window_s = stream_window_s
        self._timing = timing or Timing()
        saved = _load(state_file)
        self._saved: Checkpoints = saved.get("checkpoints", {})
        self.counters = Counters(saved.get("counters"), saved.get("recent"), self._timing.clock)
        self.invoker = Invoker(clients.functions, self.counters)
        self._destinations = Destinations(clients.s3, clients.sqs)
        self._running: dict[str, RunningMapping] = {}
        self._problems: dict[str, str] = {}
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start every mapping there is now, and the thread that follows changes. Raises what boto3 raises."""
        self._scan()
        self._thread = threading.Thread(target=self._follow, name="event-sources", daemon=True)
        self._thread.start()

    def stop(self, limit_s: float = 2.0) -> None:
        """Stop reading, let invocations under way end within `limit_s`, save the checkpoints.

        May be called again, to wait for what was still under way.
        """
        self._stopping.set()
        deadline = self._timing.monotonic() + limit_s
        with self._lock:
            running = list(self._running.values())
        for one in running:
            one.stop()
        for one in running:
            one.join(deadline, self._timing.monotonic)
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - self._timing.monotonic()))
        self._save()

    def flush(
        self,
        progress: Callable[[str], None] | None = None,
        stuck_limit_s: float = 60.0,
        only: Service | None = None,
    ) -> None:
        """Close open windows and return when every record that was in the streams at the call is finished.

        `only` restricts it to one kind of stream. Raises Unavailable with the reason where a
        batch keeps failing, or a shard cannot be read, for longer than `stuck_limit_s`.
        """
        until_s = self._timing.clock()
        self._scan()
        if self._problems:
            raise Unavailable("An event source mapping cannot be run: " + "; ".join(self._problems.values()))
        with self._lock:
            readers = [
                reader
                for one in self._running.values()
                if only is None or one.mapping.service == only
                for reader in one.readers.values()
            ]
        started = self._timing.monotonic()
        for reader in readers:
            while not reader.has_read(until_s):
                self._check(reader, started, stuck_limit_s)
                reader.poll_now()
                self._stopping.wait(0.005)
            reader.close_windows()
        for reader in readers:
            count = reader.tracker.read
            while not reader.tracker.wait_done(count, 0.2):
                self._check(reader, started, stuck_limit_s)
                if progress is not None:
                    progress(f"{sum(one.tracker.pending for one in readers)} records to go")
        self._save()

    def pending(self, service: Service) -> int:
        """How many records of that kind of stream were read and are not finished."""
        with self._lock:
            running = [one for one in self._running.values() if one.mapping.service == service]
        return sum(reader.tracker.pending for one in running for reader in one.readers.values())

    def age_s(self, service: Service) -> float | None:
        """How long the oldest unfinished record of that kind of stream has waited, 0 where none does; None
        where no mapping reads one. A shard that cannot be read counts from when that began."""
        now, monotonic = self._timing.clock(), self._timing.monotonic()
        with self._lock:
            running = [one for one in self._running.values() if one.mapping.service == service]
        ages = [0.0]
        for reader in (reader for one in running for reader in one.readers.values()):
            oldest_s, trouble = reader.tracker.oldest_s, reader.trouble()
            ages += [] if oldest_s is None else [now - oldest_s]
            ages += [] if trouble is None else [monotonic - trouble.since]
        return max(ages) if running else None

    def status(self) -> dict[str, Any]:
        """What runs: per mapping its function, stream, pending records and trouble; and the counters."""
        now = self._timing.monotonic()
        with self._lock:
            running = list(self._running.values())
            problems = dict(self._problems)
        mappings: list[dict[str, Any]] = []
        for one in running:
            troubles = [found for reader in one.readers.values() if (found := reader.trouble()) is not None]
            worst = min(troubles, key=lambda found: found.since, default=None)
            mappings.append(
                {
                    "function": one.mapping.function_name,
                    "source": one.mapping.source_arn,
                    "shards": len(one.readers),
                    "pending": sum(reader.tracker.pending for reader in one.readers.values()),
                    "failing_s": round(now - worst.since, 1) if worst is not None else 0,
                    "failing": worst.reason if worst is not None else "",
                }
            )
        return {"mappings": mappings, "problems": problems, "counters": self.counters.snapshot()}

    def _check(self, reader: ShardReader, started: float, limit_s: float) -> None:
        if self._stopping.is_set():
            raise Unavailable("The event sources are stopping.")
        trouble: Trouble | None = reader.trouble()
        now = self._timing.monotonic()
        if trouble is not None and now - max(trouble.since, started) > limit_s:
            raise Unavailable(f"A batch has been failing for {now - trouble.since:.0f} s: {trouble.reason}")

    def _follow(self) -> None:
        since_scan_s = 0.0
        while not self._stopping.wait(self._timing.save_s):
            since_scan_s += self._timing.save_s
            with contextlib.suppress(OSError):
                self._save()
            if since_scan_s >= self._timing.rescan_s:
                since_scan_s = 0.0
                try:
                    self._scan()
                except SERVICE_FAULTS as error:
                    _log.warning("the event source mappings could not be listed: %s", error)

    def _scan(self) -> None:
        with self._lock:
            found: dict[str, SourceMapping] = {}
            self._problems = {}
            for described in self._list():
                uuid = str(described["UUID"])
                try:
                    mapping = read_mapping(described)
                except BadInput as error:
                    _log.error("event source mapping %s is not run: %s", uuid, error)
                    self._problems[uuid] = str(error)
                    continue
                if mapping.service == "kinesis" and self._stream_window_s is not None:
                    mapping = replace(mapping, rules=replace(mapping.rules, window_s=self._stream_window_s))
                found[uuid] = mapping
            for uuid in [uuid for uuid in self._running if uuid not in found]:
                self._running.pop(uuid).stop()
            if self._stopping.is_set():
                return
            for uuid, mapping in found.items():
                self._adopt(uuid, mapping)
                self._running[uuid].look_for_shards()

    def _adopt(self, uuid: str, mapping: SourceMapping) -> None:
        """Start or change one mapping; where lanes, stream or filter changed, anew from its checkpoint."""
        running = self._running.get(uuid)
        if running is None:
            self._clients.mappings.update_event_source_mapping(UUID=uuid, Enabled=False)
        elif _same_shape(running.mapping, mapping):
            running.mapping = mapping
            return
        else:
            running.stop()
            running.join(self._timing.monotonic() + 30.0, self._timing.monotonic)
            self._saved[uuid] = running.checkpoints()
        source = open_source(mapping, self._clients.kinesis, self._clients.streams)
        self._running[uuid] = RunningMapping(mapping, source, self._saved.get(uuid, {}), self._make_reader)

    def _make_reader(
        self, running: RunningMapping, shard_id: str, after: str | None, *, from_horizon: bool
    ) -> ShardReader:
        return ShardReader(
            lambda: running.mapping,
            open_source(running.mapping, self._clients.kinesis, self._clients.streams),
            shard_id,
            after,
            from_horizon=from_horizon,
            invoker=self.invoker,
            destinations=self._destinations,
            timing=self._timing,
        )

    def _list(self) -> list[dict[str, Any]]:
        request: dict[str, Any] = {}
        listed: list[dict[str, Any]] = []
        while True:
            answer: dict[str, Any] = self._clients.mappings.list_event_source_mappings(**request)
            listed += answer["EventSourceMappings"]
            if not answer.get("NextMarker"):
                return listed
            request["Marker"] = answer["NextMarker"]

    def _save(self) -> None:
        if self._state_file is None:
            return
        with self._lock:
            checkpoints = {uuid: one.checkpoints() for uuid, one in self._running.items()}
            state = {
                "checkpoints": self._saved | checkpoints,
                "counters": self.counters.snapshot(),
                "recent": self.counters.recent(),
            }
            partial = self._state_file.with_suffix(".partial")
            partial.write_text(json.dumps(state))
            partial.replace(self._state_file)


def _same_shape(one: SourceMapping, other: SourceMapping) -> bool:
    return (one.source_arn, one.lanes, one.patterns) == (other.source_arn, other.lanes, other.patterns)


def _load(state_file: Path | None) -> dict[str, Any]:
    if state_file is None or not state_file.exists():
        return {}
    try:
        return cast(dict[str, Any], json.loads(state_file.read_text()))
    except ValueError as error:
        _log.warning("%s cannot be read (%s); reading starts over", state_file, error)
        return {}
