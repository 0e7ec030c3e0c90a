"""Payload bytes to runs: which format a user record is in is decided here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, cast

import msgspec

from ingest import instant
from ingest.columnar import COLUMNAR, Columnar, read_columns
from ingest.envelope import Addressed, Unopened, is_addressed, is_wrapped, open_address, unwrap
from ingest.gather import (
    MOST_READINGS,
    Gather,
    TooMuch,
    Unreadable,
    Unusable,
    good_sensor_id,
    kind_name,
)
from ingest.line_protocol import is_line_protocol, read_lines
from ingest.reading import MAX_INT_DIGITS, Run
from ingest.reject import Problem
from ingest.senml import is_pack, read_pack
from ingest.usual import READING, Reading, is_columnar, usual_reading, usual_readings, usual_run

MOST_OPENED_BYTES = 32 * 1024 * 1024
"""What the user records of one Kinesis record may inflate to; the one that passes it is the last to be opened."""
MOST_TOLD_APART = 10_000
"""How many problems of one Kinesis record are told apart; then there is one for each user record and reason."""

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
    for position, found, wrong in decode_each(payloads, arrival_ms):
        runs.extend(found)
        if wrong:
            told = _by_reason(wrong) if len(problems) + len(wrong) > MOST_TOLD_APART else wrong
            problems.extend((position, problem) for problem in told)
    return runs, problems


def decode_each(payloads: Sequence[bytes], arrival_ms: int) -> Iterator[tuple[int, list[Run], list[Problem]]]:
    """As `decode_all`, user record by user record: its position, its runs and its problems; bounded in what
    they inflate to."""
    opened_bytes = 0
    for position, payload in enumerate(payloads):
        run = usual_run(payload, arrival_ms) if is_columnar(payload) else None
        if run is not None:
            yield position, [run], []
        elif not (is_wrapped(payload) or is_addressed(payload)):
            yield position, *decode(payload, arrival_ms)
        elif opened_bytes < MOST_OPENED_BYTES:
            found, wrong, body_bytes = _decode(payload, arrival_ms)
            opened_bytes += body_bytes
            yield position, found, wrong
        else:
            detail = f"those before it in the stream record inflate to {opened_bytes} bytes"
            yield position, [], [Problem("inflate_limit", detail)]


def _by_reason(problems: Sequence[Problem]) -> list[Problem]:
    """The problems of one user record as one for each reason, the whole user record being kept."""
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.reason] = counts.get(problem.reason, 0) + problem.count
    detail = f"one of more than {MOST_TOLD_APART} problems in one stream record"
    return [Problem(reason, detail, count=count) for reason, count in counts.items()]


# --- documents and lines ----------------------------------------------------------------


def _read(gather: Gather, body: bytes) -> None:
    whole = body.strip(_SPACE) if b"\n" in body else body
    if whole.count(b"\n") >= MOST_READINGS and not _is_document(whole):
        raise TooMuch(f"more than {MOST_READINGS} lines in one record")
    lines = whole.split(b"\n")
    if (
        len(lines) > 1
        and (_is_document(lines[0]) or not _is_document(whole))
        and any(map(_is_document, lines))
    ):
        _read_lines(gather, lines)
    elif is_line_protocol(body):
        read_lines(gather, body)
    else:
        gather.attempt(_read_document, whole)


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
            document = COLUMNAR.decode(data) if b'"t0_us"' in data else READING.decode(data)
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(document, Columnar):
                read_columns(gather, document.sensor_id, document.t0_us, document.dt_us, document.metrics)
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
    read_columns(gather, sensor_id, fields["t0_us"], fields["dt_us"], cast(dict[str, Any], fields["metrics"]))


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
