"""The use cases of the archive: a slot's chunks become segments, and the catalog learns of every segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from ingest import keys
from ingest import segment as segment_format
from ingest.chunk import Chunk
from ingest.errors import Corrupt, NotFound, ThermoclineError
from ingest.keys import Key, Layout
from ingest.manifest import Manifest
from ingest.reading import EARLIEST_US, Run, Span, merge
from ingest.stores import Catalog, ColdStore, Holders, HotStore, ObjectHead, RemainingMs, Segment, Superseded

CHUNKS_PER_ROUND = 8_000
"""How many chunks are archived before their manifests are deleted."""
CHUNKS_PER_READ = 200
"""How many chunks are asked for at once; a full one takes 1.2 MB when decoded."""
VALUES_PER_SEGMENT = 4_000_000
"""A segment is cut at the first chunk past this, so that memory stays bounded."""
LEAST_ROUND_MS = 20_000
"""With less time left no further round or slot is begun; the schedule goes on where it stopped."""
OVERDUE_MOST_S = 3_600
ALL_DATES = Span(EARLIEST_US, 1 << 62)


@dataclass(slots=True)
class Archived:
    """What became of a slot (or several). `waiting` manifests name chunks that may still be written, or
    that cannot be read (`unreadable`). `failed` is the first error of a slot that was given up."""

    slots: int = 0
    manifests: int = 0
    chunks: int = 0
    rows: int = 0
    segments: list[Segment] = field(default_factory=list[Segment])
    waiting: int = 0
    never_written: int = 0
    lost: list[Key] = field(default_factory=list[Key])
    unreadable: list[Key] = field(default_factory=list[Key])
    unfinished: bool = False
    failed: ThermoclineError | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """The stores and times an archiver works with. `grace_s`: how long a missing chunk is waited for."""

    hot: HotStore
    cold: ColdStore
    catalog: Catalog
    layout: Layout
    now_s: int
    grace_s: int
    remaining_ms: RemainingMs


def overdue_after_s(layout: Layout, now_s: int) -> int:
    """How long after its slot a ticket's REMOVE is waited for before the schedule steps in."""
    return min(OVERDUE_MOST_S, max(0, layout.at(now_s).margin_s // 16))


def archive_overdue(stack: Stack, until_s: int) -> Archived:
    """Archive every open slot up to `until_s` (epoch seconds, inclusive), oldest first.

    As `archive_slots`; raises Unavailable where the open slots cannot be listed.
    """
    done = Archived()
    archive_slots(stack.hot.open_slots(until_s), stack, done)
    return done


def archive_slots(slots: Iterable[int], stack: Stack, done: Archived) -> None:
    """Archive the slots, at least one however little time is left. Adds to `done`.

    A slot that fails does not hold up the others: the first error is kept in `done.failed`.
    """
    for number, slot_s in enumerate(slots):
        if number and stack.remaining_ms() < LEAST_ROUND_MS:
            done.unfinished = True
            break
        try:
            archive_slot(slot_s, stack, done)
        except ThermoclineError as error:
            done.failed = done.failed or error


def archive_slot(slot_s: int, stack: Stack, done: Archived) -> None:
    """Archive what the slot's manifests name, then delete the manifests.

    Segments are stored, then catalogued, and only then is a manifest deleted; each step
    may be repeated. Adds to `done`. Raises Unavailable.
    """
    done.slots += 1
    waiting_before = done.waiting
    for manifests in _rounds(stack.hot.manifests(slot_s)):
        if stack.remaining_ms() < LEAST_ROUND_MS and done.segments:
            done.unfinished = True
            return
        _archive_manifests(manifests, stack, done)
    if done.waiting == waiting_before and slot_s < stack.now_s - stack.grace_s:
        stack.hot.delete([keys.open_slot_key(slot_s)])


def _rounds(pages: Iterator[list[Manifest]]) -> Iterator[list[Manifest]]:
    waiting: list[Manifest] = []
    chunks = 0
    for page in pages:
        for manifest in page:
            if waiting and chunks + len(manifest.chunks) > CHUNKS_PER_ROUND:
                yield waiting
                waiting, chunks = [], 0
            waiting.append(manifest)
            chunks += len(manifest.chunks)
    if waiting:
        yield waiting


def _archive_manifests(manifests: Sequence[Manifest], stack: Stack, done: Archived) -> None:
    present: set[Key] = set()
    for date, chunks in _by_date(_read_sorted(manifests, stack.hot, done)):
        present.update(chunk.key for chunk in chunks)
        segment = _write_segment(date, chunks, stack)
        if segment is not None:
            done.segments.append(segment)
            done.rows += segment.rows
    finished = [manifest for manifest in manifests if _is_finished(manifest, present, stack, done)]
    stack.hot.delete([manifest.key for manifest in finished])
    done.manifests += len(finished)
    done.chunks += len(present)


def _is_finished(manifest: Manifest, present: set[Key], stack: Stack, done: Archived) -> bool:
    """Whether every chunk the manifest names is archived, or will never come. One that cannot be read
    keeps its manifest, so that it is archived once it can be (another version, a repair)."""
    missing = [key for key in manifest.chunks if key not in present]
    unreadable = any(key in done.unreadable for key in missing)
    if unreadable or (missing and stack.now_s < manifest.written_s + stack.grace_s):
        done.waiting += 1
        return False
    lost = [key for key in missing if _was_due(key, manifest, stack)]
    done.lost.extend(lost)
    done.never_written += len(missing) - len(lost)
    return True


def _read_sorted(manifests: Sequence[Manifest], hot: HotStore, done: Archived) -> Iterator[Chunk]:
    """The chunks that exist and can be read, by date, sensor and key, a bounded number at a time."""

    def place(key: Key) -> tuple[str, Key]:
        _, bucket_s, _, _ = keys.parse_chunk_key(key)
        return keys.date_of(bucket_s * keys.US), key

    named = sorted({key for manifest in manifests for key in manifest.chunks}, key=place)
    for start in range(0, len(named), CHUNKS_PER_READ):
        group = named[start : start + CHUNKS_PER_READ]
        found = {chunk.key: chunk for chunk in _readable(group, hot, done)}
        yield from (found[key] for key in group if key in found)


def _readable(group: Sequence[Key], hot: HotStore, done: Archived) -> list[Chunk]:
    """The chunks of the group that exist, without those that cannot be read, which are noted in `done`."""
    try:
        return hot.chunks(group)
    except Corrupt:
        if len(group) == 1:
            done.unreadable.extend(group)
            return []
    half = len(group) // 2
    return [*_readable(group[:half], hot, done), *_readable(group[half:], hot, done)]


def _by_date(chunks: Iterator[Chunk]) -> Iterator[tuple[str, list[Chunk]]]:
    """Chunks of one date at a time, and of no more values than fit the memory (a bucket lies in one date)."""
    held: list[Chunk] = []
    date, values = "", 0
    for chunk in chunks:
        its_date = keys.date_of(chunk.run.ts_us[0])
        if held and (its_date != date or values >= VALUES_PER_SEGMENT):
            yield date, held
            held, values = [], 0
        held.append(chunk)
        date = its_date
        values += len(chunk.run.ts_us) * len(chunk.run.metrics)
    if held:
        yield date, held


def _was_due(key: Key, manifest: Manifest, stack: Stack) -> bool:
    """Whether a missing chunk may have been stored and expired: a loss, not a chunk never written.

    By the times its writer went by, which the manifest tells: the layout may have changed before the writer knew.
    """
    _, bucket_s, _, _ = keys.parse_chunk_key(key)
    period = stack.layout.at(manifest.written_s)
    if manifest.bucket_s is not None and manifest.hot_retention_s is not None:
        period = replace(period, bucket_s=manifest.bucket_s, hot_retention_s=manifest.hot_retention_s)
    return keys.expires_at_s(bucket_s + period.bucket_s, manifest.written_s, period) <= stack.now_s


def _is_archived(date: str, digest: str, stack: Stack) -> bool:
    """Whether exactly these chunks are catalogued already, and the object is there: it, or what it was
    compacted into."""
    entry = stack.catalog.look_up(date, digest)
    if isinstance(entry, Superseded):
        catalogued = {segment.digest for segment in stack.catalog.find(keys.date_span(date))}
        return catalogued.issuperset(entry.by)
    if entry is None:
        return False
    try:
        stack.cold.head(keys.segment_name(date, digest))
    except NotFound:
        return False
    return True


def _write_segment(date: str, chunks: Sequence[Chunk], stack: Stack) -> Segment | None:
    """Store and catalog the chunks as one segment; None where exactly these are catalogued already."""
    digest = keys.chunks_digest(chunk.key for chunk in chunks)
    if _is_archived(date, digest, stack):
        return None
    by_sensor: dict[str, list[Run]] = {}
    for chunk in sorted(chunks, key=lambda chunk: chunk.key):
        by_sensor.setdefault(chunk.run.sensor_id, []).append(chunk.run)
    encoded = segment_format.encode([merge(runs) for _, runs in sorted(by_sensor.items())])
    name = keys.segment_name(date, digest)
    etag = stack.cold.put(name, encoded.data, segment_format.metadata(encoded))
    head = ObjectHead(len(encoded.data), etag, stack.now_s)
    segment = catalog_entry(name, date, digest, encoded, head)
    stack.catalog.add([segment], stack.now_s + stack.layout.at(stack.now_s).cold_retention_s)
    return segment


# --- the index --------------------------------------------------------------------------


def index_object(name: str, cold: ColdStore, catalog: Catalog, layout: Layout) -> Segment | None:
    """Catalog the object if it is a segment by name and content; what it holds, or None.

    An object without our metadata (restored, copied) is described from its own footer. The
    newest cold retention holds for it, as the bucket's lifecycle rule does for every object.
    One that is superseded stays so. Raises NotFound where it is gone, Corrupt where it is named
    a segment and is none.
    """
    segment = describe(name, cold)
    if segment is not None:
        catalog.add([segment], segment.written_s + layout.periods[-1].cold_retention_s)
    return segment


def describe(name: str, cold: ColdStore) -> Segment | None:
    """What the catalog is to say of an object; None where it has no segment's name. Raises NotFound, Corrupt."""
    parsed = keys.parse_segment_name(name)
    if parsed is None:
        return None
    head = cold.head(name)
    facts = segment_format.facts_of(head.metadata)
    if facts is None:
        facts = segment_format.summary(partial(cold.read, name), head.size_bytes)
    return catalog_entry(name, *parsed, facts, head)


def catalog_entry(
    name: str, date: str, digest: str, facts: segment_format.SegmentFacts, head: ObjectHead
) -> Segment:
    """What the catalog is to say of an object with these facts."""
    return Segment(
        name=name,
        date=date,
        digest=digest,
        size_bytes=head.size_bytes,
        rows=facts.rows,
        first_us=facts.first_us,
        last_us=facts.last_us,
        first_sensor=facts.first_sensor,
        last_sensor=facts.last_sensor,
        etag=head.etag,
        footer_bytes=facts.footer_bytes,
        sha256=facts.sha256,
        written_s=head.modified_s,
    )


@dataclass(slots=True)
class Reindexed:
    """What rebuilding the catalog did: entries written, entries of objects that are gone, bad objects."""

    indexed: int = 0
    removed: int = 0
    skipped: list[str] = field(default_factory=list[str])


def reindex(
    cold: ColdStore, catalog: Catalog, layout: Layout, everything: Sequence[Segment]
) -> Iterator[Reindexed]:
    """Rebuild the catalog from the bucket alone, yielding the running totals for progress.

    `everything` is what the catalog held before; entries whose object is gone are removed. What was
    compacted stays out of the catalog while all that it was compacted into is in the bucket.
    """
    done = Reindexed()
    present: dict[str, Segment | None] = {}
    for name in cold.names(keys.SEGMENT_PREFIX):
        try:
            present[name] = index_object(name, cold, catalog, layout)
            if present[name] is None:
                done.skipped.append(name)
            else:
                done.indexed += 1
        except Corrupt:  # damaged, not gone: an entry it has stays, so that queries fail aloud
            done.skipped.append(name)
            present[name] = None
        except NotFound:
            continue
        yield done
    gone = [segment for segment in everything if segment.name not in present]
    catalog.remove(gone)
    done.removed = len(gone)
    _catalog_orphans(catalog, layout, present)
    yield done


def _catalog_orphans(catalog: Catalog, layout: Layout, present: Mapping[str, Segment | None]) -> None:
    """Catalog again what is superseded by something that is not, or not whole, in the bucket."""
    for _, entries in groupby(catalog.entries(ALL_DATES), key=lambda entry: entry.date):
        held = Holders(entries)
        for entry in held.superseded.values():
            segment = present.get(keys.segment_name(entry.date, entry.digest))
            holders = held.of(entry)
            is_held = holders is not None and all(present.get(one.name) is not None for one in holders)
            if segment is not None and not is_held:
                catalog.revive(segment, segment.written_s + layout.periods[-1].cold_retention_s)
