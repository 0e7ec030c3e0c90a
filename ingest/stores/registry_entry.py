"""The registry's item, as DynamoDB holds it, and what its stores say where an entry is not as it must be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from ingest import keys
from ingest.item import Attribute
from ingest.keys import Key
from ingest.sensor import Sensor, place_text

ATTRIBUTES = ("name", "units", "labels", "place", "version")
"""The attributes that a change may touch."""


def encode_sensor(sensor: Sensor) -> dict[str, Attribute]:
    """A registry item; what is empty is left out, `place` is JSON text."""
    item: dict[str, Attribute] = {
        **wire_key(keys.sensor_key(sensor.sensor_id)),
        "first_seen": {"N": str(sensor.first_seen_ms)},
        "version": {"N": str(sensor.version)},
    }
    if sensor.name:
        item["name"] = {"S": sensor.name}
    for attribute, texts in (("units", sensor.units), ("labels", sensor.labels)):
        if texts:
            item[attribute] = {"M": {name: {"S": text} for name, text in texts.items()}}
    if sensor.place:
        item["place"] = {"S": place_text(sensor.place)}
    return item


def decode_sensor(item: Mapping[str, Attribute]) -> Sensor:
    """The inverse of `encode_sensor`."""

    def texts(attribute: str) -> dict[str, str]:
        members = cast(dict[str, dict[str, str]], item.get(attribute, {"M": {}})["M"])
        return {name: text["S"] for name, text in members.items()}

    return Sensor(
        sensor_id=cast(str, item["sk"]["S"]),
        first_seen_ms=int(cast(str, item["first_seen"]["N"])),
        name=cast(str, item.get("name", {"S": ""})["S"]),
        units=texts("units"),
        labels=texts("labels"),
        place=json.loads(cast(str, item.get("place", {"S": "{}"})["S"])),
        version=int(cast(str, item["version"]["N"])),
    )


def wire_key(key: Key) -> dict[str, Attribute]:
    """A key as requests carry it."""
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}


def never_seen(sensor_id: str) -> str:
    """What NotFound says of a sensor."""
    return f"Sensor {sensor_id!r} is not registered. Check its id; a list of the known ones shows how they begin."


def exists_already(held: Sensor) -> str:
    """What Conflict says where a sensor was to be added."""
    return (
        f"Sensor {held.sensor_id} is registered already, with version {held.version}. "
        "Look at it, then change it by giving that version."
    )


def changed_meanwhile(held: Sensor, if_version: int | None) -> str:
    """What Conflict says where a sensor has another version than the caller knows."""
    asked = "" if if_version is None else f", not {if_version}"
    return (
        f"Sensor {held.sensor_id} has version {held.version}{asked}: somebody changed it. "
        "Look at it, then change it by giving that version."
    )
