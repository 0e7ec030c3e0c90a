"""Answers of the service as bytes, to chunks: the numbers of a whole answer are parsed, and weighed, together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import compress
from typing import Any, NamedTuple, TypeVar, cast

import msgspec

from ingest import keys
from ingest.chunk import Chunk, decode_item
from ingest.chunk_answer import Listed
from ingest.chunk_join import LISTED, Int64, join
from ingest.chunk_list import CONTAINER, ELEMENT, assemble, decode_list
from ingest.item import Attribute, item_size
from ingest.keys import Key
from ingest.reading import Column, Run, Value

Items = list[dict[str, Attribute]]


class Decoded(NamedTuple):
    """The chunks of one answer in its order, and where the answer goes on: a Query's LastEvaluatedKey
    or a BatchGetItem's unprocessed keys, empty where it does not.

    `told_units` are the read units the service says it took, None where it says nothing;
    `weigh` gives the billed bytes of the items.
    """

    chunks: list[Chunk]
    following: Any
    told_units: float | None
    weigh: Callable[[], int]


class Readings(NamedTuple):
    """As `Decoded`, with the chunks' runs: one run for all where they simply follow one another."""

    runs: list[Run]
    items: int
    following: Any
    told_units: float | None
    weigh: Callable[[], int]


Answered = TypeVar("Answered", Decoded, Readings)


# --- what an answer looks like ----------------------------------------------------------


class _Capacity(msgspec.Struct, gc=False):
    CapacityUnits: float


class _Query(msgspec.Struct):
    Items: list[Listed]
    LastEvaluatedKey: dict[str, Any] | None = None
    ConsumedCapacity: _Capacity | None = None


class _Get(msgspec.Struct):
    Responses: dict[str, list[Listed]]
    UnprocessedKeys: dict[str, Any] | None = None


# Not strict: a whole number is sent as text.
_query_decoder = msgspec.json.Decoder(_Query, strict=False)
_get_decoder = msgspec.json.Decoder(_Get, strict=False)


def decode_query(raw: bytes) -> Decoded:
    """The chunks of a Query's answer. Raises Corrupt where one contradicts itself."""
    return _decoded(raw, _listed(raw))


def decode_readings(raw: bytes) -> Readings:
    """The runs of a Query's answer, for `merge`. Raises Corrupt where a chunk contradicts itself."""
    answer = _listed(raw)
    run = join(answer.Items) if answer and answer.Items else None
    if answer is None or run is None:
        chunks, following, told, weigh = _decoded(raw, answer)
        return Readings([chunk.run for chunk in chunks], len(chunks), following, told, weigh)
    weigh = partial(_weight, answer.Items, _plain(raw))
    return Readings([run], len(answer.Items), answer.LastEvaluatedKey, _told(answer), weigh)


def _listed(raw: bytes) -> _Query | None:
    """The answer if its items look like chunks of lists, as far as is looked; else None."""
    try:
        return _query_decoder.decode(raw)
    except msgspec.ValidationError:
        return None


def _decoded(raw: bytes, answer: _Query | None) -> Decoded:
    plain = _plain(raw)
    if answer is None:
        items = plain()
        following = msgspec.json.decode(raw).get("LastEvaluatedKey")
        return Decoded(list(map(decode_item, items)), following, None, lambda: sum(map(item_size, items)))
    chunks = _chunks(answer.Items, plain)
    return Decoded(chunks, answer.LastEvaluatedKey, _told(answer), lambda: _weight(answer.Items, plain))


def _told(answer: _Query) -> float | None:
    return answer.ConsumedCapacity.CapacityUnits if answer.ConsumedCapacity else None


def _plain(raw: bytes) -> Callable[[], Items]:
    """The items of a Query's answer as they are, parsed when asked for."""
    return lambda: cast(Items, msgspec.json.decode(raw)["Items"])


