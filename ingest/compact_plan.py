"""Which segments of a date are made into new ones, and where the new ones are cut: pure, reads nothing."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

from ingest import keys
from ingest.keys import DAY_S, US, Layout
from ingest.reading import Span
from ingest.segment_groups import Group
from ingest.stores import Entry, Holders, Segment

VALUES_PER_SEGMENT = 8_000_000
"""New segments hold about so many values, so that memory stays bounded."""
MOST_ENTRIES = 100
"""Old and new segments of one swap together: what one transaction takes."""
LEAST_EXTRA = 4
LEAST_SHARE = 10
"""Segments are made anew by the schedule only where so many are too many, or where one in so many rows
lies in a segment beside others of the same sensors: else each late reading would have its date written anew."""
SETTLED_S = 2 * 3600
"""How long after the last regular slot of a date the schedule takes it up."""
LOOK_BACK_S = 35 * DAY_S
"""The schedule leaves older dates alone: what is written anew is kept for a whole cold retention from then on."""
OVERDUE_S = 2 * DAY_S
"""The schedule comes every hour; what it leaves undone for so long is told of."""
LAST_SENSOR = "\x7f"
"""Sorts behind every sensor id."""


@dataclass(frozen=True, slots=True)
class Part:
    """What goes into one new segment: sensors from `low` on and before `high`, and only those readings of
    the span where there is one (a sensor whose values are too many for one segment)."""

    low: str
    high: str
    span: Span | None = None

    @property
    def label(self) -> list[str]:
        """What tells it from any other part of the same segments."""
        span = [] if self.span is None else [str(self.span.start_us), str(self.span.end_us)]
        return [self.low, self.high, *span]


def complete_s(date: str, layout: Layout, now_s: float) -> float:
    """When all that was sent in time has been archived of a date, and some time has passed (epoch seconds)."""
    period = layout.at(now_s)
    end_s = keys.date_span(date).end_us // US
    return end_s + period.archive_after_s + period.slot_step_s + SETTLED_S


def overdue(entries: Iterable[Entry], layout: Layout, grace_s: int, now_s: float) -> Iterator[str]:
    """Dates (the entries come by date) on which compaction does not get on: nothing has changed for OVERDUE_S, and
    still there is something to join, or something to delete."""
    for date, found in groupby(entries, key=lambda entry: entry.date):
        held = Holders(found)
        late = [
            entry
            for entry in held.superseded.values()
            if entry.gone_s is None and entry.superseded_s + grace_s + OVERDUE_S <= now_s
        ]
        segments = list(held.live.values())
        ready_s = complete_s(date, layout, now_s)
        changed_s = max([ready_s, *(segment.written_s for segment in segments)]) + OVERDUE_S
        is_waiting = changed_s <= now_s < ready_s + LOOK_BACK_S and bool(groups_of(segments))
        if late or is_waiting:
            yield date


# --- which ------------------------------------------------------------------------------


def groups_of(segments: Sequence[Segment], *, thorough: bool = False) -> list[list[Segment]]:
    """The segments of a date that are worth making anew, those together that share a swap.

    Segments that have sensors in common go together; `thorough` takes all that can be fewer or
    apart, else it must pay (`LEAST_EXTRA`, `LEAST_SHARE`). Nothing, where all is well.
    """
    chosen: list[list[Segment]] = []
    others: list[Segment] = []
    for part in _components(segments):
        if _pays(part, thorough=thorough):
            chosen.append(part)
        else:
            others.extend(part)
    too_many = len(others) - _needed(others)
    least = max(LEAST_EXTRA, len(others) // LEAST_SHARE)
    if len(others) > 1 and (_can_join(others) if thorough else too_many >= least):
        chosen.append(others)
    return [group for part in chosen for group in _that_fit(part)]


def _components(segments: Sequence[Segment]) -> list[list[Segment]]:
    """Segments by sensor, those together whose ranges of sensors overlap, also by way of others."""
    found: list[list[Segment]] = []
    last = ""
    for segment in sorted(segments, key=_place):
        if found and segment.first_sensor <= last:
            found[-1].append(segment)
        else:
            found.append([segment])
        last = max(last, segment.last_sensor)
    return found


def _place(segment: Segment) -> tuple[str, str, int, str]:
    return segment.first_sensor, segment.last_sensor, segment.first_us, segment.digest


def _pays(part: Sequence[Segment], *, thorough: bool) -> bool:
    if len(part) < 2:
        return False
    beside = sum(segment.rows for segment in _beside(part))
    needed = _needed(part)
    if thorough:
        return beside > 0 or _can_join(part)
    return beside * LEAST_SHARE >= sum(segment.rows for segment in part) or len(part) - needed >= max(
        LEAST_EXTRA, needed // LEAST_SHARE
    )


def _can_join(part: Sequence[Segment]) -> bool:
    rows = sorted(segment.rows for segment in part)
    return rows[0] + rows[1] <= VALUES_PER_SEGMENT // 2


def _needed(segments: Sequence[Segment]) -> int:
    return -(-sum(segment.rows for segment in segments) // VALUES_PER_SEGMENT)


def _beside(part: Sequence[Segment]) -> list[Segment]:
    """The segments that are left when the largest are laid side by side without overlap."""
    laid: list[Segment] = []
    left: list[Segment] = []
    for segment in sorted(part, key=lambda segment: (-segment.rows, segment.digest)):
        (laid if all(_are_apart(segment, other) for other in laid) else left).append(segment)
    return left


def _are_apart(one: Segment, other: Segment) -> bool:
    """Whether no reading of a sensor needs both, or they are pieces of the same sensor's day."""
    if one.last_sensor < other.first_sensor or other.last_sensor < one.first_sensor:
        return True
    single = one.first_sensor == one.last_sensor == other.first_sensor == other.last_sensor
    return single and (one.last_us < other.first_us or other.last_us < one.first_us)


