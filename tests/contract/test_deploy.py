"""Deploying for real, on the emulator: what stands afterwards, again, changed, failed, and gone."""

from __future__ import annotations

import contextlib
import json
import re
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from infra import deploy as deploying
from infra.deploy import Clients, Clock, DeployOptions, Outputs
from infra.local.emulator import REGION, Emulator
from infra.package import build_local
from ingest.errors import BadInput, NotFound, Refused, ThermoclineError
from ingest.item import make_item
from ingest.keys import SEGMENT_PREFIX, Layout, Period, open_slot_key
from ingest.stores import HotStore
from ingest.stores.connect import client
from ingest.stores.hot import DynamoHotStore
from tests.http_event import http_event

SHORT = Period(0, bucket_s=3600, archive_after_s=5, hot_retention_s=60, cold_retention_s=86_400)
LONG = Period(
    0, bucket_s=3600, archive_after_s=86_400, hot_retention_s=7 * 86_400, cold_retention_s=400 * 86_400
)
CLOCK = Clock(now=time.time, sleep=time.sleep)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with Emulator() as emulator:
        yield emulator.endpoint_url


@pytest.fixture(scope="module")
def clients(url: str) -> Clients:
    return deploying.connect(url, REGION)


@pytest.fixture(scope="module")
def functions(url: str) -> Any:
    return client("lambda", endpoint_url=url, region=REGION)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return build_local(tmp_path_factory.mktemp("packages"))


def make_hot(dynamodb: Any, table: str) -> HotStore:
    return DynamoHotStore(dynamodb, table, time.sleep, lambda: 0.5)


class Deployment:
    """A stack of the test's own; each call deploys it and keeps what was logged."""

    def __init__(self, clients: Clients, packages: Mapping[str, Path], name: str) -> None:
        self.clients = clients
        self.options = DeployOptions(packages=packages, period=SHORT, target="local", stack_name=name)
        self.lines: list[str] = []

    def deploy(self, **changes: Any) -> Outputs:
        self.options = replace(self.options, **changes)
        self.lines.clear()
        return deploying.deploy(self.clients, self.options, self.lines.append, hot=make_hot, clock=CLOCK)

    def destroy(self, *, force: bool = False) -> None:
        name = self.options.stack_name
        deploying.destroy(self.clients, name, self.lines.append, hot=make_hot, clock=CLOCK, force=force)

    def layout(self) -> Layout:
        found = self.hot().load_layout()
        assert found is not None
        return found

    def hot(self) -> HotStore:
        return make_hot(self.clients.dynamodb, deploying.outputs(self.clients, self.options.stack_name).table)


@pytest.fixture
def stack(
    clients: Clients, packages: Mapping[str, Path], request: pytest.FixtureRequest
) -> Iterator[Deployment]:
    name = f"t{zlib.crc32(request.node.name.encode())}"
    made = Deployment(clients, packages, name)
    yield made
    with contextlib.suppress(NotFound):
        made.destroy(force=True)


def mappings(functions: Any, found: Outputs) -> dict[str, dict[str, Any]]:
    listed = functions.list_event_source_mappings()["EventSourceMappings"]
    own = {found.store_readings_mapping: "store", found.archive_expired_mapping: "archive"}
    return {own[one["UUID"]]: one for one in listed if one["UUID"] in own}


def test_a_deployment_stands_as_its_outputs_say(stack: Deployment, functions: Any) -> None:
    found = stack.deploy()
    name, clients = stack.options.stack_name, stack.clients
    assert found == deploying.outputs(clients, name)
    assert found.region == REGION
    assert found.stream_arn.endswith(f"stream/{found.stream}")
    assert found.archive_bucket.startswith(f"{name}-archive-")
    assert found.rejects_bucket.startswith(f"{name}-rejects-")
    table = clients.dynamodb.describe_table(TableName=found.table)["Table"]
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    told = clients.s3.get_bucket_notification_configuration(Bucket=found.archive_bucket)
    (index,) = told["LambdaFunctionConfigurations"]
    assert index["LambdaFunctionArn"].endswith(found.index_segment)
    names = {f["FunctionName"]: f for f in functions.list_functions()["Functions"]}
    assert {found.store_readings, found.archive_expired, found.index_segment} <= set(names)
    variables = names[found.store_readings]["Environment"]["Variables"]
    assert variables["THERMOCLINE_TABLE"] == found.table
    assert variables["THERMOCLINE_ARCHIVE_BUCKET"] == found.archive_bucket
    assert variables["THERMOCLINE_REJECTS_BUCKET"] == found.rejects_bucket


def test_the_layout_is_the_period_that_was_asked_for(stack: Deployment) -> None:
    before = int(time.time())
    stack.deploy()
    (period,) = stack.layout().periods
    assert replace(period, from_s=0) == SHORT
    assert before <= period.from_s <= time.time()
    assert stack.layout().shortest_hot_s == 60


