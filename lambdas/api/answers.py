"""Pages of readings as text: rows or columns of JSON, CSV and NDJSON, cut to what one answer may hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from typing import Any, Literal, cast

import msgspec

from ingest.paging import AnswerPage, Place, page
from ingest.plan import Query
from ingest.query import Cost, Sources
from ingest.reading import Run, Span
from ingest.rows import TIME_COLUMN, Rows, json_objects, json_texts, rows_of_run, rows_of_windows, write_csv
from ingest.tiers import Stretch, TierMap
from ingest.times import format_duration, format_time
from lambdas.api.asked import Asked
from lambdas.api.limits import ANSWER_MOST_BYTES

Format = Literal["json", "csv", "ndjson"]
Shape = Literal["rows", "columns"]
MEDIA_TYPES: Mapping[str, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "ndjson": "application/x-ndjson",
}
EXACT = 2**53
"""Integers beyond it may not be a double (IEEE 754), which is what many readers of JSON make of a number."""
ENVELOPE_BYTES = 80_000
"""What an answer holds beside its readings, at most: 500 stretches, units, a cursor."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked of each sensor, and how it is to be written."""

    query: Query
    descending: bool
    form: Format
    shape: Shape
    tiers: bool


@dataclass(slots=True)
class Written:
    """One sensor's page as text, and what it is made of."""

    text: str
    found: AnswerPage
    names: list[str]
    beyond_double: list[str]
    cost: Cost
    stretches: list[Stretch]
    fitting: int
    """How many rows fit one answer, where that is known to be fewer than were asked for; else 0."""


def wanted_of(asked: Asked, sensor_id: str) -> Wanted:
    """What a question asks of one sensor."""
    said = asked.said
    form: Format = said["format"]
    tiers = bool(said["tiers"]) and form == "json"
    return Wanted(asked.query(sensor_id), said["order"] == "desc", form, said["shape"], tiers)


Position = list[int]
"""Where a page begins, as a cursor carries it: an instant, how much to read at once, and how many rows
fitted the page before (0: all that were asked for)."""


def position(written: Written) -> Position | None:
    """Where the next page begins; None behind the last one."""
    follow = written.found.next
    return None if follow is None else [follow.at_us, follow.width_us, written.fitting]


def write(
    wanted: Wanted,
    at: Position | None,
    sources: Callable[[], Sources],
    now_s: Callable[[], float],
    most_bytes: int = ANSWER_MOST_BYTES - ENVELOPE_BYTES,
) -> Written:
    """The page at the position. Where its text would be longer than `most_bytes` it is read again with as
    many rows as fit (one at least), and goes on behind them. Raises as `paging.page` does."""
    place = None if at is None else Place(at[0], at[1])
    fitting = 0 if at is None else at[2]
    cost, query = Cost(), wanted.query
    while True:
        if fitting:
            query = replace(query, limit=min(fitting, query.limit or fitting))
        tiers = TierMap(query.span, query.metrics) if wanted.tiers else None
        found = page(query, sources, now_s, place, descending=wanted.descending, tiers=tiers)
        charge(cost, found.cost)
        rows = _rows(found, wanted)
        text = _text(rows, wanted)
        size_bytes = len(text) if text.isascii() else len(text.encode())
        if size_bytes <= most_bytes or len(rows) <= 1:
            names = [name for name in rows.columns if name != TIME_COLUMN]
            wide = [name for name in names if _is_wide(rows.columns[name])]
            stretches = tiers.stretches() if tiers else []
            return Written(text, found, names, wide, cost, stretches, fitting)
        fitting = max(1, int(len(rows) * most_bytes / size_bytes * 0.95))


def charge(total: Cost, cost: Cost) -> None:
    """Add a cost to another one."""
    total.items += cost.items
    total.read_units += cost.read_units
    total.objects += cost.objects
    total.requests += cost.requests
    total.bytes += cost.bytes
    total.ms += cost.ms


def _rows(found: AnswerPage, wanted: Wanted) -> Rows:
    rows = rows_of_run(found.run) if found.windows is None else rows_of_windows(found.windows)
    if not wanted.descending:
        return rows
    return Rows({name: column[::-1] for name, column in rows.columns.items()}, rows.times)


def _text(rows: Rows, wanted: Wanted) -> str:
    if wanted.form == "csv":
        out = BytesIO()
        write_csv(rows, out)
        return out.getvalue().decode()
    if wanted.form == "ndjson":
        return _sendable("".join(f"{row}\n" for row in json_objects(rows)))
    if wanted.shape == "rows":
        return _sendable(f'"readings":[{",".join(json_objects(rows))}]')
    columns = [
        f"{json.dumps(name)}:[{','.join(json_texts(column))}]"
        for name, column in rows.columns.items()
        if name != TIME_COLUMN
    ]
    instants = ",".join(map(str, rows.columns[TIME_COLUMN]))
    return _sendable(f'"ts_us":[{instants}],"columns":{{{",".join(columns)}}}')


def _sendable(text: str) -> str:
    """The text with halves of characters, which no encoding has, as escapes."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def _is_wide(column: Sequence[object]) -> bool:
    """Whether a double cannot hold one of the column's integers."""
    integers = [value for value in column if type(value) is int]
    return any(not -EXACT <= value <= EXACT and int(float(value)) != value for value in integers)


# --- JSON ---------------------------------------------------------------------------------------


def members(wanted: Wanted, written: Written, units: Mapping[str, str]) -> dict[str, Any]:
    """What an answer says of one sensor beside its readings."""
    query = wanted.query
    told: dict[str, Any] = {
        "sensor_id": query.sensor_id,
        "from": format_time(query.span.start_us),
        "to": format_time(query.span.end_us),
        "metrics": written.names,
        "every": None if query.every_us is None else format_duration(query.every_us),
        "units": dict(units),
        "count": len(written.found),
        "truncated": written.found.next is not None,
        "hot_rows": written.found.hot_rows,
        "cold_rows": written.found.cold_rows,
        "beyond_double": written.beyond_double,
        "cost": cost_members(written.cost),
    }
    if wanted.tiers:
        told["tiers"] = [_stretch(stretch.span, stretch.tier) for stretch in written.stretches]
    return told


def cost_members(cost: Cost) -> dict[str, Any]:
    """A cost as members of an answer."""
    return asdict(cost) | {"ms": round(cost.ms, 3)}


def _stretch(span: Span, tier: str) -> dict[str, str]:
    return {"from": format_time(span.start_us), "to": format_time(span.end_us), "tier": tier}


def joined(told: Mapping[str, Any], readings: str) -> str:
    """The members of an object, and behind them those that are text already."""
    return f"{msgspec.json.encode(told).decode()[:-1]},{readings}}}"


def metrics_raw(run: Run) -> msgspec.Raw:
    """The values of a run's first instant as a JSON object, for an answer that msgspec encodes: it takes
    no integer of more than 64 bits."""
    present = {name: column[0] for name, column in sorted(run.metrics.items()) if column[0] is not None}
    texts = json_texts(cast("list[object]", list(present.values())))
    body = ",".join(f"{json.dumps(name)}:{text}" for name, text in zip(present, texts, strict=True))
    return msgspec.Raw(_sendable(f"{{{body}}}").encode())
