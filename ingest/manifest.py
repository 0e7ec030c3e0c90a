"""The items around the chunks: manifests, tickets, open slots, the layout; nothing else knows their attributes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import cast

from ingest import keys
from ingest.errors import Corrupt
from ingest.item import Attribute, Item, make_item
from ingest.keys import Key, Layout, Period

LAYOUT_ATTRIBUTE = "layout"
LAYOUT_VERSION = 1

CHUNKS_PER_MANIFEST = 1_000
"""Keeps a manifest below 200 KB with ids of the greatest length, half of what an item may hold."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which chunks one batch wrote for one slot. `written_s` is when (epoch seconds), `bucket_s` and
    `hot_retention_s` are the widths and retention its writer knew; None where it did not say (an older release)."""

    key: Key
    slot_s: int
    batch: str
    written_s: int
    chunks: tuple[Key, ...]
    bucket_s: int | None = None
    hot_retention_s: int | None = None


def encode_manifests(
    slot_s: int, batch: str, written_s: int, chunks: Sequence[Key], period: Period
) -> list[Item]:
    """The manifests of one batch and slot: one, or more where there are very many chunks.

    `period` is what the writer goes by: another one may be in force by now, and here the archiver is to
    learn when the chunks expire.
    """
    parts: dict[tuple[str, int], int] = {}
    for key in chunks:
        sensor_id, bucket_s, _, part = keys.parse_chunk_key(key)
        parts[sensor_id, bucket_s] = max(parts.get((sensor_id, bucket_s), 0), part + 1)
    entries = iter(sorted(parts.items()))
    items: list[Item] = []
    while group := list(islice(entries, CHUNKS_PER_MANIFEST)):
        key = keys.manifest_key(slot_s, batch, len(items))
        named = ",".join(
            [
                f'{{"L":[{{"S":"{sensor_id}"}},{{"N":"{bucket_s}"}},{{"N":"{count}"}}]}}'
                for (sensor_id, bucket_s), count in group
            ]
        )
        head = f'{{"pk":{{"S":"{key.pk}"}},"sk":{{"S":"{key.sk}"}}'
        times = f'"bucket":{{"N":"{period.bucket_s}"}},"hot":{{"N":"{period.hot_retention_s}"}}'
        body = f'{head},"chunks":{{"L":[{named}]}},"written":{{"N":"{written_s}"}},{times}}}'
        items.append(Item(key, body))
    return items


def decode_manifest(item: Mapping[str, Attribute]) -> Manifest:
    """The inverse of `encode_manifests`, one item at a time."""
    key = Key(cast(str, item["pk"]["S"]), cast(str, item["sk"]["S"]))
    batch = key.sk.partition("#")[0]
    slot_s = int(key.pk.removeprefix(keys.MANIFEST_PREFIX))
    chunks = tuple(_named_chunks(cast(list[Attribute], item["chunks"]["L"]), batch))
    return Manifest(
        key=key,
        slot_s=slot_s,
        batch=batch,
        written_s=int(cast(str, item["written"]["N"])),
        chunks=chunks,
        bucket_s=_number(item, "bucket"),
        hot_retention_s=_number(item, "hot"),
    )


def _number(item: Mapping[str, Attribute], name: str) -> int | None:
    return int(cast(str, item[name]["N"])) if name in item else None


def _named_chunks(entries: Iterable[Attribute], batch: str) -> Iterator[Key]:
    for entry in entries:
        sensor, bucket, count = cast(list[dict[str, str]], entry["L"])
        for part in range(int(count["N"])):
            yield keys.chunk_key(sensor["S"], int(bucket["N"]), batch, part)


def encode_ticket(slot_s: int) -> Item:
    """The ticket of a slot: its expiry is the order to archive."""
    key = keys.ticket_key(slot_s)
    return make_item({"pk": {"S": key.pk}, "sk": {"S": key.sk}, "ttl": {"N": str(slot_s)}})


def encode_open_slot(slot_s: int) -> Item:
    """The item that keeps a slot findable until it is past and has no manifest left."""
    key = keys.open_slot_key(slot_s)
    return make_item({"pk": {"S": key.pk}, "sk": {"S": key.sk}})


def encode_layout(layout: Layout) -> Item:
    """The layout item; its `layout` attribute is JSON text."""
    key = keys.layout_key()
    return make_item({"pk": {"S": key.pk}, "sk": {"S": key.sk}, LAYOUT_ATTRIBUTE: {"S": layout_text(layout)}})


def layout_text(layout: Layout) -> str:
    """A layout as JSON; equal layouts give equal texts."""
    periods = [asdict(period) for period in layout.periods]
    return json.dumps(
        {"version": LAYOUT_VERSION, "shortest_hot_s": layout.shortest_hot_s, "periods": periods}
    )


def decode_layout(item: Mapping[str, Attribute]) -> Layout:
    """The inverse of `encode_layout`. Raises Corrupt."""
    try:
        stored = json.loads(cast(str, item[LAYOUT_ATTRIBUTE]["S"]))
        if stored["version"] != LAYOUT_VERSION or not stored["periods"]:
            raise ValueError(f"version {stored['version']!r} with {len(stored['periods'])} periods")
        periods = tuple(Period(**period) for period in stored["periods"])
        return Layout(periods, int(stored["shortest_hot_s"]))
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt(f"The layout item cannot be read ({error}). Deploy again to write it anew.") from error
