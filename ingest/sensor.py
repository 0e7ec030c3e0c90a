"""What the registry keeps of a sensor, the limits of each part, and the two ways of changing it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ingest.errors import BadInput
from ingest.reading import is_metric_name, is_sensor_id

MOST_NAME_CHARACTERS = 128
MOST_LABELS = 32
MOST_LABEL_CHARACTERS = 256
MOST_UNITS = 256
MOST_UNIT_CHARACTERS = 32
MOST_PLACE_BYTES = 4096
"""What the JSON text of a place may take."""
RANGES: dict[str, tuple[float, float]] = {"lat": (-90, 90), "lon": (-180, 180), "alt": (-100_000, 1_000_000)}
"""Members of a place that are numbers, with the least and greatest: degrees (WGS 84), and metres."""
PARTS = ("name", "labels", "place", "units")
"""What of a sensor people may change."""

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_LABEL_HELP = "a name begins with a letter or _ and has at most 64 letters, digits, `_`, `.` and `-`"


@dataclass(frozen=True, slots=True)
class Sensor:
    """One entry of the registry. `version` is 1 at first and grows by one with every change."""

    sensor_id: str
    first_seen_ms: int
    name: str = ""
    units: dict[str, str] = field(default_factory=dict[str, str])
    labels: dict[str, str] = field(default_factory=dict[str, str])
    place: dict[str, Any] = field(default_factory=dict[str, Any])
    version: int = 1


def check_sensor(sensor: Sensor) -> Sensor:
    """The sensor. Raises BadInput, naming the part before the first colon, where it cannot be kept."""
    if not is_sensor_id(sensor.sensor_id):
        raise BadInput(
            "sensor_id: must match [A-Za-z0-9][A-Za-z0-9._:/-]{0,127} without `..` and empty path parts."
        )
    _check_text("name", sensor.name, MOST_NAME_CHARACTERS)
    _check_texts("labels", sensor.labels, MOST_LABELS, MOST_LABEL_CHARACTERS, _is_label, _LABEL_HELP)
    _check_texts(
        "units",
        sensor.units,
        MOST_UNITS,
        MOST_UNIT_CHARACTERS,
        is_metric_name,
        "units belong to metrics; " + _LABEL_HELP,
    )
    _check_place(sensor.place)
    return sensor


def replaced(sensor: Sensor, document: Mapping[str, Any]) -> Sensor:
    """The sensor with the parts of the document in place of its own; a part that is left out, or null,
    becomes empty. Raises BadInput as `check_sensor` does, and where the document has other parts."""
    empty: dict[str, Any] = {"name": "", "labels": {}, "place": {}, "units": {}}
    given = {name: part for name, part in _parts(document).items() if part is not None}
    return check_sensor(replace(sensor, **(empty | given)))


def merged(sensor: Sensor, patch: Mapping[str, Any]) -> Sensor:
    """The sensor changed as RFC 7396 (JSON Merge Patch) says: what is left out stays, null removes,
    members of `labels`, `place` and `units` one by one. Raises BadInput as `replaced` does."""
    changed: dict[str, Any] = {}
    for name, part in _parts(patch).items():
        if name == "name":
            changed[name] = part or ""
        elif part is None:
            changed[name] = {}
        else:
            members = {**getattr(sensor, name), **part}
            changed[name] = {member: value for member, value in members.items() if value is not None}
    return check_sensor(replace(sensor, **changed))


def same_parts(one: Sensor, other: Sensor) -> bool:
    """Whether two entries say the same of a sensor, whenever it was seen and however often changed."""
    return all(getattr(one, name) == getattr(other, name) for name in PARTS)


def _parts(document: Mapping[str, Any]) -> dict[str, Any]:
    for name, part in document.items():
        if name not in PARTS:
            raise BadInput(
                f"{_shown(name)}: is no part of a sensor that can be changed; use {', '.join(PARTS)}."
            )
        if part is None:
            continue
        if name == "name" and not isinstance(part, str):
            raise BadInput("name: must be text.")
        if name != "name" and not isinstance(part, Mapping):
            raise BadInput(f"{name}: must be an object.")
    return dict(document)


def _check_texts(
    part: str,
    texts: Mapping[Any, Any],
    most: int,
    most_characters: int,
    is_name: Callable[[str], bool],
    help_text: str,
) -> None:
    if len(texts) > most:
        raise BadInput(f"{part}: {len(texts)} of them; a sensor has at most {most}.")
    for name, text in texts.items():
        if not isinstance(name, str) or not is_name(name):
            raise BadInput(f"{part}: {_shown(name)} is no name: {help_text}.")
        _check_text(f"{part}.{name}", text, most_characters)


def _check_text(part: str, text: object, most_characters: int) -> None:
    if not isinstance(text, str):
        raise BadInput(f"{part}: must be text.")
    if len(text) > most_characters:
        raise BadInput(f"{part}: {len(text)} characters; at most {most_characters} are kept.")
    if not text.isprintable():
        raise BadInput(
            f"{part}: holds a line break, a control character or a lone surrogate; leave these out."
        )


def _check_place(place: Mapping[Any, Any]) -> None:
    for name, value in place.items():
        if not isinstance(name, str) or not _is_label(name):
            raise BadInput(f"place: {_shown(name)} is no name: {_LABEL_HELP}.")
        where = f"place.{name}"
        if name in RANGES:
            low, high = RANGES[name]
            if not _is_number(value) or not low <= value <= high:
                raise BadInput(f"{where}: must be a number from {low:g} to {high:g}.")
        elif isinstance(value, str):
            _check_text(where, value, MOST_PLACE_BYTES)
        elif not _is_number(value):
            raise BadInput(f"{where}: must be text or a number.")
    if ("lat" in place) != ("lon" in place):
        raise BadInput("place: lat and lon belong together; give both or neither.")
    size_bytes = len(place_text(place).encode())
    if size_bytes > MOST_PLACE_BYTES:
        raise BadInput(f"place: takes {size_bytes} bytes of JSON; at most {MOST_PLACE_BYTES} are kept.")


def place_text(place: Mapping[str, Any]) -> str:
    """A place as it is kept: JSON with sorted members."""
    return json.dumps(place, ensure_ascii=False, sort_keys=True)


def _is_label(name: str) -> bool:
    return _LABEL.fullmatch(name) is not None


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 1e100 and math.isfinite(cast(float, value))


def _shown(name: object) -> str:
    """A name from outside, short and printable."""
    return ascii(name)[:80]
