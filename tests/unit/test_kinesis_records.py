"""Lambda Kinesis events and KPL aggregates, checked against aws_kinesis_agg where the input is valid."""

from __future__ import annotations

import base64
import hashlib
import json
import random
from typing import Any, cast

import pytest
from aws_kinesis_agg import aggregator, deaggregator, messages_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.kinesis_records import KPL_MAGIC, MOST_USER_RECORDS, failures, records, user_records
from ingest.reject import REASONS

ARN = "arn:aws:kinesis:eu-central-1:123456789012:stream/readings"


def entry(data: bytes, number: int = 1) -> dict[str, Any]:
    sequence = str(49590338271490256608559692538361571095921575989136588800 + number)
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": "lane-1",
            "sequenceNumber": sequence,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": 1545084650.987,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000006:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/lambda-role",
        "awsRegion": "eu-central-1",
        "eventSourceARN": ARN,
    }


def aggregate(*payloads: bytes, keys: tuple[str, ...] = ("lane",), hash_key: str | None = None) -> bytes:
    packed = aggregator.RecordAggregator()
    for i, payload in enumerate(payloads):
        packed.add_user_record(keys[i % len(keys)], payload, hash_key)
    full: Any = packed.clear_and_get()
    return full.get_contents()[2]


def framed(message: bytes) -> bytes:
    return KPL_MAGIC + message + hashlib.md5(message).digest()


def piece(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


KEY = piece(1, b"lane")
USER = b"\x08\x00" + piece(3, b"{}")

# --- events -----------------------------------------------------------------------------


def test_an_event_becomes_records_in_order() -> None:
    first, second = records({"Records": [entry(b"a", 1), entry(b"b", 2)]})
    assert (first.stream_arn, first.shard_id, first.data, first.problem) == (
        ARN,
        "shardId-000000000006",
        b"a",
        None,
    )
    assert first.sequence == "49590338271490256608559692538361571095921575989136588801"
    assert first.arrival_ms == 1545084650987
    assert second.data == b"b"


@given(st.integers(1, 2**41))
def test_arrival_is_exact_to_the_millisecond(arrival_ms: int) -> None:
    changed = entry(b"a")
    changed["kinesis"]["approximateArrivalTimestamp"] = json.loads(
        f"{arrival_ms // 1000}.{arrival_ms % 1000:03d}"
    )
    assert records({"Records": [changed]})[0].arrival_ms == arrival_ms


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("=", "bad_base64"),
        ("a", "bad_base64"),
        ("YQ==x", "bad_base64"),
        ("é\ud800", "bad_base64"),
        (5, "missing_field"),
    ],
)
def test_data_that_cannot_be_read_is_a_problem_beside_good_records(data: object, reason: str) -> None:
    changed = entry(b"")
    changed["kinesis"]["data"] = data
    bad, good = records({"Records": [changed, entry(b"good", 2)]})
    assert bad.problem is not None
    assert bad.problem.reason == reason
    assert bad.sequence
    assert bad.data == (data.encode("utf-8", "surrogatepass") if isinstance(data, str) else b"")
    assert (good.data, good.problem) == (b"good", None)


@pytest.mark.parametrize(
    "field", ["sequenceNumber", "approximateArrivalTimestamp", "data", "eventID", "eventSourceARN", "kinesis"]
)
@pytest.mark.parametrize("value", [None, [], "", "\ud800", True, float("nan")])
def test_fields_that_are_missing_or_odd_never_raise(field: str, value: object) -> None:
    changed = entry(b"kept")
    (changed["kinesis"] if field in changed["kinesis"] else changed)[field] = value
    (record,) = records({"Records": [changed]})
    if field == "sequenceNumber":
        assert record.sequence.startswith("4959")
        assert record.problem is None
    elif field != "data":
        assert record.problem is not None
        assert record.problem.reason == "missing_field"
        assert record.data == (b"" if field == "kinesis" else b"kept")


