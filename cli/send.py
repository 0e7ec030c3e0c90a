"""Commands that send: simulate and replay."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from cli import mqtt, options, show
from cli.target import Target, find, now_us
from ingest.errors import BadInput, Partial
from ingest.reading import AHEAD_US

if TYPE_CHECKING:
    from ingest.reading import Run
    from sensors.publisher import Publisher
    from sensors.replay import RejectedLine
    from sensors.simulator import Fleet

LANES_PER_SHARD = 10
"""The greatest ParallelizationFactor Lambda allows, so that every setting of it finds its lanes."""
TOLD_LINES = 5
SLICE_MAX_S = 600.0
SLICE_PACED_S = 1.0
HIDDEN_FIELDS = frozenset({"readings", "calls"})
Wait = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="On a local stack, return only once what was sent is stored."),
]
Faults = Annotated[
    str,
    typer.Option(
        "--faults",
        metavar="LIST",
        help="Fractions of late, duplicate, dropout, jitter: late=0.01,duplicate=0.01.",
    ),
]
Extras = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="LIST",
        help="Also: pressure,counter,switch,state,jitter,dropout (comma-separated).",
    ),
]


class Sender(Protocol):
    """What sends runs: into the stream, or to a broker."""

    @property
    def sent(self) -> Any:
        """What was accepted so far."""
        ...

    def publish(self, runs: Iterable[Run]) -> object:
        """Send the runs; return when all are accepted."""
        ...

    def submit(self, run: Run) -> None:
        """Send a run, sooner or later."""
        ...

    def flush(self) -> None:
        """Return when all that was submitted is accepted."""
        ...


@contextmanager
def open_sender(
    way: mqtt.Way, target: Target | None, on_progress: Callable[[Any], None] | None = None
) -> Generator[Sender]:
    """A sender the way that was asked for; `target` is None where readings go to a broker."""
    if target is not None:
        yield open_publisher(target, on_progress)
        return
    with way.sender(on_progress) as sender:
        yield sender


def open_publisher(target: Target, on_progress: Callable[[Any], None] | None = None) -> Publisher:
    """A publisher to the target's stream."""
    from sensors.publisher import Publisher, shard_count

    client = target.client("kinesis")
    lanes = shard_count(client, target.stream) * LANES_PER_SHARD
    return Publisher(
        client,
        target.stream,
        lanes=lanes,
        now=time.monotonic,
        sleep=time.sleep,
        random=random.random,
        on_progress=on_progress,
    )


