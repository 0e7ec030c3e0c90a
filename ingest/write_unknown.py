"""What a deployment that admits no unknown sensors refuses of a batch: their readings, with the bytes they came in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from ingest.envelope import is_addressed, open_address, unwrap
from ingest.kinesis_records import Record, user_records
from ingest.line_grammar import is_line_protocol, whole_lines
from ingest.reading import Run
from ingest.reject import Problem
from ingest.stores import Registry
from ingest.wire import MOST_TOLD_APART, decode, decode_each

REASON = "unknown_sensor"
MOST_SENSORS = 1_000
"""How many unknown sensors of one user record are told apart; one problem stands for more."""
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class ClosedRegistry:
    """A registry that readings add no sensor to; who is not in it is refused."""

    registry: Registry

    def unknown(self, sensor_ids: Collection[str]) -> set[str]:
        """Those of the sensors that are not registered. Raises Unavailable."""
        return set(sensor_ids) - self.registry.known(sensor_ids)


def unknown_sensors(record: Record, unknown: AbstractSet[str]) -> list[tuple[str, bytes, Problem]]:
    """What a stream record holds of the unknown sensors: place of the user record, its bytes, and the problem.

    `payload` of a problem is the smallest piece of the original bytes that holds the sensor's readings and
    can be decoded again: whole lines of a payload of lines, else the user record. Pieces that hold nothing
    wrong and no other sensor are kept together, all others each by itself, so that what becomes of
    a piece can be told from decoding it again.
    """
    told: list[tuple[str, bytes, Problem]] = []
    payloads, _ = user_records(record.data)
    for position, runs, _ in decode_each(payloads, record.arrival_ms):
        if not any(run.sensor_id in unknown for run in runs):
            continue
        payload = payloads[position]
        problems = _of_user_record(payload, runs, unknown, record.arrival_ms)
        if len(problems) > MOST_SENSORS or len(told) + len(problems) > MOST_TOLD_APART:
            detail = f"{len(problems)} sensors or lines of sensors that are not registered"
            problems = [_whole(payload, "", None, sum(problem.count for problem in problems), detail)]
        told.extend((str(position), payload, problem) for problem in problems)
    return told


def _of_user_record(
    payload: bytes, runs: Sequence[Run], unknown: AbstractSet[str], arrival_ms: int
) -> list[Problem]:
    by_lines = _by_lines(payload, runs, unknown, arrival_ms)
    if by_lines is not None:
        return by_lines
    return [
        _whole(payload, f"sensor {run.sensor_id}", run.sensor_id, len(run.ts_us))
        for run in runs
        if run.sensor_id in unknown
    ]


def _whole(payload: bytes, part: str, sensor_id: str | None, count: int, detail: str = "") -> Problem:
    """A problem of a whole user record; of an addressed one as its other problems are told."""
    problem = Problem(REASON, detail or f"sensor {sensor_id} is not registered", part, None, sensor_id, count)
    if not is_addressed(payload):
        return problem
    found = open_address(payload)
    return replace(problem, payload=found.payload, addressed_to=found.sensor_id)


# --- lines ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    data: bytes
    readings: Mapping[str, int]
    """By sensor."""
    is_clean: bool
    """Whether nothing is wrong with it and all of it is of one sensor."""


def _by_lines(
    payload: bytes, runs: Sequence[Run], unknown: AbstractSet[str], arrival_ms: int
) -> list[Problem] | None:
    """The problems of a payload whose lines are payloads of their own; None where it is not one of these."""
    addressed = open_address(payload) if is_addressed(payload) else None
    expected = addressed.sensor_id if addressed else None
    body = unwrap(addressed.payload if addressed else payload).strip(_SPACE)
    if b"\n" not in body:
        return None
    lines = list(_lines(body, arrival_ms, expected))
    found = Counter[str]()
    for line in lines:
        found.update(line.readings)
    if any(found[run.sensor_id] < len(run.ts_us) for run in runs):
        return None
    problems: list[Problem] = []
    clean: dict[str, list[_Line]] = {}
    for line in lines:
        for sensor_id, count in line.readings.items():
            if sensor_id in unknown and line.is_clean:
                clean.setdefault(sensor_id, []).append(line)
            elif sensor_id in unknown:
                part = f"line {line.number}, sensor {sensor_id}"
                problems.append(_piece(line.data, part, sensor_id, count, expected))
    for sensor_id, held in clean.items():
        data = b"\n".join(line.data for line in held)
        count = sum(line.readings[sensor_id] for line in held)
        if not decode(data, arrival_ms, expected)[1]:
            problems.append(_piece(data, f"sensor {sensor_id}", sensor_id, count, expected))
            continue
        for line in held:  # good by themselves, not together: two series of line protocol that share a name
            part = f"line {line.number}, sensor {sensor_id}"
            problems.append(_piece(line.data, part, sensor_id, line.readings[sensor_id], expected))
    return problems


def _lines(body: bytes, arrival_ms: int, expected: str | None) -> Iterator[_Line]:
    number = 1
    for data in whole_lines(body) if is_line_protocol(body) else body.split(b"\n"):
        here, number = number, number + 1 + data.count(b"\n")
        if not data or data.isspace():
            continue
        runs, wrong = decode(data, arrival_ms, expected)
        readings = {run.sensor_id: len(run.ts_us) for run in runs}
        yield _Line(here, data, readings, is_clean=not wrong and len(readings) == 1)


def _piece(data: bytes, part: str, sensor_id: str, count: int, addressed_to: str | None) -> Problem:
    detail = f"sensor {sensor_id} is not registered"
    return Problem(REASON, detail, part, data, sensor_id, count, addressed_to)
