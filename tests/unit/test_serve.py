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

from cli.serve import _check_free
from ingest.errors import BadInput
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


def test_a_port_that_is_taken_is_told_with_the_code_of_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        process = _started(NOWHERE | dict.fromkeys(NAMES, "x"), "--port", str(port))
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (1, "")
        assert "address already in use" in err
        with pytest.raises(BadInput, match=f"--port: {port} is in use on 127.0.0.1; choose another"):
            _check_free("127.0.0.1", port)
    _check_free("127.0.0.1", port)
    with pytest.raises(BadInput, match=r"--host: 192\.0\.2\.1 cannot be listened on"):
        _check_free("192.0.2.1", port)


def test_what_reads_segments_is_there_before_it_is_asked_for() -> None:
    program = (
        "import sys, lambdas.serve as serve\n"
        "assert 'pyarrow' not in sys.modules, 'the start would wait for it'\n"
        "class Server:\n"
        "    started = True\n"
        "    def __init__(self, config): pass\n"
        "    def run(self):\n"
        "        import threading\n"
        "        [one.join() for one in threading.enumerate() if one.name == 'load']\n"
        "        assert 'pyarrow.parquet' in sys.modules\n"
        "serve.uvicorn.Server = Server\n"
        "sys.exit(serve.run(None, '127.0.0.1', 0))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


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
