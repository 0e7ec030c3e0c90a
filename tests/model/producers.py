"""What sends in the simulation: the real publisher, and the real gateway behind a broker that keeps what is
not acknowledged; both die and come back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError, EndpointConnectionError

from ingest.kinesis_records import user_records
from ingest.reading import Run
from ingest.wire import decode_all
from ingest.wire_encode import encode_reading, encode_run
from sensors.gathering import Message
from sensors.mqtt_client import Broker
from sensors.mqtt_gateway import Gateway, Settings
from sensors.publisher import Publisher
from sensors.topics import parse_topics
from tests.model.faults import FAILED, KILLED_AFTER, KILLED_BEFORE, Killed
from tests.model.oracle import Cells
from tests.model.stream import Sending

if TYPE_CHECKING:
    from tests.model.world import World

PARTITION_KEYS = 6
PUBLISH = "publish"
PRODUCER_S = 300


def cells_sent(runs: Sequence[Run]) -> Cells:
    """Every value of the runs."""
    return tuple(
        (run.sensor_id, ts_us, name, value)
        for run in runs
        for name, column in run.metrics.items()
        for ts_us, value in zip(run.ts_us, column, strict=True)
        if value is not None
    )


@dataclass(slots=True)
class Submitted:
    """A user record that its sender holds until Kinesis has accepted it."""

    sensor_id: str
    payload: bytes
    cells: Cells
    bad: bool
    later: bool


class FakeKinesis:
    """PutRecords: refused whole or record by record, its reply lost, or the end of its caller."""

    def __init__(self, world: World, contents: Callable[[bytes], list[Submitted]]) -> None:
        self._world = world
        self._contents = contents

    def put_records(self, StreamName: str, Records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """One call, sent once: the publisher itself is what repeats it."""
        del StreamName
        world = self._world
        world.between()
        fate = world.faults.fate(PUBLISH)
        if fate == KILLED_BEFORE:
            raise Killed(f"before: {PUBLISH}")
        if fate == FAILED:
            error = {"Error": {"Code": "InternalFailure"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
            raise ClientError(cast(Any, error), "PutRecords")
        taken = world.faults.part(PUBLISH, len(Records))
        order = world.faults.shuffled(range(len(Records)))
        accepted = set(order[:taken])
        answers: list[dict[str, str]] = []
        for place, record in enumerate(Records):
            if place in accepted:
                key, data = record["PartitionKey"], record["Data"]
                sending = self._accept(key, data)
                answers.append({"SequenceNumber": sending.sequence, "ShardId": "shardId-0"})
            else:
                answers.append({"ErrorCode": "ProvisionedThroughputExceededException"})
        world.between()
        if fate == KILLED_AFTER:
            raise Killed(f"after: {PUBLISH}")
        if fate is not None:
            raise EndpointConnectionError(endpoint_url="the reply was lost")
        return {"FailedRecordCount": len(Records) - taken, "Records": answers}

    def _accept(self, key: str, data: bytes) -> Sending:
        world = self._world
        found = self._contents(data)
        cells = tuple(cell for one in found if not one.later for cell in one.cells)
        sending = world.stream.accept(key, data, cells)
        for one in found:
            if one.bad:
                world.bad.add((sending.sequence, one.payload))
            if one.later:
                world.held_back[sending.sequence, one.payload] = (sending.arrival_ms, one.cells)
                world.oracle.send(sending.arrival_ms, one.cells)
        return sending


def _publisher(world: World, kinesis: FakeKinesis) -> Publisher:
    def sleep(seconds: float) -> None:
        world.now_s += seconds

    return Publisher(
        kinesis,
        "readings",
        lanes=PARTITION_KEYS,
        now=lambda: world.now_s,
        sleep=sleep,
        random=world.random,
        patience_s=20.0,
    )


class Producer:
    """A sender that keeps what is not accepted, and sends it again when it has come back to life."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._held: deque[Submitted] = deque()
        self._busy = False
        self._start()

    def _start(self) -> None:
        self._publisher = _publisher(self._world, FakeKinesis(self._world, self._contents))
        self._waiting = list(self._held)

    def send_runs(self, runs: Sequence[Run]) -> None:
        """Send what each run holds: as columns, or reading by reading."""
        for run in runs:
            cells = cells_sent([run])
            if len(cells) > 12 or self._world.rng.random() < 0.5:
                self.send(run.sensor_id, encode_run(run), cells)
            else:
                lines = [encode_reading(name, ts_us, {metric: v}) for name, ts_us, metric, v in cells]
                self.send(run.sensor_id, b"\n".join(lines), cells)

    def send(
        self, sensor_id: str, payload: bytes, cells: Cells, *, bad: bool = False, later: bool = False
    ) -> None:
        """Take a user record over; `flush` sends it. `bad` holds nothing, `later` what only a later release reads."""
        self._world.oracle.submit(cells)
        self._held.append(Submitted(sensor_id, payload, cells, bad, later))
        self._waiting.append(self._held[-1])

    def _submit(self, one: Submitted) -> None:
        def accepted(_run: Run) -> None:
            self._held.remove(one)

        self._publisher.submit_payload(one.sensor_id, one.payload, accepted)

    def flush(self) -> None:
        """Send until all is accepted, patience ends or the sender dies."""
        if self._held and not self._busy:
            self._busy = True
            self._world.act("publish", self._flush, PRODUCER_S)
            self._busy = False

    def _flush(self, _actor: object) -> bool:
        waiting, self._waiting = self._waiting, []
        try:
            for one in waiting:
                self._submit(one)
            self._publisher.flush()
        except Killed:
            self._start()
            raise
        return True

    @property
    def is_drained(self) -> bool:
        """Whether Kinesis has accepted everything."""
        return not self._held

    def _contents(self, data: bytes) -> list[Submitted]:
        """What a record holds, told by the payloads that stand in it, in their order."""
        found: list[Submitted] = []
        position = 0
        for one in self._held:
            place = data.find(one.payload, position)
            if place >= 0:
                found.append(one)
                position = place + len(one.payload)
        return found


