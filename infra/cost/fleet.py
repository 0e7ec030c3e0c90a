"""A fleet and its traffic: messages, records, shards, and how many readings of a sensor meet in one batch; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ingest.errors import BadInput

MONTH_S = 730 * 3600.0
"""A month as AWS counts it on its price lists: 730 hours."""
KB = 1024
SHARD_BYTES_PS = 1_000_000
SHARD_RECORDS_PS = 1_000
"""What a shard takes a second ("Quotas and limits", Amazon Kinesis Data Streams)."""
PUT_UNIT_BYTES = 25 * KB
PARALLELIZATION = 10
LANES_PER_SHARD = 10
"""Lanes of our publisher, as in cli/send.py: as many as batches can be worked on at once."""
BATCH_RECORDS = 10_000
BATCH_BYTES = 6 * KB * KB
"""Most records and payload of one invocation ("Lambda parameters for Amazon Kinesis Data Streams ...")."""
ENVELOPE_BYTES = 563
"""What a record adds to the event beside its data, which is there in base64."""
AGGREGATE_BYTES = 256 * KB
"""At this size our publisher begins a new record (sensors/lanes.py)."""
AGGREGATE_EACH, AGGREGATE_ALL = 9, 40
"""Framing of a KPL aggregate: for each user record, and for the whole."""
MOST_WINDOW_S = 300
LEAST_MARGIN_S = 48 * 3600
"""Least time between archiving and expiry that `deploy` accepts."""
MOST_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is asked about.

    Each sensor takes a reading (of `metrics` values) every `interval_s`, and sends what it
    gathered for `edge_s` as one message. `shards` and `lanes` None: chosen. With `iot_core`
    each message comes through AWS IoT Core as a record of its own; without, our publisher or
    gateway packs the messages of a lane into one record. With `align` messages end at whole multiples of
    `edge_s` by the clock, as the gateway's --align ends them; without, at any moment. Raises BadInput naming
    the option.
    """

    sensors: int
    interval_s: float
    metrics: int = 1
    edge_s: float = 60.0
    window_s: float = 60.0
    hot_s: float = 7 * 86_400.0
    cold_s: float = 5 * 365 * 86_400.0
    bucket_s: int = 3_600
    archive_after_s: float = 86_400.0
    codec: str = "list"
    shards: int | None = None
    lanes: int | None = None
    iot_core: bool = False
    align: bool = False

    def __post_init__(self) -> None:
        bounds = {
            "sensors": (self.sensors, 1, 1e8),
            "interval": (self.interval_s, 1e-3, 86_400),
            "metrics": (self.metrics, 1, 100),
            "batch": (self.edge_s, 0, 86_400),
            "window": (self.window_s, 0, MOST_WINDOW_S),
            "shards": (self.shards or 1, 1, MOST_SHARDS),
            "lanes": (self.lanes or 1, 1, MOST_SHARDS * LANES_PER_SHARD),
        }
        for name, (value, least, most) in bounds.items():
            if not least <= value <= most:
                unit = " s" if name in ("interval", "batch", "window") else ""
                raise BadInput(f"--{name}: {value:g}{unit} cannot be used; give {least:g} to {most:g}{unit}.")
        if self.codec not in ("list", "packed"):
            raise BadInput(f"--codec: {self.codec!r} is no codec; use list or packed.")
        if self.bucket_s < 60 or self.bucket_s % 60 or 86_400 % self.bucket_s:
            raise BadInput(
                f"--bucket: {self.bucket_s} s cannot be used; it must be whole minutes that divide a day evenly."
            )
        least_hot_s = self.archive_after_s + min(self.bucket_s, self.archive_after_s) + LEAST_MARGIN_S
        if self.hot_s < least_hot_s:
            raise BadInput(
                f"--hot: {self.hot_s / 3600:g} h cannot be used; `deploy` wants at least {least_hot_s / 3600:g} h with "
                f"such buckets: archiving after {self.archive_after_s / 3600:g} h, and 48 h for what may go wrong."
            )
        if self.cold_s <= self.hot_s:
            raise BadInput("--cold: must be longer than --hot.")

    @property
    def step_us(self) -> int:
        """Microseconds between two readings."""
        return max(1, round(self.interval_s * 1e6))

    @property
    def per_message(self) -> int:
        """Readings in one message."""
        return max(1, round(self.edge_s / self.interval_s))

    @property
    def message_s(self) -> float:
        """Seconds between two messages of a sensor."""
        return self.per_message * self.interval_s

    @property
    def uncut(self) -> int:
        """Readings that stand together and are never in two buckets: a message's, where messages end by the clock
        and their length divides the buckets' width; else a single one."""
        message_us = self.per_message * self.step_us
        fits = self.align and self.bucket_s * 1_000_000 % message_us == 0
        return self.per_message if fits else 1

    @property
    def readings(self) -> float:
        """Readings a month."""
        return self.sensors * MONTH_S / self.interval_s

    @property
    def messages(self) -> float:
        """Messages a month."""
        return self.readings / self.per_message


@dataclass(frozen=True, slots=True)
class Traffic:
    """What goes through the stream a second, in how many records, on how many shards and lanes."""

    message_bytes: float
    bytes_ps: float
    records_ps: float
    record_bytes: float
    lanes: int
    shards: int
    shards_needed: int

    @property
    def put_units(self) -> float:
        """PUT payload units a month."""
        return self.records_ps * MONTH_S * math.ceil(self.record_bytes / PUT_UNIT_BYTES)

    @property
    def gb_in(self) -> float:
        """GB a month as on-demand mode counts them: each record rounded up to 1 KB."""
        return self.records_ps * MONTH_S * math.ceil(self.record_bytes / KB) * KB / 1e9

    @property
    def gb_out(self) -> float:
        """GB a month that the function's poller reads."""
        return self.bytes_ps * MONTH_S / 1e9

    @property
    def concurrency(self) -> int:
        """Batches that fill side by side."""
        return min(self.lanes, self.shards * PARALLELIZATION)


