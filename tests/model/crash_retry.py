"""The flow of `rejects retry`: what was refused, and a batch that was given up, go through the door again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ingest import gather, keys, retry
from ingest.errors import ThermoclineError, Unavailable
from ingest.stores.rejects import S3RejectStore
from lambdas import store_readings
from tests.model.crash import Flow, Gate, Open, Through
from tests.model.crash_flows import BAD, Course
from tests.model.crash_world import Courses, Deployment, kinesis_event
from tests.world import NOW_S, NOW_US, plenty, readings, record

LONG = record(
    2, readings("s0", NOW_US, 60_000_000, note=["a long text", "another"], a=[1, 2]), NOW_S * 1000 + 2
)
"""What the release before refused in part: its texts are longer than that release took."""
REFUSED = [LONG, record(3, BAD, NOW_S * 1000 + 3)]
CORRECTED = record(4, readings("s0", NOW_US, 1, note=["fixed"]), NOW_S * 1000 + 4)
"""Came after the first of the refused texts, and must go on hiding it."""
GIVEN_UP = record(5, readings("s1", NOW_US, 1, a=[3]), NOW_S * 1000 + 5)
_FAILED = f"{keys.FAILED_BATCH_PREFIX}mapping/shardId-0/2026/11/20/2026-11-20T22.00.00-1"


def refused() -> Deployment:
    """Two rejects of which one is of a fault that is mended now, and a batch that was given up."""
    world = Deployment()
    with pytest.MonkeyPatch.context() as fault:
        fault.setattr(gather, "MOST_TEXT_BYTES", 5)
        world.acknowledged(*REFUSED)
        world.acknowledged(CORRECTED)
    document = {
        "KinesisBatchInfo": {"shardId": GIVEN_UP.shard_id, "streamArn": GIVEN_UP.stream_arn, "batchSize": 1},
        "payload": json.dumps(kinesis_event([GIVEN_UP])),
    }
    world.reject_objects.put(_FAILED, json.dumps(document).encode(), {})
    world.truth.send([*REFUSED, GIVEN_UP])
    return world


def retry_all(world: Deployment, gate: Gate) -> None:
    """`rejects retry` of everything; what it could not settle is an error."""
    objects: Any = Through(world.reject_objects, gate)
    store = S3RejectStore(objects)
    door = _door(world, gate)
    at_ms = world.now_s * 1000
    outcomes = [
        *retry.retry(store.kept(), store=store, invoke=door, at_ms=at_ms),
        *retry.replay(store.failed_batches(), store=store, invoke=door),
    ]
    failed = [outcome.why for outcome in outcomes if outcome.result == "failed"]
    if failed:
        raise Unavailable(failed[0])


def _door(world: Deployment, gate: Gate) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Invokes store_readings; a fault inside it is an error of the function, one around it is the service's."""
    hot: Any = Through(world.hot, gate)
    registry: Any = Through(world.registry, gate)
    objects: Any = Through(world.reject_objects, gate)

    def respond(event: Mapping[str, Any]) -> Mapping[str, Any]:
        try:
            _, answer = store_readings.respond(
                event, hot, registry, S3RejectStore(objects), world.layout, world.now_s, plenty
            )
        except Unavailable as error:
            raise ThermoclineError(f"The function failed: {error}") from error
        return answer

    return lambda event: gate.call("invoke", [None], lambda _: respond(event))


def all_back(world: Deployment) -> None:
    """What was refused for the mended fault is found and off the list, as is what was given up."""
    world.truth.stored([LONG, CORRECTED, GIVEN_UP])
    assert world.rejects() == [BAD]
    assert _FAILED not in world.reject_objects.objects


def never_neither(world: Deployment) -> None:
    """What is not on the list any more is found; what is wrong still is on the list, once."""
    listed = world.rejects()
    assert BAD in listed
    assert set(listed) <= {BAD, LONG.data}
    if LONG.data not in listed:
        world.truth.stored([LONG, CORRECTED])
    if _FAILED not in world.reject_objects.objects:
        world.truth.stored([GIVEN_UP])
    world.check()


def retrying() -> Flow[Deployment]:
    """The operator's retry, which the operator repeats, or does not."""
    courses = Courses()

    def again(world: Deployment) -> None:
        world.now_s += 3_700
        retry_all(world, Open())
        all_back(world)
        courses.settle(world)
        all_back(world)

    def redelivered(world: Deployment) -> None:
        world.store(REFUSED)
        retry_all(world, Open())
        all_back(world)
        courses.settle(world)

    def forgotten(world: Deployment) -> None:
        courses.settle(world, tickets=False, events=False)
        never_neither(world)

    recoveries: dict[str, Course] = {
        "it is retried later": again,
        "the stream repeats the batch": redelivered,
        "nobody retries": forgotten,
    }
    return Flow("retry", refused, retry_all, all_back, never_neither, recoveries)
