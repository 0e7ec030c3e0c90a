"""Routes about what one sensor sent: its readings or windows, page by page, and its newest reading."""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response, Router
from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from ingest.reading import METRIC_PATTERN
from ingest.times import format_time
from lambdas.api import params
from lambdas.api import reading_schemas as schemas
from lambdas.api.answer import json_answer, text_answer
from lambdas.api.asked import Asked, ask, sources_of
from lambdas.api.auth import Guard
from lambdas.api.operation import Answer, operation
from lambdas.api.paging import page_fields
from lambdas.api.params import CURSOR, FROM, LIMIT, SENSOR_ID, TO, Parameter, choice, flag, text, texts
from lambdas.api.problems import problem
from lambdas.api.sensors import unknown_sensor
from lambdas.api.services import Services

ROUTE = "readings"
METRIC = texts("metric", "Only these metrics; may be repeated.", pattern=METRIC_PATTERN, characters=64)
EVERY = text(
    "every", "Windows of this width, aligned to the epoch: `1m`, `1h`.", most=64, schema={"examples": ["1m"]}
)
AGG = texts(
    "agg",
    "Aggregates per window: mean (the default), min, max, sum, count, first, last, p0 to p100.",
    most=20,
    characters=16,
)
TIER = choice("tier", "Which tier is read.", ("auto", "hot", "cold"), "auto")
ORDER = choice("order", "Oldest or newest first.", ("asc", "desc"), "asc")
FORMAT = choice("format", "What the answer is written as.", ("json", "csv", "ndjson"), "json")
SHAPE = choice(
    "shape", "JSON: an object for each reading, or an array for each metric.", ("rows", "columns"), "rows"
)
TIERS = flag("tiers", "JSON: add which tier each stretch of time came from.")
SHAPING: tuple[Parameter[Any], ...] = (
    FROM,
    TO,
    METRIC,
    EVERY,
    AGG,
    LIMIT,
    ORDER,
    TIER,
    FORMAT,
    SHAPE,
    TIERS,
)
_HEADERS = {
    "Link": "The next page.",
    "X-Count": "CSV and NDJSON: rows on this page.",
    "X-Truncated": "CSV and NDJSON: whether there are more.",
    "X-Next": "CSV and NDJSON: the cursor to go on with.",
}


def routes(services: Services, guard: Guard) -> Router:
    """The routes under /v1/sensors/{sensor_id} that read."""
    router = Router()
    _readings_route(router, services, guard)
    _latest_route(router, services, guard)
    return router


def _readings_route(router: Router, services: Services, guard: Guard) -> None:
    @router.get("/v1/sensors/<sensor_id>/readings")
    @operation(
        "readReadings",
        tag="readings",
        summary="Readings, or windows of them",
        text="From both tiers, none twice, sorted by time. The range is half-open: `from` is in it, `to` is not; "
        "without them it is the last hour. A page may end before `limit`; `truncated` says that there is more.",
        needs="read",
        parameters=(SENSOR_ID, *SHAPING, CURSOR),
        answers={
            200: Answer(
                "A page of them.",
                content={
                    "application/json": schemas.READINGS,
                    "text/csv": {"type": "string"},
                    "application/x-ndjson": {"type": "string"},
                },
                headers=_HEADERS,
            )
        },
        problems=("invalid-cursor", "range-too-long", "too-many-windows", "unknown-sensor"),
        example="/v1/sensors/site1%2Fboiler/readings?from=-1h&every=1m&agg=mean,max",
    )
    def read_readings(sensor_id: str) -> Response[str]:
        event = router.current_event
        name = params.sensor_id(sensor_id)
        guard.read(name)
        given = {parameter.name: parameter.of(event) for parameter in SHAPING if parameter.given(event)}
        asked = ask(ROUTE, {"sensor_id": name, **given}, CURSOR.of(event), services)
        return _page(event, asked, name, services)


def _page(event: BaseProxyEvent, asked: Asked, name: str, services: Services) -> Response[str]:
    from lambdas.api import answers

    wanted = answers.wanted_of(asked, name)
    written = answers.write(wanted, asked.at, sources_of(services), services.now_s)
    count = len(written.found)
    sensor = services.registry.get(name) if wanted.form == "json" or not count else None
    if not count and asked.at is None and sensor is None:
        raise unknown_sensor(name)
    after = answers.position(written)
    following = None if after is None else asked.following(after, services)
    fields, headers = page_fields(event, count, following)
    if wanted.form == "json":
        told = answers.members(wanted, written, sensor.units if sensor else {}) | fields
        return text_answer(answers.joined(told, written.text), answers.MEDIA_TYPES["json"], headers=headers)
    headers |= {"X-Count": str(count), "X-Truncated": "false" if following is None else "true"}
    if following is not None:
        headers["X-Next"] = following
    return text_answer(written.text, answers.MEDIA_TYPES[wanted.form], headers=headers)


def _latest_route(router: Router, services: Services, guard: Guard) -> None:
    @router.get("/v1/sensors/<sensor_id>/latest")
    @operation(
        "readLatest",
        tag="readings",
        summary="The newest reading",
        text="Wherever it is: a sensor with nothing in the hot tier is looked up in the cold one.",
        needs="read",
        parameters=(SENSOR_ID,),
        answers={200: Answer("The newest reading.", schemas.LATEST)},
        problems=("unknown-sensor", "no-readings"),
        example="/v1/sensors/site1%2Fboiler/latest",
    )
    def read_latest(sensor_id: str) -> Response[str]:
        from ingest.query import latest
        from lambdas.api.answers import metrics_raw

        name = params.sensor_id(sensor_id)
        guard.read(name)
        run = latest(name, sources_of(services)(), services.now_s())
        if run is None:
            if services.registry.get(name) is None:
                raise unknown_sensor(name)
            raise problem("no-readings", f"{name} is known, and neither tier holds a reading of it.")
        timestamp = format_time(run.ts_us[0])
        return json_answer({"sensor_id": name, "timestamp": timestamp, "metrics": metrics_raw(run)})
