"""A proxy on loopback before an AWS endpoint that refuses some records of PutRecords, as a busy shard does."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

REFUSED = {
    "ErrorCode": "ProvisionedThroughputExceededException",
    "ErrorMessage": "Rate exceeded for shard",
}


class RefusingProxy(ThreadingHTTPServer):
    """Refuses every `nth` record; calls `accepted` when Kinesis has accepted records and nobody knows yet."""

    daemon_threads = True

    def __init__(self, endpoint_url: str, nth: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = urlsplit(endpoint_url)
        self.nth = nth
        self.records = 0
        self.refused = 0
        self.accepted: Callable[[], None] | None = None
        self._lock = threading.Lock()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: who asked was killed."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def sieve(self, count: int) -> list[bool]:
        """Of so many records, which are refused."""
        with self._lock:
            marks = [(self.records + place) % self.nth == 0 for place in range(1, count + 1)]
            self.records += count
            self.refused += sum(marks)
        return marks


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: RefusingProxy  # pyright: ignore[reportIncompatibleVariableOverride]

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation == "PutRecords":
            self.put_records(body)
        else:
            self.answer(*self.forward(body))

    def put_records(self, body: bytes) -> None:
        request = json.loads(body)
        marks = self.server.sieve(len(request["Records"]))
        kept = [record for record, refused in zip(request["Records"], marks, strict=True) if not refused]
        answers: list[dict[str, Any]] = []
        if kept:
            status, head, reply = self.forward(json.dumps(request | {"Records": kept}).encode())
            if status != 200:
                self.answer(status, head, reply)
                return
            answers = json.loads(reply)["Records"]
        given = iter(answers)
        merged = [REFUSED if refused else next(given) for refused in marks]
        if kept and self.server.accepted is not None:
            self.server.accepted()
        whole = {"FailedRecordCount": sum(marks), "Records": merged}
        self.answer(200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(whole).encode())

    def forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        target = self.server.target
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=30)
        try:
            skipped = {"host", "content-length", "connection", "expect"}
            head = {name: value for name, value in self.headers.items() if name.lower() not in skipped}
            connection.request("POST", self.path, body, head)
            response = connection.getresponse()
            reply = response.read()
            return response.status, {"Content-Type": response.getheader("Content-Type", "")}, reply
        finally:
            connection.close()

    def answer(self, status: int, head: dict[str, str], body: bytes) -> None:
        try:
            self.send_response(status)
            for name, value in head.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # who asked was killed
