"""Catalog entries as items, and which of those that were read a query needs: shared by every catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from ingest import keys
from ingest.item import Attribute
from ingest.keys import Key
from ingest.reading import EARLIEST_US, Span
from ingest.stores import Entry, Holders, Segment, Superseded

LATEST_US = 4_102_444_800_000_000
"""2100-01-01T00:00:00Z: `find` looks no further, each year being a query of its own."""

LISTINGS = 3
"""Past that, what a deleted segment was made into has itself been removed: the entry is merely old."""

_TEXTS = ("name", "date", "digest", "first_sensor", "last_sensor", "etag", "sha256")
_NUMBERS = ("size_bytes", "rows", "first_us", "last_us", "footer_bytes", "written_s")


def key_of(entry: Entry) -> Key:
    """The key of an entry's item."""
    return keys.catalog_key(entry.date, entry.digest)


def date_ranges(span: Span) -> list[tuple[str, str, str]]:
    """The catalog's partitions and sort-key bounds of every date the span touches; none for an empty span."""
    possible = span.overlap(Span(EARLIEST_US, LATEST_US))
    if possible.is_empty():
        return []
    return keys.catalog_ranges(keys.date_of(possible.start_us), keys.date_of(possible.end_us - 1))


def encode_entry(segment: Segment, expires_at_s: int) -> dict[str, Attribute]:
    """A catalog item; `ttl` is epoch seconds."""
    key = key_of(segment)
    item: dict[str, Attribute] = {"pk": {"S": key.pk}, "sk": {"S": key.sk}, "ttl": {"N": str(expires_at_s)}}
    item |= {name: {"S": getattr(segment, name)} for name in _TEXTS}
    item |= {name: {"N": str(getattr(segment, name))} for name in _NUMBERS}
    return item


def encode_announced(entry: Superseded, expires_at_s: int) -> dict[str, Attribute]:
    """The item of an object that is about to be written."""
    key = key_of(entry)
    return {
        "pk": {"S": key.pk},
        "sk": {"S": key.sk},
        "ttl": {"N": str(expires_at_s)},
        **superseding(entry.by, entry.superseded_s),
    }


def superseding(by: Iterable[str], now_s: int) -> dict[str, Attribute]:
    """What an item gains that is superseded."""
    return {"superseded_s": {"N": str(now_s)}, "by": {"L": [{"S": digest} for digest in by]}}


def decode_entry(item: Mapping[str, Attribute]) -> Entry:
    """The inverse of `encode_entry` and `encode_announced`."""
    segment = _decode_segment(item) if "name" in item else None
    if "superseded_s" not in item:
        return cast(Segment, segment)
    date, _, digest = cast(str, item["sk"]["S"]).partition("#")
    return Superseded(
        date=date,
        digest=digest,
        by=tuple(one["S"] for one in cast(list[dict[str, str]], item["by"]["L"])),
        superseded_s=int(cast(str, item["superseded_s"]["N"])),
        doomed="doomed" in item,
        gone_s=int(cast(str, item["gone_s"]["N"])) if "gone_s" in item else None,
        segment=segment,
    )


def _decode_segment(item: Mapping[str, Attribute]) -> Segment:
    texts: dict[str, Any] = {name: cast(str, item[name]["S"]) for name in _TEXTS}
    numbers: dict[str, Any] = {name: int(cast(str, item[name]["N"])) for name in _NUMBERS}
    return Segment(**texts, **numbers)


# --- what a query needs -----------------------------------------------------------------


def visible(read: Callable[[], Iterable[Entry]]) -> list[Segment]:
    """The segments whose rows together are all there are, from entries that were not read at one instant.

    A Query is not isolated from a transaction as a whole, nor are its pages from each other ("Amazon
    DynamoDB Transactions: How it works", isolation levels): it may show the old entries as
    superseded and not yet the new ones. Then the old ones are taken: their objects still exist. Where
    even those are gone, the entries are read again, up to LISTINGS times in all.
    """
    found: list[Segment] = []
    for _ in range(LISTINGS):
        known = Holders(read())
        torn = [entry for entry in known.superseded.values() if known.of(entry) is None]
        kept = [entry.segment for entry in torn if entry.segment is not None and entry.gone_s is None]
        found = [*known.live.values(), *kept]
        if all(entry.gone_s is None for entry in torn):
            break
    return found


def select_segments(segments: Iterable[Segment], span: Span, sensor_id: str | None) -> list[Segment]:
    """Those whose times and sensors allow a reading of the span and sensor, by date and name."""
    found = [
        segment
        for segment in segments
        if not span.is_empty()
        and segment.first_us < span.end_us
        and segment.last_us >= span.start_us
        and (sensor_id is None or segment.first_sensor <= sensor_id <= segment.last_sensor)
    ]
    return sorted(found, key=lambda segment: (segment.date, segment.name))
