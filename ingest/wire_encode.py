"""Runs and readings to payload bytes, in the forms that `wire` reads."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import cast

import msgspec

from ingest.reading import Column, Run, Value

_ENCODER = msgspec.json.Encoder()


def encode_run(run: Run) -> bytes:
    """A run as columnar JSON: `dt_us` is a step where the times are a grid, else the list of deltas.

    `decode` gives the same readings back; the arrival is the stream's to tell.
    """
    ts_us = run.ts_us
    deltas = [later - earlier for earlier, later in pairwise(ts_us)]
    dt_us = deltas[0] if deltas and deltas.count(deltas[0]) == len(deltas) else deltas
    metrics = {name: _shortened(column) for name, column in run.metrics.items()}
    return _ENCODER.encode(
        {"sensor_id": run.sensor_id, "t0_us": ts_us[0], "dt_us": dt_us, "metrics": metrics}
    )


def _shortened(column: Column) -> Column:
    """The column with ints in place of floats where all are integral: two bytes less each."""
    if set(map(type, column)) == {float}:
        floats = cast(list[float], column)
        if all(map(float.is_integer, floats)) and -1e15 < min(floats) <= max(floats) < 1e15:
            return list(map(int, floats))
    return column


def encode_reading(sensor_id: str, ts_us: int, metrics: Mapping[str, Value]) -> bytes:
    """One reading as a JSON object; `ts` in milliseconds, with decimals where the instant needs them."""
    ts_ms = ts_us // 1000 if ts_us % 1000 == 0 else ts_us / 1000
    return _ENCODER.encode({"sensor_id": sensor_id, "ts": ts_ms, "metrics": metrics})
