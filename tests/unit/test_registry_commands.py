"""`sensors` and `token` as they are typed, against a deployment in memory."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cli import sensors as sensor_commands
from cli import token as token_commands
from ingest import token
from ingest.sensor import Sensor
from ingest.stores.memory_api import MemoryTokens
from tests.world import NOW_S, World, readings

ID = "press-7"


class Console(World):
    """The command line in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = MemoryTokens()

    def target(self, _stack: str) -> Any:
        return SimpleNamespace(stores=lambda: self)

    def run(self, *arguments: str, code: int = 0) -> Result:
        from cli.main import app

        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, done.output
        return done

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return json.loads(self.run(*arguments, "--format", "json", code=code).stdout)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Console:
    made = Console()
    made.hot.save_layout(made.layout, None)
    monkeypatch.setattr(sensor_commands, "find", made.target)
    monkeypatch.setattr(sensor_commands, "now_us", lambda: made.now_s * 1_000_000)
    monkeypatch.setattr(token_commands, "find", made.target)
    monkeypatch.setattr(token_commands, "now_s", lambda: made.now_s)
    return made


# --- sensors ----------------------------------------------------------------------------


class TestSensorsSet:
    def test_an_unknown_sensor_is_added(self, console: Console) -> None:
        done = console.run("sensors", "set", ID, "--name", "Press 7", "--format", "json")
        assert done.stderr == "press-7: added, version 1.\n"
        assert json.loads(done.stdout)[0]["name"] == "Press 7"
        assert console.registry.get(ID) == Sensor(ID, NOW_S * 1000, "Press 7")

    def test_only_what_is_named_changes(self, console: Console) -> None:
        console.registry.register({ID: 5}, lambda: 1)
        console.run("sensors", "set", ID, "--name", "Press 7", "--label", "site=east", "--label", "line=4")
        console.run(
            "sensors", "set", ID, "--unit", "temperature=°C", "--place", "lat=52.1,lon=5,room=2b, left"
        )
        done = console.run("sensors", "set", ID, "--label", "line=", "--label", "owner=a=b")
        assert done.stderr == "press-7: version 3 -> 4.\n"
        held = console.registry.get(ID)
        assert held == Sensor(
            ID,
            5,
            "Press 7",
            {"temperature": "°C"},
            {"site": "east", "owner": "a=b"},
            {"lat": 52.1, "lon": 5, "room": "2b, left"},
            4,
        )
        console.run(
            "sensors", "set", ID, "--name", "", "--unit", "temperature=", "--place", "room=,lat=,lon="
        )
        assert console.registry.get(ID) == Sensor(ID, 5, labels={"site": "east", "owner": "a=b"}, version=5)

    def test_nothing_to_change_changes_nothing(self, console: Console) -> None:
        console.run("sensors", "set", ID, "--name", "Press 7")
        done = console.run("sensors", "set", ID, "--name", "Press 7")
        assert "nothing to change, still version 1" in done.stderr
        assert console.run("sensors", "set", ID).exit_code == 0

    def test_a_version_that_is_past_is_refused_and_says_which_it_is(self, console: Console) -> None:
        console.run("sensors", "set", ID, "--name", "One")
        console.run("sensors", "set", ID, "--name", "Two", "--if-version", "1")
        done = console.run("sensors", "set", ID, "--name", "Three", "--if-version", "1", code=4)
        assert "has version 2, not 1" in done.stderr
        assert "--if-version 2" in done.stderr
        assert console.run("sensors", "set", ID, "--name", "Three", "--if-version", "0", code=4)
        held = console.registry.get(ID)
        assert held is not None
        assert held.name == "Two"
        console.run("sensors", "set", "other", "--if-version", "0")
        done = console.run("sensors", "set", "absent", "--if-version", "3", code=3)
        assert "Leave --if-version out" in done.stderr

    def test_somebody_elses_change_at_the_same_moment_is_kept(
        self, console: Console, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        console.registry.register({ID: 5}, lambda: 1)
        update = console.registry.update

        def late(sensor: Sensor, if_version: int | None) -> Sensor:
            update(Sensor(ID, 5, "Theirs"), if_version)
            return update(sensor, if_version)

        monkeypatch.setattr(console.registry, "update", _once(late, update))
        console.run("sensors", "set", ID, "--label", "site=east")
        assert console.registry.get(ID) == Sensor(ID, 5, "Theirs", labels={"site": "east"}, version=3)

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--label", "site"], "--label: 'site' is no pair; write it such as site=hall2"),
            (["--label", "a b=x"], "--label: 'a b' is no name"),
            (["--label", f"site={'x' * 257}"], "--label: site: 257 characters"),
            (["--unit", "°C=temperature"], "--unit:"),
            (["--place", "lat=north,lon=5"], "--place: lat=north is no number"),
            (["--place", "lat=91,lon=5"], "--place: lat: must be a number from -90 to 90"),
            (["--place", "lat=5"], "--place: lat and lon belong together"),
            (["--name", "x" * 129], "--name: 129 characters"),
        ],
    )
    def test_what_cannot_be_kept_names_the_option(
        self, console: Console, arguments: list[str], says: str
    ) -> None:
        done = console.run("sensors", "set", ID, *arguments, code=2)
        assert says in done.stderr
        assert done.stdout == ""
        assert console.registry.get(ID) is None

    def test_what_cannot_be_an_id_is_refused(self, console: Console) -> None:
        assert "SENSOR:" in console.run("sensors", "set", "a b", "--name", "x", code=2).stderr


