"""From the stream to the table: whatever is delivered again, cut otherwise, throttled or left unanswered."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.local import batching
from infra.local.batching import Rules, Work
from ingest import keys
from ingest.chunk import decode_item
from ingest.errors import ThermoclineError, Unavailable
from ingest.item import MOST_ITEM_BYTES, Item
from ingest.keys import DAY_S, US
from ingest.kinesis_records import Record, failures
from ingest.reading import AHEAD_US, EARLIEST_US, Run
from ingest.stores import RemainingMs
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryHotStore
from ingest.stores.registry import DynamoRegistry, encode_sensor
from tests import answered
from tests import strategies as make
from tests.answered import Dynamo
from tests.unit.test_write import aggregate, rejects
from tests.world import NOW_S, NOW_US, World, plenty, readings, record

HOUR_US = 3600 * US
SENSORS = ("press-7", "press-8", "hall/pump:1")
BAD = (b"", b"{", b"\xf3\x89\x9a\xc2nonsense", b'{"sensor_id":"a b","ts":1795212000000,"metrics":{"m":1}}')


def said(world: World) -> dict[str, Any]:
    """Every answer there is, and every reject."""
    found: dict[str, Any] = {}
    for name in SENSORS:
        run = world.ask(name).run
        found[name] = make.cells(run) if run is not None else {}
    return found | {"rejects": rejects(world)}


# --- any delivery -----------------------------------------------------------------------


@st.composite
def streams(draw: st.DrawFn) -> list[Record]:
    """What a shard holds: readings of several sensors, corrections among them, plain and aggregated, and rubbish."""
    made: list[Record] = []
    for number in range(draw(st.integers(1, 7))):
        if draw(st.integers(0, 5)) == 0:
            made.append(record(number, draw(st.sampled_from(BAD)), NOW_S * 1000 + number))
            continue
        cells = st.tuples(
            st.sampled_from(SENSORS), st.integers(0, 4), st.sampled_from(["a", "b"]), st.integers(-9, 9)
        )
        payloads = [
            json.dumps(
                {"sensor_id": sensor_id, "ts": NOW_S * 1000 + at * 1_800_000, "metrics": {name: value}}
            ).encode()
            for sensor_id, at, name, value in draw(st.lists(cells, min_size=1, max_size=4))
        ]
        data = aggregate(payloads) if draw(st.booleans()) else b"\n".join(payloads)
        made.append(record(number, data, NOW_S * 1000 + number))
    return made


@settings(max_examples=80, deadline=None)
@given(streams(), st.data())
def test_any_stretches_delivered_any_number_of_times_say_what_one_delivery_says(records, data):
    """Stretches of a shard in any order, overlapping, repeated, some archived and expired in between."""
    once = World()
    once.store(records)
    edge = st.integers(0, len(records) - 1)
    stretch = st.tuples(edge, edge).map(lambda pair: (min(pair), max(pair) + 1))
    cuts = data.draw(st.sets(st.integers(1, len(records))))
    bounds = [0, *sorted(cuts), len(records)]
    whole = list(pairwise(bounds))
    order = data.draw(st.permutations([*whole, *data.draw(st.lists(stretch, max_size=4))]))
    world = World()
    for start, end in order:
        world.store(records[start:end])
        if data.draw(st.integers(0, 3)) == 0:
            world.archive_all()
            if data.draw(st.booleans()):
                world.expire()
    assert said(world) == said(once)


class Failing(MemoryHotStore):
    """A table that refuses the puts it is told to, after some of the items are in."""

    def __init__(self, dice: Random, failing: int) -> None:
        super().__init__()
        self._dice = dice
        self.left = failing

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        if self.left and self._dice.random() < 0.5:
            self.left -= 1
            super().put(items[: self._dice.randint(0, len(items))], remaining_ms)
            raise Unavailable("throttled")
        return super().put(items, remaining_ms)


def drive(
    records: Sequence[Record], rules: Rules, invoke: Callable[[Sequence[Record]], bytes | None]
) -> tuple[list[str], int]:
    """Lambda's rules for one batch: the records that are done, in order, and how often the function was invoked.

    `invoke` gives the function's answer, None for an error.
    """
    by_sequence = {one.sequence: one for one in records}
    first = tuple(batching.Record(one.sequence, "lane", 0.0, one.data) for one in records)
    todo, done, invocations = [Work(first)], list[str](), 0
    while todo:
        work = todo.pop()
        invocations += 1
        assert invocations < 500, "it does not come to an end"
        answer = invoke([by_sequence[one.sequence] for one in work.records])
        failed_at = 0 if answer is None else batching.first_failure(work.records, answer, rules)
        if failed_at == len(work.records):
            verdict = batching.after_success(work)
        else:
            verdict = batching.after_failure(work, failed_at, rules)
        assert not verdict.given_up
        done.extend(one.sequence for one in verdict.done)
        todo.extend(reversed(verdict.again))
    return done, invocations


@pytest.mark.parametrize("seed", range(40))
def test_bisected_and_partly_reported_batches_come_to_an_end_with_everything_stored_once(seed, monkeypatch):
    """Errors halve a batch, short time ends it early: each costs at most two further invocations."""
    dice = Random(seed)
    monkeypatch.setattr("ingest.write.MOST_VALUES_AT_ONCE", dice.choice([45, 90, 10_000]))
    runs = [readings(dice.choice(SENSORS), NOW_US + n * HOUR_US // 2, US, a=[n, n + 1]) for n in range(12)]
    records = [record(number, run, NOW_S * 1000 + number) for number, run in enumerate(runs)]
    records.insert(dice.randrange(12), record(99, b"rubbish", NOW_S * 1000 + 99))
    calm = World()
    calm.store(records)
    world = World(hot=Failing(dice, dice.randint(0, 9)))
    troubles = 0

    def invoke(batch: Sequence[Record]) -> bytes | None:
        nonlocal troubles
        left = iter([60_000] * dice.randint(1, 12)) if dice.random() < 0.4 else None
        try:
            stored = world.store(batch, lambda: next(left, 4_000)) if left else world.store(batch, plenty)
        except Unavailable:
            troubles += 1
            return None
        troubles += stored.failed_sequence is not None
        return json.dumps(failures(stored.failed_sequence)).encode()

    done, invocations = drive(records, Rules(report_failures=True, bisect=True), invoke)
    assert done == [one.sequence for one in records], "each record is done once, and in order"
    assert invocations <= 2 * troubles + 1
    assert said(world) == said(calm)


@pytest.mark.parametrize(
    "answer",
    [b"", b"null", b"{}", b'{"batchItemFailures":[]}', b'{"batchItemFailures":null}'],
    ids=["nothing", "null", "empty object", "empty list", "null list"],
)
def test_what_lambda_takes_for_success_is_only_said_of_a_batch_that_is_stored(answer):
    """Such answers let the checkpoint pass, so the door must raise rather than give one."""
    waiting = (batching.Record("1", "k", 0.0, b"{}"),)
    assert batching.first_failure(waiting, answer, Rules(report_failures=True)) == len(waiting)
    world = World(hot=Failing(Random(1), 30))
    for _ in range(200):
        try:
            stored = world.store([record(1, readings("press-7", NOW_US, US, a=[1]))])
        except Unavailable:
            continue
        assert failures(stored.failed_sequence) == json.loads('{"batchItemFailures":[]}')
        assert world.found("press-7").metrics == {"a": [1]}
        world.hot.items.clear()
    assert isinstance(world.hot, Failing)
    assert world.hot.left == 0


# --- answers that are lost ------------------------------------------------------------

MIXTURES = {
    "answers lost": {"ok": 6, "lost": 3, "cut": 2},
    "throttled": {"ok": 6, "throttled": 3, "some": 4, "none": 2},
    "everything": {"ok": 6, "lost": 2, "cut": 1, "refused": 1, "throttled": 1, "some": 3, "none": 1},
}


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("seed", range(6))
def test_what_dynamodb_did_without_saying_so_is_there_once(seed, mixture, monkeypatch):
    """The shipped stores over botocore, which repeats by itself what was answered with a 500 or not at all."""
    answered.without_waiting(monkeypatch)
    runs = [
        readings(
            f"sensor-{n}", NOW_US + hour * HOUR_US, 60 * US, a=[n + i / 8 for i in range(40)], on=[True] * 40
        )
        for n in range(12)
        for hour in (0, 1, -9)
    ]
    records = [record(number, run, NOW_S * 1000 + number) for number, run in enumerate(runs)]
    calm = World()
    calm.store(records)
    dynamo = Dynamo(seed, MIXTURES[mixture])
    made = answered.client("dynamodb", dynamo.answer)
    hot = DynamoHotStore(made, answered.TABLE, lambda _: None, lambda: 0.0)
    world = World()
    for _ in range(60):
        world.hot, world.registry = hot, DynamoRegistry(made, answered.TABLE)  # pyright: ignore[reportAttributeAccessIssue]
        try:
            world.store(records)
        except Unavailable:
            continue
        break
    else:
        pytest.fail("it was never stored")
    expected = {(key.pk, key.sk): item for key, item in calm.hot.items.items()}
    for sensor in calm.registry.sensors.values():
        item = encode_sensor(sensor)
        expected[str(item["pk"]["S"]), str(item["sk"]["S"])] = item
    assert dynamo.items == expected
    assert len(dynamo.met) > 2, f"the faults were not met: {dynamo.met}"


def test_a_call_that_is_never_answered_is_an_error_and_no_success(monkeypatch):
    answered.without_waiting(monkeypatch)
    dynamo = Dynamo(0, {"cut": 1})
    world = World()
    made = answered.client("dynamodb", dynamo.answer)
    world.hot = DynamoHotStore(made, answered.TABLE, lambda _: None, lambda: 0.0)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Unavailable):
        world.store([record(1, readings("press-7", NOW_US, US, a=[1]))])
    assert len(dynamo.items) > 0, "it was done all the same"
    assert not any(pk.startswith("s#") for pk, _ in dynamo.items), "chunks come last"


def test_what_never_gets_through_is_given_up_in_time_and_not_acknowledged(monkeypatch):
    answered.without_waiting(monkeypatch)
    dynamo = Dynamo(0, {"none": 1})
    slept: list[float] = []
    hot = DynamoHotStore(
        answered.client("dynamodb", dynamo.answer), answered.TABLE, slept.append, lambda: 1.0
    )
    with pytest.raises(Unavailable, match="unwritten"):
        hot.put(_items(20), lambda: max(0, int(20_000 - sum(slept) * 1000)))
    assert 10 < sum(slept) < 20, "it stops in time to fail in order"
    assert slept[:5] == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8])


def _items(count: int) -> list[Item]:
    return [
        Item(keys.Key("s#a", str(n)), json.dumps({"pk": {"S": "s#a"}, "sk": {"S": str(n)}}), 20)
        for n in range(count)
    ]


def test_an_access_that_is_denied_is_told_and_nothing_is_acknowledged(monkeypatch):
    answered.without_waiting(monkeypatch)
    hot = DynamoHotStore(
        answered.client("dynamodb", lambda *_: answered.problem(400, "AccessDeniedException")),
        answered.TABLE,
        lambda _: None,
        lambda: 0.0,
    )
    with pytest.raises(ThermoclineError, match="AccessDenied"):
        hot.put(_items(1), plenty)


# --- times ------------------------------------------------------------------------------

MS = 1000
EDGES = [
    ("the first instant", EARLIEST_US, True),
    ("1 ms before it", EARLIEST_US - MS, False),
    ("24 h ahead, less 1 ms", NOW_US + AHEAD_US - MS, True),
    ("24 h ahead", NOW_US + AHEAD_US, False),
    ("24 h ahead, and 1 ms", NOW_US + AHEAD_US + MS, False),
    ("1970", 0, False),
    ("7 days old, less 1 ms", NOW_US - 7 * DAY_S * US + MS, True),
    ("7 days old", NOW_US - 7 * DAY_S * US, True),
    ("10 years old", NOW_US - 3650 * DAY_S * US, True),
    ("the last ms of a bucket", NOW_US + HOUR_US - MS, True),
    ("the first of the next", NOW_US + HOUR_US, True),
]


@pytest.mark.parametrize(("ts_us", "kept"), [edge[1:] for edge in EDGES], ids=[edge[0] for edge in EDGES])
def test_at_the_edges_of_time_a_reading_is_stored_to_be_kept_or_rejected(ts_us, kept):
    world = World()
    payload = json.dumps({"sensor_id": "press-7", "ts": ts_us // 1000, "metrics": {"a": 1}}).encode()
    stored = world.store([record(1, payload)])
    if not kept:
        assert (stored.rejects, world.chunk_keys()) == ({"ts_out_of_range": 1}, [])
        return
    (key,) = world.chunk_keys()
    _, bucket_s, _, _ = keys.parse_chunk_key(key)
    assert bucket_s * US <= ts_us < (bucket_s + 3600) * US
    (slot_s,) = world.slots()
    expires_at_s = decode_item(world.hot.items[key]).expires_at_s
    assert world.now_s < slot_s < expires_at_s - 2 * DAY_S, "its slot comes days before its expiry"
    assert expires_at_s <= world.now_s + 10 * DAY_S
    assert world.found("press-7").ts_us == [ts_us]
    world.archive_all()
    world.expire()
    assert world.found("press-7").ts_us == [ts_us]


SKEWS_S = (-300, 0, 300)


@pytest.mark.parametrize("writer_s", SKEWS_S)
@pytest.mark.parametrize("reader_s", SKEWS_S)
@pytest.mark.parametrize("archiver_s", SKEWS_S)
def test_clocks_that_disagree_change_no_answer(writer_s, archiver_s, reader_s):
    """Functions are 5 min off either way, producers an hour; the table and the bucket keep their own time."""
    world = World()
    runs = [readings("press-7", NOW_US + shift * HOUR_US, 10 * US, a=[shift, 7]) for shift in (-1, 0, 1)]
    truth = {cell: value for run in runs for cell, value in make.cells(run).items()}

    def at(true_s: int, skew_s: int) -> None:
        world.now_s = true_s + skew_s

    def check(true_s: int) -> None:
        at(true_s, reader_s)
        assert make.cells(world.found("press-7")) == truth, f"{true_s - NOW_S} s after it was sent"

    at(NOW_S, writer_s)
    world.store([record(n, run, NOW_S * 1000 + n) for n, run in enumerate(runs)])
    check(NOW_S)
    last_s = NOW_S + 10 * DAY_S
    for true_s in range(NOW_S, last_s, 4 * 3600):
        for slot_s in [slot for slot in world.slots() if slot <= true_s]:
            at(true_s, archiver_s)
            world.archive(slot_s)
            check(true_s)
        world.hot.expire(true_s)
        check(true_s)
    expiries = [NOW_S + writer_s + shift for shift in (7 * DAY_S, 7 * DAY_S + 3600, 7 * DAY_S + 7200)]
    for expiry_s in expiries:
        for around_s in (-1, 0, 1):
            check(expiry_s + around_s)
    assert world.chunk_keys() == []


# --- one sensor, very often -------------------------------------------------------------


def test_a_sensor_at_a_thousand_readings_a_second_stays_far_from_what_a_partition_takes():
    """1,000 write units a second per partition ("Designing partition keys"); items far below 400 KB."""
    world = World()
    sizes: list[int] = []
    put = world.hot.put

    def weigh(items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        sizes.extend(item.size_bytes for item in items)
        return put(items, remaining_ms)

    world.hot.put = weigh
    units = 0.0
    seconds = 30
    dice = Random(5)
    for second in range(seconds):
        world.now_s = NOW_S + second
        values = [round(20 + dice.gauss(0, 1), 2) for _ in range(1000)]
        units += world.send(readings("mill", (NOW_S + second) * US, 1000, vibration=values)).write_units
    assert units / seconds < 15, f"{units / seconds} write units a second"
    assert max(sizes) <= 64 * 1024 < MOST_ITEM_BYTES
    assert len(world.found("mill").ts_us) == 1000 * seconds


def test_a_batch_of_one_sensor_is_one_run_however_many_records_it_came_in():
    world = World()
    stored = world.send(*(Run("mill", [NOW_US + n * 1000], {"a": [n]}, 0) for n in range(500)))
    assert (stored.readings, stored.chunks) == (500, 1)
