"""What LocalStack's events hold otherwise than the emulator's: sequence numbers of 56 digits, and no `userIdentity`."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from infra.deploy import TEMPLATE
from infra.local.filters import compile_filters
from ingest import keys, write
from ingest.kinesis_records import failures, records
from ingest.wire_encode import encode_run
from lambdas import archive_expired
from tests.world import NOW_S, NOW_US, STREAM, World, readings

FIRST = 49_671_893_286_217_640_157_489_024_381_632_170_593_120_518_273_105_330_178
"""As kinesis-local 0.5.2, which LocalStack 4.14.0 runs, gave one: 56 digits, of which the first 40 stay alike."""


def event(*numbers: int, shard: int = 0) -> dict[str, Any]:
    """A Kinesis event of LocalStack's event source mapping, a sensor of its own in every record."""
    found: list[dict[str, Any]] = []
    for place, number in enumerate(numbers):
        run = readings(f"press-{number - FIRST}", NOW_US, 1_000_000, temperature=[20.0, 20.5, 21.0])
        found.append(
            {
                "eventID": f"shardId-{shard:012d}:{number}",
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventName": "aws:kinesis:record",
                "eventSourceARN": STREAM,
                "awsRegion": "us-east-1",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/lambda-role",
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "lane-0",
                    "sequenceNumber": str(number),
                    "data": base64.b64encode(encode_run(run)).decode(),
                    "approximateArrivalTimestamp": NOW_S + place / 1000,
                },
            }
        )
    return {"Records": found}


def test_numbers_stay_the_text_they_are() -> None:
    assert len(str(FIRST)) == 56
    found = records(event(FIRST, FIRST + 1, FIRST + 2))
    assert [record.sequence for record in found] == [str(FIRST), str(FIRST + 1), str(FIRST + 2)]
    assert failures(found[1].sequence) == {"batchItemFailures": [{"itemIdentifier": str(FIRST + 1)}]}


def test_neighbours_that_no_float_tells_apart_are_two_batches() -> None:
    assert float(FIRST) == float(FIRST + 1)
    names = {keys.batch_id(STREAM, "shardId-000000000000", 3600, [str(FIRST + i)]) for i in range(100)}
    assert len(names) == 100


def test_a_batch_again_writes_the_same_items_and_its_neighbour_others() -> None:
    world = World()
    world.store(records(event(FIRST, FIRST + 1)))
    once = set(world.hot.items)
    world.store(records(event(FIRST, FIRST + 1)))
    assert set(world.hot.items) == once
    world.store(records(event(FIRST + 1, FIRST + 2)))
    assert len(world.chunk_keys()) == 4
    assert world.found("press-1").metrics["temperature"] == [20.0, 20.5, 21.0]


def test_what_is_reported_when_time_runs_short_is_a_number_of_the_event(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """LocalStack compares it to those it sent; any other answer repeats the batch whole."""
    monkeypatch.setattr(write, "MOST_VALUES_AT_ONCE", 1)
    remaining = iter([600_000, 600_000, 600_000, 1])
    stored = World().store(records(event(FIRST, FIRST + 1, FIRST + 2)), lambda: next(remaining))
    assert stored.records == 1
    assert failures(stored.failed_sequence) == {"batchItemFailures": [{"itemIdentifier": str(FIRST + 1)}]}


def remove(slot_s: int, **more: Any) -> dict[str, Any]:
    key = keys.ticket_key(slot_s)
    return {
        "eventID": "1",
        "eventName": "REMOVE",
        "eventSource": "aws:dynamodb",
        "dynamodb": {"Keys": {"pk": {"S": key.pk}, "sk": {"S": key.sk}}, "StreamViewType": "KEYS_ONLY"},
        **more,
    }


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"userIdentity": None},
        {"userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"}},
    ],
    ids=["no identity", "null", "as AWS"],
)
def test_a_ticket_s_removal_is_the_order_whoever_removed_it(more: dict[str, Any]) -> None:
    order = remove(NOW_S, **more)
    assert archive_expired.slots_of({"Records": [order]}) == [NOW_S]
    patterns = re.findall(r"- Pattern: '(.+)'", TEMPLATE.read_text())
    passes = compile_filters(patterns)
    assert patterns
    assert passes is not None
    assert passes(order)
