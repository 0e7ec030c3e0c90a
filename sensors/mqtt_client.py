"""Connections to an MQTT broker: where it is and how to log in, and a paho client made for that."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.errors import BadInput, Refused
from sensors.topics import OFFLINE

VERSIONS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
PORTS = {"mqtt": 1883, "mqtts": 8883}
KEEPALIVE_S = 30
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 15.0
_DENIED = frozenset(
    {
        "Bad user name or password",
        "Banned",
        "Bad authentication method",
        "Client identifier not valid",
        "Not authorized",
        "Unsupported protocol version",
    }
)


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker and how to log in. `version` is `5` or `3.1.1`; `tls` whether the connection is encrypted."""

    host: str
    port: int
    tls: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    version: str = "5"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"


def parse_broker(
    url: str,
    *,
    username: str | None = None,
    password: str | None = None,
    version: str = "5",
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> Broker:
    """The broker of `mqtt://[user:password@]host[:port]`, or `mqtts://` for TLS. Raises BadInput.

    `username` and `password` come before those in the URL. A CA or certificate file asks for TLS.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BadInput(f"--mqtt: the URL cannot be used ({error}).") from error
    if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise BadInput("--mqtt: give mqtt://[user:password@]host[:port], or mqtts:// for TLS.")
    if version not in VERSIONS:
        raise BadInput(f"--mqtt-version: {version!r} cannot be used; give {' or '.join(VERSIONS)}.")
    if key_file is not None and cert_file is None:
        raise BadInput("--key: is of no use without --cert.")
    tls = parts.scheme == "mqtts" or ca_file is not None or cert_file is not None
    if username is None and parts.username:
        username = unquote(parts.username)
    if password is None and parts.password:
        password = unquote(parts.password)
    if password is not None and username is None:
        raise BadInput("--username: is needed where there is a password.")
    standard = PORTS["mqtts" if tls else "mqtt"]
    return Broker(
        parts.hostname, port or standard, tls, username, password, version, ca_file, cert_file, key_file
    )


def make_client(
    broker: Broker, client_id: str, *, status_topic: str, manual_ack: bool, persistent: bool
) -> mqtt.Client:
    """A client, not connected, with a last will that retains `offline` under its status topic.

    A persistent session outlives the connection: the broker keeps what the client subscribed to.
    Raises BadInput where a TLS file cannot be used.
    """
    client = mqtt.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=not persistent if broker.version != "5" else None,
        protocol=VERSIONS[broker.version],
        manual_ack=manual_ack,
    )
    if broker.username is not None:
        client.username_pw_set(broker.username, broker.password)
    if broker.tls:
        cast(Any, client).tls_set_context(_tls(broker))
    client.will_set(status_topic, OFFLINE, qos=1, retain=True)
    return client


def connect(client: mqtt.Client, broker: Broker, *, session_s: int = 0, receive_maximum: int = 0) -> None:
    """Open the connection and send CONNECT; its answer comes to `on_connect`. Raises OSError.

    With MQTT 5 the session is kept for `session_s` seconds after the connection ends, and the
    broker sends at most `receive_maximum` messages ahead of their acknowledgement (0: as it likes).
    """
    if broker.version != "5":
        client.connect(broker.host, broker.port, KEEPALIVE_S)
        return
    properties: Any = Properties(cast(Any, PacketTypes).CONNECT)
    properties.SessionExpiryInterval = session_s
    if receive_maximum:
        properties.ReceiveMaximum = receive_maximum
    client.connect(broker.host, broker.port, KEEPALIVE_S, clean_start=not session_s, properties=properties)


def wait_s(tries: int, share: float) -> float:
    """How long to wait after so many failed attempts, with full jitter: `share` is a throw of the dice, `[0, 1)`."""
    return share * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(tries, 16))


def refused(broker: Broker, reason: object) -> Refused | None:
    """The error where the broker's answer to CONNECT is one that waiting cannot mend, else None."""
    if str(reason) not in _DENIED:
        return None
    return Refused(
        f"{broker}: the broker refused the connection ({reason}). Check user name, password, client id "
        "and --mqtt-version."
    )


def _tls(broker: Broker) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
        if broker.cert_file is not None:
            context.load_cert_chain(broker.cert_file, broker.key_file)
    except (OSError, ssl.SSLError) as error:
        raise BadInput(f"--ca-file, --cert, --key: the files cannot be used ({error}).") from error
    return context
