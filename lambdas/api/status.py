"""The route that says how the deployment is: what is stored, what is due, what it costs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from ingest.keys import US
from ingest.reading import EARLIEST_US, Span
from ingest.times import format_time
from lambdas.api import schemas
from lambdas.api.answer import json_answer
from lambdas.api.auth import Guard
from lambdas.api.operation import Answer, operation
from lambdas.api.services import Services

TOTALS_AGE_S = 5.0
"""Totals of the archive that were counted a shorter while ago are told again."""


def routes(services: Services, guard: Guard) -> Router:
    """/v1/status."""
    router = Router()
    totals = _Remembered(lambda: archive_totals(services), services.clock)

    @router.get("/v1/status")
    @operation(
        "status",
        tag="service",
        summary="How the deployment is",
        text="What is due for the archive, what the archive holds, and what was counted and will cost, where known.",
        needs="any",
        answers={200: Answer("Its state.", schemas.STATUS)},
        example="/v1/status",
    )
    def status() -> Response[str]:
        guard.known()
        now_s = services.now_s()
        period = services.layout().at(now_s)
        due = _due(services, now_s)
        body: dict[str, Any] = {
            "now": format_time(int(now_s * US)),
            "layout": {
                "bucket_s": period.bucket_s,
                "archive_after_s": period.archive_after_s,
                "hot_retention_s": period.hot_retention_s,
                "cold_retention_s": period.cold_retention_s,
            },
            **due,
            **totals(),
            "counters": None,
            "estimated_month_usd": None,
            "health": None,
        }
        return json_answer(body | services.vitals())

    return router


def _due(services: Services, now_s: float) -> dict[str, Any]:
    """How many manifests wait though their slot has come, and for how long the oldest one has."""
    count, oldest = 0, None
    for slot_s in services.hot.open_slots(int(now_s)):
        found = sum(len(page) for page in services.hot.manifests(slot_s))
        count += found
        if found and oldest is None:
            oldest = slot_s
    return {"manifests_due": count, "oldest_due_s": None if oldest is None else int(now_s) - oldest}


def archive_totals(services: Services) -> dict[str, Any]:
    """How many segments the catalog lists, with their rows and bytes."""
    everything = Span(EARLIEST_US, int((services.now_s() + 2 * 86_400) * US))
    segments = services.catalog.find(everything)
    return {
        "segments": len(segments),
        "segment_rows": sum(segment.rows for segment in segments),
        "segment_bytes": sum(segment.size_bytes for segment in segments),
    }


class _Remembered:
    """What a call said, asked again only after a while."""

    def __init__(self, ask: Callable[[], dict[str, Any]], clock: Callable[[], float]) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._held: tuple[float, dict[str, Any]] | None = None

    def __call__(self) -> dict[str, Any]:
        with self._lock:
            now_s = self._clock()
            if self._held is None or now_s - self._held[0] >= TOTALS_AGE_S:
                self._held = (now_s, self._ask())
            return self._held[1]
