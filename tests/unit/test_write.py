"""Storing a batch: what is written in which order, repeated in any grouping, and what happens to what is refused."""

from __future__ import annotations

import gzip
import importlib
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import keys
from ingest.chunk import decode_item
from ingest.errors import Unavailable
from ingest.item import Item, item_size, write_units
from ingest.keys import DAY_S, US, Key
from ingest.kinesis_records import Record
from ingest.reading import Run, Value, canonical, merge
from ingest.stores import RemainingMs
from ingest.stores.memory import MemoryHotStore
from ingest.write import split_buckets
from tests import strategies as make
from tests.world import NOW_S, NOW_US, World, plenty, readings, record, regrouped

MINUTE_US = 60 * US


def minute(sensor_id: str = "press-7", start_us: int = NOW_US, first: float = 20.0) -> Run:
    return readings(sensor_id, start_us, US, temperature=[first + i / 10 for i in range(60)])


def aggregate(payloads: Sequence[bytes]) -> bytes:
    """One record's data, aggregated as the Kinesis Producer Library does it, by the reference implementation."""
    aggregator: Any = importlib.import_module("aws_kinesis_agg.aggregator").RecordAggregator()
    for payload in payloads:
        aggregator.add_user_record("lane-0", payload)
    return aggregator.clear_and_get().get_contents()[2]


class RecordingHot(MemoryHotStore):
    """Remembers the kinds of items of every put; fails after some items of the put it is told to."""

    def __init__(self, fail_at: int | None = None, after_items: int = 0) -> None:
        super().__init__()
        self.puts: list[list[Key]] = []
        self.fail_at = fail_at
        self.after_items = after_items

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        if len(self.puts) == self.fail_at:
            self.fail_at = None
            super().put(items[: self.after_items], remaining_ms)
            raise Unavailable("as the test asks")
        self.puts.append([item.key for item in items])
        return super().put(items, remaining_ms)


class TestOrder:
    def test_open_slots_and_tickets_then_manifests_then_chunks(self):
        hot = RecordingHot()
        world = World(hot=hot)
        world.send(minute(), minute("press-8", NOW_US - 7200 * US), minute(start_us=NOW_US + 3600 * US))
        assert [sorted({key.pk[:1] for key in put}) for put in hot.puts] == [["o", "t"], ["m"], ["s"]]

    def test_every_slot_has_its_ticket_its_open_slot_and_its_manifest(self):
        world = World()
        world.send(minute(), minute("press-8", NOW_US - 7200 * US), minute(start_us=NOW_US + 3600 * US))
        slots = world.slots()
        assert slots == [NOW_S + DAY_S, NOW_S + 3600 + DAY_S, NOW_S + 7200 + DAY_S]
        assert world.hot.open_slots() == slots
        for slot_s in slots:
            assert world.hot.items[keys.ticket_key(slot_s)]["ttl"] == {"N": str(slot_s)}
        named = [
            key for slot_s in slots for page in world.hot.manifests(slot_s) for m in page for key in m.chunks
        ]
        assert sorted(named) == world.chunk_keys()

    def test_a_chunk_outlives_its_slot(self):
        world = World()
        world.send(minute(), minute("press-8", NOW_US - 400 * DAY_S * US))
        expiries = {key.pk: decode_item(world.hot.items[key]).expires_at_s for key in world.chunk_keys()}
        assert expiries == {"s#press-7": NOW_S + 3600 + 7 * DAY_S, "s#press-8": NOW_S + 7 * DAY_S}

    def test_what_it_reports(self):
        world = World()
        stored = world.store([record(1, minute(), NOW_S * 1000 - 5_000), record(2, b"{", NOW_S * 1000)])
        assert (stored.records, stored.readings, stored.values, stored.chunks) == (2, 60, 60, 1)
        assert (stored.sensors, stored.new_sensors, stored.failed_sequence) == (1, 1, None)
        assert stored.oldest_arrival_ms == NOW_S * 1000 - 5_000
        assert stored.rejects == {"not_json": 1}
        sizes = [item_size(item) for item in world.hot.items.values()]
        assert stored.write_units >= sum(map(write_units, sizes))

    def test_an_empty_batch_is_no_error(self):
        world = World()
        assert world.store([]).records == 0
        assert world.hot.items == {}

    def test_sensors_are_registered_at_first_sight(self):
        world = World()
        world.store([record(1, minute(), 5_000 + NOW_S * 1000), record(2, minute(), 4_000 + NOW_S * 1000)])
        assert world.registry.sensors["press-7"].first_seen_ms == 4_000 + NOW_S * 1000
        assert world.store([record(3, minute(), NOW_S * 1000)]).new_sensors == 0
        assert world.registry.sensors["press-7"].first_seen_ms == 4_000 + NOW_S * 1000


