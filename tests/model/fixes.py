"""A release that refuses what the next one can read: payloads with one metric, until they are fixed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from ingest import write
from ingest.reading import Run
from ingest.reject import Problem

METRIC = "held_back"
_decode_all = write.decode_all


@contextmanager
def refusing_until(fixed: Callable[[], bool]) -> Generator[None]:
    """While this lasts, the batch door refuses payloads that name METRIC until `fixed` says otherwise."""
    mark = METRIC.encode()

    def decode_all(payloads: Sequence[bytes], arrival_ms: int) -> tuple[list[Run], list[tuple[int, Problem]]]:
        refused = [] if fixed() else [place for place, one in enumerate(payloads) if mark in one]
        if not refused:
            return _decode_all(payloads, arrival_ms)
        left = [place for place in range(len(payloads)) if place not in refused]
        runs, problems = _decode_all([payloads[place] for place in left], arrival_ms)
        found = [(left[place], problem) for place, problem in problems]
        found += [(place, Problem("unknown_format", "not in this release")) for place in refused]
        return runs, found

    write.decode_all = decode_all
    try:
        yield
    finally:
        write.decode_all = _decode_all
