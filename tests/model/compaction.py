"""Compaction among its neighbours: small archives, a catalog listed one entry at a time, and its flows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from ingest import compact as compaction
from ingest.archive import ALL_DATES
from ingest.compact import REMEMBERED_S, Compacted, Compaction
from ingest.keys import US, Key
from ingest.query import Sources
from ingest.reading import Span
from ingest.stores import Entry, Holders, Segment
from ingest.stores.catalog_entry import date_ranges, decode_entry, select_segments, visible
from tests.model import crash_flows as flows
from tests.model.crash import Flow, Gate, Open, Through
from tests.model.crash_world import Courses, Deployment, removes
from tests.world import NOW_S, NOW_US, plenty, readings, record

GRACE_S = 3_600
LATER = record(6, readings("s0", NOW_US - 55 * 60 * US, US, a=[10.5, 11.5]), NOW_S * 1000 + 6)
"""A correction of what came late, in a record of its own."""
Course = Callable[[Deployment], None]


class PagedCatalog(Through):
    """The catalog behind a gate: a listing gets an entry a page, as the catalog stands when the page is asked
    for, and a transaction happens or does not."""

    def __init__(self, catalog: Any, gate: Gate) -> None:
        super().__init__(catalog, gate)
        self._items: dict[Key, Any] = catalog.items
        self._catalog, self._outer = catalog, gate

    def entries(self, span: Span) -> Iterator[Entry]:
        """Every entry of the span's dates, one on a page."""
        after: Key | None = None
        while found := self._outer.call("a page of entries", [after], lambda t: self._next(span, t[0])):
            after, entry = found
            yield entry

    def _next(self, span: Span, after: Key | None) -> tuple[Key, Entry] | None:
        bounds = date_ranges(span)
        left = [
            key
            for key in self._items
            if (after is None or key > after)
            and any(key.pk == pk and low <= key.sk <= high for pk, low, high in bounds)
        ]
        return (min(left), decode_entry(self._items[min(left)])) if left else None

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        """As the store's own, from such pages."""
        return select_segments(visible(lambda: self.entries(span)), span, sensor_id)

    def swap(self, *given: Any) -> None:
        """All of it or nothing."""
        self._outer.call("swap", [None], lambda _: self._catalog.swap(*given))


def paged_sources(world: Deployment, gate: Gate) -> Sources:
    """What a query reads, the catalog page by page."""
    hot: Any = Through(world.hot, gate)
    cold: Any = Through(world.cold, gate)
    catalog: Any = PagedCatalog(world.catalog, gate)
    return Sources(hot, catalog, cold, world.layout, lambda: 0.0)


# --- worlds -----------------------------------------------------------------------------


def small_segments() -> Deployment:
    """Three segments of one date, with corrections in the later ones; all is expired. S3 has told of one."""
    world = flows.slots_due()
    world.archive(removes(flows.SLOTS))
    world.acknowledged(flows.LATE)
    Courses().settle(world, events=False)
    world.told = {min(world.cold.objects)}
    assert len(live(world)) >= 3
    assert len({segment.date for segment in live(world)}) == 1
    return world


def long_compacted() -> Deployment:
    """Compacted, and the grace is over."""
    world = small_segments()
    compact(world)
    world.now_s += GRACE_S
    return world


def live(world: Deployment) -> list[Segment]:
    """What the catalog lists."""
    return [entry for entry in world.catalog.entries(ALL_DATES) if isinstance(entry, Segment)]


# --- what is done to them ---------------------------------------------------------------


def working(world: Deployment, gate: Gate, grace_s: int = GRACE_S) -> Compaction:
    """What a compaction works with."""
    cold: Any = Through(world.cold, gate)
    catalog: Any = PagedCatalog(world.catalog, gate)
    return Compaction(cold, catalog, world.layout, lambda: world.now_s, grace_s, plenty, thorough=True)


def compact(world: Deployment, gate: Gate | None = None, grace_s: int = GRACE_S) -> None:
    """A thorough compaction of everything; raises what makes it be repeated."""
    for done in compaction.compact(working(world, gate or Open(), grace_s), ALL_DATES):
        assert not done.damaged
        assert not done.revived
        if done.failed is not None:
            raise done.failed


def delete(world: Deployment) -> None:
    """The grace passes, and what is superseded is deleted."""
    world.now_s += GRACE_S + 1
    work = working(world, Open())
    done = Compacted("")
    compaction._delete_superseded(Holders(work.catalog.entries(ALL_DATES)), work, done)
    assert not done.revived


def compact_at_once(world: Deployment) -> None:
    """All of it, as if no time were left to readers."""
    compact(world, grace_s=0)
    compact(world, grace_s=0)


def compact_and_delete(world: Deployment) -> None:
    """As `compact_at_once`, looked at afterwards."""
    compact_at_once(world)
    world.check("cold")


def archive_late(world: Deployment) -> None:
    """A late reading is stored, archived and expired."""
    world.acknowledged(LATER)
    Courses().settle(world, events=False)


