"""`python -m benchmarks.soak_packed`: packs, reads back and compares millions of points, in several processes."""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any, cast

import numpy  # noqa: ICN001 - as np it is untyped

from benchmarks import workload
from ingest import chunk, keys
from ingest.errors import Corrupt
from ingest.reading import LEAST_MAGNITUDE, MOST_MAGNITUDE, Column, Run, canonical, concat, take

np = cast(Any, numpy)
"""Overloaded beyond what types can follow."""
POINTS = 100_000_000
BLOCK_POINTS = 500_000
LENGTHS = (2, 200, 300, 600, 1_000, 3_600, 10_000)
MOST_METRICS = 5
DAMAGED = 0.1
"""Share of the packed chunks that are read a second time with one character of a Binary changed."""
START_S = workload.START_S
BATCH = "abcdefghijklmnop"
TOLD_EVERY_S = 10.0


@dataclass(slots=True)
class Done:
    """What was compared: points of packed chunks, of chunks that stayed lists, chunks, and damages seen."""

    packed_points: int = 0
    list_points: int = 0
    packed_chunks: int = 0
    packed_bytes: int = 0
    damaged: int = 0

    def add(self, other: Done) -> None:
        """Count the other's in."""
        self.packed_points += other.packed_points
        self.list_points += other.list_points
        self.packed_chunks += other.packed_chunks
        self.packed_bytes += other.packed_bytes
        self.damaged += other.damaged


# --- shapes -----------------------------------------------------------------------------

Rng = Any
"""numpy's Generator."""


def _walk(rng: Rng, count: int) -> Column:
    decimals, step = int(rng.integers(0, 7)), float(rng.choice([0.001, 0.05, 0.1, 2.0, 500.0]))
    return np.round(rng.normal(20, 5) + np.cumsum(rng.normal(0, step, count)), decimals).tolist()


def _full_precision(rng: Rng, count: int) -> Column:
    return (rng.normal(0, 1, count) * 10.0 ** int(rng.integers(-9, 12))).tolist()


def _single_precision(rng: Rng, count: int) -> Column:
    return np.cumsum(rng.normal(0, 1, count)).astype(np.float32).astype(np.float64).tolist()


def _any_bits(rng: Rng, count: int) -> Column:
    numbers = rng.integers(0, 2**64, 3 * count, np.uint64).view(np.float64)
    size = np.abs(numbers)
    kept = numbers[(size >= LEAST_MAGNITUDE) & (size <= MOST_MAGNITUDE)][:count]
    return np.resize(kept if len(kept) else np.ones(1), count).tolist()


def _counter(rng: Rng, count: int) -> Column:
    factor = int(rng.choice([1, 10, 250, 1_000_003]))
    return (int(rng.integers(0, 2**40)) + factor * np.cumsum(rng.integers(0, 9, count))).tolist()


def _wide_ints(rng: Rng, count: int) -> Column:
    bits = int(rng.integers(1, 64))
    return rng.integers(-(2**bits), 2**bits - 1, count, np.int64).tolist()


def _beyond_64_bits(rng: Rng, count: int) -> Column:
    few = min(count, 500)  # they stay a list, so a long column would make the run's chunks short
    column: Column = [int(number) * 10**18 + 7 for number in rng.integers(-(10**18), 10**18, few)]
    return (column * count)[:count]


def _ints_among_floats(rng: Rng, count: int) -> Column:
    mixed: list[float] = np.round(rng.normal(0, 9, count), 1).tolist()
    return [int(number) if number == int(number) else number for number in mixed]


def _wave(rng: Rng, count: int) -> Column:
    return np.round(np.sin(np.arange(count) / float(rng.integers(5, 900))) * 100, 3).tolist()


