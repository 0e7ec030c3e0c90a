"""Segments: many sensors' runs as one Parquet object, its facts, and reading part of it by byte ranges."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO, cast

import numpy as np

from ingest.reading import Column, Run, Span, Value, canonical, number
from ingest.segment_file import VERSION, footer_length
from ingest.segment_read import Footer, ReadRange, Source, corrupt, read_footer, read_table
from ingest.segment_write import parquet

PLAIN_BELOW = 1e15
"""The canonical text of a smaller integral double is its plain digits."""

Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What is known of a segment without its rows. Times are inclusive.

    `footer_bytes` counts from the footer's first byte to the object's end; `sha256` is of
    the whole object, empty where only the footer was read.
    """

    rows: int
    sensors: int
    first_us: int
    last_us: int
    first_sensor: str
    last_sensor: str
    footer_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class EncodedSegment(SegmentFacts):
    """A segment ready to be stored, and its facts."""

    data: bytes


def encode(runs: Sequence[Run]) -> EncodedSegment:
    """One segment from one merged run per sensor, in any order.

    The same runs give the same bytes (with one version of pyarrow). Raises ValueError
    where there is no value, a sensor comes twice, or a number is not finite.
    """
    present = sorted((run for run in runs if _has_value(run)), key=lambda run: run.sensor_id)
    if not present:
        raise ValueError("a segment needs at least one value")
    if len({run.sensor_id for run in present}) != len(present):
        raise ValueError("a segment takes one run per sensor: merge the runs first")
    known = {
        "version": VERSION,
        "sensors": str(len(present)),
        "first-us": str(min(run.ts_us[0] for run in present)),
        "last-us": str(max(run.ts_us[-1] for run in present)),
        "first-sensor": present[0].sensor_id,
        "last-sensor": present[-1].sensor_id,
    }
    data, rows = parquet(present, known)
    known["rows"] = str(rows)
    facts = _facts(known, footer_length(data[-8:]), hashlib.sha256(data).hexdigest())
    return EncodedSegment(*facts, data)


def _has_value(run: Run) -> bool:
    return any(any(cell is not None for cell in column) for column in run.metrics.values())


def metadata(encoded: SegmentFacts) -> dict[str, str]:
    """What a segment's object carries as S3 metadata; all ASCII."""
    return {
        "version": VERSION,
        "rows": str(encoded.rows),
        "sensors": str(encoded.sensors),
        "first-us": str(encoded.first_us),
        "last-us": str(encoded.last_us),
        "first-sensor": encoded.first_sensor,
        "last-sensor": encoded.last_sensor,
        "footer-bytes": str(encoded.footer_bytes),
        "sha256": encoded.sha256,
    }


def facts_of(object_metadata: Mapping[str, str]) -> SegmentFacts | None:
    """The inverse of `metadata`; None where an object does not carry all of it (see `summary`)."""
    try:
        if object_metadata["version"] != VERSION:
            return None
        footer_bytes = int(object_metadata["footer-bytes"])
        return SegmentFacts(*_facts(object_metadata, footer_bytes, object_metadata["sha256"]))
    except (KeyError, ValueError):
        return None


def summary(read_range: ReadRange, size_bytes: int) -> SegmentFacts:
    """The facts of an object from its footer alone, one or two ranged reads; `sha256` stays empty.

    Raises Corrupt where the object is no segment of this project's, or is damaged.
    """
    footer = read_footer(Source(read_range, size_bytes), 0)
    try:
        return SegmentFacts(*_facts(footer.known, footer.size_bytes, ""))
    except (KeyError, ValueError) as error:
        raise corrupt(f"its footer lacks a fact ({error})") from error


