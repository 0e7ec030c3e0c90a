"""Tokens and scopes: what a token's text gives away, what is kept, and that prefixes keep deployments' users apart."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import token
from ingest.errors import BadInput
from ingest.token import Scope, Token

NOW_S = 1_795_212_000
READ_ALL = (Scope("read"),)

ids = st.binary(min_size=8, max_size=8)
secrets = st.binary(min_size=32, max_size=32)
names = st.from_regex(r"a[ab/]{0,3}|[a1][a1/:.-]{0,6}", fullmatch=True)
scopes = st.builds(Scope, st.sampled_from(["read", "write"]), st.one_of(st.just(""), names))
actions = st.sampled_from(["read", "write"])


class TestToken:
    @given(ids, secrets)
    def test_what_was_made_is_read_back_and_holds(self, identity: bytes, secret: bytes) -> None:
        text, kept = token.make(identity, secret, READ_ALL, "a note", NOW_S, NOW_S + 60)
        found = token.parse(text)
        assert found is not None
        assert found[0] == kept.id
        assert token.is_token_id(kept.id)
        assert token.holds(kept, found[1], NOW_S + 59.9)
        assert not token.holds(kept, found[1], NOW_S + 60)
        assert not token.holds(None, found[1], NOW_S)

    @given(ids, secrets)
    def test_nothing_that_is_kept_tells_the_secret(self, identity: bytes, secret: bytes) -> None:
        text, kept = token.make(identity, secret, READ_ALL, "", NOW_S)
        shown = text.split("_", 2)[2]
        for told in (repr(kept), str(kept)):
            assert shown not in told
            assert secret.hex() not in told
            assert base64.b64encode(secret).decode() not in told

    @given(ids, secrets, st.integers(0, 59), st.characters(codec="ascii"))
    def test_a_changed_text_never_holds(self, identity: bytes, secret: bytes, at: int, other: str) -> None:
        text, kept = token.make(identity, secret, READ_ALL, "", NOW_S)
        changed = text[:at] + other + text[at + 1 :]
        found = token.parse(changed)
        if changed != text:
            assert found is None or found[0] != kept.id or not token.holds(kept, found[1], NOW_S)

    @pytest.mark.parametrize(
        "text",
        ["", "thc_", "Bearer thc_x", "thc_aaaaaaaaaaaa_short", "thc_AAAAAAAAAAAA_" + "a" * 43, "x" * 10_000],
    )
    def test_what_is_no_token_is_none(self, text: str) -> None:
        assert token.parse(text) is None

    def test_a_line_break_behind_it_is_no_part_of_a_token(self) -> None:
        text, _ = token.make(bytes(8), bytes(32), READ_ALL, "", NOW_S)
        assert token.parse(text) is not None
        assert token.parse(f"{text}\n") is None
        assert token.parse(f"{text}é") is None

    def test_a_revoked_token_does_not_hold_whatever_the_clock_says(self) -> None:
        text, kept = token.make(bytes(8), bytes(32), READ_ALL, "", NOW_S)
        secret = text.split("_", 2)[2]
        assert token.holds(kept, secret, NOW_S + 10**9)
        assert not token.holds(replace(kept, revoked_s=NOW_S + 100), secret, NOW_S)

    def test_what_cannot_be_made_is_refused(self) -> None:
        with pytest.raises(BadInput, match=r"scope: .* at least one"):
            token.make(bytes(8), bytes(32), (), "", NOW_S)
        with pytest.raises(BadInput, match="note:"):
            token.make(bytes(8), bytes(32), READ_ALL, "two\nlines", NOW_S)
        with pytest.raises(BadInput, match="note:"):
            token.make(bytes(8), bytes(32), READ_ALL, "x" * 201, NOW_S)
        with pytest.raises(BadInput, match="expires:"):
            token.make(bytes(8), bytes(32), READ_ALL, "", NOW_S, NOW_S)
        with pytest.raises(ValueError, match="random bytes"):
            token.make(b"short", bytes(32), READ_ALL, "", NOW_S)

    def test_the_same_scopes_in_another_order_are_kept_alike(self) -> None:
        one = token.make(bytes(8), bytes(32), (Scope("write", "b"), Scope("read", "a")), "", NOW_S)
        other = token.make(bytes(8), bytes(32), (Scope("read", "a"), Scope("write", "b")) * 2, "", NOW_S)
        assert one == other
        assert isinstance(one[1], Token)


class TestScopes:
    @given(st.one_of(scopes, st.just(Scope("admin"))))
    def test_a_scope_is_read_back_from_its_text(self, scope: Scope) -> None:
        if ".." not in scope.prefix and "//" not in scope.prefix:
            assert token.parse_scope(str(scope)) == scope

    @pytest.mark.parametrize(
        "text",
        [
            *(
                "",
                "read",
                "admin:",
                "admin:site1/",
                "delete:a",
                "READ:a",
                "read:/a",
                "read:a..b",
                "read:a//b",
            ),
            *("read:a b", "read: ", "read:a\n", "read:ä", "read:*", "read:" + "a" * 129),
        ],
    )
    def test_what_would_cover_nothing_is_refused_and_says_what_to_write(self, text: str) -> None:
        with pytest.raises(BadInput, match=r"scope: .*read:<prefix>, write:<prefix> or admin"):
            token.parse_scope(text)

    def test_a_token_has_some_scopes_and_not_too_many(self) -> None:
        assert token.parse_scopes(["write:b", "read:a", "read:a"]) == (
            Scope("read", "a"),
            Scope("write", "b"),
        )
        with pytest.raises(BadInput, match="at least one"):
            token.parse_scopes([])
        with pytest.raises(BadInput, match="at most 32"):
            token.parse_scopes([f"read:a{i}" for i in range(33)])

    @given(st.lists(scopes, max_size=4), actions, names)
    def test_exactly_what_begins_with_a_prefix_is_allowed(
        self, held: list[Scope], action: str, sensor: str
    ) -> None:
        allowed = any(one.action == action and sensor[: len(one.prefix)] == one.prefix for one in held)
        assert token.may(held, action, sensor) is allowed
        assert token.may(held, "admin", sensor) is False

    @given(st.lists(scopes, max_size=4), names)
    def test_no_scope_but_admin_makes_an_administrator(self, held: list[Scope], sensor: str) -> None:
        assert not token.covers_all(held, "admin")
        assert token.prefixes(held, "admin") == ()
        everything = [*held, Scope("admin")]
        for action in ("read", "write", "admin"):
            assert token.may(everything, action, sensor)
            assert token.covers_all(everything, action)
            assert token.prefixes(everything, action) == ("",)

    @given(st.lists(scopes, max_size=4), actions, names)
    def test_prefixes_cover_what_may_says(self, held: list[Scope], action: str, sensor: str) -> None:
        listed = token.prefixes(held, action)
        assert sum(sensor.startswith(prefix) for prefix in listed) == token.may(held, action, sensor)
        assert token.covers_all(held, action) == (listed == ("",))
        assert list(listed) == sorted(listed)

    def test_a_prefix_within_another_is_listed_once(self) -> None:
        held = token.parse_scopes(["read:site1/", "read:site1/press", "read:site10/", "write:a", "read:b"])
        assert token.prefixes(held, "read") == ("b", "site1/", "site10/")
        assert token.prefixes(held, "write") == ("a",)

    def test_neighbours_are_kept_apart(self) -> None:
        held = token.parse_scopes(["read:site1/", "write:site1/press-"])
        assert token.may(held, "read", "site1/boiler")
        assert not token.may(held, "read", "site10/boiler")
        assert not token.may(held, "read", "site1")
        assert token.may(held, "write", "site1/press-7")
        assert not token.may(held, "write", "site1/boiler")
