"""The packed codec of chunks: times and columns as binaries beside what stays a list, under one checksum."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping
from typing import NamedTuple, cast
from zlib import crc32

import numpy as np
import numpy.typing as npt

from ingest import chunk_column, chunk_list
from ingest.chunk_column import MOST_VALUES, Unpacked
from ingest.chunk_list import CONTAINER, ELEMENT, Text
from ingest.item import Attribute, binary, number_size, write_units
from ingest.keys import US
from ingest.reading import Column, Run, Value, canonical

Times = npt.NDArray[np.int64]

WRITER = f"packed {chunk_column.VERSION}"
"""Enters the batch id: another writer may cut other chunks, which must not take the place of the first."""
_CHECKSUM_BYTES = 4
_ROUNDED_TO = (1, 2, 3, 4)
_LEAST_CHOICE = 32
"""Below so many readings, a list is as small as its different cells and which is where."""


class _Stored(NamedTuple):
    """Times or a column as stored: attributes, and the bytes that stand for them in the checksum."""

    text: Text
    checked: bytes


# --- run -> item ------------------------------------------------------------------------


def smaller(run: Run, bucket_start_s: int, head_bytes: int) -> Text:
    """The times and values in the codec that takes fewer write units; where they take as many, as lists.

    `head_bytes` is what the rest of the item weighs. The run has one arrival.
    """
    least_units = write_units(head_bytes + len(run.ts_us) * sum(map(_least_element, run.metrics.values())))
    packed = None
    if least_units > 1:
        packed = body(run, bucket_start_s)
        if write_units(head_bytes + packed.size_bytes) < least_units:
            return packed
    listed = chunk_list.body(run, bucket_start_s)
    listed_units = write_units(head_bytes + listed.size_bytes)
    if listed_units == 1:
        return listed
    packed = packed or body(run, bucket_start_s)
    return packed if write_units(head_bytes + packed.size_bytes) < listed_units else listed


def _least_element(column: Column) -> int:
    """No element of the column, as a list, weighs less: its own byte, and one more except of an empty text."""
    if chunk_list.is_constant(column) or column.count(None) == len(column):
        return 0
    return ELEMENT if str in set(map(type, column)) else ELEMENT + 1


def body(run: Run, bucket_start_s: int, head_bytes: int = 0) -> Text:
    """The attributes that hold times and values, and their checksum, packed whether or not that pays.

    At most MOST_VALUES readings, of one arrival.
    """
    del head_bytes
    ts_us = np.array(run.ts_us, np.int64)
    start = str(run.ts_us[0] - bucket_start_s * US)
    times = _times(ts_us)
    columns = [
        (name, _column(column)) for name, column in run.metrics.items() if column.count(None) < len(column)
    ]
    named = ",".join(f'"{name}":{column.text.json}' for name, column in columns)
    size = len("t0") + number_size(start) + times.text.size_bytes + len("v") + CONTAINER
    size += sum(ELEMENT + len(name) + column.text.size_bytes for name, column in columns)
    arrival_ms = cast(int, run.arrival_ms)
    check = _checksum(arrival_ms, times.checked, {name: column.checked for name, column in columns})
    json = f'"t0":{{"N":"{start}"}},{times.text.json}"v":{{"M":{{{named}}}}},"k":{_binary(check).json}'
    return Text(json, size + len("k") + _CHECKSUM_BYTES, "packed")


def _binary(data: bytes) -> Text:
    return Text(f'{{"B":"{b2a_base64(data, newline=False).decode()}"}}', len(data))


def _times(ts_us: Times) -> _Stored:
    """A step; or a step and packed distances from that grid; or packed gaps. Whichever is smallest."""
    if len(ts_us) == 1:
        return _Stored(Text("", 0), _times_checked(ts_us))
    gaps = np.diff(ts_us)
    if (gaps == gaps[0]).all():
        return _Stored(chunk_list.step_text(int(gaps[0])), _times_checked(ts_us))
    step_us, distances = _distances(ts_us - ts_us[0])
    found: list[_Stored] = []
    for numbers, before in ((gaps, Text("", 0)), (distances, chunk_list.step_text(step_us))):
        packed = chunk_column.pack(numbers)
        if packed:
            stored = _binary(packed[0])
            size = before.size_bytes + len("t") + stored.size_bytes
            text = Text(f'{before.json}"t":{stored.json},', size)
            found.append(_Stored(text, _times_checked(ts_us, packed[0])))
    if not found:
        return _Stored(chunk_list.number_list("t", gaps.tolist()), _times_checked(ts_us))
    return min(found, key=lambda stored: stored.text.size_bytes)


def _distances(since_first: Times) -> tuple[int, Times]:
    """The step from whose grid the times stray least, and how far each but the first stands from its place.

    A step is most often a round number: the mean gap is rounded to one digit and more; else it is the median.
    """
    places = np.arange(1, len(since_first))
    mean = int(since_first[-1]) // len(places)
    digits = len(str(mean))
    steps = {round(mean, kept - digits) for kept in _ROUNDED_TO} | {int(np.median(np.diff(since_first)))}
    best = min(sorted(steps - {0}), key=lambda step: int(np.ptp(since_first[1:] - places * step)))
    return best, since_first[1:] - places * best


def _column(column: Column) -> _Stored:
    """The smallest of the forms that give the column back exactly."""
    if len(column) == 1 or chunk_list.is_constant(column):
        text = chunk_list.list_column(column, None, len(column))
        return _Stored(text, _cell_checked(column[0]).encode() * len(column))
    packed = chunk_column.pack_column(column)
    if packed:
        data, back = packed
        return _Stored(_binary(data), _numbers_checked(data, back))
    chosen = _as_choice(column)
    return chosen or _Stored(chunk_list.list_column(column, None, len(column)), _cells_checked(column))


def _as_choice(column: Column) -> _Stored | None:
    """The different cells once each, and packed for every reading which of them it is."""
    places: dict[tuple[type, Value | None], int] = {}
    which = [places.setdefault((type(cell), cell), len(places)) for cell in column]
    if len(column) < _LEAST_CHOICE or len(places) > len(column) // 2:
        return None
    packed = chunk_column.pack(np.array(which, np.int64))
    if packed is None:
        return None
    cells = [_binary(packed[0]), *(chunk_list.cell_text(cell) for _, cell in places)]
    size = CONTAINER + sum(ELEMENT + cell.size_bytes for cell in cells)
    text = Text(f'{{"L":[{",".join([cell.json for cell in cells])}]}}', size)
    return _Stored(text, packed[0] + _choice_checked([cell for _, cell in places], which))


# --- the checksum -----------------------------------------------------------------------


def _checksum(arrival_ms: int, times: bytes, columns: Mapping[str, bytes]) -> bytes:
    """CRC-32 over arrival, times, and each metric's name and values: binaries as stored, then what they mean."""
    state = crc32(times, crc32(arrival_ms.to_bytes(8, "little", signed=True)))
    for name in sorted(columns):
        state = crc32(columns[name], crc32(name.encode() + b"\0", state))
    return state.to_bytes(_CHECKSUM_BYTES, "big")


