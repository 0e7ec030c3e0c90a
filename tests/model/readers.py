"""Who asks in the simulation: queries whole and in pages, the newest reading, and everything at rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ingest import query
from ingest.keys import DAY_S, US
from ingest.plan import Query, Tier
from ingest.query import Sources
from ingest.reading import Run, Span, merge

if TYPE_CHECKING:
    from tests.model.world import World

HOUR_S = 3600
COMPACTED_MEANWHILE = 0.02
"""In so many of the queries everything is compacted, and the old objects go, between two of their calls."""
PATIENCE_S = 2 * HOUR_S
"""How long a reader may take: the plan leaves it half of the margin."""


class Readers:
    """Asks, and holds every answer against the oracle."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.queries = 0

    def _sources(self, door: str) -> Sources:
        world = self._world
        return Sources(world.hot, world.catalog, world.cold, world.layout(door), lambda: world.now_s)

    def ask(self) -> None:
        """A query: what is about to expire or just did, or anything; whole or in pages; both tiers or one."""
        world = self._world
        rng, background = world.rng, world.background
        leaving = background.about_to_leave(0.9 * PATIENCE_S) if background.archiver_down else None
        expires_s = 0.0
        if leaving is not None:
            expires_s, sensor_id, first_us = leaving
            span = Span(first_us, first_us + DAY_S * US)
        elif background.just_left is not None and rng.random() < 0.5:
            sensor_id, first_us = background.just_left
            span = Span(first_us, first_us + rng.choice([HOUR_S, DAY_S]) * US)
            background.just_left = None
        else:
            sensor_id = rng.choice(world.sensors)
            start_us = int(world.now_s - rng.choice([HOUR_S, 5 * HOUR_S, 12 * HOUR_S, 4 * DAY_S])) * US
            span = Span(start_us, start_us + rng.choice([HOUR_S, 8 * HOUR_S, 5 * DAY_S]) * US)
            known = list(world.oracle.sent.get(sensor_id, ()))
            if known and rng.random() < 0.4:
                span = Span(*sorted([rng.choice(known)[0], rng.choice(known)[0]]))
        tiers: tuple[Tier, ...] = ("auto", "auto", "auto", "auto", "auto", "auto", "hot", "cold")
        tier = rng.choice(tiers) if leaving is None else "auto"
        limit = rng.choice([None, None, None, 1, 7, 40])
        asked = Query(sensor_id, span, rng.choice([(), (), ("a",)]), tier=tier, limit=limit)
        if leaving is not None:
            self.put_question(asked, rng.randint(2, 8), lambda _: background.leave_meanwhile(expires_s))
        elif tier != "hot" and rng.random() < COMPACTED_MEANWHILE:
            self.put_question(asked, rng.randint(4, 20), world.compactor.meanwhile)
        else:
            self.put_question(asked)

    def put_question(
        self, asked: Query, ambush_at: int = 0, ambush: Callable[[float], None] | None = None
    ) -> None:
        """Ask, and check what comes back. Around call number `ambush_at` something is done."""
        world = self._world
        due = world.oracle.due(asked.sensor_id)
        answered = world.act(
            f"query {asked}",
            lambda _: self._pages(asked),
            PATIENCE_S,
            kill=0.0 if ambush_at else 0.005,
            ease=0.3 if ambush_at else 0.8,
            ambush_at=ambush_at,
            ambush=ambush,
        )
        if answered is not None:
            self.queries += 1
            world.oracle.check(asked, due, answered[0], whole=asked.tier == "auto")

    def _pages(self, asked: Query) -> tuple[Run | None]:
        """Up to some pages of the answer as one run, in a tuple."""
        runs: list[Run] = []
        whole = asked.span
        for number in range(1, 10_000):
            if asked.limit is not None and number > 4:  # the rest in one go
                asked = replace(asked, limit=None)
            found = query.answer(asked, self._sources("query"), self._world.skewed_s())
            if found.run is not None:
                assert asked.limit is None or len(found.run.ts_us) <= asked.limit, "I7: a page is too long"
                assert not runs or runs[-1].ts_us[-1] < found.run.ts_us[0], "I7: a page goes back"
                runs.append(found.run)
            if found.next_us is None:
                return (merge(runs) if runs else None,)
            assert whole.start_us < found.next_us < whole.end_us, "I7: the next page lies outside the span"
            asked = replace(asked, span=Span(found.next_us, asked.span.end_us))
        raise AssertionError("I5: an answer without end")

    def latest(self) -> None:
        """The newest reading of a sensor is as new as any that has to be there."""
        world = self._world
        sensor_id = world.rng.choice(world.sensors)
        due = world.oracle.due(sensor_id)
        answered = world.act(
            f"latest {sensor_id}",
            lambda _: (query.latest(sensor_id, self._sources("query"), world.skewed_s()),),
        )
        if answered is not None and due:
            (run,) = answered
            assert run is not None, "I1: latest finds nothing"
            newest_us = max(ts_us for ts_us, _ in due)
            assert run.ts_us[0] >= newest_us, "I1: latest is older than what is stored"
            world.oracle.check(Query(sensor_id, Span(run.ts_us[0], run.ts_us[0] + 1)), due, run)

    def at_rest(self) -> None:
        """Every answer is whole and final, from both tiers."""
        world = self._world
        everything = Span(int(world.began_s) * US - 9 * DAY_S * US, int(world.now_s + DAY_S) * US)
        for sensor_id in sorted(world.oracle.sent):
            for tier in ("auto", "cold"):
                asked = Query(sensor_id, everything, tier=tier)
                run = query.answer(asked, self._sources("cli"), world.now_s).run
                world.oracle.check(asked, world.oracle.due(sensor_id), run)
                world.oracle.check_final(asked, run)
            registered = world.registry.get(sensor_id)
            assert registered is not None, f"I1: {sensor_id} is not in the registry"
