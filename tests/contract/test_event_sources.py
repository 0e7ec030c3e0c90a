"""The local event sources on a real emulator: batches, windows, lanes, filters, failures and destinations as AWS
documents them."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from infra.local.batching import MOST_PAYLOAD_BYTES
from infra.local.emulator import REGION, Emulator
from infra.local.event_sources import EventSources, SourceClients, connect
from infra.local.lanes import Timing
from ingest.errors import Unavailable
from ingest.stores.connect import client

HANDLER = """
import base64, json, os, sys, time, uuid

def texts(event):
    for record in event["Records"]:
        if "kinesis" in record:
            raw = base64.b64decode(record["kinesis"]["data"][:400])
            yield record["kinesis"]["sequenceNumber"], raw.decode("utf-8", "replace")
        else:
            yield record["dynamodb"]["SequenceNumber"], json.dumps(record["dynamodb"]["Keys"])

def handle(event, context):
    started = time.time()
    time.sleep(float(os.environ.get("SLEEP_S", "0")))
    bad = [sequence for sequence, text in texts(event) if "poison" in text]
    seen = {"started": started, "ended": time.time(), "bytes": len(json.dumps(event, separators=(",", ":"))),
            "event": event}
    path = os.path.join(os.environ["FOLDER"], f"{time.time_ns()}-{uuid.uuid4().hex}")
    with open(path + ".part", "w") as file:
        json.dump(seen, file)
    os.rename(path + ".part", path + ".json")
    print(json.dumps({"_aws": {"CloudWatchMetrics": [{"Namespace": "Thermocline", "Dimensions": [["service"]],
          "Metrics": [{"Name": "Seen"}]}]}, "service": "test", "Seen": len(event["Records"])}))
    mode = os.environ.get("MODE", "")
    if bad and mode == "raise":
        raise RuntimeError("a poison record")
    if mode == "report":
        return {"batchItemFailures": [{"itemIdentifier": sequence} for sequence in reversed(bad)]}
    if mode == "unknown" and bad:
        return {"batchItemFailures": [{"itemIdentifier": "0"}]}
    if mode == "null":
        return {"batchItemFailures": None}
    return None
"""
QUICK = Timing(
    first_backoff_s=0.05, most_backoff_s=0.2, poll_s=0.02, idle_poll_s=0.02, rescan_s=0.2, save_s=0.1
)


def until(true: Callable[[], Any], limit_s: float = 10.0) -> Any:
    """The first truthy answer; fails the test where none comes in time."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        found = true()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


@dataclass
class Call:
    """One invocation as the function saw it."""

    started: float
    ended: float
    size_bytes: int
    records: list[dict[str, Any]]

    @property
    def texts(self) -> list[str]:
        return [base64.b64decode(record["kinesis"]["data"]).decode() for record in self.records]