@pytest.mark.parametrize("event", [{}, {"Records": None}, {"Records": {}}, {"Records": [None, 5, "x", {}]}])
def test_events_of_other_shapes_never_raise(event: dict[str, Any]) -> None:
    assert all(record.problem is not None for record in records(event))


def test_the_failure_report() -> None:
    assert failures(None) == {"batchItemFailures": []}
    assert failures("4959") == {"batchItemFailures": [{"itemIdentifier": "4959"}]}


# --- user records -----------------------------------------------------------------------


def test_plain_and_empty_records() -> None:
    assert user_records(b"{}") == ([b"{}"], None)
    assert user_records(KPL_MAGIC[:3]) == ([KPL_MAGIC[:3]], None)
    payloads, problem = user_records(b"")
    assert payloads == []
    assert problem is not None
    assert problem.reason == "empty_record"


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=30),
    st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4, unique=True),
    st.none() | st.integers(0, 2**128 - 1).map(str),
)
def test_valid_aggregates_come_apart_as_aws_takes_them_apart(
    payloads: list[bytes], keys: list[str], hash_key: str | None
) -> None:
    data = aggregate(*payloads, keys=tuple(keys), hash_key=hash_key)
    assert user_records(data) == (payloads, None)
    theirs = deaggregator.deaggregate_records([entry(data)])
    assert [base64.b64decode(record["kinesis"]["data"]) for record in theirs] == payloads


@pytest.mark.parametrize(
    "size", [0, 1, 22, 121, 122, 123, 124, 125, 127, 128, 129, 300, 16_374, 16_384, 70_000]
)
def test_records_of_every_length_come_apart(size: int) -> None:
    """Lengths of one, two and three bytes, and the key index beside them."""
    payloads = [bytes([n]) * (size + n % 3) for n in range(7)]
    keys = tuple(f"lane-{n}" for n in range(3))
    assert user_records(aggregate(*payloads, keys=keys)) == (payloads, None)


def test_one_odd_record_changes_nothing_for_the_others() -> None:
    usual = [entry(b"{}", number) for number in range(4)]
    odd = entry(b"[]", 9)
    odd["eventID"] = 9
    alone = [records({"Records": [one]})[0] for one in (*usual, odd)]
    assert records({"Records": [*usual, odd]}) == alone
    assert [one.problem is None for one in alone] == [True] * 4 + [False]


def test_tags_are_allowed() -> None:
    tagged = USER + piece(4, piece(1, b"key") + piece(2, b"value")) + piece(4, piece(1, b"key"))
    assert user_records(framed(KEY + piece(3, tagged))) == ([b"{}"], None)


def test_tables_may_follow_the_records() -> None:
    assert user_records(framed(piece(3, USER) + KEY)) == ([b"{}"], None)


