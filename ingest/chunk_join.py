"""Chunks of lists that follow one another, to one run: the numbers of each metric are parsed as one list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import Annotated, cast

import msgspec

from ingest import keys
from ingest.chunk import TAGS
from ingest.chunk_answer import Listed, Stored
from ingest.chunk_list import times_of
from ingest.keys import US
from ingest.reading import Column, Run, Value, number

LISTED = TAGS["list"]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A longer integer may be a float with all its digits, which `decode_list` tells apart."""
_AROUND = b'"{}N:[] \t\r\n'
"""Without these, a list of numbers as AttributeValues is the numbers with commas between them. Of NULL remains
ULLtrue, and of a text, a boolean or a list its letter, with which it is no JSON."""
_NULL = b"ULLtrue"
_decoder = msgspec.json.Decoder(list[list[Int64 | float | None]])


class _NotSimple(ValueError):
    """These chunks are to be decoded one by one."""


def join(items: Sequence[Listed]) -> Run | None:
    """What `merge` makes of the chunks' runs, in whatever order they stand; None where that takes a closer look.

    That is where they are not all of one sensor, of lists and of the same metrics, where one begins before
    another ends, where a grid lacks an instant or a list holds texts, and where a chunk contradicts itself.
    """
    try:
        return _join(items)
    except (ValueError, TypeError, msgspec.MsgspecError):
        return None


def _join(items: Sequence[Listed]) -> Run:
    ordered, starts_us = _in_order(items)
    counts = [item.n.N for item in ordered]
    columns_of = [item.v.M for item in ordered]
    names = sorted(columns_of[0])
    if any(columns.keys() != columns_of[0].keys() for columns in columns_of):
        raise _NotSimple
    times = _times(ordered, starts_us)  # first, as what is not simple mostly interlaces
    cells = {name: [columns[name] for columns in columns_of] for name in names}
    lists = iter(_parsed([text for values in cells.values() for text in _texts(values, counts)]))
    metrics = {name: _column(values, counts, lists) for name, values in cells.items()}
    ts_us = list(chain.from_iterable(times)) if len(times) > 1 else list(times[0])
    if any(len(column) != len(ts_us) for column in metrics.values()):
        raise _NotSimple
    return Run(keys.sensor_of_chunk(items[0].pk.S), ts_us, metrics, _arrivals(ordered, counts, names))


def _in_order(items: Sequence[Listed]) -> tuple[list[Listed], list[int]]:
    """The chunks by their first instant, and these instants."""
    codec, partition = LISTED, items[0].pk.S
    placed: list[tuple[int, Listed]] = []
    for item in items:
        if codec != item.c.S or partition != item.pk.S or item.n.N < 1:
            raise _NotSimple
        placed.append((keys.bucket_of_chunk(item.sk.S) * US + item.t0.N, item))
    placed.sort(key=itemgetter(0))
    return [item for _, item in placed], [start_us for start_us, _ in placed]


# --- values -----------------------------------------------------------------------------


def _texts(values: Sequence[Stored], counts: Sequence[int]) -> list[bytes]:
    """What is to be parsed of a metric's values in each chunk: all as one where all are lists."""
    lists = [value.L for value in values if value.L]
    if len(lists) == len(values):
        return [b",".join(_bare(lists, counts))]
    return _bare(lists, [count for value, count in zip(values, counts, strict=True) if value.L])


def _bare(lists: Sequence[msgspec.Raw], counts: Sequence[int]) -> list[bytes]:
    """The numbers of each list, as text; raises where they are more or less than they should be.

    An empty list passes for one of a single number: without text, it makes too short what it is joined to.
    """
    texts = [bytes(elements).translate(None, _AROUND) for elements in lists]
    if [text.count(b",") + 1 for text in texts] != counts:
        raise _NotSimple
    return texts


def _parsed(texts: Sequence[bytes]) -> list[Column]:
    if not texts:
        return []
    text = b"[[%b]]" % b"],[".join(texts)
    if b"U" in text:
        text = text.replace(_NULL, b"null")
    if b"E" in text or b"e" in text:  # with an exponent, an integer looks like a float
        raise _NotSimple
    return cast(list[Column], _decoder.decode(text))


def _column(values: Sequence[Stored], counts: Sequence[int], lists: Iterator[Column]) -> Column:
    if all(value.L for value in values):
        return next(lists)
    column: Column = []
    for value, count in zip(values, counts, strict=True):
        column += next(lists) if value.L else [_single(value)] * count
    return column


def _single(value: Stored) -> Value:
    """The one value of a column that is constant."""
    found = number(value.N) if value.N is not None else value.BOOL if value.S is None else value.S
    if found is None:
        raise _NotSimple
    return found


# --- times and arrivals -----------------------------------------------------------------


def _times(ordered: Sequence[Listed], starts_us: Sequence[int]) -> list[range | list[int]]:
    """The instants of all chunks, which increase, piece by piece. Grids that go on in the next chunk become one."""
    stepped = [(item.t.L, item.n.N - 1) for item in ordered if item.t]
    steps = iter(_parsed(_bare([text for text, _ in stepped], [count for _, count in stepped])))
    pieces: list[range | list[int]] = [range(0)]
    last_us = -1
    for item, start_us in zip(ordered, starts_us, strict=True):
        count, step_us, last = item.n.N, item.dt.N if item.dt else 0, pieces[-1]
        if start_us <= last_us or (step_us <= 0 and count > 1 and not item.t):
            raise _NotSimple
        if item.t:
            pieces.append(times_of(start_us, step_us, cast(list[int], next(steps)), count))
        elif count == 1:
            pieces.append([start_us])
        elif isinstance(last, range) and (start_us, step_us) == (last.stop, last.step):
            pieces[-1] = range(last.start, start_us + count * step_us, step_us)
        else:
            pieces.append(range(start_us, start_us + count * step_us, step_us))
        last_us = pieces[-1][-1]
    return pieces[1:]


def _arrivals(
    ordered: Sequence[Listed], counts: Sequence[int], names: Sequence[str]
) -> int | dict[str, list[int]]:
    first_ms = ordered[0].at.N
    if all(first_ms == item.at.N for item in ordered):
        return first_ms
    arrivals: list[int] = []
    for item, count in zip(ordered, counts, strict=True):
        arrivals += [item.at.N] * count
    return {name: arrivals.copy() for name in names}
