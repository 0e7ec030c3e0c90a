"""How other processes find a running local stack and talk to it: the state file, the token, the control server."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.local import control, state_file
from infra.local.control import ControlServer
from infra.local.state_file import State
from ingest.errors import Refused, Unavailable


class Fake:
    """Something to control that only remembers."""

    def __init__(self) -> None:
        self.expired_at: list[int] = []
        self.stopped = threading.Event()
        self.fails: Exception | None = None

    def status(self) -> dict[str, Any]:
        return {"readings": 7}

    def batches(self) -> dict[str, Any]:
        return {"batches": [], "dropped": 3}

    def store(self, progress: Callable[[str], None]) -> None:
        progress("0 records to go")

    def flush(self, progress: Callable[[str], None]) -> None:
        progress("2 records to go")
        if self.fails is not None:
            raise self.fails
        progress("1 record to go")

    def expire(self, now_s: int, progress: Callable[[str], None]) -> dict[str, int]:
        self.expired_at.append(now_s)
        return {"tickets": 1, "chunks": 2}

    def request_stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def fake() -> Fake:
    return Fake()


@pytest.fixture
def state(fake: Fake) -> Iterator[State]:
    server = ControlServer(fake)
    pid = os.getpid()
    yield State(
        endpoint_url="http://127.0.0.1:4566",
        control_url=server.url,
        token=server.token,
        pid=pid,
        process_started=state_file.process_started(pid),
        region="us-east-1",
        outputs={"TableName": "t"},
        options={},
        started_at=0.0,
        data_dir=None,
    )
    server.stop()


def test_calls_reach_the_stack_and_say_how_they_get_on(state: State, fake: Fake) -> None:
    told: list[str] = []
    assert control.status(state) == {"readings": 7}
    assert control.batches(state) == {"batches": [], "dropped": 3}
    control.flush(state, told.append)
    assert told == ["2 records to go", "1 record to go"]
    assert control.expire(state, 1_900_000_000, told.append) == {"tickets": 1, "chunks": 2}
    assert fake.expired_at == [1_900_000_000]


def test_a_failure_arrives_as_the_same_error(state: State, fake: Fake) -> None:
    fake.fails = Unavailable("a batch keeps failing: no table")
    with pytest.raises(Unavailable, match="no table"):
        control.flush(state, lambda _: None)
    fake.fails = ZeroDivisionError("oops")
    with pytest.raises(control.ThermoclineError, match="oops"):
        control.flush(state, lambda _: None)


def test_nobody_without_the_token_is_obeyed(state: State, fake: Fake) -> None:
    wrong = replace(state, token="guess")
    for call in (control.status, lambda of: control.stop(of, 1), lambda of: control.expire(of, 1, print)):
        with pytest.raises(Refused):
            call(wrong)
    address = urlsplit(state.control_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=5)
    connection.request("POST", "/stop")
    assert connection.getresponse().status == 401
    connection.close()
    assert not fake.stopped.is_set()
    assert fake.expired_at == []


def test_a_stack_that_does_not_answer_is_said_to(state: State) -> None:
    gone = replace(state, control_url="http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="did not answer"):
        control.status(gone)


def test_stop_asks_and_waits_for_the_process(state: State, fake: Fake) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    other = replace(state, pid=child.pid, process_started=state_file.process_started(child.pid))
    with pytest.raises(Unavailable, match="did not stop"):
        control.stop(other, 0.1)
    assert fake.stopped.is_set()
    child.communicate(b"\n")
    control.stop(other, 5)


def test_the_state_is_found_by_its_owner_only_and_goes_with_the_stack(state: State, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "thermocline"
    assert state_file.find_running(folder) is None
    path = state_file.publish(state, folder)
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    assert state_file.find_running(folder) == state
    with pytest.raises(Refused, match="already runs at http://127"):
        state_file.publish(replace(state, token="second"), folder)
    state_file.withdraw(replace(state, token="second"), folder)
    assert state_file.find_running(folder) == state
    state_file.withdraw(state, folder)
    assert list(folder.iterdir()) == []


def test_a_file_left_behind_is_ignored_and_removed(state: State, tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    reused = replace(state, process_started="another time")
    for stale in (replace(state, pid=child.pid), reused):
        path = state_file.publish(stale, tmp_path)
        assert state_file.find_running(tmp_path) is None
        assert not path.exists()
    path = tmp_path / state_file.FILE_NAME
    path.write_text("{")
    assert state_file.find_running(tmp_path) is None
    assert not path.exists()


def test_the_folder_follows_the_xdg_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/u")
    both = {"XDG_RUNTIME_DIR": "/run/u", "XDG_STATE_HOME": "/state"}
    assert state_file.state_folder(both) == Path("/run/u/thermocline")
    assert state_file.state_folder({"XDG_STATE_HOME": "/state"}) == Path("/state/thermocline")
    assert state_file.state_folder({}) == Path("/home/u/.local/state/thermocline")
