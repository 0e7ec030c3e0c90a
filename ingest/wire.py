"""Payload bytes to runs: which format a user record is in is decided here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, zip_longest
from typing import Any, cast

import msgspec

from ingest import instant
from ingest.envelope import Addressed, Unopened, is_addressed, is_wrapped, open_address, unwrap
from ingest.gather import (
    MOST_READINGS,
    Gather,
    TooMuch,
    Unreadable,
    Unusable,
    clean_column,
    good_sensor_id,
    kind_name,
    only,
    shown,
)
from ingest.reading import MAX_INT_DIGITS, Column, Run
from ingest.reject import Problem
from ingest.senml import is_pack, read_pack
from ingest.usual import READING, Reading, is_columnar, usual_reading, usual_readings, usual_run


class _Columnar(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A run as a JSON object; what our own publisher sends."""

    sensor_id: str
    t0_us: int
    dt_us: list[Any] | int
    metrics: dict[str, list[Any]]


MOST_OPENED_BYTES = 32 * 1024 * 1024
"""What the user records of one Kinesis record may inflate to; the one that passes it is the last to be opened."""
MOST_TOLD_APART = 10_000
"""How many problems of one Kinesis record are told apart; then there is one for each user record and reason."""

_COLUMNAR = msgspec.json.Decoder(_Columnar)
_ANY = msgspec.json.Decoder(Any)
_SPACE = b" \t\r\n"


def decode(payload: bytes, arrival_ms: int, expected: str | None = None) -> tuple[list[Run], list[Problem]]:
    """The runs of one user record, one per sensor, and what of it could not be used.

    `arrival_ms` is when the stream took the record (epoch milliseconds). Each run is
    strictly increasing in time; of values for the same instant and metric the last in the
    record wins, also where a JSON key is repeated. `expected`, where given, is the sensor the
    payload must be of and need not name. Never raises, whatever the bytes. FORMATS.md describes
    what is understood.
    """
    runs, problems, _ = _decode(payload, arrival_ms, expected)
    return runs, problems


def _decode(
    payload: bytes, arrival_ms: int, expected: str | None = None
) -> tuple[list[Run], list[Problem], int]:
    """As `decode`, and how many bytes the user record has without its envelopes."""
    run = usual_reading(payload, arrival_ms, expected)
    if run is not None:
        return [run], [], len(payload)
    gather = Gather(arrival_ms, expected)
    body = payload
    try:
        if expected is None and is_addressed(payload):
            return _decode_addressed(open_address(payload), arrival_ms)
        if expected is not None and not good_sensor_id(expected):
            detail = f"{len(expected)} characters that no sensor id may be made of"
            return [], [Problem("bad_sensor_id", detail)], len(body)
        if is_wrapped(payload):
            body = unwrap(payload)
        _read(gather, body)
        return *gather.finish(len(payload)), len(body)
    except (TooMuch, Unopened) as error:
        return [], [Problem(error.reason, str(error))], len(body)


def _decode_addressed(found: Addressed, arrival_ms: int) -> tuple[list[Run], list[Problem], int]:
    """What `_decode` says of the payload within; its problems carry that payload, not the address."""
    if found.size_bytes > len(found.payload):
        detail = f"a message of {found.size_bytes} bytes, of which the first {len(found.payload)} were kept"
        cut = Problem("too_large", detail, payload=found.payload, addressed_to=found.sensor_id)
        return [], [cut], len(found.payload)
    runs, problems, body_bytes = _decode(found.payload, arrival_ms, found.sensor_id)
    known = found.sensor_id if good_sensor_id(found.sensor_id) else None
    told = [
        replace(
            problem,
            payload=found.payload if problem.payload is None else problem.payload,
            sensor_id=problem.sensor_id or known,
            addressed_to=found.sensor_id,
        )
        for problem in problems
    ]
    return runs, told, body_bytes


