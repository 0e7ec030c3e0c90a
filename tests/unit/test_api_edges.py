"""What a request meets at the edges: texts no encoding has, long cursors, empty ranges, lengths, early figures."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlencode

import pytest

from lambdas.api import VERSION
from lambdas.api.vitals import ENOUGH_S, vitals
from tests.api_doors import Doors, Request, bearer
from tests.api_world import sensor_path
from tests.world import NOW_S, NOW_US, readings

ROOT = Path(__file__).resolve().parents[2]
PATH = sensor_path("a/1")
SHA256 = "0" * 64


@pytest.fixture
def doors() -> Doors:
    made = Doors()
    for name in ("a/1", "a/10", "a/2"):
        made.api.world.send(readings(name, NOW_US - 40 * 86_400_000_000, 1_000_000, t=[1.5] * 700))
    return made


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/query"), ("POST", f"{PATH}/blobs/uploads"), ("PATCH", PATH), ("PUT", PATH)],
)
def test_half_a_character_as_a_name_is_refused_and_named(doors: Doors, method: str, path: str) -> None:
    answer = doors.both(Request(method, path, body=b'{"\\ud800": 1}', headers=bearer(doors.api, None)))
    assert answer.status == 422
    assert "ud800" in answer.json["errors"][0]["field"]


@pytest.mark.parametrize("path", ["/v1/sensors/a%2F1", "/v1/sensors", "/docs", "/health", "/nowhere"])
def test_a_head_says_how_long_the_body_is(doors: Doors, path: str) -> None:
    headers = bearer(doors.api, None)
    head, whole = (doors.server_answer(Request(method, path, headers=headers)) for method in ("HEAD", "GET"))
    assert head.body == b""
    assert head.headers["content-length"] == whole.headers["content-length"] == str(len(whole.body))


def test_a_label_may_hold_a_comma(doors: Doors) -> None:
    doors.change("PATCH", PATH, {"labels": {"place": "hall 1, left", "floor": "2"}})
    for query in ("label=place:hall+1,+left", "label=place:hall+1,+left&label=floor:2"):
        found = doors.get("/v1/sensors", query).json["sensors"]
        assert [one["sensor_id"] for one in found] == ["a/1"]
    assert doors.get("/v1/sensors", "label=place:hall+1").json["count"] == 0


def test_a_cursor_of_the_longest_question_can_be_used(doors: Doors) -> None:
    metrics = [*(f"m{number:02}".ljust(64, "x") for number in range(99)), "t"]
    body = {"sensors": ["a/1"], "from": "-50d", "metrics": metrics, "limit": 400}
    first = doors.change("POST", "/v1/query", body).json
    second = doors.change("POST", "/v1/query", body | {"cursor": first["next"]})
    assert second.status == 200
    assert (first["count"], second.json["count"], second.json["next"]) == (400, 300, None)
    page = doors.get(f"{PATH}/readings", f"from=-50d&limit=400&metric={','.join(metrics)}").json
    assert len(page["next_url"]) < 16_000
    path, _, query = page["next_url"].partition("?")
    assert doors.get(path, query).json["count"] == 300


def test_a_cursor_of_the_longest_labels_can_be_used(doors: Doors) -> None:
    labels = {f"l{number:02}": "\N{THERMOMETER}" * 200 for number in range(16)}
    for name in ("a/1", "a/2"):
        doors.change("PATCH", sensor_path(name), {"labels": labels})
    query = "limit=1&" + urlencode([("label", f"{name}:{text}") for name, text in labels.items()])
    first = doors.get("/v1/sensors", query).json
    assert (first["count"], first["truncated"]) == (1, True)
    path, _, query = first["next_url"].partition("?")
    assert [one["sensor_id"] for one in doors.get(path, query).json["sensors"]] == ["a/2"]


def test_a_cursor_whose_place_is_out_of_reach_begins_behind_it_without_a_gap(doors: Doors) -> None:
    body = {"prefix": "a/", "from": "-50d", "limit": 400}
    follow = doors.change("POST", "/v1/query", body).json["next"]
    other = doors.api.token("read:a/2")
    answer = doors.change("POST", "/v1/query", body | {"cursor": follow}, token=other).json
    assert [one["sensor_id"] for one in answer["results"]] == ["a/2"]
    assert answer["results"][0]["readings"][0]["timestamp"] == "2026-10-11T22:00:00Z"


def test_the_bytes_of_a_sensor_are_not_those_of_all_whose_ids_begin_alike(doors: Doors) -> None:
    doors.api.world.archive_all()
    told = {
        query: doors.get("/v1/archive/segments", query).json["prefix_bytes"]
        for query in ("prefix=a/1", "sensor=a/1", "sensor=a/10", "prefix=a/")
    }
    assert told["sensor=a/1"] > 0
    assert abs(told["prefix=a/1"] - told["sensor=a/1"] - told["sensor=a/10"]) <= 3
    assert told["sensor=a/1"] < told["prefix=a/"] / 2


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/v1/archive/segments", "from=now&to=-1h", "to"),
        ("/v1/archive/days", "from=-1h&to=-1h", "to"),
        ("/v1/archive/segments", "uploaded_from=now&uploaded_to=-1h", "uploaded_to"),
        ("/v1/rejects", "from=now&to=-1d", "to"),
        (f"{PATH}/readings", "from=now&to=-1d", "to"),
    ],
)
def test_a_range_that_ends_before_it_begins_is_refused(
    doors: Doors, path: str, query: str, field: str
) -> None:
    answer = doors.get(path, query)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)
    assert doors.get(path, "from=1990-01-01&to=1991-01-01").status == 200


def test_who_may_only_write_learns_of_a_patch_no_more_than_the_version(doors: Doors) -> None:
    doors.change("PATCH", PATH, {"name": "Boiler of the bank", "labels": {"k": "secret"}})
    answer = doors.change("PATCH", PATH, {}, token=doors.api.token("write:a/"))
    assert (answer.status, answer.json["sensor_id"], answer.headers["etag"]) == (
        200,
        "a/1",
        f'"{answer.json["version"]}"',
    )
    assert b"Boiler" not in answer.body
    assert b"secret" not in answer.body
    both = doors.change("PATCH", PATH, {}, token=doors.api.token("write:a/", "read:a/"))
    assert both.json["name"] == "Boiler of the bank"


def test_the_version_and_the_licence_are_those_of_the_project_without_any_metadata(doors: Doors) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = doors.get("/openapi.json", token="").json["info"]
    assert info["version"] == VERSION == project["version"]
    assert info["license"]["name"] == project["license"]
    assert project["version"].encode() in doors.get("/docs", token="").body


@pytest.mark.parametrize("member", ["ts", "content_type"])
def test_what_an_announcement_may_leave_out_may_be_null_and_the_document_says_so(
    doors: Doors, member: str
) -> None:
    body = {"name": "camera", "size_bytes": 1, "sha256": SHA256, member: None}
    assert doors.change("POST", f"{PATH}/blobs/uploads", body).status == 201
    route = doors.get("/openapi.json", token="").json["paths"]["/v1/sensors/{sensor_id}/blobs/uploads"]
    schema = route["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert "null" in schema["properties"][member]["type"]
    assert member not in schema["required"]


def test_a_month_is_not_told_from_a_moment() -> None:
    counted = {"readings": 360_000, "write_units": 3_000, "chunks": 200, "rejects": 0}
    early = vitals(counted, NOW_S, ENOUGH_S - 1, 0.625)["estimated_month_usd"]
    assert early["write_units"] is None
    assert "10 min" in early["basis"]
    assert vitals(counted, NOW_S, ENOUGH_S, 0.625)["estimated_month_usd"]["write_units"] == 8.1


def test_a_page_that_is_held_in_whatever_form_is_not_sent_again(doors: Doors) -> None:
    assert doors.get("/", token="", **{"if-none-match": "*"}).status == 304


@pytest.mark.parametrize(
    ("stated", "most", "method", "path"),
    [
        ("100,000", 100_000, "POST", "/v1/query"),
        ("1,000,000", 1_000_000, "PUT", PATH),
        ("5,000,000", 5_000_000, "POST", "/v1/readings"),
    ],
)
def test_the_longest_body_is_the_one_that_is_stated(
    doors: Doors, stated: str, most: int, method: str, path: str
) -> None:
    assert stated in doors.get("/openapi.json", token="").json["info"]["description"]
    headers = bearer(doors.api, None)
    within, over = (
        doors.lambda_answer(Request(method, path, body=b" " * size, headers=headers))
        for size in (most, most + 1)
    )
    assert (within.status, over.status) == (422, 413)
    assert over.json["most_bytes"] == most


def test_the_api_works_where_pydantic_is_not() -> None:
    program = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('pydantic', 'pydantic_core'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import json\n"
        "from tests.api_world import Api\n"
        "import lambdas.serve\n"
        "api = Api()\n"
        "answers = [api.call('GET', path).status for path in ('/v1/sensors', '/openapi.json', '/docs', '/no')]\n"
        "print(json.dumps(answers))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [200, 200, 200, 404]
