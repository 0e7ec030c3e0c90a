"""The archive door: a ticket's REMOVE, or the schedule, has the manifests of a slot turned into segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from aws_lambda_powertools.metrics import MetricUnit

from ingest import keys
from ingest.archive import Archived, Stack, archive_overdue, archive_slots, overdue_after_s
from ingest.errors import Corrupt, Unavailable
from lambdas import _door

SERVICE = "archive_expired"
SCHEDULE_SOURCE = "thermocline.schedule"
_logger = _door.logger(SERVICE)
_metrics = _door.metrics(SERVICE)


def slots_of(event: Mapping[str, Any]) -> list[int]:
    """The slots whose tickets the stream event says were removed, each once, in order."""
    slots: list[int] = []
    for record in cast(list[dict[str, Any]], event.get("Records") or []):
        key = record.get("dynamodb", {}).get("Keys", {}).get("pk", {}).get("S", "")
        slot_s = keys.parse_ticket(key)
        if record.get("eventName") == "REMOVE" and slot_s is not None and slot_s not in slots:
            slots.append(slot_s)
    return slots


def handle(event: Mapping[str, Any], stack: Stack) -> Archived:
    """Archive the slots the event orders; for the schedule, every slot that is overdue.

    The schedule's event may carry `until_s`: archive open slots up to then (the local
    clock sets it). Where `failed` is set in the answer, the event is to be repeated; what else
    the answer says was done all the same. Raises Unavailable where not even a slot was begun.
    """
    if event.get("source") == SCHEDULE_SOURCE:
        until_s = event.get("until_s")
        if not isinstance(until_s, int):
            until_s = stack.now_s - overdue_after_s(stack.layout, stack.now_s)
        return archive_overdue(stack, until_s)
    done = Archived()
    archive_slots(slots_of(event), stack, done)
    return done


def _lag_s(stack: Stack) -> int | None:
    """How long ago the oldest slot that still has manifests was due; 0 where none is, None if not known."""
    try:
        for slot_s in stack.hot.open_slots(stack.now_s):
            if _has_manifests(slot_s, stack):
                return max(0, stack.now_s - slot_s)
    except Unavailable:
        return None
    return 0


def _has_manifests(slot_s: int, stack: Stack) -> bool:
    """Whether the slot has any, be it one that cannot be read."""
    try:
        return any(page for page in stack.hot.manifests(slot_s))
    except Corrupt:
        return True


def _tell(done: Archived, stack: Stack) -> None:
    lag_s = _lag_s(stack)
    if lag_s is not None:
        _metrics.add_metric("ArchiveLagS", MetricUnit.Seconds, lag_s)
    _metrics.add_metric("ChunksArchived", MetricUnit.Count, done.chunks)
    _metrics.add_metric("SegmentsWritten", MetricUnit.Count, len(done.segments))
    _metrics.add_metric("ChunksLost", MetricUnit.Count, len(done.lost))
    level = _logger.error if done.lost or done.unreadable else _logger.info
    level(
        "archived",
        extra={
            "slots": done.slots,
            "manifests": done.manifests,
            "chunks": done.chunks,
            "rows": done.rows,
            "segments": [segment.name for segment in done.segments[:50]],
            "waiting": done.waiting,
            "never_written": done.never_written,
            "lost": [f"{key.pk} {key.sk}" for key in done.lost[:50]],
            "unreadable": [f"{key.pk} {key.sk}" for key in done.unreadable[:50]],
            "unfinished": done.unfinished,
            "lag_s": lag_s,
        },
    )


@_metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry: says what is left; an error means the event is to be repeated."""
    settings, stores = _door.deployment()
    now_s = _door.now_s()
    stack = Stack(
        hot=stores.hot,
        cold=stores.cold,
        catalog=stores.catalog,
        layout=_door.layout(stores.hot, now_s),
        now_s=int(now_s),
        grace_s=settings.chunk_grace_s,
        remaining_ms=context.get_remaining_time_in_millis,
    )
    done = handle(event, stack)
    _tell(done, stack)
    if done.failed is not None:
        raise done.failed
    return {"waiting": done.waiting, "unfinished": done.unfinished, "segments": len(done.segments)}
