"""A store of objects that does little: HEAD and (ranged) GET, each after a delay, counted; in a process of its own."""

from __future__ import annotations

import asyncio
import threading
from multiprocessing.connection import Connection
from typing import cast
from urllib.parse import unquote

from benchmarks.side_server import HOST, SideServer

BUCKET = "archive"
_MODIFIED = "Thu, 20 Nov 2025 22:00:00 GMT"


class RangeServer(SideServer):
    """The objects, held and counted in a child process."""

    def __init__(self) -> None:
        super().__init__(serve)

    def hold(self, name: str, data: bytes) -> None:
        """Keep an object of the bucket."""
        self._ask((name, data))

    def delay(self, delay_s: float) -> None:
        """From now on answer each request so much later."""
        self._ask(("", delay_s))

    def taken(self) -> tuple[int, int]:
        """Requests, and bytes of bodies, since this was last asked."""
        return cast(tuple[int, int], self._ask(("", None)))


def serve(pipe: Connection) -> None:
    """Serve until the pipe's other end is gone. Sends the port once, then takes objects, delays, questions."""
    asyncio.run(_serve(pipe))


class _Held:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.delay_s = 0.0
        self.requests = 0
        self.body_bytes = 0


async def _serve(pipe: Connection) -> None:
    held = _Held()
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()

    def listen() -> None:
        try:
            while True:
                pipe.send(_settle(held, *cast(tuple[str, object], pipe.recv())))
        except (EOFError, OSError):
            loop.call_soon_threadsafe(gone.set)

    server = await loop.create_server(lambda: _Connection(held), HOST, 0)
    pipe.send(server.sockets[0].getsockname()[1])
    threading.Thread(target=listen, daemon=True).start()
    await gone.wait()


def _settle(held: _Held, name: str, thing: object) -> object:
    if isinstance(thing, bytes):
        held.objects[name] = thing
    elif isinstance(thing, float):
        held.delay_s = thing
    else:
        counted = held.requests, held.body_bytes
        held.requests = held.body_bytes = 0
        return counted
    return None


class _Connection(asyncio.Protocol):
    """One kept-alive connection; requests have no body."""

    def __init__(self, held: _Held) -> None:
        self._held = held
        self._input = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._input += data
        while (end := self._input.find(b"\r\n\r\n")) >= 0:
            request = bytes(self._input[:end]).decode("latin-1")
            del self._input[: end + 4]
            asyncio.get_running_loop().call_later(self._held.delay_s, self._answer, request)

    def _answer(self, request: str) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        head, body = _answered(self._held, request)
        self._held.requests += 1
        self._held.body_bytes += len(body)
        self._transport.write(head)
        if body:
            self._transport.write(body)


def _answered(held: _Held, request: str) -> tuple[bytes, bytes]:
    first, *lines = request.split("\r\n")
    method, target, _ = first.split(" ", 2)
    name = unquote(target.partition("?")[0]).removeprefix(f"/{BUCKET}/")
    data = held.objects.get(name)
    if data is None:
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", b""
    fields = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    start, end, status, extra = 0, len(data), "200 OK", ""
    if wanted := fields.get("range", "").removeprefix("bytes="):
        low, _, high = wanted.partition("-")
        start = int(low) if low else max(0, len(data) - int(high))
        end = min(len(data), int(high) + 1) if low and high else len(data)
        status, extra = "206 Partial Content", f"Content-Range: bytes {start}-{end - 1}/{len(data)}\r\n"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Length: {end - start}\r\n{extra}Accept-Ranges: bytes\r\n"
        f'ETag: "{len(data):x}"\r\nLast-Modified: {_MODIFIED}\r\nContent-Type: application/octet-stream\r\n\r\n'
    )
    return head.encode(), b"" if method == "HEAD" else data[start:end]
