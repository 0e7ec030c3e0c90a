"""The archive: a slot becomes segments, nothing is forgotten before it is catalogued, every step may be repeated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from ingest import keys
from ingest import segment as segment_format
from ingest.archive import index_object, overdue_after_s, reindex
from ingest.errors import Corrupt, NotFound, Unavailable
from ingest.keys import DAY_S, US, Key, Period, first_layout
from ingest.reading import Run
from ingest.stores import Segment
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore
from tests import strategies as make
from tests.world import ALWAYS, GRACE_S, NOW_S, NOW_US, USUAL, World, plenty, readings, record

SLOT_S = NOW_S + 3600 + DAY_S


def series(start_us: int = NOW_US, first: float = 20.0, sensor_id: str = "press-7") -> Run:
    return readings(sensor_id, start_us, US, temperature=[first + i / 10 for i in range(60)], on=[True] * 60)


def stored() -> World:
    world = World()
    world.send(series(), series(sensor_id="press-8"))
    world.send(series(NOW_US + 60 * US, 30.0))
    world.now_s = SLOT_S
    return world


def answers(world: World) -> dict[str, dict]:
    found = {sensor_id: world.ask(sensor_id).run for sensor_id in world.registry.sensors}
    return {sensor_id: make.ranked_cells(run) if run else {} for sensor_id, run in found.items()}


class TestSlot:
    def test_its_chunks_become_one_segment_and_its_manifests_go(self):
        world = stored()
        before = answers(world)
        done = world.archive(SLOT_S)
        assert (done.slots, done.manifests, done.chunks, len(done.segments)) == (1, 2, 3, 1)
        assert (done.waiting, done.never_written, done.lost, done.unfinished) == (0, 0, [], False)
        (segment,) = done.segments
        assert done.rows == segment.rows == 360
        assert (segment.first_us, segment.last_us) == (NOW_US, NOW_US + 119 * US)
        assert (segment.first_sensor, segment.last_sensor) == ("press-7", "press-8")
        assert segment.name == keys.segment_name("2026-11-20", keys.chunks_digest(world.chunk_keys()))
        assert world.catalog.find(ALWAYS) == [segment]
        assert world.slots() == []
        assert len(world.chunk_keys()) == 3
        assert answers(world) == before

    def test_what_is_archived_is_what_was_stored(self):
        world = stored()
        before = answers(world)
        (segment,) = world.archive(SLOT_S).segments
        runs = segment_format.decode(world.cold.read(segment.name))
        assert {run.sensor_id: make.ranked_cells(run) for run in runs} == before

    def test_after_expiry_the_answers_are_the_same(self):
        world = stored()
        before = answers(world)
        world.archive(SLOT_S)
        world.expire()
        assert world.chunk_keys() == []
        assert answers(world) == before

    def test_again_changes_nothing(self):
        world = stored()
        table = dict(world.hot.items)
        world.archive(SLOT_S)
        catalog, objects = dict(world.catalog.items), dict(world.cold.objects)
        assert world.archive(SLOT_S).segments == []
        world.hot.items.update(table)
        world.archive(SLOT_S)
        assert world.catalog.items == catalog
        assert world.cold.objects == objects

    def test_a_slot_without_manifests_is_no_error(self):
        done = World().archive(SLOT_S)
        assert (done.slots, done.segments) == (1, [])

    def test_a_date_has_a_segment_of_its_own(self):
        world = World(first_layout(Period(0, DAY_S, DAY_S, 7 * DAY_S, 999 * DAY_S)))
        midnight_us = keys.date_span("2026-11-20").start_us
        world.send(*(series(midnight_us + shift * DAY_S * US - 30 * US) for shift in (-1, 0)))
        before = answers(world)
        done = world.archive_all()
        assert [segment.date for segment in done.segments] == ["2026-11-18", "2026-11-19", "2026-11-20"]
        for segment in done.segments:
            span = keys.date_span(segment.date)
            assert span.start_us <= segment.first_us <= segment.last_us < span.end_us
        world.expire()
        assert answers(world) == before

    def test_a_slot_of_many_values_becomes_several_segments(self, monkeypatch):
        monkeypatch.setattr("ingest.archive.VALUES_PER_SEGMENT", 130)
        monkeypatch.setattr("ingest.archive.CHUNKS_PER_READ", 1)
        world = stored()
        before = answers(world)
        table = dict(world.hot.items)
        assert [segment.rows for segment in world.archive(SLOT_S).segments] == [240, 120]
        world.hot.items = table
        assert world.archive(SLOT_S).segments == []
        world.expire()
        assert answers(world) == before

    def test_a_segment_is_forgotten_after_the_cold_retention(self):
        world = stored()
        (segment,) = world.archive(SLOT_S).segments
        item = world.catalog.items[keys.catalog_key(segment.date, segment.digest)]
        assert item["ttl"] == {"N": str(SLOT_S + USUAL.periods[0].cold_retention_s)}


class Log:
    """What happened in which order, and where it is to fail."""

    def __init__(self, fail: str = "") -> None:
        self.events: list[str] = []
        self.fail = fail

    def tell(self, event: str, do: Callable[[], None] = lambda: None) -> None:
        self.events.append(event)
        if event == self.fail:
            raise Unavailable("as the test asks")
        do()
        if f"after {event}" == self.fail:
            raise Unavailable("as the test asks")


class LoggedHot(MemoryHotStore):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def delete(self, keys: Sequence[Key]) -> None:
        if keys:
            self.log.tell(f"delete {keys[0].pk[0]}", lambda: super(LoggedHot, self).delete(keys))


class LoggedCold(MemoryColdStore):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        self.log.tell("object", lambda: None)
        etag = super().put(name, data, metadata)
        self.log.tell("object is there")
        return etag


class LoggedCatalog(MemoryCatalog):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        self.log.tell("catalog", lambda: super(LoggedCatalog, self).add(segments, expires_at_s))


def logged(fail: str = "") -> tuple[World, Log]:
    log = Log(fail)
    world = World(hot=LoggedHot(log))
    world.cold, world.catalog = LoggedCold(log), LoggedCatalog(log)
    world.send(series(), series(sensor_id="press-8"))
    world.now_s = SLOT_S
    return world, log


class TestOrder:
    def test_segments_are_stored_then_catalogued_then_the_manifests_go(self):
        world, log = logged()
        world.now_s = SLOT_S + GRACE_S + 1
        world.archive(SLOT_S)
        assert log.events == ["object", "object is there", "catalog", "delete m", "delete o"]

    @pytest.mark.parametrize(
        "step", ["object", "object is there", "catalog", "after catalog", "delete m", "after delete m"]
    )
    def test_a_failure_at_any_step_is_raised_and_repeating_it_heals(self, step):
        world, log = logged(step)
        before = answers(world)
        with pytest.raises(Unavailable):
            world.archive(SLOT_S)
        assert answers(world) == before
        assert world.slots() == ([] if step == "after delete m" else [SLOT_S])
        log.fail = ""
        world.archive(SLOT_S)
        assert world.slots() == []
        assert len(world.catalog.find(ALWAYS)) == 1
        world.expire()
        assert answers(world) == before


class TestMissingChunks:
    def missing(self) -> tuple[World, Key]:
        world = World()
        world.send(series(), series(sensor_id="press-8"))
        gone = world.chunk_keys()[1]
        world.hot.delete([gone])
        return world, gone

    def test_are_waited_for(self):
        world, _ = self.missing()
        world.now_s = NOW_S + GRACE_S - 1
        done = world.archive(SLOT_S)
        assert (done.waiting, done.manifests) == (1, 0)
        assert world.archive(SLOT_S).segments == [], (
            "what is there is archived once, however often it is asked for"
        )
        assert world.slots() == [SLOT_S]

    def test_are_archived_when_they_come_in_time(self):
        world, gone = self.missing()
        late = World()
        late.send(series(), series(sensor_id="press-8"))
        world.archive(SLOT_S)
        world.hot.items[gone] = late.hot.items[gone]
        assert world.archive(SLOT_S).chunks == 2
        assert answers(world) == answers(late)

    def test_count_as_never_written_after_the_grace(self):
        world, _ = self.missing()
        world.now_s = NOW_S + GRACE_S
        done = world.archive(SLOT_S)
        assert (done.waiting, done.never_written, done.lost, done.chunks) == (0, 1, [], 1)
        assert world.slots() == []

    def test_are_a_recorded_loss_once_their_ttl_is_past(self):
        world, gone = self.missing()
        world.now_s = NOW_S + 3600 + 7 * DAY_S - 1
        assert world.archive(SLOT_S).lost == []
        world, gone = self.missing()
        world.now_s = NOW_S + 3600 + 7 * DAY_S
        done = world.archive(SLOT_S)
        assert (done.lost, done.never_written, done.chunks) == ([gone], 0, 1)

    def test_are_judged_by_the_times_their_writer_went_by(self):
        """A writer that has read the layout a moment before it was changed keeps to what it knows."""
        world, gone = self.missing()
        shorter = Period(NOW_S - 1, 3600, 3600, 2 * DAY_S, 365 * DAY_S)
        world.layout = world.layout.changed(shorter)
        world.now_s = SLOT_S + 2 * DAY_S
        done = world.archive(SLOT_S)
        assert (done.lost, done.never_written) == ([], 1), "it has five days to live, and never was"
        world, gone = self.missing()
        world.layout = world.layout.changed(replace(shorter, hot_retention_s=30 * DAY_S))
        world.now_s = NOW_S + 3600 + 7 * DAY_S
        assert world.archive(SLOT_S).lost == [gone], "it was there for seven days, and nobody archived it"

    def test_named_by_an_older_release_are_judged_by_the_layout_in_force_then(self):
        world, gone = self.missing()
        for key, item in world.hot.items.items():
            if key.pk.startswith(keys.MANIFEST_PREFIX):
                del item["bucket"], item["hot"]
        world.now_s = NOW_S + 3600 + 7 * DAY_S
        assert world.archive(SLOT_S).lost == [gone]

    def test_a_manifest_whose_chunks_were_never_written_is_cleared_away(self):
        world = World()
        world.send(series())
        world.hot.delete(world.chunk_keys())
        world.now_s = SLOT_S
        done = world.archive(SLOT_S)
        assert (done.segments, done.manifests, done.never_written) == ([], 1, 1)
        assert world.slots() == []

    def test_one_waiting_manifest_does_not_hold_back_the_others(self):
        world, _ = self.missing()
        world.send(series(NOW_US + 60 * US))
        done = world.archive(SLOT_S)
        assert (done.waiting, done.manifests) == (1, 1)


class TestConcurrency:
    def test_two_archivers_of_one_slot_write_the_same_segment(self):
        world = stored()
        before = answers(world)
        other = MemoryHotStore()
        other.items = dict(world.hot.items)
        first = world.archive(SLOT_S)
        second = world.archive(SLOT_S, hot=other)
        assert (len(first.segments), second.segments) == (1, []), "the same chunks are one segment"
        assert len(world.catalog.find(ALWAYS)) == 1
        assert answers(world) == before

    def test_an_archiver_that_saw_one_manifest_less_does_no_harm(self):
        world = World()
        world.send(series())
        early = MemoryHotStore()
        early.items = dict(world.hot.items)
        world.send(series(NOW_US + 30 * US, 50.0))
        before = answers(world)
        world.now_s = SLOT_S
        world.archive(SLOT_S, hot=early)
        assert answers(world) == before
        world.archive(SLOT_S)
        assert len(world.catalog.find(ALWAYS)) == 2
        assert answers(world) == before
        world.expire()
        assert answers(world) == before
        assert world.ask("press-7", tier="cold").cold_rows > len(world.found("press-7").ts_us)

    def test_late_data_becomes_a_second_segment(self):
        world = stored()
        world.archive(SLOT_S)
        world.send(series(NOW_US + 90 * US, 70.0))
        before = answers(world)
        assert world.found("press-7").metrics["temperature"][90] == 70.0
        late_slot_s = SLOT_S + DAY_S
        assert world.slots() == [late_slot_s]
        world.now_s = late_slot_s
        world.archive(late_slot_s)
        assert len(world.catalog.find(ALWAYS)) == 2
        assert answers(world) == before
        world.expire()
        assert answers(world) == before


def countdown(*values: int) -> Callable[[], int]:
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


class TestSchedule:
    def test_it_archives_every_open_slot_up_to_a_time_oldest_first(self):
        world = World()
        for hour in (0, 2, 1):
            world.send(series(NOW_US + hour * 3600 * US))
        slots = [SLOT_S, SLOT_S + 3600, SLOT_S + 7200]
        assert world.slots() == slots
        world.now_s = SLOT_S + 3600
        done = world.archive_all()
        assert world.now_s == slots[-1]
        assert [segment.first_us for segment in done.segments] == [
            NOW_US + hour * 3600 * US for hour in range(3)
        ]
        assert world.slots() == []

    def test_slots_that_are_not_due_are_left_alone(self):
        world = stored()
        world.send(series(NOW_US + 3600 * US))
        from ingest.archive import archive_overdue

        done = archive_overdue(world.stack(), SLOT_S - 1)
        assert (done.slots, world.slots()) == (0, [SLOT_S, SLOT_S + DAY_S])
        assert archive_overdue(world.stack(), SLOT_S).slots == 1

    def test_an_open_slot_is_closed_once_no_writer_can_still_use_it(self):
        world = stored()
        world.archive(SLOT_S)
        assert world.hot.open_slots() == [SLOT_S]
        world.now_s = SLOT_S + GRACE_S
        world.archive(SLOT_S)
        assert world.hot.open_slots() == [SLOT_S]
        world.now_s = SLOT_S + GRACE_S + 1
        world.archive(SLOT_S)
        assert world.hot.open_slots() == []

    def test_an_open_slot_with_waiting_manifests_stays_open(self):
        world = stored()
        world.send(series(NOW_US - 3600 * US))
        (late_slot_s,) = set(world.slots()) - {SLOT_S}
        world.hot.delete([key for key in world.chunk_keys() if "T21" in key.sk])
        world.now_s = SLOT_S + GRACE_S - 1
        world.archive(late_slot_s, grace_s=GRACE_S)
        assert late_slot_s in world.hot.open_slots()

    def test_what_time_runs_out_for_is_left_for_the_schedule(self, monkeypatch):
        monkeypatch.setattr("ingest.archive.CHUNKS_PER_ROUND", 1)
        world = World()
        for minute in range(4):
            world.send(series(NOW_US + minute * 60 * US))
        before = answers(world)
        world.now_s = SLOT_S + GRACE_S + 1
        done = world.archive(SLOT_S, remaining_ms=countdown(60_000, 60_000, 19_999))
        assert (done.unfinished, done.manifests) == (True, 2)
        assert world.hot.open_slots() == [SLOT_S]
        assert answers(world) == before
        again = world.archive_all()
        assert (again.unfinished, again.manifests) == (False, 2)
        assert world.hot.open_slots() == []
        world.expire()
        assert answers(world) == before

    def test_even_with_little_time_one_round_is_made(self, monkeypatch):
        monkeypatch.setattr("ingest.archive.CHUNKS_PER_ROUND", 1)
        world = stored()
        done = world.archive(SLOT_S, remaining_ms=lambda: 1)
        assert (done.manifests, done.unfinished) == (1, True)

    def test_how_long_a_ticket_is_waited_for(self):
        assert overdue_after_s(USUAL, NOW_S) == 3600
        local = first_layout(Period(0, 3600, 5, 60, DAY_S))
        assert overdue_after_s(local, NOW_S) == 3
        assert overdue_after_s(first_layout(Period(0, 60, 1, 3, DAY_S)), NOW_S) == 0


class TestIndex:
    def archived(self) -> tuple[World, Segment]:
        world = stored()
        (segment,) = world.archive(SLOT_S).segments
        return world, segment

    def test_the_archivers_own_object_gives_the_same_entry(self):
        world, segment = self.archived()
        items = dict(world.catalog.items)
        assert index_object(segment.name, world.cold, world.catalog, USUAL) == segment
        assert world.catalog.items == items

    def test_an_object_copied_without_its_metadata_is_described_from_its_footer(self):
        world, segment = self.archived()
        data = world.cold.read(segment.name)
        world.catalog.remove([segment])
        world.cold.put(segment.name, data, {})
        found = index_object(segment.name, world.cold, world.catalog, USUAL)
        assert found is not None
        assert found.sha256 == ""
        assert (found.rows, found.first_us, found.last_us) == (
            segment.rows,
            segment.first_us,
            segment.last_us,
        )
        assert (found.first_sensor, found.last_sensor) == (segment.first_sensor, segment.last_sensor)
        assert found.footer_bytes == segment.footer_bytes
        world.expire()
        assert len(answers(world)["press-7"]) == 240

    @pytest.mark.parametrize(
        "name",
        [
            "notes.txt",
            "readings/v1/x.parquet",
            "readings/v1/date=2026-11-20/x.csv",
            "other/date=2026-11-20/x",
        ],
    )
    def test_other_objects_are_none(self, name):
        world = World()
        world.cold.put(name, b"PAR1", {})
        assert index_object(name, world.cold, world.catalog, USUAL) is None
        assert world.catalog.items == {}

    @pytest.mark.parametrize("data", [b"", b"not parquet at all", b"PAR1" + b"\0" * 64 + b"PAR1"])
    def test_a_damaged_object_is_named(self, data):
        world = World()
        name = keys.segment_name("2026-11-20", "x")
        world.cold.put(name, data, {})
        with pytest.raises(Corrupt):
            index_object(name, world.cold, world.catalog, USUAL)
        assert world.catalog.items == {}

    def test_an_object_that_is_gone_is_named(self):
        world = World()
        with pytest.raises(NotFound):
            index_object(keys.segment_name("2026-11-20", "x"), world.cold, world.catalog, USUAL)

    def test_reindex_rebuilds_the_catalog_from_the_bucket_alone(self):
        world = stored()
        world.send(series(NOW_US - 5 * DAY_S * US))
        world.archive_all()
        items = dict(world.catalog.items)
        assert len(items) == 2
        world.catalog.items.clear()
        *_, done = reindex(world.cold, world.catalog, USUAL, [])
        assert world.catalog.items == items
        assert (done.indexed, done.removed, done.skipped) == (2, 0, [])

    def test_reindex_forgets_what_is_gone_and_skips_what_is_none(self):
        world, segment = self.archived()
        world.send(series(NOW_US - 5 * DAY_S * US))
        world.archive_all()
        everything = world.catalog.find(ALWAYS)
        world.cold.delete([segment.name])
        world.cold.put("readings/v1/readme.txt", b"hello", {})
        world.cold.put(keys.segment_name("2026-01-01", "bad"), b"hello", {})
        *_, done = reindex(world.cold, world.catalog, USUAL, everything)
        assert (done.indexed, done.removed) == (1, 1)
        assert done.skipped == [keys.segment_name("2026-01-01", "bad"), "readings/v1/readme.txt"]
        assert world.catalog.find(ALWAYS) == [entry for entry in everything if entry != segment]

    def test_reindex_keeps_the_entry_of_an_object_that_is_damaged(self):
        """Forgetting it would turn an error that is told into readings that are silently missing."""
        world, segment = self.archived()
        world.cold.put(segment.name, b"damaged", {})
        *_, done = reindex(world.cold, world.catalog, USUAL, [segment])
        assert (done.removed, done.skipped) == (0, [segment.name])
        assert world.catalog.find(ALWAYS) == [segment]


def test_a_batch_that_died_half_way_leaves_nothing_unarchived():
    """Every prefix of the writes of a batch: whatever chunk is there is archived in the end."""
    whole = World()
    whole.send(series(), series(NOW_US - 2 * 3600 * US), series(sensor_id="press-8"))
    items = list(whole.hot.items.items())
    for count in range(len(items) + 1):
        world = World()
        world.registry.sensors = whole.registry.sensors
        world.hot.items = dict(items[:count])
        before = answers(world)
        world.archive_all()
        assert world.slots() == []
        world.expire()
        assert answers(world) == before


def test_records_of_two_shards_meet_in_one_segment():
    world = World()
    world.store([record(1, series(), shard=0)])
    world.store([record(1, series(NOW_US + 60 * US), shard=1)])
    assert len(world.chunk_keys()) == 2
    world.now_s = SLOT_S
    assert len(world.archive(SLOT_S, remaining_ms=plenty).segments) == 1
