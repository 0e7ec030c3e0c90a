"""Messages of a batch to what is sent on: one columnar run per sensor, and addressed payloads for the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ingest.envelope import address
from ingest.reading import Column, Run, settle
from ingest.wire import decode
from sensors.gathering import Message
from sensors.topics import Topics


@dataclass(frozen=True, slots=True)
class Joined:
    """What a batch becomes, the messages of a sensor in order.

    `runs` hold what could be read. `addressed` are (sensor, user record) for messages of which
    something could not: they are passed on whole, and the batch door decides what of them
    is stored and what is a reject. `ignored` counts messages of other topics.
    """

    runs: list[Run]
    addressed: list[tuple[str, bytes]]
    ignored: int


def join(messages: Iterable[Message], topics: Topics, now_ms: int) -> Joined:
    """Join the messages of each sensor; of values for the same instant and metric the last wins.

    `now_ms` stands for the arrival while decoding. Never raises, whatever the payloads.
    """
    by_topic: dict[str, list[bytes]] = {}
    for message in messages:
        by_topic.setdefault(message.topic, []).append(message.payload)
    runs: list[Run] = []
    addressed: list[tuple[str, bytes]] = []
    ignored = 0
    for topic, payloads in by_topic.items():
        sensor_id = topics.sensor_of(topic)
        if sensor_id is None:
            ignored += len(payloads)
            continue
        found: list[Run] = []
        for payload in payloads:
            read, problems = decode(payload, now_ms, sensor_id)
            if problems:
                addressed.append((sensor_id, address(sensor_id, payload)))
            else:
                found.extend(read)
        if found:
            runs.append(_joined(sensor_id, found, now_ms))
    return Joined(runs, addressed, ignored)


def addressed(messages: Iterable[Message], topics: Topics, sensor_id: str) -> list[tuple[str, bytes]]:
    """The messages of one sensor as they are, each as (sensor, user record)."""
    topic = topics.data(sensor_id)
    return [
        (sensor_id, address(sensor_id, message.payload)) for message in messages if message.topic == topic
    ]


def _joined(sensor_id: str, found: list[Run], now_ms: int) -> Run:
    """The runs as one; they are of one sensor and stand in the order of receipt."""
    if len(found) == 1:
        return found[0]
    ts_us: list[int] = []
    metrics: dict[str, Column] = {}
    for run in found:
        count = len(ts_us)
        ts_us.extend(run.ts_us)
        for name, column in run.metrics.items():
            held = metrics.setdefault(name, [])
            if len(held) < count:
                held.extend([None] * (count - len(held)))
            held.extend(column)
    for column in metrics.values():
        column.extend([None] * (len(ts_us) - len(column)))
    return settle(sensor_id, ts_us, metrics, now_ms)
