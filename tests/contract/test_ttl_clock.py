"""The local TTL clock on a real emulator: tickets, overdue slots, the sweep, and running it ahead of time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from infra.local.invoker import Answer
from infra.local.sweep import Sweep
from infra.local.ttl_clock import ClockOptions, Expired, TtlClock
from ingest import keys
from ingest.errors import Unavailable
from ingest.item import Item, make_item
from ingest.keys import Key, Period, first_layout
from ingest.manifest import encode_manifests, encode_open_slot, encode_ticket
from ingest.stores.hot import DynamoHotStore

NOW_S = 1_800_000_000
BATCH = "aaaaaaaaaaaaaaaa"
PERIOD = Period(0, 3600, 60, 600, 86_400)


def nothing(_: str) -> None:
    """A progress that tells nobody."""


@dataclass
class Rig:
    """A clock over a real table, with an archiver that only does what the clock relies on."""

    client: Any
    table: str
    now_s: float = NOW_S
    works: bool = True
    asked: list[int] = field(default_factory=list[int])
    options: ClockOptions = field(default_factory=lambda: ClockOptions(grace_s=30, stuck_limit_s=0.2))

    def __post_init__(self) -> None:
        self.hot = DynamoHotStore(self.client, self.table, time.sleep, lambda: 0.5)
        self.clock = TtlClock(
            self.hot,
            self.client,
            self.table,
            self.archive,
            drain=lambda: None,
            idle=lambda: True,
            options=self.options,
            clock=lambda: self.now_s,
        )

    def archive(self, event: bytes) -> Answer:
        order = json.loads(event)
        assert order["source"] == "thermocline.schedule"
        self.asked.append(order["until_s"])
        if not self.works:
            return Answer(reached=True, reason="archive_expired failed: no bucket")
        for slot_s in self.hot.open_slots(order["until_s"]):
            for page in list(self.hot.manifests(slot_s)):
                self.hot.delete([manifest.key for manifest in page])
        return Answer(reached=True)

    def put(self, *items: Item) -> None:
        self.hot.put(items, lambda: 60_000)

    def open(self, slot_s: int, chunks: Sequence[Key] = (), *, ticket: bool = True) -> None:
        """What a batch writes for a slot, without the chunks themselves."""
        self.put(encode_open_slot(slot_s), *([encode_ticket(slot_s)] if ticket else []))
        self.put(*encode_manifests(slot_s, BATCH, int(self.now_s), list(chunks) or [chunk_key(0)], PERIOD))

    def held(self) -> set[Key]:
        items = self.client.scan(TableName=self.table)["Items"]
        return {Key(item["pk"]["S"], item["sk"]["S"]) for item in items}

    def removed(self) -> list[str]:
        """Partitions whose REMOVE the table's stream holds."""
        arn = self.client.describe_table(TableName=self.table)["Table"]["LatestStreamArn"]
        streams = self.streams
        shard = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
        records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        return [one["dynamodb"]["Keys"]["pk"]["S"] for one in records if one["eventName"] == "REMOVE"]

    streams: Any = None


def chunk_key(part: int) -> Key:
    return keys.chunk_key("press-7", NOW_S - NOW_S % 3600, BATCH, part)


def expiring(key: Key, ttl_s: int) -> Item:
    return make_item({"pk": {"S": key.pk}, "sk": {"S": key.sk}, "ttl": {"N": str(ttl_s)}})


@pytest.fixture
def rig(emulator_client: Callable[[str], Any], table_name: str) -> Rig:
    made = Rig(emulator_client("dynamodb"), table_name)
    made.streams = emulator_client("dynamodbstreams")
    return made


def test_a_ticket_that_is_due_leaves_a_remove_in_the_stream_and_others_stay(rig: Rig) -> None:
    rig.open(NOW_S)
    rig.open(NOW_S + 1)
    rig.clock.tick()
    assert rig.removed() == [f"t#{NOW_S}"]
    assert keys.ticket_key(NOW_S + 1) in rig.held()
    assert rig.asked == []


def test_a_slot_whose_ticket_went_unheard_is_archived_after_a_while(rig: Rig) -> None:
    rig.open(NOW_S - 5, ticket=False)
    rig.clock.tick()
    assert rig.asked == []
    rig.now_s += 3
    rig.clock.tick()
    assert rig.clock._asked is not None
    rig.clock._asked.result(10)
    assert rig.asked == [NOW_S - 5]
    assert rig.clock.manifests_due() == 0


