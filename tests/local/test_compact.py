"""Compaction on the embedded stack: fewer segments, the same answers, nothing left behind, nothing to complain of."""

from __future__ import annotations

from tests.local.command import Cli

DAY = ("--from", "2026-01-05", "--to", "2026-01-06")


def test_a_date_is_compacted_and_answers_stay_the_same(stack: Cli) -> None:
    for part in range(2):
        start = f"2026-01-05T{6 * part:02d}:00:00Z"
        stack.run(
            "simulate",
            "--sensors",
            "4",
            "--rate",
            "0.1",
            "--duration",
            "20m",
            "--start",
            start,
            "--seed",
            "7",
        )
        stack.run("expire", "--now", "now+10d")
    sensors = [row["sensor_id"] for row in stack.json("sensors", "ls")][:1]
    before = [stack.rows(sensor, *DAY) for sensor in sensors]
    assert all(before)
    assert len(stack.json("archive", "ls")) == 2

    (plan,) = stack.json("archive", "compact", "--dry-run")
    assert (plan["date"], plan["segments"]) == ("2026-01-05", 2)
    assert len(stack.json("archive", "ls")) == 2

    (done,) = stack.json("archive", "compact")
    assert (done["segments_before"], done["segments_after"]) == (2, 1)
    assert done["rows_before"] == done["rows_after"]
    (segment,) = stack.json("archive", "ls")
    assert segment["rows"] == done["rows_after"]
    assert [stack.rows(sensor, *DAY) for sensor in sensors] == before
    stack.run("flush")

    stack.run("archive", "reindex")
    assert stack.json("archive", "ls") == [segment]
    assert stack.json("archive", "compact", "--grace", "0s") == []
    assert stack.json("archive", "ls") == [segment]
    assert [stack.rows(sensor, *DAY) for sensor in sensors] == before
    findings = {one["check"]: one["result"] for one in stack.json("doctor")}
    assert (findings["catalog"], findings["segments"]) == ("ok", "ok")