def decode_all(payloads: Sequence[bytes], arrival_ms: int) -> tuple[list[Run], list[tuple[int, Problem]]]:
    """As `decode`, for the user records of one Kinesis record: all runs, and problems with the position
    of their user record. A sensor may have several runs, which are in the order of the records.

    Bounded for all of them together: what they inflate to, and how many problems are told apart.
    """
    together = usual_readings(payloads, arrival_ms)
    if together is not None:
        return together, []
    runs: list[Run] = []
    problems: list[tuple[int, Problem]] = []
    opened_bytes = 0
    for position, payload in enumerate(payloads):
        run = usual_run(payload, arrival_ms) if is_columnar(payload) else None
        if run is not None:
            runs.append(run)
            continue
        if not (is_wrapped(payload) or is_addressed(payload)):
            found, wrong = decode(payload, arrival_ms)
        elif opened_bytes < MOST_OPENED_BYTES:
            found, wrong, body_bytes = _decode(payload, arrival_ms)
            opened_bytes += body_bytes
        else:
            detail = f"those before it in the stream record inflate to {opened_bytes} bytes"
            found, wrong = [], [Problem("inflate_limit", detail)]
        runs.extend(found)
        if len(problems) + len(wrong) > MOST_TOLD_APART:
            wrong = _by_reason(wrong)
        problems.extend((position, problem) for problem in wrong)
    return runs, problems


def _by_reason(problems: Sequence[Problem]) -> list[Problem]:
    """The problems of one user record as one for each reason, the whole user record being kept."""
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.reason] = counts.get(problem.reason, 0) + problem.count
    detail = f"one of more than {MOST_TOLD_APART} problems in one stream record"
    return [Problem(reason, detail, count=count) for reason, count in counts.items()]


# --- documents and lines ----------------------------------------------------------------


def _read(gather: Gather, body: bytes) -> None:
    if b"\n" not in body:
        gather.attempt(_read_document, body)
        return
    body = body.strip(_SPACE)
    if body.count(b"\n") >= MOST_READINGS and not _is_document(body):
        raise TooMuch(f"more than {MOST_READINGS} lines in one record")
    lines = body.split(b"\n")
    if (
        len(lines) > 1
        and (_is_document(lines[0]) or not _is_document(body))
        and any(map(_is_document, lines))
    ):
        _read_lines(gather, lines)
    else:
        gather.attempt(_read_document, body)


def _is_document(data: bytes) -> bool:
    if not data.lstrip(_SPACE).startswith((b"{", b"[")):
        return False
    try:
        _parse(data)
    except Unusable:
        return False
    return True


def _read_lines(gather: Gather, lines: list[bytes]) -> None:
    for number, line in enumerate(lines, 1):
        if not line or line.isspace():
            continue
        gather.line = number
        gather.place = ""
        gather.payload = line
        try:
            document = READING.decode(line)
        except (ValueError, RecursionError):
            gather.attempt(_read_document, line)
        else:
            gather.attempt(_read_reading, document)


def _read_document(gather: Gather, data: bytes) -> None:
    """Add one JSON document: strictly typed where it is in its usual form, else step by step."""
    if b'"metrics"' in data:
        try:
            document = _COLUMNAR.decode(data) if b'"t0_us"' in data else READING.decode(data)
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(document, _Columnar):
                _read_columns(gather, document.sensor_id, document.t0_us, document.dt_us, document.metrics)
            else:
                _read_reading(gather, document)
            return
    if not data or data.isspace():
        raise Unusable("empty_record", "no bytes but white space" if data else "no bytes")
    parsed = _parse(data)
    if isinstance(parsed, dict):
        _read_object(gather, cast(dict[str, Any], parsed))
    elif isinstance(parsed, list):
        _read_array(gather, cast(list[Any], parsed))
    else:
        raise Unusable("unknown_format", f"{kind_name(parsed)} where an object or an array is needed")


def _read_reading(gather: Gather, document: Reading) -> None:
    gather.reading(gather.sensor(document.sensor_id), _time(document.ts), document.metrics)


