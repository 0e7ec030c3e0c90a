"""Clients of DynamoDB and S3 as the stores on AWS use them, over dictionaries: pages, parts, conditions, reads that
may be stale where they are not consistent, and the fate of every call."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, Self, cast

import msgspec
from botocore.exceptions import ClientError

from ingest.errors import NotFound, Unavailable
from ingest.item import Attribute
from ingest.keys import Key
from ingest.stores.memory import MemoryColdStore
from tests.model.faults import Faults
from tests.model.oracle import written_once
from tests.model.wire_conditions import holds, updated

TABLE = "table"
ITEMS_PER_PAGE = 3
"""A page ends here: the stand-in for 1 MB ("Paginating table query results")."""
NAMES_PER_PAGE = 4
STALE_S = 2.0
"""How old an eventually consistent read may be ("DynamoDB read consistency": usually within a second)."""
Items = dict[Key, dict[str, Attribute]]


class ConditionalCheckFailedException(ClientError):
    """A condition did not hold."""


def error(code: str, operation: str) -> ClientError:
    """What botocore raises for an error code."""
    return ClientError(cast(Any, {"Error": {"Code": code, "Message": code}}), operation)


class InlineExecutor:
    """Stands for the thread pools of the stores: one thread keeps a seed's story the same."""

    def __init__(self, *_: object) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, do: Callable[..., Any], *things: Iterable[Any]) -> Iterator[Any]:
        """As a pool's, one after the other."""
        return map(do, *things)


