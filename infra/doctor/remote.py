"""Reads the vital signs of a deployment on AWS or LocalStack: its table, its rejects bucket, CloudWatch."""

from __future__ import annotations

from typing import Any

from infra.doctor import metrics
from infra.doctor.attempt import FAULTS, measured, reason_of
from infra.doctor.finding import Names
from infra.doctor.vitals import Vital, Vitals, failed_batches, oldest_manifest
from ingest.stores import ColdStore, HotStore

NEEDS_METRICS = "cloudwatch:GetMetricData"
NEEDS_TABLE = "dynamodb:GetItem and dynamodb:Query on the table"
NEEDS_LISTING = "s3:ListBucket on the rejects bucket"
_SILENT = "LocalStack reports no such metric"


def read_metrics(cloudwatch: Any, names: Names, now_s: float) -> tuple[dict[str, float | None], str]:
    """What CloudWatch knows, and why nothing where it could not be asked ("" where it could)."""
    wanted = metrics.metrics_of(names)
    try:
        return metrics.read(cloudwatch, wanted, now_s), ""
    except FAULTS as error:
        return {}, reason_of(error, NEEDS_METRICS)


def late_and_margin(hot: HotStore, now_s: float) -> tuple[Vital, Vital]:
    """How late the oldest manifest is, and the margin it has."""
    try:
        return oldest_manifest(hot, hot.load_layout(), int(now_s))
    except FAULTS as error:
        unknown = Vital.unknown(reason_of(error, NEEDS_TABLE))
        return unknown, unknown


def read_vitals(
    cloudwatch: Any, names: Names, hot: HotStore, rejects_bucket: ColdStore, now_s: float
) -> Vitals:
    """The vital signs; what cannot be read is unknown, with the reason. Never raises what a service raises."""
    found, why = read_metrics(cloudwatch, names, now_s)
    late_s, margin_s = late_and_margin(hot, now_s)
    silent = _SILENT if names.kind == "localstack" else ""

    def total(prefix: str) -> Vital:
        return Vital.unknown(why) if why else metrics.summed(found, prefix, silent)

    def age(name: str) -> Vital:
        if why:
            return Vital.unknown(why)
        vital = metrics.age(found, name)
        return Vital.unknown(silent) if silent and vital.value is None else vital

    return Vitals(
        stream_age_s=age("stream_age"),
        table_stream_age_s=age("table_stream_age"),
        late_s=late_s,
        margin_s=margin_s,
        rejects=total("rejects"),
        readings=total("readings"),
        failed_batches=measured(NEEDS_LISTING, lambda: failed_batches(rejects_bucket)),
        table_throttles=total("table_throttles"),
        stream_throttles=total("stream_throttles"),
        function_throttles=total("throttles_"),
        function_errors=total("errors_"),
        chunks_lost=total("chunks_lost"),
    )