def _that_fit(segments: Sequence[Segment]) -> list[list[Segment]]:
    """The segments by sensor, cut where a swap would have too many entries; no group of one."""
    found: list[list[Segment]] = []
    group: list[Segment] = []
    for segment in sorted(segments, key=_place):
        if group and not fits([*group, segment]):
            found.append(group)
            group = []
        group.append(segment)
    found.append(group)
    return [group for group in found if len(group) > 1]


def fits(group: Sequence[Segment]) -> bool:
    """Whether a swap has room for the segments and for as many parts as they may make (see `parts_of`)."""
    return len(group) + 2 * _needed(group) + 1 <= MOST_ENTRIES


# --- where to cut -----------------------------------------------------------------------


def parts_of(groups: Iterable[Group]) -> list[Part]:
    """The parts of about VALUES_PER_SEGMENT values at most, cut between sensors, that together are everything.

    From what the row groups tell of themselves: a part may be larger by one row group per segment. A
    sensor with more values is cut by time, into parts of its own.
    """
    by_last: dict[str, list[Group]] = {}
    for group in groups:
        by_last.setdefault(group.last_sensor, []).append(group)
    total = sum(group.rows for found in by_last.values() for group in found)
    count = max(1, -(-total // VALUES_PER_SEGMENT))
    aim = -(-total // count)
    parts: list[Part] = []
    low, held = "", 0
    for sensor in sorted(by_last):
        alone = [group for group in by_last[sensor] if group.first_sensor == sensor]
        after = sensor + "\0"
        if sum(group.rows for group in alone) > VALUES_PER_SEGMENT:
            if low < sensor:
                parts.append(Part(low, sensor))
            parts.extend(Part(sensor, after, span) for span in _spans(alone))
            low, held = after, 0
            continue
        held += sum(group.rows for group in by_last[sensor])
        if held >= aim:
            parts.append(Part(low, after))
            low, held = after, 0
    if held:
        parts.append(Part(low, LAST_SENSOR))
    return parts


def _spans(alone: Sequence[Group]) -> list[Span]:
    """Spans that hold about as many of the groups' rows each and together all time."""
    ordered = sorted(alone, key=lambda group: group.first_us)
    sums = list(accumulate(group.rows for group in ordered))
    count = -(-sums[-1] // VALUES_PER_SEGMENT)
    bounds = [ordered[bisect_right(sums, sums[-1] * cut // count)].first_us for cut in range(1, count)]
    edges = [0, *sorted(set(bounds)), 1 << 62]
    return [Span(start_us, end_us) for start_us, end_us in pairwise(edges) if start_us < end_us]
