"""The items of an answer as types: what a chunk of lists looks like, its lists not looked at."""

from __future__ import annotations

import msgspec


class TextValue(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A text as AttributeValue."""

    S: str


class NumberValue(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A whole number as AttributeValue."""

    N: int


class Stored(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A list, its elements not looked at, or a single value."""

    L: msgspec.Raw = msgspec.Raw()
    N: str | None = None
    S: str | None = None
    BOOL: bool | None = None
    B: str | None = None


class Columns(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """The columns of a chunk, by metric."""

    M: dict[str, Stored]


class Listed(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A chunk of lists; one of another codec has other attributes, or these with other types."""

    pk: TextValue
    sk: TextValue
    n: NumberValue
    c: TextValue
    at: NumberValue
    ttl: NumberValue
    t0: NumberValue
    v: Columns
    dt: NumberValue | None = None
    t: Stored | None = None
    k: Stored | None = None
