"""A query that runs while a slot is archived and its chunks expire: every order of their steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations_with_replacement
from typing import Any

import pytest

from ingest import keys, query
from ingest.archive import archive_overdue
from ingest.chunk import decode_item
from ingest.keys import DAY_S, US
from ingest.plan import Query
from ingest.reading import Span
from ingest.stores import Page, Segment
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore
from tests.unit.test_archive_outages import HOUR_US, Cells, cells
from tests.world import ALWAYS, GRACE_S, NOW_US, World, readings

# --- every order ------------------------------------------------------------------------

Change = tuple[str, Callable[[World], None]]


class Watched(MemoryCatalog):
    """Keeps what is done to it, for doing it elsewhere."""

    def __init__(self, changes: list[Change]) -> None:
        super().__init__()
        self._changes = changes

    def add(self, segments: Sequence[Segment], expires_at_s: int) -> None:
        self._changes.append(
            ("catalogued", lambda world: MemoryCatalog.add(world.catalog, segments, expires_at_s))
        )
        super().add(segments, expires_at_s)


class WatchedCold(MemoryColdStore):
    """As `Watched`, for objects."""

    def __init__(self, changes: list[Change]) -> None:
        super().__init__()
        self._changes = changes

    def put(self, name: str, data: bytes, metadata: Any) -> str:
        self._changes.append(
            ("stored", lambda world: _keep(MemoryColdStore.put(world.cold, name, data, metadata)))
        )
        return super().put(name, data, metadata)


class WatchedHot(MemoryHotStore):
    """As `Watched`, for deletions and expiry."""

    def __init__(self, changes: list[Change]) -> None:
        super().__init__()
        self._changes = changes

    def delete(self, keys: Sequence[keys.Key]) -> None:
        if keys:
            self._changes.append((f"deleted {keys[0].pk[0]}", lambda world: world.hot.delete(keys)))
        super().delete(keys)


def _keep(_: object) -> None:
    return None


def life() -> tuple[World, list[Change], list[Change]]:
    """A world before its slots are archived; what archiving changes, in order; and the expiries after it."""
    before = World()
    before.send(readings("press-7", NOW_US, 60 * US, a=[1, 2, 3]))
    before.send(readings("press-7", NOW_US + HOUR_US, US, a=[4]))
    before.now_s = max(before.slots()) + GRACE_S + 1
    changes: list[Change] = []
    acting = World(hot=WatchedHot(changes))
    acting.hot.items = copy.deepcopy(before.hot.items)
    acting.catalog, acting.cold = Watched(changes), WatchedCold(changes)
    acting.now_s = before.now_s
    archive_overdue(acting.stack(), acting.now_s)
    expiries: list[Change] = [
        ("expired", lambda world, key=key: world.hot.delete([key])) for key in acting.chunk_keys()
    ]
    return before, changes, expiries


class Interrupted:
    """The stores of one query; before each of its calls the next changes happen."""

    def __init__(self, world: World, happen: Callable[[], None]) -> None:
        self._world = world
        self._happen = happen

    def read(self, *arguments: Any) -> Any:
        if len(arguments) == 3 and isinstance(arguments[1], Span):
            return self._pages(*arguments)
        self._happen()
        return self._world.cold.read(*arguments)

    def _pages(self, sensor_id: str, span: Span, widest_bucket_s: int) -> Iterator[Page]:
        """Pages of one chunk each, each as the table is when it is asked for."""
        after = keys.Key("", "")
        partition, low, high = keys.chunk_range(sensor_id, span, widest_bucket_s)
        while True:
            self._happen()
            found = [key for key in self._world.chunk_keys() if key > after and key.pk == partition]
            found = [key for key in found if low <= key.sk <= high]
            runs = [decode_item(self._world.hot.items[key]).run for key in found[:1]]
            yield Page(runs, len(runs), 1.0, 1)
            if not found:
                return
            after = found[0]

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        self._happen()
        return self._world.catalog.find(span, sensor_id)


def ask(world: World, sensor_id: str, steps: Sequence[int], changes: Sequence[Change]) -> Cells:
    """The answer of a query at the nth call of which the changes up to `steps[n]` have happened."""
    calls = iter(range(1_000))
    state = {"done": 0}

    def happen() -> None:
        number = next(calls)
        until = steps[number] if number < len(steps) else len(changes)
        for _, change in changes[state["done"] : until]:
            change(world)
        state["done"] = max(state["done"], until)

    stores: Any = Interrupted(world, happen)
    sources = query.Sources(stores, stores, stores, world.layout, lambda: 0.0)
    return cells(query.answer(Query(sensor_id, ALWAYS), sources, world.now_s + 8 * DAY_S).run)


@pytest.mark.parametrize("backwards", [False, True], ids=["oldest first", "newest first"])
def test_a_query_that_runs_while_slots_are_archived_and_expire_sees_everything_in_every_order(backwards):
    """Every way to lay three pages of the table and the catalog between the changes; a reaper that never
    comes is among them. Objects are never changed, so what happens later than that cannot matter."""
    before, archiving, expiries = life()
    changes = [*archiving, *(reversed(expiries) if backwards else expiries)]
    named = [what for what, _ in changes]
    assert named == ["stored", "catalogued", "deleted m", "deleted o"] * 2 + ["expired"] * 2
    truth = cells(before.ask("press-7").run)
    assert len(truth) == 4
    tried = 0
    for steps in combinations_with_replacement(range(len(changes) + 1), 4):
        assert ask(_copy(before), "press-7", steps, changes) == truth, (steps, named)
        tried += 1
    assert tried == 1_001


def test_an_expiry_before_the_catalog_knows_would_be_noticed():
    before, archiving, expiries = life()
    truth = cells(before.ask("press-7").run)
    for early in range(2):
        order = [*archiving[:early], *expiries, *archiving[early:]]
        steps = combinations_with_replacement(range(len(order) + 1), 4)
        assert any(ask(_copy(before), "press-7", one, order) != truth for one in steps)


def _copy(world: World) -> World:
    made = World()
    made.hot.items = dict(world.hot.items)
    made.catalog.items = dict(world.catalog.items)
    made.cold.objects = dict(world.cold.objects)
    made.now_s = world.now_s
    return made
