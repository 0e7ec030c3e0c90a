"""`thermocline doctor` on a running local stack: well, ill in five ways at once, and well again where it can be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3

from tests.local.command import Cli

START_S = 1_763_676_000
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


def findings(cli: Cli, *arguments: str, expect: int) -> dict[str, Mapping[str, str]]:
    rows = json.loads(cli.run("doctor", *arguments, "--format", "json", expect=expect))
    return {row["check"]: row for row in rows}


def test_the_doctor_finds_what_is_wrong_and_only_that(stack: Cli) -> None:
    stack.run("simulate", "--sensors", "4", "--rate", "1", "--duration", "10m", "--start", str(START_S))
    stack.run("expire", "--now", "now+1h")
    well = findings(stack, "--all", expect=0)
    assert {row["result"] for row in well.values()} == {"ok", "skipped"}
    assert well["segments"]["found"].endswith("all whole")
    assert {"table", "layout", "ttl", "clock", "store-mapping", "schedule", "overdue", "catalog"} <= set(well)

    status = stack.json("status")
    s3: Any = boto3.client("s3", endpoint_url=status["endpoint_url"], region_name=status["region"], **KEYS)
    archive, rejects = status["archive_bucket"], status["rejects_bucket"]
    name = s3.list_objects_v2(Bucket=archive)["Contents"][0]["Key"]
    held = s3.get_object(Bucket=archive, Key=name)
    whole = held["Body"].read()
    s3.put_bucket_notification_configuration(Bucket=archive, NotificationConfiguration={})
    s3.put_object(Bucket=archive, Key=name, Body=whole[:50] + b"?" + whole[51:], Metadata=held["Metadata"])
    s3.put_object(Bucket=archive, Key=f"{name.removesuffix('.parquet')}-copy.parquet", Body=whole)
    s3.put_object(Bucket=rejects, Key="aws/lambda/u/shardId-0/2026/01/01/x", Body=b"{}")
    broken = findings(stack, expect=1)
    ill = {check: row["result"] for check, row in broken.items() if row["result"] not in ("ok", "skipped")}
    assert ill == {
        "notification": "error",
        "catalog": "error",
        "segments": "error",
        "failed-batches": "error",
    }
    assert "-copy.parquet" in broken["catalog"]["found"]
    assert all(broken[check]["what_to_do"] for check in ill)

    health = stack.json("status")["health"]
    assert health["failed_batches"] == 1
    assert health["oldest_manifest_late_s"] == 0
    assert health["margin_s"] == 50
    assert set(health["unknown"]) == {"table_throttles_24h", "stream_throttles_24h"}

    s3.put_object(Bucket=archive, Key=name, Body=whole, Metadata=held["Metadata"])
    s3.delete_object(Bucket=rejects, Key="aws/lambda/u/shardId-0/2026/01/01/x")
    stack.run("archive", "reindex")
    mended = findings(stack, "--all", expect=1)
    assert [check for check, row in mended.items() if row["result"] == "error"] == ["notification"]
    assert "of them by the checksums inside them" in mended["segments"]["found"]


def test_a_stack_that_is_not_there_is_not_found(cli: Cli) -> None:
    cli.run("doctor", expect=3)
