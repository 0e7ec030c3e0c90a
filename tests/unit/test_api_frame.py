"""What every route of the API shares, through both doors: errors, headers, methods, bodies, documentation."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from aws_lambda_powertools.event_handler.api_gateway import Router

from ingest.errors import Corrupt, Unavailable
from lambdas.api import app, pages
from lambdas.api.answer import json_answer
from lambdas.api.auth import Guard
from lambdas.api.operation import Answer, operation
from lambdas.api.problems import PROBLEMS
from lambdas.api.services import Services
from tests.api_doors import Doors, Request, bearer

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "errors", "request_id"}


@pytest.fixture(scope="module")
def doors() -> Doors:
    found = Doors()
    found.api.world.registry.register({"a/1": 1_000, "a/2": 2_000, "b/1": 3_000}, lambda: 1)
    return found


@pytest.mark.parametrize(
    ("method", "path", "query", "status", "code"),
    [
        ("GET", "/v1/sensors", "", 200, ""),
        ("GET", "/v1/sensors/a/1", "", 200, ""),
        ("GET", "/v1/sensors/a%2F1", "", 200, ""),
        ("GET", "/v1/sensors/a%2F9", "", 404, "unknown-sensor"),
        ("GET", "/v1/sensors/..%2F9", "", 422, "invalid-parameter"),
        ("GET", "/v1/sensors/%FF%22", "", 422, "invalid-parameter"),
        ("GET", "/v1/sensors", "limit=0", 422, "invalid-parameter"),
        ("GET", "/v1/sensors", "limit=1001", 422, "invalid-parameter"),
        ("GET", "/v1/sensors", "limit=%D9%A1", 422, "invalid-parameter"),
        ("GET", "/v1/sensors", "limit=1&limit=2", 422, "invalid-parameter"),
        ("GET", "/v1/sensors", "lmit=1", 422, "unknown-parameter"),
        ("GET", "/v1/sensors", "cursor=abc", 400, "invalid-cursor"),
        ("GET", "/v1/sensors", "latest=yes", 422, "invalid-parameter"),
        ("GET", "/v1/sensors", "prefix=" + "x" * 9_000, 422, "invalid-parameter"),
        ("GET", "/v1/status", "", 200, ""),
        ("GET", "/v1/archive/segments", "from=yesterday", 422, "invalid-parameter"),
        ("GET", "/v1/archive/segments", "", 200, ""),
        ("GET", "/v1/archive/days", "", 200, ""),
        ("GET", "/v1/archive/segments/2013-12-02.abc", "", 404, "unknown-segment"),
        ("GET", "/v1/archive/segments/x", "", 404, "unknown-segment"),
        ("GET", "/v1/rejects", "", 200, ""),
        ("GET", "/v1/rejects", "from=2000-01-01", 422, "range-too-long"),
        ("GET", "/v1/rejects/nothing", "", 404, "unknown-reject"),
        ("GET", "/v1/nothing", "", 404, "unknown-route"),
        ("GET", "/v1/nothing/é/../x", "", 404, "unknown-route"),
        ("POST", "/v1/status", "", 405, "method-not-allowed"),
        ("TRACE", "/v1/status", "", 405, "method-not-allowed"),
        ("DELETE", "/health", "", 405, "method-not-allowed"),
        ("GET", "/v1/sensors/a%2F1/blobs/uploads", "", 405, "method-not-allowed"),
        ("GET", "/health", "whatever=1", 200, ""),
        ("GET", "/ping", "", 204, ""),
        ("GET", "/openapi.json", "", 200, ""),
        ("GET", "/docs", "", 200, ""),
        ("GET", "/", "", 200, ""),
        ("GET", "/nothing.js", "", 404, "unknown-route"),
        ("GET", "/..%2Fserve.py", "", 404, "unknown-route"),
    ],
)
def test_both_doors_answer_alike(
    doors: Doors, method: str, path: str, query: str, status: int, code: str
) -> None:
    answer = doors.both(Request(method, path, query, headers=bearer(doors.api, None)))
    assert answer.status == status, answer.body
    if code:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"] == f"/docs#problem-{code}"
        assert answer.json.keys() >= PROBLEM_MEMBERS
        assert (answer.json["status"], answer.json["title"]) == PROBLEMS[code][:2]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"] == "r1"


def test_an_error_names_the_field_and_the_next_step(doors: Doors) -> None:
    answer = doors.get("/v1/sensors", "lmit=1").json
    assert answer["errors"][0]["field"] == "lmit"
    assert "Did you mean limit?" in answer["detail"]
    answer = doors.get("/v1/archive/segments", "from=yesterday").json
    assert answer["errors"][0]["field"] == "from"
    assert "-1h" in answer["detail"]


def test_a_head_is_a_get_without_its_body(doors: Doors) -> None:
    answer = doors.both(Request("HEAD", "/v1/sensors/a/1", headers=bearer(doors.api, None)))
    assert (answer.status, answer.body, answer.headers["etag"]) == (200, b"", '"1"')


def test_a_refused_method_says_which_are_allowed(doors: Doors) -> None:
    answer = doors.both(Request("POST", "/v1/sensors/a%2F1", headers=bearer(doors.api, None)))
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"


def test_gzip_is_sent_to_those_who_take_it(doors: Doors) -> None:
    packed = doors.get("/openapi.json", accept_encoding="identity")
    assert "content-encoding" not in packed.headers
    for accepted in ("gzip", "br, GZIP;q=0.5", "*"):
        found = doors.get("/openapi.json", **{"accept-encoding": accepted})
        assert found.headers["content-encoding"] == "gzip"
        assert found.body == packed.body
    assert "content-encoding" not in doors.get("/openapi.json", **{"accept-encoding": "gzip;q=0"}).headers


def test_pages_come_under_a_strict_policy_and_need_not_be_sent_twice(doors: Doors) -> None:
    answer = doors.get("/", token="")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert doors.get("/", token="", **{"if-none-match": answer.headers["etag"]}).status == 304
    names = {path.name for path in pages.FOLDER.iterdir() if path.suffix in pages.TYPES}
    for name in names:
        answer = doors.get(f"/{name}", token="")
        assert (answer.status, answer.body) == (200, (pages.FOLDER / name).read_bytes())
    assert doors.get("/uplot.js", token="").body == (pages.FOLDER / "uPlot.iife.min.js").read_bytes()


def test_the_log_gets_a_line_for_each_answer_and_no_id(doors: Doors) -> None:
    doors.logged.clear()
    doors.get("/v1/sensors/a%2F1", token="")
    doors.get("/v1/elsewhere/a%2F1")
    assert [line[:3] for line in doors.logged] == [
        *[("GET", "/v1/sensors/{sensor_id}", 401)] * 2,
        *[("GET", "none", 404)] * 2,
    ]


# --- errors of ours ---------------------------------------------------------------------------


class Failing:
    """A layout that cannot be read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unavailable("the table did not answer"), 503, "unavailable"),
        (Corrupt("a chunk is damaged"), 500, "corrupt"),
        (ZeroDivisionError("secret"), 500, "internal"),
    ],
)
def test_a_failure_is_told_and_logged_but_not_what_it_holds(error: Exception, status: int, code: str) -> None:
    doors = Doors(layout=Failing(error))
    answer = doors.get("/v1/status")
    assert (answer.status, answer.json["type"]) == (status, f"/docs#problem-{code}")
    assert b"secret" not in answer.body
    assert doors.failed == ([] if status == 503 else [error, error])
    assert answer.headers.get("retry-after") == ("2" if status == 503 else None)


