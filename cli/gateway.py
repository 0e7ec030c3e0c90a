"""The command that carries MQTT messages into the stream: gateway."""

from __future__ import annotations

import json
import random
import signal
import socket
import sys
import time
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import mqtt, options
from cli.send import open_publisher
from cli.target import find

if TYPE_CHECKING:
    from sensors import mqtt_client
    from sensors.mqtt_gateway import Settings


Broker = Annotated[
    str,
    typer.Option(
        "--mqtt",
        metavar="URL",
        help="The broker: mqtt://[user:password@]host[:port], or mqtts:// for TLS.",
        envvar="THERMOCLINE_MQTT",
    ),
]
Share = Annotated[
    str,
    typer.Option(
        "--share",
        metavar="NAME",
        help="Divide the messages with all gateways that name the same shared subscription.",
    ),
]
ClientId = Annotated[
    str | None,
    typer.Option(
        "--client-id",
        metavar="ID",
        help="Its name at the broker: unique, and the same after a restart. Default: by host.",
    ),
]
Flush = Annotated[
    str, typer.Option("--flush", metavar="D", help="How long messages may gather before they are sent.")
]
Align = Annotated[
    bool,
    typer.Option(
        "--align", help="End what is sent together at whole multiples of --flush by the clock (UTC)."
    ),
]
FlushBytes = Annotated[
    int,
    typer.Option("--flush-bytes", min=1024, metavar="N", help="Send earlier where so much payload waits."),
]
ReceiveMaximum = Annotated[
    int,
    typer.Option(
        "--receive-maximum",
        min=1,
        max=65_535,
        metavar="N",
        help="Messages the broker may send ahead of their acknowledgement.",
    ),
]
MetricsInterval = Annotated[
    str, typer.Option("--metrics-interval", metavar="D", help="How often a line of metrics goes to stderr.")
]


def gateway(
    url: Broker,
    topic: mqtt.Topic = mqtt.DEFAULT_TOPIC,
    share: Share = "",
    client_id: ClientId = None,
    flush: Flush = "5s",
    align: Align = False,
    flush_bytes: FlushBytes = 4 * 1024 * 1024,
    receive_maximum: ReceiveMaximum = 20_000,
    username: mqtt.Username = None,
    password: mqtt.Password = None,
    password_file: mqtt.PasswordFile = None,
    ca_file: mqtt.CaFile = None,
    cert: mqtt.Cert = None,
    key: mqtt.Key = None,
    version: mqtt.Version = "5",
    metrics_interval: MetricsInterval = "60s",
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Carry MQTT messages into the stream. Acknowledges to the broker only what Kinesis accepted.

    Stop with ^C or SIGTERM: what it holds is sent and acknowledged first. Killed at any moment it loses
    nothing: the broker sends again what was not acknowledged, and a reading that comes twice counts once.

    A long --flush makes large chunks, which cost less: --flush 300s --align, and no chunk is cut at a full
    hour. Until then nothing is acknowledged, so the broker keeps it and must be told to send and queue as
    much (Mosquitto: max_inflight_messages, max_queued_messages). One connection has at most 65,535 messages
    on their way, and half of --receive-maximum, or --flush-bytes, brings a flush forward: then give both more
    room, let sensors send several readings in a message, or share between gateways (--share).
    """
    from ingest.times import parse_duration
    from sensors.mqtt_gateway import HELD_BYTES, Settings
    from sensors.topics import parse_topics

    broker = mqtt.broker_of(
        url,
        username=username,
        password=password,
        password_file=password_file,
        version=version,
        ca_file=ca_file,
        cert=cert,
        key=key,
    )
    settings = Settings(
        client_id=client_id or f"thermocline-{socket.gethostname()}",
        topics=parse_topics(topic),
        share=share,
        flush_s=parse_duration(flush, "--flush") / 1e6,
        align=align,
        flush_bytes=flush_bytes,
        held_bytes=max(HELD_BYTES, 4 * flush_bytes),
        receive_maximum=receive_maximum,
        metrics_s=parse_duration(metrics_interval, "--metrics-interval") / 1e6,
    )
    _run(broker, settings, stack)


def _run(broker: mqtt_client.Broker, settings: Settings, stack: str) -> None:
    """Work until SIGTERM or ^C."""
    from sensors.mqtt_gateway import Gateway

    carrier = Gateway(
        broker,
        settings,
        open_publisher(find(stack)),
        now=time.monotonic,
        now_ms=lambda: time.time_ns() // 1_000_000,
        random=random.random,
        tell=_tell,
    )

    def stop(_signum: int, _frame: FrameType | None) -> None:
        carrier.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    carrier.run()


def _tell(event: dict[str, Any]) -> None:
    """One event as one line of JSON on stderr."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    sys.stderr.write(json.dumps({"at": at} | event) + "\n")
    sys.stderr.flush()
