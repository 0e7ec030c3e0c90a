"""The control server of a running local stack, and what other processes call it with."""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from infra.local.emulator import HOST
from infra.local.state_file import State, find_running, process_started, state_folder
from ingest import errors
from ingest.errors import ThermoclineError, Unavailable

__all__ = [
    "ConnectionLost",
    "ControlServer",
    "Controlled",
    "State",
    "batches",
    "expire",
    "find_running",
    "flush",
    "raised",
    "state_folder",
    "status",
    "stop",
    "store",
]
Progress = Callable[[str], None]
MOST_REQUEST_BYTES = 10_000
SILENCE_LIMIT_S = 60.0
"""A long call that says nothing for so long counts as broken; the server says something every 10 s."""
_HEARTBEAT_S = 10.0


class ConnectionLost(Unavailable):
    """Nobody answered, or not to the end: what was asked for may have happened or not."""


class Reachable(Protocol):
    """Where a control server listens and the token it wants."""

    @property
    def control_url(self) -> str:
        """Its address."""
        ...

    @property
    def token(self) -> str:
        """What a caller has to know."""
        ...


class Controlled(Protocol):
    """What the server controls."""

    def status(self) -> dict[str, Any]:
        """What runs, as JSON."""
        ...

    def batches(self) -> dict[str, Any]:
        """Which batches were stored, as JSON."""
        ...

    def store(self, progress: Progress) -> None:
        """Store everything sent so far."""
        ...

    def flush(self, progress: Progress) -> None:
        """Bring everything sent so far to where it belongs."""
        ...

    def expire(self, now_s: int, progress: Progress) -> dict[str, int]:
        """Run the TTL clock at a time; what went."""
        ...

    def request_stop(self) -> None:
        """Have the stack stop soon; returns at once."""
        ...


# --- the server -------------------------------------------------------------------------


class ControlServer:
    """An HTTP server on loopback that obeys whoever knows its token."""

    def __init__(self, controlled: Controlled) -> None:
        self.token = secrets.token_urlsafe(32)
        self._server = _Server((HOST, 0), _Handler)
        self._server.controlled = controlled
        self._server.token = self.token
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="control", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; calls under way end with the process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    controlled: Controlled
    token: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the CLI's own calls are no news."""

    def do_GET(self) -> None:
        """Status, batches."""
        if not self._trusted():
            return
        controlled = self.server.controlled
        answers = {"/status": controlled.status, "/batches": controlled.batches}
        if self.path not in answers:
            self._answer(404, {"error": "NotFound", "message": self.path})
            return
        try:
            self._answer(200, answers[self.path]())
        except Exception as error:  # noqa: BLE001 - whatever happened, the caller is told
            self._answer(500, _told(error))

    def do_POST(self) -> None:
        """Store, flush, expire, stop."""
        if not self._trusted():
            return
        size = int(self.headers.get("Content-Length") or 0)
        if size > MOST_REQUEST_BYTES:
            self._answer(413, {"error": "BadInput", "message": "The request is too large."})
            return
        try:
            order = cast(dict[str, Any], json.loads(self.rfile.read(size) or b"{}"))
        except ValueError as error:
            self._answer(400, {"error": "BadInput", "message": str(error)})
            return
        controlled = self.server.controlled
        if self.path == "/stop":
            self._answer(200, {})
            controlled.request_stop()
        elif self.path == "/store":
            self._stream(controlled.store)
        elif self.path == "/flush":
            self._stream(controlled.flush)
        elif self.path == "/expire":
            self._stream(lambda progress: controlled.expire(int(order["now_s"]), progress))
        else:
            self._answer(404, {"error": "NotFound", "message": self.path})

    def _trusted(self) -> bool:
        offered = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if secrets.compare_digest(offered.encode(), self.server.token.encode()):
            return True
        self.close_connection = True
        self._answer(401, {"error": "Refused", "message": "The token is not this stack's."})
        return False

    def _answer(self, code: int, body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _stream(self, call: Callable[[Progress], dict[str, int] | None]) -> None:
        """Run a long call, a line of JSON for each thing it says; the last one says how it ended."""
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Connection", "close")
        self.end_headers()
        with _Voice(self.wfile.write, self.wfile.flush) as say:
            try:
                done = call(lambda text: say({"progress": text}))
            except Exception as error:  # noqa: BLE001 - whatever happened, the caller is told
                say(_told(error))
            else:
                say({"done": done or {}})


class _Voice:
    """Writes lines, and an empty one whenever nothing was said for a while. A caller that is gone is ignored:
    what it asked for is finished all the same."""

    def __init__(self, write: Callable[[bytes], Any], flush: Callable[[], Any]) -> None:
        self._write = write
        self._flush = flush
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._hum, daemon=True)

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        self._thread.start()
        return self._say

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _say(self, line: dict[str, Any]) -> None:
        with self._lock:
            try:
                self._write(json.dumps(line).encode() + b"\n")
                self._flush()
            except OSError:
                self._over.set()

    def _hum(self) -> None:
        while not self._over.wait(_HEARTBEAT_S):
            self._say({})


