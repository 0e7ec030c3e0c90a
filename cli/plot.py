"""Readings and windows drawn as text: braille lines, steps and lanes over one time axis, for any terminal."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate, groupby, pairwise

from cli.output import visible
from ingest.aggregate import Windows
from ingest.reading import Column, Run, Value, canonical
from ingest.times import US, format_duration, format_time

NOTHING = "There is nothing to draw: no readings here.\n"
LEAST_WIDTH = 24
LEAST_ROWS = 4
"""Rows of a panel of numbers, even where more panels than the height allows must stand."""
SHARE = 4
"""Series share a panel where each fills at least this part (1/SHARE) of its height."""

_DOT = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell, by row and column
_COLORS = (36, 33, 35, 32, 34, 31)
_MINUTE, _HOUR, _DAY = 60 * US, 3600 * US, 86_400 * US
_MONDAY_US = 4 * _DAY  # ticks of whole weeks fall on Mondays; shorter ones divide this too
_TICKS_US = (
    *(digit * 10**power for power in range(6) for digit in (1, 2, 5)),
    *(count * US for count in (1, 2, 5, 10, 15, 30)),
    *(count * _MINUTE for count in (1, 2, 5, 10, 15, 30)),
    *(count * _HOUR for count in (1, 2, 3, 6, 12)),
    *(count * _DAY for count in (1, 2, 7, 14)),
)
_TICK_MONTHS = (1, 2, 3, 6, *(12 * count for count in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)))


@dataclass(slots=True)
class _Series:
    """The values of one metric that are present; a way longer than `gap_us` between two is a gap."""

    name: str
    ts_us: list[int]
    values: list[Value]
    gap_us: int
    color: int = 0

    def kind(self) -> str:
        if any(isinstance(value, str) for value in self.values):
            return "text"
        return "bool" if all(isinstance(value, bool) for value in self.values) else "number"

    def bounds(self) -> tuple[float, float]:
        """Least and greatest number; zeros where all are texts."""
        numbers = [float(value) for value in self.values if not isinstance(value, str)]
        return min(numbers, default=0.0), max(numbers, default=0.0)


@dataclass(slots=True)
class _Frame:
    """Where instants fall: `columns` cells from `start_us` to `end_us` (both inclusive)."""

    start_us: int
    end_us: int
    margin: int
    columns: int

    def place(self, ts_us: int, parts: int) -> int:
        """Which of `parts` equal parts of the width holds the instant."""
        if self.start_us == self.end_us:
            return parts // 2
        return (ts_us - self.start_us) * (parts - 1) // (self.end_us - self.start_us)


@dataclass(slots=True)
class _Canvas:
    """Braille cells of 2 x 4 dots, counted from the upper left."""

    rows: int
    cells: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])
    colors: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    def column(self, x: int, y1: int, y2: int, color: int) -> None:
        for y in range(min(y1, y2), max(y1, y2) + 1):
            cell = (y // 4, x // 2)
            self.cells[cell] = self.cells.get(cell, 0) | _DOT[y % 4][x % 2]
            self.colors[cell] = color

    def line(self, x1: int, y1: int, x2: int, y2: int, color: int) -> None:
        """From one dot to another further right."""
        y = y1
        for x in range(x1, x2 + 1):
            middle = y1 + round((y2 - y1) * (2 * (x - x1) + 1) / (2 * (x2 - x1))) if x < x2 else y2
            self.column(x, y, middle, color)
            y = middle

    def text(self, row: int, columns: int) -> str:
        pieces: list[str] = []
        for color, group in groupby(range(columns), key=lambda x: self.colors.get((row, x), 0)):
            cells = "".join(chr(0x2800 + self.cells.get((row, x), 0)) for x in group)
            pieces.append(_painted(cells, color))
        return "".join(pieces).replace(chr(0x2800), " ").rstrip()


def plot(
    run: Run, metrics: Sequence[str] = (), width: int = 80, height: int = 20, color: bool = False
) -> str:
    """The readings as a chart of at most `width` columns and about `height` lines; ends in a newline.

    No metrics means all of them. Numbers are lines, booleans steps, texts a lane of
    changes. However many readings fall in one column, its least and greatest stay
    visible; a silence of three times the usual step is left blank. With `color`, series
    of like range share a panel; without, each has its own.
    """
    names = [name for name in sorted(run.metrics) if not metrics or name in metrics]
    found = [_series(name, run.ts_us, run.metrics[name]) for name in names]
    for series in found:
        series.gap_us = _gap_us(series.ts_us)
    count = "1 reading" if len(run.ts_us) == 1 else f"{len(run.ts_us)} readings"
    return _chart(f"{run.sensor_id}, {count}", found, width, height, color)


def plot_windows(windows: Windows, width: int = 80, height: int = 20, color: bool = False) -> str:
    """Aggregates as a chart, like `plot`: each stands at its window's start, missing windows are blank."""
    found: list[_Series] = []
    for metric, aggregates in sorted(windows.columns.items()):
        for name, column in aggregates.items():
            found.append(_series(f"{metric}_{name}", windows.start_us, column))
            found[-1].gap_us = windows.every_us
    title = f"{len(windows.start_us)} windows of {format_duration(windows.every_us)}"
    return _chart(title, found, width, height, color)


