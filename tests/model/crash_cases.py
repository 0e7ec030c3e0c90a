"""What is enumerated: the flows with the least number of their points, and who interrupts whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from typing import Any

import pytest

from infra.local import ttl_clock
from ingest import archive, keys, query, segment_write
from ingest.keys import DAY_S, Key, Period, first_layout
from sensors import lanes
from tests.model import crash_flows as flows
from tests.model import crash_outer as outer
from tests.model import crash_queries as queries
from tests.model.crash import (
    PARTLY,
    SINGLE,
    Broken,
    Flow,
    Gate,
    Open,
    every_interruption,
    every_pair,
    every_point,
)
from tests.model.crash_retry import retrying
from tests.model.crash_world import Courses, Deployment, archive_event, removes
from tests.model.wire_clients import InlineExecutor

_encoded: dict[str, Any] = {}


def remembered(encode: Callable[..., Any]) -> Callable[..., Any]:
    """The same runs make the same object: it is made once."""

    def known(runs: Any, **how: Any) -> Any:
        text = f"{segment_write.ROWS_PER_GROUP} {how} {runs!r}"
        if text not in _encoded:
            _encoded[text] = encode(runs, **how)
        return _encoded[text]

    return known


def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that a few readings meet them."""
    monkeypatch.setattr(archive, "CHUNKS_PER_ROUND", 3)
    monkeypatch.setattr(archive, "CHUNKS_PER_READ", 2)
    monkeypatch.setattr(archive.segment_format, "encode", remembered(archive.segment_format.encode))
    monkeypatch.setattr(query, "ThreadPoolExecutor", InlineExecutor)
    monkeypatch.setattr(lanes, "AIM_BYTES", 150)
    monkeypatch.setattr(ttl_clock._log, "disabled", True)


# --- the points -------------------------------------------------------------------------

FLOWS: dict[str, tuple[Callable[[], Flow[Any]], int, int]] = {
    "store": (flows.store, 84, 98),
    "store what is stored in other buckets": (flows.store_again_narrower, 80, 98),
    "archive": (flows.archive_removed, 80, 95),
    "archive by the schedule": (flows.archive_overdue, 84, 87),
    "index": (flows.index, 28, 12),
    "index before the archiver": (flows.index_before_the_archiver, 16, 12),
    "reindex": (flows.reindexing, 32, 10),
    "expire ahead of time": (outer.expire_ahead, 68, 45),
    "expire by ticks": (outer.expire_by_ticks, 200, 240),
    "publish": (lambda: outer.publish(by_code=False), 16, 18),
    "publish, refused by code": (lambda: outer.publish(by_code=True), 16, 18),
    "retry": (retrying, 76, 140),
}
"""With the least number of points, and of pairs of points, that there are."""
UNDIVIDED = {"index", "index before the archiver", "reindex", "expire ahead of time"}
"""Flows whose calls carry one thing each."""


def cut_at_every_call(name: str) -> None:
    make, least, least_pairs = FLOWS[name]
    flow = make()
    met = every_point(flow)
    assert met.points >= least
    assert set(met.kinds) == {*SINGLE, *(() if name in UNDIVIDED else PARTLY)}
    pairs = every_pair(flow)
    assert pairs.points >= least_pairs


# --- TTL on AWS: any of the expired items, in any order -----------------------------------


def parts(wanted: Sequence[Key]) -> Iterator[tuple[Key, ...]]:
    return chain.from_iterable(combinations(wanted, count) for count in range(len(wanted) + 1))


def expire_any_part() -> None:
    """When slots are due, when the margin is used up, and at the end: any part is a state on the way of some order."""
    start = flows.before_the_batch()
    start.acknowledged(*flows.BATCH)
    courses, tried = Courses(), 0
    times = (
        (max(start.tickets()), False),
        (min(start.ttls_of_chunks()) - 1, False),
        (start.last_ttl(), True),
    )
    for now_s, archived in times:
        world = start.copy()
        world.now_s = now_s
        if archived:
            world.archive(archive_event(until_s=now_s))
        for gone in parts(world.expired()):
            try:
                has_come_as_far_as(gone, world.copy(), courses)
            except AssertionError as error:
                raise Broken(f"at {now_s}, of what is past {gone} being gone: {error}") from error
            tried += 1
    assert tried >= 2**2 + 2**2 + 2**7