def _told(error: Exception) -> dict[str, Any]:
    return {"error": type(error).__name__, "message": str(error)}


# --- the client -------------------------------------------------------------------------


def status(server: Reachable) -> dict[str, Any]:
    """What the stack says of itself. Raises Unavailable."""
    with _request(server, "GET", "/status") as response:
        return cast(dict[str, Any], json.loads(response.read()))


def batches(server: Reachable) -> dict[str, Any]:
    """Which batches the stack stored (`infra.local.journal.Journal.snapshot`). Raises Unavailable."""
    with _request(server, "GET", "/batches") as response:
        return cast(dict[str, Any], json.loads(response.read()))


def store(server: Reachable, progress: Progress) -> None:
    """Return when everything sent so far is stored; open windows are closed. Raises Unavailable."""
    _follow(server, "/store", {}, progress)


def flush(server: Reachable, progress: Progress) -> None:
    """Return when everything sent so far is stored, archived where due, and indexed. Raises Unavailable."""
    _follow(server, "/flush", {}, progress)


def expire(server: Reachable, now_s: int, progress: Progress) -> dict[str, int]:
    """Run the stack's TTL clock at a time (epoch seconds): how many `tickets` and `chunks` went."""
    return _follow(server, "/expire", {"now_s": now_s}, progress)


def stop(state: State, limit_s: float) -> None:
    """Stop the stack and wait until its process is gone. Raises Unavailable after `limit_s`."""
    with _request(state, "POST", "/stop"):
        pass
    deadline = time.monotonic() + limit_s
    while process_started(state.pid) == state.process_started:
        if time.monotonic() > deadline:
            raise Unavailable(f"The stack (process {state.pid}) did not stop within {limit_s:.0f} s.")
        time.sleep(0.02)


def _follow(server: Reachable, path: str, order: dict[str, Any], progress: Progress) -> dict[str, int]:
    with _request(server, "POST", path, order) as response:
        for raw in response:
            if not raw.endswith(b"\n"):
                break  # the other side was killed in the middle of a line
            line = cast(dict[str, Any], json.loads(raw))
            if "progress" in line:
                progress(str(line["progress"]))
            elif "done" in line:
                return cast(dict[str, int], line["done"])
            elif "error" in line:
                raise raised(line)
    raise ConnectionLost("The local stack ended in the middle of the call.")


@contextmanager
def _request(
    server: Reachable, method: str, path: str, order: dict[str, Any] | None = None
) -> Generator[http.client.HTTPResponse]:
    host = urlsplit(server.control_url)
    connection = http.client.HTTPConnection(host.hostname or HOST, host.port, timeout=SILENCE_LIMIT_S)
    body = json.dumps(order or {}).encode()
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {server.token}"})
        response = connection.getresponse()
        if response.status != 200:
            raise raised(cast(dict[str, Any], json.loads(response.read())))
        yield response
    except (OSError, http.client.HTTPException) as error:
        message = f"The local stack at {server.control_url} did not answer ({error})."
        raise ConnectionLost(message) from error
    finally:
        connection.close()


def raised(line: dict[str, Any]) -> ThermoclineError:
    """The error the other side told of, of the same class where it is one of the project's."""
    kind: Any = getattr(errors, str(line.get("error")), None)
    known = isinstance(kind, type) and issubclass(kind, ThermoclineError)
    error = cast(type[ThermoclineError], kind) if known else ThermoclineError
    return error(str(line.get("message")))
