"""Answers as bytes: rows held column-wise, written as a table, CSV, JSON, NDJSON or Parquet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, cast

from ingest.errors import BadInput
from ingest.rows import (
    BLOCK_ROWS,
    Rows,
    cell_text,
    is_number,
    time_texts,
    write_csv,
    write_json,
    write_ndjson,
)

MOST_RICH_ROWS = 2_000
"""Longer tables are laid out here, in the same shape: rich needs 50 µs a cell."""
MOST_FOLDED = 40
"""Texts wider than this are folded where a table is wider than the terminal."""
_GAP = 3  # columns between two cells of a table


class Format(StrEnum):
    """What an answer can be written as."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    NDJSON = "ndjson"
    PARQUET = "parquet"


_SUFFIXES = {
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".jsonl": Format.NDJSON,
    ".ndjson": Format.NDJSON,
    ".parquet": Format.PARQUET,
}


def choose_format(asked: str | None, output: Path | None, is_terminal: bool) -> Format:
    """The format to write: the one asked for, else by the file's suffix, else `table` on a
    terminal and `ndjson` elsewhere. `is_terminal` is about stdout and counts without a file.

    Raises BadInput for an unknown format or suffix, and for Parquet to a terminal.
    """
    known = ", ".join(Format)
    if asked is not None:
        if asked not in list(Format):
            raise BadInput(f"--format: {asked!r} is no format. Use {known}.")
        chosen = Format(asked)
    elif output is not None:
        suffix = output.suffix.lower()
        if suffix not in _SUFFIXES:
            raise BadInput(
                f"-o: the name {output.name!r} does not tell the format. "
                f"End it in {', '.join(_SUFFIXES)}, or add --format ({known})."
            )
        chosen = _SUFFIXES[suffix]
    else:
        chosen = Format.TABLE if is_terminal else Format.NDJSON
    if chosen is Format.PARQUET and output is None and is_terminal:
        raise _no_parquet_here()
    return chosen


def write_rows(rows: Rows, fmt: str, out: BinaryIO, width: int | None = None) -> None:
    """Write the whole answer in the format. `width` bounds a table (columns that do not fit beside
    each other follow below); without it a terminal's width does, and a file's lines are unbounded.

    Numbers are canonical (`ingest.reading.canonical`) in every text format. Raises BadInput
    for Parquet to a terminal.
    """
    match Format(fmt):
        case Format.TABLE:
            _write_table(rows, out, width)
        case Format.CSV:
            write_csv(rows, out)
        case Format.JSON:
            write_json(rows, out)
        case Format.NDJSON:
            write_ndjson(rows, out)
        case Format.PARQUET:
            _write_parquet(rows, out)


def human_size(size_bytes: float) -> str:
    """A size for people, in powers of 1000: `999 B`, `1.2 MB`."""
    size, unit = float(size_bytes), 0
    while size >= 999.95 and unit < 5:
        size, unit = size / 1000, unit + 1
    return f"{size:.1f} {'BkMGTP'[unit]}B" if unit else f"{size:.0f} B"


def _no_parquet_here() -> BadInput:
    return BadInput(
        "--format: parquet cannot be shown on a terminal. Add -o FILE.parquet, or use csv or ndjson."
    )


# --- table ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shown:
    """One column of a table: its heading, its cells as text, and how wide they are."""

    heading: str
    cells: list[str]
    is_right: bool
    width: int
    can_fold: bool


