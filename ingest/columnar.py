"""Columnar runs as JSON objects, what our own publisher sends: checked column by column."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, zip_longest
from typing import Any, cast

import msgspec

from ingest.gather import Gather, Unusable, clean_column, kind_name, only, shown
from ingest.reading import Column


class Columnar(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A run as a JSON object, in its strict form."""

    sensor_id: str
    t0_us: int
    dt_us: list[Any] | int
    metrics: dict[str, list[Any]]


COLUMNAR = msgspec.json.Decoder(Columnar)


def read_columns(
    gather: Gather, sensor: str, t0_us: object, dt_us: object, metrics: Mapping[str, Any]
) -> None:
    """Add the run that the fields of an object describe: what of it can be used. Raises Unusable."""
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
