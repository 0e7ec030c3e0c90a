"""Thrift's compact protocol, as much of it as writing Parquet headers and footers, and reading headers, takes."""

from __future__ import annotations

from collections.abc import Sequence

TRUE, I32, I64, BINARY, LIST, STRUCT = 1, 5, 6, 8, 9, 12
"""Types of a field ("Thrift Compact protocol encoding")."""
_SHORT_LIST = 15


def varint(number: int) -> bytes:
    """A number from 0 on, 7 bits a byte, the low ones first."""
    if number < 0x80:
        return bytes((number,))
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def integer(number: int) -> bytes:
    """An I32 or I64."""
    return varint(number << 1 if number >= 0 else (-number << 1) - 1)


def binary(content: bytes) -> bytes:
    """Bytes or a text."""
    return varint(len(content)) + content


def listed(kind: int, items: Sequence[bytes]) -> bytes:
    """A list of encoded items of one type."""
    count = len(items)
    head = bytes((count << 4 | kind,)) if count < _SHORT_LIST else bytes((0xF0 | kind,)) + varint(count)
    return head + b"".join(items)


def struct(*fields: tuple[int, int, bytes] | None) -> bytes:
    """A struct of (id, type, encoded value), ids ascending by at most 15; None stands for a field left out."""
    made: list[bytes] = []
    last = 0
    for field in fields:
        if field is not None:
            identifier, kind, content = field
            made.append(bytes(((identifier - last) << 4 | kind,)))
            made.append(content)
            last = identifier
    made.append(b"\x00")
    return b"".join(made)


# --- reading ----------------------------------------------------------------------------

Buffer = bytes | memoryview
Fields = dict[int, "int | Fields"]


def read_varint(data: Buffer, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises IndexError where the bytes end."""
    byte = data[at]
    number, shift = byte & 0x7F, 7
    while byte >= 0x80:
        at += 1
        byte = data[at]
        number |= (byte & 0x7F) << shift
        shift += 7
    return number, at + 1


def read_struct(data: Buffer, at: int) -> tuple[Fields, int]:
    """The struct at a place by its fields' ids, and the place behind it: numbers and structs of numbers.

    Raises ValueError where there is anything else in it, IndexError where the bytes end.
    """
    fields: Fields = {}
    identifier = 0
    while head := data[at]:
        kind, identifier = head & 0xF, identifier + (head >> 4)
        if kind in (I32, I64):
            coded, at = read_varint(data, at + 1)
            fields[identifier] = coded >> 1 if not coded & 1 else -(coded >> 1) - 1
        elif kind == STRUCT:
            fields[identifier], at = read_struct(data, at + 1)
        else:
            raise ValueError(f"a field of the unexpected type {kind}")
    return fields, at + 1