def _series(name: str, ts_us: Sequence[int], column: Column) -> _Series:
    if all(value is None or isinstance(value, str | bool) for value in column):
        # a state that is only told when it changes holds for as long as its sensor speaks
        column = list(accumulate(column, lambda held, new: held if new is None else new))
    present = [(ts, value) for ts, value in zip(ts_us, column, strict=True) if value is not None]
    return _Series(name, [ts for ts, _ in present], [value for _, value in present], 0)


def _gap_us(ts_us: Sequence[int]) -> int:
    steps = sorted(b - a for a, b in pairwise(ts_us))
    return 3 * steps[(len(steps) - 1) * 9 // 10] if steps else 0


def _painted(text: str, color: int) -> str:
    return f"\x1b[{color}m{text}\x1b[0m" if color else text


def _chart(title: str, found: list[_Series], width: int, height: int, color: bool) -> str:
    found = [series for series in found if series.values]
    if not found:
        return NOTHING
    width = max(width, LEAST_WIDTH)
    panels = _panels(found, color)
    start_us, end_us = min(s.ts_us[0] for s in found), max(s.ts_us[-1] for s in found)
    heading = textwrap.wrap(f"{title}, {format_time(start_us)} to {format_time(end_us)}", width)
    lanes = sum({"text": 1, "bool": 2, "number": 0}[panel[0].kind()] for panel in panels)
    numeric = sum(panel[0].kind() == "number" for panel in panels)
    rows = max(LEAST_ROWS, (height - len(heading) - 2 - lanes - len(panels)) // max(numeric, 1))
    ticks = [_value_ticks(panel, rows) for panel in panels]
    margin = max(len(text) for panel in ticks for text in panel.values())
    frame = _Frame(start_us, end_us, margin, width - margin - 1)
    lines = heading
    for panel, labels in zip(panels, ticks, strict=True):
        lines += _legend(panel, width)
        kind = panel[0].kind()
        if kind == "text":
            lines.append(" " * (margin + 1) + _lane(panel[0], frame))
            continue
        canvas = _Canvas(2 if kind == "bool" else rows)
        low, high = _range(panel)
        for series in panel:
            _draw(canvas, series, frame, low, high)
        for row in range(canvas.rows):
            label = labels.get(row, "")
            lines.append(f"{label:>{margin}}{'┤' if label else '│'}{canvas.text(row, frame.columns)}")
    return "\n".join([*lines, *_time_axis(frame)]) + "\n"


def _panels(found: list[_Series], color: bool) -> list[list[_Series]]:
    panels: list[list[_Series]] = []
    for series in found:
        home = next((panel for panel in panels if color and _fits(panel, series)), list[_Series]())
        if not home:
            panels.append(home)
        series.color = _COLORS[len(home)] if color else 0
        home.append(series)
    return panels


def _fits(panel: list[_Series], series: _Series) -> bool:
    together = [*panel, series]
    if len(together) > len(_COLORS) or any(member.kind() != "number" for member in together):
        return False
    bounds = [member.bounds() for member in together]
    whole = max(high for _, high in bounds) - min(low for low, _ in bounds)
    return all(SHARE * (high - low) >= whole for low, high in bounds)


def _range(panel: list[_Series]) -> tuple[float, float]:
    """The values at the lower and upper edge of a panel; never equal."""
    if panel[0].kind() == "bool":
        return 0.0, 1.0
    low, high = min(s.bounds()[0] for s in panel), max(s.bounds()[1] for s in panel)
    pad = 0.0 if high > low else abs(low) / 10 or 1.0
    return low - pad, high + pad


def _legend(panel: list[_Series], width: int) -> list[str]:
    """The names of a panel's series, each in its colour; a series on its own also with its range."""
    lines: list[str] = []
    used = width
    for series in panel:
        low, high = (_short(value) for value in series.bounds())
        alone = len(panel) == 1 and series.kind() == "number"
        text = f"{series.name}  {low} to {high}" if alone else series.name
        text = text if len(text) <= width else text[: width - 1] + "…"
        begins = used + 3 + len(text) > width
        used = len(text) if begins else used + 3 + len(text)
        if begins:
            lines.append(_painted(text, series.color))
        else:
            lines[-1] += "   " + _painted(text, series.color)
    return lines


def _short(value: float) -> str:
    text = canonical(value)
    return text if len(text) <= 9 else f"{value:.6g}"


def _draw(canvas: _Canvas, series: _Series, frame: _Frame, low: float, high: float) -> None:
    last_dot, steps, color = canvas.rows * 4 - 1, series.kind() == "bool", series.color
    x = y = top = bottom = before_us = -1
    for ts_us, value in zip(series.ts_us, series.values, strict=True):
        next_x = frame.place(ts_us, frame.columns * 2)
        next_y = round((high - float(value)) / (high - low) * last_dot)
        if next_x != x:
            if x >= 0:
                canvas.column(x, top, bottom, color)
            top = bottom = next_y
            if x >= 0 and ts_us - before_us <= series.gap_us:
                top = bottom = y if steps else next_y
                canvas.line(x, y, next_x, top, color)
        top, bottom = min(top, next_y), max(bottom, next_y)
        x, y, before_us = next_x, next_y, ts_us
    canvas.column(x, top, bottom, color)


def _lane(series: _Series, frame: _Frame) -> str:
    """Texts over time: `│idle─────│running──`; `▒` where several changes fall in one column."""
    changes: list[tuple[int, str | None]] = []  # column and text; None begins a gap
    text: str | None = None
    before_us = series.ts_us[0]
    for ts_us, value in zip(series.ts_us, series.values, strict=True):
        if ts_us - before_us > series.gap_us:
            silent = frame.place(before_us, frame.columns) + 1
            changes.append((min(silent, frame.place(ts_us, frame.columns)), None))
            text = None
        if canonical(value) != text:
            text = canonical(value)
            changes.append((frame.place(ts_us, frame.columns), text))
        before_us = ts_us
    ends = [*(column for column, _ in changes[1:]), frame.place(before_us, frame.columns) + 1]
    pieces: list[str] = []
    crowded = False
    for (column, shown), end in zip(changes, ends, strict=True):
        if end <= column:
            crowded = crowded or shown is not None
        elif shown is None:
            pieces.append(" " * (end - column))
        else:
            pieces.append(("▒" if crowded else "│") + _padded(visible(shown), end - column - 1))
            crowded = False
    return "".join(pieces)


def _padded(text: str, columns: int) -> str:
    from rich.cells import cell_len, set_cell_size

    space = columns - cell_len(text)
    if space >= 0:
        return text + "─" * space
    return set_cell_size(text, columns - 1) + "…" if columns > 1 else "─" * columns


def _value_ticks(panel: list[_Series], rows: int) -> dict[int, str]:
    """Labels of a panel's value axis by row."""
    kind = panel[0].kind()
    if kind != "number":
        return {0: "true", 1: "false"} if kind == "bool" else {0: ""}
    low, high = _range(panel)
    least_step = (high - low) / max(3, rows // 2)
    power = 10.0 ** math.floor(math.log10(least_step))
    steps = [digit * power for digit in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
    place = next(i for i, step in enumerate(steps) if step >= least_step * (1 - 1e-9))
    while place and len(_multiples(steps[place], low, high)) < 2:
        place -= 1  # one label alone tells no scale
    step = steps[place]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    is_plain = max(abs(low), abs(high)) < 1e16 and decimals <= 6
    labels: dict[int, str] = {}
    for count in _multiples(step, low, high):
        value = count * step
        row = round((high - value) / (high - low) * (rows * 4 - 1)) // 4
        labels.setdefault(row, f"{value:.{decimals}f}" if is_plain else f"{value:.4g}")
    return labels


def _multiples(step: float, low: float, high: float) -> range:
    return range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)


def _time_ticks(frame: _Frame) -> Iterator[tuple[int, str]]:
    """Instants to label and their labels: dates, or times of day with the date at midnight."""
    span_us, most = frame.end_us - frame.start_us, max(2, frame.columns // 14)
    step_us = next((step for step in _TICKS_US if span_us <= step * most), None)
    if step_us is not None:
        first = -((_MONDAY_US - frame.start_us) // step_us)
        for count in range(first, (frame.end_us - _MONDAY_US) // step_us + 1):
            ts_us = _MONDAY_US + count * step_us
            text = format_time(ts_us)
            is_day = ts_us % _DAY == 0
            yield ts_us, text[:10] if is_day else text[11:16] if step_us >= _MINUTE else text[11:-1]
        return
    months = next((count for count in _TICK_MONTHS if span_us <= count * 30 * _DAY * most), _TICK_MONTHS[-1])
    year, month = map(int, format_time(frame.start_us)[:7].split("-"))
    for count in range((year * 12 + month - 1) // months, 9999 * 12 // months):
        day = date(count * months // 12, count * months % 12 + 1, 1)
        ts_us = (day.toordinal() - date(1970, 1, 1).toordinal()) * _DAY
        if frame.start_us <= ts_us <= frame.end_us:
            yield ts_us, day.isoformat()[:7]


def _time_axis(frame: _Frame) -> list[str]:
    axis, labels = ["─"] * frame.columns, ""
    for ts_us, text in _time_ticks(frame):
        column = frame.place(ts_us, frame.columns)
        axis[column] = "┬"
        centre, end = frame.margin + 1 + column, frame.margin + 1 + frame.columns
        start = min(max(0, centre - len(text) // 2), end - len(text))
        if not labels or start > len(labels):
            labels = labels.ljust(start) + text
    return [" " * frame.margin + "└" + "".join(axis), labels]
