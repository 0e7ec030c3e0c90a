"""The shipped memory stores behind a layer of faults: every call may fail, half happen, or kill its caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Any, Protocol, TypeVar

from ingest.chunk import Chunk
from ingest.errors import Unavailable
from ingest.item import Item
from ingest.keys import Key
from ingest.manifest import Manifest
from ingest.reading import Span
from ingest.stores import ObjectHead, RemainingMs, Segment
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore, MemoryRegistry

T = TypeVar("T")
ITEMS_PER_PAGE = 3
PAGE_BYTES = 400
ITEMS_PER_CALL = 4


class Killed(BaseException):
    """The process that made the call is gone; nothing in it may notice."""


class Surroundings(Protocol):
    """What the layer needs of the simulation."""

    rng: Random

    def between(self) -> None:
        """Called around every store call: time passes, others act; raises Killed past the deadline."""
        ...

    def hazard(self) -> float:
        """How likely the present call is to go wrong; 0 where nobody is to be disturbed."""
        ...


class Faults:
    """Decides the fate of each call."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.met = 0

    def call(self, what: str, do: Callable[[], T]) -> T:
        """Do it: undisturbed, not at all, or with an error or a death afterwards."""
        self.gate(what, "before")
        done = do()
        self.gate(what, "after")
        return done

    def gate(self, what: str, when: str) -> None:
        """A point at which others may act and a fault may strike."""
        around = self._around
        around.between()
        if around.rng.random() < around.hazard() / 2:
            self.met += 1
            if around.rng.random() < 0.4:
                raise Killed(f"{when} {what}")
            raise Unavailable(f"the simulation fails {what} {when} it happened")

    def in_calls(self, what: str, things: Sequence[T], do: Callable[[Sequence[T]], Any]) -> list[Any]:
        """Do it in calls of a few things each, in any order: a failure leaves some done."""
        if not self._around.hazard():
            return [do(things)]
        shuffled = self._around.rng.sample(list(things), len(things))
        groups = [shuffled[i : i + ITEMS_PER_CALL] for i in range(0, len(shuffled), ITEMS_PER_CALL)]
        return [self.call(what, lambda group=group: do(group)) for group in groups]


class FaultyHot(MemoryHotStore):
    """The table. Pages are read as they stand when they are asked for."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(PAGE_BYTES)
        self._faults = faults

    def put(self, items: Sequence[Item], remaining_ms: RemainingMs) -> float:
        put = super().put
        return sum(self._faults.in_calls("put", items, lambda group: put(group, remaining_ms)))

    def delete(self, keys: Sequence[Key]) -> None:
        self._faults.in_calls("delete", keys, super().delete)

    def chunks(self, keys: Sequence[Key]) -> list[Chunk]:
        return self._faults.call("chunks", lambda: super(FaultyHot, self).chunks(keys))

    def newest(self, sensor_id: str, widest_bucket_s: int) -> list[Chunk]:
        return self._faults.call("newest", lambda: super(FaultyHot, self).newest(sensor_id, widest_bucket_s))

    def manifests(self, slot_s: int) -> Iterator[list[Manifest]]:
        self._faults.gate("manifests", "before")
        for whole in super().manifests(slot_s):
            for start in range(0, len(whole), ITEMS_PER_PAGE):
                yield whole[start : start + ITEMS_PER_PAGE]
                self._faults.gate("manifests", "after a page of")

    def open_slots(self, until_s: int | None = None) -> list[int]:
        return self._faults.call("open_slots", lambda: super(FaultyHot, self).open_slots(until_s))

    def _query(self, partition: str, low: str = "", high: str = "\U0010ffff") -> Any:
        """As the store's own, but an item that goes before its turn is not seen."""
        keys = sorted(key for key in self.items if key.pk == partition and low <= key.sk <= high)
        for position, key in enumerate(keys):
            if position % ITEMS_PER_PAGE == 0:
                self._faults.gate("query", "before a page of")
            if (item := self.items.get(key)) is not None:
                yield item


class FaultyCatalog(MemoryCatalog):
    """The catalog."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        self._faults.call("add", lambda: super(FaultyCatalog, self).add(segments, expires_at_s))

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        return self._faults.call("find", lambda: super(FaultyCatalog, self).find(span, sensor_id))


class FaultyCold(MemoryColdStore):
    """A bucket. `created` is told of every object that was stored, whatever its writer heard."""

    def __init__(self, faults: Faults, now_s: Callable[[], float], created: Callable[[str], None]) -> None:
        super().__init__(now_s)
        self._faults = faults
        self._created = created

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        def store() -> str:
            etag = super(FaultyCold, self).put(name, data, metadata)
            self._created(name)
            return etag

        return self._faults.call("put object", store)

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        return self._faults.call("read object", lambda: super(FaultyCold, self).read(name, start, end))

    def head(self, name: str) -> ObjectHead:
        return self._faults.call("head", lambda: super(FaultyCold, self).head(name))


class FaultyRegistry(MemoryRegistry):
    """The registry."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def register(self, first_seen_ms: Mapping[str, int], remaining_ms: RemainingMs) -> tuple[int, float]:
        return self._faults.call(
            "register", lambda: super(FaultyRegistry, self).register(first_seen_ms, remaining_ms)
        )
