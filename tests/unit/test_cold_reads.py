"""Cold reads of several segments: at the same time, in the catalog's order, and with all of them in the cost."""

from __future__ import annotations

import threading

import pytest

from ingest.errors import Unavailable
from ingest.keys import US
from ingest.stores.memory import MemoryColdStore
from tests.unit.test_archive_outages import cells
from tests.world import ALWAYS, NOW_US, World, readings

SEGMENTS = 4


class Together(MemoryColdStore):
    """A store whose reads wait for each other: all segments must be asked for before one is answered."""

    gate: threading.Barrier | None = None

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """As the store's own, once all have come."""
        if self.gate is not None:
            self.gate.wait()
        return super().read(name, start, end)


def world_of_segments() -> tuple[World, Together]:
    world = World()
    world.cold = cold = Together(lambda: world.now_s)
    for part in range(SEGMENTS):
        world.send(readings("press-7", NOW_US + part * 10 * US, US, a=[part * 10 + i for i in range(10)]))
        world.archive_all()
    world.expire()
    assert len(world.catalog.find(ALWAYS)) == SEGMENTS
    return world, cold


def test_segments_are_read_at_the_same_time():
    world, cold = world_of_segments()
    expected = cells(world.ask("press-7", tier="cold").run)
    cold.gate = threading.Barrier(SEGMENTS, timeout=10)
    found = world.ask("press-7", tier="cold")
    assert cells(found.run) == expected
    assert len(expected) == SEGMENTS * 10
    assert (found.cost.objects, found.cost.requests) == (SEGMENTS, SEGMENTS)
    assert found.cost.bytes == sum(len(data) for data, _ in cold.objects.values())
    assert found.cold_rows == SEGMENTS * 10


def test_an_error_of_one_of_them_is_the_querys():
    world, cold = world_of_segments()
    down = sorted(cold.objects)[2]

    class Down(Together):
        def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
            if name == down:
                raise Unavailable("S3 is away")
            return super().read(name, start, end)

    world.cold = away = Down(lambda: world.now_s)
    away.objects = cold.objects
    with pytest.raises(Unavailable, match="away"):
        world.ask("press-7")
