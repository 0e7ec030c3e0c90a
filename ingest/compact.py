"""The use case of compaction: a date's segments become fewer, larger, sorted ones, and the old are deleted later."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from ingest import keys
from ingest import segment as segment_format
from ingest.archive import LEAST_ROUND_MS, catalog_entry, describe
from ingest.compact_plan import LOOK_BACK_S, MOST_ENTRIES, Part, complete_s, groups_of, parts_of
from ingest.errors import Corrupt, NotFound, Refused, ThermoclineError
from ingest.keys import DAY_S, Layout
from ingest.reading import Run, Span, merge
from ingest.segment_groups import SegmentGroups
from ingest.stores import Catalog, ColdStore, Holders, ObjectHead, RemainingMs, Segment, Superseded

REMEMBERED_S = 7 * DAY_S
"""How long the catalog remembers that an object was deleted, so that no late event has it catalogued again."""
PASSES = 4
"""A date with more segments than one swap takes is compacted in steps; so many in one go."""
NAMES_TRIED = 8
_INPUT_ROWS = "input-rows"


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction works with. `now` gives epoch seconds; `grace_s`, for how long a superseded object is
    kept for those who hold an older listing. `thorough` does all that can be done, else what pays."""

    cold: ColdStore
    catalog: Catalog
    layout: Layout
    now: Callable[[], float]
    grace_s: int
    remaining_ms: RemainingMs
    thorough: bool = False


@dataclass(slots=True)
class Compacted:
    """What became of a date. `deleted` objects were superseded long enough ago; `revived` ones are catalogued
    again, since what superseded them is not all there. `damaged` segments stay as they are. `lost_races`:
    swaps that somebody else's came before. `failed` is the first error of a date that was given up."""

    date: str
    groups: int = 0
    segments_before: int = 0
    segments_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows_before: int = 0
    rows_after: int = 0
    deleted: int = 0
    revived: int = 0
    lost_races: int = 0
    damaged: list[str] = field(default_factory=list[str])
    unfinished: bool = False
    failed: ThermoclineError | None = None

    @property
    def did_something(self) -> bool:
        """Whether anything was changed, or could not be."""
        counts = self.groups + self.deleted + self.revived + self.lost_races + len(self.damaged)
        return bool(counts) or self.unfinished or self.failed is not None


class _Bad(Exception):
    """A segment cannot be read."""

    def __init__(self, segment: Segment) -> None:
        super().__init__(segment.name)
        self.segment = segment


def compact(work: Compaction, span: Span) -> Iterator[Compacted]:
    """Compact the dates that the span touches, oldest first; what became of each, as soon as it is done.

    Objects that were superseded for longer than the grace are deleted. A date that fails does not hold up
    the others. With too little time left the rest is `unfinished`: the next call goes on there.
    Raises Unavailable where the catalog cannot be read.
    """
    begun = False
    for date, found in groupby(work.catalog.entries(span), key=lambda entry: entry.date):
        held = Holders(found)
        done = Compacted(date)
        if not (held.superseded or _is_due(date, held, work)):
            continue
        if begun and work.remaining_ms() < LEAST_ROUND_MS:
            done.unfinished = True
            yield done
            return
        try:
            _delete_superseded(held, work, done)
            if _is_due(date, held, work):
                _compact_date(date, held, work, done)
        except ThermoclineError as error:
            done.failed = error
        begun = begun or done.did_something
        yield done


def planned(work: Compaction, span: Span) -> Iterator[tuple[str, list[list[Segment]]]]:
    """What `compact` would do first: each date with the groups of segments that would be made anew."""
    for date, found in groupby(work.catalog.entries(span), key=lambda entry: entry.date):
        held = Holders(found)
        if _is_due(date, held, work):
            yield date, groups_of(list(held.live.values()), thorough=work.thorough)


def _is_due(date: str, held: Holders, work: Compaction) -> bool:
    """Whether the date is to be looked at: all of them for a thorough one, else those that are complete and
    not too old, so that rows outlive their cold retention by no more than LOOK_BACK_S."""
    segments = list(held.live.values())
    if len(segments) < 2:
        return False
    now_s = work.now()
    if not work.thorough:
        ready_s = complete_s(date, work.layout, now_s)
        if not ready_s <= now_s < ready_s + LOOK_BACK_S:
            return False
    return bool(groups_of(segments, thorough=work.thorough))


