"""The list codec of chunks, both ways: times and values as numbers, texts and booleans anyone can read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import gcd
from operator import add, ge, sub
from typing import cast

import msgspec

from ingest.item import Attribute, number_size
from ingest.keys import US
from ingest.number_text import number_text, split_columns
from ingest.reading import MAX_INT_DIGITS, Column, Run, Value, canonical, instants_present, number

ELEMENT = 1
"""Bytes an element of a list or map takes beside its value."""
CONTAINER = 3
"""Bytes a list or map takes beside its elements."""
_NUMBERS = frozenset({int, float})
_BETWEEN = '"},{"N":"'
_JOIN = _BETWEEN.encode()


class _NumberSizes(dict[int | float, int]):
    """Sizes of numbers met before, of one type: a float and an int may be equal and differ in digits."""

    def __missing__(self, value: int | float) -> int:
        if len(self) > 50_000:
            self.clear()
        size = self[value] = number_size(repr(value)) + ELEMENT
        return size


_int_sizes = _NumberSizes()
_float_sizes = _NumberSizes()


@dataclass(frozen=True, slots=True)
class Text:
    """Part of an item: its JSON and its billed bytes; of a whole body, its codec."""

    json: str
    size_bytes: int
    codec: str = "list"


# --- run -> attributes ------------------------------------------------------------------


def plain_body(run: Run, bucket_start_s: int) -> str | None:
    """The JSON of `body` where all cells are numbers that `number_text` takes and no instant is missing; else None."""
    ts_us, metrics = run.ts_us, run.metrics
    count = len(ts_us)
    text, step_us = run.encoded or (number_text(metrics.values(), count) if metrics else None, 0)
    if text is None:
        return None
    times = ""
    if count > 1 and not step_us:
        found, spread = _times(run)
        if spread is not None:
            return None
        times = found.json
    elif count > 1:
        times = f'"dt":{{"N":"{step_us}"}},'
    named = [
        f'"{name}":{cell_text(column[0]).json}'
        if column[0] == column[-1] and count > 1 and is_constant(column)
        else f'"{name}":{{"L":[{{"N":"{numbers}"}}]}}'
        for (name, column), numbers in zip(metrics.items(), split_columns(text, _BETWEEN), strict=True)
    ]
    start_us = ts_us[0] - bucket_start_s * US
    return f'"t0":{{"N":"{start_us}"}},{times}"v":{{"M":{{{",".join(named)}}}}}'


def body(run: Run, bucket_start_s: int, head_bytes: int = 0) -> Text:
    """The attributes that hold times and values, as lists whatever the rest of the item weighs."""
    del head_bytes
    start = str(run.ts_us[0] - bucket_start_s * US)
    times, spread = _times(run)
    columns = [
        (name, list_column(column, spread, len(run.ts_us)))
        for name, column in run.metrics.items()
        if column[0] is not None or column.count(None) < len(column)
    ]
    named = ",".join(f"{json.dumps(name)}:{column.json}" for name, column in columns)
    size = len("t0") + number_size(start) + len("v") + CONTAINER
    size += sum(ELEMENT + len(name) + column.size_bytes for name, column in columns)
    return Text(f'"t0":{{"N":"{start}"}},{times.json}"v":{{"M":{{{named}}}}}', size + times.size_bytes)


def _times(run: Run) -> tuple[Text, list[int] | None]:
    """The time attributes, and where each reading stands on the grid if it has holes.

    The smallest of: a step (missing instants are NULL in the values), a step and each
    reading's distance from that grid, or the deltas.
    """
    ts_us = run.ts_us
    if len(ts_us) == 1:
        return Text("", 0), None
    step_us = ts_us[1] - ts_us[0]
    if ts_us[-1] - ts_us[0] == step_us * (len(ts_us) - 1) and ts_us == list(
        range(ts_us[0], ts_us[-1] + 1, step_us)
    ):
        return step_text(step_us), None
    deltas = list(map(sub, ts_us[1:], ts_us))
    plain = number_list("t", deltas)
    step = sorted(deltas)[len(deltas) // 2]
    offsets = [ts - ts_us[0] - i * step for i, ts in enumerate(ts_us)][1:]
    jitter = number_list("t", offsets)
    best = plain
    if jitter.size_bytes + step_text(step).size_bytes < plain.size_bytes:
        best = Text(step_text(step).json + jitter.json, jitter.size_bytes + step_text(step).size_bytes)
    grid = gcd(*deltas)
    places = (ts_us[-1] - ts_us[0]) // grid + 1
    holes = places - len(ts_us)
    if step_text(grid).size_bytes + 2 * holes * len(run.metrics) < best.size_bytes:
        spread = [(ts - ts_us[0]) // grid for ts in ts_us]
        lost = sum(_constant_saving(column) for column in run.metrics.values())
        if step_text(grid).size_bytes + 2 * holes * len(run.metrics) + lost < best.size_bytes:
            return step_text(grid), spread
    return best, None


def step_text(step_us: int) -> Text:
    """The attribute that holds the step of a grid."""
    return Text(f'"dt":{{"N":"{step_us}"}},', len("dt") + number_size(str(step_us)))


def number_list(name: str, numbers: Sequence[int]) -> Text:
    """An attribute of that name that lists the numbers."""
    size = len(name) + CONTAINER + sum(map(_int_sizes.__getitem__, numbers))
    inner = '"},{"N":"'.join(map(str, numbers))
    return Text(f'"{name}":{{"L":[{{"N":"{inner}"}}]}},', size)


def _constant_saving(column: Column) -> int:
    """Bytes a constant column saves by standing as one value."""
    if not is_constant(column):
        return 0
    return CONTAINER + (len(column) - 1) * (ELEMENT + cell_text(column[0]).size_bytes)


def is_constant(column: Column) -> bool:
    """Whether every reading has the same value, of the same type."""
    first = column[0]
    return first is not None and column.count(first) == len(column) and len(set(map(type, column))) == 1


def list_column(column: Column, spread: list[int] | None, count: int) -> Text:
    """The value of `v` for a column of `count` readings.

    One value where it is constant, else a list; `spread` gives each reading's place in it on a grid with holes.
    """
    if spread is not None:
        spaced: Column = [None] * (spread[-1] + 1)
        for place, cell in zip(spread, column, strict=True):
            spaced[place] = cell
        column = spaced
    elif count > 1 and is_constant(column):
        return cell_text(column[0])
    kinds = set(map(type, column))
    if kinds <= _NUMBERS:
        numbers = cast(list[int | float], column)
        if len(kinds) == 1:
            size = CONTAINER + sum(map((_int_sizes if int in kinds else _float_sizes).__getitem__, numbers))
        else:
            size = CONTAINER + sum(number_size(repr(value)) + ELEMENT for value in numbers)
        inner = msgspec.json.encode(column)[1:-1].replace(b",", _JOIN)
        return Text(f'{{"L":[{{"N":"{inner.decode()}"}}]}}', size)
    cells = [cell_text(cell) for cell in column]
    size = CONTAINER + sum(cell.size_bytes + ELEMENT for cell in cells)
    return Text(f'{{"L":[{",".join([cell.json for cell in cells])}]}}', size)


def cell_text(value: Value | None) -> Text:
    """One value as an AttributeValue; NULL where it is absent."""
    if value is None:
        return Text('{"NULL":true}', 1)
    if isinstance(value, bool):
        return Text('{"BOOL":true}' if value else '{"BOOL":false}', 1)
    if isinstance(value, str):
        return Text(f'{{"S":{json.dumps(value, ensure_ascii=False)}}}', len(value.encode()))
    text = canonical(value)
    return Text(f'{{"N":"{text}"}}', number_size(text))


# --- attributes -> run ------------------------------------------------------------------


def decode_run(item: Mapping[str, Attribute], sensor_id: str, bucket_start_s: int, count: int) -> Run:
    """The run of an item. Raises KeyError, ValueError or TypeError where its parts contradict each other."""
    stored = cast(dict[str, Attribute], item["v"]["M"])
    columns = {
        name: decode_list(cast(list[dict[str, object]], value["L"])) if "L" in value else decode_cell(value)
        for name, value in stored.items()
    }
    steps = None
    if "t" in item:
        steps = [int(element["N"]) for element in cast(list[dict[str, str]], item["t"]["L"])]
    step_us = int(cast(str, item["dt"]["N"])) if "dt" in item else 0
    first_us = bucket_start_s * US + int(cast(str, item["t0"]["N"]))
    return assemble(sensor_id, first_us, step_us, steps, columns, count, int(cast(str, item["at"]["N"])))


def assemble(
    sensor_id: str,
    first_us: int,
    step_us: int,
    steps: list[int] | None,
    stored: Mapping[str, Column | Value | None],
    count: int,
    arrival_ms: int,
) -> Run:
    """The run of `count` readings that the parts of a chunk stand for; what is no list is constant.

    `step_us` is 0 where there is none. Raises ValueError or TypeError where the parts contradict each other.
    """
    columns = {name: column for name, column in stored.items() if isinstance(column, list)}
    lengths = set(map(len, columns.values())) or {count}
    places = max(lengths)
    if len(lengths) > 1:
        raise ValueError("its columns differ in length")
    if len(columns) < len(stored):
        columns = {
            name: column if isinstance(column, list) else [column] * places for name, column in stored.items()
        }
    if places < count:
        raise ValueError(f"it says {count} readings and holds {places}")
    ts_us = times_of(first_us, step_us, steps, places)
    if places > count:
        kept = instants_present(list(columns.values()))
        ts_us = [ts_us[i] for i in kept]
        columns = {name: [column[i] for i in kept] for name, column in columns.items()}
    if len(ts_us) != count:
        raise ValueError(f"it says {count} readings and holds {len(ts_us)}")
    return Run(sensor_id, ts_us, columns, arrival_ms)


def times_of(first_us: int, step_us: int, steps: list[int] | None, places: int) -> list[int]:
    """The instants of so many places: of a grid, of distances from one, or steps one after another.

    Raises ValueError where the steps are too few or many, no whole numbers, or lead back.
    """
    if steps is None:
        return list(range(first_us, first_us + places * step_us, step_us)) if step_us else [first_us] * places
    if len(steps) != places - 1:
        raise ValueError(f"it has {len(steps)} time steps for {places} instants")
    if type(sum(steps)) is not int:
        raise ValueError("its time steps are no whole numbers")
    if step_us:
        grid = range(first_us + step_us, first_us + places * step_us, step_us)
        ts_us = [first_us, *map(add, grid, steps)]
    else:
        ts_us = list(accumulate(steps, initial=first_us))
    if any(map(ge, ts_us, ts_us[1:])):
        raise ValueError("its times do not increase")
    return ts_us


def decode_list(elements: Iterable[Mapping[str, object]]) -> Column:
    """The values of a list's elements; numbers are ints where integral, else floats."""
    texts = [element.get("N") for element in elements]
    if None not in texts:
        joined = ",".join(cast(list[str], texts))
        # A service may answer with an exponent, where a long integer would lose digits as a double,
        # or with every digit of 9.99e125, which is a float for all that.
        if (
            "E" in joined
            or "e" in joined
            or max(map(len, cast(list[str], texts)), default=0) > MAX_INT_DIGITS
        ):
            return [number(cast(str, text)) for text in texts]
        try:
            return msgspec.json.decode(f"[{joined}]", type=list[int | float])  # pyright: ignore[reportReturnType]
        except msgspec.MsgspecError:
            return [number(cast(str, text)) for text in texts]
    return [decode_cell(element) for element in elements]


def decode_cell(element: Mapping[str, object]) -> Value | None:
    """The value of one AttributeValue. Raises ValueError for a type no chunk holds."""
    ((kind, value),) = element.items()
    if kind == "N":
        return number(cast(str, value))
    if kind in ("S", "BOOL"):
        return cast(Value, value)
    if kind == "NULL":
        return None
    raise ValueError(f"a value of type {kind}")
