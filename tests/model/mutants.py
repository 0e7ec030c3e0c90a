"""Broken designs, each a few lines in the place of the right ones: the simulation must notice every one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ingest import archive, keys, query, reading, retry, segment, write
from ingest.archive import Archived, Stack
from ingest.chunk_page import decode_get
from ingest.errors import Unavailable
from ingest.item import Item
from ingest.keys import US, Key, Layout, Period
from ingest.manifest import Manifest
from ingest.plan import Plan, Query
from ingest.query import Answer, Sources
from ingest.reading import EARLIEST_US, Run, Span
from ingest.stores import HotStore, RemainingMs, Segment, catalog
from ingest.stores.catalog_entry import select_segments
from ingest.stores.hot import DynamoHotStore
from ingest.write import Stored
from lambdas import archive_expired, store_readings
from sensors.gathering import Batch
from sensors.mqtt_gateway import Gateway
from sensors.publisher import Publisher
from tests.model import memory_stores
from tests.model.mutant import Mutant
from tests.model.mutants_compaction import COMPACTION

_put_in_order, _archive_manifests, _answer = write._put_in_order, archive._archive_manifests, query.answer
_write_segment, _plan, _batch_id, _merge = archive._write_segment, query.plan, keys.batch_id, reading.merge
_query, _chunk_range, _select_segments = DynamoHotStore._query, keys.chunk_range, select_segments
_archive_handle, _encode_segment, _latest = archive_expired.handle, segment.encode, query.latest
_replay, _retry = retry.replay, retry.retry
_store_batch, _send, _clip = store_readings.store_batch, Gateway._send, reading.clip


# --- the batch door -------------------------------------------------------------------------

chance = Random(0)


def random_batch_id(*_: object) -> str:
    return f"{chance.getrandbits(80):020x}"


def batch_id_of_the_ends(
    stream_arn: str, shard_id: str, bucket_s: int, sequences: Sequence[str], writer: str, _: str
) -> str:
    return _batch_id(stream_arn, shard_id, bucket_s, [sequences[0], sequences[-1]], writer)


def batch_id_of_the_first(
    stream_arn: str, shard_id: str, bucket_s: int, sequences: Sequence[str], writer: str, _: str
) -> str:
    return _batch_id(stream_arn, shard_id, bucket_s, sequences[:1], writer)


def batch_id_without_the_layout(
    stream_arn: str, shard_id: str, _: int, sequences: Sequence[str], *others: str
) -> str:
    del others
    return _batch_id(stream_arn, shard_id, 0, sequences)


def chunks_come_first(
    by_slot: dict[int, list[Item]], batch: str, terms: Any, hot: HotStore, left: RemainingMs
):
    hot.put([chunk for chunks in by_slot.values() for chunk in chunks], left)
    return _put_in_order(by_slot, batch, terms, hot, left)


def manifest_after_the_batch(
    by_slot: dict[int, list[Item]], batch: str, terms: Any, hot: HotStore, left: RemainingMs
):
    """The batch counts as done with its chunks; what names them is written afterwards, if nothing happens."""
    hot.put([chunk for chunks in by_slot.values() for chunk in chunks], left)
    try:
        return _put_in_order(by_slot, batch, terms, hot, left)
    except Unavailable:
        return {}


def failures_are_swallowed(by_slot: dict[int, list[Item]], batch: str, terms: Any, hot: HotStore, left: Any):
    try:
        return _put_in_order(by_slot, batch, terms, hot, left)
    except Unavailable:
        return {}


def highest_failed_sequence(records: Sequence[Any], **others: Any) -> Stored:
    """Where something fails, the last record is reported: all before it count as done."""
    try:
        stored = _store_batch(records, **others)
    except Unavailable:
        return Stored(failed_sequence=records[-1].sequence)
    if stored.failed_sequence is not None:
        stored.failed_sequence = records[-1].sequence
    return stored


def expires_before_its_slot(bucket_end_s: int, now_s: int, period: Period) -> int:
    return max(bucket_end_s, now_s) + period.archive_after_s // 2


def expires_by_its_bucket(bucket_end_s: int, _: int, period: Period) -> int:
    return bucket_end_s + period.hot_retention_s


class OneAttempt(DynamoHotStore):
    def unprocessed_is_dropped(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        del remaining_ms
        self._write(list(items))
        return float(len(items))


# --- the archive --------------------------------------------------------------------------------


def manifests_go_first(manifests: Sequence[Manifest], stack: Stack, done: Archived) -> None:
    stack.hot.delete([manifest.key for manifest in manifests])
    _archive_manifests(manifests, stack, done)


class Pretends:
    """A bucket that takes an object only after its entry was made."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.later: list[tuple[Any, ...]] = []

    def put(self, *thing: Any) -> str:
        self.later.append(thing)
        return "0" * 32

    def head(self, name: str) -> Any:
        return self.stack.cold.head(name)


