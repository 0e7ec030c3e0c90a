"""From a query to what must be read: Query, Plan, and `plan`, which reads nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ingest.aggregate import aggregate_function
from ingest.errors import BadInput
from ingest.keys import US, Layout
from ingest.reading import AHEAD_US, EARLIEST_US, Span, is_metric_name, is_sensor_id

Tier = Literal["auto", "hot", "cold"]
SKEW_US = 24 * 3600 * US
"""How far a writer's clock may run ahead of the reader's before its newest readings are not asked for."""


@dataclass(frozen=True, slots=True)
class Query:
    """One sensor over a half-open span.

    No `metrics` means all. With `every_us` the answer is windows of that width, aligned to
    the epoch, holding `aggregates`. `limit` bounds the rows of an answer (None: all).
    """

    sensor_id: str
    span: Span
    metrics: tuple[str, ...] = ()
    every_us: int | None = None
    aggregates: tuple[str, ...] = ()
    tier: Tier = "auto"
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to read: spans of the two tiers (None: that tier is not needed)."""

    hot: Span | None
    cold: Span | None
    widest_bucket_s: int


def check(query: Query) -> None:
    """Raise BadInput naming the part of the query that cannot be answered."""
    if not is_sensor_id(query.sensor_id):
        raise BadInput(
            f"sensor: {query.sensor_id!r} cannot name a sensor; use letters, digits and . _ : / - "
            "(128 at most, beginning with a letter or digit, no '..' and no empty path part)."
        )
    for metric in query.metrics:
        if not is_metric_name(metric):
            raise BadInput(
                f"metric: {metric!r} cannot name a metric; use letters, digits and _ . - (64 at most)."
            )
    if query.every_us is not None and query.every_us <= 0:
        raise BadInput("every: must be longer than zero, such as 1m or 1h.")
    for name in query.aggregates:
        aggregate_function(name)
    if query.limit is not None and query.limit < 1:
        raise BadInput("limit: must be at least 1.")


def plan(query: Query, layout: Layout, now_s: float) -> Plan:
    """What the query has to read.

    The hot tier is always read: late readings of old buckets live there too. The cold tier
    is read up to the youngest instant that can have left the hot tier, with half the margin
    between archiving and expiry to spare, so that neither a skewed clock nor a changed
    retention opens a gap.
    """
    newest_us = int(now_s * US) + AHEAD_US + SKEW_US
    possible = query.span.overlap(Span(EARLIEST_US, newest_us))
    hot = cold = None
    if not possible.is_empty():
        hot = possible if query.tier in ("auto", "hot") else None
        cold = possible if query.tier == "cold" else None
        if query.tier == "auto":
            may_be_gone = possible.overlap(Span(EARLIEST_US, layout.cold_until_us(now_s)))
            cold = None if may_be_gone.is_empty() else may_be_gone
    return Plan(hot, cold, layout.widest_bucket_s)
