"""Pages of an answer: together they are the unpaged one, whatever happens meanwhile, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.aggregate import Windows
from ingest.errors import BadInput
from ingest.keys import DAY_S, US, Period, first_layout
from ingest.paging import AnswerPage, Bounds, Place, page
from ingest.plan import Query
from ingest.reading import Run, Span
from ingest.stores import Page
from ingest.stores.memory import MemoryHotStore
from ingest.tiers import TierMap
from tests import strategies as make
from tests.world import ALWAYS, NOW_S, NOW_US, World, readings

HOUR_US = 3600 * US
SENSOR = "press-7"
SMALL = Bounds(piece_cells=60, page_cells=1_000_000, seconds=60)


def pages(
    world: World, query: Query, between: Callable[[], object] = lambda: None, **options: Any
) -> Iterator[AnswerPage]:
    place: Place | None = None
    for _ in range(10_000):
        one = page(query, lambda: world.sources, lambda: world.now_s, place, **options)
        yield one
        if one.next is None:
            return
        place = one.next
        between()
    raise AssertionError("the pages never end")


def cells_of(found: list[AnswerPage]) -> list[tuple[int, str, str, str]]:
    """Every cell in the order given, so that a repeat or a wrong order shows."""
    listed: list[tuple[int, str, str, str]] = []
    for one in found:
        if one.run is not None:
            listed.extend((ts, name, *cell) for (ts, name), cell in sorted(make.cells(one.run).items()))
    return listed


def windows_of(found: list[Windows]) -> dict[tuple[int, str, str], object]:
    listed: dict[tuple[int, str, str], object] = {}
    for one in found:
        for metric, by_name in one.columns.items():
            for name, column in by_name.items():
                for start_us, value in zip(one.start_us, column, strict=True):
                    if value is not None:
                        assert (start_us, metric, name) not in listed, "a window comes twice"
                        listed[start_us, metric, name] = value
    return listed


@cache
def in_both_tiers() -> World:
    """Dense and sparse stretches, years apart; some only cold, some in both tiers, some only hot."""
    world = World()
    for start_us, count, step_us in (
        (NOW_US - 900 * DAY_S * US, 3, 40 * DAY_S * US),
        (NOW_US - 30 * DAY_S * US, 300, US),
        (NOW_US - 5 * DAY_S * US, 80, 600 * US + 1),
        (NOW_US - 4 * DAY_S * US, 200, 1_000),
        (NOW_US - 3 * HOUR_US, 150, 60 * US),
    ):
        column = [(start_us // US + i) % 97 / 10 for i in range(count)]
        run = readings(SENSOR, start_us, step_us, a=column, b=[i if i % 3 else None for i in range(count)])
        world.now_s = max(world.now_s, run.ts_us[-1] // US)
        world.send(run)
        if start_us < NOW_US - DAY_S * US:
            world.archive_all()
            world.now_s = NOW_S
    world.hot.expire(NOW_S)
    return world


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("limit", [1, 17, 10_000])
@pytest.mark.parametrize("bounds", [SMALL, Bounds()], ids=["small", "usual"])
def test_pages_together_are_the_unpaged_answer(descending: bool, limit: int, bounds: Bounds) -> None:
    world = in_both_tiers()
    few = Span(NOW_US - 900 * DAY_S * US, NOW_US - 30 * DAY_S * US + 20 * US)
    span = few if limit == 1 else ALWAYS
    query = Query(SENSOR, span, limit=limit)
    found = list(pages(world, query, descending=descending, bounds=bounds))
    assert all(len(one) == limit for one in found[:-1])
    assert len(found[-1]) > 0, "the page before should have said that it is the last"
    if descending:
        found.reverse()
    whole = world.ask(SENSOR, span)
    assert whole.run is not None
    assert cells_of(found) == sorted((ts, name, *cell) for (ts, name), cell in make.cells(whole.run).items())
    assert sum(one.hot_rows for one in found) == whole.hot_rows
    assert sum(one.cold_rows for one in found) == whole.cold_rows


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("every_us", [7 * US, DAY_S * US])
@pytest.mark.parametrize("limit", [1, 5, 10_000])
def test_windows_are_paged_without_dividing_one(descending: bool, every_us: int, limit: int) -> None:
    world = in_both_tiers()
    span = Span(NOW_US - 30 * DAY_S * US + 3 * US + 1, NOW_US - HOUR_US - 1)
    query = Query(SENSOR, span, every_us=every_us, aggregates=("mean", "count", "p90"), limit=limit)
    found = list(pages(world, query, descending=descending, bounds=SMALL))
    assert all(len(one) == limit for one in found[:-1])
    whole = world.ask(SENSOR, span, every_us=every_us, aggregates=("mean", "count", "p90")).windows
    assert whole is not None
    assert windows_of([one.windows for one in found if one.windows]) == windows_of([whole])
    for one in found:
        assert one.windows is None or one.windows.start_us == sorted(one.windows.start_us)


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(
        make.runs(sensor_id=SENSOR),
        min_size=1,
        max_size=5,
    ),
    cuts=st.tuples(st.integers(0, 10**17), st.integers(0, 10**17)),
    limit=st.integers(1, 30),
    descending=st.booleans(),
    metrics=st.booleans(),
)
def test_any_readings_any_span_any_limit(
    runs: list[Run], cuts: tuple[int, int], limit: int, descending: bool, metrics: bool
) -> None:
    world = World()
    world.now_s = make.ARRIVAL_MS // 1000
    for run in runs:
        world.send(run)
    instants = sorted({ts for run in runs for ts in run.ts_us})
    low, high = sorted(instants[cut % len(instants)] for cut in cuts)
    span = Span(low, high + 1)
    chosen = (min(name for run in runs for name in run.metrics),) if metrics else ()
    found = list(pages(world, Query(SENSOR, span, chosen, limit=limit), descending=descending, bounds=SMALL))
    if descending:
        found.reverse()
    whole = world.ask(SENSOR, span, metrics=chosen).run
    expected = make.cells(whole) if whole else {}
    assert cells_of(found) == sorted((ts, name, *cell) for (ts, name), cell in expected.items())


class CountedHot(MemoryHotStore):
    """Knows how many readings were decoded, and gives a chunk a page."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0
        self.before: Callable[[], object] = lambda: None

    def read(self, sensor_id: str, span: Span, widest_bucket_s: int) -> Iterator[Page]:
        for whole in super().read(sensor_id, span, widest_bucket_s):
            for run in whole.runs:
                self.before()
                self.rows += len(run.ts_us)
                yield Page([run], 1, 1.0, 100)


