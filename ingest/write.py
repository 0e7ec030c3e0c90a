"""The use case of the batch door: a batch of stream records becomes chunks, manifests, tickets and rejects."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, pairwise
from typing import cast

from ingest import keys
from ingest.chunk import encode, writer
from ingest.envelope import is_wrapped, may_hold_wrapped
from ingest.errors import Unavailable
from ingest.item import Item
from ingest.keys import US, Layout, Period
from ingest.kinesis_records import Record, user_records
from ingest.manifest import encode_manifests, encode_open_slot, encode_ticket
from ingest.reading import Column, Run, concat, merge, settle, take
from ingest.reject import Problem, Reject
from ingest.stores import HotStore, Registry, RejectKeeper, RemainingMs
from ingest.wire import decode_all
from ingest.write_unknown import ClosedRegistry, unknown_sensors

MOST_VALUES_AT_ONCE = 2_000_000
"""A batch that decodes to more is stored in several groups of records, so that memory stays bounded."""
RUN_WEIGHT = 20
"""A run of its own takes so many values' memory, beside its values; so does a reject, and so much time each
problem takes, whether or not it is told apart."""
INFLATED = 8
"""Compressed bytes are taken to be so many times as many; those that are more are many readings, or problems."""
TEXT_WEIGHT = 16
"""So many characters of text take one value's memory."""
LEAST_GROUP_MS = 5_000
"""With less time left, a further group is not begun but reported back to the stream."""
HURRY_MS = 15_000
"""With less time left, what is decoded so far is stored before more is decoded."""
LOOK_AFTER = 50_000
"""After records of so much weight, some tens of milliseconds of work, one looks how much time is left."""


@dataclass(slots=True)
class Stored:
    """What became of a batch. `failed_sequence` is the first record that was not stored.

    `units` are the write units by what they were spent on: registry, tickets, manifests, chunks.
    """

    records: int = 0
    readings: int = 0
    values: int = 0
    chunks: int = 0
    write_units: float = 0.0
    units: dict[str, float] = field(default_factory=dict[str, float])
    sensors: int = 0
    new_sensors: int = 0
    rejects: Counter[str] = field(default_factory=Counter[str])
    oldest_arrival_ms: int | None = None
    failed_sequence: str | None = None


@dataclass(frozen=True, slots=True)
class _Terms:
    """What holds for every group of a batch."""

    period: Period
    now_s: int
    codec: str


@dataclass(slots=True)
class _Group:
    """Consecutive records of a batch that are stored together, under a batch id of their own.

    `values` counts what was read: values, and as many as weigh the same as all else. `weight` is
    what that takes of memory and time, in values. `named` holds the sensors of each record.
    """

    records: list[Record] = field(default_factory=list[Record])
    named: list[list[str]] = field(default_factory=list[list[str]])
    runs: dict[str, list[Run]] = field(default_factory=dict[str, list[Run]])
    rejects: list[Reject] = field(default_factory=list[Reject])
    values: int = 0
    weight: int = 0


def store_batch(
    records: Sequence[Record],
    *,
    hot: HotStore,
    registry: Registry | ClosedRegistry,
    rejects: RejectKeeper,
    layout: Layout,
    now_s: int,
    remaining_ms: RemainingMs,
    codec: str = "list",
) -> Stored:
    """Store every reading of the batch, keep every reject, and say what was done.

    `now_s` is the time of writing (epoch seconds), `codec` that of new chunks. Unknown sensors are added to
    the registry; where that is closed, their readings are refused. Safe to repeat in any grouping. Raises
    Unavailable where a service cannot be outlasted; the batch is then to be repeated whole. Where only time
    runs short, `failed_sequence` names the first record left undone.
    """
    stored = Stored()
    terms = _Terms(layout.at(now_s), now_s, codec)
    start = 0
    while start < len(records):
        if stored.records and remaining_ms() < LEAST_GROUP_MS:
            stored.failed_sequence = records[start].sequence
            break
        group = _next_group(records, start, remaining_ms)
        start += len(group.records)
        _store_group(group, stored, hot, registry, rejects, terms, remaining_ms)
    return stored


