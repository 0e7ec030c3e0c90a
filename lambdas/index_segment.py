"""The index door: S3 says that an object was created, and the catalog learns of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote_plus

from aws_lambda_powertools.metrics import MetricUnit

from ingest.archive import index_object
from ingest.errors import Corrupt, NotFound
from ingest.keys import Layout
from ingest.stores import Catalog, ColdStore
from lambdas import _door

SERVICE = "index_segment"
_logger = _door.logger(SERVICE)
_metrics = _door.metrics(SERVICE)


def names_of(event: Mapping[str, Any]) -> list[str]:
    """The created objects' names; S3 sends them URL-encoded ("Event message structure")."""
    records = cast(list[dict[str, Any]], event.get("Records") or [])
    return [unquote_plus(record["s3"]["object"]["key"]) for record in records if "s3" in record]


def handle(
    event: Mapping[str, Any], cold: ColdStore, catalog: Catalog, layout: Layout
) -> dict[str, list[str]]:
    """Catalog every segment the event names: what was indexed, skipped (no segment) and gone."""
    done: dict[str, list[str]] = {"indexed": [], "skipped": [], "gone": []}
    for name in names_of(event):
        try:
            segment = index_object(name, cold, catalog, layout)
            done["skipped" if segment is None else "indexed"].append(name)
        except Corrupt:
            done["skipped"].append(name)
        except NotFound:
            done["gone"].append(name)
    return done


@_metrics.log_metrics
def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """Lambda's entry. An error means the event is to be repeated."""
    _, stores = _door.deployment()
    done = handle(event, stores.cold, stores.catalog, _door.layout(stores.hot, _door.now_s()))
    _metrics.add_metric("SegmentsIndexed", MetricUnit.Count, len(done["indexed"]))
    _metrics.add_metric("SegmentsSkipped", MetricUnit.Count, len(done["skipped"]))
    _logger.info("indexed", extra=done)
    return {name: len(names) for name, names in done.items()}
