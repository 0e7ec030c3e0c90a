"""The event sources' process: started again when it is killed, gone when the stack is, honest when it cannot start."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from infra.local.keeper import Keeper
from infra.local.runner import Task
from ingest.errors import ThermoclineError
from tests.local.command import Cli, processes_of
from tests.local.violence import below

RUNNER = "infra.local.runner"
START_S = 1_763_676_000


def stack_pid(cli: Cli) -> int:
    found = [line for line in processes_of(cli.folder) if " cli.main up" in line]
    assert len(found) == 1, found
    return int(found[0].split()[0])


def runner_pid(cli: Cli) -> int | None:
    return next((one.pid for one in below(stack_pid(cli)) if RUNNER in one.command), None)


def test_killed_event_sources_go_on_where_they_were(stack: Cli) -> None:
    arguments = ["--sensors", "3", "--duration", "60s", "--start", str(START_S)]
    stack.run("simulate", *arguments)
    time.sleep(2.5)  # the place is noted every two seconds
    before = runner_pid(stack)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    stack.run("simulate", *arguments, "--seed", "1")
    status = stack.json("status")
    assert status["event_source_restarts"] == 1
    assert runner_pid(stack) != before
    assert status["readings"] == 2 * 180, "what was stored before is not read again"
    assert "the event sources ended (signal SIGKILL), restart 1" in log_of(stack)


def log_of(cli: Cli) -> str:
    return (cli.folder / "run" / "thermocline" / "up.log").read_text()


def test_a_call_under_way_when_they_are_killed_is_made_again(stack: Cli) -> None:
    stack.run("simulate", "--sensors", "3", "--duration", "60s", "--start", str(START_S), "--no-wait")
    restarts = stack.json("status")["event_source_restarts"]
    flush = stack.start("flush")
    give_up = time.monotonic() + 20
    while flush.poll() is None and time.monotonic() < give_up:
        pid = runner_pid(stack)
        if pid is not None and stack.json("status")["event_source_restarts"] == restarts:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    out, err = flush.communicate(timeout=60)
    assert flush.returncode == 0, out + err
    assert stack.json("status")["event_source_restarts"] > restarts


def test_they_go_when_the_stack_is_killed(cli: Cli) -> None:
    cli.run("up", "-d")
    os.kill(stack_pid(cli), signal.SIGKILL)
    give_up = time.monotonic() + 20
    while processes_of(cli.folder):
        assert time.monotonic() < give_up, processes_of(cli.folder)
        time.sleep(0.05)


def test_what_cannot_be_started_says_why(tmp_path: Path, unused_tcp_port: int) -> None:
    names = (
        "TableName",
        "ArchiveBucket",
        "RejectsBucket",
        "ArchiveExpiredFunction",
        "CompactArchiveFunction",
    )
    outputs = dict.fromkeys(map(str, names), "nowhere")
    state_file = str(tmp_path / "state.json")
    task = Task(f"http://127.0.0.1:{unused_tcp_port}", "us-east-1", outputs, state_file, 1.0, 5)
    keeper = Keeper()
    keeper.launch()
    try:
        with pytest.raises(ThermoclineError, match="Could not connect"):
            keeper.begin(task)
    finally:
        keeper.stop(0.1)
    assert keeper.pid is None


def test_what_was_never_given_a_task_stops_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    keeper = Keeper()
    keeper.launch()
    keeper.stop(0.1)
    assert capfd.readouterr() == ("", "")