def _once(first: Any, then: Any) -> Any:
    """A function that is `first` when it is called for the first time."""
    waiting = [first]

    def call(*arguments: Any) -> Any:
        return (waiting.pop() if waiting else then)(*arguments)

    return call


class TestSensorsLsAndShow:
    def test_listing_by_prefix_and_labels(self, console: Console) -> None:
        for name, label in (("a/1", "east"), ("a/2", "west"), ("b/1", "east")):
            console.run("sensors", "set", name, "--label", f"site={label}", "--label", "kind=press")
        assert [row["sensor_id"] for row in console.rows("sensors", "ls")] == ["a/1", "a/2", "b/1"]
        assert [row["sensor_id"] for row in console.rows("sensors", "ls", "--prefix", "a/")] == ["a/1", "a/2"]
        both = ("--label", "site:east", "--label", "kind:press")
        assert [row["sensor_id"] for row in console.rows("sensors", "ls", *both)] == ["a/1", "b/1"]
        assert console.rows("sensors", "ls", "--label", "site:north") == []
        assert "--label" in console.run("sensors", "ls", "--label", "east", code=2).stderr

    def test_showing_one(self, console: Console) -> None:
        console.run("sensors", "set", ID, "--unit", "t=°C", "--place", "lat=1,lon=2")
        (row,) = console.rows("sensors", "show", ID)
        assert (row["units"], row["place"], row["version"]) == ({"t": "°C"}, {"lat": 1, "lon": 2}, 1)
        assert "sensors ls" in console.run("sensors", "show", "absent", code=3).stderr


class TestSensorsRm:
    def test_it_says_what_remains_and_readings_are_still_found(self, console: Console) -> None:
        console.send(readings(ID, NOW_S * 1_000_000, 1_000_000, t=[1, 2]))
        (row,) = console.rows("sensors", "rm", ID, "--yes")
        assert row == {"sensor_id": ID, "deleted": True, "version": 1, "hot_items": 1, "segments": 0}
        assert console.registry.get(ID) is None
        assert len(console.found(ID).ts_us) == 2
        console.send(readings(ID, NOW_S * 1_000_000, 1_000_000, t=[1, 2]))
        console.archive_all()
        done = console.run("sensors", "rm", ID, "--yes", "--if-version", "1")
        assert "1 segments that may hold its readings stay" in done.stderr

    def test_nothing_goes_without_a_yes_or_at_another_version(self, console: Console) -> None:
        console.run("sensors", "set", ID)
        assert "--yes" in console.run("sensors", "rm", ID, code=4).stderr
        assert (
            "has version 1, not 2"
            in console.run("sensors", "rm", ID, "--yes", "--if-version", "2", code=4).stderr
        )
        assert console.run("sensors", "rm", "absent", "--yes", code=3)
        assert console.registry.get(ID) is not None


