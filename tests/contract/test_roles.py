"""The functions' roles on an emulator that enforces them: enough for the whole path."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from infra import deploy as deploying
from infra.deploy import Clients, Clock, DeployOptions, Outputs
from infra.local import emulator as emulators
from infra.package import build_local
from ingest import keys, segment, token
from ingest.archive import catalog_entry
from ingest.keys import DAY_S, US, Period
from ingest.reading import Run
from ingest.stores import ObjectHead
from ingest.stores.catalog import DynamoCatalog
from ingest.stores.connect import client
from ingest.stores.hot import DynamoHotStore
from ingest.stores.tokens import DynamoTokens
from tests.http_event import http_event

AT_ONCE = Period(0, bucket_s=60, archive_after_s=1, hot_retention_s=3600, cold_retention_s=86_400)


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    """An emulator that checks every call of a function against the function's role."""
    plain = emulators.child_environment

    def enforcing(*arguments: Any) -> dict[str, str]:
        return plain(*arguments) | {"AUTH": "true"}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emulators, "child_environment", enforcing)
        emulator = emulators.Emulator().start()
    with contextlib.closing(_Stopping(emulator)):
        yield deploying.connect(emulator.endpoint_url, emulators.REGION)


class _Stopping:
    def __init__(self, emulator: emulators.Emulator) -> None:
        self.close = emulator.stop


@pytest.fixture(scope="module")
def functions(clients: Clients) -> Any:
    return client("lambda", endpoint_url=clients.s3.meta.endpoint_url, region=emulators.REGION)


@pytest.fixture(scope="module")
def deployed(clients: Clients, tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    packages = build_local(tmp_path_factory.mktemp("packages"))
    options = DeployOptions(packages=packages, period=AT_ONCE, target="local", stack_name="roles")
    found = deploying.deploy(
        clients,
        options,
        lambda _: None,
        hot=lambda dynamodb, table: DynamoHotStore(dynamodb, table, time.sleep, lambda: 0.5),
        clock=Clock(now=time.time, sleep=time.sleep),
    )
    for bucket in (found.archive_bucket, found.rejects_bucket):
        clients.s3.delete_bucket_policy(Bucket=bucket)  # they refuse plain HTTP, which is all there is here
    return found


def batch(deployed: Outputs, *payloads: bytes) -> dict[str, Any]:
    """A Kinesis event."""
    return {
        "Records": [
            {
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000000:{4959 + i}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/any",
                "awsRegion": deployed.region,
                "eventSourceARN": deployed.stream_arn,
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "lane-0",
                    "sequenceNumber": str(4959 + i),
                    "data": base64.b64encode(payload).decode(),
                    "approximateArrivalTimestamp": time.time(),
                },
            }
            for i, payload in enumerate(payloads)
        ]
    }


def invoke(functions: Any, name: str, event: Mapping[str, Any]) -> Any:
    answer = functions.invoke(FunctionName=name, Payload=json.dumps(event).encode())
    told = answer["Payload"].read()
    assert answer.get("FunctionError") is None, told
    return json.loads(told)


