"""The registry's routes: lists by prefix and label, changes bound to the version, what a delete leaves."""

from __future__ import annotations

from typing import Any

import pytest

from lambdas.api.limits import CURSOR_LIFE_S, LATEST_MOST
from tests.api_doors import Doors
from tests.world import NOW_S, NOW_US, readings

PATH = "/v1/sensors/site%2Fone"


@pytest.fixture
def doors() -> Doors:
    return Doors()


def _register(doors: Doors, *names: str) -> None:
    doors.api.world.registry.register(dict.fromkeys(names, 1_000), lambda: 1)


def _ids(answer: Any) -> list[str]:
    return [sensor["sensor_id"] for sensor in answer.json["sensors"]]


def test_sensors_come_sorted_page_by_page_until_the_last(doors: Doors) -> None:
    names = [f"{site}/s{number:02}" for site in "ab" for number in range(25)]
    _register(doors, *reversed(names))
    seen: list[str] = []
    path, query, pages = "/v1/sensors", "limit=7", 0
    while True:
        answer = doors.get(path, query)
        body, pages = answer.json, pages + 1
        assert body["count"] == len(body["sensors"])
        assert body["truncated"] == (body["next"] is not None)
        seen += _ids(answer)
        if body["next_url"] is None:
            assert "link" not in answer.headers
            break
        assert answer.headers["link"] == f'<{body["next_url"]}>; rel="next"'
        path, _, query = body["next_url"].partition("?")
    assert (seen, pages) == (names, 8)


def test_a_cursor_carries_its_query_and_takes_no_other(doors: Doors) -> None:
    _register(doors, "a/1", "a/2", "a/3", "b/1")
    follow = doors.get("/v1/sensors", "limit=1&prefix=a/").json["next"]
    assert _ids(doors.get("/v1/sensors", f"cursor={follow}")) == ["a/2", "a/3"]
    assert _ids(doors.get("/v1/sensors", f"cursor={follow}&prefix=a/&limit=1")) == ["a/2"]
    assert doors.get("/v1/sensors", f"cursor={follow}&prefix=b/").json["errors"][0]["field"] == "cursor"
    assert doors.get("/v1/sensors", f"cursor={follow}&label=x:y").status == 400
    doors.api.world.now_s += CURSOR_LIFE_S
    assert doors.get("/v1/sensors", f"cursor={follow}").status == 400


def test_labels_choose_all_of_them_at_once(doors: Doors) -> None:
    for number in range(6):
        labels = {"floor": str(number % 2), "kind": "x:y" if number % 3 == 0 else "z"}
        assert doors.change("PUT", f"/v1/sensors/s{number}", {"labels": labels}).status == 201
    assert _ids(doors.get("/v1/sensors", "label=floor:0")) == ["s0", "s2", "s4"]
    assert _ids(doors.get("/v1/sensors", "label=floor:0&label=kind:x:y")) == ["s0"]
    page = doors.get("/v1/sensors", "label=floor:1&limit=2").json
    assert [page["count"], page["truncated"]] == [2, True]
    assert _ids(doors.get("/v1/sensors", f"cursor={page['next']}")) == ["s5"]
    assert doors.get("/v1/sensors", "label=floor").status == 422


def test_the_newest_readings_come_along_where_asked_for(doors: Doors) -> None:
    doors.api.world.send(readings("a/1", NOW_US - 5_000_000, 1_000_000, t=[1, 2.5], huge=[1, 10**37]))
    _register(doors, "a/2")
    one, other = doors.get("/v1/sensors", "latest=true").json["sensors"]
    assert one["latest"] == {"timestamp": "2026-11-20T21:59:56Z", "metrics": {"huge": 10**37, "t": 2.5}}
    assert other["latest"] is None
    assert "latest" not in doors.get("/v1/sensors").json["sensors"][0]
    assert (
        doors.get("/v1/sensors", f"latest=true&limit={LATEST_MOST + 1}").json["errors"][0]["field"] == "limit"
    )


