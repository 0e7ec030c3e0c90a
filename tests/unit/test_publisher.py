"""What reaches Kinesis: packing, limits of a call, order and acknowledgement whatever is refused or lost."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
from aws_kinesis_agg import deaggregator
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import kinesis_records, wire
from ingest.errors import BadInput, NotFound, Refused, Unavailable
from ingest.reading import Column, Run, Value, canonical, merge
from sensors import lanes
from sensors.publisher import Publisher, Sent, lane_keys, lane_of, shard_count

T0_US = 1_700_000_000_000_000
STREAM = "readings"


@dataclass
class Clock:
    s: float = 0.0
    sleeps: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.sleeps.append(seconds)
        self.s += max(seconds, 1e-6)


def client_error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "PutRecords",
    )


@dataclass
class FakeKinesis:
    """Keeps what it accepts. `mood(records)` gives an error code (or "") per record, or an
    exception: to raise instead, or, in a tuple with the codes, to raise after accepting."""

    mood: Callable[[list[dict[str, Any]]], Any] = lambda records: [""] * len(records)
    clock: Clock | None = None
    accepted: list[dict[str, Any]] = field(default_factory=list)
    calls: list[list[dict[str, Any]]] = field(default_factory=list)

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        assert StreamName == STREAM
        assert 1 <= len(Records) <= 500
        sizes = [len(r["Data"]) + len(r["PartitionKey"].encode()) for r in Records]
        assert max(sizes) <= 1024 * 1024
        assert sum(sizes) <= 5 * 1024 * 1024
        self.calls.append(Records)
        if self.clock:
            self.clock.s += 0.02
        codes = self.mood(Records)
        if isinstance(codes, Exception):
            raise codes
        lost = None
        if isinstance(codes, tuple):
            codes, lost = codes
        self.accepted += [r for r, code in zip(Records, codes, strict=True) if not code]
        if lost:
            raise lost
        answers = [{"ErrorCode": c, "ErrorMessage": "m"} if c else {"SequenceNumber": "1"} for c in codes]
        return {"FailedRecordCount": sum(map(bool, codes)), "Records": answers}


def user_records(records: Iterable[dict[str, Any]]) -> list[tuple[str, bytes]]:
    """Partition key and payload of each user record, by the library's own de-aggregation."""
    found: list[tuple[str, bytes]] = []
    for number, record in enumerate(records):
        event = {
            "kinesis": {
                "kinesisSchemaVersion": "1.0",
                "sequenceNumber": str(number),
                "approximateArrivalTimestamp": 0,
                "partitionKey": record["PartitionKey"],
                "data": base64.b64encode(record["Data"]),
            }
        }
        users = [user["kinesis"] for user in deaggregator.deaggregate_records([event])]
        found += [(user["partitionKey"], base64.b64decode(user["data"])) for user in users]
    return found


def arrived(records: Iterable[dict[str, Any]]) -> list[Run]:
    """Runs in the order in which they arrived, each piece by itself."""
    return [read(payload) for _, payload in user_records(records)]


