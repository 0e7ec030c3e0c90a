"""The flows outside of the doors whose crash points are tried: the local TTL clock and the publisher."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, cast

from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError

from infra.local.faults import SERVICE_FAULTS
from infra.local.invoker import Answer
from infra.local.ttl_clock import ClockOptions, TtlClock
from ingest import keys
from ingest.errors import ThermoclineError, Unavailable
from ingest.keys import Key
from ingest.kinesis_records import user_records
from ingest.reading import Run, Value
from ingest.wire import decode_all
from sensors.publisher import Publisher
from tests.model.crash import Flow, Gate, Open, Through
from tests.model.crash_flows import before_the_batch, check, nothing, store_batch
from tests.model.crash_world import Courses, Deployment, removes
from tests.world import GRACE_S, NOW_S, record

# --- expire: the local TTL clock ----------------------------------------------------------


class Table:
    """As much of a DynamoDB client as the clock uses, over the items in memory; removed tickets are noted."""

    def __init__(self, world: Deployment, gate: Gate) -> None:
        self._items = world.hot.items
        self._gate = gate
        self.removed: list[int] = []

    def scan(self, *, Limit: int, ExclusiveStartKey: Any = None, **_: Any) -> dict[str, Any]:  # noqa: N803
        """The next items in order of their keys."""
        after = _key(ExclusiveStartKey) if ExclusiveStartKey else None
        left = sorted(key for key in self._items if after is None or key > after)
        page: dict[str, Any] = {"Items": [self._items[key] for key in left[:Limit]]}
        if len(left) > Limit:
            page["LastEvaluatedKey"] = {"pk": {"S": left[Limit - 1].pk}, "sk": {"S": left[Limit - 1].sk}}
        return self._call("scan", lambda: page)

    def transact_write_items(self, *, TransactItems: Sequence[Any]) -> None:  # noqa: N803
        """Deletes on condition of `ttl`: all or none."""

        def write() -> None:
            deletes = [one["Delete"] for one in TransactItems]
            refused = [not self._is_past(one) for one in deletes]
            if any(refused):
                reasons = [{"Code": "ConditionalCheckFailed" if bad else "None"} for bad in refused]
                raise ClientError(
                    cast(
                        Any,
                        {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons},
                    ),
                    "TransactWriteItems",
                )
            for one in deletes:
                key = _key(one["Key"])
                del self._items[key]
                slot_s = keys.parse_ticket(key.pk)
                self.removed.extend([] if slot_s is None else [slot_s])

        self._call("transact_write_items", write)

    def _is_past(self, delete: Mapping[str, Any]) -> bool:
        item = self._items.get(_key(delete["Key"]))
        now_s = int(delete["ExpressionAttributeValues"][":now"]["N"])
        return item is not None and "ttl" in item and int(str(item["ttl"]["N"])) <= now_s

    def _call(self, name: str, do: Callable[[], Any]) -> Any:
        try:
            return self._gate.call(name, [None], lambda _: do())
        except Unavailable as error:
            raise EndpointConnectionError(endpoint_url="http://localhost") from error


class Inline:
    """A pool that does what it is given at once; and an event that nobody waits for."""

    def submit(self, do: Callable[..., Any], *given: Any) -> Future[Any]:
        """Do it."""
        done: Future[Any] = Future()
        done.set_result(do(*given))
        return done

    def wait(self, _: float) -> bool:
        """Not stopping."""
        return False

    def is_set(self) -> bool:
        """Not stopping."""
        return False


@dataclass(slots=True)
class Clock:
    """The local stack's clock over a deployment, and the event source that brings REMOVEs to the archiver."""

    world: Deployment
    gate: Gate
    delivers: bool = True
    table: Table = field(init=False)
    clock: TtlClock = field(init=False)

    def __post_init__(self) -> None:
        """Put a clock together that uses no thread."""
        self.table = Table(self.world, self.gate)
        hot: Any = Through(self.world.hot, self.gate)
        options = ClockOptions(grace_s=GRACE_S, sweep_items=4, full_sweep_items=5, stuck_limit_s=2 * GRACE_S)
        self.clock = TtlClock(
            hot,
            self.table,
            "table",
            self.archive,
            drain=self.drain,
            idle=lambda: True,
            options=options,
            clock=lambda: self.world.now_s,
        )
        inline: Any = Inline()
        self.clock._pool.shutdown()
        self.clock._pool = self.clock._stopping = inline

    def archive(self, event: bytes) -> Answer:
        """Invoke the archiver."""
        try:
            self.world.archive(json.loads(event), self.gate)
        except ThermoclineError as error:
            return Answer(reached=True, function_error="Unhandled", reason=str(error))
        return Answer(reached=True)

    def drain(self) -> None:
        """Bring the archiver what the table's stream holds."""
        removed, self.table.removed = self.table.removed, []
        if removed and self.delivers:
            self.world.archive(removes(removed))


