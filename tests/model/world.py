"""The whole pipeline in one thread under one seed: the real doors and use cases, a stream, a table's TTL,
S3's events, clocks that only move here, and faults at every store call."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Any

from infra import deploy
from ingest import keys, query
from ingest import segment as segment_format
from ingest.archive import Archived, Stack
from ingest.chunk import decode_item
from ingest.errors import Unavailable
from ingest.keys import DAY_S, US, Key, Layout, Period
from ingest.manifest import decode_manifest
from ingest.plan import Query, Tier
from ingest.query import Sources
from ingest.reading import Run, Span, Value, merge
from ingest.stores.rejects import S3RejectStore
from ingest.wire_encode import encode_reading, encode_run
from lambdas import archive_expired, index_segment, store_readings
from tests.model.faults import Faults, FaultyCatalog, FaultyCold, FaultyHot, FaultyRegistry, Killed
from tests.model.oracle import Oracle, Sent, cells_of

START_S = 1_795_212_000
"""2026-11-20T22:00:00Z."""
STREAM = "arn:aws:kinesis:eu-central-1:000000000000:stream/readings"
HOUR_S = 3600
FUNCTION_S = 900
GIVE_UP_S = 5 * HOUR_S
"""A record this old goes to the failure destination."""
STEPS = 170
PATIENCE_S = 2 * HOUR_S
"""How long a reader may take: the plan leaves it half of the margin."""
LAYOUTS = [
    (HOUR_S, 2 * HOUR_S, 9 * HOUR_S),
    (HOUR_S, 1 * HOUR_S, 6 * HOUR_S),
    (900, 2 * HOUR_S, 7 * HOUR_S),
    (6 * HOUR_S, 3 * HOUR_S, 14 * HOUR_S),
]
"""Bucket, archive-after, hot retention: days in small."""
BAD = [
    b"",
    b"\xff\xfe",
    b"{",
    b'{"sensor_id":"../x","ts":1,"metrics":{"a":1}}',
    b"\xf3\x89\x9a\xc2" + b"x" * 40,
]


@dataclass(slots=True)
class Sending:
    """One record in the stream."""

    sequence: str
    arrival_ms: int
    data: bytes
    cells: Sent


@dataclass(slots=True)
class Lane:
    """What one partition key holds; `position` is the checkpoint. Never two batches at a time."""

    shard: str
    records: list[Sending] = field(default_factory=list[Sending])
    position: int = 0
    busy: bool = False
    failed: tuple[int, int] | None = None


@dataclass(slots=True)
class Actor:
    """A call of a function that is under way; at call number `ambush` the worst happens around it."""

    name: str
    deadline_s: float
    hazard: float
    ambush: int = 0


class World:
    """One deployment and everything around it. `calm` switches faults and interruptions off."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.now_s = float(START_S)
        self.calm = False
        self.history: list[str] = []
        self.oracle = Oracle()
        self.faults = Faults(self)
        self.hot = FaultyHot(self.faults)
        self.catalog = FaultyCatalog(self.faults)
        self.cold = FaultyCold(self.faults, self._clock, self._created)
        self.registry = FaultyRegistry(self.faults)
        self.reject_objects = FaultyCold(self.faults, self._clock, lambda _: None)
        self.rejects = S3RejectStore(self.reject_objects)
        self.lanes = [Lane(f"shardId-{n // 2:012d}") for n in range(4)]
        self.sensors = {f"sensor-{n}": self.lanes[n % 4] for n in range(6)}
        self.removals: list[tuple[float, str]] = []
        self.created: list[tuple[float, str]] = []
        self.lost: list[Key] = []
        self.bad: set[str] = set()
        self.readings = 0
        self.queries = 0
        self._rate = self.rng.choice([0.04, 0.1, 0.25])
        self._actors: list[Actor] = []
        self._numbers = count(1)
        self._layouts: dict[str, tuple[float, Layout]] = {}
        self._never: dict[Key, bool] = {}
        self._archived: dict[str, set[tuple[str, int, str]]] = {}
        self._archiving = False
        self._just_left: tuple[str, int] | None = None
        self._archiver_down = self.rng.random() < 0.5
        deploy._ensure_layout(self.hot, self._period(), START_S - HOUR_S, self.note)

    # --- running ----------------------------------------------------------------------

    def run(self) -> None:
        """Everything at once for a day or two, then no more faults, and then the truth."""
        for _ in range(STEPS):
            self.step()
            self.now_s += self.rng.choice([1, 20, 120, 600, 1800])
        self.settle()

    def step(self) -> None:
        """One thing that happens."""
        actions: list[tuple[int, Callable[[], object]]] = [
            (24, self.send),
            (28, self.deliver),
            (20, self.remove_expired),
            (6, self.deliver_removals),
            (5, self.schedule),
            (5, self.deliver_created),
            (22, self.ask),
            (2, self.latest),
            (2, self.change_layout),
        ]
        self.rng.choices([do for _, do in actions], [weight for weight, _ in actions])[0]()
        self._before_it_is_too_late()
        if self._archiver_down and self.rng.random() < 0.2:
            self.ask()

    def settle(self) -> None:
        """Faults stop: everything drains in bounded time, and every answer is whole, from both tiers."""
        self.calm = True
        self.note("--- calm ---")
        for _ in range(80):
            for lane in self.lanes:
                self.deliver(lane)
            self.deliver_removals()
            self.deliver_created()
            self.schedule()
            self.remove_expired()
            self.now_s += 1200
        left = sorted(key for key in self.hot.items if key.pk[0] in "msto")
        assert not left, f"did not drain: {left[:5]}"
        assert all(lane.position == len(lane.records) for lane in self.lanes), "the stream did not drain"
        assert not self.lost, f"recorded as lost: {self.lost}"
        everything = Span(START_S * US - 9 * DAY_S * US, int(self.now_s + DAY_S) * US)
        for sensor_id in sorted(self.oracle.sent):
            for tier in ("auto", "cold"):
                asked = Query(sensor_id, everything, tier=tier)
                due = self.oracle.due(sensor_id)
                self.oracle.check(asked, due, query.answer(asked, self._sources("cli"), self.now_s).run)
            assert not self.oracle.least.get(sensor_id) or self.registry.get(sensor_id) is not None
        kept = {reject.sequence for reject in self.rejects.list("2026-11-19", "2026-12-05")}
        assert self.bad <= kept, f"I1: neither stored nor rejected: {self.bad - kept}"

    # --- time and faults --------------------------------------------------------------

    def between(self) -> None:
        """Around a store call: time passes, at times others act meanwhile, and functions time out."""
        if self.calm or not self._actors:
            return
        self.now_s += self.rng.choice([0, 0, 0.01, 0.2, 3])
        actor = self._actors[-1]
        actor.ambush -= 1
        if actor.ambush == 0:
            self._last_moment(actor.deadline_s)
        elif len(self._actors) < 3 and self.rng.random() < 0.06:
            self.now_s += self.rng.choice([0, 5, 60, 400])
            self.step()
        if self.now_s >= self._actors[-1].deadline_s:
            raise Killed("timed out")

    def hazard(self) -> float:
        """How likely the present call is to go wrong."""
        return 0.0 if self.calm or not self._actors else self._actors[-1].hazard

    def act(self, name: str, do: Callable[[Actor], Any], limit_s: float = FUNCTION_S, ambush: int = 0) -> Any:
        """Call a function as Lambda does; None where it failed, died or ran out of time."""
        actor = Actor(name, self.now_s + limit_s, self._rate / (4 if limit_s > FUNCTION_S else 1), ambush)
        self._actors.append(actor)
        try:
            done = do(actor)
        except (Unavailable, Killed) as error:
            self.note(f"{name}: {type(error).__name__} {error}")
            return None
        else:
            self.note(f"{name}: done")
            return done
        finally:
            self._actors.pop()

    def note(self, text: str) -> None:
        """Add a line to the history."""
        self.history.append(f"{self.now_s - START_S:10.2f} {'  ' * len(self._actors)}{text}")

    def _clock(self) -> float:
        return self.now_s

    def _skewed(self) -> float:
        return self.now_s if self.calm else self.now_s + self.rng.uniform(-20, 20)

    def _remaining_ms(self, actor: Actor) -> Callable[[], int]:
        return lambda: max(0, int((actor.deadline_s - self.now_s) * 1000))

    def _layout(self, door: str) -> Layout:
        """The layout as a door knows it: at most 30 s old."""
        known = self._layouts.get(door)
        if known is None or self.now_s - known[0] >= 30:
            found = self.hot.load_layout()
            assert found is not None
            known = self._layouts[door] = (self.now_s, found)
        return known[1]

    def _sources(self, door: str) -> Sources:
        return Sources(self.hot, self.catalog, self.cold, self._layout(door), self._clock)

    def _period(self) -> Period:
        bucket_s, archive_after_s, hot_s = self.rng.choice(LAYOUTS)
        return Period(0, bucket_s, archive_after_s, hot_s, 900 * DAY_S)

    def change_layout(self) -> None:
        """Somebody deploys with other widths and retentions."""
        if self.rng.random() < 0.5:
            deploy._ensure_layout(self.hot, self._period(), int(self.now_s) + deploy.LAYOUT_LEAD_S, self.note)

    # --- the stream -------------------------------------------------------------------

    def send(self) -> None:
        """A producer sends: news, late readings, corrections of what it sent, the same again, rubbish."""
        sensor_id = self.rng.choice(list(self.sensors))
        lane = self.sensors[sensor_id]
        chance = self.rng.random()
        if chance < 0.05:
            self._accept(lane, self.rng.choice(BAD), (), bad=True)
        elif chance < 0.2 and lane.records:
            again = self.rng.choice(lane.records[-6:])
            if again.cells:
                self._accept(lane, again.data, again.cells)
        elif chance < 0.4 and self.oracle.sent.get(sensor_id):
            self._send(lane, self._corrections(sensor_id))
        else:
            self._send(lane, [run for name in self._companions(sensor_id) for run in [self._news(name)]])

    def _companions(self, sensor_id: str) -> list[str]:
        same = [name for name, lane in self.sensors.items() if lane is self.sensors[sensor_id]]
        return same if self.rng.random() < 0.3 else [sensor_id]

    def _news(self, sensor_id: str) -> Run:
        behind_s = self.rng.choice([0, 0, 0, 60, 2 * HOUR_S, 11 * HOUR_S, 2 * DAY_S, -HOUR_S])
        step_us = self.rng.choice([US, 60 * US, 700 * US])
        first_us = int(self.now_s - behind_s) * US
        times = [first_us + i * step_us for i in range(self.rng.randint(1, 7))]
        metrics: dict[str, list[Value | None]] = {"a": [self._value() for _ in times]}
        if self.rng.random() < 0.3:
            metrics["b"] = [self._value() if self.rng.random() < 0.7 else None for _ in times]
        return Run(sensor_id, times, metrics, 0)

    def _value(self) -> Value:
        rng = self.rng
        return rng.choice([rng.randint(-9, 9), rng.uniform(-9, 9), 2**60 + rng.randint(0, 9), True, "on"])

    def _corrections(self, sensor_id: str) -> list[Run]:
        cells = self.rng.sample(sorted(self.oracle.sent[sensor_id]), 1)
        return [Run(sensor_id, [ts_us], {metric: [self._value()]}, 0) for ts_us, metric in cells]

    def _send(self, lane: Lane, runs: list[Run]) -> None:
        cells: Sent = tuple(
            (run.sensor_id, ts_us, name, value)
            for run in runs
            for name, column in run.metrics.items()
            for ts_us, value in zip(run.ts_us, column, strict=True)
            if value is not None
        )
        if self.rng.random() < 0.5:
            data = b"\n".join(map(encode_run, runs))
        else:
            data = b"\n".join(encode_reading(name, ts_us, {metric: v}) for name, ts_us, metric, v in cells)
        self._accept(lane, data, cells)

    def _accept(self, lane: Lane, data: bytes, cells: Sent, *, bad: bool = False) -> None:
        number = next(self._numbers)
        arrival_ms = int(self.now_s * 1000) + number
        sending = Sending(str(49_600_000_000_000_000_000 + number), arrival_ms, data, cells)
        lane.records.append(sending)
        self.oracle.send(arrival_ms, cells)
        self.readings += len({(name, ts_us) for name, ts_us, _, _ in cells})
        if bad:
            self.bad.add(sending.sequence)

    def deliver(self, lane: Lane | None = None) -> None:
        """Lambda hands a batch of a lane over: cut anywhere, at times beginning before the checkpoint."""
        lane = lane or self.rng.choice(self.lanes)
        if lane.busy or not lane.records:
            return
        start, end = self._cut(lane)
        batch = lane.records[start:end]
        if not batch:
            return
        lane.busy = True
        limit_s = self.rng.choice([FUNCTION_S, 30, 8])
        name = f"store {batch[0].sequence[-4:]}..{batch[-1].sequence[-4:]}"
        stored = self.act(name, lambda actor: self._store(lane.shard, batch, actor), limit_s)
        lane.busy = False
        lane.failed = (start, end) if stored is None else None
        if stored is not None:
            failed = [one.sequence for one in batch].index(stored) if stored else len(batch)
            for one in batch[:failed]:
                self.oracle.stored(one.arrival_ms, one.cells)
            lane.position = max(lane.position, start + failed)
        elif batch[0].arrival_ms < (self.now_s - GIVE_UP_S) * 1000 and lane.position < end:
            self._give_up(lane, lane.records[lane.position : end])
            lane.position = end

    def _cut(self, lane: Lane) -> tuple[int, int]:
        """The next batch's bounds: after a failure often the same, else any, at times what was done before."""
        if self.calm:
            return lane.position, len(lane.records)
        if lane.failed is not None and self.rng.random() < 0.6:
            return lane.failed
        start = max(0, lane.position - self.rng.choice([0, 0, 0, 0, 2, 5]))
        return start, min(len(lane.records), start + self.rng.randint(1, 9))

    def _store(self, shard: str, batch: list[Sending], actor: Actor) -> str:
        """The first sequence number that was not stored; empty where all is."""
        event = {
            "Records": [
                {
                    "eventID": f"{shard}:{one.sequence}",
                    "eventSourceARN": STREAM,
                    "kinesis": {
                        "sequenceNumber": one.sequence,
                        "data": base64.b64encode(one.data).decode(),
                        "approximateArrivalTimestamp": one.arrival_ms / 1000,
                    },
                }
                for one in batch
            ]
        }
        now_s = -int(-self._skewed() // 1)
        done = store_readings.handle(
            json.loads(json.dumps(event)),
            self.hot,
            self.registry,
            self.rejects,
            self._layout("store"),
            now_s,
            self._remaining_ms(actor),
        )
        return done.failed_sequence or ""

    def _give_up(self, lane: Lane, batch: list[Sending]) -> None:
        """The failure destination takes it; sometimes it is sent again from there."""
        self.note(f"given up: {batch[0].sequence[-4:]}..{batch[-1].sequence[-4:]}")
        self.bad -= {one.sequence for one in batch}
        for one in batch:
            if one.cells and self.rng.random() < 0.5:
                self._accept(lane, one.data, one.cells)

    # --- archive, index, TTL ----------------------------------------------------------

    def _archive(self, name: str, event: dict[str, Any], limit_s: float) -> Archived | None:
        def archive(actor: Actor) -> Archived:
            stack = Stack(
                hot=self.hot,
                cold=self.cold,
                catalog=self.catalog,
                layout=self._layout("archive"),
                now_s=int(self._skewed()),
                grace_s=FUNCTION_S,
                remaining_ms=self._remaining_ms(actor),
            )
            done = archive_expired.handle(event, stack)
            self.lost.extend(done.lost)
            if done.failed is not None:
                raise done.failed
            return done

        return self.act(name, archive, limit_s)

    def schedule(self) -> None:
        """EventBridge's call."""
        if self._archiver_down and not self.calm:
            return
        limit_s = self.rng.choice([FUNCTION_S, 60, 15])
        self._archive("schedule", {"source": archive_expired.SCHEDULE_SOURCE}, limit_s)

    def _before_it_is_too_late(self) -> None:
        """Faults end before the margin does: somebody has heard the alarm."""
        layout = self.hot.load_layout()
        if self.calm or layout is None:
            return
        margin_s = min(period.margin_s for period in layout.periods)
        manifests = [key.pk for key in self.hot.items if key.pk.startswith(keys.MANIFEST_PREFIX)]
        due_s = min((int(pk.removeprefix(keys.MANIFEST_PREFIX)) for pk in manifests), default=1 << 60)
        if self.now_s - due_s > 0.8 * margin_s:
            self._archive_calmly()

    def _archive_calmly(self) -> None:
        self.note("--- mended ---")
        self.calm = True
        event = {"source": archive_expired.SCHEDULE_SOURCE, "until_s": int(self.now_s)}
        self._archive("schedule", event, FUNCTION_S)
        self.calm = False

    def _last_moment(self, deadline_s: float) -> None:
        """What is due is archived, and expires soon after, while somebody reads."""
        next_s, _, _ = self._next_to_leave()
        self._archive_calmly()
        if next_s < deadline_s - 60:
            self.now_s = max(self.now_s, next_s + 1.0)
        self.remove_expired()

    def deliver_removals(self) -> None:
        """The table's stream, one batch at a time; a failed one is repeated, later."""
        due = [entry for entry in sorted(self.removals) if entry[0] <= self.now_s][:3]
        if not due or self._archiving or (self._archiver_down and not self.calm):
            return
        self._archiving = True
        records = [
            {"eventName": "REMOVE", "dynamodb": {"Keys": {"pk": {"S": pk}, "sk": {"S": "t"}}}}
            for _, pk in due
        ]
        done = self._archive(f"archive {[pk for _, pk in due]}", {"Records": records}, FUNCTION_S)
        self._archiving = False
        if done is not None:
            for entry in due:
                self.removals.remove(entry)

    def remove_expired(self) -> None:
        """DynamoDB's TTL: some time after it is past, some sooner than others, some hardly ever."""
        for key, item in list(self.hot.items.items()):
            if "ttl" not in item or _ttl(item) > self.now_s:
                continue
            slow = self._never.setdefault(key, self.rng.random() < 0.15)
            if not self.calm and (slow or self.rng.random() < 0.3):
                continue
            if key.pk.startswith(keys.CHUNK_PREFIX):
                self._just_left = self._check_archived(key)
            self.note(f"expired {key.pk} {key.sk}")
            del self.hot.items[key]
            if key.pk.startswith(keys.TICKET_PREFIX) and self.rng.random() < 0.85:
                for _ in range(self.rng.choice([1, 1, 1, 2])):
                    self.removals.append((self.now_s + self.rng.choice([1, 30, 2000, 20_000]), key.pk))

    def _check_archived(self, key: Key) -> tuple[str, int]:
        """I4: everything in the chunk is in segments that the catalog names. Its sensor and start."""
        chunk = decode_item(self.hot.items[key]).run
        cells = {(chunk.sensor_id, *cell) for cell in cells_of(chunk)}
        for entry in self.catalog.items.values():
            cells -= self._cells_of_segment(str(entry["name"]["S"]))
        assert not cells, f"I4: {key} expired, and {len(cells)} of its values are not archived"
        return chunk.sensor_id, chunk.ts_us[0]

    def _cells_of_segment(self, name: str) -> set[tuple[str, int, str]]:
        data, head = self.cold.objects[name]
        known = self._archived.get(head.etag)
        if known is None:
            runs = segment_format.decode(data)
            known = {(run.sensor_id, *cell) for run in runs for cell in cells_of(run)}
            self._archived[head.etag] = known
        return known

    def _created(self, name: str) -> None:
        """S3 tells of an object: late, twice, or never."""
        for _ in range(self.rng.choice([0, 1, 1, 2])):
            self.created.append((self.now_s + self.rng.choice([1, 10, 5000]), name))

    def deliver_created(self) -> None:
        """S3's events, in any order."""
        due = [entry for entry in self.created if entry[0] <= self.now_s][:4]
        if not due:
            return
        self.created = [entry for entry in self.created if entry not in due]
        event = {"Records": [{"s3": {"object": {"key": name.replace("=", "%3D")}}} for _, name in due]}
        self.act(
            "index",
            lambda _: index_segment.handle(event, self.cold, self.catalog, self._layout("index")),
        )

    # --- queries ----------------------------------------------------------------------

    def ask(self) -> None:
        """A query: what is about to expire or just did, or anything; whole or in pages; both tiers or one."""
        rng = self.rng
        expires_s, leaving, first_us = self._next_to_leave()
        at_risk = self._archiver_down and expires_s < self.now_s + PATIENCE_S - 60
        if at_risk:
            sensor_id, span = leaving, Span(first_us, first_us + DAY_S * US)
        elif self._just_left is not None and rng.random() < 0.5:
            sensor_id, first_us = self._just_left
            span = Span(first_us, first_us + DAY_S * US)
            self._just_left = None
        else:
            sensor_id = rng.choice(list(self.sensors))
            start_us = int(self.now_s - rng.choice([HOUR_S, 5 * HOUR_S, 12 * HOUR_S, 4 * DAY_S])) * US
            span = Span(start_us, start_us + rng.choice([HOUR_S, 8 * HOUR_S, 5 * DAY_S]) * US)
            known = sorted(self.oracle.sent.get(sensor_id, ()))
            if known and rng.random() < 0.3:
                span = Span(*sorted([rng.choice(known)[0], rng.choice(known)[0]]))
        tiers: tuple[Tier, ...] = ("auto", "auto", "auto", "auto", "hot", "cold")
        limit = rng.choice([None, None, 1, 7])
        asked = Query(sensor_id, span, rng.choice([(), (), ("a",)]), tier=rng.choice(tiers), limit=limit)
        due = self.oracle.due(sensor_id)
        ambush = rng.randint(1, 4) if at_risk else 0
        answered = self.act(f"query {asked}", lambda _: self._pages(asked), PATIENCE_S, ambush)
        if answered is not None:
            self.queries += 1
            self.oracle.check(asked, due, answered[0], whole=asked.tier == "auto")

    def _next_to_leave(self) -> tuple[float, str, int]:
        """Of the chunks that are not archived yet, the one that expires next: when, whose, and its start."""
        manifests = [item for key, item in self.hot.items.items() if key.pk.startswith(keys.MANIFEST_PREFIX)]
        named = {key for item in manifests for key in decode_manifest(item).chunks if key in self.hot.items}
        chunks = [decode_item(self.hot.items[key]) for key in named]
        leaving = [(float(one.expires_at_s), one.run.sensor_id, one.run.ts_us[0]) for one in chunks]
        return min((one for one in leaving if one[0] > self.now_s), default=(float("inf"), "", 0))

    def _pages(self, asked: Query) -> tuple[Run | None]:
        """Every page of the answer as one run, in a tuple."""
        runs: list[Run] = []
        while True:
            found = query.answer(asked, self._sources("query"), self._skewed())
            if found.run is not None:
                assert asked.limit is None or len(found.run.ts_us) <= asked.limit
                assert not runs or runs[-1].ts_us[-1] < found.run.ts_us[0], "I7: a page goes back"
                runs.append(found.run)
            if found.next_us is None:
                return (merge(runs) if runs else None,)
            asked = replace(asked, span=Span(found.next_us, asked.span.end_us))

    def latest(self) -> None:
        """The newest reading of a sensor is as new as any that has to be there."""
        sensor_id = self.rng.choice(list(self.sensors))
        due = self.oracle.due(sensor_id)
        answered = self.act(
            f"latest {sensor_id}",
            lambda _: (query.latest(sensor_id, self._sources("query"), self._skewed()),),
        )
        if answered is not None and due:
            (run,) = answered
            assert run is not None, "I1: latest finds nothing"
            newest_us = max(ts_us for ts_us, _ in due)
            assert run.ts_us[0] >= newest_us, "I1: latest is older than what is stored"
            span = Span(run.ts_us[0], run.ts_us[0] + 1)
            self.oracle.check(Query(sensor_id, span), due, run)


def _ttl(item: Any) -> int:
    return int(item["ttl"]["N"])
