"""`rejects ls`, `show` and `retry` as they are typed, against a deployment in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import rejects as commands
from cli.main import app
from ingest import gather, retry
from ingest.errors import ThermoclineError, Unavailable
from tests.reject_site import Site, given_up, reading
from tests.world import NOW_S, record


class Console:
    """The command line in this process, talking to the site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.door: retry.Invoke = site.door

    def target(self, _stack: str) -> Any:
        return SimpleNamespace(
            stores=lambda: SimpleNamespace(rejects=self.site.rejects), batch_door=lambda: self.door
        )

    def run(self, *arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, ["rejects", *arguments])
        assert done.exit_code == code, done.output
        return done

    def by_sensor(self) -> dict[str | None, dict[str, Any]]:
        """What is listed; the order within a date is that of the batches' names."""
        return {row.get("sensor_id"): row for row in self.rows("ls")}

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return json.loads(self.run(*arguments, "--format", "json", code=code).stdout)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    made = Console(Site())
    monkeypatch.setattr(commands, "find", made.target)
    monkeypatch.setattr(commands, "now_us", lambda: (made.site.now_s + 60) * 1_000_000)
    return made


@pytest.fixture
def fix() -> Iterator[Callable[[], None]]:
    """Until it is called, a release is deployed that refuses texts beyond 5 bytes."""
    with pytest.MonkeyPatch.context() as fault:
        fault.setattr(gather, "MOST_TEXT_BYTES", 5)
        yield fault.undo


def some(site: Site) -> None:
    """Two that a fix helps and one that none does."""
    site.store([record(1, reading("press-1", note="long enough"))])
    site.store([record(2, reading("press-2", note="long enough"))])
    site.store([record(3, b"{")])


def test_all_that_can_be_stored_leaves_the_list(console: Console, fix: Callable[[], None]) -> None:
    some(console.site)
    assert len(console.rows("ls")) == 3
    rows = console.rows("retry", "--all", code=5)
    assert {row["outcome"] for row in rows} == {"still rejected"}
    assert [row["why"] for row in rows] == [row["reason"] for row in rows]
    fix()
    done = console.run("retry", "--all", "--format", "json", code=5)
    outcomes = sorted((row["reason"], row["outcome"]) for row in json.loads(done.stdout))
    assert outcomes == [("not_json", "still rejected"), *[("reading_too_large", "stored")] * 2]
    assert "2 stored, 1 still rejected, 0 failed." in done.stderr
    assert [row["reason"] for row in console.rows("ls")] == ["not_json"]
    assert console.site.values("press-1", "note") == {NOW_S: "long enough"}


def test_by_reason_and_date(console: Console, fix: Callable[[], None]) -> None:
    some(console.site)
    fix()
    assert console.rows("retry", "--from", "2026-11-21") == []
    assert console.rows("retry", "--to", "2026-11-19") == []
    rows = console.rows(
        "retry", "--reason", "reading_too_large", "--from", "2026-11-20", "--to", "2026-11-20"
    )
    assert [row["outcome"] for row in rows] == ["stored", "stored"]
    assert console.rows("retry", "--reason", "reading_too_large") == []


def test_by_id_and_once_more(console: Console, fix: Callable[[], None]) -> None:
    some(console.site)
    listed = console.by_sensor()
    first, second, bad = listed["press-1"], listed["press-2"], listed[None]
    fix()
    assert [row["id"] for row in console.rows("retry", first["id"])] == [first["id"]]
    assert {row["id"] for row in console.rows("ls")} == {second["id"], bad["id"]}
    again, other = console.rows("retry", second["id"], first["id"])
    assert (again["id"], again["outcome"]) == (first["id"], "stored")
    assert again["why"] == "stored at 2026-11-20T22:01:00Z already"
    assert (other["id"], other["outcome"]) == (second["id"], "stored")
    shown = console.rows("show", first["id"])[0]
    assert shown["stored_again"] == "2026-11-20T22:01:00Z"
    assert "stored_again" not in console.rows("show", bad["id"])[0]
    assert console.run("show", first["id"], "--raw").stdout_bytes == reading("press-1", note="long enough")


def test_a_rehearsal_sends_nothing(console: Console) -> None:
    some(console.site)
    given_up(console.site, reading(a=1))
    done = console.run("retry", "--all", "--dry-run", "--format", "json")
    assert [row["reason"] for row in json.loads(done.stdout)] == ["batch_given_up", *["not_json"]]
    assert "would be retried" in done.stderr
    assert console.site.events == []


