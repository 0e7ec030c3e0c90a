"""One table item holding a run: what both codecs share, which one a chunk is in, and where runs are cut.

Attribute names stand here only; `FORMATS.md` gives them field by field.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import NamedTuple, cast

from ingest import chunk_list, keys
from ingest.chunk_list import Text
from ingest.errors import BadInput, Corrupt, ThermoclineError
from ingest.item import Attribute, Item, item_size, write_units
from ingest.keys import Key
from ingest.reading import Run, take

__all__ = ["MOST_CHUNK_BYTES", "Chunk", "decode_item", "encode", "item_size", "write_units", "writer"]

MOST_CHUNK_BYTES = 64 * 1024
"""A chunk that would pass this is cut; a whole number of write units, so only the last part wastes one."""
TAGS = {"list": "l", "packed": "p"}
"""What a chunk says of its codec, by the codec's name. Both are read wherever they stand."""
BodyOf = Callable[[Run, int, int], Text]
"""Makes the times and values of a run in the bucket that starts at the second, beside so many bytes."""


class Chunk(NamedTuple):
    """A decoded chunk: its key, its readings (one arrival for all), and its `ttl` in epoch seconds."""

    key: Key
    run: Run
    expires_at_s: int


# --- run -> items -----------------------------------------------------------------------


def encode(run: Run, bucket_start_s: int, batch: str, expires_at_s: int, codec: str = "list") -> list[Item]:
    """The chunks of a run that lies inside one bucket, numbered from part 0.

    One chunk, or as many of at most 64 KB as it takes: cut by readings, and where a
    single reading is larger, by metrics. With the codec `packed` each chunk is packed
    where that takes fewer write units. `expires_at_s` is epoch seconds.
    """
    listing = codec == "list"
    if listing:
        plain = _plain(run, bucket_start_s, batch, expires_at_s)
        if plain is not None:
            return [plain]
    piece_of: BodyOf = chunk_list.body if listing else _packed().body
    body_of: BodyOf = chunk_list.body if listing else _packed().smaller
    arrival_ms = run.arrival_ms
    if not isinstance(arrival_ms, int):
        arrival_ms = max(map(max, arrival_ms.values()))
        run = replace(run, arrival_ms=arrival_ms)
    items: list[Item] = []
    for piece in _cut(run, bucket_start_s, piece_of, len(run.ts_us) if listing else _packed().MOST_VALUES):
        key = keys.chunk_key(run.sensor_id, bucket_start_s, batch, len(items))
        head: dict[str, Attribute] = {
            "pk": {"S": key.pk},
            "sk": {"S": key.sk},
            "n": {"N": str(len(piece.ts_us))},
            "c": {"S": TAGS["list"]},
            "at": {"N": str(arrival_ms)},
            "ttl": {"N": str(expires_at_s)},
        }
        head_bytes = item_size(head)
        body = body_of(piece, bucket_start_s, head_bytes)
        head["c"] = {"S": TAGS[body.codec]}
        text = json.dumps(head, separators=(",", ":"))
        items.append(Item(key, f"{text[:-1]},{body.json}}}", head_bytes + body.size_bytes))
    return items


def _plain(run: Run, bucket_start_s: int, batch: str, expires_at_s: int) -> Item | None:
    """The one chunk of a run of numbers on a grid, its size left to be counted; None for every other run.

    Writes what `encode` writes, at a fraction of its cost.
    """
    count = len(run.ts_us)
    names_bytes = sum(map(len, run.metrics)) + _NAME_BYTES * len(run.metrics)
    if _HEAD_BYTES + names_bytes + _CELL_BYTES * (len(run.metrics) + 1) * count > MOST_CHUNK_BYTES:
        return None
    body = chunk_list.plain_body(run, bucket_start_s)
    if body is None:
        return None
    arrival_ms = run.arrival_ms
    if not isinstance(arrival_ms, int):
        arrival_ms = max(map(max, arrival_ms.values()))
    key = keys.chunk_key(run.sensor_id, bucket_start_s, batch, 0)
    head = f'{{"pk":{{"S":"{key.pk}"}},"sk":{{"S":"{key.sk}"}},"n":{{"N":"{count}"}},"c":{{"S":"l"}}'
    return Item(key, f'{head},"at":{{"N":"{arrival_ms}"}},"ttl":{{"N":"{expires_at_s}"}},{body}}}')


