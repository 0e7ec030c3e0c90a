"""The two doors of the API: a Lambda function behind API Gateway or a Function URL, and a server (ASGI)."""

from __future__ import annotations

import asyncio
import base64
import contextvars
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from typing import Any, cast

from aws_lambda_powertools.event_handler import http_resolver
from aws_lambda_powertools.event_handler.api_gateway import APIGatewayHttpResolver, ResponseBuilder
from aws_lambda_powertools.event_handler.http_resolver import HttpResolverLocal
from aws_lambda_powertools.utilities.data_classes import APIGatewayProxyEventV2
from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from lambdas.api.app import WHOLE_BYTES, Event, built, in_one_form, route_name
from lambdas.api.params import BODY_CHUNKS
from lambdas.api.problems import problem

REQUESTS_AT_ONCE = 32
"""How many requests a server answers at the same time; further ones wait. As many as a client has connections."""
SILENCE_LIMIT_S = 30.0
"""A body of which nothing arrives for so long is given up."""

Log = Callable[[str, str, int, float, str], None]
"""Told of every answer: method, route (never an id), status, milliseconds, request id."""
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class LambdaDoor(APIGatewayHttpResolver):
    """Answers events of payload format 2.0, one after another."""

    def __init__(self, clock: Callable[[], float], log: Log) -> None:
        cast(Any, super()).__init__()
        self._clock = clock
        self._log = log

    def resolve(self, event: Any, context: Any) -> Event:
        """The answer to an event."""
        self._route = "none"
        began_s = self._clock()
        prepared = in_one_form(cast(Event, event))
        answer = super().resolve(prepared, context)
        asked = cast(Event, prepared["requestContext"])
        ms = (self._clock() - began_s) * 1000
        self._log(
            str(asked["http"].get("method")),
            self._route,
            answer["statusCode"],
            ms,
            str(asked.get("requestId")),
        )
        return answer

    def _build_response(self, response_builder: ResponseBuilder[Any]) -> Event:
        self._route = route_name(self)
        answer = built(cast(Any, response_builder).response, self.current_event)
        answer.pop(WHOLE_BYTES)  # API Gateway counts by itself
        return answer


class ServerDoor(HttpResolverLocal):
    """Answers HTTP requests under an ASGI server, several at once, each in a thread of its own.

    A request becomes an event of payload format 2.0, so that both doors run the same code; its body stays on the
    connection until the route reads it.
    """

    def __init__(self, clock: Callable[[], float], log: Log, request_id: Callable[[], str]) -> None:
        cast(Any, super()).__init__()
        self._clock = clock
        self._log = log
        self._request_id = request_id
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, "request")

    def _to_proxy_event(self, event: dict[str, Any]) -> BaseProxyEvent:
        return APIGatewayProxyEventV2(event)

    async def asgi_handler(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection event of ASGI."""
        if scope["type"] == "lifespan":
            await cast(Any, super()).asgi_handler(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        began_s = self._clock()
        loop = asyncio.get_running_loop()
        event = event_of(scope, self._request_id())
        event[BODY_CHUNKS] = lambda: _pieces(receive, loop)
        made = cast(Any, http_resolver)._RequestState  # noqa: SLF001
        state = made(event=self._to_proxy_event(in_one_form(event)), lambda_context=None)
        token = self._request_state.set(state)
        try:
            context = contextvars.copy_context()
            answer, route = await loop.run_in_executor(self._pool, context.run, self._answer)
        finally:
            self._request_state.reset(token)
        await _send(send, answer)
        ms = (self._clock() - began_s) * 1000
        http = event["requestContext"]
        self._log(str(http["http"]["method"]), route, answer["statusCode"], ms, str(http["requestId"]))

    def _answer(self) -> tuple[Event, str]:
        builder = cast(Any, self)._resolve()  # noqa: SLF001 - `resolve` would share the event among threads
        return built(builder.response, self.current_event), route_name(self)


def event_of(scope: Scope, request_id: str) -> Event:
    """The event of payload format 2.0 that API Gateway would make of a request, without its body."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in cast("list[tuple[bytes, bytes]]", scope.get("headers") or []):
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    raw_path = cast(bytes, scope.get("raw_path") or str(scope["path"]).encode())
    path = raw_path.decode("utf-8", "replace")
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": cast(bytes, scope.get("query_string") or b"").decode("latin-1"),
        "headers": headers,
        "requestContext": {
            "requestId": request_id,
            "stage": "$default",
            "http": {"method": str(scope["method"]).upper(), "path": path},
        },
        "isBase64Encoded": False,
    }


def _pieces(receive: Receive, loop: asyncio.AbstractEventLoop) -> Iterator[bytes]:
    """The body as it arrives; runs in a request's thread, while `receive` belongs to the server's loop."""
    more = True
    while more:
        waiting = asyncio.run_coroutine_threadsafe(_next(receive), loop)
        try:
            message = waiting.result(SILENCE_LIMIT_S)
        except TookTooLong as error:
            waiting.cancel()
            raise problem(
                "body-incomplete", f"Nothing arrived for {SILENCE_LIMIT_S:g} s; send it again."
            ) from error
        if message["type"] != "http.request":
            raise problem("body-incomplete", "The connection ended in the middle of the body; send it again.")
        more = bool(message.get("more_body"))
        piece = cast(bytes, message.get("body") or b"")
        if piece:
            yield piece


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    return await receive()


async def _send(send: Send, answer: Event) -> None:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, values in cast("dict[str, str | list[str]]", answer["headers"]).items()
        for value in ([values] if isinstance(values, str) else values)
    ]
    body = answer["body"]
    raw = base64.b64decode(body) if answer["isBase64Encoded"] else str(body).encode()
    status = int(answer["statusCode"])
    if status >= 200 and status not in (204, 304):
        headers.append((b"content-length", str(answer[WHOLE_BYTES]).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": raw})
