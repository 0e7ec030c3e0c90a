"""The grammar of InfluxDB line protocol: where a line ends, its head, its fields and its time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from ingest.gather import MOST_TEXT_BYTES, Unreadable, Unusable
from ingest.reading import MAX_INT_DIGITS, Value

MOST_LINE_BYTES = 2 * MOST_TEXT_BYTES
"""What a line whose texts hold line ends may be long."""
MOST_CLOSINGS = 20
"""How many lines are tried as the end of a text that holds line ends."""

_TRUE = frozenset({"t", "T", "true", "True", "TRUE"})
_FALSE = frozenset({"f", "F", "false", "False", "FALSE"})
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NOT_FINITE = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)

# A backslash stands for itself unless what follows is special in its place.
_MEASUREMENT = re.compile(r"(?:[^\\, ]|\\[, ]|\\)++")
_KEY = re.compile(r"(?:[^\\,= ]|\\[,= ]|\\)++")
_PAIR = re.compile(r'((?:[^\\,= ]|\\[,= ]|\\)++)=(?:"((?:[^"\\]|\\.)*+)"|([^", \r][^, \r]*+))', re.DOTALL)
_SPACES = re.compile(r" ++")
_AT = re.compile(r"-?[0-9]++")
_END = re.compile(r"[ \r]*+\Z")
_HEAD = re.compile(r"(?:[^\\ ]|\\[,= ]|\\)++")
_ESCAPED_IN_MEASUREMENT = re.compile(r"\\([, ])")
_ESCAPED = re.compile(r"\\([,= ])")
_ESCAPED_IN_TEXT = re.compile(r'\\(["\\])')
_LINE = re.compile(
    rb"^[ \t]*+(?![#{\[])(?:[^ \\\n]|\\[ ,=]|\\)++ ++(?:[^ =,\\\n]|\\[ ,=]|\\)++=[^ \n]", re.MULTILINE
)
_CLOSES = re.compile(rb'(?:[^"\\]|\\.)*+"')
_OPENS_JSON = re.compile(rb"\s*+[{\[\"]")
_MARGIN = " \t\r"
_MOST_REMEMBERED = 256
"""Characters of a head that is remembered."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands: `head` (measurement and tags) and the fields' names with their escapes, `at`
    the digits of its time, empty where it has none."""

    head: str
    fields: list[tuple[str, Value | Unreadable]]
    at: str


class _Unclosed(Unusable):
    """A text value does not end in its line: it may go on in the next."""


def is_line_protocol(body: bytes) -> bool:
    """Whether bytes that are no JSON are meant as line protocol: a line has a name, a space, a field and a value."""
    return _OPENS_JSON.match(body) is None and _LINE.search(body) is not None


def whole_lines(body: bytes) -> Iterator[bytes]:
    """The lines of a body, each with those that its texts go on in."""
    lines = body.split(b"\n")
    number = 0
    while number < len(lines):
        try:
            _, raw, number = parse(lines, number)
        except Unusable:
            raw, number = lines[number], number + 1
        yield raw


def parse(lines: Sequence[bytes], number: int) -> tuple[Line | None, bytes, int]:
    """The line at a position (None where it says nothing), its bytes, and the position after it.

    A text that is open at the line's end goes on in the next, where that makes it a line; else the line is
    bad by itself. Raises Unusable (`bad_line` with the column, `not_utf8`).
    """
    try:
        return _parsed(lines[number]), lines[number], number + 1
    except _Unclosed as error:
        unclosed = error
    for end in islice(_closings(lines, number), MOST_CLOSINGS):
        raw = b"\n".join(lines[number:end])
        try:
            return _parsed(raw), raw, end
        except _Unclosed:
            continue
        except Unusable:  # then the text ends nowhere: what follows are lines of their own
            break
    raise unclosed


def _closings(lines: Sequence[bytes], number: int) -> Iterator[int]:
    """Positions after the lines in which a text may end that the line at a position leaves open."""
    size_bytes = len(lines[number])
    for end in range(number + 1, len(lines)):
        size_bytes += 1 + len(lines[end])
        if size_bytes > MOST_LINE_BYTES:
            return
        if _CLOSES.match(lines[end]):
            yield end + 1


# --- one line ---------------------------------------------------------------------------


def _parsed(raw: bytes) -> Line | None:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Unusable("not_utf8", f"byte {error.start} of the line is not UTF-8") from error
    start = len(text) - len(text.lstrip(_MARGIN))
    if start == len(text) or text[start] == "#":
        return None
    head = _HEAD.match(text, start)
    if head is None:
        raise _wrong(start, "a measurement is needed")
    if len(head[0]) > _MOST_REMEMBERED or not _is_head(head[0]):
        parse_head(head[0], start)
    fields, end = _fields(text, head.end())
    return Line(head[0], fields, _time(text, end))


@lru_cache(4096)
def _is_head(head: str) -> bool:
    try:
        parse_head(head)
    except Unusable:
        return False
    return True


def head_of(raw: bytes) -> str:
    """The head of a line, whatever follows; also what merely looks like one."""
    text = raw.decode(errors="replace")
    found = _HEAD.match(text, len(text) - len(text.lstrip(_MARGIN)))
    return "" if found is None or found[0].startswith("#") else found[0]


def parse_head(head: str, start: int = 0) -> tuple[str, dict[str, str]]:
    """Measurement and tags, without their escapes, of a head that begins at column `start`. Raises Unusable."""
    name = _MEASUREMENT.match(head)
    if name is None:
        raise _wrong(start, "a measurement is needed")
    at = name.end()
    tags: dict[str, str] = {}
    while at < len(head):
        key = _KEY.match(head, at + 1)
        if key is None or head[key.end() : key.end() + 1] != "=":
            raise _wrong(start + at + 1, "a tag's name and = are needed")
        value = _KEY.match(head, key.end() + 1)
        if value is None or head[value.end() : value.end() + 1] == "=":
            raise _wrong(start + key.end() + 1, "a tag's value is needed")
        tag = unescaped(key[0])
        if tag in tags:
            raise _wrong(start + at + 1, "a tag is given twice")
        tags[tag] = unescaped(value[0])
        at = value.end()
    return _ESCAPED_IN_MEASUREMENT.sub(r"\1", name[0]), tags


def unescaped(name: str) -> str:
    """The name of a tag or field, or a tag's value, without its escapes."""
    return _ESCAPED.sub(r"\1", name) if "\\" in name else name