def _steps(rng: Rng, count: int) -> Column:
    return np.repeat(np.round(rng.normal(0, 50, count // 40 + 1), 2), 40)[:count].tolist()


def _spikes(rng: Rng, count: int) -> Column:
    return np.where(rng.random(count) < 0.01, rng.normal(0, 1e9, count), 21.5).tolist()


def _flags(rng: Rng, count: int) -> Column:
    return (rng.random(count) < float(rng.choice([0.01, 0.5]))).tolist()


def _texts(rng: Rng, count: int) -> Column:
    return np.array(["idle", "running", "", "grün"])[rng.integers(0, 4, count)].tolist()


def _real(rng: Rng, count: int) -> Column:
    series = _series()
    if not series:
        return _walk(rng, count)
    column = series[int(rng.integers(0, len(series)))]
    start = int(rng.integers(0, len(column)))
    return (column[start:] + column * (count // len(column) + 1))[:count]


SHAPES: tuple[Callable[[Rng, int], Column], ...] = (
    _walk,
    _walk,
    _full_precision,
    _single_precision,
    _any_bits,
    _counter,
    _wide_ints,
    _beyond_64_bits,
    _ints_among_floats,
    _wave,
    _steps,
    _spikes,
    _flags,
    _texts,
    _real,
    _real,
)


@cache
def _series() -> list[Column]:
    return [column for run in workload.series() for column in run.metrics.values()]


def _times(rng: Rng, count: int) -> list[int]:
    step_us = int(rng.choice([1, 1_000, 100_000, 1_000_000, 60_000_000]))
    shape = rng.choice(["grid", "jitter", "gaps", "any"])
    if shape == "jitter":
        spread_us = int(rng.choice([1, 1_000])) * int(rng.integers(1, 50))
        noise = rng.integers(-spread_us, spread_us + 1, count)
        found = np.unique(np.arange(count) * max(step_us, 1_000) + noise // 10)
        return _since_start(np.resize(found, count) if len(found) == count else np.arange(count) * step_us)
    if shape == "gaps":
        gaps = step_us * rng.choice([1, 1, 1, 1, 2, 60], count)
    elif shape == "any":
        gaps = rng.integers(1, 2 * step_us + 1, count)
    else:
        gaps = np.full(count, step_us)
    return _since_start(np.cumsum(gaps))


def _since_start(found: Any) -> list[int]:
    return (found - found[0] + START_S * keys.US).tolist()


def _run(rng: Rng) -> Run:
    low = int(rng.integers(0, len(LENGTHS) - 1))
    count = int(rng.integers(LENGTHS[low], LENGTHS[low + 1]))
    metrics: dict[str, Column] = {"steady": [1] * count}
    for place in range(int(rng.integers(1, MOST_METRICS + 1))):
        column = SHAPES[int(rng.integers(0, len(SHAPES)))](rng, count)
        if rng.random() < 0.25:
            absent = rng.random(count) < float(rng.choice([0.02, 0.5, 0.9]))
            column = [None if gone else cell for gone, cell in zip(absent.tolist(), column, strict=True)]
        if column.count(None) < count:
            metrics[f"m{place}"] = column
    return Run("soak", _times(rng, count), metrics, START_S * 1000)


# --- comparing --------------------------------------------------------------------------


def soak(seed: int, points: int) -> Done:
    """Pack random runs until so many points were compared. Raises RuntimeError at the first difference."""
    rng = np.random.default_rng(seed)
    chance = random.Random(seed)
    done = Done()
    while done.packed_points < points:
        run = _run(rng)
        found: list[Run] = []
        for item in chunk.encode(run, START_S, BATCH, 1, "packed"):
            piece = chunk.decode_item(json.loads(item.body)).run
            found.append(piece)
            values = len(piece.ts_us) * (len(piece.metrics) + 1)
            if f'"c":{{"S":"{chunk.TAGS["packed"]}"}}' not in item.body:
                done.list_points += values
                continue
            done.packed_points += values
            done.packed_chunks += 1
            done.packed_bytes += item.size_bytes
            if chance.random() < DAMAGED:
                _expect_corrupt(item.body, chance)
                done.damaged += 1
        _compare(run, found, seed)
    return done


def _compare(run: Run, found: Sequence[Run], seed: int) -> None:
    back = concat(found) if found else take(run, 0, 0)
    if (
        back.ts_us != run.ts_us
        or back.arrival_ms != run.arrival_ms
        or back.metrics.keys() != run.metrics.keys()
    ):
        raise RuntimeError(f"seed {seed}: times, arrival or names differ")
    for name, column in run.metrics.items():
        cells = back.metrics[name]
        if cells == column and {bool, str}.isdisjoint(map(type, column)):
            continue
        if list(map(_told, cells)) != list(map(_told, column)):
            raise RuntimeError(f"seed {seed}: metric {name} differs")


def _told(cell: Any) -> tuple[str, str] | None:
    if cell is None:
        return None
    kind = "text" if isinstance(cell, str) else "flag" if isinstance(cell, bool) else "number"
    return kind, canonical(cell)


_BINARY = re.compile(r'\{"B":"([^"]+)"\}')
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def _expect_corrupt(body: str, chance: random.Random) -> None:
    """Change one character of one Binary: reading must fail."""
    start, end = chance.choice([match.span(1) for match in _BINARY.finditer(body)])
    place = chance.randrange(start, max(start + 1, end - 4))  # the last ones may be padding
    other = chance.choice(_BASE64.replace(body[place], ""))
    try:
        chunk.decode_item(json.loads(body[:place] + other + body[place + 1 :]))
    except Corrupt:
        return
    raise RuntimeError(f"a changed character at {place} of a packed chunk was read without complaint")


# --- many processes ---------------------------------------------------------------------


def main() -> None:
    """Soak, with progress; the last line is JSON. Exits with an error at the first difference."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_packed", description=main.__doc__)
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--processes", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    blocks = -(-asked.points // BLOCK_POINTS)
    began_s = told_s = time.monotonic()
    done = Done()
    with ProcessPoolExecutor(asked.processes) as pool:
        waiting: set[Future[Done]] = set()
        for block in accumulate([1] * blocks, initial=0):
            if block < blocks:
                waiting.add(pool.submit(soak, asked.seed * 1_000_000 + block, BLOCK_POINTS))
            while waiting and (len(waiting) >= 2 * asked.processes or block == blocks):
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    done.add(future.result())
                if time.monotonic() - told_s >= TOLD_EVERY_S:
                    told_s = time.monotonic()
                    share = done.packed_points / asked.points
                    print(f"{done.packed_points:,} points, {share:.0%}, all equal", flush=True)
    taken_s = time.monotonic() - began_s
    summary = {
        "packed_points": done.packed_points,
        "points_in_lists": done.list_points,
        "packed_chunks": done.packed_chunks,
        "bytes_per_packed_point": round(done.packed_bytes / done.packed_points, 2),
        "damaged_and_refused": done.damaged,
        "differences": 0,
        "processes": asked.processes,
        "seconds": round(taken_s, 1),
        "points_per_second": round(done.packed_points / taken_s),
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