def read(payload: bytes) -> Run:
    runs, problems = wire.decode(payload, T0_US // 1000 + 10**9)
    assert problems == []
    (one,) = runs
    return replace(one, arrival_ms=0)


def publisher(client: Any, clock: Clock | None = None, seed: int = 0, **options: Any) -> Publisher:
    clock = clock or Clock()
    options = {
        "lanes": 4,
        "now": clock.now,
        "sleep": clock.sleep,
        "random": random.Random(seed).random,
    } | options
    return Publisher(client, STREAM, **options)


def run(sensor: str, number: int = 0, readings: int = 3, text: str = "") -> Run:
    start = T0_US + number * 1_000_000_000
    values: list[Any] = [text + str(i) if text else i / 4 for i in range(readings)]
    return Run(sensor, [start + i * 1_000_000 for i in range(readings)], {"value": values}, 0)


def test_runs_arrive_as_they_were_and_are_acknowledged() -> None:
    client = FakeKinesis()
    runs = [run(f"s{i % 5}", i, readings=10) for i in range(50)]
    accepted: list[Run] = []
    sent = publisher(client).publish(runs, accepted.append)
    assert Counter(map(id, accepted)) == Counter(map(id, runs))
    assert sorted(map(repr, arrived(client.accepted))) == sorted(map(repr, runs))
    size_bytes = sum(len(record["Data"]) for record in client.accepted)
    assert sent == Sent(readings=500, records=len(client.accepted), size_bytes=size_bytes, calls=1, resent=0)


def test_the_strict_reader_reads_the_same_as_the_library() -> None:
    client = FakeKinesis()
    runs = [run(f"s{i % 7}", i, readings=30 * i + 1, text="é" * (i % 3)) for i in range(60)]
    runs.append(run("s1", 60, readings=1, text="y" * 300_000))
    publisher(client).publish(runs)
    for record in client.accepted:
        payloads, problem = kinesis_records.user_records(record["Data"])
        assert problem is None
        assert payloads == [payload for _, payload in user_records([record])]


VALUES = st.one_of(
    st.booleans(),
    st.integers(-(10**38) + 1, 10**38 - 1),
    st.floats(-1e125, 1e125).filter(lambda number: not number or abs(number) >= 1e-130),
    st.text(max_size=20),
)


@given(st.lists(st.tuples(st.integers(1, 10**7), VALUES, st.none() | VALUES), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_values_of_every_kind_arrive_as_they_went_in(rows: list[tuple[int, Any, Any]]) -> None:
    ts_us = [T0_US + step for step in accumulate(step for step, _, _ in rows)]
    columns: dict[str, Column] = {"a": [a for _, a, _ in rows], "b": [b for _, _, b in rows]}
    client = FakeKinesis()
    publisher(client).publish([Run("s", ts_us, columns, 0)])
    found = merge(arrived(client.accepted))
    assert found.ts_us == ts_us
    for name, column in columns.items():
        values = found.metrics.get(name, [None] * len(ts_us))
        assert list(map(shown, values)) == list(map(shown, column))


def shown(value: Value | None) -> tuple[str, str] | None:
    """A value as what both tiers give back: its kind and its canonical text."""
    if value is None:
        return None
    kind = (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )
    return kind, canonical(value)


def test_sensors_keep_to_their_lane_and_lanes_to_their_key() -> None:
    client = FakeKinesis()
    publisher(client, lanes=8).publish([run(f"s{i}", n) for n in range(3) for i in range(100)])
    keys = lane_keys(8)
    for key, payload in user_records(client.accepted):
        assert key == keys[lane_of(read(payload).sensor_id, 8)]
    assert len({record["PartitionKey"] for record in client.accepted}) == 8


def test_the_lane_of_a_sensor_never_changes() -> None:
    assert [lane_of(f"sim-{i:04d}", 40) for i in range(1, 6)] == [13, 9, 8, 15, 4]


def test_sensors_spread_over_lanes() -> None:
    counts = Counter(lane_of(f"sim-{i:04d}", 20) for i in range(10_000))
    assert len(counts) == 20
    assert max(counts.values()) < 1.25 * min(counts.values())


@pytest.mark.parametrize("shards", [1, 2, 3, 8])
def test_lanes_spread_evenly_over_the_shards(shards: int) -> None:
    import hashlib

    keys = lane_keys(shards * 10)
    assert len(set(keys)) == shards * 10
    hashes = [int(hashlib.md5(key.encode()).hexdigest(), 16) for key in keys]
    assert hashes == sorted(hashes)
    assert Counter(h * shards >> 128 for h in hashes) == dict.fromkeys(range(shards), 10)


def test_there_is_at_least_one_lane() -> None:
    with pytest.raises(BadInput, match=r"^lanes: "):
        publisher(FakeKinesis(), lanes=0)


def test_records_are_large_and_calls_within_the_limits() -> None:
    client = FakeKinesis()
    runs = [run(f"s{i % 200}", i // 200, readings=600) for i in range(2000)]
    sent = publisher(client, lanes=10).publish(runs)
    sizes = [len(record["Data"]) for record in client.accepted]
    assert max(sizes) <= lanes.AIM_BYTES
    assert sum(sizes) / len(sizes) > 0.7 * lanes.AIM_BYTES
    assert sent.readings == 1_200_000
    assert all(len({r["PartitionKey"] for r in call}) == len(call) for call in client.calls)
    assert sum(len(r.ts_us) for r in arrived(client.accepted)) == 1_200_000


def test_no_more_than_five_hundred_records_go_into_a_call() -> None:
    client = FakeKinesis()
    publisher(client, lanes=1200).publish([run(f"s{i}") for i in range(6000)])
    assert sum(map(len, client.calls)) > 1000
    assert max(map(len, client.calls)) == 500


def test_long_runs_travel_in_pieces_in_order() -> None:
    client = FakeKinesis()
    accepted: list[Run] = []
    long, wide = run("a", readings=10_001), run("b", readings=1500, text="x" * 500)
    publisher(client).publish([long, wide], accepted.append)
    assert sorted(r.sensor_id for r in accepted) == ["a", "b"]
    for original in (long, wide):
        parts = [part for part in arrived(client.accepted) if part.sensor_id == original.sensor_id]
        assert len(parts) > 1
        assert [ts for part in parts for ts in part.ts_us] == original.ts_us
        assert [v for part in parts for v in part.metrics["value"]] == original.metrics["value"]
        assert all(len(part.ts_us) <= lanes.PIECE_READINGS for part in parts)
    for _, payload in user_records(client.accepted):
        assert len(payload) <= lanes.PIECE_BYTES


def test_a_reading_that_fills_a_record_goes_alone_in_its_place() -> None:
    client = FakeKinesis()
    many: dict[str, Column] = {f"m{i}": ["y" * 30_000] for i in range(30)}
    runs = [run("a", 0), Run("a", [T0_US + 10**9], many, 0), run("a", 2)]
    publisher(client).publish(runs)
    assert arrived(client.accepted) == runs
    assert len(client.accepted) == 3


def test_a_reading_that_no_record_holds_is_refused_before_anything_is_taken() -> None:
    client = FakeKinesis()
    sender = publisher(client)
    with pytest.raises(BadInput, match="sensor a: its reading at 1700000000000000"):
        sender.submit(run("a", readings=1, text="z" * 1_100_000))
    assert sender.pending() == []
    sender.flush()
    assert client.calls == []


def test_an_empty_run_is_acknowledged_and_not_sent() -> None:
    client = FakeKinesis()
    accepted: list[Run] = []
    publisher(client).publish([Run("a", [], {}, 0)], accepted.append)
    assert len(accepted) == 1
    assert client.calls == []


moods = st.lists(
    st.one_of(
        st.just("ok"),
        st.just("lost"),
        st.just("short"),
        st.sampled_from(["throttled", "timeout", "closed", "broken"]),
        st.integers(0, 2**32),
    ),
    max_size=12,
)


def moody(steps: list[Any]) -> Callable[[list[dict[str, Any]]], Any]:
    """One answer per step, then nothing but acceptance; an integer seeds random refusals."""
    left = iter(steps)

    def mood(records: list[dict[str, Any]]) -> Any:
        step = next(left, "ok")
        fine = [""] * len(records)
        if isinstance(step, int):
            dice = random.Random(step)
            codes = ["", "", "ProvisionedThroughputExceededException", "InternalFailure"]
            answer = [dice.choice(codes) for _ in records]
            return (answer, ReadTimeoutError(endpoint_url="u")) if dice.random() < 0.2 else answer
        return {
            "ok": fine,
            "lost": (fine, ReadTimeoutError(endpoint_url="u")),
            "short": (fine, client_error("InternalFailure", 500)),
            "throttled": client_error("ProvisionedThroughputExceededException"),
            "timeout": ReadTimeoutError(endpoint_url="u"),
            "closed": ConnectionClosedError(endpoint_url="u"),
            "broken": client_error("Whatever", 503),
        }[step]

    return mood


def assert_in_order(received: list[Run], sent: list[Run]) -> None:
    """First arrivals of each sensor's readings are all its readings, in order of submission; a
    repeat never arrives before something it precedes has."""
    for sensor in {r.sensor_id for r in sent}:
        instants = [r.ts_us[0] for r in received if r.sensor_id == sensor]
        first = list(dict.fromkeys(instants))
        assert first == [r.ts_us[0] for r in sent if r.sensor_id == sensor]


@given(
    steps=moods,
    sensors=st.integers(1, 12),
    count=st.integers(1, 40),
    lane_count=st.integers(1, 6),
    flush_every=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
@settings(max_examples=120, deadline=None)
def test_every_run_is_accepted_once_and_in_order_whatever_is_refused_or_lost(
    steps: list[Any], sensors: int, count: int, lane_count: int, flush_every: int, seed: int
) -> None:
    clock = Clock()
    client = FakeKinesis(moody(steps), clock)
    sender = publisher(client, clock, seed, lanes=lane_count)
    runs = [run(f"s{i % sensors}", i) for i in range(count)]
    accepted: list[Run] = []

    def on_accepted(one: Run) -> None:
        assert one in arrived(client.accepted)
        accepted.append(one)

    for number, one in enumerate(runs, 1):
        sender.submit(one, on_accepted)
        if number % flush_every == 0:
            sender.flush()
    sender.flush()
    assert Counter(map(id, accepted)) == Counter(map(id, runs))
    assert sender.pending() == []
    assert sender.sent.readings == sum(len(one.ts_us) for one in runs)
    assert_in_order(arrived(client.accepted), runs)
    assert_in_order(accepted, runs)
    assert sender.sent.calls == len(client.calls)


@given(steps=st.lists(st.integers(0, 2**32), min_size=1, max_size=30), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_large_loads_keep_their_order_through_refusals(steps: list[Any], seed: int) -> None:
    clock = Clock()
    client = FakeKinesis(moody(steps), clock)
    runs = [run(f"s{i % 3}", i, readings=40, text="t" * 2000) for i in range(60)]
    accepted: list[Run] = []
    publisher(client, clock, seed, lanes=3).publish(runs, accepted.append)
    assert_in_order(arrived(client.accepted), runs)
    assert_in_order(accepted, runs)
    assert len(accepted) == len(runs)


def test_only_what_was_refused_is_sent_again() -> None:
    clock = Clock()
    first = iter([True])
    client = FakeKinesis(
        lambda records: (
            ["ProvisionedThroughputExceededException", *[""] * (len(records) - 1)]
            if next(first, False)
            else [""] * len(records)
        ),
        clock,
    )
    sent = publisher(client, clock).publish([run(f"s{i}") for i in range(50)])
    assert [len(call) for call in client.calls] == [4, 1]
    assert client.calls[1][0] == client.calls[0][0]
    assert (sent.calls, sent.resent, sent.records) == (2, 1, 4)


def test_a_refused_record_does_not_hold_back_other_lanes() -> None:
    clock = Clock()
    stuck = lane_keys(4)[0]

    def mood(records: list[dict[str, Any]]) -> list[str]:
        return ["InternalFailure" if r["PartitionKey"] == stuck and clock.s < 5 else "" for r in records]

    client = FakeKinesis(mood, clock)
    runs = [run(f"s{i}", n, readings=100, text="t" * 1500) for n in range(10) for i in range(8)]
    done: list[tuple[float, str]] = []
    publisher(client, clock).publish(runs, lambda one: done.append((clock.s, one.sensor_id)))
    others = [s for s, name in done if lane_of(name, 4) != 0]
    stuck_s = [s for s, name in done if lane_of(name, 4) == 0]
    assert others
    assert stuck_s
    assert max(others) < 5 <= min(stuck_s)


def test_waits_grow_with_full_jitter_up_to_a_bound() -> None:
    clock = Clock()
    client = FakeKinesis(lambda records: client_error("ThrottlingException"), clock)
    sender = publisher(client, clock, random=lambda: 1.0)
    sender.submit(run("a"))
    with pytest.raises(Unavailable):
        sender.flush()
    assert clock.sleeps[:6] == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0])
    assert max(clock.sleeps) < 5.001
    eager = Clock()
    client = FakeKinesis(lambda records: client_error("ThrottlingException"), eager)
    sender = publisher(client, eager, random=random.Random(1).random)
    sender.submit(run("a"))
    with pytest.raises(Unavailable):
        sender.flush()
    assert min(eager.sleeps) < 0.1
    assert len(set(eager.sleeps)) == len(eager.sleeps)


def test_giving_up_says_what_was_not_accepted_and_a_later_flush_goes_on() -> None:
    clock = Clock()
    down = True
    client = FakeKinesis(
        lambda records: EndpointConnectionError(endpoint_url="u") if down else [""] * len(records)
    )
    client.clock = clock
    accepted: list[Run] = []
    sender = publisher(client, clock, patience_s=30)
    runs = [run(f"s{i % 3}", i) for i in range(9)]
    with pytest.raises(Unavailable) as raised:
        sender.publish(runs, accepted.append)
    assert raised.value.retry
    for part in (f"stream {STREAM}", "30 s", "9 runs", "27 readings", "3 sensors", "EndpointConnectionError"):
        assert part in str(raised.value)
    assert 30 <= clock.s < 40
    assert accepted == []
    assert Counter(map(id, sender.pending())) == Counter(map(id, runs))
    down = False
    sender.flush()
    assert_in_order(accepted, runs)
    assert sender.pending() == []


def test_patience_is_counted_per_record_not_for_the_whole_load() -> None:
    clock = Clock()
    turn = iter(range(10_000))
    client = FakeKinesis(lambda r: ["Throttled" if next(turn) % 3 else ""] * len(r), clock)
    sender = publisher(client, clock, lanes=1, patience_s=10, random=lambda: 1.0)
    runs = [run("a", n, readings=100, text="t" * 1500) for n in range(60)]
    sender.publish(runs)
    assert clock.s > 20
    assert_in_order(arrived(client.accepted), runs)


def test_calls_shrink_while_records_are_refused_and_grow_again() -> None:
    clock = Clock()

    times: list[float] = []

    def mood(records: list[dict[str, Any]]) -> list[str]:
        times.append(clock.s)
        room, codes = 700_000 if clock.s < 1 else 10**9, []
        for record in records:
            room -= len(record["Data"])
            codes.append("" if room > 0 else "ProvisionedThroughputExceededException")
        return codes

    client = FakeKinesis(mood, clock)
    runs = [run(f"s{i}", n, readings=100, text="t" * 1500) for n in range(6) for i in range(60)]
    sent = publisher(client, clock, lanes=20).publish(runs)
    sizes = [sum(len(r["Data"]) for r in call) for call in client.calls]
    troubled = [size for size, s in zip(sizes, times, strict=True) if s < 1]
    assert troubled[0] > 1_500_000
    assert max(troubled[1:]) <= 700_000 + 512 * 1024
    assert max(sizes[len(troubled) :]) > 1_200_000
    assert sent.resent < sent.records


@pytest.mark.parametrize(
    ("error", "answer", "says"),
    [
        (client_error("ResourceNotFoundException"), NotFound, "does not exist"),
        (client_error("AccessDeniedException"), Refused, "denied"),
        (client_error("ValidationException"), Unavailable, "ValidationException"),
        (NoCredentialsError(), Refused, "credentials"),
    ],
)
def test_what_waiting_cannot_mend_is_told_at_once(
    error: Exception, answer: type[Exception], says: str
) -> None:
    clock = Clock()
    client = FakeKinesis(lambda records: error, clock)
    sender = publisher(client, clock)
    with pytest.raises(answer, match=says):
        sender.publish([run("a")])
    assert len(client.calls) == 1
    assert len(sender.pending()) == 1


def test_a_reply_that_names_fewer_records_than_were_sent_counts_as_lost() -> None:
    class Forgetful(FakeKinesis):
        def put_records(self, **request: Any) -> dict[str, Any]:
            reply = super().put_records(**request)
            return reply if len(self.calls) > 1 else reply | {"Records": reply["Records"][:1]}

    client = Forgetful()
    accepted: list[Run] = []
    publisher(client).publish([run(f"s{i}") for i in range(20)], accepted.append)
    assert len(accepted) == 20
    assert [len(call) for call in client.calls] == [4, 4]


def test_progress_is_told_after_every_call() -> None:
    seen: list[Sent] = []
    client = FakeKinesis()
    publisher(client, on_progress=seen.append).publish(
        [run(f"s{i % 9}", i, readings=900) for i in range(900)]
    )
    assert len(seen) == len(client.calls) > 1
    assert all(a.readings <= b.readings for a, b in pairwise(seen))
    assert seen[-1].readings == 810_000


def test_memory_is_bounded_while_runs_stream_in() -> None:
    client = FakeKinesis()
    sender = publisher(client, lanes=300)
    most = 0
    for i in range(1500):
        sender.submit(run(f"s{i}", readings=40, text="t" * 1000))
        most = max(most, sum(lane.open_bytes + lane.ready_bytes for lane in sender._lanes))
    assert most < 20_000_000
    sender.flush()
    assert sender.sent.readings == 60_000


def test_a_failing_acknowledgement_loses_no_other() -> None:
    client = FakeKinesis()
    sender = publisher(client)
    seen: list[str] = []

    def on_accepted(one: Run) -> None:
        seen.append(one.sensor_id)
        if len(seen) == 1:
            raise RuntimeError("the caller's own")

    runs = [run(f"s{i}") for i in range(10)]
    with pytest.raises(RuntimeError):
        sender.publish(runs, on_accepted)
    sender.publish([run("later")], on_accepted)
    assert sorted(seen) == sorted([*(one.sensor_id for one in runs), "later"])


def test_publishing_twice_tells_each_time_what_that_took() -> None:
    sender = publisher(FakeKinesis())
    assert sender.publish([run("a")]).readings == 3
    assert sender.publish([run("a", 1)]) == Sent(3, 1, sender.sent.size_bytes // 2, 1, 0)
    assert sender.sent.readings == 6


def test_shards_are_counted() -> None:
    class Client:
        def describe_stream_summary(self, *, StreamName: str) -> Any:  # noqa: N803
            if StreamName != STREAM:
                raise client_error("ResourceNotFoundException")
            return {"StreamDescriptionSummary": {"OpenShardCount": 3}}

    assert shard_count(Client(), STREAM) == 3
    with pytest.raises(NotFound, match="stream other"):
        shard_count(Client(), "other")


def test_importing_leaves_the_module_path_alone() -> None:
    code = (
        "import sys; before = list(sys.path); import sensors.publisher; "
        "sys.exit(0 if sys.path == before else 'sys.path was changed')"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
