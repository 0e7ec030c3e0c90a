"""Who may do what: nobody without valid credentials, and nothing of one prefix for a token of another."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any
from urllib.parse import quote

import pytest

from ingest import token
from ingest.reject import Reject
from ingest.token import Scope
from lambdas.api.auth import scopes_of_claims
from lambdas.api.limits import TOKEN_AGE_S
from tests.api_doors import Doors, Request
from tests.api_world import Answered
from tests.world import NOW_S, NOW_US, readings

FOREIGN = "b/hidden-sensor"
SECRETS = ("hidden", "424242.5", "leakmetric", "Leaky name")
"""What only tokens that read `b/` may see, whatever way they ask."""


def _world() -> Doors:
    """Sensors of two prefixes, hot and archived, with rejects of each."""
    doors = Doors()
    world = doors.api.world
    for name, metric, value in (("a/1", "t", 1.5), ("a/2", "t", 2.5), (FOREIGN, "leakmetric", 424242.5)):
        for start_us in (NOW_US - 30 * 86_400_000_000, NOW_US - 60_000_000):
            world.send(readings(name, start_us, 1_000_000, **{metric: [value] * 30}))
    sensor = world.registry.get(FOREIGN)
    assert sensor is not None
    doors.change(
        "PATCH", f"/v1/sensors/{quote(FOREIGN, safe='')}", {"name": "Leaky name", "labels": {"k": "v"}}
    )
    world.archive_all()
    world.expire(world.now_s)
    for name in ("a/1", FOREIGN, None):
        said = "hidden payload" if name != "a/1" else "own payload"
        world.rejects.keep(f"rejects/date=2026-11-20/{name and name[0]}.json.gz", [_reject(name, said)])
    return doors


def _reject(sensor_id: str | None, payload: str) -> Reject:
    raw = payload.encode()
    identity = ("own" if sensor_id == "a/1" else "hid").ljust(23, "x") + ("n" if sensor_id is None else "s")
    digest = hashlib.sha256(raw).hexdigest()
    return Reject(identity, "not_json", payload, "", "", "", "", NOW_S * 1000, sensor_id, 1, digest, raw)


@pytest.fixture(scope="module")
def doors() -> Doors:
    return _world()


def _operations(doors: Doors) -> list[tuple[str, str, dict[str, Any]]]:
    paths = doors.get("/openapi.json", token="").json["paths"]
    return [(method.upper(), path, one) for path, methods in paths.items() for method, one in methods.items()]


def _filled(path: str, sensor_id: str = FOREIGN) -> str:
    path = path.replace("{sensor_id}", quote(sensor_id, safe=""))
    return re.sub(r"\{\w+\}", "x", path)


def test_without_a_token_every_route_is_shut(doors: Doors) -> None:
    shut = 0
    for method, path, one in _operations(doors):
        if one.get("security") == []:
            continue
        for sensor_id in (FOREIGN, "a/1", "unknown"):
            answer = doors.both(Request(method, _filled(path, sensor_id), body=b"{}"))
            assert answer.status == 401, (method, path)
            assert "bearer" in answer.headers["www-authenticate"].lower()
            shut += 1
    assert shut > 40
    assert not doors.failed


def test_only_pages_without_data_are_open(doors: Doors) -> None:
    public = {path for _, path, one in _operations(doors) if one.get("security") == []}
    assert public == {"/", "/{file}", "/health", "/ping", "/openapi.json", "/docs"}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic YTpi",
        "Token thc_aaaaaaaaaaaa_" + "A" * 43,
        "Bearer thc_aaaaaaaaaaaa_" + "A" * 43,
        "bearer \u00ff",
        "x" * 10_000,
    ],
)
def test_what_is_no_valid_token_is_refused(doors: Doors, header: str) -> None:
    answer = doors.both(Request("GET", "/v1/status", headers={"authorization": header}))
    assert answer.status == 401


def test_another_secret_another_id_and_both_schemes(doors: Doors) -> None:
    _, identity, secret = doors.api.admin.split("_", 2)
    wrong = f"thc_{identity}_{'B' + secret[1:]}"
    assert doors.get("/v1/status", token=wrong).status == 401
    for scheme in ("Bearer", "bearer", "Token", "TOKEN"):
        request = Request("GET", "/v1/status", headers={"authorization": f"{scheme} {doors.api.admin}"})
        assert doors.both(request).status == 200


def test_a_token_stops_within_half_a_minute_of_its_revocation() -> None:
    doors = Doors()
    text = doors.api.token("read:")
    identity = text.split("_")[1]
    assert doors.get("/v1/status", token=text).status == 200
    doors.api.tokens.revoke(identity, NOW_S)
    doors.api.world.now_s += TOKEN_AGE_S
    assert doors.get("/v1/status", token=text).status == 401


def test_a_token_that_expires_is_refused_at_that_second() -> None:
    doors = Doors()
    text, kept = token.make(b"12345678", b"x" * 32, (Scope("admin"),), "", NOW_S, NOW_S + 10)
    doors.api.tokens.put(kept)
    doors.api.world.now_s += 9
    assert doors.get("/v1/status", token=text).status == 200
    doors.api.world.now_s += 1
    assert doors.get("/v1/status", token=text).status == 401


def test_a_new_token_works_at_once_though_it_was_asked_for_before() -> None:
    doors = Doors()
    text, kept = token.make(b"12345678", b"x" * 32, (Scope("admin"),), "", NOW_S)
    assert doors.get("/v1/status", token=text).status == 401
    doors.api.tokens.put(kept)
    assert doors.get("/v1/status", token=text).status == 200


# --- one prefix and another --------------------------------------------------------------------

QUERIES = (
    "",
    "prefix=",
    "prefix=b/",
    "limit=1",
    "latest=true",
    "prefix=b/hid",
    "sensor=a/1",
    "order=asc",
    "every=1h",
)


def test_a_token_of_one_prefix_sees_nothing_of_another(doors: Doors) -> None:
    """Every GET of every route, with every kind of query that lists: no trace, in whatever answer or cursor."""
    reader = doors.api.token("read:a/", "write:a/")
    asked = told = 0
    for method, path, one in _operations(doors):
        if method != "GET" or one.get("security") == []:
            continue
        for sensor_id in (FOREIGN, "a/1"):
            for query in (
                *QUERIES,
                f"sensor={quote(FOREIGN)}",
                "format=csv",
                "format=ndjson",
                "shape=columns",
            ):
                answer = doors.lambda_answer(
                    Request(
                        "GET", _filled(path, sensor_id), query, headers={"authorization": f"Bearer {reader}"}
                    )
                )
                if "{sensor_id}" in path and sensor_id == FOREIGN:
                    assert answer.status in (403, 422), (path, query, answer.body)
                    asked += 1
                    continue
                if "hidden" in query:
                    assert answer.status in (403, 422), (path, query, answer.body)
                else:
                    _holds_no_secret(answer)
                    told += answer.status == 200
                asked += 1
    assert asked > 100
    assert told > 50
    assert not doors.failed


def test_a_query_of_several_sensors_keeps_to_the_prefixes(doors: Doors) -> None:
    reader = {"authorization": f"Bearer {doors.api.token('read:a/')}"}
    span = {"from": "-60d", "to": "now+60d"}
    for asked in ({"sensors": [FOREIGN]}, {"sensors": ["a/1", FOREIGN]}):
        body = json.dumps(span | asked).encode()
        assert doors.both(Request("POST", "/v1/query", body=body, headers=reader)).status == 403
    for shape in ({}, {"shape": "columns"}, {"limit": 1}, {"every": "1d"}, {"tiers": True}):
        for prefix in ("", "a/", "b", "b/hid"):
            body = json.dumps(span | {"prefix": prefix} | shape).encode()
            _holds_no_secret(doors.both(Request("POST", "/v1/query", body=body, headers=reader)))


def _holds_no_secret(answer: Answered) -> None:
    text = answer.body.decode("utf-8", "replace") + str(dict(answer.headers))
    for shown in (text, *(_opened(word) for word in re.findall(r"[A-Za-z0-9_-]{40,}", text))):
        assert not [secret for secret in SECRETS if secret in shown], shown[:500]


def _opened(word: str) -> str:
    """What somebody reads who takes a cursor apart."""
    return base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode("latin-1")


def test_the_same_is_there_for_those_who_may(doors: Doors) -> None:
    """The check above can fail: the admin's answers hold what it looks for."""
    path = f"/v1/sensors/{quote(FOREIGN, safe='')}"
    assert b"Leaky name" in doors.get("/v1/sensors").body
    assert b"424242.5" in doors.get(f"{path}/readings", "from=-60d&to=now%2B60d").body
    assert b"leakmetric" in doors.get(f"{path}/latest").body
    assert b"hidden" in doors.get("/v1/archive/segments").body
    assert b"hidden payload" in doors.get("/v1/rejects", "from=-60d").body