def decode(
    data: bytes | BinaryIO,
    sensor_id: str | None = None,
    span: Span | None = None,
    metrics: Sequence[str] = (),
) -> list[Run]:
    """The runs of a segment held in memory or in a seekable file, sorted by sensor.

    Only rows of the sensor, of the half-open span, and of the metrics, where given. Numbers
    come back as `reading.number` would read their canonical text. Raises Corrupt.
    """
    file: BinaryIO = io.BytesIO(data) if isinstance(data, bytes) else data
    size_bytes = file.seek(0, io.SEEK_END)

    def read_range(start: int, end: int) -> bytes:
        file.seek(start)
        return file.read(end - start)

    return read_runs(read_range, size_bytes, 0, sensor_id, span, metrics)


def read_runs(
    read_range: ReadRange,
    size_bytes: int,
    footer_bytes: int,
    sensor_id: str | None = None,
    span: Span | None = None,
    metrics: Sequence[str] = (),
    coming: Callable[[Footer, Sequence[int]], None] | None = None,
) -> list[Run]:
    """As `decode`, reading only what is needed: the footer, then the row groups that may match.

    One read for an object of at most WHOLE_BYTES, else one for the footer and one for each
    stretch of neighbouring row groups. `footer_bytes` is a guess that costs one more read
    where it is too small; 0 where unknown. Every byte read is checked. `coming` is told the
    row groups before they are read, and may raise. Raises Corrupt.
    """
    source = Source(read_range, size_bytes)
    footer = read_footer(source, footer_bytes)
    picked = footer.pick(sensor_id, span, metrics)
    if coming is not None:
        coming(footer, picked)
    return list(_runs(read_table(source, footer, picked), sensor_id, span, metrics)) if picked else []


def read_groups(source: Source, footer: Footer, picked: Sequence[int], span: Span | None) -> list[Run]:
    """The runs of the row groups (at least one), of the half-open span where given, by sensor. Raises Corrupt."""
    return list(_runs(read_table(source, footer, picked), None, span, ()))


def _facts(
    known: Mapping[str, str], footer_bytes: int, sha256: str
) -> tuple[int, int, int, int, str, str, int, str]:
    return (
        int(known["rows"]),
        int(known["sensors"]),
        int(known["first-us"]),
        int(known["last-us"]),
        known["first-sensor"],
        known["last-sensor"],
        footer_bytes,
        sha256,
    )


# --- rows to runs -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """The rows of one metric of one sensor."""

    metric: str
    ts_us: Integers
    cells: list[Value]
    arrivals: Integers


@dataclass(frozen=True, slots=True)
class _Rows:
    """A table's columns as arrays, in the order of the file; `exact`, `flag` and `text` None where all is null."""

    sensors: list[str]
    sensor: Integers
    metrics: list[str]
    metric: Integers
    ts_us: Integers
    value: Any
    has_value: Any
    exact: Any
    flag: Any
    text: Any
    arrival: Integers

    def cells(self, start: int, end: int) -> list[Value]:
        """The values of rows `[start, end)`. Raises Corrupt where a row has none."""
        has_value = self.has_value[start:end]
        if has_value.all():
            cells = cast(Column, _numbers(self.value[start:end]))
        else:
            cells: Column = [None] * (end - start)
            places = np.flatnonzero(has_value)
            for place, found in zip(places.tolist(), _numbers(self.value[start:end][places]), strict=True):
                cells[place] = found
            _fill(cells, self.flag, start, end)
            _fill(cells, self.text, start, end)
            if None in cells:
                raise corrupt("a row has no value")
        if self.exact is not None and self.exact.null_count < len(self.exact):
            for place, text in enumerate(self.exact.slice(start, end - start).to_pylist()):
                if text is not None:
                    cells[place] = number(text)
        return cast(list[Value], cells)


def _fill(cells: Column, column: Any, start: int, end: int) -> None:
    if column is not None and column.null_count < len(column):
        for place, cell in enumerate(column.slice(start, end - start).to_pylist()):
            if cell is not None:
                cells[place] = cell


