"""Columns of numbers as the JSON text that is stored, checked as a whole by looking at that text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import msgspec

from ingest.reading import MAX_INT_DIGITS

SAFE_MAGNITUDE = 10.0**MAX_INT_DIGITS
"""Below it any whole number can be stored, and any float that is not too small."""
_encode = msgspec.json.Encoder().encode
_OF_NUMBER_LISTS = b"0123456789.-,[]"


def number_text(columns: Collection[Sequence[Any]], count: int) -> bytes | None:
    """The columns, each of `count` cells, as an array of arrays, where every cell is a number that is stored as it is.

    None where a cell is absent, no number, out of range, or odd in that its text has an
    exponent or it is a negative zero; a closer look then tells which. `count` is at least 1.
    """
    try:
        text = _encode(list(columns))
    except ValueError:  # a text that is no Unicode, or an int of thousands of digits
        return None
    if text.translate(None, _OF_NUMBER_LISTS):
        return None
    # Without an exponent a float lies in range. An int has no point; it may be too long.
    if text.count(b".") != count * len(columns) and not all(map(_short, columns)):
        return None
    if b"-0.0" in text and (b"-0.0," in text or b"-0.0]" in text):
        return None
    return text


def _short(column: Sequence[float]) -> bool:
    return min(column) > -SAFE_MAGNITUDE and max(column) < SAFE_MAGNITUDE


def split_columns(text: bytes, between: str) -> list[str]:
    """The inside of each array of what `number_text` made, with `between` in place of the commas."""
    return text[2:-2].decode().replace(",", between).split(f"]{between}[")