def test_influx_paths_answer_errors_as_influxdb_does(doors: Doors) -> None:
    answer = doors.both(Request("POST", "/api/v2/write", body=b"x y=1"))
    assert answer.status == 401
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["code"] == "unauthorized"
    assert answer.json["message"]


# --- what a server does beside a function -------------------------------------------------------


def test_requests_are_answered_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=20)
    doors = Doors()
    layout = doors.api.world.layout

    def met() -> Any:
        meeting.wait()
        return layout

    doors = Doors(doors.api, layout=met)
    request = Request("GET", "/v1/status", headers=bearer(doors.api, None))

    async def several() -> list[Any]:
        return list(await asyncio.gather(*[doors.ask(request) for _ in range(4)]))

    assert [answer.status for answer in asyncio.run(several())] == [200] * 4


def test_a_body_is_read_only_once_it_is_wanted_and_only_so_far() -> None:
    doors = Doors()
    endless = [b"x" * 65_536] * 2_000
    stranger = doors.server_answer(Request("PUT", "/v1/sensors/a%2F1"), endless)
    assert stranger.status == 401
    known = Request("PUT", "/v1/sensors/a%2F1", headers=bearer(doors.api, None))
    assert doors.server_answer(known, endless).json["type"] == "/docs#problem-body-too-large"


