"""What comes with a request: its parameters, each with its limits, its headers and its body."""

from __future__ import annotations

import base64
import binascii
import difflib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, cast
from urllib.parse import parse_qs, unquote

from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from ingest.cursor import MOST_CHARACTERS
from ingest.reading import SENSOR_ID_PATTERN, is_sensor_id
from ingest.times import parse_duration, parse_time
from lambdas.api import limits
from lambdas.api.operation import Operation, Schema
from lambdas.api.problems import problem

T = TypeVar("T")
BODY_CHUNKS = "bodyChunks"
"""The member of an event that yields its body piece by piece, where a server has not read it yet."""


@dataclass(frozen=True, slots=True)
class Parameter(Generic[T]):
    """One parameter of a request: what it is called, what it may be, and how its text is read.

    `read` gets the texts given, at least one, and raises ValueError with what is allowed; `absent` is what it
    is without any.
    """

    name: str
    text: str
    schema: Schema
    read: Callable[[list[str]], T]
    absent: T
    required: bool = False
    place: Literal["path", "query", "header"] = "query"
    repeats: bool = False

    def given(self, event: BaseProxyEvent) -> bool:
        """Whether the request states it."""
        return bool(self._texts(event))

    def of(self, event: BaseProxyEvent) -> T:
        """Its value. Raises Problem naming it."""
        given = self._texts(event)
        if not given:
            if self.required:
                raise problem("missing-parameter", f"{self.name}: is needed. {self.text}", self.name)
            return self.absent
        if len(given) > 1 and not self.repeats:
            raise problem(
                "invalid-parameter", f"{self.name}: was given {len(given)} times; give it once.", self.name
            )
        try:
            return self.read(given)
        except ValueError as error:
            raise problem("invalid-parameter", f"{self.name}: {error}", self.name) from error

    def _texts(self, event: BaseProxyEvent) -> list[str]:
        if self.place == "header":
            found = header(event, self.name)
            return [] if found is None else [found]
        return query(event).get(self.name, [])


# --- kinds of parameters ------------------------------------------------------------------


def integer(name: str, text: str, *, least: int, most: int, default: int) -> Parameter[int]:
    """A whole number from `least` to `most`, both included."""

    def read(given: list[str]) -> int:
        word = given[0]
        if not (word.isascii() and word.isdigit() and len(word) < 19 and least <= int(word) <= most):
            raise ValueError(f"{_shown(word)} is no whole number from {least} to {most}.")
        return int(word)

    schema = {"type": "integer", "minimum": least, "maximum": most, "default": default}
    return Parameter(name, text, schema, read, default)


def text(
    name: str,
    text: str,
    *,
    required: bool = False,
    most: int = 256,
    schema: Schema | None = None,
) -> Parameter[str | None]:
    """Any text of at most `most` characters; `schema` adds to what is documented (an example, a format)."""

    def read(given: list[str]) -> str:
        return _bounded(given[0], most)

    documented = {"type": "string", "maxLength": most, **(schema or {})}
    return Parameter(name, text, documented, read, None, required)


def texts(
    name: str,
    text: str,
    *,
    most: int = 100,
    pattern: str | None = None,
    characters: int = 256,
    commas: bool = True,
) -> Parameter[list[str]]:
    """Texts, by repeating the parameter or, with `commas`, with commas between them, each once; `pattern` is
    documented alone."""

    def read(given: list[str]) -> list[str]:
        words = [word for one in given for word in (one.split(",") if commas else [one]) if word]
        if len(words) > most:
            raise ValueError(f"{len(words)} of them are too many; give at most {most}.")
        return list(dict.fromkeys(_bounded(word, characters) for word in words))

    one: dict[str, Any] = {"type": "string", "maxLength": characters}
    if pattern is not None:
        one["pattern"] = f"^{pattern}$"
    schema = {"type": "array", "maxItems": most, "items": one}
    return Parameter(name, text, schema, read, [], repeats=True)


def choice(name: str, text: str, choices: Sequence[str], default: str) -> Parameter[str]:
    """One of the words."""

    def read(given: list[str]) -> str:
        if given[0] not in choices:
            raise ValueError(f"{_shown(given[0])} is none of {', '.join(choices)}.")
        return given[0]

    return Parameter(name, text, {"type": "string", "enum": list(choices), "default": default}, read, default)


def flag(name: str, text: str) -> Parameter[bool]:
    """Either true or false."""

    def read(given: list[str]) -> bool:
        if given[0] not in ("true", "false"):
            raise ValueError(f"{_shown(given[0])} is neither true nor false.")
        return given[0] == "true"

    return Parameter(name, text, {"type": "boolean", "default": False}, read, absent=False)


def in_path(name: str, text: str, schema: Schema) -> Parameter[str]:
    """A part of the path; the route is given its text."""
    return Parameter(name, text, schema, lambda given: given[0], "", required=True, place="path")


def in_header(name: str, text: str, schema: Schema) -> Parameter[str | None]:
    """A header."""
    return Parameter(name, text, schema, lambda given: given[0], None, place="header")


def _bounded(word: str, most: int) -> str:
    if len(word) > most:
        raise ValueError(f"it has {len(word)} characters, over {most}.")
    if "\0" in word:
        raise ValueError("it holds a zero character.")
    return word


def _shown(word: str) -> str:
    return repr(word if len(word) <= 60 else word[:60] + "...")


# --- parameters that several routes have ---------------------------------------------------

