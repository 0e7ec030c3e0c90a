"""SenML JSON (RFC 8428): a pack of records becomes readings; the rule for sensor and metric names is here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ingest import instant
from ingest.gather import Gather, Unreadable, Unusable, good_metric_name, kind_name
from ingest.reading import Value

VERSION = 10
"""The version of SenML that is understood ("bver", RFC 8428 section 4.4)."""
RELATIVE_BELOW_S = 2**28
"""A time below it counts from the arrival (RFC 8428 section 4.5.3)."""
LONE_METRIC = "value"
"""The metric of a record whose name names the sensor only."""
SUM_SUFFIX = ".sum"
"""What a metric's integrated value (field `s`) is called after."""

_FIELDS = {"bn", "bt", "bu", "bv", "bs", "bver", "n", "u", "v", "vs", "vb", "vd", "s", "t", "ut"}
_MARKS = {"bn", "n", "v", "vs", "vb", "vd", "s", "bt", "bver"}
_DEVICE = re.compile(r"urn:dev:[a-z0-9]+:[^:/]+")


@dataclass(slots=True)
class _Base:
    """The base fields in force (RFC 8428 section 4.1)."""

    name: str = ""
    time: int | float = 0
    value: int | float = 0
    sum: int | float = 0


def is_pack(records: Sequence[object]) -> bool:
    """Whether an array of JSON values is meant as a SenML pack."""
    members = [cast(Mapping[str, Any], record) for record in records if isinstance(record, dict)]
    return not any("sensor_id" in record for record in members) and any(
        _MARKS & record.keys() for record in members
    )


def read_pack(gather: Gather, records: Sequence[object]) -> None:
    """Add every record of the pack. A record that is bad costs only itself; a bad base field
    costs all that follow, as nothing after it can be known."""
    base = _Base()
    only_base = True
    for position, record in enumerate(records):
        gather.place = f"record {position + 1}"
        if not isinstance(record, dict):
            gather.refuse("wrong_type", f"{kind_name(record)} where a SenML record is needed")
            only_base = False
            continue
        fields = cast(dict[str, Any], record)
        try:
            _rebase(base, fields)
        except Unusable as error:
            gather.refuse(error.reason, f"{error}; nor can what follows", count=len(records) - position)
            return
        if fields.keys() <= {"bn", "bt", "bu", "bv", "bs", "bver"}:
            continue
        only_base = False
        gather.attempt(_read_record, base, fields)
    if only_base:
        gather.place = ""
        raise Unusable("empty_record", "a SenML pack of base fields only")


def _rebase(base: _Base, fields: Mapping[str, Any]) -> None:
    unknown = next((name for name in fields if name.endswith("_")), None)
    if unknown is not None:
        raise Unusable("unknown_format", "a field that must be understood (its name ends in _) is not")
    version = fields.get("bver", VERSION)
    if type(version) is not int or version > VERSION:
        raise Unusable("unknown_format", f"a SenML version above {VERSION} cannot be read")
    name = fields.get("bn", base.name)
    if not isinstance(name, str):
        raise Unusable("wrong_type", f"bn is {kind_name(name)}, not text")
    base.name = name
    base.time = _number(fields, "bt", base.time)
    base.value = _number(fields, "bv", base.value)
    base.sum = _number(fields, "bs", base.sum)


def _number(fields: Mapping[str, Any], name: str, otherwise: int | float) -> int | float:
    value = fields.get(name, otherwise)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        reason = value.reason if isinstance(value, Unreadable) else "wrong_type"
        raise Unusable(reason, f"{name} is {kind_name(value)} that cannot be used")
    return value


def _read_record(gather: Gather, base: _Base, fields: Mapping[str, Any]) -> None:
    name = fields.get("n", "")
    if not isinstance(name, str):
        raise Unusable("wrong_type", f"n is {kind_name(name)}, not text")
    if gather.expected is not None and not base.name and not re.search("[/:]", name):
        sensor_id, metric = gather.expected, name or LONE_METRIC
    elif not base.name and not name:
        raise Unusable("missing_field", "neither bn nor n names the sensor")
    else:
        sensor_id, metric = split_name(base.name, name)
    gather.sensor(sensor_id)
    metrics: dict[str, object] = {}
    for field, value in _values(base, fields):
        metrics[metric + SUM_SUFFIX if field == "s" else metric] = value
    ts_us = _time(gather, base, fields)
    gather.reading(sensor_id, ts_us, metrics)


def split_name(base: str, name: str) -> tuple[str, str]:
    """Sensor id and metric of a record with base name `base` and name `name`.

    The two are joined, with `/` between them unless one already brings a `/` or `:` to the
    seam. What follows the last `/` or `:` is the metric, what precedes it the sensor. The
    whole is the sensor, and the metric is `value`, where there is no `name`, where what
    follows cannot name a metric, and where the whole is a device's URN (`urn:dev:ow:10e2073a`).
    """
    if not name:
        return base.rstrip("/:"), LONE_METRIC
    seamless = not base or base.endswith(("/", ":")) or name.startswith(("/", ":"))
    whole = base + name if seamless else f"{base}/{name}"
    cut = max(whole.rfind("/"), whole.rfind(":"))
    if cut <= 0 or not good_metric_name(whole[cut + 1 :]) or (not base and _DEVICE.fullmatch(whole)):
        return whole, LONE_METRIC
    return whole[:cut], whole[cut + 1 :]


def _values(base: _Base, fields: Mapping[str, Any]) -> list[tuple[str, object]]:
    given = [(field, fields[field]) for field in ("v", "vs", "vb", "vd") if fields.get(field) is not None]
    if len(given) > 1:
        raise Unusable("unknown_format", "more than one of v, vs, vb and vd")
    if fields.get("s") is not None:
        given.append(("s", fields["s"]))
    resolved: list[tuple[str, object]] = []
    for field, value in given:
        resolved.append((field, _resolved(base, field, value)))
    return resolved


def _resolved(base: _Base, field: str, value: object) -> Value | Unreadable:
    if isinstance(value, Unreadable):
        return value
    if field in ("v", "s") and isinstance(value, (int, float)) and not isinstance(value, bool):
        return _added(base.value if field == "v" else base.sum, value)
    if field == "vs" and isinstance(value, str):
        return value
    if field == "vb" and isinstance(value, bool):
        return value
    return Unreadable("wrong_type")


def _added(base: int | float, value: int | float) -> int | float:
    if base == 0:
        return value
    if isinstance(base, int) and isinstance(value, int):
        return base + value
    return float(instant.add(base, value))


def _time(gather: Gather, base: _Base, fields: Mapping[str, Any]) -> int:
    seconds = instant.add(base.time, _number(fields, "t", 0))
    ts_us = instant.from_seconds(seconds)
    return ts_us + gather.arrival_ms * 1000 if seconds < RELATIVE_BELOW_S else ts_us
