"""Faults inside processes of the stack: Python imports this at start where the folder is on PYTHONPATH.

Every botocore client made afterwards gets a handler on `before-send`, which may send the request
itself and keep the answer, alter both, send nothing, or kill the process before or after. Nothing
happens while the file `on` is missing. Each fault adds a line to the file `faults` before it strikes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

VARIABLE = "THERMOCLINE_TEST_VIOLENCE"
"""JSON: `folder`, `seed`, and by component in `parts`: `rates`, by kind the share of the calls that are hit;
`deaths`, the kinds by which one process each of it dies, by its call number `calls` at the latest;
`refused`: operation and a text in the request, of which the first call is throttled at every attempt."""
MOST_WAIT_S = 0.05
"""botocore's own waits between attempts are cut to this, so that calls fail for good within a test's time."""
STUBBORN = 0.03
"""So many of the faults hit every attempt of a call, and so the caller; the others botocore survives alone."""
THROTTLES = {
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "dynamodb-streams": (400, "LimitExceededException"),
    "kinesis": (400, "ProvisionedThroughputExceededException"),
    "lambda": (429, "TooManyRequestsException"),
    "s3": (503, "SlowDown"),
}
LISTS = {
    "BatchWriteItem": ("RequestItems", "UnprocessedItems"),
    "BatchGetItem": ("RequestItems", "UnprocessedKeys"),
}


def component() -> str:
    """Which part of the stack this process is; empty for any other process."""
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    if function:
        return function.removeprefix("thermocline-").replace("-", "_")
    words = " ".join(sys.orig_argv)
    if "infra.local.runner" in words:
        return "event_sources"
    return "publisher" if " simulate " in words else ""


class Injector:
    """Decides for each call of this process whether and how it fails."""

    def __init__(self, name: str, folder: str, seed: int, part: dict[str, Any]) -> None:
        self._name = name
        self._folder = Path(folder)
        self._rates: dict[str, float] = part["rates"]
        self._deaths: list[str] = part.get("deaths", [])
        self._refused: list[list[str]] = part.get("refused", [])
        self._random = random.Random(f"{seed} {name} {self._ordinal()}")
        self._calls_left = self._random.randint(1, part.get("calls", 1))
        self._stubborn: dict[str, str] = {}

    def _ordinal(self) -> int:
        """How many processes of this component were there before; so each has numbers of its own."""
        return next(number for number in range(10_000) if self._claimed(f"{self._name}.{number}"))

    def _claimed(self, name: str) -> bool:
        """Whether this process is the first to ask for the name."""
        try:
            (self._folder / name).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def attach(self, client: Any) -> None:
        session = client._endpoint.http_session

        def before_send(request: Any, event_name: str, **_: Any) -> Any:
            service, operation = event_name.split(".")[1:]
            kind = self._kind(request, service, operation)
            return None if kind is None else STRIKES[kind](request, service, operation, session.send)

        client.meta.events.register_first("before-send", before_send)

    def _kind(self, request: Any, service: str, operation: str) -> str | None:
        if not (self._folder / "on").exists():
            return None
        if self._name == "publisher" and operation != "PutRecords":
            return None  # a command that cannot even begin says so and ends
        call = str(request.headers.get("amz-sdk-invocation-id"))
        kind = self._stubborn.get(call)
        if kind is None and self._is_refused(request, operation):
            kind = self._stubborn[call] = "throttle"
        if kind is None:
            kind = self._death() or self._drawn()
            if kind is None:
                return None
            if kind == "unprocessed" and (
                operation not in (*LISTS, "PutRecords") or not splits(request, operation)
            ):
                kind = "throttle"
            if self._random.random() < STUBBORN and kind != "unprocessed":
                self._stubborn[call] = kind
        self._tell(f"{self._name} {kind} {operation}\n")
        return kind

    def _death(self) -> str | None:
        """How this process is to die now, if it is."""
        self._calls_left -= 1
        if self._calls_left:
            return None
        return next((kind for kind in self._deaths if self._claimed(f"{self._name}.{kind}")), None)

    def _is_refused(self, request: Any, operation: str) -> bool:
        """Whether this is one of the calls that are refused for good."""
        return any(
            operation == wanted
            and text in f"{request.url} {request.body}"
            and self._claimed(f"{self._name}.{wanted}.{number}")
            for number, (wanted, text) in enumerate(self._refused)
        )

    def _drawn(self) -> str | None:
        share = self._random.random()
        for kind, rate in self._rates.items():
            share -= rate
            if share < 0:
                return kind
        return None

    def _tell(self, line: str) -> None:
        file = os.open(self._folder / "faults", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)


# --- the faults -------------------------------------------------------------------------

Send = Callable[[Any], Any]


def lost(request: Any, service: str, operation: str, send: Send) -> Any:
    """The call is done; the connection breaks before its answer is here."""
    from botocore.exceptions import ConnectionClosedError

    _ = send(request).content
    raise ConnectionClosedError(endpoint_url=request.url)


def error(request: Any, service: str, operation: str, send: Send) -> Any:
    """The call is done; the answer says that the service failed."""
    _ = send(request).content
    return refusal(request, service, 500, "InternalServerError")


def throttle(request: Any, service: str, operation: str, send: Send) -> Any:
    """The call is refused."""
    return refusal(request, service, *THROTTLES[service])


def unprocessed(request: Any, service: str, operation: str, send: Send) -> Any:
    """About half of what the call asks for is left out; the answer says so."""
    body: dict[str, Any] = json.loads(request.body)
    if operation == "PutRecords":
        return records_refused(request, body, send)
    asked, left = LISTS[operation]
    table, wanted = next(iter(body[asked].items()))
    entries = wanted["Keys"] if operation == "BatchGetItem" else wanted
    kept, refused = entries[: len(entries) // 2], entries[len(entries) // 2 :]
    body[asked] = {table: {**wanted, "Keys": kept} if operation == "BatchGetItem" else kept}
    answer = send(altered(request, body))
    if answer.status_code != 200:
        return answer
    told: dict[str, Any] = json.loads(answer.content)
    told[left] = {table: {**wanted, "Keys": refused} if operation == "BatchGetItem" else refused}
    return response(request, 200, dict(answer.headers), json.dumps(told).encode())


def records_refused(request: Any, body: dict[str, Any], send: Send) -> Any:
    """Every second record is refused, as by a busy shard."""
    records = body["Records"]
    answer = send(altered(request, {**body, "Records": records[::2]}))
    if answer.status_code != 200:
        return answer
    told: dict[str, Any] = json.loads(answer.content)
    accepted = iter(told["Records"])
    busy = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded for shard"}
    told["Records"] = [busy if place % 2 else next(accepted) for place in range(len(records))]
    told["FailedRecordCount"] = len(records) // 2
    return response(request, 200, dict(answer.headers), json.dumps(told).encode())


def kill_before(request: Any, service: str, operation: str, send: Send) -> Any:
    """The process dies; the call is not made."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_after(request: Any, service: str, operation: str, send: Send) -> Any:
    """The call is done; the process dies before it learns of it."""
    _ = send(request).content
    os.kill(os.getpid(), signal.SIGKILL)


