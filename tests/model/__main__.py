"""`python -m tests.model`: many seeds on every core, with counts; or one seed, replayed; or no end."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tests.model.faults import FATES
from tests.model.live import Lived, kind_of, live, parsed, quieten, shrink, told
from tests.model.world import STEPS

SEEDS = 1_000
CHUNK = 5
LEAST_SEEDS = 1_000
LEAST_PER_CLASS = 10_000
LOST, DOUBLED, VANISHED = "lost", "doubled", "vanished"
PROMISES = {"I1": LOST, "I2": DOUBLED, "I2/I7": DOUBLED, "I1/I3": VANISHED, "I4": LOST}
"""What a broken promise counts as."""


@dataclass(slots=True)
class Totals:
    """What all seeds came to."""

    seeds: int = 0
    readings: int = 0
    queries: int = 0
    segments: int = 0
    faults: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    broken: Counter[str] = field(default_factory=Counter[str])

    def add(self, lived: Lived) -> None:
        """Count a seed."""
        self.seeds += 1
        self.readings += lived.readings
        self.queries += lived.queries
        self.segments += lived.segments
        self.faults += lived.faults
        if lived.failure:
            self.broken[PROMISES.get(kind_of(lived.failure), "other")] += 1

    def line(self) -> str:
        """The last line."""
        counts = " ".join(f"{name}={self.broken[name]}" for name in (LOST, DOUBLED, VANISHED))
        other = f" other={self.broken['other']}" if self.broken["other"] else ""
        return f"simulation: seeds={self.seeds} readings={self.readings} faults={self.faults.total()} {counts}{other}"


def table(faults: Counter[tuple[str, str]]) -> Iterator[str]:
    """Faults by call and fate, with their sums."""
    calls = sorted({call for call, _ in faults})
    yield f"{'call':<16}" + "".join(f"{fate:>15}" for fate in (*FATES, "in all"))
    for call in calls:
        counts = [faults[call, fate] for fate in FATES]
        yield f"{call:<16}" + "".join(f"{count:>15,}" for count in (*counts, sum(counts)))
    sums = [sum(faults[call, fate] for call in calls) for fate in FATES]
    yield f"{'in all':<16}" + "".join(f"{count:>15,}" for count in (*sums, sum(sums)))


def thin_classes(faults: Counter[tuple[str, str]]) -> list[str]:
    """Calls and fates that were met less often than they should be in a full run."""
    by_class: Counter[str] = Counter()
    for (call, fate), count in faults.items():
        by_class[call] += count
        by_class[fate] += count
    return [f"{name} {count:,}" for name, count in sorted(by_class.items()) if count < LEAST_PER_CLASS]


def many(seeds: Iterable[int], processes: int, totals: Totals) -> bool:
    """Live through the seeds until one breaks a promise: whether none did."""
    began_s = time.monotonic()
    shown_s = 0.0
    with multiprocessing.get_context("spawn").Pool(processes, quieten) as pool:
        for lived in pool.imap_unordered(live, seeds, chunksize=CHUNK):
            totals.add(lived)
            if lived.failure:
                pool.terminate()
                sys.stdout.write(f"\n{told(shrink(lived), lived)}\n")
                return False
            now_s = time.monotonic()
            if now_s - shown_s > (0.5 if sys.stderr.isatty() else 15):
                shown_s = now_s
                end = "\r" if sys.stderr.isatty() else "\n"
                sys.stderr.write(f"{totals.seeds:,} seeds, {now_s - began_s:.0f} s{end}")
                sys.stderr.flush()
    return True


def one(seed: int, steps: list[int] | None, quiet: list[int]) -> int:
    """Replay a seed and tell its whole story."""
    lived = live(seed, steps, quiet, keep_trace=True)
    sys.stdout.write("\n".join([*lived.trace, ""]))
    totals = Totals()
    totals.add(lived)
    sys.stdout.write("\n".join([*table(lived.faults), ""]))
    if lived.failure:
        sys.stdout.write(f"seed {seed}: {lived.failure}\n")
    sys.stdout.write(f"{totals.line()}\n")
    return 1 if lived.failure else 0


def main() -> int:
    """What the arguments and SEED, STEPS, QUIET ask for."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many seeds (default {SEEDS:,})")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--forever", action="store_true", help="seed after seed until one fails or Ctrl-C")
    parser.add_argument("--processes", type=int, default=max(2, os.cpu_count() or 2))
    asked = parser.parse_args()
    if "SEED" in os.environ:
        steps = parsed(os.environ["STEPS"]) if "STEPS" in os.environ else None
        return one(int(os.environ["SEED"]), steps, parsed(os.environ.get("QUIET", "")))
    totals = Totals()
    first = asked.first
    try:
        held = many(range(first, first + asked.seeds), asked.processes, totals)
        while asked.forever and held:
            sys.stdout.write(f"{totals.line()}\n")
            sys.stdout.flush()
            first += asked.seeds
            held = many(range(first, first + asked.seeds), asked.processes, totals)
    except KeyboardInterrupt:
        held = True
    failed = not held
    sys.stdout.write("\n".join(["", *table(totals.faults), ""]))
    sys.stdout.write(
        f"{totals.queries:,} queries checked, {totals.segments:,} segments, {STEPS} steps a seed\n"
    )
    if thin := thin_classes(totals.faults) if totals.seeds >= LEAST_SEEDS else []:
        sys.stdout.write(f"met fewer than {LEAST_PER_CLASS:,} times: {', '.join(thin)}\n")
        failed = True
    sys.stdout.write(f"{totals.line()}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