class FakeMqtt:
    """The client's side of the broker's connection: what the gateway acknowledges."""

    def __init__(self, broker: BrokerAndGateway) -> None:
        self._broker = broker

    def ack(self, mid: int, _qos: int) -> None:
        """The broker forgets the message."""
        self._broker.unacknowledged.pop(mid, None)


class BrokerAndGateway:
    """A broker's persistent session and the gateway that reads it, in one thread."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._next_mid = 1
        self._busy = False
        self.unacknowledged: dict[int, tuple[str, bytes]] = {}
        self._start()

    def _start(self) -> None:
        world = self._world
        publisher = _publisher(world, FakeKinesis(world, self._contents))
        self._gateway: Any = Gateway(
            Broker("localhost", 1883),
            Settings("gateway", parse_topics("sensors/{sensor}/readings")),
            publisher,
            now=lambda: world.now_s,
            now_ms=lambda: int(world.now_s * 1000),
            random=world.random,
            tell=lambda _: None,
        )
        for end in (self._gateway._bell, self._gateway._ring):
            end.close()
        self._gateway._client = FakeMqtt(self)
        for mid, (topic, payload) in self.unacknowledged.items():
            self._gateway._gathering.add(Message(mid, topic, payload), world.now_s)

    def publish(self, sensor_id: str, ts_us: int, value: int) -> None:
        """A sensor's message with QoS 1: the broker has it, and hands it to the gateway."""
        payload = encode_reading(sensor_id, ts_us, {"a": value})
        self._world.oracle.submit(((sensor_id, ts_us, "a", value),))
        mid, self._next_mid = self._next_mid, self._next_mid + 1
        topic = f"sensors/{sensor_id}/readings"
        self.unacknowledged[mid] = (topic, payload)
        self._gateway._gathering.add(Message(mid, topic, payload), self._world.now_s)

    def flush(self) -> None:
        """The gateway sends what it holds and acknowledges what Kinesis accepted."""
        if self.unacknowledged and not self._busy:
            self._busy = True
            self._world.act("gateway", self._flush, PRODUCER_S)
            self._busy = False

    def _flush(self, _actor: object) -> bool:
        gateway = self._gateway
        self._world.now_s += 6
        try:
            gateway._flush(self._world.now_s)
            while not gateway._batches.empty():
                gateway._send(gateway._batches.get())
                gateway._settled.put(None)
                gateway._acknowledge()
        except Killed:
            self._start()
            raise
        return True

    @property
    def is_drained(self) -> bool:
        """Whether the broker waits for nothing any more."""
        return not self.unacknowledged

    def _contents(self, data: bytes) -> list[Submitted]:
        payloads, _ = user_records(data)
        runs, _ = decode_all(payloads, int(self._world.now_s * 1000))
        return [Submitted("", data, cells_sent(runs), bad=False, later=False)]
