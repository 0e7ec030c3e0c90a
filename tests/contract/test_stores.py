"""One suite per store protocol, run on memory and on AWS's interface (the emulator)."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import botocore.exceptions
import pytest

from ingest import chunk, keys
from ingest.errors import BadInput, Corrupt, NotFound, Refused, ThermoclineError, Unavailable
from ingest.item import Item, make_item, write_units
from ingest.keys import Layout, Period
from ingest.manifest import encode_manifests, encode_open_slot, encode_ticket
from ingest.reading import Run, Span
from ingest.reject import Reject
from ingest.stores import (
    Catalog,
    ColdStore,
    HotStore,
    Registry,
    RejectStore,
    Segment,
    Sensor,
    Superseded,
    connect,
)
from ingest.stores._boto_errors import code_of, translated
from ingest.stores.catalog import DynamoCatalog
from ingest.stores.cold import S3ColdStore
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore, MemoryRegistry
from ingest.stores.registry import DynamoRegistry, decode_sensor, encode_sensor
from ingest.stores.rejects import S3RejectStore
from tests import strategies

HOUR_S = 3600
US = keys.US
BUCKET_S = 1_795_212_000
ARRIVAL_MS = BUCKET_S * 1000
LATER_S = BUCKET_S + 10**6
PERIOD = Period(0, HOUR_S, 86_400, 7 * 86_400, 5 * 365 * 86_400)
LAYOUT = keys.first_layout(PERIOD)

on_both = pytest.mark.parametrize("target", ["memory", "emulator"])
Clients = Callable[[str], Any]


def _long() -> int:
    return 60_000


def _no_sleep(_: float) -> None:
    return None


# --- the hot tier -----------------------------------------------------------------------


def _chunks(
    sensor_id: str,
    bucket_s: int = BUCKET_S,
    count: int = 60,
    batch: str = "batch1",
    expires_at_s: int = LATER_S,
) -> list[Item]:
    times = [bucket_s * US + i * 1_000_000 for i in range(count)]
    column: Any = [20 + i % 7 / 4 for i in range(count)]
    return chunk.encode(
        Run(sensor_id, times, {"temperature": column}, ARRIVAL_MS), bucket_s, batch, expires_at_s
    )


def _wide(sensor_id: str, parts: int) -> list[Item]:
    """Chunks of about 60 KB each."""
    text = "x" * 30_000
    run = Run(
        sensor_id, [BUCKET_S * US + i for i in range(2 * parts)], {"text": [text] * (2 * parts)}, ARRIVAL_MS
    )
    for i in range(2 * parts):
        run.metrics["text"][i] = f"{i:06d}{text}"
    return chunk.encode(run, BUCKET_S, "wide", LATER_S)


@pytest.fixture
def hot(target: str, request: pytest.FixtureRequest) -> HotStore:
    if target == "memory":
        return MemoryHotStore()
    client = request.getfixturevalue("emulator_client")("dynamodb")
    return DynamoHotStore(client, request.getfixturevalue("table_name"), _no_sleep, lambda: 0.5)


def _read(hot: HotStore, sensor_id: str, start_s: float, end_s: float) -> tuple[int, list[int]]:
    """How many chunks a read finds, and the instants they hold, in order (µs after BUCKET_S)."""
    span = Span(round(start_s * US), round(end_s * US))
    pages = list(hot.read(sensor_id, span, HOUR_S))
    found = [ts_us - BUCKET_S * US for page in pages for run in page.runs for ts_us in run.ts_us]
    return sum(page.items for page in pages), sorted(found)


@on_both
class TestHotStore:
    def test_a_chunk_comes_back_as_it_went_in(self, hot: HotStore) -> None:
        run = Run(
            "site/hall:2",
            [BUCKET_S * US + 1, BUCKET_S * US + 7_000_000, BUCKET_S * US + 9_123_456],
            {
                "big": [9_007_199_254_740_993, -(10**38) + 1, 0],
                "mixed": [True, "Zürich 🌊", None],
                "tiny": [1e-130, -9.99e125, 0.1],
            },
            ARRIVAL_MS,
        )
        (item,) = chunk.encode(run, BUCKET_S, "batch1", LATER_S)
        hot.put([item], _long)
        (found,) = hot.chunks([item.key])
        assert strategies.ranked_cells(found.run) == strategies.ranked_cells(run)
        assert (found.key, found.run.sensor_id, found.expires_at_s) == (item.key, "site/hall:2", LATER_S)

    def test_packed_chunks_come_back_among_lists_and_are_billed_by_their_bytes(self, hot: HotStore) -> None:
        times = [BUCKET_S * US + i * US + i % 7 * 1000 for i in range(900)]
        metrics: dict[str, Any] = {
            "temperature": [round(20 + i % 90 / 100 + i / 7, 2) for i in range(900)],
            "sparse": [None if i % 9 else i for i in range(900)],
            "state": ["idle" if i % 50 < 20 else "läuft" for i in range(900)],
            "big": [10**37 + i % 300 for i in range(900)],
            "tiny": [1e-130 if i % 2 else 9.99e125 for i in range(900)],
        }
        run = Run("packed-1", times, metrics, ARRIVAL_MS)
        (item,) = chunk.encode(run, BUCKET_S, "batch1", LATER_S, "packed")
        assert f'"{chunk.TAGS["packed"]}"' in item.body
        listed = _chunks("packed-1", batch="batch2")
        units = sum(write_units(one.size_bytes) for one in [item, *listed])
        assert hot.put([item, *listed], _long) == units
        by_key = {held.key: held.run for held in hot.chunks([item.key, listed[0].key])}
        assert strategies.ranked_cells(by_key[item.key]) == strategies.ranked_cells(run)
        span = Span(BUCKET_S * US, (BUCKET_S + HOUR_S) * US)
        (page,) = hot.read("packed-1", span, HOUR_S)
        assert (page.items, len(page.runs)) == (2, 2)
        assert page.size_bytes == item.size_bytes + listed[0].size_bytes

    def test_put_bills_the_larger_of_the_old_and_the_new_item(self, hot: HotStore) -> None:
        large = make_item({"pk": {"S": "x"}, "sk": {"S": "y"}, "text": {"S": "a" * 2500}})
        small = make_item({"pk": {"S": "x"}, "sk": {"S": "y"}, "text": {"S": "a"}})
        assert hot.put([small], _long) == 1
        assert hot.put([large], _long) == write_units(large.size_bytes) == 3
        assert hot.put([large], _long) == 3
        assert hot.put([small], _long) == 3

    def test_put_takes_any_number_of_items_and_repeats(self, hot: HotStore) -> None:
        items = [item for i in range(130) for item in _chunks(f"sensor-{i:03d}")]
        assert hot.put(items, _long) == sum(write_units(item.size_bytes) for item in items)
        hot.put(items[:40], _long)
        found = hot.chunks([item.key for item in items] + [keys.chunk_key("absent", BUCKET_S, "batch1", 0)])
        assert sorted(held.key for held in found) == sorted(item.key for item in items)
        assert hot.put([], _long) == 0
        assert hot.chunks([]) == []

    def test_read_finds_the_chunks_of_the_span_in_order_of_time(self, hot: HotStore) -> None:
        starts = [BUCKET_S + hours * HOUR_S for hours in (3, -1, 0, 1, 2, 30)]
        hot.put([item for start in starts for item in _chunks("one", start)], _long)
        hot.put(_chunks("one", BUCKET_S, batch="batch2") + _chunks("one2") + _chunks("on"), _long)

        def instants(*hours: int) -> list[int]:
            return [(hour * HOUR_S + second) * US for hour in hours for second in range(60)]

        twice = sorted(instants(0, 0))
        assert _read(hot, "one", BUCKET_S, BUCKET_S + 2 * HOUR_S) == (3, twice + instants(1))
        found = _read(hot, "one", BUCKET_S + 0.5 * HOUR_S, BUCKET_S + HOUR_S + 1)
        assert found == (3, twice + instants(1))
        assert _read(hot, "one", 0, 2**33) == (7, instants(-1) + twice + instants(1, 2, 3, 30))
        assert _read(hot, "none", 0, 2**33) == (0, [])

    def test_a_long_read_comes_in_pages_and_tells_its_cost(self, hot: HotStore) -> None:
        items = _wide("one", 40)
        hot.put(items, _long)
        pages = list(hot.read("one", Span(0, 2**33 * US), HOUR_S))
        size_bytes = sum(item.size_bytes for item in items)
        assert size_bytes > 2 * 1024 * 1024
        assert len([page for page in pages if page.items]) >= 2
        assert sum(page.items for page in pages) == len(items)
        found = [ts_us for page in pages for run in page.runs for ts_us in run.ts_us]
        assert sorted(found) == [BUCKET_S * US + i for i in range(80)]
        assert sum(page.size_bytes for page in pages) == size_bytes
        assert (
            size_bytes / 4096 <= sum(page.read_units for page in pages) < size_bytes / 4096 + len(pages) + 1
        )

    def test_newest_holds_the_newest_reading(self, hot: HotStore) -> None:
        assert hot.newest("one", HOUR_S) == []
        for hours in range(-20, 5):
            hot.put(_chunks("one", BUCKET_S + hours * HOUR_S), _long)
        hot.put(_chunks("one", BUCKET_S + 4 * HOUR_S, count=61, batch="a"), _long)
        found = hot.newest("one", HOUR_S)
        assert max(held.run.ts_us[-1] for held in found) == (BUCKET_S + 4 * HOUR_S + 60) * US

    def test_manifests_of_a_slot_come_back(self, hot: HotStore) -> None:
        named = [keys.chunk_key(f"sensor-{i}", BUCKET_S, "b1", 0) for i in range(3)]
        other = [keys.chunk_key("sensor-9", BUCKET_S, "b2", 0)]
        hot.put(encode_manifests(BUCKET_S, "b1", 77, named, PERIOD), _long)
        hot.put(encode_manifests(BUCKET_S, "b2", 78, other, PERIOD), _long)
        hot.put(encode_manifests(BUCKET_S + HOUR_S, "b1", 77, named, PERIOD), _long)
        found = [held for page in hot.manifests(BUCKET_S) for held in page]
        assert [(held.batch, held.written_s, list(held.chunks)) for held in found] == [
            ("b1", 77, named),
            ("b2", 78, other),
        ]
        assert [held for page in hot.manifests(1) for held in page] == []

    def test_open_slots_are_oldest_first_and_end_inclusively(self, hot: HotStore) -> None:
        for slot_s in (LATER_S, BUCKET_S, 3, BUCKET_S + HOUR_S):
            hot.put([encode_open_slot(slot_s), encode_ticket(slot_s)], _long)
        assert hot.open_slots() == [3, BUCKET_S, BUCKET_S + HOUR_S, LATER_S]
        assert hot.open_slots(BUCKET_S) == [3, BUCKET_S]
        assert hot.open_slots(2) == []

    def test_delete_takes_any_number_and_missing_ones(self, hot: HotStore) -> None:
        items = [item for i in range(30) for item in _chunks(f"sensor-{i}", count=1)]
        hot.put(items, _long)
        gone = [item.key for item in items[:28]]
        hot.delete(gone)
        hot.delete(gone)
        assert {held.key for held in hot.chunks([item.key for item in items])} == {
            item.key for item in items[28:]
        }

    def test_the_layout_is_replaced_only_by_who_knows_it(self, hot: HotStore) -> None:
        assert hot.load_layout() is None
        changed: Layout = LAYOUT.changed(Period(5, 900, 3600, 86_400, 10**8))
        with pytest.raises(Refused):
            hot.save_layout(changed, LAYOUT)
        hot.save_layout(LAYOUT, None)
        assert hot.load_layout() == LAYOUT
        with pytest.raises(Refused):
            hot.save_layout(changed, None)
        with pytest.raises(Refused):
            hot.save_layout(changed.changed(Period(9, 3600, 3600, 86_400, 10**8)), changed)
        hot.save_layout(changed, LAYOUT)
        assert hot.load_layout() == changed

    def test_the_layout_may_be_put_again_where_its_reply_was_lost(self, hot: HotStore) -> None:
        hot.save_layout(LAYOUT, None)
        hot.save_layout(LAYOUT, None)
        assert hot.load_layout() == LAYOUT


def test_memory_expires_what_is_due_tickets_too() -> None:
    hot = MemoryHotStore()
    due = [encode_ticket(BUCKET_S), *_chunks("one", expires_at_s=BUCKET_S)]
    kept = [encode_ticket(BUCKET_S + 1), *_chunks("two"), encode_open_slot(BUCKET_S)]
    hot.put(due + kept, _long)
    assert sorted(hot.expire(BUCKET_S)) == sorted(item.key for item in due)
    assert set(hot.items) == {item.key for item in kept}
    assert hot.expire(BUCKET_S) == []


# --- the catalog ------------------------------------------------------------------------


def _segment(date: str = "2026-11-20", digest: str = "d1", **changes: Any) -> Segment:
    span = keys.date_span(date)
    made = Segment(
        name=keys.segment_name(date, digest),
        date=date,
        digest=digest,
        size_bytes=4711,
        rows=100,
        first_us=span.start_us + 1000,
        last_us=span.end_us - 1001,
        first_sensor="b",
        last_sensor="d/7",
        etag="e" * 32,
        footer_bytes=1042,
        sha256="",
        written_s=BUCKET_S,
    )
    return replace(made, **changes)


@pytest.fixture
def catalog(target: str, request: pytest.FixtureRequest) -> Catalog:
    if target == "memory":
        return MemoryCatalog()
    client = request.getfixturevalue("emulator_client")("dynamodb")
    return DynamoCatalog(client, request.getfixturevalue("table_name"))


@on_both
class TestCatalog:
    def test_a_segment_comes_back_as_it_went_in(self, catalog: Catalog) -> None:
        catalog.add([_segment(sha256="f" * 64)], LATER_S)
        assert catalog.find(keys.date_span("2026-11-20")) == [_segment(sha256="f" * 64)]

    def test_the_same_segment_again_changes_nothing(self, catalog: Catalog) -> None:
        catalog.add([_segment(), _segment()], LATER_S)
        catalog.add([_segment()], LATER_S)
        catalog.add([], LATER_S)
        assert catalog.find(keys.date_span("2026-11-20")) == [_segment()]

    def test_a_segment_is_found_where_its_times_meet_the_half_open_span(self, catalog: Catalog) -> None:
        held = _segment()
        catalog.add([held], LATER_S)
        first, last = held.first_us, held.last_us
        for span, found in (
            (Span(first - 500, first), False),
            (Span(first - 500, first + 1), True),
            (Span(last, last + 1), True),
            (Span(last + 1, last + 500), False),
            (Span(first + 5, first + 5), False),
            (Span(0, 2**62), True),
            (Span(0, 5), False),
        ):
            assert bool(catalog.find(span)) is found, span

    def test_a_segment_is_found_for_sensors_between_its_first_and_last(self, catalog: Catalog) -> None:
        catalog.add([_segment()], LATER_S)
        day = keys.date_span("2026-11-20")
        found = [name for name in ("a", "b", "c", "d", "d/7", "d/70", "e") if catalog.find(day, name)]
        assert found == ["b", "c", "d", "d/7"]

    def test_segments_come_by_date_and_name_over_years(self, catalog: Catalog) -> None:
        dates = ["2024-02-29", "2025-12-31", "2026-01-01", "2026-01-02"]
        held = [_segment(date, digest) for date in dates for digest in ("x", "y")]
        catalog.add(held[::-1], LATER_S)
        assert catalog.find(Span(0, 2**62)) == held
        new_year = Span(keys.date_span("2025-12-31").start_us, keys.date_span("2026-01-01").end_us)
        assert catalog.find(new_year) == held[2:6]

    def test_any_number_of_segments_is_added_and_removed(self, catalog: Catalog) -> None:
        held = [_segment(digest=f"{i:032d}") for i in range(60)]
        catalog.add(held, LATER_S)
        assert catalog.find(Span(0, 2**62)) == held
        catalog.remove(held[:55] + held[:2])
        catalog.remove([_segment(digest="absent")])
        assert catalog.find(Span(0, 2**62)) == held[55:]


# --- compaction in the catalog ------------------------------------------------------------

DAY = "2026-11-20"
THAT_DAY = keys.date_span(DAY)


def _old(count: int = 3) -> list[Segment]:
    return [_segment(digest=f"old{i:029d}") for i in range(count)]


def _new(count: int = 2) -> list[Segment]:
    return [_segment(digest=f"new{i:029d}", written_s=BUCKET_S + 50) for i in range(count)]


def _announce(catalog: Catalog, old: list[Segment], new: list[Segment], now_s: int = 100) -> None:
    catalog.announce(DAY, [one.digest for one in new], [one.digest for one in old], now_s, LATER_S)


@on_both
class TestCatalogSwap:
    def test_it_replaces_the_old_by_the_new(self, catalog: Catalog) -> None:
        old, new, other = _old(), _new(), _segment(digest="other")
        catalog.add([*old, other], LATER_S)
        _announce(catalog, old, new)
        assert catalog.find(THAT_DAY) == sorted([*old, other], key=lambda one: one.name)
        catalog.swap(old, new, 100, 120, LATER_S)
        assert catalog.find(THAT_DAY) == [*new, other]
        by = tuple(one.digest for one in new)
        superseded = [Superseded(DAY, one.digest, by, 120, segment=one) for one in old]
        assert list(catalog.entries(THAT_DAY)) == [*new, *superseded, other]
        assert catalog.look_up(DAY, old[0].digest) == superseded[0]
        assert catalog.look_up(DAY, new[0].digest) == new[0]
        assert catalog.look_up(DAY, "absent") is None

    def test_a_hundred_entries_are_swapped_at_once_and_no_more(self, catalog: Catalog) -> None:
        old, new = _old(96), _new(4)
        catalog.add(old, LATER_S)
        _announce(catalog, old, new)
        with pytest.raises(ValueError, match="100"):
            catalog.swap([*old, _segment(digest="x")], new, 100, 120, LATER_S)
        catalog.swap(old, new, 100, 120, LATER_S)
        assert catalog.find(THAT_DAY) == new

    @pytest.mark.parametrize(
        "what", ["gone", "other etag", "superseded", "not announced", "renewed", "doomed"]
    )
    def test_nothing_is_swapped_where_an_entry_is_not_as_it_was(self, catalog: Catalog, what: str) -> None:
        old, new = _old(), _new()
        catalog.add(old, LATER_S)
        if what != "not announced":
            _announce(catalog, old, new)
        if what == "gone":
            catalog.remove(old[:1])
        elif what == "other etag":
            catalog.add([replace(old[1], etag="f" * 32)], LATER_S)
        elif what == "superseded":
            _announce(catalog, old[:1], [_segment(digest="another")])
            catalog.swap(old[:1], [_segment(digest="another")], 100, 101, LATER_S)
        elif what == "renewed":
            _announce(catalog, old, new, 110)
        elif what == "doomed":
            assert catalog.doom(Superseded(DAY, new[0].digest, (), 100))
        before = list(catalog.entries(THAT_DAY))
        with pytest.raises(Refused):
            catalog.swap(old, new, 100, 120, LATER_S)
        assert list(catalog.entries(THAT_DAY)) == before

    def test_what_is_catalogued_or_being_deleted_is_not_announced(self, catalog: Catalog) -> None:
        old, new = _old(), _new()
        catalog.add(old, LATER_S)
        with pytest.raises(Refused):
            _announce(catalog, old, [new[0], old[0]])
        assert catalog.look_up(DAY, new[0].digest) is None
        _announce(catalog, old, new)
        _announce(catalog, old, new, 110)
        assert catalog.doom(Superseded(DAY, new[1].digest, (), 110))
        with pytest.raises(Refused):
            _announce(catalog, old, new, 120)

    def test_a_superseded_entry_is_not_added_again_until_it_is_gone_and_newer(self, catalog: Catalog) -> None:
        old, new = _old(1), _new(1)
        catalog.add(old, LATER_S)
        _announce(catalog, old, new)
        catalog.add(new, LATER_S)
        assert catalog.find(THAT_DAY) == old
        catalog.swap(old, new, 100, 120, LATER_S)
        catalog.add([*old, *new], LATER_S)
        assert catalog.find(THAT_DAY) == new
        (entry,) = [one for one in catalog.entries(THAT_DAY) if isinstance(one, Superseded)]
        assert catalog.doom(entry)
        catalog.bury(entry, BUCKET_S + 5, LATER_S)
        catalog.add(old, LATER_S)
        assert catalog.find(THAT_DAY) == new
        restored = replace(old[0], written_s=BUCKET_S + 6)
        catalog.add([restored], LATER_S)
        assert catalog.find(THAT_DAY) == [*new, restored]

    def test_a_deletion_is_noted_only_of_what_was_seen(self, catalog: Catalog) -> None:
        old, new = _old(1), _new(1)
        catalog.add(old, LATER_S)
        _announce(catalog, old, new)
        (seen,) = [one for one in catalog.entries(THAT_DAY) if isinstance(one, Superseded)]
        catalog.swap(old, new, 100, 120, LATER_S)
        assert not catalog.doom(seen)
        catalog.bury(seen, 130, LATER_S)
        assert catalog.find(THAT_DAY) == new
        assert not catalog.doom(Superseded(DAY, "absent", (), 100))
        assert catalog.look_up(DAY, "absent") is None

    def test_what_may_have_been_stored_since_is_deleted_once_more(self, catalog: Catalog) -> None:
        old, new = _old(1), _new(2)
        catalog.add(old, LATER_S)
        _announce(catalog, old, new)
        seen = Superseded(DAY, new[0].digest, (old[0].digest,), 100)
        assert catalog.doom(seen)
        catalog.bury(seen, 150, LATER_S)
        catalog.renounce(DAY, [one.digest for one in new], 160, LATER_S)
        assert catalog.look_up(DAY, new[0].digest) == replace(seen, superseded_s=160, doomed=True)
        assert catalog.look_up(DAY, new[1].digest) == replace(seen, digest=new[1].digest)

    def test_a_superseded_entry_is_revived_unless_its_deletion_has_begun(self, catalog: Catalog) -> None:
        old, new = _old(2), _new(1)
        catalog.add(old, LATER_S)
        assert not catalog.revive(old[0], LATER_S)
        _announce(catalog, old, new)
        catalog.swap(old, new, 100, 120, LATER_S)
        (seen, _) = [one for one in catalog.entries(THAT_DAY) if isinstance(one, Superseded)]
        assert catalog.doom(seen)
        assert not catalog.revive(old[0], LATER_S)
        assert catalog.revive(old[1], LATER_S)
        assert catalog.find(THAT_DAY) == [*new, old[1]]


def test_catalog_entries_expire_by_ttl(emulator_client: Clients, table_name: str) -> None:
    dynamodb = emulator_client("dynamodb")
    DynamoCatalog(dynamodb, table_name).add([_segment()], LATER_S)
    (item,) = dynamodb.scan(TableName=table_name)["Items"]
    assert item["ttl"] == {"N": str(LATER_S)}


def test_a_full_page_of_the_catalog_is_followed_by_the_next(
    emulator_client: Clients, table_name: str
) -> None:
    catalog = DynamoCatalog(emulator_client("dynamodb"), table_name)
    held = [_segment(digest=f"{i:032d}", first_sensor="a" * 128, last_sensor="z" * 128) for i in range(2500)]
    catalog.add(held, LATER_S)
    assert catalog.find(Span(0, 2**62)) == held


class _Throttling:
    """A DynamoDB client that leaves all but the first request of a batch unprocessed."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def batch_write_item(self, RequestItems: dict[str, list[Any]]) -> dict[str, Any]:  # noqa: N803
        self.calls.append("batch")
        return {"UnprocessedItems": {table: requests[1:] for table, requests in RequestItems.items()}}

    def delete_item(self, TableName: str, Key: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        self.calls.append(Key["sk"]["S"])
        return {}


def test_catalog_entries_left_unprocessed_are_written_one_by_one() -> None:
    client = _Throttling()
    catalog = DynamoCatalog(client, "table")
    catalog.remove([_segment(digest=digest) for digest in "ab"])
    assert client.calls == ["batch", "2026-11-20#b"]


# --- the cold tier ----------------------------------------------------------------------


@pytest.fixture
def cold(target: str, request: pytest.FixtureRequest) -> ColdStore:
    if target == "memory":
        return MemoryColdStore()
    return S3ColdStore(
        request.getfixturevalue("emulator_client")("s3"), request.getfixturevalue("bucket_name")
    )


@on_both
class TestColdStore:
    def test_an_object_is_read_whole_and_by_range(self, cold: ColdStore) -> None:
        data = bytes(range(256)) * 40
        cold.put("readings/v1/date=2026-11-20/one.parquet", data, {})
        for start, end in (
            (None, None),
            (0, None),
            (5, None),
            (None, 7),
            (0, 1),
            (100, 2000),
            (10_000, 10**6),
        ):
            found = cold.read("readings/v1/date=2026-11-20/one.parquet", start, end)
            assert found == data[start:end], (start, end)

    def test_a_range_that_holds_nothing_is_empty(self, cold: ColdStore) -> None:
        cold.put("one", b"abc", {})
        assert [cold.read("one", *bounds) for bounds in ((3, 9), (50, 60), (2, 2), (2, 1), (0, 0))] == [
            b""
        ] * 5

    def test_head_tells_size_etag_and_metadata(self, cold: ColdStore) -> None:
        etag = cold.put("one", b"abc", {"first-us": "1", "first-sensor": "a/b:c"})
        head = cold.head("one")
        assert (head.size_bytes, head.etag) == (3, etag)
        assert head.metadata == {"first-us": "1", "first-sensor": "a/b:c"}
        assert etag == hashlib.md5(b"abc", usedforsecurity=False).hexdigest()

    def test_putting_again_replaces(self, cold: ColdStore) -> None:
        cold.put("one", b"abc", {"old": "1"})
        cold.put("one", b"d", {})
        assert (cold.read("one"), cold.head("one").metadata) == (b"d", {})

    def test_what_is_gone_is_not_found(self, cold: ColdStore) -> None:
        for read in (
            lambda: cold.read("absent"),
            lambda: cold.read("absent", 0, 5),
            lambda: cold.head("absent"),
        ):
            with pytest.raises(NotFound, match="absent"):
                read()

    def test_names_are_sorted_and_below_the_prefix(self, cold: ColdStore) -> None:
        for name in ("b/2", "b/10", "a/x", "b", "b/é", "c"):
            cold.put(name, b"", {})
        assert list(cold.names("b/")) == ["b/10", "b/2", "b/é"]
        assert list(cold.names("")) == ["a/x", "b", "b/10", "b/2", "b/é", "c"]
        assert list(cold.names("absent")) == []

    def test_any_number_of_objects_is_listed_and_deleted(self, cold: ColdStore) -> None:
        names = [f"many/{i:04d}" for i in range(1005)]
        for name in names:
            cold.put(name, b"", {})
        assert list(cold.names("many/")) == names
        cold.delete([*names[:1003], "absent"])
        assert list(cold.names("many/")) == names[1003:]
        cold.delete([])


# --- the registry -----------------------------------------------------------------------


@pytest.fixture
def registry(target: str, request: pytest.FixtureRequest) -> Registry:
    if target == "memory":
        return MemoryRegistry()
    client = request.getfixturevalue("emulator_client")("dynamodb")
    return DynamoRegistry(client, request.getfixturevalue("table_name"))


@on_both
class TestRegistry:
    def test_new_sensors_are_counted_and_known_ones_left_as_they_are(self, registry: Registry) -> None:
        assert registry.register({"a": 1, "b": 2}, _long) == (2, 2.0)
        assert registry.register({"b": 99, "c": 3}, _long) == (1, 1.0)
        assert registry.register({"a": 5, "b": 5, "c": 5}, _long) == (0, 0.0)
        assert registry.register({}, _long) == (0, 0.0)
        assert [sensor.first_seen_ms for sensor in registry.all()] == [1, 2, 3]

    def test_get_tells_one_or_none(self, registry: Registry) -> None:
        registry.register({"site/hall:2": ARRIVAL_MS}, _long)
        assert registry.get("site/hall:2") == Sensor("site/hall:2", ARRIVAL_MS)
        assert registry.get("absent") is None

    def test_all_is_sorted_over_every_partition_and_by_prefix(self, registry: Registry) -> None:
        names = [f"{site}-{i:03d}" for site in ("east", "west", "Wx") for i in range(90)]
        assert registry.register(dict.fromkeys(reversed(names), 7), _long)[0] == 270
        assert [sensor.sensor_id for sensor in registry.all()] == sorted(names)
        assert [sensor.sensor_id for sensor in registry.all("west-01")] == [f"west-01{i}" for i in range(10)]
        assert list(registry.all("absent")) == []


def test_everything_known_of_a_sensor_survives_its_item() -> None:
    full = Sensor("a", 5, "Press 7", {"t": "°C"}, {"site": "east"}, {"lat": 52.1, "lon": [1, None]}, 3)
    assert decode_sensor(encode_sensor(full)) == full


class _Racing:
    """A DynamoDB client whose reads are behind: it shows no sensor, then refuses those that exist."""

    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_, **__: None))

    class exceptions:  # noqa: N801
        class ConditionalCheckFailedException(Exception):
            pass

    def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803
        return {"Responses": {}, "UnprocessedKeys": RequestItems}

    def put_item(self, Item: dict[str, Any], **_: Any) -> dict[str, Any]:  # noqa: N803
        if Item["sk"]["S"] == "old":
            raise self.exceptions.ConditionalCheckFailedException
        return {"ConsumedCapacity": {"CapacityUnits": 1.0}}


