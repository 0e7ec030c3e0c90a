"""The registry in DynamoDB: one item per sensor, spread over 16 partitions."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from ingest import keys
from ingest.errors import Unavailable
from ingest.item import Attribute
from ingest.keys import Key
from ingest.stores import RemainingMs, Sensor
from ingest.stores._boto_errors import translated

KEYS_PER_GET = 100
"""BatchGetItem takes at most 100 keys (API reference, BatchGetItem)."""
WORKERS = 8
FAILED_WRITE_UNITS = 1.0
"""A put whose condition fails consumes a unit, too ("DynamoDB read and write operations")."""


MOST_KNOWN = 200_000
"""How many ids one process remembers as registered; then it forgets all and asks the table again."""
CALLS_REMEMBERED = 1_000
"""After so many calls it forgets them, too, so that a deleted sensor that sends again comes back."""


class DynamoRegistry:
    """The sensors' entries in the one table. Ids known to be registered are remembered for a while."""

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table
        self._known: set[str] = set()
        self._calls = 0

    def register(self, first_seen_ms: Mapping[str, int], remaining_ms: RemainingMs) -> tuple[int, float]:
        """Add the sensors that are unknown, leaving known ones as they are; how many were new,
        and the write units consumed. Raises Unavailable where `remaining_ms` runs out first."""
        self._calls += 1
        if len(self._known) > MOST_KNOWN or self._calls % CALLS_REMEMBERED == 0:
            self._known.clear()
        names = [name for name in first_seen_ms if name not in self._known]
        groups = [names[i : i + KEYS_PER_GET] for i in range(0, len(names), KEYS_PER_GET)]
        if not groups:
            return 0, 0.0
        with ThreadPoolExecutor(WORKERS) as pool:
            unknown = [name for found in pool.map(self._unknown, groups) for name in found]
            new = [Sensor(name, first_seen_ms[name]) for name in unknown]
            outcomes = list(pool.map(partial(self._put_new, remaining_ms), new))
        self._known.update(names)
        return sum(added for added, _ in outcomes), sum(units for _, units in outcomes)

    def get(self, sensor_id: str) -> Sensor | None:
        """One sensor, or None; consistent."""
        with translated(f"Reading sensor {sensor_id} in table {self._table}"):
            answer = self._client.get_item(
                TableName=self._table, Key=_wire_key(keys.sensor_key(sensor_id)), ConsistentRead=True
            )
        return decode_sensor(answer["Item"]) if answer.get("Item") else None

    def all(self, prefix: str = "") -> Iterable[Sensor]:
        """Every sensor whose id begins with the prefix, sorted by id; consistent."""
        parts = [self._partition(partition, prefix) for partition in keys.registry_partitions()]
        return heapq.merge(*parts, key=lambda sensor: sensor.sensor_id)

    def _unknown(self, names: Sequence[str]) -> list[str]:
        """Those of the names that no item was returned for; a name left unread counts as unknown
        (its put is conditional, so that costs a write unit and no harm)."""
        request = {
            self._table: {
                "Keys": [_wire_key(keys.sensor_key(name)) for name in names],
                "ProjectionExpression": "sk",
            }
        }
        with translated(f"Reading {len(names)} sensors in table {self._table}"):
            answer = self._client.batch_get_item(RequestItems=request)
        known = {item["sk"]["S"] for item in answer["Responses"].get(self._table, [])}
        return [name for name in names if name not in known]

    def _put_new(self, remaining_ms: RemainingMs, sensor: Sensor) -> tuple[int, float]:
        """Whether the sensor was new (1 or 0), and the write units."""
        if remaining_ms() <= 0:
            raise Unavailable(
                "The time ran out before every new sensor was registered. The batch will be repeated."
            )
        with translated(f"Registering sensor {sensor.sensor_id} in table {self._table}"):
            try:
                answer = self._client.put_item(
                    TableName=self._table,
                    Item=encode_sensor(sensor),
                    ConditionExpression="attribute_not_exists(pk)",
                    ReturnConsumedCapacity="TOTAL",
                )
            except self._client.exceptions.ConditionalCheckFailedException:
                return 0, FAILED_WRITE_UNITS
        return 1, float(answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0.0))

    def _partition(self, partition: str, prefix: str) -> Iterator[Sensor]:
        values: dict[str, Any] = {":p": {"S": partition}}
        condition = "pk = :p"
        if prefix:
            values[":prefix"] = {"S": prefix}
            condition += " AND begins_with(sk, :prefix)"
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
        }
        while True:
            with translated(f"Reading the registry in table {self._table}"):
                page = self._client.query(**request)
            yield from map(decode_sensor, page["Items"])
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def encode_sensor(sensor: Sensor) -> dict[str, Attribute]:
    """A registry item; what is empty is left out, `place` is JSON text."""
    key = keys.sensor_key(sensor.sensor_id)
    item: dict[str, Attribute] = {
        **_wire_key(key),
        "first_seen": {"N": str(sensor.first_seen_ms)},
        "version": {"N": str(sensor.version)},
    }
    if sensor.name:
        item["name"] = {"S": sensor.name}
    for attribute, texts in (("units", sensor.units), ("labels", sensor.labels)):
        if texts:
            item[attribute] = {"M": {name: {"S": text} for name, text in texts.items()}}
    if sensor.place:
        item["place"] = {"S": json.dumps(sensor.place, ensure_ascii=False, sort_keys=True)}
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


def _wire_key(key: Key) -> dict[str, Attribute]:
    return {"pk": {"S": key.pk}, "sk": {"S": key.sk}}