STRIKES: dict[str, Callable[[Any, str, str, Send], Any]] = {
    strike.__name__: strike for strike in (lost, error, throttle, unprocessed, kill_before, kill_after)
}


def splits(request: Any, operation: str) -> bool:
    """Whether the call asks for several things of one table or stream, in JSON."""
    if b"json" not in request.headers.get("Content-Type", b""):
        return False
    body = json.loads(request.body)
    if operation == "PutRecords":
        return len(body["Records"]) > 1
    tables = list(body["RequestItems"].values())
    entries = tables[0]["Keys"] if operation == "BatchGetItem" else tables[0]
    return len(tables) == 1 and len(entries) > 1


# --- requests and answers ---------------------------------------------------------------


def altered(request: Any, body: dict[str, Any]) -> Any:
    """The request with another body; the emulator does not look at signatures."""
    from botocore.awsrequest import AWSPreparedRequest

    raw = json.dumps(body).encode()
    headers = request.headers.copy()
    headers["Content-Length"] = str(len(raw))
    return AWSPreparedRequest(request.method, request.url, headers, raw, request.stream_output)


def refusal(request: Any, service: str, status: int, code: str) -> Any:
    if service == "s3":
        body = b"<Error><Code>%b</Code><Message>-</Message></Error>" % code.encode()
        if request.method == "HEAD":
            body = b""
    else:
        body = json.dumps({"__type": code, "message": "-"}).encode()
    return response(request, status, {"x-amzn-errortype": code}, body)


def response(request: Any, status: int, headers: dict[str, str], body: bytes) -> Any:
    from botocore.awsrequest import AWSResponse

    changed = {"content-length", "x-amz-crc32", "transfer-encoding", "content-encoding"}
    kept = {name: value for name, value in headers.items() if name.lower() not in changed}

    def stream(*_: Any, **__: Any) -> Iterator[bytes]:
        yield body

    raw: Any = SimpleNamespace(stream=stream, read=lambda *_, **__: body, close=lambda: None)
    return AWSResponse(request.url, status, kept, raw)


# --- installing -------------------------------------------------------------------------


def install() -> None:
    name = component()
    if not name or VARIABLE not in os.environ:
        return
    wanted = json.loads(os.environ[VARIABLE])
    import botocore.endpoint
    import botocore.session

    injector = Injector(name, wanted["folder"], wanted["seed"], wanted["parts"][name])
    create = botocore.session.Session.create_client

    def create_client(self: Any, *arguments: Any, **named: Any) -> Any:
        client = create(self, *arguments, **named)
        injector.attach(client)
        return client

    changed: Any = botocore.session.Session
    changed.create_client = create_client
    waits: Any = botocore.endpoint
    waits.time = SimpleNamespace(sleep=lambda wait_s: time.sleep(min(wait_s, MOST_WAIT_S)))


install()