def _times_checked(ts_us: Times, data: bytes = b"") -> bytes:
    return data + ts_us.astype("<i8", copy=False).tobytes()


def _numbers_checked(data: bytes, unpacked: Unpacked) -> bytes:
    wide = "<i8" if unpacked.numbers.dtype == np.int64 else "<f8"
    present = b"" if unpacked.present is None else unpacked.present.tobytes()
    return data + present + unpacked.numbers.astype(wide, copy=False).tobytes()


def _cells_checked(column: Column) -> bytes:
    """A letter for the type, the canonical text and a NUL for each cell."""
    return "".join([_cell_checked(cell) for cell in column]).encode()


def _choice_checked(cells: Column, which: list[int]) -> bytes:
    """As `_cells_checked`, of the column that has these of the cells."""
    checked = [_cell_checked(cell) for cell in cells]
    return "".join([checked[place] for place in which]).encode()


def _cell_checked(cell: Value | None) -> str:
    if cell is None:
        return "0\0"
    letter = "s" if isinstance(cell, str) else "b" if isinstance(cell, bool) else "n"
    return f"{letter}{canonical(cell)}\0"


# --- item -> run ------------------------------------------------------------------------


def decode_run(item: Mapping[str, Attribute], sensor_id: str, bucket_start_s: int, count: int) -> Run:
    """The run of a packed item. Raises KeyError, ValueError or TypeError where it is damaged."""
    if not 0 < count <= MOST_VALUES:
        raise ValueError(f"it says {count} readings; 1 to {MOST_VALUES} can be packed")
    arrival_ms = int(cast(str, item["at"]["N"]))
    if not abs(arrival_ms) < 2**63:
        raise ValueError("it arrived beyond any time")
    ts_us = _decode_times(item, bucket_start_s * US + int(cast(str, item["t0"]["N"])), count)
    times = _times_checked(ts_us, _binary_in(item.get("t", {})))
    metrics: dict[str, Column | Unpacked] = {}
    checked: dict[str, bytes] = {}
    for name, stored in cast(dict[str, Attribute], item["v"]["M"]).items():
        if "B" in stored:
            data = binary(stored["B"])
            unpacked = chunk_column.unpack(data, count)
            metrics[name], checked[name] = unpacked, _numbers_checked(data, unpacked)
        else:
            metrics[name], checked[name] = _decode_cells(stored, count)
    if _checksum(arrival_ms, times, checked) != binary(item["k"]["B"]):
        raise ValueError("its checksum does not fit what it holds")
    columns = {
        name: chunk_column.cells(found) if isinstance(found, Unpacked) else found
        for name, found in metrics.items()
    }
    return Run(sensor_id, ts_us.tolist(), columns, arrival_ms)


