"""What one user record yields while it is decoded: columns per sensor, problems, and the limits on both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, repeat
from typing import Any, Concatenate, ParamSpec, cast

from ingest.number_text import SAFE_MAGNITUDE
from ingest.reading import (
    AHEAD_US,
    EARLIEST_US,
    LEAST_MAGNITUDE,
    Column,
    Run,
    Value,
    is_metric_name,
    is_sensor_id,
    number_problem,
    settle,
)
from ingest.reject import Problem

MOST_READINGS = 200_000
"""How many readings one user record may yield."""
MOST_METRICS = 10_000
"""How many different metric names one user record may use."""
MOST_CELLS = 4_000_000
"""How many cells (readings times metrics, per sensor) one user record may need once columns are filled up."""
MOST_PROBLEMS = 1_000
"""How many problems of one user record are told apart; further ones are counted by reason."""
MOST_TEXT_BYTES = 32 * 1024
"""What one text value may hold, in UTF-8: two fit a chunk item, which is split at 64 KB."""

P = ParamSpec("P")
_NOTHING_REFUSED: Mapping[str, int] = {}
_ABSENT = type(None)
_FLOATS: set[type] = {float}
_NUMBERS: set[type] = {int, float, _ABSENT}
_FLAGS: set[type] = {bool, _ABSENT}
_TEXTS: set[type] = {str, _ABSENT}


class Unusable(Exception):
    """A whole document cannot be used: `reason` is a reject code, the message the detail."""

    def __init__(self, reason: str, detail: str, sensor_id: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.sensor_id = sensor_id


class TooMuch(Unusable):
    """A limit of the whole user record is passed, so none of it can be used."""

    def __init__(self, detail: str) -> None:
        super().__init__("too_large", detail)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands where a number stood that cannot be read; `reason` is a reject code."""

    reason: str


# --- one value, one column, one name ----------------------------------------------------


def value_problem(value: object) -> str | None:
    """Why a value cannot be stored, as a reject code; None where it can."""
    if isinstance(value, (bool, int, float)):
        return None if isinstance(value, bool) else number_problem(value)
    if isinstance(value, str):
        return _text_problem(value)
    return value.reason if isinstance(value, Unreadable) else "wrong_type"


def _text_problem(text: str) -> str | None:
    if len(text) > MOST_TEXT_BYTES:
        return "reading_too_large"
    try:
        return "reading_too_large" if len(text.encode()) > MOST_TEXT_BYTES else None
    except UnicodeEncodeError:
        return "not_utf8"


def plain(value: Value) -> Value:
    """The value as it is stored: -0.0 becomes 0.0."""
    return value + 0.0 if isinstance(value, float) else value


def clean_column(column: list[Any]) -> tuple[Column, Mapping[str, int], bool]:
    """The column with None where a value cannot be stored, how many were refused per reason, and
    whether it has a None.

    Looks at columns of one kind as a whole; only odd ones are walked value by value.
    """
    kinds: set[type] = set(map(type, column))
    holes = _ABSENT in kinds
    if kinds == _FLOATS and min(column) >= LEAST_MAGNITUDE and max(column) < SAFE_MAGNITUDE:
        return column, _NOTHING_REFUSED, holes
    if kinds <= _NUMBERS:
        numbers = cast(list[float], column)
        magnitudes = list(map(abs, filter(None, numbers)))
        if not magnitudes or (min(magnitudes) >= LEAST_MAGNITUDE and max(magnitudes) < SAFE_MAGNITUDE):
            if float in kinds and 0.0 in column:
                column = [None if value is None else plain(value) for value in column]
            return column, _NOTHING_REFUSED, holes
    elif kinds <= _FLAGS or (
        kinds <= _TEXTS and _text_problem("".join(filter(None, cast(list[str], column)))) is None
    ):
        return column, _NOTHING_REFUSED, holes
    refused: Counter[str] = Counter()
    cleaned: Column = []
    for value in column:
        reason = None if value is None else value_problem(value)
        if reason is not None:
            refused[reason] += 1
        cleaned.append(None if value is None or reason is not None else plain(value))
    return cleaned, refused, holes or bool(refused)


_known_sensor = lru_cache(maxsize=32_768)(is_sensor_id)
_known_metric = lru_cache(maxsize=8_192)(is_metric_name)


def good_sensor_id(text: str) -> bool:
    """As `is_sensor_id`, remembered; long texts are turned away before they are remembered."""
    return len(text) <= 128 and _known_sensor(text)


def good_metric_name(text: str) -> bool:
    """As `is_metric_name`, remembered."""
    return len(text) <= 64 and _known_metric(text)


def shown(name: object) -> str:
    """A name from a payload as it may stand in a `part`: short, ASCII, no control characters."""
    text = str(name)
    return text if good_metric_name(text) else ascii(text[:64])


# --- gathering --------------------------------------------------------------------------


