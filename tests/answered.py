"""Real botocore clients whose requests are answered in this process, with faults, from dictionaries."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import botocore.awsrequest
import botocore.endpoint
import botocore.exceptions
import pytest

from ingest.stores import connect

NOWHERE = "http://127.0.0.1:9"
"""An endpoint that nothing of a test may ever reach."""
TABLE = "table"
_aws: Any = cast(Any, botocore.awsrequest)
_errors: Any = cast(Any, botocore.exceptions)
_endpoint: Any = cast(Any, botocore.endpoint)

Fate = str
"""`ok`, `refused`, `lost` (done, and a 500 instead of the answer), `cut` (done, and the connection is gone),
`throttled`, `some` (a part of the batch is done), `none` (the whole batch comes back unprocessed)."""


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: object, **__: object) -> Iterator[bytes]:
        yield self._content

    def read(self, *_: object) -> bytes:
        content, self._content = self._content, b""
        return content


def reply(status: int, content: bytes = b"", headers: Mapping[str, str] | None = None) -> Any:
    """An HTTP answer as botocore's own transport would hand it over."""
    return _aws.AWSResponse(NOWHERE, status, dict(headers or {}), _Body(content))


def problem(status: int, code: str, message: str = "as the test asks") -> Any:
    """An error of DynamoDB."""
    return reply(status, json.dumps({"__type": f"any#{code}", "message": message}).encode())


def s3_problem(status: int, code: str) -> Any:
    """An error of S3."""
    return reply(status, f"<Error><Code>{code}</Code><Message>as the test asks</Message></Error>".encode())


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore's pauses between its attempts take no time."""
    monkeypatch.setattr(_endpoint, "time", SimpleNamespace(sleep=lambda _: None))


def client(service: str, answer: Callable[[str, Any], Any]) -> Any:
    """A client as the library makes it; `answer` gets each attempt's operation and request, and answers or raises."""
    made = connect.client(service, endpoint_url=NOWHERE, region="us-east-1")

    def take(request: Any, event_name: str, **_: object) -> Any:
        return answer(event_name.rpartition(".")[2], request)

    made.meta.events.register(f"before-send.{service}", take)
    return made


class Dynamo:
    """The calls by which a batch is stored, on a dictionary. Each attempt of each request meets a fate of its own."""

    def __init__(self, seed: int, fates: Mapping[Fate, int]) -> None:
        self.items: dict[tuple[str, str], dict[str, Any]] = {}
        self.met: Counter[Fate] = Counter()
        self._seed = seed
        self._fates = fates
        self._attempts: Counter[str] = Counter()

    def answer(self, operation: str, request: Any) -> Any:
        """As DynamoDB would, or as the fate has it."""
        body = json.loads(request.body)
        fate = self._fate(operation, request.body)
        self.met[fate] += 1
        if fate == "throttled":
            return problem(400, "ProvisionedThroughputExceededException")
        if fate == "refused":
            return problem(500, "InternalServerError")
        done = getattr(self, f"_{operation}")(body, fate)
        if fate == "lost":
            return problem(500, "InternalServerError")
        if fate == "cut":
            raise _errors.ConnectionClosedError(endpoint_url=NOWHERE)
        return done

    def _fate(self, operation: str, body: bytes) -> Fate:
        """The same for the same attempt, whatever thread it comes from."""
        what = f"{self._seed} {operation} {hashlib.sha256(body).hexdigest()}"
        self._attempts[what] += 1
        names, weights = zip(*self._fates.items(), strict=True)
        return Random(f"{what} {self._attempts[what]}").choices(names, weights)[0]

    def _BatchWriteItem(self, body: Any, fate: Fate) -> Any:  # noqa: N802 - the operation's name
        requests = body["RequestItems"][TABLE]
        count = {"some": len(requests) // 2, "none": 0}.get(fate, len(requests))
        for one in requests[:count]:
            item = one["PutRequest"]["Item"]
            self.items[item["pk"]["S"], item["sk"]["S"]] = item
        left = {TABLE: requests[count:]} if requests[count:] else {}
        units = [{"TableName": TABLE, "CapacityUnits": float(count)}]
        return self._ok({"UnprocessedItems": left, "ConsumedCapacity": units})

    def _BatchGetItem(self, body: Any, _fate: Fate) -> Any:  # noqa: N802
        wanted = [(key["pk"]["S"], key["sk"]["S"]) for key in body["RequestItems"][TABLE]["Keys"]]
        return self._ok({"Responses": {TABLE: [self.items[key] for key in wanted if key in self.items]}})

    def _PutItem(self, body: Any, _fate: Fate) -> Any:  # noqa: N802
        item = body["Item"]
        key = item["pk"]["S"], item["sk"]["S"]
        if "ConditionExpression" in body and key in self.items:
            return problem(400, "ConditionalCheckFailedException")
        self.items[key] = item
        return self._ok({"ConsumedCapacity": {"CapacityUnits": 1.0}})

    def _ok(self, answer: Any) -> Any:
        return reply(200, json.dumps(answer).encode())


class Bucket:
    """S3's PutObject, GetObject and HeadObject on a dictionary; `fail` names the error that puts meet."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.fail: tuple[int, str] | None = None
        self.puts = 0

    def answer(self, operation: str, request: Any) -> Any:
        """As S3 would, or with the error."""
        name = request.url.split("?")[0].removeprefix(f"{NOWHERE}/bucket/").replace("%3D", "=")
        if operation == "PutObject":
            self.puts += 1
            if self.fail is not None:
                return s3_problem(*self.fail)
            data = request.body if isinstance(request.body, bytes) else request.body.read()
            known = {key.lower(): _text(value) for key, value in request.headers.items()}
            self.objects[name] = data, {k: v for k, v in known.items() if k.startswith("x-amz-meta-")}
            return reply(200, headers={"ETag": '"etag"'})
        if name not in self.objects:
            return s3_problem(404, "NoSuchKey")
        data, known = self.objects[name]
        wanted = _text(request.headers.get("Range", ""))
        if wanted:
            start, _, end = wanted.removeprefix("bytes=").partition("-")
            data = data[int(start) : int(end) + 1 if end else None]
        head = known | {"ETag": '"etag"', "Last-Modified": "Fri, 20 Nov 2026 22:00:00 GMT"}
        size = {"Content-Length": str(len(data))}
        return reply(200, b"" if operation == "HeadObject" else data, head | size)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def kinesis_event(
    *payloads: bytes, arrival_s: float, first: int = 49_600_000_000_000_000_000
) -> dict[str, Any]:
    """The event in which Lambda hands stream records over ("Using AWS Lambda with Amazon Kinesis")."""
    return {
        "Records": [
            {
                "eventID": f"shardId-000000000000:{first + number}",
                "eventSourceARN": "arn:aws:kinesis:eu-central-1:000000000000:stream/readings",
                "kinesis": {
                    "sequenceNumber": str(first + number),
                    "data": base64.b64encode(payload).decode(),
                    "approximateArrivalTimestamp": arrival_s,
                },
            }
            for number, payload in enumerate(payloads)
        ]
    }
