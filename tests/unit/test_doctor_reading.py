"""How the doctor reads: CloudWatch by one call, the table, the counters of a local stack, and services that refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from botocore.exceptions import EndpointConnectionError

from infra.doctor import metrics
from infra.doctor.attempt import attempt, measured
from infra.doctor.examine import Progress, Sources, examine
from infra.doctor.finding import Finding, exit_code
from infra.doctor.remote import read_vitals
from infra.doctor.vitals import Vital, as_json, from_json
from infra.local.counters import Counters
from infra.local.lanes import Tracker
from ingest.errors import Corrupt, NotFound, Unavailable
from ingest.keys import DAY_S
from ingest.stores.blobs import S3BlobStore
from ingest.stores.catalog import DynamoCatalog
from ingest.stores.cold import S3ColdStore
from ingest.stores.connect import Stores
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryColdStore, MemoryHotStore
from ingest.stores.registry import DynamoRegistry
from ingest.stores.rejects import S3RejectStore
from ingest.stores.tokens import DynamoTokens
from tests.checkup import NAMES, Refusing, refused
from tests.world import HOUR_S, NOW_S, USUAL

LOCALSTACK = replace(NAMES, kind="localstack")

# --- what keeps a check from running ------------------------------------------------------


def wrapped(code: str) -> Unavailable:
    error = Unavailable("Reading failed.")
    error.__cause__ = refused(code)
    return error


@pytest.mark.parametrize(
    ("error", "result", "found"),
    [
        (refused("AccessDeniedException"), "warning", "dynamodb:DescribeTable is not allowed"),
        (refused("AccessDenied"), "warning", "dynamodb:DescribeTable is not allowed"),
        (wrapped("AccessDenied"), "warning", "dynamodb:DescribeTable is not allowed"),
        (refused("ResourceNotFoundException"), "error", "ResourceNotFoundException"),
        (refused("ThrottlingException"), "warning", "could not be checked"),
        (EndpointConnectionError(endpoint_url="http://x"), "warning", "could not be checked"),
        (ConnectionResetError("gone"), "warning", "could not be checked"),
        (NotFound("There is no object a."), "error", "no object a"),
        (Corrupt("The layout item cannot be read."), "error", "cannot be read"),
        (Unavailable("Busy."), "warning", "Busy"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_check_that_cannot_run_is_a_finding_and_never_a_crash(error, result, found) -> None:
    def run() -> Finding:
        raise error

    finding = attempt("table", "dynamodb:DescribeTable", run)
    assert (finding.check, finding.result) == ("table", result)
    assert found in finding.found
    assert finding.advice


def test_what_cannot_be_measured_is_unknown_with_the_permission() -> None:
    def run() -> Vital:
        raise refused("AccessDenied")

    assert measured("s3:ListBucket", run) == Vital.unknown("not allowed: s3:ListBucket")


# --- CloudWatch -----------------------------------------------------------------------------


class CloudWatch:
    """Answers GetMetricData with the series of some metrics, newest first."""

    def __init__(self, series: Mapping[str, list[tuple[float, float]]]) -> None:
        self.series = series
        self.calls: list[dict[str, Any]] = []

    def get_metric_data(self, **request: Any) -> dict[str, Any]:
        self.calls.append(request)
        return {"MetricDataResults": [self._result(query["Id"]) for query in request["MetricDataQueries"]]}

    def _result(self, name: str) -> dict[str, Any]:
        points = sorted(self.series.get(name, []), reverse=True)
        return {
            "Id": name,
            "Timestamps": [datetime.fromtimestamp(at, UTC) for at, _ in points],
            "Values": [value for _, value in points],
        }


@pytest.fixture
def hot() -> MemoryHotStore:
    store = MemoryHotStore()
    store.save_layout(USUAL, None)
    return store


class TestVitals:
    def test_one_call_reads_every_metric_of_this_deployment_alone(self, hot):
        cloudwatch = CloudWatch(
            {
                "stream_age": [(NOW_S - 3600, 9e9), (NOW_S - 300, 45_000.0), (NOW_S - 600, 60_000.0)],
                "table_stream_age": [(NOW_S - 3600, 5.0)],
                "rejects": [(NOW_S - 3600, 2.0), (NOW_S - 7200, 4.0)],
                "readings": [(NOW_S - 3600, 594.0)],
                "table_throttles": [(NOW_S - 60, 7.0)],
                "throttles_store": [(NOW_S - 60, 1.0)],
                "throttles_indexer": [(NOW_S - 60, 2.0)],
                "errors_archiver": [(NOW_S - 60, 3.0)],
            }
        )
        told = as_json(read_vitals(cloudwatch, NAMES, hot, MemoryColdStore(), NOW_S))
        assert len(cloudwatch.calls) == 1
        assert told == {
            "stream_age_s": 60,
            "table_stream_age_s": None,
            "oldest_manifest_late_s": 0,
            "margin_s": 6 * DAY_S - HOUR_S,
            "margin_used_share": 0.0,
            "rejects_24h": 6,
            "rejects_share_24h": 0.01,
            "failed_batches": 0,
            "table_throttles_24h": 7,
            "stream_throttles_24h": 0,
            "function_throttles_24h": 3,
            "function_errors_24h": 3,
            "chunks_lost_24h": 0,
            "unknown": {"table_stream_age_s": "nothing was read from it in the last 15 minutes"},
        }
        for query in cloudwatch.calls[0]["MetricDataQueries"]:
            of = query["MetricStat"]["Metric"]
            dimensions = {one["Name"]: one["Value"] for one in of["Dimensions"]}
            assert any("plant" in value for value in dimensions.values()), of
            if of["Namespace"] == metrics.NAMESPACE:
                assert dimensions["stack"] == "plant"

    def test_failed_batches_are_counted_in_the_bucket(self, hot):
        bucket = MemoryColdStore()
        for name in ("aws/lambda/u/s/1", "aws/lambda/u/s/2", "rejects/date=2026-11-20/x"):
            bucket.put(name, b"{}", {})
        vitals = read_vitals(CloudWatch({}), NAMES, hot, bucket, NOW_S)
        assert vitals.failed_batches == Vital(2)

    def test_without_cloudwatch_the_rest_is_told_and_the_permission_named(self, hot):
        vitals = read_vitals(Refusing("AccessDenied"), NAMES, hot, MemoryColdStore(), NOW_S)
        told = as_json(vitals)
        assert told["rejects_24h"] is told["stream_age_s"] is None
        assert told["unknown"]["rejects_24h"] == "not allowed: cloudwatch:GetMetricData"
        assert (told["oldest_manifest_late_s"], told["failed_batches"]) == (0, 0)

    def test_localstack_reports_no_such_metric_and_is_not_taken_for_well(self, hot):
        told = as_json(read_vitals(CloudWatch({}), LOCALSTACK, hot, MemoryColdStore(), NOW_S))
        assert told["table_throttles_24h"] is None
        assert told["unknown"]["chunks_lost_24h"] == "LocalStack reports no such metric"

    def test_json_and_back(self, hot):
        vitals = read_vitals(CloudWatch({}), NAMES, hot, MemoryColdStore(), NOW_S)
        again = from_json(as_json(vitals))
        assert replace(again, readings=vitals.readings) == vitals
        assert from_json({}).late_s == Vital.unknown("it was not told")


# --- the whole of it, where nobody may look -----------------------------------------------------


def test_whoever_may_nothing_gets_warnings_that_name_every_permission() -> None:
    client = Refusing("AccessDeniedException")
    stores = Stores(
        hot=DynamoHotStore(client, "t", lambda _: None, lambda: 0.5),
        catalog=DynamoCatalog(client, "t"),
        cold=S3ColdStore(client, "a"),
        rejects=S3RejectStore(S3ColdStore(client, "r")),
        registry=DynamoRegistry(client, "t"),
        tokens=DynamoTokens(client, "t", bytes),
        blobs=S3BlobStore(client, "a"),
    )
    sources = Sources(lambda _: client, stores, NAMES, None, lambda: NOW_S)
    found = list(examine(sources, 20, Progress(lambda _: None, lambda: None)))
    assert exit_code(found) == 5
    told = "\n".join(one.found for one in found if one.result == "warning")
    for permission in (
        "dynamodb:DescribeTable",
        "dynamodb:DescribeTimeToLive",
        "dynamodb:GetItem",
        "kinesis:DescribeStreamSummary",
        "lambda:GetEventSourceMapping",
        "s3:GetBucketNotification",
        "events:DescribeRule",
        "cloudwatch:GetMetricData",
        "s3:ListBucket on the rejects bucket",
        "s3:ListBucket on the archive bucket",
    ):
        assert permission in told
    assert not [one for one in found if one.result == "ok" and one.check != "segments"], found


def test_a_local_stack_that_does_not_answer_is_all_there_is_to_say() -> None:
    def silent() -> dict[str, Any]:
        raise Unavailable("The local stack did not answer.")

    sources = Sources(lambda _: None, cast(Any, None), NAMES, silent, lambda: NOW_S)
    (finding,) = examine(sources, 20, Progress(lambda _: None, lambda: None))
    assert (finding.result, finding.found) == ("error", "The local stack did not answer.")


# --- the local stack's counters -----------------------------------------------------------------


def test_counters_know_the_last_day_and_hand_it_on() -> None:
    now = [NOW_S + 10.0]
    counters = Counters(clock=lambda: now[0])
    counters.add("store", "Rejects", 5)
    now[0] += 23 * HOUR_S
    counters.add("index", "Rejects", 2)
    again = Counters(counters.snapshot(), counters.recent(), lambda: now[0])
    assert (again.last_day("Rejects"), again.total("Rejects")) == (7, 7)
    now[0] += 2 * HOUR_S
    assert (again.last_day("Rejects"), again.total("Rejects")) == (2, 7)
    assert again.last_day("Errors") == 0


def test_the_oldest_unfinished_record_tells_how_far_behind_a_shard_is() -> None:
    tracker = Tracker(None)
    assert tracker.oldest_s is None
    tracker.begin(["1", "2"], NOW_S)
    tracker.begin(["3"], NOW_S + 50)
    tracker.finish(["2"])
    assert tracker.oldest_s == NOW_S
    tracker.finish(["1"])
    assert tracker.oldest_s == NOW_S + 50
    tracker.finish(["3"])
    assert tracker.oldest_s is None
