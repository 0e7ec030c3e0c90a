"""Judges whether compaction gets on, by the catalog's entries."""

from __future__ import annotations

from collections.abc import Iterable

from infra.doctor.finding import Finding, Names
from ingest.compact_plan import overdue
from ingest.keys import DAY_S, Layout
from ingest.stores import Entry

GRACE_S = DAY_S
"""How long a compacted segment is kept, as the template has it (CompactGraceS)."""


def compaction(entries: Iterable[Entry], layout: Layout | None, now_s: float, names: Names) -> Finding:
    """Dates that stay as they are for days, though there is something to join or to delete; the entries by date."""
    if layout is None:
        return Finding("compaction", "skipped", "the table has no layout")
    late = list(overdue(entries, layout, GRACE_S, now_s))
    if not late:
        return Finding("compaction", "ok", "no date is overdue")
    shown = ", ".join(late[:3]) + (", ..." if len(late) > 3 else "")
    function = f"{names.stack}-compact-archive"
    return Finding(
        "compaction",
        "warning",
        f"{len(late):,} dates ({shown}) have had many small segments, or compacted ones that are not deleted, for two "
        "days and more: queries of them cost more",
        f"See why it fails: {names.logs(function)}. `thermocline archive compact` does it at once; where a run of 15 "
        "minutes an hour is too short, set CompactSchedule to rate(15 minutes).",
    )
