"""What one bad thing may cost: hostile records, an unreadable chunk, a slot that fails, a changed layout."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from infra import deploy
from ingest import archive, wire, wire_encode
from ingest.archive import archive_overdue
from ingest.chunk import Chunk
from ingest.errors import Corrupt, Unavailable
from ingest.item import Item
from ingest.keys import DAY_S, US, Key, Period, first_layout
from ingest.reading import Run
from ingest.stores import hot as hot_store
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryHotStore
from lambdas import _door, archive_expired
from tests.world import NOW_S, NOW_US, USUAL, World, plenty, readings, record

SLOT_S = NOW_S + 3600 + DAY_S
OVERDUE_S = SLOT_S + 2 * 3600
CONTEXT = SimpleNamespace(get_remaining_time_in_millis=plenty)


def wrapped(run: Run) -> bytes:
    return gzip.compress(wire_encode.encode_run(run))


class TestCompressedRecords:
    """Small records that hold much are bounded together, not only each for itself."""

    def test_what_the_user_records_of_one_stream_record_inflate_to_is_bounded(self, monkeypatch):
        monkeypatch.setattr(wire, "MOST_OPENED_BYTES", 1_500)
        each = [readings(f"s{n}", NOW_US, US, a=[1.5] * 200) for n in range(4)]
        assert 750 < len(wire_encode.encode_run(each[0])) < 1_500
        plain = wire_encode.encode_run(readings("plain", NOW_US, US, a=[1]))
        runs, problems = wire.decode_all([*map(wrapped, each), plain], NOW_S * 1000)
        assert [run.sensor_id for run in runs] == ["s0", "s1", "plain"]
        assert [(position, problem.reason) for position, problem in problems] == [
            (2, "inflate_limit"),
            (3, "inflate_limit"),
        ]

    def test_a_flood_of_problems_becomes_one_for_each_user_record_and_reason(self, monkeypatch):
        monkeypatch.setattr(wire, "MOST_TOLD_APART", 10)
        good = wire_encode.encode_run(readings("s", NOW_US, US, a=[1]))
        lines = b"\n".join([good, *[b"x"] * 6, b'{"sensor_id":1,"ts":1,"a":1}'])
        runs, problems = wire.decode_all([lines, lines], NOW_S * 1000)
        assert len(runs) == 2
        assert [position for position, _ in problems] == [0] * 7 + [1] * 2
        assert sorted((one.reason, one.count) for place, one in problems if place) == [
            ("not_json", 6),
            ("wrong_type", 1),
        ]

    @pytest.mark.parametrize(
        "payload",
        [
            gzip.compress(b"\n".join(b"x" for _ in range(400)) + b'\n{"sensor_id":"s","ts":1,"a":1}'),
            wrapped(readings("s", NOW_US, US, a=["x" * 20_000] * 4)),
            gzip.compress(
                b"\n".join(wire_encode.encode_run(readings(f"s{n}", NOW_US, US, a=[n])) for n in range(300))
            ),
        ],
        ids=["rejects", "text", "sensors"],
    )
    def test_whatever_takes_memory_ends_a_group(self, monkeypatch, payload):
        monkeypatch.setattr("ingest.write.MOST_VALUES_AT_ONCE", 4_000)
        world = World()
        stored = world.store([record(number, payload) for number in range(3)])
        assert stored.records == 3
        batches = {key.sk.split("#")[0] for key in world.hot.items if key.pk.startswith("m#")}
        kept = set(world.rejects._cold.names("rejects/"))
        assert len(batches | kept) >= 3, "each record was stored by itself"


class TestSlots:
    def two_slots(self, hot: MemoryHotStore | None = None) -> World:
        world = World(hot=hot)
        world.send(readings("press-7", NOW_US, US, a=[1, 2]))
        world.send(readings("press-8", NOW_US + 3600 * US, US, a=[3]))
        world.now_s = OVERDUE_S
        return world

    def fail_first(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        manifests = world.hot.manifests

        def failing(slot_s: int) -> Any:
            if slot_s == SLOT_S:
                raise Unavailable("not this one")
            return manifests(slot_s)

        monkeypatch.setattr(world.hot, "manifests", failing)

    def test_one_that_fails_does_not_hold_up_the_others(self, monkeypatch):
        world = self.two_slots()
        self.fail_first(world, monkeypatch)
        done = archive_overdue(world.stack(), OVERDUE_S)
        assert isinstance(done.failed, Unavailable)
        assert world.slots() == [SLOT_S]
        monkeypatch.undo()
        assert archive_overdue(world.stack(), OVERDUE_S).failed is None
        assert world.slots() == []

    def test_a_door_that_fails_tells_all_the_same_what_was_lost(self, monkeypatch):
        world = self.two_slots()
        (lost,) = (key for key in world.chunk_keys() if "press-8" in key.pk)
        world.hot.delete([lost])
        world.now_s = NOW_S + 30 * DAY_S
        self.fail_first(world, monkeypatch)
        told = []
        monkeypatch.setattr(archive_expired._logger, "error", lambda _, extra: told.append(extra["lost"]))
        monkeypatch.setattr(_door, "deployment", lambda: (SimpleNamespace(chunk_grace_s=900), world))
        monkeypatch.setattr(_door, "layout", lambda *_: USUAL)
        monkeypatch.setattr(_door, "now_s", lambda: float(world.now_s))
        with pytest.raises(Unavailable):
            archive_expired.handler({"source": "thermocline.schedule"}, CONTEXT)
        assert told == [[f"{lost.pk} {lost.sk}"]]

    def test_however_short_a_function_may_run_the_schedule_archives_a_slot(self):
        world = self.two_slots()
        done = archive_overdue(world.stack(remaining_ms=lambda: 3_000), OVERDUE_S)
        assert (done.slots, done.unfinished) == (1, True)
        assert world.slots() == [SLOT_S + 3600]


class Unreadable(MemoryHotStore):
    """A table in which some chunks cannot be read, as by a release that does not know their codec."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: set[Key] = set()

    def chunks(self, keys: Sequence[Key]) -> list[Chunk]:
        if not self.bad.isdisjoint(keys):
            raise Corrupt("unknown codec")
        return super().chunks(keys)


