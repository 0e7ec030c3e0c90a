"""One table item as the text that is sent, and what it weighs by AWS's rules."""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from ingest.keys import Key

Attribute = dict[str, object]
"""A DynamoDB AttributeValue: one type letter and its value."""
UNIT_BYTES = 1024
"""A write unit carries 1 KB ("DynamoDB read and write operations")."""
MOST_ITEM_BYTES = 400 * 1024


@dataclass(frozen=True, slots=True)
class Item:
    """A table item ready to be put: its key and its whole body as DynamoDB JSON.

    `counted_bytes` is its billed size where whoever made it knows that; else it is counted when asked for.
    """

    key: Key
    body: str
    counted_bytes: int | None = field(default=None, compare=False)

    @property
    def size_bytes(self) -> int:
        """The billed size (`item_size`)."""
        return item_size(json.loads(self.body)) if self.counted_bytes is None else self.counted_bytes


def make_item(attributes: Mapping[str, Attribute]) -> Item:
    """An item from AttributeValues; `pk` and `sk` must be among them."""
    key = Key(cast(str, attributes["pk"]["S"]), cast(str, attributes["sk"]["S"]))
    body = json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))
    return Item(key, body, item_size(attributes))


def item_size(item: Mapping[str, Attribute]) -> int:
    """Bytes AWS bills for an item ("DynamoDB item sizes and formats").

    Names and texts count their UTF-8 bytes, BOOL and NULL one byte, a list or map three
    plus one per element, a number one byte per two significant digits aligned on the
    decimal point plus one, plus one where negative.
    """
    return sum(len(name.encode()) + value_size(value) for name, value in item.items())


def value_size(attribute: Attribute) -> int:
    """Bytes of one AttributeValue without its name. Raises ValueError on an unknown type."""
    ((kind, value),) = attribute.items()
    if kind == "N":
        return number_size(cast(str, value))
    if kind == "S":
        return len(cast(str, value).encode())
    if kind in ("BOOL", "NULL"):
        return 1
    if kind == "L":
        return 3 + sum(1 + value_size(element) for element in cast(list[Attribute], value))
    if kind == "M":
        members = cast(dict[str, Attribute], value)
        return 3 + sum(1 + len(name.encode()) + value_size(member) for name, member in members.items())
    if kind == "B":
        return len(binary(value))
    raise ValueError(f"{kind} is not an attribute type this project stores")


def binary(value: object) -> bytes:
    """The bytes of a Binary: as a client gives them, or from the base64 in which JSON carries them.

    Raises ValueError where the text is not base64.
    """
    return a2b_base64(value, strict_mode=True) if isinstance(value, str) else cast(bytes, value)


def number_size(text: str) -> int:
    """Bytes of a Number, zero being one; the larger reading where AWS's page leaves two.

    Source: "DynamoDB item sizes and formats": about one byte per two significant digits
    plus one, leading and trailing zeros trimmed, one more for a negative number.
    """
    negative = text[0] == "-"
    digits = text[1:] if negative else text
    mantissa, _, exponent = digits.lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + (int(exponent) if exponent else 0)
    significant = whole + fraction
    stripped = significant.lstrip("0")
    point -= len(significant) - len(stripped)
    stripped = stripped.rstrip("0")
    if not stripped:
        return 1
    pairs = (len(stripped) + (point & 1) + 1) // 2
    return pairs + 1 + negative


def write_units(size_bytes: int) -> int:
    """Write units one put of an item of this size consumes (1 KB each, rounded up)."""
    return max(1, -(-size_bytes // UNIT_BYTES))
