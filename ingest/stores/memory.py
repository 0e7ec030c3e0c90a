"""Every store in dictionaries: for tests and simulations, and the plainest statement of each contract."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

import msgspec

from ingest import keys
from ingest.chunk import Chunk, decode_item
from ingest.errors import NotFound, Refused
from ingest.item import Attribute, Item, item_size, write_units
from ingest.keys import Key, Layout
from ingest.manifest import Manifest, decode_layout, decode_manifest, encode_layout
from ingest.reading import Span
from ingest.stores import Entry, ObjectHead, Page, RemainingMs, Segment, Superseded
from ingest.stores.catalog import ACTIONS_PER_SWAP, LOST_RACE
from ingest.stores.catalog_entry import (
    date_ranges,
    decode_entry,
    encode_announced,
    encode_entry,
    key_of,
    select_segments,
    superseding,
    visible,
)
from ingest.stores.memory_api import MemoryRegistry, MemoryTokens

__all__ = ["MemoryRegistry", "MemoryTokens"]  # importable from here, too

PAGE_BYTES = 1_048_576
"""A Query page holds at most 1 MB ("Paginating table query results")."""
READ_UNIT_BYTES = 4096
"""A consistent read unit carries 4 KB ("DynamoDB read and write operations")."""

Attributes = dict[str, Attribute]


class MemoryHotStore:
    """The one table: `items` holds parsed AttributeValues by key."""

    def __init__(self, page_bytes: int = PAGE_BYTES) -> None:
        self.items: dict[Key, Attributes] = {}
        self._page_bytes = page_bytes

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        """Put every item; units are those of the larger of the old and the new item."""
        del remaining_ms
        units = 0
        for item in items:
            old = self.items.get(item.key)
            units += write_units(max(item.size_bytes, item_size(old) if old else 0))
            self.items[item.key] = cast(Attributes, msgspec.json.decode(item.body))
        return float(units)

    def read(self, sensor_id: str, span: Span, widest_bucket_s: int) -> Iterator[Page]:
        """Pages of every chunk of the sensor that may hold the span's readings."""
        page = Page([], 0, 0.0, 0)
        for item in self._query(*keys.chunk_range(sensor_id, span, widest_bucket_s)):
            page.runs.append(decode_item(item).run)
            page.items += 1
            page.size_bytes += item_size(item)
            page.read_units = float(-(-page.size_bytes // READ_UNIT_BYTES))
            if page.size_bytes >= self._page_bytes:
                yield page
                page = Page([], 0, 0.0, 0)
        page.read_units = max(1.0, page.read_units)
        yield page

    def chunks(self, keys: Sequence[Key]) -> list[Chunk]:
        """The named chunks that exist."""
        return [decode_item(self.items[key]) for key in keys if key in self.items]

    def newest(self, sensor_id: str, widest_bucket_s: int) -> list[Chunk]:
        """Chunks among which the sensor's newest hot reading is: here, all of them."""
        del widest_bucket_s
        return [decode_item(item) for item in self._query(keys.chunk_partition(sensor_id))]

    def manifests(self, slot_s: int) -> Iterator[list[Manifest]]:
        """The slot's manifests, on one page."""
        yield [decode_manifest(item) for item in self._query(keys.manifest_partition(slot_s))]

    def open_slots(self, until_s: int | None = None) -> list[int]:
        """Slots that may still have manifests, oldest first, up to `until_s` (inclusive)."""
        slots = [
            keys.parse_open_slot(key) for key in sorted(self.items) if key.pk == keys.OPEN_SLOTS_PARTITION
        ]
        return [slot_s for slot_s in slots if until_s is None or slot_s <= until_s]

    def delete(self, keys: Sequence[Key]) -> None:
        """Delete the items; missing ones are no error."""
        for key in keys:
            self.items.pop(key, None)

    def load_layout(self) -> Layout | None:
        """The layout in force; None where there is none yet."""
        item = self.items.get(keys.layout_key())
        return decode_layout(item) if item else None

    def save_layout(self, layout: Layout, instead_of: Layout | None) -> None:
        """Replace the layout, on condition that it still is `instead_of`. Raises Refused where not."""
        if self.load_layout() not in (instead_of, layout):
            raise Refused("The layout was changed by somebody else. Look at it and deploy again.")
        item = encode_layout(layout)
        self.items[item.key] = cast(Attributes, msgspec.json.decode(item.body))

    def expire(self, now_s: float) -> list[Key]:
        """Remove the items whose `ttl` is past, as DynamoDB's TTL does in its time; their keys."""
        gone = [key for key, item in self.items.items() if "ttl" in item and _ttl(item) <= now_s]
        self.delete(gone)
        return gone

    def _query(self, partition: str, low: str = "", high: str = "\U0010ffff") -> list[Attributes]:
        """The partition's items between the sort keys (both inclusive), sorted by them."""
        found = [key for key in self.items if key.pk == partition and low <= key.sk <= high]
        return [self.items[key] for key in sorted(found)]


def _ttl(item: Mapping[str, Attribute]) -> int:
    return int(cast(str, item["ttl"]["N"]))


class MemoryCatalog:
    """The index of segments; `items` holds what DynamoDB would."""

    def __init__(self) -> None:
        self.items: dict[Key, Attributes] = {}

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        """Put entries; what is superseded stays so, unless it was deleted and the object is newer than that."""
        for segment in segments:
            held = self._superseded(segment.date, segment.digest)
            if held is None or (held.gone_s is not None and held.gone_s < segment.written_s):
                self.items[key_of(segment)] = encode_entry(segment, expires_at_s)

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        """Segments that may hold readings of the span (and sensor), by date and name."""
        return select_segments(visible(lambda: self.entries(span)), span, sensor_id)

    def remove(self, segments: Sequence[Segment]) -> None:
        """Forget entries; missing ones are no error."""
        for segment in segments:
            self.items.pop(key_of(segment), None)

    def entries(self, span: Span) -> Iterator[Entry]:
        """Every entry of the dates that the span touches, by date and digest."""
        ranges = date_ranges(span)
        found = sorted(
            key
            for key in self.items
            if any(key.pk == pk and low <= key.sk <= high for pk, low, high in ranges)
        )
        return iter([decode_entry(self.items[key]) for key in found])

    def look_up(self, date: str, digest: str) -> Entry | None:
        """One entry, or None."""
        item = self.items.get(keys.catalog_key(date, digest))
        return decode_entry(item) if item else None

    def announce(
        self, date: str, digests: Sequence[str], by: Sequence[str], now_s: int, expires_at_s: int
    ) -> None:
        """Note objects that are about to be written as superseded by those they are made from. Raises Refused."""
        held = [self.look_up(date, digest) for digest in digests]
        if not all(entry is None or _is_announced(entry) for entry in held):
            raise Refused(LOST_RACE)
        for digest in digests:
            entry = Superseded(date, digest, tuple(by), now_s)
            self.items[key_of(entry)] = encode_announced(entry, expires_at_s)

    def renounce(self, date: str, digests: Sequence[str], now_s: int, expires_at_s: int) -> None:
        """Note of objects whose deletion has begun that they are to be deleted once more."""
        for digest in digests:
            held = self._superseded(date, digest)
            if held is not None and held.doomed:
                item = dict(self.items[key_of(held)])
                item.pop("gone_s", None)
                item |= {"superseded_s": {"N": str(now_s)}, "ttl": {"N": str(expires_at_s)}}
                self.items[key_of(held)] = item

    def swap(
        self,
        old: Sequence[Segment],
        new: Sequence[Segment],
        announced_s: int,
        now_s: int,
        expires_at_s: int,
    ) -> None:
        """Catalog `new` and supersede `old` at once. Raises Refused, with nothing changed."""
        if len(old) + len(new) > ACTIONS_PER_SWAP:
            raise ValueError(f"a transaction takes {ACTIONS_PER_SWAP} entries")
        for segment in old:
            held = self.look_up(segment.date, segment.digest)
            if not isinstance(held, Segment) or held.etag != segment.etag:
                raise Refused(LOST_RACE)
        for segment in new:
            there = self._superseded(segment.date, segment.digest)
            if there is None or not _is_announced(there) or there.superseded_s != announced_s:
                raise Refused(LOST_RACE)
        changed = {
            key_of(segment): {
                **self.items[key_of(segment)],
                **superseding([one.digest for one in new], now_s),
            }
            for segment in old
        }
        self.items.update(changed)
        self.items.update({key_of(segment): encode_entry(segment, expires_at_s) for segment in new})

    def doom(self, entry: Superseded) -> bool:
        """Note that the object is being deleted; False where the entry is no longer as it was seen."""
        return self._change(entry, {"doomed": {"BOOL": True}})

    def bury(self, entry: Superseded, now_s: int, expires_at_s: int) -> None:
        """Note that the object was deleted; an entry that is no longer as it was seen stays."""
        self._change(entry, {"gone_s": {"N": str(now_s)}, "ttl": {"N": str(expires_at_s)}})

    def revive(self, segment: Segment, expires_at_s: int) -> bool:
        """Catalog a superseded segment again; False where its deletion has begun, or it is not superseded."""
        held = self._superseded(segment.date, segment.digest)
        if held is None or held.doomed:
            return False
        self.items[key_of(segment)] = encode_entry(segment, expires_at_s)
        return True

    def _superseded(self, date: str, digest: str) -> Superseded | None:
        held = self.look_up(date, digest)
        return held if isinstance(held, Superseded) else None

    def _change(self, entry: Superseded, attributes: Attributes) -> bool:
        held = self._superseded(entry.date, entry.digest)
        if held is None or held.superseded_s != entry.superseded_s:
            return False
        key = key_of(entry)
        self.items[key] = {**self.items[key], **attributes}
        return True


def _is_announced(entry: Entry) -> bool:
    """Whether an object is about to be written, and not being deleted."""
    return isinstance(entry, Superseded) and entry.segment is None and not entry.doomed


class MemoryColdStore:
    """Objects by name. `now_s` gives the time that `head` reports, epoch seconds."""

    def __init__(self, now_s: Callable[[], float] = lambda: 0.0) -> None:
        self.objects: dict[str, tuple[bytes, ObjectHead]] = {}
        self._now_s = now_s

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        """Store an object whole; its etag."""
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        known = {key.lower(): value for key, value in metadata.items()}
        self.objects[name] = (bytes(data), ObjectHead(len(data), etag, int(self._now_s()), known))
        return etag

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes `[start, end)` of an object, as many as there are; all of it without bounds."""
        return self._object(name)[0][start:end]

    def head(self, name: str) -> ObjectHead:
        """Size, etag, time and metadata of an object."""
        return self._object(name)[1]

    def names(self, prefix: str) -> Iterator[str]:
        """Names of the objects under a prefix, sorted."""
        return iter(sorted(name for name in self.objects if name.startswith(prefix)))

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; missing ones are no error."""
        for name in names:
            self.objects.pop(name, None)

    def _object(self, name: str) -> tuple[bytes, ObjectHead]:
        try:
            return self.objects[name]
        except KeyError as error:
            raise NotFound(f"There is no object {name}. Check the name.") from error
