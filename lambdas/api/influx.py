"""The route by which clients of InfluxDB write: line protocol, with InfluxDB's answers and errors."""

from __future__ import annotations

from collections.abc import Sequence

from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from ingest.line_protocol import NANOSECONDS, PRECISIONS, decode_lines
from ingest.reject import REASONS
from ingest.reject import Problem as Refusal
from lambdas.api import incoming
from lambdas.api.answer import empty_answer
from lambdas.api.auth import Guard
from lambdas.api.operation import Answer, Body, operation
from lambdas.api.params import choice, text
from lambdas.api.problems import Problem, problem
from lambdas.api.services import Services

PRECISION = choice("precision", "The unit of the lines' times.", tuple(PRECISIONS), NANOSECONDS)
ORG = text("org", "Taken and ignored: a deployment is one organization.")
BUCKET = text("bucket", "Taken and ignored: a deployment is one bucket.")
_LINES = Body({"text/plain": {"type": "string"}}, "Lines. May be gzip or zstd (`Content-Encoding`).")
_FIRST_MOST = 200


def routes(services: Services, guard: Guard) -> Router:
    """POST /api/v2/write."""
    router = Router()

    @router.post("/api/v2/write")
    @operation(
        "writeLines",
        tag="readings",
        summary="Send line protocol, as clients of InfluxDB 2 do",
        text="Answers 204 when Kinesis has accepted every line. Where some cannot be used the others are stored, "
        "and the answer is 400 with the first of them in `line`.",
        needs="write",
        parameters=(PRECISION, ORG, BUCKET),
        body=_LINES,
        answers={204: Answer("Kinesis has accepted every line.")},
        problems=(
            "bad-lines",
            "body-too-large",
            "body-incomplete",
            "unsupported-encoding",
            "too-many-requests",
        ),
        strict=False,
    )
    def write_lines() -> Response[str]:
        event = router.current_event
        incoming.check_writer(guard)
        try:
            precision = PRECISION.of(event)
            body = incoming.opened_body(event)
        except Problem as error:
            if error.code in ("invalid-parameter", "invalid-body"):  # InfluxDB knows no 422 here
                raise problem("bad-lines", error.detail) from error
            raise
        runs, refusals = decode_lines(body, int(services.now_s() * 1000), precision)
        over = incoming.over_limit(runs, refusals)
        if over is not None:
            raise over
        if not runs and not refusals:
            raise problem("bad-lines", "The body holds no line; writing requires points.")
        incoming.send(services, guard, runs)
        if refusals:
            raise _partial(refusals, some_stored=bool(runs))
        return empty_answer()

    return router


def _partial(refusals: Sequence[Refusal], *, some_stored: bool) -> Problem:
    """What InfluxDB's clients are told where not every line could be used."""
    first = refusals[0]
    count = sum(refusal.count for refusal in refusals)
    line = int("".join(filter(str.isdigit, first.part.partition(",")[0])) or 0)
    others = "the others were stored" if some_stored else "nothing was stored"
    said = (
        f"partial write: {count} lines or values cannot be used, {others}. "
        f"First: {first.part}: {first.detail[:_FIRST_MOST]} ({first.reason}). {REASONS[first.reason]}"
    )
    found = problem("bad-lines", said)
    if line:
        found.more["line"] = line
    return found
