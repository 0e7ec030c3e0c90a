"""Runs to the bytes of one Parquet object: its schema, row groups, encodings and checks."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress, repeat
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow.parquet

from ingest.errors import Corrupt
from ingest.reading import Run, Value, canonical

pa = cast(Any, pyarrow)
pq = cast(Any, pyarrow.parquet)

ROWS_PER_GROUP = 36_000
"""One sensor-hour at 1 Hz touches one or two row groups; the footer stays below 1 KB a group."""
COMPRESSION_LEVEL = 9
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
_DICTIONARY = ["sensor_id", "metric", "exact", "text"]
_DELTA = {"ts": "DELTA_BINARY_PACKED", "arrival": "DELTA_BINARY_PACKED"}
_VALUE_ENCODINGS = ("DICTIONARY", "PLAIN", "BYTE_STREAM_SPLIT")
_SAMPLED_GROUPS = 8
_MAGIC = b"PAR1"
VERSION = "1"
GROUP_CHECKS = "groups-crc32"
FOOTER_CHECK = "footer-sha256"
FOOTER_MARK = FOOTER_CHECK.encode() + b"\x18\x40"
"""What precedes the footer's digest: its name, then Thrift compact's "next field, binary" and the length
64. No name or id may hold such bytes, so it stands once in a footer ("Thrift Compact protocol encoding")."""
UNSIGNED = b"0" * 64
"""What stands in the footer where its own digest goes, while that digest is computed."""


@dataclass(slots=True)
class _Group:
    """The rows of one row group, column-wise; names with how many rows each fills."""

    sensors: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    metrics: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    ts_us: list[int] = field(default_factory=list[int])
    cells: list[Value] = field(default_factory=list[Value])
    arrivals: list[int] = field(default_factory=list[int])

    def add(self, sensor_id: str, metric: str, block: _Block, start: int, end: int) -> None:
        self.sensors.append((sensor_id, end - start))
        self.metrics.append((metric, end - start))
        self.ts_us.extend(block.ts_us[start:end])
        self.cells.extend(block.cells[start:end])
        if isinstance(block.arrivals, int):
            self.arrivals.extend(repeat(block.arrivals, end - start))
        else:
            self.arrivals.extend(block.arrivals[start:end])


@dataclass(frozen=True, slots=True)
class _Block:
    """The present values of one sensor and metric."""

    ts_us: list[int]
    cells: list[Value]
    arrivals: int | list[int]


def parquet(runs: Sequence[Run], known: Mapping[str, str]) -> bytes:
    """A whole Parquet file with the runs (sorted by sensor) and the key-value metadata.

    The metadata gains `groups-crc32`, the CRC-32 of each row group's bytes, and
    `footer-sha256`, the SHA-256 of the footer with this field zeroed: together they
    cover every byte a reader fetches. Raises ValueError where a number is not finite.
    """
    return _signed(_write([_table(group) for group in _groups(runs)], known))


def _groups(ordered: Sequence[Run]) -> Iterator[_Group]:
    """Row groups of at most ROWS_PER_GROUP rows, cut between sensors wherever a sensor fits into one."""
    group = _Group()
    for run in ordered:
        if group.ts_us and len(group.ts_us) + run.value_count() > ROWS_PER_GROUP:
            yield group
            group = _Group()
        for metric in sorted(run.metrics):
            block = _block(run, metric)
            start = 0
            while start < len(block.ts_us):
                end = min(len(block.ts_us), start + ROWS_PER_GROUP - len(group.ts_us))
                group.add(run.sensor_id, metric, block, start, end)
                start = end
                if len(group.ts_us) == ROWS_PER_GROUP:
                    yield group
                    group = _Group()
    if group.ts_us:
        yield group


def _block(run: Run, metric: str) -> _Block:
    column = run.metrics[metric]
    arrivals = run.arrival_ms if isinstance(run.arrival_ms, int) else run.arrival_ms[metric]
    if None not in column:
        return _Block(run.ts_us, cast(list[Value], column), arrivals)
    present = [cell is not None for cell in column]
    if not isinstance(arrivals, int):
        arrivals = list(compress(arrivals, present))
    return _Block(
        list(compress(run.ts_us, present)), list(compress(cast(list[Value], column), present)), arrivals
    )


def _table(group: _Group) -> Any:
    rows = len(group.cells)
    kinds = set(map(type, group.cells))
    value, exact = _numeric(group.cells, kinds)
    flag = (
        [cell if cell is True or cell is False else None for cell in group.cells] if bool in kinds else None
    )
    text = [cell if isinstance(cell, str) else None for cell in group.cells] if str in kinds else None
    ts_us = pa.array(np.array(group.ts_us, np.int64)).cast(pa.timestamp("us", "UTC"))
    arrays = [
        _named(group.sensors),
        _named(group.metrics),
        ts_us,
        pa.nulls(rows, pa.float64()) if value is None else value,
        pa.nulls(rows, pa.string()) if exact is None else pa.array(exact, pa.string()),
        pa.nulls(rows, pa.bool_()) if flag is None else pa.array(flag, pa.bool_()),
        pa.nulls(rows, pa.string()) if text is None else pa.array(text, pa.string()),
        pa.array(np.array(group.arrivals, np.int64)),
    ]
    return pa.Table.from_arrays([_plain(array) for array in arrays], schema=SCHEMA)


def _named(fills: Sequence[tuple[str, int]]) -> Any:
    """A string array from names and how many rows each fills, without a Python object per row."""
    places = {name: place for place, name in enumerate(dict.fromkeys(name for name, _ in fills))}
    indices = np.repeat(
        np.array([places[name] for name, _ in fills], np.int32),
        np.array([count for _, count in fills], np.int64),
    )
    return pa.DictionaryArray.from_arrays(pa.array(indices), pa.array(list(places), pa.string()))


def _plain(array: Any) -> Any:
    # A dictionary-typed sensor column would switch pyarrow.dataset's pruning off.
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def _numeric(cells: Sequence[Value], kinds: set[type]) -> tuple[Any, list[str | None] | None]:
    """The `value` and `exact` columns; None for a column that is all null."""
    if int not in kinds and float not in kinds:
        return None, None
    absent = None
    numbers: Sequence[Any] = cells
    if not kinds <= {int, float}:
        absent = np.fromiter((isinstance(cell, (bool, str)) for cell in cells), bool, len(cells))
        numbers = [0.0 if isinstance(cell, (bool, str)) else cell for cell in cells]
    try:
        values = np.array(numbers, np.float64) + 0.0  # -0.0 becomes 0.0, as `canonical` has it
    except OverflowError as error:
        raise ValueError("an integer is too large for a segment") from error
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    exact: list[str | None] = []
    for place in np.flatnonzero(np.abs(values) >= LARGEST_EXACT_INT).tolist():
        text = canonical(numbers[place])
        if text != canonical(float(text)):
            exact = exact or cast(list[str | None], [None] * len(cells))
            exact[place] = text
    return pa.array(values, mask=absent), exact or None


def _write(tables: Sequence[Any], known: Mapping[str, str]) -> bytes:
    sink = io.BytesIO()
    checks: list[str] = []
    with _writer(sink, SCHEMA, _value_encoding(tables)) as writer:
        for table in tables:
            start = sink.tell()
            writer.write_table(table, row_group_size=ROWS_PER_GROUP)
            checks.append(f"{zlib.crc32(sink.getbuffer()[start:]):08x}")
        writer.add_key_value_metadata(
            {**known, GROUP_CHECKS: ",".join(checks), FOOTER_CHECK: UNSIGNED.decode()}
        )
    return sink.getvalue()


def _writer(sink: BinaryIO, schema: Any, value_encoding: str) -> Any:
    by_dictionary = value_encoding == "DICTIONARY"
    encodings = {**_DELTA, "value": value_encoding}
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        compression_level=COMPRESSION_LEVEL,
        use_dictionary=[*_DICTIONARY, "value"] if by_dictionary else _DICTIONARY,
        column_encoding={
            name: encoding
            for name, encoding in encodings.items()
            if name in schema.names and encoding != "DICTIONARY"
        },
        write_statistics=["sensor_id", "metric", "ts", "value"],
        write_page_checksum=True,
        store_schema=False,
    )


def _value_encoding(tables: Sequence[Any]) -> str:
    """The smallest way to store `value`, tried on the first groups: few distinct values favour
    a dictionary, long texts of digits BYTE_STREAM_SPLIT, noise on a slow curve PLAIN under zstd."""
    sample = pa.concat_tables([table.select(["value"]) for table in tables[:_SAMPLED_GROUPS]])
    sizes: dict[str, int] = {}
    for encoding in _VALUE_ENCODINGS:
        sink = io.BytesIO()
        with _writer(sink, sample.schema, encoding) as writer:
            writer.write_table(sample, row_group_size=ROWS_PER_GROUP)
        sizes[encoding] = sink.tell()
    return min(_VALUE_ENCODINGS, key=lambda encoding: sizes[encoding])


def _signed(data: bytes) -> bytes:
    """The same file with the footer's digest in the place kept for it; the length stays."""
    start = len(data) - footer_length(data[-8:])
    place = data.rindex(FOOTER_MARK, start) + len(FOOTER_MARK)
    digest = hashlib.sha256(data[start:]).hexdigest()
    return data[:place] + digest.encode() + data[place + len(digest) :]


def footer_length(tail: bytes) -> int:
    """Bytes of the footer with its length and magic, from an object's last 8 bytes. Raises Corrupt."""
    if len(tail) != 8 or tail[4:] != _MAGIC:
        raise Corrupt("The object does not end as a Parquet file does. Restore it, or remove it and reindex.")
    return int.from_bytes(tail[:4], "little") + 8
