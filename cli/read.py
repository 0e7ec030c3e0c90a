"""Commands that read: query and latest."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import find, now_us
from ingest.errors import BadInput, NotFound

if TYPE_CHECKING:
    from ingest.plan import Query
    from ingest.query import Answer


def query(
    sensor: Annotated[str, typer.Argument(metavar="SENSOR", help="Id of the sensor.")],
    since: options.Since = "-1h",
    until: options.Until = "now",
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", "-m", metavar="NAME", help="Only this metric; may be given several times."),
    ] = None,
    every: Annotated[
        str | None, typer.Option("--every", metavar="D", help="Windows of this width, such as 1m or 1h.")
    ] = None,
    agg: Annotated[
        str,
        typer.Option(
            "--agg", help="Aggregates per window, comma-separated: mean,min,max,sum,count,first,last,p50..."
        ),
    ] = "mean",
    tier: Annotated[
        str, typer.Option("--tier", metavar="auto|hot|cold", help="Which tier to read.")
    ] = "auto",
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="At most so many rows; says where to go on.")
    ] = None,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the answer in the terminal.")] = False,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Readings of one sensor in a range. From both tiers, none twice.

    The range is half-open: --from is in it, --to is not. What the answer cost is told on stderr.
    """
    from ingest import query as use_case

    asked = _query(sensor, since, until, metric, every, agg, tier, limit)
    target = find(stack)
    stores = target.stores()
    found = use_case.answer(asked, target.sources(stores), now_us() / 1e6)
    if plot:
        _draw(found, asked)
    else:
        _print(found, asked, fmt, output)
    _tell(found, asked)


def _query(
    sensor: str,
    since: str,
    until: str,
    metric: list[str] | None,
    every: str | None,
    agg: str,
    tier: str,
    limit: int | None,
) -> Query:
    from ingest.plan import Query, check
    from ingest.reading import Span
    from ingest.times import parse_duration, parse_time

    now = now_us()
    if tier not in ("auto", "hot", "cold"):
        raise BadInput(f"--tier: {tier!r} is no tier; use auto, hot or cold.")
    span = Span(parse_time(since, now, "--from"), parse_time(until, now, "--to"))
    if span.is_empty():
        raise BadInput("--to must be later than --from: the range is half-open, [from, to).")
    every_us = None if every is None else parse_duration(every, "--every")
    aggregates = tuple(name.strip() for name in agg.split(",") if name.strip())
    asked = Query(sensor, span, tuple(metric or ()), every_us, aggregates, tier, limit)
    check(asked)
    return asked


def _print(found: Answer, asked: Query, fmt: str | None, output: Path | None) -> None:
    from ingest import rows as render
    from ingest.reading import Run

    if found.windows is not None:
        rows = render.rows_of_windows(found.windows)
    else:
        rows = render.rows_of_run(found.run or Run(asked.sensor_id, [], {}, 0))
    show.write(rows, fmt, output)


def _draw(found: Answer, asked: Query) -> None:
    from cli import plot as draw

    size = shutil.get_terminal_size((100, 24))
    height = max(10, min(24, size.lines - 4))
    colour = sys.stdout.isatty()
    if found.run is None:
        show.note("No readings in this range.")
    elif found.windows is not None:
        sys.stdout.write(draw.plot_windows(found.windows, size.columns, height, colour))
    else:
        sys.stdout.write(draw.plot(found.run, asked.metrics, size.columns, height, colour))


def _tell(found: Answer, asked: Query) -> None:
    from ingest.times import format_time

    cost = found.cost
    rows = 0 if found.run is None else len(found.run.ts_us)
    if found.windows is not None:
        rows = len(found.windows.start_us)
    show.note(
        f"{rows:,} rows; hot {found.hot_rows:,}, cold {found.cold_rows:,}; {cost.items:,} items, "
        f"{cost.read_units:g} read units, {cost.objects:,} objects, {cost.bytes:,} bytes, {cost.ms:.0f} ms"
    )
    if found.next_us is not None:
        show.note(f"There is more: go on with --from {format_time(found.next_us)}")
    elif rows == 0 and asked.metrics:
        show.note("Nothing found; without --metric you see which metrics the sensor has.")


def latest(
    sensor: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SENSOR]...", help="Ids of sensors; without any, all that are known."),
    ] = None,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """The newest reading of each sensor. Wherever it is; without names, of every known sensor."""
    from concurrent.futures import ThreadPoolExecutor
    from itertools import repeat

    from ingest import query as use_case

    target = find(stack)
    stores = target.stores()
    sources = target.sources(stores)
    names = sensor or [known.sensor_id for known in stores.registry.all()]
    now_s = now_us() / 1e6
    with ThreadPoolExecutor(8) as pool:
        runs = pool.map(use_case.latest, names, repeat(sources), repeat(now_s))
        found = [_row(name, run) for name, run in zip(names, runs, strict=True)]
    if sensor and all(row["timestamp"] is None for row in found):
        raise NotFound(
            f"No reading of {', '.join(sensor)} in either tier. `thermocline sensors ls` lists known ones."
        )
    show.records(found, fmt, output)


def _row(name: str, run: Any) -> dict[str, Any]:
    from ingest.times import format_time

    row: dict[str, Any] = {"sensor_id": name, "timestamp": None}
    if run is not None:
        row["timestamp"] = format_time(run.ts_us[0])
        row |= {metric: column[0] for metric, column in sorted(run.metrics.items()) if column[0] is not None}
    return row
