"""The flows whose crash points are tried: for each its start, its step, and how it may go on after a crash."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from ingest import archive, keys
from ingest.keys import DAY_S, US, Period
from ingest.kinesis_records import Record
from ingest.reading import Run, Span
from ingest.stores import ObjectHead
from tests.model.crash import Flow, Gate, Open, Through
from tests.model.crash_world import Courses, Deployment, Step, archive_event, removes
from tests.world import GRACE_S, NOW_S, NOW_US, readings, record

_EARLY, _LATER = NOW_US - 55 * 60 * US, NOW_US - 5 * 60 * US
BAD = b"not json"
BATCH = [
    record(2, Run("s0", [_EARLY, _LATER, NOW_US + US], {"a": [2.5, 4.5, 3.5]}, 0), NOW_S * 1000 + 2),
    record(3, BAD, NOW_S * 1000 + 3),
    record(4, Run("s1", [_LATER, NOW_US + US], {"a": [6.5, 7.5], "b": [True, None]}, 0), NOW_S * 1000 + 4),
]
"""Two sensors in two buckets each, a correction of what is stored, and a reject."""
FIRST = record(1, readings("s0", _EARLY, US, a=[1.5]), NOW_S * 1000 + 1)
LATE = record(5, readings("s0", _EARLY, US, a=[8.5, 9.5]), NOW_S * 1000 + 5)
"""A correction of the correction, and a reading of the same bucket."""
NARROW = Period(NOW_S, 900, DAY_S, 7 * DAY_S, 5 * 365 * DAY_S)
WIDE = Period(NOW_S, 4 * 3600, DAY_S, 7 * DAY_S, 5 * 365 * DAY_S)
Course = Callable[[Deployment], None]


def change(world: Deployment, period: Period) -> None:
    """Another layout is in force from now on."""
    held = world.layout
    world.hot.save_layout(held.changed(replace(period, from_s=world.now_s)), held)


def check(world: Deployment) -> None:
    """What must hold at any time."""
    world.check()


def nothing(_: Deployment) -> None:
    """Nothing follows from a step's end."""


# --- store ------------------------------------------------------------------------------


def before_the_batch() -> Deployment:
    """A reading is stored, and a batch that corrects it is about to come."""
    world = Deployment()
    world.acknowledged(FIRST)
    return world


def stored_whole(world: Deployment) -> None:
    """The stream was told that the batch is done: its readings must be found, its reject is kept."""
    world.truth.stored(BATCH)
    assert world.rejects() == [BAD]


def store_batch(world: Deployment, gate: Gate) -> None:
    """The batch door gets the batch."""
    world.store(BATCH, gate)


def repeated(courses: Courses, *groups: Sequence[Record], after: Course = nothing, **ends: bool) -> Course:
    """The records come again in these groups, later or after something else, and then all comes to rest."""

    def course(world: Deployment) -> None:
        after(world)
        for group in groups:
            world.acknowledged(*group)
            world.check()
        assert world.rejects() == [BAD]
        courses.settle(world, **ends)

    return course


def an_hour_later(world: Deployment) -> None:
    """Time passes."""
    world.now_s += 3_700


def all_slots_archived(world: Deployment) -> None:
    """The slots that are known fall due and are archived; what the dead batch never wrote is given up."""
    world.now_s = max([world.now_s, *world.tickets()]) + GRACE_S
    world.archive(removes(world.tickets()))
    world.check()


def store_courses(courses: Courses) -> dict[str, Course]:
    """How it goes on after the batch door has died."""
    two, three, four = BATCH
    return {
        "the batch comes again": repeated(courses, BATCH),
        "each record comes alone": repeated(courses, [two], [three], [four], events=False),
        "a wider batch comes": repeated(courses, [two], [three, four, LATE], tickets=False),
        "it comes an hour later": repeated(courses, BATCH, after=an_hour_later),
        "it comes after its slots were archived": repeated(courses, BATCH, after=all_slots_archived),
        "it comes after all was expired": repeated(
            courses, BATCH, after=lambda world: Courses().settle(world)
        ),
        "buckets are narrower": repeated(courses, BATCH, after=lambda world: change(world, NARROW)),
        "it never comes again": lambda world: courses.settle(world, tickets=False, events=False),
        "it never comes, REMOVE does": courses.settle,
    }


def store() -> Flow[Deployment]:
    """The batch door."""
    return Flow("store", before_the_batch, store_batch, stored_whole, check, store_courses(Courses()))


def store_again_narrower() -> Flow[Deployment]:
    """The batch door gets a batch again that is stored, in buckets of another width."""

    def start() -> Deployment:
        world = before_the_batch()
        world.store(BATCH)
        world.check()
        change(world, NARROW)
        return world

    return Flow("store again", start, store_batch, stored_whole, check, store_courses(Courses()))


# --- archive ----------------------------------------------------------------------------


def slots_due() -> Deployment:
    """Two slots are due: TTL has removed their tickets."""
    world = before_the_batch()
    world.acknowledged(*BATCH)
    world.now_s = max(world.tickets())
    world.hot.delete([keys.ticket_key(slot_s) for slot_s in world.tickets()])
    return world


