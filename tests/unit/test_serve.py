"""The server as a process: what it says where it cannot start, and how it stops."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ingest.settings import SETTINGS

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_DEFAULT_REGION": "eu-central-1"}
NAMES = (
    "THERMOCLINE_TABLE",
    "THERMOCLINE_ARCHIVE_BUCKET",
    "THERMOCLINE_REJECTS_BUCKET",
    "THERMOCLINE_STREAM",
)


def _started(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lambdas.serve", *arguments]
    made = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=made, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.parametrize("missing", NAMES)
def test_a_missing_variable_is_named_with_its_meaning(missing: str) -> None:
    assert missing in SETTINGS
    given = {name: "x" for name in NAMES if name != missing}
    out, err = (process := _started(NOWHERE | given)).communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert missing in err
    assert "Traceback" not in err


def test_it_serves_until_it_is_told_to_stop_and_writes_only_to_stderr() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = _started(NOWHERE | dict.fromkeys(NAMES, "x"), "--port", str(port))
    try:
        deadline = time.monotonic() + 60
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request("GET", "/health?secret=token")
                answer = connection.getresponse()
                break
            except ConnectionError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.05)
        assert (answer.status, json.loads(answer.read())["status"]) == (200, "ok")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "")
    (line,) = [json.loads(text) for text in err.splitlines()]
    assert {name: line[name] for name in ("method", "route", "status")} == {
        "method": "GET",
        "route": "/health",
        "status": 200,
    }
    assert "secret" not in err
