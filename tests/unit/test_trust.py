"""What nobody outside may do: make the doors slow or large, lead them elsewhere, or put readings into a log."""

from __future__ import annotations

import base64
import gzip
import io
import json
import logging
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.deploy import TEMPLATE
from ingest import envelope, wire
from ingest.errors import Corrupt, ThermoclineError
from ingest.keys import US
from ingest.kinesis_records import user_records
from ingest.plan import Query, plan
from ingest.reading import Span
from ingest.stores import connect
from ingest.stores.hot import DynamoHotStore
from lambdas import archive_expired, index_segment, store_readings
from tests import answered
from tests.unit import test_doors
from tests.unit.test_doors import CONTEXT, SLOT_S
from tests.unit.test_kinesis_records import KEY, USER, framed, piece
from tests.unit.test_write import aggregate
from tests.world import NOW_S, NOW_US, USUAL, World, readings

deployment = test_doors.world
"""The fixture: a deployment that the doors find in place of AWS."""
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish:UserWarning")

# --- processor time ---------------------------------------------------------------------


def reading(**fields: Any) -> bytes:
    return json.dumps({"sensor_id": "s", "ts": NOW_S * 1000, "metrics": {"m": 1}} | fields).encode()


def columns(deltas: list[int]) -> bytes:
    return json.dumps(
        {"sensor_id": "s", "t0_us": NOW_US, "dt_us": deltas, "metrics": {"m": [1] * (len(deltas) + 1)}}
    ).encode()


