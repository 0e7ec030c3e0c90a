"""Hostile records put straight into the stream: good neighbours arrive, bad ones are kept with their reason."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from typing import Any

import boto3
from aws_kinesis_agg import aggregator

from tests.local.command import Cli

NOW_MS = int(time.time() * 1000) - 60_000


def good(sensor: str, offset: int = 0) -> dict[str, Any]:
    return {"sensor_id": sensor, "ts": NOW_MS + offset, "metrics": {"value": 1.5}}


def aggregate(*payloads: bytes) -> bytes:
    packed = aggregator.RecordAggregator()
    for payload in payloads:
        packed.add_user_record("lane", payload)
    record = packed.clear_and_get()
    assert record is not None
    return record.get_contents()[2]


def bomb() -> bytes:
    """A gzip of about 1 MB that inflates to 1 GB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    return b"".join([packer.compress(zeros) for _ in range(1024)] + [packer.flush()])


def bad_index() -> bytes:
    """An aggregate with a right MD5 whose record points outside the key table."""
    from hashlib import md5

    user = b"\x08\x05\x1a\x02{}"
    body = b"\x0a\x01a" + b"\x1a" + bytes([len(user)]) + user
    return b"\xf3\x89\x9a\xc2" + body + md5(body).digest()


def hostile() -> dict[str, tuple[bytes, set[str]]]:
    """By a name: the bytes of one Kinesis record, and the reasons that may be given."""
    plain = json.dumps(good("beside-nan"))
    damaged = aggregate(json.dumps(good("lost")).encode())
    ids = ["../etc", "a/../b", "a//b", "", "a\nb", "a b", "é", "x" * 129, "<script>", "-a", "a\u0000"]
    return {
        "not json": (b"\x00\x01 this is no JSON", {"not_json", "not_utf8", "unknown_format"}),
        "empty": (b"", {"empty_record"}),
        "wrong types": (b'{"sensor_id": 5, "ts": "soon", "metrics": []}', {"wrong_type", "bad_sensor_id"}),
        "nan": (plain.replace("1.5", '1.5, "broken": NaN').encode(), {"not_finite"}),
        "long int": (plain.replace("1.5", '1.5, "broken": ' + "9" * 5000).encode(), {"int_too_long"}),
        "deep": (b"[" * 100_000 + b"]" * 100_000, {"too_deep", "not_json"}),
        "bomb": (bomb(), {"inflate_limit"}),
        "bad md5": (damaged[:-1] + bytes([damaged[-1] ^ 1]), {"kpl_bad_md5"}),
        "bad index": (bad_index(), {"kpl_bad_index"}),
        "1970": (json.dumps(good("old") | {"ts": 1000}).encode(), {"ts_out_of_range"}),
        "2100": (json.dumps(good("new") | {"ts": 4_102_444_800_000}).encode(), {"ts_out_of_range"}),
        **{f"id {i}": (json.dumps(good(name)).encode(), {"bad_sensor_id"}) for i, name in enumerate(ids)},
    }


def test_bad_records_cost_only_themselves_and_wait_in_rejects(stack: Cli) -> None:
    state = stack.json("status")
    kinesis = boto3.client(
        "kinesis",
        endpoint_url=state["endpoint_url"],
        region_name=state["region"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    cases = hostile()
    records = [json.dumps(good("first")).encode()]
    for number, (data, _) in enumerate(cases.values()):
        records += [data, json.dumps(good(f"good-{number}")).encode()]
    lines = [json.dumps(good("in-lines", 0)), "{broken", json.dumps(good("in-lines", 1))]
    records.append(gzip.compress("\n".join(lines).encode()))
    records.append(aggregate(b"nonsense", json.dumps(good("in-aggregate")).encode()))
    for data in records:
        kinesis.put_record(StreamName=state["stream"], Data=data, PartitionKey="one-lane")
    stack.run("flush")

    known = {row["sensor_id"] for row in stack.json("sensors", "ls")}
    assert {f"good-{number}" for number in range(len(cases))} | {
        "first",
        "in-aggregate",
        "beside-nan",
    } <= known
    assert len(stack.rows("in-lines", "--from", "-1h")) == 2
    assert stack.rows("beside-nan", "--from", "-1h")[0]["value"] == "1.5"
    assert not known & {"lost", "old", "new", "../etc"}

    rejects = stack.json("rejects", "ls")
    assert len({row["id"] for row in rejects}) == len(rejects)
    small = [row for row in rejects if row["size_bytes"] in (len("{broken"), len("nonsense"))]
    by_payload = {stack.run("rejects", "show", row["id"], "--raw"): row for row in small}
    for name, (data, reasons) in cases.items():
        found = {row["reason"] for row in rejects if row["size_bytes"] == len(data)}
        assert found & reasons, f"{name}: {sorted(found)} given, {sorted(reasons)} expected"
    assert "{broken" in by_payload
    assert by_payload["nonsense"]["reason"] in {"not_json", "unknown_format"}
    functions = stack.json("status")["functions"]
    assert not any(one.get("Errors") for one in functions.values()), functions
