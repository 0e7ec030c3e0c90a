"""The application: every route behind one guard, for both doors, each error turned into a problem."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar, cast
from urllib.parse import unquote

from aws_lambda_powertools.event_handler.api_gateway import ApiGatewayResolver, Response, Router
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from lambdas.api import (
    archive,
    blobs,
    influx,
    openapi,
    pages,
    params,
    paths,
    query,
    readings,
    rejects,
    sensor_list,
    sensors,
    status,
    write,
)
from lambdas.api.answer import finish, json_answer
from lambdas.api.auth import Guard
from lambdas.api.operation import Operation, operation_of
from lambdas.api.problems import PROBLEM_TYPE, Problem, of_error, problem
from lambdas.api.services import Services

Resolver = TypeVar("Resolver", bound=ApiGatewayResolver)
Failed = Callable[[Exception, str], None]
"""Told of an error that is ours, with the request's id; writes it to the log."""
Event = dict[str, Any]
MODULES = (readings, query, write, influx, sensor_list, sensors, blobs, archive, rejects, status, pages)
"""What has routes; /docs shows them in this order within a group."""
INFLUX = "/api/v2/"
"""Paths that answer errors as InfluxDB does."""
AS_ASKED = "methodAsAsked"
"""The member of an event that holds the method before HEAD was taken for GET."""
WHOLE_BYTES = "wholeBytes"
"""The member of an answer that says how long its body is, also where it is left out."""
_INFLUX_CODES = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not found",
    405: "method not allowed",
    413: "request too large",
    415: "invalid",
    422: "invalid",
    429: "too many requests",
    503: "unavailable",
}


@dataclass(frozen=True, slots=True)
class Served:
    """One route as it is served: the method and path template, what matches it, and what it says of itself."""

    method: str
    path: str
    rule: re.Pattern[str]
    declared: Operation


def make(resolver: Resolver, services: Services, failed: Failed) -> Resolver:
    """Give a resolver every route; the resolver itself.

    A route is called only with credentials, unless it says that it needs none, and fails where it did not ask
    the guard: what is forgotten is denied.
    """
    guard = Guard(lambda: resolver.current_event, services.auth, services.tokens, services.now_s)
    for module in MODULES:
        resolver.include_router(_routes(module, services, guard))
    found = served(resolver)
    resolver.include_router(openapi.routes([(one.method, one.path, one.declared) for one in found]))
    found = served(resolver)
    inner = cast(Any, resolver)
    inner.use([_checking(guard, found)])
    inner.not_found(_lost(resolver, guard, found))
    resolver.exception_handler(Exception)(_answering(resolver, failed))
    for route in _all_routes(resolver):  # a server's threads must not each begin to build the same
        route._build_middleware_stack(inner._router_middlewares, resolver)  # noqa: SLF001 - nothing public does
    return resolver


def _routes(module: Any, services: Services, guard: Guard) -> Router:
    return cast(Router, module.routes(services, guard))


def served(resolver: ApiGatewayResolver) -> list[Served]:
    """Every route the resolver has."""
    found: list[Served] = []
    for route in _all_routes(resolver):
        declared = operation_of(route.func)
        if declared is None:
            raise TypeError(f"{route.method} {route.path} declares no operation")
        found.append(Served(route.method, route.openapi_path, route.rule, declared))
    return found


def _all_routes(resolver: ApiGatewayResolver) -> list[Any]:
    inner = cast(Any, resolver)
    return [*inner._static_routes, *inner._dynamic_routes]  # noqa: SLF001 - nothing public lists them


def _fitting(found: list[Served], path: str) -> list[Served]:
    """The routes whose path this is; where a fixed part and a parameter both fit, the fixed one is meant."""
    fitting = [one for one in found if one.rule.match(path)]
    fewest = min((one.path.count("{") for one in fitting), default=0)
    return [one for one in fitting if one.path.count("{") == fewest]


def _checking(guard: Guard, found: list[Served]) -> Callable[..., Any]:
    """What runs before and after every route."""

    def check(app: ApiGatewayResolver, next_middleware: Callable[..., Any]) -> Any:
        declared = operation_of(_route(app).func)
        if declared is None:  # no route was found: `_lost` answers
            return next_middleware(app)
        if declared.needs != "none":
            guard.known()
        event = app.current_event
        fitting = _fitting(found, event.path)
        if declared.id not in [one.declared.id for one in fitting]:
            raise _refused_method(event.http_method, fitting)
        params.check_names(event, declared)
        response = next_middleware(app)
        if declared.needs not in ("any", "none") and not guard.was_asked():
            raise problem(
                "internal", f"The route {declared.id} did not ask who calls; its answer is withheld."
            )
        return response

    return check


