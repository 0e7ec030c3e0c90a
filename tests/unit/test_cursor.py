"""Cursors: what they carry comes back, and nothing that was altered, is old or belongs elsewhere is taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.cursor import InvalidCursor, seal, unseal
from ingest.errors import BadInput

KEY = b"k" * 32
ASKED: dict[str, Any] = {"sensor": "a/1", "from": 5, "metric": ["t"], "every": None}
TEXT = seal("readings", ASKED, [17, "x"], KEY, 1_000)


def test_what_a_cursor_carries_comes_back() -> None:
    opened = unseal(TEXT, "readings", {}, KEY, 999)
    assert (opened.asked, opened.at) == (ASKED, [17, "x"])
    assert unseal(TEXT, "readings", {"from": 5, "metric": ["t"]}, KEY, 999).at == [17, "x"]


def test_the_text_needs_no_escaping_in_a_url() -> None:
    assert all(character.isalnum() or character in "-_" for character in TEXT)


@pytest.mark.parametrize(
    ("route", "given", "key", "now_s", "why"),
    [
        ("sensors", {}, KEY, 1, "another route"),
        ("readings", {"from": 6}, KEY, 1, "another from"),
        ("readings", {"metric": ["t", "u"]}, KEY, 1, "another metric"),
        ("readings", {"every": "1m"}, KEY, 1, "another every"),
        ("readings", {"prefix": "b/"}, KEY, 1, "another prefix"),
        ("readings", {}, b"l" * 32, 1, "altered"),
        ("readings", {}, KEY, 1_000, "expired"),
    ],
)
def test_a_cursor_is_bound_to_its_query_and_its_time(
    route: str, given: dict[str, Any], key: bytes, now_s: float, why: str
) -> None:
    with pytest.raises(InvalidCursor, match=f"^cursor: .*{why}"):
        unseal(TEXT, route, given, key, now_s)


@given(st.integers(0, len(TEXT) - 1), st.sampled_from("abcXYZ019-_=+/ \u00e9"))
def test_no_character_can_be_changed(place: int, character: str) -> None:
    altered = TEXT[:place] + character + TEXT[place + 1 :]
    if altered != TEXT:
        with pytest.raises(InvalidCursor):
            unseal(altered, "readings", {}, KEY, 1)


@given(
    st.text(max_size=300) | st.binary(max_size=200).map(bytes.hex) | st.just(TEXT[:-1]) | st.just(TEXT + "A")
)
def test_whatever_else_is_sent_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        unseal(text, "readings", {}, KEY, 1)


def test_a_text_of_any_length_is_refused_quickly() -> None:
    with pytest.raises(InvalidCursor):
        unseal("A" * 10_000_000, "readings", {}, KEY, 1)
