"""Compaction: many segments of a date become few, answers stay the same, and the old ones go after the grace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from ingest import compact_plan, keys, segment
from ingest.archive import ALL_DATES, catalog_entry, index_object, reindex
from ingest.compact import LOOK_BACK_S, Compacted, Compaction, compact, planned
from ingest.compact_plan import Part, complete_s, groups_of, overdue, parts_of
from ingest.errors import Unavailable
from ingest.keys import DAY_S, US
from ingest.reading import Run, Span
from ingest.segment_groups import Group
from ingest.stores import ObjectHead, Segment, Superseded
from tests.world import ALWAYS, NOW_S, NOW_US, USUAL, World, plenty, readings

DATE = "2026-11-19"
DAY_US = keys.date_span(DATE).start_us
GRACE_S = 3600
SENSORS = [f"press-{number:02d}" for number in range(12)]


def archived(world: World, digest: str, *runs: Run) -> Segment:
    """A segment of the runs, in the bucket and in the catalog."""
    encoded = segment.encode(runs)
    date = keys.date_of(encoded.first_us)
    name = keys.segment_name(date, digest)
    etag = world.cold.put(name, encoded.data, segment.metadata(encoded))
    entry = catalog_entry(name, date, digest, encoded, ObjectHead(len(encoded.data), etag, world.now_s))
    world.catalog.add([entry], world.now_s + 100 * DAY_S)
    return entry


def hour(sensor_id: str, number: int, count: int = 60, arrival_ms: int = 1_000) -> Run:
    """A reading a minute, in one hour of the date."""
    start_us = DAY_US + number * 3600 * US
    values: list[Any] = [number + i / 10 for i in range(count)]
    return Run(sensor_id, [start_us + i * 60 * US for i in range(count)], {"t": values}, arrival_ms)


def hours(world: World, count: int = 4, sensors: Sequence[str] = SENSORS) -> list[Segment]:
    """A segment an hour, every sensor in each."""
    return [archived(world, f"h{h:02d}", *(hour(s, h) for s in sensors)) for h in range(count)]


def work(world: World, **changes: Any) -> Compaction:
    made: dict[str, Any] = {
        "cold": world.cold,
        "catalog": world.catalog,
        "layout": world.layout,
        "now": lambda: world.now_s,
        "grace_s": GRACE_S,
        "remaining_ms": plenty,
        "thorough": True,
    }
    return Compaction(**(made | changes))


def compacted(world: World, **changes: Any) -> list[Compacted]:
    """What is done in one run, without the dates on which nothing is."""
    return [done for done in compact(work(world, **changes), ALL_DATES) if done.did_something]


def answers(world: World, sensors: Sequence[str] = SENSORS) -> dict[str, Any]:
    found = {sensor_id: world.found(sensor_id, tier="cold") for sensor_id in sensors}
    return {sensor_id: (run.ts_us, run.metrics) for sensor_id, run in found.items()}


@pytest.fixture
def world() -> World:
    made = World()
    made.now_s = NOW_S + 3 * DAY_S
    return made


def objects(world: World) -> set[str]:
    return set(world.cold.objects)


class TestADate:
    def test_many_segments_become_one_and_answers_stay_the_same(self, world: World) -> None:
        hours(world)
        before = answers(world)
        (done,) = compacted(world)
        assert (done.date, done.segments_before, done.segments_after) == (DATE, 4, 1)
        assert done.rows_before == done.rows_after == 4 * 60 * len(SENSORS)
        (only,) = world.catalog.find(ALWAYS)
        assert (only.first_sensor, only.last_sensor, only.rows) == (SENSORS[0], SENSORS[-1], done.rows_after)
        assert answers(world) == before
        assert compacted(world) == []

    def test_rows_that_are_there_twice_come_out_once_and_the_latest_wins(self, world: World) -> None:
        first = archived(world, "a", hour("press-7", 1))
        archived(world, "b", hour("press-7", 1), hour("press-8", 1))  # a regrouped retry
        later = hour("press-7", 1)
        later.metrics["t"][3] = 99.5
        archived(world, "c", replace(later, arrival_ms=2_000))
        (done,) = compacted(world)
        assert (done.rows_before, done.rows_after) == (240, 120)
        assert world.found("press-7").metrics["t"][3] == 99.5
        assert first not in world.catalog.find(ALWAYS)

    def test_a_large_date_is_cut_between_sensors_and_each_lies_in_one_segment(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compact_plan, "VALUES_PER_SEGMENT", 700)
        monkeypatch.setattr("ingest.segment_write.ROWS_PER_GROUP", 60)
        hours(world)
        before = answers(world)
        (done,) = compacted(world)
        assert 4 <= done.segments_after <= 6
        for sensor_id in SENSORS:
            assert len(world.catalog.find(ALWAYS, sensor_id)) == 1, sensor_id
        assert answers(world) == before
        assert compacted(world) == []

    def test_a_sensor_too_large_for_a_segment_is_cut_by_time(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compact_plan, "VALUES_PER_SEGMENT", 700)
        monkeypatch.setattr("ingest.segment_write.ROWS_PER_GROUP", 60)
        for h in range(24):
            archived(
                world, f"h{h:02d}", hour("a-1", h), hour("b-1", h, 3), hour("m-1", h, 2), hour("z-1", h, 1)
            )
        sensors = ["a-1", "b-1", "m-1", "z-1"]
        before = answers(world, sensors)
        (done,) = compacted(world)
        assert done.rows_before == done.rows_after == 24 * 66
        assert len(world.catalog.find(ALWAYS, "a-1")) == 3
        hour_12 = Span(DAY_US + 12 * 3600 * US, DAY_US + 13 * 3600 * US)
        assert len(world.catalog.find(hour_12, "a-1")) <= 2
        assert answers(world, sensors) == before
        assert compacted(world) == []

    def test_more_segments_than_one_swap_takes_are_made_fewer_in_steps(self, world: World) -> None:
        for number in range(230):
            start_us = DAY_US + number * 60 * US
            archived(
                world, f"n{number:03d}", *(readings(s, start_us, US, t=[number, 1.5]) for s in ("a", "b"))
            )
        before = answers(world, ["a", "b"])
        (done,) = compacted(world)
        assert done.groups > 2
        assert len(world.catalog.find(ALWAYS)) == 1
        assert answers(world, ["a", "b"]) == before

    def test_dates_are_compacted_apart(self, world: World) -> None:
        for day in (0, 1):
            for part in (0, 1):
                start_us = DAY_US + day * DAY_S * US + part * 3600 * US
                archived(world, f"d{day}{part}", readings("a", start_us, US, t=[1, 2]))
        assert [done.date for done in compacted(world)] == [DATE, "2026-11-20"]
        assert len(world.catalog.find(ALWAYS)) == 2

    def test_values_of_every_kind_come_through(self, world: World) -> None:
        odd = {"b": [True, None], "s": ["on", ""], "i": [2**60 + 1, None], "f": [0.1, -1e-120]}
        archived(world, "a", readings("x", DAY_US, US, **odd))
        archived(world, "b", readings("x", DAY_US + 5 * US, US, **odd))
        before = answers(world, ["x"])
        compacted(world)
        assert answers(world, ["x"]) == before


class TestWhatTheScheduleTakes:
    def test_a_date_that_is_not_complete_or_long_past_waits(self, world: World) -> None:
        hours(world)
        ready_s = complete_s(DATE, world.layout, NOW_S)
        assert ready_s > DAY_US // US + 2 * DAY_S
        for now_s, taken in (
            (ready_s - 1, False),
            (ready_s + LOOK_BACK_S, False),
            (ready_s, True),
        ):
            world.now_s = int(now_s)
            assert bool(compacted(world, thorough=False)) is taken, now_s

    def test_a_late_reading_does_not_have_its_date_written_anew(self, world: World) -> None:
        hours(world, 12)
        compacted(world, thorough=False)
        archived(world, "late", hour(SENSORS[5], 3, 5, 9_000))
        assert compacted(world, thorough=False) == []
        assert len(compacted(world)) == 1
        for number in range(6):
            archived(world, f"late{number}", hour(SENSORS[5], number, 5, 9_000))
        assert len(compacted(world, thorough=False)) == 1

    def test_too_little_time_leaves_the_rest_for_the_next_time(self, world: World) -> None:
        for day in (0, 1, 2):
            for part in (0, 1):
                start_us = DAY_US - day * DAY_S * US + part * 3600 * US
                archived(world, f"d{day}{part}", readings("a", start_us, US, t=[1, 2]))
        runs = [compacted(world, remaining_ms=lambda: 1_000) for _ in range(4)]
        assert [[done.groups for done in dates] for dates in runs] == [[1, 0], [1, 0], [1], []]
        assert runs[0][1].unfinished

    def test_what_would_be_done_can_be_asked(self, world: World) -> None:
        held = hours(world)
        ((date, groups),) = planned(work(world), ALL_DATES)
        assert (date, groups) == (DATE, [held])
        assert world.catalog.find(ALWAYS) == held


class TestWhatIsOverdue:
    """What a daily schedule leaves undone for two days is told of; what has just come is not."""

    def late(self, world: World) -> list[str]:
        return list(overdue(world.catalog.entries(ALL_DATES), world.layout, GRACE_S, world.now_s))

    def test_segments_that_could_be_joined_for_two_days(self, world: World) -> None:
        hours(world, 6)
        ready_s = max(world.now_s, int(complete_s(DATE, world.layout, world.now_s)))
        world.now_s = ready_s + 2 * DAY_S - 1
        assert self.late(world) == []
        world.now_s = ready_s + 2 * DAY_S
        assert self.late(world) == [DATE]
        assert not compacted(world)[0].failed
        assert self.late(world) == []

    def test_not_what_has_come_late_to_an_old_date(self, world: World) -> None:
        hours(world, 3)
        world.now_s = int(complete_s(DATE, world.layout, world.now_s)) + 10 * DAY_S
        for number in range(3, 9):
            archived(world, f"h{number:02d}", *(hour(sensor, number) for sensor in SENSORS))
        assert self.late(world) == []
        world.now_s += 2 * DAY_S
        assert self.late(world) == [DATE]
        world.now_s += LOOK_BACK_S
        assert self.late(world) == [], "the schedule leaves such dates alone"

    def test_objects_that_are_not_deleted_after_their_grace(self, world: World) -> None:
        hours(world, 6)
        compacted(world)
        world.now_s += GRACE_S + 2 * DAY_S - 1
        assert self.late(world) == []
        world.now_s += 1
        assert self.late(world) == [DATE]
        compacted(world)
        assert self.late(world) == []


class TestAfterTheSwap:
    def test_old_objects_go_after_the_grace_and_are_remembered_for_a_while(self, world: World) -> None:
        old = hours(world)
        compacted(world)
        names = {one.name for one in old}
        assert names < objects(world)
        world.now_s += GRACE_S - 1
        assert compacted(world) == []
        world.now_s += 1
        (done,) = compacted(world)
        assert done.deleted == 4
        assert not names & objects(world)
        entries = [entry for entry in world.catalog.entries(ALWAYS) if isinstance(entry, Superseded)]
        assert {entry.gone_s for entry in entries} == {world.now_s}
        assert compacted(world) == []

    def test_a_late_event_does_not_catalog_what_is_superseded(self, world: World) -> None:
        old = hours(world)
        compacted(world)
        after = world.catalog.find(ALWAYS)
        for one in (*old, *after):
            index_object(one.name, world.cold, world.catalog, USUAL)
        assert world.catalog.find(ALWAYS) == after

    def test_an_object_that_is_restored_after_its_deletion_is_catalogued(self, world: World) -> None:
        old = hours(world)
        data = world.cold.objects[old[0].name]
        compacted(world)
        world.now_s += GRACE_S
        compacted(world)
        world.now_s += 10
        world.cold.put(old[0].name, data[0], data[1].metadata)
        index_object(old[0].name, world.cold, world.catalog, USUAL)
        assert old[0].name in {one.name for one in world.catalog.find(ALWAYS)}
        assert world.found(SENSORS[0]) == world.found(SENSORS[0], tier="cold")

    def test_a_reader_with_an_old_listing_goes_back_to_the_catalog(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        hours(world)
        before = answers(world)
        read, done = world.cold.read, []

        def read_after_all_is_over(*given: Any) -> bytes:
            if not done:
                done.append(1)
                compacted(world, grace_s=0)
            return read(*given)

        monkeypatch.setattr(world.cold, "read", read_after_all_is_over)
        assert answers(world, SENSORS[3:4])[SENSORS[3]] == before[SENSORS[3]]

    def test_an_archiver_that_comes_again_writes_nothing_anew(self) -> None:
        world = World()
        for minute in range(3):
            world.send(readings("press-7", NOW_US + minute * 60 * US, US, t=[1.5, 2.5]))
            world.now_s += 60
        slot_s = world.slots()[0]
        items = dict(world.hot.items)
        world.now_s = slot_s
        world.archive(slot_s)
        archived(world, "other", hour("x", 1), readings("press-7", NOW_US - US, US, t=[0.5]))
        world.now_s += 10
        compacted(world)
        held, there = world.catalog.find(ALWAYS), objects(world)
        world.hot.items = items
        assert world.archive(slot_s).segments == []
        assert (world.catalog.find(ALWAYS), objects(world)) == (held, there)


class TestRebuildingTheCatalog:
    def run(self, world: World) -> None:
        list(reindex(world.cold, world.catalog, USUAL, world.catalog.find(ALWAYS)))

    def test_what_is_superseded_stays_so(self, world: World) -> None:
        hours(world)
        compacted(world)
        after = world.catalog.find(ALWAYS)
        self.run(world)
        assert world.catalog.find(ALWAYS) == after

    def test_from_the_bucket_alone_rows_are_there_twice_and_come_out_once(self, world: World) -> None:
        hours(world)
        before = answers(world)
        compacted(world)
        world.catalog.items.clear()
        self.run(world)
        assert len(world.catalog.find(ALWAYS)) == 5
        assert answers(world) == before
        compacted(world)
        assert len(world.catalog.find(ALWAYS)) == 1
        assert answers(world) == before
        world.now_s += GRACE_S
        compacted(world)
        assert len(objects(world)) == 1
        assert answers(world) == before

    @pytest.mark.parametrize("damaged", [False, True])
    def test_old_ones_come_back_where_the_new_one_was_lost(self, world: World, *, damaged: bool) -> None:
        old = hours(world)
        before = answers(world)
        compacted(world)
        (new,) = world.catalog.find(ALWAYS)
        if damaged:
            world.cold.put(new.name, b"PAR1", {})
        else:
            del world.cold.objects[new.name]
        self.run(world)
        assert set(old) <= set(world.catalog.find(ALWAYS))
        if not damaged:
            assert answers(world) == before


class TestWhatIsNeverDeleted:
    @pytest.mark.parametrize("how", ["gone", "other bytes"])
    def test_old_objects_stay_where_the_new_one_is_not_sound(self, world: World, how: str) -> None:
        old = hours(world)
        before = answers(world)
        compacted(world)
        (new,) = world.catalog.find(ALWAYS)
        if how == "gone":
            del world.cold.objects[new.name]
        else:
            world.cold.put(new.name, b"PAR1" * 100, {})
        world.now_s += GRACE_S
        (done,) = compacted(world, thorough=False)
        assert (done.deleted, done.revived) == (0, 4)
        assert {one.name for one in old} <= objects(world)
        world.catalog.remove([new])
        assert answers(world) == before

    def test_objects_nobody_superseded(self, world: World) -> None:
        hours(world)
        stray = keys.segment_name(DATE, "just-put-by-the-archiver")
        world.cold.put(stray, b"x", {})
        compacted(world)
        world.now_s += GRACE_S
        compacted(world)
        assert stray in objects(world)

    def test_a_damaged_segment_stays_and_the_others_are_compacted(self, world: World) -> None:
        old = hours(world)
        data, head = world.cold.objects[old[1].name]
        world.cold.objects[old[1].name] = (data[:100] + bytes([data[100] ^ 1]) + data[101:], head)
        (done,) = compacted(world)
        assert done.damaged == [old[1].name]
        assert done.groups == 1
        assert old[1] in world.catalog.find(ALWAYS)
        assert len(world.catalog.find(ALWAYS)) == 2


class TestSomethingElseHappens:
    def test_a_segment_that_was_changed_meanwhile_stops_the_swap(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        old = hours(world)
        before = answers(world)
        changed = replace(old[0], etag="0" * 32)
        put = world.cold.put

        def put_and_change(*given: Any) -> str:
            world.catalog.items[keys.catalog_key(DATE, old[0].digest)]["etag"] = {"S": changed.etag}
            return put(*given)

        monkeypatch.setattr(world.cold, "put", put_and_change)
        (done,) = compacted(world)
        assert (done.groups, done.lost_races) == (0, 1)
        assert answers(world) == before
        assert len(world.catalog.find(ALWAYS)) == 4

    def test_an_outage_in_one_date_does_not_hold_up_the_others(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for day in (1, 0):
            for part in (0, 1):
                start_us = DAY_US - day * DAY_S * US + part * 3600 * US
                archived(world, f"d{day}{part}", readings("a", start_us, US, t=[1, 2]))
        put = world.cold.put

        def refuse_one_date(name: str, *given: Any) -> str:
            if "2026-11-18" in name:
                raise Unavailable("no")
            return put(name, *given)

        monkeypatch.setattr(world.cold, "put", refuse_one_date)
        first, second = compacted(world)
        assert isinstance(first.failed, Unavailable)
        assert (second.date, second.groups) == (DATE, 1)

    def test_a_repeat_goes_on_with_what_is_stored(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(compact_plan, "VALUES_PER_SEGMENT", 700)
        monkeypatch.setattr("ingest.segment_write.ROWS_PER_GROUP", 60)
        hours(world)
        put, made = world.cold.put, []

        def fail_later(name: str, *given: Any) -> str:
            made.append(name)
            if len(made) == 3:
                raise Unavailable("no")
            return put(name, *given)

        monkeypatch.setattr(world.cold, "put", fail_later)
        (done,) = compacted(world)
        assert done.failed is not None
        assert len(world.catalog.find(ALWAYS)) == 4
        (done,) = compacted(world)
        assert done.groups == 1
        assert len(made) == len(set(made)) + 1


# --- the plan ---------------------------------------------------------------------------


def entry(first: str, last: str, rows: int = 100, hour: int = 0, digest: str = "") -> Segment:
    start_us = DAY_US + hour * 3600 * US
    digest = digest or f"{first}-{last}-{hour}"
    name = keys.segment_name(DATE, digest)
    return Segment(
        name, DATE, digest, rows * 2, rows, start_us, start_us + 1, first, last, "e", 10, "", NOW_S
    )


class TestThePlan:
    def test_ranges_that_meet_by_way_of_others_go_together_and_others_stay_apart(self) -> None:
        chain = [entry("a", "c"), entry("b", "f"), entry("e", "g")]
        alone = entry("x", "y", compact_plan.VALUES_PER_SEGMENT)
        assert groups_of([*chain, alone], thorough=True) == [chain]

    def test_no_group_is_larger_than_a_swap(self) -> None:
        many = [entry("a", "z", 4_000_000, hour, f"{hour:03d}") for hour in range(200)]
        groups = groups_of(many)
        assert sum(map(len, groups)) == 200
        for group in groups:
            rows = sum(one.rows for one in group)
            assert len(group) + rows // compact_plan.VALUES_PER_SEGMENT + 1 <= 100

    def test_parts_are_everything_and_nothing_twice(self) -> None:
        sensors = [f"s{number:04d}" for number in range(300)]
        groups = [Group(s, s, 0, 10, 100_000) for s in sensors] * 3 + [
            Group(a, b, 0, 10, 36_000) for a, b in pairwise(sensors)
        ]
        parts = parts_of(groups)
        assert parts[0].low == ""
        for one, other in pairwise(parts):
            assert one.high == other.low
        assert parts[-1].high > sensors[-1]
        assert parts_of([]) == []
        assert parts_of([Group("a", "a", 0, 5, 10)]) == [Part("", "a\0")]
