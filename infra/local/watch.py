"""The vital signs of a local stack, from what its event sources, their counters and the stores know."""

from __future__ import annotations

from typing import Any

from infra.doctor.attempt import measured
from infra.doctor.remote import NEEDS_LISTING, late_and_margin
from infra.doctor.vitals import Vital, Vitals, as_json, failed_batches
from infra.local.event_sources import EventSources
from infra.local.mappings import Service
from ingest.stores import ColdStore, HotStore

_NEVER = Vital.unknown("the emulator refuses nothing for want of capacity")


def health(sources: EventSources, hot: HotStore, rejects_bucket: ColdStore, now_s: float) -> dict[str, Any]:
    """What threatens readings; what cannot be read is null, with the reason."""
    counters = sources.counters
    late_s, margin_s = late_and_margin(hot, now_s)
    vitals = Vitals(
        stream_age_s=_age(sources, "kinesis"),
        table_stream_age_s=_age(sources, "dynamodb"),
        late_s=late_s,
        margin_s=margin_s,
        rejects=Vital(counters.last_day("Rejects")),
        readings=Vital(counters.last_day("ReadingsStored")),
        failed_batches=measured(NEEDS_LISTING, lambda: failed_batches(rejects_bucket)),
        table_throttles=_NEVER,
        stream_throttles=_NEVER,
        function_throttles=Vital(counters.last_day("Throttles")),
        function_errors=Vital(counters.last_day("Errors")),
        chunks_lost=Vital(counters.last_day("ChunksLost")),
    )
    return as_json(vitals)


def _age(sources: EventSources, service: Service) -> Vital:
    age_s = sources.age_s(service)
    return Vital.unknown("no mapping reads it") if age_s is None else Vital(round(age_s, 1))
