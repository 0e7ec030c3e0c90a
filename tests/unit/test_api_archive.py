"""The routes about the cold tier and about the state of the deployment, and whose bytes a segment holds."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.segment import encode
from ingest.segment_prefix import Share, may_begin_with, share
from lambdas.api.vitals import UNKNOWN, vitals
from tests.api_doors import Doors
from tests.world import NOW_S, NOW_US, readings

DAY_US = 86_400_000_000
SENSORS = ("a/1", "a/2", "b/1", "c/1")


def _archived() -> Doors:
    """Four sensors on three days, archived and gone from the table."""
    doors = Doors()
    for day in range(3):
        for name in SENSORS:
            doors.api.world.send(readings(name, NOW_US - (20 - day) * DAY_US, 1_000_000, t=[0.5] * 500))
    doors.api.world.archive_all()
    doors.api.world.expire(doors.api.world.now_s)
    return doors


@pytest.fixture(scope="module")
def doors() -> Doors:
    return _archived()


def test_segments_come_page_by_page_with_the_totals_of_all(doors: Doors) -> None:
    whole = doors.get("/v1/archive/segments").json
    assert whole["totals"]["segments"] == whole["count"] == len(whole["segments"]) >= 3
    assert whole["totals"]["rows"] == 3 * 4 * 500
    seen: list[Any] = []
    query = "limit=1&from=-90d"
    while query:
        page = doors.get("/v1/archive/segments", query).json
        seen += page["segments"]
        assert page["totals"] == whole["totals"]
        query = "" if page["next"] is None else f"cursor={page['next']}&limit=1"
    assert seen == whole["segments"]
    assert [one["date"] for one in seen] == sorted(one["date"] for one in seen)
    shown = doors.get(f"/v1/archive/segments/{seen[0]['id']}").json
    assert shown == seen[0]


def test_days_add_up(doors: Doors) -> None:
    days = doors.get("/v1/archive/days").json
    assert [day["date"] for day in days["days"]] == ["2026-10-31", "2026-11-01", "2026-11-02"]
    assert sum(day["rows"] for day in days["days"]) == days["totals"]["rows"] == 6_000
    one = doors.get("/v1/archive/days", "from=2026-11-01&to=2026-11-02").json
    assert [day["date"] for day in one["days"]] == ["2026-11-01"]


def test_the_bytes_of_prefixes_add_up_to_those_of_all(doors: Doors) -> None:
    def told(query: str) -> int:
        return doors.get("/v1/archive/segments", query).json["prefix_bytes"]

    everything = told("prefix=")
    parts = [told(f"prefix={one}") for one in ("a/", "b/", "c/")]
    total = doors.get("/v1/archive/segments").json["totals"]["size_bytes"]
    assert 0 < everything < total
    assert abs(sum(parts) - everything) <= 3 * len(parts)
    assert abs(told("sensor=a/1") + told("sensor=a/2") - parts[0]) <= 6
    assert told("prefix=nothing") == 0
    reader = doors.api.token("read:a/")
    mine = doors.get("/v1/archive/segments", "prefix=", token=reader).json
    assert mine["prefix_bytes"] == parts[0]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("from=2026-11-01&to=2026-11-02", 1),
        ("from=now%2B1d", 0),
        ("sensor=a/1", 3),
        ("sensor=z", 0),
        ("prefix=b/", 3),
        ("uploaded_from=now%2B1s", 0),
        ("uploaded_from=2026-01-01&uploaded_to=now%2B1s", 3),
        ("uploaded_to=2026-01-01", 0),
    ],
)
def test_segments_are_chosen_by_range_sensor_and_upload(doors: Doors, query: str, count: int) -> None:
    assert doors.get("/v1/archive/segments", query).json["totals"]["segments"] == count


@pytest.mark.parametrize("query", ["sensor=..", "sensor=a&prefix=b", "from=x", "uploaded_to=soon"])
def test_what_cannot_be_asked_is_refused(doors: Doors, query: str) -> None:
    assert doors.get("/v1/archive/segments", query).status == 422


def test_a_segment_whose_object_is_gone_has_no_link(doors: Doors) -> None:
    doors = _archived()
    segment = doors.get("/v1/archive/segments").json["segments"][0]
    doors.api.world.cold.delete([segment["name"]])
    assert doors.get(f"/v1/archive/segments/{segment['id']}/download").status == 404


def test_segments_past_their_retention_are_not_listed(doors: Doors) -> None:
    doors = _archived()
    doors.api.world.now_s += 6 * 365 * 86_400
    assert doors.get("/v1/archive/segments").json["count"] == 0


def test_shares_of_a_segment_follow_its_rows() -> None:
    runs = [readings(f"s{number}", NOW_US, 1_000_000, t=[number / 4] * 2_000) for number in range(8)]
    made = encode(runs)

    def read(start: int, end: int) -> bytes:
        return made.data[start:end]

    whole = share(read, len(made.data), made.footer_bytes, [""])
    assert (whole.rows, whole.estimated) == (16_000, False)
    assert 0 < whole.size_bytes < len(made.data)
    parts = [share(read, len(made.data), made.footer_bytes, [f"s{number}"]) for number in range(8)]
    assert [part.rows for part in parts] == [2_000] * 8
    assert abs(sum(part.size_bytes for part in parts) - whole.size_bytes) <= 8
    assert share(read, len(made.data), made.footer_bytes, ["t"]) == Share()
    assert share(read, len(made.data), made.footer_bytes, ["s1", "s2"]).rows == 4_000


@pytest.mark.parametrize(
    ("low", "high", "prefix", "may"),
    [
        ("a", "c", "b", True),
        ("a", "c", "", True),
        ("b/1", "b/9", "b/", True),
        ("b/1", "b/9", "b/5", True),
        ("b/6", "b/9", "b/5", False),
        ("c", "d", "b", False),
        ("a", "az", "b", False),
    ],
)
def test_what_may_begin_with_a_prefix(low: str, high: str, prefix: str, may: bool) -> None:
    assert may_begin_with(low, high, prefix) is may


# --- the state ---------------------------------------------------------------------------------


def test_the_state_tells_what_is_due_and_what_the_archive_holds(doors: Doors) -> None:
    state = doors.get("/v1/status").json
    assert (state["segment_rows"], state["manifests_due"], state["oldest_due_s"]) == (6_000, 0, None)
    assert (state["counters"], state["estimated_month_usd"]) == (None, None)
    late = Doors()
    late.api.world.send(readings("a", NOW_US, 1_000_000, t=[1]))
    late.api.world.now_s += 40 * 86_400
    state = late.get("/v1/status").json
    assert state["manifests_due"] == 1
    assert state["oldest_due_s"] > 38 * 86_400


def test_a_month_is_estimated_from_what_was_counted() -> None:
    counted = {"readings": 7_200_000, "write_units": 36_000.0, "chunks": 5.0, "rejects": 0}
    told = vitals(counted, NOW_S, 3_600, 0.625)
    assert told["counters"] == {
        "readings": 7_200_000,
        "chunks": 5,
        "write_units": 36_000,
        "rejects": 0,
        "readings_per_write_unit": 200.0,
        "since": "2026-11-20T22:00:00Z",
    }
    assert told["estimated_month_usd"]["write_units"] == 16.2  # 36,000 an hour, 720 hours
    assert vitals(counted, NOW_S, 3_600, None)["estimated_month_usd"] is None
    assert (
        vitals({"readings": 0, "write_units": 0}, None, None, 1.0)["counters"]["readings_per_write_unit"]
        is None
    )
    assert vitals({}, None, None, 1.0) == UNKNOWN
