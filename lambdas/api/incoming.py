"""What the writing routes share: the body opened, readings checked against the token and sent, refusals told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from ingest.envelope import GZIP_MAGIC, ZSTD_MAGIC, Unopened, inflate
from ingest.reading import Run
from ingest.reject import Problem as Refusal
from ingest.token import prefixes
from lambdas.api import limits, params
from lambdas.api.auth import Guard
from lambdas.api.problems import Problem, problem
from lambdas.api.services import Services

TOLD_MOST = 100
"""Refusals that one answer tells apart; all of them are counted."""
_MAGIC = {"gzip": GZIP_MAGIC, "x-gzip": GZIP_MAGIC, "zstd": ZSTD_MAGIC}
_MOST_CODINGS = 2
_OVER = ("too_large", "inflate_limit")
"""Reasons that mean that a whole request holds too much."""


def opened_body(event: BaseProxyEvent) -> bytes:
    """The body with its Content-Encoding undone. Raises Problem where it cannot be, or holds too much."""
    stated = (params.header(event, "content-encoding") or "").lower().split(",")
    codings = [word.strip() for word in stated if word.strip() not in ("", "identity")]
    unknown = next((word for word in codings if word not in _MAGIC), None)
    if unknown is not None or len(codings) > _MOST_CODINGS:
        raise problem(
            "unsupported-encoding",
            f"Content-Encoding {','.join(codings)[:60]!a} is not understood; use gzip, zstd or identity.",
            "Content-Encoding",
        )
    body = params.body_bytes(event)
    for coding in reversed(codings):
        if body:
            body = _inflated(body, coding)
    return body


def _inflated(body: bytes, coding: str) -> bytes:
    if not body.startswith(_MAGIC[coding]):
        raise problem(
            "invalid-body",
            f"The body is not {coding}, as its Content-Encoding says; correct the sender.",
            "Content-Encoding",
        )
    try:
        return inflate(body, limits.INFLATED_MOST_BYTES)
    except Unopened as error:
        if error.reason == "inflate_limit":
            raise problem(
                "body-too-large",
                f"{error}; send it in several requests.",
                most_bytes=limits.INFLATED_MOST_BYTES,
            ) from error
        raise problem("invalid-body", f"{error}; send it again.") from error


def send(services: Services, guard: Guard, runs: Sequence[Run]) -> int:
    """Hand the runs to Kinesis; how many readings it accepted, all of them. Raises Problem, with nothing
    sent, where the token does not cover every sensor; Unavailable."""
    for run in runs:
        guard.write(run.sensor_id)
    return services.send(runs) if runs else 0


def check_writer(guard: Guard) -> None:
    """Raise Problem where the token may write nothing at all."""
    guard.asked()
    if not prefixes(guard.known(), "write"):
        guard.write("")


def told(refusals: Sequence[Refusal]) -> dict[str, Any]:
    """Members of an answer that say what was refused: the first ones, and how many values or readings in all."""
    listed = [
        {
            "reason": refusal.reason,
            "detail": refusal.detail,
            "part": refusal.part,
            "sensor_id": refusal.sensor_id,
            "count": refusal.count,
        }
        for refusal in refusals[:TOLD_MOST]
    ]
    return {"rejected": listed, "rejected_count": sum(refusal.count for refusal in refusals)}


def over_limit(runs: Sequence[Run], refusals: Sequence[Refusal]) -> Problem | None:
    """The problem where the request as a whole holds too much and nothing of it was read; None where not."""
    for refusal in refusals:
        if not runs and refusal.reason in _OVER:
            return problem("body-too-large", f"{refusal.detail}; send it in several requests.")
    return None
