"""What the use cases need of the outside: one small protocol per store, shared by AWS and memory."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ingest.chunk import Chunk
from ingest.failed_batch import FailedBatch
from ingest.item import Item
from ingest.keys import Key, Layout
from ingest.manifest import Manifest
from ingest.reading import Run, Span
from ingest.reject import Reject
from ingest.sensor import Sensor as Sensor
from ingest.stores._people import Registry as Registry
from ingest.stores._people import RemainingMs as RemainingMs
from ingest.stores._people import TokenStore as TokenStore


@dataclass(slots=True)
class Page:
    """One page of a hot read: the runs of its chunks, of which several may be one run where they follow one
    another, how many items, the read units consumed, and the billed
    bytes: those of the items, or, where the service told the units, what these cover."""

    runs: list[Run]
    items: int
    read_units: float
    size_bytes: int


class HotStore(Protocol):
    """The one table. Every method raises Unavailable where the service cannot be outlasted."""

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        """Put every item (in any order); the write units consumed. Unaccepted items are sent
        again with full jitter until `remaining_ms` runs out, then Unavailable."""
        ...

    def read(self, sensor_id: str, span: Span, widest_bucket_s: int) -> Iterator[Page]:
        """Pages of every chunk of the sensor that may hold the span's readings; consistent."""
        ...

    def chunks(self, keys: Sequence[Key]) -> list[Chunk]:
        """The named chunks that exist, in any order; consistent."""
        ...

    def newest(self, sensor_id: str, widest_bucket_s: int) -> list[Chunk]:
        """Chunks among which the sensor's newest hot reading is; none where it has none; consistent."""
        ...

    def manifests(self, slot_s: int) -> Iterator[list[Manifest]]:
        """Pages of the slot's manifests; consistent."""
        ...

    def open_slots(self, until_s: int | None = None) -> list[int]:
        """Slots that may still have manifests, oldest first, up to `until_s` (inclusive); consistent."""
        ...

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete the items; missing ones are no error."""
        ...

    def load_layout(self) -> Layout | None:
        """The layout in force; None where the table has none yet; consistent."""
        ...

    def save_layout(self, layout: Layout, instead_of: Layout | None) -> None:
        """Replace the layout, on condition that it still is `instead_of` (or is the new one already).
        Raises Refused where not."""
        ...


@dataclass(frozen=True, slots=True)
class Segment:
    """What the catalog knows of one Parquet object. Times are inclusive, microseconds."""

    name: str
    date: str
    digest: str
    size_bytes: int
    rows: int
    first_us: int
    last_us: int
    first_sensor: str
    last_sensor: str
    etag: str
    footer_bytes: int
    sha256: str
    written_s: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """What the catalog knows of an object that no query needs: its rows are in the objects `by`, of the same
    date. It is either an old segment that was compacted, or one that a compaction is about to write
    (`segment` is None), whose rows are in the old ones until the swap.

    `superseded_s`: since when. `doomed`: its deletion has begun. `gone_s`: when it was deleted.
    """

    date: str
    digest: str
    by: tuple[str, ...]
    superseded_s: int
    doomed: bool = False
    gone_s: int | None = None
    segment: Segment | None = None


Entry = Segment | Superseded
"""One item of the catalog."""


class Holders:
    """Which of the entries of a date (or several) hold the rows of the superseded ones."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.live: dict[tuple[str, str], Segment] = {}
        self.superseded: dict[tuple[str, str], Superseded] = {}
        for entry in entries:
            if isinstance(entry, Segment):
                self.live[entry.date, entry.digest] = entry
            else:
                self.superseded[entry.date, entry.digest] = entry

    def of(self, entry: Superseded) -> list[Segment] | None:
        """The catalogued segments that together hold its rows; None where some of them are not among these."""
        found: dict[str, Segment] = {}
        return list(found.values()) if self._gather(entry, {entry.digest}, found) else None

    def _gather(self, entry: Superseded, above: set[str], found: dict[str, Segment]) -> bool:
        for digest in entry.by:
            live = self.live.get((entry.date, digest))
            if live is not None:
                found[digest] = live
                continue
            between = self.superseded.get((entry.date, digest))
            if between is None or digest in above:
                return False
            if not self._gather(between, {*above, digest}, found):
                return False
        return bool(entry.by)


