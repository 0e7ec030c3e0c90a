"""The MQTT gateway: messages from a broker into the stream, acknowledged when Kinesis has accepted them."""

from __future__ import annotations

import queue
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ParamSpec

import paho.mqtt.client as mqtt

from ingest.errors import BadInput, Refused, ThermoclineError, Unavailable
from sensors import mqtt_client
from sensors.ends import Ends
from sensors.gathering import Batch, Gathering, Message
from sensors.joining import addressed, join
from sensors.mqtt_client import Broker
from sensors.publisher import Publisher
from sensors.topics import OFFLINE, ONLINE, Topics

P = ParamSpec("P")
SESSION_S = 7 * 24 * 3600
"""How long a broker keeps the session of a gateway that is gone (MQTT 5; in 3.1.1 the broker decides)."""
BATCHES = 2
"""Batches under way to Kinesis; a further one waits with the messages."""
READ_AT_ONCE = 500
"""Packets read before anything else has its turn."""
LEAVE_S = 20.0
"""How long a gateway that was told to stop goes on trying to bring away what it holds."""
QUIET_LOOK_S = 1.0
HELD_BYTES = 64 * 1024 * 1024
"""Payload in memory at which the gateway stops reading from the broker."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a gateway works. `share` names the shared subscription (empty: none); a flush is made every
    `flush_s` or `flush_bytes` of payload; with `align`, flushes end where the clock shows a multiple of
    `flush_s`. `receive_maximum` bounds what is unacknowledged, and `held_bytes` the payload in memory."""

    client_id: str
    topics: Topics
    share: str = ""
    flush_s: float = 5.0
    flush_bytes: int = 4 * 1024 * 1024
    held_bytes: int = HELD_BYTES
    receive_maximum: int = 20_000
    metrics_s: float = 60.0
    align: bool = False


@dataclass(slots=True)
class Counts:
    """What a gateway has done since it began."""

    received: int = 0
    redelivered: int = 0
    acknowledged: int = 0
    addressed: int = 0
    ignored: int = 0
    connects: int = 0
    failures: int = 0


