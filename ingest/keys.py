"""Where a reading lives: buckets, slots, table keys, object names and expiry."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from ingest.errors import Corrupt
from ingest.layout import DAY_S, US, Layout, Period, check_period, first_layout
from ingest.reading import Span

__all__ = ["DAY_S", "US", "Layout", "Period", "check_period", "first_layout"]  # importable from here, too

SEGMENT_PREFIX = "readings/v1/"
REJECT_PREFIX = "rejects/"
FAILED_BATCH_PREFIX = "aws/lambda/"
"""Where Lambda's S3 on-failure destination writes ("Retaining discarded batch records")."""
_STORED_AGAIN = "retried-"  # no batch id has a hyphen
_FAILED_ON = re.compile(r"/(\d{4})/(\d{2})/(\d{2})/[^/]*$")
REGISTRY_SHARDS = 16
TICKET_PREFIX = "t#"
CHUNK_PREFIX = "s#"
MANIFEST_PREFIX = "m#"
CATALOG_PREFIX = "a#"


class Key(NamedTuple):
    """A table key."""

    pk: str
    sk: str


# --- buckets, slots, expiry -------------------------------------------------------------


def bucket_start_s(ts_us: int, bucket_s: int) -> int:
    """Start (epoch seconds) of the bucket that holds the instant; buckets are aligned to the epoch."""
    return ts_us // (bucket_s * US) * bucket_s


@lru_cache(4096)
def bucket_text(start_s: int) -> str:
    """A bucket's start as sortable text, to the minute: `2026-11-20T22:00Z`."""
    return datetime.fromtimestamp(start_s, UTC).strftime("%Y-%m-%dT%H:%MZ")


@lru_cache(4096)
def bucket_from_text(text: str) -> int:
    """The inverse of `bucket_text`. Raises ValueError."""
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC).timestamp())