class TestRepeat:
    def test_the_same_batch_twice_writes_the_same_items(self):
        world = World()
        batch = [record(1, minute()), record(2, minute("press-8")), record(3, b"nonsense")]
        world.store(batch)
        once = dict(world.hot.items)
        assert world.store(batch).new_sensors == 0
        assert world.hot.items == once

    def test_the_same_batch_after_a_change_of_codec_takes_no_chunk_s_place(self):
        """The packed codec cuts long runs elsewhere: parts of one must never be mixed with those of the other."""
        world = World()
        rng = random.Random(1)
        times = [NOW_US + i for i in range(20_000)]
        run = Run("press-7", times, {"a": [rng.random() for _ in times]}, 1)
        batch = [record(1, run)]
        world.store(batch)
        listed = world.chunk_keys()
        world.store(batch, codec="packed")
        packed = [key for key in world.chunk_keys() if key not in listed]
        assert len(listed) > len(packed) > 1
        for chosen in (listed, packed, world.chunk_keys()):
            found = merge([decode_item(world.hot.items[key]).run for key in chosen])
            assert (found.ts_us, found.metrics) == (run.ts_us, run.metrics)
        once = dict(world.hot.items)
        world.store(batch, codec="packed")
        assert world.hot.items == once

    def test_the_same_batch_later_writes_the_same_chunks_to_be_kept_longer(self):
        world = World()
        batch = [record(1, minute())]
        world.store(batch)
        (key,) = world.chunk_keys()
        before = decode_item(world.hot.items[key])
        world.now_s += 20 * 3600
        world.store(batch)
        assert world.chunk_keys() == [key]
        after = decode_item(world.hot.items[key])
        assert after.run == before.run
        assert after.expires_at_s > before.expires_at_s
        assert len(world.slots()) == 2

    @pytest.mark.parametrize("step", [0, 1, 2])
    @pytest.mark.parametrize("after_items", [0, 1])
    def test_a_failing_store_is_raised_and_repeating_it_is_harmless(self, step, after_items):
        batch = [
            record(1, minute()),
            record(2, minute("press-8", NOW_US - 7200 * US)),
            record(3, b"nonsense"),
        ]
        calm = World()
        calm.store(batch)
        world = World(hot=RecordingHot(step, after_items))
        with pytest.raises(Unavailable):
            world.store(batch)
        world.store(batch)
        assert world.hot.items == calm.hot.items
        assert rejects(world) == rejects(calm)

    def test_without_time_left_nothing_is_acknowledged(self):
        world = World()
        with pytest.raises(Unavailable, match="time ran out"):
            world.store([record(1, minute())], remaining_ms=lambda: 0)

    @settings(max_examples=40)
    @given(st.data())
    def test_any_grouping_any_order_any_repetition_gives_the_same_answers(self, data):
        """Records of a shard arrive one after the other; whatever batches they come in, the last word is the last."""
        values = st.one_of(st.integers(-5, 5), st.booleans(), st.sampled_from(["a", "9", ""]), make.floats())
        cell = st.tuples(st.integers(0, 6), st.sampled_from(["a", "b"]), values)
        sent = data.draw(st.lists(st.lists(cell, min_size=1, max_size=4), min_size=1, max_size=6))
        expected: dict[tuple[int, str], Value] = {}
        records: list[Record] = []
        for number, cells in enumerate(sent):
            lines = [
                {"sensor_id": "s", "ts": NOW_S * 1000 + shift * 1_800_000, "metrics": {name: value}}
                for shift, name, value in cells
            ]
            payload = "\n".join(map(json.dumps, lines)).encode()
            records.append(record(number, payload, NOW_S * 1000 + number))
            expected |= {(NOW_US + shift * 1_800_000_000, name): value for shift, name, value in cells}
        groupings = data.draw(st.lists(st.sets(st.integers(1, len(records))), min_size=1, max_size=3))
        batches = [batch for cuts in groupings for batch in regrouped(records, cuts)]
        world = World()
        for batch in data.draw(st.permutations(batches)):
            world.store(batch)
        run = world.found("s")
        found = {cell: (kind, text) for cell, (kind, text) in make.cells(run).items()}
        assert found == {cell: (make.kind_of(v), canonical(v)) for cell, v in expected.items()}

    @pytest.mark.parametrize("aggregated", [False, True])
    def test_within_one_record_the_last_value_wins_also_across_user_records(self, aggregated):
        """The lesser value comes last, so that rank alone would keep the first."""
        wanted = {0: {"a": 9}, 2: {"a": 1, "b": True}, 1: {"a": 2}, 3: {"a": 4}}
        wanted_again = {0: {"a": 5}, 2: {"a": 0}}
        lines = [
            json.dumps({"sensor_id": "s", "ts": NOW_S * 1000 + shift, "metrics": metrics}).encode()
            for said in (wanted, wanted_again)
            for shift, metrics in said.items()
        ]
        world = World()
        world.store([record(1, aggregate(lines) if aggregated else b"\n".join(lines))])
        run = world.found("s")
        assert run.ts_us == [NOW_US + shift * 1000 for shift in range(4)]
        assert run.metrics == {"a": [5, 2, 0, 4], "b": [None, None, True, None]}

    def test_a_correction_wins_whatever_is_stored_first(self):
        wrong, right = (
            record(1, minute(first=90.0), NOW_S * 1000),
            record(2, minute(first=20.0), NOW_S * 1000 + 1),
        )
        for order in ([wrong, right], [right, wrong]):
            world = World()
            for part in order:
                world.store([part])
            assert world.found("press-7").metrics["temperature"][0] == 20


