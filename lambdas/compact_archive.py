"""The compaction door: every hour, what is complete in the archive becomes fewer, larger segments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit

from ingest.archive import ALL_DATES
from ingest.compact import Compacted, Compaction, compact
from ingest.compact_plan import overdue
from lambdas import _door

SERVICE = "compact_archive"
_logger = _door.logger(SERVICE)
_metrics = _door.metrics(SERVICE)


def handle(work: Compaction) -> list[Compacted]:
    """Compact every date that is due, and delete what was superseded for long enough: what became of each
    date. Raises Unavailable where the catalog cannot be read."""
    return [done for done in compact(work, ALL_DATES) if done.did_something]


def totals(dates: list[Compacted]) -> Mapping[str, int]:
    """What was done, over all dates."""
    return {
        "dates": sum(done.groups > 0 for done in dates),
        "segments_before": sum(done.segments_before for done in dates),
        "segments_after": sum(done.segments_after for done in dates),
        "bytes_before": sum(done.bytes_before for done in dates),
        "bytes_after": sum(done.bytes_after for done in dates),
        "deleted": sum(done.deleted for done in dates),
        "revived": sum(done.revived for done in dates),
        "lost_races": sum(done.lost_races for done in dates),
    }


def _tell(dates: list[Compacted], late: list[str]) -> None:
    found = totals(dates)
    damaged = [name for done in dates for name in done.damaged]
    _metrics.add_metric("SegmentsCompacted", MetricUnit.Count, found["segments_before"])
    _metrics.add_metric("SegmentsDeleted", MetricUnit.Count, found["deleted"])
    level = _logger.error if damaged or late else _logger.info
    unfinished = any(done.unfinished for done in dates)
    level(
        "compacted", extra={**found, "damaged": damaged[:50], "overdue": late[:50], "unfinished": unfinished}
    )


@_metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry: what was done. An error means that a date could not be compacted, the others were."""
    del event
    settings, stores = _door.deployment()
    work = Compaction(
        cold=stores.cold,
        catalog=stores.catalog,
        layout=_door.layout(stores.hot, _door.now_s()),
        now=_door.now_s,
        grace_s=settings.compact_grace_s,
        remaining_ms=context.get_remaining_time_in_millis,
    )
    entries = stores.catalog.entries(ALL_DATES)
    late = list(overdue(entries, work.layout, work.grace_s, work.now()))
    _metrics.add_metric("DatesOverdue", MetricUnit.Count, len(late))
    _metrics.flush_metrics()  # at once: a run that dies of time or memory tells nothing at its end
    dates = handle(work)
    _tell(dates, late)
    for done in dates:
        if done.failed is not None:
            raise done.failed
    return {**totals(dates), "unfinished": any(done.unfinished for done in dates)}
