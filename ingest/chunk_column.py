"""One column of numbers as bytes and back: decimals as small whole numbers, squeezed by pcodec.

`FORMATS.md` gives the bytes one by one. Nothing here knows items, times or names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import pcodec as untyped_pcodec

from ingest.reading import Column, Value, canonical, number

pcodec = cast(Any, untyped_pcodec)
wrapped: Any = pcodec.wrapped

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Mask = npt.NDArray[np.uint8]

VERSION: str = pcodec.__version__
"""Another version may squeeze the same numbers into other bytes; any reads what any wrote."""
MOST_VALUES = 131_072
"""No column is longer: it is one page of pcodec's, and nobody is made to hold more at once."""

_STREAM_HEADER = b"\x04\x01"
"""pcodec's format 4.1; said by the chunk's codec tag instead of by each column."""
_WIDTHS = ("u8", "u16", "u32", "u64", "f64")
_FLOAT = 4
_SOME_ABSENT = 8
_MOST_DECIMALS = 15
_PLAIN_DECIMALS = 4
"""Of numbers with at most so many decimals, whole numbers are always the smaller form."""
_EXACT = 2**53
"""Whole numbers below this are exact as doubles, and so is their quotient by a power of ten up to 10^22."""
_BITS_64 = 2**64 - 1
_POWERS = np.power(10.0, np.arange(_MOST_DECIMALS + 1))
_TRIED = 8

_config: Any = pcodec.ChunkConfig(enable_8_bit=True)
_compressor: Any = wrapped.FileCompressor()
_decompressor: Any = wrapped.FileDecompressor.new(_STREAM_HEADER)[0]
WRITES_KNOWN_FORMAT: bool = _compressor.write_header() == _STREAM_HEADER
"""Whether this pcodec writes the format that the tag stands for; where not, nothing is packed."""


class Unpacked(NamedTuple):
    """A decoded column: which readings have a value (None: all), and the values of those."""

    present: Mask | None
    numbers: Numbers


# --- values -> bytes --------------------------------------------------------------------


def pack_column(column: Column) -> tuple[bytes, Unpacked] | None:
    """A column of numbers and absent values as bytes, and what they decode to.

    None where it holds anything else, or numbers this form cannot give back exactly: ints
    beyond 64 bits, and ints beyond 2^53 beside floats. The bytes were decoded again and compared.
    """
    cells = [cell for cell in column if cell is not None]
    present = None
    if len(cells) < len(column):
        present = np.fromiter((cell is not None for cell in column), np.uint8, len(column))
    numbers = _numbers(cells)
    return None if numbers is None else pack(numbers, present)


def _numbers(cells: Sequence[Value]) -> Numbers | None:
    kinds = set(map(type, cells))
    try:
        if kinds == {int}:
            return np.array(cells, np.int64)
        if kinds == {float} or (
            kinds == {int, float} and all(-_EXACT <= cell <= _EXACT for cell in cells if type(cell) is int)
        ):
            return np.array(cells, np.float64) + 0.0  # -0.0 becomes 0.0
    except OverflowError:
        pass
    return None


def pack(numbers: Numbers, present: Mask | None = None) -> tuple[bytes, Unpacked] | None:
    """The numbers as the smallest bytes, and what they decode to; None where they do not come back.

    `present` says for each reading whether it has a number. Numbers without a fraction are
    kept as ints whatever they were. 1 to MOST_VALUES values (None beyond).
    """
    count = len(numbers) if present is None else len(present)
    if not 0 < len(numbers) <= count <= MOST_VALUES or not WRITES_KNOWN_FORMAT:
        return None
    best = min(_forms(numbers), key=len)
    if present is not None:
        best = bytes([best[0] | _SOME_ABSENT]) + _squeeze(present) + best[1:]
    try:
        back = unpack(best, count)
    except ValueError:
        return None
    same_places = present is None or np.array_equal(present, cast(Mask, back.present))
    return (best, back) if same_places and np.array_equal(back.numbers, numbers) else None


def _forms(numbers: Numbers) -> list[bytes]:
    if numbers.dtype == np.int64:
        return [_whole(cast(npt.NDArray[np.int64], numbers), 0)]
    floats = cast(npt.NDArray[np.float64], numbers)
    scaled, decimals = _as_decimals(floats)
    if scaled is None:
        return [_raw(floats)]
    found = _whole(scaled, decimals)
    return [found] if decimals <= _PLAIN_DECIMALS else [found, _raw(floats)]


def _raw(floats: npt.NDArray[np.float64]) -> bytes:
    return bytes([_FLOAT]) + _squeeze(floats)