def go_further(world: Deployment) -> None:
    """Others compact, what they made is compacted with something late, and deleted."""
    compact(world)
    archive_late(world)
    compact(world)
    delete(world)
    world.check("cold")


def tell_of_all(world: Deployment) -> None:
    """S3 tells once more of every object that ever was."""
    names = {*world.told, *world.cold.objects, *(one.name for one in live(world))}
    world.index(sorted(names))
    world.told |= names
    world.check("cold")


def archive_again(world: Deployment) -> None:
    """The archiver gets an old order again, whose manifests and chunks are still there."""
    before = flows.slots_due()
    world.hot.items.update({key: item for key, item in before.hot.items.items() if key.pk != "c"})
    world.archive(removes(flows.SLOTS))
    world.check("cold")
    Courses().settle(world, events=False)


def reindex(world: Deployment) -> None:
    """`archive reindex`."""
    flows.reindex(world)
    world.check("cold")


# --- how it ends ------------------------------------------------------------------------


def comes_to_rest(world: Deployment) -> None:
    """Two more runs, each after the grace: all is compacted, nothing is left behind, nothing is forgotten."""
    world.check("cold")
    for _ in range(3):
        compact(world)
        world.check("cold")
        world.now_s += GRACE_S
    compact(world)
    found = live(world)
    assert len(found) == 2, f"{len(found)} segments are left for two sensors"
    assert set(world.cold.objects) == {segment.name for segment in found}, "an object is left behind"
    world.now_s += REMEMBERED_S
    world.catalog.items = {
        key: item for key, item in world.catalog.items.items() if int(str(item["ttl"]["N"])) > world.now_s
    }
    entries = list(world.catalog.entries(ALL_DATES))
    assert entries == found, "an entry is left behind"
    world.check("cold")


def after(*acts: Course) -> Course:
    """These things happen, and then it comes to rest."""

    def course(world: Deployment) -> None:
        for act in acts:
            act(world)
            world.check("cold")
        comes_to_rest(world)

    return course


RECOVERIES: dict[str, Course] = {
    "it runs again": comes_to_rest,
    "nothing for longer than the grace": after(delete),
    "S3 tells of everything": after(tell_of_all),
    "S3 tells, it runs, S3 tells again": after(tell_of_all, compact, tell_of_all, delete, tell_of_all),
    "the catalog is rebuilt": after(reindex),
    "something late comes": after(archive_late),
    "the archiver comes again": after(archive_again),
    "it runs, and the archiver comes again": after(compact, delete, archive_again),
}


def checked(world: Deployment) -> None:
    """What must hold at any time."""
    world.check("cold")


def is_compacted(world: Deployment) -> None:
    """The run came to its end."""
    assert len(live(world)) == 2


def compacting() -> Flow[Deployment]:
    """A compaction from its begin to the swap."""
    return Flow("compact", small_segments, compact, is_compacted, checked, RECOVERIES)


def deleting() -> Flow[Deployment]:
    """A compaction that finds objects whose grace is over."""

    def all_gone(world: Deployment) -> None:
        assert set(world.cold.objects) == {segment.name for segment in live(world)}

    return Flow("delete", long_compacted, compact, all_gone, checked, RECOVERIES)


def begun_again() -> Flow[Deployment]:
    """A compaction after one that stored its objects and died before the swap, while the grace passed."""

    def start() -> Deployment:
        world = small_segments()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(world.catalog, "swap", nothing)
            compact(world)
        world.now_s += GRACE_S
        return world

    return Flow("begun again", start, compact, is_compacted, checked, RECOVERIES)


def nothing(*_: object, **__: object) -> None:
    """Nothing happens."""


FLOWS: dict[str, tuple[Callable[[], Flow[Deployment]], int, int]] = {
    "compact": (compacting, 60, 26),
    "delete": (deleting, 10, 5),
    "begun again": (begun_again, 60, 20),
}
"""With the least number of points, and of pairs of points."""

MEANWHILE: dict[str, Course] = {
    "another compaction": compact,
    "others go further": go_further,
    "the grace passes and all superseded is deleted": delete,
    "S3 tells of everything": tell_of_all,
    "the catalog is rebuilt": reindex,
    "something late comes": archive_late,
    "the archiver comes again": archive_again,
}


def index_all(world: Deployment, gate: Gate) -> None:
    """The index door is told of every object."""
    world.index(sorted(world.cold.objects), gate)


def reindex_all(world: Deployment, gate: Gate) -> None:
    """`archive reindex`, its catalog page by page."""
    flows.reindex(world, gate)


def steps(names: Sequence[str]) -> dict[str, Callable[[Deployment, Gate], None]]:
    """What is interrupted, by name."""
    known: dict[str, Callable[[Deployment, Gate], None]] = {
        "compaction": compact,
        "the index door": index_all,
        "reindexing": reindex_all,
    }
    return {name: known[name] for name in names}
