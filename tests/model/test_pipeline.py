"""I1 to I7 under faults, many seeds; and proof that the simulation notices when a promise is broken.

`SEED=17 pytest tests/model` replays one seed. A failure shows what happened last before it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from ingest import archive, keys, query, reading, segment_write, write
from ingest.archive import Archived, Stack
from ingest.errors import Unavailable
from ingest.item import Item
from ingest.keys import US, Key, Layout, Period
from ingest.manifest import Manifest
from ingest.plan import Query
from ingest.query import Answer, Sources
from ingest.reading import EARLIEST_US, Span
from ingest.stores import HotStore, RemainingMs, Segment
from ingest.stores.catalog import select_segments
from tests.model.world import World

SEEDS = 60
SEEDS_FOR_A_MUTANT = 60
SHOWN = 60


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that a few readings meet them; one encoding tried per segment."""
    monkeypatch.setattr(write, "MOST_VALUES_AT_ONCE", 100)
    monkeypatch.setattr(archive, "CHUNKS_PER_ROUND", 4)
    monkeypatch.setattr(archive, "CHUNKS_PER_READ", 3)
    monkeypatch.setattr(archive, "VALUES_PER_SEGMENT", 25)
    monkeypatch.setattr(segment_write, "_VALUE_ENCODINGS", ("PLAIN",))


def live(seed: int) -> World:
    """The seed's world after its end. A failure says how to see it again."""
    world = World(seed)
    try:
        world.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed is told
        last = "\n".join(world.history[-SHOWN:])
        pytest.fail(
            f"seed {seed}: {type(error).__name__}: {error}\nreplay: SEED={seed} pytest tests/model\n{last}"
        )
    return world


def seeds() -> list[int]:
    """One, if SEED names it."""
    return [int(os.environ["SEED"])] if "SEED" in os.environ else list(range(SEEDS))


def test_every_promise_holds_under_every_seed(capsys: pytest.CaptureFixture[str]) -> None:
    worlds = [live(seed) for seed in seeds()]
    told = (
        f"{len(worlds)} seeds: {sum(world.readings for world in worlds)} readings, "
        f"{sum(world.faults.met for world in worlds)} faults, {sum(world.queries for world in worlds)} queries, "
        f"{sum(len(world.cold.objects) for world in worlds)} segments"
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")
    assert all(world.readings and world.queries for world in worlds)


def test_a_seed_always_tells_the_same_story() -> None:
    assert live(3).history == live(3).history


# --- broken on purpose ------------------------------------------------------------------

_put_in_order, _archive_manifests, _answer = write._put_in_order, archive._archive_manifests, query.answer


def manifests_go_first(manifests: Sequence[Manifest], stack: Stack, done: Archived) -> None:
    stack.hot.delete([manifest.key for manifest in manifests])
    _archive_manifests(manifests, stack, done)


def chunks_come_first(
    by_slot: dict[int, list[Item]], batch: str, now_s: int, hot: HotStore, left: RemainingMs
):
    hot.put([chunk for chunks in by_slot.values() for chunk in chunks], left)
    return _put_in_order(by_slot, batch, now_s, hot, left)


def failures_are_swallowed(by_slot: dict[int, list[Item]], batch: str, now_s: int, hot: HotStore, left: Any):
    try:
        return _put_in_order(by_slot, batch, now_s, hot, left)
    except Unavailable:
        return 0.0


def expires_before_its_slot(bucket_end_s: int, now_s: int, period: Period) -> int:
    return max(bucket_end_s, now_s) + period.archive_after_s // 2


def border_of_the_layout_in_force(self: Layout, now_s: float) -> int:
    return int((now_s - self.at(now_s).hot_retention_s) * US)


def border_without_its_bucket(self: Layout, now_s: float) -> int:
    return int((now_s - self.shortest_hot_s - self.widest_bucket_s) * US)


class Listed:
    """A catalog as it was a moment ago."""

    def __init__(self, segments: list[Segment]) -> None:
        self.segments = segments

    def find(self, span: Span, sensor_id: str | None = None) -> list[Segment]:
        return select_segments(self.segments, span, sensor_id)


def hot_is_read_last(asked: Query, sources: Sources, now_s: float) -> Answer:
    listed: Any = Listed(sources.catalog.find(Span(EARLIEST_US, 1 << 60)))
    return _answer(asked, replace(sources, catalog=listed), now_s)


def digest_of_the_first(chunks: Iterable[Key]) -> str:
    return keys._digest([part for key in sorted(chunks)[:1] for part in key], 20)


def nothing_is_waited_for(manifest: Manifest, present: set[Key], stack: Stack, done: Archived) -> bool:
    return True


MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "manifests are deleted before their segments are catalogued": (
        archive,
        "_archive_manifests",
        manifests_go_first,
    ),
    "chunks are written before their manifests": (write, "_put_in_order", chunks_come_first),
    "a failed write is not reported": (write, "_put_in_order", failures_are_swallowed),
    "a chunk expires before its slot": (keys, "expires_at_s", expires_before_its_slot),
    "the hot tier is read after the catalog": (query, "answer", hot_is_read_last),
    "values are merged by position": (reading, "_wins", lambda *_: True),
    "the border forgets older layouts": (Layout, "cold_until_us", border_of_the_layout_in_force),
    "the border is too early by a bucket": (Layout, "cold_until_us", border_without_its_bucket),
    "two segments share a name": (keys, "chunks_digest", digest_of_the_first),
    "slots are not kept findable": (write, "encode_open_slot", write.encode_ticket),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_promise_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[name])
    for seed in range(SEEDS_FOR_A_MUTANT):
        try:
            World(seed).run()
        except AssertionError:
            return
    pytest.fail(f"no seed below {SEEDS_FOR_A_MUTANT} notices that {name}")


def test_a_batch_under_another_name_each_time_is_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat then writes further chunks and segments; `merge` makes them invisible. It only costs."""
    usual = [live(seed) for seed in range(6)]
    chance = Random(0)
    monkeypatch.setattr(keys, "batch_id", lambda *_: f"{chance.getrandbits(80):020x}")
    for seed in range(len(usual)):
        live(seed)
