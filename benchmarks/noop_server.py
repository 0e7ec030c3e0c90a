"""A DynamoDB and a Kinesis that do nothing: each operation is a canned success, in a process of its own."""

from __future__ import annotations

import asyncio
import threading
from multiprocessing.connection import Connection
from typing import cast

from benchmarks.side_server import HOST, SideServer

TABLE = "readings"
REGION = "us-east-1"
CANNED: dict[str, bytes] = {
    "BatchWriteItem": b'{"UnprocessedItems":{},"ConsumedCapacity":[{"TableName":"readings","CapacityUnits":25.0}]}',
    "BatchGetItem": b'{"Responses":{},"UnprocessedKeys":{}}',
    "GetItem": b"{}",
    "PutItem": b'{"ConsumedCapacity":{"TableName":"readings","CapacityUnits":1.0}}',
    "Query": b'{"Items":[],"Count":0,"ScannedCount":0}',
}
_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: {}\r\n\r\n"


class NoopServer(SideServer):
    """The canned successes, given by a child process."""

    def __init__(self) -> None:
        super().__init__(serve)

    def answer(self, operation: str, body: bytes) -> None:
        """From now on answer the operation with this body."""
        self._ask((operation, body))


def serve(pipe: Connection) -> None:
    """Serve until the pipe's other end is gone. Sends the port once, then takes new answers."""
    asyncio.run(_serve(pipe))


async def _serve(pipe: Connection) -> None:
    answers = {operation.encode(): _response(body) for operation, body in CANNED.items()}
    loop = asyncio.get_running_loop()
    gone = asyncio.Event()

    def listen() -> None:
        try:
            while True:
                operation, body = cast(tuple[str, bytes], pipe.recv())
                answers[operation.encode()] = _response(body)
                pipe.send(None)
        except (EOFError, OSError):
            loop.call_soon_threadsafe(gone.set)

    server = await loop.create_server(lambda: _Connection(answers), HOST, 0)
    pipe.send(server.sockets[0].getsockname()[1])
    threading.Thread(target=listen, daemon=True).start()
    await gone.wait()


def _response(body: bytes) -> bytes:
    return _HEAD.format(len(body)).encode() + body


def _accepted(records: int) -> bytes:
    """The answer to PutRecords that takes so many records."""
    taken = b",".join([b'{"SequenceNumber":"1","ShardId":"shardId-000000000000"}'] * records)
    return _response(b'{"FailedRecordCount":0,"Records":[%s]}' % taken)


class _Connection(asyncio.Protocol):
    """One kept-alive connection: reads requests to their end, answers by the operation they name."""

    def __init__(self, answers: dict[bytes, bytes]) -> None:
        self._answers = answers
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._held += data
        while (end := self._held.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._held[:end]).lower()
            whole = end + 4 + int(_field(head, b"content-length") or 0)
            if len(self._held) < whole:
                return
            target = _field(bytes(self._held[:end]), b"X-Amz-Target")
            records = self._held.count(b'"PartitionKey"', end, whole)
            del self._held[:whole]
            operation = target.rpartition(b".")[2]
            answer = _accepted(records) if operation == b"PutRecords" else self._answers[operation]
            if self._transport is not None:
                self._transport.write(answer)


def _field(head: bytes, name: bytes) -> bytes:
    """A header's value; empty where there is none."""
    start = head.find(name + b":")
    if start < 0:
        return b""
    end = head.find(b"\r\n", start)
    return head[start + len(name) + 1 : end if end >= 0 else len(head)].strip()