# --- tokens -----------------------------------------------------------------------------


class TestToken:
    def test_a_new_token_stands_alone_on_stdout_and_holds(self, console: Console) -> None:
        done = console.run(
            "token", "new", "--scope", "read:site1/", "--scope", "write:site1/", "--expires", "30d"
        )
        text = done.stdout.removesuffix("\n")
        found = token.parse(text)
        assert found is not None
        held = console.tokens.get(found[0])
        assert token.holds(held, found[1], NOW_S)
        assert not token.holds(held, found[1], NOW_S + 30 * 86_400)
        assert held is not None
        assert list(map(str, held.scopes)) == ["read:site1/", "write:site1/"]
        assert found[1] not in done.stderr
        assert "until 2026-12-20T22:00:00Z" in done.stderr

    def test_no_listing_shows_a_secret(self, console: Console) -> None:
        texts = [
            console.run("token", "new", "--scope", "admin", "--note", f"number {i}").stdout.strip()
            for i in range(3)
        ]
        assert len(set(texts)) == 3
        (secret, *_) = [text.split("_", 2)[2] for text in texts]
        name = texts[0].split("_")[1]
        listed = (
            console.run("token", "ls", "--format", "csv").stdout + console.run("token", "revoke", name).stdout
        )
        assert secret not in listed
        assert token.parse(texts[0]) is not None

    def test_revoking_by_id_or_by_the_token_itself(self, console: Console) -> None:
        first = console.run("token", "new", "--scope", "admin").stdout.strip()
        second = console.run("token", "new", "--scope", "read:", "--expires", "1h").stdout.strip()
        console.now_s += 60
        console.run("token", "revoke", first.split("_")[1])
        done = console.run("token", "revoke", second)
        assert "every door refuses it within 30 s" in done.stderr
        console.now_s += 60
        assert "was revoked at 2026-11-20T22:01:00Z already" in console.run("token", "revoke", second).stderr
        assert [row["state"] for row in console.rows("token", "ls")] == ["revoked", "revoked"]
        assert {row["revoked"] for row in console.rows("token", "ls")} == {"2026-11-20T22:01:00Z"}
        assert "token ls" in console.run("token", "revoke", "a" * 12, code=3).stderr
        assert "token ls" in console.run("token", "revoke", "nonsense", code=2).stderr

    def test_a_listing_tells_what_each_is_for(self, console: Console) -> None:
        console.run("token", "new", "--scope", "read:a", "--note", "screen", "--expires", "1h")
        console.now_s += 3_600
        (row,) = console.rows("token", "ls")
        assert (row["state"], row["scopes"], row["note"]) == ("expired", ["read:a"], "screen")
        assert (row["created"], row["expires"]) == ("2026-11-20T22:00:00Z", "2026-11-20T23:00:00Z")

    def test_a_prefix_that_covers_siblings_is_pointed_out(self, console: Console) -> None:
        assert "site10" in console.run("token", "new", "--scope", "read:site1").stderr
        assert "such as" not in console.run("token", "new", "--scope", "read:site1/").stderr

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--scope", "read"], "--scope: 'read' is no scope; use read:<prefix>"),
            (["--scope", "read:*"], "--scope: no sensor id begins with '*'"),
            ([], "--scope"),
            (["--scope", "admin", "--expires", "soon"], "--expires"),
            (["--scope", "admin", "--expires", "0s"], "--expires"),
            (["--scope", "admin", "--note", "x" * 201], "--note:"),
        ],
    )
    def test_what_cannot_be_made_names_the_option(
        self, console: Console, arguments: list[str], says: str
    ) -> None:
        done = console.run("token", "new", *arguments, code=2)
        assert says in done.stderr
        assert done.stdout == ""
        assert console.tokens.all() == []
