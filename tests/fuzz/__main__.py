"""The command line of fuzzing: `python -m tests.fuzz --payloads 1000000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.run import Run, run, some

FOLDER = Path("build/fuzz")
"""Where the payloads of failures are kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, and say what came of it: 0 where everything holds, else 1."""
    asked = _parser().parse_args(arguments)
    if asked.batch is not None:
        done = some(asked.seed, [asked.batch])
    else:
        done = run(asked.payloads, asked.seed, asked.processes, lambda now: _progress(now, asked.payloads))
        sys.stderr.write("\n")
    tally = done.tally
    sys.stdout.write(_listed("payloads", tally.kinds) + _listed("rejects", tally.reasons))
    for failure in done.failures:
        sys.stderr.write(
            f"seed {failure.seed}, batch {failure.batch}: {failure.what}\n"
            f"  {len(failure.records)} records shown in {failure.keep(FOLDER)}; to see it again:\n"
            f"  python -m tests.fuzz --seed {failure.seed} --batch {failure.batch}\n"
        )
    sys.stdout.write(
        f"fuzz: payloads={tally.payloads} accepted={tally.accepted} rejected={tally.rejected} "
        f"slowest_ms={tally.slowest_ms:.1f} failures={len(done.failures)}\n"
    )
    return 1 if done.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--payloads", type=int, default=1_000_000, help="how many, at least (1000000)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same payloads (1)")
    parser.add_argument("--processes", type=int, default=2, help="how many share the work (2)")
    parser.add_argument("--batch", type=int, help="only this batch of the run, to see a failure again")
    return parser


def _progress(done: Run, asked: int) -> None:
    sys.stderr.write(f"\rfuzz: {done.tally.payloads:,} of {asked:,} payloads, {len(done.failures)} failures")
    sys.stderr.flush()


def _listed(what: str, counts: Counter[str]) -> str:
    return "".join(f"{what:9} {count:9,}  {name}\n" for name, count in counts.most_common())


if __name__ == "__main__":
    sys.exit(main())
