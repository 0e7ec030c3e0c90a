"""A whole deployment in memory, for tests: its stores, the records it is sent, and a time that only tests move."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from ingest import keys
from ingest.archive import Archived, Stack, archive_overdue, archive_slot
from ingest.keys import DAY_S, US, Layout, Period, first_layout
from ingest.kinesis_records import Record
from ingest.plan import Query
from ingest.query import Answer, Sources, answer, latest
from ingest.reading import EARLIEST_US, Run, Span
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore, MemoryRegistry
from ingest.stores.rejects import S3RejectStore
from ingest.wire_encode import encode_run
from ingest.write import Stored, store_batch

NOW_S = 1_795_212_000
"""2026-11-20T22:00:00Z."""
NOW_US = NOW_S * US
HOUR_S = 3600
USUAL = first_layout(Period(0, HOUR_S, DAY_S, 7 * DAY_S, 5 * 365 * DAY_S))
STREAM = "arn:aws:kinesis:eu-central-1:000000000000:stream/readings"
GRACE_S = 900
ALWAYS = Span(EARLIEST_US, 4_000_000_000 * US)


def plenty() -> int:
    """Milliseconds left for a call that is in no hurry."""
    return 600_000


def record(number: int, data: bytes | Run, arrival_ms: int = NOW_S * 1000, shard: int = 0) -> Record:
    """The stream's record of that number; a run goes as its payload."""
    body = encode_run(data) if isinstance(data, Run) else data
    return Record(
        stream_arn=STREAM,
        shard_id=f"shardId-{shard:012d}",
        sequence=str(49_600_000_000_000_000_000 + number),
        arrival_ms=arrival_ms,
        data=body,
        problem=None,
    )


def readings(sensor_id: str, start_us: int, step_us: int, **metrics: Sequence[Any]) -> Run:
    """A run on a grid."""
    count = len(next(iter(metrics.values())))
    return Run(
        sensor_id, [start_us + i * step_us for i in range(count)], {n: list(c) for n, c in metrics.items()}, 0
    )


class World:
    """One deployment. `now_s` is the time of every call; set it to let time pass."""

    def __init__(self, layout: Layout = USUAL, hot: MemoryHotStore | None = None) -> None:
        self.layout = layout
        self.now_s = NOW_S
        self.hot = hot or MemoryHotStore()
        self.catalog = MemoryCatalog()
        self.cold = MemoryColdStore(lambda: self.now_s)
        self.registry = MemoryRegistry()
        self.rejects = S3RejectStore(MemoryColdStore(lambda: self.now_s))
        self._sent = 0

    def store(self, records: Sequence[Record], remaining_ms: Any = plenty, codec: str = "list") -> Stored:
        """What the batch door does, in a deployment with the codec."""
        return store_batch(
            records,
            hot=self.hot,
            registry=self.registry,
            rejects=self.rejects,
            layout=self.layout,
            now_s=self.now_s,
            remaining_ms=remaining_ms,
            codec=codec,
        )

    def send(self, *runs: Run) -> Stored:
        """One batch, a record of its own for each run, arriving now."""
        records: list[Record] = []
        for run in runs:
            self._sent += 1
            records.append(record(self._sent, run, self.now_s * 1000 + self._sent))
        return self.store(records)

    def stack(self, **changes: Any) -> Stack:
        """What the archive door works with."""
        made: dict[str, Any] = {
            "hot": self.hot,
            "cold": self.cold,
            "catalog": self.catalog,
            "layout": self.layout,
            "now_s": self.now_s,
            "grace_s": GRACE_S,
            "remaining_ms": plenty,
        }
        return Stack(**(made | changes))

    def archive(self, slot_s: int, **changes: Any) -> Archived:
        """Archive one slot, as its ticket's expiry orders."""
        done = Archived()
        archive_slot(slot_s, self.stack(**changes), done)
        return done

    def archive_all(self, **changes: Any) -> Archived:
        """Move to the last slot there is and let the schedule archive everything."""
        self.now_s = max([self.now_s, *self.slots()])
        return archive_overdue(self.stack(**changes), self.now_s)

    def expire(self, at_s: int | None = None) -> list[keys.Key]:
        """Let the TTL clock run until everything (or what is due by `at_s`) is gone from the table."""
        self.now_s = max(self.now_s, at_s or max([self.now_s, *self.times("ttl")]))
        return self.hot.expire(self.now_s)

    def times(self, attribute: str) -> list[int]:
        """That number of every item that has it."""
        return [int(str(item[attribute]["N"])) for item in self.hot.items.values() if attribute in item]

    def slots(self) -> list[int]:
        """Slots that have manifests."""
        pks = {key.pk for key in self.hot.items if key.pk.startswith(keys.MANIFEST_PREFIX)}
        return sorted(int(pk.removeprefix(keys.MANIFEST_PREFIX)) for pk in pks)

    def chunk_keys(self) -> list[keys.Key]:
        """Keys of the chunks in the table."""
        return sorted(key for key in self.hot.items if key.pk.startswith(keys.CHUNK_PREFIX))

    @property
    def sources(self) -> Sources:
        """What a query reads."""
        return Sources(self.hot, self.catalog, self.cold, self.layout, lambda: 0.0)

    def ask(self, sensor_id: str, span: Span = ALWAYS, **options: Any) -> Answer:
        """The answer to a query, now."""
        return answer(Query(sensor_id, span, **options), self.sources, self.now_s)

    def found(self, sensor_id: str, span: Span = ALWAYS, **options: Any) -> Run:
        """The readings of an answer that must have some, now."""
        run = self.ask(sensor_id, span, **options).run
        assert run is not None, f"no reading of {sensor_id} was found"
        return run

    def latest(self, sensor_id: str) -> Run | None:
        """The newest reading, now."""
        return latest(sensor_id, self.sources, self.now_s)


def regrouped(records: Sequence[Record], cuts: Iterable[int]) -> Iterator[list[Record]]:
    """The records in consecutive batches, cut at the positions."""
    for start, end in pairwise([0, *sorted(cuts), len(records)]):
        if start < end:
            yield list(records[start:end])