def entry_before_the_object(date: str, chunks: Sequence[Any], stack: Stack) -> Segment | None:
    pretends: Any = Pretends(stack)
    segment = _write_segment(date, chunks, replace(stack, cold=pretends))
    for thing in pretends.later:
        stack.cold.put(*thing)
    return segment


def nothing_is_catalogued(date: str, chunks: Sequence[Any], stack: Stack) -> Segment | None:
    """The entry is left to S3's event, which may be late or never come."""
    catalog: Any = NoCatalog(stack.catalog)
    return _write_segment(date, chunks, replace(stack, catalog=catalog))


class NoCatalog:
    def __init__(self, catalog: Any) -> None:
        self.find, self.look_up = catalog.find, catalog.look_up

    def add(self, *_: Any) -> None:
        pass


def digest_of_the_first(chunks: Iterable[Key]) -> str:
    return keys._digest([part for key in sorted(chunks)[:1] for part in key], 20)


def nothing_is_waited_for(manifest: Manifest, present: set[Key], stack: Stack, done: Archived) -> bool:
    del manifest, present, stack, done
    return True


def overdue_is_nobodys_business(event: Any, stack: Stack) -> Archived:
    return Archived() if "source" in event and not event.get("until_s") else _archive_handle(event, stack)


def arrivals_are_forgotten(runs: Sequence[Run], *others: Any, **more: Any) -> Any:
    return _encode_segment([Run(run.sensor_id, run.ts_us, run.metrics, 1) for run in runs], *others, **more)


# --- queries --------------------------------------------------------------------------------------


def border_of_the_layout_in_force(self: Layout, now_s: float) -> int:
    return int((now_s - self.at(now_s).hot_retention_s) * US)


def border_without_its_bucket(self: Layout, now_s: float) -> int:
    return int((now_s - self.shortest_hot_s - self.widest_bucket_s) * US)


def cold_skipped_at_the_border(asked: Query, layout: Layout, now_s: float) -> Plan:
    planned = _plan(asked, layout, now_s)
    crosses = asked.span.end_us > layout.cold_until_us(now_s)
    return replace(planned, cold=None) if crosses and asked.tier == "auto" else planned


def hot_skipped_when_old(asked: Query, layout: Layout, now_s: float) -> Plan:
    planned = _plan(asked, layout, now_s)
    is_old = asked.span.end_us < layout.cold_until_us(now_s)
    return replace(planned, hot=None) if is_old and asked.tier == "auto" else planned


class Listed:
    """A catalog as it was a moment ago."""

    def __init__(self, segments: list[Segment]) -> None:
        self.segments = segments

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        return select_segments(self.segments, span, sensor_id)


def hot_is_read_last(asked: Query, sources: Sources, now_s: float) -> Answer:
    listed: Any = Listed(sources.catalog.find(Span(EARLIEST_US, 1 << 60)))
    return _answer(asked, replace(sources, catalog=listed), now_s)


def clip_closed(run: Any, span: Span) -> Any:
    return _clip(run, Span(span.start_us, span.end_us + 1))


def first_page_alone(self: DynamoHotStore, *place: Any, **options: Any) -> Iterator[dict[str, Any]]:
    yield next(_query(self, *place, **options))


def unprocessed_keys_are_dropped(self: DynamoHotStore, named: Sequence[Key]) -> list[Any]:
    wanted = [{"pk": {"S": key.pk}, "sk": {"S": key.sk}} for key in named]
    request = {self._table: {"Keys": wanted, "ConsistentRead": True}}
    return decode_get(self._raw("batch_get_item", RequestItems=request), self._table).chunks


def buckets_begin_with_the_span(sensor_id: str, span: Span, _: int) -> tuple[str, str, str]:
    return _chunk_range(sensor_id, span, 60)


def edges_are_left_out(segments: Any, span: Span, sensor_id: str | None) -> list[Segment]:
    found = _select_segments(segments, span, sensor_id)
    return [one for one in found if sensor_id is None or one.first_sensor < sensor_id < one.last_sensor]


def latest_is_hot(sensor_id: str, sources: Sources, now_s: float) -> Run | None:
    empty: Any = Listed([])
    return _latest(sensor_id, replace(sources, catalog=empty), now_s)


# --- operators ------------------------------------------------------------------------------------


def forgotten_before_it_is_stored(batches: Any, *, store: Any, invoke: Any) -> Any:
    for batch in list(batches):
        store.forget(batch)
        nothing: Any = NothingToForget()
        yield from _replay([batch], store=nothing, invoke=invoke)


class NothingToForget:
    def forget(self, _: Any) -> None:
        pass


def marked_before_it_is_stored(kept: Any, *, store: Any, invoke: Any, at_ms: int) -> Any:
    for rejects in list(kept):
        store.mark_stored(rejects, at_ms)
        yield from _retry([rejects], store=store, invoke=invoke, at_ms=at_ms)


# --- senders --------------------------------------------------------------------------------------


