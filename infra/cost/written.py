"""What a fleet leaves in table and archive: units, items, bytes and segments a month, from samples really encoded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from infra.cost.fleet import MONTH_S, Batching, Fleet, Traffic, batching, pieces
from infra.cost.lines import ITEM_BYTES
from infra.cost.sample import (
    NOTHING,
    READ_UNIT_BYTES,
    Samples,
    Weight,
    catalog_bytes,
    sensor_bytes,
    ticket_units,
)
from ingest.archive import CHUNKS_PER_ROUND, VALUES_PER_SEGMENT
from ingest.item import write_units

KEYS_PER_GET = 50
ITEMS_PER_WRITE, WRITERS = 25, 4
"""As in ingest/stores/hot.py."""
CALLS_REMEMBERED, MOST_KNOWN = 1_000, 200_000
"""As in ingest/stores/registry.py."""
LAYOUT_AGE_S = 30
SCHEDULED = MONTH_S / 900
"""Invocations of the schedule a month, every 15 minutes."""


@dataclass(frozen=True, slots=True)
class Written:
    """What happens in a month, and what stands at any time.

    Units are write units; `*_reads` are read units. `chunks` holds chunks, units, reads and bytes.
    """

    sent: Traffic
    batched: Batching
    chunks: Weight
    entries_per_batch: float
    manifest_units: float
    manifest_bytes: float
    ticket_units: float
    segments: float
    segment_bytes: float
    bytes_per_value: float
    catalog_units: float
    catalog_entry_bytes: int
    slots: float
    registry_units: int
    registry_bytes: int
    chunk_reads: float
    manifest_reads: float
    registry_reads: float
    catalog_reads: float
    layout_reads: float

    @property
    def write_units(self) -> float:
        """Write units a month of store_readings: what `status` counts. Registering is once and not among them."""
        return self.chunks.write_units + self.manifest_units + self.ticket_units

    @property
    def cut(self) -> float:
        """Chunks there are more than runs of a sensor in a batch, because these lie in several buckets, as a share."""
        return self.chunks.chunks / (self.batched.batches * self.batched.sensors_per_batch) - 1.0

    @property
    def hot_items_per_chunk_bytes(self) -> float:
        """Billed bytes a chunk takes in the hot tier."""
        return self.chunks.size_bytes / self.chunks.chunks + ITEM_BYTES


def written(fleet: Fleet, sent: Traffic, samples: Samples) -> Written:
    """What the fleet's traffic becomes."""
    batched = batching(fleet, sent)
    per_run, entries = NOTHING, 0.0
    runs = sum(share for _, share in batched.runs)
    for length, share in batched.runs:
        for piece, count in pieces(length, fleet.interval_s, fleet.bucket_s, fleet.uncut):
            per_run = per_run.plus(samples.weight(piece, fleet.bucket_s).times(count * share / runs))
            entries += count * share / runs
    runs_month = batched.batches * batched.sensors_per_batch
    chunks = per_run.times(runs_month)
    in_batch = max(1.0, entries * batched.sensors_per_batch)
    units, size_bytes = _manifests(samples, in_batch, fleet)
    slots = MONTH_S / min(fleet.bucket_s, fleet.archive_after_s)
    values = fleet.readings * fleet.metrics
    segments = _segments(chunks.chunks, in_batch, values, slots)
    name = samples.sensor_id(fleet.sensors - 1)
    entry_bytes = catalog_bytes(name)
    per_value = samples.bytes_per_value(round(batched.readings_per_run))
    a_day = segments * 86_400 / MONTH_S
    asked = in_batch if fleet.sensors > MOST_KNOWN else min(in_batch, fleet.sensors / CALLS_REMEMBERED)
    return Written(
        sent=sent,
        batched=batched,
        chunks=chunks,
        entries_per_batch=in_batch,
        manifest_units=batched.batches * units,
        manifest_bytes=batched.batches * size_bytes,
        ticket_units=batched.batches * ticket_units(),
        segments=segments,
        segment_bytes=values * per_value,
        bytes_per_value=per_value,
        catalog_units=2 * segments * write_units(entry_bytes),
        catalog_entry_bytes=entry_bytes,
        slots=slots,
        registry_units=fleet.sensors * write_units(sensor_bytes(name)),
        registry_bytes=fleet.sensors * (sensor_bytes(name) + ITEM_BYTES),
        chunk_reads=chunks.read_units,
        manifest_reads=batched.batches * size_bytes / READ_UNIT_BYTES + slots + SCHEDULED,
        registry_reads=batched.batches * (asked + 1) * 0.5,  # one more: how many sensors were deleted
        catalog_reads=segments * max(1.0, a_day / 2 * entry_bytes / READ_UNIT_BYTES),
        layout_reads=min(batched.batches, sent.concurrency * MONTH_S / LAYOUT_AGE_S),
    )


def _manifests(samples: Samples, entries: float, fleet: Fleet) -> tuple[float, float]:
    """Units and bytes of a batch's manifests, between two whole numbers of entries in proportion.

    A batch holds some of the fleet's sensors: how far apart these are, rounded up to a power of two, decides
    how many bytes the difference of two names takes.
    """
    apart = 1 << max(0, math.ceil(math.log2(fleet.sensors / entries) - 1e-6))
    low = math.floor(entries)
    share = entries - low
    low_units, low_bytes = samples.manifest(low, fleet.bucket_s, apart)
    high_units, high_bytes = samples.manifest(low + 1, fleet.bucket_s, apart)
    return low_units + share * (high_units - low_units), low_bytes + share * (high_bytes - low_bytes)


def _segments(chunks: float, entries_per_batch: float, values: float, slots: float) -> float:
    """Segments a month before compaction: the archiver takes whole manifests, as many as hold at most 8,000
    chunks (on average half a manifest fewer), and cuts at four million values."""
    per_round = CHUNKS_PER_ROUND - min(1_000.0, entries_per_batch) / 2
    return max(chunks / per_round, values / VALUES_PER_SEGMENT, slots)