def run_ahead(world: Deployment, gate: Gate) -> None:
    """`thermocline expire` with a time after the last expiry."""
    try:
        Clock(world, gate).clock.run_at(world.last_ttl(), lambda _: None)
    except SERVICE_FAULTS as error:
        raise Unavailable(str(error)) from error


def all_gone(world: Deployment) -> None:
    """Nothing of the readings is in the hot tier."""
    assert not world.held(keys.CHUNK_PREFIX)
    assert not world.tickets()


def expire_ahead() -> Flow[Deployment]:
    """The clock runs as if it were later: tickets, then what waits to be archived, then chunks."""
    courses = Courses()

    def start() -> Deployment:
        world = before_the_batch()
        store_batch(world, Open())
        world.truth.stored([])
        return world

    def again(world: Deployment) -> None:
        run_ahead(world, Open())
        all_gone(world)
        world.check()
        courses.settle(world)

    recoveries = {"it is run again": again, "it is not": lambda world: courses.settle(world, tickets=False)}
    return Flow("expire ahead", start, run_ahead, all_gone, check, recoveries)


def ticking(world: Deployment, gate: Gate) -> None:
    """The clock's seconds around the two times at which something is due; a failed tick is missed."""
    clock = Clock(world, gate, delivers=False)
    for now_s, ticks in ((world.now_s, 3), (world.last_ttl(), 5)):
        world.now_s = now_s
        for _ in range(ticks):
            try:
                clock.clock.tick()
            except (*SERVICE_FAULTS, ThermoclineError):
                pass
            world.check()
            world.now_s += 3


def expire_by_ticks() -> Flow[Deployment]:
    """The clock ticks, and no REMOVE arrives: it asks the archiver itself, and sweeps what is archived."""
    courses = Courses()

    def start() -> Deployment:
        world = before_the_batch()
        store_batch(world, Open())
        world.now_s = max(world.tickets())
        return world

    def again(world: Deployment) -> None:
        ticking(world, Open())
        all_gone(world)
        courses.settle(world)

    recoveries = {"it ticks again": again, "it is gone": lambda world: courses.settle(world, tickets=False)}
    return Flow("expire by ticks", start, ticking, nothing, check, recoveries)


def _key(item: Mapping[str, Any]) -> Key:
    return Key(str(item["pk"]["S"]), str(item["sk"]["S"]))


# --- publish ------------------------------------------------------------------------------

TO_SEND = [
    Run("s0", [NOW_S * 1_000_000], {"a": [1.5]}, 0),
    Run("s5", [NOW_S * 1_000_000], {"a": [2.5]}, 0),
    Run("s0", [NOW_S * 1_000_000], {"a": [3.5]}, 0),
    Run("s5", [NOW_S * 1_000_000 + 1], {"a": [4.5]}, 0),
]
"""Two runs of each of two sensors; the second of s0 corrects the first."""