def error_codes_are_ignored(self: Publisher, lanes: Sequence[Any]) -> list[str]:
    records = [{"Data": lane.ready[0].data, "PartitionKey": lane.key} for lane in lanes]
    try:
        self._client.put_records(StreamName=self._stream_name, Records=records)
    except (BotoCoreError, ClientError) as error:
        return [type(error).__name__] * len(lanes)
    return [""] * len(lanes)


def acknowledged_before_kinesis(self: Gateway, batch: Batch) -> bool:
    for message in batch.messages:
        self._client.ack(message.mid, 1)
    return _send(self, batch)


WIRED = range(2, 200, 8)
"""Seeds whose stores are those on AWS."""
BEHIND_A_GATEWAY = range(1, 200, 4)
CHUNK_RANGES = ((keys, "chunk_range"), (memory_stores, "chunk_range"))
SELECTIONS = ((catalog, "select_segments"), (memory_stores, "select_segments"))

MUTANTS = [
    Mutant("batch ids are drawn at random", ((keys, "batch_id"),), random_batch_id),
    Mutant("a batch is named by its first and last record", ((keys, "batch_id"),), batch_id_of_the_ends),
    Mutant("a batch is named by its first record", ((keys, "batch_id"),), batch_id_of_the_first),
    Mutant("a batch's name forgets the layout", ((keys, "batch_id"),), batch_id_without_the_layout),
    Mutant("chunks are written before their manifests", ((write, "_put_in_order"),), chunks_come_first),
    Mutant("manifests follow when the batch is done", ((write, "_put_in_order"),), manifest_after_the_batch),
    Mutant("a failed write is not reported", ((write, "_put_in_order"),), failures_are_swallowed),
    Mutant(
        "the highest failed sequence is reported", ((store_readings, "store_batch"),), highest_failed_sequence
    ),
    Mutant("a chunk expires before its slot", ((keys, "expires_at_s"),), expires_before_its_slot),
    Mutant("late chunks expire by their bucket alone", ((keys, "expires_at_s"),), expires_by_its_bucket),
    Mutant("slots are not kept findable", ((write, "encode_open_slot"),), write.encode_ticket),
    Mutant(
        "unprocessed items are dropped",
        ((DynamoHotStore, "_put_group"),),
        OneAttempt.unprocessed_is_dropped,
        WIRED,
    ),
    Mutant(
        "manifests go before their segments are catalogued",
        ((archive, "_archive_manifests"),),
        manifests_go_first,
    ),
    Mutant(
        "the catalog's entry comes before the object", ((archive, "_write_segment"),), entry_before_the_object
    ),
    Mutant("cataloguing is left to S3's events", ((archive, "_write_segment"),), nothing_is_catalogued),
    Mutant("two segments share a name", ((keys, "chunks_digest"),), digest_of_the_first),
    Mutant("missing chunks are not waited for", ((archive, "_is_finished"),), nothing_is_waited_for),
    Mutant("values are merged by position", ((reading, "_wins"),), lambda *_: True),
    Mutant("the hot tier is read after the catalog", ((query, "answer"),), hot_is_read_last),
    Mutant("the cold tier is skipped at the border", ((query, "plan"),), cold_skipped_at_the_border),
    Mutant("the hot tier is skipped for old spans", ((query, "plan"),), hot_skipped_when_old),
    Mutant("the border forgets older layouts", ((Layout, "cold_until_us"),), border_of_the_layout_in_force),
    Mutant("the border is too early by a bucket", ((Layout, "cold_until_us"),), border_without_its_bucket),
    Mutant("spans are closed", ((query, "clip"),), clip_closed),
    Mutant("the schedule does nothing", ((archive_expired, "handle"),), overdue_is_nobodys_business),
    Mutant("the archive forgets arrivals", ((segment, "encode"),), arrivals_are_forgotten),
    Mutant("a query ends with its first page", ((DynamoHotStore, "_query"),), first_page_alone, WIRED),
    Mutant(
        "unprocessed keys are dropped", ((DynamoHotStore, "_get_group"),), unprocessed_keys_are_dropped, WIRED
    ),
    Mutant(
        "a bucket is looked for only in the span",
        ((keys, "chunk_range"), *CHUNK_RANGES),
        buckets_begin_with_the_span,
    ),
    Mutant("the first and last sensor of a segment are not found", SELECTIONS, edges_are_left_out),
    Mutant("the latest reading is looked for hot only", ((query, "latest"),), latest_is_hot),
    *COMPACTION,
    Mutant("a batch is forgotten before it is stored", ((retry, "replay"),), forgotten_before_it_is_stored),
    Mutant("a reject leaves the list before it is stored", ((retry, "retry"),), marked_before_it_is_stored),
    Mutant("PutRecords' error codes are ignored", ((Publisher, "_put"),), error_codes_are_ignored),
    Mutant(
        "the gateway acknowledges before Kinesis accepts",
        ((Gateway, "_send"),),
        acknowledged_before_kinesis,
        BEHIND_A_GATEWAY,
    ),
]
