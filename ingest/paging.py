"""The use case of reading on: one page of an answer, whose rest is neither read nor held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from threading import Lock

from ingest.aggregate import Windows
from ingest.keys import US
from ingest.plan import Query, check, plan
from ingest.query import Answer, Cost, Sources, TooMuch, answer
from ingest.reading import Column, Run, Span, clip, concat, take
from ingest.segment_read import Footer
from ingest.tiers import TierMap

GROWTH = 16
"""How much longer or shorter a piece may be than the one before."""
SPARE = 1.1
"""How much longer a piece is than the rows still wanted would need at the rate seen."""
CELLS_A_ROW = 16
LEAST_CELLS = 50_000
"""A piece for a page of few readings has at most so many cells for each of them, or so many in all."""
FRESH_S = 1.0
"""How long the layout may be held: its retentions may change while a page is read."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a page may take. A cell is one metric at one instant.

    A span is read in pieces of at most `piece_cells` (a single window excepted, which is not
    divided), or fewer where the page is small. The page ends, with a place to go on, where
    `page_cells` or `seconds` are passed.
    """

    piece_cells: int = 400_000
    page_cells: int = 1_000_000
    seconds: float = 15.0


USUAL = Bounds()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page goes on: at this instant (ascending), or before it (descending).

    `width_us` is how long a piece about as large as a page is; it changes what is read at
    once, never what is found.
    """

    at_us: int
    width_us: int


@dataclass(slots=True)
class AnswerPage:
    """Readings or windows in time order, whichever way the pages go. `next` is None on the last page.

    `hot_rows` and `cold_rows` count the readings each tier gave of the page's span, before merging.
    """

    run: Run | None = None
    windows: Windows | None = None
    hot_rows: int = 0
    cold_rows: int = 0
    next: Place | None = None
    cost: Cost = field(default_factory=Cost)

    def __len__(self) -> int:
        if self.windows is not None:
            return len(self.windows.start_us)
        return 0 if self.run is None else len(self.run.ts_us)


def page(
    query: Query,
    sources: Callable[[], Sources],
    now_s: Callable[[], float],
    place: Place | None = None,
    *,
    descending: bool = False,
    tiers: TierMap | None = None,
    bounds: Bounds = USUAL,
) -> AnswerPage:
    """The next `query.limit` readings or windows of the span, from the place on: the oldest, or the newest.

    Every piece that is read is a query of its own over both tiers, so that pages may be read
    while chunks are archived and expire. An instant is one row, so that pages which each begin
    where the one before ended hold every reading once. Windows are never divided. `tiers`
    is told where the page's readings came from. Raises as `query.answer` does.
    """
    check(query)
    return _Walk(query, sources, now_s, descending, tiers, bounds).page(place)


class _Watch:
    """Counts the cells of one piece, ends it where they are too many, and keeps where they came from.
    `met` is the time they fill."""

    def __init__(self, most_cells: int | None) -> None:
        self.cells = 0
        self.hot: Sequence[Run] = ()
        self.cold: Sequence[Run] = ()
        self.met: Span | None = None
        self.most_cells = most_cells
        self._coming = 0.0
        self._lock = Lock()

    def coming(self, footer: Footer, picked: Sequence[int], sensor_id: str, span: Span) -> None:
        held = [(footer.expected(index, sensor_id, span), footer.times(index)) for index in picked]
        with self._lock:
            for rows, times in held:
                if rows:
                    self._meet(times.overlap(span))
                    self._coming += rows
            self._check(self._coming)

    def read(self, runs: Sequence[Run]) -> None:
        cells = sum(len(run.ts_us) * len(run.metrics) for run in runs)
        with self._lock:
            for run in runs:
                if run.ts_us:
                    self._meet(Span(run.ts_us[0], run.ts_us[-1] + 1))
            self.cells += cells
            self._check(self.cells)

    def _meet(self, span: Span) -> None:
        met = self.met or span
        self.met = Span(min(met.start_us, span.start_us), max(met.end_us, span.end_us))

    def _check(self, cells: float) -> None:
        if self.most_cells is not None and cells > self.most_cells:
            raise TooMuch

    def found(self, hot: Sequence[Run], cold: Sequence[Run]) -> None:
        self.hot, self.cold = hot, cold


