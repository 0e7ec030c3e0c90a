"""Compaction at every crash point, and everything else at every moment of it: answers stay, nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from ingest import compact as compaction
from ingest import compact_plan, keys, segment, segment_write
from ingest.stores import Segment, Superseded
from ingest.stores.catalog_entry import encode_entry, key_of, superseding
from ingest.stores.memory import MemoryCatalog
from tests.model import compaction as model
from tests.model import crash_queries as queries
from tests.model.crash import Broken, Gate, every_interruption, every_pair, every_point
from tests.model.crash_cases import remembered
from tests.model.crash_world import Deployment


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits so small that a few readings meet them: a part for each sensor."""
    monkeypatch.setattr(segment_write, "ROWS_PER_GROUP", 3)
    monkeypatch.setattr(compact_plan, "VALUES_PER_SEGMENT", 5)
    monkeypatch.setattr(segment, "encode", remembered(segment.encode))
    monkeypatch.setattr(Deployment, "sources", model.paged_sources)


@pytest.mark.parametrize("name", model.FLOWS)
def test_cut_at_every_call(name: str) -> None:
    make, least, least_pairs = model.FLOWS[name]
    assert every_point(make()).points >= least
    assert every_pair(make()).points >= least_pairs


def interrupt(step: Callable[[Deployment, Gate], None], act: Callable[[Deployment], None], start: Any) -> int:
    def whole(world: Deployment, gate: Gate) -> None:
        step(world, gate)
        world.check("cold")
        model.comes_to_rest(world)

    return every_interruption(start(), whole, act)


@pytest.mark.parametrize("act", model.MEANWHILE)
@pytest.mark.parametrize("step", model.steps(["compaction", "the index door", "reindexing"]))
def test_something_happens_at_every_moment(step: str, act: str) -> None:
    for start in (model.small_segments, model.long_compacted):
        assert interrupt(model.steps([step])[step], model.MEANWHILE[act], start) > 3


@pytest.fixture(params=["new names come first", "new names come last"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing in pages meets the old entries before the new ones, or the other way round."""
    names_sort("0" if "first" in request.param else "z", monkeypatch)


def names_sort(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = keys.compacted_digest
    monkeypatch.setattr(keys, "compacted_digest", lambda *given: first + digest(*given)[1:])


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("asked", queries.QUERIES)
def test_a_query_at_every_moment(asked: str) -> None:
    """Also where superseded objects go at once: the reader goes back to the catalog."""
    for start in (model.small_segments, model.long_compacted):
        for act in (
            model.compact,
            model.compact_and_delete,
            model.go_further,
            model.reindex,
            model.tell_of_all,
        ):
            assert every_interruption(start(), queries.QUERIES[asked], act) >= 3


def test_a_compaction_while_chunks_are_in_both_tiers() -> None:
    for start in queries.WORLDS.values():
        world = start()
        world.archive(queries.removes(queries.SLOTS))
        for asked in queries.QUERIES.values():
            every_interruption(world, asked, model.compact_at_once)


# --- broken designs -----------------------------------------------------------------------

_compact_group, _parts_of = compaction._compact_group, compaction.parts_of


def delete_before_the_swap(date: str, group: Sequence[Segment], work: Any, done: Any) -> None:
    swap = work.catalog.swap

    def first_delete(*given: Any) -> None:
        work.cold.delete([one.name for one in group])
        swap(*given)

    work.catalog.swap = first_delete
    _compact_group(date, group, work, done)


def swap_without_condition(
    self: MemoryCatalog,
    old: Sequence[Segment],
    new: Sequence[Segment],
    announced_s: int,
    now_s: int,
    expires_at_s: int,
) -> None:
    del announced_s
    by = [one.digest for one in new]
    for one in old:
        self.items[key_of(one)] = {**encode_entry(one, expires_at_s), **superseding(by, now_s)}
    for one in new:
        self.items[key_of(one)] = encode_entry(one, expires_at_s)


def add_whatever_comes(self: MemoryCatalog, segments: Sequence[Segment], expires_at_s: int) -> None:
    for one in segments:
        self.items[key_of(one)] = encode_entry(one, expires_at_s)


def doom_without_a_mark(self: MemoryCatalog, entry: Superseded) -> bool:
    return self.look_up(entry.date, entry.digest) is not None


def only_what_is_listed(read: Any) -> list[Segment]:
    return [entry for entry in read() if isinstance(entry, Segment)]


def point(name: str) -> Callable[[], object]:
    return lambda: every_point(model.FLOWS[name][0]())


def race(step: str, act: str, start: Any = model.small_segments) -> Callable[[], object]:
    return lambda: interrupt(model.steps([step])[step], model.MEANWHILE[act], start)


def asked(query: str, act: Callable[[Deployment], None]) -> Callable[[], object]:
    return lambda: every_interruption(model.small_segments(), queries.QUERIES[query], act)


MUTANTS: dict[str, tuple[Any, str, Any, Callable[[], object]]] = {
    "the old objects go before the swap": (
        compaction,
        "_compact_group",
        delete_before_the_swap,
        point("compact"),
    ),
    "the swap has no condition": (
        MemoryCatalog,
        "swap",
        swap_without_condition,
        race("compaction", "others go further"),
    ),
    "late events catalog what is superseded": (
        MemoryCatalog,
        "add",
        add_whatever_comes,
        race("the index door", "others go further"),
    ),
    "a deletion leaves no mark before": (
        MemoryCatalog,
        "doom",
        doom_without_a_mark,
        race("compaction", "the grace passes and all superseded is deleted"),
    ),
    "a torn listing is taken as it is": (
        model,
        "visible",
        only_what_is_listed,
        asked("whole", model.compact),
    ),
    "objects are not announced": (MemoryCatalog, "announce", model.nothing, point("compact")),
    "the name forgets the part": (
        keys,
        "compacted_digest",
        lambda inputs, part: keys._digest([*sorted(inputs)], 20),
        point("compact"),
    ),
    "the last part is left out": (
        compaction,
        "parts_of",
        lambda groups: _parts_of(groups)[:-1],
        point("compact"),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_design_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place, attribute, instead, enumeration = MUTANTS[name]
    names_sort("0", monkeypatch)
    monkeypatch.setattr(place, attribute, instead)
    with pytest.raises((Broken, AssertionError)):
        enumeration()
