"""What people do to a deployment: other widths and retentions, releases, `rejects retry`, `archive reindex`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infra import deploy
from ingest import archive, retry
from ingest.keys import DAY_S, Period
from ingest.reading import EARLIEST_US, Span
from ingest.reject import Reject

if TYPE_CHECKING:
    from tests.model.world import Actor, World

HOUR_S = 3600
LAYOUTS = [
    (HOUR_S, 2 * HOUR_S, 9 * HOUR_S),
    (HOUR_S, 1 * HOUR_S, 6 * HOUR_S),
    (900, 2 * HOUR_S, 7 * HOUR_S),
    (6 * HOUR_S, 3 * HOUR_S, 14 * HOUR_S),
]
SHORT_LAYOUT = (HOUR_S, 120, 6 * HOUR_S)
"""Bucket, archive-after, hot retention: days in small. With the short one a slot may come due while a function
that writes for it is still at work."""


class Operators:
    """Every step may be broken off, and is then done again, by somebody else perhaps."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._layouts = [*LAYOUTS, *[SHORT_LAYOUT] * world.rng.choice([0, 1, 8])]
        self._width_s = 0
        self.fixed = False
        self.fixed_s = 0.0
        deploy._ensure_layout(world.hot, self._period(), -HOUR_S, world.clock, world.note)

    def _period(self) -> Period:
        others = [layout for layout in self._layouts if layout[0] != self._width_s]
        rng = self._world.rng
        bucket_s, archive_after_s, hot_s = rng.choice(others if rng.random() < 0.7 else self._layouts)
        self._width_s = bucket_s
        return Period(0, bucket_s, archive_after_s, hot_s, 900 * DAY_S)

    def change_layout(self) -> None:
        """Somebody deploys with other widths and retentions; the pollers are replaced, some with work in hand."""
        world = self._world
        lead_s = deploy.LAYOUT_LEAD_S
        world.act(
            "deploy",
            lambda _: deploy._ensure_layout(world.hot, self._period(), lead_s, world.clock, world.note),
        )
        world.stream.outlive()

    def fix(self) -> None:
        """A release that understands what was refused until now."""
        if not self.fixed:
            self.fixed_s = self._world.now_s
        self.fixed = True
        self._world.note("released: what was held back can be read")

    def reindex(self) -> None:
        """`archive reindex`: the catalog is rebuilt from the bucket."""
        world = self._world

        def rebuild(_: object) -> int:
            everything = world.catalog.find(Span(EARLIEST_US, 1 << 60))
            totals = archive.reindex(world.cold, world.catalog, world.layout("cli"), everything)
            return max((done.indexed for done in totals), default=0)

        world.act("reindex", rebuild)

    def retry(self) -> None:
        """`rejects retry`: batches that were given up, and rejects, go through the door again."""
        world = self._world
        world.act("replay", self._replay)
        world.act("retry", self._retry)

    def _replay(self, actor: Actor) -> int:
        world = self._world

        def invoke(event: Mapping[str, Any]) -> Mapping[str, Any]:
            return world.stream.store(event, actor)

        done = 0
        for outcome in retry.replay(world.rejects.failed_batches(), store=world.rejects, invoke=invoke):
            if outcome.result == "stored" and not isinstance(outcome.of, Reject):
                for sending in world.stream.given_up.get(outcome.of.name, []):
                    world.oracle.stored(sending.arrival_ms, sending.cells)
                done += 1
        return done

    def _retry(self, actor: Actor) -> int:
        world = self._world

        def invoke(event: Mapping[str, Any]) -> Mapping[str, Any]:
            return world.stream.store(event, actor)

        done = 0
        at_ms = int(world.now_s * 1000)
        for outcome in retry.retry(world.rejects.kept(), store=world.rejects, invoke=invoke, at_ms=at_ms):
            assert outcome.result != "failed" or not world.calm, f"I5: a retry fails at rest: {outcome.why}"
            if outcome.result == "stored" and isinstance(outcome.of, Reject):
                place = (outcome.of.sequence, outcome.of.payload)
                assert place in world.held_back, f"I1: {place} left the list, though nothing can store it"
                world.oracle.stored(*world.held_back[place])
                done += 1
        return done
