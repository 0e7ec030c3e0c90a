"""The API beside the local stack: there when `up` returns, back when it was killed, gone with the stack, and
one with what the deployed function answers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
import urllib.request
from collections.abc import Generator
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest

from tests import grafana
from tests.local.command import LIMIT_S, Cli, processes_of
from tests.local.violence import below

pytestmark = pytest.mark.local
START_S = 1_763_676_000
FIXED = ("now", "manifests_due", "oldest_due_s", "counters", "estimated_month_usd", "health", "cost")
"""What of an answer may differ from one call to the next."""


def ask(url: str, token: str | None = None, body: bytes | None = None) -> tuple[int, Any, dict[str, str]]:
    """Status, decoded body and headers of an answer."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            status, raw, told = answer.status, answer.read(), dict(answer.headers)
    except HTTPError as error:
        status, raw, told = error.code, error.read(), dict(error.headers)
    kind = told.get("content-type", told.get("Content-Type", ""))
    return status, json.loads(raw) if "json" in kind else raw, told


def link_in(text: str) -> tuple[str, str]:
    """The API's address and the token of a printed link."""
    found = re.search(r"(http://127\.0\.0\.1:\d+)/#token=(thc_\S+)", text)
    assert found, text
    return found[1], found[2]


def started(cli: Cli, *arguments: str) -> str:
    """What `up -d` says on stderr."""
    process = cli.start("up", "-d", *arguments)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, err
    assert out == ""
    return err


@contextlib.contextmanager
def running(cli: Cli, *arguments: str) -> Generator[str]:
    said = started(cli, *arguments)
    try:
        yield said
    finally:
        cli.run("down")


def api_pid(cli: Cli) -> int | None:
    (up,) = [int(line.split()[0]) for line in processes_of(cli.folder) if " cli.main up" in line]
    return next((one.pid for one in below(up) if "from lambdas import serve" in one.command), None)


def is_listening(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


def test_up_gives_an_api_and_prints_its_token_once(cli: Cli) -> None:
    with running(cli) as said:
        url, token = link_in(said)
        assert cli.json("status")["api_url"] == url
        assert ask(f"{url}/health")[1]["status"] == "ok"
        assert ask(f"{url}/v1/sensors")[0] == 401
        status, told, _ = ask(f"{url}/v1/status", token)
        assert status == 200
        assert told["counters"]["readings"] == 0
        assert told["estimated_month_usd"]["write_units"] is None, "too early to say"
        kept = [path for path in cli.folder.rglob("*") if path.is_file() and "/data/" not in str(path)]
        assert not [path for path in kept if token.encode() in path.read_bytes()], (
            "a token is shown, not kept"
        )
        (listed,) = json.loads(cli.run("token", "ls", "--format", "json"))
        assert (listed["scopes"], listed["state"]) == (["admin"], "valid")
    assert not is_listening(url)
    assert not processes_of(cli.folder)


def test_a_killed_api_comes_back_on_the_same_port_and_goes_when_the_stack_is_killed(cli: Cli) -> None:
    url, token = link_in(started(cli, "--window", "200ms"))
    before = api_pid(cli)
    assert before is not None
    os.kill(before, signal.SIGKILL)
    give_up = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError):
            if ask(f"{url}/v1/status", token)[0] == 200:
                break
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert api_pid(cli) not in (None, before)
    assert cli.json("status")["api_restarts"] == 1
    (up,) = [int(line.split()[0]) for line in processes_of(cli.folder) if " cli.main up" in line]
    os.kill(up, signal.SIGKILL)
    give_up = time.monotonic() + 20
    while processes_of(cli.folder):
        assert time.monotonic() < give_up, processes_of(cli.folder)
        time.sleep(0.05)
    assert not is_listening(url)