def names(clients: Clients, bucket: str) -> list[str]:
    return [entry["Key"] for entry in clients.s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def partitions(clients: Clients, table: str) -> set[str]:
    """The kinds of items in the table, by the first letter of their key."""
    return {item["pk"]["S"][0] for item in clients.dynamodb.scan(TableName=table)["Items"]}


def test_the_roles_are_enough_for_the_whole_path(clients: Clients, functions: Any, deployed: Outputs) -> None:
    old_ms = int(time.time() * 1000) - 6 * 3_600_000
    reading = {"sensor_id": "press-7", "ts": old_ms, "metrics": {"temperature": 21.5}}
    event = batch(deployed, json.dumps(reading).encode(), b"this is no reading")
    stored = invoke(functions, deployed.store_readings, event)
    assert stored == {"batchItemFailures": []}
    assert {"c", "m", "o", "r", "s", "t"} <= partitions(clients, deployed.table)
    assert [name.split("/")[0] for name in names(clients, deployed.rejects_bucket)] == ["rejects"]

    until_s = int(time.time()) + 120
    invoke(functions, deployed.archive_expired, {"source": "thermocline.schedule", "until_s": until_s})
    (segment,) = names(clients, deployed.archive_bucket)
    assert "m" not in partitions(clients, deployed.table)
    assert "a" in partitions(clients, deployed.table)

    gone = "readings/v1/date=2026-01-01/gone.parquet"
    event = {"Records": [{"s3": {"object": {"key": name}}} for name in (segment, gone)]}
    assert invoke(functions, deployed.index_segment, event) == {"indexed": 1, "skipped": 0, "gone": 1}


def test_the_compaction_s_role_is_enough(clients: Clients, functions: Any, deployed: Outputs) -> None:
    """From segments of a date long past to one, and to the old ones' deletion."""
    catalog = DynamoCatalog(clients.dynamodb, deployed.table)
    now_s = int(time.time())
    day_us = (now_s // DAY_S - 5) * DAY_S * US
    for number in range(5):
        encoded = segment.encode([Run("press-7", [day_us + number * US], {"t": [number + 0.5]}, 1)])
        date = keys.date_of(day_us)
        name = keys.segment_name(date, f"small-{number}")
        answer = clients.s3.put_object(
            Bucket=deployed.archive_bucket,
            Key=name,
            Body=encoded.data,
            Metadata=segment.metadata(encoded),
        )
        head = ObjectHead(len(encoded.data), answer["ETag"].strip('"'), now_s)
        catalog.add([catalog_entry(name, date, f"small-{number}", encoded, head)], now_s + DAY_S)
    event = {"source": "thermocline.schedule"}
    done = invoke(functions, deployed.compact_archive, event)
    assert (done["segments_before"], done["segments_after"], done["deleted"]) == (5, 1, 0)
    that_day = keys.date_span(keys.date_of(day_us))
    (made,) = catalog.find(that_day)
    assert made.rows == 5
    lambdas = functions.get_function_configuration(FunctionName=deployed.compact_archive)["Environment"]
    variables = {**lambdas["Variables"], "THERMOCLINE_COMPACT_GRACE_S": "0"}
    functions.update_function_configuration(
        FunctionName=deployed.compact_archive, Environment={"Variables": variables}
    )
    assert invoke(functions, deployed.compact_archive, event)["deleted"] == 5
    there = [name for name in names(clients, deployed.archive_bucket) if f"={keys.date_of(day_us)}/" in name]
    assert there == [made.name]


def test_the_api_s_role_is_enough_for_reading_sending_tokens_and_the_registry(
    clients: Clients, functions: Any, deployed: Outputs
) -> None:
    """What the emulator cannot hold anybody to, the condition on keys, tests/unit/test_template.py reads."""
    text, kept = token.make(b"i" * 8, b"s" * 32, [token.parse_scope("admin")], "test", int(time.time()))
    DynamoTokens(clients.dynamodb, deployed.table, os.urandom).put(kept)

    def ask(method: str, url: str, body: Any = None) -> dict[str, Any]:
        raw = None if body is None else json.dumps(body).encode()
        return invoke(functions, deployed.serve_api, http_event(method, url, text, raw))

    sent = ask(
        "POST", "/v1/readings", {"sensor_id": "a/7", "ts": int(time.time() * 1000), "temperature": 1.5}
    )
    assert sent["statusCode"] == 202, sent
    assert ask("PUT", "/v1/sensors/a%2F7", {"name": "Press"})["statusCode"] in (200, 201)
    assert ask("DELETE", "/v1/sensors/a%2F7")["statusCode"] == 200
    for url in ("/v1/sensors", "/v1/sensors/press-7/readings?from=-1h", "/v1/status", "/v1/rejects"):
        found = ask("GET", url)
        assert found["statusCode"] == 200, (url, found)
    listed = json.loads(ask("GET", "/v1/archive/segments")["body"])["segments"]
    link = ask("GET", f"/v1/archive/segments/{listed[0]['id']}/download")
    assert link["statusCode"] == 200, link


def test_roles_are_enforced_here_at_all(clients: Clients, functions: Any, deployed: Outputs) -> None:
    iam = client("iam", endpoint_url=clients.s3.meta.endpoint_url, region=emulators.REGION)
    configuration = functions.get_function_configuration(FunctionName=deployed.index_segment)
    role = configuration["Role"].rpartition("/")[2]
    iam.delete_role_policy(RoleName=role, PolicyName="index-segment")
    event = {"Records": [{"s3": {"object": {"key": "readings/v1/date=2026-01-01/gone.parquet"}}}]}
    answer = functions.invoke(FunctionName=deployed.index_segment, Payload=json.dumps(event).encode())
    assert answer.get("FunctionError"), answer["Payload"].read()