def _as_decimals(floats: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64] | None, int]:
    """The numbers times the least power of ten that leaves no fraction, and that power."""
    few = floats[:_TRIED, None]
    tried = np.rint(few * _POWERS)
    fits = ((tried / _POWERS == few) & (np.abs(tried) < _EXACT)).all(axis=0)
    for decimals in np.flatnonzero(fits).tolist():
        scaled = np.rint(floats * _POWERS[decimals])
        if np.abs(scaled).max() >= _EXACT:
            break
        if (scaled / _POWERS[decimals] == floats).all():
            return scaled.astype(np.int64), decimals
    return None, 0


def _whole(numbers: npt.NDArray[np.int64], decimals: int) -> bytes:
    """Shape, least number, common factor, and how many factors each number lies above the least."""
    least = int(numbers.min())
    above = numbers.view(np.uint64) - np.uint64(least & _BITS_64)
    factor = int(np.gcd.reduce(above[:_TRIED]))
    if factor != 1:
        factor = int(np.gcd.reduce(above)) or 1
        above //= np.uint64(factor)
    most = int(above.max())
    width = 0 if most < 2**8 else 1 if most < 2**16 else 2 if most < 2**32 else 3
    narrow = above.astype(np.dtype(f"u{2**width}"))
    shape = bytes([width | decimals << 4])
    return shape + _varint(_zigzag(least)) + _varint(factor) + _squeeze(narrow)


def _squeeze(array: npt.NDArray[Any]) -> bytes:
    chunk = _compressor.chunk_compressor(array, _config)
    return chunk.write_meta() + chunk.write_page(0)


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


# --- bytes -> values --------------------------------------------------------------------


def unpack(data: bytes, count: int) -> Unpacked:
    """What `pack` made of a column of `count` readings. Raises ValueError where the bytes are not that.

    Changed bytes may decode to other numbers: the chunk's checksum tells.
    """
    if not data or not 0 < count <= MOST_VALUES:
        raise ValueError(f"{len(data)} packed bytes for {count} readings")
    shape, at = data[0], 1
    width, decimals = shape & 7, shape >> 4
    present = None
    if shape & _SOME_ABSENT:
        present, at = _expand(data, at, "u8", count)
        if present.max() > 1 or not present.any():
            raise ValueError("a packed column that says neither present nor absent")
        count = int(present.sum())
    if width == _FLOAT and not decimals:
        numbers, at = _expand(data, at, "f64", count)
    elif width < _FLOAT:
        least, at = _read_varint(data, at)
        factor, at = _read_varint(data, at)
        above, at = _expand(data, at, _WIDTHS[width], count)
        start = np.uint64((least >> 1 if not least & 1 else -(least >> 1) - 1) & _BITS_64)
        numbers = (above.astype(np.uint64) * np.uint64(factor) + start).view(np.int64)
        if decimals:
            numbers = numbers / _POWERS[decimals]
    else:
        raise ValueError(f"a packed column of the unknown shape {shape}")
    if at != len(data):
        raise ValueError("a packed column followed by something else")
    return Unpacked(present, numbers)


def _expand(data: bytes, at: int, width: str, count: int) -> tuple[Any, int]:
    """So many numbers from the bytes at a place, and the place behind them."""
    found = np.empty(count, np.dtype(f"{width[0]}{int(width[1:]) // 8}"))
    try:
        chunk, meta_bytes = _decompressor.chunk_decompressor(data[at:], width)
        progress, page_bytes = chunk.read_page_into(data[at + meta_bytes :], count, found)
    except BaseException as error:
        # A panic in pcodec arrives as an exception that is no Exception; the bytes caused it all the same.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise ValueError(f"a packed column that pcodec refuses ({error})") from error
        raise
    if not progress.finished or progress.n_processed != count:
        raise ValueError(f"a packed column of fewer than {count} numbers")
    return found, at + meta_bytes + page_bytes


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value & _BITS_64, at
        shift += 7
    raise ValueError("a packed column that breaks off in a number")


def cells(unpacked: Unpacked) -> Column:
    """The column's values, as the list codec gives them: ints where there is no fraction, else floats."""
    numbers: list[int | float] = unpacked.numbers.tolist()
    if unpacked.numbers.dtype == np.float64:
        for place in np.flatnonzero(np.floor(unpacked.numbers) == unpacked.numbers).tolist():
            value = numbers[place]
            numbers[place] = int(value) if -_EXACT < value < _EXACT else number(canonical(value))
    if unpacked.present is None:
        return cast(Column, numbers)
    following = iter(numbers)
    return [next(following) if here else None for here in unpacked.present.tolist()]
