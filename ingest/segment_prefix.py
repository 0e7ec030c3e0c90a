"""How much of a segment belongs to the sensors of a prefix, from its footer and, at the borders, from row groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingest.segment_read import Footer, ReadRange, Source, fetch_groups, read_footer, read_table


@dataclass(frozen=True, slots=True)
class Share:
    """Bytes of row groups, and rows. `estimated`: a row group held other sensors, too, and its bytes were
    shared out by rows."""

    size_bytes: int = 0
    rows: int = 0
    estimated: bool = False


def share(
    read_range: ReadRange,
    size_bytes: int,
    footer_bytes: int,
    prefixes: Sequence[str],
    *,
    whole: bool = False,
) -> Share:
    """What the sensors take whose ids begin with one of the prefixes (none of which begins with another one); with
    `whole` those whose ids they are.

    Reads the footer, and the row groups that lie across the border of a prefix. What an object holds besides row groups
    (its footer above all) is nobody's. Raises Corrupt.
    """
    source = Source(read_range, size_bytes)
    footer = read_footer(source, footer_bytes)
    found = Share()
    for index in range(footer.parquet.num_row_groups):
        low, high = footer.sensors(index)
        if any(_within(low, high, prefix, whole=whole) for prefix in prefixes):
            rows = footer.parquet.row_group(index).num_rows
            found = _sum(found, Share(_bytes(footer, index), rows))
        elif any(may_begin_with(low, high, prefix) for prefix in prefixes):
            found = _sum(found, _part(source, footer, index, prefixes, whole=whole))
    return found


def may_begin_with(low: str, high: str, prefix: str) -> bool:
    """Whether an id from `low` to `high`, both included, may begin with the prefix."""
    return high >= prefix and (low <= prefix or low.startswith(prefix))


def _within(low: str, high: str, prefix: str, *, whole: bool) -> bool:
    if whole:
        return low == high == prefix
    return low.startswith(prefix) and high.startswith(prefix)


def _part(source: Source, footer: Footer, index: int, prefixes: Sequence[str], *, whole: bool) -> Share:
    """What a row group holds of the prefixes, by counting its rows."""
    fetch_groups(source, footer, [index])
    ids: Any = read_table(source, footer, [index], ["sensor_id"]).column("sensor_id")
    rows = total = 0
    for entry in ids.value_counts().to_pylist():
        total += entry["counts"]
        name = str(entry["values"])
        if name in prefixes if whole else name.startswith(tuple(prefixes)):
            rows += entry["counts"]
    if not rows:
        return Share()
    return Share(_bytes(footer, index) * rows // total, rows, rows < total)


def _bytes(footer: Footer, index: int) -> int:
    start, end = footer.range_of(index)
    return end - start


def _sum(one: Share, other: Share) -> Share:
    estimated = one.estimated or other.estimated
    return Share(one.size_bytes + other.size_bytes, one.rows + other.rows, estimated)
