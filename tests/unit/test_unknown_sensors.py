"""A deployment that refuses sensors nobody registered: what waits in the rejects, and how it comes back."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import keys, retry, write_unknown
from ingest.envelope import address
from ingest.reading import Run
from ingest.reject import Reject
from ingest.retry_event import place_of
from ingest.sensor import Sensor
from ingest.stores.memory import MemoryRegistry
from ingest.wire_encode import encode_run
from ingest.write_unknown import REASON, ClosedRegistry
from tests.reject_site import Site, given_up, lines, reading
from tests.unit.test_write import aggregate
from tests.world import NOW_S, Record, readings, record


class ClosedSite(Site):
    """A deployment with `--unknown-sensors refuse`."""

    def __init__(self, *known: str) -> None:
        super().__init__()
        self.people = self.registry
        self.registry = ClosedRegistry(self.people)
        self.add(*known)

    def add(self, *names: str) -> None:
        for name in names:
            self.people.update(Sensor(name, 1), None)

    def refused(self) -> dict[str | None, int]:
        """By sensor: how many readings are listed."""
        counts: dict[str | None, int] = {}
        for one in self.listed():
            if one.reason == REASON:
                counts[one.sensor_id] = counts.get(one.sensor_id, 0) + one.count
        return counts


def run(sensor: str, *values: float, at_s: int = NOW_S) -> Run:
    return readings(sensor, at_s * 1_000_000, 1_000_000, t=values)


def senml(*entries: Mapping[str, Any]) -> bytes:
    return json.dumps(list(entries)).encode()


class TestRefusing:
    def test_known_sensors_are_stored_and_unknown_ones_wait(self) -> None:
        site = ClosedSite("known")
        stored = site.send(run("known", 1, 2, 3), run("stranger", 4, 5))
        assert (stored.readings, stored.sensors, stored.new_sensors) == (3, 1, 0)
        assert dict(stored.rejects) == {REASON: 2}
        assert len(site.found("known").ts_us) == 3
        assert site.ask("stranger").run is None
        assert site.refused() == {"stranger": 2}
        assert list(site.people.sensors) == ["known"]
        (reject,) = site.listed()
        assert "stranger is not registered" in reject.detail

    def test_one_user_record_costs_only_what_is_unknown(self) -> None:
        site = ClosedSite("known")
        pack = senml(
            {"bn": "known/", "n": "t", "v": 1, "t": NOW_S}, {"bn": "stranger/", "n": "t", "v": 2, "t": NOW_S}
        )
        mixed = lines(
            reading("known", t=1), reading("stranger", NOW_S + 1, t=2), reading("known", NOW_S + 2, t=3)
        )
        array = b"[" + b",".join([reading("known", NOW_S + 5, t=9), reading("other", t=1)]) + b"]"
        site.store([record(1, pack), record(2, mixed), record(3, gzip.compress(array))])
        assert site.values("known", "t") == {NOW_S: 1, NOW_S + 2: 3, NOW_S + 5: 9}
        assert site.refused() == {"stranger": 2, "other": 1}

    def test_lines_of_the_unknown_alone_are_kept_as_they_came(self) -> None:
        site = ClosedSite("known")
        first, last = reading("stranger", t=1), reading("stranger", NOW_S + 9, t=2)
        site.store([record(1, lines(first, b"", reading("known", t=5), last, reading("other", t=6)))])
        kept = {one.sensor_id: one.payload for one in site.listed()}
        assert kept == {"stranger": lines(first, last), "other": reading("other", t=6)}

    def test_one_document_on_several_lines_is_kept_whole(self) -> None:
        site = ClosedSite()
        spread = b"[\n" + reading("a", t=1) + b",\n" + reading("a", NOW_S + 1, t=2) + b"\n]"
        site.store([record(1, spread)])
        (reject,) = site.listed()
        assert (reject.payload, reject.count) == (spread, 2)

    def test_an_open_deployment_registers_as_ever(self) -> None:
        site = Site()
        assert site.send(run("stranger", 1)).new_sensors == 1
        assert site.listed() == []

    def test_where_all_are_known_the_same_items_are_written_as_in_an_open_one(self) -> None:
        opened, closed = Site(), ClosedSite("a", "b")
        for site in (opened, closed):
            site.send(run("a", 1, 2), run("b", 3))
        assert closed.hot.items == opened.hot.items

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_an_aggregated_record_is_taken_apart(self, wrapped: bool) -> None:
        site = ClosedSite("known")
        payloads = [encode_run(run(name, 1, 2)) for name in ("known", "stranger", "known", "other")]
        made = aggregate([gzip.compress(one) if wrapped else one for one in payloads])
        site.store([record(1, made)])
        assert site.refused() == {"stranger": 2, "other": 2}
        assert [one.offset for one in site.listed()] == [
            "1/sensor stranger/unknown_sensor",
            "3/sensor other/unknown_sensor",
        ]

    def test_the_bytes_of_an_addressed_payload_keep_their_address(self) -> None:
        site = ClosedSite()
        inner = json.dumps({"ts": NOW_S * 1000, "t": 4}).encode()
        site.store([record(1, address("site/hall", inner))])
        (reject,) = site.listed()
        assert (reject.payload, reject.addressed_to, reject.sensor_id) == (inner, "site/hall", "site/hall")
        site.add("site/hall")
        site.retry()
        assert site.values("site/hall", "t") == {NOW_S: 4}
        assert site.listed() == []

    def test_very_many_unknown_sensors_are_told_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(write_unknown, "MOST_SENSORS", 5)
        site = ClosedSite("known")
        many = [reading(f"s{i}", t=i) for i in range(9)]
        site.store([record(1, lines(*many, reading("known", t=5))), record(2, lines(*many[:3]))])
        told = {place_of(one)[1]: one.count for one in site.listed()}
        assert told == {"": 9, "sensor s0": 1, "sensor s1": 1, "sensor s2": 1}
        site.retry()
        assert len(site.listed()) == 4
        site.add(*(f"s{i}" for i in range(9)))
        site.retry()
        assert site.listed() == []
        assert all(site.values(f"s{i}", "t") == {NOW_S: i} for i in range(9))

    def test_a_failure_of_ours_costs_the_unknown_their_reason_and_nobody_their_readings(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any) -> Any:
            raise ZeroDivisionError

        site = ClosedSite("known")
        with monkeypatch.context() as fault:
            fault.setattr("ingest.write.unknown_sensors", broken)
            site.store([record(1, lines(reading("known", t=1), reading("stranger", t=2)))])
        assert site.values("known", "t") == {NOW_S: 1}
        assert site.reasons() == ["unexpected"]
        site.add("stranger")
        site.retry()
        assert site.values("stranger", "t") == {NOW_S: 2}
        assert site.listed() == []


class TestComingBack:
    def test_registered_then_retried_it_is_stored_under_the_time_it_arrived(self) -> None:
        site = ClosedSite()
        site.store([record(1, encode_run(run("stranger", 4, 5)), NOW_S * 1000 - 777)])
        assert [one.result for one in site.retry()] == ["still rejected"]
        site.add("stranger")
        site.now_s += 3_600
        assert [one.result for one in site.retry()] == ["stored"]
        assert site.listed() == []
        assert site.values("stranger", "t") == {NOW_S: 4, NOW_S + 1: 5}
        assert {arrival for *_, arrival in site.found_cells("stranger").values()} == {NOW_S * 1000 - 777}

    def test_only_the_registered_one_leaves_the_list(self) -> None:
        site = ClosedSite("known")
        pack = [{"bn": f"{name}/", "n": "t", "v": 1, "t": NOW_S} for name in ("known", "a", "b")]
        site.store([record(1, senml(*pack)), record(2, lines(*(reading(n, NOW_S + 1, t=2) for n in "ab")))])
        site.add("a")
        outcomes = {(one.of.sensor_id, one.result) for one in site.retry() if isinstance(one.of, Reject)}
        assert outcomes == {("a", "stored"), ("b", "still rejected")}
        assert site.refused() == {"b": 2}
        assert site.values("a", "t") == {NOW_S: 1, NOW_S + 1: 2}

    def test_other_problems_of_the_same_bytes_neither_keep_it_nor_are_hidden_by_it(self) -> None:
        site = ClosedSite()
        bad_value = reading("a", t=1, u=[5])
        payload = lines(
            reading("a", NOW_S + 1, t=1), b"{", bad_value, senml({"bn": "a/", "n": "t", "v": 7}), b""
        )
        whole = json.dumps(
            {"sensor_id": "a", "ts": (NOW_S + 2) * 1000, "metrics": {"t": 4, "u": {}}}
        ).encode()
        site.store([record(1, payload), record(2, whole)])
        before = [one.reason for one in site.listed() if one.reason != REASON]
        assert before
        site.add("a")
        site.retry()
        assert sorted(site.reasons()) == sorted(before)
        assert {NOW_S, NOW_S + 1, NOW_S + 2} <= site.values("a", "t").keys()

    def test_a_line_of_several_sensors_waits_for_each(self) -> None:
        site = ClosedSite()
        both = b"[" + reading("a", t=1) + b"," + reading("b", t=2) + b"]"
        site.store([record(1, lines(both, reading("a", NOW_S + 1, t=3)))])
        assert site.refused() == {"a": 2, "b": 1}
        site.add("a")
        site.retry()
        assert site.refused() == {"b": 1}
        site.add("b")
        site.retry()
        assert site.listed() == []
        assert (site.values("a", "t"), site.values("b", "t")) == ({NOW_S: 1, NOW_S + 1: 3}, {NOW_S: 2})

    def test_a_batch_that_was_given_up_is_refused_as_any_other(self) -> None:
        site = ClosedSite("known")
        given_up(site, reading("known", t=1), reading("stranger", t=2))
        list(retry.replay(site.rejects.failed_batches(), store=site.rejects, invoke=site.door))
        assert site.refused() == {"stranger": 1}
        assert site.values("known", "t") == {NOW_S: 1}


class TestRepeats:
    """A batch is repeated whole, and what is registered may have changed since."""

    def records(self) -> list[Record]:
        return [record(i, encode_run(run(name, i, i + 1))) for i, name in enumerate("abc", 1)]

    def test_a_repeat_after_a_registration_takes_no_items_place(self) -> None:
        site = ClosedSite("a")
        site.store(self.records())
        first = dict(site.hot.items)
        site.add("b")
        site.store(self.records())
        assert {key: site.hot.items[key] for key in first} == first
        assert site.values("b", "t") == {NOW_S: 2, NOW_S + 1: 3}

    def test_one_registered_and_one_deleted_between_repeats_leaves_everything_archived(self) -> None:
        """As many are refused as before, but others: the second manifest must not take the first one's place."""
        site = ClosedSite("a")
        site.store(self.records())
        site.people.delete("a")
        site.add("b")
        site.store(self.records())
        site.archive_all()
        site.expire()
        assert site.values("a", "t") == {NOW_S: 1, NOW_S + 1: 2}
        assert site.values("b", "t") == {NOW_S: 2, NOW_S + 1: 3}
        assert {one.sensor_id for one in site.listed()} == {
            "a",
            "b",
            "c",
        }  # each refused once: kept until retried

    def test_the_same_again_writes_and_lists_the_same(self) -> None:
        site = ClosedSite("a")
        site.store(self.records())
        items, objects = dict(site.hot.items), dict(site.objects.objects)
        site.store(self.records())
        assert (site.hot.items, site.objects.objects) == (items, objects)

    @given(st.lists(st.sets(st.sampled_from("abcd")), min_size=1, max_size=4), st.data())
    def test_never_neither_whatever_is_registered_and_however_it_is_grouped(
        self, histories: list[set[str]], data: st.DataObject
    ) -> None:
        site = ClosedSite()
        names = "abcd"
        records = [
            record(1, lines(*(reading(name, t=1) for name in names))),
            record(2, b"[" + b",".join(reading(name, NOW_S + 1, t=2) for name in names) + b"]"),
            *(record(3 + i, encode_run(run(name, 3, at_s=NOW_S + 2))) for i, name in enumerate(names)),
        ]
        for known in histories:
            site.people.sensors = {name: Sensor(name, 1) for name in known}
            cut = data.draw(st.integers(0, len(records)))
            for group in (records[:cut], records[cut:]):
                if group:
                    site.store(group)
        if data.draw(st.booleans()):
            site.archive_all()
            site.expire()
        wanted = {NOW_S: 1, NOW_S + 1: 2, NOW_S + 2: 3}
        ever = set[str]().union(*histories)
        for name in names:
            assert site.values(name, "t") == (wanted if name in ever else {})
            always = all(name in known for known in histories)
            assert site.refused().get(name, 0) == (0 if always else 3)
        site.people.sensors = {name: Sensor(name, 1) for name in names}
        site.retry()
        assert site.listed() == []
        assert all(site.values(name, "t") == wanted for name in names)


def test_the_registry_is_asked_for_what_the_batch_holds_and_no_more() -> None:
    asked: list[set[str]] = []

    class Told(MemoryRegistry):
        def known(self, sensor_ids: Any) -> set[str]:
            asked.append(set(sensor_ids))
            return super().known(sensor_ids)

    site = ClosedSite()
    site.registry = ClosedRegistry(Told())
    site.store([record(1, lines(reading("a", t=1), b"{", reading("b", t=1))), record(2, b"nothing")])
    assert asked == [{"a", "b"}]
    assert keys.sensors_digest({"a", "b"}) == keys.sensors_digest(["b", "a"]) != keys.sensors_digest(["a"])
