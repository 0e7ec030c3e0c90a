"""What sends readings by way of a broker: QoS 1, counted as sent when the broker has acknowledged them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import paho.mqtt.client as mqtt

from ingest.errors import Refused, ThermoclineError, Unavailable
from ingest.reading import Run, Value
from ingest.wire_encode import encode_reading
from sensors import mqtt_client
from sensors.lanes import lane_of
from sensors.mqtt_client import Broker
from sensors.topics import OFFLINE, ONLINE, Topics

MOST_CLIENTS = 1_000
IN_FLIGHT = 1_000
"""Messages of a client that may be unacknowledged, where the broker allows as many."""
SESSION_S = 3600
LOOK_S = 0.5
UNHEARD = 0x10
"""Reason code "No matching subscribers" (MQTT 5, section 3.4.2.1)."""
_FOR_GOOD = frozenset({0x87, 0x90, 0x99})
"""Not authorized, topic name invalid, payload format invalid: the same message will be refused again."""


@dataclass(slots=True)
class Sent:
    """What was sent: readings that a broker acknowledged, the bytes of their payloads, messages the
    broker refused and that were sent again, and readings it had no subscriber for."""

    readings: int = 0
    size_bytes: int = 0
    resent: int = 0
    unheard: int = 0


class MqttSender:
    """Sends each reading as one message, the readings of a sensor in order and by one client.

    Every client has a last will and a retained status, and so has every sensor that it sends
    for, from its first reading to `close`. A broker that acknowledges nothing for `patience_s` seconds
    ends the call with Unavailable. `names` gives each client its id, `now` is in seconds.
    """

    def __init__(
        self,
        broker: Broker,
        topics: Topics,
        names: Iterable[str],
        *,
        now: Callable[[], float],
        patience_s: float = 60.0,
        on_progress: Callable[[Sent], None] | None = None,
    ) -> None:
        self._topics = topics
        self._on_progress = on_progress
        self._connections = [_Connection(broker, topics, name, now, patience_s) for name in names]

    def __enter__(self) -> Self:
        for connection in self._connections:
            connection.open()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for connection in self._connections:
            connection.close(clean=kind is None)

    @property
    def sent(self) -> Sent:
        """What was acknowledged so far, over all clients."""
        parts = [connection.sent for connection in self._connections]
        return Sent(
            sum(part.readings for part in parts),
            sum(part.size_bytes for part in parts),
            sum(part.resent for part in parts),
            sum(part.unheard for part in parts),
        )

    def publish(self, runs: Iterable[Run]) -> None:
        """Send the runs, interleaved by time as sensors send them, and return when all is acknowledged.

        Raises Unavailable where the broker is not reached in time, Refused where it turns the client away.
        """
        for number, (sensor_id, ts_us, metrics) in enumerate(_readings(runs)):
            self._send(sensor_id, ts_us, metrics)
            if self._on_progress is not None and number % IN_FLIGHT == 0:
                self._on_progress(self.sent)
        self.flush()

    def submit(self, run: Run) -> None:
        """Send the readings of one run without waiting for the last of them; raises as `publish` does."""
        for sensor_id, ts_us, metrics in _readings([run]):
            self._send(sensor_id, ts_us, metrics)

    def flush(self) -> None:
        """Return when all that was submitted is acknowledged; raises as `publish` does."""
        for connection in self._connections:
            connection.wait_until_acknowledged()
        if self._on_progress is not None:
            self._on_progress(self.sent)

    def _send(self, sensor_id: str, ts_us: int, metrics: dict[str, Value]) -> None:
        place = lane_of(sensor_id, len(self._connections))
        self._connections[place].send(sensor_id, encode_reading(sensor_id, ts_us, metrics))


def _readings(runs: Iterable[Run]) -> Iterator[tuple[str, int, dict[str, Value]]]:
    """Readings by time, those of a sensor in the order in which its runs were given."""
    held = [(run, place) for run in runs for place in range(len(run.ts_us))]
    held.sort(key=lambda found: found[0].ts_us[found[1]])
    for run, place in held:
        values = {name: column[place] for name, column in run.metrics.items()}
        present = {name: value for name, value in values.items() if value is not None}
        yield run.sensor_id, run.ts_us[place], present


@dataclass(frozen=True, slots=True)
class _Message:
    """A message under way; a status counts as no reading."""

    topic: str
    payload: bytes
    is_status: bool


class _Connection:
    """One client, its own network thread, and what it has not had acknowledged.

    paho calls back with locks of its own held, so the sending thread never holds the condition while
    it calls paho; the network's thread may.
    """

    def __init__(
        self, broker: Broker, topics: Topics, name: str, now: Callable[[], float], patience_s: float
    ) -> None:
        self._broker = broker
        self._topics = topics
        self._status = topics.status(f"client/{name}")
        self._now = now
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._connected = False
        self._failed: ThermoclineError | None = None
        self._in_flight: dict[int, _Message] = {}
        self._early: dict[int, Any] = {}
        self._room = IN_FLIGHT
        self._progress_s = now()
        self._sensors: set[str] = set()
        self.sent = Sent()
        client = mqtt_client.make_client(
            broker, name, status_topic=self._status, manual_ack=False, persistent=True
        )
        client.max_inflight_messages_set(IN_FLIGHT)
        client.reconnect_delay_set(1, 8)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        self._client = client

    def open(self) -> None:
        """Connect. Raises Unavailable, Refused."""
        try:
            mqtt_client.connect(self._client, self._broker, session_s=SESSION_S)
        except OSError as error:
            raise Unavailable(
                f"{self._broker}: cannot be reached ({error}). Start the broker, or correct --mqtt."
            ) from error
        self._client.loop_start()
        self._wait(lambda: self._connected)

    def send(self, sensor_id: str, payload: bytes) -> None:
        """Hand over one message, waiting while too many are under way."""
        if sensor_id not in self._sensors:
            self._sensors.add(sensor_id)
            self._publish(_Message(self._topics.status(sensor_id), ONLINE, is_status=True))
        self._publish(_Message(self._topics.data(sensor_id), payload, is_status=False))

    def wait_until_acknowledged(self) -> None:
        """Return when nothing is under way."""
        self._wait(lambda: not self._in_flight)

    def close(self, *, clean: bool) -> None:
        """Leave: with retained statuses where all went well, else as if the connection had broken."""
        try:
            if clean:
                goodbyes = [self._topics.status(sensor_id) for sensor_id in sorted(self._sensors)]
                for topic in (*goodbyes, self._status):
                    self._publish(_Message(topic, OFFLINE, is_status=True))
                self.wait_until_acknowledged()
                self._client.disconnect()
        finally:
            self._client.loop_stop()

    def _publish(self, message: _Message) -> None:
        self._wait(lambda: len(self._in_flight) < self._room)
        info = self._client.publish(message.topic, message.payload, qos=1, retain=message.is_status)
        with self._changed:
            if info.mid not in self._early:
                self._in_flight[info.mid] = message
                return
            again = self._settle(message, self._early.pop(info.mid))
        if again:
            self._publish(message)

    def _wait(self, done: Callable[[], bool]) -> None:
        """Wait for the network's thread to bring it about."""
        if self._failed is None and done():
            return
        begun_s = self._now()
        with self._changed:
            while self._failed is not None or not done():
                if self._failed is not None:
                    raise self._failed
                if self._now() - max(begun_s, self._progress_s) > self._patience_s:
                    raise Unavailable(
                        f"{self._broker}: for {self._patience_s:g} s it acknowledged nothing; "
                        f"{len(self._in_flight)} messages are under way. They can be sent again."
                    )
                self._changed.wait(LOOK_S)

    def _settle(self, message: _Message, reason: Any) -> bool:
        """The broker has answered a message: count it, or say that it must be sent again. The condition is held."""
        if not reason.is_failure:
            if not message.is_status:
                self.sent.readings += 1
                self.sent.size_bytes += len(message.payload)
                self.sent.unheard += reason.value == UNHEARD
        elif reason.value in _FOR_GOOD:
            self._failed = Refused(
                f"{self._broker}: the broker refused a message to {message.topic} ({reason}). "
                "Check what this user may publish, and --topic."
            )
        else:
            self.sent.resent += 1
            return True
        return False

    # --- called by the network's thread -----------------------------------------------------

    def _on_connect(self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, properties: Any) -> None:
        with self._changed:
            if reason.is_failure:
                self._failed = mqtt_client.refused(self._broker, reason)
            else:
                self._connected = True
                allowed = getattr(properties, "ReceiveMaximum", IN_FLIGHT)
                self._room = max(1, min(IN_FLIGHT, allowed) - 1)
            self._changed.notify_all()
        if not reason.is_failure:
            info = client.publish(self._status, ONLINE, qos=1, retain=True)
            with self._changed:
                self._in_flight[info.mid] = _Message(self._status, ONLINE, is_status=True)

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, _reason: Any, _properties: Any
    ) -> None:
        with self._changed:
            self._connected = False
            self._changed.notify_all()

    def _on_publish(self, client: mqtt.Client, _data: Any, mid: int, reason: Any, _properties: Any) -> None:
        with self._changed:
            self._progress_s = self._now()
            message = self._in_flight.pop(mid, None)
            if message is None:
                self._early[mid] = reason
            elif self._settle(message, reason):
                info = client.publish(message.topic, message.payload, qos=1, retain=message.is_status)
                self._in_flight[info.mid] = message
            self._changed.notify_all()
