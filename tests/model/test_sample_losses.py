"""The three ordinary cases in which AWS's published sample of this pattern loses data; here nothing is lost.

A user's delete among the expiries, exactly a batch size of expiries, one failed call in the middle: each goes
through the local event sources, by the mappings of the template, to the functions' own entries.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from infra import deploy
from infra.local import lanes as lanes_module
from infra.local.invoker import Answer
from infra.local.journal import Journal
from infra.local.lanes import Timing
from infra.local.mappings import SourceMapping, read_mapping
from infra.local.readers import ShardReader
from infra.local.shards import open_source
from ingest import archive, keys, manifest, write
from ingest.keys import US, Key
from ingest.settings import Settings
from lambdas import _door, archive_expired, store_readings
from tests.model.crash import Cut, Killed, Through
from tests.world import GRACE_S, NOW_S, NOW_US, USUAL, World, plenty, readings

pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish:UserWarning")
STREAM_ARN = "arn:aws:kinesis:eu-central-1:000000000000:stream/readings"
TABLE_STREAM_ARN = "arn:aws:dynamodb:eu-central-1:000000000000:table/readings/stream/2026"
MOST_FAILURES = 50
EXPIRED = {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}
Handler = Callable[[dict[str, Any], Any], Any]


# --- a deployment, and the event source in front of a function ------------------------------


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A deployment that the functions find in place of AWS, at a time of the test's."""
    made = World()
    made.hot.save_layout(USUAL, None)
    found = Settings("table", "archive", "rejects", chunk_grace_s=GRACE_S)
    monkeypatch.setattr(_door, "deployment", lambda: (found, made))
    monkeypatch.setattr(_door, "now_s", lambda: float(made.now_s))
    monkeypatch.setattr(_door, "_layout", [])
    monkeypatch.setattr(lanes_module._log, "disabled", True)
    for door in (archive_expired, store_readings):
        monkeypatch.setattr(door._logger, "info", lambda *_, **__: None)
        monkeypatch.setattr(door._logger, "error", lambda *_, **__: None)
    return made


class _Loader(yaml.SafeLoader):
    """YAML whose short forms of CloudFormation's functions are read as nothing."""


_Loader.add_multi_constructor("!", lambda *_: None)


def mapping_of(name: str, source_arn: str, **changes: Any) -> SourceMapping:
    """The event source mapping of that name in the template, as ListEventSourceMappings would tell it."""
    template = cast(Any, yaml.load(deploy.TEMPLATE.read_text(), _Loader))
    said = template["Resources"][name]["Properties"]
    defaults = {"BatchSize": template["Parameters"]["BatchSize"]["Default"], "ParallelizationFactor": 1}
    known = {key: value for key, value in said.items() if value is not None and key != "DestinationConfig"}
    described = {
        **defaults,
        **known,
        "UUID": name,
        "EventSourceArn": source_arn,
        "FunctionArn": name,
        **changes,
    }
    return read_mapping(described)


class Shard:
    """A stream's client that holds one closed shard of records."""

    def __init__(self, records: Sequence[dict[str, Any]]) -> None:
        self._records = records

    def get_shard_iterator(self, **_: Any) -> dict[str, Any]:
        return {"ShardIterator": "0"}

    def get_records(self, *, ShardIterator: str, Limit: int) -> dict[str, Any]:  # noqa: N803
        start = int(ShardIterator)
        end = start + Limit
        following = str(end) if end < len(self._records) else None
        return {"Records": self._records[start:end], "NextShardIterator": following}


class Function:
    """A Lambda function: its own entry, an event's JSON in, its answer's JSON out. `sizes`: its batches."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.sizes: list[int] = []
        self.failures = 0
        self.journal = Journal()

    def invoke(self, function_arn: str, body: bytes) -> Answer:
        event = json.loads(body)
        self.sizes.append(len(event["Records"]))
        try:
            answer = self._handler(event, SimpleNamespace(get_remaining_time_in_millis=plenty))
        except (Exception, Killed) as error:  # noqa: BLE001 - as Lambda does, whatever it is
            self.failures += 1
            return Answer(reached=True, function_error="Unhandled", reason=repr(error))
        return Answer(reached=True, payload=json.dumps(answer).encode())


class Nowhere:
    """A failure destination that nothing is to reach; it counts what does."""

    def __init__(self) -> None:
        self.given_up = 0

    def send(self, discard: Any, now_s: float) -> None:
        self.given_up += len(discard.records)


def deliver(records: Sequence[dict[str, Any]], mapping: SourceMapping, function: Any, now_s: float) -> None:
    """Let the local event source bring the records to the function until every one of them is done."""
    client, nowhere = Shard(records), Nowhere()
    destinations: Any = nowhere
    reader = ShardReader(
        lambda: mapping,
        open_source(mapping, client, client),
        "shardId-000000000000",
        None,
        from_horizon=True,
        invoker=function,
        destinations=destinations,
        timing=Timing(first_backoff_s=0.0, most_backoff_s=0.0, poll_s=0.001, clock=lambda: now_s),
    )
    deadline = time.monotonic() + 20
    try:
        while not reader.drained:
            reader.close_windows()
            reader.tracker.wait_done(len(records), 0.002)
            assert time.monotonic() < deadline, f"not done: {reader.trouble()}"
            assert function.failures < MOST_FAILURES, f"it keeps failing: {reader.trouble()}"
    finally:
        reader.stop()
        reader.join(time.monotonic() + 5, time.monotonic)
    assert not nowhere.given_up


# --- expiries -------------------------------------------------------------------------------


def fill(world: World, slots: int) -> dict[int, int]:
    """A reading for each of as many slots, all due now: what must be found, by instant."""
    for number in range(slots):
        world.send(readings("press-7", world.now_s * US, US, n=[number]))
        world.now_s += 3_600
    world.now_s = max(world.slots()) + 60
    return {(NOW_S + 3_600 * number) * US: number for number in range(slots)}


def change(number: int, key: Key, at_s: int, **more: Any) -> dict[str, Any]:
    """A record of the table's stream: the removal of an item, unless `more` says otherwise."""
    described = {
        "Keys": {"pk": {"S": key.pk}, "sk": {"S": key.sk}},
        "SequenceNumber": f"{number:021d}",
        "SizeBytes": 24,
        "ApproximateCreationDateTime": datetime.fromtimestamp(at_s, UTC),
    }
    return {
        "eventID": str(number),
        "eventName": "REMOVE",
        "eventVersion": "1.1",
        "dynamodb": described,
        **more,
    }


