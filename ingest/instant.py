"""Instants as payloads write them (epoch numbers, RFC 3339 text), read as whole microseconds."""

from __future__ import annotations

import re
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal

US = 1_000_000
DAY_US = 86_400 * US

_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_WIDE = Context(prec=800, rounding=ROUND_HALF_EVEN)
"""Wide enough for the sum of any two doubles to be exact."""


def from_ms(value: int | float) -> int:
    """The instant of an epoch number in milliseconds, to the nearest microsecond.

    Exact for up to three decimals (1386018900123.456) until the year 2248: the fraction of
    a double is taken off without loss, and below 2**43 it is nearer to its three decimals
    than half a microsecond.
    """
    whole = int(value)
    return whole * 1000 if whole == value else whole * 1000 + round((value - whole) * 1000)


def from_seconds(value: Decimal) -> int:
    """The instant of an epoch number in seconds, to the nearest microsecond."""
    return _whole(_WIDE.scaleb(value, 6))


def add(left: int | float, right: int | float) -> Decimal:
    """The exact sum of two numbers as their shortest decimal texts give them."""
    return _WIDE.add(Decimal(repr(left)), Decimal(repr(right)))


def from_text(text: str) -> int:
    """The instant of an RFC 3339 text, to the nearest microsecond (halves to even).

    Up to nine fraction digits, any offset, `T` and `Z` in either case, a space instead of
    `T`. A leap second (23:59:60 UTC) is the instant after it. Raises ValueError.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError("not an RFC 3339 time such as 2026-11-20T22:00:00.5Z")
    year, month, day, hour, minute, second = (int(digits) for digits in match.group(1, 2, 3, 4, 5, 6))
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError("no such time of day")
    at_us = (
        (date(year, month, day).toordinal() - _EPOCH_DAY) * 86_400 + hour * 3600 + minute * 60 + second
    ) * US
    sign, offset_hours, offset_minutes = match.group(8, 9, 10)
    if sign is not None:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            raise ValueError("no such offset")
        offset_us = (int(offset_hours) * 60 + int(offset_minutes)) * 60 * US
        at_us += offset_us if sign == "-" else -offset_us
    if second == 60 and at_us % DAY_US:
        raise ValueError("a leap second can only be 23:59:60 UTC")
    fraction = match.group(7)
    if fraction is None:
        return at_us
    nanoseconds = int(fraction.ljust(9, "0"))
    below, rest = divmod(nanoseconds, 1000)
    return at_us + below + (rest > 500 or (rest == 500 and below % 2 == 1))


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_HALF_EVEN, context=_WIDE))
