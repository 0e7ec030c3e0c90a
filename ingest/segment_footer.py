"""The footer of a segment: schema, row groups and facts, without what a reader can do without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ingest.segment_pages import Chunk
from ingest.segment_thrift import BINARY, I32, I64, LIST, STRUCT, TRUE, binary, integer, listed, struct

BOOLEAN, INT64, DOUBLE, BYTE_ARRAY = 0, 2, 5, 6
"""Physical types, as Parquet numbers them (parquet.thrift, Type)."""
_REQUIRED, _OPTIONAL = 0, 1
_UTF8, _TIMESTAMP_MICROS = 0, 10
_ZSTD = 6
_FORMAT = 2
_NOTHING = struct()
_TEXT = struct((1, STRUCT, _NOTHING))
_UTC_MICROS = struct((8, STRUCT, struct((1, TRUE, b""), (2, STRUCT, struct((2, STRUCT, _NOTHING))))))

Field = tuple[int, int, bytes] | None


@dataclass(frozen=True, slots=True)
class Element:
    """A column of the schema: its physical type, and whether there may be nulls. INT64 named `ts` is µs, UTC."""

    name: str
    physical: int
    nullable: bool


@dataclass(frozen=True, slots=True)
class Group:
    """A row group: its rows, where its bytes begin, and its column chunks, which lie there in this order."""

    rows: int
    at: int
    chunks: Sequence[Chunk]


def footer(
    elements: Sequence[Element], groups: Sequence[Group], known: Mapping[str, str], created_by: str
) -> bytes:
    """A footer with its length and the file's last magic; `known` is the key-value metadata."""
    content = struct(
        (1, I32, integer(_FORMAT)),
        (2, LIST, listed(STRUCT, [_root(len(elements)), *map(_element, elements)])),
        (3, I64, integer(sum(group.rows for group in groups))),
        (4, LIST, listed(STRUCT, [_group(group, elements) for group in groups])),
        (5, LIST, listed(STRUCT, [_pair(name, text) for name, text in known.items()])),
        (6, BINARY, binary(created_by.encode())),
        (7, LIST, listed(STRUCT, [struct((1, STRUCT, _NOTHING))] * len(elements))),
    )
    return content + len(content).to_bytes(4, "little") + b"PAR1"


def _pair(name: str, text: str) -> bytes:
    return struct((1, BINARY, binary(name.encode())), (2, BINARY, binary(text.encode())))


def _root(columns: int) -> bytes:
    return struct((4, BINARY, binary(b"schema")), (5, I32, integer(columns)))


def _element(element: Element) -> bytes:
    converted: Field = None
    logical: Field = None
    if element.physical == BYTE_ARRAY:
        converted, logical = (6, I32, integer(_UTF8)), (10, STRUCT, _TEXT)
    elif element.name == "ts":
        converted, logical = (6, I32, integer(_TIMESTAMP_MICROS)), (10, STRUCT, _UTC_MICROS)
    return struct(
        (1, I32, integer(element.physical)),
        (3, I32, integer(_OPTIONAL if element.nullable else _REQUIRED)),
        (4, BINARY, binary(element.name.encode())),
        converted,
        logical,
    )


def _group(group: Group, elements: Sequence[Element]) -> bytes:
    at = group.at
    columns: list[bytes] = []
    for element, chunk in zip(elements, group.chunks, strict=True):
        columns.append(_chunk(element, chunk, group.rows, at))
        at += len(chunk.data)
    return struct(
        (1, LIST, listed(STRUCT, columns)),
        (2, I64, integer(sum(chunk.uncompressed_bytes for chunk in group.chunks))),
        (3, I64, integer(group.rows)),
    )


def _chunk(element: Element, chunk: Chunk, rows: int, at: int) -> bytes:
    statistics = struct(
        None if chunk.nulls is None else (3, I64, integer(chunk.nulls)),
        None if chunk.greatest is None else (5, BINARY, binary(chunk.greatest)),
        None if chunk.least is None else (6, BINARY, binary(chunk.least)),
    )
    encodings, path = _fixed(element.name, chunk.encodings)
    facts = struct(
        (1, I32, integer(element.physical)),
        (2, LIST, encodings),
        (3, LIST, path),
        (4, I32, integer(_ZSTD)),
        (5, I64, integer(rows)),
        (6, I64, integer(chunk.uncompressed_bytes)),
        (7, I64, integer(len(chunk.data))),
        (9, I64, integer(at + chunk.dictionary_bytes)),
        (11, I64, integer(at)) if chunk.dictionary_bytes else None,
        (12, STRUCT, statistics) if statistics != _NOTHING else None,
    )
    return struct((2, I64, integer(0)), (3, STRUCT, facts))


@lru_cache(maxsize=64)
def _fixed(name: str, encodings: tuple[int, ...]) -> tuple[bytes, bytes]:
    """What is the same for a column in most row groups: its encodings and its path."""
    path = listed(BINARY, [binary(name.encode())])
    return listed(I32, [integer(encoding) for encoding in encodings]), path