def expiries(world: World) -> list[dict[str, Any]]:
    """TTL removes every ticket: the stream's records of that, oldest slot first."""
    tickets = sorted(key for key in world.hot.items if key.pk.startswith(keys.TICKET_PREFIX))
    world.hot.delete(tickets)
    return [change(number, key, world.now_s, userIdentity=EXPIRED) for number, key in enumerate(tickets)]


def found(world: World, tier: Any = "auto") -> dict[int, Any]:
    run = world.ask("press-7", tier=tier).run
    return {} if run is None else dict(zip(run.ts_us, run.metrics["n"], strict=True))


def nothing_is_lost(world: World, wanted: dict[int, int]) -> None:
    """The archive holds all, before and after the hot tier has let go of it."""
    assert found(world) == wanted
    assert found(world, "cold") == wanted
    assert not world.slots()
    world.expire()
    assert not world.chunk_keys()
    assert found(world) == wanted


ORDERS = mapping_of("ArchiveExpiredMapping", TABLE_STREAM_ARN)
UNFILTERED = replace(ORDERS, patterns=())
BATCH = ORDERS.rules.batch_size


# --- a user's delete in the batch -------------------------------------------------------------

USERS = {
    "a chunk, by a user": ({"eventName": "REMOVE"}, "s#press-7", "2026-11-20T22:00Z#aaaaaaaaaaaaaaaa#0"),
    "a sensor of the registry": ({}, "r#3", "press-7"),
    "a segment's entry": ({}, "a#2026", "2026-11-20#abc"),
    "a ticket that names no slot": ({}, "t#yesterday", "t"),
    "a ticket of a slot that nobody has": ({}, "t#1795302000", "t"),
    "an item of somebody else's": ({}, "invoice 7", "0"),
    "a change that is no delete": ({"eventName": "MODIFY"}, "t#1795302000", "t"),
    "a delete by an assumed role": (
        {"userIdentity": {"Type": "AssumedRole", "PrincipalId": "AROA:alice"}},
        "s#press-7",
        "x",
    ),
}


@pytest.mark.parametrize("mapping", [ORDERS, UNFILTERED], ids=["filtered", "unfiltered"])
@pytest.mark.parametrize("what", USERS)
def test_a_users_delete_in_the_batch(world: World, what: str, mapping: SourceMapping) -> None:
    """The sample then sends none of the ten: it looks for `userIdentity`, which a user's delete lacks."""
    wanted = fill(world, 3)
    more, pk, sk = USERS[what]
    for place in (0, 2, 3):  # first, in the middle, last
        before = dict(world.hot.items)
        stream = expiries(world)
        stream.insert(place, change(100, Key(pk, sk), world.now_s) | more)
        function = Function(archive_expired.handler)
        deliver(stream, mapping, function, world.now_s)
        assert sum(function.sizes) >= len(wanted)
        assert function.failures == 0
        assert found(world, "cold") == wanted
        assert not world.slots()
        if place < 3:
            world.hot.items, world.cold.objects, world.catalog.items = before, {}, {}
    nothing_is_lost(world, wanted)


@pytest.mark.parametrize("tells", [EXPIRED, None], ids=["told", "untold"])
def test_a_users_delete_of_a_ticket_is_an_early_order_and_costs_nothing(world: World, tells: Any) -> None:
    """Who removed a ticket is not asked: emulators and replicas do not tell."""
    wanted = fill(world, 3)
    world.now_s = NOW_S + 7_200
    stream = [one | ({"userIdentity": tells} if tells else {}) for one in expiries(world)]
    if not tells:
        for one in stream:
            del one["userIdentity"]
    deliver(stream, ORDERS, Function(archive_expired.handler), world.now_s)
    assert found(world) == wanted
    nothing_is_lost(world, wanted)


