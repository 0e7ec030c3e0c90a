"""The monthly bill of a fleet by part, with the number of shards that makes it least."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from infra.cost.compacted import Compacted, compacted, lines_of
from infra.cost.fleet import KB, MONTH_S, Fleet, Traffic, traffic
from infra.cost.lines import (
    GB,
    HOURS,
    ITEM_BYTES,
    PART_IOT,
    PART_LAMBDA,
    PART_READS,
    PART_S3,
    PART_STREAM,
    PART_TABLE,
    PART_WATCH,
    PART_WRITES,
    STORE_GB,
    Line,
    Lines,
)
from infra.cost.prices import Prices
from infra.cost.sample import Samples
from infra.cost.written import (
    ITEMS_PER_WRITE,
    KEYS_PER_GET,
    SCHEDULED,
    WRITERS,
    Written,
    written,
)

MONTHS_A_YEAR = 12.0
ARCHIVE_GB, INDEX_GB = 3008 / 1024, 512 / 1024
"""Memory of the functions in the template."""
MESSAGE_BYTES = 5 * KB


@dataclass(frozen=True, slots=True)
class Bill:
    """A fleet's bill: its lines, and the same stream in the other capacity mode, which is not in the sum."""

    fleet: Fleet
    written: Written
    lines: tuple[Line, ...]
    other_stream: tuple[Line, ...]

    @property
    def usd(self) -> float:
        """Dollars in the twelfth month."""
        return sum(line.usd for line in self.lines)

    @property
    def steady_usd(self) -> float:
        """Dollars a month once as much leaves the archive as enters it."""
        return sum(line.steady_usd for line in self.lines)

    def parts(self) -> dict[str, tuple[float, float]]:
        """Twelfth month and steady state of every part."""
        found: dict[str, tuple[float, float]] = {}
        for line in self.lines:
            before = found.get(line.part, (0.0, 0.0))
            found[line.part] = (before[0] + line.usd, before[1] + line.steady_usd)
        return found


def bill(fleet: Fleet, samples: Samples, prices: Prices, shards: int | None = None) -> Bill:
    """The bill of the fleet, with its own number of shards, the given one, or the cheapest."""
    if fleet.shards is None and shards is None:
        return min(_on_each(fleet, samples, prices), key=lambda one: one.steady_usd)
    sent = traffic(fleet, samples.message_bytes(fleet.per_message), prices.assumed, shards)
    done = written(fleet, sent, samples)
    anew = compacted(fleet, done)
    lines = Lines(prices)
    fixed = list(_provisioned(sent, lines))
    demand = list(_on_demand(sent, lines))
    chosen, other = (fixed, demand) if _sum(fixed) <= _sum(demand) else (demand, fixed)
    rest = [
        *_iot(fleet, sent, lines),
        *_writes(fleet, done, lines),
        *_reads(done, lines),
        *_table(fleet, done, anew, prices, lines),
        *_functions(fleet, done, prices, lines),
        *_archive(fleet, done, lines),
        *lines_of(fleet, done, anew, prices.assumed, lines),
        *_watch(done, prices, lines),
    ]
    return Bill(fleet, done, (*chosen, *rest), tuple(other))


def _on_each(fleet: Fleet, samples: Samples, prices: Prices) -> Iterator[Bill]:
    """The bill with as few shards as the traffic needs, and with more: until batches last their whole window, and
    the last two tried made nothing cheaper."""
    least = traffic(fleet, samples.message_bytes(fleet.per_message), prices.assumed).shards_needed
    cheapest, dearer = math.inf, 0
    for shards in _counts():
        if shards < least:
            continue
        found = bill(fleet, samples, prices, shards)
        yield found
        dearer = 0 if found.steady_usd < cheapest else dearer + 1
        cheapest = min(cheapest, found.steady_usd)
        if (dearer >= 2 and found.written.batched.limit.startswith("window")) or shards > 64 * least:
            return


def _counts() -> Iterator[int]:
    """Numbers of shards that are tried, the same for every fleet: all up to 6, then each a fifth more."""
    shards = 1
    while True:
        yield shards
        shards = max(shards + 1, math.ceil(shards * 1.19))


def _sum(lines: list[Line]) -> float:
    return sum(line.steady_usd for line in lines)


def _provisioned(sent: Traffic, lines: Lines) -> Iterator[Line]:
    yield lines.line(
        PART_STREAM,
        "provisioned: shards",
        "kinesis_shard_hour",
        sent.shards * HOURS,
        f"{sent.shards:,} shards x {HOURS:g} h",
    )
    units = math.ceil(sent.record_bytes / (25 * KB))
    yield lines.line(
        PART_STREAM,
        "provisioned: records put",
        "kinesis_put_unit",
        sent.put_units,
        f"{sent.records_ps * MONTH_S:,.0f} records of {sent.record_bytes:,.0f} B, {units} units each",
    )