def test_a_chunk_stays_while_a_due_slot_has_a_manifest_and_goes_afterwards(rig: Rig) -> None:
    rig.put(expiring(chunk_key(0), NOW_S - 1), expiring(chunk_key(1), NOW_S + 60))
    rig.open(NOW_S - 10, [chunk_key(0), chunk_key(1)], ticket=False)
    rig.clock.tick()
    assert {chunk_key(0), chunk_key(1)} <= rig.held()
    rig.archive(json.dumps({"source": "thermocline.schedule", "until_s": NOW_S}).encode())
    rig.now_s += 6
    rig.clock.tick()
    assert chunk_key(0) not in rig.held()
    assert chunk_key(1) in rig.held()
    rig.now_s += 60
    rig.clock.tick()
    assert chunk_key(1) not in rig.held()


def test_catalog_entries_go_when_their_time_is_past_and_nothing_else_does(rig: Rig) -> None:
    old, young = keys.catalog_key("2020-01-01", "old"), keys.catalog_key("2026-01-01", "young")
    manifest, sensor = keys.manifest_key(5, BATCH, 0), keys.sensor_key("press-7")
    rig.put(expiring(old, NOW_S), expiring(young, NOW_S + 9), expiring(manifest, 1), expiring(sensor, 1))
    rig.clock.tick()
    assert rig.held() == {young, manifest, sensor}


def test_the_sweep_takes_a_page_at_a_time_and_then_rests(rig: Rig) -> None:
    rig.put(*(expiring(chunk_key(part), NOW_S - part % 2) for part in range(250)))
    rig.put(expiring(chunk_key(999), NOW_S + 1000))
    rig.hot.save_layout(first_layout(PERIOD), None)
    sweep = Sweep(rig.clock._table, rig.hot, 100)
    steps = [sweep.step(NOW_S) for _ in range(4)]
    assert (sum(steps), max(steps) <= 100, min(steps[:2]) > 90) == (250, True, True)
    rig.put(expiring(chunk_key(0), NOW_S))
    assert sweep.step(NOW_S + 599) == 0
    assert sweep.step(NOW_S + 600) == 1


def test_an_item_that_was_put_again_with_a_later_time_is_not_deleted(rig: Rig) -> None:
    many = [chunk_key(part) for part in range(130)]
    rig.put(*(expiring(key, NOW_S) for key in many))
    rig.put(expiring(many[7], NOW_S + 60))
    gone = [keys.ticket_key(5)]
    assert rig.clock._table.delete_if_past([*many, *gone], NOW_S) == 129
    assert rig.held() == {many[7]}


def test_running_it_ahead_archives_first_and_then_empties_the_hot_tier(rig: Rig) -> None:
    rig.now_s = time.time()
    now_s = int(rig.now_s)
    rig.hot.save_layout(first_layout(PERIOD), None)
    ahead_s = now_s + 10 * 86_400
    rig.put(*(expiring(chunk_key(part), now_s + 600) for part in range(20)))
    later = expiring(chunk_key(99), ahead_s + 1)
    rig.put(later)
    rig.open(now_s + 60, [chunk_key(part) for part in range(20)])
    rig.open(now_s + 120, [chunk_key(3)], ticket=False)
    told: list[str] = []
    assert rig.clock.run_at(ahead_s, told.append) == Expired(tickets=1, chunks=20)
    assert f"t#{now_s + 60}" in rig.removed()
    assert {key for key in rig.held() if key.pk.startswith(("s#", "m#", "t#"))} == {later.key}
    assert told[-1] == "20 expired chunks deleted"
    layout = rig.hot.load_layout()
    assert layout is not None
    assert layout.shortest_hot_s <= PERIOD.hot_retention_s - 10 * 86_400
    assert layout.cold_until_us(now_s) > now_s * keys.US


def test_running_it_ahead_deletes_nothing_where_the_archiver_fails(rig: Rig) -> None:
    rig.works = False
    rig.put(expiring(chunk_key(0), NOW_S))
    rig.open(NOW_S - 60, [chunk_key(0)])
    rig.clock = TtlClock(
        rig.hot,
        rig.client,
        rig.table,
        rig.archive,
        drain=lambda: None,
        idle=lambda: True,
        options=rig.options,
        clock=time.time,
    )
    with pytest.raises(Unavailable, match="no bucket"):
        rig.clock.run_at(NOW_S, nothing)
    assert chunk_key(0) in rig.held()
