"""Times and durations as people type and read them: texts to microseconds and back, in whole numbers."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from ingest.errors import BadInput

US = 1_000_000
_DAY_US = 86_400 * US
UNITS_US = {
    "y": 365 * _DAY_US,
    "w": 7 * _DAY_US,
    "d": _DAY_US,
    "h": 3600 * US,
    "m": 60 * US,
    "s": US,
    "ms": 1000,
    "us": 1,
}
"""Units of a duration, longest first; a year is 365 days."""
TIME_EXAMPLES = "-1h, now-5m, now, 2013-12-01, 2013-12-02T21:15:00Z or 1386018900"
DURATION_EXAMPLES = "250ms, 1s, 10m, 1.5h, 1h30m, 7d, 2w or 5y"

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - all arithmetic here is on UTC without a zone
_EPOCH_DAY = date(1970, 1, 1).toordinal()
EARLIEST_US = (1 - _EPOCH_DAY) * _DAY_US
"""0001-01-01T00:00:00Z, the first instant that can be written."""
END_US = (date(9999, 12, 31).toordinal() + 1 - _EPOCH_DAY) * _DAY_US
"""The end of year 9999 (exclusive)."""

_part = re.compile(r"(\d{1,18})(?:\.(\d{1,18}))?(us|ms|[ywdhms])", re.ASCII)
_relative = re.compile(r"(?:now)?\s*([+-])\s*(.*)", re.ASCII | re.DOTALL)
_digits = re.compile(r"(\d{1,24})(?:\.(\d{1,18}))?", re.ASCII)
_calendar = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?\s?([Zz]|[+-]\d\d:?\d\d)?)?",
    re.ASCII,
)


def parse_time(text: str, now_us: int, name: str = "time") -> int:
    """The instant a text means, in microseconds since the epoch.

    Accepted: `now`, a duration before or after it (`-1h`, `now+10d`), RFC 3339 with any
    offset and up to nine decimals (cut to microseconds; UTC where no zone is given), a
    date (midnight UTC), and epoch digits: up to 10 are seconds, 11 to 13 milliseconds, 14
    to 16 microseconds, more nanoseconds. Raises BadInput that begins with `name`.
    """
    stripped = text.strip()
    relative = _relative.fullmatch(stripped)
    if stripped == "now":
        ts_us = now_us
    elif relative is not None:
        length_us = _length_us(relative[2].strip())
        if length_us is None:
            raise _no_time(name, text, _duration_hint(relative[2].strip()))
        ts_us = now_us + length_us if relative[1] == "+" else now_us - length_us
    else:
        found = _calendar_us(stripped)
        if found is None:
            found = _epoch_us(stripped)
        if found is None:
            is_length = _length_us(stripped) is not None
            raise _no_time(name, text, f"For the time that long ago use -{stripped}." if is_length else "")
        ts_us = found
    if not EARLIEST_US <= ts_us < END_US:
        raise _no_time(name, text, "Years run from 0001 to 9999.")
    return ts_us


def parse_duration(text: str, name: str = "duration") -> int:
    """The length a text means, in microseconds, never negative: `250ms`, `1.5h`, `1h30m`.

    Units stand longest first, each once. Raises BadInput that begins with `name`, also
    for a number without a unit and for a length that is no whole number of microseconds.
    """
    length_us = _length_us(text.strip())
    if length_us is None:
        hint = _duration_hint(text.strip())
        raise BadInput(f"{name}: {text!r} is no duration. {hint}Use for example {DURATION_EXAMPLES}.")
    return length_us


def format_time(ts_us: int) -> str:
    """RFC 3339 in UTC with as many decimals as needed: `2013-12-02T21:15:00.25Z`. Years 1 to 9999."""
    seconds, fraction_us = divmod(ts_us, US)
    text = (_EPOCH + timedelta(0, seconds)).isoformat()
    if fraction_us:
        return f"{text}.{fraction_us:06d}".rstrip("0") + "Z"
    return text + "Z"


def format_duration(length_us: int) -> str:
    """The shortest text that `parse_duration` reads back as the same length: `1h30m`, `250ms`, `7d`.

    A negative length is led by a minus sign.
    """
    if length_us < 0:
        return "-" + format_duration(-length_us)
    if length_us % UNITS_US["y"] == 0 and length_us:
        return f"{length_us // UNITS_US['y']}y"
    if 0 < length_us < US:
        whole, rest = divmod(length_us, 1000)
        return f"{length_us}us" if rest and not whole else _decimal(whole, rest, 3) + "ms"
    parts: list[str] = []
    rest_us = length_us
    for unit in ("d", "h", "m"):
        count, rest_us = divmod(rest_us, UNITS_US[unit])
        if count:
            parts.append(f"{count}{unit}")
    if rest_us or not parts:
        parts.append(_decimal(*divmod(rest_us, US), 6) + "s")
    return "".join(parts)


def _decimal(whole: int, fraction: int, digits: int) -> str:
    return f"{whole}.{fraction:0{digits}d}".rstrip("0") if fraction else str(whole)


def _scaled(whole: str, fraction: str | None, unit: int) -> tuple[int, bool]:
    """`whole.fraction` units, cut to a whole number, and whether nothing was cut off."""
    digits = fraction or ""
    value, rest = divmod(int(whole + digits) * unit, 10 ** len(digits))
    return value, rest == 0


def _length_us(text: str) -> int | None:
    total_us, place, last_us = 0, 0, END_US
    while (part := _part.match(text, place)) is not None:
        unit_us = UNITS_US[part[3]]
        value_us, exact = _scaled(part[1], part[2], unit_us)
        if unit_us >= last_us or not exact:
            return None
        total_us, place, last_us = total_us + value_us, part.end(), unit_us
    return total_us if place == len(text) and text else None


def _epoch_us(text: str) -> int | None:
    digits = _digits.fullmatch(text)
    if digits is None:
        return None
    count = len(digits[1])
    if count <= 10:
        return _scaled(digits[1], digits[2], US)[0]
    if count <= 13:
        return _scaled(digits[1], digits[2], 1000)[0]
    return int(digits[1]) if count <= 16 else int(digits[1]) // 1000


def _calendar_us(text: str) -> int | None:
    found = _calendar.fullmatch(text)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[i] or 0) for i in range(1, 7))
    leap = second == 60  # RFC 3339 allows a leap second; it is the second after :59, as in POSIX time
    try:
        local = datetime(year, month, day, hour, minute, second - leap, tzinfo=UTC)
    except ValueError:
        return None
    offset_s = 0
    zone = found[8]
    if zone and zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[-2:])
        if hours > 23 or minutes > 59:
            return None
        offset_s = (hours * 60 + minutes) * (-60 if zone[0] == "-" else 60)
    days = local.toordinal() - _EPOCH_DAY
    seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset_s
    return seconds * US + int((found[7] or "").ljust(6, "0")[:6])


def _duration_hint(text: str) -> str:
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return f"A number needs a unit: {text}s is seconds, {text}m minutes, {text}h hours, {text}d days. "
    if text[:1].isdigit():
        return "Units are y, w, d, h, m (minutes), s, ms, us, in this order; nothing is finer than 1us. "
    return ""


def _no_time(name: str, text: str, hint: str) -> BadInput:
    middle = f" {hint.strip()}" if hint else ""
    return BadInput(f"{name}: {text!r} is no time.{middle} Use for example {TIME_EXAMPLES}.")