def _on_demand(sent: Traffic, lines: Lines) -> Iterator[Line]:
    yield lines.line(PART_STREAM, "on demand: the stream", "kinesis_stream_hour", HOURS, f"{HOURS:g} h")
    yield lines.line(
        PART_STREAM,
        "on demand: in",
        "kinesis_gb_in",
        sent.gb_in,
        f"{sent.records_ps * MONTH_S:,.0f} records of {sent.record_bytes:,.0f} B, each rounded up to 1 KB",
    )
    yield lines.line(PART_STREAM, "on demand: out", "kinesis_gb_out", sent.gb_out, "what the function reads")


def _iot(fleet: Fleet, sent: Traffic, lines: Lines) -> Iterator[Line]:
    if not fleet.iot_core:
        return
    units = math.ceil(sent.message_bytes / MESSAGE_BYTES) * fleet.messages
    how = f"{fleet.messages:,.0f} messages of {sent.message_bytes:,.0f} B"
    yield lines.line(PART_IOT, "messages", "iot_message", units, f"{how}, in steps of 5 KB")
    yield lines.line(
        PART_IOT,
        "connections",
        "iot_minute",
        fleet.sensors * MONTH_S / 60,
        f"{fleet.sensors:,} sensors x {MONTH_S / 60:,.0f} minutes",
    )
    yield lines.line(PART_IOT, "rule", "iot_rule", units, f"{how}, one rule")
    yield lines.line(PART_IOT, "action into Kinesis", "iot_action", units, f"{how}, one action")


def _writes(fleet: Fleet, done: Written, lines: Lines) -> Iterator[Line]:
    chunks, batched = done.chunks, done.batched
    yield lines.line(
        PART_WRITES,
        "chunks",
        "dynamodb_write",
        chunks.write_units,
        f"{chunks.chunks:,.0f} chunks of {fleet.readings / chunks.chunks:,.1f} readings and "
        f"{chunks.size_bytes / chunks.chunks:,.0f} B, {chunks.write_units / chunks.chunks:.2f} units each; "
        f"{done.cut:.1%} more than there are runs, cut at bucket bounds: messages end "
        + ("by the clock" if fleet.uncut > 1 else "at any moment"),
    )
    yield lines.line(
        PART_WRITES,
        "manifests",
        "dynamodb_write",
        done.manifest_units,
        f"{batched.batches:,.0f} batches, each naming {done.entries_per_batch:,.0f} chunks",
    )
    yield lines.line(
        PART_WRITES,
        "tickets and open slots",
        "dynamodb_write",
        done.ticket_units,
        f"{batched.batches:,.0f} batches x 2",
    )
    yield lines.line(
        PART_WRITES,
        "manifests deleted, slots closed",
        "dynamodb_write",
        done.manifest_units + done.slots,
        "a delete costs what the item weighs; deletions by TTL are free",
    )
    yield lines.line(
        PART_WRITES,
        "catalog",
        "dynamodb_write",
        done.catalog_units,
        f"{done.segments:,.0f} segments, by the archiver and by S3's event",
    )


def _reads(done: Written, lines: Lines) -> Iterator[Line]:
    yield lines.line(
        PART_READS,
        "chunks, once each, for the archive",
        "dynamodb_read",
        done.chunk_reads,
        f"{done.chunks.chunks:,.0f} chunks, consistent, {done.chunk_reads / done.chunks.chunks:.2f} units each",
    )
    yield lines.line(
        PART_READS,
        "manifests",
        "dynamodb_read",
        done.manifest_reads,
        "their bytes / 4 KB, a query a slot and a schedule",
    )
    yield lines.line(
        PART_READS,
        "registry, catalog, layout",
        "dynamodb_read",
        done.registry_reads + done.catalog_reads + done.layout_reads,
        f"{done.registry_reads:,.0f} + {done.catalog_reads:,.0f} + {done.layout_reads:,.0f}",
    )