class Gateway:
    """Carries messages from `broker` to the publisher's stream until `stop` is called.

    The network belongs to the thread that calls `run`; a second one joins, sends and waits for Kinesis.
    `now` is in seconds from any moment, `now_ms` the time of day, `random` gives `[0, 1)`; `tell` is
    given one mapping per metrics interval and per event.
    """

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        publisher: Publisher,
        *,
        now: Callable[[], float],
        now_ms: Callable[[], int],
        random: Callable[[], float],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._broker = broker
        self._settings = settings
        self._publisher = publisher
        self._look_s = min(QUIET_LOOK_S, settings.metrics_s)
        self._now = now
        self._now_ms = now_ms
        self._random = random
        self._tell = tell
        self._gathering = Gathering(
            window=settings.receive_maximum,
            flush_s=settings.flush_s,
            flush_bytes=settings.flush_bytes,
            ends=Ends(settings.flush_s, settings.topics, now_ms) if settings.align else None,
        )
        self._status = settings.topics.status(f"gateway/{settings.client_id}")
        self._client = self._made()
        self._batches: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._settled: queue.SimpleQueue[ThermoclineError | None] = queue.SimpleQueue()
        self._bell, self._ring = socket.socketpair()
        self._under_way = 0
        self._stopping = threading.Event()
        self._abandon = threading.Event()
        self._connected = False
        self._subscribed = False
        self._failed: ThermoclineError | None = None
        self._tries = 0
        self._next_try_s = 0.0
        self.counts = Counts()

    def stop(self) -> None:
        """Ask `run` to bring away what it holds, and return; may be called from a signal handler or thread."""
        self._stopping.set()
        self._wake()

    def run(self) -> None:
        """Work until stopped. Raises Refused where the broker or Kinesis turns the gateway away, NotFound
        where there is no such stream; what was not acknowledged then stays with the broker."""
        for end in (self._bell, self._ring):
            end.settimeout(0.0)
        worker = threading.Thread(target=self._send_batches, name="publisher", daemon=True)
        worker.start()
        told_s = leave_s = self._now()
        try:
            while self._failed is None:
                now_s = self._now()
                if not self._stopping.is_set():
                    leave_s = now_s + LEAVE_S
                elif self._is_done() or now_s >= leave_s:
                    break
                if now_s - told_s >= self._settings.metrics_s:
                    self._tell(self.metrics())
                    told_s = now_s
                self._step(now_s)
        finally:
            self._abandon.set()
            self._batches.put(None)
            self._leave()
            worker.join(LEAVE_S)
            self._bell.close()
            self._ring.close()
            self._tell(self.metrics())
        if self._failed is not None:
            raise self._failed

    def metrics(self) -> dict[str, Any]:
        """Counts since the gateway began, and what it holds now; no payload and no sensor."""
        counts, sent = self.counts, self._publisher.sent
        return {
            "event": "metrics",
            "connected": self._connected,
            "received": counts.received,
            "redelivered": counts.redelivered,
            "acknowledged": counts.acknowledged,
            "unacknowledged": self._gathering.unacknowledged,
            "held_bytes": self._gathering.held_bytes,
            "window": self._gathering.window,
            "readings": sent.readings,
            "addressed": counts.addressed,
            "ignored": counts.ignored,
            "records": sent.records,
            "size_bytes": sent.size_bytes,
            "calls": sent.calls,
            "resent": sent.resent,
            "connects": counts.connects,
            "failures": counts.failures,
        }

    # --- the network's thread ---------------------------------------------------------------

    def _made(self) -> mqtt.Client:
        client = mqtt_client.make_client(
            self._broker,
            self._settings.client_id,
            status_topic=self._status,
            manual_ack=True,
            persistent=True,
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        # With a writer registered, paho queues packets for `loop_write` in place of sending each at once.
        client.on_socket_register_write = lambda _client, _data, _socket: None
        return client

    def _step(self, now_s: float) -> None:
        """One turn: connect where needed, wait for something to do, do it."""
        self._flush(now_s)
        connection: Any = self._client.socket()
        if connection is None:
            if now_s >= self._next_try_s and not self._stopping.is_set():
                self._connect()
                return
            self._wait([self._bell], [], min(self._look_s, max(0.0, self._next_try_s - now_s)))
        else:
            deaf = self._subscribed and (self._is_full() or self._stopping.is_set())
            readers = [self._bell] if deaf else [self._bell, connection]
            pending = connection in readers and hasattr(connection, "pending") and connection.pending() > 0
            due_s = self._gathering.due_in_s(now_s) if self._under_way < BATCHES else None
            wait_s = 0.0 if pending else self._look_s if due_s is None else min(self._look_s, due_s)
            ready = self._wait(readers, [connection] if self._client.want_write() else [], wait_s)
            if connection in ready or pending:
                self._read()
        self._acknowledge()
        self._client.loop_write()
        self._client.loop_misc()

    def _wait(self, readers: list[Any], writers: list[Any], seconds: float) -> list[Any]:
        ready, _, _ = select.select(readers, writers, [], seconds)
        if self._bell in ready:
            with suppress(BlockingIOError):
                self._bell.recv(4096)
        return ready

    def _wake(self) -> None:
        with suppress(OSError):
            self._ring.send(b"\0")

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            before = self.counts.received
            failed = self._client.loop_read() != mqtt.MQTT_ERR_SUCCESS
            if failed or self.counts.received == before or self._is_full():
                return

    def _is_full(self) -> bool:
        """Whether no more may be read. A broker should keep to the receive maximum; some go beyond it."""
        return (
            self._gathering.unacknowledged >= 2 * self._settings.receive_maximum
            or self._gathering.held_bytes >= self._settings.held_bytes
        )

    def _flush(self, now_s: float) -> None:
        due_s = self._gathering.due_in_s(now_s)
        if due_s is None or self._under_way >= BATCHES or (due_s > 0 and not self._stopping.is_set()):
            return
        self._under_way += 1
        self._batches.put(self._gathering.take(now_s))

    def _acknowledge(self) -> None:
        """Acknowledge the batches that Kinesis has accepted meanwhile."""
        while not self._settled.empty():
            error = self._settled.get()
            if error is not None:
                self._failed = error
                return
            self._under_way -= 1
            mids = self._gathering.settle(self._now())
            for mid in mids:
                self._client.ack(mid, 1)
            self.counts.acknowledged += len(mids)

    def _connect(self) -> None:
        settings = self._settings
        try:
            mqtt_client.connect(
                self._client,
                self._broker,
                session_s=SESSION_S,
                receive_maximum=min(settings.receive_maximum, 65_535),
            )
        except (OSError, ValueError) as error:
            self._try_later(type(error).__name__)

    def _try_later(self, reason: str) -> None:
        wait_s = mqtt_client.wait_s(self._tries, self._random())
        self._tries += 1
        self._next_try_s = self._now() + wait_s
        self._tell(
            {"event": "disconnected", "reason": reason, "tries": self._tries, "wait_s": round(wait_s, 3)}
        )

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._failed = mqtt_client.refused(self._broker, reason)
            return
        self._connected = True
        self.counts.connects += 1
        client.subscribe(self._settings.topics.shared_filter(self._settings.share), qos=1)
        client.publish(self._status, ONLINE, qos=1, retain=True)
        self._tell({"event": "connected", "broker": str(self._broker), "client_id": self._settings.client_id})

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, reasons: list[Any], _properties: Any
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._failed = Refused(
                f"{self._broker}: the broker refused the subscription to "
                f"{self._settings.topics.shared_filter(self._settings.share)} ({reasons[0]}). Allow it for this "
                "user, or name another --topic; for --share it must know shared subscriptions."
            )
            return
        self._subscribed = True
        self._tries = 0

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, reason: Any, _properties: Any
    ) -> None:
        self._connected = self._subscribed = False
        again = self._gathering.connection_lost()
        if str(reason) == "Session taken over":
            self._failed = Refused(
                f"{self._broker}: another client has connected as {self._settings.client_id!r}. "
                "Give each gateway its own --client-id."
            )
        elif self._failed is None and not self._stopping.is_set():
            self._try_later(str(reason))
            if again:
                self._tell({"event": "expected_again", "messages": again})

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self.counts.received += 1
        self.counts.redelivered += bool(message.dup)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        held = Message(message.mid if message.qos else 0, topic, bytes(message.payload))
        self._gathering.add(held, self._now())

    def _is_done(self) -> bool:
        waits = self._gathering.due_in_s(self._now()) is not None
        return not (waits or self._under_way or self._client.want_write())

    def _leave(self) -> None:
        """Say goodbye, so that the broker does not publish the last will, and the status is right."""
        if self._client.socket() is None:
            return
        with suppress(OSError, ValueError):
            self._client.publish(self._status, OFFLINE, qos=1, retain=True)
            self._client.disconnect()
            until_s = self._now() + 1.0
            while (connection := self._client.socket()) is not None and self._now() < until_s:
                select.select([], [connection], [], 0.1)
                self._client.loop_write()

    # --- the publisher's thread -------------------------------------------------------------

    def _send_batches(self) -> None:
        while (batch := self._batches.get()) is not None:
            try:
                settled = self._send(batch)
            except ThermoclineError as error:
                self._settled.put(error)
                self._wake()
                return
            if not settled:
                return
            self._settled.put(None)
            self._wake()

    def _send(self, batch: Batch) -> bool:
        """Whether Kinesis has accepted the batch; False where the gateway gave it up. Raises NotFound, Refused."""
        joined = join(batch.messages, self._settings.topics, self._now_ms())
        self.counts.ignored += joined.ignored
        for run in joined.runs:
            try:
                self._patiently(self._publisher.submit, run)
            except BadInput:  # a reading that no record holds: the batch door says so of each message
                self._pass_on(addressed(batch.messages, self._settings.topics, run.sensor_id))
        self._pass_on(joined.addressed)
        while not self._abandon.is_set():
            try:
                self._publisher.flush()
            except Unavailable as error:
                self.counts.failures += 1
                self._tell({"event": "kinesis_unavailable", "reason": str(error)})
            else:
                return True
        return False

    def _pass_on(self, payloads: list[tuple[str, bytes]]) -> None:
        self.counts.addressed += len(payloads)
        for sensor_id, payload in payloads:
            self._patiently(self._publisher.submit_payload, sensor_id, payload)

    def _patiently(self, submit: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        """Submit; where Kinesis does not answer now, what was taken over is sent by a later flush."""
        try:
            submit(*args, **named)
        except Unavailable as error:
            self.counts.failures += 1
            self._tell({"event": "kinesis_unavailable", "reason": str(error)})