def rejects(world: World) -> dict[str, tuple[str, str, bytes]]:
    found = list(world.rejects.list("2026-11-19", "2026-11-22"))
    assert len({reject.id for reject in found}) == len(found)
    return {reject.id: (reject.reason, reject.offset, reject.payload) for reject in found}


BAD = [
    b"",
    b"{",
    b'{"sensor_id": "../x", "ts": 1795212000000, "metrics": {"a": 1}}',
    b'{"sensor_id": "s", "ts": 5, "metrics": {"a": 1}}',
    b'{"sensor_id": "s", "ts": 1795212000000, "metrics": {"a": NaN, "b": 1}}',
    b'{"sensor_id": "s", "ts": 1795212000000, "metrics": {"a": ' + b"9" * 5_000 + b"}}",
    b"[" * 100_000,
    b"\xf3\x89\x9a\xc2" + b"\0" * 40,
    b"\x1f\x8b" + b"\0" * 20,
    b"\xff\xfe",
]


class TestRejects:
    def test_a_bad_record_costs_only_itself(self):
        world = World()
        batch = [record(number, payload) for number, payload in enumerate(BAD)]
        stored = world.store([record(90, minute()), *batch, record(91, minute("press-8"))])
        assert (stored.readings - 1, stored.sensors) == (120, 3)  # one good metric stands beside a NaN
        kept = rejects(world)
        assert {reason for reason, _, _ in kept.values()} == set(stored.rejects)
        assert sum(stored.rejects.values()) >= len(BAD)
        payloads = {payload for _, _, payload in kept.values()}
        assert set(BAD) <= payloads

    def test_ids_are_the_same_in_any_grouping_and_none_is_listed_twice(self):
        batch = [record(number, payload) for number, payload in enumerate(BAD)]
        whole = World()
        whole.store(batch)
        for cuts in ([3], [1, 2, 7], list(range(len(batch)))):
            world = World()
            for part in [*regrouped(batch, cuts), batch]:
                world.store(part)
            assert rejects(world) == rejects(whole)

    def test_two_problems_of_one_record_have_ids_of_their_own(self):
        line = '{"sensor_id": "s", "ts": %d, "metrics": {"a": {}, "b": [], "c": 1}}'
        payload = "\n".join(line % (NOW_S * 1000 + i) for i in range(3)).encode()
        world = World()
        stored = world.store([record(1, payload)])
        assert stored.readings == 3
        assert len(rejects(world)) == stored.rejects["wrong_type"] == 6

    @settings(max_examples=150)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=60),
                st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
            ),
            max_size=4,
        )
    )
    def test_no_bytes_stop_a_batch(self, payloads):
        world = World()
        batch = [record(number, payload) for number, payload in enumerate(payloads)]
        stored = world.store([*batch, record(99, minute())])
        assert stored.readings >= 60
        assert len({reject_offset for _, reject_offset, _ in rejects(world).values()}) <= sum(
            stored.rejects.values()
        )
        assert stored.readings > 60 or sum(stored.rejects.values()) >= len(payloads)

    def test_a_decoder_that_fails_costs_one_record(self, monkeypatch):
        def decode(payload: bytes, arrival_ms: int) -> tuple[list, list]:
            if payload == b"bomb":
                raise RecursionError("too deep")
            return [Run("s", [NOW_US], {"a": [1]}, arrival_ms)], []

        monkeypatch.setattr("ingest.wire.decode", decode)
        world = World()
        stored = world.store([record(1, b"bomb"), record(2, b"fine")])
        assert (stored.readings, stored.rejects) == (1, {"unexpected": 1})
        ((reason, _, payload),) = rejects(world).values()
        assert (reason, payload) == ("unexpected", b"bomb")


def countdown(*values: int) -> Callable[[], int]:
    left = list(values)
    return lambda: left.pop(0) if len(left) > 1 else left[0]


