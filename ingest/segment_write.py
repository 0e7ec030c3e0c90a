"""Runs to the bytes of one Parquet object: its schema, row groups, encodings and checks."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, repeat
from typing import Any, cast

import numpy as np

from ingest.reading import Column, Run, Value, canonical
from ingest.segment_file import joined
from ingest.segment_footer import BOOLEAN, BYTE_ARRAY, DOUBLE, INT64, Element
from ingest.segment_pages import Chunk, Doubles, Flags, arrow_chunk, doubles_chunk, null_chunk, pa, runs_chunk

ROWS_PER_GROUP = 43_200
"""Half a day at 1 Hz: one sensor-hour touches one or two row groups, and a footer has some 300 bytes for each."""
LARGEST_EXACT_INT = 2**53
"""Up to here every integer is a double; past it an int may need the `exact` column."""

SCHEMA: Any = pa.schema(
    [
        pa.field("sensor_id", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),
        pa.field("ts", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("exact", pa.string()),
        pa.field("flag", pa.bool_()),
        pa.field("text", pa.string()),
        pa.field("arrival", pa.int64(), nullable=False),
    ]
)
COLUMNS: list[str] = SCHEMA.names
_PHYSICAL = {"ts": INT64, "value": DOUBLE, "flag": BOOLEAN, "arrival": INT64}
_ELEMENTS = [Element(field.name, _PHYSICAL.get(field.name, BYTE_ARRAY), field.nullable) for field in SCHEMA]

Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class _Block:
    """The present values of one sensor and metric. `value` is 0 where `valid` (None: everywhere) says it is
    null; `others` holds `exact`, `flag` and `text`, those that have a value."""

    sensor_id: str
    metric: str
    ts_us: Integers
    value: Doubles
    valid: Flags | None
    others: dict[str, list[Any]]
    arrivals: int | Integers

    def __len__(self) -> int:
        return len(self.ts_us)

    def part(self, start: int, end: int) -> _Block:
        if start == 0 and end == len(self):
            return self
        return replace(
            self,
            ts_us=self.ts_us[start:end],
            value=self.value[start:end],
            valid=None if self.valid is None else self.valid[start:end],
            others={name: cells[start:end] for name, cells in self.others.items()},
            arrivals=self.arrivals if isinstance(self.arrivals, int) else self.arrivals[start:end],
        )


_Group = list[_Block]


def parquet(runs: Sequence[Run], known: Mapping[str, str], level: int) -> tuple[bytes, int]:
    """A whole Parquet file with the runs (sorted by sensor) and the key-value metadata, and its rows. `level`
    is zstd's, for times and values.

    The metadata gains `rows`, `groups-crc32`, the CRC-32 of each row group's bytes, and
    `footer-sha256`, the SHA-256 of the footer with this field zeroed: together they
    cover every byte a reader fetches. Raises ValueError where a number is not finite.
    """
    times = _Times(level)
    groups = ((sum(map(len, group)), _chunks(group, times, level)) for group in _groups(runs))
    return joined(groups, _ELEMENTS, known)


# --- row groups -------------------------------------------------------------------------


def _groups(ordered: Sequence[Run]) -> Iterator[_Group]:
    """Row groups of at most ROWS_PER_GROUP rows, cut between sensors wherever a sensor fits into one."""
    group: _Group = []
    rows = 0
    for run in ordered:
        blocks = [block for block in _blocks(run) if len(block)]
        if group and rows + sum(map(len, blocks)) > ROWS_PER_GROUP:
            yield group
            group, rows = [], 0
        for block in blocks:
            start = 0
            while start < len(block):
                end = min(len(block), start + ROWS_PER_GROUP - rows)
                group.append(block.part(start, end))
                rows += end - start
                start = end
                if rows == ROWS_PER_GROUP:
                    yield group
                    group, rows = [], 0
    if group:
        yield group


def _blocks(run: Run) -> Iterator[_Block]:
    times = np.fromiter(run.ts_us, np.int64, len(run.ts_us))
    names = sorted(run.metrics)
    plain = _plain_numbers([run.metrics[name] for name in names])
    for place, metric in enumerate(names):
        arrivals = run.arrival_ms
        if not isinstance(arrivals, int):
            arrivals = np.fromiter(arrivals[metric], np.int64, len(times))
        if plain is not None:
            yield _Block(run.sensor_id, metric, times, plain[place], None, {}, arrivals)
            continue
        ts_us, cells = times, run.metrics[metric]
        if None in cells:
            present = np.fromiter((cell is not None for cell in cells), bool, len(cells))
            ts_us, cells = ts_us[present], list(compress(cells, present))
            arrivals = arrivals if isinstance(arrivals, int) else arrivals[present]
        yield _block(run.sensor_id, metric, ts_us, cast(list[Value], cells), arrivals)


def _plain_numbers(columns: Sequence[Column]) -> list[Doubles] | None:
    """The columns, all of one length, as doubles, where they hold numbers that are doubles and nothing
    else; None where it takes a closer look.

    `struct` refuses texts and nulls. It takes booleans for 0 and 1, so these are looked at."""
    try:
        packed = b"".join([struct.pack(f"{len(cells)}d", *cast(list[float], cells)) for cells in columns])
    except (struct.error, OverflowError):
        return None
    value = np.frombuffer(packed)
    if not len(value):
        return None
    least, most = value.min(), value.max()
    if not -LARGEST_EXACT_INT < least <= most < LARGEST_EXACT_INT:  # nor is it where one is not finite
        return None
    if least <= 1 and most >= 0:
        if ((value == 0) | (value == 1)).any() and any(bool in set(map(type, cells)) for cells in columns):
            return None
        value = value + 0.0  # -0.0 becomes 0.0, as `canonical` has it
    return list(value.reshape(len(columns), -1))


def _block(
    sensor_id: str, metric: str, ts_us: Integers, cells: list[Value], arrivals: int | Integers
) -> _Block:
    others: dict[str, list[Any]] = {}
    valid = None
    numbers: Sequence[Any] = cells
    if not {int, float}.issuperset(map(type, cells)):
        others["flag"] = [cell if isinstance(cell, bool) else None for cell in cells]
        others["text"] = [cell if isinstance(cell, str) else None for cell in cells]
        valid = np.fromiter((not isinstance(cell, (bool, str)) for cell in cells), bool, len(cells))
        numbers = [0.0 if isinstance(cell, (bool, str)) else cell for cell in cells]
    try:
        value = np.array(numbers, np.float64) + 0.0  # -0.0 becomes 0.0, as `canonical` has it
    except OverflowError as error:
        raise ValueError("an integer is too large for a segment") from error
    if not np.isfinite(value).all():
        raise ValueError("a number is not finite")
    others["exact"] = _exact(numbers, value)
    present = {name: held for name, held in others.items() if held.count(None) < len(held)}
    return _Block(sensor_id, metric, ts_us, value, valid, present, arrivals)


def _exact(numbers: Sequence[Any], value: Doubles) -> list[str | None]:
    """Canonical texts where no double says it; an empty list where one does everywhere."""
    exact: list[str | None] = []
    for place in np.flatnonzero(np.abs(value) >= LARGEST_EXACT_INT).tolist():
        text = canonical(numbers[place])
        if text != canonical(float(text)):
            exact = exact or [None] * len(numbers)
            exact[place] = text
    return exact


# --- columns ----------------------------------------------------------------------------


class _Times:
    """Makes chunks of times. Sensors that measure on the same grid have the same times, row group by row
    group: these are encoded once."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._last: tuple[Integers, Chunk] | None = None

    def chunk(self, group: _Group) -> Chunk:
        """The times of a row group."""
        ts_us = np.concatenate([block.ts_us for block in group])
        if self._last is None or not np.array_equal(self._last[0], ts_us):
            made = arrow_chunk(pa.array(ts_us), "DELTA_BINARY_PACKED", self._level)
            made = replace(made, least=ts_us.min().tobytes(), greatest=ts_us.max().tobytes())
            self._last = ts_us, made
        return self._last[1]


