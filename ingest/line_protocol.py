"""InfluxDB line protocol: lines become readings; the grammar is in `line_grammar`, names are in `line_names`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ingest.gather import MOST_READINGS, Gather, TooMuch, Unreadable, Unusable, shown
from ingest.line_grammar import Line, head_of, is_line_protocol, parse, parse_head, unescaped
from ingest.line_names import metric_of, sensor_of
from ingest.reading import MAX_INT_DIGITS, Run, Value
from ingest.reject import Problem

__all__ = ["NANOSECONDS", "PRECISIONS", "decode_lines", "is_line_protocol", "read_lines"]

PRECISIONS: dict[str, tuple[int, int]] = {
    "ns": (1, 1000),
    "us": (1, 1),
    "ms": (1000, 1),
    "s": (1_000_000, 1),
}
"""Units a line's time may be in: what a number of them is multiplied by and divided by to be microseconds."""
NANOSECONDS = "ns"
"""The unit where nothing says which."""

_ENDS_A_NUMBER = frozenset("0123456789.")
_BEGINS_A_NUMBER = _ENDS_A_NUMBER | {"-", "+"}


@dataclass(slots=True)
class _Claims:
    """A sensor and a measurement as they are spelled here. `contested` where lines that differ in tags, or in
    how they spell these names, come down to the same: then `held` says whose each value is."""

    first: tuple[str, ...]
    contested: bool = False
    held: dict[tuple[int, str], tuple[str, ...]] = field(
        default_factory=dict[tuple[int, str], tuple[str, ...]]
    )


@dataclass(slots=True)
class _Series:
    """What the head of a line (measurement and tags) stands for; `names` are the metrics of its fields, by the
    field's text in the line."""

    sensor_id: str
    measurement: str
    identity: tuple[str, ...]
    claims: _Claims
    names: dict[str, str]


def read_lines(gather: Gather, body: bytes, precision: str = NANOSECONDS) -> None:
    """Add every line of the body. A line that is bad costs itself, a value that is bad itself.

    A line without a time gets the arrival. Times are read in the unit `precision` (one of PRECISIONS),
    nanoseconds to the nearest microsecond. Raises TooMuch where there are too many lines.
    """
    body = body.rstrip(b"\n")
    if body.count(b"\n") >= MOST_READINGS:
        raise TooMuch(f"more than {MOST_READINGS} lines in one record")
    lines = body.split(b"\n")
    reader = _Reader(gather, lines, precision)
    past = 0
    for number, line in enumerate(lines):
        if number < past:
            continue
        gather.line = number + 1
        gather.payload = line
        try:
            if reader.read_plain(line):
                continue
            parsed, gather.payload, past = parse(lines, number)
            if parsed is not None:
                reader.read(parsed)
        except TooMuch:
            raise
        except Unusable as error:
            gather.refuse(error.reason, str(error), sensor_id=error.sensor_id or reader.sensor_named(line))


def decode_lines(body: bytes, arrival_ms: int, precision: str) -> tuple[list[Run], list[Problem]]:
    """The runs of a body that is line protocol whatever it looks like, and what of it could not be used; else
    as `wire.decode`. Never raises."""
    gather = Gather(arrival_ms)
    try:
        read_lines(gather, body, precision)
        return gather.finish(len(body))
    except TooMuch as error:
        return [], [Problem(error.reason, str(error))]


