"""Readings in their usual strict form, decoded fast; None where anything is odd, and `wire` looks closer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from ingest import instant
from ingest.gather import (
    SAFE_MAGNITUDE,
    clean_column,
    good_metric_name,
    good_sensor_id,
    plain,
    value_problem,
)
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


READING = msgspec.json.Decoder(Reading)
_UNNAMED = msgspec.json.Decoder(Unnamed)
LEAST_TOGETHER = 4
"""Fewer user records are decoded one by one."""


def usual_readings(payloads: Sequence[bytes], arrival_ms: int) -> list[Run] | None:
    """One run per sensor where every payload is one reading in its strict form without anything odd, else None.

    The payloads are decoded in one go, a line each. Since each begins with a brace and ends with
    one, none can be completed by its neighbour: as many documents as lines are one per line.
    """
    if len(payloads) < LEAST_TOGETHER or payloads[0].find(b'"t0_us"', 0, 180) >= 0:
        return None
    lines = b"\n".join(payloads)
    whole = all(payload[:1] == b"{" and payload[-1:] == b"}" for payload in payloads)
    if not whole or lines.count(b"\n") != len(payloads) - 1:
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
    if payload.find(b'"t0_us"', 0, 180) >= 0:
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
