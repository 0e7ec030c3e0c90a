"""A fuzzing run: its batches over processes, and each failure shrunk to what is needed to see it."""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.fuzz.corpus import Sent, aggregated, plain, unknown
from tests.fuzz.door import BATCH_PAYLOADS, Broken, Door, Tally, batch

BATCHES_A_TASK = 25
MOST_FAILURES = 5
"""So many failures end a run."""
MOST_SHRINKING = 3_000
"""How often a failing payload is tried with something left out."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A batch of which something does not hold, and the least of it that still shows that: one stream
    record, or all of them where none fails by itself."""

    seed: int
    batch: int
    what: str
    records: tuple[Sent, ...]

    def keep(self, folder: Path) -> Path:
        """Write the records, a line of base64 each, and say where."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"seed-{self.seed}-batch-{self.batch}.base64"
        path.write_text("".join(f"{ascii(sent.text)[1:-1]}\n" for sent in self.records))
        return path


@dataclass(slots=True)
class Run:
    """What came of a run."""

    tally: Tally = field(default_factory=Tally)
    failures: list[Failure] = field(default_factory=list[Failure])


def run(payloads: int, seed: int, processes: int, progress: Callable[[Run], None] | None = None) -> Run:
    """Put at least so many payloads through the door; the same ones however many processes share the work."""
    done = Run()
    batches = range(-(-payloads // BATCH_PAYLOADS))
    tasks = [batches[start : start + BATCHES_A_TASK] for start in range(0, len(batches), BATCHES_A_TASK)]
    if processes < 2:
        for task in tasks:
            _add(done, some(seed, task), progress)
            if len(done.failures) >= MOST_FAILURES:
                break
        return done
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _quieten) as pool:
        under_way: list[Future[Run]] = [pool.submit(some, seed, task) for task in tasks]
        for ended in as_completed(under_way):
            _add(done, ended.result(), progress)
            if len(done.failures) >= MOST_FAILURES:
                pool.shutdown(cancel_futures=True)
                break
    return done


def some(seed: int, batches: Sequence[int]) -> Run:
    """Put some batches of a run through the door, here and now."""
    done = Run()
    door = Door()
    slowest = 0
    for number in batches:
        sent = batch(seed, number)
        try:
            door.put(sent)
        except Broken as broken:
            done.failures.append(Failure(seed, number, *shrunk(sent, broken)))
            if len(done.failures) >= MOST_FAILURES:
                break
        if door.slowest[1] is sent:
            slowest = number
    try:
        door.finish()
    except Broken as broken:
        done.failures.append(Failure(seed, slowest, *shrunk(door.slowest[1], broken)))
    done.tally = door.tally
    return done


def _add(done: Run, more: Run, progress: Callable[[Run], None] | None) -> None:
    done.tally.add(more.tally)
    done.failures.extend(more.failures)
    if progress is not None:
        progress(done)


def _quieten() -> None:
    """Collect garbage seldom: what a batch leaves is freed by counting, and a pause would count as slowness."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


# --- shrinking --------------------------------------------------------------------------


def shrunk(records: Sequence[Sent], broken: Broken) -> tuple[str, tuple[Sent, ...]]:
    """What does not hold, and the least that shows it: one payload where one is enough."""
    first = [records[broken.at]] if broken.at is not None else []
    for sent in (*first, *records):
        alone = failure([sent])
        if alone is not None:
            return _least(sent, alone)
    return str(broken), tuple(records)


def failure(records: Sequence[Sent]) -> str | None:
    """What does not hold of a batch; None where everything does."""
    try:
        Door().put(records)
    except Broken as broken:
        return str(broken)
    return None


def _least(sent: Sent, what: str) -> tuple[str, tuple[Sent, ...]]:
    """One payload of the record where one is enough, and its bytes as few as will do."""
    for payload in sent.payloads or ():
        for one in (plain(payload), aggregated([payload])):
            alone = failure([one])
            if alone is not None and _kind(alone) == _kind(what):
                sent, what = one, alone
                break
        else:
            continue
        break
    expected = sent.payloads[0] if sent.payloads and len(sent.payloads) == 1 else None
    if not sent.is_coded or (sent.payloads is not None and expected is None):
        return what, (sent,)
    if expected is not None and expected.cells is not None:
        return what, (sent,)  # with bytes left out it would no longer hold what is expected
    if expected is not None and sent.raw != expected.data:
        return what, (sent,)

    def fails(data: bytes) -> bool:
        one = unknown(data) if expected is None else plain(replace(expected, data=data))
        alone = failure([one])
        return alone is not None and _kind(alone) == _kind(what)

    raw = fewest(sent.raw, fails)
    least = unknown(raw) if expected is None else plain(replace(expected, data=raw))
    return failure([least]) or what, (least,)


def _kind(what: str) -> str:
    """The part of a failure's text that stays while bytes are left out."""
    return what.partition(":")[0]


def fewest(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """The bytes with as much left out as the failure bears, spans of halving lengths at a time."""
    tries = 0
    width = len(data) // 2
    while width:
        at = 0
        while at < len(data) and tries < MOST_SHRINKING:
            tries += 1
            shorter = data[:at] + data[at + width :]
            if fails(shorter):
                data = shorter
            else:
                at += width
        width //= 2
    return data
