"""Commands about the cold tier: archive ls, show, get, reindex, compact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import Target, find, layout_of, now_us
from ingest.errors import NotFound, Partial

if TYPE_CHECKING:
    from ingest.compact import Compacted
    from ingest.stores import Segment

app = typer.Typer(help="The segments in S3.", no_args_is_help=True)
OLDEST = "2000-01-01"


def _segments(target: Target, since: str, until: str, sensor: str | None) -> list[Segment]:
    from ingest.reading import Span
    from ingest.times import parse_time

    now = now_us()
    span = Span(parse_time(since, now, "--from"), parse_time(until, now, "--to"))
    return target.stores().catalog.find(span, sensor)


@app.command("ls")
def list_segments(
    since: options.Since = OLDEST,
    until: options.Until = "now+2d",
    sensor: Annotated[
        str | None,
        typer.Option("--sensor", metavar="SENSOR", help="Only segments that may hold this sensor."),
    ] = None,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """List the catalogued segments with size, rows, first and last time."""
    found = _segments(find(stack), since, until, sensor)
    show.records([_row(segment) for segment in found], fmt, output)


@app.command("show")
def show_segment(
    segment: Annotated[
        str, typer.Argument(metavar="SEGMENT", help="Digest or name of the segment, from `archive ls`.")
    ],
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Show one segment: what the catalog and the object say of it."""
    target = find(stack)
    found = _named(_segments(target, OLDEST, "now+2d", None), segment)
    head = target.stores().cold.head(found.name)
    row = _row(found) | {"sha256": found.sha256, "etag": found.etag, "footer_bytes": found.footer_bytes}
    show.records([row | {"bucket": target.archive_bucket, "metadata": head.metadata}], fmt, output)


def _named(found: Iterable[Segment], name: str) -> Segment:
    for segment in found:
        if name in (segment.digest, segment.name):
            return segment
    raise NotFound(f"No segment {name!r} in the catalog. `thermocline archive ls` lists them.")


