"""What the use cases need of the outside: one small protocol per store, shared by AWS and memory."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ingest.chunk import Chunk
from ingest.failed_batch import FailedBatch
from ingest.item import Item
from ingest.keys import Key, Layout
from ingest.manifest import Manifest
from ingest.reading import Span
from ingest.reject import Reject

RemainingMs = Callable[[], int]
"""How many milliseconds a call may still take before its caller is stopped."""


@dataclass(slots=True)
class Page:
    """One page of a hot read: decoded chunks, how many items, and the read units consumed."""

    chunks: list[Chunk]
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


class Catalog(Protocol):
    """The index of segments. Raises Unavailable."""

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        """Put entries; the same segment again changes nothing."""
        ...

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        """Segments that may hold readings of the span (and sensor), by date and name; consistent."""
        ...

    def remove(self, segments: Sequence[Segment]) -> None:
        """Forget entries; missing ones are no error."""
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


@dataclass(frozen=True, slots=True)
class Sensor:
    """One entry of the registry."""

    sensor_id: str
    first_seen_ms: int
    name: str = ""
    units: dict[str, str] = field(default_factory=dict[str, str])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    place: dict[str, Any] = field(default_factory=dict[str, Any])
    version: int = 1


class Registry(Protocol):
    """Which sensors exist. Raises Unavailable."""

    def register(self, first_seen_ms: Mapping[str, int], remaining_ms: RemainingMs) -> tuple[int, float]:
        """Add the sensors that are unknown, leaving known ones as they are; how many were new,
        and the write units consumed."""
        ...

    def get(self, sensor_id: str) -> Sensor | None:
        """One sensor, or None."""
        ...

    def all(self, prefix: str = "") -> Iterable[Sensor]:
        """Every sensor whose id begins with the prefix, sorted by id."""
        ...


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