def test_a_port_that_is_taken_is_refused_and_an_api_can_be_left_out(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = cli.start("up", "--api-port", str(port))
        _, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 2, err
        assert f"Port {port} is in use" in err
        assert "--api-port" in err
    with running(cli, "--no-api") as said:
        assert "token" not in said
        assert cli.json("status")["api_url"] is None
        assert cli.start("dashboard", "--print").wait(30) == 3


def test_a_token_that_an_earlier_run_printed_no_longer_holds(cli: Cli) -> None:
    data = ("--data", str(cli.folder / "data"))
    with running(cli, *data) as said:
        _, first = link_in(said)
    with running(cli, *data) as said:
        url, second = link_in(said)
        assert ask(f"{url}/v1/status", first)[0] == 401
        assert ask(f"{url}/v1/status", second)[0] == 200


# --- one shared stack -------------------------------------------------------------------


def test_a_dashboard_s_link_opens_the_page_and_reads(stack: Cli) -> None:
    url, token = link_in(stack.run("dashboard", "--print"))
    status, page, headers = ask(f"{url}/")
    assert status == 200
    assert b"<html" in page
    assert "script-src 'self'" in headers.get("content-security-policy", "")
    assert ask(f"{url}/v1/sensors", token)[0] == 200
    elsewhere = stack.run("dashboard", "--print", "--url", "http://127.0.0.1:9999/")
    assert link_in(elsewhere)[0] == "http://127.0.0.1:9999"


def test_the_function_behind_the_gateway_answers_as_the_server_does(stack: Cli) -> None:
    stack.run("simulate", "--sensors", "3", "--duration", "60s", "--start", str(START_S))
    url, token = link_in(stack.run("dashboard", "--print"))
    state = json.loads((stack.folder / "run/thermocline/stack.json").read_text())
    (api_id,) = re.findall(r"//(\w+)\.execute-api\.", state["outputs"]["ApiUrl"])
    door = f"{state['endpoint_url']}/_aws/execute-api/{api_id}/$default"
    span = f"from={START_S}&to={START_S + 60}"
    for path in (
        "/health",
        "/openapi.json",
        "/docs",
        "/favicon.svg",
        "/v1/sensors?limit=2",
        "/v1/sensors/sim-0001",
        "/v1/sensors/sim-9999",
        f"/v1/sensors/sim-0001/readings?{span}",
        f"/v1/sensors/sim-0001/readings?{span}&every=10s&agg=mean,max&shape=columns&tiers=true",
        f"/v1/sensors/sim-0001/readings?{span}&format=csv",
        f"/v1/sensors/sim-0001/readings?{span}&limit=0",
        "/v1/sensors/sim-0001/latest",
        "/v1/archive/segments",
        "/v1/rejects",
        "/v1/status",
        "/v1/nothing",
    ):
        served, deployed = (ask(f"{place}{path}", token) for place in (url, door))
        assert served[0] == deployed[0], (path, served, deployed)
        assert lasting(served[1]) == lasting(deployed[1]), path
    sent = json.dumps({"sensor_id": "by-hand", "ts": START_S * 1000, "temperature": 1.5}).encode()
    assert ask(f"{door}/v1/readings", token, sent)[0] == 202
    assert ask(f"{url}/v1/readings", token, sent)[0] == 202
    stack.run("flush")
    assert len(stack.rows("by-hand", "--from", str(START_S), "--to", str(START_S + 1))) == 1


def lasting(body: Any) -> Any:
    """The answer without what differs from call to call: times, costs, counters, ids and signatures."""
    if isinstance(body, dict):
        gone = (*FIXED, "request_id", "next", "next_url")
        return {name: lasting(value) for name, value in body.items() if name not in gone}
    return [lasting(one) for one in body] if isinstance(body, list) else body


def test_serve_answers_for_the_running_stack_from_a_process_of_its_own(stack: Cli) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    _, token = link_in(stack.run("dashboard", "--print"))
    serving = stack.start("serve", "--port", str(port))
    try:
        give_up = time.monotonic() + 30
        while not is_listening(url):
            assert serving.poll() is None, serving.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.05)
        assert ask(f"{url}/v1/sensors")[0] == 401
        status, told, _ = ask(f"{url}/v1/status", token)
        assert status == 200
        assert told["counters"] is not None
        sent = json.dumps({"sensor_id": "by-serve", "ts": START_S * 1000, "temperature": 2.5}).encode()
        assert ask(f"{url}/v1/readings", token, sent)[0] == 202
    finally:
        serving.send_signal(signal.SIGTERM)
        out, err = serving.communicate(timeout=15)
    assert (serving.returncode, out) == (0, ""), err
    assert f"Serving {stack.json('status')['table']} at {url}" in err


def test_every_request_of_the_grafana_dashboard_gets_rows(stack: Cli) -> None:
    stack.run("simulate", "--sensors", "2", "--duration", "2m")
    url, token = link_in(stack.run("dashboard", "--print"))
    now_ms = int(time.time() * 1000)
    values = {
        "sensor": "sim-0001",
        "aggregate": "mean",
        "__from": str(now_ms - 600_000),
        "__to": str(now_ms + 60_000),
        "__interval_ms": "2000",
    }
    for name, target in grafana.targets():
        status, told, _ = ask(url + grafana.filled_in(target["url"], values), token)
        assert status == 200, (name, told)
        found = grafana.at(told, target["root_selector"])
        rows = found if isinstance(found, list) else [found]
        assert rows, name
        for column in target["columns"]:
            assert all(column["selector"] in row for row in rows), (name, column)
        if "/readings" in target["url"]:
            assert 55 <= len(rows) <= 65
            assert {"timestamp", "temperature_mean"} <= set(rows[0])
