"""The batch door: a Kinesis batch comes in, chunks and rejects are stored, the failure report goes out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit, single_metric

from ingest.keys import Layout
from ingest.kinesis_records import failures, records
from ingest.retry_event import is_retry, store_again
from ingest.stores import HotStore, Registry, RejectKeeper, RemainingMs
from ingest.write import Stored, store_batch
from ingest.write_unknown import ClosedRegistry
from lambdas import _door

SERVICE = "store_readings"
_logger = _door.logger(SERVICE)
_metrics = _door.metrics(SERVICE)


def handle(
    event: Mapping[str, Any],
    hot: HotStore,
    registry: Registry | ClosedRegistry,
    rejects: RejectKeeper,
    layout: Layout,
    now_s: int,
    remaining_ms: RemainingMs,
    codec: str = "list",
) -> Stored:
    """Store what the event holds, new chunks in the codec. Raises Unavailable: the batch is then repeated whole."""
    return store_batch(
        records(event),
        hot=hot,
        registry=registry,
        rejects=rejects,
        layout=layout,
        now_s=now_s,
        remaining_ms=remaining_ms,
        codec=codec,
    )


def respond(
    event: Mapping[str, Any],
    hot: HotStore,
    registry: Registry | ClosedRegistry,
    rejects: RejectKeeper,
    layout: Layout,
    now_s: int,
    remaining_ms: RemainingMs,
    codec: str = "list",
) -> tuple[Stored, dict[str, Any]]:
    """What was stored of the event, and the function's answer: the partial batch response, and for
    what `rejects retry` sends also what is still wrong with it. Raises Unavailable."""
    if is_retry(event):
        return store_again(
            event,
            hot=hot,
            registry=registry,
            layout=layout,
            now_s=now_s,
            remaining_ms=remaining_ms,
            codec=codec,
        )
    stored = handle(event, hot, registry, rejects, layout, now_s, remaining_ms, codec)
    return stored, failures(stored.failed_sequence)


def _tell(stored: Stored, now_s: float, written_s: int) -> None:
    _metrics.add_metric("ReadingsStored", MetricUnit.Count, stored.readings)
    _metrics.add_metric("ChunksStored", MetricUnit.Count, stored.chunks)
    _metrics.add_metric("WriteUnits", MetricUnit.Count, stored.write_units)
    _metrics.add_metric("Rejects", MetricUnit.Count, sum(stored.rejects.values()))
    _metrics.add_metric("SensorsRegistered", MetricUnit.Count, stored.new_sensors)
    for reason, count in stored.rejects.items():
        with single_metric(
            "RejectsByReason",
            MetricUnit.Count,
            count,
            namespace=_door.NAMESPACE,
            default_dimensions=_door.dimensions(),
        ) as metric:
            metric.add_dimension("reason", reason)
    age_ms = None if stored.oldest_arrival_ms is None else round(now_s * 1000) - stored.oldest_arrival_ms
    _logger.info(
        "stored",
        extra={
            "records": stored.records,
            "readings": stored.readings,
            "chunks": stored.chunks,
            "write_units": stored.write_units,
            "units": stored.units,
            "written_s": written_s,
            "sensors": stored.sensors,
            "new_sensors": stored.new_sensors,
            "rejects": dict(stored.rejects),
            "oldest_age_ms": age_ms,
            "failed_sequence": stored.failed_sequence,
        },
    )


@_metrics.log_metrics
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry: returns the answer of `respond` ("Configuring partial batch response")."""
    settings, stores = _door.deployment()
    now_s = _door.now_s()
    layout = _door.layout(stores.hot, now_s)
    written_s = -int(-now_s // 1)
    stored, answer = respond(
        event,
        stores.hot,
        stores.registry if settings.unknown_sensors == "register" else ClosedRegistry(stores.registry),
        stores.rejects,
        layout,
        written_s,
        context.get_remaining_time_in_millis,
        settings.codec,
    )
    _tell(stored, now_s, written_s)
    return answer