def test_a_sensor_registered_meanwhile_is_not_new_and_costs_a_unit() -> None:
    assert DynamoRegistry(_Racing(), "table").register({"old": 1, "new": 2}, _long) == (1, 2.0)


def test_registering_stops_when_the_time_is_up() -> None:
    left = itertools.chain([5, 5], itertools.repeat(0))
    with pytest.raises(Unavailable, match="ran out"):
        DynamoRegistry(_Racing(), "table").register({f"s{i}": 1 for i in range(20)}, lambda: next(left))


# --- rejects ----------------------------------------------------------------------------


def _reject(number: int, payload: bytes = b"{") -> Reject:
    return Reject(
        id=f"{number:024d}",
        reason="not_json",
        detail="line 1",
        stream_arn="arn:aws:kinesis:us-east-1:000000000000:stream/readings",
        shard_id="shardId-000000000000",
        sequence=str(number),
        offset="0",
        arrival_ms=ARRIVAL_MS,
        sensor_id=None,
        count=1,
        sha256=hashlib.sha256(payload).hexdigest(),
        payload=payload,
    )


@pytest.fixture
def rejects(cold: ColdStore) -> RejectStore:
    return S3RejectStore(cold)


@on_both
class TestRejectStore:
    def test_rejects_come_back_by_date_with_their_bytes(self, rejects: RejectStore) -> None:
        kept = {"2026-11-19": [1, 2], "2026-11-20": [3], "2026-11-21": [4, 5]}
        for date, numbers in kept.items():
            rejects.keep(keys.reject_name(date, "b"), [_reject(n, bytes([n, 255, 0])) for n in numbers])
        found = list(rejects.list("2026-11-19", "2026-11-20"))
        assert found == [_reject(n, bytes([n, 255, 0])) for n in (1, 2, 3)]
        assert [reject.sequence for reject in rejects.list("2026-11-21", "2026-12-24")] == ["4", "5"]
        assert list(rejects.list("2026-11-21", "2026-11-20")) == []

    def test_a_regrouped_retry_lists_nothing_twice(self, rejects: RejectStore) -> None:
        rejects.keep(keys.reject_name("2026-11-20", "b1"), [_reject(1), _reject(2)])
        rejects.keep(keys.reject_name("2026-11-20", "b2"), [_reject(2), _reject(3)])
        rejects.keep(keys.reject_name("2026-11-21", "b3"), [_reject(1)])
        listed = [reject.sequence for reject in rejects.list("2026-11-20", "2026-11-21")]
        assert listed == ["1", "2", "3"]

    def test_one_reject_is_found_by_its_id(self, rejects: RejectStore) -> None:
        rejects.keep(keys.reject_name("2026-11-20", "b1"), [_reject(1), _reject(2)])
        assert rejects.get(_reject(2).id) == _reject(2)
        with pytest.raises(NotFound, match="rejects ls"):
            rejects.get("absent")

    def test_what_is_stored_again_is_off_the_list_wherever_it_is_kept(self, rejects: RejectStore) -> None:
        early, late = keys.reject_name("2026-11-18", "b1"), keys.reject_name("2026-11-20", "b2")
        rejects.keep(early, [_reject(1), _reject(2)])
        rejects.keep(late, [_reject(2), _reject(3)])
        rejects.mark_stored([_reject(2)], 5)
        rejects.mark_stored([_reject(2)], 5)
        assert [one.sequence for one in rejects.list("2026-11-18", "2026-11-20")] == ["1", "3"]
        assert [one.sequence for one in rejects.list("2026-11-18", "2026-11-18")] == ["1"]
        rejects.keep(late, [_reject(2), _reject(3)])
        assert list(rejects.kept()) == [[_reject(1)], [_reject(3)]]
        assert list(rejects.kept("2026-11-19")) == [[_reject(3)]]
        assert list(rejects.kept(None, "2026-11-19")) == [[_reject(1)]]
        assert rejects.get(_reject(2).id) == _reject(2)
        assert [rejects.stored_again(_reject(n)) for n in (1, 2, 3)] == [None, 5, None]
        rejects.mark_stored([_reject(1), _reject(3)], 6)
        assert list(rejects.list("2026-11-01", "2026-11-30")) == []

    def test_what_is_kept_with_an_id(self, rejects: RejectStore) -> None:
        rejects.keep(keys.reject_name("2026-11-19", "b1"), [_reject(1), _reject(2)])
        rejects.keep(keys.reject_name("2026-11-20", "b2"), [_reject(3)])
        rejects.keep(keys.reject_name("2026-11-21", "b3"), [_reject(4), _reject(5)])
        rejects.mark_stored([_reject(4)], 5)
        assert list(rejects.kept_with({_reject(1).id})) == [[_reject(1), _reject(2)]]
        assert list(rejects.kept_with({_reject(4).id, _reject(3).id})) == [[_reject(5)], [_reject(3)]]
        assert list(rejects.kept_with({"absent"})) == []

    def test_batches_given_up_are_found_read_and_forgotten(
        self, rejects: RejectStore, cold: ColdStore
    ) -> None:
        document = b'{"KinesisBatchInfo": {"shardId": "s"}, "payload": "{\\"Records\\": [{}]}"}'
        names = [
            "aws/lambda/u/shardId-1/2026/11/21/2026-11-21T01.00.00-a",
            "aws/lambda/u/shardId-2/2026/11/20/2026-11-20T01.00.00-b",
            "aws/lambda/odd",
        ]
        for name in names:
            cold.put(name, document, {})
        found = list(rejects.failed_batches())
        assert [batch.name for batch in found] == [names[2], names[1], names[0]]
        assert [batch.date for batch in rejects.failed_batches("2026-11-21")] == [None, "2026-11-21"]
        assert [batch.date for batch in rejects.failed_batches(None, "2026-11-20")] == [None, "2026-11-20"]
        assert rejects.failed_batch(found[1].id) == found[1]
        assert (found[1].shard_id, found[1].count, found[1].problem) == ("s", 1, "")
        rejects.forget(found[1])
        rejects.forget(found[1])
        assert rejects.failed_batch(found[1].id) is None
        assert [batch.name for batch in rejects.failed_batches()] == [names[2], names[0]]
        assert list(rejects.kept()) == []

    def test_a_damaged_object_is_named(self, rejects: RejectStore, cold: ColdStore) -> None:
        name = keys.reject_name("2026-11-20", "b1")
        cold.put(name, b"?", {})
        with pytest.raises(Corrupt, match=name):
            list(rejects.kept())

    def test_what_is_no_date_is_bad_input(self, rejects: RejectStore) -> None:
        with pytest.raises(BadInput, match="2026-13-01"):
            list(rejects.list("2026-13-01", "2026-11-20"))