def has_come_as_far_as(gone: Sequence[Key], world: Deployment, courses: Courses) -> None:
    removed = [slot_s for slot_s in world.tickets() if keys.ticket_key(slot_s) in gone]
    world.hot.delete(gone)
    world.check()
    world.archive(removes(removed))
    world.check()
    courses.settle(world, tickets=bool(len(gone) % 2))


# --- two at the same time -----------------------------------------------------------------

SOON = first_layout(Period(0, 60, 1, 7 * DAY_S, 5 * 365 * DAY_S))
"""Slots are due so early that the archiver may meet a batch that is still being written."""


def archive_soon(world: Deployment) -> None:
    """A minute later the archiver gets every order there is, and the schedule comes too."""
    world.now_s += 130
    due = [slot_s for slot_s in world.tickets() if slot_s <= world.now_s]
    world.hot.delete([keys.ticket_key(slot_s) for slot_s in due])
    world.archive(removes(due))
    world.archive(archive_event(until_s=world.now_s))
    world.check()


def soon() -> Deployment:
    world = Deployment(SOON)
    world.acknowledged(flows.FIRST)
    return world


def first_due() -> Deployment:
    world = flows.slots_due()
    world.now_s = flows.SLOTS[0] + 1
    return world


def archive_first(world: Deployment, gate: Gate) -> None:
    world.archive(removes(flows.SLOTS[:1]), gate)


def store_late(world: Deployment) -> None:
    world.acknowledged(flows.LATE)
    world.check()


def archive_again(world: Deployment) -> None:
    world.archive(removes(flows.SLOTS[::-1]))
    world.check()


def reindex_again(world: Deployment) -> None:
    flows.reindex(world)
    world.check()


RACES: dict[str, tuple[Callable[[], Flow[Any]], Callable[[Any], None], int]] = {
    "the archiver meets a batch that is being written": (
        lambda: Flow("store", soon, flows.store_batch, flows.stored_whole, flows.check, {}),
        archive_soon,
        5,
    ),
    "the layout changes under a batch": (flows.store, lambda world: flows.change(world, flows.NARROW), 5),
    "two batches": (flows.store, store_late, 5),
    "a slow batch fills a slot that is being archived": (
        lambda: Flow("archive", first_due, archive_first, flows.nothing, flows.check, {}),
        flows.clock_behind,
        9,
    ),
    "two archivers": (flows.archive_removed, archive_again, 17),
    "S3 tells while the archiver works": (flows.archive_removed, Deployment.tell_index, 17),
    "the catalog is rebuilt while the archiver works": (flows.archive_removed, reindex_again, 17),
    "the archiver works while the catalog is rebuilt": (
        lambda: Flow("reindex", flows.slots_due, flows.reindex, flows.nothing, flows.check, {}),
        archive_again,
        1,
    ),
    "a reading comes while the clock runs ahead": (outer.expire_ahead, store_late, 17),
    "rejects are retried twice at once": (retrying, lambda world: retrying().step(world, Open()), 17),
}


def interrupt_every_call(name: str) -> None:
    flow, act, least = RACES[name]
    made, courses = flow(), Courses()

    def step(world: Deployment, gate: Gate) -> None:
        made.step(world, gate)
        if made.name != "expire ahead":  # what came late stays hot
            made.done(world)
        world.check()
        courses.settle(world, tickets=False)

    assert every_interruption(made.start(), step, act) >= least


# --- queries ------------------------------------------------------------------------------


def interrupt_every_query(asked: str) -> None:
    boundaries = 0
    for start in queries.WORLDS.values():
        world = start()
        for name, act in queries.ACTORS.items():
            try:
                boundaries += every_interruption(world, queries.QUERIES[asked], act)
            except Broken as error:
                raise Broken(f"{asked}, {start.__name__}, {name}: {error}") from error
    assert boundaries >= {"whole": 330, "in pages": 330, "in windows": 180, "the newest": 60}[asked]
