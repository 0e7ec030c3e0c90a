"""What producers have to say: news, late readings, corrections of what was sent, the same again, rubbish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.keys import DAY_S, US
from ingest.reading import Run, Value
from ingest.wire_encode import encode_reading
from tests.model import fixes
from tests.model.oracle import Cells

if TYPE_CHECKING:
    from tests.model.world import World

HOUR_S = 3600
BAD = [
    b"\xff\xfe %d",
    b"{%d",
    b'{"sensor_id":"../%d","ts":1,"metrics":{"a":1}}',
    b"\xf3\x89\x9a\xc2 and forty bytes that no checksum fits %d",
]
"""User records that hold nothing to store; a number makes each different."""
LENGTHS = [1, 2, 5, 15, 40, 130]


class Sender:
    """Draws what is sent, and hands it to the publisher or the gateway."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._began_s = world.began_s
        self._bad_made = 0
        self._bad_s = 0
        self._gateway_s = 0

    def send(self) -> None:
        """A producer sends: news, late readings, corrections of what it sent, the same again, rubbish."""
        for _ in range(self._world.rng.choice([1, 2, 4, 6])):
            if self._world.gateway is not None and self._world.rng.random() < 0.25:
                self._send_to_gateway()
            else:
                self._send_something()
                if self._world.rng.random() < 0.85:
                    self._world.producer.flush()

    def _send_something(self) -> None:
        rng = self._world.rng
        sensor_id = rng.choice(self._world.sensors[:6])
        chance = rng.random()
        if chance < 0.07:
            self._send_rubbish(sensor_id)
        if chance < 0.25 and len(self._world.oracle.sent.get(sensor_id, ())) > 20:
            self._world.producer.send_runs([self._correction(sensor_id)])
        else:
            names = rng.sample(self._world.sensors[:6], rng.choice([1, 1, 2]))
            self._world.producer.send_runs([self._news(name) for name in names])

    def flush(self) -> None:
        """Whoever holds something sends it."""
        self._world.producer.flush()
        if self._world.gateway is not None:
            self._world.gateway.flush()

    def _send_rubbish(self, sensor_id: str) -> None:
        self._bad_made += 1
        chance = self._world.rng.random()
        if chance < 0.4:
            self._bad_s += 1
            ts_us = (self._began_s - 5 * DAY_S + self._bad_s) * US
            value = self._world.rng.randint(-99, 99)
            cells: Cells = ((sensor_id, ts_us, fixes.METRIC, value),)
            self._world.producer.send(
                sensor_id, encode_reading(sensor_id, ts_us, {fixes.METRIC: value}), cells, later=True
            )
        elif chance < 0.5:
            sending = self._world.stream.accept("lane-0", b"", ())
            self._world.bad.add((sending.sequence, b""))
        else:
            self._world.producer.send(sensor_id, self._world.rng.choice(BAD) % self._bad_made, (), bad=True)

    def _send_to_gateway(self) -> None:
        assert self._world.gateway is not None
        sensor_id = self._world.sensors[-1]
        for _ in range(self._world.rng.randint(1, 12)):
            self._gateway_s += 1
            ts_us = (self._began_s + self._gateway_s) * US
            self._world.gateway.publish(sensor_id, ts_us, self._world.rng.randint(-99, 99))
        if self._world.rng.random() < 0.7:
            self._world.gateway.flush()

    def _news(self, sensor_id: str) -> Run:
        rng = self._world.rng
        behind_s = rng.choice([0, 0, 0, 60, 2 * HOUR_S, 11 * HOUR_S, 2 * DAY_S, -HOUR_S])
        step_us = rng.choice([US, 7 * US, 60 * US, 700 * US])
        count = rng.choice(LENGTHS)
        if step_us > 60 * US:
            count = min(count, 5)
        first_us = int(self._world.now_s - behind_s) * US
        times = [first_us + i * step_us for i in range(count)]
        metrics: dict[str, list[Value | None]] = {"a": self._column(count)}
        if rng.random() < 0.3:
            metrics["b"] = [value if rng.random() < 0.7 else None for value in self._column(count)]
        return Run(sensor_id, times, metrics, 0)

    def _column(self, count: int) -> list[Value | None]:
        rng = self._world.rng
        kind = rng.random()
        if kind < 0.6:
            return [round(rng.random() * 100, 1) for _ in range(count)]
        if kind < 0.75:
            return [rng.randrange(-9, 9) for _ in range(count)]
        return [self._value() for _ in range(count)]

    def _value(self) -> Value:
        rng = self._world.rng
        return rng.choice([rng.randint(-9, 9), rng.uniform(-9, 9), 2**60 + rng.randint(0, 9), True, "on"])

    def _correction(self, sensor_id: str) -> Run:
        sent = self._world.oracle.sent if self._world.rng.random() < 0.5 else self._world.oracle.submitted
        known = [cell for cell in sent[sensor_id] if cell[1] != fixes.METRIC]
        known = known[-8:] if self._world.rng.random() < 0.5 else known
        ts_us, metric = self._world.rng.choice(known)
        return Run(sensor_id, [ts_us], {metric: [self._value()]}, 0)