HEAVY: dict[str, Callable[[int], bytes]] = {
    "open brackets": lambda n: b"[" * n,
    "nested objects": lambda n: b'{"a":' * (n // 5),
    "a number of many digits": lambda n: b'{"sensor_id":"s","ts":1,"metrics":{"m":%s}}' % (b"9" * n),
    "a fraction of many digits": lambda n: b'{"sensor_id":"s","ts":1,"metrics":{"m":0.%s1}}' % (b"0" * n),
    "a great exponent": lambda n: b'{"sensor_id":"s","ts":1,"metrics":{"m":1e%s}}' % (b"9" * n),
    "a long sensor id": lambda n: reading(sensor_id="a/" * (n // 2)),
    "a long metric name": lambda n: reading(metrics={"a." * (n // 2): 1}),
    "a long time": lambda n: reading(ts="2026-11-20T22:00:00." + "0" * n + "Z"),
    "many dashes for a time": lambda n: reading(ts="-" * n),
    "escapes": lambda n: b'{"sensor_id":"s","ts":1,"metrics":{"m":"%s"}}' % (b"\\ud800" * (n // 6)),
    "lines of rubbish": lambda n: b'{"sensor_id":"s"}\n' + b"x\n" * (n // 2),
    "empty lines": lambda n: b"{}" + b"\n" * n,
    "lines of brackets": lambda n: b"[[[[[[[[[\n" * (n // 10),
    "the same key": lambda n: b'{"sensor_id":"s","ts":1,"metrics":{%s"m":1}}' % (b'"m":2,' * (n // 6)),
    "times that fall": lambda n: columns([-1] * (n // 6)),
    "one instant": lambda n: columns([0] * (n // 5)),
    "SenML": lambda n: json.dumps([{"bn": "s/", "bt": NOW_S}, *[{"n": "m", "v": 1}] * (n // 20)]).encode(),
    "growing SenML": lambda n: json.dumps(
        [{"bn": f"s{i}/", "n": "m", "v": i} for i in range(n // 40)]
    ).encode(),
    "empty gzip members": lambda n: gzip.compress(b"") * (n // 20),
    "a zip bomb": lambda n: gzip.compress(bytes(n * 8)),
    "KPL of empty records": lambda n: framed(KEY + piece(3, b"\x08\x00\x1a\x00") * (n // 6)),
    "KPL of one key": lambda n: framed(KEY * (n // 6) + piece(3, USER)),
}


def cost_s(payload: bytes) -> float:
    """Processor time of taking a stream record apart, the least of three."""

    def once() -> float:
        began_s = time.process_time()
        payloads, _ = user_records(payload)
        wire.decode_all(payloads, NOW_S * 1000)
        return time.process_time() - began_s

    return min(once() for _ in range(3))


@pytest.mark.parametrize("name", HEAVY)
def test_a_record_made_to_be_slow_costs_no_more_than_its_bytes(name):
    """Four times the bytes take about four times as long, never sixteen."""
    size_bytes = 250_000 if cost_s(HEAVY[name](16_000)) < 0.01 else 60_000
    small, large = cost_s(HEAVY[name](size_bytes // 4)), cost_s(HEAVY[name](size_bytes))
    assert large < max(0.02, 9 * small), f"{small * 1000:.1f} ms, then {large * 1000:.1f} ms"
    assert large < 1.5


def test_a_query_over_all_time_in_windows_of_a_millisecond_costs_what_it_finds():
    world = World()
    world.send(readings("s", NOW_US, 60 * US, m=list(range(60))))
    world.archive_all()
    began_s = time.process_time()
    found = world.ask("s", Span(0, 4_102_444_800 * US), every_us=1000, aggregates=("mean", "p99"))
    assert time.process_time() - began_s < 0.5
    assert found.windows is not None
    assert len(found.windows.start_us) == 60, "a window without a reading is none"
    asked = Query("s", Span(-(1 << 62), 1 << 62))
    planned = plan(asked, USUAL, NOW_S)
    assert planned.hot is not None
    assert planned.hot.end_us <= (NOW_S + 3 * 86_400) * US


# --- memory -----------------------------------------------------------------------------


def bomb(size_mib: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join([*(packer.compress(block) for _ in range(size_mib)), packer.flush()])


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_takes_no_more_memory_than_one_payload_may(layers):
    small = bomb(256)
    for _ in range(layers - 1):
        small = gzip.compress(small)
    assert len(small) < 300_000
    tracemalloc.start()
    try:
        with pytest.raises(envelope.Unopened, match=r"inflates|beyond|MiB|bytes"):
            envelope.unwrap(small)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * envelope.MOST_INFLATED_BYTES


# --- where requests go ------------------------------------------------------------------


def test_no_real_credentials_are_ever_shown_to_an_endpoint_that_is_not_aws(monkeypatch):
    """An endpoint that was named gets made-up ones, whatever the user's environment holds."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAREAL",
        "AWS_SECRET_ACCESS_KEY": "real-secret",
        "AWS_SESSION_TOKEN": "real-token",
    }.items():
        monkeypatch.setenv(name, value)
    seen: list[str] = []

    def answer(_: str, request: Any) -> Any:
        seen.append(str(dict(request.headers)))
        return answered.reply(200, b"{}")

    answered.client("dynamodb", answer).get_item(TableName="t", Key={})
    assert "Credential=test/" in seen[0]
    assert "REAL" not in seen[0]
    assert "real-token" not in seen[0]


def test_an_endpoint_that_is_given_wins_over_every_variable(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://evil.invalid")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://worse.invalid")
    for service in ("dynamodb", "s3", "kinesis"):
        made = connect.client(service, endpoint_url=answered.NOWHERE, region="us-east-1")
        assert made.meta.endpoint_url == answered.NOWHERE


def test_no_payload_names_where_a_request_goes():
    """Object names and keys are made of digests and checked ids; a sensor id is never part of an object's name."""
    world = World()
    world.send(readings("http://evil.invalid/x".replace("//", "/"), NOW_US, US, m=[1]))
    world.archive_all()
    assert len(world.cold.objects) == 1
    assert not any("evil" in name for name in world.cold.objects)


# --- what a log holds -------------------------------------------------------------------

CANARY = "C4N4RY"


def canaries() -> list[bytes]:
    """A canary wherever a payload can carry one."""
    good = {"sensor_id": "press-7", "ts": NOW_S * 1000}
    told = [
        json.dumps(good | {"metrics": {"note": CANARY}}).encode(),
        json.dumps(good | {"metrics": {f"{CANARY} {CANARY}": 1}}).encode(),
        json.dumps(good | {"metrics": {"m": [CANARY]}}).encode(),
        json.dumps({"sensor_id": f"no {CANARY}", "ts": 1, "metrics": {"m": 1}}).encode(),
        json.dumps(good | {"ts": CANARY, "metrics": {"m": 1}}).encode(),
        json.dumps(good | {"ts": 5, "metrics": {"m": CANARY}}).encode(),
        json.dumps([{"bn": f"{CANARY} /", "n": CANARY, "vs": CANARY}]).encode(),
        CANARY.encode(),
        f'{{"sensor_id": "{CANARY}'.encode(),
        b"\xff" + CANARY.encode(),
    ]
    lines = b"\n".join(told)
    return [*told, lines, gzip.compress(lines), aggregate(told), aggregate(told)[:-1] + b"!"]


def canary_event() -> dict[str, Any]:
    event = answered.kinesis_event(*canaries(), arrival_s=float(NOW_S))
    broken = json.loads(json.dumps(event["Records"][0]))
    broken["kinesis"]["data"] = CANARY + "!"
    event["Records"].append(broken)
    return event


@pytest.fixture
def everything_said(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[], str]]:
    """What was written anywhere: our own loggers at their most talkative, the root as Lambda sets it."""
    loggers = [door._logger for door in (store_readings, archive_expired, index_segment)]
    before = [one.registered_handler.stream for one in loggers]
    caplog.set_level(logging.WARNING)
    stream = io.StringIO()
    for one in loggers:
        one.setLevel("DEBUG")
        one.registered_handler.setStream(stream)

    def said() -> str:
        return "\n".join([stream.getvalue(), caplog.text, *capfd.readouterr()])

    yield said
    for one, stream_before in zip(loggers, before, strict=True):
        one.setLevel("INFO")
        one.registered_handler.setStream(stream_before)


def test_no_door_writes_what_a_payload_holds_into_a_log(deployment, everything_said):
    assert store_readings.handler(canary_event(), CONTEXT) == {"batchItemFailures": []}
    kept = list(deployment.rejects.list("2026-11-20", "2026-11-20"))
    assert sum(CANARY.encode() in reject.payload for reject in kept) > 10, "the bytes are where they belong"
    assert deployment.found("press-7").metrics["note"] == [CANARY]
    deployment.now_s = SLOT_S
    order = {"eventName": "REMOVE", "dynamodb": {"Keys": {"pk": {"S": f"t#{SLOT_S}"}, "sk": {"S": "t"}}}}
    archive_expired.handler({"Records": [order]}, CONTEXT)
    names = list(deployment.cold.objects)
    index_segment.handler({"Records": [{"s3": {"object": {"key": name}}} for name in names]}, CONTEXT)
    said = everything_said()
    assert '"message":"stored"' in said
    assert '"message":"archived"' in said
    assert '"message":"indexed"' in said
    for form in (CANARY, base64.b64encode(CANARY.encode()).decode()[:8]):
        assert form not in said


def test_an_error_never_quotes_what_was_sent(deployment, everything_said, monkeypatch):
    """DynamoDB's messages may quote an item; a chunk or an object that cannot be read holds readings, too."""
    answered.without_waiting(monkeypatch)
    quoting = answered.client(
        "dynamodb", lambda *_: answered.problem(400, "ValidationException", f"the item {CANARY} is wrong")
    )
    kept = deployment.hot
    deployment.hot = DynamoHotStore(quoting, answered.TABLE, lambda _: None, lambda: 0.0)
    monkeypatch.setattr("lambdas._door.layout", lambda *_: USUAL)
    with pytest.raises(ThermoclineError) as told:
        store_readings.handler(canary_event(), CONTEXT)
    assert "ValidationException" in str(told.value)
    assert CANARY not in str(told.value)
    deployment.hot = kept
    deployment.send(readings("press-7", NOW_US, US, note=[CANARY]))
    for key in deployment.chunk_keys():
        deployment.hot.items[key] = deployment.hot.items[key] | {"n": {"N": "7"}}
    with pytest.raises(Corrupt) as told:
        deployment.ask("press-7")
    assert CANARY not in str(told.value)
    deployment.cold.put("readings/v1/date=2026-11-20/x.parquet", CANARY.encode() * 9, {})
    index_segment.handler(
        {"Records": [{"s3": {"object": {"key": "readings/v1/date=2026-11-20/x.parquet"}}}]}, CONTEXT
    )
    assert CANARY not in everything_said()


def test_nothing_is_switched_on_that_would_write_events_or_requests_into_a_log():
    """Botocore at DEBUG writes whole requests, and so do Powertools' own switches."""
    text = TEMPLATE.read_text()
    for switch in (
        "POWERTOOLS_LOGGER_LOG_EVENT",
        "POWERTOOLS_DEV",
        "POWERTOOLS_DEBUG",
        "ApplicationLogLevel",
    ):
        assert switch not in text
