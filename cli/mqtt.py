"""MQTT options that several commands share, and the broker they describe."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingest.errors import BadInput

if TYPE_CHECKING:
    from sensors.mqtt_client import Broker
    from sensors.mqtt_sender import MqttSender

DEFAULT_TOPIC = "iot/v1/{sensor}/data"
Topic = Annotated[
    str,
    typer.Option(
        "--topic", metavar="PATTERN", help="Data topics; {sensor} is the id, of one or more levels."
    ),
]
CaFile = Annotated[
    Path | None, typer.Option("--ca-file", metavar="FILE", help="CA certificates to trust; asks for TLS.")
]
Cert = Annotated[
    Path | None, typer.Option("--cert", metavar="FILE", help="Client certificate (PEM); asks for TLS.")
]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="Key of the client certificate.")]
Username = Annotated[
    str | None,
    typer.Option(
        "--username", metavar="NAME", help="User at the broker.", envvar="THERMOCLINE_MQTT_USERNAME"
    ),
]
Password = Annotated[
    str | None,
    typer.Option(
        "--password",
        metavar="TEXT",
        help="Its password; better in the variable, or in a file.",
        envvar="THERMOCLINE_MQTT_PASSWORD",
    ),
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", metavar="FILE", help="Read the password from this file.")
]
Version = Annotated[str, typer.Option("--mqtt-version", metavar="5|3.1.1", help="Version of MQTT.")]
Via = Annotated[
    str,
    typer.Option(
        "--via", metavar="kinesis|mqtt", help="Into the stream, or to a broker that a gateway listens to."
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--mqtt",
        metavar="URL",
        help="With --via mqtt, the broker: mqtt://[user:password@]host[:port], or mqtts:// for TLS.",
        envvar="THERMOCLINE_MQTT",
    ),
]
Clients = Annotated[
    int, typer.Option("--clients", min=1, max=1000, metavar="N", help="With --via mqtt, how many clients.")
]


@dataclass(frozen=True, slots=True)
class Way:
    """How readings are sent, as the options of a command say it. Raises BadInput where they disagree."""

    via: str
    url: str | None
    clients: int
    topic: str
    username: str | None
    password: str | None
    ca_file: Path | None
    version: str

    def __post_init__(self) -> None:
        if self.via not in ("kinesis", "mqtt"):
            raise BadInput(f"--via: {self.via!r} cannot be used; give kinesis or mqtt.")
        if self.via == "mqtt" and self.url is None:
            raise BadInput("--via mqtt: say where the broker is with --mqtt mqtt://host.")

    @property
    def is_mqtt(self) -> bool:
        """Whether readings go to a broker."""
        return self.via == "mqtt"

    def sender(self, on_progress: Callable[[Any], None] | None) -> MqttSender:
        """What sends to the broker, its clients under new names; a context manager that connects."""
        from sensors.mqtt_sender import MqttSender
        from sensors.topics import parse_topics

        broker = broker_of(
            self.url or "",
            username=self.username,
            password=self.password,
            password_file=None,
            version=self.version,
            ca_file=self.ca_file,
            cert=None,
            key=None,
        )
        name = f"thermocline-{random.getrandbits(40):010x}"
        names = [f"{name}-{place}" for place in range(self.clients)]
        return MqttSender(
            broker, parse_topics(self.topic), names, now=time.monotonic, on_progress=on_progress
        )


def broker_of(
    url: str,
    *,
    username: str | None,
    password: str | None,
    password_file: Path | None,
    version: str,
    ca_file: Path | None,
    cert: Path | None,
    key: Path | None,
) -> Broker:
    """The broker that the options describe. Raises BadInput."""
    from sensors.mqtt_client import parse_broker

    if password_file is not None:
        try:
            password = password_file.read_text().rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise BadInput(f"--password-file: {password_file} cannot be read ({error}).") from error
    return parse_broker(
        url,
        username=username,
        password=password,
        version=version,
        ca_file=ca_file,
        cert_file=cert,
        key_file=key,
    )