class Bench:
    """One stream, one function and the event sources of one test."""

    def __init__(self, url: str, folder: Path) -> None:
        self.clients: SourceClients = connect(url, REGION)
        self.s3, self.sqs = client("s3", endpoint_url=url, region=REGION), self.clients.sqs
        self.dynamodb = client("dynamodb", endpoint_url=url, region=REGION)
        self.folder = folder
        self.name = f"t-{uuid.uuid4().hex[:10]}"
        self.mappings: list[str] = []
        self.sources: EventSources | None = None
        self.arn = ""

    def stream(self, shards: int = 1) -> str:
        self.clients.kinesis.create_stream(StreamName=self.name, ShardCount=shards)
        described = self.clients.kinesis.describe_stream_summary(StreamName=self.name)
        return str(described["StreamDescriptionSummary"]["StreamARN"])

    def function(self, **variables: str) -> str:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("tiny.py", HANDLER)
        made = self.clients.functions.create_function(
            FunctionName=self.name,
            Runtime="python3.12",
            Role="arn:aws:iam::000000000000:role/r",
            Handler="tiny.handle",
            Code={"ZipFile": packed.getvalue()},
            Timeout=30,
            Environment={"Variables": {"FOLDER": str(self.folder), **variables}},
        )
        return str(made["FunctionArn"])

    def mapping(self, source_arn: str, **properties: Any) -> str:
        properties.setdefault("StartingPosition", "TRIM_HORIZON")
        made = self.clients.functions.create_event_source_mapping(
            EventSourceArn=source_arn, FunctionName=self.name, Enabled=False, **properties
        )
        self.mappings.append(made["UUID"])
        return str(made["UUID"])

    def put(self, texts: Sequence[str | bytes], key: Callable[[int], str] = lambda _: "k") -> None:
        for start in range(0, len(texts), 100):
            part = texts[start : start + 100]
            self.clients.kinesis.put_records(
                StreamName=self.name,
                Records=[
                    {"Data": one if isinstance(one, bytes) else one.encode(), "PartitionKey": key(start + i)}
                    for i, one in enumerate(part)
                ],
            )

    def run(self, **options: Any) -> EventSources:
        self.sources = EventSources(self.clients, timing=QUICK, **options)
        self.sources.start()
        return self.sources

    def calls(self) -> list[Call]:
        """Every invocation so far, in the order they ended."""
        seen = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.json"))]
        return [Call(one["started"], one["ended"], one["bytes"], one["event"]["Records"]) for one in seen]

    def close(self) -> None:
        if self.sources is not None:
            self.sources.stop()
        for mapping in self.mappings:
            self.clients.functions.delete_event_source_mapping(UUID=mapping)


@pytest.fixture(scope="module")
def private_url() -> Iterator[str]:
    """An emulator of their own: the event sources run every mapping they find."""
    with Emulator() as emulator:
        yield emulator.endpoint_url