SLOTS = (NOW_S + DAY_S, NOW_S + DAY_S + 3600)


def clock_behind(world: Deployment) -> None:
    """A writer whose clock is a day behind puts a late reading into a slot that is due."""
    now_s, world.now_s = world.now_s, NOW_S
    world.acknowledged(LATE)
    world.now_s = now_s
    world.check()


def ordered(courses: Courses, *events: Any, before: Course = nothing, **ends: bool) -> Course:
    """The archiver gets these orders, and then all comes to rest."""

    def course(world: Deployment) -> None:
        before(world)
        for event in events:
            world.archive(event)
            world.check()
        courses.settle(world, **ends)

    return course


def nothing_due(world: Deployment) -> None:
    """The order is carried out."""
    assert not world.held(keys.MANIFEST_PREFIX)


def archiving(name: str, event: Any) -> Flow[Deployment]:
    """The archive door gets an order."""
    courses = Courses()
    first, second = SLOTS
    recoveries = {
        "the order is repeated": ordered(courses, event),
        "each slot by itself": ordered(courses, removes([second]), removes([first]), removes([first])),
        "only the schedule": ordered(courses, tickets=False, events=False),
        "S3 tells first": ordered(courses, event, before=Deployment.tell_index),
        "a late reading first": ordered(courses, event, before=clock_behind),
    }
    step: Step = lambda world, gate: cast(None, world.archive(event, gate))  # noqa: E731
    return Flow(name, slots_due, step, nothing_due, check, recoveries)


def archive_removed() -> Flow[Deployment]:
    """The archive door gets the REMOVE of both tickets."""
    return archiving("archive", removes(SLOTS))


def archive_overdue() -> Flow[Deployment]:
    """The archive door is called by the schedule."""
    return archiving("archive by schedule", archive_event(until_s=SLOTS[1]))


# --- index ------------------------------------------------------------------------------


def only_cold() -> Deployment:
    """All is archived and expired."""
    world = slots_due()
    Courses().settle(world)
    return world


def catalog_lost() -> Deployment:
    """The bucket was restored, beside other objects: nothing is catalogued, one object has no metadata."""
    world = only_cold()
    world.catalog.items.clear()
    world.truth.floor.clear()
    world.told.clear()
    name, (data, head) = min(world.cold.objects.items())
    world.cold.objects[name] = (data, ObjectHead(head.size_bytes, head.etag, head.modified_s))
    world.cold.put(keys.segment_name("2026-11-20", "damaged"), b"PAR1", {})
    world.cold.put("notes.txt", b"", {})
    return world


def all_found(world: Deployment) -> None:
    """Whatever was stored is found."""
    for cell, values in world.truth.sent.items():
        world.truth.floor[cell] = max(values.values())


def index_all(world: Deployment, gate: Gate) -> None:
    """The index door is told of every object, and of one that is gone."""
    gone = keys.segment_name("2026-11-20", "gone")
    told = world.index([*sorted(world.cold.objects), gone], gate)
    assert told["gone"] == [gone]
    assert len(told["skipped"]) == 2


def reindex(world: Deployment, gate: Gate | None = None) -> None:
    """`archive reindex`."""
    cold: Any = Through(world.cold, gate or Open())
    catalog: Any = Through(world.catalog, gate or Open())
    everything = catalog.find(Span(0, 1 << 60))
    deque(archive.reindex(cold, catalog, world.layout, everything), maxlen=0)


def index() -> Flow[Deployment]:
    """The index door after the bucket was restored."""

    def course(again: Step) -> Course:
        def run(world: Deployment) -> None:
            again(world, Open())
            all_found(world)
            world.check()
            world.check("cold")

        return run

    recoveries = {"S3 tells again": course(index_all), "it is reindexed": course(reindex)}
    return Flow("index", catalog_lost, index_all, all_found, check, recoveries)


def reindexing() -> Flow[Deployment]:
    """`archive reindex` while the entries of some objects are right and others' objects are gone."""
    flow = index()

    def start() -> Deployment:
        world = only_cold()
        world.check()
        held = world.catalog.find(Span(0, 1 << 60))[0]
        gone = replace(held, name=keys.segment_name(held.date, "gone"), digest="gone", first_us=0, last_us=0)
        world.catalog.add([gone], NOW_S)
        world.cold.put(keys.segment_name("2026-11-20", "damaged"), b"PAR1", {})
        world.cold.put("notes.txt", b"", {})
        return world

    return Flow("reindex", start, reindex, all_found, check, flow.recoveries)


def index_before_the_archiver() -> Flow[Deployment]:
    """The index door where the archiver died between its object and the catalog."""
    courses = Courses()

    def start() -> Deployment:
        world = slots_due()
        world.archive(removes(SLOTS))
        undone = slots_due()
        undone.cold.objects = world.cold.objects
        return undone

    step: Step = lambda world, gate: cast(None, world.index(sorted(world.cold.objects), gate))  # noqa: E731
    recoveries = {
        "all goes on": courses.settle,
        "only the schedule": ordered(courses, tickets=False, events=False),
    }
    return Flow("index before the archiver", start, step, nothing, check, recoveries)
