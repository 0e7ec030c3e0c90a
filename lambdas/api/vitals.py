"""What a deployment counted: asked of the local stack's control server, or of CloudWatch."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import urlsplit

from ingest.settings import ApiSettings
from ingest.times import format_time
from lambdas._door import NAMESPACE

DAY_S = 86_400
MONTH_S = 30 * DAY_S
ENOUGH_S = 600
"""What was counted for a shorter time says nothing of a month."""
PATIENCE_S = 5.0
ONCE = {"mode": "standard", "total_max_attempts": 1}
METRICS = {
    "readings": "ReadingsStored",
    "chunks": "ChunksStored",
    "write_units": "WriteUnits",
    "rejects": "Rejects",
}
"""What is told, by the name of the metric that store_readings writes."""
UNKNOWN: dict[str, Any] = {"counters": None, "estimated_month_usd": None, "health": None}
Vitals = Callable[[], dict[str, Any]]


def source(settings: ApiSettings, stack: str, endpoint_url: str | None = None) -> Vitals:
    """What tells the counters of this deployment; whatever cannot be had is None, and no error."""

    def ask() -> dict[str, Any]:
        try:
            if settings.control_url:
                return _of_control(settings)
            return _of_cloudwatch(settings, stack, endpoint_url)
        except Exception:  # noqa: BLE001 - a panel without figures must not cost the whole answer
            return UNKNOWN

    return ask


def _of_control(settings: ApiSettings) -> dict[str, Any]:
    """What the local stack counted since it started."""
    host = urlsplit(str(settings.control_url))
    connection = http.client.HTTPConnection(host.hostname or "", host.port, timeout=PATIENCE_S)
    try:
        connection.request("GET", "/status", headers={"Authorization": f"Bearer {settings.control_token}"})
        response = connection.getresponse()
        if response.status != 200:
            return UNKNOWN
        told = cast(dict[str, Any], json.loads(response.read()))
    finally:
        connection.close()
    counted = {name: told.get(name) for name in METRICS}
    since_s = told.get("started_s")
    running_s = None if since_s is None else max(1.0, time.time() - float(since_s))
    health = told.get("health")
    return vitals(counted, since_s, running_s, settings.write_unit_usd) | {"health": health}


def _of_cloudwatch(settings: ApiSettings, stack: str, endpoint_url: str | None) -> dict[str, Any]:
    """What store_readings counted during the last 24 hours ("GetMetricData", CloudWatch API Reference)."""
    from ingest.stores.connect import client

    now_s = time.time()
    options: dict[str, Any] = {"read_timeout": PATIENCE_S, "connect_timeout": PATIENCE_S, "retries": ONCE}
    cloudwatch = client("cloudwatch", endpoint_url=endpoint_url, **options)
    dimensions = [{"Name": "service", "Value": "store_readings"}, {"Name": "stack", "Value": stack}]
    queries = [
        {
            "Id": name,
            "MetricStat": {
                "Metric": {"Namespace": NAMESPACE, "MetricName": metric, "Dimensions": dimensions},
                "Period": 3600,
                "Stat": "Sum",
            },
        }
        for name, metric in METRICS.items()
    ]
    told = cloudwatch.get_metric_data(
        MetricDataQueries=queries,
        StartTime=datetime.fromtimestamp(now_s - DAY_S, UTC),
        EndTime=datetime.fromtimestamp(now_s, UTC),
    )
    counted = {found["Id"]: sum(found["Values"]) for found in told["MetricDataResults"]}
    return vitals(counted, now_s - DAY_S, DAY_S, settings.write_unit_usd)


def vitals(
    counted: dict[str, Any], since_s: float | None, seconds: float | None, write_unit_usd: float | None
) -> dict[str, Any]:
    """The members that GET /v1/status adds, from what was counted over that many seconds since then.

    `write_unit_usd` is the price of a million; a month has 30 days, and is told once ENOUGH_S were counted.
    """
    readings, units = counted.get("readings"), counted.get("write_units")
    if readings is None or units is None:
        return dict(UNKNOWN)
    counters: dict[str, Any] = {name: _whole(counted.get(name)) for name in METRICS}
    counters["readings_per_write_unit"] = round(readings / units, 2) if units else None
    counters["since"] = None if since_s is None else format_time(int(since_s) * 1_000_000)
    estimate: dict[str, Any] | None = None
    if write_unit_usd is not None and seconds and seconds < ENOUGH_S:
        basis = (
            f"not known yet: counted for {seconds / 60:.0f} min; a month is told from {ENOUGH_S // 60} min on"
        )
        estimate = {"write_units": None, "basis": basis}
    elif write_unit_usd is not None and seconds:
        month = units * MONTH_S / seconds / 1e6 * write_unit_usd
        basis = f"{_whole(units)} write units in {seconds / 3600:.1f} h, at {write_unit_usd:g} USD a million"
        estimate = {"write_units": round(month, 2), "basis": basis}
    return {"counters": counters, "estimated_month_usd": estimate, "health": None}


def _whole(value: Any) -> int | float | None:
    if value is None:
        return None
    number = float(value)
    return int(number) if number == int(number) else round(number, 1)