@pytest.fixture
def bench(private_url: str, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(private_url, tmp_path)
    yield made
    made.close()


def texts_of(calls: Sequence[Call]) -> list[list[str]]:
    return [call.texts for call in calls]


def test_batches_are_filled_to_the_batch_size(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    bench.mapping(arn, BatchSize=100, MaximumBatchingWindowInSeconds=300)
    bench.put([f"r{i}" for i in range(250)])
    bench.run().flush()
    assert [len(call.records) for call in bench.calls()] == [100, 100, 50]
    assert [text for texts in texts_of(bench.calls()) for text in texts] == [f"r{i}" for i in range(250)]


def test_the_event_has_the_shape_of_kinesis_on_aws(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    bench.mapping(arn)
    before = time.time()
    bench.put([b"\x00\xff\n"], key=lambda _: 'a "key" \u00e9')
    sources = bench.run()
    sources.flush()
    ((record,),) = [call.records for call in bench.calls()]
    inner = record.pop("kinesis")
    sequence = inner["sequenceNumber"]
    assert record == {
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": record["invokeIdentityArn"],
        "awsRegion": REGION,
        "eventSourceARN": arn,
    }
    assert abs(inner.pop("approximateArrivalTimestamp") - before) < 5
    assert inner == {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": 'a "key" \u00e9',
        "sequenceNumber": sequence,
        "data": base64.b64encode(b"\x00\xff\n").decode(),
    }
    sums = sources.counters.snapshot()[bench.name]
    for _ in range(5):  # the emulator waits 50 ms for a line of the log; a late one comes with the next call
        if sums.get("Seen") == sums["Invocations"]:
            break
        bench.put([b"another"])
        sources.flush()
        sums = sources.counters.snapshot()[bench.name]
    assert sums["Seen"] == sums["Invocations"]


def test_a_window_gathers_what_comes_meanwhile(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    bench.mapping(arn, BatchSize=1000, MaximumBatchingWindowInSeconds=1)
    bench.run()
    started = time.time()
    for text in "abc":
        bench.put([text])
        time.sleep(0.1)
    (first,) = until(bench.calls)
    assert first.texts == ["a", "b", "c"]
    assert first.started - started > 0.9


def test_flush_closes_a_window_and_waits_for_what_it_held(bench: Bench) -> None:
    arn = bench.stream(shards=2)
    bench.function(SLEEP_S="0.2")
    bench.mapping(arn, BatchSize=1000, MaximumBatchingWindowInSeconds=300, ParallelizationFactor=2)
    sources = bench.run()
    for half in (range(50), range(50, 100)):
        bench.put([str(i) for i in half], key=str)
        sources.flush()
        assert len([text for texts in texts_of(bench.calls()) for text in texts]) == half.stop
    assert sources.pending("kinesis") == 0


def test_the_latest_position_leaves_out_what_was_there_before(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    bench.mapping(arn, StartingPosition="LATEST")
    bench.put(["before"])
    sources = bench.run()
    sources.flush()
    bench.put(["after"])
    sources.flush()
    assert texts_of(bench.calls()) == [["after"]]


def test_a_window_below_a_second_can_stand_in(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    bench.mapping(arn, BatchSize=1000, MaximumBatchingWindowInSeconds=300)
    bench.run(stream_window_s=0.25)
    started = time.time()
    bench.put(["a"])
    until(bench.calls)
    assert 0.2 < bench.calls()[0].started - started < 60


def test_an_event_never_passes_6_mb_and_large_records_are_quick(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    bench.mapping(arn, BatchSize=10_000, MaximumBatchingWindowInSeconds=300)
    for start in range(0, 12, 4):
        bench.put([f"{i:02d}".encode() * 500_000 for i in range(start, start + 4)])
    started = time.monotonic()
    bench.run().flush()
    took_s = time.monotonic() - started
    calls = bench.calls()
    assert all(call.size_bytes <= MOST_PAYLOAD_BYTES for call in calls)
    assert [len(call.records) for call in calls] == [4, 4, 4]
    assert [text[:2] for call in calls for text in call.texts] == [f"{i:02d}" for i in range(12)]
    assert took_s < 8


def test_lanes_run_at_once_and_keep_the_order_of_each_key(bench: Bench) -> None:
    arn = bench.stream()
    bench.function(SLEEP_S="0.15")
    bench.mapping(arn, BatchSize=4, ParallelizationFactor=4)
    bench.put([f"{i % 8}:{i // 8}" for i in range(64)], key=lambda i: f"key-{i % 8}")
    bench.run().flush()
    calls = bench.calls()
    by_key: dict[str, list[int]] = {}
    spans: dict[str, list[tuple[float, float]]] = {}
    for call in sorted(calls, key=lambda one: one.started):
        for text in call.texts:
            key, place = text.split(":")
            by_key.setdefault(key, []).append(int(place))
        for key in {text.split(":")[0] for text in call.texts}:
            spans.setdefault(key, []).append((call.started, call.ended))
    assert by_key == {str(key): list(range(8)) for key in range(8)}
    assert all(one[1] <= two[0] for taken in spans.values() for one, two in pairwise(taken))
    assert any(one.started < two.started < one.ended for one in calls for two in calls)


def test_a_partial_answer_retries_from_the_lowest_failure(bench: Bench) -> None:
    arn = bench.stream()
    bench.function(MODE="report")
    bench.mapping(
        arn, BatchSize=10, MaximumRetryAttempts=1, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    bench.put(["a", "b", "poison", "c", "poison", "d"])
    bench.run().flush()
    assert texts_of(bench.calls()) == [
        ["a", "b", "poison", "c", "poison", "d"],
        ["poison", "c", "poison", "d"],
    ]


def test_a_partial_answer_counts_for_nothing_where_it_was_not_asked_for(bench: Bench) -> None:
    arn = bench.stream()
    bench.function(MODE="report")
    bench.mapping(arn, BatchSize=10)
    bench.put(["a", "poison"])
    bench.run().flush()
    assert texts_of(bench.calls()) == [["a", "poison"]]


@pytest.mark.parametrize(("mode", "invocations"), [("unknown", 2), ("null", 1)])
def test_an_unknown_identifier_fails_the_batch_and_a_null_list_does_not(
    bench: Bench, mode: str, invocations: int
) -> None:
    arn = bench.stream()
    bench.function(MODE=mode)
    bench.mapping(
        arn, BatchSize=10, MaximumRetryAttempts=1, FunctionResponseTypes=["ReportBatchItemFailures"]
    )
    bench.put(["a", "poison", "b"])
    bench.run().flush()
    assert texts_of(bench.calls()) == [["a", "poison", "b"]] * invocations


def test_bisect_isolates_the_poison_and_s3_keeps_its_payload(bench: Bench) -> None:
    arn = bench.stream(shards=1)
    bench.s3.create_bucket(Bucket=bench.name)
    function_arn = bench.function(MODE="raise")
    mapping = bench.mapping(
        arn,
        BatchSize=8,
        BisectBatchOnFunctionError=True,
        MaximumRetryAttempts=2,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{bench.name}"}},
    )
    bench.put(["a", "b", "c", "d", "e", "poison", "f", "g"])
    sources = bench.run()
    sources.flush()
    assert texts_of(bench.calls()) == [
        ["a", "b", "c", "d", "e", "poison", "f", "g"],
        ["a", "b", "c", "d"],
        ["e", "poison", "f", "g"],
        ["e", "poison"],
        ["e"],
        ["poison"],
        ["poison"],
        ["poison"],
        ["f", "g"],
    ]
    (listed,) = bench.s3.list_objects_v2(Bucket=bench.name)["Contents"]
    day = time.strftime("%Y/%m/%d", time.gmtime())
    assert listed["Key"].startswith(f"aws/lambda/{mapping}/shardId-000000000000/{day}/")
    document = json.loads(bench.s3.get_object(Bucket=bench.name, Key=listed["Key"])["Body"].read())
    poison = bench.calls()[5].records[0]
    assert json.loads(document["payload"]) == {"Records": [poison]}
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["functionArn"] == function_arn
    assert document["responseContext"]["functionError"] == "Unhandled"
    info = document["KinesisBatchInfo"]
    assert (info["batchSize"], info["streamArn"], info["shardId"]) == (1, arn, "shardId-000000000000")
    assert info["startSequenceNumber"] == info["endSequenceNumber"] == poison["kinesis"]["sequenceNumber"]
    assert sources.counters.snapshot()[bench.name]["Errors"] == 6


def test_sqs_gets_the_facts_without_the_payload(bench: Bench) -> None:
    arn = bench.stream()
    url = bench.sqs.create_queue(QueueName=bench.name)["QueueUrl"]
    bench.function(MODE="raise")
    bench.mapping(
        arn,
        MaximumRetryAttempts=0,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:000000000000:{bench.name}"}},
    )
    bench.put(["poison", "x"])
    bench.run().flush()
    (message,) = bench.sqs.receive_message(QueueUrl=url)["Messages"]
    document = json.loads(message["Body"])
    assert document["KinesisBatchInfo"]["batchSize"] == 2
    assert "payload" not in document


def test_old_records_are_given_up_instead_of_retried_for_ever(bench: Bench) -> None:
    arn = bench.stream()
    bench.s3.create_bucket(Bucket=bench.name)
    bench.function(MODE="raise")
    bench.mapping(
        arn,
        MaximumRecordAgeInSeconds=2,
        DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{bench.name}"}},
    )
    bench.run()
    bench.put(["poison"])
    listed = until(lambda: bench.s3.list_objects_v2(Bucket=bench.name).get("Contents"))
    document = json.loads(bench.s3.get_object(Bucket=bench.name, Key=listed[0]["Key"])["Body"].read())
    assert document["requestContext"]["condition"] == "RecordAgeExceeded"
    assert document["requestContext"]["approximateInvokeCount"] == len(bench.calls()) > 1
    bench.put(["after"])
    until(lambda: ["after"] in texts_of(bench.calls()))


def test_a_poison_record_blocks_only_its_own_shard_and_flush_tells_why(bench: Bench) -> None:
    arn = bench.stream(shards=2)
    bench.function(MODE="raise")
    bench.mapping(arn, BatchSize=10)
    sources = bench.run()
    keys = {shard: next(key for key in map(str, range(99)) if _shard_of(key) == shard) for shard in (0, 1)}
    bench.put(["poison"], key=lambda _: keys[0])
    until(bench.calls)
    bench.put(["other"], key=lambda _: keys[1])
    until(lambda: ["other"] in texts_of(bench.calls()))
    with pytest.raises(Unavailable, match="a poison record"):
        sources.flush(stuck_limit_s=0.5)
    (shown,) = [one for one in sources.status()["mappings"] if one["function"] == bench.name]
    assert (shown["pending"], shown["failing_s"] > 0) == (1, True)


def _shard_of(key: str) -> int:
    import hashlib

    return int.from_bytes(hashlib.md5(key.encode()).digest(), "big") >> 127


def test_a_filter_lets_only_the_deletes_of_tickets_through(bench: Bench) -> None:
    table = bench.dynamodb.create_table(
        TableName=bench.name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk")],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )["TableDescription"]
    bench.function()
    pattern = {"eventName": ["REMOVE"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": "t#"}]}}}}
    bench.mapping(
        table["LatestStreamArn"],
        BatchSize=10,
        FilterCriteria={"Filters": [{"Pattern": json.dumps(pattern)}]},
    )
    keys = [{"pk": {"S": f"{kind}#{i}"}, "sk": {"S": "t"}} for i in range(3) for kind in ("t", "s")]
    for key in keys:
        bench.dynamodb.put_item(TableName=bench.name, Item={**key, "raw": {"B": b"\x01\x02"}})
    for key in keys:
        bench.dynamodb.delete_item(TableName=bench.name, Key=key)
    bench.run().flush()
    records = [record for call in bench.calls() for record in call.records]
    assert [record["dynamodb"]["Keys"]["pk"]["S"] for record in records] == ["t#0", "t#1", "t#2"]
    first = records[0]
    assert (first["eventName"], first["eventSource"], first["awsRegion"]) == (
        "REMOVE",
        "aws:dynamodb",
        REGION,
    )
    assert first["eventSourceARN"] == table["LatestStreamArn"]
    assert first["dynamodb"]["StreamViewType"] == "KEYS_ONLY"
    assert abs(first["dynamodb"]["ApproximateCreationDateTime"] - time.time()) < 10


def test_reading_goes_on_after_a_restart_where_it_stopped(bench: Bench, tmp_path: Path) -> None:
    arn = bench.stream(shards=2)
    bench.function()
    bench.mapping(arn, BatchSize=10)
    state = tmp_path / "sources.state"
    first = bench.run(state_file=state)
    bench.put(["a", "b", "c"], key=str)
    first.flush()
    first.stop()
    seen = len(bench.calls())
    bench.put(["d"])
    second = bench.run(state_file=state)
    second.flush()
    assert texts_of(bench.calls())[seen:] == [["d"]]
    assert second.counters.total("Seen") == 4


def test_new_mappings_and_changed_ones_are_noticed(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    sources = bench.run()
    bench.put(["a", "b"])
    mapping = bench.mapping(arn, BatchSize=1)
    until(lambda: len(bench.calls()) == 2)
    bench.clients.functions.update_event_source_mapping(UUID=mapping, BatchSize=10, ParallelizationFactor=2)
    sources.flush()
    bench.put(["c", "d"])
    until(lambda: ["c", "d"] in texts_of(bench.calls()))
    assert texts_of(bench.calls()) == [["a"], ["b"], ["c", "d"]]


def test_a_mapping_that_is_not_understood_is_refused_loudly(bench: Bench) -> None:
    arn = bench.stream()
    bench.function()
    mapping = bench.mapping(
        arn, FilterCriteria={"Filters": [{"Pattern": '{"data":[{"cidr":"10.0.0.0/8"}]}'}]}
    )
    bench.put(["a"])
    sources = bench.run()
    assert "cidr" in sources.status()["problems"][mapping]
    with pytest.raises(Unavailable, match="cidr"):
        sources.flush()
    assert bench.calls() == []


def test_stopping_leaves_no_thread_behind(bench: Bench) -> None:
    arn = bench.stream(shards=2)
    bench.function()
    bench.mapping(arn, ParallelizationFactor=3)
    before = set(threading.enumerate())
    sources = bench.run()
    assert len(set(threading.enumerate()) - before) == 1 + 2 + 6
    started = time.monotonic()
    sources.stop()
    assert time.monotonic() - started < 1.5
    assert set(threading.enumerate()) <= before
