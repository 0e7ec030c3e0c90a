"""Every crash point of every core flow: nothing lost, nothing doubled, nothing that vanishes, all drained at rest.

Each flow is cut at each of its calls in each way a call can end (`crash.ways`), looked at, taken up again as
AWS would, and looked at again; then once more with two cuts in a row. Then flows and queries are interrupted
at each call by whole steps of others. The broken designs at the end show that all this can fail.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest

from infra.local.sweep import Sweep
from ingest import archive, keys, query, retry, write
from ingest.archive import Archived, Stack
from ingest.errors import ThermoclineError, Unavailable
from ingest.item import Item
from ingest.keys import Key, Period
from ingest.manifest import Manifest
from ingest.plan import Query
from ingest.query import Answer, Sources
from ingest.stores import HotStore, RemainingMs, Segment
from lambdas import archive_expired, index_segment
from sensors.publisher import Publisher
from tests.model import crash_queries as queries
from tests.model.crash import Broken, ways
from tests.model.crash_cases import (
    FLOWS,
    RACES,
    cut_at_every_call,
    expire_any_part,
    interrupt_every_call,
    interrupt_every_query,
    small_limits,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_limits(monkeypatch)


@pytest.mark.parametrize("name", FLOWS)
def test_every_call_may_fail_or_lose_its_reply_or_kill_and_so_may_the_repeat(name: str) -> None:
    cut_at_every_call(name)


def test_a_group_may_end_as_any_part_of_it() -> None:
    four = {way.done for way in ways(4) if way.kills}
    assert len(four) == 2**4
    many = {way.done for way in ways(6)}
    assert {tuple(range(end)) for end in range(7)} <= many
    assert {(one,) for one in range(6)} <= many


def test_ttl_may_have_come_as_far_as_any_part_of_what_is_past() -> None:
    expire_any_part()


@pytest.mark.parametrize("name", RACES)
def test_another_comes_between_any_two_calls(name: str) -> None:
    interrupt_every_call(name)


@pytest.mark.parametrize("asked", queries.QUERIES)
def test_an_answer_is_exact_whatever_others_do_between_its_calls(asked: str) -> None:
    interrupt_every_query(asked)


# --- broken on purpose ----------------------------------------------------------------------

_put_in_order, _archive_manifests, _answer = write._put_in_order, archive._archive_manifests, query.answer
_write_segment, _batch_id, _settled = archive._write_segment, keys.batch_id, retry._settled
_archive_slot, _index, _take, _put = (
    archive.archive_slot,
    index_segment.handle,
    Publisher._take,
    Publisher._put,
)


def manifests_come_last(
    by_slot: dict[int, list[Item]], batch: str, terms: Any, hot: HotStore, left: RemainingMs
) -> dict[str, float]:
    hot.put([chunk for chunks in by_slot.values() for chunk in chunks], left)
    return _put_in_order(by_slot, batch, terms, hot, left)


def failures_are_swallowed(*given: Any) -> dict[str, float]:
    try:
        return _put_in_order(*given)
    except Unavailable:
        return {}


def manifests_go_first(manifests: Sequence[Manifest], stack: Stack, done: Archived) -> None:
    stack.hot.delete([manifest.key for manifest in manifests])
    _archive_manifests(manifests, stack, done)


def failed_slots_are_forgotten(slots: Sequence[int], stack: Stack, done: Archived) -> None:
    for slot_s in slots:
        try:
            archive.archive_slot(slot_s, stack, done)
        except ThermoclineError:
            stack.hot.delete([m.key for page in stack.hot.manifests(slot_s) for m in page])


class AddsBeforePut:
    """A cold store that has its caller's entry in the catalog before the object is there."""

    def __init__(self, stack: Stack) -> None:
        self.held: list[Any] = []
        self.stack = stack

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stack.cold, name)

    def put(self, name: str, data: bytes, metadata: Any) -> str:
        self.held.append((name, data, metadata))
        return "etag"


def catalog_comes_first(date: str, chunks: Any, stack: Stack) -> Segment | None:
    cold: Any = AddsBeforePut(stack)
    made = Stack(stack.hot, cold, stack.catalog, stack.layout, stack.now_s, stack.grace_s, stack.remaining_ms)
    segment = _write_segment(date, chunks, made)
    for held in cold.held:
        stack.cold.put(*held)
    return segment


def hot_is_read_last(asked: Query, sources: Sources, now_s: float) -> Answer:
    listed = sources.catalog.find(queries.ALWAYS)
    before: Any = type("Before", (), {"find": lambda *_: listed})()
    return _answer(asked, Sources(sources.hot, before, sources.cold, sources.layout, sources.clock), now_s)


def off_the_list_first(answered: Any, store: Any, at_ms: int, wanted: Any) -> Any:
    store.mark_stored([one for payload, _ in answered for one in payload.rejects], at_ms)
    return _settled(answered, store, at_ms, wanted)


