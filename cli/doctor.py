"""The command that checks a deployment and says what to do: doctor."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import Target, find
from ingest.errors import BadInput

if TYPE_CHECKING:
    from rich.progress import TaskID

    from infra.doctor.examine import Sources
    from infra.doctor.finding import Finding

SAMPLE = 20


def doctor(
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", min=0, help="How many segments to read and check.")
    ] = SAMPLE,
    everything: Annotated[
        bool, typer.Option("--all", help="Read and check every segment, however long that takes.")
    ] = False,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Check a deployment and say what to do. On a local stack, LocalStack or AWS; nothing is changed.

    Looks at the table, its layout, TTL and stream, both event source mappings, the schedule, the bucket's
    notification, the alarms and the clocks; at what is overdue, lost, refused, given up, failed or
    throttled; whether the catalog equals what is in the bucket; and whether a sample of segments is
    whole, each read in full (--sample N, --all). The sample is the same for the same archive.

    Each check gives a row: check, result (ok, warning, error or skipped), what was found, and what to do.
    Exit code: 0 where all is well, 5 where there are warnings only, 1 where there is an error. A check
    that may not run is a warning that names the permission.

    Put it into a cron job: `thermocline doctor --format ndjson || mail ...`.
    """
    from infra.doctor.examine import Progress, examine
    from infra.doctor.finding import exit_code

    if everything and sample != SAMPLE:
        raise BadInput("--all: reads every segment, so --sample has nothing to say. Leave one of them out.")
    found: list[Finding] = []
    with show.progress("segments") as bar:
        task: list[TaskID] = []
        progress = Progress(
            total=lambda count: task.append(bar.add_task("reading", total=count)),
            advance=lambda: bar.advance(task[0]),
        )
        found.extend(examine(sources(find(stack), stack), None if everything else sample, progress))
    _write(found, fmt, output)
    raise typer.Exit(exit_code(found))


def sources(target: Target, stack: str) -> Sources:
    """What of the target is asked. Raises NotFound where it is no whole deployment."""
    from infra import deploy as deploying
    from infra.doctor.examine import Sources
    from infra.doctor.finding import Names, kind_of
    from infra.local import control

    clients = deploying.connect(target.endpoint_url, target.region)
    kind = kind_of(target.endpoint_url, is_local=target.local is not None)
    state = target.local
    return Sources(
        client=target.client,
        stores=target.stores(),
        names=Names.of(deploying.outputs(clients, stack), kind),
        local_status=None if state is None else lambda: control.status(state),
        now_s=time.time,
    )


def _write(found: list[Finding], fmt: str | None, output: Any) -> None:
    """The findings; on a terminal as a table whose texts are folded beside each other."""
    from cli.output import Format, choose_format

    rows: list[dict[str, Any]] = [
        {"check": one.check, "result": one.result, "found": one.found, "what_to_do": one.advice}
        for one in found
    ]
    if output is not None or choose_format(fmt, output, sys.stdout.isatty()) is not Format.TABLE:
        show.records(rows, fmt, output)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("found", ratio=1, overflow="fold")
    table.add_column("what to do", ratio=1, overflow="fold")
    styles = {"error": "red", "warning": "yellow", "ok": "green", "skipped": "dim"}
    for row in rows:
        style = styles[row["result"]]
        table.add_row(
            row["check"], f"[{style}]{row['result']}[/]", *map(_plain, (row["found"], row["what_to_do"]))
        )
    Console(highlight=False, emoji=False).print(table)


def _plain(text: str) -> str:
    from rich.markup import escape

    from cli.output import visible

    return escape(visible(text))