def _numbers(values: Any) -> list[Value]:
    """Doubles as `reading.number` gives them: int where the canonical text is integral."""
    cells: list[Value] = values.tolist()
    whole = values == np.trunc(values)
    if not whole.any():
        return cells
    plain = whole & (np.abs(values) < PLAIN_BELOW)
    if plain.all():
        return cast(list[Value], values.astype(np.int64).tolist())
    places = np.flatnonzero(plain)
    for place, cell in zip(places.tolist(), values[places].astype(np.int64).tolist(), strict=True):
        cells[place] = cell
    for place in np.flatnonzero(whole & ~plain).tolist():
        cells[place] = number(canonical(cells[place]))
    return cells


def _rows(table: Any) -> _Rows:
    table = table.unify_dictionaries().combine_chunks()
    columns = {name: table.column(name).chunk(0) for name in table.column_names}
    value = columns["value"]
    return _Rows(
        sensors=columns["sensor_id"].dictionary.to_pylist(),
        sensor=columns["sensor_id"].indices.to_numpy(),
        metrics=columns["metric"].dictionary.to_pylist(),
        metric=columns["metric"].indices.to_numpy(),
        ts_us=columns["ts"].cast("int64").to_numpy(),
        value=value.to_numpy(zero_copy_only=False),
        has_value=np.ones(len(value), bool)
        if not value.null_count
        else value.is_valid().to_numpy(zero_copy_only=False),
        exact=columns.get("exact"),
        flag=columns.get("flag"),
        text=columns.get("text"),
        arrival=columns["arrival"].to_numpy(),
    )


def _runs(table: Any, sensor_id: str | None, span: Span | None, metrics: Sequence[str]) -> Iterator[Run]:
    rows = _rows(table)
    total = len(rows.ts_us)
    turns = np.flatnonzero((np.diff(rows.sensor) != 0) | (np.diff(rows.metric) != 0)) + 1
    edges = [0, *turns.tolist(), total]
    blocks: list[_Block] = []
    current = ""
    for low, high in pairwise(edges):
        sensor, metric = rows.sensors[int(rows.sensor[low])], rows.metrics[int(rows.metric[low])]
        if (sensor_id is not None and sensor != sensor_id) or (metrics and metric not in metrics):
            continue
        start, end = low, high
        if span is not None:
            start, end = (low + np.searchsorted(rows.ts_us[low:high], [span.start_us, span.end_us])).tolist()
        if start >= end:
            continue
        if blocks and sensor != current:
            yield _run(current, blocks)
            blocks = []
        current = sensor
        blocks.append(_Block(metric, rows.ts_us[start:end], rows.cells(start, end), rows.arrival[start:end]))
    if blocks:
        yield _run(current, blocks)


def _run(sensor_id: str, blocks: Sequence[_Block]) -> Run:
    first = blocks[0]
    arrival = int(first.arrivals[0])
    constant = all((block.arrivals == arrival).all() for block in blocks)
    if all(np.array_equal(block.ts_us, first.ts_us) for block in blocks[1:]):
        aligned: dict[str, Column] = {block.metric: cast(Column, block.cells) for block in blocks}
        arrivals = (
            {} if constant else {block.metric: cast(list[int], block.arrivals.tolist()) for block in blocks}
        )
        return Run(sensor_id, first.ts_us.tolist(), aligned, arrival if constant else arrivals)
    instants = np.unique(np.concatenate([block.ts_us for block in blocks]))
    columns: dict[str, Column] = {}
    ranks: dict[str, list[int]] = {}
    for block in blocks:
        places = np.searchsorted(instants, block.ts_us)
        column: Column = [None] * len(instants)
        for place, cell in zip(places.tolist(), block.cells, strict=True):
            column[place] = cell
        columns[block.metric] = column
        if not constant:
            spread = np.zeros(len(instants), np.int64)
            spread[places] = block.arrivals
            ranks[block.metric] = spread.tolist()
    return Run(sensor_id, instants.tolist(), columns, arrival if constant else ranks)
