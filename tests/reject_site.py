"""A deployment in memory whose batch door is called as Lambda calls it, for tests of what was refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from infra.local import destinations
from infra.local.batching import Record as Delivered
from infra.local.batching import Rules
from infra.local.destinations import Discard
from infra.local.mappings import SourceMapping
from ingest import keys, retry
from ingest.reject import Reject
from ingest.retry import Outcome
from ingest.stores.memory import MemoryColdStore
from ingest.stores.rejects import S3RejectStore
from lambdas import store_readings
from tests.strategies import ranked_cells
from tests.world import NOW_S, STREAM, World, plenty, record

TODAY = keys.date_of(NOW_S * 1_000_000)
NOW_MS = NOW_S * 1000
FIRST, LAST = "2026-11-01", "2026-12-31"


def reading_of(metrics: Mapping[str, Any]) -> bytes:
    """A reading of press-7 with metrics of any name."""
    return json.dumps({"sensor_id": "press-7", "ts": NOW_S * 1000, "metrics": metrics}).encode()


def reading(sensor: str = "press-7", at_s: int = NOW_S, **metrics: Any) -> bytes:
    return json.dumps({"sensor_id": sensor, "ts": at_s * 1000, "metrics": metrics}).encode()


class Site(World):
    """A deployment whose batch door can be called as Lambda calls it: JSON in, JSON out."""

    def __init__(self) -> None:
        super().__init__()
        self.objects = MemoryColdStore(lambda: self.now_s)
        self.rejects = S3RejectStore(self.objects)
        self.events: list[dict[str, Any]] = []

    def door(self, event: Mapping[str, Any], remaining_ms: Callable[[], int] = plenty) -> Mapping[str, Any]:
        sent = json.loads(json.dumps(event))
        self.events.append(sent)
        _, answer = store_readings.respond(
            sent, self.hot, self.registry, self.rejects, self.layout, self.now_s, remaining_ms
        )
        return json.loads(json.dumps(answer))

    def listed(self) -> list[Reject]:
        return list(self.rejects.list(FIRST, LAST))

    def reasons(self) -> list[str]:
        return sorted(one.reason for one in self.listed())

    def retry(
        self, invoke: retry.Invoke | None = None, wanted: Callable[[Reject], bool] = lambda _: True
    ) -> list[Outcome]:
        return list(
            retry.retry(
                self.rejects.kept(),
                store=self.rejects,
                invoke=invoke or self.door,
                at_ms=self.now_s * 1000,
                wanted=wanted,
            )
        )

    def values(self, sensor: str, metric: str) -> dict[int, Any]:
        """By second: the values that a query finds."""
        run = self.ask(sensor).run
        if run is None or metric not in run.metrics:
            return {}
        return {
            ts // 1_000_000: value
            for ts, value in zip(run.ts_us, run.metrics[metric], strict=True)
            if value is not None
        }

    def found_cells(self, sensor: str) -> Mapping[Any, Any]:
        """All that a query finds, each value with its arrival."""
        run = self.ask(sensor).run
        return ranked_cells(run) if run is not None else {}


def lines(*payloads: bytes) -> bytes:
    return b"\n".join(payloads)


MAPPING = SourceMapping(
    uuid="a1b2",
    service="kinesis",
    source_arn=STREAM,
    function_arn="arn:aws:lambda:eu-central-1:000000000000:function:store-readings",
    start="TRIM_HORIZON",
    start_at_s=None,
    lanes=1,
    rules=Rules(),
    patterns=(),
    on_failure="arn:aws:s3:::rejects",
)


def given_up(site: Site, *payloads: bytes) -> None:
    """Put the object of the on-failure destination for one batch of the payloads."""
    delivered: list[Delivered] = []
    for i, data in enumerate(payloads):
        made = record(i, data, (NOW_S + i) * 1000)
        kinesis = {
            "sequenceNumber": made.sequence,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": NOW_S + i,
        }
        entry = {"eventID": f"{made.shard_id}:{made.sequence}", "eventSourceARN": STREAM, "kinesis": kinesis}
        delivered.append(Delivered(made.sequence, "lane", NOW_S + i, json.dumps(entry).encode()))
    discard = Discard(
        MAPPING, "shardId-000000000000", delivered, "RetryAttemptsExhausted", 3, "request", "Unhandled"
    )
    document = destinations.invocation_record(discard, NOW_S + 72_000, with_payload=True)
    name = destinations.object_name(discard, NOW_S + 72_000, str(len(site.objects.objects)))
    site.objects.put(name, json.dumps(document).encode(), {})
