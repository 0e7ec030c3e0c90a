"""Broken designs of compaction, each a few lines in the place of the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ingest import compact
from ingest.reading import Run, merge
from ingest.stores import Segment
from ingest.stores.memory import MemoryCatalog
from tests.model import memory_stores
from tests.model.mutant import Mutant

_compact_group, _parts_of, _merge = compact._compact_group, compact.parts_of, merge


def old_objects_go_before_the_swap(date: str, group: Sequence[Segment], work: Any, done: Any) -> None:
    catalog: Any = Before(work.catalog, lambda: work.cold.delete([one.name for one in group]))
    _compact_group(date, group, replace(work, catalog=catalog), done)


class Before:
    """A catalog before whose swap something is done."""

    def __init__(self, catalog: Any, do: Any) -> None:
        self.entries, self.look_up = catalog.entries, catalog.look_up
        self.announce, self.renounce = catalog.announce, catalog.renounce
        self.catalog, self.do = catalog, do

    def swap(self, *given: Any) -> None:
        self.do()
        self.catalog.swap(*given)


def swap_in_two_steps(self: Any, old: Sequence[Segment], new: Sequence[Segment], *times: int) -> None:
    """The old ones leave the catalog, and then the new ones come."""
    self.remove(old)
    for one in new:
        self.revive(one, times[-1])


def the_last_part_is_left_out(groups: Any) -> Any:
    return _parts_of(groups)[:-1]


def only_what_is_listed(read: Any) -> list[Segment]:
    return [entry for entry in read() if isinstance(entry, Segment)]


def merged_by_position(runs: Any) -> Run:
    return _merge([replace(run, arrival_ms=place) for place, run in enumerate(runs)])


COMPACTION = [
    Mutant(
        "the old objects go before the swap", ((compact, "_compact_group"),), old_objects_go_before_the_swap
    ),
    Mutant("a swap takes two steps", ((memory_stores.FaultyCatalog, "swap"),), swap_in_two_steps),
    Mutant("a torn listing is taken as it is", ((memory_stores, "visible"),), only_what_is_listed),
    Mutant("objects are not announced", ((MemoryCatalog, "announce"),), lambda *_: None),
    Mutant("compaction merges by position", ((compact, "merge"),), merged_by_position),
    Mutant("compaction leaves the last part out", ((compact, "parts_of"),), the_last_part_is_left_out),
]
