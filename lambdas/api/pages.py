"""The pages that need no token: the dashboard's files, /docs, and whether the door answers at all."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from lambdas.api import params, schemas
from lambdas.api.answer import bytes_answer, empty_answer, json_answer
from lambdas.api.auth import Guard
from lambdas.api.operation import Answer, operation
from lambdas.api.params import in_path
from lambdas.api.problems import problem
from lambdas.api.services import Services

FOLDER = Path(__file__).resolve().parent.parent / "dashboard"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
    ".LICENSE": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
"""Files of other kinds are not served."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of every page: nothing from elsewhere, nothing inline."""
ALIASES = {
    "": "index.html",
    "uplot.js": "uPlot.iife.min.js",
    "uplot.css": "uPlot.min.css",
}
INFLUX_VERSION = "v2.7.0"
"""What clients of InfluxDB are told at /ping: the interface, not a product."""
FILE = in_path(
    "file", "Name of a file of the dashboard.", {"type": "string", "pattern": r"^[A-Za-z0-9._-]+$"}
)
_PAGE = {"text/html": {"type": "string"}}
_ANY_FILE: dict[str, schemas.Schema] = {kind.partition(";")[0]: {} for kind in TYPES.values()}
_NOT_MODIFIED = Answer("The copy whose `If-None-Match` was sent is still good.")


def routes(services: Services, guard: Guard) -> Router:
    """/health, /ping, / and the dashboard's files."""
    del services, guard
    router = Router()

    @router.get("/health")
    @operation(
        "health",
        tag="service",
        summary="Whether the API answers",
        needs="none",
        answers={200: Answer("It does.", schemas.HEALTH)},
        strict=False,
    )
    def health() -> Response[str]:
        message = "It answers; GET /v1/status says how it is."
        return json_answer({"name": "thermocline", "status": "ok", "message": message})

    @router.get("/ping")
    @operation(
        "ping",
        tag="service",
        summary="Whether the API answers, as clients of InfluxDB ask",
        needs="none",
        answers={
            204: Answer("It does.", headers={"X-Influxdb-Version": "The interface of InfluxDB it follows."})
        },
        strict=False,
    )
    def ping() -> Response[str]:
        return empty_answer(headers={"X-Influxdb-Version": INFLUX_VERSION})

    @router.get("/")
    @operation(
        "dashboard",
        tag="service",
        summary="The dashboard",
        needs="none",
        answers={200: Answer("A page; it asks for a token.", content=_PAGE), 304: _NOT_MODIFIED},
        problems=("unknown-route",),
        strict=False,
    )
    def dashboard() -> Response[bytes]:
        return page(router, *_file(""))

    @router.get("/<file>")
    @operation(
        "dashboardFile",
        tag="service",
        summary="A file of the dashboard",
        needs="none",
        parameters=(FILE,),
        answers={200: Answer("The file.", content=_ANY_FILE), 304: _NOT_MODIFIED},
        problems=("unknown-route",),
        strict=False,
    )
    def dashboard_file(file: str) -> Response[bytes]:
        return page(router, *_file(file))

    return router


def page(router: Router, content: bytes, content_type: str) -> Response[bytes]:
    """A page under the policy, with an ETag; 304 where the caller has it already."""
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Content-Security-Policy": POLICY}
    held = params.header(router.current_event, "if-none-match") or ""
    if held.strip() == "*" or etag in [one.strip().removeprefix("W/") for one in held.split(",")]:
        return Response(status_code=304, content_type=None, body=b"", headers=dict(headers))
    return bytes_answer(content, content_type, headers=headers)


@cache
def _names() -> frozenset[str]:
    return (
        frozenset(found.name for found in FOLDER.iterdir() if found.suffix in TYPES)
        if FOLDER.is_dir()
        else frozenset()
    )


def _file(name: str) -> tuple[bytes, str]:
    """A file's bytes and media type. Raises Problem. Read anew each time: files are small, and may be changed
    while somebody works on them."""
    real = ALIASES.get(name, name)
    if real not in _names():
        raise problem(
            "unknown-route", "There is no such page. GET /docs lists the routes, / is the dashboard."
        )
    path = FOLDER / real
    return path.read_bytes(), TYPES[path.suffix]