def decode_get(raw: bytes, table: str) -> Decoded:
    """The chunks of a BatchGetItem's answer from one table. Raises Corrupt where one contradicts itself."""

    def plain() -> Items:
        return cast(Items, msgspec.json.decode(raw)["Responses"].get(table, []))

    try:
        answer = _get_decoder.decode(raw)
        chunks, left = _chunks(answer.Responses.get(table, []), plain), answer.UnprocessedKeys
    except msgspec.ValidationError:
        chunks, left = list(map(decode_item, plain())), msgspec.json.decode(raw).get("UnprocessedKeys")
    following = (left or {}).get(table, {}).get("Keys", [])
    return Decoded(chunks, following, None, lambda: sum(map(item_size, plain())))


# --- items -> chunks --------------------------------------------------------------------


def _chunks(items: Sequence[Listed], plain: Callable[[], Items]) -> list[Chunk]:
    """The chunks of the items; `plain` gives the same items as they are."""
    listed = [item.c.S == LISTED for item in items]
    others = plain() if not all(listed) else cast(Items, [{}] * len(items))
    try:
        chosen = list(compress(items, listed))
        columns = iter(_numbers([part for item in chosen for part in _lists(item)]))
        return [
            _chunk(item, columns) if is_listed else decode_item(other)
            for item, is_listed, other in zip(items, listed, others, strict=True)
        ]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, StopIteration):
        return list(map(decode_item, plain()))  # which finds the chunk at fault


def _lists(item: Listed) -> Iterator[bytes | msgspec.Raw]:
    """The item's steps, and what it holds for each metric, where that is numbers."""
    if item.t:
        yield item.t.L
    for value in item.v.M.values():
        if value.L:
            yield value.L
        elif value.N is not None:
            yield _LIST % value.N.encode()


def _chunk(item: Listed, lists: Iterator[Column]) -> Chunk:
    """The chunk of an item whose lists of numbers come next."""
    key = Key(item.pk.S, item.sk.S)
    sensor_id, bucket_start_s, _, _ = keys.parse_chunk_key(key)
    steps = cast(list[int], next(lists)) if item.t else None
    columns: dict[str, Column | Value | None] = {}
    count = item.n.N
    step_us = item.dt.N if item.dt else 0
    whole = bool(step_us) and steps is None
    for name, value in item.v.M.items():
        if value.L:
            columns[name] = column = next(lists)
            whole = whole and len(column) == count
            continue
        whole = False
        if value.N is not None:
            (columns[name],) = next(lists)
        elif value.B is None:
            columns[name] = value.BOOL if value.S is None else value.S
        else:
            raise ValueError("a value of type B")
    first_us = bucket_start_s * keys.US + item.t0.N
    if whole:  # a grid and a list for each metric, as nearly all chunks are: nothing to put together
        ts_us = list(range(first_us, first_us + count * step_us, step_us))
        return Chunk(key, Run(sensor_id, ts_us, cast(dict[str, Column], columns), item.at.N), item.ttl.N)
    run = assemble(sensor_id, first_us, step_us, steps, columns, count, item.at.N)
    return Chunk(key, run, item.ttl.N)


# --- lists of numbers -------------------------------------------------------------------

_LIST = b'[{"N":"%s"}]'
_AROUND = b'"{}N: \t\r\n'
"""Without these, a list of numbers as AttributeValues is a list of numbers in JSON; with anything
else in it than NULL, of which ULLtrue remains, it is no JSON, as what remains begins with B, L, M or S."""
_NULL = b"ULLtrue"
_decoder = msgspec.json.Decoder(list[list[Int64 | float | None]])


def _bare(parts: Sequence[bytes | msgspec.Raw]) -> bytes:
    """The lists as lists of JSON, one after another; no JSON where they hold more than numbers and NULL."""
    text = b",".join(parts).translate(None, _AROUND)
    return text.replace(_NULL, b"null") if b"U" in text else text


