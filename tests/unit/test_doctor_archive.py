"""The archive under the doctor's eyes: catalog against listing, date by date, and segments read whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from infra.doctor.archive import Listed, Pick, Sampler, compare, listing, read_sample
from infra.doctor.data import Compared
from ingest import keys
from ingest.keys import DAY_S, SEGMENT_PREFIX
from ingest.segment import encode, metadata
from ingest.stores import Entry, Segment
from ingest.stores.memory import MemoryCatalog, MemoryColdStore
from tests.world import ALWAYS, NOW_S, NOW_US, World, readings


@pytest.fixture
def world() -> World:
    """Segments of five dates, two of each."""
    made = World()
    for day in range(5):
        for sensor in ("press-7", "press-8"):
            run = readings(sensor, NOW_US - day * DAY_S * keys.US, keys.US, t=[float(day), 2.0])
            encoded = encode([run])
            date = keys.date_of(run.ts_us[0])
            digest = keys.chunks_digest([keys.chunk_key(sensor, 0, str(day), 0)])
            name = keys.segment_name(date, digest)
            etag = made.cold.put(name, encoded.data, metadata(encoded))
            entry = Segment(
                name, date, digest, len(encoded.data), encoded.rows, encoded.first_us, encoded.last_us,
                sensor, sensor, etag, encoded.footer_bytes, encoded.sha256, NOW_S,
            )  # fmt: skip
            made.catalog.add([entry], NOW_S + DAY_S)
    return made


def listed(cold: MemoryColdStore, prefix: str = SEGMENT_PREFIX) -> Iterator[Listed]:
    for name in cold.names(prefix):
        head = cold.head(name)
        yield Listed(name, head.size_bytes, head.etag, head.modified_s or NOW_S)


def entries(catalog: MemoryCatalog, date: str = "") -> list[Segment]:
    found = sorted(catalog.find(ALWAYS), key=lambda entry: (entry.date, entry.digest))
    return [entry for entry in found if entry.date == date or not date]


def compared(
    world: World,
    sampler: Sampler | None = None,
    before: tuple[Iterable[Listed], Iterable[Entry]] | None = None,
    keep_from_s: int = 0,
) -> Compared:
    def recheck(date: str) -> tuple[Iterable[Listed], Iterable[Segment]]:
        folder = keys.segment_name(date, "").rpartition("/")[0] + "/"
        return listed(world.cold, folder), entries(world.catalog, date)

    objects, known = before or (listed(world.cold), entries(world.catalog))
    return compare(objects, known, sampler or Sampler(0), recheck, keep_from_s)


def names(world: World) -> list[str]:
    return list(world.cold.names(SEGMENT_PREFIX))


def test_equal_sides_show_nothing(world: World) -> None:
    assert compared(world) == Compared(objects=10, entries=10)


def test_what_is_superseded_may_be_there_or_not(world: World) -> None:
    old = entries(world.catalog, keys.date_of(NOW_US))
    new = replace(old[0], digest="made", name=keys.segment_name(old[0].date, "made"))
    world.catalog.announce(
        new.date, ["made", "never-made"], [one.digest for one in old], NOW_S, NOW_S + DAY_S
    )
    known = list(world.catalog.entries(ALWAYS))
    assert compared(world, before=(listed(world.cold), known)) == Compared(objects=10, entries=10)
    data, head = world.cold.objects[old[0].name]
    world.cold.put(new.name, data, head.metadata)
    assert compared(world, before=(listed(world.cold), known)) == Compared(objects=10, entries=10)
    world.catalog.swap(old, [new], NOW_S, NOW_S, NOW_S + DAY_S)
    world.cold.delete([old[1].name])
    known = list(world.catalog.entries(ALWAYS))
    assert compared(world, before=(listed(world.cold), known)) == Compared(objects=9, entries=9)


def test_an_empty_archive_is_equal() -> None:
    assert compared(World()) == Compared()


def test_each_difference_is_found_on_its_side(world: World) -> None:
    first, second, third, *_, last = names(world)
    world.cold.delete([first])
    (entry,) = [one for one in entries(world.catalog) if one.name == second]
    world.catalog.remove([entry])
    world.cold.put(third, b"another", {})
    world.cold.put(SEGMENT_PREFIX + "date=2026-01-01/notes.txt", b"x", {})
    world.cold.put(SEGMENT_PREFIX + "stray.parquet", b"x", {})
    (gone,) = [one for one in entries(world.catalog) if one.name == last]
    world.catalog.add(
        [replace(gone, date="2020-02-02", name=keys.segment_name("2020-02-02", gone.digest))], 1
    )
    found = compared(world)
    assert (found.objects, found.entries) == (9, 10)
    assert found.unlisted.first == [second]
    assert sorted(found.gone.first) == sorted([first, keys.segment_name("2020-02-02", gone.digest)])
    assert found.changed.first == [third]
    assert found.foreign.count == 2


def test_what_came_or_went_while_it_was_listed_is_no_difference(world: World) -> None:
    objects, known = list(listed(world.cold)), entries(world.catalog)
    assert compared(world, before=(objects[1:], known[:-1])) == Compared(objects=9, entries=9)


def test_what_is_about_to_be_forgotten_may_be_forgotten_on_one_side_first(world: World) -> None:
    world.cold.delete(names(world)[:1])
    (entry,) = [one for one in entries(world.catalog) if one.name == names(world)[-1]]
    world.catalog.remove([entry])
    assert compared(world).gone.count == compared(world).unlisted.count == 1
    found = compared(world, keep_from_s=NOW_S + 1)
    assert (found.gone.count, found.unlisted.count) == (0, 0)


def test_one_date_at_a_time_is_held(world: World) -> None:
    """Neither side is read further ahead than the date after the one at hand."""
    ahead: list[str] = []
    offered: list[str] = []

    def watched() -> Iterator[Listed]:
        for one in listed(world.cold):
            ahead.append(one.name)
            yield one

    class Watching(Sampler):
        def offer(self, pick: Pick) -> None:
            offered.append(pick.name)
            assert len(ahead) <= len(offered) + 2

    compared(world, Watching(None), (watched(), iter(entries(world.catalog))))
    assert offered == names(world)


class TestSample:
    def test_the_same_archive_gives_the_same_sample_whatever_the_order(self, world):
        picks = [Pick(name, "") for name in names(world)]
        samples: list[list[Pick]] = []
        for order in (picks, picks[::-1]):
            sampler = Sampler(4)
            for pick in order:
                sampler.offer(pick)
            samples.append(sampler.picked())
        assert samples[0] == samples[1]
        assert len(samples[0]) == 4
        assert [pick.name for pick in samples[0]] != names(world)[:4]

    @pytest.mark.parametrize(("most", "count"), [(0, 0), (3, 3), (10, 10), (99, 10), (None, 10)])
    def test_so_many_are_picked(self, world, most, count):
        sampler = Sampler(most)
        compared(world, sampler)
        assert len({pick.name for pick in sampler.picked()}) == count

    def test_whole_segments_pass_and_each_is_told_of(self, world):
        sampler = Sampler(None)
        compared(world, sampler)
        told: list[int] = []
        sampled = read_sample(sampler.picked(), world.cold, lambda: told.append(1))
        assert (sampled.segments, sampled.unsigned, sampled.damaged) == (10, 0, [])
        assert len(told) == 10

    @pytest.mark.parametrize("signed", [True, False], ids=["with sha256", "without"])
    @pytest.mark.parametrize("place", [0.02, 0.3, 0.9, 0.999])
    def test_a_flipped_bit_anywhere_is_found(self, world, place, signed):
        name = names(world)[0]
        held, head = world.cold.objects[name]
        damaged = bytearray(held)
        damaged[int(len(damaged) * place)] ^= 1
        known = head.metadata if signed else {}
        world.cold.put(name, bytes(damaged), known)
        sampled = read_sample([Pick(name, "")], world.cold, lambda: None)
        assert [damaged for damaged, _ in sampled.damaged] == [name]

    def test_another_whole_segment_in_its_place_is_found_by_the_catalogs_sha256(self, world):
        first, second, *_ = names(world)
        held, head = world.cold.objects[second]
        world.cold.put(first, held, head.metadata)
        (entry,) = [one for one in entries(world.catalog) if one.name == first]
        assert read_sample([Pick(first, entry.sha256)], world.cold, lambda: None).damaged

    def test_without_a_sha256_the_checksums_inside_are_what_is_checked(self, world):
        name = names(world)[0]
        world.cold.put(name, world.cold.objects[name][0], {})
        sampled = read_sample([Pick(name, "")], world.cold, lambda: None)
        assert (sampled.unsigned, sampled.damaged) == (1, [])

    def test_what_is_gone_by_then_is_left_to_the_comparison(self, world):
        sampled = read_sample([Pick(keys.segment_name("2026-01-01", "gone"), "")], world.cold, lambda: None)
        assert sampled.damaged == []


def test_a_listing_follows_every_page() -> None:
    class TwoAtATime:
        def list_objects_v2(self, **request: Any) -> dict[str, Any]:
            assert (request["Bucket"], request["Prefix"]) == ("b", SEGMENT_PREFIX)
            first = int(request.get("ContinuationToken", 0))
            at = datetime.fromtimestamp(NOW_S, UTC)
            page = [
                {"Key": f"{number}", "Size": number, "ETag": f'"e{number}"', "LastModified": at}
                for number in range(first, min(first + 2, 5))
            ]
            if first + 2 >= 5:
                return {"Contents": page, "IsTruncated": False}
            return {"Contents": page, "IsTruncated": True, "NextContinuationToken": str(first + 2)}

    assert list(listing(TwoAtATime(), "b")) == [Listed(f"{n}", n, f"e{n}", NOW_S) for n in range(5)]
