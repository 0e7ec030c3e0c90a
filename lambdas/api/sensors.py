"""Routes about one sensor of the registry: shown, put, changed and deleted."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any, cast

from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from ingest.errors import BadInput, Conflict, NotFound
from ingest.keys import US
from ingest.reading import EARLIEST_US, Span
from ingest.sensor import Sensor, check_sensor, merged, replaced
from ingest.stores import Registry
from ingest.times import format_time
from lambdas.api import params, schemas
from lambdas.api.answer import json_answer
from lambdas.api.auth import Guard
from lambdas.api.operation import Answer, Body, operation
from lambdas.api.params import SENSOR_ID, in_header
from lambdas.api.problems import Problem, problem
from lambdas.api.services import Services

IF_MATCH = in_header(
    "If-Match",
    "The version the change is based on, as `ETag` gave it, or `*` for whatever version it has.",
    {"type": "string", "pattern": r'^(\*|"?\d{1,18}"?)$', "maxLength": 32, "examples": ['"3"']},
)
_ETAG = {"ETag": "The sensor's version, in quotes."}
_DOCUMENT = Body(
    {"application/json": schemas.SENSOR_DOCUMENT},
    "What is known of the sensor; what is left out becomes empty. `version` may stand here in place of `If-Match`.",
    example={"name": "Boiler room", "labels": {"floor": "2"}, "units": {"temperature": "°C"}},
)
_PATCH = Body(
    {"application/json": schemas.SENSOR_PATCH, "application/merge-patch+json": schemas.SENSOR_PATCH},
    "What is to change (RFC 7396): what is left out stays, null removes.",
    example={"labels": {"floor": "3", "old": None}},
)


def routes(services: Services, guard: Guard) -> Router:
    """The routes of /v1/sensors/{sensor_id} itself."""
    router = Router()
    _show_route(router, services, guard)
    _change_routes(router, services, guard)
    _delete_route(router, services, guard)
    return router


def described(sensor: Sensor) -> dict[str, Any]:
    """A sensor as an answer shows it."""
    return {
        "sensor_id": sensor.sensor_id,
        "name": sensor.name,
        "labels": sensor.labels,
        "place": sensor.place,
        "units": sensor.units,
        "version": sensor.version,
        "first_seen": format_time(sensor.first_seen_ms * 1000),
    }


# --- one sensor -----------------------------------------------------------------------------


def _show_route(router: Router, services: Services, guard: Guard) -> None:
    @router.get("/v1/sensors/<sensor_id>")
    @operation(
        "showSensor",
        tag="sensors",
        summary="One sensor",
        needs="read",
        parameters=(SENSOR_ID,),
        answers={200: Answer("What the registry knows of it.", schemas.ref("Sensor"), headers=_ETAG)},
        problems=("unknown-sensor",),
        example="/v1/sensors/site1%2Fboiler",
    )
    def show_sensor(sensor_id: str) -> Response[str]:
        name = params.sensor_id(sensor_id)
        guard.read(name)
        found = services.registry.get(name)
        if found is None:
            raise unknown_sensor(name)
        return _shown(found)


def _change_routes(router: Router, services: Services, guard: Guard) -> None:
    refused = ("unknown-sensor", "version-conflict", "version-required", "invalid-body", "body-too-large")
    changed = Answer("The sensor as it is now.", schemas.ref("Sensor"), headers=_ETAG)

    @router.put("/v1/sensors/<sensor_id>")
    @operation(
        "putSensor",
        tag="sensors",
        summary="Create or replace a sensor",
        text="A sensor that exists is replaced only where the version is given and is the current one.",
        needs="write",
        parameters=(SENSOR_ID, IF_MATCH),
        body=_DOCUMENT,
        answers={
            200: changed,
            201: Answer("The sensor; it was unknown.", schemas.ref("Sensor"), headers=_ETAG),
        },
        problems=refused,
        example="/v1/sensors/site1%2Fboiler",
    )
    def put_sensor(sensor_id: str) -> Response[str]:
        name, body, version = _change(router, guard, sensor_id, services)
        blank = Sensor(name, round(services.now_s() * 1000))
        wanted = _valid(lambda: replaced(blank, body))
        try:
            stored = services.registry.update(wanted, version)
        except Conflict as error:
            raise conflict(error, guard, name, asked=version is not None) from error
        except NotFound as error:
            raise unknown_sensor(name) from error
        return _shown(stored, 201 if version is None else 200)  # holds nothing but what was sent

    @cast(Any, router).patch("/v1/sensors/<sensor_id>")
    @operation(
        "changeSensor",
        tag="sensors",
        summary="Change a sensor",
        text="Without a version the change is made to the sensor as it is found, and repeated if that changes.",
        needs="write",
        parameters=(SENSOR_ID, IF_MATCH),
        body=_PATCH,
        answers={
            200: Answer(
                "The sensor as it is now; all of it to those who may read it.",
                schemas.SENSOR_CHANGED,
                headers=_ETAG,
            )
        },
        problems=refused,
        example="/v1/sensors/site1%2Fboiler",
    )
    def change_sensor(sensor_id: str) -> Response[str]:
        name, body, version = _change(router, guard, sensor_id, services)
        stored = _patched(services.registry, guard, name, body, version)
        return _shown(stored) if guard.readable(name) else _changed(stored)


def _patched(
    registry: Registry, guard: Guard, name: str, patch: Mapping[str, Any], version: int | None
) -> Sensor:
    for attempt in itertools.count():
        held = registry.get(name)
        if held is None:
            raise unknown_sensor(name)
        wanted = _valid(lambda held=held: merged(held, patch))
        try:
            return registry.update(wanted, held.version if version is None else version)
        except Conflict as error:
            if version is not None or attempt >= 4:
                raise conflict(error, guard, name) from error
        except NotFound as error:
            raise unknown_sensor(name) from error
    raise AssertionError("never reached")


def _change(
    router: Router, guard: Guard, part: str, services: Services
) -> tuple[str, dict[str, Any], int | None]:
    """Name, body and version of a change; the caller may make it."""
    name = params.sensor_id(part)
    guard.write(name)
    event = router.current_event
    stated = IF_MATCH.of(event)
    body = params.body_json(event)
    stated_names = set(body)
    in_body = body.pop("version", None)
    if "version" in stated_names and (type(in_body) is not int or in_body < 1):
        raise problem("invalid-body", "version: must be a whole number, 1 or more.", "version")
    version = _version(stated, services.registry, name)
    if version is not None and in_body is not None and version != in_body:
        raise problem(
            "invalid-body", "version: is not the one that If-Match states; send one of them.", "version"
        )
    return name, body, in_body if version is None else version


def _version(stated: str | None, registry: Registry, name: str) -> int | None:
    """The version that If-Match states."""
    if stated is None:
        return None
    if stated.strip() == "*":
        held = registry.get(name)
        if held is None:
            raise unknown_sensor(name)
        return held.version
    found = re.fullmatch(r'\s*(?:W/)?"?(\d{1,18})"?\s*', stated, re.ASCII)
    if found is None:
        raise problem("invalid-parameter", "If-Match: is no version; send what ETag gave.", "If-Match")
    return int(found[1])


def _valid(make: Any) -> Sensor:
    try:
        return check_sensor(make())
    except BadInput as error:
        field, _, _ = str(error).partition(":")
        raise problem("invalid-body", str(error), field) from error


def conflict(error: Conflict, guard: Guard, name: str, *, asked: bool = True) -> Problem:
    """The problem of a change based on another version, with the sensor as it is for those who may read it."""
    current = error.current
    shown = described(current) if isinstance(current, Sensor) and guard.readable(name) else None
    found = problem("version-conflict" if asked else "version-required", str(error), "version", current=shown)
    if isinstance(current, Sensor):
        found.headers["ETag"] = f'"{current.version}"'
    return found


def unknown_sensor(name: str) -> Problem:
    """The problem of a sensor that the registry does not know."""
    return problem(
        "unknown-sensor", f"Sensor {name} is not registered. GET /v1/sensors lists those that are."
    )


def _changed(sensor: Sensor) -> Response[str]:
    """What those are told of a change who may not read what others said of the sensor."""
    told = {"sensor_id": sensor.sensor_id, "version": sensor.version}
    return json_answer(told, headers={"ETag": f'"{sensor.version}"'})


def _shown(sensor: Sensor, status: int = 200) -> Response[str]:
    return json_answer(described(sensor), status, {"ETag": f'"{sensor.version}"'})


def _delete_route(router: Router, services: Services, guard: Guard) -> None:
    @router.delete("/v1/sensors/<sensor_id>")
    @operation(
        "deleteSensor",
        tag="sensors",
        summary="Forget a sensor",
        text="Its readings stay until they expire; it is registered again when it sends. The answer says what stays.",
        needs="write",
        parameters=(SENSOR_ID, IF_MATCH),
        answers={200: Answer("What remains.", schemas.SENSOR_DELETED)},
        problems=("unknown-sensor", "version-conflict"),
        example="/v1/sensors/site1%2Fboiler",
    )
    def delete_sensor(sensor_id: str) -> Response[str]:
        name = params.sensor_id(sensor_id)
        guard.write(name)
        version = _version(IF_MATCH.of(router.current_event), services.registry, name)
        try:
            services.registry.delete(name, version)
        except Conflict as error:
            raise conflict(error, guard, name) from error
        except NotFound as error:
            raise unknown_sensor(name) from error
        return json_answer({"sensor_id": name, "deleted": True, "remains": _remains(services, name)})


def _remains(services: Services, name: str) -> dict[str, Any]:
    layout = services.layout()
    everything = Span(EARLIEST_US, int((services.now_s() + 2 * 86_400) * US))
    items = sum(page.items for page in services.hot.read(name, everything, layout.widest_bucket_s))
    return {
        "hot_items": items,
        "segments": len(services.catalog.find(everything, name)),
        "note": "Readings stay until they expire. The sensor is registered again when it sends.",
    }