def traffic(
    fleet: Fleet, message_bytes: float, assumed: Mapping[str, float], shards: int | None = None
) -> Traffic:
    """What the fleet sends, with its own number of shards, else the given one, else as few as it needs."""
    messages_ps = fleet.messages / MONTH_S
    needed = 1
    while True:  # more shards mean more lanes, and those more records, though never more than messages
        count = fleet.shards or max(needed, shards or 0)
        found = _on_shards(fleet, message_bytes, messages_ps, assumed["publish_s"], count)
        load = max(found.bytes_ps / SHARD_BYTES_PS, found.records_ps / SHARD_RECORDS_PS)
        wanted = max(1, math.ceil(load / assumed["shard_fill"]))
        if wanted <= needed:
            return replace(found, shards_needed=needed)
        needed = wanted


def _on_shards(
    fleet: Fleet, message_bytes: float, messages_ps: float, publish_s: float, shards: int
) -> Traffic:
    lanes = fleet.lanes or shards * LANES_PER_SHARD
    if fleet.iot_core:
        lanes = min(fleet.sensors, fleet.lanes or shards * PARALLELIZATION)
        return Traffic(
            message_bytes, messages_ps * message_bytes, messages_ps, message_bytes, lanes, shards, 0
        )
    lanes = min(lanes, fleet.sensors)
    together = messages_ps * publish_s / lanes
    bytes_together = together * (message_bytes + AGGREGATE_EACH)
    records = max(min(1.0, together), bytes_together / AGGREGATE_BYTES)
    records_ps = records * lanes / publish_s
    record_bytes = bytes_together / records + AGGREGATE_ALL
    return Traffic(message_bytes, records_ps * record_bytes, records_ps, record_bytes, lanes, shards, 0)


@dataclass(frozen=True, slots=True)
class Batching:
    """How records become batches.

    `period_s`: how often a lane's batch closes, and `limit` what closes it. `per_batch`: messages
    of one sensor in a batch, on average; below 1 it is the share of batches a sensor is in.
    """

    period_s: float
    limit: str
    batches: float
    per_batch: float
    runs: tuple[tuple[int, float], ...]
    sensors_per_batch: float

    @property
    def readings_per_run(self) -> float:
        """Readings of one sensor in a batch, where it is in it at all."""
        return sum(length * share for length, share in self.runs) / sum(share for _, share in self.runs)


def batching(fleet: Fleet, sent: Traffic) -> Batching:
    """How many readings of one sensor meet in one batch: the packing law.

    A batch opens with its first record and closes after the window, at 10,000 records, or at 6 MB,
    whichever comes first; each lane fills its own. Longer is better: one chunk is one write unit or more.
    """
    lane_records_ps = sent.records_ps / sent.concurrency
    event_bytes = sent.record_bytes * 4 / 3 + ENVELOPE_BYTES
    closes = {
        f"window {fleet.window_s:g} s": fleet.window_s + 1 / lane_records_ps,
        "6 MB of payload": max(1.0, BATCH_BYTES // event_bytes) / lane_records_ps,
        "10,000 records": BATCH_RECORDS / lane_records_ps,
    }
    limit = min(closes, key=lambda name: closes[name])
    period_s = closes[limit]
    mean = period_s / fleet.message_s
    low = math.floor(mean)
    runs = ((low * fleet.per_message, low + 1 - mean), ((low + 1) * fleet.per_message, mean - low))
    present = tuple((length, share) for length, share in runs if length and share > 1e-12)
    sensors_per_lane = fleet.sensors / sent.concurrency
    return Batching(
        period_s=period_s,
        limit=limit,
        batches=sent.concurrency * MONTH_S / period_s,
        per_batch=mean,
        runs=present,
        sensors_per_batch=sensors_per_lane * min(1.0, mean),
    )


def pieces(readings: int, interval_s: float, bucket_s: int, uncut: int = 1) -> list[tuple[int, float]]:
    """A run of a batch cut at bucket bounds, which lie anywhere: lengths, and how many of each on average.

    `uncut` readings stand together, and the run is whole such groups. A bound falls between two neighbours with
    the chance interval / bucket, between two groups as many times as likely; then a run is two pieces, of any
    proportion (three are taken for all).
    """
    per_bucket = max(1.0, bucket_s / interval_s)
    groups = readings // uncut
    if groups == 1:
        return [(readings, 1.0)]
    bounds = (readings - uncut) / per_bucket
    if bounds < 1:
        quarter, half = max(1, groups // 4), groups // 2
        cuts = [uncut * cut for cut in sorted({quarter, half, groups - quarter}) if 0 < cut < groups]
        parts = [(part, bounds / len(cuts)) for cut in cuts for part in (cut, readings - cut)]
        return [(readings, 1.0 - bounds), *parts]
    whole = max(1, round(per_bucket))
    if whole == 1:
        return [(1, float(readings))]
    ends = [uncut * max(1, round((whole // uncut + 1) * share)) for share in (0.25, 0.5, 0.75)]
    parts = [(min(end, whole), 2 / len(ends)) for end in ends]
    held = sum(length * count for length, count in parts)
    return [(whole, max(0.0, (readings - held) / whole)), *parts]
