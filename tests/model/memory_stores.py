"""The shipped memory stores behind the fates: pages are small, and batches are taken in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from ingest import keys
from ingest.chunk import Chunk, decode_item
from ingest.item import Item
from ingest.keys import Key, Layout, chunk_range
from ingest.manifest import Manifest
from ingest.reading import EARLIEST_US, Span
from ingest.stores import Entry, ObjectHead, Page, RemainingMs, Segment, Superseded
from ingest.stores.catalog_entry import LATEST_US, decode_entry, select_segments, visible
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore, MemoryRegistry
from tests.model.faults import Faults
from tests.model.oracle import written_once

ITEMS_PER_PAGE = 3
ITEMS_PER_CALL = 5


class FaultyHot(MemoryHotStore):
    """The table. Pages are read as they stand when they are asked for."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        del remaining_ms

        def some(group: Sequence[Item]) -> Sequence[Item]:
            taken = self._faults.part("put items", len(group))
            for item in group[:taken]:
                before, after = self.items.get(item.key), msgspec.json.decode(item.body)
                written_once(item.key, before, after)
                self.items[item.key] = after
            return group[taken:]

        self._in_calls("put items", items, some)
        return float(len(items))

    def delete(self, keys: Sequence[Key]) -> None:
        delete = super().delete

        def some(group: Sequence[Key]) -> Sequence[Key]:
            taken = self._faults.part("delete", len(group))
            delete(group[:taken])
            return group[taken:]

        self._in_calls("delete", keys, some)

    def _in_calls(
        self, what: str, things: Sequence[Any], do: Callable[[Sequence[Any]], Sequence[Any]]
    ) -> None:
        """Do it in calls of a few things each, in any order; what a call leaves goes into a further one."""
        waiting = self._faults.shuffled(things)
        while waiting:
            group, waiting = waiting[:ITEMS_PER_CALL], waiting[ITEMS_PER_CALL:]
            waiting.extend(self._faults.call(what, lambda group=group: do(group)))

    def chunks(self, keys: Sequence[Key]) -> list[Chunk]:
        return self._faults.call("read chunks", lambda: super(FaultyHot, self).chunks(keys))

    def newest(self, sensor_id: str, widest_bucket_s: int) -> list[Chunk]:
        return self._faults.call(
            "read newest", lambda: super(FaultyHot, self).newest(sensor_id, widest_bucket_s)
        )

    def manifests(self, slot_s: int) -> Iterator[list[Manifest]]:
        for whole in super().manifests(slot_s):
            for start in range(0, len(whole), ITEMS_PER_PAGE):
                page = whole[start : start + ITEMS_PER_PAGE]
                yield self._faults.call("list manifests", lambda page=page: page)

    def open_slots(self, until_s: int | None = None) -> list[int]:
        return self._faults.call("list slots", lambda: super(FaultyHot, self).open_slots(until_s))

    def load_layout(self) -> Layout | None:
        return self._faults.call("read layout", super().load_layout)

    def read(self, sensor_id: str, span: Span, widest_bucket_s: int) -> Iterator[Page]:
        """As the store's own, with pages by number: to weigh them takes longer than all else here."""
        page = Page([], 0, 0.0, 0)
        for item in self._query(*chunk_range(sensor_id, span, widest_bucket_s)):
            page.runs.append(decode_item(item).run)
            page.items += 1
            if page.items >= ITEMS_PER_PAGE:
                yield page
                page = Page([], 0, 0.0, 0)
        yield page

    def _query(self, partition: str, low: str = "", high: str = "\U0010ffff") -> Any:
        """As the store's own, but an item that goes before its turn is not seen."""
        found = sorted(key for key in self.items if key.pk == partition and low <= key.sk <= high)
        for position, key in enumerate(found):
            if position % ITEMS_PER_PAGE == 0:
                self._faults.call("read a page", lambda: None)
            if (item := self.items.get(key)) is not None:
                yield item
        if not found:
            self._faults.call("read a page", lambda: None)


