"""What a row of the table is, and how two sides are timed against each other inside one run."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the table.

    `value` is in `unit`; `against` says in words what it is compared with. `goal` is the
    issue's text for it and `met` whether this run met it; both None where there is none.
    `spread` holds the least and greatest value of the rounds, `numbers` what the value was made from.
    """

    figure: str
    value: float
    unit: str
    against: str
    goal: str | None = None
    met: bool | None = None
    spread: tuple[float, float] | None = None
    numbers: dict[str, float] = field(default_factory=dict[str, float])

    def as_json(self) -> dict[str, Any]:
        """The row as it stands in results.json, rounded to what a reader can use."""
        plain = asdict(self) | {"value": rounded(self.value)}
        plain["spread"] = None if self.spread is None else [rounded(bound) for bound in self.spread]
        plain["numbers"] = {name: rounded(number) for name, number in self.numbers.items()}
        return plain


@dataclass(frozen=True, slots=True)
class Paired:
    """Seconds of two sides that took turns, one pair per round."""

    ours_s: list[float]
    usual_s: list[float]

    def ratio(self, ours_work: float = 1, usual_work: float = 1) -> tuple[float, tuple[float, float]]:
        """How many times faster ours is: the median over the rounds, and the least and greatest.

        `ours_work` and `usual_work` are what one measurement of each side did.
        """
        ratios = [
            (ours_work / ours_s) / (usual_work / usual_s)
            for ours_s, usual_s in zip(self.ours_s, self.usual_s, strict=True)
        ]
        return median(ratios), (min(ratios), max(ratios))

    @property
    def ours_median_s(self) -> float:
        """The median of our side."""
        return median(self.ours_s)

    @property
    def usual_median_s(self) -> float:
        """The median of the other side."""
        return median(self.usual_s)


def take_turns(
    ours: Callable[[], object], usual: Callable[[], object], rounds: int, repeat: int = 1
) -> Paired:
    """CPU seconds (user and system, all threads of this process) of both sides, `rounds` times in turn.

    Ours is called `repeat` times in a row and divided, where one call is too short to time. Each
    side is called once before, unmeasured.
    """
    ours()
    usual()
    ours_s: list[float] = []
    usual_s: list[float] = []
    for _ in range(rounds):
        ours_s.append(cpu_s(lambda: [ours() for _ in range(repeat)]) / repeat)
        usual_s.append(cpu_s(usual))
    return Paired(ours_s, usual_s)


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds the call takes. Garbage of earlier work is collected first, and stays out of it."""
    gc.collect()
    gc.freeze()
    began_s = time.process_time()
    work()
    spent_s = time.process_time() - began_s
    gc.unfreeze()
    return spent_s


@contextmanager
def on_one_core(others: Sequence[int] = ()) -> Generator[None]:
    """Keep this process on one core and the named processes off it, where the system can do that."""
    if sys.platform != "linux":
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[:1])
        for pid in others:
            os.sched_setaffinity(pid, cores[1:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def rounded(number: float) -> int | float:
    """Three significant digits below 1,000, whole numbers above."""
    short = float(f"{number:.3g}") if abs(number) < 1_000 else float(round(number))
    return int(short) if short.is_integer() else short