def simulate(
    sensors: Annotated[
        int, typer.Option("--sensors", min=1, metavar="N", help="How many sensors; sim-0001 is the first.")
    ] = 10,
    rate: Annotated[
        float, typer.Option("--rate", metavar="HZ", help="Readings per second of each sensor.")
    ] = 1.0,
    duration: Annotated[
        str, typer.Option("--duration", metavar="D", help="How much sensor time, such as 10m.")
    ] = "10m",
    start: Annotated[
        str | None,
        typer.Option(
            "--start", metavar="T", help="Time of the first reading. Default: so that the last is now."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="The same seed sends the same readings.")
    ] = 0,
    faults: Faults = "",
    extras: Extras = "",
    speed: Annotated[
        str,
        typer.Option("--speed", metavar="max|N", help="As fast as it goes, or N times real time (1: live)."),
    ] = "max",
    via: mqtt.Via = "kinesis",
    url: mqtt.Url = None,
    clients: mqtt.Clients = 1,
    topic: mqtt.Topic = mqtt.DEFAULT_TOPIC,
    username: mqtt.Username = None,
    password: mqtt.Password = None,
    ca_file: mqtt.CaFile = None,
    version: mqtt.Version = "5",
    wait: Wait = True,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Send what a made-up fleet measures. Temperature and humidity over the day, more on request.

    With --via mqtt it returns when the broker has acknowledged every reading (QoS 1).
    """
    from ingest.times import parse_duration, parse_time
    from sensors import simulator

    pace = _speed(speed)
    now = now_us()
    duration_us = parse_duration(duration, "--duration")
    begin_us = (
        parse_time(start, now, "--start") if start else _whole_second(now if pace else now - duration_us)
    )
    fleet = simulator.Fleet(sensors, rate, begin_us, duration_us, seed, faults=simulator.parse_faults(faults))
    fleet = simulator.with_extras(fleet, extras)
    way = mqtt.Way(via, url, clients, topic, username, password, ca_file, version)
    target = None if way.is_mqtt else find(stack)
    began_s = time.monotonic()
    sender = _send_fleet(way, target, fleet, pace, began_s)
    _stored(target, wait)
    _summary(sender, began_s, Counter())


def _send_fleet(
    way: mqtt.Way, target: Target | None, fleet: Fleet, pace: float | None, began_s: float
) -> Sender:
    from sensors import simulator

    with show.progress("readings") as bar:
        task = bar.add_task("simulating", total=fleet.readings)
        with open_sender(way, target, lambda sent: bar.update(task, completed=sent.readings)) as sender:
            for runs in simulator.runs(fleet, SLICE_PACED_S if pace else SLICE_MAX_S):
                sender.publish(_paced(runs, pace, began_s, fleet.start_us))
    return sender


def _whole_second(ts_us: int) -> int:
    return ts_us // 1_000_000 * 1_000_000


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if speed <= 0:
        raise BadInput(f"--speed: {text!r} cannot be used; give max, or a number above 0 such as 1 or 60.")
    return speed


def _paced(runs: list[Run], speed: float | None, began_s: float, begin_us: int) -> list[Run]:
    """The runs, once the last reading among them is due."""
    if speed is not None and runs:
        last_us = max(run.ts_us[-1] for run in runs)
        early_s = began_s + (last_us - begin_us) / 1e6 / speed - time.monotonic()
        if early_s > 0:
            time.sleep(early_s)
    return runs


def replay(
    files: Annotated[list[Path], typer.Argument(metavar="FILE.csv...", help="CSV files with a header.")],
    sensor: Annotated[
        str | None,
        typer.Option(
            "--sensor", metavar="SENSOR", help="Id of the sensor, where the file has no sensor_id column."
        ),
    ] = None,
    speed: Annotated[
        str, typer.Option("--speed", metavar="max|N", help="As fast as it goes, or N times real time.")
    ] = "max",
    via: mqtt.Via = "kinesis",
    url: mqtt.Url = None,
    clients: mqtt.Clients = 1,
    topic: mqtt.Topic = mqtt.DEFAULT_TOPIC,
    username: mqtt.Username = None,
    password: mqtt.Password = None,
    ca_file: mqtt.CaFile = None,
    version: mqtt.Version = "5",
    wait: Wait = True,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Send CSV files. A `timestamp` (RFC 3339) or `ts_ms` column, optionally `sensor_id`, all else metrics.

    An empty cell is an absent value. Sending the same file again changes no answer. Prints a JSON
    summary; exit code 5 where lines were rejected.
    """
    from sensors import replay as files_of

    pace = _speed(speed)
    opened = [files_of.open_csv(path, sensor) for path in files]
    way = mqtt.Way(via, url, clients, topic, username, password, ca_file, version)
    target = None if way.is_mqtt else find(stack)
    rejected: Counter[str] = Counter()
    with show.progress("bytes") as bar, open_sender(way, target) as sender:
        task = bar.add_task("replaying", total=sum(path.stat().st_size for path in files))
        began_s = time.monotonic()
        for file in opened:
            items = files_of.read_csv(
                file,
                latest_us=now_us() + AHEAD_US,
                slice_us=round(SLICE_PACED_S * 1e6 * pace) if pace else None,
                on_bytes=lambda count: bar.advance(task, count),
            )
            if pace:
                items = files_of.paced(items, pace, time.monotonic, time.sleep)
            _send(sender, items, rejected, flush_each=pace is not None)
        sender.flush()
    _stored(target, wait)
    _summary(sender, began_s, rejected)
    if rejected:
        raise Partial(f"{sum(rejected.values())} cells or lines were rejected; the rest was sent.")


def _stored(target: Target | None, wait: bool) -> None:
    """On a local stack, return once what was sent is stored, so that a query finds it."""
    if target is None or target.local is None or not wait:
        return
    from infra.local import control

    with show.console().status("storing") as spinner:
        control.store(target.local, spinner.update)


def _send(
    sender: Sender, items: Iterable[Run | RejectedLine], rejected: Counter[str], *, flush_each: bool
) -> None:
    for run in _accepted(items, rejected):
        sender.submit(run)
        if flush_each:
            sender.flush()


def _accepted(items: Iterable[Run | RejectedLine], rejected: Counter[str]) -> Iterator[Run]:
    from sensors.replay import RejectedLine

    for item in items:
        if not isinstance(item, RejectedLine):
            yield item
            continue
        rejected[item.reason] += 1
        if sum(rejected.values()) <= TOLD_LINES:
            show.note(str(item))


def _summary(sender: Sender, began_s: float, rejected: Counter[str]) -> None:
    sent = asdict(sender.sent)
    summary: dict[str, Any] = {"sent": sent["readings"], "rejected": sum(rejected.values())}
    summary |= {name: count for name, count in sent.items() if name not in HIDDEN_FIELDS}
    summary["seconds"] = round(time.monotonic() - began_s, 3)
    if sent.get("unheard"):
        show.note(
            f"{sent['unheard']} readings had no subscriber at the broker and are gone: start a gateway before "
            "the sensors, and let it keep its --client-id."
        )
    if rejected:
        summary["reasons"] = dict(rejected)
    sys.stdout.write(json.dumps(summary) + "\n")