class WireDynamo:
    """A DynamoDB client over `items` (by the first letter of `pk` where others are to hold them)."""

    def __init__(self, faults: Faults, homes: Mapping[str, Items], items: Items, world: Any) -> None:
        self._faults = faults
        self._homes = homes
        self._items = items
        self._world = world
        self._handlers: dict[str, list[Callable[..., None]]] = {}
        self._changes: list[tuple[float, Key, dict[str, Attribute] | None]] = []
        self.meta = SimpleNamespace(events=SimpleNamespace(register=self._register))
        self.exceptions = SimpleNamespace(
            ConditionalCheckFailedException=ConditionalCheckFailedException, ClientError=ClientError
        )

    def _register(self, event: str, handler: Callable[..., None], unique_id: str = "") -> None:
        del unique_id
        self._handlers.setdefault(event, []).append(handler)

    def _call(self, what: str, operation: str, do: Callable[[], Any]) -> Any:
        try:
            return self._faults.call(what, do)
        except Unavailable:
            code = self._world.rng.choice(["InternalServerError", "ProvisionedThroughputExceededException"])
            raise error(code, operation) from None

    def _home(self, pk: str) -> Items:
        return self._homes.get(pk[0], self._items)

    def _set(self, key: Key, item: dict[str, Attribute] | None) -> None:
        home = self._home(key.pk)
        self._changes = [one for one in self._changes if one[0] > self._world.now_s - STALE_S]
        self._changes.append((self._world.now_s, key, home.get(key)))
        if item is None:
            home.pop(key, None)
        else:
            written_once(key, home.get(key), item)
            home[key] = item

    def _get(self, key: Key, *, consistent: bool) -> dict[str, Attribute] | None:
        if not consistent and not self._world.calm:
            for since_s, changed, before in self._changes:
                if changed == key and since_s > self._world.now_s - STALE_S:
                    return before
        return self._home(key.pk).get(key)

    # --- writes -----------------------------------------------------------------------

    def batch_write_item(self, RequestItems: Mapping[str, Sequence[Any]]) -> dict[str, Any]:  # noqa: N803
        """Puts and deletes, taken in part; a body that a handler has prepared goes out as it is."""
        params: dict[str, Any] = {"body": None}
        for handler in self._handlers.get("before-call.dynamodb.BatchWriteItem", []):
            handler(params)
        request = {"RequestItems": RequestItems} if params["body"] is None else json.loads(params["body"])
        entries: list[Any] = list(request["RequestItems"][TABLE])
        if not 0 < len(entries) <= 25:
            raise error("ValidationException", "BatchWriteItem")
        keys = [_key(_entry(entry)) for entry in entries]
        if len(set(keys)) < len(keys):
            raise error("ValidationException", "BatchWriteItem")
        what = "put items" if "PutRequest" in entries[0] else "delete"
        if keys[0].pk.startswith("a#"):
            what = "change catalog"

        def write() -> dict[str, Any]:
            order = self._faults.shuffled(entries)
            taken = self._faults.part(what, len(order))
            for entry in order[:taken]:
                put = entry.get("PutRequest")
                self._set(_key(_entry(entry)), put["Item"] if put else None)
            left = {TABLE: order[taken:]} if taken < len(order) else {}
            return {"UnprocessedItems": left, "ConsumedCapacity": [{"CapacityUnits": float(taken)}]}

        return self._call(what, "BatchWriteItem", write)

    def put_item(self, **request: Any) -> dict[str, Any]:
        """One put, on its condition."""
        pk = request["Item"]["pk"]["S"]
        what = "register" if pk[0] == "r" else "change catalog" if pk[0] == "a" else "put items"
        return self._call(what, "PutItem", lambda: self._change("PutItem", request, request["Item"]))

    def update_item(self, **request: Any) -> dict[str, Any]:
        """One update of an item of the catalog, on its condition."""

        def write() -> dict[str, Any]:
            held = self._home(request["Key"]["pk"]["S"]).get(_key(request["Key"]))
            return self._change("UpdateItem", request, updated(request, held))

        return self._call("swap segments", "UpdateItem", write)

    def _change(self, operation: str, request: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
        key = _key(item)
        if not holds(request, self._home(key.pk).get(key)):
            code = {"Error": {"Code": "ConditionalCheckFailedException"}}
            raise ConditionalCheckFailedException(cast(Any, code), operation)
        self._set(key, json.loads(json.dumps(item)))
        return {"ConsumedCapacity": {"CapacityUnits": 1.0}}

    def transact_write_items(self, *, TransactItems: Sequence[Mapping[str, Any]]) -> None:  # noqa: N803
        """All of it, where every condition holds, or nothing. Repeated by the client it is the same
        transaction, whose token botocore has made ("TransactWriteItems", Idempotency)."""
        done: list[bool] = []

        def write() -> None:
            if done:
                return
            requests = [one.get("Put") or one["Update"] for one in TransactItems]
            found = [_key(one.get("Item") or one["Key"]) for one in requests]
            before = [self._home(key.pk).get(key) for key in found]
            reasons = [
                {"Code": "None" if holds(one, held) else "ConditionalCheckFailed"}
                for one, held in zip(requests, before, strict=True)
            ]
            if any(reason["Code"] != "None" for reason in reasons):
                response = {
                    "Error": {"Code": "TransactionCanceledException"},
                    "CancellationReasons": reasons,
                }
                raise ClientError(cast(Any, response), "TransactWriteItems")
            done.append(True)
            for key, one, held in zip(found, requests, before, strict=True):
                self._set(key, json.loads(json.dumps(one["Item"] if "Item" in one else updated(one, held))))

        self._call("swap segments", "TransactWriteItems", write)

    def delete_item(self, **request: Any) -> dict[str, Any]:
        """One delete."""

        def write() -> dict[str, Any]:
            self._set(_key(request["Key"]), None)
            return {}

        return self._call("delete", "DeleteItem", write)

    # --- reads ------------------------------------------------------------------------

    def get_item(self, **request: Any) -> dict[str, Any]:
        """One item."""
        key = _key(request["Key"])
        what = "read layout" if key.pk == "c" else "read catalog" if key.pk[0] == "a" else "register"

        def read() -> dict[str, Any]:
            item = self._get(key, consistent=request.get("ConsistentRead", False))
            return {"Item": item} if item is not None else {}

        return self._call(what, "GetItem", read)

    def batch_get_item(self, RequestItems: Mapping[str, Any]) -> dict[str, Any]:  # noqa: N803
        """Some items, the rest of the keys told as unprocessed."""
        request = RequestItems[TABLE]
        wanted = [_key(key) for key in request["Keys"]]
        what = "register" if wanted[0].pk[0] == "r" else "read chunks"

        def read() -> dict[str, Any]:
            order = self._faults.shuffled(wanted)
            taken = self._faults.part(what, len(order))
            consistent = request.get("ConsistentRead", False)
            found = [self._get(key, consistent=consistent) for key in order[:taken]]
            left = [{"pk": {"S": key.pk}, "sk": {"S": key.sk}} for key in order[taken:]]
            unprocessed = {TABLE: {"Keys": left, "ConsistentRead": consistent}} if left else {}
            items = [item for item in found if item is not None]
            return {"Responses": {TABLE: items}, "UnprocessedKeys": unprocessed}

        return self._raw("BatchGetItem", self._call(what, "BatchGetItem", read))

    def query(self, **request: Any) -> dict[str, Any]:
        """A page of a partition, in order of the sort key."""
        values = request["ExpressionAttributeValues"]
        partition = values[":p"]["S"]
        low, high = values.get(":low", {}).get("S", ""), values.get(":high", {}).get("S", "\U0010ffff")
        prefix = values.get(":prefix", {}).get("S", "")
        backwards = not request.get("ScanIndexForward", True)
        limit = min(ITEMS_PER_PAGE, request.get("Limit", ITEMS_PER_PAGE))
        start = request.get("ExclusiveStartKey")
        kinds = {"a": "read catalog", "m": "list manifests", "o": "list slots", "r": "register"}
        what = kinds.get(partition[0], "read newest" if backwards else "read a page")

        def read() -> dict[str, Any]:
            home = self._home(partition)
            found = [
                key
                for key in home
                if key.pk == partition and low <= key.sk <= high and key.sk.startswith(prefix)
            ]
            if not request.get("ConsistentRead", False):
                found = [key for key in found if self._get(key, consistent=False) is not None]
            found.sort(reverse=backwards)
            if start is not None:
                after = start["sk"]["S"]
                found = [key for key in found if (key.sk < after if backwards else key.sk > after)]
            answer: dict[str, Any] = {"Items": [home[key] for key in found[:limit]]}
            if len(found) > limit:
                answer["LastEvaluatedKey"] = {
                    "pk": {"S": partition},
                    "sk": {"S": found[limit - 1].sk},
                }
            return answer

        return self._raw("Query", self._call(what, "Query", read))

    def _raw(self, operation: str, answer: dict[str, Any]) -> dict[str, Any]:
        """The answer, or its raw body where a handler sets that aside."""
        response: dict[str, Any] = {"status_code": 200, "body": msgspec.json.encode(answer)}
        customized: dict[str, Any] = {}
        for handler in self._handlers.get(f"before-parse.dynamodb.{operation}", []):
            handler(response_dict=response, customized_response_dict=customized)
        return customized or answer


class WireS3:
    """An S3 client over a memory store; `created` is told of every object that was stored."""

    def __init__(
        self, faults: Faults, objects: MemoryColdStore, created: Callable[[str], None], put: str
    ) -> None:
        self._faults = faults
        self._objects = objects
        self._created = created
        self._put = put
        self.exceptions = SimpleNamespace(ClientError=ClientError)

    def _call(self, what: str, operation: str, do: Callable[[], Any]) -> Any:
        try:
            return self._faults.call(what, do)
        except Unavailable:
            raise error("SlowDown", operation) from None
        except NotFound:
            raise error("404" if operation == "HeadObject" else "NoSuchKey", operation) from None

    def put_object(self, **request: Any) -> dict[str, Any]:
        """Store an object."""

        def write() -> dict[str, Any]:
            etag = self._objects.put(request["Key"], request["Body"], request["Metadata"])
            self._created(request["Key"])
            return {"ETag": f'"{etag}"'}

        return self._call(self._put, "PutObject", write)

    def get_object(self, **request: Any) -> dict[str, Any]:
        """An object, or a range of it (both ends inclusive, RFC 9110, section 14.1.2)."""
        bounds = request.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        start, end = int(bounds[0]), int(bounds[2]) + 1 if bounds[2] else None

        def read() -> dict[str, Any]:
            return {"Body": io.BytesIO(self._objects.read(request["Key"], start, end))}

        return self._call("read object", "GetObject", read)

    def head_object(self, **request: Any) -> dict[str, Any]:
        """What is known of an object."""

        def read() -> dict[str, Any]:
            head = self._objects.head(request["Key"])
            return {
                "ContentLength": head.size_bytes,
                "ETag": f'"{head.etag}"',
                "LastModified": datetime.fromtimestamp(head.modified_s, UTC),
                "Metadata": head.metadata,
            }

        return self._call("head object", "HeadObject", read)

    def list_objects_v2(self, **request: Any) -> dict[str, Any]:
        """A page of names."""

        def read() -> dict[str, Any]:
            after = request.get("ContinuationToken", "")
            names = [name for name in self._objects.names(request["Prefix"]) if name > after]
            page: dict[str, Any] = {"Contents": [{"Key": name} for name in names[:NAMES_PER_PAGE]]}
            if len(names) > NAMES_PER_PAGE:
                page |= {"IsTruncated": True, "NextContinuationToken": names[NAMES_PER_PAGE - 1]}
            return page

        return self._call("list objects", "ListObjectsV2", read)

    def delete_objects(self, **request: Any) -> dict[str, Any]:
        """Delete objects."""

        def write() -> dict[str, Any]:
            self._objects.delete([entry["Key"] for entry in request["Delete"]["Objects"]])
            return {}

        return self._call("delete", "DeleteObjects", write)


def _entry(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry["PutRequest"]["Item"] if "PutRequest" in entry else entry["DeleteRequest"]["Key"]


def _key(item: Mapping[str, Any]) -> Key:
    return Key(item["pk"]["S"], item["sk"]["S"])
