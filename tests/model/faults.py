"""The fate of every call to a service: done, refused, done with its reply lost, or the end of its caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol, TypeVar

from ingest.errors import Unavailable

T = TypeVar("T")
ATTEMPTS = 5
"""How often the client sends a call before its caller hears of a failure (`ingest.stores.connect.client`)."""
FAILED, REPLY_LOST, IN_PART = "failed", "reply lost", "left in part"
KILLED_BEFORE, KILLED_AFTER = "killed before", "killed after"
FATES = (FAILED, REPLY_LOST, IN_PART, KILLED_BEFORE, KILLED_AFTER)
RARE = {
    "change catalog": 2.4,
    "head object": 3.0,
    "keep rejects": 2.0,
    "list objects": 3.0,
    "list manifests": 2.0,
    "list slots": 2.0,
    "read chunks": 2.4,
    "read layout": 0.17,
    "read newest": 2.8,
    "store object": 3.4,
    "swap segments": 6.0,
}
"""Calls that are made seldom go wrong more often, so that each kind is met often enough."""
MOST = 0.75


class Killed(BaseException):
    """The process that made the call is gone; nothing in it may notice."""


class Around(Protocol):
    """What decides fates needs of the simulation."""

    rng: Random

    def between(self) -> None:
        """Called around every call: time passes, others act; raises Killed past the caller's deadline."""
        ...

    def hazard(self) -> tuple[float, float]:
        """How likely the present call goes wrong, and how likely it is its caller's last."""
        ...

    def page_turned(self) -> None:
        """Called between two pages of the catalog: others may act."""
        ...


class Faults:
    """Decides the fate of each call; counts what went wrong."""

    def __init__(self, around: Around) -> None:
        self._around = around
        self.counts: Counter[tuple[str, str]] = Counter()

    def call(self, what: str, do: Callable[[], T]) -> T:
        """Do it as the service's client does: sent again where it failed or its reply was lost, up to
        ATTEMPTS times, then Unavailable; so it may be done several times over, or though it seems to fail."""
        around = self._around
        for _ in range(ATTEMPTS):
            around.between()
            fate = self.fate(what)
            if fate == KILLED_BEFORE:
                raise Killed(f"before: {what}")
            if fate == FAILED:
                continue
            done = do()
            around.between()
            if fate is None:
                return done
            if fate == KILLED_AFTER:
                raise Killed(f"after: {what}")
        raise Unavailable(f"{what} failed {ATTEMPTS} times in the simulation. It will be repeated.")

    def page_turned(self) -> None:
        """Between two pages of the catalog."""
        self._around.page_turned()

    def fate(self, what: str) -> str | None:
        """What becomes of the next attempt; None where nothing happens to it."""
        rate, kill = self._around.hazard()
        if not rate:
            return None
        rng = self._around.rng
        chance = rng.random()
        rate = min(MOST, rate * RARE.get(what, 1.0))
        if chance >= rate + kill:
            return None
        if chance < kill:
            found = KILLED_BEFORE if chance < kill / 2 else KILLED_AFTER
        else:
            found = FAILED if chance < kill + rate / 2 else REPLY_LOST
        self.counts[what, found] += 1
        return found

    def part(self, what: str, count: int) -> int:
        """How many of `count` things the service takes of a call; the caller is told of the rest."""
        rate, _ = self._around.hazard()
        if not rate or self._around.rng.random() >= rate:
            return count
        self.counts[what, IN_PART] += 1
        return self._around.rng.randrange(count)

    @property
    def met(self) -> int:
        """How many calls went wrong."""
        return sum(self.counts.values())

    def shuffled(self, things: Sequence[T]) -> list[T]:
        """The things in any order; as they are where nothing is to be disturbed."""
        rate, _ = self._around.hazard()
        return self._around.rng.sample(list(things), len(things)) if rate else list(things)
