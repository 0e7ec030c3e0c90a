"""What compaction does to a fleet's archive in a month: segments read and made, requests, units and seconds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from infra.cost.fleet import KB, MONTH_S, Fleet
from infra.cost.lines import GB, PART_COMPACTION, Line, Lines
from infra.cost.sample import READ_UNIT_BYTES
from infra.cost.written import Written
from ingest.compact import REMEMBERED_S
from ingest.compact_plan import MOST_ENTRIES, VALUES_PER_SEGMENT
from ingest.item import write_units
from ingest.keys import DAY_S
from ingest.segment_groups import HELD_BYTES

MEMORY_GB = 3008 / KB
INDEX_GB = 512 / KB
"""Memory of compact_archive and index_segment in the template."""
RUN_S = 900.0
GRACE_S = 86_400.0
RUNS = MONTH_S / 3_600
"""A run an hour, of 15 minutes at most; and how long an old segment is kept: as the template has it."""
PER_SWAP = MOST_ENTRIES - 3
"""So many small segments become one in one swap."""
MOST_PARTS = MOST_ENTRIES // 3
"""So many large ones are made into as many in one swap."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """A month's compaction. `passes`: how often a row is written anew; `kept` segments are left of those made.

    A date with more segments than one swap takes is made anew in steps, each leaving a hundredth of them, but no
    fewer than its values need.
    """

    segments: float
    passes: int
    read: float
    made: float
    kept: float
    gets: float

    @property
    def units(self) -> float:
        """Entries written, those in transactions twice ("Amazon DynamoDB pricing"): announced, swapped, marked and
        buried when the old object is deleted, and catalogued by S3's event."""
        return 2 * (self.made + self.read + self.made) + 2 * self.read + self.made

    @property
    def heads(self) -> float:
        """Objects asked for: a new one before it is made, by S3's event, and before the old ones are deleted."""
        return 3 * self.made

    def remembered(self, months: float) -> float:
        """Entries in the catalog after so many months: what is kept, and what was superseded of late."""
        return self.kept * months + self.read * min(months, (GRACE_S + REMEMBERED_S) / MONTH_S)


def compacted(fleet: Fleet, done: Written) -> Compacted:
    """What becomes of the segments that the archiver writes."""
    a_day = done.segments * DAY_S / MONTH_S
    if a_day < 2:
        return Compacted(done.segments, 0, 0.0, 0.0, done.segments, 0.0)
    needed = max(1.0, fleet.readings * fleet.metrics * DAY_S / MONTH_S / VALUES_PER_SEGMENT)
    passes = max(1, math.ceil(math.log(a_day, PER_SWAP) - 1e-9))
    left = [max(needed, a_day / PER_SWAP**step) for step in range(passes + 1)]
    read, made = sum(left[:-1]), sum(left[1:])
    parts = min(float(MOST_PARTS), max(1.0, PER_SWAP * needed / a_day))
    is_large = done.segment_bytes / done.segments > HELD_BYTES
    gets = read * (1 + parts * is_large)
    month = MONTH_S / DAY_S
    return Compacted(
        done.segments, passes, read * month, made * month, min(left[-1], a_day) * month, gets * month
    )


def seconds(fleet: Fleet, found: Compacted, assumed: Mapping[str, float]) -> float:
    """Seconds a month of compact_archive."""
    rows_s = found.passes * fleet.readings / assumed["archive_readings_per_core_s"]
    calls_s = found.gets * assumed["read_call_s"] + found.made * assumed["segment_s"]
    return rows_s + calls_s + RUNS * assumed["store_call_s"]


def lines_of(
    fleet: Fleet, done: Written, found: Compacted, assumed: Mapping[str, float], lines: Lines
) -> Iterator[Line]:
    """The bill's lines."""
    took_s = seconds(fleet, found, assumed)
    index_s = found.made * assumed["index_s"]
    how = f"({took_s:,.0f} s x {MEMORY_GB:.2f} GB + {index_s:,.0f} s x {INDEX_GB:g} GB), each row {found.passes} times"
    if took_s > RUNS * RUN_S:
        how += (
            f"; needs a run every {60 * RUNS * RUN_S / took_s:.0f} minutes (CompactSchedule), not one an hour"
        )
    yield _listed(fleet, done, found, lines)
    yield lines.line(
        PART_COMPACTION,
        "compaction: invocations",
        "lambda_request",
        RUNS + found.made,
        f"a run an hour, and index_segment for {found.made:,.0f} new segments",
    )
    yield lines.line(
        PART_COMPACTION,
        "compaction: compact_archive and index_segment",
        "lambda_gb_s",
        took_s * MEMORY_GB + index_s * INDEX_GB,
        how,
    )
    if not found.passes:
        return
    made = f"{found.read:,.0f} segments read, {found.made:,.0f} made"
    entry_units = write_units(done.catalog_entry_bytes)
    kept_gb = found.passes * done.segment_bytes * GRACE_S / MONTH_S / GB
    yield lines.line(
        PART_COMPACTION, "compaction: segments put", "s3_put", found.made, f"{found.made:,.0f} segments"
    )
    yield lines.line(
        PART_COMPACTION,
        "compaction: objects read and looked at",
        "s3_get",
        found.gets + found.heads,
        f"{found.gets:,.0f} ranges of {found.read:,.0f} segments, and {found.made:,.0f} x 3 looked at",
    )
    yield lines.line(
        PART_COMPACTION,
        "compaction: catalog",
        "dynamodb_write",
        found.units * entry_units,
        f"{made}: announced and swapped in transactions, two units an entry; deleted; indexed",
    )
    yield lines.line(
        PART_COMPACTION,
        "compaction: old segments kept",
        "s3_gb_month",
        kept_gb,
        f"{found.passes} x {done.segment_bytes / GB:,.2f} GB, each kept {GRACE_S / 3600:g} h longer",
    )


def _listed(fleet: Fleet, done: Written, found: Compacted, lines: Lines) -> Line:
    """Each run reads the whole catalog, consistently."""
    cold_months = fleet.cold_s / MONTH_S
    first, steady = (found.remembered(months) for months in (min(12.0, cold_months), cold_months))

    def units(entries: float) -> float:
        return RUNS * max(1.0, entries * done.catalog_entry_bytes / READ_UNIT_BYTES)

    return lines.line(
        PART_COMPACTION,
        "compaction: the catalog listed",
        "dynamodb_read",
        units(first),
        f"{RUNS:.1f} runs x {first:,.0f} entries of {done.catalog_entry_bytes:,} B / 4 KB",
        units(steady),
    )