def one_page_too_far(asked: Query, sources: Sources, now_s: float) -> Answer:
    found = _answer(asked, sources, now_s)
    found.next_us = None if found.next_us is None else found.next_us + 1
    return found


def orders_are_for_the_stream(event: Any, stack: Stack) -> Archived:
    done = Archived()
    archive.archive_slots(archive_expired.slots_of(event), stack, done)
    return done


def forgets_slots_at_once(slot_s: int, stack: Stack, done: Archived) -> None:
    _archive_slot(slot_s, stack, done)
    stack.hot.delete([keys.open_slot_key(slot_s)])


def nothing_is_waited_for(manifest: Manifest, present: set[Key], stack: Stack, done: Archived) -> bool:
    return True


def digest_of_the_buckets(chunks: Iterable[Key]) -> str:
    return keys._digest(sorted({key.sk.partition("#")[0][:10] for key in chunks}), 20)


def errors_are_not_raised(event: Any, cold: Any, catalog: Any, layout: Any) -> Any:
    try:
        return _index(event, cold, catalog, layout)
    except Unavailable:
        return {"indexed": [], "skipped": ["", ""], "gone": [keys.segment_name("2026-11-20", "gone")]}


def acknowledged_when_taken(self: Publisher, run: Any, payloads: Any, on_accepted: Any) -> None:
    on_accepted(run)
    _take(self, run, payloads, None)


def codes_are_ignored(self: Publisher, lanes: Sequence[Any]) -> list[str]:
    _put(self, lanes)
    return [""] * len(lanes)


def bucket_width_is_left_out(
    stream_arn: str, shard_id: str, _: int, sequences: Sequence[str], *others: str
) -> str:
    return _batch_id(stream_arn, shard_id, 0, sequences, *others)


def expires_before_its_slot(bucket_end_s: int, now_s: int, period: Period) -> int:
    return max(bucket_end_s, now_s) + period.archive_after_s // 2


def sweeps_without_looking(self: Any, now_s: float) -> Iterator[bool]:
    yield False


def race(name: str) -> Callable[[], None]:
    return lambda: interrupt_every_call(name)


def point(name: str) -> Callable[[], None]:
    return lambda: cut_at_every_call(name)


def asked(name: str) -> Callable[[], None]:
    return lambda: interrupt_every_query(name)


MUTANTS: dict[str, tuple[Any, str, Any, Callable[[], None]]] = {
    "manifests are written after their chunks": (write, "_put_in_order", manifests_come_last, point("store")),
    "a failed write is not reported": (write, "_put_in_order", failures_are_swallowed, point("store")),
    "a batch id without the width of its buckets": (
        keys,
        "batch_id",
        bucket_width_is_left_out,
        point("store what is stored in other buckets"),
    ),
    "open slots are not kept": (write, "encode_open_slot", write.encode_ticket, point("store")),
    "manifests are deleted before the catalog has its entry": (
        archive,
        "_archive_manifests",
        manifests_go_first,
        point("archive"),
    ),
    "the catalog has its entry before the object is there": (
        archive,
        "_write_segment",
        catalog_comes_first,
        point("archive"),
    ),
    "a slot that failed is given up": (
        archive_expired,
        "archive_slots",
        failed_slots_are_forgotten,
        point("archive"),
    ),
    "two segments share a name": (keys, "chunks_digest", digest_of_the_buckets, point("archive")),
    "the schedule archives nothing": (archive_expired, "handle", orders_are_for_the_stream, point("archive")),
    "a slot is forgotten while batches may still fill it": (
        archive,
        "archive_slot",
        forgets_slots_at_once,
        race("a slow batch fills a slot that is being archived"),
    ),
    "a chunk that is being written is not waited for": (
        archive,
        "_is_finished",
        nothing_is_waited_for,
        race("the archiver meets a batch that is being written"),
    ),
    "the index door hides its errors": (index_segment, "handle", errors_are_not_raised, point("index")),
    "a chunk expires before its slot": (
        keys,
        "expires_at_s",
        expires_before_its_slot,
        expire_any_part,
    ),
    "the sweep does not look for manifests": (
        Sweep,
        "_open",
        sweeps_without_looking,
        race("a reading comes while the clock runs ahead"),
    ),
    "a run is acknowledged when it is taken": (Publisher, "_take", acknowledged_when_taken, point("publish")),
    "error codes of PutRecords are ignored": (
        Publisher,
        "_put",
        codes_are_ignored,
        point("publish, refused by code"),
    ),
    "a reject leaves the list before it is stored": (retry, "_settled", off_the_list_first, point("retry")),
    "hot is read after the catalog": (queries, "answer", hot_is_read_last, asked("whole")),
    "the next page begins one too far": (queries, "answer", one_page_too_far, asked("in pages")),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_design_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, attribute, instead, enumeration = MUTANTS[name]
    monkeypatch.setattr(place, attribute, instead)
    with pytest.raises(Broken):
        enumeration()
