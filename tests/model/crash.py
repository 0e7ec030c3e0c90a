"""Crash points: every call a step makes to the outside, cut short in every way a call can end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isgeneratorfunction
from itertools import chain, combinations
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, cast

from ingest.errors import ThermoclineError, Unavailable

Kind = Literal[
    "fails before", "loses its reply", "killed before", "killed after", "fails partly", "killed partly"
]
SINGLE: tuple[Kind, ...] = ("fails before", "loses its reply", "killed before", "killed after")
PARTLY: tuple[Kind, ...] = ("fails partly", "killed partly")
READS = frozenset(
    {
        "a page of entries",
        "a page of manifests",
        "a page of read",
        "chunks",
        "find",
        "head",
        "load_layout",
        "look_up",
        "names",
        "newest",
        "open_slots",
        "read",
        "scan",
    }
)
"""Calls that leave nothing behind: a cut before or after one is a cut after the write that came before it."""
SMALL_GROUP = 4
"""Of a call that carries no more things than this, every subset is left done in its turn."""


class Killed(BaseException):
    """The process that made the call is gone; nothing in it may notice."""


class Broken(AssertionError):
    """A promise does not hold after one of the points; the message tells which."""


@dataclass(frozen=True, slots=True)
class Way:
    """How a call ends: `done` are the positions of those of its things that have happened."""

    kind: Kind
    done: tuple[int, ...]

    @property
    def kills(self) -> bool:
        """Whether its caller dies of it, rather than being told of a failure."""
        return self.kind.startswith("killed")


def ways(size: int, *, coarse: bool = False) -> list[Way]:
    """Every way a call that carries `size` things (1: it cannot be split) can end other than well.

    Each subset of a small group, of a larger one each prefix, each single thing and all but each
    one; `coarse` leaves out all but one of the parts, for sequences of several points.
    """
    whole = tuple(range(size))
    found = [Way(kind, whole if kind in ("loses its reply", "killed after") else ()) for kind in SINGLE]
    parts: set[tuple[int, ...]] = set()
    if coarse:
        parts = {whole[: size // 2]}
        found = [way for way in found if way.kind in ("fails before", "killed after")]
    elif size <= SMALL_GROUP:
        parts = set(chain.from_iterable(combinations(whole, count) for count in range(1, size)))
    else:
        parts.update(whole[:end] for end in range(1, size))
        parts.update((one,) for one in whole)
        parts.update(tuple(other for other in whole if other != one) for one in whole)
    kinds = PARTLY[1:] if coarse else PARTLY
    return found + [Way(kind, part) for part in sorted(parts) if 0 < len(part) < size for kind in kinds]


class Gate(Protocol):
    """What stands between a caller and its stores."""

    def call(self, name: str, things: Sequence[Any], do: Callable[[Sequence[Any]], Any]) -> Any:
        """Do the things in one call, or what is to happen instead."""
        ...


@dataclass(slots=True)
class Cut:
    """Lets calls pass until call number `at` (from 0), which ends in way number `way`.

    Where that call was made, `ended` tells how it did, `name` which it was, and `last` whether there
    is no further way. A `coarse` one counts no reads.
    """

    at: int
    way: int
    coarse: bool = False
    made: int = 0
    ended: Way | None = None
    name: str = ""
    last: bool = False

    def call(self, name: str, things: Sequence[Any], do: Callable[[Sequence[Any]], Any]) -> Any:
        """Do all of the things, or as many as the way says."""
        if self.coarse and name in READS:
            return do(things)
        number, self.made = self.made, self.made + 1
        if number != self.at:
            return do(things)
        possible = ways(len(things), coarse=self.coarse)
        self.name, self.last, way = name, self.way == len(possible) - 1, possible[self.way]
        self.ended = way
        if way.done:
            do([things[position] for position in way.done])
        text = f"{name} {way.kind}"
        raise Killed(text) if way.kills else Unavailable(text)


@dataclass(slots=True)
class Interrupt:
    """Lets `act` happen once, just before call number `at`; `met` tells whether there was such a call."""

    at: int
    act: Callable[[], None]
    made: int = 0
    met: bool = False
    name: str = ""

    def call(self, name: str, things: Sequence[Any], do: Callable[[Sequence[Any]], Any]) -> Any:
        """Do the things, after the interruption where it is due."""
        number, self.made = self.made, self.made + 1
        if number == self.at:
            self.met, self.name = True, name
            self.act()
        return do(things)


@dataclass(slots=True)
class Open:
    """Lets everything pass and counts it."""

    made: int = 0

    def call(self, name: str, things: Sequence[Any], do: Callable[[Sequence[Any]], Any]) -> Any:
        """Do the things."""
        self.made += 1
        return do(things)


class Through:
    """A store behind a gate: each method call passes it, as does each page of an answer in pages.

    A first argument that is a sequence or a mapping is a group, of which a part may happen.
    """

    def __init__(self, store: Any, gate: Gate) -> None:
        self._store = store
        self._gate = gate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if isgeneratorfunction(method):
            return lambda *given: self._pages(name, method(*given))
        return lambda *given, **named: self._call(name, method, given, named)

    def _call(self, name: str, method: Any, given: Any, named: Any) -> Any:
        if not given or isinstance(given[0], str) or not isinstance(given[0], Sequence | Mapping):
            return self._gate.call(name, [None], lambda _: method(*given, **named))
        group, rest = given[0], given[1:]
        if not group:
            return method(*given, **named)
        if isinstance(group, Mapping):
            pairs = list(cast(Mapping[Any, Any], group).items())
            return self._gate.call(name, pairs, lambda some: method(dict(some), *rest, **named))
        things = list(cast(Sequence[Any], group))
        return self._gate.call(name, things, lambda some: method(some, *rest, **named))

    def _pages(self, name: str, pages: Iterator[Any]) -> Iterator[Any]:
        while (page := self._gate.call(f"a page of {name}", [None], lambda _: next(pages, None))) is not None:
            yield page


# --- enumeration ------------------------------------------------------------------------


class World(Protocol):
    """What a step works in."""

    def copy(self) -> Self:
        """The same world over again; neither sees what happens in the other."""
        ...

    def state(self) -> str:
        """All that later events can depend on, as a text."""
        ...


W = TypeVar("W", bound=World)


@dataclass(frozen=True, slots=True)
class Point(Generic[W]):
    """A world after a step that was cut at a point (`way` None: it was not); `returned` where it ended well."""

    world: W
    label: str
    way: Way | None
    returned: bool


def points(start: W, step: Callable[[W, Gate], None], *, coarse: bool = False) -> Iterator[Point[W]]:
    """The step from `start` on, cut at each of its calls in each way, and at last whole.

    What the step raises other than the cut itself, or an error the library has a name for, comes through.
    """
    at = 0
    while True:
        way = 0
        while True:
            world, gate, returned = start.copy(), Cut(at, way, coarse), False
            try:
                step(world, gate)
                returned = True
            except Killed:
                pass
            except ThermoclineError:
                if gate.ended is None:
                    raise
            if gate.ended is None:
                yield Point(world, "not cut", None, returned)
                return
            label = f"call {at} ({gate.name}) {gate.ended.kind} {list(gate.ended.done)}"
            yield Point(world, label, gate.ended, returned)
            if gate.last:
                break
            way += 1
        at += 1


@dataclass(slots=True)
class Met:
    """What an enumeration went through: points, and how often a call ended in each way."""

    points: int = 0
    kinds: Counter[str] = field(default_factory=Counter[str])

    def note(self, way: Way | None) -> None:
        """Count a point."""
        if way is not None:
            self.points += 1
            self.kinds[way.kind] += 1


@dataclass(frozen=True, slots=True)
class Flow(Generic[W]):
    """A step, what holds once it has ended well, what holds whatever became of it, and how it may go on.

    Each recovery is a course of events after the crash that ends at rest and checks what holds there.
    """

    name: str
    start: Callable[[], W]
    step: Callable[[W, Gate], None]
    done: Callable[[W], None]
    check: Callable[[W], None]
    recoveries: Mapping[str, Callable[[W], None]]
    seen: set[str] = field(default_factory=set[str])
    """Worlds whose futures were tried: points that leave the same behind have the same future."""


def every_point(flow: Flow[W]) -> Met:
    """Cut the flow at every point, check at once, and again after each recovery. Raises Broken."""
    met = Met()
    for point in points(flow.start(), flow.step):
        _after(flow, point, point.label)
        met.note(point.way)
    return met


def every_pair(flow: Flow[W]) -> Met:
    """As `every_point`, the step being begun again after the first cut and cut a second time.

    First cuts that leave the same behind are gone on from once. Raises Broken.
    """
    met = Met()
    begun: set[str] = set()
    for first in points(flow.start(), flow.step, coarse=True):
        _hold(flow, first, first.label)
        if first.way is None or first.world.state() in begun:
            continue
        begun.add(first.world.state())
        for second in points(first.world, flow.step, coarse=True):
            _after(flow, second, f"{first.label}, then {second.label}")
            met.note(second.way)
    return met


def every_interruption(start: W, step: Callable[[W, Gate], None], act: Callable[[W], None]) -> int:
    """The step from `start` on, once for each of its calls, `act` happening just before that call: how many."""
    at = 0
    while True:
        world = start.copy()
        gate = Interrupt(at, lambda world=world: act(world))
        try:
            step(world, gate)
        except (AssertionError, ThermoclineError) as error:
            raise Broken(f"interrupted before call {at} ({gate.name}): {error}") from error
        if not gate.met:
            return at
        at += 1


def _hold(flow: Flow[W], point: Point[W], label: str) -> None:
    try:
        if point.returned:
            flow.done(point.world)
        flow.check(point.world)
    except (AssertionError, ThermoclineError) as error:
        raise Broken(f"{flow.name}: {label}; at once: {error}") from error


def _after(flow: Flow[W], point: Point[W], label: str) -> None:
    _hold(flow, point, label)
    state = point.world.state()
    if state in flow.seen:
        return
    flow.seen.add(state)
    for name, recover in flow.recoveries.items():
        try:
            recover(point.world.copy())
        except (AssertionError, ThermoclineError) as error:
            raise Broken(f"{flow.name}: {label}; then {name}: {error}") from error