class _Reader:
    """Adds the lines of one user record to a Gather."""

    def __init__(self, gather: Gather, lines: Iterable[bytes], precision: str) -> None:
        self._gather = gather
        self._times, self._per = PRECISIONS[precision]
        self._series: dict[str, _Series] = {}
        self._claims: dict[tuple[str, str], _Claims] = {}
        self._names: dict[str, dict[str, str]] = {}
        heads = dict.fromkeys(line if b"\\" in line else line.partition(b" ")[0] for line in lines)
        for head in dict.fromkeys(map(head_of, heads)):
            try:
                self._known(head)
            except Unusable:  # told when its line is read
                continue

    def read_plain(self, raw: bytes) -> bool:
        """Add a line whose series and fields are known and whose values are numbers; False, with nothing
        done, where anything about it is odd."""
        try:
            pieces = raw.decode().split(" ")
        except UnicodeDecodeError:
            return False
        series = self._series.get(pieces[0])
        if series is None or not 2 <= len(pieces) <= 3 or not (pieces[1].isascii() and pieces[-1].isascii()):
            return False
        names = series.names
        metrics: dict[str, Value | Unreadable] = {}
        pairs = pieces[1].split(",")
        for pair in pairs:
            key, _, text = pair.partition("=")
            name = names.get(key)
            if name is None or not text or text[0] not in _BEGINS_A_NUMBER or "_" in text:
                return False
            try:
                if text[-1] in _ENDS_A_NUMBER:
                    metrics[name] = float(text)
                elif text[-1] == "i" and len(text) <= MAX_INT_DIGITS and text[-2] in _ENDS_A_NUMBER:
                    metrics[name] = int(text[:-1])
                else:
                    return False
            except ValueError:
                return False
        at = pieces[2] if len(pieces) == 3 else ""
        if len(metrics) != len(pairs) or (at and not (at.isdigit() and len(at) <= MAX_INT_DIGITS)):
            return False
        self._add(series, self._instant(at), metrics)
        return True

    def read(self, line: Line) -> None:
        """Add any line. Raises Unusable."""
        series = self._known(line.head)
        if len(line.at) > MAX_INT_DIGITS:
            raise Unusable("ts_out_of_range", self._gather.time_limits(), series.sensor_id)
        self._add(series, self._instant(line.at), self._named(series, line.fields))

    def sensor_named(self, raw: bytes) -> str | None:
        """The sensor that a bad line names, where its head is good."""
        try:
            return self._known(head_of(raw)).sensor_id
        except Unusable:
            return None

    def _known(self, head: str) -> _Series:
        """The series of a head. Raises Unusable."""
        known = self._series.get(head)
        if known is not None:
            return known
        measurement, tags = parse_head(head)
        sensor_id = self._gather.sensor(sensor_of(measurement, tags, self._gather.expected))
        identity = (measurement, *(part for pair in sorted(tags.items()) for part in pair))
        claims = self._claims.setdefault((sensor_id, metric_of(measurement, "")), _Claims(identity))
        claims.contested = claims.contested or claims.first != identity
        series = _Series(sensor_id, measurement, identity, claims, self._names.setdefault(measurement, {}))
        self._series[head] = series
        return series

    def _instant(self, at: str) -> int:
        if not at:
            return self._gather.arrival_ms * 1000
        given = int(at)
        if self._per == 1:
            return given * self._times
        ts_us, rest = divmod(given, self._per)
        return ts_us + (2 * rest > self._per or (2 * rest == self._per and ts_us % 2 == 1))

    def _named(
        self, series: _Series, fields: Sequence[tuple[str, Value | Unreadable]]
    ) -> dict[str, Value | Unreadable]:
        """The values by metric; of a field given twice the last."""
        metrics: dict[str, Value | Unreadable] = {}
        given: dict[str, str] = {}
        for key, value in fields:
            name = series.names.get(key)
            if name is None:
                name = series.names[key] = metric_of(series.measurement, unescaped(key))
            if given.setdefault(name, key) != key:
                self._conflict(series, name, "another field of the line is spelled alike")
            else:
                metrics[name] = value
        return metrics

    def _add(self, series: _Series, ts_us: int, metrics: dict[str, Value | Unreadable]) -> None:
        if series.claims.contested:
            held = series.claims.held
            for name in list(metrics):
                if held.setdefault((ts_us, name), series.identity) != series.identity:
                    self._conflict(series, name, "a line with other tags has a value for the same instant")
                    del metrics[name]
            if not metrics:
                return
        self._gather.reading(series.sensor_id, ts_us, metrics)

    def _conflict(self, series: _Series, name: str, detail: str) -> None:
        self._gather.refuse("name_conflict", detail, f"metric {shown(name)}", series.sensor_id)
