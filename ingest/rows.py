"""Answers as rows, held column-wise, and what they are as CSV, JSON and NDJSON: one text, whoever asks."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from ingest.aggregate import Windows
from ingest.reading import Run, canonical
from ingest.times import US, format_time

TIME_COLUMN = "timestamp"
BLOCK_ROWS = 20_000
"""How many rows are turned into text at a time."""
_MINUTE_US = 60 * US
_csv_special = re.compile(r'[",\r\n]')


@dataclass(frozen=True, slots=True)
class Rows:
    """An answer, column by column in the order shown; all columns are equally long, None is absent.

    The columns named in `times` hold microseconds since the epoch and are written as
    RFC 3339. Other values are numbers, booleans, texts, or (in listings) dicts and lists.
    """

    columns: Mapping[str, Sequence[object]]
    times: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))


def rows_of_run(run: Run | None) -> Rows:
    """Readings as rows: `timestamp`, then every metric that has a value, alphabetically.

    None is the run without a reading. A metric that is itself called `timestamp` is shown
    as `timestamp_` (with further underscores while that is a metric too).
    """
    columns: dict[str, Sequence[object]] = {TIME_COLUMN: run.ts_us if run else []}
    for name, column in sorted(run.metrics.items()) if run else ():
        if any(value is not None for value in column):
            shown = name
            while shown in columns or (shown != name and run and shown in run.metrics):
                shown += "_"
            columns[shown] = column
    return Rows(columns, frozenset({TIME_COLUMN}))


def rows_of_windows(windows: Windows) -> Rows:
    """Windows as rows: `timestamp` is a window's start, then `<metric>_<aggregate>`, metrics
    alphabetically, aggregates in the order asked."""
    columns: dict[str, Sequence[object]] = {TIME_COLUMN: windows.start_us}
    for metric, aggregates in sorted(windows.columns.items()) if windows.start_us else ():
        columns |= {f"{metric}_{name}": column for name, column in aggregates.items()}
    return Rows(columns, frozenset({TIME_COLUMN}))


def rows_of_records(
    records: Sequence[Mapping[str, object]], columns: Sequence[str] = (), times: Collection[str] = ()
) -> Rows:
    """A listing as rows. `columns` are shown first and even where no record has them, others after
    them in the order met; `times` names those that hold microseconds since the epoch."""
    names = dict.fromkeys([*columns, *(name for record in records for name in record)])
    return Rows({name: [record.get(name) for record in records] for name in names}, frozenset(times))


def is_number(value: object) -> bool:
    """Whether the value is a number; booleans are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell_text(value: object) -> str:
    """A value as text: canonical for what a reading holds, compact JSON for dicts and lists."""
    if isinstance(value, str | int | float):
        return canonical(value)
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def time_texts(values: Sequence[object]) -> list[str]:
    """Instants in microseconds as RFC 3339, empty where absent."""
    texts: list[str] = []
    minute: int | None = None
    lead = ""
    for ts_us in cast(Sequence[int | None], values):
        if ts_us is None:
            texts.append("")
            continue
        its_minute, rest_us = divmod(ts_us, _MINUTE_US)
        if its_minute != minute:
            minute, lead = its_minute, format_time(its_minute * _MINUTE_US)[:-3]
        if rest_us % US:
            texts.append(f"{lead}{rest_us // US:02d}.{rest_us % US:06d}".rstrip("0") + "Z")
        else:
            texts.append(f"{lead}{rest_us // US:02d}Z")
    return texts


def _blocks(rows: Rows) -> Iterator[Rows]:
    for start in range(0, len(rows), BLOCK_ROWS):
        columns = {name: column[start : start + BLOCK_ROWS] for name, column in rows.columns.items()}
        yield Rows(columns, rows.times)


# --- CSV --------------------------------------------------------------------------------


def _csv_text(text: str) -> str:
    if text and _csv_special.search(text) is None:
        return text
    return '"' + text.replace('"', '""') + '"'


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    return canonical(value) if isinstance(value, int | float) else _csv_text(cell_text(value))


def write_csv(rows: Rows, out: BinaryIO) -> None:
    """The rows under a line of names; an absent value is an empty cell, an empty text is `""`."""
    if rows.columns:
        out.write((",".join(map(_csv_text, rows.columns)) + "\n").encode())
    for block in _blocks(rows):
        cells = [
            time_texts(values) if name in rows.times else map(_csv_cell, values)
            for name, values in block.columns.items()
        ]
        lines = "\n".join(map(",".join, zip(*cells, strict=True)))
        out.write(f"{lines}\n".encode(errors="backslashreplace"))


# --- JSON -------------------------------------------------------------------------------


def json_texts(values: Sequence[object]) -> list[str]:
    """Each value as JSON, `null` where absent. Numbers are canonical, so that none loses a digit."""
    kinds = set(map(type, values))
    if kinds == {float}:
        numbers = cast(Sequence[float], values)
        if not any(map(float.is_integer, numbers)) and all(map(math.isfinite, numbers)):
            return list(map(repr, numbers))
    elif kinds == {int}:
        return list(map(str, values))
    return list(map(_json_text, values))


def _json_text(value: object) -> str:
    if isinstance(value, int | float):
        return canonical(value) if math.isfinite(value) else "null"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def json_objects(rows: Rows) -> list[str]:
    """Each row as a JSON object, without the members that are absent."""
    leads: list[str] = []
    columns: list[list[str]] = []
    for name, values in rows.columns.items():
        lead = json.dumps(name, ensure_ascii=False) + ":"
        if name in rows.times:
            columns.append([f'{lead}"{text}"' if text else "" for text in time_texts(values)])
        elif None in values:
            texts = json_texts(values)
            columns.append(
                ["" if value is None else lead + text for value, text in zip(values, texts, strict=True)]
            )
        else:
            columns.append(json_texts(values))
            leads.append(lead.replace("%", "%%") + "%s")
            continue
        leads.append("%s")
    if all("" not in column for column in columns):
        return list(map(("{" + ",".join(leads) + "}").__mod__, zip(*columns, strict=True)))
    whole = [
        column if lead == "%s" else [lead[:-2].replace("%%", "%") + text for text in column]
        for lead, column in zip(leads, columns, strict=True)
    ]
    return ["{" + ",".join(filter(None, row)) + "}" for row in zip(*whole, strict=True)]


def write_json(rows: Rows, out: BinaryIO) -> None:
    """The rows as one array of objects, a line each, without the members that are absent."""
    _write_objects(rows, out, ("[\n", ",\n", "\n]\n"))


def write_ndjson(rows: Rows, out: BinaryIO) -> None:
    """The rows as one object a line, without the members that are absent."""
    _write_objects(rows, out, ("", "\n", "\n"))


def _write_objects(rows: Rows, out: BinaryIO, marks: tuple[str, str, str]) -> None:
    first, between, last = marks
    if not len(rows):
        out.write(b"[]\n" if first else b"")
        return
    for i, block in enumerate(_blocks(rows)):
        lines = (between if i else first) + between.join(json_objects(block))
        out.write(lines.encode(errors="backslashreplace"))
    out.write(last.encode())
