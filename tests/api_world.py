"""The API over stores in memory, for tests: its door, requests to it, and what it handed to Kinesis."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

from ingest import token
from ingest.errors import ThermoclineError
from ingest.reading import Run
from ingest.stores.memory_api import MemoryTokens
from ingest.stores.memory_blobs import MemoryBlobStore
from lambdas.api.app import make
from lambdas.api.doors import LambdaDoor
from lambdas.api.params import BODY_CHUNKS
from lambdas.api.services import Services
from tests.world import NOW_S, World


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of the API."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Api:
    """One deployment's API. `sent` are the runs Kinesis accepted; `refusal`, where set, is raised instead."""

    def __init__(self) -> None:
        self.world = World()
        self.tokens = MemoryTokens(_bytes)
        self.blobs = MemoryBlobStore()
        self.sent: list[Run] = []
        self.refusal: ThermoclineError | None = None
        self.failures: list[Exception] = []
        self.services = Services(
            hot=self.world.hot,
            catalog=self.world.catalog,
            cold=self.world.cold,
            rejects=self.world.rejects,
            registry=self.world.registry,
            tokens=self.tokens,
            blobs=self.blobs,
            layout=lambda: self.world.layout,
            now_s=lambda: float(self.world.now_s),
            clock=lambda: 0.0,
            send=self._send,
            presign=lambda name, seconds: f"https://bucket.example/{name}?seconds={seconds}",
            cursor_key=self.tokens.signing_key,
            vitals=dict,
        )
        self._door = make(
            LambdaDoor(lambda: 0.0, _no_log), self.services, lambda error, _: self.failures.append(error)
        )
        self._number = 0
        self.admin = self.token("admin")

    def token(self, *scopes: str) -> str:
        """The text of a new token."""
        self._number += 1
        text, made = token.make(
            self._number.to_bytes(token.ID_BYTES, "little"),
            b"s" * token.SECRET_BYTES,
            token.parse_scopes(scopes),
            "",
            NOW_S,
        )
        self.tokens.put(made)
        return text

    def call(
        self,
        method: str,
        path: str,
        body: bytes | str | Iterable[bytes] = b"",
        *,
        token: str | None = None,
        query: str = "",
        **headers: str,
    ) -> Answered:
        """One request; headers by name with `_` for `-`. `token` is the admin's unless given; empty: none.

        A body of several pieces arrives piece by piece, as under a server.
        """
        raw = body.encode() if isinstance(body, str) else body
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        text = self.admin if token is None else token
        if text and "authorization" not in sent:
            sent["authorization"] = f"Bearer {text}"
        event: dict[str, Any] = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "headers": sent,
            "requestContext": {"requestId": "r1", "http": {"method": method, "path": path}},
            "isBase64Encoded": isinstance(raw, bytes),
        }
        if isinstance(raw, bytes):
            event["body"] = base64.b64encode(raw).decode()
        else:
            event[BODY_CHUNKS] = lambda: iter(cast(Iterator[bytes], raw))
        answer = self._door.resolve(event, None)
        told = str(answer["body"]).encode()
        if answer["isBase64Encoded"]:
            told = base64.b64decode(told)
        return Answered(int(answer["statusCode"]), cast("Mapping[str, str]", answer["headers"]), told)

    def _send(self, runs: Sequence[Run]) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.sent.extend(runs)
        return sum(len(run.ts_us) for run in runs)


def sensor_path(sensor_id: str, rest: str = "") -> str:
    """The path of a sensor, its id as one part."""
    return f"/v1/sensors/{quote(sensor_id, safe='')}{rest}"


def _bytes(count: int) -> bytes:
    return b"k" * count


def _no_log(*_: object) -> None:
    return None


Send = Callable[[Sequence[Run]], int]
