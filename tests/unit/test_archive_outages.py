"""From the table to the archive: an archiver that is down, S3 that refuses, events that are lost."""

from __future__ import annotations

from random import Random
from typing import Any, cast

import pytest

from infra.local.filters import compile_filters
from ingest import keys, segment
from ingest.archive import reindex
from ingest.chunk import decode_item
from ingest.errors import ThermoclineError, Unavailable
from ingest.keys import DAY_S, US
from ingest.reading import Run
from ingest.stores import ColdStore
from ingest.stores.cold import S3ColdStore
from lambdas import archive_expired, index_segment
from tests import answered
from tests import strategies as make
from tests.answered import Bucket
from tests.world import ALWAYS, NOW_S, NOW_US, USUAL, World, readings

SLOT_S = NOW_S + 3600 + DAY_S
HOUR_US = 3600 * US
SENSORS = ("press-7", "press-8")
Cells = dict[tuple[int, str], Any]


def cells(run: Run | None) -> Cells:
    return {} if run is None else make.ranked_cells(run)


def answers(world: World) -> dict[str, Cells]:
    return {name: cells(world.ask(name).run) for name in SENSORS}


# --- an archiver that is down -----------------------------------------------------------


@pytest.mark.parametrize("down_h", [25, 72])
def test_an_archiver_that_is_down_for_days_costs_nothing(down_h):
    """The tickets' REMOVEs are past the table stream's 24 h by then: the schedule finds the slots all the same."""
    world = World()
    for hour in range(6):
        world.send(*(readings(name, NOW_US + hour * HOUR_US, 60 * US, a=[hour, 5, 9]) for name in SENSORS))
    truth = answers(world)
    back_s = SLOT_S + down_h * 3600
    while world.now_s < back_s:
        world.hot.expire(world.now_s)
        assert answers(world) == truth
        for key, item in world.hot.items.items():
            if key.pk.startswith(keys.CHUNK_PREFIX):
                chunk = decode_item(item)
                assert chunk.expires_at_s > back_s, "I4: nothing goes before it is archived"
        world.now_s += 3600
    assert not any(key.pk.startswith(keys.TICKET_PREFIX) for key in world.hot.items)
    assert world.slots()[0] == SLOT_S
    done = archive_expired.handle({"source": archive_expired.SCHEDULE_SOURCE}, world.stack())
    assert (done.lost, done.never_written, done.waiting, done.failed) == ([], 0, 0, None)
    assert world.slots() == []
    world.expire()
    assert world.chunk_keys() == []
    assert answers(world) == truth


# --- S3 that refuses --------------------------------------------------------------------


@pytest.mark.parametrize(
    "fail", [(503, "SlowDown"), (503, "ServiceUnavailable"), (500, "InternalError"), (403, "AccessDenied")]
)
def test_s3_that_refuses_leaves_everything_where_it_is_until_it_does_not(fail, monkeypatch):
    """Through the shipped store over botocore: the manifests stay, so the schedule comes back to them."""
    answered.without_waiting(monkeypatch)
    bucket = Bucket()
    world = World()
    cold: ColdStore = S3ColdStore(answered.client("s3", bucket.answer), "bucket")
    world.cold = cast(Any, cold)
    for name in SENSORS:
        world.send(readings(name, NOW_US, 60 * US, a=[1, 2, 3]))
    truth = answers(world)
    world.now_s = SLOT_S + 4 * 3600
    bucket.fail = fail
    done = archive_expired.handle({"source": archive_expired.SCHEDULE_SOURCE}, world.stack())
    assert isinstance(done.failed, ThermoclineError)
    assert isinstance(done.failed, Unavailable) == (fail[0] != 403)
    assert fail[1] in str(done.failed)
    assert bucket.puts == (5 if fail[0] != 403 else 1), "what may pass by itself is tried five times"
    assert (world.slots(), bucket.objects, world.catalog.items) == ([SLOT_S], {}, {})
    assert answers(world) == truth
    bucket.fail = None
    done = archive_expired.handle({"source": archive_expired.SCHEDULE_SOURCE}, world.stack())
    assert (done.failed, done.manifests, world.slots()) == (None, 2, [])
    world.expire()
    assert answers(world) == truth


