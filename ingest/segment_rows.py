"""Row groups to runs: which rows are whose, and their times, values and arrivals as lists."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, cast

import numpy as np

from ingest.reading import Column, Run, Span, Value, number
from ingest.segment_columns import DoublesColumn, Foreign, Runs, numbers, read_runs_chunk
from ingest.segment_read import NULLABLE, Footer, Source, corrupt, fetch_groups, read_table

Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Rows `[start, end)` of the row groups taken together: one metric of one sensor."""

    sensor_id: str
    metric: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """The columns of some row groups taken together, in the order of the file."""

    stretches: list[_Stretch]
    ts_us: Integers
    cells: Callable[[int, int], list[Value]]
    arrival: Callable[[int, int], int | Integers]


@dataclass(frozen=True, slots=True)
class _Block:
    """The rows of one metric of one sensor."""

    metric: str
    ts_us: Integers
    cells: list[Value]
    arrivals: int | Integers


def runs_of(
    source: Source,
    footer: Footer,
    picked: Sequence[int],
    sensor_id: str | None,
    span: Span | None,
    metrics: Sequence[str],
) -> list[Run]:
    """The runs of the row groups (at least one), sorted by sensor, of the sensor, half-open span and metrics
    where given. Raises Corrupt."""
    fetch_groups(source, footer, picked)
    try:
        return list(_runs(_read_ours(source, footer, picked), sensor_id, span, metrics))
    except Foreign:
        return list(_runs(_read_any(source, footer, picked), sensor_id, span, metrics))


# --- columns of our own writer's form ---------------------------------------------------


def _read_ours(source: Source, footer: Footer, picked: Sequence[int]) -> _Rows:
    """The rows; Arrow reads only what is stored as differences or texts. Raises Foreign, Corrupt."""
    columns = footer.present(picked)
    if "flag" in columns or "text" in columns or footer.nulls(picked, "value") != 0:
        raise Foreign("rows without a number")
    by_arrow = [name for name in columns if name in ("ts", "exact")]
    if footer.is_of_differences(picked, "arrival"):
        by_arrow.append("arrival")
    table = read_table(source, footer, picked, by_arrow).combine_chunks()
    sensors = _Repeated.read(source, footer, picked, "sensor_id")
    metrics = _Repeated.read(source, footer, picked, "metric")
    if "arrival" in by_arrow:
        arrival = _slices(_chunk(table, "arrival").to_numpy())
    else:
        arrivals = _Repeated.read(source, footer, picked, "arrival")
        arrival = _arrivals(arrivals.cells_as_numbers(), arrivals.ends)
    value = DoublesColumn(source.held(*footer.chunk_range(index, "value")) for index in picked)
    if len(value) != table.num_rows:
        raise Foreign("other rows")
    return _Rows(
        stretches=_stretches(sensors, metrics),
        ts_us=_chunk(table, "ts").cast("int64").to_numpy(),
        cells=_with_exact(value.cells, _chunk(table, "exact")),
        arrival=arrival,
    )


@dataclass(frozen=True, slots=True)
class _Repeated:
    """A column of few values: each fills the rows up to its end."""

    cells: list[bytes]
    ends: list[int]

    @classmethod
    def read(cls, source: Source, footer: Footer, picked: Sequence[int], name: str) -> _Repeated:
        """The column of the row groups. Raises Foreign."""
        found: Runs = []
        known: dict[tuple[bytes, int], Runs] = {}  # those of a sensor-day's row groups are much alike
        for index in picked:
            chunk = source.held(*footer.chunk_range(index, name))
            same = bytes(chunk), footer.rows(index)
            if same not in known:
                known[same] = read_runs_chunk(chunk, footer.rows(index), texts=name != "arrival")
            found += known[same]
        return cls([cell for cell, _ in found], list(accumulate(count for _, count in found)))

    def cells_as_numbers(self) -> list[int]:
        """The values of a column of integers."""
        return [int.from_bytes(cell, "little", signed=True) for cell in self.cells]


def _stretches(sensors: _Repeated, metrics: _Repeated) -> list[_Stretch]:
    found: list[_Stretch] = []
    of_sensor = of_metric = start = 0
    for end in sorted({*sensors.ends, *metrics.ends}):
        sensor_id, metric = sensors.cells[of_sensor].decode(), metrics.cells[of_metric].decode()
        if found and (found[-1].sensor_id, found[-1].metric) == (sensor_id, metric):
            found[-1] = _Stretch(sensor_id, metric, found[-1].start, end)
        else:
            found.append(_Stretch(sensor_id, metric, start, end))
        start = end
        of_sensor += sensors.ends[of_sensor] == end
        of_metric += metrics.ends[of_metric] == end
    return found


def _arrivals(cells: Sequence[int], ends: Sequence[int]) -> Callable[[int, int], int | Integers]:
    def between(start: int, end: int) -> int | Integers:
        first, last = bisect_right(ends, start), bisect_left(ends, end)
        found = cells[first : last + 1]
        if len(set(found)) == 1:
            return found[0]
        edges = [start, *ends[first:last], end]
        return np.repeat(np.array(found, np.int64), np.diff(edges))

    return between


# --- columns of any form ----------------------------------------------------------------