MALFORMED: dict[str, tuple[bytes, str]] = {
    "only magic": (KPL_MAGIC, "kpl_truncated"),
    "short": (KPL_MAGIC + b"x" * 15, "kpl_truncated"),
    "nothing": (framed(b""), "kpl_empty"),
    "keys only": (framed(KEY), "kpl_empty"),
    "index beyond the table": (framed(KEY + piece(3, b"\x08\x01" + piece(3, b"{}"))), "kpl_bad_index"),
    "no table": (framed(piece(3, USER)), "kpl_bad_index"),
    "hash key beyond the table": (
        framed(KEY + piece(3, b"\x08\x00\x10\x00" + piece(3, b"{}"))),
        "kpl_bad_index",
    ),
    "one of two bad": (
        framed(KEY + piece(3, USER) + piece(3, b"\x08\x07" + piece(3, b"{}"))),
        "kpl_bad_index",
    ),
    "huge index": (framed(KEY + piece(3, b"\x08" + varint(2**63) + piece(3, b"{}"))), "kpl_bad_index"),
    "no key index": (framed(KEY + piece(3, piece(3, b"{}"))), "kpl_malformed"),
    "no data": (framed(KEY + piece(3, b"\x08\x00")), "kpl_malformed"),
    "data twice": (framed(KEY + piece(3, USER + piece(3, b"{}"))), "kpl_malformed"),
    "unknown field": (framed(KEY + piece(3, USER) + piece(7, b"")), "kpl_malformed"),
    "unknown field of a record": (framed(KEY + piece(3, USER + piece(5, b""))), "kpl_malformed"),
    "wrong wire type": (framed(b"\x08\x00" + KEY + piece(3, USER)), "kpl_malformed"),
    "length beyond the end": (framed(KEY + b"\x1a\x7f" + USER), "kpl_malformed"),
    "length beyond the record": (
        framed(KEY + piece(3, b"\x08\x00\x1a\x05{}") + piece(3, USER)),
        "kpl_malformed",
    ),
    "varint cut short": (framed(KEY + piece(3, USER) + b"\x80"), "kpl_malformed"),
    "varint without end": (framed(KEY + piece(3, b"\x08" + b"\x80" * 12 + USER)), "kpl_malformed"),
    "varint above 64 bits": (
        framed(KEY + piece(3, b"\x08" + b"\xff" * 9 + b"\x7f" + piece(3, b""))),
        "kpl_malformed",
    ),
    "key is not UTF-8": (framed(piece(1, b"\xff") + piece(3, USER)), "kpl_malformed"),
    "tag without key": (framed(KEY + piece(3, USER + piece(4, b""))), "kpl_malformed"),
    "too many": (framed(KEY + piece(3, USER) * (MOST_USER_RECORDS + 1)), "kpl_limit"),
    "170,000 empty ones": (framed(KEY + piece(3, b"\x08\x00\x1a\x00") * 170_000), "kpl_limit"),
    "too large": (framed(KEY + piece(3, b"\x08\x00" + piece(3, bytes(11 << 20)))), "kpl_limit"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_aggregates_that_are_not_valid_give_nothing_but_a_problem(name: str) -> None:
    data, reason = MALFORMED[name]
    payloads, problem = user_records(data)
    assert payloads == []
    assert problem is not None
    assert problem.reason == reason


def test_as_many_user_records_as_allowed() -> None:
    payloads, problem = user_records(framed(KEY + piece(3, USER) * MOST_USER_RECORDS))
    assert (len(payloads), problem) == (MOST_USER_RECORDS, None)


def test_one_damaged_byte_never_costs_records_silently() -> None:
    payloads = [b'{"sensor_id":"a","ts":1,"metrics":{"m":%d}}' % i for i in range(5)]
    data = aggregate(*payloads, keys=("a", "b"), hash_key="7")
    for at in range(len(data)):
        for change in (0x01, 0x80, 0xFF):
            damaged = data[:at] + bytes([data[at] ^ change]) + data[at + 1 :]
            found, problem = user_records(damaged)
            if at < len(KPL_MAGIC):
                assert (found, problem) == ([damaged], None)
            else:
                assert found == []
                assert problem is not None
    for cut in range(len(KPL_MAGIC), len(data)):
        assert user_records(data[:cut])[0] == []


def test_a_changed_message_with_a_right_checksum_means_what_protobuf_makes_of_it_or_is_refused() -> None:
    chance = random.Random(11)
    message = aggregate(*(b"payload-%d" % i for i in range(5)), keys=("a", "b"), hash_key="7")[4:-16]
    changes = [(at, value, at + 1) for at in range(len(message)) for value in range(256)]
    accepted = 0
    for at, value, until in changes:
        changed = message[:at] + bytes([value]) + message[until:]
        if chance.random() < 0.2:
            cut = chance.randrange(len(changed))
            changed = (
                changed[:cut] + chance.randbytes(chance.randint(0, 3)) + changed[cut + chance.randint(0, 3) :]
            )
        found, problem = user_records(framed(changed))
        assert bool(found) != (problem is not None)
        if problem is None:
            accepted += 1
            parsed: Any = cast(Any, messages_pb2).AggregatedRecord()
            parsed.ParseFromString(changed)
            assert found == [record.data for record in parsed.records]
        else:
            assert problem.reason in REASONS
    assert 500 < accepted < len(changes)