def _next_group(records: Sequence[Record], start: int, remaining_ms: RemainingMs) -> _Group:
    """The records from `start` on that are stored together: as many as memory and time allow, at least one."""
    group = _Group()
    looked_at = 0
    for place in range(start, len(records)):
        _decode_into(group, records[place])
        if group.weight >= MOST_VALUES_AT_ONCE:
            break
        if group.weight - looked_at >= LOOK_AFTER:
            looked_at = group.weight
            if remaining_ms() < HURRY_MS:
                break
    return group


# --- decode -----------------------------------------------------------------------------


def _decode_into(group: _Group, record: Record) -> None:
    group.records.append(record)
    try:
        runs, problems, wrapped = _decode_record(record)
    except Exception as error:  # noqa: BLE001 - no bytes may stop the batch; they are kept and named
        unexpected = Problem("unexpected", f"{type(error).__name__} while decoding")
        runs, problems, wrapped = [], [("0", record.data, unexpected)], False
    before = group.values
    group.named.append([run.sensor_id for run in runs])
    if problems:
        group.rejects.extend(_rejects(record, problems))
        group.values += RUN_WEIGHT * len(problems)
        group.weight += RUN_WEIGHT * (sum(problem.count for _, _, problem in problems) - len(problems))
    found = group.runs
    for run in _settle_record(runs):
        held = found.get(run.sensor_id)
        if held is None:
            found[run.sensor_id] = [run]
        else:
            held.append(run)
        group.values += RUN_WEIGHT + len(run.ts_us) * len(run.metrics)
        if wrapped:  # else its text was part of the event, which is small
            group.values += _text_length(run) // TEXT_WEIGHT
    group.weight += group.values - before + len(record.data) * INFLATED // TEXT_WEIGHT * wrapped


def _text_length(run: Run) -> int:
    return sum(len(cell) for column in run.metrics.values() for cell in column if isinstance(cell, str))


def _decode_record(record: Record) -> tuple[list[Run], list[tuple[str, bytes, Problem]], bool]:
    """What a record holds, what is wrong with it, and whether any of it was compressed."""
    if record.problem is not None:
        return [], [("0", record.data, record.problem)], False
    payloads, refused = user_records(record.data)
    problems: list[tuple[str, bytes, Problem]] = []
    if refused is not None:
        problems.append(("0", record.data, refused))
    runs, wrong = decode_all(payloads, record.arrival_ms)
    problems.extend((str(index), payloads[index], problem) for index, problem in wrong)
    return runs, problems, may_hold_wrapped(record.data) and any(map(is_wrapped, payloads))


def _settle_record(runs: list[Run]) -> list[Run]:
    """One run per sensor: within one record, the last value of an instant and metric wins."""
    if len(runs) == 1 or len({run.sensor_id for run in runs}) == len(runs):
        return runs
    by_sensor: dict[str, list[Run]] = {}
    for run in runs:
        by_sensor.setdefault(run.sensor_id, []).append(run)
    return [found[0] if len(found) == 1 else _join(found) for found in by_sensor.values()]


def _join(runs: list[Run]) -> Run:
    if all(a.ts_us[-1] < b.ts_us[0] for a, b in pairwise(runs)):
        return concat(runs)
    names = sorted({name for run in runs for name in run.metrics})
    columns: dict[str, Column] = {name: [] for name in names}
    for run in runs:
        for name in names:
            columns[name].extend(run.metrics.get(name) or [None] * len(run.ts_us))
    arrival_ms = runs[0].arrival_ms
    ts_us = [ts for run in runs for ts in run.ts_us]
    return settle(runs[0].sensor_id, ts_us, columns, arrival_ms if isinstance(arrival_ms, int) else 0)


def _rejects(record: Record, problems: Sequence[tuple[str, bytes, Problem]]) -> Iterator[Reject]:
    """The problems of a record, with place and payload, as they are kept."""
    hashes: dict[bytes, str] = {}
    for offset, payload, problem in problems:
        yield _reject(record, offset, payload, problem, hashes)