def test_every_page_of_a_list_stays_within_the_prefixes(doors: Doors) -> None:
    reader = doors.api.token("read:a/")
    seen: list[str] = []
    url = "/v1/sensors?limit=1"
    while url:
        path, _, query = url.partition("?")
        page = doors.get(path, query, token=reader).json
        seen += [sensor["sensor_id"] for sensor in page["sensors"]]
        url = page["next_url"]
    assert seen == ["a/1", "a/2"]


def test_a_cursor_gives_its_finder_no_more_than_his_own_token(doors: Doors) -> None:
    follow = doors.get("/v1/sensors", "limit=1").json["next"]
    reader = doors.api.token("read:c/")
    assert doors.get("/v1/sensors", f"cursor={follow}", token=reader).json["sensors"] == []


@pytest.mark.parametrize("scopes", [["write:"], ["write:b/"], ["write:a/"]])
def test_who_may_only_write_reads_nothing(doors: Doors, scopes: list[str]) -> None:
    writer = doors.api.token(*scopes)
    for method, path, one in _operations(doors):
        if method == "GET" and one["x-scope"] in ("read", "admin"):
            answer = doors.get(_filled(path, "a/1"), token=writer)
            assert answer.status == 403, (path, answer.body)
            assert answer.json["type"] == "/docs#problem-forbidden"