def test_a_body_in_pieces_is_one_body() -> None:
    doors = Doors()
    raw = json.dumps({"name": "Kessel é"}).encode()
    request = Request("PUT", "/v1/sensors/a%2F1", headers=bearer(doors.api, None))
    answer = doors.server_answer(request, [raw[place : place + 1] for place in range(len(raw))])
    assert (answer.status, answer.json["name"]) == (201, "Kessel é")


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"name": NaN}', b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    doors = Doors()
    answer = doors.both(Request("PUT", "/v1/sensors/a%2F1", body=body, headers=bearer(doors.api, None)))
    assert (answer.status, answer.json["type"]) == (422, "/docs#problem-invalid-body")


# --- what is forgotten is denied ------------------------------------------------------------------


class Careless:
    """A module with a route that asks nobody."""

    @staticmethod
    def routes(services: Services, guard: Guard) -> Router:
        router = Router()

        @router.get("/v1/careless")
        @operation("careless", tag="service", summary="", needs="read", answers={200: Answer("", {})})
        def careless() -> Any:
            return json_answer({"everything": "told"})

        return router


def test_a_route_that_did_not_ask_who_calls_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MODULES", (Careless,))
    answer = Doors().get("/v1/careless")
    assert answer.status == 500
    assert b"told" not in answer.body


class Undeclared:
    """A module with a route that does not say what it needs."""

    @staticmethod
    def routes(services: Services, guard: Guard) -> Router:
        router = Router()
        router.get("/v1/undeclared")(dict)
        return router


def test_a_route_that_declares_nothing_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MODULES", (Undeclared,))
    with pytest.raises(TypeError, match="/v1/undeclared"):
        Doors()


# --- documentation ----------------------------------------------------------------------------


def test_the_document_tells_limits_answers_and_security_of_every_route(doors: Doors) -> None:
    document = doors.get("/openapi.json", token="").json
    assert document["openapi"].startswith("3.1")
    ids: list[str] = []
    for path, methods in document["paths"].items():
        for one in methods.values():
            ids.append(one["operationId"])
            public = one.get("security") == []
            assert public or {"401", "403", "422", "500", "503"} <= one["responses"].keys(), path
            stated = {
                parameter["name"] for parameter in one.get("parameters", ()) if parameter["in"] == "path"
            }
            assert stated == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path
            for parameter in one.get("parameters", ()):
                assert parameter["description"]
                assert parameter["schema"]
    assert len(ids) == len(set(ids))
    assert {"readReadings", "query", "listSensors", "status", "downloadSegment"} <= set(ids)


def test_every_reference_of_the_document_leads_somewhere(doors: Doors) -> None:
    raw = doors.get("/openapi.json", token="").json

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                found: Any = raw
                for part in node["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(raw)


def test_the_docs_page_has_every_route_and_code_and_no_script(doors: Doors) -> None:
    document = doors.get("/openapi.json", token="").json
    page = doors.get("/docs", token="")
    text = page.body.decode()
    assert "<script" not in text
    assert "script-src" not in page.headers["content-security-policy"]
    for methods in document["paths"].values():
        for one in methods.values():
            assert f'id="{one["operationId"]}"' in text
    for code in PROBLEMS:
        assert f'id="problem-{code}"' in text
