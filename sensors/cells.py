"""What one cell of a text file holds: a value, or an instant; and why it cannot be used."""

from __future__ import annotations

import re
from decimal import Decimal

from ingest import instant
from ingest.gather import MOST_TEXT_BYTES
from ingest.reading import MAX_INT_DIGITS, Value, number_problem

_millis = re.compile(r"-?\d{1,15}(?:\.\d+)?", re.ASCII)
_int = re.compile(r"[+-]?\d+", re.ASCII)
_float = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_significant = re.compile(r"[^eE]*[1-9]")
_not_finite = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)


class CellRefused(Exception):
    """A line or cell that cannot be used: one word, and a sentence without its subject."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sentence = sentence


def cell_value(text: str) -> Value | None:
    """The value a cell holds: None where empty, a number where the text is one, else bool or text.

    An int keeps every digit (up to 38). A float must read back as the number that is
    written, or be the 17 digits that stand for one. Raises CellRefused where a number cannot
    be kept exactly, and where a text is too long or was not UTF-8 (surrogates stand for its bytes).
    """
    bare = text.strip()
    if not bare:
        return None
    if bare in ("true", "false"):
        return bare == "true"
    if _int.fullmatch(bare):
        digits = bare.lstrip("+-0")
        if len(digits) > MAX_INT_DIGITS:
            raise CellRefused(
                "int_too_long", f"holds an int of more than {MAX_INT_DIGITS} digits; shorten it."
            )
        return -int(digits or "0") if bare[0] == "-" else int(digits or "0")
    if _not_finite.fullmatch(bare):
        raise CellRefused("not_finite", f"holds {bare}, which is no number; leave the cell empty.")
    return _exact(bare) if _float.fullmatch(bare) else _bounded(text)


def _bounded(text: str) -> str:
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise CellRefused("not_utf8", "is not UTF-8; convert the file.") from None
    if size_bytes > MOST_TEXT_BYTES:
        raise CellRefused("text_too_long", f"holds a text of more than {MOST_TEXT_BYTES} bytes; shorten it.")
    return text


def _exact(text: str) -> float:
    value = float(text)
    shortest = repr(value)
    vanished = not value and _significant.match(text)
    if vanished or number_problem(value):
        raise CellRefused("number_out_of_range", "holds a number outside 1e-130 to 9.99e125; rescale it.")
    if shortest != text and value and Decimal(text) not in (Decimal(shortest), Decimal(f"{value:.16e}")):
        raise CellRefused(
            "not_exact", f"holds more digits than a double keeps (it would be {shortest}); round it."
        )
    return value


def cell_instant(text: str, column: str) -> int:
    """The instant (µs) a cell of a `timestamp` or `ts_ms` column holds, to the nearest microsecond.

    Raises CellRefused where the text is no time of that kind.
    """
    bare = text.strip()
    try:
        if column == "timestamp":
            return instant.from_text(bare)
        if _millis.fullmatch(bare):
            return instant.from_ms(float(bare) if "." in bare else int(bare))
    except ValueError:
        pass
    wanted = (
        "an RFC 3339 time with its zone, such as 2026-11-20T22:00:00Z"
        if column == "timestamp"
        else "epoch milliseconds, such as 1795212000000 or 1795212000000.5"
    )
    raise CellRefused("time", f"has no usable {column}; write {wanted}.")