def _parse(data: bytes) -> object:
    """The JSON value, with Unreadable in place of numbers that cannot be read. Raises Unusable."""
    try:
        return _ANY.decode(data)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(
            data.decode(), parse_constant=_read_constant, parse_float=_read_float, parse_int=_read_int
        )
    except UnicodeDecodeError as error:
        raise Unusable("not_utf8", f"byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise Unusable("too_deep", "nested more deeply than can be read") from error
    except ValueError as error:
        raise Unusable("not_json", str(error)) from error


def _read_constant(_text: str) -> Unreadable:
    return Unreadable("not_finite")


def _read_float(text: str) -> float | Unreadable:
    value = float(text)
    return Unreadable("number_out_of_range") if value in (float("inf"), float("-inf")) else value


def _read_int(text: str) -> int | Unreadable:
    return int(text) if len(text) <= MAX_INT_DIGITS + 1 else Unreadable("int_too_long")


# --- shapes -----------------------------------------------------------------------------


def _read_array(gather: Gather, elements: list[Any]) -> None:
    if not elements:
        raise Unusable("empty_record", "an array that holds nothing")
    if len(elements) > MOST_READINGS:
        raise TooMuch(f"more than {MOST_READINGS} elements in one record")
    if is_pack(elements):
        read_pack(gather, elements)
        return
    for position, element in enumerate(elements, 1):
        gather.place = f"element {position}"
        if isinstance(element, dict):
            gather.attempt(_read_object, cast(dict[str, Any], element))
        else:
            gather.refuse("wrong_type", f"{kind_name(element)} where an object is needed")


def _read_object(gather: Gather, fields: dict[str, Any]) -> None:
    if fields.keys().isdisjoint(("sensor_id", "ts", "t0_us", "metrics")):
        raise Unusable("unknown_format", "an object without sensor_id, ts, t0_us and metrics")
    if "sensor_id" not in fields and gather.expected is None:
        raise Unusable("missing_field", "sensor_id is missing")
    sensor_id = gather.sensor(fields.get("sensor_id", gather.expected))
    if "ts" in fields:
        metrics = fields.get("metrics")
        if "metrics" not in fields:
            metrics = {name: value for name, value in fields.items() if name not in ("sensor_id", "ts")}
        elif not isinstance(metrics, dict):
            raise Unusable("wrong_type", f"metrics is {kind_name(metrics)}, not an object", sensor_id)
        gather.reading(sensor_id, _time(fields["ts"], sensor_id), cast(dict[str, Any], metrics))
        return
    for name in ("t0_us", "dt_us", "metrics"):
        if name not in fields:
            missing = name if "t0_us" in fields else "ts"
            raise Unusable("missing_field", f"{missing} is missing", sensor_id)
    if not isinstance(fields["metrics"], dict):
        raise Unusable("wrong_type", f"metrics is {kind_name(fields['metrics'])}, not an object", sensor_id)
    _read_columns(
        gather, sensor_id, fields["t0_us"], fields["dt_us"], cast(dict[str, Any], fields["metrics"])
    )


def _time(value: object, sensor_id: str | None = None) -> int:
    """The instant a `ts` stands for. Raises Unusable."""
    if type(value) is int or type(value) is float:
        return instant.from_ms(value)
    if not isinstance(value, str):
        detail = f"ts is {kind_name(value)}, neither a number that can be read nor text"
        raise Unusable("bad_timestamp", detail, sensor_id)
    try:
        return instant.from_text(value)
    except ValueError as error:
        raise Unusable("bad_timestamp", f"ts: {error}", sensor_id) from error


# --- columnar runs ----------------------------------------------------------------------


def _read_columns(
    gather: Gather, sensor: str, t0_us: object, dt_us: object, metrics: Mapping[str, Any]
) -> None:
    sensor_id = gather.sensor(sensor)
    ts_us, rising = _times(gather, sensor_id, t0_us, dt_us, metrics)
    columns, full = _clean_columns(gather, sensor_id, len(ts_us), metrics)
    if not full:
        present = [any(cell is not None for cell in cells) for cells in zip(*columns.values(), strict=True)]
        _note_absent(gather, sensor_id, present or [False] * len(ts_us), metrics)
        if not any(present):
            return
        ts_us, columns = only(present, ts_us, columns)
    first_us, last_us = (ts_us[0], ts_us[-1]) if rising else (min(ts_us), max(ts_us))
    if not (gather.in_time(first_us) and gather.in_time(last_us)):
        timely = list(map(gather.in_time, ts_us))
        gather.refuse("ts_out_of_range", gather.time_limits(), "", sensor_id, timely.count(False))
        if not any(timely):
            return
        ts_us, columns = only(timely, ts_us, columns)
    gather.columns(sensor_id, ts_us, columns, rising=rising)


def _times(
    gather: Gather, sensor_id: str, t0_us: object, dt_us: object, metrics: Mapping[str, Any]
) -> tuple[list[int], bool]:
    """The instants of a columnar run, and whether they strictly increase. Raises Unusable."""
    if type(t0_us) is not int:
        raise Unusable("bad_timestamp", f"t0_us is {kind_name(t0_us)}, not a whole number", sensor_id)
    if isinstance(dt_us, list):
        deltas = cast(list[Any], dt_us)
        if deltas and set(map(type, deltas)) != {int}:
            raise Unusable("bad_timestamp", "dt_us holds something other than whole numbers", sensor_id)
        gather.count(len(deltas) + 1)
        return list(accumulate(deltas, initial=t0_us)), not deltas or min(deltas) > 0
    if type(dt_us) is not int:
        raise Unusable(
            "bad_timestamp", f"dt_us is {kind_name(dt_us)}, not a whole number or a list", sensor_id
        )
    lengths = {len(cast(list[Any], column)) for column in metrics.values() if isinstance(column, list)}
    if len(lengths) > 1:
        raise Unusable(
            "length_mismatch", "columns of different lengths, and dt_us does not say which", sensor_id
        )
    count = lengths.pop() if lengths else 0
    if not count and not any(metrics.values()):
        raise Unusable("no_metrics", "no column holds a value", sensor_id)
    gather.count(count)
    return [t0_us + dt_us * position for position in range(count)], dt_us > 0


def _clean_columns(
    gather: Gather, sensor_id: str, count: int, metrics: Mapping[str, Any]
) -> tuple[dict[str, Column], bool]:
    """The columns that can be used, and whether one of them has a value at every instant."""
    columns: dict[str, Column] = {}
    full = False
    for name, raw in metrics.items():
        if not isinstance(raw, list):
            if raw is not None:
                gather.refuse_value("wrong_type", sensor_id, name, f"{kind_name(raw)} in place of a column")
            continue
        column = cast(list[Any], raw)
        if len(column) != count:
            detail = f"{len(column)} values for {count} instants"
            gather.refuse("length_mismatch", detail, f"metric {shown(name)}", sensor_id, _present(column))
        elif gather.metric(name, sensor_id, _present(column)):
            cleaned, refused, holes = clean_column(column)
            for reason, lost in refused.items():
                gather.refuse_value(reason, sensor_id, name, "values", lost)
            if not holes or cleaned.count(None) < count:
                columns[name] = cleaned
                full = full or (count > 0 and not holes)
    return columns, full


def _present(column: list[Any]) -> int:
    return max(1, len(column) - column.count(None))


def _note_absent(gather: Gather, sensor_id: str, present: list[bool], metrics: Mapping[str, Any]) -> None:
    """Note the instants at which nothing was sent; those whose values were refused are known already."""
    sent = zip_longest(*(cast(list[Any], column) for column in metrics.values() if isinstance(column, list)))
    given = [any(cell is not None for cell in cells) for cells in sent]
    empty = sum(not has and not (i < len(given) and given[i]) for i, has in enumerate(present))
    if empty:
        gather.refuse("no_metrics", "instants at which no metric has a value", "", sensor_id, empty)
