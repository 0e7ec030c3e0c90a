"""The API of a running stack as others use it: InfluxDB's own client, Home Assistant, Telegraf, large payloads."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlsplit

import pytest
from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.client.write.point import Point
from influxdb_client.client.write_api import SYNCHRONOUS, WriteOptions
from influxdb_client.rest import ApiException

from tests.local.command import Cli

pytestmark = pytest.mark.local
SENSORS, LINES = 50, 100_000
EACH = LINES // SENSORS
MOST_MEMORY_KB = 60_000
"""What a blob of 60 MB may add to the server's memory."""


@dataclass(frozen=True)
class Api:
    """The API of a stack and an admin's token."""

    cli: Cli
    url: str
    token: str

    def call(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Status, headers and body of one request."""
        sent = {"Authorization": f"Bearer {self.token}"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        return request(method, f"{self.url}{path}", body, sent)

    def readings(self, sensor_id: str) -> dict[str, dict[str, Any]]:
        """Everything the sensor has sent, by time, through every page."""
        path = f"/v1/sensors/{quote(sensor_id, safe='')}/readings?from=-2d&to=now&limit=50000"
        found: dict[str, dict[str, Any]] = {}
        while path:
            status, _, body = self.call("GET", path)
            assert status == 200, body
            page = json.loads(body)
            for row in page["readings"]:
                moment = row.pop("timestamp")
                assert moment not in found
                found[moment] = {name: value for name, value in row.items() if value is not None}
            path = page["next_url"]
        return found


def request(
    method: str, url: str, body: bytes | Iterable[bytes] | None = None, headers: dict[str, str] | None = None
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request, its body in chunks where it is no bytes."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def api(stack: Cli) -> Api:
    url = stack.json("status")["api_url"]
    return Api(stack, url, stack.run("token", "new", "--scope", "admin").strip())


def rfc_3339(ts_us: int) -> str:
    seconds, rest = divmod(ts_us, 1_000_000)
    fraction = f".{rest:06d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"


# --- InfluxDB's own client ----------------------------------------------------------------


def client(api: Api, *, token: str | None = None) -> InfluxDBClient:
    return InfluxDBClient(api.url, token or api.token, org="home", enable_gzip=True, timeout=30_000)


def test_influxdbs_client_writes_a_hundred_thousand_lines_and_all_are_read_back(api: Api) -> None:
    units = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
    start_s = int(time.time()) - EACH - 60
    expected: dict[str, dict[str, dict[str, Any]]] = {}
    lines: dict[str, list[str]] = {unit: [] for unit in units}
    for number in range(SENSORS):
        name, unit = f"plant/press-{number:02d}", list(units)[number % len(units)]
        held = expected[name] = {}
        for row in range(EACH):
            at_ns = (start_s + row) * 10**9 + (0 if unit == "s" else 250_000_000)
            value = (number * 7919 + row * 31) % 10_000 / 100
            odd = row % 97 == 0
            more = ',on=true,s="a \\"b\\", c=d"' if odd else ""
            text = f"sys,sensor_id={name},unit={unit} t={value},n={row}i{more}"
            lines[unit].append(f"{text} {at_ns // units[unit]}")
            row_of = {"sys.t": value, "sys.n": row} | ({"sys.on": True, "sys.s": 'a "b", c=d'} if odd else {})
            held[rfc_3339(at_ns // 1000)] = row_of
    failures: list[Any] = []
    with client(api) as influx:
        for unit, records in lines.items():
            with influx.write_api(
                WriteOptions(batch_size=5_000, flush_interval=1_000, max_retries=2),
                error_callback=lambda *error: failures.append(error),
            ) as writing:
                writing.write("any", record=records, write_precision=cast(Any, unit))
    assert not failures, failures[:2]
    api.cli.run("flush")
    for name, held in expected.items():
        assert api.readings(name) == held


def test_influxdbs_client_finds_what_it_asks_for(api: Api) -> None:
    with client(api) as influx:
        assert influx.ping()
        assert influx.version()
        with pytest.warns(DeprecationWarning, match="ping"):  # superseded by ping, still called by others
            assert influx.health().status in ("pass", "ok")
        with influx.write_api(write_options=SYNCHRONOUS) as writing:
            with pytest.raises(ApiException) as refused:
                writing.write("any", record=[Point("ok").tag("sensor_id", "half").field("v", 1.5), "no line"])
            assert (refused.value.status, json.loads(str(refused.value.body))["line"]) == (400, 2)
            with pytest.raises(ApiException) as empty:  # how Home Assistant looks whether it may write
                writing.write("any", record=b"")
            assert empty.value.status == 400
    with client(api, token="wrong") as stranger, stranger.write_api(write_options=SYNCHRONOUS) as writing:
        with pytest.raises(ApiException) as denied:
            writing.write("any", record="m v=1")
        assert (denied.value.status, json.loads(str(denied.value.body))["code"]) == (401, "unauthorized")
    api.cli.run("flush")
    assert [set(row) for row in api.readings("half").values()] == [{"ok.v"}]


# --- the lines of others --------------------------------------------------------------------


def test_home_assistant_and_telegraf_write_as_they_do(api: Api) -> None:
    at_s = int(time.time()) - 5
    home = (
        f'°C,domain=sensor,entity_id=outside friendly_name_str="Outside, north",value=12.3 {at_s}000000000\n'
        f"%,domain=sensor,entity_id=hall_humidity value=41.0 {at_s}000000000\n"
        f'binary_sensor.door,domain=binary_sensor,entity_id=door state="on",value=1 {at_s}000000000\n'
    )
    telegraf = (
        f"cpu,cpu=cpu-total,host=gate-7 usage_idle=93.54838709677419 {at_s}000000000\n"
        f"mem,host=gate-7 available=6081978368i,used_percent=24.32 {at_s}000000000\n"
    )
    for body, agent in ((home, "influxdb-client-python"), (telegraf, "Telegraf/1.36")):
        status, _, said = api.call(
            "POST",
            "/api/v2/write?bucket=home&org=o&precision=ns",
            gzip.compress(body.encode()),
            Content_Encoding="gzip",
            User_Agent=agent,
            Authorization=f"Token {api.token}",
        )
        assert (status, said) == (204, b"")
    api.cli.run("flush")
    moment = rfc_3339(at_s * 1_000_000)
    assert api.readings("outside") == {
        moment: {"degC.friendly_name_str": "Outside, north", "degC.value": 12.3}
    }
    assert api.readings("hall_humidity") == {moment: {"percent.value": 41}}
    assert api.readings("door") == {moment: {"binary_sensor.door.state": "on", "binary_sensor.door.value": 1}}
    assert api.readings("gate-7") == {
        moment: {"cpu.usage_idle": 93.54838709677419, "mem.available": 6081978368, "mem.used_percent": 24.32}
    }


# --- large payloads -------------------------------------------------------------------------


def picture(size_bytes: int) -> bytes:
    return hashlib.shake_128(b"picture").digest(size_bytes)


def pieces(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), 65_536):
        yield data[start : start + 65_536]


def server_memory_kb(api: Api) -> int:
    """The most memory that the API's process has had."""
    port = f":{urlsplit(api.url).port:04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    listening = next(words[9] for words in sockets if words[1].endswith(port) and words[3] == "0A")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(f"socket:[{listening}]" in str(fd.readlink()) for fd in (process / "fd").iterdir()):
                status = (process / "status").read_text()
                return int(status.split("VmHWM:")[1].split()[0])
        except OSError:
            continue
    raise AssertionError("the server's process was not found")


def test_a_blob_is_streamed_found_and_the_same_bytes(api: Api) -> None:
    before_kb = server_memory_kb(api)
    for size_bytes in (1_000, 20_000_000, 60_000_000):
        data = picture(size_bytes)
        status, _, said = api.call(
            "PUT", "/v1/sensors/site1%2Fcam/blobs?name=camera&ts=-1m", pieces(data), Content_Type="image/png"
        )
        assert status == 201, said
        stored = json.loads(said)
        assert (stored["size_bytes"], stored["sha256"]) == (size_bytes, hashlib.sha256(data).hexdigest())
        status, headers, _ = api.call("GET", f"{stored['url']}?redirect=true")
        assert status == 307
        status, found, body = request("GET", headers["Location"])
        assert (status, found["Content-Type"], body == data) == (200, "image/png", True)
    added_kb = server_memory_kb(api) - before_kb
    assert added_kb < MOST_MEMORY_KB
    api.cli.run("flush")
    kept = [row["camera"] for row in api.readings("site1/cam").values()]
    assert kept[-1] == f"blob:{hashlib.sha256(picture(60_000_000)).hexdigest()}"
    assert len(kept) == 3


def test_a_blob_in_parts_by_presigned_links(api: Api) -> None:
    data = picture(20_000_000)
    digest = hashlib.sha256(data).hexdigest()
    announced = {
        "name": "vibration",
        "size_bytes": len(data),
        "sha256": digest,
        "content_type": "application/x-raw",
    }
    status, _, said = api.call(
        "POST", "/v1/sensors/site1/press/blobs/uploads", json.dumps(announced).encode()
    )
    assert status == 201, said
    begun = json.loads(said)
    start = 0
    for part in begun["parts"]:
        status, _, said = request("PUT", part["url"], data[start : start + part["size_bytes"]])
        assert status == 200, said
        start += part["size_bytes"]
    for _ in range(2):
        status, _, said = api.call("POST", begun["complete_url"])
        assert status == 201, said
    status, _, said = api.call("GET", json.loads(said)["url"])
    assert request("GET", json.loads(said)["url"])[2] == data
    api.cli.run("flush")
    assert [row["vibration.size_bytes"] for row in api.readings("site1/press").values()] == [20_000_000]