# --- events of the bucket ---------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_lost_doubled_and_shuffled_events_leave_a_catalog_that_reindexing_makes_true(seed):
    """A bucket is restored, and only its events tell the catalog: what it names is right, what it lacks comes back."""
    dice = Random(seed)
    world = World()
    for day in range(40):
        world.send(readings(dice.choice(SENSORS), NOW_US - day * DAY_S * US, 60 * US, a=[day, day + 0.5]))
    world.archive_all()
    world.expire()
    truth, catalog = answers(world), dict(world.catalog.items)
    assert len(catalog) == 40
    world.catalog.items.clear()
    names = sorted(world.cold.objects)
    gone = "readings/v1/date=2026-11-20/gone.parquet"
    told = [name for name in names if dice.random() < 0.9]
    told += [name for name in told if dice.random() < 0.3] + [gone]
    dice.shuffle(told)
    for start in range(0, len(told), 3):
        batch = [{"s3": {"object": {"key": name.replace("=", "%3D")}}} for name in told[start : start + 3]]
        index_segment.handle({"Records": batch}, world.cold, world.catalog, USUAL)
        for name, found in answers(world).items():
            assert found.items() <= truth[name].items()
    assert len(world.catalog.items) == len({*told} - {gone}) < 40
    assert world.catalog.items.items() <= catalog.items()
    *_, done = reindex(world.cold, world.catalog, USUAL, world.catalog.find(ALWAYS))
    assert world.catalog.items == catalog
    assert (done.indexed, done.removed, done.skipped) == (40, 0, [])
    assert answers(world) == truth


def test_an_event_about_what_was_replaced_meanwhile_describes_what_is_there():
    """Events carry no facts: the object is looked at, so an old event after a newer one does no harm."""
    world = World()
    world.send(readings("press-7", NOW_US, US, a=[1]))
    (entry,) = world.archive_all().segments
    event = {"Records": [{"s3": {"object": {"key": entry.name, "eTag": entry.etag, "sequencer": "01"}}}]}
    run = Run("press-7", [NOW_US], {"a": [2]}, NOW_S * 1000 + 5)
    newer = segment.encode([run])
    world.cold.put(entry.name, newer.data, segment.metadata(newer))
    for _ in range(2):
        index_segment.handle(event, world.cold, world.catalog, USUAL)
        (found,) = world.catalog.find(ALWAYS)
        assert (found.sha256, found.size_bytes) == (newer.sha256, len(newer.data))


# --- records of the table's stream ------------------------------------------------------


def test_only_the_removal_of_a_ticket_is_an_order_and_any_number_of_others_changes_nothing():
    world = World()
    world.send(readings("press-7", NOW_US, US, a=[1, 2]))
    truth = cells(world.ask("press-7").run)
    world.now_s = SLOT_S
    table = dict(world.hot.items)

    def told(name: str, key: keys.Key) -> dict[str, Any]:
        return {"eventName": name, "dynamodb": {"Keys": {"pk": {"S": key.pk}, "sk": {"S": key.sk}}}}

    others = [told(name, key) for name in ("INSERT", "MODIFY") for key in table] * 3
    others += [told("REMOVE", key) for key in table if not key.pk.startswith(keys.TICKET_PREFIX)]
    done = archive_expired.handle({"Records": others}, world.stack())
    assert (done.slots, world.hot.items) == (0, table)
    order = told("REMOVE", keys.ticket_key(SLOT_S))
    done = archive_expired.handle({"Records": [*others, order, order]}, world.stack())
    assert (done.slots, len(done.segments)) == (1, 1)
    for _ in range(3):
        assert archive_expired.handle({"Records": [order, *others]}, world.stack()).segments == []
    world.expire()
    assert cells(world.ask("press-7").run) == truth
    passes = compile_filters(
        ['{"eventName":["REMOVE"],"dynamodb":{"Keys":{"pk":{"S":[{"prefix":"t#"}]}}}}'],
    )
    assert passes is not None
    assert [passes(one) for one in (order, *others)] == [True] + [False] * len(others)


def test_a_user_who_deletes_a_ticket_early_loses_nothing():
    """A ticket that is deleted by hand orders the slot early; one that comes back orders it again."""
    world = World()
    world.send(readings("press-7", NOW_US, US, a=[1, 2]))
    truth = cells(world.ask("press-7").run)
    world.hot.delete([keys.ticket_key(SLOT_S)])
    order = {"eventName": "REMOVE", "dynamodb": {"Keys": {"pk": {"S": f"t#{SLOT_S}"}, "sk": {"S": "t"}}}}
    done = archive_expired.handle({"Records": [order]}, world.stack())
    assert len(done.segments) == 1
    world.send(readings("press-7", NOW_US + 2 * US, US, a=[3]))
    assert keys.ticket_key(SLOT_S) in world.hot.items
    world.archive_all()
    world.expire()
    assert cells(world.ask("press-7").run).items() > truth.items()
    assert world.found("press-7").metrics == {"a": [1, 2, 3]}