def test_a_sensor_is_created_once_and_replaced_only_by_its_version(doors: Doors) -> None:
    made = doors.change("PUT", PATH, {"name": "One", "units": {"t": "°C"}})
    assert (made.status, made.json["version"], made.headers["etag"]) == (201, 1, '"1"')
    again = doors.change("PUT", PATH, {"name": "Two"})
    assert (again.status, again.json["type"]) == (428, "/docs#problem-version-required")
    assert again.json["current"]["name"] == "One"
    changed = doors.change("PUT", PATH, {"name": "Two"}, if_match='"1"')
    assert (changed.status, changed.json["version"], changed.json["units"]) == (200, 2, {})
    late = doors.change("PUT", PATH, {"name": "Three", "version": 1})
    assert (late.status, late.json["current"]["version"], late.headers["etag"]) == (409, 2, '"2"')
    assert doors.change("PUT", PATH, {"name": "Three", "version": 2}).json["version"] == 3
    assert doors.change("PUT", PATH, {"version": 2}, if_match='"3"').json["errors"][0]["field"] == "version"
    assert doors.change("PUT", PATH, {"name": "Four"}, if_match="*").json["version"] == 4
    assert doors.change("PUT", "/v1/sensors/unseen", {}, if_match='"1"').status == 404


def test_the_current_sensor_is_shown_only_to_those_who_may_read_it(doors: Doors) -> None:
    doors.change("PUT", PATH, {"name": "One"})
    writer = doors.api.token("write:site/")
    refused = doors.change("PUT", PATH, {"name": "Two"}, token=writer, if_match='"7"')
    assert (refused.status, refused.json["current"]) == (409, None)
    assert b"One" not in refused.body


def test_a_patch_changes_what_it_names_and_null_removes(doors: Doors) -> None:
    doors.change("PUT", PATH, {"name": "One", "labels": {"a": "1", "b": "2"}, "place": {"lat": 1, "lon": 2}})
    changed = doors.change("PATCH", PATH, {"labels": {"a": None, "c": "3"}}).json
    assert (changed["labels"], changed["name"], changed["version"]) == ({"b": "2", "c": "3"}, "One", 2)
    assert doors.change("PATCH", PATH, {"name": None, "place": None}, if_match="2").json["place"] == {}
    assert doors.change("PATCH", PATH, {"name": "x"}, if_match='"2"').status == 409
    assert doors.change("PATCH", "/v1/sensors/unseen", {"name": "x"}).status == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": 5}, "name"),
        ({"name": "x" * 129}, "name"),
        ({"name": "line\nbreak"}, "name"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": []}, "labels"),
        ({"units": {"t": "x" * 33}}, "units.t"),
        ({"place": {"lat": 91, "lon": 0}}, "place.lat"),
        ({"place": {"lat": 1}}, "place"),
        ({"nonsense": 1}, "'nonsense'"),
        ({"version": "1"}, "version"),
        ({"version": True}, "version"),
        ({"version": None}, "version"),
        ({"version": 0}, "version"),
    ],
)
def test_what_cannot_be_kept_is_named(doors: Doors, body: dict[str, Any], field: str) -> None:
    for method in ("PUT", "PATCH"):
        _register(doors, "site/one") if method == "PATCH" else None
        answer = doors.change(method, PATH, body)
        assert (answer.status, answer.json["type"]) == (422, "/docs#problem-invalid-body")
        assert answer.json["errors"][0]["field"] == field


def test_a_delete_says_what_remains(doors: Doors) -> None:
    world = doors.api.world
    world.send(readings("site/one", NOW_US - 40 * 86_400_000_000, 1_000_000, t=[1, 2]))
    world.archive_all()
    world.expire(world.now_s)
    world.send(readings("site/one", world.now_s * 1_000_000 - 5_000_000, 1_000_000, t=[1, 2]))
    assert doors.change("DELETE", PATH, if_match='"2"').status == 409
    answer = doors.change("DELETE", PATH, if_match='"1"')
    assert answer.json["deleted"] is True
    assert answer.json["remains"]["segments"] == 1
    assert answer.json["remains"]["hot_items"] >= 1
    assert doors.get(PATH).status == 404
    assert doors.change("DELETE", PATH).status == 404
    assert doors.get(f"{PATH}/readings", f"from=-60d&to={NOW_S + 90 * 86_400}").json["count"] > 0


def test_the_version_may_be_written_as_clients_do(doors: Doors) -> None:
    _register(doors, "site/one")
    for version, stated in enumerate(("1", '"2"', 'W/"3"', ' "4" '), start=1):
        answer = doors.change("PATCH", PATH, {"name": f"v{version}"}, if_match=stated)
        assert answer.status == 200, stated
    for stated in ("", "x", '"1", "2"', "-1", "1.0", "\u0661"):
        assert doors.change("PATCH", PATH, {"name": "x"}, if_match=stated).status == 422, stated