class TestUnreadableChunk:
    def test_it_costs_only_itself_and_is_archived_when_it_can_be(self):
        hot = Unreadable()
        world = World(hot=hot)
        world.send(*(readings(f"press-{n}", NOW_US, US, a=[n]) for n in range(7)))
        world.send(readings("other", NOW_US, US, a=[9]))
        (bad,) = hot.bad = {key for key in world.chunk_keys() if "press-3" in key.pk}
        world.now_s = OVERDUE_S
        done = archive_overdue(world.stack(), OVERDUE_S)
        assert (done.rows, done.unreadable, done.waiting, done.manifests) == (7, [bad], 1, 1)
        assert (done.lost, done.never_written, done.failed) == ([], 0, None)
        assert world.slots() == world.hot.open_slots() == [SLOT_S], "its manifest is kept"
        hot.bad = set()
        assert archive_overdue(world.stack(), OVERDUE_S).unreadable == []
        assert world.slots() == world.hot.open_slots() == []
        world.expire()
        assert world.found("press-3").metrics == {"a": [3]}


class TestChangedLayout:
    def test_a_batch_repeated_under_another_width_replaces_nothing(self):
        """The first attempt got as far as one chunk; the second, in wider buckets, archives after it."""
        narrow = Period(0, 900, 1800, 2 * DAY_S, 999 * DAY_S)
        wide = replace(narrow, from_s=NOW_S + 4000, bucket_s=3600)
        batch = [record(1, readings("s", NOW_US, 600 * US, a=[1, 2, 3, 4, 5]))]
        world = World(first_layout(narrow))
        world.store(batch)
        world.hot.delete(world.chunk_keys()[1:])
        before = world.found("s")
        world.layout = world.layout.changed(wide)
        world.now_s = NOW_S + 4100
        world.archive_all()
        world.store(batch)
        assert world.found("s").ts_us[: len(before.ts_us)] == before.ts_us
        world.archive_all()
        world.expire()
        assert world.chunk_keys() == []
        assert world.found("s").metrics == {"a": [1, 2, 3, 4, 5]}

    def test_every_door_knows_a_changed_layout_before_it_holds(self):
        assert deploy.LAYOUT_LEAD_S > _door.LAYOUT_AGE_S


class TestColdRetention:
    def archived(self) -> World:
        world = World()
        world.send(readings("s", NOW_US, US, a=[1]))
        world.archive_all()
        world.expire()
        return world

    def test_an_entry_that_outlives_its_object_fails_no_query(self):
        world = self.archived()
        world.cold.objects.clear()
        with pytest.raises(Unavailable):
            world.ask("s")
        world.now_s += USUAL.periods[0].cold_retention_s
        assert world.ask("s").run is None
        assert world.latest("s") is None

    def test_reindexing_gives_old_segments_the_retention_that_holds_now(self):
        world = self.archived()
        longer = replace(USUAL.periods[0], from_s=world.now_s + 1, cold_retention_s=4000 * DAY_S)
        (name,) = world.cold.objects
        archive.index_object(name, world.cold, world.catalog, USUAL.changed(longer))
        (item,) = world.catalog.items.values()
        assert item["ttl"] == {"N": str(world.cold.head(name).modified_s + 4000 * DAY_S)}


class Requests:
    """A DynamoDB client that keeps what it is sent."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self._handlers: list[Any] = []
        self.meta = SimpleNamespace(events=SimpleNamespace(register=self._register))

    def _register(self, event: str, handler: Any, **_: object) -> None:
        if event == "before-call.dynamodb.BatchWriteItem":
            self._handlers.append(handler)

    def batch_write_item(self, **_: object) -> dict:
        params: dict[str, Any] = {}
        for handler in self._handlers:
            handler(params=params)
        self.bodies.append(params["body"])
        return {}


class TestWriteLimits:
    def test_a_request_is_short_enough_whatever_the_items_hold(self):
        """In JSON an item may be sixteen times what is billed: here 38 digits that weigh two bytes."""
        client = Requests()
        store = DynamoHotStore(client, "t", lambda _: None, lambda: 0.5, workers=1)
        items = [Item(Key("s#a", str(n)), json.dumps("0" * 1_000_000), 64_000) for n in range(30)]
        store.put(items, plenty)
        assert sum(body.count(b"PutRequest") for body in client.bodies) == 30
        assert max(body.count(b"PutRequest") for body in client.bodies) > 1
        assert max(map(len, client.bodies)) < 16 * 1024 * 1024

    def test_usual_items_go_25_at_a_time(self):
        groups = [len(group) for group in hot_store._write_groups([Item(Key("s", "k"), "{}", 1)] * 60)]
        assert groups == [25, 25, 10]
        assert list(hot_store._write_groups([])) == []
