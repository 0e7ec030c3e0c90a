"""CSV files as runs: typing of cells, lines that are refused with their reason, pacing; it sends nothing."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import BinaryIO, TypeVar

from ingest.errors import BadInput, NotFound
from ingest.reading import (
    EARLIEST_US,
    METRIC_PATTERN,
    SENSOR_ID_PATTERN,
    Column,
    Run,
    Value,
    is_metric_name,
    is_sensor_id,
    settle,
)
from sensors.cells import CellRefused, cell_instant, cell_value

US = 1_000_000
TIME_COLUMNS = ("timestamp", "ts_ms")
SENSOR_COLUMN = "sensor_id"
RUN_READINGS = 2_000
"""The most readings a run gets."""
HELD_READINGS = 100_000
"""The most lines held at once, over all sensors of a file."""
LINE_BYTES = 1_048_576
"""A longer line is refused unread. One cell may hold 131,072 characters, the csv module's own bound."""


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line, or one cell of it, that is not sent.

    `reason` is one word for counting; `line` counts from 1, the header included; `column`
    is empty where the whole line is refused. The rest of the file, and of the line where
    only a cell is refused, goes on.
    """

    file: str
    line: int
    column: str
    reason: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file} line {self.line}" + (f", column {self.column}" if self.column else "")
        return f"{where} {self.message}"


Item = TypeVar("Item", bound="Run | RejectedLine")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A file whose header can be used: which cell is what. `sensor_id` names the sensor of
    lines that do not name their own; None where each must."""

    path: Path
    time_at: int
    time_column: str
    sensor_at: int | None
    sensor_id: str | None
    metrics: tuple[tuple[int, str], ...]
    columns: int


def open_csv(path: Path, sensor_id: str | None = None) -> CsvFile:
    """Read and check a file's header, nothing more.

    `sensor_id` is the sensor where the file has no `sensor_id` column or leaves it empty;
    without either, the file's name (less its ending) is. Raises NotFound; BadInput where the
    file cannot be read, or its header or the sensor's name cannot be used.
    """
    try:
        with path.open("rb") as file:
            header = next(csv.reader(_Lines(file)), None)
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no such file. Check the path.") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}). Give a readable CSV file.") from error
    except csv.Error as error:
        raise BadInput(f"{path} line 1: is not CSV ({error}). Give a CSV file with a header.") from error
    if not header:
        raise BadInput(f"{path}: is empty. Give a CSV file whose first line names its columns.")
    return _understand(path, [name.strip() for name in header], sensor_id)