@dataclass(slots=True)
class Sender:
    """A caller of the publisher, and the stream. `by_code`: a call that is refused whole says so per record."""

    by_code: bool = False
    stream: list[bytes] = field(default_factory=list[bytes])
    acknowledged: list[int] = field(default_factory=list[int])

    def copy(self) -> Sender:
        """The same over again."""
        return Sender(self.by_code, list(self.stream), list(self.acknowledged))

    def state(self) -> str:
        """All there is."""
        return repr((self.stream, self.acknowledged))

    def runs(self) -> list[Run]:
        """The runs in the stream, in order."""
        payloads = [payload for data in self.stream for payload in user_records(data)[0]]
        return decode_all(payloads, NOW_S * 1000)[0]

    def check(self) -> None:
        """What was acknowledged is in the stream; nothing was acknowledged twice."""
        there = [_content(run) for run in self.runs()]
        assert len(set(self.acknowledged)) == len(self.acknowledged), "acknowledged twice"
        missing = [place for place in self.acknowledged if _content(TO_SEND[place]) not in there]
        assert not missing, f"I1: acknowledged and not accepted: {missing}"


class Stream:
    """A Kinesis client: what is partly refused has an ErrorCode per record, the rest fails as a call."""

    def __init__(self, sender: Sender, gate: Gate) -> None:
        self._sender = sender
        self._gate = gate

    def put_records(self, *, StreamName: str, Records: Sequence[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Accept the records, or what the gate lets through."""
        del StreamName
        accepted: list[int] = []

        def accept(some: Sequence[dict[str, Any]]) -> None:
            accepted.extend(map(id, some))
            self._sender.stream.extend(one["Data"] for one in some)

        try:
            self._gate.call("put_records", Records, accept)
        except Unavailable as error:
            if len(accepted) == len(Records):
                raise ReadTimeoutError(endpoint_url="http://localhost") from error
            if not accepted and not self._sender.by_code:
                code: Any = {"Error": {"Code": "ProvisionedThroughputExceededException"}}
                raise ClientError(code, "PutRecords") from error
        refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}
        answers = [{"SequenceNumber": "1"} if id(one) in accepted else refused for one in Records]
        return {"FailedRecordCount": len(Records) - len(accepted), "Records": answers}


def publish_rest(sender: Sender, gate: Gate) -> None:
    """Send in order what was not acknowledged."""
    publisher = Publisher(
        Stream(sender, gate), "stream", lanes=2, now=lambda: 0.0, sleep=lambda _: None, random=lambda: 0.0
    )
    for place, run in enumerate(TO_SEND):
        if place not in sender.acknowledged:
            publisher.submit(run, lambda _, place=place: sender.acknowledged.append(place))
    publisher.flush()
    assert not publisher.pending()


def all_accepted(sender: Sender) -> None:
    """Everything is acknowledged; read in order of the stream, the last value of each cell is the right one."""
    assert sorted(sender.acknowledged) == list(range(len(TO_SEND)))
    found: dict[tuple[str, int, str], Value | None] = {}
    for run in sender.runs():
        found.update(_content(run))
    wanted: dict[tuple[str, int, str], Value | None] = {}
    for run in TO_SEND:
        wanted.update(_content(run))
    assert found == wanted, f"I1/I2: the stream leads to {found}"


def publish(*, by_code: bool) -> Flow[Sender]:
    """The publisher, whose caller sends again what was not acknowledged."""

    def resend(sender: Sender) -> None:
        publish_rest(sender, Open())
        all_accepted(sender)
        world = Deployment()
        world.acknowledged(
            *(record(place, data, NOW_S * 1000 + place) for place, data in enumerate(sender.stream))
        )
        world.check()

    return Flow(
        "publish",
        lambda: Sender(by_code),
        publish_rest,
        all_accepted,
        Sender.check,
        {"the rest is sent again": resend},
    )


def _content(run: Run) -> tuple[tuple[tuple[str, int, str], Value | None], ...]:
    return tuple(((run.sensor_id, run.ts_us[0], name), column[0]) for name, column in run.metrics.items())
