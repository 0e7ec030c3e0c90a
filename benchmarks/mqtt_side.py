"""What runs beside the broker, each as a process: plain paho sending, plain paho receiving, and the gateway."""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from ingest.stores.connect import client as aws_client
from sensors.mqtt_client import parse_broker
from sensors.mqtt_gateway import Gateway, Settings
from sensors.publisher import Publisher
from sensors.topics import DEFAULT_PATTERN, parse_topics

HOST = "127.0.0.1"
IN_FLIGHT = 1_000
SENSORS = 100
START_MS = 1_763_676_000_000
LANES = 10
LIMIT_S = 60.0
TOPICS = parse_topics(DEFAULT_PATTERN)


def send(port: int, messages: int) -> None:
    """Publish single readings at QoS 1, as paho does it, and leave when all are acknowledged."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.max_inflight_messages_set(IN_FLIGHT)
    connected = threading.Event()

    def on_connect(_client: mqtt.Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        connected.set()

    client.on_connect = on_connect
    client.connect(HOST, port)
    client.loop_start()
    connected.wait(LIMIT_S)
    for number in range(messages):
        sensor, step = number % SENSORS, number // SENSORS
        payload = (
            f'{{"sensor_id":"sim-{sensor:04}","ts":{START_MS + step * 1000},'
            f'"metrics":{{"temperature":{20 + step % 90 / 10},"humidity":{40 + step % 70 / 10}}}}}'
        )
        client.publish(TOPICS.data(f"sim-{sensor:04}"), payload, qos=1)
    client.publish(TOPICS.status("sender"), "done", qos=1).wait_for_publish(LIMIT_S)
    client.disconnect()
    client.loop_stop()


def receive(port: int, messages: int) -> None:
    """Subscribe at QoS 1 and do nothing with what comes; paho acknowledges."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    times: list[float] = []
    count = 0

    def on_message(_client: mqtt.Client, _data: Any, _message: mqtt.MQTTMessage) -> None:
        nonlocal count
        count += 1
        if count in (1, messages):
            times.append(time.monotonic())
            if count == messages:
                client.disconnect()

    def on_connect(_client: mqtt.Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        client.subscribe(TOPICS.filter, qos=1)

    def on_subscribe(_client: mqtt.Client, _data: Any, _mid: int, _reasons: Any, _properties: Any) -> None:
        print("ready", flush=True)

    client.on_message = on_message
    client.on_subscribe = on_subscribe
    client.on_connect = on_connect
    client.connect(HOST, port)
    client.loop_forever()
    print(times[-1] - times[0], flush=True)


def carry(port: int, messages: int, endpoint_url: str) -> None:
    """The gateway, into a Kinesis that takes everything; done when the broker has every acknowledgement."""
    kinesis = aws_client("kinesis", endpoint_url=endpoint_url, region="us-east-1")
    publisher = Publisher(
        kinesis, "readings", lanes=LANES, now=time.monotonic, sleep=time.sleep, random=random.random
    )
    carrier = Gateway(
        parse_broker(f"mqtt://{HOST}:{port}"),
        Settings("bench", TOPICS, flush_s=1.0, metrics_s=600.0),
        publisher,
        now=time.monotonic,
        now_ms=lambda: time.time_ns() // 1_000_000,
        random=random.random,
        tell=lambda _: None,
    )
    worker = threading.Thread(target=carrier.run, daemon=True)
    worker.start()
    own = 1  # its own status comes back: then it is subscribed
    _until(lambda: carrier.counts.received >= own)
    print("ready", flush=True)
    _until(lambda: carrier.counts.received > own)
    began_s = time.monotonic()
    _until(lambda: carrier.counts.acknowledged >= messages + own)
    print(time.monotonic() - began_s, flush=True)
    if publisher.sent.readings != messages:
        raise RuntimeError(f"{publisher.sent.readings} of {messages} readings went to Kinesis")
    carrier.stop()
    worker.join()
    _forget(port, "bench")


def _forget(port: int, client_id: str) -> None:
    """Take the gateway's session from the broker, which would keep the next side's messages for it."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=True)

    def on_connect(_client: mqtt.Client, _data: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        client.disconnect()

    client.on_connect = on_connect
    client.connect(HOST, port)
    client.loop_forever()


def _until(done: Any) -> None:
    give_up_s = time.monotonic() + LIMIT_S
    while not done():
        if time.monotonic() > give_up_s:
            raise RuntimeError("nothing more comes from the broker")
        time.sleep(0.005)


if __name__ == "__main__":
    role, given_port, given_messages, *rest = sys.argv[1:]
    {"send": send, "receive": receive, "carry": carry}[role](int(given_port), int(given_messages), *rest)