SENSOR_ID = in_path(
    "sensor_id",
    "The sensor's id; its `/` as `%2F`.",
    {"type": "string", "pattern": f"^{SENSOR_ID_PATTERN}$", "maxLength": 128},
)
LIMIT = integer("limit", "Rows on one page.", least=1, most=limits.LIMIT_MOST, default=limits.LIMIT_DEFAULT)
LIST_LIMIT = integer(
    "limit", "Entries on one page.", least=1, most=limits.LIST_MOST, default=limits.LIST_DEFAULT
)
CURSOR = text(
    "cursor",
    "Goes on where a page ended: its `next`. What shaped that page is carried along and need not be repeated.",
    most=MOST_CHARACTERS,
    schema={"pattern": "^[A-Za-z0-9_-]+$"},
)
_TIME_TEXT = "RFC 3339, a date, epoch digits, `now`, or a duration before now such as `-1h`."
FROM = text("from", f"Start of the range, included. {_TIME_TEXT}", most=64, schema={"examples": ["-1h"]})
TO = text("to", f"End of the range, not included. {_TIME_TEXT}", most=64, schema={"examples": ["now"]})


def instant(event: BaseProxyEvent, parameter: Parameter[str | None], now_us: int) -> int | None:
    """The instant (µs) that a parameter means; None where it is not given. Raises BadInput naming it."""
    given = parameter.of(event)
    return None if given is None else parse_time(given, now_us, parameter.name)


def check_order(start_us: int | None, end_us: int | None, start: str = "from", end: str = "to") -> None:
    """Raise Problem where both ends of a range are stated and it is empty."""
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise problem(
            "invalid-parameter",
            f"{end}: must be later than {start}: the range is half-open, [{start}, {end}).",
            end,
        )


def duration(event: BaseProxyEvent, parameter: Parameter[str | None]) -> int | None:
    """The length (µs) that a parameter means; None where it is not given. Raises BadInput naming it."""
    given = parameter.of(event)
    return None if given is None else parse_duration(given, parameter.name)


def sensor_id(part: str) -> str:
    """The sensor that a part of the path names. Raises Problem where nothing can have that name."""
    name = unquote(part)
    if not is_sensor_id(name):
        raise problem(
            "invalid-parameter",
            f"sensor_id: {_shown(name)} cannot name a sensor; use letters, digits and . _ : / - "
            "(128 at most, beginning with a letter or digit, no '..' and no empty path part).",
            "sensor_id",
        )
    return name


# --- the request as it is ---------------------------------------------------------------------


def query(event: BaseProxyEvent) -> dict[str, list[str]]:
    """The query string's parameters, each with its texts in order. Raises Problem where it is too long."""
    raw = str(event.raw_event.get("rawQueryString") or "")
    if len(raw) > limits.QUERY_STRING_MOST:
        raise problem(
            "invalid-parameter",
            f"The query string has {len(raw)} characters, over {limits.QUERY_STRING_MOST}; use POST /v1/query.",
        )
    return parse_qs(raw, keep_blank_values=True)


def check_names(event: BaseProxyEvent, declared: Operation) -> None:
    """Raise Problem where the request states a query parameter that the operation does not have."""
    if not declared.strict:
        return
    known = [parameter.name for parameter in declared.parameters if parameter.place == "query"]
    for name in query(event):
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"There is {_listed(known)}."
            shown = _shown(name)[1:-1]
            raise problem("unknown-parameter", f"{shown}: is no parameter of this route. {hint}", shown)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


def header(event: BaseProxyEvent, name: str) -> str | None:
    """A header's text; None where it is not sent."""
    found = event.headers.get(name.lower())
    return None if found is None else str(found)


def body_chunks(event: BaseProxyEvent) -> Iterator[bytes]:
    """The body, piece by piece, of any size: read from the connection where a server runs, else at once."""
    pieces = cast("Callable[[], Iterator[bytes]] | None", event.raw_event.get(BODY_CHUNKS))
    if pieces is not None:
        yield from pieces()
        return
    raw = event.raw_event.get("body") or ""
    if not event.raw_event.get("isBase64Encoded"):
        yield str(raw).encode("utf-8", "surrogatepass")
        return
    try:
        yield base64.b64decode(str(raw))
    except (ValueError, binascii.Error) as error:
        raise problem("invalid-body", "The body did not arrive as base64; send it again.") from error


def body_bytes(event: BaseProxyEvent, most_bytes: int = limits.BODY_MOST_BYTES) -> bytes:
    """The whole body as it was sent (its Content-Encoding still on). Raises Problem where it is too large."""
    stated = header(event, "content-length") or ""
    if stated.isdigit() and len(stated) < 19 and int(stated) > most_bytes:
        raise _too_large(most_bytes)
    body = bytearray()
    for piece in body_chunks(event):
        body += piece
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
    return bytes(body)


def _too_large(most_bytes: int) -> Exception:
    return problem(
        "body-too-large",
        f"The body is larger than {most_bytes} bytes; send it in several requests.",
        most_bytes=most_bytes,
    )


def body_json(event: BaseProxyEvent, most_bytes: int = limits.DOCUMENT_MOST_BYTES) -> dict[str, Any]:
    """The body as a JSON object. Raises Problem where it is none."""
    raw = body_bytes(event, most_bytes)
    try:
        found: object = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise problem(
            "invalid-body", f"The body is not JSON ({type(error).__name__}); send a JSON object."
        ) from error
    if not isinstance(found, dict):
        raise problem("invalid-body", "The body is not a JSON object.")
    return cast(dict[str, Any], found)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")