@dataclass(slots=True)
class _Walk:
    """One page being read, piece by piece."""

    query: Query
    sources: Callable[[], Sources]
    now_s: Callable[[], float]
    descending: bool
    tiers: TierMap | None
    bounds: Bounds
    made: AnswerPage = field(default_factory=AnswerPage)
    runs: list[Run] = field(default_factory=list[Run])
    windows: list[Windows] = field(default_factory=list[Windows])
    pieces: int = 0
    rows: int = 0
    cells: int = 0
    seen: tuple[int, int, int] | None = None
    """Length, rows and cells of the last piece that held something: how dense it is there."""
    wall: tuple[int, int] | None = None
    """An instant at which a piece was known to hold too much, and about how long one may be there."""

    def page(self, place: Place | None) -> AnswerPage:
        held = self.sources()
        clock = held.clock
        began_s = held_s = clock()
        rest = self._rest(held, place)
        width_us = max(1, place.width_us) if place else self._first_width(held)
        while not rest.is_empty():
            if self._is_enough(clock() - began_s):
                self.made.next = self._place(rest.end_us if self.descending else rest.start_us)
                break
            if clock() - held_s > FRESH_S:
                held, held_s = self.sources(), clock()
            piece = self._piece(rest, width_us, held.layout.widest_bucket_s * US)
            length_us = piece.end_us - piece.start_us
            watch = _Watch(self._most_cells() if length_us > (self.query.every_us or 1) else None)
            try:
                found = answer(replace(self.query, span=piece, limit=None), held, self.now_s(), watch)
            except TooMuch as stopped:
                self._charge(stopped.cost)
                width_us = self._shorter(piece, watch)
                continue
            self._charge(found.cost)
            if self._add(found, watch, piece):
                break
            left = (rest.start_us, piece.start_us) if self.descending else (piece.end_us, rest.end_us)
            rest = Span(*left)
            width_us = self._next_width(length_us, found, watch, rest)
        self._finish()
        self.made.cost.ms = (clock() - began_s) * 1000
        return self.made

    # --- which piece ------------------------------------------------------------------

    def _rest(self, sources: Sources, place: Place | None) -> Span:
        planned = plan(self.query, sources.layout, self.now_s())
        possible = planned.hot or planned.cold or Span(0, 0)
        if place is None:
            return possible
        if self.descending:
            return Span(possible.start_us, min(possible.end_us, place.at_us))
        return Span(max(possible.start_us, place.at_us), possible.end_us)

    def _piece(self, rest: Span, width_us: int, bucket_us: int) -> Span:
        """The next piece: windows are not divided, nor are buckets, which cost the same in part, where
        it is longer than one."""
        unit_us = self.query.every_us or 1
        if width_us >= bucket_us and bucket_us % unit_us == 0:
            unit_us = bucket_us
        if self.descending:
            start_us = (rest.end_us - width_us) // unit_us * unit_us
            return Span(max(rest.start_us, start_us), rest.end_us)
        end_us = -(-(rest.start_us + width_us) // unit_us) * unit_us
        return Span(rest.start_us, min(rest.end_us, end_us))

    def _first_width(self, sources: Sources) -> int:
        """For a sensor that measures once a second."""
        cells = self.bounds.piece_cells // 2
        rows = cells if self.query.limit is None or self.query.every_us else self.query.limit
        return max(min(rows, cells), sources.layout.widest_bucket_s) * US

    def _shorter(self, piece: Span, watch: _Watch) -> int:
        """After a piece that held too much: how long the next one is. Where it was dense is kept in mind."""
        length_us = piece.end_us - piece.start_us
        met = watch.met or piece
        dense_us = (met.end_us - met.start_us) * self._most_cells() // (2 * max(1, watch.most_cells or 1))
        self.wall = (met.end_us if self.descending else met.start_us, max(1, dense_us))
        return max(1, min(self._to_wall(piece), length_us // 2))

    def _to_wall(self, rest: Span) -> int:
        """As far as to where it is known to be dense. Readings are met oldest first: nothing is known of what
        is newer than those that were met, so that a way down is halved."""
        if self.wall is None:
            return rest.end_us - rest.start_us
        at_us, dense_us = self.wall
        way_us = rest.end_us - at_us if self.descending else at_us - rest.start_us
        if way_us < 0:
            self.wall = None
            return rest.end_us - rest.start_us
        return way_us // 2 if self.descending and way_us > 2 * dense_us else way_us + dense_us

    def _next_width(self, length_us: int, found: Answer, watch: _Watch, rest: Span) -> int:
        rows = _rows(found)
        if not rows:
            return max(1, min(length_us * GROWTH, self._to_wall(rest)))
        self.seen = (_filled_us(found, length_us), rows, watch.cells)
        wanted = None if self.query.limit is None else self.query.limit - self.rows + 1
        return min(max(self._width(wanted), length_us // GROWTH, 1), length_us * GROWTH)

    def _width(self, wanted_rows: int | None) -> int:
        """How long a piece with so many rows, and not too many cells, is at the density seen."""
        if self.seen is None:
            return US
        length_us, rows, cells = self.seen
        share = self._most_cells() / (2 * max(1, cells))
        if wanted_rows is not None:
            share = min(share, SPARE * wanted_rows / rows)
        return max(1, int(length_us * share))

    def _most_cells(self) -> int:
        if self.query.limit is None or self.query.every_us is not None:
            return self.bounds.piece_cells
        return min(self.bounds.piece_cells, max(CELLS_A_ROW * self.query.limit, LEAST_CELLS))

    # --- what the page holds ------------------------------------------------------------

    def _is_enough(self, passed_s: float) -> bool:
        return self.pieces > 0 and (self.cells >= self.bounds.page_cells or passed_s > self.bounds.seconds)

    def _add(self, found: Answer, watch: _Watch, piece: Span) -> bool:
        """Take what was found, as much as there is room for; whether there is more than that."""
        self.pieces += 1
        count = _rows(found)
        room = count if self.query.limit is None else self.query.limit - self.rows
        kept = piece
        if count > room:
            self.seen = (_filled_us(found, piece.end_us - piece.start_us), count, watch.cells)
            kept = self._cut(found, piece, room)
            self.made.next = self._place(kept.start_us if self.descending else kept.end_us)
        self._count(watch, kept)
        if found.windows is not None:
            self.windows.append(found.windows)
            self.cells += sum(
                len(found.windows.start_us) * len(by_name) for by_name in found.windows.columns.values()
            )
        elif found.run is not None:
            self.runs.append(found.run)
            self.cells += len(found.run.ts_us) * len(found.run.metrics)
        self.rows += min(count, room)
        return count > room

    def _cut(self, found: Answer, piece: Span, room: int) -> Span:
        """Leave `room` rows, those nearest to where the page comes from; the span they fill."""
        if found.windows is not None:
            starts = found.windows.start_us
            low, high = (len(starts) - room, len(starts)) if self.descending else (0, room)
            if self.descending:
                kept = Span(max(piece.start_us, starts[low]) if room else piece.end_us, piece.end_us)
            else:
                kept = Span(
                    piece.start_us, starts[high - 1] + found.windows.every_us if room else piece.start_us
                )
            found.windows = _take_windows(found.windows, low, high)
            return kept
        run = found.run
        assert run is not None  # noqa: S101 - there are rows to cut
        low, high = (len(run.ts_us) - room, len(run.ts_us)) if self.descending else (0, room)
        if self.descending:
            kept = Span(run.ts_us[low] if room else piece.end_us, piece.end_us)
        else:
            kept = Span(piece.start_us, run.ts_us[high - 1] + 1 if room else piece.start_us)
        found.run = take(run, low, high)
        return kept

    def _count(self, watch: _Watch, kept: Span) -> None:
        self.made.hot_rows += sum(len(clip(run, kept).ts_us) for run in watch.hot)
        self.made.cold_rows += sum(len(clip(run, kept).ts_us) for run in watch.cold)
        if self.tiers is not None:
            self.tiers.add(watch.hot, watch.cold, kept)

    def _place(self, at_us: int) -> Place:
        return Place(at_us, self._width(None if self.query.limit is None else self.query.limit + 1))

    def _charge(self, cost: Cost) -> None:
        total = self.made.cost
        total.items += cost.items
        total.read_units += cost.read_units
        total.objects += cost.objects
        total.requests += cost.requests
        total.bytes += cost.bytes

    def _finish(self) -> None:
        if self.descending:
            self.runs.reverse()
            self.windows.reverse()
        present = [run for run in self.runs if run.ts_us]
        if self.query.every_us is None:
            self.made.run = concat(present) if present else None
        elif self.windows:
            self.made.windows = _concat_windows(self.windows)


def _rows(found: Answer) -> int:
    if found.windows is not None:
        return len(found.windows.start_us)
    return 0 if found.run is None else len(found.run.ts_us)


def _filled_us(found: Answer, length_us: int) -> int:
    """How long a piece's rows take, without what is empty before and behind them."""
    instants: Sequence[int] = found.run.ts_us if found.run is not None else ()
    if found.windows is not None:
        instants = found.windows.start_us
    if len(instants) < 2:
        return length_us
    return max(1, min(length_us, (instants[-1] - instants[0]) * len(instants) // (len(instants) - 1)))


def _take_windows(windows: Windows, low: int, high: int) -> Windows:
    columns = {
        metric: {name: column[low:high] for name, column in by_name.items()}
        for metric, by_name in windows.columns.items()
    }
    return Windows(windows.every_us, windows.start_us[low:high], columns)


def _concat_windows(parts: Sequence[Windows]) -> Windows:
    """Windows one after another, in time order; a metric that a part lacks is absent there."""
    if len(parts) == 1:
        return parts[0]
    known = {metric: tuple(by_name) for part in parts for metric, by_name in part.columns.items()}
    columns: dict[str, dict[str, Column]] = {
        metric: {name: [] for name in known[metric]} for metric in sorted(known)
    }
    for part in parts:
        for metric, by_name in columns.items():
            given = part.columns.get(metric)
            for name, column in by_name.items():
                column.extend(given[name] if given else repeat(None, len(part.start_us)))
    return Windows(parts[0].every_us, [start for part in parts for start in part.start_us], columns)
