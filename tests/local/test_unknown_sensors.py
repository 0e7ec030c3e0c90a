"""A stack that refuses sensors nobody registered, from the command line: they wait, are added, and come back."""

from __future__ import annotations

import json
import socket
import time

from infra.local.emulator import REGION
from ingest import token
from ingest.stores.connect import client
from tests.local.command import Cli

NOW_MS = int(time.time() * 1000) - 60_000


def reading(sensor: str, at_ms: int, value: float) -> bytes:
    return json.dumps({"sensor_id": sensor, "ts": at_ms, "metrics": {"t": value}}).encode()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_unknown_sensors_wait_until_they_are_added(cli: Cli) -> None:
    cli.run("up", "-d", "--no-api", "--port", free_port(), "--unknown-sensors", "refuse")
    try:
        state = cli.json("status")
        kinesis = client("kinesis", endpoint_url=state["endpoint_url"], region=REGION)

        def send(*payloads: bytes) -> None:
            data = b"\n".join(payloads)
            kinesis.put_record(StreamName=state["stream"], Data=data, PartitionKey="one")
            cli.run("flush")

        cli.run(
            "sensors", "set", "press-1", "--name", "Press 1", "--unit", "t=°C", "--place", "lat=52.1,lon=5.2"
        )
        send(*(reading(f"press-{i}", NOW_MS, i) for i in (1, 2, 3)))
        assert len(cli.rows("press-1")) == 1
        assert cli.rows("press-2") == []
        listed = cli.json("rejects", "ls")
        assert sorted((row["reason"], row["sensor_id"]) for row in listed) == [
            ("unknown_sensor", "press-2"),
            ("unknown_sensor", "press-3"),
        ]
        cli.run("sensors", "set", "press-2", "--if-version", "0")
        cli.run("sensors", "set", "press-2", "--name", "late", "--if-version", "7", expect=4)
        outcomes = json.loads(cli.run("rejects", "retry", "--all", "--format", "json", expect=5))
        assert sorted((row["sensor_id"], row["outcome"]) for row in outcomes) == [
            ("press-2", "stored"),
            ("press-3", "still rejected"),
        ]
        assert [row["t"] for row in cli.rows("press-2")] == ["2"]
        assert [row["sensor_id"] for row in cli.json("rejects", "ls")] == ["press-3"]

        gone = cli.json("sensors", "rm", "press-1", "--yes")[0]
        assert (gone["deleted"], gone["hot_items"]) == (True, 1)
        send(reading("press-1", NOW_MS + 1, 5), reading("press-2", NOW_MS + 1, 6))
        assert [row["t"] for row in cli.rows("press-1")] == ["1"]
        assert [row["t"] for row in cli.rows("press-2")] == ["2", "6"]
        assert "press-1" in {row["sensor_id"] for row in cli.json("rejects", "ls")}
        assert [row["sensor_id"] for row in cli.json("sensors", "ls")] == ["press-2"]

        text = cli.run("token", "new", "--scope", "read:press-", "--expires", "1h").strip()
        found = token.parse(text)
        assert found is not None
        cli.run("token", "revoke", found[0])
        assert [(row["id"], row["state"]) for row in cli.json("token", "ls")] == [(found[0], "revoked")]
    finally:
        cli.run("down")
