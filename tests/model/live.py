"""One seed lived through, and what there is to say of it: counts, or a failure with the shortest trace found."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from tests.model.fixes import refusing_until
from tests.model.segments import small_limits
from tests.model.world import STEPS, World

SHOWN = 40
SHRINK_RUNS = 150


@dataclass(slots=True)
class Lived:
    """What a seed came to. `failure` is empty where every promise held; `trace` is how it came about."""

    seed: int
    readings: int = 0
    queries: int = 0
    segments: int = 0
    swaps: int = 0
    deleted: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    failure: str = ""
    trace: list[str] = field(default_factory=list[str])


def live(
    seed: int, steps: Collection[int] | None = None, quiet: Collection[int] = (), *, keep_trace: bool = False
) -> Lived:
    """Live through a seed: all of it, or `steps` alone, with nothing going wrong in the `quiet` ones.

    Objects are Parquet in every eighth seed, read by the library's own ranged reader in every
    thirty-second, in the others decoded once: a tenth of a second of pyarrow per seed would leave little for faults.
    """
    world = World(seed, steps, quiet)
    objects = "plain" if seed % 8 else "remembered" if seed % 32 else "read"
    with small_limits(objects), refusing_until(lambda: world.operators.fixed):
        lived = Lived(seed)
        try:
            world.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed is told
            lived.failure = f"{type(error).__name__}: {error}"
        if lived.failure or keep_trace:
            lived.trace = world.history
        lived.readings = world.oracle.readings
        lived.queries = world.readers.queries
        lived.segments = len(world.objects)
        lived.swaps, lived.deleted = world.compactor.swaps, world.compactor.deleted
        lived.faults = world.faults.counts
    return lived


def quieten() -> None:
    """Collect garbage seldom: what a seed leaves behind is freed by counting."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 100)


def kind_of(failure: str) -> str:
    """What of a failure must stay the same while it is made shorter: the promise that broke."""
    return failure.removeprefix("AssertionError: ").partition(":")[0]


@dataclass(slots=True)
class Shrunk:
    """The shortest way found to the same failure: the steps it takes, those of them without faults."""

    seed: int
    steps: list[int]
    quiet: list[int]
    lived: Lived
    runs: int

    @property
    def command(self) -> str:
        """What replays it."""
        quiet = f" QUIET={written(self.quiet)}" if self.quiet else ""
        return f"SEED={self.seed} STEPS={written(self.steps)}{quiet} make sim"


def shrink(failed: Lived, run: Callable[..., Lived] = live, most_runs: int = SHRINK_RUNS) -> Shrunk:
    """Leave out steps, by halves and then smaller stretches, and then faults, as long as the same promise breaks.

    After "Simplifying and Isolating Failure-Inducing Input" (Zeller and Hildebrandt, 2002).
    """
    kind = kind_of(failed.failure)
    best = Shrunk(failed.seed, list(range(STEPS)), [], failed, 0)

    def still(steps: Sequence[int], quiet: Sequence[int]) -> bool:
        best.runs += 1
        lived = run(failed.seed, steps, quiet)
        if kind_of(lived.failure) != kind:
            return False
        best.steps, best.quiet, best.lived = list(steps), list(quiet), lived
        return True

    size = STEPS // 2
    while size and best.runs < most_runs:
        start = len(best.steps) - size
        while start > -size and best.runs < most_runs:
            low = max(0, start)
            still(best.steps[:low] + best.steps[start + size :], [])
            start -= size
        size //= 2
    for step in list(best.steps):
        if best.runs >= most_runs:
            break
        still(best.steps, [*best.quiet, step])
    return best


def told(shrunk: Shrunk, failed: Lived) -> str:
    """The failure as a person reads it."""
    lines = [
        f"seed {shrunk.seed}: {failed.failure}",
        f"replay: SEED={shrunk.seed} make sim",
        f"shortest found in {shrunk.runs} runs, {len(shrunk.steps)} of {STEPS} steps: {shrunk.lived.failure}",
        f"replay: {shrunk.command}",
        "step, seconds since the start, what happened (indented: meanwhile):",
        *shrunk.lived.trace[-SHOWN:],
    ]
    return "\n".join(lines)


def written(numbers: Sequence[int]) -> str:
    """Numbers as ranges: `3,9,20-31`."""
    parts: list[str] = []
    ordered = sorted(numbers)
    start = 0
    for place in range(1, len(ordered) + 1):
        if place == len(ordered) or ordered[place] != ordered[place - 1] + 1:
            first, last = ordered[start], ordered[place - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = place
    return ",".join(parts)


def parsed(text: str) -> list[int]:
    """The inverse of `written`. Raises ValueError."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return numbers
