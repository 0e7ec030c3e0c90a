"""Column chunks of the form that `segment_pages` writes, back to values without Arrow."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any, cast

import numpy as np

from ingest.reading import Value, canonical, number
from ingest.segment_pages import (
    BYTE_STREAM_SPLIT,
    DATA_HEAD,
    DATA_PAGE,
    DICTIONARY_HEAD,
    DICTIONARY_PAGE,
    PLAIN,
    RLE_DICTIONARY,
    Doubles,
    codec,
    levels,
    pa,
)
from ingest.segment_thrift import read_struct, read_varint

PLAIN_BELOW = 1e15
"""The canonical text of a smaller integral double is its plain digits."""

Objects = np.ndarray[Any, np.dtype[np.object_]]
Runs = list[tuple[bytes, int]]
"""Values in plain encoding, and how many rows each fills."""


class Foreign(Exception):
    """A column chunk is of another form than `segment_pages` writes; Arrow may know it."""


@dataclass(frozen=True, slots=True)
class _Page:
    kind: int
    encoding: int
    count: int
    size_bytes: int
    packed: memoryview

    def body(self) -> memoryview:
        try:
            return memoryview(codec.decompress(self.packed, self.size_bytes)).cast("B")
        except (pa.ArrowException, OSError) as error:
            raise Foreign(str(error)) from error


def _pages(chunk: memoryview) -> Iterator[_Page]:
    at = 0
    while at < len(chunk):
        try:
            head, at = read_struct(chunk, at)
            kind, size_bytes, packed_bytes = (cast(int, head[place]) for place in (1, 2, 3))
            about = cast(dict[int, int], head[DICTIONARY_HEAD if kind == DICTIONARY_PAGE else DATA_HEAD])
            if min(size_bytes, packed_bytes, about[1]) < 0:
                raise ValueError("a negative size")
            yield _Page(kind, about[2], about[1], size_bytes, chunk[at : at + packed_bytes])
        except (KeyError, IndexError, ValueError) as error:
            raise Foreign("a page header") from error
        at += packed_bytes


# --- runs of one value ------------------------------------------------------------------


def read_runs_chunk(chunk: memoryview, rows: int, *, texts: bool) -> Runs:
    """What `runs_chunk` was given; of texts, without their lengths. Raises Foreign."""
    pages = list(_pages(chunk))
    if [page.kind for page in pages] != [DICTIONARY_PAGE, DATA_PAGE] or pages[1].encoding != RLE_DICTIONARY:
        raise Foreign("its pages are others")
    cells = _texts(pages[0]) if texts else _wide(pages[0])
    body = pages[1].body()
    size = -(-body[0] // 8)
    found: Runs = []
    at = 1
    try:
        while at < len(body):
            head, at = read_varint(body, at)
            if head & 1:
                raise Foreign("not every value is repeated")
            found.append((cells[int.from_bytes(body[at : at + size], "little")], head >> 1))
            at += size
    except IndexError as error:
        raise Foreign("a run") from error
    if sum(count for _, count in found) != rows:
        raise Foreign("other rows")
    return found


def _texts(page: _Page) -> list[bytes]:
    body = bytes(page.body())
    cells: list[bytes] = []
    at = 0
    while at < len(body):
        end = at + 4 + int.from_bytes(body[at : at + 4], "little")
        cells.append(body[at + 4 : end])
        at = end
    return cells


def _wide(page: _Page) -> list[bytes]:
    body = bytes(page.body())
    return [body[at : at + 8] for at in range(0, len(body), 8)]


# --- doubles ----------------------------------------------------------------------------


def numbers(values: Doubles) -> list[Value]:
    """Doubles as `reading.number` gives them: int where the canonical text is integral."""
    cells: list[Value] = values.tolist()
    whole = values == np.trunc(values)
    if not whole.any():
        return cells
    plain = whole & (np.abs(values) < PLAIN_BELOW)
    if plain.all():
        return cast(list[Value], values.astype(np.int64).tolist())
    places = np.flatnonzero(plain)
    for place, cell in zip(places.tolist(), values[places].astype(np.int64).tolist(), strict=True):
        cells[place] = cell
    for place in np.flatnonzero(whole & ~plain).tolist():
        cells[place] = number(canonical(cells[place]))
    return cells


class _Dictionary:
    """The values that the pages of a chunk name by their places, as objects that all of them share."""

    def __init__(self, page: _Page) -> None:
        self._page = page

    @cached_property
    def objects(self) -> Objects:
        made = np.empty(self._page.count, object)
        made[:] = numbers(np.frombuffer(self._page.body(), np.float64, self._page.count))
        return made


class DoublesColumn:
    """A column of doubles without nulls, out of its chunks; only pages that are asked for are unpacked.

    Raises Foreign, also when values are asked for.
    """

    def __init__(self, chunks: Iterable[memoryview]) -> None:
        self._pages: list[tuple[_Page, _Dictionary | None]] = []
        for chunk in chunks:
            held: _Dictionary | None = None
            for page in _pages(chunk):
                if page.kind == DICTIONARY_PAGE:
                    held = _Dictionary(page)
                else:
                    self._pages.append((page, held))
        self._ends = list(accumulate(page.count for page, _ in self._pages))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def cells(self, start: int, end: int) -> list[Value]:
        """The values of the rows `[start, end)`, of which there is at least one."""
        found: list[Value] = []
        for place in range(bisect_right(self._ends, start), len(self._pages)):
            page, dictionary = self._pages[place]
            first = self._ends[place] - page.count
            if first >= end:
                break
            found += _cells(page, dictionary, max(0, start - first), min(page.count, end - first))
        return found


def _cells(page: _Page, dictionary: _Dictionary | None, start: int, end: int) -> list[Value]:
    body = page.body()
    present = levels(None, page.count, page.count)
    at = len(present)
    if bytes(body[:at]) != present:
        raise Foreign("a page with nulls")
    try:
        if page.encoding == RLE_DICTIONARY and dictionary is not None:
            return dictionary.objects[_places(body, at, page.count)[start:end]].tolist()
        if page.encoding == PLAIN:
            return numbers(np.frombuffer(body, np.float64, page.count, at)[start:end])
        if page.encoding == BYTE_STREAM_SPLIT:
            streams = np.frombuffer(body, np.uint8, 8 * page.count, at).reshape(8, -1)
            return numbers(np.ascontiguousarray(streams[:, start:end].T).view(np.float64).ravel())
    except (ValueError, IndexError) as error:
        raise Foreign("a page of doubles") from error
    raise Foreign(f"doubles in encoding {page.encoding}")


def _places(body: memoryview, at: int, count: int) -> Any:
    """Places in a dictionary where they are whole bytes, all in one piece."""
    width = body[at]
    head, at = read_varint(body, at + 1)
    if width not in (8, 16) or not head & 1 or (head >> 1) * 8 < count:
        raise Foreign("places in a dictionary")
    return np.frombuffer(body, np.dtype(f"u{width // 8}"), count, at)