def slot_of(bucket_end_s: int, now_s: int, period: Period) -> int:
    """When a chunk written now is to be archived (epoch seconds), a multiple of the slot step."""
    base = max(bucket_end_s, now_s)
    step = period.slot_step_s
    return -(-(base + period.archive_after_s) // step) * step


def expires_at_s(bucket_end_s: int, now_s: int, period: Period) -> int:
    """When a chunk written now leaves the hot tier (its `ttl`, epoch seconds)."""
    return max(bucket_end_s, now_s) + period.hot_retention_s


# --- digests ----------------------------------------------------------------------------


def _digest(parts: Iterable[str], size_bytes: int) -> str:
    pieces = [part.encode() for part in parts]
    whole = b"".join([len(piece).to_bytes(4, "big") + piece for piece in pieces])
    return base64.b32encode(hashlib.blake2b(whole, digest_size=size_bytes).digest()).decode().lower()


def batch_id(
    stream_arn: str,
    shard_id: str,
    bucket_s: int,
    sequences: Sequence[str],
    writer: str = "",
    made: str = "",
) -> str:
    """16 characters that name a batch: the same records in the same batch, the same name.

    `bucket_s` is the width of the buckets they are stored in: a batch that is repeated after
    the width was changed cuts other chunks, and must not put them in the place of the first ones.
    For the same reason `writer` names the codec they are stored in (the list codec has no name
    here), and `made` tells whatever else decides what is written: times, how much was read.
    """
    cut = " ".join(filter(None, (str(bucket_s), writer, made)))
    return _digest([stream_arn, shard_id, cut, *sequences], 10)


def reject_id(stream_arn: str, shard_id: str, sequence: str, offset: str) -> str:
    """24 characters that name a reject, whatever batch it was met in."""
    return _digest([stream_arn, shard_id, sequence, offset], 15)


def sensors_digest(sensor_ids: Iterable[str]) -> str:
    """16 characters that name a set of sensors."""
    return _digest(["sensors", *sorted(sensor_ids)], 10)


def chunks_digest(keys: Iterable[Key]) -> str:
    """32 characters that name a segment made of the chunks."""
    return _digest([part for key in sorted(keys) for part in key], 20)


def compacted_digest(inputs: Iterable[str], part: Iterable[str]) -> str:
    """32 characters that name a segment made of other ones, given by digest; `part` says which part of their rows."""
    return _digest(["compacted", *part, *sorted(inputs)], 20)


# --- table keys -------------------------------------------------------------------------


def chunk_key(sensor_id: str, bucket_s: int, batch: str, part: int) -> Key:
    """Key of one chunk; `bucket_s` is the bucket's start."""
    return Key(f"{CHUNK_PREFIX}{sensor_id}", f"{bucket_text(bucket_s)}#{batch}#{part}")


def bucket_of_chunk(sort_key: str) -> int:
    """Bucket start (epoch seconds) in a chunk's sort key. Raises ValueError where it is no such key."""
    bucket, _, part = sort_key.split("#")
    if not part.isdecimal():
        raise ValueError(f"{part!r} is no part of a batch")
    return bucket_from_text(bucket)


def sensor_of_chunk(partition: str) -> str:
    """Sensor in a chunk's partition key. Raises ValueError where it is no such key."""
    if not partition.startswith(CHUNK_PREFIX):
        raise ValueError("not a chunk")
    return partition[len(CHUNK_PREFIX) :]


def parse_chunk_key(key: Key) -> tuple[str, int, str, int]:
    """Sensor, bucket start, batch and part of a chunk's key. Raises Corrupt."""
    try:
        bucket, batch, part = key.sk.split("#")
        return sensor_of_chunk(key.pk), bucket_from_text(bucket), batch, int(part)
    except ValueError as error:
        raise Corrupt(f"{key.pk} {key.sk} is not a chunk's key ({error}).") from error


def chunk_parts(chunks: Iterable[Key]) -> dict[tuple[str, int], int]:
    """Of each sensor and bucket (its start) of the chunks, how many parts there are. Raises Corrupt."""
    parts: dict[tuple[str, int], int] = {}
    for pk, sk in chunks:
        try:
            bucket, _, part = sk.split("#")
            entry = pk[len(CHUNK_PREFIX) :], bucket_from_text(bucket)
            count = int(part) + 1
        except ValueError as error:
            raise Corrupt(f"{pk} {sk} is not a chunk's key ({error}).") from error
        if count > parts.get(entry, 0):
            parts[entry] = count
    return parts


def chunk_partition(sensor_id: str) -> str:
    """Partition that holds every chunk of a sensor."""
    return f"{CHUNK_PREFIX}{sensor_id}"


def chunk_range(sensor_id: str, span: Span, widest_bucket_s: int) -> tuple[str, str, str]:
    """Partition key and inclusive sort-key bounds of every chunk that may hold the span's readings."""
    minute_us = (
        60 * US
    )  # buckets begin at whole minutes; one of the span's first instant began less than a width ago
    first_s = ((span.start_us - widest_bucket_s * US) // minute_us + 1) * 60
    last_s = (span.end_us - 1) // (60 * US) * 60
    return chunk_partition(sensor_id), bucket_text(max(first_s, 0)), f"{bucket_text(max(last_s, 0))}~"


def manifest_key(slot_s: int, batch: str, part: int) -> Key:
    """Key of one manifest."""
    return Key(f"{MANIFEST_PREFIX}{slot_s}", f"{batch}#{part}")


def manifest_partition(slot_s: int) -> str:
    """Partition that holds every manifest of a slot."""
    return f"{MANIFEST_PREFIX}{slot_s}"


def ticket_key(slot_s: int) -> Key:
    """Key of a slot's ticket."""
    return Key(f"{TICKET_PREFIX}{slot_s}", "t")


def parse_ticket(pk: str) -> int | None:
    """The slot a ticket's partition key names; None where the key is no ticket's."""
    digits = pk.removeprefix(TICKET_PREFIX)
    return int(digits) if pk.startswith(TICKET_PREFIX) and digits.isdigit() else None


OPEN_SLOTS_PARTITION = "o"
"""Partition of the open slots: one item per slot that may still have manifests."""


def open_slot_key(slot_s: int) -> Key:
    """Key of the item that says a slot may still have manifests; sorts by slot."""
    return Key(OPEN_SLOTS_PARTITION, f"{slot_s:012d}")


def parse_open_slot(key: Key) -> int:
    """The slot of an open-slot item."""
    return int(key.sk)


def layout_key() -> Key:
    """Key of the layout item."""
    return Key("c", "layout")


def sensor_key(sensor_id: str) -> Key:
    """Registry key of a sensor."""
    shard = hashlib.blake2b(sensor_id.encode(), digest_size=1).digest()[0] % REGISTRY_SHARDS
    return Key(f"r#{shard}", sensor_id)


def registry_partitions() -> list[str]:
    """Every partition of the registry."""
    return [f"r#{shard}" for shard in range(REGISTRY_SHARDS)]


def registry_range(prefix: str, after: str) -> tuple[str, str] | None:
    """Inclusive sort-key bounds of the sensors whose ids begin with the prefix and sort behind `after`
    (empty: all of them); None where there can be none. No id holds a character before `!` or behind `z`."""
    low = f"{after}!" if after >= prefix and after else prefix or "!"
    high = f"{prefix}~"
    return (low, high) if low <= high else None


def registry_changes_key() -> Key:
    """Key of the item that counts deletions of sensors, so that doors forget what they remember."""
    return Key("r#deleted", "deleted")


TOKENS = "k#tokens"
"""Partition of the tokens."""


def token_key(token_id: str) -> Key:
    """Key of what is kept of a token."""
    return Key(TOKENS, token_id)


def signing_secret_key() -> Key:
    """Key of the secret that cursors are signed with."""
    return Key("k#secrets", "signing")


def catalog_key(date: str, digest: str) -> Key:
    """Catalog key of a segment; `date` is `YYYY-MM-DD`."""
    return Key(f"{CATALOG_PREFIX}{date[:4]}", f"{date}#{digest}")


def catalog_ranges(first_date: str, last_date: str) -> list[tuple[str, str, str]]:
    """Partition and inclusive sort-key bounds, per year, of the segments of the dates (both inclusive)."""
    ranges: list[tuple[str, str, str]] = []
    for year in range(int(first_date[:4]), int(last_date[:4]) + 1):
        low = max(first_date, f"{year:04d}-01-01")
        high = min(last_date, f"{year:04d}-12-31")
        ranges.append((f"{CATALOG_PREFIX}{year:04d}", f"{low}#", f"{high}#~"))
    return ranges


# --- object names -----------------------------------------------------------------------


def date_of(ts_us: int) -> str:
    """UTC date of an instant, `YYYY-MM-DD`."""
    return datetime.fromtimestamp(ts_us // US, UTC).strftime("%Y-%m-%d")


def date_span(date: str) -> Span:
    """The 24 hours of a UTC date. Raises ValueError."""
    start = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    end = start + timedelta(days=1)
    return Span(int(start.timestamp()) * US, int(end.timestamp()) * US)


def segment_name(date: str, digest: str) -> str:
    """Object name of a segment."""
    return f"{SEGMENT_PREFIX}date={date}/{digest}.parquet"


def parse_segment_name(name: str) -> tuple[str, str] | None:
    """Date and digest of a segment's object name; None where the name is not a segment's."""
    rest = name.removeprefix(SEGMENT_PREFIX)
    folder, slash, leaf = rest.partition("/")
    if rest == name or not slash or "/" in leaf or not leaf.endswith(".parquet"):
        return None
    date = folder.removeprefix("date=")
    try:
        well_formed = date_of(date_span(date).start_us) == date
    except ValueError:
        return None
    return (date, leaf.removesuffix(".parquet")) if well_formed and folder.startswith("date=") else None


def reject_name(date: str, batch: str) -> str:
    """Object name of the rejects of one batch."""
    return f"{reject_folder(date)}{batch}.json.gz"


def reject_folder(date: str) -> str:
    """What the names of a date's reject objects begin with."""
    return f"{REJECT_PREFIX}date={date}/"


def stored_again_prefix(date: str) -> str:
    """What the names of the objects begin with that say which of a date's rejects are stored now."""
    return f"{reject_folder(date)}{_STORED_AGAIN}"


def stored_again_name(date: str, ids: Iterable[str]) -> str:
    """Name of the object that says of these rejects, which arrived on the date, that they are stored now."""
    return f"{stored_again_prefix(date)}{_digest(sorted(ids), 10)}.json.gz"


def parse_reject_name(name: str) -> str | None:
    """The date of an object of rejects; None for every other name."""
    folder, _, leaf = name.removeprefix(REJECT_PREFIX).partition("/")
    date = folder.removeprefix("date=")
    known = name == reject_name(date, leaf.removesuffix(".json.gz")) and "/" not in leaf
    return date if known and not leaf.startswith(_STORED_AGAIN) else None


def parse_failed_batch_name(name: str) -> str | None:
    """The date on which a batch was given up, from `.../YYYY/MM/DD/...`; None where the name tells none."""
    found = _FAILED_ON.search(name)
    return "-".join(found.groups()) if found else None


def failed_batch_id(name: str) -> str:
    """24 characters that stand for the name of a batch that was given up."""
    return _digest([name], 15)
