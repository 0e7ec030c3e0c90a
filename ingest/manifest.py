"""The items around the chunks: manifests, tickets, open slots, the layout; nothing else knows their attributes."""

from __future__ import annotations

import json
import struct
import zlib
from binascii import b2a_base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from operator import sub
from typing import cast

from ingest import keys
from ingest.errors import Corrupt
from ingest.item import Attribute, Item, binary, make_item, number_size
from ingest.keys import Key, Layout, Period

LAYOUT_ATTRIBUTE = "layout"
LAYOUT_VERSION = 1

CHUNKS_PER_MANIFEST = 1_000
"""Keeps a manifest below 150 KB with ids of the greatest length, far below what an item may hold."""
SECOND_FORM = 2
"""First byte of `chunks` where it is a Binary; where it is a list, the manifest has the first form."""
_HEAD = struct.Struct("<IH")
_MOST_INFLATED = 16 * 1024 * 1024
_MINUTE_S = 60


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
    entries = iter(sorted(keys.chunk_parts(chunks).items()))
    times = {"written": written_s, "bucket": period.bucket_s, "hot": period.hot_retention_s}
    told = ",".join([f'"{name}":{{"N":"{number}"}}' for name, number in times.items()])
    size_bytes = sum(len(name) + number_size(str(number)) for name, number in times.items())
    items: list[Item] = []
    while group := list(islice(entries, CHUNKS_PER_MANIFEST)):
        key = keys.manifest_key(slot_s, batch, len(items))
        named = _packed(group)
        text = b2a_base64(named, newline=False).decode()
        body = f'{{"pk":{{"S":"{key.pk}"}},"sk":{{"S":"{key.sk}"}},"chunks":{{"B":"{text}"}},{told}}}'
        size = len("pk" + key.pk + "sk" + key.sk + "chunks") + len(named) + size_bytes
        items.append(Item(key, body, size))
    return items


def decode_manifest(item: Mapping[str, Attribute]) -> Manifest:
    """The inverse of `encode_manifests`, one item at a time, of either form. Raises Corrupt."""
    key = Key(cast(str, item["pk"]["S"]), cast(str, item["sk"]["S"]))
    try:
        batch = key.sk.partition("#")[0]
        return Manifest(
            key=key,
            slot_s=int(key.pk.removeprefix(keys.MANIFEST_PREFIX)),
            batch=batch,
            written_s=int(cast(str, item["written"]["N"])),
            chunks=tuple(_named_chunks(item["chunks"], batch)),
            bucket_s=_number(item, "bucket"),
            hot_retention_s=_number(item, "hot"),
        )
    except (KeyError, TypeError, ValueError, OverflowError, struct.error, zlib.error) as error:
        raise Corrupt(
            f"The manifest {key.pk} {key.sk} cannot be read ({error}). If a later release wrote it, read it with "
            "that; else restore the item from the table's backup: it names chunks that are to be archived."
        ) from error


def _number(item: Mapping[str, Attribute], name: str) -> int | None:
    return int(cast(str, item[name]["N"])) if name in item else None


def _named_chunks(stored: Attribute, batch: str) -> Iterator[Key]:
    entries = _unpacked(binary(stored["B"])) if "B" in stored else _listed(stored["L"])
    for sensor_id, bucket_s, count in entries:
        for part in range(count):
            yield keys.chunk_key(sensor_id, bucket_s, batch, part)


def _listed(entries: object) -> Iterator[tuple[str, int, int]]:
    """The entries of the first form."""
    for entry in cast(list[Attribute], entries):
        sensor, bucket, count = cast(list[dict[str, str]], entry["L"])
        yield sensor["S"], int(bucket["N"]), int(count["N"])


def _packed(group: Sequence[tuple[tuple[str, int], int]]) -> bytes:
    """The entries, sorted, as the Binary of the second form.

    Ids are the rows of a matrix, each less the one before, written column by column: neighbours differ in their
    last characters, and like stands beside like. It is deflated, under zlib's checksum.
    """
    ids = [sensor_id.encode() for (sensor_id, _), _ in group]
    minutes = [bucket_s // _MINUTE_S for (_, bucket_s), _ in group]
    count, width = len(ids), max(map(len, ids))
    flat = b"".join([one.ljust(width, b"\0") for one in ids])
    turned = _less(flat, bytes(width) + flat[:-width])
    whole = b"".join(
        [
            _HEAD.pack(count, width),
            *[turned[place::width] for place in range(width)],
            struct.pack(f"<{count}i", *map(sub, minutes, [0, *minutes])),
            struct.pack(f"<{count}I", *[parts for _, parts in group]),
        ]
    )
    return bytes([SECOND_FORM]) + zlib.compress(whole)


def _less(these: bytes, those: bytes) -> bytes:
    """Each byte less the one in the same place, modulo 256: as one number, whose bytes borrow from their own top
    bits, which are set for it and put right afterwards."""
    size = len(these)
    tops = int.from_bytes(b"\x80" * size, "little")
    a, b = int.from_bytes(these, "little"), int.from_bytes(those, "little")
    steps = ((a | tops) - (b & ~tops)) ^ ((a ^ ~b) & tops)
    return steps.to_bytes(size, "little")


def _unpacked(data: bytes) -> Iterator[tuple[str, int, int]]:
    """The inverse of `_packed`. Raises ValueError, zlib.error or struct.error where it is damaged."""
    import numpy as np  # noqa: PLC0415 - the batch door, which starts often, only writes manifests

    if data[:1] != bytes([SECOND_FORM]):
        raise ValueError(f"its form {data[:1].hex()} is not known here")
    inflating = zlib.decompressobj()
    whole = inflating.decompress(data[1:], _MOST_INFLATED)
    if not inflating.eof or inflating.unused_data:
        raise ValueError("its names are cut off, or more follows")
    count, width = _HEAD.unpack_from(whole)
    steps_at = _HEAD.size + count * width
    counts_at = steps_at + 4 * count
    if not count or not width or len(whole) != counts_at + 4 * count:
        raise ValueError(f"{len(whole)} bytes cannot name {count} chunks of sensors with {width} characters")
    columns = np.frombuffer(whole, np.uint8, count * width, _HEAD.size).reshape(width, count)
    rows = np.ascontiguousarray(np.cumsum(columns, axis=1, dtype=np.uint8).T)
    ids: list[bytes] = rows.view(f"S{width}").ravel().tolist()
    minutes = np.cumsum(np.frombuffer(whole, "<i4", count, steps_at), dtype=np.int64).tolist()
    counts = np.frombuffer(whole, "<u4", count, counts_at).tolist()
    if not all(ids) or not all(counts):
        raise ValueError("it names a sensor without an id, or no part of a bucket")
    for sensor_id, minute, parts in zip(ids, minutes, counts, strict=True):
        yield sensor_id.decode("ascii"), minute * _MINUTE_S, parts


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