def test_a_batch_given_up_is_listed_shown_and_replayed(console: Console) -> None:
    given_up(console.site, reading(a=1), reading(at_s=NOW_S + 1, a=2))
    console.site.store([record(9, b"{")])
    console.site.now_s += 86_400
    listed, bad = console.rows("ls")
    assert bad["reason"] == "not_json"
    assert (listed["reason"], listed["count"], listed["arrived"]) == (
        "batch_given_up",
        2,
        "2026-11-20T22:00:00Z",
    )
    assert "RetryAttemptsExhausted" in listed["detail"]
    assert console.rows("ls", "--reason", "batch_given_up") == [listed]
    (shown,) = console.rows("show", listed["id"])
    assert "retry" in shown["meaning"]
    assert shown["object"].startswith("aws/lambda/")
    assert len(json.loads(console.run("show", listed["id"], "--raw").stdout)["Records"]) == 2
    assert [row["outcome"] for row in console.rows("retry", listed["id"])] == ["stored"]
    assert console.rows("ls") == [bad]
    assert console.site.values("press-7", "a") == {NOW_S: 1, NOW_S + 1: 2}
    console.run("retry", listed["id"], code=3)


def test_an_object_that_cannot_be_read_is_listed(console: Console) -> None:
    console.site.objects.put("aws/lambda/a1b2/odd", b"?", {})
    (row,) = console.rows("ls")
    assert "cannot be used" in row["detail"]
    assert row["count"] == 0
    (row,) = console.rows("retry", row["id"], code=1)
    assert row["outcome"] == "failed"
    assert len(console.rows("ls")) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        ([], 2, "say which"),
        (["an-id", "--all"], 2, "not both"),
        (["--from", "someday"], 2, "--from"),
        (["an-id"], 3, "rejects ls"),
    ],
)
def test_what_cannot_be_done_says_what_next(
    console: Console, arguments: list[str], code: int, says: str
) -> None:
    done = console.run("retry", *arguments, code=code)
    assert says in done.stderr
    assert done.stdout == ""


def test_an_unknown_id_among_known_ones_stops_before_anything_is_sent(console: Console) -> None:
    some(console.site)
    known = console.rows("ls")[0]["id"]
    assert "unknown" in console.run("retry", known, "unknown", code=3).stderr
    assert console.site.events == []


def test_a_function_that_fails_is_told_row_by_row(console: Console, fix: Callable[[], None]) -> None:
    some(console.site)
    fix()

    def door(event: Mapping[str, Any]) -> Mapping[str, Any]:
        if event["Records"]:
            raise Unavailable("Function store failed with Unavailable: throttled.")
        return console.site.door(event)

    console.door = door
    rows = console.rows("retry", "--all", code=1)
    assert [row["outcome"] for row in rows] == ["failed"] * 3
    assert "throttled" in rows[0]["why"]


def test_what_was_done_before_a_failure_is_told(console: Console, fix: Callable[[], None]) -> None:
    """The list cannot be changed any more after the first event: its rows are written all the same."""
    some(console.site)
    fix()
    marked = console.site.rejects.mark_stored

    def once(*arguments: Any) -> None:
        marked(*arguments)
        patch.setattr(console.site.rejects, "mark_stored", fails)

    def fails(*_: object) -> None:
        raise Unavailable("Writing object failed: SlowDown.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "MOST_PAYLOADS", 1)
        patch.setattr(console.site.rejects, "mark_stored", once)
        done = console.run("retry", "--all", "--format", "json", code=1)
    assert [row["outcome"] for row in json.loads(done.stdout)].count("stored") == 1
    assert "SlowDown" in done.stderr
    outcomes = [row["outcome"] for row in console.rows("retry", "--all", code=5)]
    assert sorted(outcomes) == ["still rejected", "stored"]


def test_an_older_deployment_is_refused_before_anything_is_sent(console: Console) -> None:
    some(console.site)
    console.door = lambda _: {"batchItemFailures": []}
    assert "Deploy" in console.run("retry", "--all", code=4).stderr


def test_the_help_teaches(console: Console) -> None:
    text = " ".join(console.run("retry", "--help").stdout.split())
    for word in ("--all", "--dry-run", "lambda:InvokeFunction", "Exit code 0", "batch_given_up"):
        assert word in text
    assert issubclass(Unavailable, ThermoclineError)
