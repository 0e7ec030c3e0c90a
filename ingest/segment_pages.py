"""Column chunks of a segment: pages whose values begin at whole bytes, so that zstd finds what repeats in them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pyarrow.parquet

from ingest.segment_thrift import I32, STRUCT, integer, struct, varint

pa = cast(Any, pyarrow)
pq = cast(Any, pyarrow.parquet)

COMPRESSION_LEVEL = 4
"""Of zstd, for what is written soon: beyond it pages of an hour grow slower to write, not smaller."""
THOROUGH_LEVEL = 16
"""Of zstd, for what is written once and kept for years: it finds repetitions of three bytes, which
pages of half a day are full of. Five times as slow to write; read as fast."""
PLAIN, RLE, DELTA, RLE_DICTIONARY, BYTE_STREAM_SPLIT = 0, 3, 5, 8, 9
"""Encodings, as Parquet numbers them (parquet.thrift, Encoding)."""
LEAST_PAGE_ROWS = 2_048
"""Pages of doubles end where a metric of a sensor ends, as each has its own few values; but not sooner."""
LARGEST_DICTIONARY = 65_536
_BYTE = 256
_REPEATED = 8
"""Where doubles occur so often on average, no other encoding is tried."""
DATA_PAGE, DICTIONARY_PAGE = 0, 2
DICTIONARY_HEAD, DATA_HEAD = 7, 5
_ARROW_NAMES = {"PLAIN": PLAIN, "RLE": RLE, "DELTA_BINARY_PACKED": DELTA, "RLE_DICTIONARY": RLE_DICTIONARY}
codec = pa.Codec("zstd")
"""To unpack with."""

Doubles = np.ndarray[Any, np.dtype[np.float64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]
Integers = np.ndarray[Any, np.dtype[np.int32]]
Encode = Callable[[int, int], bytes]
"""The bytes of the present values at `[start, end)`."""
Page = tuple[bytes, int]
"""A page with its header, and its size before compression."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A column chunk: its bytes (`dictionary_bytes` of them the dictionary page, 0 without one), and what the
    footer says of it. `nulls` is None in a column that has none; `least` and `greatest`, in plain encoding,
    are None where the footer does not tell them."""

    data: bytes
    dictionary_bytes: int
    uncompressed_bytes: int
    encodings: tuple[int, ...]
    nulls: int | None = None
    least: bytes | None = None
    greatest: bytes | None = None


# --- columns of other kinds -------------------------------------------------------------


def runs_chunk(cells: Sequence[bytes], counts: Sequence[int]) -> Chunk:
    """A column without nulls that stays the same for many rows: values in plain encoding, and how many
    rows each fills."""
    places = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    width = max(1, (len(places) - 1).bit_length())
    size = -(-width // 8)
    runs = [
        varint(count << 1) + places[cell].to_bytes(size, "little")
        for cell, count in zip(cells, counts, strict=True)
    ]
    dictionary = _dictionary_page(b"".join(places), len(places))
    page = _data_page(bytes((width,)) + b"".join(runs), sum(counts), RLE_DICTIONARY)
    return Chunk(
        data=dictionary[0] + page[0],
        dictionary_bytes=len(dictionary[0]),
        uncompressed_bytes=dictionary[1] + page[1],
        encodings=(PLAIN, RLE, RLE_DICTIONARY),
    )


@lru_cache(maxsize=64)
def null_chunk(rows: int) -> Chunk:
    """A column, of any type, in which every row is null."""
    page = _data_page(levels(np.zeros(rows, bool), rows, 0), rows, PLAIN)
    return Chunk(page[0], 0, page[1], (PLAIN, RLE), nulls=rows)


def arrow_chunk(array: Any, encoding: str | None, level: int = COMPRESSION_LEVEL) -> Chunk:
    """An Arrow array as pyarrow writes it: by the encoding of that name; None: by a dictionary where it can."""
    sink = io.BytesIO()
    schema = pa.schema([pa.field("c", array.type, nullable=array.null_count > 0 or encoding is None)])
    pq.write_table(
        pa.Table.from_arrays([array], schema=schema),
        sink,
        row_group_size=len(array),
        max_rows_per_page=len(
            array
        ),  # one page: the times of a second metric are a repetition of the first's
        write_batch_size=len(array),
        compression="zstd",
        compression_level=level,
        use_dictionary=encoding is None,
        column_encoding=None if encoding is None else {"c": encoding},
        write_statistics=False,
        write_page_checksum=True,
        store_schema=False,
    )
    column = pq.read_metadata(sink).row_group(0).column(0)
    start = column.dictionary_page_offset if column.has_dictionary_page else column.data_page_offset
    return Chunk(
        data=bytes(sink.getbuffer()[start : start + column.total_compressed_size]),
        dictionary_bytes=column.data_page_offset - start,
        uncompressed_bytes=column.total_uncompressed_size,
        encodings=tuple(_ARROW_NAMES[name] for name in column.encodings),
        nulls=array.null_count if encoding is None else None,
    )


# --- doubles ----------------------------------------------------------------------------


def doubles_chunk(
    values: Doubles, valid: Flags | None, ends: Sequence[int], level: int = COMPRESSION_LEVEL
) -> Chunk:
    """The smallest chunk that holds the values; `valid` says which are none of null (None: all).

    `ends` are the rows at which a metric of a sensor ends, ascending, the last being the count.
    """
    present = values if valid is None else values[valid]
    dictionary = pa.array(present).dictionary_encode()
    distinct = len(dictionary.dictionary)
    made: list[Chunk] = []
    pages = _Pages(present, valid, _places(valid, _cuts(ends)), level)
    if distinct <= LARGEST_DICTIONARY:
        made.append(_by_dictionary(pages, dictionary))
    if not made or distinct * _REPEATED > len(present):
        made.append(pages.chunk(PLAIN, lambda start, end: present[start:end].tobytes()))
        made.append(pages.chunk(BYTE_STREAM_SPLIT, lambda start, end: _split(present[start:end])))
    return min(made, key=lambda chunk: len(chunk.data))


def _split(values: Doubles) -> bytes:
    return values.view(np.uint8).reshape(-1, 8).T.tobytes()


def _by_dictionary(pages: _Pages, dictionary: Any) -> Chunk:
    """Places in a dictionary, in whole bytes: zstd finds repetitions only where values begin at bytes.
    The width stands in each page; the writers of Arrow and others take the fewest bits."""
    distinct = dictionary.dictionary.to_numpy()
    found = dictionary.indices.to_numpy()
    order = np.lexsort((distinct, ~_of_short_pages(pages, found, len(distinct))))
    place = np.empty(len(distinct), np.uint16)
    place[order] = np.arange(len(distinct), dtype=np.uint16)
    wide = place[found]

    def encode(start: int, end: int) -> bytes:
        indices = wide[start:end]
        if start == end or indices.max() < _BYTE:
            indices = indices.astype(np.uint8)
        groups = -(-len(indices) // 8)
        fill = bytes((groups * 8 - len(indices)) * indices.itemsize)
        return bytes([8 * indices.itemsize]) + varint(groups << 1 | 1) + indices.tobytes() + fill

    return pages.chunk(RLE_DICTIONARY, encode, _dictionary_page(distinct[order].tobytes(), len(distinct)))


def _of_short_pages(pages: _Pages, found: Integers, distinct: int) -> Flags:
    """Which values to put first in the dictionary, at most as many as a byte can tell: those of the pages
    that have the fewest. The places of these pages then take a byte each."""
    first = np.zeros(distinct, bool)
    if distinct <= _BYTE:
        return first
    used = [np.bincount(found[place.first : place.last], minlength=distinct) > 0 for place in pages.places]
    for of_page in sorted(used, key=np.count_nonzero):
        both = first | of_page
        if np.count_nonzero(both) > _BYTE:
            break
        first = both
    return first


@dataclass(frozen=True, slots=True)
class _Place:
    """A page: its rows `[start, end)`, and which of the present values they hold, `[first, last)`."""

    start: int
    end: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class _Pages:
    """The column before it is encoded: its present values, which rows they fill, and where pages end."""

    present: Doubles
    valid: Flags | None
    places: list[_Place]
    level: int

    def chunk(self, encoding: int, encode: Encode, dictionary: Page = (b"", 0)) -> Chunk:
        pages = [dictionary]
        for at in self.places:
            rows = at.end - at.start
            valid = None if self.valid is None else self.valid[at.start : at.end]
            present = levels(valid, rows, at.last - at.first)
            pages.append(_data_page(present + encode(at.first, at.last), rows, encoding, self.level))
        some = len(self.present) > 0
        return Chunk(
            data=b"".join(data for data, _ in pages),
            dictionary_bytes=len(dictionary[0]),
            uncompressed_bytes=sum(size for _, size in pages),
            encodings=tuple(sorted({PLAIN, RLE, encoding} if dictionary[0] else {RLE, encoding})),
            nulls=self.places[-1].end - len(self.present),
            least=self.present.min().tobytes() if some else None,
            greatest=self.present.max().tobytes() if some else None,
        )


def _places(valid: Flags | None, cuts: Sequence[int]) -> list[_Place]:
    places: list[_Place] = []
    start = first = 0
    for end in cuts:
        last = first + (end - start if valid is None else int(np.count_nonzero(valid[start:end])))
        places.append(_Place(start, end, first, last))
        start, first = end, last
    return places


def _cuts(ends: Sequence[int]) -> list[int]:
    cuts: list[int] = []
    start = 0
    for end in ends:
        if end - start >= LEAST_PAGE_ROWS or end == ends[-1]:
            cuts.append(end)
            start = end
    return cuts


# --- pages ------------------------------------------------------------------------------


def levels(valid: Flags | None, rows: int, held: int) -> bytes:
    """Which of the rows hold a value (definition levels); `held` do."""
    if valid is None or held in (0, rows):
        return _same_level(rows, present=held > 0)
    bits = np.packbits(valid, bitorder="little").tobytes()
    coded = varint(len(bits) << 1 | 1) + bits
    return len(coded).to_bytes(4, "little") + coded


@lru_cache(maxsize=64)
def _same_level(rows: int, *, present: bool) -> bytes:
    coded = varint(rows << 1) + (b"\x01" if present else b"\x00")
    return len(coded).to_bytes(4, "little") + coded


def _data_page(body: bytes, rows: int, encoding: int, level: int = COMPRESSION_LEVEL) -> Page:
    return _page(DATA_PAGE, body, (DATA_HEAD, STRUCT, _data_head(rows, encoding)), level)


@lru_cache(maxsize=64)
def _data_head(rows: int, encoding: int) -> bytes:
    return struct(
        (1, I32, integer(rows)), (2, I32, integer(encoding)), (3, I32, integer(RLE)), (4, I32, integer(RLE))
    )


def _dictionary_page(body: bytes, count: int) -> Page:
    head = struct((1, I32, integer(count)), (2, I32, integer(PLAIN)))
    return _page(DICTIONARY_PAGE, body, (DICTIONARY_HEAD, STRUCT, head))


def _page(kind: int, body: bytes, head: tuple[int, int, bytes], level: int = COMPRESSION_LEVEL) -> Page:
    packed: bytes = _codec_of(level).compress(body, asbytes=True)
    crc = zlib.crc32(packed)
    header = struct(
        (1, I32, integer(kind)),
        (2, I32, integer(len(body))),
        (3, I32, integer(len(packed))),
        (4, I32, integer(crc - (1 << 32) if crc >> 31 else crc)),
        head,
    )
    return header + packed, len(header) + len(body)


@lru_cache(maxsize=8)
def _codec_of(level: int) -> Any:
    return pa.Codec("zstd", compression_level=level)