@dataclass(slots=True)
class _Piece:
    """Columns of one sensor in the order they arrived; a column may lack its tail while `open`.

    `rising` says that the times are known to be strictly increasing.
    """

    ts_us: list[int]
    metrics: dict[str, Column]
    open: bool
    rising: bool


class Gather:
    """Collects the runs and problems of one user record that arrived at `arrival_ms`.

    `line` (from 1; 0 for none), `place` (within the line) and `payload` (its own bytes where
    they can stand alone) say where the document being read lies. `expected` is the sensor that
    all of it must be of, and need not name; None where each document names its own. Every method
    that adds readings raises TooMuch where a limit of the whole user record is passed.
    """

    def __init__(self, arrival_ms: int, expected: str | None = None) -> None:
        self.arrival_ms = arrival_ms
        self.expected = expected
        self.end_us = arrival_ms * 1000 + AHEAD_US
        self.line = 0
        self.place = ""
        self.payload: bytes | None = None
        self._pieces: dict[str, list[_Piece]] = {}
        self._names: set[str] = set()
        self._readings = 0
        self._filled = 0
        self._problems: dict[tuple[str, str], Problem] = {}

    def refuse(
        self, reason: str, detail: str, part: str = "", sensor_id: str | None = None, count: int = 1
    ) -> None:
        """Note a problem; the same reason at the same part is one problem with a count."""
        pieces = (f"line {self.line}" if self.line else "", self.place, part)
        whole = ", ".join(piece for piece in pieces if piece)
        payload = self.payload
        held = self._problems.get((whole, reason))
        if held is None and len(self._problems) >= MOST_PROBLEMS:
            whole, payload, sensor_id = "", None, None
            detail = f"more of the same, beyond the {MOST_PROBLEMS} problems told apart"
            held = self._problems.get((whole, reason))
        count += 0 if held is None else held.count
        self._problems[whole, reason] = Problem(reason, detail, whole, payload, sensor_id, count)

    def attempt(self, read: Callable[Concatenate[Gather, P], None], *args: P.args, **named: P.kwargs) -> None:
        """Call `read` with self and the arguments; where it raises Unusable, note that as a problem."""
        try:
            read(self, *args, **named)
        except TooMuch:
            raise
        except Unusable as error:
            self.refuse(error.reason, str(error), sensor_id=error.sensor_id)

    def sensor(self, sensor_id: object) -> str:
        """The sensor id, checked. Raises Unusable."""
        if not isinstance(sensor_id, str):
            raise Unusable("wrong_type", f"sensor_id is {kind_name(sensor_id)}, not text")
        if not good_sensor_id(sensor_id):
            raise Unusable("bad_sensor_id", f"{len(sensor_id)} characters that no sensor id may be made of")
        if self.expected is not None and sensor_id != self.expected:
            raise Unusable(
                "sensor_mismatch", "the payload names another sensor than its topic", self.expected
            )
        return sensor_id

    def metric(self, name: object, sensor_id: str, count: int = 1) -> bool:
        """Whether the metric name may be used; notes a problem where not."""
        if name in self._names:
            return True
        if not isinstance(name, str) or not good_metric_name(name):
            detail = f"{len(str(name))} characters that no metric name may be made of"
            self.refuse("bad_metric_name", detail, f"metric {shown(name)}", sensor_id, count)
            return False
        if len(self._names) >= MOST_METRICS:
            raise TooMuch(f"more than {MOST_METRICS} metric names in one record")
        self._names.add(name)
        return True

    def in_time(self, ts_us: int) -> bool:
        """Whether an instant is one a reading may have."""
        return EARLIEST_US <= ts_us < self.end_us

    def reading(self, sensor_id: str, ts_us: int, metrics: Mapping[str, object]) -> None:
        """Add one reading: its good values, and a problem for each bad one. Raises Unusable."""
        if not EARLIEST_US <= ts_us < self.end_us:
            raise Unusable("ts_out_of_range", self.time_limits(), sensor_id)
        names = self._names
        piece: _Piece | None = None
        row = 0
        sent = False
        for name, given in metrics.items():
            if type(given) is float and LEAST_MAGNITUDE <= given < SAFE_MAGNITUDE and name in names:
                value = given
            elif given is None:
                continue
            else:
                sent = True
                checked = self._checked(sensor_id, name, given)
                if checked is None:
                    continue
                value = checked
            if piece is None:
                piece = self._row(sensor_id, ts_us)
                row = len(piece.ts_us) - 1
            column = piece.metrics.get(name)
            if column is not None and len(column) == row:
                column.append(value)
            else:
                self._place(piece, row, name, value)
        if piece is None and not sent:
            raise Unusable("no_metrics", "no metric has a value", sensor_id)

    def _checked(self, sensor_id: str, name: str, value: object) -> Value | None:
        """The value as it is stored; None, with a problem noted, where it cannot be."""
        if not self.metric(name, sensor_id):
            return None
        reason = value_problem(value)
        if reason is None:
            return plain(cast(Value, value))
        self.refuse_value(reason, sensor_id, name, kind_name(value))
        return None

    def _row(self, sensor_id: str, ts_us: int) -> _Piece:
        """The sensor's open piece, its last row being the instant's."""
        pieces = self._pieces.get(sensor_id)
        if pieces is None:
            pieces = self._pieces[sensor_id] = []
        if not pieces or not pieces[-1].open:
            pieces.append(_Piece([], {}, open=True, rising=False))
        piece = pieces[-1]
        if not piece.ts_us or piece.ts_us[-1] != ts_us:
            self.count(1)
            piece.ts_us.append(ts_us)
        return piece

    def _place(self, piece: _Piece, row: int, name: str, value: Value) -> None:
        """Put a value where the metric's column does not simply go on: new, sparse, or given twice."""
        column = piece.metrics.setdefault(name, [])
        if len(column) > row:
            column[row] = value
        else:
            self._fill(column, row - len(column))
            column.append(value)

    def refuse_value(self, reason: str, sensor_id: str, name: str, kind: str, count: int = 1) -> None:
        """Note that values of a metric were refused."""
        detail = (
            f"{kind} where a number, a boolean or a text is needed"
            if reason == "wrong_type"
            else f"{kind} refused"
        )
        self.refuse(reason, detail, f"metric {shown(name)}", sensor_id, count)

    def time_limits(self) -> str:
        """The detail of a `ts_out_of_range`."""
        return f"not in [{EARLIEST_US}, {self.end_us}) microseconds since the epoch"

    def columns(self, sensor_id: str, ts_us: list[int], metrics: dict[str, Column], *, rising: bool) -> None:
        """Add readings of one sensor, already checked, with at least one value per instant.

        They may be in any order; `rising` says they are known to be strictly increasing.
        """
        self._pieces.setdefault(sensor_id, []).append(_Piece(ts_us, metrics, open=False, rising=rising))

    def count(self, readings: int) -> None:
        """Count readings against the limit of the user record."""
        self._readings += readings
        if self._readings > MOST_READINGS:
            raise TooMuch(f"more than {MOST_READINGS} readings in one record")

    def _fill(self, column: Column, missing: int) -> None:
        self._filled += missing
        if self._filled > MOST_CELLS:
            raise TooMuch(f"more than {MOST_CELLS} cells in one record")
        column.extend(repeat(None, missing))

    def finish(self, payload_bytes: int) -> tuple[list[Run], list[Problem]]:
        """The runs, one per sensor in order of first sight, and the problems in order.

        Where the problems' own payloads would hold more bytes than the user record
        (`payload_bytes`), they refer to the whole user record instead.
        """
        runs = [self._run(sensor_id, pieces) for sensor_id, pieces in self._pieces.items()]
        problems = list(self._problems.values())
        kept_bytes = sum(len(payload) for payload in {p.payload for p in problems} if payload is not None)
        if kept_bytes > payload_bytes:
            problems = [Problem(p.reason, p.detail, p.part, None, p.sensor_id, p.count) for p in problems]
        return runs, problems

    def _run(self, sensor_id: str, pieces: list[_Piece]) -> Run:
        if len(pieces) == 1:
            piece = pieces[0]
            count = len(piece.ts_us)
            if piece.rising or count == 1:
                return Run(sensor_id, piece.ts_us, piece.metrics, self.arrival_ms)
            for column in piece.metrics.values():
                if len(column) < count:
                    self._fill(column, count - len(column))
            return settle(sensor_id, piece.ts_us, piece.metrics, self.arrival_ms)
        metrics: dict[str, Column] = {}
        ts_us: list[int] = []
        for piece in pieces:
            for name, column in piece.metrics.items():
                whole = metrics.setdefault(name, [])
                self._fill(whole, len(ts_us) - len(whole))
                whole.extend(column)
            ts_us.extend(piece.ts_us)
        for column in metrics.values():
            self._fill(column, len(ts_us) - len(column))
        return settle(sensor_id, ts_us, metrics, self.arrival_ms)


def only(
    flags: Iterable[object], ts_us: list[int], metrics: Mapping[str, Column]
) -> tuple[list[int], dict[str, Column]]:
    """The instants whose flag is true, with their values; columns that are left empty are left out."""
    chosen = [bool(flag) for flag in flags]
    kept = {name: list(compress(column, chosen)) for name, column in metrics.items()}
    kept = {name: column for name, column in kept.items() if column.count(None) < len(column)}
    return list(compress(ts_us, chosen)), kept


def kind_name(value: object) -> str:
    """What a JSON value is, in the words of JSON."""
    return _KIND_NAMES.get(type(value).__name__, "something else")


_KIND_NAMES = {
    "NoneType": "null",
    "Unreadable": "a number",
    "bool": "a boolean",
    "dict": "an object",
    "float": "a number",
    "int": "a number",
    "list": "an array",
    "str": "a text",
}
