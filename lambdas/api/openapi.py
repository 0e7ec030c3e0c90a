"""The OpenAPI 3.1 document, made of what every route says of itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from lambdas.api import VERSION, docs_page, limits, schemas
from lambdas.api.answer import text_answer
from lambdas.api.operation import Answer, Operation, operation, operation_of
from lambdas.api.params import Parameter
from lambdas.api.problems import PROBLEM_TYPE, PROBLEMS

Declared = tuple[str, str, Operation]
"""Method, path template and declaration of a route."""
DESCRIPTION = f"""Readings of sensors, recent and archived, in one query.

Times are RFC 3339 in UTC; ranges include their start and not their end. Every list says `count`, `truncated`, `next`
and `next_url`: nothing is cut silently. Errors are problem details (RFC 9457).

Limits: a page holds {limits.LIMIT_DEFAULT:,} readings unless `limit` says otherwise, at most {limits.LIMIT_MOST:,};
an answer at most {limits.WINDOWS_MOST:,} windows and {limits.ANSWER_MOST_BYTES:,} bytes; a range at most
{limits.RANGE_MOST_S // 86_400:,} days; a query at most {limits.QUERY_SENSORS_MOST} sensors; a body at most
{limits.BODY_MOST_BYTES:,} bytes, {limits.INFLATED_MOST_BYTES:,} once its `Content-Encoding` is undone; one that
describes a sensor {limits.DOCUMENT_MOST_BYTES:,}, one that asks a query {limits.QUESTION_MOST_BYTES:,}. A cursor lasts
{limits.CURSOR_LIFE_S // 3600} h, a link {limits.LINK_LIFE_S // 60} min."""
TAGS = {
    "readings": "What sensors measured: read, queried, written.",
    "sensors": "The registry: which sensors there are, and what people say of them.",
    "blobs": "Large payloads such as images, kept as objects and linked from readings.",
    "archive": "The cold tier: Parquet segments, listed and downloaded.",
    "rejects": "What was refused, with its reason.",
    "service": "The service itself.",
}
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_EVERYWHERE = ("invalid-parameter", "unavailable", "internal")
_GUARDED = ("unauthorized", "forbidden")
_CODE_OF_INFLUX = "/api/v2/"


def routes(declared: Sequence[Declared]) -> Router:
    """/openapi.json and /docs, of these routes and themselves."""
    router = Router()
    held: dict[str, str] = {}

    @router.get("/openapi.json")
    @operation(
        "openapi",
        tag="service",
        summary="This document",
        needs="none",
        answers={200: Answer("OpenAPI 3.1.", {"type": "object"})},
        strict=False,
    )
    def openapi() -> Response[str]:
        if "json" not in held:
            held["json"] = json.dumps(document(everything), ensure_ascii=False, separators=(",", ":"))
        return text_answer(held["json"], "application/json", headers={"Cache-Control": "no-cache"})

    @router.get("/docs")
    @operation(
        "docs",
        tag="service",
        summary="This document, to be read",
        needs="none",
        answers={200: Answer("A page.", content={"text/html": {"type": "string"}})},
        strict=False,
    )
    def docs() -> Response[str]:
        if "html" not in held:
            held["html"] = docs_page.render(document(everything))
        headers = {"Content-Security-Policy": docs_page.POLICY, "Cache-Control": "no-cache"}
        return text_answer(held["html"], "text/html; charset=utf-8", headers=headers)

    own = [("GET", path, function) for path, function in (("/openapi.json", openapi), ("/docs", docs))]
    everything = [*declared, *((method, path, _declared(function)) for method, path, function in own)]
    return router


def _declared(function: Any) -> Operation:
    found = operation_of(function)
    assert found is not None  # noqa: S101 - declared a few lines above
    return found


def document(declared: Iterable[Declared]) -> dict[str, Any]:
    """The document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, one in sorted(declared, key=lambda each: (each[1], _METHODS.index(each[0]))):
        paths.setdefault(path, {})[method.lower()] = _operation(path, one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Thermocline",
            "version": VERSION,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": dict(schemas.COMPONENTS),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token made by `thermocline token new`.",
                }
            },
        },
        "security": [{"token": []}],
        "x-problems": {
            code: {"status": status, "title": title, "next_step": step}
            for code, (status, title, step) in PROBLEMS.items()
        },
    }


def _operation(path: str, one: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": one.id,
        "tags": [one.tag],
        "summary": one.summary,
        "responses": {str(status): answer for status, answer in sorted(_responses(path, one).items())},
    }
    if one.text:
        described["description"] = one.text
    if one.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in one.parameters]
    if one.body is not None:
        described["requestBody"] = {
            "description": one.body.text,
            "required": one.body.required,
            "content": {
                kind: _media(schema, None if place else one.body.example)
                for place, (kind, schema) in enumerate(one.body.content.items())
            },
        }
    if one.needs == "none":
        described["security"] = []
    described["x-scope"] = one.needs
    if one.example:
        described["x-example"] = one.example
    return described


def _media(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    return {"schema": dict(schema)} | ({} if example is None else {"example": example})


def _parameter(parameter: Parameter[Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "required": parameter.required,
        "schema": dict(parameter.schema),
    }
    if parameter.repeats:
        described |= {"style": "form", "explode": True}
    return described


def _responses(path: str, one: Operation) -> dict[int, dict[str, Any]]:
    found = {status: _answer(answer) for status, answer in one.answers.items()}
    codes: dict[int, list[str]] = {}
    guarded = () if one.needs == "none" else _GUARDED
    everywhere = _EVERYWHERE if one.needs != "none" else ("internal",)
    own = ("unknown-parameter", "missing-parameter") if one.strict and one.needs != "none" else ()
    for code in dict.fromkeys((*guarded, *own, *everywhere, *one.problems)):
        codes.setdefault(PROBLEMS[code][0], []).append(code)
    for status, names in codes.items():
        kind, schema = PROBLEM_TYPE, schemas.ref("Problem")
        if path.startswith(_CODE_OF_INFLUX):
            kind, schema = "application/json", schemas.ref("InfluxError")
        said = " ".join(f"{PROBLEMS[name][1]} (`{name}`)." for name in names)
        answer: dict[str, Any] = {"description": said, "content": {kind: {"schema": schema}}}
        if status == 503:
            answer["headers"] = {"Retry-After": _header("Seconds to wait.")}
        if status == 401:
            answer["headers"] = {"WWW-Authenticate": _header("`Bearer`.")}
        found.setdefault(status, answer)
    return found


def _answer(answer: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.text}
    if answer.schema is not None:
        described["content"] = {"application/json": _media(answer.schema, answer.example)}
    for kind, schema in (answer.content or {}).items():
        described.setdefault("content", {})[kind] = _media(schema, None)
    if answer.headers:
        described["headers"] = {name: _header(text) for name, text in answer.headers.items()}
    return described


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}