@app.command("get")
def get_segments(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Folder to write the tree to (readings/v1/date=.../*.parquet)."
        ),
    ],
    since: options.Since = OLDEST,
    until: options.Until = "now+2d",
    sensor: Annotated[
        str | None,
        typer.Option("--sensor", metavar="SENSOR", help="Only segments that may hold this sensor."),
    ] = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Download segments as a Hive tree. DuckDB, pandas, polars, Spark and Athena read it as it stands.

    Each object's sha256 is checked. Files that are there already and whole are left alone.
    """
    from hashlib import sha256

    target = find(stack)
    found = _segments(target, since, until, sensor)
    cold = target.stores().cold
    damaged: list[str] = []
    with show.progress("segments") as bar:
        task = bar.add_task("downloading", total=len(found))
        for segment in found:
            path = folder / segment.name
            if not (path.exists() and path.stat().st_size == segment.size_bytes):
                data = cold.read(segment.name)
                if segment.sha256 and sha256(data).hexdigest() != segment.sha256:
                    damaged.append(segment.name)
                path.parent.mkdir(parents=True, exist_ok=True)
                with show.destination(path) as file:
                    file.write(data)
            bar.advance(task)
    show.note(f"{len(found):,} segments in {folder}")
    if damaged:
        raise Partial(
            f"{len(damaged)} segments fail their checksum: {', '.join(damaged[:5])}. "
            "Restore them and reindex."
        )


@app.command("reindex")
def reindex(stack: options.Stack = options.DEFAULT_STACK) -> None:
    """Rebuild the catalog from the bucket alone. Needed after objects were restored or copied by hand."""
    from ingest.archive import Reindexed
    from ingest.archive import reindex as rebuild

    target = find(stack)
    stores = target.stores()
    before = _segments(target, OLDEST, "now+2d", None)
    done = Reindexed()
    with show.progress("segments") as bar:
        task = bar.add_task("indexing", total=len(before) or None)
        for done in rebuild(stores.cold, stores.catalog, layout_of(stores), before):
            bar.update(task, completed=done.indexed)
    show.note(f"{done.indexed:,} segments indexed, {done.removed:,} stale entries removed.")
    if done.skipped:
        raise Partial(f"{len(done.skipped)} objects are no segments: {', '.join(done.skipped[:5])}.")


@app.command("compact")
def compact_archive(
    since: options.Since = OLDEST,
    until: options.Until = "now+2d",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say which dates would be compacted.")
    ] = False,
    grace: Annotated[
        str | None,
        typer.Option(
            "--grace",
            metavar="D",
            help="For how long old segments are kept for those who hold an older listing. "
            "Default: 24h, on a local stack 1m.",
        ),
    ] = None,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Make each date's segments fewer and larger, sorted by sensor. Queries answer the same throughout.

    The deployment does so by itself, every hour, with dates that are complete; this takes every date of the
    range that has something to gain. Old segments leave the catalog at once and the bucket after the grace, which
    this command, or the deployment, sees to when it runs next. Running it twice, or twice at once, is harmless.
    """
    import time

    from ingest.compact import Compaction, compact, planned
    from ingest.reading import Span
    from ingest.times import parse_duration, parse_time

    target = find(stack)
    now = now_us()
    span = Span(parse_time(since, now, "--from"), parse_time(until, now, "--to"))
    stores = target.stores()
    if grace is None:
        grace = "1m" if target.local is not None else "24h"
    work = Compaction(
        cold=stores.cold,
        catalog=stores.catalog,
        layout=layout_of(stores),
        now=time.time,
        grace_s=parse_duration(grace, "--grace") // 1_000_000,
        remaining_ms=lambda: 1 << 62,
        thorough=True,
    )
    plans = list(planned(work, span))
    if dry_run:
        show.records([_planned_row(date, groups) for date, groups in plans], fmt, output)
        return
    rows: list[Compacted] = []
    with show.progress("dates") as bar:
        task = bar.add_task("compacting", total=len(plans))
        for done in compact(work, span):
            rows.append(done)
            bar.advance(task, 1 if done.groups or done.failed else 0)
    show.records([_compacted_row(done) for done in rows if done.groups], fmt, output)
    _tell_compacted(rows)


def _planned_row(date: str, groups: Sequence[Sequence[Segment]]) -> dict[str, Any]:
    segments = [segment for group in groups for segment in group]
    return {
        "date": date,
        "segments": len(segments),
        "bytes": sum(segment.size_bytes for segment in segments),
        "rows": sum(segment.rows for segment in segments),
    }


def _compacted_row(done: Compacted) -> dict[str, Any]:
    return {
        "date": done.date,
        "segments_before": done.segments_before,
        "segments_after": done.segments_after,
        "bytes_before": done.bytes_before,
        "bytes_after": done.bytes_after,
        "rows_before": done.rows_before,
        "rows_after": done.rows_after,
    }


def _tell_compacted(dates: Sequence[Compacted]) -> None:
    """The sum to stderr, and what could not be done. Raises Partial."""
    before, after = (
        sum(done.segments_before for done in dates),
        sum(done.segments_after for done in dates),
    )
    deleted, revived = sum(done.deleted for done in dates), sum(done.revived for done in dates)
    show.note(f"{before:,} segments made into {after:,}; {deleted:,} superseded objects deleted.")
    if revived:
        show.note(f"{revived:,} superseded segments were catalogued again: what they were made into is gone.")
    damaged = [name for done in dates for name in done.damaged]
    failed = [done for done in dates if done.failed is not None]
    lost = sum(done.lost_races for done in dates)
    if failed:
        raise Partial(f"{len(failed)} dates were not compacted. {failed[0].date}: {failed[0].failed}")
    if damaged:
        raise Partial(
            f"{len(damaged)} segments cannot be read and were left as they are: {', '.join(damaged[:5])}. "
            "Restore them, or remove them and reindex."
        )
    if lost:
        raise Partial(
            f"Another compaction came first {lost} times. Run it again to see whether anything is left."
        )


def _row(segment: Segment) -> dict[str, Any]:
    from ingest.times import format_time

    return {
        "date": segment.date,
        "segment": segment.digest,
        "size_bytes": segment.size_bytes,
        "rows": segment.rows,
        "first": format_time(segment.first_us),
        "last": format_time(segment.last_us),
        "first_sensor": segment.first_sensor,
        "last_sensor": segment.last_sensor,
        "name": segment.name,
    }
