"""What people change through the doors, on memory and on AWS's interface (the emulator): sensors and tokens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from ingest import keys, token
from ingest.errors import Conflict, NotFound, Refused, ThermoclineError, Unavailable
from ingest.sensor import Sensor
from ingest.stores import Registry, TokenStore
from ingest.stores.memory_api import MemoryRegistry, MemoryTokens
from ingest.stores.registry import DynamoRegistry
from ingest.stores.tokens import DynamoTokens, decode_token, encode_token
from ingest.token import Scope, Token
from tests import answered

on_both = pytest.mark.parametrize("target", ["memory", "emulator"])
NOW_S = 1_795_212_000
PRESS = Sensor("press-7", 5, "Press 7", {"t": "°C"}, {"site": "east"}, {"lat": 52.1, "lon": 5})


def _long() -> int:
    return 60_000


@pytest.fixture
def dynamodb(emulator_client: Callable[[str], Any]) -> Any:
    return emulator_client("dynamodb")


@pytest.fixture
def registry(target: str, request: pytest.FixtureRequest) -> Registry:
    if target == "memory":
        return MemoryRegistry()
    return DynamoRegistry(request.getfixturevalue("dynamodb"), request.getfixturevalue("table_name"))


# --- sensors ----------------------------------------------------------------------------


@on_both
class TestUpdate:
    def test_a_change_replaces_all_parts_and_counts(self, registry: Registry) -> None:
        registry.register({"press-7": 99}, _long)
        changed = registry.update(replace(PRESS, version=44), 1)
        assert changed == replace(PRESS, first_seen_ms=99, version=2)
        assert registry.get("press-7") == changed
        emptied = registry.update(Sensor("press-7", 0), 2)
        assert registry.get("press-7") == emptied == Sensor("press-7", 99, version=3)

    def test_another_version_is_a_conflict_that_shows_the_current_one(self, registry: Registry) -> None:
        registry.register({"press-7": 99}, _long)
        current = registry.update(PRESS, 1)
        for stale in (1, 3):
            with pytest.raises(Conflict, match="has version 2") as caught:
                registry.update(replace(PRESS, name="Other"), stale)
            assert caught.value.current == current
        assert registry.get("press-7") == current

    def test_none_adds_and_only_adds(self, registry: Registry) -> None:
        added = registry.update(replace(PRESS, version=9), None)
        assert added == registry.get("press-7") == replace(PRESS, version=1)
        with pytest.raises(Conflict, match="registered already") as caught:
            registry.update(replace(PRESS, name="Other"), None)
        assert caught.value.current == added

    def test_the_same_again_is_no_conflict(self, registry: Registry) -> None:
        added = registry.update(PRESS, None)
        assert registry.update(PRESS, None) == added
        changed = registry.update(replace(PRESS, name="Other"), 1)
        assert registry.update(replace(PRESS, name="Other", first_seen_ms=77), 1) == changed
        assert changed.version == 2

    def test_what_is_unknown_cannot_be_changed(self, registry: Registry) -> None:
        with pytest.raises(NotFound, match="absent"):
            registry.update(Sensor("absent", 1), 1)
        assert registry.get("absent") is None

    def test_of_many_at_once_one_wins(self, registry: Registry) -> None:
        registry.register({"press-7": 99}, _long)

        def change(number: int) -> Sensor | Conflict:
            try:
                return registry.update(Sensor("press-7", 0, f"name {number}"), 1)
            except Conflict as conflict:
                return conflict

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(change, range(16)))
        held = registry.get("press-7")
        assert [one for one in outcomes if isinstance(one, Sensor)] == [held]
        assert all(one.current == held for one in outcomes if isinstance(one, Conflict))


@on_both
class TestDelete:
    def test_what_was_deleted_is_unknown_and_comes_back_when_it_sends(self, registry: Registry) -> None:
        registry.register({"press-7": 99, "press-8": 98}, _long)
        held = registry.update(PRESS, 1)
        assert registry.delete("press-7") == held
        assert registry.get("press-7") is None
        assert registry.known(["press-7", "press-8"]) == {"press-8"}
        assert registry.register({"press-7": 100, "press-8": 100}, _long)[0] == 1
        assert registry.get("press-7") == Sensor("press-7", 100)

    def test_only_the_version_that_was_named(self, registry: Registry) -> None:
        registry.register({"press-7": 99}, _long)
        current = registry.update(PRESS, 1)
        with pytest.raises(Conflict) as caught:
            registry.delete("press-7", 1)
        assert caught.value.current == current
        assert registry.delete("press-7", 2) == current

    def test_what_is_unknown_cannot_be_deleted(self, registry: Registry) -> None:
        with pytest.raises(NotFound, match="absent"):
            registry.delete("absent")
        with pytest.raises(NotFound, match="absent"):
            registry.delete("absent", 1)


@on_both
class TestKnown:
    def test_known_are_those_that_are_registered(self, registry: Registry) -> None:
        names = [f"sensor-{i}" for i in range(230)]
        registry.register(dict.fromkeys(names[:200], 1), _long)
        assert registry.known(names) == set(names[:200])
        assert registry.known([]) == set()
        registry.update(Sensor("sensor-210", 1), None)
        assert registry.known(names) == {*names[:200], "sensor-210"}
        registry.delete("sensor-5")
        assert registry.known(names) == {*names[:200], "sensor-210"} - {"sensor-5"}


@on_both
class TestPage:
    def test_pages_together_are_all_of_them_whatever_their_size(self, registry: Registry) -> None:
        rng = random.Random(3)
        names = sorted({"".join(rng.choices("ab-/:._Z9", k=rng.randrange(1, 6))) for _ in range(300)})
        names = sorted({f"a{name}z" for name in names if ".." not in name and "//" not in name})
        registry.register(dict.fromkeys(names, 1), _long)
        for prefix, limit in (("", 1000), ("", 1), ("", 17), ("aa", 5), ("a-", 100), ("aZ9", 2), ("b", 3)):
            found: list[str] = []
            while page := registry.page(prefix, found[-1] if found else "", limit):
                assert len(page) <= limit
                found += [sensor.sensor_id for sensor in page]
                if limit == 1 and len(found) > 40:
                    break
            wanted = [name for name in names if name.startswith(prefix)]
            assert found == (wanted[: len(found)] if limit == 1 else wanted)
        assert [sensor.sensor_id for sensor in registry.all("aa")] == [n for n in names if n.startswith("aa")]

    def test_a_page_begins_behind_any_text(self, registry: Registry) -> None:
        registry.register(dict.fromkeys(["a", "a-", "a/b", "ab", "b", "z"], 1), _long)

        def ids(prefix: str, after: str, limit: int = 10) -> list[str]:
            return [sensor.sensor_id for sensor in registry.page(prefix, after, limit)]

        assert ids("", "a") == ["a-", "a/b", "ab", "b", "z"]
        assert ids("", "a~") == ["b", "z"]
        assert ids("a", "0") == ["a", "a-", "a/b", "ab"]
        assert ids("a", "b") == ids("a", "ab") == ids("", "z") == ids("", "~") == []
        assert ids("", "", 2) == ["a", "a-"]
        assert ids("", "", 0) == []


# --- what only AWS's interface can do ---------------------------------------------------


class _Wrapped:
    """A client whose calls go through `fate`, which is told the operation and how to make it."""

    def __init__(self, client: Any, fate: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._client = client
        self._fate = fate
        self.exceptions = client.exceptions
        self.meta = SimpleNamespace(
            events=SimpleNamespace(register=lambda *_, **__: None)
        )  # no shorter way past us

    def __getattr__(self, operation: str) -> Any:
        def call(**request: Any) -> Any:
            return self._fate(operation, partial(getattr(self._client, operation), **request))

        return call


def _twice(_operation: str, make: Callable[[], Any]) -> Any:
    """The answer to a request is lost, and botocore makes it again."""
    make()
    return make()


class TestOnDynamoDB:
    def test_requests_whose_answers_are_lost_change_once_and_report_no_conflict(
        self, dynamodb: Any, table_name: str
    ) -> None:
        registry = DynamoRegistry(_Wrapped(dynamodb, _twice), table_name)
        added = registry.update(PRESS, None)
        assert added == replace(PRESS, version=1)
        changed = registry.update(replace(PRESS, name="Other"), 1)
        assert changed == replace(PRESS, name="Other", version=2)
        assert registry.delete("press-7", 2) == changed
        assert registry.get("press-7") is None
        tokens = DynamoTokens(_Wrapped(dynamodb, _twice), table_name, bytes)
        tokens.put(TOKEN)
        assert tokens.revoke(TOKEN.id, NOW_S + 9) == replace(TOKEN, revoked_s=NOW_S + 9)

    def test_one_door_forgets_what_another_deleted(self, dynamodb: Any, table_name: str) -> None:
        door, people = DynamoRegistry(dynamodb, table_name), DynamoRegistry(dynamodb, table_name)
        assert door.register({"a": 1, "b": 1}, _long)[0] == 2
        assert door.register({"a": 2, "b": 2}, _long) == (0, 0.0)
        people.delete("a")
        assert door.known(["a", "b"]) == {"b"}
        assert door.register({"a": 3, "b": 3}, _long)[0] == 1
        assert people.get("a") == Sensor("a", 3)
        people.delete("b")
        people.delete("a")
        assert door.register({"a": 4, "b": 4}, _long)[0] == 2

    def test_who_is_remembered_costs_one_small_read(self, dynamodb: Any, table_name: str) -> None:
        calls: list[str] = []

        def told(operation: str, make: Callable[[], Any]) -> Any:
            calls.append(operation)
            return make()

        door = DynamoRegistry(_Wrapped(dynamodb, told), table_name)
        names = {f"s{i}": 1 for i in range(300)}
        door.register(names, _long)
        calls.clear()
        door.register(names, _long)
        assert door.known(names) == set(names)
        assert calls == ["get_item", "get_item"]

    def test_who_was_refused_is_known_as_soon_as_it_is_registered(
        self, dynamodb: Any, table_name: str
    ) -> None:
        door, people = DynamoRegistry(dynamodb, table_name), DynamoRegistry(dynamodb, table_name)
        assert door.known(["a"]) == set()
        people.update(Sensor("a", 1), None)
        assert door.known(["a"]) == {"a"}

    def test_known_reads_what_a_busy_table_leaves_unread(self, dynamodb: Any, table_name: str) -> None:
        def partly(operation: str, make: Callable[[], Any]) -> Any:
            answer = make()
            if operation == "batch_get_item":
                answer["Responses"][table_name] = answer["Responses"][table_name][:1]
            return answer

        DynamoRegistry(dynamodb, table_name).register({"a": 1, "b": 1, "c": 1}, _long)
        assert DynamoRegistry(_Wrapped(dynamodb, partly), table_name).known("abcd") == {"a", "b", "c"}

    def test_a_page_reads_about_as_many_as_it_gives(self, dynamodb: Any, table_name: str) -> None:
        read = Counter[str]()

        def told(operation: str, make: Callable[[], Any]) -> Any:
            answer = make()
            read["items"] += len(answer.get("Items", ()))
            read["calls"] += 1
            return answer

        DynamoRegistry(dynamodb, table_name).register({f"s{i:04d}": 1 for i in range(1_000)}, _long)
        registry = DynamoRegistry(_Wrapped(dynamodb, told), table_name)
        for limit, most in ((1, 16), (10, 70), (100, 250), (500, 800)):
            read.clear()
            assert len(registry.page("", "s0100", limit)) == limit
            assert read["items"] <= most
            assert read["calls"] <= 20

    def test_a_deletion_begins_again_where_the_sensor_is_changed_meanwhile(
        self, dynamodb: Any, table_name: str
    ) -> None:
        people = DynamoRegistry(dynamodb, table_name)
        people.update(PRESS, None)
        changes = iter([1, 2])

        def disturbed(operation: str, make: Callable[[], Any]) -> Any:
            if operation == "transact_write_items":
                version = next(changes, None)
                if version is not None:
                    people.update(replace(PRESS, name=f"name {version}"), version)
            return make()

        door = DynamoRegistry(_Wrapped(dynamodb, disturbed), table_name)
        assert door.delete("press-7").name == "name 2"
        people.update(PRESS, None)
        changes = iter([1])
        with pytest.raises(Conflict) as caught:
            door.delete("press-7", 1)
        assert caught.value.current == replace(PRESS, name="name 1", version=2)

    def test_no_access_is_said_and_a_busy_table_may_be_asked_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answered.without_waiting(monkeypatch)
        for code, kind in (("ThrottlingException", Unavailable), ("AccessDeniedException", ThermoclineError)):
            client = answered.client("dynamodb", lambda *_, code=code: answered.problem(400, code))
            registry, tokens = DynamoRegistry(client, "t"), DynamoTokens(client, "t", bytes)
            for call in (
                partial(registry.known, ["a"]),
                partial(registry.page, "", "", 5),
                partial(registry.update, PRESS, 1),
                partial(registry.update, PRESS, None),
                partial(registry.delete, "a"),
                partial(tokens.put, TOKEN),
                tokens.all,
                tokens.signing_key,
                partial(tokens.revoke, TOKEN.id, 1),
            ):
                with pytest.raises(kind, match=code):
                    call()


# --- tokens -----------------------------------------------------------------------------

TOKEN = Token("a" * 12, "f" * 64, (Scope("read"), Scope("write", "site1/")), "Grafana", NOW_S, NOW_S + 60)


def _no_randomness(count: int) -> bytes:
    raise AssertionError(f"{count} random bytes were taken although there is a key")


@pytest.fixture
def tokens(target: str, request: pytest.FixtureRequest) -> TokenStore:
    if target == "memory":
        return MemoryTokens()
    return DynamoTokens(request.getfixturevalue("dynamodb"), request.getfixturevalue("table_name"), bytes)


@on_both
class TestTokens:
    def test_a_token_comes_back_as_it_went_in(self, tokens: TokenStore) -> None:
        plain = Token("b" * 12, "0" * 64, (Scope("admin"),), "", NOW_S - 1)
        for one in (TOKEN, plain):
            tokens.put(one)
            tokens.put(one)
        assert tokens.get(TOKEN.id) == TOKEN
        assert tokens.all() == [plain, TOKEN]
        assert tokens.get("c" * 12) is None

    def test_an_id_is_given_once(self, tokens: TokenStore) -> None:
        tokens.put(TOKEN)
        with pytest.raises(Refused, match="already"):
            tokens.put(replace(TOKEN, scopes=(Scope("admin"),)))
        assert tokens.get(TOKEN.id) == TOKEN

    def test_revoking_is_for_good_and_keeps_its_first_time(self, tokens: TokenStore) -> None:
        tokens.put(TOKEN)
        revoked = tokens.revoke(TOKEN.id, NOW_S + 5)
        assert revoked == tokens.get(TOKEN.id) == replace(TOKEN, revoked_s=NOW_S + 5)
        assert tokens.revoke(TOKEN.id, NOW_S + 50) == revoked
        assert not token.is_valid(revoked, NOW_S)
        with pytest.raises(NotFound, match="token ls"):
            tokens.revoke("c" * 12, NOW_S)

    def test_a_signing_key_is_the_same_for_ever(self, tokens: TokenStore) -> None:
        assert tokens.signing_key() == tokens.signing_key()
        assert len(tokens.signing_key()) == 32
        assert tokens.all() == []


class TestTokensOnDynamoDB:
    def test_whoever_asks_first_makes_the_signing_key(self, dynamodb: Any, table_name: str) -> None:
        made = iter(bytes([i]) * 32 for i in range(1, 99))
        with ThreadPoolExecutor(8) as pool:
            stores = [DynamoTokens(dynamodb, table_name, lambda _: next(made)) for _ in range(8)]
            found = set(pool.map(lambda store: store.signing_key(), stores))
        assert len(found) == 1
        later = DynamoTokens(dynamodb, table_name, _no_randomness)
        assert {later.signing_key()} == found

    def test_a_key_whose_put_was_answered_with_an_error_is_read_again(
        self, dynamodb: Any, table_name: str
    ) -> None:
        store = DynamoTokens(_Wrapped(dynamodb, _twice), table_name, lambda count: b"k" * count)
        assert store.signing_key() == b"k" * 32

    def test_the_item_holds_no_secret_and_goes_30_days_after_it_ceased_to_count(
        self, dynamodb: Any, table_name: str
    ) -> None:
        text, kept = token.make(bytes(8), b"s" * 32, TOKEN.scopes, "note", NOW_S, NOW_S + 60)
        store = DynamoTokens(dynamodb, table_name, bytes)
        store.put(kept)
        (item,) = dynamodb.scan(TableName=table_name)["Items"]
        assert text.split("_", 2)[2] not in repr(item)
        assert item["pk"]["S"] == keys.TOKENS
        assert int(item["ttl"]["N"]) == NOW_S + 60 + 30 * 86_400
        store.revoke(kept.id, NOW_S + 7)
        (item,) = dynamodb.scan(TableName=table_name)["Items"]
        assert int(item["ttl"]["N"]) == NOW_S + 7 + 30 * 86_400
        assert decode_token(item) == replace(kept, revoked_s=NOW_S + 7)
        assert decode_token(encode_token(replace(kept, note="", expires_s=None))).expires_s is None