def writer(codec: str) -> str:
    """What of a codec enters the batch id: a batch repeated under another may be cut otherwise.

    Raises BadInput where there is no such codec or its package is not installed.
    """
    if codec not in TAGS:
        raise BadInput(f"codec: {codec!r} is no codec; use list or packed.")
    return "" if codec == "list" else _packed().WRITER


def _packed() -> ModuleType:
    """The packed codec, loaded with numpy and pcodec where a chunk first needs it."""
    try:
        from ingest import chunk_packed  # noqa: PLC0415 - a tenth of a second most starts need not spend
    except ImportError as error:
        raise ThermoclineError(
            f"The packed codec needs pcodec and numpy, and {error.name} is not installed. "
            "Install thermocline with the extra `packed`."
        ) from error
    return chunk_packed


_HEAD_BYTES = 256
"""More than the key, arrival, ttl and tag of any chunk weigh."""
_CELL_BYTES = 24
"""More than a number weighs in a list."""
_NAME_BYTES = 5
"""What a metric weighs beside its name and its values."""


def _cut(run: Run, bucket_start_s: int, body_of: BodyOf, most: int) -> list[Run]:
    if _weight_bound(run) <= MOST_CHUNK_BYTES:
        return [run]
    limit = MOST_CHUNK_BYTES - _HEAD_BYTES
    count = len(run.ts_us)
    if count == 1:
        return _cut_metrics(run, bucket_start_s, limit)
    pieces: list[Run] = []
    start = 0
    while start < count:
        fits, over = 0, min(count - start, most) + 1
        guess = over - 1
        while over - fits > 1:
            size = body_of(take(run, start, start + guess), bucket_start_s, _HEAD_BYTES).size_bytes
            if size <= limit:
                fits = guess
            else:
                over = guess
            near = int(guess * limit / max(size, 1))
            guess = min(max(near, fits + 1), over - 1) if over - fits > 8 else (fits + over) // 2
        piece = take(run, start, start + max(fits, 1))
        pieces.extend([piece] if fits else _cut_metrics(piece, bucket_start_s, limit))
        start += max(fits, 1)
    return pieces


def _cut_metrics(run: Run, bucket_start_s: int, limit: int) -> list[Run]:
    """One reading over several chunks, some of its metrics in each."""
    names = [name for name, column in run.metrics.items() if column[0] is not None]
    if len(names) < 2 or chunk_list.body(run, bucket_start_s).size_bytes <= limit:
        return [run]
    half = len(names) // 2
    parts = (
        Run(run.sensor_id, run.ts_us, {n: run.metrics[n] for n in group}, run.arrival_ms)
        for group in (names[:half], names[half:])
    )
    return [piece for part in parts for piece in _cut_metrics(part, bucket_start_s, limit)]


def _weight_bound(run: Run) -> int:
    """No chunk of the run weighs more, found without looking at numbers one by one."""
    texts = sum(
        len(cell.encode())
        for column in run.metrics.values()
        if str in set(map(type, column))
        for cell in column
        if isinstance(cell, str)
    )
    per_reading = _CELL_BYTES * (len(run.metrics) + 1)
    return (
        _HEAD_BYTES
        + texts
        + sum(len(name) + _NAME_BYTES for name in run.metrics)
        + per_reading * len(run.ts_us)
    )


# --- item -> run ------------------------------------------------------------------------


def decode_item(item: Mapping[str, Attribute]) -> Chunk:
    """The chunk an item holds. Raises Corrupt where its parts contradict each other."""
    key = Key(cast(str, item["pk"]["S"]), cast(str, item["sk"]["S"]))
    sensor_id, bucket_start_s, _, _ = keys.parse_chunk_key(key)
    try:
        codec = item["c"]["S"]
        if codec not in TAGS.values():
            raise ValueError(f"unknown codec {codec!r}")
        decode_run = chunk_list.decode_run if codec == TAGS["list"] else _packed().decode_run
        run = decode_run(item, sensor_id, bucket_start_s, int(cast(str, item["n"]["N"])))
        return Chunk(key, run, int(cast(str, item["ttl"]["N"])))
    except (KeyError, ValueError, TypeError) as error:
        raise Corrupt(
            f"Chunk {key.pk} {key.sk} cannot be read: {error}. Export the item before removing it."
        ) from error
