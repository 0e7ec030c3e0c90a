"""Queries that are interrupted: in which worlds, by which whole steps of others, and what the answer must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ingest.keys import DAY_S, US, Period
from ingest.plan import Query
from ingest.query import answer, latest
from ingest.reading import Run, Span, concat
from tests.model.crash import Gate
from tests.model.crash_flows import LATE, NARROW, SLOTS, WIDE, change, reindex, slots_due
from tests.model.crash_world import Deployment, archive_event, removes
from tests.world import ALWAYS

SENSORS = ("s0", "s1")
SHORT = Period(0, 3600, DAY_S, 4 * DAY_S, 5 * 365 * DAY_S)

# --- worlds -------------------------------------------------------------------------------


def about_to_expire() -> Deployment:
    """The archiver was away until the last moment: nothing is archived, chunks are about to expire."""
    world = slots_due()
    world.now_s = min(world.ttls()) - 1
    return world


def in_both_tiers() -> Deployment:
    """Everything is archived and past its time in the hot tier, and TTL has not come yet."""
    world = slots_due()
    world.archive(removes(SLOTS))
    world.tell_index()
    world.now_s = world.last_ttl()
    return world


def half_expired() -> Deployment:
    """As `in_both_tiers`, half of the chunks being gone, and a late reading of an old bucket being hot."""
    world = in_both_tiers()
    world.hot.delete(world.expired()[::2])
    world.acknowledged(LATE)
    world.check()
    return world


WORLDS: dict[str, Callable[[], Deployment]] = {
    "slots are due": slots_due,
    "chunks are about to expire": about_to_expire,
    "all is in both tiers": in_both_tiers,
    "half of it is expired": half_expired,
}

# --- what others do meanwhile ---------------------------------------------------------------


def archive(world: Deployment) -> None:
    """The archiver carries out the order, S3 tells of the objects, and the schedule tidies."""
    world.archive(removes(SLOTS))
    world.tell_index()
    world.archive(archive_event(until_s=world.now_s))


def expire(world: Deployment) -> None:
    """All is archived, and TTL deletes what is past within the day: no query lasts for longer."""
    archive(world)
    world.now_s += DAY_S // 2
    world.hot.delete(world.expired())


def expire_one(world: Deployment) -> None:
    """All is archived, and TTL has come as far as one item."""
    archive(world)
    world.now_s += 1
    world.hot.delete(world.expired()[:1])


def late_reading(world: Deployment) -> None:
    """A late reading and a correction are stored."""
    world.acknowledged(LATE)


def wider_layout(world: Deployment) -> None:
    """Buckets become wider, and something is stored in them."""
    change(world, WIDE)
    world.acknowledged(LATE)


def shorter_layout(world: Deployment) -> None:
    """Buckets become narrower, readings stay hot for a shorter time, and something is stored so."""
    change(world, replace(NARROW, hot_retention_s=SHORT.hot_retention_s))
    world.acknowledged(LATE)


ACTORS: dict[str, Callable[[Deployment], None]] = {
    "archive": archive,
    "archive and expire": expire,
    "archive and expire one": expire_one,
    "reindex": reindex,
    "store a late reading": late_reading,
    "widen the buckets": wider_layout,
    "shorten the hot tier": shorter_layout,
}

# --- queries --------------------------------------------------------------------------------


def whole(world: Deployment, gate: Gate) -> None:
    """Everything of each sensor, in one answer."""
    for sensor_id in SENSORS:
        floor = dict(world.truth.floor)
        found = answer(Query(sensor_id, ALWAYS), world.sources(gate), world.now_s)
        world.truth.check(sensor_id, found.run, floor)


def paged(world: Deployment, gate: Gate) -> None:
    """Everything of a sensor, one reading on a page; the pages in a row are the answer."""
    floor = dict(world.truth.floor)
    pages: list[Run] = []
    start_us: int | None = ALWAYS.start_us
    while start_us is not None:
        query = Query("s0", Span(start_us, ALWAYS.end_us), limit=1)
        found = answer(query, world.sources(gate), world.now_s)
        if found.run is not None:
            pages.append(found.run)
        start_us = found.next_us
    world.truth.check("s0", concat(pages) if pages else None, floor)


def windows(world: Deployment, gate: Gate) -> None:
    """How many values there are, in windows: no fewer than before, no more than after."""
    before = len([cell for cell in world.truth.floor if cell[0] == "s0"])
    query = Query("s0", ALWAYS, every_us=3_600 * US, aggregates=("count",))
    found = answer(query, world.sources(gate), world.now_s)
    assert found.windows is not None
    total = sum(sum(columns["count"]) for columns in found.windows.columns.values())  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert before <= total <= len([cell for cell in world.truth.floor if cell[0] == "s0"])


def newest(world: Deployment, gate: Gate) -> None:
    """The newest reading of a sensor is no older than the newest there was."""
    newest_us = max(cell[1] for cell in world.truth.floor if cell[0] == "s0")
    run = latest("s0", world.sources(gate), world.now_s)
    assert run is not None
    assert run.ts_us[-1] >= newest_us


QUERIES: dict[str, Callable[[Deployment, Gate], None]] = {
    "whole": whole,
    "in pages": paged,
    "in windows": windows,
    "the newest": newest,
}
