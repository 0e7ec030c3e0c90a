"""What was refused on a real stack comes back: the fix is a release deployed, the door is the deployed function."""

from __future__ import annotations

import base64
import json
import time
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from infra.local.emulator import REGION
from infra.package import build_local
from ingest.stores.connect import client
from tests.local.command import Cli

NOW_MS = int(time.time() * 1000) - 60_000
LONG = "x" * 40_000


def reading(sensor: str, at_ms: int = NOW_MS, **metrics: Any) -> bytes:
    return json.dumps({"sensor_id": sensor, "ts": at_ms, "metrics": metrics}).encode()


def release_that_takes_long_texts(folder: Path) -> bytes:
    """The package of the functions with one limit raised."""
    made = BytesIO()
    with zipfile.ZipFile(build_local(folder)["store"]) as built, zipfile.ZipFile(made, "w") as changed:
        for name in built.namelist():
            source = built.read(name)
            if name == "ingest/gather.py":
                assert b"MOST_TEXT_BYTES = 32 * 1024" in source
                source = source.replace(b"MOST_TEXT_BYTES = 32 * 1024", b"MOST_TEXT_BYTES = 48 * 1024")
            changed.writestr(name, source)
    return made.getvalue()


def given_up(state: Mapping[str, Any], *payloads: bytes) -> dict[str, Any]:
    """What Lambda's on-failure destination would hold of a batch of the payloads."""
    records = [
        {
            "eventID": f"shardId-000000000000:{7_000 + i}",
            "eventSourceARN": f"arn:aws:kinesis:{state['region']}:000000000000:stream/{state['stream']}",
            "kinesis": {
                "sequenceNumber": str(7_000 + i),
                "data": base64.b64encode(payload).decode(),
                "approximateArrivalTimestamp": NOW_MS / 1000,
            },
        }
        for i, payload in enumerate(payloads)
    ]
    return {
        "requestContext": {"condition": "RecordAgeExceeded"},
        "KinesisBatchInfo": {"shardId": "shardId-000000000000", "batchSize": len(records)},
        "payload": json.dumps({"Records": records}),
    }


def test_a_fix_brings_back_what_was_refused_and_what_was_given_up(stack: Cli, tmp_path: Path) -> None:
    state = stack.json("status")
    made = {
        name: client(name, endpoint_url=state["endpoint_url"], region=REGION)
        for name in ("kinesis", "s3", "lambda")
    }
    beside = reading("press-1", NOW_MS + 1, note="short")
    for data in (
        b"\n".join([reading("press-1", note=LONG, a=1), beside]),
        reading("press-2", note=LONG),
        b"{",
    ):
        made["kinesis"].put_record(StreamName=state["stream"], Data=data, PartitionKey="one")
    stack.run("flush")
    correction = reading("press-2", note="corrected")
    made["kinesis"].put_record(StreamName=state["stream"], Data=correction, PartitionKey="one")
    stack.run("flush")
    batch = json.dumps(given_up(state, reading("press-3", a=5), reading("press-3", NOW_MS + 1, a=6))).encode()
    name = "aws/lambda/a1b2/shardId-000000000000/2026/11/20/2026-11-20T22.00.00-1"
    made["s3"].put_object(Bucket=state["rejects_bucket"], Key=name, Body=batch)

    listed = sorted(row["reason"] for row in stack.json("rejects", "ls", "--from", "2026-01-01"))
    assert listed == ["batch_given_up", "not_json", "reading_too_large", "reading_too_large"]
    refused = json.loads(
        stack.run("rejects", "retry", "--reason", "reading_too_large", "--format", "json", expect=5)
    )
    assert {row["outcome"] for row in refused} == {"still rejected"}

    code = release_that_takes_long_texts(tmp_path)
    (function,) = (
        one["FunctionName"]
        for one in made["lambda"].list_functions()["Functions"]
        if one["FunctionName"].endswith("store-readings")
    )
    made["lambda"].update_function_code(FunctionName=function, ZipFile=code)
    before = stack.json("rejects", "ls", "--from", "2026-01-01")
    ids = [row["id"] for row in before if row["reason"] == "reading_too_large"]
    rows = stack.json("rejects", "retry", *ids)
    assert {(row["id"], row["outcome"]) for row in rows} == {(one, "stored") for one in ids}
    rows = json.loads(stack.run("rejects", "retry", "--all", "--format", "json", expect=5))
    assert {(row["reason"], row["outcome"]) for row in rows} == {
        ("batch_given_up", "stored"),
        ("not_json", "still rejected"),
    }
    assert [row["reason"] for row in stack.json("rejects", "ls", "--from", "2026-01-01")] == ["not_json"]
    assert "Contents" not in made["s3"].list_objects_v2(Bucket=state["rejects_bucket"], Prefix="aws/")
    assert stack.json("rejects", "show", ids[0])[0]["stored_again"]

    assert [(row["note"], row["a"]) for row in stack.rows("press-1", "--from", "-1h")] == [
        (LONG, "1"),
        ("short", ""),
    ]
    assert [row["note"] for row in stack.rows("press-2", "--from", "-1h")] == ["corrected"]
    assert [row["a"] for row in stack.rows("press-3", "--from", "-1h")] == ["5", "6"]
    functions = stack.json("status")["functions"]
    assert not any(one.get("Errors") for one in functions.values()), functions
