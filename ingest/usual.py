"""Readings in their usual strict form, decoded fast; None where anything is odd, and `wire` looks closer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, cast

import msgspec

from ingest import instant
from ingest.gather import (
    MOST_METRICS,
    MOST_READINGS,
    SAFE_MAGNITUDE,
    clean_column,
    good_metric_name,
    good_sensor_id,
    plain,
    value_problem,
)
from ingest.number_text import number_text
from ingest.reading import AHEAD_US, EARLIEST_US, LEAST_MAGNITUDE, Column, Run, settle


class Reading(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One reading as a JSON object, in its strict form."""

    sensor_id: str
    ts: int | float | str
    metrics: dict[str, bool | int | float | str | None]


class Unnamed(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One reading of a sensor that something else names, in its strict form."""

    ts: int | float | str
    metrics: dict[str, bool | int | float | str | None]


class _Columns(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A run as a JSON object, all of its cells numbers."""

    sensor_id: str
    t0_us: int
    dt_us: list[int] | int
    metrics: dict[str, list[int | float]]


READING = msgspec.json.Decoder(Reading)
_UNNAMED = msgspec.json.Decoder(Unnamed)
_COLUMNS = msgspec.json.Decoder(_Columns)
_FIRST, _LAST = itemgetter(0), itemgetter(-1)
_OPENING, _CLOSING = set(b"{"), set(b"}")
LEAST_TOGETHER = 4
"""Fewer user records are decoded one by one."""
_AT_ONCE = 256
_MOST_FIELDS = 32
"""Readings of more metrics are decoded into dicts."""


# --- columnar runs ----------------------------------------------------------------------


def is_columnar(payload: bytes) -> bool:
    """Whether the bytes may be a columnar run, by their beginning."""
    return payload.find(b'"t0_us"', 0, 180) >= 0


def usual_run(payload: bytes, arrival_ms: int) -> Run | None:
    """The run of a columnar user record whose times rise and whose cells are all numbers, without anything odd.

    Else None.
    """
    try:
        document = _COLUMNS.decode(payload)
    except (ValueError, RecursionError):
        return None
    metrics, sensor_id = document.metrics, document.sensor_id
    lengths = set(map(len, metrics.values()))
    if len(lengths) != 1 or len(metrics) > MOST_METRICS:
        return None
    (count,) = lengths
    if not 0 < count <= MOST_READINGS or not good_sensor_id(sensor_id):
        return None
    first_us, dt_us, step_us = document.t0_us, document.dt_us, 0
    if isinstance(dt_us, int):
        step_us, last_us = dt_us, first_us + dt_us * (count - 1)
    elif len(dt_us) == count - 1 and (not dt_us or min(dt_us) > 0):
        last_us = first_us + sum(dt_us)
    else:
        return None
    if step_us < 0 or first_us < EARLIEST_US or not first_us <= last_us < arrival_ms * 1000 + AHEAD_US:
        return None
    if isinstance(dt_us, list):
        ts_us = list(accumulate(dt_us, initial=first_us))
    elif dt_us:
        ts_us = list(range(first_us, last_us + 1, dt_us))
    else:
        return None
    text = number_text(cast(Collection[Sequence[float]], metrics.values()), count)
    if text is None or not all(map(good_metric_name, metrics)):
        return None
    return Run(sensor_id, ts_us, cast(dict[str, Column], metrics), arrival_ms, (text, step_us))


# --- many single readings ---------------------------------------------------------------


def usual_readings(payloads: Sequence[bytes], arrival_ms: int) -> list[Run] | None:
    """One run per sensor where every payload is one reading in its strict form without anything odd, else None.

    The payloads are decoded in one go, a line each. Since each begins with a brace and ends with
    one, none can be completed by its neighbour: as many documents as lines are one per line.
    """
    if len(payloads) < LEAST_TOGETHER or is_columnar(payloads[0]):
        return None
    names = _numeric_names(payloads[0])
    if names is not None:
        shaped = _shaped(payloads, names, arrival_ms)
        if shaped is not None:
            return shaped
    lines = _lines(payloads)
    if lines is None:
        return None
    try:
        documents = READING.decode_lines(lines)
    except (ValueError, RecursionError):
        return None
    if len(documents) != len(payloads):
        return None
    by_sensor: dict[str, list[Reading]] = {}
    for document in documents:
        by_sensor.setdefault(document.sensor_id, []).append(document)
    runs: list[Run] = []
    for sensor_id, found in by_sensor.items():
        run = _usual_run(sensor_id, found, arrival_ms)
        if run is None:
            return None
        runs.append(run)
    return runs


def _lines(payloads: Sequence[bytes]) -> bytes | None:
    """The payloads as lines; None where one of them holds a line's end or does not begin and end with a brace."""
    if not all(payloads) or set(map(_FIRST, payloads)) != _OPENING or set(map(_LAST, payloads)) != _CLOSING:
        return None
    lines = b"\n".join(payloads)
    return lines if lines.count(b"\n") == len(payloads) - 1 else None


def _numeric_names(payload: bytes) -> tuple[str, ...] | None:
    """The metrics of a reading, where all of them are numbers."""
    try:
        metrics = READING.decode(payload).metrics
    except (ValueError, RecursionError):
        return None
    if not 0 < len(metrics) <= _MOST_FIELDS or not {int, float}.issuperset(map(type, metrics.values())):
        return None
    return tuple(metrics) if all(map(good_metric_name, metrics)) else None


class _Shape(NamedTuple):
    """A decoder of readings that have just these numbers, and what takes each number out of their metrics."""

    decoder: msgspec.json.Decoder[Any]
    cells: list[Callable[[Any], int | float]]


@lru_cache(64)
def _shape(names: tuple[str, ...]) -> _Shape:
    attributes = [f"m{place}" for place in range(len(names))]
    metrics = msgspec.defstruct(
        "_Metrics",
        [(attribute, int | float) for attribute in attributes],
        rename=dict(zip(attributes, names, strict=True)),
        forbid_unknown_fields=True,
        gc=False,
    )
    fields: list[tuple[str, Any]] = [("sensor_id", str), ("ts", int), ("metrics", metrics)]
    reading = msgspec.defstruct("_Reading", fields, forbid_unknown_fields=True, gc=False)
    return _Shape(msgspec.json.Decoder(reading), list(map(attrgetter, attributes)))


def _shaped(payloads: Sequence[bytes], names: tuple[str, ...], arrival_ms: int) -> list[Run] | None:
    """As `usual_readings`, where every reading has just the named numbers and a whole `ts`.

    Some hundred at a time, so that the memory of the decoded objects is used again at once.
    """
    shape = _shape(names)
    sensors: list[str] = []
    times: list[int] = []
    columns: list[list[int | float]] = [[] for _ in names]
    for start in range(0, len(payloads), _AT_ONCE):
        some = payloads[start : start + _AT_ONCE]
        lines = _lines(some)
        try:
            documents = [] if lines is None else shape.decoder.decode_lines(lines)
        except (ValueError, RecursionError):
            return None
        if len(documents) != len(some):
            return None
        sensors += [document.sensor_id for document in documents]
        times += [document.ts * 1000 for document in documents]
        metrics = [document.metrics for document in documents]
        for column, cell_of in zip(columns, shape.cells, strict=True):
            column.extend(map(cell_of, metrics))
    if min(times) < EARLIEST_US or max(times) >= arrival_ms * 1000 + AHEAD_US:
        return None
    if number_text(columns, len(payloads)) is None:
        return None
    return _by_sensor(sensors, times, dict(zip(names, columns, strict=True)), arrival_ms)


def _by_sensor(
    sensors: list[str], times: list[int], columns: Mapping[str, list[int | float]], arrival_ms: int
) -> list[Run] | None:
    """The readings as a run per sensor; None where an id is odd."""
    places: dict[str, list[int]] = {}
    for place, sensor_id in enumerate(sensors):
        held = places.get(sensor_id)
        if held is None:
            places[sensor_id] = [place]
        else:
            held.append(place)
    if not all(map(good_sensor_id, places)):
        return None
    return [_taken(sensor_id, where, times, columns, arrival_ms) for sensor_id, where in places.items()]


def _taken(
    sensor_id: str,
    places: list[int],
    times: list[int],
    columns: Mapping[str, list[int | float]],
    arrival_ms: int,
) -> Run:
    if len(places) == 1:
        (place,) = places
        return Run(sensor_id, [times[place]], {name: [of[place]] for name, of in columns.items()}, arrival_ms)
    take_out = itemgetter(*places)
    metrics: dict[str, Column] = {name: list(take_out(column)) for name, column in columns.items()}
    return settle(sensor_id, list(take_out(times)), metrics, arrival_ms)


# --- readings of any metrics ------------------------------------------------------------


def _usual_run(sensor_id: str, documents: list[Reading], arrival_ms: int) -> Run | None:
    """One sensor's readings as a run; None where a time, a name or a value is odd or a metric is not in all."""
    times = [document.ts for document in documents]
    metrics = [document.metrics for document in documents]
    names = metrics[0].keys()
    if set(map(type, times)) != {int} or not names or not good_sensor_id(sensor_id):
        return None
    if not all(map(good_metric_name, names)) or any(found.keys() != names for found in metrics):
        return None
    ts_us = [cast(int, ts) * 1000 for ts in times]
    if min(ts_us) < EARLIEST_US or max(ts_us) >= arrival_ms * 1000 + AHEAD_US:
        return None
    columns: dict[str, Column] = {}
    for name in names:
        column, refused, holes = clean_column([found[name] for found in metrics])
        if refused or holes:
            return None
        columns[name] = column
    return settle(sensor_id, ts_us, columns, arrival_ms)


def usual_reading(payload: bytes, arrival_ms: int, expected: str | None = None) -> Run | None:
    """The run of a user record that is one reading in its strict form without anything odd, else None.

    `expected`, where given, is the sensor it must be of and need not name."""
    if is_columnar(payload):
        return None
    try:
        if expected is None or b'"sensor_id"' in payload:
            document = READING.decode(payload)
            sensor_id = document.sensor_id
            if expected not in (None, sensor_id):
                return None
        else:
            document = _UNNAMED.decode(payload)
            sensor_id = expected
        ts = document.ts
        ts_us = instant.from_text(ts) if isinstance(ts, str) else instant.from_ms(ts)
    except (ValueError, RecursionError):
        return None
    if not (good_sensor_id(sensor_id) and EARLIEST_US <= ts_us < arrival_ms * 1000 + AHEAD_US):
        return None
    metrics: dict[str, Column] = {}
    for name, value in document.metrics.items():
        if not good_metric_name(name):
            return None
        if type(value) is float and LEAST_MAGNITUDE <= value < SAFE_MAGNITUDE:
            metrics[name] = [value]
        elif value is not None:
            if value_problem(value) is not None:
                return None
            metrics[name] = [plain(value)]
    return Run(sensor_id, [ts_us], metrics, arrival_ms) if metrics else None
