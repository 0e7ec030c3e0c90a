"""The stream and its event source mapping, as AWS documents them: shards that split and merge, batches cut
anywhere, bisected, repeated, answered in part, given up at an age; the failure destination keeps what was given up."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from ingest.keys import CHUNK_PREFIX, FAILED_BATCH_PREFIX
from lambdas import store_readings
from tests.model.oracle import Cells

if TYPE_CHECKING:
    from tests.model.world import Actor, World

ARN = "arn:aws:kinesis:eu-central-1:000000000000:stream/readings"
HASHES = 1 << 128
FUNCTION_S = 900
GIVE_UP_S = 5 * 3600
"""A record this old goes to the failure destination."""
LANES_PER_SHARD = 2
"""Batches of one shard that may be under way at once (ParallelizationFactor)."""
MOST_SHARDS = 6


@dataclass(slots=True)
class Sending:
    """One record in the stream."""

    sequence: str
    arrival_ms: int
    key: str
    data: bytes
    cells: Cells


@dataclass(slots=True)
class Lane:
    """What the keys of a part of a shard hold; `position` is the checkpoint. Never two batches at a time.

    `pieces` are batches that failed, and are repeated before anything else, whole or in halves;
    `stored` are those that were stored whole.
    """

    shard: str
    records: list[Sending] = field(default_factory=list[Sending])
    position: int = 0
    busy: bool = False
    pieces: deque[tuple[int, int]] = field(default_factory=deque[tuple[int, int]])
    stored: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    @property
    def is_drained(self) -> bool:
        return self.position == len(self.records)


@dataclass(slots=True)
class Shard:
    """Keys whose hash lies in `[low, high)`; read only after its `parents` are."""

    name: str
    low: int
    high: int
    parents: list[Shard]
    lanes: list[Lane]
    closed: bool = False

    @property
    def is_drained(self) -> bool:
        return self.closed and all(lane.is_drained for lane in self.lanes)


def hash_of(key: str) -> int:
    """Where a partition key lies among the shards ("Amazon Kinesis Data Streams terminology and concepts")."""
    return int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")


class Stream:
    """Records by shard, and their delivery to the batch door."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = count(1)
        self._names = count()
        self.shards: list[Shard] = []
        self.by_sequence: dict[str, Sending] = {}
        middle = world.rng.choice([0, HASHES // 2])
        if middle:
            self._add(0, middle, [])
        self._add(middle, HASHES, [])
        self.given_up: dict[str, list[Sending]] = {}
        self._late: list[tuple[float, str, list[Sending]]] = []

    def _add(self, low: int, high: int, parents: list[Shard]) -> None:
        name = f"shardId-{next(self._names):012d}"
        self.shards.append(Shard(name, low, high, parents, [Lane(name) for _ in range(LANES_PER_SHARD)]))

    # --- what comes in ------------------------------------------------------------------

    def accept(self, key: str, data: bytes, cells: Cells) -> Sending:
        """Take a record: it has a number and an arrival from now on, whatever its sender hears."""
        number = next(self._numbers)
        arrival_ms = int(self._world.now_s * 1000) + number  # no two alike
        sending = Sending(str(49_600_000_000_000_000_000 + number), arrival_ms, key, data, cells)
        place = hash_of(key)
        shard = next(one for one in self.shards if not one.closed and one.low <= place < one.high)
        shard.lanes[place % len(shard.lanes)].records.append(sending)
        self.by_sequence[sending.sequence] = sending
        self._world.oracle.send(arrival_ms, cells)
        return sending

    def reshard(self) -> None:
        """An open shard is split, or two neighbours become one; theirs are read to the end first."""
        rng = self._world.rng
        if len(self.shards) >= MOST_SHARDS:
            return
        still_open = sorted((one for one in self.shards if not one.closed), key=lambda one: one.low)
        place = rng.randrange(len(still_open))
        one = still_open[place]
        if rng.random() < 0.5 and place + 1 < len(still_open):
            other = still_open[place + 1]
            one.closed = other.closed = True
            self._add(one.low, other.high, [one, other])
        else:
            middle = rng.randrange(one.low + 1, one.high)
            one.closed = True
            self._add(one.low, middle, [one])
            self._add(middle, one.high, [one])
        self._world.note(f"resharded: {len(self.shards)} shards were or are")

    def change_parallelization(self) -> None:
        """Somebody deploys with another number of batches at once: a shard's records are shared out anew,
        and read again from the lowest that was not done."""
        shard = self._world.rng.choice(self.shards)
        if any(lane.busy for lane in shard.lanes):
            return
        left = [lane.records[lane.position].sequence for lane in shard.lanes if not lane.is_drained]
        records = sorted((one for lane in shard.lanes for one in lane.records), key=lambda one: one.sequence)
        self._outlive(shard)
        first = min(left, default="")
        under_way = [batch for _, _, batch in self._late if batch and batch[0].sequence == first]
        count = self._world.rng.randint(1, 3)
        shard.lanes = [Lane(shard.name) for _ in range(count)]
        for one in records:
            lane = shard.lanes[hash_of(one.key) % count]
            lane.position += not left or one.sequence < first
            lane.records.append(one)
        for batch in under_way[-1:]:  # the new poller's first batch ends where the old one's did
            for lane in shard.lanes:
                if batch[-1] in lane.records and not lane.is_drained:
                    lane.pieces.append((lane.position, lane.records.index(batch[-1]) + 1))
                    self.deliver(lane)
            self.again(shard.name, batch)

    def _outlive(self, shard: Shard) -> None:
        """What the shard's pollers have read, or stored of late, they deliver once more after they are replaced."""
        rng = self._world.rng
        for lane in shard.lanes:
            waiting = lane.records[lane.position : lane.position + rng.randint(2, 6)]
            batches = [waiting] if waiting else []
            batches += [lane.records[start:end] for start, end in lane.stored[-2:]]
            for batch in batches:
                self._late.append((self._world.now_s + rng.choice([100, 100, 1000]), lane.shard, batch))
        del self._late[:-12]

    @property
    def is_late(self) -> bool:
        """Whether a poller that was replaced has something to deliver."""
        return any(at_s <= self._world.now_s for at_s, _, _ in self._late)

    def outlive(self) -> None:
        """A deployment replaces the pollers of every shard."""
        for shard in self.shards:
            self._outlive(shard)

    # --- what goes out ------------------------------------------------------------------

    @property
    def lanes(self) -> list[Lane]:
        """Those that may be read: of shards whose parents are drained."""
        return [
            lane for shard in self.shards for lane in shard.lanes if all(p.is_drained for p in shard.parents)
        ]

    @property
    def is_drained(self) -> bool:
        """Whether every record is stored or given up."""
        return all(lane.is_drained for shard in self.shards for lane in shard.lanes)

    def deliver(self, lane: Lane | None = None) -> None:
        """Lambda hands a batch of a lane over: cut anywhere, at times beginning before the checkpoint."""
        world = self._world
        if lane is None:
            waiting = [one for one in self.lanes if not one.is_drained] or self.lanes
            lane = world.rng.choice(waiting)
        if lane.busy or not lane.records:
            return
        start, end = self._cut(lane)
        batch = lane.records[start:end]
        if not batch:
            return
        lane.busy = True
        ambush_at = world.rng.randint(4, 14) if world.rng.random() < 0.3 else 0
        limit_s = FUNCTION_S if ambush_at else world.rng.choice([FUNCTION_S, 60, 15])
        response = world.act(
            name_of(batch),
            lambda actor: self.store(event_of(lane.shard, batch), actor),
            limit_s,
            ambush_at=ambush_at,
            ambush=world.background.due_meanwhile,
        )
        lane.busy = False
        self._settle(lane, start, end, response)

    def _cut(self, lane: Lane) -> tuple[int, int]:
        """The next batch's bounds: what failed, else any, at times from before the checkpoint on."""
        rng = self._world.rng
        if self._world.calm:
            lane.pieces.clear()
            return lane.position, len(lane.records)
        if lane.pieces and rng.random() < 0.1:
            lane.pieces.clear()  # the poller was replaced: it remembers the checkpoint alone
        if lane.pieces:
            return lane.pieces[0]
        start = max(0, lane.position - rng.choice([0, 0, 0, 0, 1, 4]))
        return start, min(len(lane.records), start + rng.randint(1, 7))

    def _settle(self, lane: Lane, start: int, end: int, response: Mapping[str, Any] | None) -> None:
        """Move the checkpoint by the documented rules, or keep what failed for another attempt."""
        batch = lane.records[start:end]
        failed = start if response is None else start + first_failed(batch, response)
        for one in lane.records[start:failed]:
            self._world.oracle.stored(one.arrival_ms, one.cells)
        lane.position = max(lane.position, failed)
        if lane.pieces:
            lane.pieces.popleft()
        if failed == end:
            lane.stored.append((start, end))
            if self._world.rng.random() < 0.05:
                self._check_repeat(event_of(lane.shard, batch))
            return
        left = lane.records[failed]
        if left.arrival_ms < (self._world.now_s - GIVE_UP_S) * 1000:
            self._give_up(lane, failed, end)
        elif response is None and end - failed > 1 and self._world.rng.random() < 0.5:
            middle = (failed + end) // 2
            lane.pieces.extendleft([(middle, end), (failed, middle)])
        else:
            lane.pieces.appendleft((failed, end))

    def repeat(self) -> None:
        """Some of what was delivered is delivered once more, by a poller that was thought dead and soon is."""
        world = self._world
        rng = world.rng
        late = [entry for entry in self._late if entry[0] <= world.now_s]
        if late:
            entry = rng.choice(late)
            self._late.remove(entry)
            _, shard, batch = entry
        else:
            lane = rng.choice([lane for shard in self.shards for lane in shard.lanes])
            if not lane.position:
                return
            start = rng.randrange(lane.position)
            shard, batch = lane.shard, lane.records[start : min(lane.position, start + rng.randint(1, 5))]
        self.again(shard, batch, kill=0.12)

    def again(self, shard: str, batch: Sequence[Sending], kill: float = 0.02) -> None:
        """A batch is delivered to which nobody listens any more."""
        name = f"again {name_of(batch)}"
        self._world.act(name, lambda actor: self.store(event_of(shard, batch), actor), kill=kill)

    def _check_repeat(self, event: Mapping[str, Any]) -> None:
        """I6: the same batch at once again writes the same items, and no other."""
        world = self._world
        before = set(world.table)
        calm, world.calm = world.calm, True
        periods = [world.layout("store").at(world.now_s + skew_s) for skew_s in (-900, 0, 900)]
        changed = periods[0] != periods[2] or periods[1] != periods[2]
        released = world.now_s - world.operators.fixed_s < FUNCTION_S
        world.act("the same again", lambda actor: self.store(event, actor))
        world.calm = calm
        new = [key for key in world.table if key not in before and key.pk.startswith(CHUNK_PREFIX)]
        assert not new or changed or released, f"I6: a repeated batch wrote other chunks: {new[:3]}"

    def store(self, event: Mapping[str, Any], actor: Actor) -> dict[str, Any]:
        """The batch door's answer to an event."""
        world = self._world
        _, answer = store_readings.respond(
            json.loads(json.dumps(event)),
            world.hot,
            world.registry,
            world.rejects,
            world.layout("store"),
            -int(-world.skewed_s() // 1),
            world.remaining_ms(actor),
            world.codec,
        )
        return answer

    # --- what is given up -----------------------------------------------------------------

    def _give_up(self, lane: Lane, start: int, end: int) -> None:
        """The failure destination takes the batch, payload and all; an operator replays it from there."""
        batch = lane.records[start:end]
        self._world.note(f"given up: {name_of(batch)}")
        lane.position = max(lane.position, end)
        first, last = batch[0], batch[-1]
        document = {
            "requestContext": {
                "requestId": "r",
                "condition": "RecordAgeExceeded",
                "approximateInvokeCount": 9,
            },
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "version": "1.0",
            "timestamp": "2026-11-21T00:00:00.000Z",
            "KinesisBatchInfo": {
                "shardId": lane.shard,
                "startSequenceNumber": first.sequence,
                "endSequenceNumber": last.sequence,
                "approximateArrivalOfFirstRecord": "2026-11-20T22:00:00.000Z",
                "approximateArrivalOfLastRecord": "2026-11-20T22:00:00.000Z",
                "batchSize": len(batch),
                "streamArn": ARN,
            },
            "payload": json.dumps(event_of(lane.shard, batch)),
        }
        name = f"{FAILED_BATCH_PREFIX}mapping/{lane.shard}/2026/11/21/2026-11-21T00.00.00-{len(self.given_up):04d}"
        self.given_up[name] = list(batch)
        self._world.rejected.put(name, json.dumps(document).encode(), {})


def name_of(batch: Sequence[Sending]) -> str:
    """How the history calls a batch."""
    return f"store {batch[0].sequence[-4:]}..{batch[-1].sequence[-4:]}"


def event_of(shard: str, batch: Sequence[Sending]) -> dict[str, Any]:
    """What Lambda hands to the function ("Using AWS Lambda with Amazon Kinesis")."""
    return {
        "Records": [
            {
                "eventID": f"{shard}:{one.sequence}",
                "eventSourceARN": ARN,
                "kinesis": {
                    "sequenceNumber": one.sequence,
                    "data": base64.b64encode(one.data).decode(),
                    "approximateArrivalTimestamp": one.arrival_ms / 1000,
                },
            }
            for one in batch
        ]
    }


def first_failed(batch: Sequence[Sending], response: Mapping[str, Any]) -> int:
    """Where the batch goes on, by the lowest number that was reported ("Configuring partial batch response
    with Kinesis Data Streams and Lambda"): its length where nothing was."""
    reported = [entry["itemIdentifier"] for entry in response["batchItemFailures"]]
    sequences = [one.sequence for one in batch]
    return min((sequences.index(one) if one in sequences else 0 for one in reported), default=len(batch))