def test_who_may_only_read_changes_nothing(doors: Doors) -> None:
    reader = doors.api.token("read:")
    for method, path, one in _operations(doors):
        if one["x-scope"] == "write":
            body = b'{"sensor_id":"a/1","ts":"2026-11-20T21:00:00Z","metrics":{"t":1}}'
            if path == "/api/v2/write":
                body = b"t,sensor=a/1 v=1"
            headers = {"authorization": f"Bearer {reader}"}
            answer = doors.lambda_answer(Request(method, _filled(path, "a/1"), body=body, headers=headers))
            assert answer.status == 403, (method, path, answer.body)
    assert doors.api.sent == []


def test_a_segment_is_downloaded_only_by_who_may_read_all_of_it(doors: Doors) -> None:
    reader, every, writer = (doors.api.token(scope) for scope in ("read:a/", "read:", "write:"))
    segment = doors.get("/v1/archive/segments").json["segments"][0]
    path = f"/v1/archive/segments/{segment['id']}"
    shown = doors.get(path, token=reader).json
    assert (shown["first_sensor"], shown["last_sensor"]) == (None, None)
    assert doors.get(path, token=every).json["last_sensor"] == FOREIGN
    assert doors.get(f"{path}/download", token=reader).status == 403
    assert doors.get(f"{path}/download", token=writer).status == 403
    link = doors.get(f"{path}/download", token=every)
    assert (link.status, link.json["sha256"]) == (200, segment["sha256"])
    redirected = doors.get(f"{path}/download", "redirect=true", token=every)
    assert (redirected.status, redirected.headers["location"]) == (307, link.json["url"])


def test_rejects_show_their_bytes_to_the_admin_alone(doors: Doors) -> None:
    reader = doors.api.token("read:a/")
    every = doors.api.token("read:")
    listed = doors.get("/v1/rejects", "from=-60d", token=reader).json["rejects"]
    assert [one["sensor_id"] for one in listed] == ["a/1"]
    named = doors.get("/v1/rejects", "from=-60d", token=every).json["rejects"]
    assert sorted(one["sensor_id"] for one in named) == ["a/1", FOREIGN]
    assert len(doors.get("/v1/rejects", "from=-60d").json["rejects"]) == 3
    path = f"/v1/rejects/{listed[0]['id']}"
    assert "payload_text" not in doors.get(path, token=reader).json
    assert doors.get(path).json["payload_text"] == "own payload"
    foreign = doors.get(f"/v1/rejects/{'hid'.ljust(23, 'x')}s", token=reader)
    unknown = doors.get(f"/v1/rejects/{'zzz'.ljust(23, 'x')}s", token=reader)
    assert (foreign.status, unknown.status) == (404, 404)


# --- an authorizer in front ----------------------------------------------------------------------


def test_claims_become_scopes() -> None:
    assert scopes_of_claims({"scope": "openid read:a/ write:b/ admin:x"}) == (
        Scope("read", "a/"),
        Scope("write", "b/"),
    )
    assert scopes_of_claims({"thermocline": "[read:x admin]", "scope": "write:"}) == (
        Scope("read", "x"),
        Scope("admin"),
    )
    assert scopes_of_claims({"scope": "openid admin", "scp": "admin", "sub": "admin"}) == ()
    assert scopes_of_claims({"thermocline": ["read:"], "scp": 5}) == (Scope("read"),)


@pytest.mark.parametrize(
    ("auth", "authorizer", "status"),
    [
        ("jwt", None, 401),
        ("jwt", {}, 401),
        ("jwt", {"iam": {"userArn": "x"}}, 401),
        ("jwt", {"jwt": {"claims": {"scope": "openid"}}}, 403),
        ("jwt", {"jwt": {"claims": {"scope": "read:b"}}}, 403),
        ("jwt", {"jwt": {"claims": {"scope": "read:a/"}}}, 404),
        ("iam", None, 401),
        ("iam", {"jwt": {"claims": {"scope": "admin"}}}, 401),
        ("iam", {"iam": {"userArn": "x"}}, 404),
        ("token", {"iam": {"userArn": "x"}}, 401),
    ],
)
def test_an_authorizer_is_believed_only_where_the_deployment_says_so(
    auth: str, authorizer: dict[str, Any] | None, status: int
) -> None:
    doors = Doors(auth=auth)
    answer = doors.lambda_answer(Request("GET", "/v1/sensors/a%2F1"), authorizer)
    assert answer.status == status
    header = {"authorization": f"Bearer {doors.api.admin}"}
    if auth != "token":
        assert doors.server_answer(Request("GET", "/v1/status", headers=header)).status == 401