def _compact_date(date: str, held: Holders, work: Compaction, done: Compacted) -> None:
    bad: set[str] = set()
    for _ in range(PASSES):
        usable = [segment for segment in held.live.values() if segment.name not in bad]
        groups = groups_of(usable, thorough=work.thorough)
        if not groups:
            break
        swapped = done.groups
        for group in groups:
            if done.groups and work.remaining_ms() < LEAST_ROUND_MS:
                done.unfinished = True
                return
            try:
                _compact_group(date, group, work, done)
            except Refused:
                done.lost_races += 1
            except _Bad as error:
                bad.add(error.segment.name)
                if isinstance(work.catalog.look_up(date, error.segment.digest), Segment):
                    done.damaged.append(error.segment.name)
                else:  # somebody else compacted it, and it is gone
                    done.lost_races += 1
        if done.groups == swapped and not bad:
            break
        held = Holders(work.catalog.entries(keys.date_span(date)))
    if done.groups:
        _delete_superseded(held, work, done)


# --- one group --------------------------------------------------------------------------


def _compact_group(date: str, group: Sequence[Segment], work: Compaction, done: Compacted) -> None:
    """Make new segments of the group and swap them in. Raises Refused, _Bad, Unavailable, Corrupt.

    The new objects are announced, stored, and only then catalogued, in one transaction that takes the old
    ones out of every query. Each step may be repeated, and goes on with what an earlier attempt has stored.
    """
    opened = {segment.name: _open(segment, work.cold) for segment in group}
    parts = parts_of(row_group for segment in group for row_group in opened[segment.name].groups)
    while len(group) + len(parts) > MOST_ENTRIES:
        group = group[: len(group) // 2]
        parts = parts_of(row_group for segment in group for row_group in opened[segment.name].groups)
    if len(group) < 2:
        return
    announced_s = int(work.now())
    digests = _announced(date, group, parts, work, announced_s)
    try:
        _make_and_swap(date, group, parts, opened, digests, announced_s, work, done)
    except Refused:
        now_s = int(work.now())
        work.catalog.renounce(date, digests, now_s, _expires_at_s(now_s, work))
        raise


def _make_and_swap(
    date: str,
    group: Sequence[Segment],
    parts: Sequence[Part],
    opened: dict[str, SegmentGroups],
    digests: Sequence[str],
    announced_s: int,
    work: Compaction,
    done: Compacted,
) -> None:
    inputs = [segment.digest for segment in group]
    rows = 0
    new: list[Segment] = []
    for part, digest in zip(parts, digests, strict=True):
        now_s = int(work.now())
        if now_s > announced_s + work.grace_s // 4:  # nobody deletes what is still being made
            work.catalog.announce(date, digests, inputs, now_s, _expires_at_s(now_s, work))
            announced_s = now_s
        read, made = _stored_part(date, digest, part, group, opened, work)
        rows += read
        if made is not None:
            new.append(made)
    if rows != sum(segment.rows for segment in group):
        raise Corrupt(
            f"{len(group)} segments of {date} name {sum(segment.rows for segment in group)} rows and hold {rows}. "
            "They were left as they are; run archive reindex."
        )
    now_s = int(work.now())
    work.catalog.swap(group, new, announced_s, now_s, _expires_at_s(now_s, work))
    done.groups += 1
    done.segments_before += len(group)
    done.segments_after += len(new)
    done.bytes_before += sum(segment.size_bytes for segment in group)
    done.bytes_after += sum(segment.size_bytes for segment in new)
    done.rows_before += rows
    done.rows_after += sum(segment.rows for segment in new)


def _open(segment: Segment, cold: ColdStore) -> SegmentGroups:
    try:
        return SegmentGroups(partial(cold.read, segment.name), segment.size_bytes, segment.footer_bytes)
    except (Corrupt, NotFound) as error:
        raise _Bad(segment) from error


def _announced(
    date: str, group: Sequence[Segment], parts: Sequence[Part], work: Compaction, now_s: int
) -> list[str]:
    """Names for the parts, the same for the same segments, announced in the catalog. Names whose objects are
    being deleted are not used again. Raises Refused."""
    inputs = [segment.digest for segment in group]
    for attempt in range(NAMES_TRIED):
        digests = [keys.compacted_digest(inputs, [str(attempt), *part.label]) for part in parts]
        try:
            work.catalog.announce(date, digests, inputs, now_s, _expires_at_s(now_s, work))
        except Refused:
            if attempt == NAMES_TRIED - 1:
                raise
        else:
            return digests
    raise AssertionError("unreachable")


def _stored_part(
    date: str,
    digest: str,
    part: Part,
    group: Sequence[Segment],
    opened: dict[str, SegmentGroups],
    work: Compaction,
) -> tuple[int, Segment | None]:
    """How many rows the part was made from, and its entry; None where it has none. What an earlier attempt
    has stored under this name holds the same rows and is taken as it is."""
    name = keys.segment_name(date, digest)
    try:
        head = work.cold.head(name)
        facts = segment_format.facts_of(head.metadata)
        if facts is not None and head.metadata.get(_INPUT_ROWS, "").isdigit():
            return int(head.metadata[_INPUT_ROWS]), catalog_entry(name, date, digest, facts, head)
    except NotFound:
        pass
    by_sensor: dict[str, list[Run]] = {}
    rows = 0
    for segment in group:
        try:
            found = opened[segment.name].runs(part.low, part.high, part.span)
        except (Corrupt, NotFound) as error:
            raise _Bad(segment) from error
        for run in found:
            rows += run.value_count()
            by_sensor.setdefault(run.sensor_id, []).append(run)
    if not rows:
        return 0, None
    merged = [merge(by_sensor.pop(sensor_id)) for sensor_id in sorted(by_sensor)]
    encoded = segment_format.encode(merged, thorough=True)
    known = {**segment_format.metadata(encoded), _INPUT_ROWS: str(rows)}
    etag = work.cold.put(name, encoded.data, known)
    head = ObjectHead(len(encoded.data), etag, int(work.now()))
    return rows, catalog_entry(name, date, digest, encoded, head)


def _expires_at_s(now_s: int, work: Compaction) -> int:
    return now_s + work.layout.at(now_s).cold_retention_s


# --- what is superseded -----------------------------------------------------------------


def _delete_superseded(held: Holders, work: Compaction, done: Compacted) -> None:
    """Delete the objects of a date that are superseded for longer than the grace, and are not needed.

    Only what the catalog says is superseded is ever deleted, and only where all that holds its rows now is
    catalogued and in the bucket; else it is catalogued again.
    """
    now_s = int(work.now())
    sound: dict[str, bool] = {}
    doomed: list[Superseded] = []
    for entry in held.superseded.values():
        if entry.gone_s is not None or now_s < entry.superseded_s + work.grace_s:
            continue
        holders = held.of(entry) or Holders(work.catalog.entries(keys.date_span(entry.date))).of(entry)
        if entry.doomed or (holders is not None and all(_is_sound(one, work.cold, sound) for one in holders)):
            if work.catalog.doom(entry):
                doomed.append(entry)
        else:
            _revive(entry, work, done)
    work.cold.delete([keys.segment_name(entry.date, entry.digest) for entry in doomed])
    for entry in doomed:
        work.catalog.bury(entry, now_s, now_s + REMEMBERED_S)
    done.deleted += len(doomed)


def _is_sound(segment: Segment, cold: ColdStore, known: dict[str, bool]) -> bool:
    """Whether the object is in the bucket as it was catalogued."""
    if segment.name not in known:
        try:
            head = cold.head(segment.name)
            known[segment.name] = (head.size_bytes, head.etag) == (segment.size_bytes, segment.etag)
        except NotFound:
            known[segment.name] = False
    return known[segment.name]


def _revive(entry: Superseded, work: Compaction, done: Compacted) -> None:
    """Catalog a superseded object again. One that was never stored is forgotten."""
    name = keys.segment_name(entry.date, entry.digest)
    try:
        segment = describe(name, work.cold)
    except NotFound:
        if work.catalog.doom(entry):
            now_s = int(work.now())
            work.catalog.bury(entry, now_s, now_s + REMEMBERED_S)
        return
    except Corrupt:
        done.damaged.append(name)
        return
    if segment is not None and work.catalog.revive(segment, _expires_at_s(segment.written_s, work)):
        done.revived += 1