# --- errors -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NoSuchKey", NotFound),
        ("404", NotFound),
        ("ResourceNotFoundException", NotFound),
        ("ConditionalCheckFailedException", Refused),
        ("ProvisionedThroughputExceededException", Unavailable),
        ("ThrottlingException", Unavailable),
        ("SlowDown", Unavailable),
        ("InternalServerError", Unavailable),
        ("AccessDeniedException", ThermoclineError),
        ("ExpiredTokenException", ThermoclineError),
    ],
)
def test_a_service_error_becomes_one_of_ours(code: str, kind: type[ThermoclineError]) -> None:
    answer: Any = {"Error": {"Code": code, "Message": "the item holds secret-payload"}}
    with pytest.raises(ThermoclineError) as caught, translated("Writing 3 items to table t"):
        raise botocore.exceptions.ClientError(answer, "PutItem")
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"Writing 3 items to table t failed: {code}.")
    assert "secret-payload" not in str(caught.value)
    assert code_of(caught.value.__cause__ or caught.value) == code


def test_an_error_that_is_not_the_services_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), translated("Reading"):
        raise ZeroDivisionError
    with pytest.raises(NotFound), translated("Reading"):
        raise NotFound("as it was")


def test_a_service_that_does_not_answer_is_unavailable(unused_tcp_port: int) -> None:
    once = {"retries": {"total_max_attempts": 1}}
    url = f"http://127.0.0.1:{unused_tcp_port}"
    s3 = connect.client("s3", endpoint_url=url, region="us-east-1", **once)
    with pytest.raises(Unavailable, match="object one of bucket b"):
        S3ColdStore(s3, "b").read("one")


def _calls(clients: Clients) -> Sequence[Callable[[], object]]:
    dynamodb, s3 = clients("dynamodb"), clients("s3")
    catalog, registry = DynamoCatalog(dynamodb, "absent"), DynamoRegistry(dynamodb, "absent")
    hot = DynamoHotStore(dynamodb, "absent", _no_sleep, lambda: 0.5)
    return [
        lambda: catalog.find(keys.date_span("2026-11-20")),
        lambda: catalog.add([_segment()], LATER_S),
        lambda: registry.get("a"),
        lambda: registry.register({"a": 1}, _long),
        lambda: list(registry.all()),
        lambda: hot.put(_chunks("one"), _long),
        lambda: list(hot.read("one", Span(0, 1), HOUR_S)),
        lambda: S3ColdStore(s3, "absent").put("one", b"", {}),
        lambda: list(S3ColdStore(s3, "absent").names("")),
    ]


def test_a_table_or_bucket_that_does_not_exist_is_not_found(emulator_client: Clients) -> None:
    for call in _calls(emulator_client):
        with pytest.raises(NotFound, match="absent"):
            call()