def test_listed_mappings_carry_every_property_of_the_template(stack: Deployment, functions: Any) -> None:
    found = stack.deploy(parameters={"WindowS": "1", "ParallelizationFactor": "4"})
    listed = mappings(functions, found)
    store, archive = listed["store"], listed["archive"]
    assert store["EventSourceArn"] == found.stream_arn
    assert store["FunctionArn"].endswith(found.store_readings)
    assert store["StartingPosition"] == "TRIM_HORIZON"
    assert int(store["BatchSize"]) == 10_000
    assert int(store["MaximumBatchingWindowInSeconds"]) == 1
    assert int(store["ParallelizationFactor"]) == 4
    assert store["BisectBatchOnFunctionError"] is True
    assert int(store["MaximumRecordAgeInSeconds"]) == 72_000
    assert int(store["MaximumRetryAttempts"]) == -1
    assert store["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert store["DestinationConfig"]["OnFailure"]["Destination"] == f"arn:aws:s3:::{found.rejects_bucket}"
    table = stack.clients.dynamodb.describe_table(TableName=found.table)["Table"]
    assert archive["EventSourceArn"] == table["LatestStreamArn"]
    assert archive["FunctionArn"].endswith(found.archive_expired)
    (one,) = archive["FilterCriteria"]["Filters"]
    assert json.loads(one["Pattern"])["eventName"] == ["REMOVE"]
    assert int(archive["BatchSize"]) == 10
    assert archive["FunctionResponseTypes"] == []


def test_the_emulator_polls_no_mapping_and_runs_no_schedule_itself(stack: Deployment, url: str) -> None:
    found = stack.deploy()
    kinesis = client("kinesis", endpoint_url=url, region=REGION)
    kinesis.put_record(StreamName=found.stream, PartitionKey="a", Data=b'{"sensor_id":"a","ts":1,"v":1}')
    time.sleep(1.5)  # its own poller answers within 0.1 s
    assert "Contents" not in stack.clients.s3.list_objects_v2(Bucket=found.rejects_bucket)
    events = client("events", endpoint_url=url, region=REGION)
    rules = events.list_rules(NamePrefix=stack.options.stack_name)["Rules"]
    assert [rule["State"] for rule in rules] == ["DISABLED"] * 2


def test_the_api_answers_through_its_front(stack: Deployment, url: str) -> None:
    found = stack.deploy()
    assert found.api_url is not None
    (api_id,) = re.findall(r"//(\w+)\.execute-api\.", found.api_url)
    door = f"{url}/_aws/execute-api/{api_id}/$default"
    with urlopen(f"{door}/health", timeout=30) as answer:
        assert json.loads(answer.read())["status"] == "ok"
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"{door}/v1/sensors", timeout=30)
    assert stack.deploy(parameters={"ApiFront": "none"}).api_url is None
    with pytest.raises(HTTPError, match="404"):
        urlopen(f"{door}/health", timeout=30)
    other = stack.deploy(parameters={"ApiFront": "function-url"}).api_url
    assert other is not None
    assert ".lambda-url." in other


