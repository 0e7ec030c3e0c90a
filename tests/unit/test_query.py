"""Queries: one answer from two tiers, none lost, none twice; pages equal the whole, windows a recomputation."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import segment as segment_format
from ingest.errors import BadInput, NotFound, Unavailable
from ingest.keys import DAY_S, US, Period, first_layout
from ingest.reading import Run, Span, clip, merge, select
from ingest.stores import Segment
from ingest.stores.memory import MemoryCatalog, MemoryColdStore
from tests import strategies as make
from tests.world import ALWAYS, NOW_S, NOW_US, World, readings

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
HOUR_US = 3600 * US


def series(start_us: int = NOW_US, count: int = 60, first: float = 20.0, step_us: int = US) -> Run:
    column = [first + i / 10 for i in range(count)]
    return readings(
        "press-7", start_us, step_us, temperature=column, state=[i % 7 == 0 for i in range(count)]
    )


def cells(run: Run | None) -> dict:
    return {} if run is None else make.cells(run)


class TestHot:
    def test_the_span_is_half_open(self):
        world = World()
        world.send(series())
        run = world.found("press-7", Span(NOW_US + 10 * US, NOW_US + 20 * US))
        assert run.ts_us == [NOW_US + i * US for i in range(10, 20)]
        assert world.ask("press-7", Span(NOW_US, NOW_US)).run is None
        assert world.ask("press-7", Span(NOW_US - HOUR_US, NOW_US)).run is None

    def test_chunks_of_many_buckets_batches_and_orders_come_out_sorted(self):
        world = World()
        for start in (5, 1, 3, 2, 4, 0):
            world.send(series(NOW_US + start * 1800 * US, 1800, step_us=US))
        run = world.found("press-7")
        assert run.ts_us == [NOW_US + i * US for i in range(6 * 1800)]

    def test_metrics_are_chosen(self):
        world = World()
        world.send(series(), readings("press-7", NOW_US + 90 * US, US, humidity=[40]))
        run = world.found("press-7", metrics=("humidity",))
        assert (run.ts_us, run.metrics) == ([NOW_US + 90 * US], {"humidity": [40]})
        assert world.ask("press-7", metrics=("unknown",)).run is None

    def test_sensors_do_not_see_each_other(self):
        world = World()
        world.send(series(), readings("press-70", NOW_US, US, a=[1]), readings("press", NOW_US, US, a=[2]))
        assert world.found("press").metrics == {"a": [2]}

    def test_an_unknown_sensor_has_an_empty_answer(self):
        found = World().ask("nobody")
        assert (found.run, found.windows, found.next_us, found.hot_rows, found.cold_rows) == (
            None,
            None,
            None,
            0,
            0,
        )

    def test_it_tells_what_it_cost(self):
        world = World()
        world.send(series())
        cost = world.ask("press-7").cost
        assert (cost.items, cost.objects, cost.requests, cost.read_units) == (1, 0, 1, 1.0)
        assert cost.bytes == sum(chunk for chunk in [cost.bytes] if chunk > 0)

    def test_chunks_of_every_bucket_width_there_ever_was_are_found(self):
        for widths in ([3600, 2700], [2700, 3600], [86_400, 60], [60, 86_400], [5400, 7200, 900]):
            world = World()
            layout = first_layout(Period(0, widths[0], DAY_S, 7 * DAY_S, 999 * DAY_S))
            for number, width in enumerate(widths):
                layout = layout.changed(Period(NOW_S + number, width, DAY_S, 7 * DAY_S, 999 * DAY_S))
                world.layout, world.now_s = layout, NOW_S + number
                world.send(series(NOW_US - 3 * HOUR_US + number, 400, 20.0, 60 * US))
            for start in range(0, 400, 7):
                at_us = NOW_US - 3 * HOUR_US + start * 60 * US
                run = world.found("press-7", Span(at_us, at_us + len(widths)))
                assert run.ts_us == [at_us + number for number in range(len(widths))]

    @pytest.mark.parametrize(
        "options",
        [{"metrics": ("no name",)}, {"every_us": 0}, {"limit": 0}, {"every_us": 5, "aggregates": ("avg",)}],
    )
    def test_what_is_wrong_is_named_before_anything_is_read(self, options):
        with pytest.raises(BadInput):
            World().ask("press-7", **options)


class TestBothTiers:
    def lived(self) -> tuple[World, dict]:
        """Readings in all states: only cold, hot and cold, only hot."""
        world = World()
        sent = [series(NOW_US + day * DAY_S * US, 50, 10.0 * day) for day in range(-3, 12, 3)]
        for run in sent:
            world.now_s = max(NOW_S, run.ts_us[-1] // US)
            world.send(run)
            world.archive_all() if run is not sent[-1] else None
            world.hot.expire(world.now_s)
        return world, make.cells(merge(sent))

    def test_one_answer_without_duplicates(self):
        world, expected = self.lived()
        found = world.ask("press-7")
        assert cells(found.run) == expected
        times = world.found("press-7").ts_us
        assert times == sorted(set(times))
        assert found.hot_rows > 0
        assert found.cold_rows > 0
        assert found.hot_rows + found.cold_rows >= 250

    def test_a_span_across_the_border(self):
        world, expected = self.lived()
        for days in range(-4, 12):
            span = Span(NOW_US + days * DAY_S * US + 25 * US, NOW_US + (days + 4) * DAY_S * US + 10 * US)
            assert cells(world.ask("press-7", span).run) == {
                c: v for c, v in expected.items() if span.holds(c[0])
            }

    def test_a_tier_may_be_asked_for_alone(self):
        world, expected = self.lived()
        hot, cold = world.ask("press-7", tier="hot"), world.ask("press-7", tier="cold")
        assert (hot.cold_rows, hot.cost.objects, cold.hot_rows, cold.cost.items) == (0, 0, 0, 0)
        assert set(cells(hot.run)) | set(cells(cold.run)) == set(expected)
        assert set(cells(hot.run)) < set(expected)

    def test_at_every_moment_of_a_readings_life_auto_finds_it(self):
        world = World()
        world.send(series())
        expected = cells(world.ask("press-7").run)
        (slot_s,) = world.slots()
        expires_at_s = NOW_S + 3600 + 7 * DAY_S
        archived = False
        for now_s in range(NOW_S, expires_at_s + 3 * DAY_S, 6 * 3600 + 17):
            world.now_s = now_s
            if now_s >= slot_s and not archived:
                archived = bool(world.archive(slot_s).segments)
            world.hot.expire(now_s)
            assert cells(world.ask("press-7").run) == expected
        assert archived
        assert world.chunk_keys() == []

    def test_a_late_expiry_or_an_early_one_opens_no_gap(self):
        world = World()
        world.send(series())
        expected = cells(world.ask("press-7").run)
        world.archive_all()
        world.now_s = NOW_S + 3600 + 7 * DAY_S - world.layout.half_margin_s
        world.hot.delete(world.chunk_keys())
        assert cells(world.ask("press-7").run) == expected

    @pytest.mark.parametrize("corrected_first", [False, True])
    def test_a_correction_wins_whichever_tier_holds_it(self, corrected_first):
        """`archived` decides which of the two went cold; arrival, not tier, decides which is right."""
        wrong, right = series(first=90.0), series(first=20.0)
        world, other = World(), World()
        world.send(wrong)
        world.now_s += 60
        world.send(right)
        expected = cells(world.ask("press-7").run)
        assert expected[NOW_US, "temperature"] == ("number", "20")
        items = world.hot.items
        other.now_s = world.now_s
        chunks = world.chunk_keys()
        arrivals = {key: int(str(items[key]["at"]["N"])) for key in chunks}
        first, second = sorted(chunks, key=lambda key: arrivals[key], reverse=corrected_first)
        other.hot.items = {key: item for key, item in items.items() if key != second and key.pk[0] != "m"}
        batch = first.sk.split("#")[1]
        other.hot.items |= {key: item for key, item in items.items() if key.pk[0] == "m" and batch in key.sk}
        other.archive_all()
        other.expire()
        assert other.chunk_keys() == []
        other.hot.items[second] = items[second]
        found = other.ask("press-7")
        assert (found.hot_rows, found.cold_rows) == (60, 60)
        assert cells(found.run) == expected


class ForgetfulCold(MemoryColdStore):
    """An archive whose objects are compacted away after some more reads."""

    _world: World | None = None
    _reads = 0

    def compact_when_read(self, world: World, reads: int = 0) -> None:
        self._world, self._reads = world, reads

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        if self._world is not None and self._reads == 0:
            world, self._world = self._world, None
            compact(world)
        self._reads -= 1
        return super().read(name, start, end)


def compact(world: World) -> None:
    """All segments into one, the old ones gone, as compaction will do."""
    old = world.catalog.find(ALWAYS)
    runs: dict[str, list[Run]] = {}
    for segment in old:
        for run in segment_format.decode(world.cold.objects[segment.name][0]):
            runs.setdefault(run.sensor_id, []).append(run)
    encoded = segment_format.encode([merge(held) for held in runs.values()])
    name = "readings/v1/date=2026-11-20/compacted.parquet"
    etag = world.cold.put(name, encoded.data, segment_format.metadata(encoded))
    new = Segment(
        name=name,
        date="2026-11-20",
        digest="compacted",
        size_bytes=len(encoded.data),
        rows=encoded.rows,
        first_us=encoded.first_us,
        last_us=encoded.last_us,
        first_sensor=encoded.first_sensor,
        last_sensor=encoded.last_sensor,
        etag=etag,
        footer_bytes=encoded.footer_bytes,
        sha256=encoded.sha256,
        written_s=NOW_S,
    )
    world.catalog.add([new], NOW_S + DAY_S)
    world.catalog.remove(old)
    world.cold.delete([segment.name for segment in old])


class TestExpiryMeanwhile:
    def test_what_leaves_the_hot_tier_while_a_query_runs_is_in_its_answer(self):
        """Hot is read before the catalog: here everything is archived and expires right after the first of them."""
        world = World()
        world.send(series())
        expected = cells(world.ask("press-7").run)

        class Late(MemoryCatalog):
            moved = False

            def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
                found = super().find(span, sensor_id)
                if not self.moved:
                    self.moved = True
                    world.archive_all()
                    world.expire()
                return found

        world.catalog = Late()
        world.layout = world.layout.expired_early(30 * DAY_S)
        assert cells(world.ask("press-7").run) == expected
        assert world.chunk_keys() == []
        assert cells(world.ask("press-7").run) == expected


class TestSegmentsThatGo:
    def world(self) -> tuple[World, ForgetfulCold]:
        world = World()
        world.cold = cold = ForgetfulCold(lambda: world.now_s)
        world.send(series())
        world.archive_all()
        world.send(series(NOW_US + 30 * US, first=50.0))
        world.archive_all()
        return world, cold

    @pytest.mark.parametrize("reads", [0, 1])
    def test_an_object_that_is_gone_sends_the_reader_back_to_the_catalog(self, reads):
        world, cold = self.world()
        expected = cells(world.ask("press-7", tier="cold").run)
        cold.compact_when_read(world, reads)
        found = world.ask("press-7", tier="cold")
        assert cells(found.run) == expected
        assert found.cold_rows == 90
        assert [segment.digest for segment in world.catalog.find(ALWAYS)] == ["compacted"]

    def test_so_does_the_newest_reading(self):
        world, cold = self.world()
        world.expire()
        expected = cells(world.latest("press-7"))
        cold.compact_when_read(world)
        assert cells(world.latest("press-7")) == expected
        assert (NOW_US + 89 * US, "temperature") in expected

    def test_an_object_that_stays_gone_is_an_error_not_an_empty_answer(self):
        world, _ = self.world()
        world.expire()
        world.cold.objects.clear()
        with pytest.raises(Unavailable, match="reindex"):
            world.ask("press-7")
        with pytest.raises(Unavailable, match="reindex"):
            world.latest("press-7")

    def test_the_error_of_a_store_is_not_hidden(self):
        world, _ = self.world()

        class Down(MemoryColdStore):
            def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
                raise Unavailable("down")

        world.cold = Down()
        with pytest.raises(Unavailable, match="down"):
            world.ask("press-7", tier="cold")
        with pytest.raises(NotFound):
            MemoryColdStore().read("x")


class TestPages:
    @settings(max_examples=25)
    @given(
        make.runs(sensor_id="press-7", first_us=NOW_US - 4 * HOUR_US, last_us=NOW_US + HOUR_US),
        st.integers(1, 50),
        st.booleans(),
    )
    def test_pages_one_after_the_other_are_the_unpaged_answer(self, run, limit, archived):
        world = World()
        world.send(run)
        if archived:
            world.archive_all()
            world.expire()
        pages: list[Run] = []
        start_us: int | None = ALWAYS.start_us
        while start_us is not None:
            page = world.ask("press-7", Span(start_us, ALWAYS.end_us), limit=limit)
            assert page.run is not None
            assert len(page.run.ts_us) <= limit
            pages.append(page.run)
            start_us = page.next_us
        times = [ts for page in pages for ts in page.ts_us]
        assert times == run.ts_us
        assert make.cells(merge(pages)) == make.cells(run)

    def test_a_limit_that_is_not_reached_leaves_nothing_over(self):
        world = World()
        world.send(series())
        assert world.ask("press-7", limit=60).next_us is None
        assert world.ask("press-7", limit=59).next_us == NOW_US + 59 * US

    def test_windows_are_paged_too(self):
        world = World()
        world.send(series(count=600))
        whole = world.ask("press-7", every_us=60 * US, aggregates=("sum", "count")).windows
        assert whole is not None
        starts: list[int] = []
        sums: list = []
        span = ALWAYS
        while True:
            page = world.ask("press-7", span, every_us=60 * US, aggregates=("sum", "count"), limit=3)
            assert page.windows is not None
            starts += page.windows.start_us
            sums += page.windows.columns["temperature"]["sum"]
            if page.next_us is None:
                break
            span = Span(page.next_us, ALWAYS.end_us)
        assert starts == whole.start_us
        assert sums == whole.columns["temperature"]["sum"]


class TestWindows:
    def test_the_default_is_the_mean(self):
        world = World()
        world.send(series(count=3))
        windows = world.ask("press-7", every_us=HOUR_US).windows
        assert windows is not None
        assert windows.columns["temperature"] == {"mean": [pytest.approx(20.1)]}

    def test_only_readings_of_the_span_count(self):
        world = World()
        world.send(series())
        found = world.ask(
            "press-7", Span(NOW_US + 10 * US, NOW_US + 15 * US), every_us=HOUR_US, aggregates=("count",)
        )
        assert found.windows is not None
        assert found.windows.columns["temperature"]["count"] == [5]

    @pytest.mark.skipif(not SHARED.is_dir(), reason="the folder shared/data of real series is not here")
    @pytest.mark.parametrize("archived", [False, True])
    def test_a_real_series_by_the_hour_equals_pandas(self, archived):
        pandas = pytest.importorskip("pandas", reason="pandas is the independent tool of this test")
        path = SHARED / "nab_machine_temp.csv"
        world = World()
        with path.open() as file:
            rows = [(int(row["ts_ms"]) * 1000, float(row["value"])) for row in csv.DictReader(file)]
        assert len(rows) > 20_000
        random.Random(1).shuffle(rows)
        batches = [dict(rows[i : i + 2_000]) for i in range(0, len(rows), 2_000)]
        for batch in batches:
            times = sorted(batch)
            world.send(Run("press-7", times, {"value": [batch[ts] for ts in times]}, 0))
        if archived:
            world.archive_all()
            world.expire()
            assert world.chunk_keys() == []
        windows = world.ask("press-7", every_us=HOUR_US, aggregates=("mean", "max", "count")).windows
        assert windows is not None

        frame = pandas.read_csv(path).drop_duplicates("ts_ms", keep="last")
        by_hour = frame.groupby(frame.ts_ms // 3_600_000 * 3_600_000).value.agg(["mean", "max", "count"])
        assert windows.start_us == [int(ms) * 1000 for ms in by_hour.index]
        assert windows.columns["value"]["max"] == by_hour["max"].tolist()
        assert windows.columns["value"]["count"] == by_hour["count"].tolist()
        assert windows.columns["value"]["mean"] == pytest.approx(by_hour["mean"].tolist(), rel=1e-12)


class TestLatest:
    def newest(self, world: World) -> tuple[list[int], dict]:
        run = world.latest("press-7")
        assert run is not None
        return [ts - NOW_US for ts in run.ts_us], {name: column[0] for name, column in run.metrics.items()}

    def test_from_the_hot_tier(self):
        world = World()
        world.send(series(), series(NOW_US - HOUR_US, first=80.0))
        assert self.newest(world) == ([59 * US], {"temperature": 25.9, "state": False})

    def test_from_the_cold_tier_when_nothing_is_hot(self):
        world = World()
        world.send(series())
        world.archive_all()
        world.expire()
        assert self.newest(world)[0] == [59 * US]

    def test_from_the_newest_of_many_segments(self):
        world = World()
        for day in (3, 1, 2):
            world.send(series(NOW_US - day * DAY_S * US))
            world.archive_all()
        world.expire()
        assert self.newest(world)[0] == [-DAY_S * US + 59 * US]

    def test_the_cold_one_where_it_is_newer(self):
        world = World()
        world.send(series())
        world.archive_all()
        world.expire()
        world.send(series(NOW_US - 5 * DAY_S * US, first=80.0))
        assert world.chunk_keys() != []
        assert self.newest(world) == ([59 * US], {"temperature": 25.9, "state": False})

    def test_the_cold_one_where_it_corrects_the_same_instant(self):
        world = World()
        world.send(series(count=1, first=90.0))
        key = world.chunk_keys()[0]
        old = dict(world.hot.items[key])
        world.now_s += 5
        world.send(series(count=1, first=20.0))
        world.archive_all()
        world.expire()
        world.hot.items[key] = old
        assert self.newest(world) == ([0], {"temperature": 20, "state": True})

    def test_the_hot_one_where_it_is_newer(self):
        world = World()
        world.send(series())
        world.archive_all()
        world.expire()
        world.send(series(world.now_s * US, 1, 77.0))
        run = world.latest("press-7")
        assert run is not None
        assert run.metrics["temperature"] == [77]

    def test_of_an_unknown_sensor_there_is_none(self):
        assert World().latest("nobody") is None
        with pytest.raises(BadInput):
            World().latest("../x")


@settings(max_examples=30)
@given(
    st.lists(
        make.runs(
            sensor_id="press-7", first_us=NOW_US - 6 * HOUR_US, last_us=NOW_US + 2 * HOUR_US, max_size=15
        ),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.booleans(), min_size=4, max_size=4),
    st.data(),
)
def test_any_history_any_span_any_metrics(runs: Sequence[Run], archived: list[bool], data: st.DataObject):
    """Runs come one after the other, some archived and expired between: the answer is that of merging them all."""
    world = World()
    for run, cool in zip(runs, archived, strict=False):
        world.send(run)
        world.now_s += 1
        if cool:
            world.archive_all()
            world.expire()
    ranked = [Run(run.sensor_id, run.ts_us, run.metrics, number) for number, run in enumerate(runs)]
    whole = merge(ranked)
    edge = st.one_of(st.sampled_from(whole.ts_us), st.integers(NOW_US - 7 * HOUR_US, NOW_US + 3 * HOUR_US))
    span = Span(*sorted([data.draw(edge), data.draw(edge)]))
    names = data.draw(st.lists(st.sampled_from(sorted(whole.metrics)), unique=True))
    expected = make.cells(select(clip(whole, span), names))
    assert cells(world.ask("press-7", span, metrics=tuple(names)).run) == expected
    newest = make.cells(whole)
    latest_us = max(ts for ts, _ in newest)
    assert cells(world.latest("press-7")) == {c: v for c, v in newest.items() if c[0] == latest_us}
