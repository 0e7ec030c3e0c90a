"""Keeps the API's process running beside the emulator: started, told where the stack is, started again, stopped."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from infra.local.emulator import CREDENTIALS, HOST, INHERITED, claim_port, free_port, port_is_free
from ingest.errors import BadInput, Unavailable

_log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
USUAL_PORT = 8086
"""InfluxDB's, so that what writes to one needs no other address."""
PORTS_TRIED = 20
START_LIMIT_S = 30.0
STOP_LIMIT_S = 1.5
LOG_NAME = "api.log"
HEALTH_PATH = "/health"
FIRST_BACKOFF_S = 0.1
MOST_BACKOFF_S = 5.0
STEADY_S = 10.0
"""A process that ran for so long is started again at once; one that ended sooner, a little later each time."""
_LAUNCHER = """
import json, os, sys, threading
sys.path.append(sys.argv[1])
from lambdas import serve
line = sys.stdin.readline()
if not line:
    os._exit(0)
order = json.loads(line)
os.environ.update(order["environment"])
def follow():
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=follow, daemon=True).start()
serve.main(order["arguments"])
"""
"""The process imports what it needs while the stack is still being deployed, and reads on stdin where the
stack is. stdin is its lifeline, too: it ends with the parent, however that went, and the process with it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the API has to know of the stack: what its function is told, and where to ask for counters."""

    endpoint_url: str
    region: str
    outputs: Mapping[str, str]
    stack_name: str
    unknown_sensors: str
    lanes: int
    write_unit_usd: str
    control_url: str
    control_token: str

    def environment(self) -> dict[str, str]:
        """The same as variables."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_DEFAULT_REGION": self.region,
            "THERMOCLINE_TABLE": self.outputs["TableName"],
            "THERMOCLINE_ARCHIVE_BUCKET": self.outputs["ArchiveBucket"],
            "THERMOCLINE_REJECTS_BUCKET": self.outputs["RejectsBucket"],
            "THERMOCLINE_STREAM": self.outputs["StreamName"],
            "THERMOCLINE_STACK": self.stack_name,
            "THERMOCLINE_UNKNOWN_SENSORS": self.unknown_sensors,
            "THERMOCLINE_LANES": str(self.lanes),
            "THERMOCLINE_WRITE_UNIT_USD": self.write_unit_usd,
            "THERMOCLINE_CONTROL_URL": self.control_url,
            "THERMOCLINE_CONTROL_TOKEN": self.control_token,
        }


class ApiServer:
    """One process after the other, each serving the HTTP API of the same stack on the same loopback port.

    `launch` early, `tell` when the stack is deployed, then `wait_healthy`, and in any case `stop`.
    """

    def __init__(self, log_file: Path) -> None:
        self.log_file = log_file
        """Where the process's output goes, from all its starts."""
        self.port = 0
        self._claim: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._order = b""
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._healthy = False
        self._failed = False
        self.restarts = 0
        """How often the process was started again."""

    @property
    def url(self) -> str:
        """Where the API answers."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The id of the process; None while none runs."""
        with self._guard:
            return self._process.pid if self._process is not None else None

    def choose_port(self, port: int | None) -> None:
        """Take the port, or for None 8086 or the next free one. Raises BadInput where it is taken."""
        self.log_file.unlink(missing_ok=True)
        if port is not None:
            self.port, self._claim = port, claim_port(port) if port_is_free(port) else None
            if self._claim is None:
                raise BadInput(
                    f"Port {port} is in use on {HOST}. Choose another with --api-port, or leave --api-port "
                    "out to take the next free one."
                )
            return
        first = USUAL_PORT
        for _ in range(PORTS_TRIED):
            self.port = free_port(first)
            self._claim = claim_port(self.port)
            if self._claim is not None:
                return
            first = self.port + 1
        raise Unavailable(
            f"Other stacks took every port tried from {USUAL_PORT} on. Name one with --api-port."
        )

    def launch(self) -> None:
        """Start the process; it only imports what it needs until it is told where the stack is."""
        kept = (*INHERITED, "TMPDIR")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "POWERTOOLS_SERVICE_NAME": "serve_api",
            "POWERTOOLS_METRICS_NAMESPACE": "Thermocline",
            "PYTHONUNBUFFERED": "1",
            **CREDENTIALS,
        }
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _LAUNCHER, str(ROOT)],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def tell(self, facts: Facts) -> None:
        """Let the process serve the stack, and watch over it from now on."""
        arguments = ["--host", HOST, "--port", str(self.port)]
        order = {"environment": facts.environment(), "arguments": arguments}
        self._order = json.dumps(order).encode() + b"\n"
        self._thread = threading.Thread(target=self._keep, name="api-server", daemon=True)
        self._thread.start()

    def wait_healthy(self) -> None:
        """Return when the API answers. Raises Unavailable with its last words where it does not within 30 s."""
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self._answers():
                self._healthy = True
                return
            if self._stopping.is_set() or self._failed:
                break
            time.sleep(0.01)
        raise Unavailable(f"The API did not start on {self.url}. Its last words: {self._last_words()}")

    def stop(self) -> None:
        """End the process (SIGTERM, then SIGKILL to its group). Safe to call at any time and more than once."""
        self._stopping.set()
        with self._guard:
            process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT_S)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            _close(process)
        if self._thread is not None:
            self._thread.join(5.0)
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.close()

    # --- keeping ----------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            process = self._process
            if process is None:
                return
            began_s = time.monotonic()
            with contextlib.suppress(OSError, ValueError):
                cast(Any, process.stdin).write(self._order)
                cast(Any, process.stdin).flush()
            code = process.wait()
            _close(process)
            if self._stopping.is_set():
                return
            if not self._healthy:
                self._failed = True
                return
            failures = 0 if time.monotonic() - began_s > STEADY_S else failures + 1
            _log.warning("the API ended (%s) and is started again: see %s", _how(code), self.log_file)
            if self._stopping.wait(min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures, 10))):
                return
            with self._guard:  # `stop` sees either no process or the one it has to end
                if self._stopping.is_set():
                    return
                self.launch()
                self.restarts += 1

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", HEALTH_PATH)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _last_words(self) -> str:
        try:
            lines = self.log_file.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return " | ".join(lines[-4:]) or "(none)"


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