def read_csv(
    file: CsvFile,
    *,
    latest_us: int | None = None,
    slice_us: int | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> Iterator[Run | RejectedLine]:
    """The file as runs of up to 2,000 readings of one sensor, and what of it is refused.

    Lines may stand in any order; memory stays bounded whatever the file's size. Readings at
    or after `latest_us` are refused. With `slice_us`, a run never crosses a multiple of it
    and runs of one slice come together, which is what `paced` needs. `on_bytes` is told how
    much of the file has been read since it was last told. Empty cells are absent metrics.
    """
    held: dict[str, _Held] = {}
    waiting, current = 0, None
    for item in _rows(file, latest_us, on_bytes):
        if isinstance(item, RejectedLine):
            yield item
            continue
        sensor, ts_us, cells = item
        cut = ts_us // slice_us if slice_us else None
        if waiting >= HELD_READINGS or cut != current:
            yield from _emptied(held)
            waiting = 0
        current = cut
        run = held.setdefault(sensor, _Held())
        run.add(ts_us, cells)
        waiting += 1
        if len(run.ts_us) >= RUN_READINGS:
            waiting -= len(run.ts_us)
            yield held.pop(sensor).run(sensor)
    yield from _emptied(held)


def paced(
    items: Iterable[Item], speed: float, now: Callable[[], float], sleep: Callable[[float], None]
) -> Iterator[Item]:
    """The same items, each held back until its last reading is due at `speed` times real time.

    The first run's first reading is due at once and sets the clock; what is overdue, such as
    readings older than that, is never held back. `now` and `sleep` are in seconds.
    Raises BadInput where the speed is not above 0.
    """
    if not speed > 0:
        raise BadInput(f"speed: {speed} cannot be used; give a number above 0, such as 60, or max.")
    begun: tuple[float, int] | None = None
    for item in items:
        if isinstance(item, Run):
            begun = begun or (now(), item.ts_us[0])
            early_s = begun[0] + (item.ts_us[-1] - begun[1]) / US / speed - now()
            if early_s > 0:
                sleep(early_s)
        yield item


# --- the header -------------------------------------------------------------------------


def _understand(path: Path, header: list[str], sensor_id: str | None) -> CsvFile:
    where = f"{path} line 1"
    times = [name for name in header if name in TIME_COLUMNS]
    if len(times) != 1:
        found = "more than one time column" if times else "no time column"
        raise BadInput(f"{where}: has {found}; name one timestamp (RFC 3339) or ts_ms (epoch milliseconds).")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise BadInput(f"{where}: names {twice[0]!r} twice; give every column a name of its own.")
    metrics = tuple((at, name) for at, name in enumerate(header) if name not in (times[0], SENSOR_COLUMN))
    for at, name in metrics:
        if not is_metric_name(name):
            raise BadInput(f"{where}: column {at + 1}, {name!r}, cannot be a metric; match {METRIC_PATTERN}.")
    if not metrics:
        raise BadInput(f"{where}: has no column besides time and sensor; add one per metric.")
    sensor_at = header.index(SENSOR_COLUMN) if SENSOR_COLUMN in header else None
    if sensor_id is None and sensor_at is None:
        if not is_sensor_id(path.stem):
            raise BadInput(f"{path}: {path.stem!r} cannot name a sensor; name one with --sensor.")
        sensor_id = path.stem
    if sensor_id is not None and not is_sensor_id(sensor_id):
        raise BadInput(
            f"sensor: {sensor_id!r} cannot name a sensor; use a name that matches {SENSOR_ID_PATTERN}."
        )
    return CsvFile(path, header.index(times[0]), times[0], sensor_at, sensor_id, metrics, len(header))


# --- the lines --------------------------------------------------------------------------


class _Lines:
    """A file's lines as text, bounded: a line that is too long is skipped and remembered."""

    def __init__(self, file: BinaryIO) -> None:
        self.number = 0
        self.too_long: list[int] = []
        self.size_bytes = 0
        self._file = file

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while line := self._line():
            if len(line) <= LINE_BYTES:
                line = line.removeprefix(b"\xef\xbb\xbf") if self.number == 1 else line
                return line.decode("utf-8", "surrogateescape")
            self.too_long.append(self.number)
        raise StopIteration

    def _line(self) -> bytes:
        line = piece = self._file.readline(LINE_BYTES + 1)
        self.size_bytes += len(line)
        self.number += 1
        while len(piece) > LINE_BYTES and not piece.endswith(b"\n"):
            piece = self._file.readline(LINE_BYTES + 1)
            self.size_bytes += len(piece)
        return line


_Row = tuple[str, int, dict[str, Value]]


def _rows(
    file: CsvFile, latest_us: int | None, on_bytes: Callable[[int], None] | None
) -> Iterator[_Row | RejectedLine]:
    name = str(file.path)
    with file.path.open("rb") as opened:
        lines = _Lines(opened)
        reader = csv.reader(lines)
        next(reader)
        told = 0
        while True:
            line = lines.number + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield RejectedLine(
                    name, line, "", "not_csv", f"{_extent(line, lines.number)}is not CSV ({error})."
                )
                continue
            for number in lines.too_long:
                yield RejectedLine(
                    name, number, "", "too_long", f"is longer than {LINE_BYTES} bytes; split it."
                )
            lines.too_long.clear()
            if on_bytes and (lines.size_bytes - told >= 65_536 or cells is None):
                on_bytes(lines.size_bytes - told)
                told = lines.size_bytes
            if cells is None:
                return
            if cells:
                yield from _row(file, (line, lines.number), cells, latest_us)


def _extent(first: int, last: int) -> str:
    """What to say of a row that spans lines, which an unclosed quote makes of many."""
    return (
        f"and all up to line {last} are one row (look for an unclosed quote), which " if last > first else ""
    )


def _row(
    file: CsvFile, lines: tuple[int, int], cells: list[str], latest_us: int | None
) -> Iterator[_Row | RejectedLine]:
    name, line = str(file.path), lines[0]
    try:
        sensor, ts_us = _identity(file, cells, latest_us)
    except CellRefused as refused:
        yield RejectedLine(name, line, "", refused.reason, _extent(*lines) + refused.sentence)
        return
    values: dict[str, Value] = {}
    refusals = 0
    for at, metric in file.metrics:
        try:
            value = cell_value(cells[at])
        except CellRefused as refused:
            refusals += 1
            yield RejectedLine(name, line, metric, refused.reason, refused.sentence)
        else:
            if value is not None:
                values[metric] = value
    if values:
        yield sensor, ts_us, values
    elif not refusals:
        yield RejectedLine(
            name, line, "", "no_value", "has a time and no value; fill a cell or drop the line."
        )


def _identity(file: CsvFile, cells: list[str], latest_us: int | None) -> tuple[str, int]:
    if len(cells) != file.columns:
        raise CellRefused(
            "columns", f"has {len(cells)} cells where the header has {file.columns}; correct the line."
        )
    sensor = file.sensor_id
    if file.sensor_at is not None and (named := cells[file.sensor_at].strip()):
        sensor = named if is_sensor_id(named) else None
    if sensor is None:
        raise CellRefused("sensor_id", f"names no usable sensor; a name matches {SENSOR_ID_PATTERN}.")
    ts_us = cell_instant(cells[file.time_at], file.time_column)
    if ts_us < EARLIEST_US:
        raise CellRefused("time_range", "lies before 2000-01-01, and no reading may; correct its time.")
    if latest_us is not None and ts_us >= latest_us:
        raise CellRefused("time_range", "lies more than a day ahead, and no reading may; correct its time.")
    return sensor, ts_us


@dataclass(slots=True)
class _Held:
    """Readings of one sensor in the order of their lines."""

    ts_us: list[int] = field(default_factory=list[int])
    metrics: dict[str, Column] = field(default_factory=dict[str, Column])

    def add(self, ts_us: int, values: dict[str, Value]) -> None:
        """One more reading; metrics it lacks are absent there."""
        for name, value in values.items():
            column = self.metrics.setdefault(name, [])
            if len(column) < len(self.ts_us):
                column.extend(repeat(None, len(self.ts_us) - len(column)))
            column.append(value)
        self.ts_us.append(ts_us)

    def run(self, sensor_id: str) -> Run:
        """The readings in time order; of lines with the same instant, the last one's value stands."""
        for column in self.metrics.values():
            column.extend(repeat(None, len(self.ts_us) - len(column)))
        return settle(sensor_id, self.ts_us, self.metrics, 0)


def _emptied(held: dict[str, _Held]) -> Iterator[Run]:
    for sensor in list(held):
        yield held.pop(sensor).run(sensor)
