"""What the API answers about readings: shapes, pages, cursors, limits, isolation; each problem names its field."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from ingest.keys import DAY_S, US
from ingest.reading import Run
from ingest.times import format_time
from lambdas.api import answers, limits
from tests.asking import Asking, Told
from tests.world import NOW_S, NOW_US, readings

PRESS = "hall/press-7"
HOUR_US = 3600 * US
WEEK = {"from_": format_time(NOW_US - 7 * DAY_S * US), "to": format_time(NOW_US + HOUR_US)}


def press(count: int = 100, start_us: int = NOW_US - HOUR_US, **metrics: list[Any]) -> Run:
    columns = metrics or {
        "a": [i + 0.25 for i in range(count)],
        "b": [i if i % 2 else None for i in range(count)],
    }
    return readings(PRESS, start_us, US, **columns)


@pytest.fixture
def api() -> Asking:
    """One sensor with a week: two hours that are only cold, two that are only hot."""
    asking = Asking()
    world = asking.world
    world.now_s = NOW_S - 6 * DAY_S
    world.send(press(50, NOW_US - 6 * DAY_S * US))
    world.archive_all()
    world.now_s = NOW_S + DAY_S // 2
    world.hot.expire(world.now_s + 2 * DAY_S)
    world.layout = world.layout.expired_early(5 * DAY_S)
    world.now_s = NOW_S
    world.send(
        press(), readings("hall/other", NOW_US - HOUR_US, US, a=[1, 2]), readings("yard/x", NOW_US, US, a=[3])
    )
    world.hot.save_layout(world.layout, world.hot.load_layout())
    return asking


def all_pages(api: Asking, first: Told) -> list[dict[str, Any]]:
    found = [first.json]
    while found[-1]["next_url"]:
        assert len(found) < 1_000
        found.append(api.follow(found[-1]["next_url"]).json)
    return found


# --- shapes -------------------------------------------------------------------------------------


def test_rows_come_with_everything_the_envelope_promises(api: Asking) -> None:
    answer = api.readings(PRESS, **WEEK)
    told = answer.json
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert (told["sensor_id"], told["from"], told["to"]) == (PRESS, WEEK["from_"], WEEK["to"])
    assert (told["count"], told["truncated"], told["next"], told["next_url"]) == (150, False, None, None)
    assert (told["metrics"], told["every"], told["units"], told["beyond_double"]) == (
        ["a", "b"],
        None,
        {},
        [],
    )
    assert (told["hot_rows"], told["cold_rows"]) == (100, 50)
    assert told["cost"]["items"] == 1
    assert told["cost"]["objects"] == 1
    assert told["readings"][0] == {"timestamp": format_time(NOW_US - 6 * DAY_S * US), "a": 0.25}
    assert told["readings"][-1] == {"timestamp": format_time(NOW_US - HOUR_US + 99 * US), "a": 99.25, "b": 99}
    assert "Link" not in answer.headers
    assert "tiers" not in told


def test_columns_hold_the_same(api: Asking) -> None:
    rows = api.readings(PRESS, **WEEK).json["readings"]
    told = api.readings(PRESS, shape="columns", **WEEK).json
    assert "readings" not in told
    assert [format_time(ts_us) for ts_us in told["ts_us"]] == [row["timestamp"] for row in rows]
    assert told["columns"] == {name: [row.get(name) for row in rows] for name in ("a", "b")}


def test_csv_and_ndjson_hold_the_same_and_say_in_headers_that_there_is_more(api: Asking) -> None:
    rows = api.readings(PRESS, limit=120, **WEEK).json["readings"]
    as_csv = api.readings(PRESS, limit=120, format="csv", **WEEK)
    assert as_csv.headers["Content-Type"].startswith("text/csv")
    listed = [{k: v for k, v in row.items() if v} for row in csv.DictReader(io.StringIO(as_csv.text))]
    assert listed == [{name: str(value) for name, value in row.items()} for row in rows]
    lines = api.readings(PRESS, limit=120, format="ndjson", **WEEK)
    assert lines.headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in lines.text.splitlines()] == rows
    for answer in (as_csv, lines):
        assert (answer.headers["X-Count"], answer.headers["X-Truncated"]) == ("120", "true")
        url = answer.headers["Link"].removeprefix("<").partition(">")[0]
        assert answer.headers["X-Next"] in url
        rest = api.follow(url)
        assert (rest.headers["X-Count"], rest.headers["X-Truncated"]) == ("30", "false")
        assert "X-Next" not in rest.headers


def test_windows_are_named_by_metric_and_aggregate(api: Asking) -> None:
    told = api.readings(PRESS, every="1h", agg="max,count", **WEEK).json
    assert (told["every"], told["count"]) == ("1h", 2)
    assert told["metrics"] == ["a_max", "a_count", "b_max", "b_count"]
    assert told["readings"][1] == {
        "timestamp": format_time(NOW_US - HOUR_US),
        "a_max": 99.25,
        "a_count": 100,
        "b_max": 99,
        "b_count": 50,
    }
    assert api.readings(PRESS, every="1h", **WEEK).json["metrics"] == ["a_mean", "b_mean"]


def test_newest_first_and_metrics_chosen(api: Asking) -> None:
    told = api.readings(PRESS, order="desc", metric="b", **WEEK).json
    assert [row["b"] for row in told["readings"]] == [*range(99, 0, -2), *range(49, 0, -2)]
    assert all(set(row) == {"timestamp", "b"} for row in told["readings"])
    windows = api.readings(PRESS, order="desc", every="10s", limit=3, **WEEK).json["readings"]
    assert [row["timestamp"] for row in windows] == [
        format_time(NOW_US - HOUR_US + second * US) for second in (90, 80, 70)
    ]


def test_units_are_those_of_the_registry(api: Asking) -> None:
    world = api.world
    held = world.registry.get(PRESS)
    assert held is not None
    held.units["a"] = "°C"
    assert api.readings(PRESS, **WEEK).json["units"] == {"a": "°C"}


def test_tiers_are_told_when_asked_for(api: Asking) -> None:
    found = api.readings(PRESS, tiers="true", **WEEK).json["tiers"]
    assert [stretch["tier"] for stretch in found] == ["cold", "hot"]
    assert found[0]["from"] <= format_time(NOW_US - 6 * DAY_S * US) < found[0]["to"]
    assert found[1]["from"] <= format_time(NOW_US - HOUR_US) < found[1]["to"]


def test_a_tier_alone(api: Asking) -> None:
    assert api.readings(PRESS, tier="hot", **WEEK).json["count"] == 100
    assert api.readings(PRESS, tier="cold", **WEEK).json["count"] == 50


def test_without_times_it_is_the_last_hour(api: Asking) -> None:
    told = api.readings(PRESS).json
    assert (told["from"], told["to"], told["count"]) == (
        format_time(NOW_US - HOUR_US),
        format_time(NOW_US),
        100,
    )


NUMBERS: list[Any] = [2**53 + 1, 10**37 + 1, -(2**63) - 1, 1e22, 1e-7, 5.0, 2**53, True, 'a\u2028"b</script>']


@pytest.mark.parametrize("shape", ["rows", "columns"])
def test_json_numbers_keep_every_digit_and_those_a_double_would_lose_are_named(shape: str) -> None:
    api = Asking()
    metrics = {f"m{i}": [value] for i, value in enumerate(NUMBERS)}
    api.world.send(readings(PRESS, NOW_US - US, US, **metrics))
    answer = api.readings(PRESS, shape=shape)
    told = answer.json
    row = told["readings"][0] if shape == "rows" else {n: c[0] for n, c in told["columns"].items()}
    assert [row[f"m{i}"] for i in range(len(NUMBERS))] == NUMBERS
    assert '"m5":5' in answer.text.replace("[", "").replace(".0", "?")
    assert told["beyond_double"] == ["m0", "m1", "m2"] or told["beyond_double"] == ["m0", "m1", "m2", "m3"]


def test_latest(api: Asking) -> None:
    world = api.world
    world.send(readings(PRESS, NOW_US, US, wide=[10**37 + 1], on=[False], text=["ü"]))
    told = api.get("/v1/sensors/hall%2Fpress-7/latest").json
    assert told == {
        "sensor_id": PRESS,
        "timestamp": format_time(NOW_US),
        "metrics": {"on": False, "text": "ü", "wide": 10**37 + 1},
    }
    world.registry.register({"hall/silent": 0}, lambda: 1_000)
    assert "no-readings" in api.get("/v1/sensors/hall%2Fsilent/latest").json["type"]
    missing = api.get("/v1/sensors/hall%2Fnobody/latest")
    assert (missing.status, missing.json["type"]) == (404, "/docs#problem-unknown-sensor")


def test_a_sensor_that_is_unknown_is_told_apart_from_one_without_readings(api: Asking) -> None:
    assert api.readings("hall/nobody").status == 404
    empty = api.readings(PRESS, from_="2010-01-01", to="2010-01-02").json
    assert (empty["count"], empty["readings"], empty["truncated"]) == (0, [], False)


# --- pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"order": "desc"}, {"every": "7s", "agg": "min,p50"}, {"shape": "columns"}]
)
def test_pages_together_are_the_whole(api: Asking, options: dict[str, str]) -> None:
    whole = api.readings(PRESS, **WEEK, **options).json
    pages = all_pages(api, api.readings(PRESS, limit=13, **WEEK, **options))
    assert len(pages) > 1
    assert all(page["truncated"] and page["count"] == 13 for page in pages[:-1])
    assert not pages[-1]["truncated"]
    if "shape" in options:
        assert [ts for page in pages for ts in page["ts_us"]] == whole["ts_us"]
    else:
        assert [row for page in pages for row in page["readings"]] == whole["readings"]
    assert sum(page["hot_rows"] for page in pages) == whole["hot_rows"]
    assert {(page["from"], page["to"]) for page in pages} == {(whole["from"], whole["to"])}


def test_a_cursor_alone_goes_on_and_keeps_what_the_times_meant(api: Asking) -> None:
    first = api.readings(PRESS, from_="-1h", limit=40)
    api.world.now_s += 3 * DAY_S
    api.world.now_s -= 3 * DAY_S - 600
    second = api.readings(PRESS, cursor=first.json["next"])
    again = api.readings(PRESS, cursor=first.json["next"], from_="-1h", limit=40)
    assert second.json["from"] == first.json["from"]
    assert second.json["readings"] == again.json["readings"]
    assert second.json["readings"][0]["a"] == 40.25
    assert second.json["count"] == 40


def test_a_cursor_is_refused_where_it_does_not_belong(api: Asking) -> None:
    cursor = api.readings(PRESS, limit=40).json["next"]
    refused_ones: list[dict[str, Any]] = [
        {"cursor": cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")},
        {"cursor": cursor, "limit": 41},
        {"cursor": cursor, "metric": "a"},
        {"cursor": cursor, "from_": "-2h"},
        {"cursor": "x"},
    ]
    for parameters in refused_ones:
        refused = api.readings(PRESS, **parameters)
        assert (refused.status, refused.json["type"]) == (400, "/docs#problem-invalid-cursor"), parameters
    assert api.readings("hall/other", cursor=cursor).status == 400
    api.world.now_s += 25 * 3600
    assert api.readings(PRESS, cursor=cursor).status == 400


def test_a_page_is_cut_to_what_an_answer_may_hold(api: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = api.readings(PRESS, **WEEK).json["readings"]
    kept = answers.write.__defaults__
    monkeypatch.setattr(answers.write, "__defaults__", (2_000,))
    for form in ("json", "ndjson", "csv"):
        first = api.readings(PRESS, format=form, **WEEK)
        url = first.headers["Link"].removeprefix("<").partition(">")[0]
        assert len(first.text) < 4_000
        if form == "json":
            pages = all_pages(api, first)
            assert [row for page in pages for row in page["readings"]] == whole
            assert sum(page["hot_rows"] for page in pages) == 100
        else:
            assert api.follow(url).status == 200
    assert kept == (limits.ANSWER_MOST_BYTES - answers.ENVELOPE_BYTES,)


# --- limits and problems --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "status", "code", "field"),
    [
        ({"from_": "yesterday"}, 422, "invalid-parameter", "from"),
        ({"to": "13h"}, 422, "invalid-parameter", "to"),
        ({"from_": "now", "to": "-1h"}, 422, "invalid-parameter", "to"),
        ({"from_": "1999-01-01", "to": "2026-01-01"}, 422, "range-too-long", "from"),
        ({"limit": 0}, 422, "invalid-parameter", "limit"),
        ({"limit": 100_001}, 422, "invalid-parameter", "limit"),
        ({"every": "1m", "limit": 20_001}, 422, "too-many-windows", "limit"),
        ({"every": "0s"}, 422, "invalid-parameter", "every"),
        ({"every": "5"}, 422, "invalid-parameter", "every"),
        ({"every": "1m", "agg": "avg"}, 422, "invalid-parameter", "agg"),
        ({"agg": "mean"}, 422, "invalid-parameter", "agg"),
        ({"metric": "no name"}, 422, "invalid-parameter", "metric"),
        ({"order": "up"}, 422, "invalid-parameter", "order"),
        ({"tier": "warm"}, 422, "invalid-parameter", "tier"),
        ({"format": "xml"}, 422, "invalid-parameter", "format"),
        ({"shape": "round"}, 422, "invalid-parameter", "shape"),
        ({"tiers": "yes"}, 422, "invalid-parameter", "tiers"),
        ({"form": "-1h"}, 422, "unknown-parameter", "form"),
    ],
)
def test_a_problem_names_its_field(
    api: Asking, parameters: dict[str, Any], status: int, code: str, field: str
) -> None:
    answer = api.readings(PRESS, **parameters)
    told = answer.json
    assert (answer.status, told["type"], told["errors"][0]["field"]) == (
        status,
        f"/docs#problem-{code}",
        field,
    )
    if code == "range-too-long":
        assert told["most_s"] == limits.RANGE_MOST_S
    assert not api.api.failures


# --- isolation ------------------------------------------------------------------------------------


def test_only_what_the_scope_covers(api: Asking) -> None:
    cursor = api.readings(PRESS, limit=40).json["next"]
    for scopes, status in (("read:yard/", 403), ("write:hall/", 403), (None, 401), ("read:hall/", 200)):
        for form in ("json", "csv", "ndjson"):
            answer = api.readings(PRESS, scopes, format=form)
            assert answer.status == status
        assert api.readings(PRESS, scopes, cursor=cursor).status == status
        assert api.get("/v1/sensors/hall%2Fpress-7/latest", scopes).status == status
        assert api.post("/v1/query", {"sensors": [PRESS, "hall/other"]}, scopes).status == status


# --- several sensors ------------------------------------------------------------------------------


def query_pages(api: Asking, body: dict[str, Any], scopes: str = "admin") -> list[dict[str, Any]]:
    found = [api.post("/v1/query", body, scopes).json]
    while found[-1]["next"]:
        assert len(found) < 500
        found.append(api.post("/v1/query", {**body, "cursor": found[-1]["next"]}, scopes).json)
    return found


def by_sensor(pages: list[dict[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for page in pages:
        for result in page["results"]:
            found.setdefault(result["sensor_id"], []).extend(result["readings"])
    return found


def test_several_sensors_in_the_order_asked(api: Asking) -> None:
    body = {
        "sensors": ["yard/x", PRESS, "hall/nobody"],
        "from": WEEK["from_"],
        "to": WEEK["to"],
        "tiers": True,
    }
    (told,) = query_pages(api, body)
    assert [result["sensor_id"] for result in told["results"]] == body["sensors"]
    assert [result["count"] for result in told["results"]] == [1, 150, 0]
    assert (told["count"], told["truncated"], told["next_url"]) == (151, False, None)
    assert told["results"][1]["readings"] == api.readings(PRESS, **WEEK).json["readings"]
    assert [stretch["tier"] for stretch in told["results"][1]["tiers"]] == ["cold", "hot"]
    assert told["cost"]["items"] == sum(result["cost"]["items"] for result in told["results"])


@pytest.mark.parametrize("limit", [1, 7, 60, 149, 150, 151])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_pages_of_several_sensors_together_are_the_whole(api: Asking, limit: int, order: str) -> None:
    for chosen in ({"sensors": ["yard/x", PRESS, "hall/other"]}, {"prefix": ""}, {"prefix": "hall/"}):
        body = {**chosen, "from": WEEK["from_"], "to": WEEK["to"], "order": order}
        (whole,) = query_pages(api, body)
        pages = query_pages(api, {**body, "limit": limit})
        assert by_sensor(pages) == by_sensor([whole])
        assert all(0 < page["count"] <= limit for page in pages[:-1])


def test_a_prefix_gives_what_may_be_read(api: Asking) -> None:
    times = {"from": WEEK["from_"], "to": WEEK["to"]}
    for scopes, prefix, expected in (
        ("admin", "", ["hall/other", PRESS, "yard/x"]),
        ("read:hall/", "", ["hall/other", PRESS]),
        ("read:hall/p read:yard/", "", [PRESS, "yard/x"]),
        ("read:hall/p", "hall/", [PRESS]),
        ("read:yard/", "hall/", []),
    ):
        assert list(by_sensor(query_pages(api, {"prefix": prefix, **times}, scopes))) == expected
        pages = query_pages(api, {"prefix": prefix, **times, "limit": 1}, scopes)
        assert [name for name, rows in by_sensor(pages).items() if rows] == expected


def test_a_cursor_of_several_sensors_is_bound_to_them_and_to_who_asks(api: Asking) -> None:
    body = {"prefix": "hall/", "from": "-1h", "limit": 5}
    cursor = api.post("/v1/query", body).json["next"]
    assert api.post("/v1/query", {**body, "cursor": cursor}).status == 200
    assert api.post("/v1/query", {**body, "prefix": "yard/", "cursor": cursor}).status == 400
    assert api.post("/v1/query", {"sensors": [PRESS], "cursor": cursor}).status == 400
    stranger = api.post("/v1/query", {**body, "cursor": cursor}, "read:yard/").json
    assert (stranger["results"], stranger["count"]) == ([], 0)


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ({}, "invalid-body", "sensors"),
        ({"sensors": [PRESS], "prefix": ""}, "invalid-body", "sensors"),
        ({"sensors": []}, "invalid-body", "sensors"),
        ({"sensors": PRESS}, "invalid-body", "sensors"),
        ({"sensors": ["no sensor"]}, "invalid-body", "sensors"),
        ({"sensors": [f"s{i}" for i in range(101)]}, "too-many-sensors", "sensors"),
        ({"sensors": [PRESS], "metrics": ["no name"]}, "invalid-body", "metrics"),
        ({"sensors": [PRESS], "from": 1.5}, "invalid-body", "from"),
        ({"sensors": [PRESS], "from": "then"}, "invalid-parameter", "from"),
        ({"sensors": [PRESS], "limit": True}, "invalid-body", "limit"),
        ({"sensors": [PRESS], "limit": 10**6}, "invalid-body", "limit"),
        ({"sensors": [PRESS], "tiers": 1}, "invalid-body", "tiers"),
        ({"sensors": [PRESS], "order": ["asc"]}, "invalid-body", "order"),
        ({"sensors": [PRESS], "every": 60}, "invalid-body", "every"),
        ({"sensors": [PRESS], "every": "1m", "agg": ["avg"]}, "invalid-parameter", "agg"),
        ({"sensors": [PRESS], "form": 1}, "invalid-body", "form"),
    ],
)
def test_a_body_that_is_wrong_is_named(api: Asking, body: dict[str, Any], code: str, field: str) -> None:
    answer = api.post("/v1/query", body)
    assert (answer.status, answer.json["type"]) == (422, f"/docs#problem-{code}")
    assert answer.json["errors"][0]["field"] == field
    assert not api.api.failures


def test_an_answer_about_many_sensors_is_cut_to_what_one_may_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    from lambdas.api import query

    api = Asking()
    names = [f"s{i:02d}" for i in range(12)]
    for name in names:
        api.world.send(readings(name, NOW_US - HOUR_US, US, a=list(range(100))))
    monkeypatch.setattr(query, "ANSWER_MOST_BYTES", 20_000 + 12_000)
    monkeypatch.setattr(answers, "ENVELOPE_BYTES", 1_000)
    pages = query_pages(api, {"sensors": names})
    assert len(pages) > 3
    assert {name: len(rows) for name, rows in by_sensor(pages).items()} == dict.fromkeys(names, 100)
    for page in pages:
        assert len(json.dumps(page)) < 20_000


def test_the_layout_is_read_anew_for_each_page() -> None:
    """A retention that was shortened a moment ago must not hide what moved to the cold tier."""
    api = Asking()
    world = api.world
    world.send(press())
    assert api.readings(PRESS).json["cold_rows"] == 0
    world.archive_all()
    world.hot.save_layout(world.layout.expired_early(8 * DAY_S), world.hot.load_layout())
    world.expire()
    world.now_s = NOW_S
    found = api.readings(PRESS).json
    assert (found["count"], found["hot_rows"], found["cold_rows"]) == (100, 0, 100)
