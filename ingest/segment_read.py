"""The parts of one stored Parquet object: its footer and its row groups, by byte ranges, each checked."""

from __future__ import annotations

import hashlib
import zlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow.parquet

from ingest.errors import Corrupt
from ingest.reading import Span
from ingest.segment_file import FOOTER_MARK, GROUP_CHECKS, UNSIGNED, VERSION, footer_length
from ingest.segment_write import COLUMNS

pa = cast(Any, pyarrow)
pq = cast(Any, pyarrow.parquet)

WHOLE_BYTES = 256 * 1024
"""A smaller object is read whole: one request instead of two."""
TAIL_BYTES = 64 * 1024
"""How much of an object's end is read where its footer's length is not known."""

NULLABLE = ("exact", "flag", "text")
"""Columns that are rarely used: left out where the footer says that all is null."""

ReadRange = Callable[[int, int], bytes]
"""Bytes `[start, end)` of one object."""
Bytes = np.ndarray[Any, np.dtype[np.uint8]]


def corrupt(why: str) -> Corrupt:
    """The error for bytes that are no segment, or a damaged one."""
    return Corrupt(
        f"The object is not a readable segment: {why}. Restore it, or remove it and run archive reindex."
    )


@dataclass(slots=True)
class Source:
    """One object, of which only the ranges asked for are read; the rest stays untouched zeros."""

    read_range: ReadRange
    size_bytes: int
    _image: Bytes = field(init=False)
    _held: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])

    def __post_init__(self) -> None:
        self._image = np.zeros(self.size_bytes, np.uint8)  # pages never written take no memory

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Read the half-open ranges, neighbours together, leaving out what is held already."""
        stretches: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if any(low <= start and end <= high for low, high in self._held):
                continue
            if stretches and start <= stretches[-1][1]:
                stretches[-1] = (stretches[-1][0], max(end, stretches[-1][1]))
            else:
                stretches.append((start, end))
        for start, end in stretches:
            data = self.read_range(start, end)
            if len(data) != end - start:
                raise corrupt(f"bytes {start} to {end} of {self.size_bytes} came back as {len(data)} bytes")
            self._image[start:end] = np.frombuffer(data, np.uint8)
            self._held.append((start, end))

    def held(self, start: int, end: int) -> memoryview:
        """Bytes that were fetched."""
        return memoryview(cast(Any, self._image))[start:end]

    def reader(self) -> Any:
        """What pyarrow reads from."""
        return pa.BufferReader(pa.py_buffer(self._image))


@dataclass(frozen=True, slots=True)
class Footer:
    """A segment's footer, proven undamaged: its key-value metadata and pyarrow's view of it."""

    known: dict[str, str]
    parquet: Any
    size_bytes: int
    column: dict[str, int]

    def pick(self, sensor_id: str | None, span: Span | None, metrics: Collection[str]) -> list[int]:
        """Row groups whose least and greatest values allow a row of the sensor, span and metrics."""
        picked: list[int] = []
        count = self.parquet.num_row_groups
        start = 0
        if sensor_id is not None:  # groups are sorted by sensor
            start = bisect_left(range(count), sensor_id, key=lambda index: self._sensors(index)[1])
        for index in range(start, count):
            if sensor_id is not None and self._sensors(index)[0] > sensor_id:
                break
            group = self.parquet.row_group(index)
            if span is not None:
                low, high = self._bounds(group, "ts")
                if low >= span.end_us or high < span.start_us:
                    continue
            if metrics:
                low, high = self._bounds(group, "metric")
                if not any(low <= metric <= high for metric in metrics):
                    continue
            picked.append(index)
        return picked

    def sensors(self, index: int) -> tuple[str, str]:
        """The first and the last sensor of a row group."""
        return self._sensors(index)

    def _sensors(self, index: int) -> tuple[str, str]:
        return self._bounds(self.parquet.row_group(index), "sensor_id")

    def expected(self, index: int, sensor_id: str, span: Span) -> float:
        """About how many rows of the sensor and the span a row group holds, as if they were spread evenly
        over its time; 0 for a group it shares with other sensors, of which there are two at most."""
        if self._sensors(index) != (sensor_id, sensor_id):
            return 0.0
        times = self.times(index)
        held = times.overlap(span)
        rows: int = self.parquet.row_group(index).num_rows
        return rows * (held.end_us - held.start_us) / (times.end_us - times.start_us)

    def times(self, index: int) -> Span:
        """From a row group's first instant to its last."""
        low, high = self._bounds(self.parquet.row_group(index), "ts")
        return Span(low, high + 1)

    def present(self, picked: Sequence[int]) -> list[str]:
        """The columns in which something of the row groups may be not null."""
        groups = [self.parquet.row_group(index) for index in picked]
        return [name for name in COLUMNS if not all(self._is_null(group, name) for group in groups)]

    def _is_null(self, group: Any, name: str) -> bool:
        statistics = group.column(self.column[name]).statistics
        return name in NULLABLE and statistics is not None and statistics.null_count == group.num_rows

    def nulls(self, picked: Sequence[int], name: str) -> int | None:
        """How many rows of the row groups have no value there; None where the footer does not tell."""
        column = self.column[name]
        found = [self.parquet.row_group(index).column(column).statistics for index in picked]
        if any(statistics is None or statistics.null_count is None for statistics in found):
            return None
        return sum(statistics.null_count for statistics in found)

    def is_of_differences(self, picked: Sequence[int], name: str) -> bool:
        """Whether the column is stored as differences in one of the row groups."""
        column = self.column[name]
        return any(
            "DELTA_BINARY_PACKED" in self.parquet.row_group(index).column(column).encodings
            for index in picked
        )

    def rows(self, index: int) -> int:
        """How many rows a row group has."""
        return self.parquet.row_group(index).num_rows

    def chunk_range(self, index: int, name: str) -> tuple[int, int]:
        """Where the bytes of a column of a row group lie, half-open."""
        chunk = self.parquet.row_group(index).column(self.column[name])
        start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
        return start, start + chunk.total_compressed_size

    def _bounds(self, group: Any, name: str) -> tuple[Any, Any]:
        statistics = group.column(self.column[name]).statistics
        if name == "ts":
            return statistics.min_raw, statistics.max_raw
        return statistics.min, statistics.max

    def range_of(self, index: int) -> tuple[int, int]:
        """Where a row group's bytes lie, half-open."""
        ranges = [self.chunk_range(index, name) for name in self.column]
        return min(start for start, _ in ranges), max(end for _, end in ranges)


