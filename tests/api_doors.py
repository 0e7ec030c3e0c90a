"""The API's two doors over the same stores in memory, for tests: one request, both answers."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lambdas.api.app import make
from lambdas.api.doors import LambdaDoor, ServerDoor
from lambdas.api.services import Services
from tests.api_world import Answered, Api

Logged = tuple[str, str, int, float, str]


@dataclass(slots=True)
class Request:
    """A request; `path` as a client sends it, percent-encoded."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    headers: Mapping[str, str] | None = None


class Doors:
    """Both doors of one deployment. `logged` and `failed` are what they told, of both."""

    def __init__(self, api: Api | None = None, **changes: Any) -> None:
        self.api = api or Api()
        self.services: Services = replace(self.api.services, **changes)
        self.logged: list[Logged] = []
        self.failed: list[Exception] = []
        fail = self._fail
        self.function = make(LambdaDoor(lambda: 0.0, self._log), self.services, fail)
        self.server = make(ServerDoor(lambda: 0.0, self._log, lambda: "r1"), self.services, fail)

    def lambda_answer(self, request: Request, authorizer: Mapping[str, Any] | None = None) -> Answered:
        """Through the function, as API Gateway's HTTP API calls it."""
        context: dict[str, Any] = {"requestId": "r1", "stage": "$default"}
        context["http"] = {"method": request.method, "path": request.path}
        if authorizer is not None:
            context["authorizer"] = authorizer
        event: dict[str, Any] = {
            "version": "2.0",
            "rawPath": request.path,
            "rawQueryString": request.query,
            "headers": dict(request.headers or {}),
            "requestContext": context,
            "isBase64Encoded": bool(request.body),
        }
        if request.body:
            event["body"] = base64.b64encode(request.body).decode()
        answer = self.function.resolve(event, None)
        body = str(answer["body"]).encode()
        return _opened(
            int(answer["statusCode"]),
            {name.lower(): str(text) for name, text in answer["headers"].items()},
            base64.b64decode(body) if answer["isBase64Encoded"] else body,
        )

    def server_answer(self, request: Request, pieces: Sequence[bytes] | None = None) -> Answered:
        """Through the server's application; the body arrives in pieces."""
        return asyncio.run(self.ask(request, pieces))

    async def ask(self, request: Request, pieces: Sequence[bytes] | None = None) -> Answered:
        """As `server_answer`, within a loop."""
        left = list(pieces if pieces is not None else [request.body])
        told: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not left:
                return {"type": "http.disconnect"}
            piece = left.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(left)}

        async def send(message: Any) -> None:
            told.append(message)

        headers = request.headers or {}
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query.encode(),
            "headers": [(name.encode(), text.encode()) for name, text in headers.items()],
        }
        await self.server(scope, receive, send)
        start, rest = told
        headers = {name.decode(): text.decode() for name, text in start["headers"]}
        return _opened(start["status"], headers, rest["body"])

    def both(self, request: Request) -> Answered:
        """The answer, which is the same through both doors."""
        one, other = self.lambda_answer(request), self.server_answer(request)
        other_headers = {name: text for name, text in other.headers.items() if name != "content-length"}
        assert (one.status, one.body, dict(one.headers)) == (other.status, other.body, other_headers)
        return one

    def get(self, path: str, query: str = "", token: str | None = None, **headers: str) -> Answered:
        """A GET through both doors; the admin's token unless another (or, empty, none) is given."""
        return self.both(Request("GET", path, query, headers=headers | bearer(self.api, token)))

    def change(
        self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str
    ) -> Answered:
        """A request that changes something, through the function alone."""
        raw = b"" if body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): text for name, text in headers.items()}
        return self.lambda_answer(Request(method, path, body=raw, headers=sent | bearer(self.api, token)))

    def _log(self, *line: Any) -> None:
        self.logged.append(line)

    def _fail(self, error: Exception, _: str) -> None:
        self.failed.append(error)


def bearer(api: Api, token: str | None) -> dict[str, str]:
    """The header that carries a token: the admin's, or none where it is empty."""
    text = api.admin if token is None else token
    return {"authorization": f"Bearer {text}"} if text else {}


def _opened(status: int, headers: Mapping[str, str], body: bytes) -> Answered:
    if headers.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    return Answered(status, headers, body)