def _table(fleet: Fleet, done: Written, anew: Compacted, prices: Prices, lines: Lines) -> Iterator[Line]:
    lifetime_s = fleet.bucket_s / 2 + fleet.hot_s + prices.assumed["ttl_delay_s"]
    chunk_gb = done.chunks.chunks / MONTH_S * lifetime_s * done.hot_items_per_chunk_bytes / GB
    manifest_bytes = done.manifest_bytes + done.batched.batches * ITEM_BYTES
    other_gb = (
        manifest_bytes / MONTH_S * (fleet.archive_after_s + fleet.bucket_s) + done.registry_bytes
    ) / GB
    entry_gb = (done.catalog_entry_bytes + ITEM_BYTES) / GB
    cold_months = fleet.cold_s / MONTH_S
    year, steady = (
        chunk_gb + other_gb + entry_gb * anew.remembered(months)
        for months in (min(MONTHS_A_YEAR, cold_months), cold_months)
    )
    how = (
        f"chunks {chunk_gb:,.2f} GB ({done.hot_items_per_chunk_bytes:,.0f} B x {lifetime_s / 86_400:.1f} d), "
        f"manifests and registry {other_gb:,.2f} GB, "
        f"catalog {entry_gb * anew.kept:,.4f} GB a month kept {cold_months:,.0f} months"
    )
    yield lines.line(PART_TABLE, "table", "dynamodb_gb_month", year, how, steady)
    yield lines.line(
        PART_TABLE,
        "point-in-time recovery",
        "dynamodb_backup_gb_month",
        year,
        "the table's size",
        steady,
    )


def _functions(fleet: Fleet, done: Written, prices: Prices, lines: Lines) -> Iterator[Line]:
    assumed, batches = prices.assumed, done.batched.batches
    cpu_s = fleet.readings / assumed["store_readings_per_core_s"]
    calls_s = done.chunks.chunks / ITEMS_PER_WRITE / WRITERS * assumed["write_call_s"]
    store_s = batches * assumed["store_call_s"] + cpu_s + calls_s
    read_s = done.chunks.chunks / KEYS_PER_GET * assumed["read_call_s"]
    archive_s = (
        fleet.readings / assumed["archive_readings_per_core_s"]
        + read_s
        + done.segments * assumed["segment_s"]
        + SCHEDULED * assumed["store_call_s"]
    )
    index_s = done.segments * assumed["index_s"]
    invocations = batches + done.slots + SCHEDULED + done.segments
    yield lines.line(
        PART_LAMBDA,
        "invocations",
        "lambda_request",
        invocations,
        f"{batches:,.0f} batches, {done.slots:,.0f} slots, {SCHEDULED:,.0f} schedules, {done.segments:,.0f} segments",
    )
    yield lines.line(
        PART_LAMBDA,
        "store_readings",
        "lambda_gb_s",
        store_s * STORE_GB,
        f"({cpu_s:,.0f} s of CPU + {calls_s:,.0f} s of writing + {batches:,.0f} x {assumed['store_call_s']:g} s) "
        f"x {STORE_GB:.2f} GB",
    )
    yield lines.line(
        PART_LAMBDA,
        "archive_expired and index_segment",
        "lambda_gb_s",
        archive_s * ARCHIVE_GB + index_s * INDEX_GB,
        f"{archive_s:,.0f} s x {ARCHIVE_GB:.2f} GB + {index_s:,.0f} s x {INDEX_GB:g} GB",
    )


def _archive(fleet: Fleet, done: Written, lines: Lines) -> Iterator[Line]:
    yield lines.line(PART_S3, "segments put", "s3_put", done.segments, f"{done.segments:,.0f} segments")
    yield lines.line(
        PART_S3, "objects looked at", "s3_get", done.segments, "index_segment asks each for its metadata"
    )
    cold_months = fleet.cold_s / MONTH_S
    a_month = done.segment_bytes / GB
    yield lines.line(
        PART_S3,
        "segments stored",
        "s3_gb_month",
        a_month * min(MONTHS_A_YEAR, cold_months),
        f"{a_month:,.2f} GB a month ({done.bytes_per_value:.2f} B a value), kept {cold_months:,.0f} months",
        a_month * cold_months,
    )


def _watch(done: Written, prices: Prices, lines: Lines) -> Iterator[Line]:
    assumed = prices.assumed
    invocations = done.batched.batches + done.slots + SCHEDULED + done.segments
    log_gb = invocations * assumed["log_bytes"] / GB
    yield lines.line(
        PART_WATCH,
        "logs",
        "logs_gb",
        log_gb,
        f"{invocations:,.0f} invocations x {assumed['log_bytes']:,.0f} B",
    )
    yield lines.line(PART_WATCH, "metrics", "metric_month", assumed["custom_metrics"], "the functions' own")
    yield lines.line(PART_WATCH, "alarms", "alarm_month", assumed["alarms"], "those of the template")