def _numbers(parts: Sequence[bytes | msgspec.Raw]) -> list[Column]:
    """The lists' values: all at once where they hold only numbers and NULL."""
    framed = list(parts) or [b""]
    framed[0] = b"[%b" % framed[0]
    framed[-1] = b"%b]" % framed[-1]
    text = _bare(framed)
    if b"E" not in text and b"e" not in text:  # with an exponent, an integer looks like a float
        try:
            return cast(list[Column], _decoder.decode(text))
        except msgspec.MsgspecError:
            pass
    if len(parts) > 1:
        return [_numbers([part])[0] for part in parts]
    return [decode_list(msgspec.json.decode(part, type=list[dict[str, object]])) for part in parts]


# --- what items weigh -------------------------------------------------------------------

_FIXED_BYTES = sum(map(len, ("pk", "sk", "n", "c", "at", "ttl", "t0", "v"))) + CONTAINER
"""The names that every listed item has, and the map of its columns."""
_COUNTED = b"0123456789.,-[]nul"
_FLAT = bytes.maketrans(b"[]", b",,")
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_NO_DIGITS = b",.-nul"


def _weight(items: Sequence[Listed], plain: Callable[[], Items]) -> int:
    """The billed bytes of the items, as `item_size` tells; all numbers of all lists are weighed together."""
    single = b",".join(map(_single, items))
    lists = _bare([part for item in items for part in _lists(item)])
    listed = all(item.c.S == LISTED for item in items)
    if not listed or not items or b"[]" in lists or (single + lists).translate(None, _COUNTED):
        return sum(map(item_size, plain()))
    size = sum(map(_other_bytes, items)) + _numbers_bytes(single)
    return size + _numbers_bytes(lists) + (lists.count(b",") + 1) * ELEMENT if lists else size


def _single(item: Listed) -> bytes:
    """The item's single numbers as a list."""
    step = (item.dt.N,) if item.dt else ()
    return b"[%b]" % ",".join(map(str, (item.n.N, item.at.N, item.ttl.N, item.t0.N, *step))).encode()


def _other_bytes(item: Listed) -> int:
    """What the item weighs beside its numbers and the elements of its lists."""
    size = _FIXED_BYTES + len(item.pk.S.encode()) + len(item.sk.S.encode()) + len(item.c.S)
    if item.dt:
        size += len("dt")
    if item.t:
        size += len("t") + CONTAINER
    for name, value in item.v.M.items():
        size += ELEMENT + len(name.encode())
        if value.L:
            size += CONTAINER
        elif value.N is not None:
            size -= ELEMENT  # for `_lists` makes it one of a list
        else:
            size += 1 if value.S is None else len(value.S.encode())
    return size


def _numbers_bytes(text: bytes) -> int:
    """What the numbers and NULLs in lists of JSON, of which none is empty, weigh, as `number_size` tells.

    That is a byte each, one for a sign, and one for each pair of digits, aligned on the point. The
    digits on one side of the point are half as many pairs, rounded up: digits less whole pairs. A
    lone 0 is none, and neither are pairs of zeros at either end.
    """
    count = text.count(b",") + 1
    text = text.translate(_FLAT)
    pairs = len(text.translate(None, _NO_DIGITS)) - text.translate(_ZEROS).count(b"00")
    signs = text.count(b"-")
    lone = text.count(b",0") + (text.count(b"-0") if signs else 0)
    pairs -= _pairs(text, b"", b",")
    whole = text.count(b".0,")  # from emulators only: the service drops such a zero
    if whole:
        pairs -= whole + _pairs(text, b"", b".0,")
    if lone and b"0.00" in text:
        pairs -= _pairs(text, b",0.", b"") + _pairs(text, b"-0.", b"")
    return count + pairs - lone + signs


def _pairs(text: bytes, before: bytes, behind: bytes) -> int:
    """How many pairs of zeros there are, one after another, between what is before and what is behind."""
    pairs = 0
    zeros = b"00"
    while met := text.count(before + zeros + behind):
        pairs += met
        zeros += b"00"
    return pairs