def test_a_page_reads_little_more_than_it_holds() -> None:
    hot = CountedHot()
    world = World(hot=hot)
    for hour in range(48):
        start_us = NOW_US - (48 - hour) * HOUR_US
        world.send(readings(SENSOR, start_us, US, a=[i / 10 for i in range(3600)]))
    query = Query(SENSOR, ALWAYS, limit=5_000)
    found = list(pages(world, query))
    assert sum(map(len, found)) == 48 * 3600
    assert hot.rows < 4 * 48 * 3600
    for descending in (False, True):
        hot.rows = 0
        first = next(pages(world, query, descending=descending))
        assert len(first) == 5_000
        assert hot.rows < 4 * 5_000 + 2 * 80_000


def test_a_dense_stretch_behind_a_sparse_one_is_not_held_at_once() -> None:
    most_held = 0

    class Measuring(TierMap):
        def add(self, hot: Any, cold: Any, kept: Span) -> None:
            nonlocal most_held
            most_held = max(most_held, sum(len(run.ts_us) for run in (*hot, *cold)))
            super().add(hot, cold, kept)

    for archived in (False, True):
        world = World(layout=first_layout(Period(0, 60, DAY_S, 7 * DAY_S, 999 * DAY_S)))
        world.send(readings(SENSOR, NOW_US - 300 * DAY_S * US, US, a=[1, 2]))
        dense = readings(SENSOR, NOW_US - DAY_S * US, 10_000, a=[i / 10 for i in range(20_000)])
        world.send(dense)
        if archived:
            world.archive_all()
            world.expire()
        bounds = replace(SMALL, piece_cells=3_000)
        tiers = Measuring(ALWAYS)
        query = Query(SENSOR, Span(NOW_US - 400 * DAY_S * US, NOW_US), limit=900)
        found = list(pages(world, query, bounds=bounds, tiers=tiers))
        assert [ts for one in found if one.run for ts in one.run.ts_us][2:] == dense.ts_us
        assert 0 < most_held <= 6_000