def test_a_users_delete_of_a_chunk_costs_only_that_chunk(world: World) -> None:
    wanted = fill(world, 5)
    gone = world.chunk_keys()[2]
    world.hot.delete([gone])
    del wanted[NOW_US + 2 * 3_600 * US]
    stream = expiries(world)
    stream.insert(2, change(100, gone, world.now_s))
    deliver(stream, UNFILTERED, Function(archive_expired.handler), world.now_s)
    nothing_is_lost(world, wanted)


# --- exactly the batch size -------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH])
def test_exactly_the_batch_size_of_expiries(world: World, count: int) -> None:
    """The sample then sends nothing at all: it knows what to do with fewer and with more."""
    wanted = fill(world, count)
    function = Function(archive_expired.handler)
    deliver(expiries(world), ORDERS, function, world.now_s)
    assert max(function.sizes) <= BATCH
    assert sum(function.sizes) == count
    if count >= BATCH:
        assert function.sizes[0] == BATCH
    nothing_is_lost(world, wanted)


def kinesis_record(number: int, data: bytes) -> dict[str, Any]:
    arrived = datetime.fromtimestamp(NOW_S + number / 1000, UTC)
    return {
        "SequenceNumber": f"{number:056d}",
        "PartitionKey": "lane-0",
        "ApproximateArrivalTimestamp": arrived,
        "Data": data,
    }


@pytest.mark.parametrize(
    ("batch_size", "count"), [(100, 99), (100, 100), (100, 101), (100, 200), (None, 10_000)]
)
def test_exactly_the_batch_size_of_readings(world: World, batch_size: int | None, count: int) -> None:
    """At the template's own batch size too, which is the most Lambda allows."""
    changes = {} if batch_size is None else {"BatchSize": batch_size}
    mapping = mapping_of("StoreReadingsMapping", STREAM_ARN, **changes)
    assert mapping.rules.batch_size == (batch_size or 10_000)
    stream = [
        kinesis_record(number, b'{"sensor_id":"press-7","ts":%d,"n":%d}' % (NOW_S * 1000 + number, number))
        for number in range(count)
    ]
    function = Function(store_readings.handler)
    deliver(stream, mapping, function, NOW_S + 60)
    assert sum(function.sizes) == count
    assert max(function.sizes) <= mapping.rules.batch_size
    wanted = {NOW_US + number * 1000: number for number in range(count)}
    assert found(world) == wanted
    world.archive_all()
    nothing_is_lost(world, wanted)


LIMITS = {
    "chunks of a round": (archive, "CHUNKS_PER_ROUND"),
    "chunks of a read": (archive, "CHUNKS_PER_READ"),
    "values of a segment": (archive, "VALUES_PER_SEGMENT"),
    "chunks of a manifest": (manifest, "CHUNKS_PER_MANIFEST"),
    "values stored together": (write, "MOST_VALUES_AT_ONCE"),
}


@pytest.mark.parametrize("count", [3, 4, 5, 8])
@pytest.mark.parametrize("limit", LIMITS)
def test_exactly_as_many_as_any_other_limit(
    world: World, limit: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*LIMITS[limit], 4)
    times = [NOW_US - number * 3_600 * US for number in range(count)]
    runs = [readings("press-7", at, US, n=[number]) for number, at in enumerate(times)]
    for group in [[run] for run in runs] if limit == "chunks of a round" else [runs]:
        world.send(*group)
    assert len(world.slots()) <= 2
    world.now_s = max(world.slots()) + 60
    deliver(expiries(world), ORDERS, Function(archive_expired.handler), world.now_s)
    nothing_is_lost(world, {at: number for number, at in enumerate(times)})


# --- one failed call in the middle ------------------------------------------------------------


def test_one_failed_call_in_the_middle(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample then sends 600 of 1,000: it looks at the last call's answer only.

    Each call of a batch in turn fails, or is done without an answer, or is the last thing the function
    does; what was done before it and after it stands, and the event source repeats the rest.
    """
    wanted = fill(world, 3)
    stream = expiries(world)
    start = dict(world.hot.items)
    known = _door.deployment()[0]
    at = way = runs = 0
    while True:
        world.hot.items, world.cold.objects, world.catalog.items = dict(start), {}, {}
        cut = Cut(at, way)
        hot, cold, catalog = (Through(store, cut) for store in (world.hot, world.cold, world.catalog))
        behind = SimpleNamespace(hot=hot, cold=cold, catalog=catalog)
        monkeypatch.setattr(_door, "deployment", lambda behind=behind: (known, behind))
        function = Function(archive_expired.handler)
        deliver(stream, ORDERS, function, world.now_s)
        assert found(world) == found(world, "cold") == wanted, f"call {cut.name} {cut.ended}"
        assert not world.slots(), f"call {cut.name} {cut.ended}"
        runs += 1
        if cut.ended is None:
            break
        at, way = (at + 1, 0) if cut.last else (at, way + 1)
    assert runs > 60
    nothing_is_lost(world, wanted)