class Catalog(Protocol):
    """The index of segments. Raises Unavailable."""

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        """Put entries; the same segment again changes nothing. What is superseded stays so, unless it was
        deleted and the object is newer than that."""
        ...

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        """Segments that may hold readings of the span (and sensor), by date and name; consistent. Of what
        one swap replaced, the old or the new ones, or both, never neither."""
        ...

    def remove(self, segments: Sequence[Segment]) -> None:
        """Forget entries; missing ones are no error."""
        ...

    def entries(self, span: Span) -> Iterator[Entry]:
        """Every entry of the dates that the span touches, by date and digest, page by page; consistent."""
        ...

    def look_up(self, date: str, digest: str) -> Entry | None:
        """One entry, or None; consistent."""
        ...

    def announce(
        self, date: str, digests: Sequence[str], by: Sequence[str], now_s: int, expires_at_s: int
    ) -> None:
        """Note objects that are about to be written as superseded by those they are made from, so that they
        are found by no query before the swap, and deleted where it never comes. All or none.

        Announcing them again renews the time. Raises Refused where one is catalogued, or being deleted.
        """
        ...

    def renounce(self, date: str, digests: Sequence[str], now_s: int, expires_at_s: int) -> None:
        """Note of objects whose deletion has begun that they may have been stored since: they are to be
        deleted once more. Others stay as they are."""
        ...

    def swap(
        self,
        old: Sequence[Segment],
        new: Sequence[Segment],
        announced_s: int,
        now_s: int,
        expires_at_s: int,
    ) -> None:
        """Catalog `new` and supersede `old`, of one date, in one transaction of at most 100 entries together.

        Raises Refused, with nothing changed, unless every old entry is there with the same etag, and every
        new one is as it was announced at that time.
        """
        ...

    def doom(self, entry: Superseded) -> bool:
        """Note that the object is being deleted; False where the entry is no longer as it was seen."""
        ...

    def bury(self, entry: Superseded, now_s: int, expires_at_s: int) -> None:
        """Note that the object was deleted; an entry that is no longer as it was seen stays."""
        ...

    def revive(self, segment: Segment, expires_at_s: int) -> bool:
        """Catalog a superseded segment again; False where its deletion has begun, or it is not superseded."""
        ...


class ColdStore(Protocol):
    """Objects by name. Raises Unavailable; NotFound where an object is gone."""

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        """Store an object whole; its etag."""
        ...

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes `[start, end)` of an object; all of it without bounds."""
        ...

    def head(self, name: str) -> ObjectHead:
        """Size, etag, time and metadata of an object."""
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """Names of the objects under a prefix, sorted."""
        ...

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; missing ones are no error."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """What a store says of an object without reading it. Metadata keys are lower case."""

    size_bytes: int
    etag: str
    modified_s: int
    metadata: dict[str, str] = field(default_factory=dict[str, str])


class RejectKeeper(Protocol):
    """Where a batch leaves what it refuses. Raises Unavailable."""

    def keep(self, name: str, rejects: Sequence[Reject]) -> None:
        """Keep a batch's rejects under an object name (`keys.reject_name`); the same again replaces it."""
        ...


class RejectStore(RejectKeeper, Protocol):
    """What was refused and what was given up, by date and by id. Rejects that were stored again are not
    listed. Raises Unavailable, and Corrupt where an object of rejects is damaged."""

    def list(self, from_date: str, to_date: str) -> Iterator[Reject]:
        """Rejects kept on the dates (`YYYY-MM-DD`, both inclusive), oldest first, each id once.
        Raises BadInput where a date is none."""
        ...

    def kept(
        self, from_date: str | None = None, to_date: str | None = None
    ) -> Iterator[builtins.list[Reject]]:
        """As `list`, those of one object together, without bounds where none is given."""
        ...

    def kept_with(self, ids: Collection[str]) -> Iterator[builtins.list[Reject]]:
        """What is listed of each object that keeps one of the ids, newest first, until all are found."""
        ...

    def get(self, reject_id: str) -> Reject:
        """One reject by its id, listed or not. Raises NotFound."""
        ...

    def mark_stored(self, rejects: Sequence[Reject], at_ms: int) -> None:
        """Take rejects off the list for good: they were stored again at that time (epoch ms)."""
        ...

    def stored_again(self, reject: Reject) -> int | None:
        """When the reject was stored again (epoch ms); None where it is on the list."""
        ...

    def failed_batches(
        self, from_date: str | None = None, to_date: str | None = None
    ) -> Iterator[FailedBatch]:
        """Batches given up on the dates, those whose name tells no date among them; oldest first."""
        ...

    def failed_batch(self, batch_id: str) -> FailedBatch | None:
        """One batch that was given up, by its id; None where there is none."""
        ...

    def forget(self, batch: FailedBatch) -> None:
        """Delete a batch that was given up and is stored now; a missing one is no error."""
        ...
