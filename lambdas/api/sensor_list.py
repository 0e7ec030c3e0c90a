"""The route that lists the registry: sensors by prefix and label, page by page, with their newest readings."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response, Router
from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from ingest import cursor
from ingest.reading import Run
from ingest.sensor import Sensor
from ingest.stores import Registry
from ingest.times import format_time
from lambdas.api import schemas
from lambdas.api.answer import json_answer
from lambdas.api.auth import Guard
from lambdas.api.limits import CURSOR_LIFE_S, LATEST_MOST
from lambdas.api.operation import Answer, operation
from lambdas.api.paging import page_fields
from lambdas.api.params import CURSOR, LIST_LIMIT, flag, text, texts
from lambdas.api.problems import problem
from lambdas.api.sensors import described
from lambdas.api.services import Services

ROUTE = "sensors"
SCANNED_MOST = 20_000
"""How many sensors one request looks through for those with the labels asked for."""
REGISTRY_PAGE = 1_000
LATEST_AT_ONCE = 16
PREFIX = text("prefix", "Only ids that begin with this.", most=128)
LABEL = texts(
    "label",
    "Only sensors with this label, `name:text`; may be repeated, all must fit.",
    most=16,
    characters=330,
    commas=False,
)
WITH_LATEST = flag("latest", f"Add each sensor's newest reading; the page then holds at most {LATEST_MOST}.")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list was asked for."""

    prefix: str
    labels: tuple[str, ...]
    latest: bool

    def json(self) -> dict[str, Any]:
        """As a cursor carries it."""
        return {"prefix": self.prefix, "label": list(self.labels), "latest": self.latest}


def routes(services: Services, guard: Guard) -> Router:
    """GET /v1/sensors."""
    router = Router()

    @router.get("/v1/sensors")
    @operation(
        "listSensors",
        tag="sensors",
        summary="The sensors",
        text="Those the token may read, sorted by id.",
        needs="read",
        parameters=(PREFIX, LABEL, WITH_LATEST, LIST_LIMIT, CURSOR),
        answers={200: Answer("A page of them.", schemas.SENSOR_LIST, headers={"Link": "The next page."})},
        problems=("invalid-cursor",),
        example="/v1/sensors?prefix=site1/&label=floor:2",
    )
    def list_sensors() -> Response[str]:
        event = router.current_event
        limit = LIST_LIMIT.of(event)
        asked, after = _asked(event, services)
        if asked.latest and limit > LATEST_MOST:
            if LIST_LIMIT.given(event):
                raise problem(
                    "invalid-parameter", f"limit: with latest=true it is at most {LATEST_MOST}.", "limit"
                )
            limit = LATEST_MOST
        page, position = _page(services.registry, guard, asked, after, limit)
        listed = [described(sensor) for sensor in page]
        if asked.latest:
            with ThreadPoolExecutor(LATEST_AT_ONCE) as pool:
                found = pool.map(partial(_latest, services), [sensor.sensor_id for sensor in page])
                for entry, one in zip(listed, found, strict=True):
                    entry["latest"] = one
        follow = None
        if position is not None:
            expires_s = services.now_s() + CURSOR_LIFE_S
            follow = cursor.seal(ROUTE, asked.json(), position, services.cursor_key(), expires_s)
        fields, headers = page_fields(event, len(listed), follow)
        return json_answer({"sensors": listed, **fields}, headers=headers)

    return router


def _asked(event: BaseProxyEvent, services: Services) -> tuple[Asked, str]:
    """What the list is to hold, and behind which id it begins."""
    given: dict[str, Any] = {}
    if PREFIX.given(event):
        given["prefix"] = PREFIX.of(event) or ""
    if LABEL.given(event):
        given["label"] = LABEL.of(event)
        for label in given["label"]:
            if ":" not in label:
                raise problem("invalid-parameter", f"label: {label[:60]!r} is not name:text.", "label")
    if WITH_LATEST.given(event):
        given["latest"] = WITH_LATEST.of(event)
    sealed = CURSOR.of(event)
    after = ""
    if sealed is not None:
        opened = cursor.unseal(sealed, ROUTE, given, services.cursor_key(), services.now_s())
        given, after = opened.asked, str(opened.at)
    return Asked(given.get("prefix", ""), tuple(given.get("label", ())), bool(given.get("latest"))), after


def _page(
    registry: Registry, guard: Guard, asked: Asked, after: str, limit: int
) -> tuple[list[Sensor], str | None]:
    """A page, and the id to go on behind, which is one the caller may read; None where there are no more."""
    wanted = [tuple(label.split(":", 1)) for label in asked.labels]
    page: list[Sensor] = []
    last = after
    found = readable(registry, guard.prefixes(), asked.prefix, after, limit + 1)
    for scanned, sensor in enumerate(found):
        if len(page) == limit or scanned == SCANNED_MOST:
            return page, last
        last = sensor.sensor_id
        if all(sensor.labels.get(name) == value for name, value in wanted):
            page.append(sensor)
    return page, None


def readable(
    registry: Registry, scopes: Sequence[str], prefix: str, after: str, about: int
) -> Iterator[Sensor]:
    """Every sensor behind `after` that begins with the prefix and with one of the scopes' prefixes, by id."""
    narrowed = [scope if len(scope) > len(prefix) else prefix for scope in scopes if _meet(scope, prefix)]
    streams = [_of_prefix(registry, one, after, min(about, REGISTRY_PAGE)) for one in dict.fromkeys(narrowed)]
    return heapq.merge(*streams, key=lambda sensor: sensor.sensor_id)


def _meet(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _of_prefix(registry: Registry, prefix: str, after: str, size: int) -> Iterator[Sensor]:
    while True:
        page = registry.page(prefix, after, size)
        yield from page
        if len(page) < size:
            return
        after = page[-1].sensor_id
        size = REGISTRY_PAGE


def _latest(services: Services, sensor_id: str) -> dict[str, Any] | None:
    from ingest.query import Sources, latest  # loads what reads segments

    sources = Sources(services.hot, services.catalog, services.cold, services.layout(), services.clock)
    return newest(latest(sensor_id, sources, services.now_s()))


def newest(run: Run | None) -> dict[str, Any] | None:
    """A run of one reading as an answer shows it."""
    if run is None:
        return None
    from lambdas.api.answers import metrics_raw

    return {"timestamp": format_time(run.ts_us[-1]), "metrics": metrics_raw(run)}