def _reject(
    record: Record, offset: str, payload: bytes, problem: Problem, hashes: dict[bytes, str]
) -> Reject:
    """The problem as it is kept; `hashes` holds those of payloads, which many problems may share."""
    kept = payload if problem.payload is None else problem.payload
    if kept not in hashes:
        hashes[kept] = sha256(kept).hexdigest()
    place = "/".join(filter(None, (offset, problem.part, problem.reason)))
    return Reject(
        id=keys.reject_id(record.stream_arn, record.shard_id, record.sequence, place),
        reason=problem.reason,
        detail=problem.detail,
        stream_arn=record.stream_arn,
        shard_id=record.shard_id,
        sequence=record.sequence,
        offset=place,
        arrival_ms=record.arrival_ms,
        sensor_id=problem.sensor_id,
        count=problem.count,
        sha256=hashes[kept],
        payload=kept,
        addressed_to=problem.addressed_to,
    )


# --- store ------------------------------------------------------------------------------


def _store_group(
    group: _Group,
    stored: Stored,
    hot: HotStore,
    registry: Registry | ClosedRegistry,
    rejects: RejectKeeper,
    terms: _Terms,
    remaining_ms: RemainingMs,
) -> None:
    first = group.records[0]
    now_s = terms.now_s
    sequences = [record.sequence for record in group.records]
    period = terms.period
    made = f"{period.archive_after_s} {period.hot_retention_s} {group.values} {len(group.rejects)}"
    if isinstance(registry, ClosedRegistry):
        made += _refuse_unknown(group, registry)
    batch = keys.batch_id(
        first.stream_arn, first.shard_id, period.bucket_s, sequences, writer(terms.codec), made
    )
    arrivals = [record.arrival_ms for record in group.records if record.arrival_ms]
    if group.rejects:
        date = keys.date_of((min(arrivals) if arrivals else now_s * 1000) * 1000)
        rejects.keep(keys.reject_name(date, batch), group.rejects)
    by_slot, readings, values = _encode_group(group, batch, terms)
    new_sensors = 0
    if by_slot:
        first_seen = {sensor_id: min(map(_least_arrival, runs)) for sensor_id, runs in group.runs.items()}
        units = 0.0
        if not isinstance(registry, ClosedRegistry):
            new_sensors, units = registry.register(first_seen, remaining_ms)
        spent = {"registry": units} | _put_in_order(by_slot, batch, terms, hot, remaining_ms)
        for name, count in spent.items():
            stored.units[name] = stored.units.get(name, 0.0) + count
        stored.write_units += sum(spent.values())
    stored.records += len(group.records)
    stored.readings += readings
    stored.values += values
    stored.chunks += sum(map(len, by_slot.values()))
    stored.sensors += len(group.runs)
    stored.new_sensors += new_sensors
    for reject in group.rejects:
        stored.rejects[reject.reason] += reject.count
    if arrivals:
        oldest = stored.oldest_arrival_ms
        stored.oldest_arrival_ms = min(arrivals) if oldest is None else min(oldest, *arrivals)


def _refuse_unknown(group: _Group, registry: ClosedRegistry) -> str:
    """Make rejects of what the group holds of unknown sensors. What the batch's name must tell of that:
    nothing where there are none, else which, since a repeat may refuse others."""
    unknown = registry.unknown(group.runs)
    if not unknown:
        return ""
    for sensor_id in unknown:
        del group.runs[sensor_id]
    for record, named in zip(group.records, group.named, strict=True):
        if not unknown.isdisjoint(named):
            try:
                problems = unknown_sensors(record, unknown)
            except Exception as error:  # noqa: BLE001 - no bytes may stop the batch; they are kept and named
                detail = f"{type(error).__name__} while refusing unknown sensors"
                problems = [("0", record.data, Problem("unexpected", detail))]
            group.rejects.extend(_rejects(record, problems))
    return f" {keys.sensors_digest(unknown)}"


