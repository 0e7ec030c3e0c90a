"""The same numbers from CloudWatch, by one GetMetricData call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from infra.doctor.finding import Names
from infra.doctor.vitals import WINDOW_S, Vital

NAMESPACE = "Thermocline"
RECENT_S = 900
"""An iterator's age older than this says nothing of now."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: where it is found, and whether its sum or its newest greatest value is meant."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    wanted: Literal["sum", "newest"] = "sum"


def metrics_of(names: Names) -> dict[str, Metric]:
    """The metrics behind each vital sign, by a name of ours.

    Sources: "Types of metrics for Lambda functions", "DynamoDB Metrics and dimensions", "Monitor the
    Amazon Kinesis Data Streams service with Amazon CloudWatch".
    """
    functions = {"store": names.store, "archiver": names.archiver, "indexer": names.indexer}
    found = {
        "stream_age": Metric("AWS/Lambda", "IteratorAge", {"FunctionName": names.store}, "newest"),
        "table_stream_age": Metric("AWS/Lambda", "IteratorAge", {"FunctionName": names.archiver}, "newest"),
        "rejects": _own("Rejects", "store_readings", names),
        "readings": _own("ReadingsStored", "store_readings", names),
        "chunks_lost": _own("ChunksLost", "archive_expired", names),
        "table_throttles": Metric("AWS/DynamoDB", "WriteThrottleEvents", {"TableName": names.table}),
        "stream_throttles": Metric(
            "AWS/Kinesis", "WriteProvisionedThroughputExceeded", {"StreamName": names.stream}
        ),
    }
    for label, function in functions.items():
        found[f"throttles_{label}"] = Metric("AWS/Lambda", "Throttles", {"FunctionName": function})
        found[f"errors_{label}"] = Metric("AWS/Lambda", "Errors", {"FunctionName": function})
    return found


def _own(name: str, service: str, names: Names) -> Metric:
    return Metric(NAMESPACE, name, {"service": service, "stack": names.stack})


def read(cloudwatch: Any, metrics: Mapping[str, Metric], now_s: float) -> dict[str, float | None]:
    """Each metric's value over the last 24 h; None where CloudWatch has no data for it. Raises what boto3 raises."""
    answer: dict[str, Any] = cloudwatch.get_metric_data(
        MetricDataQueries=[_query(name, metric) for name, metric in metrics.items()],
        StartTime=datetime.fromtimestamp(now_s - WINDOW_S, UTC),
        EndTime=datetime.fromtimestamp(now_s, UTC),
        ScanBy="TimestampDescending",
    )
    found: dict[str, float | None] = dict.fromkeys(metrics)
    for result in cast(list[dict[str, Any]], answer["MetricDataResults"]):
        values = cast(list[float], result.get("Values") or [])
        times = cast(list[datetime], result.get("Timestamps") or [])
        name = str(result["Id"])
        if metrics[name].wanted == "sum":
            found[name] = sum(values) if values else None
        else:
            recent = [
                value for at, value in zip(times, values, strict=True) if now_s - at.timestamp() <= RECENT_S
            ]
            found[name] = max(recent, default=None)
    return found


def _query(name: str, metric: Metric) -> dict[str, Any]:
    is_sum = metric.wanted == "sum"
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": key, "Value": value} for key, value in metric.dimensions.items()],
            },
            "Period": 3600 if is_sum else 300,
            "Stat": "Sum" if is_sum else "Maximum",
        },
    }


def summed(found: Mapping[str, float | None], prefix: str, silent: str = "") -> Vital:
    """The sum of all metrics whose name begins so.

    No data is 0, since services report what they refuse only when they refuse it; where
    `silent` says why a target reports nothing, no data is unknown.
    """
    values = [value for name, value in found.items() if name.startswith(prefix)]
    if silent and all(value is None for value in values):
        return Vital.unknown(silent)
    return Vital(sum(value or 0.0 for value in values))


def age(found: Mapping[str, float | None], name: str) -> Vital:
    """An iterator's age in seconds."""
    value = found[name]
    if value is None:
        return Vital.unknown(f"nothing was read from it in the last {RECENT_S // 60} minutes")
    return Vital(round(value / 1000, 1))
