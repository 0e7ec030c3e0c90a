"""What a running local stack consumed beside what is predicted for the batches that took place."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from infra.local.batching import Record as StreamRecord
from infra.local.batching import event_body, lane_of
from infra.local.journal import StoredBatch
from infra.local.shards import ShardSource
from ingest import keys
from ingest.chunk import decode_item
from ingest.item import Item, write_units
from ingest.keys import Layout
from ingest.kinesis_records import records
from ingest.stores import RemainingMs
from ingest.stores.memory import MemoryColdStore, MemoryHotStore, MemoryRegistry
from ingest.stores.rejects import S3RejectStore
from ingest.write import store_batch

LONG_MS = 10**9
EMPTY_PAGES = 3
"""So many pages in a row without a record mean the end of a shard that is still open."""
PARTS = ("chunks", "manifests", "tickets", "registry")
Shape = tuple[int, int, int]
"""A chunk's readings, metrics, and step in microseconds (0: none, or off the grid)."""


@dataclass(slots=True)
class Side:
    """One side of the comparison: write units by part, and what they were spent on."""

    units: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    readings: int = 0
    chunk_items: int = 0

    @property
    def write_units(self) -> float:
        """All write units."""
        return sum(self.units.values())


@dataclass(slots=True)
class Comparison:
    """Both sides over the batches that could be compared.

    `unreadable` batches are left out on both sides: their records are no longer in the stream,
    or the function's log line was not seen. `shapes` counts the predicted chunks.
    """

    predicted: Side
    measured: Side
    batches: int = 0
    unreadable: int = 0
    records: int = 0
    shapes: Counter[Shape] = field(default_factory=Counter[Shape])


class _Weighing(MemoryHotStore):
    """A hot store that keeps nothing but the shapes of the chunks it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: Counter[Shape] = Counter()

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        """Write units of the items by AWS's rules ("DynamoDB item sizes and formats")."""
        del remaining_ms
        for item in items:
            if item.key.pk.startswith(keys.CHUNK_PREFIX):
                self.shapes[_shape(item)] += 1
        return float(sum(write_units(item.size_bytes) for item in items))


def _shape(item: Item) -> Shape:
    run = decode_item(json.loads(item.body)).run
    deltas = [later - earlier for earlier, later in zip(run.ts_us, run.ts_us[1:], strict=False)]
    return len(run.ts_us), len(run.metrics), int(median(deltas)) if deltas else 0


def read_shards(source: ShardSource, wanted: Iterable[StoredBatch]) -> dict[str, list[StreamRecord]]:
    """The records of every shard a batch names, from the horizon to the last one named."""
    last: dict[str, int] = {}
    for batch in wanted:
        last[batch.shard_id] = max(last.get(batch.shard_id, 0), int(batch.last))
    return {shard_id: list(_read_shard(source, shard_id, until)) for shard_id, until in last.items()}


def _read_shard(source: ShardSource, shard_id: str, until: int) -> Iterator[StreamRecord]:
    iterator: str | None = source.iterator(shard_id, None, from_horizon=True)
    empty = 0
    while iterator is not None and empty < EMPTY_PAGES:
        page = source.read(shard_id, iterator, None)
        yield from page.records
        empty = 0 if page.records else empty + 1
        if page.sequences and int(page.sequences[-1]) >= until:
            return
        iterator = page.following


def compare(
    batches: Sequence[StoredBatch],
    shards: Mapping[str, Sequence[StreamRecord]],
    layout: Layout,
    codec: str,
    first_seen_ms: Mapping[str, int],
) -> Comparison:
    """Store every batch again, into nothing, and set the units that takes beside those that were consumed.

    Decoding, merging, chunks, manifests and tickets are the product's own code; sizes are
    counted by AWS's rules. `first_seen_ms` is the registry: sensors in it from before the
    first batch are known already. Batches in the order in which they were stored.
    """
    hot = _Weighing()
    registry = MemoryRegistry()
    rejects = S3RejectStore(MemoryColdStore())
    found = Comparison(Side(), Side())
    lanes = _Lanes(shards)
    usable = [
        (batch, part) for batch in batches if (part := lanes.records_of(batch)) and "units" in batch.told
    ]
    found.unreadable = len(batches) - len(usable)
    begin_ms = min((int(record.arrived_s * 1000) for _, part in usable for record in part), default=0)
    registry.register({name: ms for name, ms in first_seen_ms.items() if ms < begin_ms}, lambda: LONG_MS)
    for batch, part in usable:
        stored = store_batch(
            records(json.loads(event_body(part))),
            hot=hot,
            registry=registry,
            rejects=rejects,
            layout=layout,
            now_s=int(batch.told["written_s"]),
            remaining_ms=lambda: LONG_MS,
            codec=codec,
        )
        found.batches += 1
        found.records += len(part)
        _add(found.predicted, stored.units, stored.readings, stored.chunks)
        _add(found.measured, batch.told["units"], batch.told["readings"], batch.told["chunks"])
    found.shapes = hot.shapes
    return found


class _Lanes:
    """The records of every lane of every shard, in order."""

    def __init__(self, shards: Mapping[str, Sequence[StreamRecord]]) -> None:
        self._shards = shards
        self._lanes: dict[tuple[str, int, int], tuple[list[int], list[StreamRecord]]] = {}

    def records_of(self, batch: StoredBatch) -> list[StreamRecord]:
        """The records of the batch; none where the stream no longer has all of them."""
        place = (batch.shard_id, batch.lanes, batch.lane)
        if place not in self._lanes:
            shard = self._shards.get(batch.shard_id, ())
            lane = [record for record in shard if lane_of(record.order_key, batch.lanes) == batch.lane]
            self._lanes[place] = [int(record.sequence) for record in lane], lane
        sequences, lane = self._lanes[place]
        part = lane[bisect_left(sequences, int(batch.first)) : bisect_right(sequences, int(batch.last))]
        return part if len(part) == batch.records else []


def _add(side: Side, units: Mapping[str, Any], readings: int, chunks: int) -> None:
    for name, count in units.items():
        side.units[name] = side.units.get(name, 0.0) + float(count)
    side.readings += readings
    side.chunk_items += chunks
