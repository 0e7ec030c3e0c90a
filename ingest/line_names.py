"""What line protocol calls a series, as a sensor id and metric names; how a name becomes one that is allowed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from ingest.gather import Unusable, good_metric_name, good_sensor_id

LITERAL_TAG = "sensor_id"
"""The tag whose value is a sensor id as it stands, or is refused."""
SENSOR_TAGS = (LITERAL_TAG, "sensor", "device", "entity_id", "host")
"""Tags that name the sensor; the first one that a line has."""

SPELLED: dict[str, str] = {
    " ": "_",
    "%": "percent",
    "°": "deg",
    "²": "2",
    "³": "3",
    "\u00b5": "u",
    "\u03bc": "u",
    "\u03a9": "ohm",
    "\u2126": "ohm",
}
"""Characters that are written otherwise. Names that differ only in this are the same name."""
SPELLED_IN_METRICS = SPELLED | {"/": "_", ":": "_"}

_MOST_SENSOR, _MOST_METRIC = 128, 64
_DIGEST_BYTES = 4
_DIGEST_CHARACTERS = 2 * _DIGEST_BYTES + 1
_TO_SENSOR = str.maketrans(SPELLED)
_TO_METRIC = str.maketrans(SPELLED_IN_METRICS)
_NOT_IN_SENSOR = re.compile(r"[^A-Za-z0-9._:/-]|\.\.+|//+|/\Z")
_NOT_IN_METRIC = re.compile(r"[^A-Za-z0-9_.-]")
_NOT_FIRST = re.compile(r"\A[^A-Za-z0-9]+")


def sensor_of(measurement: str, tags: Mapping[str, str], expected: str | None = None) -> str:
    """The sensor of a line: the value of the first of SENSOR_TAGS it has, else what is `expected` of it,
    else the measurement and the tags' values, in the order of the tags' names, with `/` between them.

    Raises Unusable (`bad_sensor_id`) where LITERAL_TAG holds what no sensor may be called.
    """
    for tag in SENSOR_TAGS:
        named = tags.get(tag)
        if named is None:
            continue
        if tag != LITERAL_TAG:
            return sensor_name(named)
        if not good_sensor_id(named):
            raise Unusable("bad_sensor_id", f"{len(named)} characters that no sensor id may be made of")
        return named
    return expected or sensor_name(measurement, *(tags[tag] for tag in sorted(tags)))


def metric_of(measurement: str, field: str) -> str:
    """The metric of a field: `<measurement>.<field>`, spelled so that it may name a metric.

    A name that is allowed stays as it is. Else SPELLED_IN_METRICS is applied, and `_` put before a
    digit that it begins with. Where that does not do, each character that is left over becomes `_`, the
    name is cut, and a digest of the whole is added, so that different names stay apart.
    """
    return _metric_name(f"{measurement}.{field}")


@lru_cache(8_192)
def _metric_name(name: str) -> str:
    if good_metric_name(name):
        return name
    text = name.translate(_TO_METRIC)
    if not good_metric_name(text[:1]):
        text = f"_{text}"
    if good_metric_name(text):
        return text
    kept = _NOT_IN_METRIC.sub("_", text)[: _MOST_METRIC - _DIGEST_CHARACTERS]
    if not good_metric_name(kept[:1]):
        kept = f"_{kept[1:]}"
    return f"{kept}-{_digest([name])}"


def sensor_name(*parts: str) -> str:
    """The parts, with `/` between them, spelled so that they may name a sensor; else as `metric_of`.

    Of several parts one that holds `/` itself is told apart from several: it adds the digest.
    """
    text = "/".join(parts)
    if good_sensor_id(text) and (len(parts) == 1 or not any("/" in part for part in parts)):
        return text
    joined = parts[0] if len(parts) == 1 else "/".join(part.replace("/", "_") for part in parts)
    spelled = joined.translate(_TO_SENSOR)
    if good_sensor_id(spelled) and spelled.count("/") == text.count("/"):
        return spelled
    kept = _NOT_FIRST.sub("", _NOT_IN_SENSOR.sub("_", spelled))[: _MOST_SENSOR - _DIGEST_CHARACTERS]
    return f"{kept or 'x'}-{_digest(parts)}"


def _digest(parts: Iterable[str]) -> str:
    whole = "\0".join(parts).encode()
    return hashlib.blake2b(whole, digest_size=_DIGEST_BYTES).hexdigest()