def test_a_page_ends_where_its_time_or_its_cells_are_used_up() -> None:
    world = World()
    for hour in range(10):
        world.send(readings(SENSOR, NOW_US - (10 - hour) * HOUR_US, US, a=list(range(100))))
    ticks = itertools.count()

    def sources() -> Any:
        return replace(world.sources, clock=lambda: float(next(ticks)))

    query = Query(SENSOR, Span(NOW_US - 10 * HOUR_US, NOW_US), limit=5_000)
    one = page(query, sources, lambda: world.now_s, bounds=Bounds(piece_cells=150, seconds=2.0))
    assert one.next is not None
    assert 0 < len(one) < 1_000
    two = page(
        query, lambda: world.sources, lambda: world.now_s, bounds=Bounds(page_cells=300, piece_cells=150)
    )
    assert two.next is not None
    assert 300 <= len(two) <= 450
    rest = page(query, lambda: world.sources, lambda: world.now_s, two.next)
    assert len(two) + len(rest) == 1_000


@pytest.mark.parametrize("descending", [False, True])
def test_readings_stay_while_pages_are_read_and_chunks_archived_and_expired(descending: bool) -> None:
    """The world moves on between the pages and within each read of the hot tier."""
    hot = CountedHot()
    period = Period(0, 3600, 2 * 3600, 6 * 3600, 999 * DAY_S)
    world = World(layout=first_layout(period), hot=hot)
    sent = [
        readings(SENSOR, NOW_US + i * HOUR_US, 10 * US, a=[i + n / 8 for n in range(360)]) for i in range(24)
    ]
    for run in sent:
        world.now_s = run.ts_us[0] // US
        world.send(run)

    def pass_time() -> None:
        hot.before = lambda: None
        world.now_s += 1800
        from ingest.archive import archive_overdue

        archive_overdue(world.stack(), world.now_s)
        world.hot.expire(world.now_s)
        hot.before = pass_time if world.now_s % 7 else lambda: None

    query = Query(SENSOR, Span(NOW_US, NOW_US + 24 * HOUR_US), limit=500)
    found = list(pages(world, query, pass_time, descending=descending))
    if descending:
        found.reverse()
    assert [ts for one in found if one.run for ts in one.run.ts_us] == [
        ts for run in sent for ts in run.ts_us
    ]
    assert sum(one.cold_rows for one in found) > 0
    assert sum(one.hot_rows for one in found) > 0


def test_the_cost_is_that_of_all_that_was_read() -> None:
    world = in_both_tiers()
    one = page(Query(SENSOR, ALWAYS, limit=2_000), lambda: world.sources, lambda: world.now_s, bounds=SMALL)
    whole = world.ask(SENSOR)
    assert one.cost.items >= whole.cost.items
    assert one.cost.objects >= whole.cost.objects
    assert one.cost.read_units >= whole.cost.read_units


def test_nothing_found_is_one_empty_page() -> None:
    world = World()
    for query in (Query(SENSOR, ALWAYS, limit=5), Query(SENSOR, Span(5, 5), limit=5)):
        for descending in (False, True):
            (only,) = pages(world, query, descending=descending)
            assert (len(only), only.run, only.next) == (0, None, None)


def test_what_is_wrong_is_named() -> None:
    world = World()
    with pytest.raises(BadInput, match=r"^limit"):
        page(Query(SENSOR, ALWAYS, limit=0), lambda: world.sources, lambda: world.now_s)


def test_the_layout_is_looked_up_again_while_a_page_takes_long() -> None:
    """A retention shortened while the page is read must not hide what moved to the cold tier."""
    world = World()
    for hour in range(6):
        world.send(readings(SENSOR, NOW_US - (6 - hour) * HOUR_US, US, a=list(range(50))))
    world.archive_all()
    world.now_s = NOW_S
    ticks = itertools.count()

    def expired() -> Any:
        passed_s = next(ticks)
        if passed_s == 5:  # between two pieces
            world.hot.expire(NOW_S + 400 * DAY_S)
            world.layout = world.layout.expired_early(400 * DAY_S)
        return float(passed_s)

    def sources() -> Any:
        return replace(world.sources, clock=expired)

    one = page(Query(SENSOR, ALWAYS, limit=1_000), sources, lambda: NOW_S, bounds=Bounds(60, 10_000, 1e9))
    assert len(one) == 300
