"""SIGTERM and ^C at any moment leave no process, port or temporary folder behind."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.local.command import Cli, processes_of


def wait_until_ready(cli: Cli) -> dict[str, object]:
    deadline_s = time.monotonic() + 30
    while time.monotonic() < deadline_s:
        process = cli.start("status", "--format", "json")
        out, _ = process.communicate(timeout=30)
        if process.returncode == 0:
            return json.loads(out)
        time.sleep(0.1)
    pytest.fail("the stack did not become ready")


def left_behind(cli: Cli) -> list[Path]:
    return [path for path in (cli.folder / "tmp").rglob("*") if path.is_file()]


def is_listening(url: object) -> bool:
    port = int(str(url).rsplit(":", 1)[1])
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "^C"])
def test_a_stack_in_the_foreground_stops_cleanly_and_stops_what_talks_to_it(
    cli: Cli, number: signal.Signals, tmp_path: Path
) -> None:
    up = cli.start("up")
    try:
        state = wait_until_ready(cli)
        series = tmp_path / "slow.csv"
        series.write_text("ts_ms,value\n" + "".join(f"{1386018900000 + i * 1000},{i}\n" for i in range(5000)))
        for sending in (
            cli.start("simulate", "--sensors", "5", "--duration", "1h", "--speed", "1"),
            cli.start("replay", str(series), "--sensor", "slow", "--speed", "1"),
        ):
            time.sleep(1.5)
            assert sending.poll() is None, sending.communicate()
            sending.send_signal(number)
            sending.communicate(timeout=10)
            assert sending.returncode not in (0, None)
    finally:
        up.send_signal(number)
        up.communicate(timeout=30)
    assert not is_listening(state["endpoint_url"])
    assert not processes_of(cli.folder)
    assert not left_behind(cli)
    assert cli.start("status").wait(30) == 3


@pytest.mark.parametrize(("number", "after_s"), [(signal.SIGTERM, 1.0), (signal.SIGINT, 4.0)])
def test_a_demo_that_is_stopped_leaves_nothing(cli: Cli, number: signal.Signals, after_s: float) -> None:
    demo = cli.start("demo")
    time.sleep(after_s)
    demo.send_signal(number)
    demo.communicate(timeout=30)
    assert demo.returncode != 0
    assert not processes_of(cli.folder)
    assert not left_behind(cli)


def test_a_stack_in_the_background_is_found_and_stopped(cli: Cli) -> None:
    cli.run("up", "-d", "--window", "200ms")
    state = cli.json("status")
    assert cli.start("up", "-d").wait(30) == 4, "a second one is refused"
    cli.run("down")
    assert not is_listening(state["endpoint_url"])
    assert cli.start("down").wait(30) == 3
    assert not left_behind(cli)