def read_footer(source: Source, guess_bytes: int) -> Footer:
    """The footer of an object; `guess_bytes` 0 where its length is unknown. Raises Corrupt."""
    size_bytes = source.size_bytes
    if size_bytes < 12:
        raise corrupt(f"it has only {size_bytes} bytes")
    if size_bytes <= WHOLE_BYTES:
        held = size_bytes
    else:
        held = min(size_bytes, max(guess_bytes, 8) if guess_bytes else TAIL_BYTES)
    source.fetch([(size_bytes - held, size_bytes)])
    length = footer_length(bytes(source.held(size_bytes - 8, size_bytes)))
    if length > size_bytes - 4:
        raise corrupt(f"its footer would be {length} bytes long")
    if length > held:
        source.fetch([(size_bytes - length, size_bytes - held)])
    raw = bytes(source.held(size_bytes - length, size_bytes))
    _check_footer(raw)
    try:
        parquet = pq.read_metadata(pa.BufferReader(b"PAR1" + raw))
    except (pa.ArrowException, OSError) as error:
        raise corrupt(str(error)) from error
    pairs = cast(dict[bytes, bytes], parquet.metadata or {})
    known = {name.decode(): value.decode() for name, value in pairs.items()}
    if known.get("version") != VERSION:
        raise corrupt(f"its version is {known.get('version')}, this program reads {VERSION}")
    column = {parquet.schema.column(place).name: place for place in range(parquet.num_columns)}
    if missing := [name for name in COLUMNS if name not in column]:
        raise corrupt(f"it lacks the column {missing[0]}")
    return Footer(known, parquet, length, column)


def _check_footer(raw: bytes) -> None:
    place = raw.rfind(FOOTER_MARK) + len(FOOTER_MARK)
    if place < len(FOOTER_MARK):
        raise corrupt("its footer carries no footer-sha256")
    end = place + len(UNSIGNED)
    if hashlib.sha256(raw[:place] + UNSIGNED + raw[end:]).hexdigest().encode() != raw[place:end]:
        raise corrupt("its footer does not match its footer-sha256")


def fetch_groups(source: Source, footer: Footer, picked: Sequence[int]) -> None:
    """Fetch the row groups, and compare them with their checksums. Raises Corrupt."""
    ranges = [footer.range_of(index) for index in picked]
    source.fetch(ranges)
    checks = footer.known[GROUP_CHECKS].split(",")
    for index, (start, end) in zip(picked, ranges, strict=True):
        if f"{zlib.crc32(source.held(start, end)):08x}" != checks[index]:
            raise corrupt(f"row group {index}, bytes {start} to {end}, does not match its checksum")


def read_table(source: Source, footer: Footer, picked: Sequence[int], columns: Sequence[str]) -> Any:
    """These columns of the row groups (at least one), which were fetched, as Arrow has them; sensor and metric
    are dictionaries. Raises Corrupt."""
    try:
        file = pq.ParquetFile(
            source.reader(),
            metadata=footer.parquet,
            read_dictionary=["sensor_id", "metric"],
            page_checksum_verification=True,
        )
        return file.read_row_groups(picked, columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise corrupt(str(error)) from error