def _fields(line: str, at: int) -> tuple[list[tuple[str, Value | Unreadable]], int]:
    """Names (as in the line) and values of a line's fields, which follow `at`, and where they end."""
    gap = _SPACES.match(line, at)
    if gap is None or gap.end() == len(line):
        raise _wrong(at, "a space and a field are needed")
    at = gap.end() - 1
    found: list[tuple[str, Value | Unreadable]] = []
    while True:
        pair = _PAIR.match(line, at + 1)
        if pair is None:
            raise _wrong_pair(line, at + 1)
        key, text, raw = pair.groups()
        value = _value(raw) if text is None else _ESCAPED_IN_TEXT.sub(r"\1", text)
        found.append((key, value))
        at = pair.end()
        if line[at : at + 1] != ",":
            return found, at


def _wrong_pair(line: str, at: int) -> Unusable:
    """What is wrong with the field that begins at a place."""
    key = _KEY.match(line, at)
    if key is None or line[key.end() : key.end() + 1] != "=":
        return _wrong(at, "a field's name and = are needed")
    at = key.end() + 1
    if line[at : at + 1] == '"':
        return _Unclosed("bad_line", f"column {at + 1}: a text does not end")
    return _wrong(at, "a value is needed")


def _value(text: str) -> Value | Unreadable:
    """What stands for a field's value, where it is no text in quotes."""
    if _NUMBER.fullmatch(text):
        value = float(text)
        return Unreadable("number_out_of_range") if value in (float("inf"), float("-inf")) else value
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[-1] in "iu" and _WHOLE.fullmatch(text, 0, len(text) - 1):
        if len(text) > MAX_INT_DIGITS + 2:
            return Unreadable("int_too_long")
        value = int(text[:-1])
        return Unreadable("wrong_type") if text[-1] == "u" and value < 0 else value
    return Unreadable("not_finite" if _NOT_FINITE.fullmatch(text) else "wrong_type")


def _time(line: str, at: int) -> str:
    if _END.match(line, at):
        return ""
    gap = _SPACES.match(line, at)
    digits = None if gap is None else _AT.match(line, gap.end())
    if gap is None or digits is None or not _END.match(line, digits.end()):
        where = at if gap is None else gap.end()
        raise _wrong(where, "a time in whole units is needed, or the line's end")
    return digits[0]


def _wrong(at: int, what: str) -> Unusable:
    return Unusable("bad_line", f"column {at + 1}: {what}")