def _binary_in(stored: Attribute) -> bytes:
    return binary(stored["B"]) if "B" in stored else b""


def _decode_times(item: Mapping[str, Attribute], first_us: int, count: int) -> Times:
    step_us = int(cast(str, item["dt"]["N"])) if "dt" in item else 0
    if not (abs(first_us) < 2**62 and 0 <= step_us < 2**45):
        raise ValueError("its times lie beyond any time")
    grid = first_us + np.arange(count, dtype=np.int64) * step_us
    if "t" not in item:
        ts_us = grid
    else:
        numbers = _decode_gaps(item["t"], count - 1)
        numbers = numbers if step_us else np.cumsum(numbers)
        ts_us = grid + np.concatenate([np.zeros(1, np.int64), numbers])
    if count > 1 and not (ts_us[1:] > ts_us[:-1]).all():
        raise ValueError("its times do not increase")
    return ts_us


def _decode_gaps(stored: Attribute, count: int) -> Times:
    if "B" in stored:
        numbers = chunk_column.unpack(binary(stored["B"]), count).numbers
    else:
        numbers = np.array(
            [int(element["N"]) for element in cast(list[dict[str, str]], stored["L"])], np.int64
        )
    if numbers.dtype != np.int64 or len(numbers) != count:
        raise ValueError("it has other than one time for each reading")
    return cast(Times, numbers)


def _decode_cells(stored: Attribute, count: int) -> tuple[Column, bytes]:
    """A column that is not packed as a whole, and what stands for it in the checksum."""
    if "L" not in stored:
        cell = chunk_list.decode_cell(stored)
        return [cell] * count, _cell_checked(cell).encode() * count
    elements = cast(list[dict[str, object]], stored["L"])
    if elements and "B" in elements[0]:
        data = binary(elements[0]["B"])
        which = chunk_column.unpack(data, count).numbers
        cells = chunk_list.decode_list(elements[1:])
        if which.dtype != np.int64 or len(which) != count or which.min() < 0 or which.max() >= len(cells):
            raise ValueError("a column that names a value it does not hold")
        places: list[int] = which.tolist()
        return [cells[place] for place in places], data + _choice_checked(cells, places)
    if len(elements) != count:
        raise ValueError("its columns differ in length")
    column = chunk_list.decode_list(elements)
    return column, _cells_checked(column)
