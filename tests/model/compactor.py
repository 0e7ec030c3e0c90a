"""Compaction in the simulation: at any moment, several at once, cut short, with a grace that queries outlast."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingest.archive import ALL_DATES
from ingest.compact import Compaction, compact
from ingest.compact_plan import groups_of
from ingest.stores import Holders
from ingest.stores.catalog_entry import decode_entry
from lambdas import compact_archive
from tests.model.stream import FUNCTION_S

if TYPE_CHECKING:
    from tests.model.world import Actor, World

WEIGHTS = [2, 5, 9]
GRACES_S = [0, 60, 600, 3600]
CALM_RUNS = 3


class Compactor:
    """Makes segments anew and deletes the old ones. Readers take up to two hours, and must go back to the catalog."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._grace_s = GRACES_S[world.seed % len(GRACES_S)]
        self.weight = WEIGHTS[world.seed % len(WEIGHTS)]
        self.swaps = 0
        self.deleted = 0

    def compact(self, limit_s: float = 0.0) -> bool:
        """A run of the function, or of `archive compact`, which leaves nothing that can be done; whether it did."""
        world = self._world
        limit_s = limit_s or world.rng.choice([FUNCTION_S, FUNCTION_S, 60])
        thorough = world.calm or world.rng.random() < 0.85
        done = world.act("compact", lambda actor: self._run(actor, thorough), limit_s, kill=0.01, ease=0.8)
        return bool(done)

    def _run(self, actor: Actor, thorough: bool) -> int:
        world = self._world
        skew_s = world.skewed_s() - world.now_s
        work = Compaction(
            cold=world.cold,
            catalog=world.catalog,
            layout=world.layout("compact"),
            now=lambda: world.now_s + skew_s,
            grace_s=self._grace_s,
            remaining_ms=world.remaining_ms(actor),
            thorough=thorough,
        )
        dates = list(compact(work, ALL_DATES)) if thorough else compact_archive.handle(work)
        for done in dates:
            self.swaps += done.groups
            self.deleted += done.deleted
            assert not done.damaged, f"I4: the catalog names what is not there: {done.damaged}"
            assert not done.revived, f"I4: what {done.revived} segments were made into is not catalogued"
            assert done.failed is None or not world.calm, f"I5: a compaction fails at rest: {done.failed}"
        for done in dates:
            if done.failed is not None:
                raise done.failed
        return sum(done.groups + done.deleted for done in dates)

    @property
    def has_work(self) -> bool:
        """Whether some date has several segments."""
        names = self._world.catalogued()
        return len(names) > len({name.rpartition("/")[0] for name in names})

    def meanwhile(self, _: float = 0.0) -> None:
        """All of it happens while somebody reads, and half the time what was made anew is deleted as well."""
        world = self._world
        calm, world.calm = world.calm, True
        grace_s, self._grace_s = self._grace_s, world.rng.choice([0, self._grace_s])
        self.compact(FUNCTION_S)
        world.calm, self._grace_s = calm, grace_s

    def settle(self) -> None:
        """At rest it comes to an end: nothing is left to do, and nothing superseded is kept."""
        world = self._world
        for _ in range(CALM_RUNS):
            self.compact(FUNCTION_S)
            world.now_s += self._grace_s + 1
        assert not self.compact(FUNCTION_S), "I5: compaction comes to no end"
        held = Holders(decode_entry(item) for item in world.entries.values())
        for date in {one.date for one in held.live.values()}:
            same_date = [one for one in held.live.values() if one.date == date]
            assert not groups_of(same_date, thorough=True), f"I5: {date} is not compacted"
        kept = [one.digest for one in held.superseded.values() if one.gone_s is None]
        assert not kept, f"I5: superseded, and kept: {kept[:3]}"
        gone = [one.name for one in held.live.values() if one.name not in world.objects]
        assert not gone, f"I4: the catalog names {gone[:3]}, which are not there"