def test_expiry_stays_off_on_the_emulator_and_goes_on_elsewhere(stack: Deployment) -> None:
    found = stack.deploy()
    dynamodb = stack.clients.dynamodb
    status = dynamodb.describe_time_to_live(TableName=found.table)["TimeToLiveDescription"]
    assert status["TimeToLiveStatus"] == "DISABLED"
    stack.deploy(target="localstack")
    status = dynamodb.describe_time_to_live(TableName=found.table)["TimeToLiveDescription"]
    assert status == {"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}
    said: list[str] = []
    deploying.ensure_ttl(dynamodb, found.table, said.append)
    assert said == []


@pytest.mark.parametrize(
    "door", ["archive_expired", "compact_archive", "index_segment", "serve_api", "store_readings"]
)
def test_the_functions_answer(stack: Deployment, functions: Any, door: str) -> None:
    found = stack.deploy()
    events = {
        "archive_expired": {"source": "thermocline.schedule"},
        "compact_archive": {"source": "thermocline.schedule"},
        "serve_api": http_event("GET", "/health"),
    }
    event = events.get(door, {"Records": []})
    answer = functions.invoke(FunctionName=getattr(found, door), Payload=json.dumps(event).encode())
    assert answer.get("FunctionError") is None, answer["Payload"].read()


def test_deploying_again_changes_nothing(stack: Deployment, functions: Any) -> None:
    first = stack.deploy()
    cloudformation, name = stack.clients.cloudformation, stack.options.stack_name
    layout, listed = stack.layout(), mappings(functions, first)
    events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
    assert stack.deploy() == first
    assert stack.lines == [f"Stack {name}: unchanged."]
    assert stack.layout() == layout
    assert mappings(functions, first) == listed
    assert cloudformation.describe_stack_events(StackName=name)["StackEvents"] == events


def test_a_changed_deployment_keeps_what_it_can(
    stack: Deployment, functions: Any, tmp_path: Path, packages: Mapping[str, Path]
) -> None:
    first = stack.deploy()
    newer = tmp_path / "code-other.zip"
    newer.write_bytes(packages["store"].read_bytes())
    longer = replace(SHORT, hot_retention_s=120)
    second = stack.deploy(
        parameters={"WindowS": "3", "Codec": "packed"},
        packages={"store": newer, "archive": newer, "api": newer},
        period=longer,
    )
    assert second == first
    assert int(mappings(functions, second)["store"]["MaximumBatchingWindowInSeconds"]) == 3
    configuration = functions.get_function_configuration(FunctionName=second.store_readings)
    assert configuration["Environment"]["Variables"]["THERMOCLINE_CODEC"] == "packed"
    assert any(line.startswith("Package code-other.zip: uploaded") for line in stack.lines)
    old, new = stack.layout().periods
    assert replace(old, from_s=0) == SHORT
    assert replace(new, from_s=0) == longer
    assert new.from_s >= old.from_s
    assert stack.layout().shortest_hot_s == 60


def test_a_failure_names_the_resource_and_its_reason_and_can_be_mended(stack: Deployment) -> None:
    s3, name = stack.clients.s3, stack.options.stack_name
    account = stack.clients.sts.get_caller_identity()["Account"]
    taken = f"{name}-rejects-{account}-{REGION}"
    s3.create_bucket(Bucket=taken)
    with pytest.raises(ThermoclineError, match=r"RejectsBucket.*already exists") as caught:
        stack.deploy()
    assert "try again" in str(caught.value)
    with pytest.raises(NotFound):
        deploying.outputs(stack.clients, name)
    s3.delete_bucket(Bucket=taken)
    assert stack.deploy().rejects_bucket == taken


def test_what_cloudformation_refuses_outright_is_passed_on(stack: Deployment) -> None:
    with pytest.raises(ThermoclineError, match="refused stack"):
        stack.deploy(parameters={"Runtime": "python2.7"})


def test_destroying_takes_everything_away(stack: Deployment, functions: Any) -> None:
    found = stack.deploy()
    stack.destroy()
    s3, name = stack.clients.s3, stack.options.stack_name
    assert [b["Name"] for b in s3.list_buckets()["Buckets"] if b["Name"].startswith(name)] == []
    assert found.table not in stack.clients.dynamodb.list_tables()["TableNames"]
    assert mappings(functions, found) == {}
    with pytest.raises(NotFound, match=name):
        stack.destroy()


def test_a_given_code_bucket_is_left_with_what_others_keep_there(stack: Deployment) -> None:
    s3 = stack.clients.s3
    s3.create_bucket(Bucket="somebodys-bucket")
    s3.put_object(Bucket="somebodys-bucket", Key="other/code.zip", Body=b"x")
    stack.deploy(code_bucket="somebodys-bucket")
    stack.destroy()
    left = s3.list_objects_v2(Bucket="somebodys-bucket")["Contents"]
    assert [entry["Key"] for entry in left] == ["other/code.zip"]


@pytest.mark.parametrize("held", ["segment", "reject", "open slot"])
def test_destroying_is_refused_while_data_is_held_unless_forced(stack: Deployment, held: str) -> None:
    found = stack.deploy()
    s3 = stack.clients.s3
    if held == "segment":
        s3.put_object(
            Bucket=found.archive_bucket, Key=f"{SEGMENT_PREFIX}date=2026-11-20/a.parquet", Body=b"x"
        )
    elif held == "reject":
        s3.put_object(Bucket=found.rejects_bucket, Key="rejects/date=2026-11-20/a.json.gz", Body=b"x")
    else:
        key = open_slot_key(1_795_000_000)
        stack.hot().put([make_item({"pk": {"S": key.pk}, "sk": {"S": key.sk}})], lambda: 60_000)
    with pytest.raises(Refused, match="force"):
        stack.destroy()
    assert deploying.outputs(stack.clients, stack.options.stack_name) == found
    stack.destroy(force=True)
    with pytest.raises(NotFound):
        deploying.outputs(stack.clients, stack.options.stack_name)


class Untouchable:
    """A client that no call may reach."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was called")


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"period": replace(LONG, hot_retention_s=3 * 86_400)}, Refused, "48 h"),
        ({"period": replace(LONG, bucket_s=7)}, BadInput, "bucket"),
        ({"stack_name": "Thermocline"}, BadInput, "stack name"),
        ({"stack_name": "a" * 25}, BadInput, "stack name"),
        ({"packages": {}}, BadInput, "archive, store missing"),
    ],
)
def test_what_must_not_be_deployed_touches_nothing(
    packages: Mapping[str, Path], changes: dict[str, Any], error: type[ThermoclineError], told: str
) -> None:
    nothing = Untouchable()
    options = replace(DeployOptions(packages=packages, period=LONG), **changes)
    with pytest.raises(error, match=told):
        deploying.deploy(
            Clients(nothing, nothing, nothing, nothing), options, print, hot=make_hot, clock=CLOCK
        )


def test_the_least_margin_is_for_aws_only(packages: Mapping[str, Path]) -> None:
    deploying.check_options(DeployOptions(packages=packages, period=LONG))
    deploying.check_options(DeployOptions(packages=packages, period=SHORT, target="localstack"))
    just = replace(LONG, hot_retention_s=LONG.archive_after_s + LONG.slot_step_s + deploying.LEAST_MARGIN_S)
    deploying.check_options(DeployOptions(packages=packages, period=just))
