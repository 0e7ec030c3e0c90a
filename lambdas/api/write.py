"""The route that takes readings in every wire format."""

from __future__ import annotations

from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from ingest.wire import decode
from lambdas.api import incoming, schemas
from lambdas.api.answer import json_answer
from lambdas.api.auth import Guard
from lambdas.api.operation import Answer, Body, operation
from lambdas.api.problems import problem
from lambdas.api.services import Services

REJECTED = schemas.array(
    schemas.record(
        {
            "reason": {**schemas.TEXT, "description": "A code; `docs/commands.md` lists them."},
            "detail": schemas.TEXT,
            "part": {
                **schemas.TEXT,
                "description": "Where in the body, such as `line 3, metric temperature`.",
            },
            "sensor_id": schemas.nullable(schemas.TEXT),
            "count": {**schemas.INTEGER, "description": "Values or readings that were lost to it."},
        }
    ),
    description=f"What was refused and is not kept: the first {incoming.TOLD_MOST} problems.",
)
ACCEPTED = schemas.record(
    {
        "accepted": {
            **schemas.INTEGER,
            "description": "Readings that Kinesis accepted: they will be stored.",
        },
        "rejected": REJECTED,
        "rejected_count": {
            **schemas.INTEGER,
            "description": "Values or readings refused, all problems together.",
        },
    }
)
_BODY = Body(
    {"application/json": {}, "application/x-ndjson": {}, "application/senml+json": {}, "text/plain": {}},
    "Readings as JSON objects, an array or lines of them, columnar runs, SenML, or InfluxDB line protocol (times in "
    "nanoseconds); recognised by its shape, not by its Content-Type. May be gzip or zstd (`Content-Encoding`).",
    example={"sensor_id": "site1/boiler", "ts": 1795212000250, "metrics": {"temperature": 21.4}},
)


def routes(services: Services, guard: Guard) -> Router:
    """POST /v1/readings."""
    router = Router()

    @router.post("/v1/readings")
    @operation(
        "writeReadings",
        tag="readings",
        summary="Send readings",
        text="Answers when Kinesis has accepted every reading that can be used. What cannot is told, each part with "
        "its reason, and not kept. Where one sensor is outside the token's scopes nothing is sent. Sending again "
        "is harmless: equal readings are stored once.",
        needs="write",
        body=_BODY,
        answers={202: Answer("Kinesis has accepted what could be used.", ACCEPTED)},
        problems=(
            "all-rejected",
            "invalid-body",
            "body-too-large",
            "body-incomplete",
            "unsupported-encoding",
            "too-many-requests",
        ),
    )
    def write_readings() -> Response[str]:
        incoming.check_writer(guard)
        body = incoming.opened_body(router.current_event)
        runs, refusals = decode(body, int(services.now_s() * 1000))
        over = incoming.over_limit(runs, refusals)
        if over is not None:
            raise over
        if not runs:
            first = refusals[0]
            where = f"{first.part}: " if first.part else ""
            raise problem(
                "all-rejected",
                f"Nothing in the body can be stored: {where}{first.detail} ({first.reason}).",
                **incoming.told(refusals),
            )
        accepted = incoming.send(services, guard, runs)
        return json_answer({"accepted": accepted, **incoming.told(refusals)}, 202)

    return router