def visible(text: str) -> str:
    """The text with what would move a terminal's cursor or turn a line around written as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _shown(name: str, values: Sequence[object], holds_times: bool) -> _Shown:
    from rich.cells import cell_len

    is_size = name.endswith("_bytes")
    are_numbers = not holds_times and all(value is None or is_number(value) for value in values)
    if holds_times:
        cells = time_texts(values)
    elif is_size and are_numbers:
        cells = ["" if value is None else human_size(cast(float, value)) for value in values]
    else:
        cells = ["" if value is None else visible(cell_text(value)) for value in values]
    heading = visible(name.removesuffix("_bytes") if is_size else name)
    width = max(map(cell_len, [heading, *cells]))
    return _Shown(heading, cells, are_numbers, width, not (are_numbers or holds_times))


def _groups(columns: list[_Shown], width: int | None) -> Iterator[list[_Shown]]:
    """The columns in groups that fit beside each other, each led by the first column."""
    group: list[_Shown] = []
    for column in columns:
        used = sum(shown.width + _GAP for shown in group) + column.width
        if width is not None and used > width and len(group) > 1:
            yield group
            group = [columns[0]]
        group.append(column)
    if group:
        yield group


def _write_table(rows: Rows, out: BinaryIO, width: int | None) -> None:
    from io import StringIO

    from rich.console import Console

    is_terminal = out.isatty()
    if width is None and is_terminal:
        width = Console().width
    columns = [_shown(name, values, name in rows.times) for name, values in rows.columns.items()]
    if width is not None and sum(shown.width + _GAP for shown in columns) - _GAP > width:
        most = min(MOST_FOLDED, width)
        columns = [replace(c, width=min(c.width, most)) if c.can_fold else c for c in columns]
    for i, group in enumerate(_groups(columns, width)):
        out.write(b"\n" if i else b"")
        if len(rows) > MOST_RICH_ROWS:
            _write_plain_table(group, out)
            continue
        text = StringIO()
        wide = sum(shown.width + _GAP for shown in group)
        console = Console(
            file=text,
            width=wide if width is None else min(wide, width),
            force_terminal=is_terminal,
            markup=False,
            emoji=False,
            highlight=False,
        )
        console.print(_rich_table(group))
        lines = "".join(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())
        out.write(lines.encode(errors="backslashreplace"))


def _rich_table(group: list[_Shown]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for shown in group:
        side = "right" if shown.is_right else "left"
        table.add_column(shown.heading, justify=side, width=shown.width, overflow="fold")
    for row in zip(*(shown.cells for shown in group), strict=True):
        table.add_row(*row)
    return table


def _write_plain_table(group: list[_Shown], out: BinaryIO) -> None:
    from rich.cells import cell_len

    def padded(shown: _Shown, text: str) -> str:
        space = " " * (shown.width - cell_len(text))
        return space + text if shown.is_right else text + space

    gap = " " * _GAP
    lines = zip(
        *([padded(shown, text) for text in [shown.heading, *shown.cells]] for shown in group), strict=True
    )
    heading = gap.join(next(lines)).rstrip()
    rule = "─" * (sum(shown.width + _GAP for shown in group) - _GAP)
    out.write(f"{heading}\n{rule}\n".encode())
    while block := list(islice(lines, BLOCK_ROWS)):
        out.write("".join(f"{gap.join(row).rstrip()}\n" for row in block).encode(errors="backslashreplace"))


# --- Parquet ----------------------------------------------------------------------------


def _is_exact(value: object) -> bool:
    """Whether a double holds the number exactly."""
    try:
        return float(cast(float, value)) == value
    except OverflowError:
        return False


def _arrow_column(arrow: Any, values: Sequence[object], holds_times: bool) -> Any:
    """An Arrow array of the narrowest type that keeps every value: time, bool, int64, double, else text."""
    present = [value for value in values if value is not None]
    if holds_times:
        return arrow.array(values, arrow.timestamp("us", tz="UTC"))
    if present and all(isinstance(value, bool) for value in present):
        return arrow.array(values, arrow.bool_())
    if all(map(is_number, present)):
        numbers = cast(list[int | float], present)
        if numbers and all(isinstance(number, int) and -(2**63) <= number < 2**63 for number in numbers):
            return arrow.array(values, arrow.int64())
        if all(map(_is_exact, numbers)):
            return arrow.array(
                [None if value is None else float(cast(float, value)) for value in values], arrow.float64()
            )
    return arrow.array([None if value is None else cell_text(value) for value in values], arrow.string())


def _write_parquet(rows: Rows, out: BinaryIO) -> None:
    if out.isatty():
        raise _no_parquet_here()
    import pyarrow as pa
    from pyarrow import parquet

    arrow = cast(Any, pa)
    arrays = {name: _arrow_column(arrow, values, name in rows.times) for name, values in rows.columns.items()}
    sink = arrow.BufferOutputStream()  # a pipe cannot tell its position, which the writer asks for
    cast(Any, parquet).write_table(arrow.table(arrays), sink, compression="zstd")
    out.write(sink.getvalue())
