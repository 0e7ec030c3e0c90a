"""What threatens invariants I1 to I4, as numbers; each is known, or it is said why it is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from ingest import keys
from ingest.keys import Layout
from ingest.stores import ColdStore, HotStore

WINDOW_S = 24 * 3600
"""How far back sums reach."""
MOST_COUNTED = 10_000
"""Failed batches are counted up to here."""


@dataclass(frozen=True, slots=True)
class Vital:
    """One number; None where it is not known, with the reason."""

    value: float | None
    reason: str = ""

    @classmethod
    def unknown(cls, reason: str) -> Vital:
        """A number that the target cannot tell."""
        return cls(None, reason)


@dataclass(frozen=True, slots=True)
class Vitals:
    """What `status` shows under `health`. Sums are over the last 24 h, ages in seconds.

    `late_s` is how long ago the oldest slot that still has manifests was due, `margin_s` the least
    time from its due date to the expiry of its chunks.
    """

    stream_age_s: Vital
    table_stream_age_s: Vital
    late_s: Vital
    margin_s: Vital
    rejects: Vital
    readings: Vital
    failed_batches: Vital
    table_throttles: Vital
    stream_throttles: Vital
    function_throttles: Vital
    function_errors: Vital
    chunks_lost: Vital


def share(part: Vital, whole: Vital) -> float | None:
    """One number over another, to six digits; None where one is unknown or the second is 0."""
    if part.value is None or not whole.value:
        return None
    return round(part.value / whole.value, 6)


def reject_share(vitals: Vitals) -> float | None:
    """Rejects over all that arrived in the last 24 h, 0 where nothing did."""
    if vitals.rejects.value is None or vitals.readings.value is None:
        return None
    arrived = vitals.rejects.value + vitals.readings.value
    return round(vitals.rejects.value / arrived, 6) if arrived else 0.0


_SHOWN: Mapping[str, str] = {
    "stream_age_s": "stream_age_s",
    "table_stream_age_s": "table_stream_age_s",
    "late_s": "oldest_manifest_late_s",
    "margin_s": "margin_s",
    "rejects": "rejects_24h",
    "failed_batches": "failed_batches",
    "table_throttles": "table_throttles_24h",
    "stream_throttles": "stream_throttles_24h",
    "function_throttles": "function_throttles_24h",
    "function_errors": "function_errors_24h",
    "chunks_lost": "chunks_lost_24h",
}


def as_json(vitals: Vitals) -> dict[str, Any]:
    """The numbers by name; `unknown` holds the reason of each that is null."""
    told: dict[str, Any] = {}
    for name, shown in _SHOWN.items():
        vital: Vital = getattr(vitals, name)
        told[shown] = _whole(vital.value)
        if name == "margin_s":
            told["margin_used_share"] = share(vitals.late_s, vitals.margin_s)
        elif name == "rejects":
            told["rejects_share_24h"] = reject_share(vitals)
    told["unknown"] = {
        _SHOWN[one.name]: getattr(vitals, one.name).reason
        for one in fields(vitals)
        if one.name in _SHOWN and getattr(vitals, one.name).value is None
    }
    return told


def _whole(value: float | None) -> float | None:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def from_json(told: Mapping[str, Any]) -> Vitals:
    """The inverse of `as_json`, but for `readings`, which stays unknown."""
    reasons: Mapping[str, str] = told.get("unknown") or {}
    known = {
        name: Vital(told.get(shown), reasons.get(shown, "" if shown in told else "it was not told"))
        for name, shown in _SHOWN.items()
    }
    return Vitals(readings=Vital.unknown("it was not told"), **known)


# --- read from the stores, on every target ----------------------------------------------


def oldest_manifest(hot: HotStore, layout: Layout | None, now_s: int) -> tuple[Vital, Vital]:
    """How late the oldest slot with manifests is (0 where none is), and the margin it has.

    The margin is the least of the periods in force since the manifest was written. Raises
    Unavailable.
    """
    if layout is None:
        unknown = Vital.unknown("the table has no layout")
        return unknown, unknown
    for slot_s in hot.open_slots(now_s):
        page = next((page for page in hot.manifests(slot_s) if page), None)
        if page is not None:
            since_s = min(manifest.written_s for manifest in page)
            return Vital(max(0, now_s - slot_s)), Vital(_margin_s(layout, since_s, now_s))
    return Vital(0), Vital(layout.at(now_s).margin_s)


def _margin_s(layout: Layout, since_s: int, now_s: int) -> int:
    later = [period for period in layout.periods if since_s < period.from_s <= now_s]
    return min(period.margin_s for period in [layout.at(since_s), *later])


def failed_batches(rejects_bucket: ColdStore) -> Vital:
    """How many objects Lambda left for batches that were given up, counted up to 10,000. Raises Unavailable."""
    names: Iterable[str] = rejects_bucket.names(keys.FAILED_BATCH_PREFIX)
    return Vital(sum(1 for _ in islice(names, MOST_COUNTED)))