def _lost(resolver: ApiGatewayResolver, guard: Guard, found: list[Served]) -> Callable[[NotFoundError], Any]:
    """What answers where no route fits: 401 to strangers, 405 where another method would do, else 404."""

    def lost(_: NotFoundError) -> Response[str]:
        path = resolver.current_event.path
        fitting = _fitting(found, path)
        if not any(one.declared.needs == "none" for one in fitting):
            guard.known()
        if not fitting:
            raise problem("unknown-route", f"There is no {unquote(path)[:200]}. GET /docs lists the routes.")
        raise _refused_method(resolver.current_event.http_method, fitting)

    return lost


def _refused_method(method: str, fitting: list[Served]) -> Problem:
    methods = {one.method for one in fitting}
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    refused = problem("method-not-allowed", f"{method.upper()[:20]} is not allowed here; use {allowed}.")
    refused.headers["Allow"] = allowed
    return refused


def _answering(resolver: ApiGatewayResolver, failed: Failed) -> Callable[[Exception], Response[str]]:
    def answer(error: Exception) -> Response[str]:
        found = of_error(error)
        event = resolver.current_event
        if found.status >= HTTPStatus.INTERNAL_SERVER_ERROR and found.code != "unavailable":
            failed(error, request_id(event))
        return problem_answer(found, event)

    return answer


def problem_answer(found: Problem, event: BaseProxyEvent) -> Response[str]:
    """A problem as an answer; for the paths of InfluxDB in its form."""
    path = str(event.raw_event["rawPath"])
    headers = {**found.headers, "Content-Type": PROBLEM_TYPE}
    if path.startswith(INFLUX):
        headers["Content-Type"] = "application/json"
        code = str(found.more.get("code") or _INFLUX_CODES.get(found.status, "internal error"))
        return json_answer({"code": code, "message": found.detail, **found.more}, found.status, headers)
    return json_answer(found.body(path, request_id(event)), found.status, headers)


# --- one request, whatever door it came through ---------------------------------------------------


def request_id(event: BaseProxyEvent) -> str:
    """What names the request in its answer and in the log."""
    context = cast(Event, event.raw_event.get("requestContext") or {})
    return str(context.get("requestId") or "")


def in_one_form(event: Event) -> Event:
    """An event of payload format 2.0 with its path as `paths.canonical` has it, and HEAD taken for GET."""
    path = paths.canonical(str(event.get("rawPath") or "/"))
    context = dict(cast(Event, event.get("requestContext") or {}))
    http = dict(cast(Event, context.get("http") or {}))
    asked = http.get("method")
    if asked == "HEAD":
        http["method"] = "GET"
    headers = {str(name).lower(): value for name, value in cast(Event, event.get("headers") or {}).items()}
    stage = context.get("stage")
    if stage and stage != "$default" and path.startswith(f"/{stage}/"):
        path = path[len(f"/{stage}") :]
    context |= {"http": http | {"path": path}, "stage": "$default"}
    return {**event, "rawPath": path, "requestContext": context, "headers": headers, AS_ASKED: asked}


def route_name(resolver: ApiGatewayResolver) -> str:
    """The path template of the route under way, for the log; never an id."""
    route = _route(resolver)
    return "none" if route is None or operation_of(route.func) is None else str(route.openapi_path)


def _route(resolver: ApiGatewayResolver) -> Any:
    return cast(Event, cast(Any, resolver).context).get("_route")


def built(response: Response[Any], event: BaseProxyEvent) -> Event:
    """An answer in payload format 2.0, finished; without its body where only its head was asked for."""
    accepts = params.header(event, "accept-encoding") or ""
    done = finish(response, request_id(event), accepts)
    body = done.body or ""
    whole_bytes = len(body.encode() if isinstance(body, str) else body)
    if event.raw_event.get(AS_ASKED) == "HEAD":
        body = b""
    binary = isinstance(body, bytes) and bool(body)
    return {
        "statusCode": done.status_code,
        "headers": done.headers,
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else str(body),
        "isBase64Encoded": binary,
        WHOLE_BYTES: whole_bytes,
    }