def _chunks(group: _Group, times: _Times, level: int) -> list[Chunk]:
    """A chunk for each of COLUMNS."""
    counts = [len(block) for block in group]
    rows = sum(counts)
    return [
        _names([block.sensor_id for block in group], counts),
        _names([block.metric for block in group], counts),
        times.chunk(group),
        _values(group, counts, level),
        _sparse("exact", pa.string(), group, rows),
        _sparse("flag", pa.bool_(), group, rows),
        _sparse("text", pa.string(), group, rows),
        _arrivals(group, counts),
    ]


def _names(names: Sequence[str], counts: Sequence[int]) -> Chunk:
    texts = [name.encode() for name in names]
    made = runs_chunk([len(text).to_bytes(4, "little") + text for text in texts], counts)
    return replace(made, least=min(texts), greatest=max(texts))


def _values(group: _Group, counts: Sequence[int], level: int) -> Chunk:
    valid = None
    if any(block.valid is not None for block in group):
        valid = np.concatenate(
            [np.ones(len(block), bool) if block.valid is None else block.valid for block in group]
        )
    values = np.concatenate([block.value for block in group])
    return doubles_chunk(values, valid, np.cumsum(counts).tolist(), level)


def _sparse(name: str, kind: Any, group: _Group, rows: int) -> Chunk:
    if not any(name in block.others for block in group):
        return null_chunk(rows)
    cells: list[Any] = []
    for block in group:
        cells.extend(block.others.get(name) or repeat(None, len(block)))
    return arrow_chunk(pa.array(cells, kind), None)


def _arrivals(group: _Group, counts: Sequence[int]) -> Chunk:
    constant = [block.arrivals for block in group if isinstance(block.arrivals, int)]
    if len(constant) == len(group):
        return runs_chunk([ms.to_bytes(8, "little", signed=True) for ms in constant], counts)
    arrivals = [
        np.full(len(block), block.arrivals) if isinstance(block.arrivals, int) else block.arrivals
        for block in group
    ]
    return arrow_chunk(pa.array(np.concatenate(arrivals)), "DELTA_BINARY_PACKED")