class FaultyCatalog:
    """The catalog. A change is one call, within which nothing else happens."""

    def __init__(self, faults: Faults, items: dict[Key, Any]) -> None:
        self.items = items
        self._catalog = MemoryCatalog()
        self._catalog.items = items
        self._faults = faults
        self._decoded: dict[Key, tuple[Any, Entry]] = {}

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        self._faults.call("change catalog", lambda: self._catalog.add(segments, expires_at_s))

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        return select_segments(visible(lambda: self.entries(span)), span, sensor_id)

    def entries(self, span: Span) -> Iterator[Entry]:
        """As the store's own, on two pages, each as the catalog stands when it is asked for, with every entry
        decoded once: a query may find the one before a swap, and the other one after it."""
        first = keys.date_of(max(span.start_us, EARLIEST_US))
        last = keys.date_of(min(span.end_us, LATEST_US) - 1)
        after = Key("", "")
        for share in (2, 1):
            page = self._faults.call(
                "read catalog", lambda after=after, share=share: self._page(after, share)
            )
            yield from (entry for _, entry in page if first <= entry.date <= last)
            after = page[-1][0] if page else after
            if share > 1:
                self._faults.page_turned()

    def _page(self, after: Key, share: int) -> list[tuple[Key, Entry]]:
        """The first of `share` equal parts of the entries that sort after a key."""
        left = sorted(key for key in self.items if key > after)
        page: list[tuple[Key, Entry]] = []
        for key in left[: -(-len(left) // share)]:
            known = self._decoded.get(key)
            if known is None or known[0] is not self.items[key]:
                known = self._decoded[key] = (self.items[key], decode_entry(self.items[key]))
            page.append((key, known[1]))
        return page

    def look_up(self, date: str, digest: str) -> Entry | None:
        return self._faults.call("read catalog", lambda: self._catalog.look_up(date, digest))

    def remove(self, segments: Sequence[Segment]) -> None:
        self._faults.call("change catalog", lambda: self._catalog.remove(segments))

    # --- compaction -------------------------------------------------------------------

    def announce(self, *given: Any) -> None:
        self._once(lambda: self._catalog.announce(*given))

    def swap(self, *given: Any) -> None:
        self._once(lambda: self._catalog.swap(*given))

    def _once(self, change: Callable[[], None]) -> None:
        """A transaction: sent again by the client it is the same one, and done already."""
        done: list[bool] = []

        def write() -> None:
            if not done:
                change()
                done.append(True)

        self._faults.call("swap segments", write)

    def renounce(self, *given: Any) -> None:
        self._faults.call("swap segments", lambda: self._catalog.renounce(*given))

    def doom(self, entry: Superseded) -> bool:
        return self._faults.call("swap segments", lambda: self._catalog.doom(entry))

    def bury(self, *given: Any) -> None:
        self._faults.call("swap segments", lambda: self._catalog.bury(*given))

    def revive(self, segment: Segment, expires_at_s: int) -> bool:
        return self._faults.call("swap segments", lambda: self._catalog.revive(segment, expires_at_s))


class FaultyCold:
    """A bucket. `created` is told of every object that was stored, whatever its writer heard."""

    def __init__(
        self, faults: Faults, objects: MemoryColdStore, created: Callable[[str], None], put: str
    ) -> None:
        self._faults = faults
        self._objects = objects
        self._created = created
        self._put = put

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        def store() -> str:
            etag = self._objects.put(name, data, metadata)
            self._created(name)
            return etag

        return self._faults.call(self._put, store)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        return self._faults.call("read object", lambda: self._objects.read(name, start, end))

    def head(self, name: str) -> ObjectHead:
        return self._faults.call("head object", lambda: self._objects.head(name))

    def names(self, prefix: str) -> Iterator[str]:
        return iter(self._faults.call("list objects", lambda: list(self._objects.names(prefix))))

    def delete(self, names: Sequence[str]) -> None:
        self._faults.call("delete", lambda: self._objects.delete(names))


class FaultyRegistry(MemoryRegistry):
    """The registry."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def register(self, first_seen_ms: Mapping[str, int], remaining_ms: RemainingMs) -> tuple[int, float]:
        return self._faults.call(
            "register", lambda: super(FaultyRegistry, self).register(first_seen_ms, remaining_ms)
        )
