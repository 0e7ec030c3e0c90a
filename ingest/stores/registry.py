"""The registry in DynamoDB: one item per sensor, spread over 16 partitions."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import Any

from ingest import keys
from ingest.errors import Conflict, NotFound, Refused, Unavailable
from ingest.item import Attribute
from ingest.sensor import Sensor, same_parts
from ingest.stores import RemainingMs
from ingest.stores._boto_errors import is_lost_race, translated
from ingest.stores._line import Line
from ingest.stores.registry_entry import (
    ATTRIBUTES,
    changed_meanwhile,
    decode_sensor,
    encode_sensor,
    exists_already,
    never_seen,
    wire_key,
)

KEYS_PER_GET = 100
"""BatchGetItem takes at most 100 keys (API reference, BatchGetItem)."""
WORKERS = 8
FAILED_WRITE_UNITS = 1.0
"""A put whose condition fails consumes a unit, too ("DynamoDB read and write operations")."""
ATTEMPTS = 5
"""How often a deletion without a version begins again where the sensor is changed meanwhile."""

MOST_KNOWN = 200_000
"""How many ids one process remembers as registered; then it forgets all and asks the table again."""
CALLS_REMEMBERED = 1_000
"""After so many calls it forgets them, too, for a sensor whose item was deleted by other means than ours."""


class DynamoRegistry:
    """The sensors' entries in the one table.

    Ids known to be registered are remembered until a sensor is deleted: the table counts the deletions,
    and the count is read before what is remembered is used.
    """

    def __init__(self, client: Any, table: str) -> None:
        self._client = client
        self._table = table
        self._known: set[str] = set()
        self._calls = 0
        self._deletions = ""
        self._counting = Line(client, "dynamodb", "GetItem", "get_item")
        self._changes: dict[str, Any] = {"TableName": table, "Key": wire_key(keys.registry_changes_key())}
        self._changes_body = json.dumps(self._changes).encode()

    def register(self, first_seen_ms: Mapping[str, int], remaining_ms: RemainingMs) -> tuple[int, float]:
        """Add the sensors that are unknown, leaving known ones as they are; how many were new,
        and the write units consumed. Raises Unavailable where `remaining_ms` runs out first."""
        groups = self._groups(first_seen_ms)
        if not groups:
            return 0, 0.0
        with ThreadPoolExecutor(WORKERS) as pool:
            unknown = [name for found in pool.map(self._unknown, groups) for name in found]
            new = [Sensor(name, first_seen_ms[name]) for name in unknown]
            outcomes = list(pool.map(partial(self._put_new, remaining_ms), new))
        self._known.update(chain.from_iterable(groups))
        return sum(added for added, _ in outcomes), sum(units for _, units in outcomes)

    def known(self, sensor_ids: Collection[str]) -> set[str]:
        """Those of the sensors that are registered; never without one that was before the call."""
        groups = self._groups(sensor_ids)
        if groups:
            with ThreadPoolExecutor(WORKERS) as pool:
                unknown = {name for found in pool.map(self._surely_unknown, groups) for name in found}
            self._known.update(name for group in groups for name in group if name not in unknown)
        return self._known.intersection(sensor_ids)

    def get(self, sensor_id: str) -> Sensor | None:
        """One sensor, or None; consistent."""
        with translated(f"Reading sensor {sensor_id} in table {self._table}"):
            answer = self._client.get_item(
                TableName=self._table, Key=wire_key(keys.sensor_key(sensor_id)), ConsistentRead=True
            )
        return decode_sensor(answer["Item"]) if answer.get("Item") else None

    def all(self, prefix: str = "") -> Iterable[Sensor]:
        """Every sensor whose id begins with the prefix, sorted by id; consistent."""
        bounds = keys.registry_range(prefix, "")
        parts = [self._partition(one, bounds) for one in keys.registry_partitions()] if bounds else []
        return heapq.merge(*parts, key=lambda sensor: sensor.sensor_id)

    def page(self, prefix: str, after: str, limit: int) -> list[Sensor]:
        """The first `limit` sensors whose ids begin with the prefix and sort behind `after`, sorted by id.

        Reads first what each partition holds of them if they are spread evenly, and some; consistent.
        """
        bounds = keys.registry_range(prefix, after)
        if bounds is None or limit < 1:
            return []
        even = limit / keys.REGISTRY_SHARDS
        first = min(limit, math.ceil(even + 3 * math.sqrt(even)))
        parts = [self._partition(one, bounds, first) for one in keys.registry_partitions()]
        with ThreadPoolExecutor(WORKERS) as pool:
            heads = list(pool.map(_first, parts))
        whole = [chain(head, part) for head, part in zip(heads, parts, strict=True)]
        return list(islice(heapq.merge(*whole, key=lambda sensor: sensor.sensor_id), limit))

    def update(self, sensor: Sensor, if_version: int | None) -> Sensor:
        """Put the sensor's parts in the place of those of version `if_version`; None: it must be unknown.
        The same again is no conflict. Raises Conflict, NotFound."""
        wanted = replace(sensor, version=1 if if_version is None else if_version + 1)
        try:
            return self._add(wanted) if if_version is None else self._change(wanted, if_version)
        except Refused:
            held = self.get(sensor.sensor_id)
        if held is None and if_version is not None:
            raise NotFound(never_seen(sensor.sensor_id))
        if held is not None and held.version == wanted.version and same_parts(held, wanted):
            return held
        if held is None:
            raise Conflict(f"Sensor {sensor.sensor_id} was deleted at this moment. Add it again.")
        raise Conflict(
            exists_already(held) if if_version is None else changed_meanwhile(held, if_version), held
        )

    def delete(self, sensor_id: str, if_version: int | None = None) -> Sensor:
        """Forget a sensor, of that version where one is given; the sensor as it was. Raises NotFound, Conflict."""
        held = self.get(sensor_id)
        if held is None:
            raise NotFound(never_seen(sensor_id))
        for _ in range(ATTEMPTS):
            if if_version not in (None, held.version):
                break
            gone = self._delete(held)
            now = held if gone else self.get(sensor_id)
            if (
                gone or now is None
            ):  # what was deleted by a request whose answer was lost is not there, either
                return held
            held = now
        raise Conflict(changed_meanwhile(held, if_version), held)

    # --- what is remembered ---------------------------------------------------------------

    def _groups(self, names: Collection[str]) -> list[list[str]]:
        """The names that are not remembered as registered, as many together as one read takes."""
        self._calls += 1
        deletions = self._count_deletions() if self._known else self._deletions
        if (
            deletions != self._deletions
            or len(self._known) > MOST_KNOWN
            or self._calls % CALLS_REMEMBERED == 0
        ):
            self._known.clear()
        self._deletions = deletions
        unsure = [name for name in names if name not in self._known]
        return [unsure[i : i + KEYS_PER_GET] for i in range(0, len(unsure), KEYS_PER_GET)]

    def _count_deletions(self) -> str:
        with translated(f"Reading how many sensors of table {self._table} were deleted"):
            answer = self._counting.send(self._changes_body, **self._changes)
        return str(answer["Item"]["n"]["N"]) if answer.get("Item") else ""

    # --- requests -------------------------------------------------------------------------

    def _unknown(self, names: Sequence[str], *, consistent: bool = False) -> list[str]:
        """Those of the names that no item was returned for; a name left unread counts as unknown
        (its put is conditional, so that costs a write unit and no harm)."""
        request = {
            self._table: {
                "Keys": [wire_key(keys.sensor_key(name)) for name in names],
                "ProjectionExpression": "sk",
                "ConsistentRead": consistent,
            }
        }
        with translated(f"Reading {len(names)} sensors in table {self._table}"):
            answer = self._client.batch_get_item(RequestItems=request)
        known = {item["sk"]["S"] for item in answer["Responses"].get(self._table, [])}
        return [name for name in names if name not in known]

    def _surely_unknown(self, names: Sequence[str]) -> list[str]:
        """Those of the names that have no item; what one request leaves unread is read one by one."""
        unknown = self._unknown(names, consistent=True)
        return [name for name in unknown if self.get(name) is None]

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

    def _add(self, sensor: Sensor) -> Sensor:
        with translated(f"Adding sensor {sensor.sensor_id} to table {self._table}"):
            self._client.put_item(
                TableName=self._table,
                Item=encode_sensor(sensor),
                ConditionExpression="attribute_not_exists(pk)",
            )
        return sensor

    def _change(self, sensor: Sensor, if_version: int) -> Sensor:
        item = encode_sensor(sensor)
        given = [name for name in ATTRIBUTES if name in item]
        gone = [name for name in ATTRIBUTES if name not in item]
        change = "SET " + ", ".join(f"#{name} = :{name}" for name in given)
        if gone:
            change += " REMOVE " + ", ".join(f"#{name}" for name in gone)
        values = {f":{name}": item[name] for name in given}
        with translated(f"Changing sensor {sensor.sensor_id} in table {self._table}"):
            answer = self._client.update_item(
                TableName=self._table,
                Key=wire_key(keys.sensor_key(sensor.sensor_id)),
                UpdateExpression=change,
                ConditionExpression="#version = :old",
                ExpressionAttributeNames={f"#{name}": name for name in ATTRIBUTES},
                ExpressionAttributeValues={**values, ":old": {"N": str(if_version)}},
                ReturnValues="ALL_NEW",
            )
        return decode_sensor(answer["Attributes"])

    def _delete(self, held: Sensor) -> bool:
        """Delete the entry as it was seen and count that, both or neither; False where it is another now."""
        delete: dict[str, Any] = {
            "TableName": self._table,
            "Key": wire_key(keys.sensor_key(held.sensor_id)),
            "ConditionExpression": "#version = :seen AND first_seen = :first",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": {
                ":seen": {"N": str(held.version)},
                ":first": {"N": str(held.first_seen_ms)},
            },
        }
        count: dict[str, Any] = {
            "TableName": self._table,
            "Key": wire_key(keys.registry_changes_key()),
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
        with translated(f"Deleting sensor {held.sensor_id} from table {self._table}"):
            try:
                self._client.transact_write_items(TransactItems=[{"Delete": delete}, {"Update": count}])
            except self._client.exceptions.ClientError as error:
                if is_lost_race(error):
                    return False
                raise
        return True

    def _partition(
        self, partition: str, bounds: tuple[str, str], limit: int | None = None
    ) -> Iterator[Sensor]:
        """The partition's sensors within the bounds, `limit` with each request."""
        request: dict[str, Any] = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :p AND sk BETWEEN :low AND :high",
            "ExpressionAttributeValues": _values(partition, *bounds),
            "ConsistentRead": True,
        }
        if limit is not None:
            request["Limit"] = limit
        while True:
            with translated(f"Reading the registry in table {self._table}"):
                page = self._client.query(**request)
            yield from map(decode_sensor, page["Items"])
            if not page.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = page["LastEvaluatedKey"]


def _first(sensors: Iterator[Sensor]) -> list[Sensor]:
    return list(islice(sensors, 1))


def _values(partition: str, low: str, high: str) -> dict[str, Attribute]:
    return {":p": {"S": partition}, ":low": {"S": low}, ":high": {"S": high}}