def _put_in_order(
    by_slot: dict[int, list[Item]], batch: str, terms: _Terms, hot: HotStore, remaining_ms: RemainingMs
) -> dict[str, float]:
    """Tickets, then manifests, then chunks: a batch that dies half-way leaves nothing unarchived. The units of each."""
    tickets = [item for slot_s in by_slot for item in (encode_open_slot(slot_s), encode_ticket(slot_s))]
    manifests = [
        item
        for slot_s, chunks in by_slot.items()
        for item in encode_manifests(slot_s, batch, terms.now_s, [one.key for one in chunks], terms.period)
    ]
    chunks = [chunk for found in by_slot.values() for chunk in found]
    units: dict[str, float] = {}
    for name, items in (("tickets", tickets), ("manifests", manifests), ("chunks", chunks)):
        if remaining_ms() <= 0:
            raise Unavailable(
                "The function's time ran out before the batch was written. It will be repeated."
            )
        units[name] = hot.put(items, remaining_ms)
    return units


def _encode_group(group: _Group, batch: str, terms: _Terms) -> tuple[dict[int, list[Item]], int, int]:
    period, now_s, codec = terms.period, terms.now_s, terms.codec
    by_slot: dict[int, list[Item]] = {}
    ends: dict[int, tuple[int, list[Item]]] = {}
    readings = values = 0
    for runs in group.runs.values():
        run = runs[0] if len(runs) == 1 else _joined(runs, period.bucket_s) or merge(runs)
        readings += len(run.ts_us)
        values += len(run.ts_us) * len(run.metrics) if run.encoded else run.value_count()
        for bucket_s, piece in split_buckets(run, period.bucket_s):
            if bucket_s not in ends:
                bucket_end_s = bucket_s + period.bucket_s
                slot_s = keys.slot_of(bucket_end_s, now_s, period)
                chunks = by_slot.setdefault(slot_s, [])
                ends[bucket_s] = keys.expires_at_s(bucket_end_s, now_s, period), chunks
            expires_at_s, chunks = ends[bucket_s]
            chunks.extend(encode(piece, bucket_s, batch, expires_at_s, codec))
    return by_slot, readings, values


def _joined(runs: list[Run], bucket_s: int) -> Run | None:
    """What `merge` makes of runs that follow one another in one bucket and have the same metrics; else None.

    Its one arrival is the greatest, which is all that a chunk keeps of it.
    """
    names = runs[0].metrics.keys()
    arrivals = [run.arrival_ms for run in runs]
    first_us, last_us = runs[0].ts_us[0], runs[-1].ts_us[-1]
    if keys.bucket_start_s(first_us, bucket_s) != keys.bucket_start_s(last_us, bucket_s):
        return None
    if any(a.ts_us[-1] >= b.ts_us[0] or b.metrics.keys() != names for a, b in pairwise(runs)):
        return None
    metrics: dict[str, Column] = {
        name: list(chain.from_iterable([run.metrics[name] for run in runs])) for name in sorted(names)
    }
    ts_us = list(chain.from_iterable([run.ts_us for run in runs]))
    return Run(runs[0].sensor_id, ts_us, metrics, max(cast(list[int], arrivals)))


def split_buckets(run: Run, bucket_s: int) -> Iterator[tuple[int, Run]]:
    """The run cut at bucket bounds: each bucket's start (epoch seconds) with its readings."""
    start = 0
    count = len(run.ts_us)
    while start < count:
        bucket_start_s = keys.bucket_start_s(run.ts_us[start], bucket_s)
        end_us = (bucket_start_s + bucket_s) * US
        end = count if run.ts_us[-1] < end_us else bisect_left(run.ts_us, end_us, lo=start)
        yield bucket_start_s, take(run, start, end)
        start = end


def _least_arrival(run: Run) -> int:
    if isinstance(run.arrival_ms, int):
        return run.arrival_ms
    return min(arrival for column in run.arrival_ms.values() for arrival in column if arrival)