class TestGroups:
    BATCH = tuple(record(number, minute(start_us=NOW_US + number * MINUTE_US)) for number in range(6))

    def test_a_large_batch_is_stored_in_groups_with_the_same_answer(self, monkeypatch):
        whole, parts = World(), World()
        whole.store(self.BATCH)
        monkeypatch.setattr("ingest.write.MOST_VALUES_AT_ONCE", 120)
        stored = parts.store(self.BATCH)
        assert (stored.records, stored.readings, stored.failed_sequence) == (6, 360, None)
        assert len(parts.chunk_keys()) == 3
        assert make.cells(parts.found("press-7")) == make.cells(whole.found("press-7"))

    def test_what_time_runs_short_for_is_reported_and_repeating_it_completes(self, monkeypatch):
        monkeypatch.setattr("ingest.write.MOST_VALUES_AT_ONCE", 120)
        world = World()
        hurry = [60_000] * 5 + [4_000]
        stored = world.store(self.BATCH, remaining_ms=countdown(*hurry))
        assert stored.failed_sequence is not None
        sequences = [entry.sequence for entry in self.BATCH]
        position = sequences.index(stored.failed_sequence)
        assert 0 < position < len(self.BATCH)
        assert stored.records == position
        assert world.found("press-7").ts_us == [NOW_US + i * US for i in range(60 * position)]
        world.store(self.BATCH[position:], remaining_ms=plenty)
        assert len(world.found("press-7").ts_us) == 360

    def test_a_record_of_very_many_bad_lines_is_a_group_of_its_own(self):
        """Each takes most of a second to look through, and only a thousand of its problems are kept."""
        lines = gzip.compress(b'{"sensor_id":"a","ts":1,"metrics":{}}\n' * 120_000)
        batch = [record(1, lines), record(2, lines), record(3, minute())]
        world = World()
        stored = world.store(batch, remaining_ms=lambda: 4_000)
        assert (stored.records, stored.failed_sequence) == (1, batch[1].sequence)
        rest = world.store(batch[1:])
        assert (rest.records, rest.readings, rest.failed_sequence) == (2, 60, None)

    def test_where_time_runs_short_while_decoding_what_is_decoded_is_stored(self, monkeypatch):
        """After so much work one looks at the time; what is left then suffices to store what was decoded."""
        monkeypatch.setattr("ingest.write.LOOK_AFTER", 150)
        world = World()
        stored = world.store(self.BATCH, remaining_ms=countdown(60_000, *[14_000] * 4, 4_000))
        assert (stored.records, stored.failed_sequence) == (4, self.BATCH[4].sequence)
        assert world.found("press-7").ts_us == [NOW_US + i * US for i in range(240)]
        world.store(self.BATCH[4:])
        assert len(world.found("press-7").ts_us) == 360

    def test_short_records_are_stored_together_whatever_the_time(self):
        world = World()
        world.store(self.BATCH, remaining_ms=lambda: 6_000)
        assert len({key.sk for key in world.chunk_keys()}) == 1

    def test_the_first_group_is_always_tried(self):
        assert World().store(self.BATCH, remaining_ms=lambda: 1_500).failed_sequence is None


@given(make.runs(arrival_ms=None), st.sampled_from([60, 900, 3600, DAY_S]))
def test_a_run_is_cut_at_bucket_bounds_and_nowhere_else(run, bucket_s):
    pieces = list(split_buckets(run, bucket_s))
    for start_s, piece in pieces:
        assert start_s % bucket_s == 0
        assert start_s * US <= piece.ts_us[0] <= piece.ts_us[-1] < (start_s + bucket_s) * US
    starts = [start_s for start_s, _ in pieces]
    assert starts == sorted(set(starts))
    assert make.ranked_cells(merge([piece for _, piece in pieces])) == make.ranked_cells(run)


@settings(max_examples=30)
@given(
    st.lists(
        make.runs(first_us=NOW_US - 9_000 * US, last_us=NOW_US + 9_000 * US, max_size=12),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_a_run_may_hold_is_found_again(runs):
    world = World()
    world.send(*runs)
    expected = {
        sensor_id: make.cells(
            merge(
                [
                    Run(r.sensor_id, r.ts_us, r.metrics, i)
                    for i, r in enumerate(runs)
                    if r.sensor_id == sensor_id
                ]
            )
        )
        for sensor_id in {run.sensor_id for run in runs}
    }
    for sensor_id, cells in expected.items():
        assert make.cells(world.found(sensor_id)) == cells
    world.archive_all()
    world.expire()
    assert world.chunk_keys() == []
    for sensor_id, cells in expected.items():
        assert make.cells(world.found(sensor_id)) == cells
