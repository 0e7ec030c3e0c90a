"""One table item holding a run: the list codec both ways, its cuts, and nothing about tables or time.

Attribute names stand here only; `FORMATS.md` gives them field by field.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise, repeat
from math import gcd
from operator import sub
from typing import cast

import msgspec

from ingest import keys
from ingest.errors import Corrupt
from ingest.item import Attribute, Item, item_size, number_size, write_units
from ingest.keys import US, Key
from ingest.reading import MAX_INT_DIGITS, Column, Run, Value, canonical, number, take

__all__ = ["MOST_CHUNK_BYTES", "Chunk", "decode_item", "encode", "item_size", "write_units"]

MOST_CHUNK_BYTES = 64 * 1024
"""A chunk that would pass this is cut; a whole number of write units, so only the last part wastes one."""
LIST_CODEC = "l"
_ELEMENT = 1
_CONTAINER = 3
_NUMBERS = frozenset({int, float})
_JOIN = b'"},{"N":"'


@dataclass(frozen=True, slots=True)
class Chunk:
    """A decoded chunk: its key, its readings (one arrival for all), and its `ttl` in epoch seconds."""

    key: Key
    run: Run
    expires_at_s: int


class _NumberSizes(dict[int | float, int]):
    """Sizes of numbers met before, of one type: a float and an int may be equal and differ in digits."""

    def __missing__(self, value: int | float) -> int:
        if len(self) > 50_000:
            self.clear()
        size = self[value] = number_size(repr(value)) + _ELEMENT
        return size


_int_sizes = _NumberSizes()
_float_sizes = _NumberSizes()


@dataclass(frozen=True, slots=True)
class _Text:
    """Part of an item: its JSON and its billed bytes."""

    json: str
    size_bytes: int


# --- run -> items -----------------------------------------------------------------------


def encode(run: Run, bucket_start_s: int, batch: str, expires_at_s: int) -> list[Item]:
    """The chunks of a run that lies inside one bucket, numbered from part 0.

    One chunk, or as many of at most 64 KB as it takes: cut by readings, and where a
    single reading is larger, by metrics. `expires_at_s` is epoch seconds.
    """
    arrival_ms = run.arrival_ms
    if not isinstance(arrival_ms, int):
        arrival_ms = max(map(max, arrival_ms.values()))
        run = replace(run, arrival_ms=arrival_ms)
    items: list[Item] = []
    for piece in _cut(run, bucket_start_s):
        key = keys.chunk_key(run.sensor_id, bucket_start_s, batch, len(items))
        body = _body(piece, bucket_start_s)
        head: dict[str, Attribute] = {
            "pk": {"S": key.pk},
            "sk": {"S": key.sk},
            "n": {"N": str(len(piece.ts_us))},
            "c": {"S": LIST_CODEC},
            "at": {"N": str(arrival_ms)},
            "ttl": {"N": str(expires_at_s)},
        }
        text = json.dumps(head, separators=(",", ":"))
        items.append(Item(key, f"{text[:-1]},{body.json}}}", item_size(head) + body.size_bytes))
    return items


_HEAD_BYTES = 256
"""More than the key, arrival, ttl and tag of any chunk weigh."""


def _cut(run: Run, bucket_start_s: int) -> list[Run]:
    if _weight_bound(run) <= MOST_CHUNK_BYTES:
        return [run]
    limit = MOST_CHUNK_BYTES - _HEAD_BYTES
    count = len(run.ts_us)
    if count == 1:
        return _cut_metrics(run, bucket_start_s, limit)
    pieces: list[Run] = []
    start = 0
    while start < count:
        fits, over = 0, count - start + 1
        guess = over - 1
        while over - fits > 1:
            size = _body(take(run, start, start + guess), bucket_start_s).size_bytes
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
    if len(names) < 2 or _body(run, bucket_start_s).size_bytes <= limit:
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
    per_reading = 24 * (len(run.metrics) + 1)
    return _HEAD_BYTES + texts + sum(len(name) + 5 for name in run.metrics) + per_reading * len(run.ts_us)


def _body(run: Run, bucket_start_s: int) -> _Text:
    """The attributes that hold times and values."""
    start = str(run.ts_us[0] - bucket_start_s * US)
    times, spread = _times(run)
    columns = [
        (name, _column(column, spread, len(run.ts_us)))
        for name, column in run.metrics.items()
        if column[0] is not None or column.count(None) < len(column)
    ]
    named = ",".join(f"{json.dumps(name)}:{column.json}" for name, column in columns)
    size = len("t0") + number_size(start) + len("v") + _CONTAINER
    size += sum(_ELEMENT + len(name) + column.size_bytes for name, column in columns)
    return _Text(f'"t0":{{"N":"{start}"}},{times.json}"v":{{"M":{{{named}}}}}', size + times.size_bytes)


def _times(run: Run) -> tuple[_Text, list[int] | None]:
    """The time attributes, and where each reading stands on the grid if it has holes.

    The smallest of: a step (missing instants are NULL in the values), a step and each
    reading's distance from that grid, or the deltas.
    """
    ts_us = run.ts_us
    if len(ts_us) == 1:
        return _Text("", 0), None
    deltas = list(map(sub, ts_us[1:], ts_us))
    if deltas.count(deltas[0]) == len(deltas):
        return _step(deltas[0]), None
    plain = _number_list("t", deltas)
    step = sorted(deltas)[len(deltas) // 2]
    offsets = [ts - ts_us[0] - i * step for i, ts in enumerate(ts_us)][1:]
    jitter = _number_list("t", offsets)
    best = plain
    if jitter.size_bytes + _step(step).size_bytes < plain.size_bytes:
        best = _Text(_step(step).json + jitter.json, jitter.size_bytes + _step(step).size_bytes)
    grid = gcd(*deltas)
    places = (ts_us[-1] - ts_us[0]) // grid + 1
    holes = places - len(ts_us)
    if _step(grid).size_bytes + 2 * holes * len(run.metrics) < best.size_bytes:
        spread = [(ts - ts_us[0]) // grid for ts in ts_us]
        lost = sum(_constant_saving(column) for column in run.metrics.values())
        if _step(grid).size_bytes + 2 * holes * len(run.metrics) + lost < best.size_bytes:
            return _step(grid), spread
    return best, None


def _step(step_us: int) -> _Text:
    return _Text(f'"dt":{{"N":"{step_us}"}},', len("dt") + number_size(str(step_us)))


def _number_list(name: str, numbers: Sequence[int]) -> _Text:
    size = len(name) + _CONTAINER + sum(map(_int_sizes.__getitem__, numbers))
    inner = '"},{"N":"'.join(map(str, numbers))
    return _Text(f'"{name}":{{"L":[{{"N":"{inner}"}}]}},', size)


def _constant_saving(column: Column) -> int:
    """Bytes a constant column saves by standing as one value."""
    if not _is_constant(column):
        return 0
    return _CONTAINER + (len(column) - 1) * (_ELEMENT + _cell(column[0]).size_bytes)


def _is_constant(column: Column) -> bool:
    first = column[0]
    return first is not None and column.count(first) == len(column) and len(set(map(type, column))) == 1


def _column(column: Column, spread: list[int] | None, count: int) -> _Text:
    if spread is not None:
        spaced: Column = [None] * (spread[-1] + 1)
        for place, cell in zip(spread, column, strict=True):
            spaced[place] = cell
        column = spaced
    elif count > 1 and _is_constant(column):
        return _cell(column[0])
    kinds = set(map(type, column))
    if kinds <= _NUMBERS:
        numbers = cast(list[int | float], column)
        if len(kinds) == 1:
            size = _CONTAINER + sum(map((_int_sizes if int in kinds else _float_sizes).__getitem__, numbers))
        else:
            size = _CONTAINER + sum(number_size(repr(value)) + _ELEMENT for value in numbers)
        inner = msgspec.json.encode(column)[1:-1].replace(b",", _JOIN)
        return _Text(f'{{"L":[{{"N":"{inner.decode()}"}}]}}', size)
    cells = [_cell(cell) for cell in column]
    size = _CONTAINER + sum(cell.size_bytes + _ELEMENT for cell in cells)
    return _Text(f'{{"L":[{",".join([cell.json for cell in cells])}]}}', size)


def _cell(value: Value | None) -> _Text:
    if value is None:
        return _Text('{"NULL":true}', 1)
    if isinstance(value, bool):
        return _Text('{"BOOL":true}' if value else '{"BOOL":false}', 1)
    if isinstance(value, str):
        return _Text(f'{{"S":{json.dumps(value, ensure_ascii=False)}}}', len(value.encode()))
    text = canonical(value)
    return _Text(f'{{"N":"{text}"}}', number_size(text))


# --- item -> run ------------------------------------------------------------------------


def decode_item(item: Mapping[str, Attribute]) -> Chunk:
    """The chunk an item holds. Raises Corrupt where its parts contradict each other."""
    key = Key(cast(str, item["pk"]["S"]), cast(str, item["sk"]["S"]))
    sensor_id, bucket_start_s, _, _ = keys.parse_chunk_key(key)
    try:
        codec = item["c"]["S"]
        if codec != LIST_CODEC:
            raise ValueError(f"unknown codec {codec!r}")
        count = int(cast(str, item["n"]["N"]))
        run = _decode_run(item, sensor_id, bucket_start_s, count)
        return Chunk(key, run, int(cast(str, item["ttl"]["N"])))
    except (KeyError, ValueError, TypeError) as error:
        raise Corrupt(
            f"Chunk {key.pk} {key.sk} cannot be read: {error}. Export the item before removing it."
        ) from error


def _decode_run(item: Mapping[str, Attribute], sensor_id: str, bucket_start_s: int, count: int) -> Run:
    stored = cast(dict[str, Attribute], item["v"]["M"])
    lists = [len(cast(list[Attribute], value["L"])) for value in stored.values() if "L" in value]
    places = lists[0] if lists else count
    if any(length != places for length in lists) or places < count:
        raise ValueError("its columns differ in length")
    ts_us = _decode_times(item, bucket_start_s * US + int(cast(str, item["t0"]["N"])), places)
    columns: dict[str, Column] = {}
    for name, value in stored.items():
        if "L" in value:
            columns[name] = _decode_list(cast(list[dict[str, object]], value["L"]))
        else:
            columns[name] = list(repeat(_decode_cell(value), places))
    if places > count:
        kept = [
            i
            for i, cells in enumerate(zip(*columns.values(), strict=True))
            if any(c is not None for c in cells)
        ]
        ts_us = [ts_us[i] for i in kept]
        columns = {name: [column[i] for i in kept] for name, column in columns.items()}
    if len(ts_us) != count:
        raise ValueError(f"it says {count} readings and holds {len(ts_us)}")
    return Run(sensor_id, ts_us, columns, int(cast(str, item["at"]["N"])))


def _decode_times(item: Mapping[str, Attribute], first_us: int, places: int) -> list[int]:
    step = int(cast(str, item["dt"]["N"])) if "dt" in item else 0
    if "t" not in item:
        return [first_us + i * step for i in range(places)]
    listed = [int(element["N"]) for element in cast(list[dict[str, str]], item["t"]["L"])]
    if len(listed) != places - 1:
        raise ValueError(f"it has {len(listed)} time steps for {places} instants")
    if step:
        ts_us = [first_us, *(first_us + (i + 1) * step + offset for i, offset in enumerate(listed))]
    else:
        ts_us = list(accumulate(listed, initial=first_us))
    if any(a >= b for a, b in pairwise(ts_us)):
        raise ValueError("its times do not increase")
    return ts_us


def _decode_list(elements: Iterable[Mapping[str, object]]) -> Column:
    texts = [element.get("N") for element in elements]
    if None not in texts:
        joined = ",".join(cast(list[str], texts))
        # A service may answer with an exponent, where a long integer would lose digits as a double,
        # or with every digit of 9.99e125, which is a float for all that.
        if "E" in joined or max(map(len, cast(list[str], texts)), default=0) > MAX_INT_DIGITS:
            return [number(cast(str, text)) for text in texts]
        try:
            return msgspec.json.decode(f"[{joined}]", type=list[int | float])  # pyright: ignore[reportReturnType]
        except msgspec.MsgspecError:
            return [number(cast(str, text)) for text in texts]
    return [_decode_cell(element) for element in elements]


def _decode_cell(element: Mapping[str, object]) -> Value | None:
    ((kind, value),) = element.items()
    if kind == "N":
        return number(cast(str, value))
    if kind in ("S", "BOOL"):
        return cast(Value, value)
    if kind == "NULL":
        return None
    raise ValueError(f"a value of type {kind}")
