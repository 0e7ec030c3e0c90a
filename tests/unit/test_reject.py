"""Rejects keep their bytes and their reason, in an object that is the same for the same rejects."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import keys
from ingest.errors import Corrupt
from ingest.reading import number_problem
from ingest.reject import (
    MOST_INFLATED_BYTES,
    REASONS,
    Reject,
    StoredAgain,
    decode_rejects,
    decode_stored_again,
    encode_rejects,
    encode_stored_again,
)
from tests.strategies import sensor_ids

ARN = "arn:aws:kinesis:eu-central-1:123456789012:stream/readings"


def reject(
    payload: bytes = b"not json", offset: str = "0/line 3/not_json", reason: str = "not_json"
) -> Reject:
    return Reject(
        id=keys.reject_id(ARN, "shardId-000000000000", "49590338", offset),
        reason=reason,
        detail="Expecting value: line 1 column 1 (char 0)",
        stream_arn=ARN,
        shard_id="shardId-000000000000",
        sequence="49590338",
        offset=offset,
        arrival_ms=1_795_212_000_000,
        sensor_id="press-7",
        count=3,
        sha256=hashlib.sha256(payload).hexdigest(),
        payload=payload,
    )


@st.composite
def rejects(draw: st.DrawFn) -> Reject:
    made = reject(draw(st.binary(max_size=50)), draw(st.text()), draw(st.sampled_from(sorted(REASONS))))
    return replace(
        made,
        detail=draw(st.text()),
        sensor_id=draw(st.none() | sensor_ids()),
        count=draw(st.integers(1, 10**6)),
        arrival_ms=draw(st.integers(0, 2**53)),
        addressed_to=draw(st.none() | st.text(max_size=5)),
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(rejects(), max_size=6))
def test_rejects_come_back_as_they_were(made: list[Reject]) -> None:
    data = encode_rejects(made)
    assert decode_rejects(data) == made
    assert encode_rejects(made) == data


def test_a_detail_may_hold_any_text() -> None:
    odd = replace(reject(), detail="\ud800 \x00 \u202e")
    assert decode_rejects(encode_rejects([odd])) == [odd]


def test_what_is_stored_again_is_said_in_an_object_that_keeps_no_reject() -> None:
    told = StoredAgain(frozenset({"b", "a"}), 1_795_212_000_000)
    data = encode_stored_again(told)
    assert decode_stored_again(data) == told
    assert decode_rejects(data) == []
    assert encode_stored_again(StoredAgain(frozenset({"a", "b"}), told.at_ms)) == data
    for wrong in ({"at_ms": "1"}, {"stored_again": "ab"}, {"stored_again": [1]}, {"version": 2}):
        document = json.loads(gzip.decompress(data)) | wrong
        with pytest.raises(Corrupt):
            decode_stored_again(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(Corrupt):
        decode_stored_again(encode_rejects([reject()]))


def test_many_rejects_of_one_payload_keep_it_once() -> None:
    payload = bytes(range(256)) * 400
    many = [reject(payload, f"0/metric m{i}/not_finite", "not_finite") for i in range(50)]
    document = json.loads(gzip.decompress(encode_rejects(many)))
    assert document["version"] == 1
    assert list(document["payloads"]) == [hashlib.sha256(payload).hexdigest()]
    assert {item.payload for item in decode_rejects(encode_rejects(many))} == {payload}


def document() -> dict[str, object]:
    return json.loads(gzip.decompress(encode_rejects([reject()])))


def other_payload(held: dict[str, object]) -> None:
    held["payloads"] = {reject().sha256: "AAAA"}


def no_payload(held: dict[str, object]) -> None:
    held["payloads"] = {}


def other_version(held: dict[str, object]) -> None:
    held["version"] = 2


def no_rejects(held: dict[str, object]) -> None:
    del held["rejects"]


def number_as_text(held: dict[str, object]) -> None:
    held["rejects"][0]["count"] = "3"  # type: ignore[index]


def address_as_number(held: dict[str, object]) -> None:
    held["rejects"][0]["addressed_to"] = 5  # type: ignore[index]


def missing_field(held: dict[str, object]) -> None:
    del held["rejects"][0]["sequence"]  # type: ignore[attr-defined]


def not_base64(held: dict[str, object]) -> None:
    held["payloads"] = {reject().sha256: "?"}


@pytest.mark.parametrize(
    "change",
    [
        other_payload,
        no_payload,
        other_version,
        no_rejects,
        number_as_text,
        address_as_number,
        missing_field,
        not_base64,
    ],
)
def test_an_object_that_contradicts_itself_is_corrupt(change: object) -> None:
    held = document()
    change(held)  # type: ignore[operator]
    with pytest.raises(Corrupt):
        decode_rejects(gzip.compress(json.dumps(held).encode()))


def test_damaged_bytes_never_come_back_as_other_rejects() -> None:
    made = [reject(), reject(b"other", "1/not_json")]
    data = encode_rejects(made)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x55
        try:
            assert decode_rejects(bytes(damaged)) == made
        except Corrupt:
            continue
    for cut in range(len(data)):
        with pytest.raises(Corrupt):
            decode_rejects(data[:cut])


def test_a_bomb_is_corrupt() -> None:
    packed = gzip.compress(bytes(1 << 20), 9) * (MOST_INFLATED_BYTES // (1 << 20) + 1)
    with pytest.raises(Corrupt, match="inflate"):
        decode_rejects(packed)


def test_every_reason_says_what_to_do_next() -> None:
    for code, text in REASONS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]+", code)
        assert text.endswith(".")
        assert re.search(r"[;:,] ", text), f"{code} says what it is but not what to do"
    for value in (float("nan"), float("inf"), 1e126, 1e-131, -5e-324, 10**38, -(10**38)):
        assert number_problem(value) in REASONS