def _read_any(source: Source, footer: Footer, picked: Sequence[int]) -> _Rows:
    """The rows as Arrow reads them. Raises Corrupt."""
    table = read_table(source, footer, picked, footer.present(picked)).unify_dictionaries().combine_chunks()
    value, sensor, metric = (_chunk(table, name) for name in ("value", "sensor_id", "metric"))
    turns = (np.diff(sensor.indices.to_numpy()) != 0) | (np.diff(metric.indices.to_numpy()) != 0)
    edges = [0, *(np.flatnonzero(turns) + 1).tolist(), table.num_rows]
    return _Rows(
        stretches=[
            _Stretch(sensor[start].as_py(), metric[start].as_py(), start, end)
            for start, end in pairwise(edges)
        ],
        ts_us=_chunk(table, "ts").cast("int64").to_numpy(),
        cells=_with_exact(
            _cells(value, _chunk(table, "flag"), _chunk(table, "text")), _chunk(table, "exact")
        ),
        arrival=_slices(_chunk(table, "arrival").to_numpy()),
    )


def _chunk(table: Any, name: str) -> Any:
    """The column as one array; None where all of it is null."""
    if name not in table.column_names:
        return None
    found = table.column(name).chunk(0)
    return None if name in NULLABLE and found.null_count == len(found) else found


def _cells(value: Any, *others: Any) -> Callable[[int, int], list[Value]]:
    """The values of rows `[start, end)`, from the first column that has one. Raises Corrupt where none has."""
    doubles = value.to_numpy(zero_copy_only=False)
    present = value.is_valid().to_numpy(zero_copy_only=False)

    def cells(start: int, end: int) -> list[Value]:
        here = present[start:end]
        if here.all():
            return numbers(doubles[start:end])
        found: Column = [None] * (end - start)
        places = np.flatnonzero(here)
        for place, cell in zip(places.tolist(), numbers(doubles[start:end][places]), strict=True):
            found[place] = cell
        for other in others:
            _fill(found, other, start, end)
        if None in found:
            raise corrupt("a row has no value")
        return cast(list[Value], found)

    return cells


def _with_exact(cells: Callable[[int, int], list[Value]], exact: Any) -> Callable[[int, int], list[Value]]:
    """The same with the texts of numbers that no double holds in their places."""
    if exact is None:
        return cells

    def exactly(start: int, end: int) -> list[Value]:
        found = cells(start, end)
        for place, text in enumerate(exact.slice(start, end - start).to_pylist()):
            if text is not None:
                found[place] = number(text)
        return found

    return exactly


def _fill(cells: Column, column: Any, start: int, end: int) -> None:
    if column is not None:
        for place, cell in enumerate(column.slice(start, end - start).to_pylist()):
            if cell is not None:
                cells[place] = cell


def _slices(arrivals: Integers) -> Callable[[int, int], int | Integers]:
    def between(start: int, end: int) -> int | Integers:
        found = arrivals[start:end]
        return int(found[0]) if (found == found[0]).all() else found

    return between


# --- rows to runs -----------------------------------------------------------------------


def _runs(rows: _Rows, sensor_id: str | None, span: Span | None, metrics: Sequence[str]) -> Iterator[Run]:
    blocks: list[_Block] = []
    current = ""
    for at in rows.stretches:
        if (sensor_id is not None and at.sensor_id != sensor_id) or (metrics and at.metric not in metrics):
            continue
        start, end = at.start, at.end
        if span is not None:
            bounds = np.searchsorted(rows.ts_us[start:end], [span.start_us, span.end_us])
            start, end = (at.start + bounds).tolist()
        if start >= end:
            continue
        if blocks and at.sensor_id != current:
            yield _run(current, blocks)
            blocks = []
        current = at.sensor_id
        blocks.append(
            _Block(at.metric, rows.ts_us[start:end], rows.cells(start, end), rows.arrival(start, end))
        )
    if blocks:
        yield _run(current, blocks)


def _run(sensor_id: str, blocks: Sequence[_Block]) -> Run:
    first = blocks[0]
    arrivals = {block.arrivals if isinstance(block.arrivals, int) else None for block in blocks}
    same = first.arrivals if len(arrivals) == 1 and isinstance(first.arrivals, int) else None
    if all(np.array_equal(block.ts_us, first.ts_us) for block in blocks[1:]):
        aligned: dict[str, Column] = {block.metric: cast(Column, block.cells) for block in blocks}
        ranks = {block.metric: _listed(block.arrivals, len(block.cells)) for block in blocks if same is None}
        return Run(sensor_id, first.ts_us.tolist(), aligned, ranks if same is None else same)
    instants = np.unique(np.concatenate([block.ts_us for block in blocks]))
    columns: dict[str, Column] = {}
    ranks: dict[str, list[int]] = {}
    for block in blocks:
        places = np.searchsorted(instants, block.ts_us)
        column: Column = [None] * len(instants)
        for place, cell in zip(places.tolist(), block.cells, strict=True):
            column[place] = cell
        columns[block.metric] = column
        if same is None:
            spread = np.zeros(len(instants), np.int64)
            spread[places] = block.arrivals
            ranks[block.metric] = _listed(spread, len(instants))
    return Run(sensor_id, instants.tolist(), columns, ranks if same is None else same)


def _listed(arrivals: int | Integers, count: int) -> list[int]:
    """As many arrivals, one object for each stretch of the same."""
    if isinstance(arrivals, int):
        return [arrivals] * count
    starts = np.flatnonzero(np.diff(arrivals, prepend=arrivals[0] - 1))
    objects = arrivals[starts].astype(object)
    return np.repeat(objects, np.diff(starts, append=count)).tolist()
