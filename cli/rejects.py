"""Commands about what was refused: rejects ls and show."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import find, now_us

if TYPE_CHECKING:
    from ingest.reject import Reject

app = typer.Typer(help="What was refused, with its reason.", no_args_is_help=True)


@app.command("ls")
def list_rejects(
    since: options.Since = "-30d",
    until: options.Until = "now+1d",
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="CODE", help="Only this reason code.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.")] = 10_000,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """List rejects by the date on which they arrived, each once, with its reason."""
    from itertools import islice

    from cli.times import parse_time
    from ingest.keys import date_of

    now = now_us()
    first, last = (
        date_of(parse_time(text, now, name)) for text, name in ((since, "--from"), (until, "--to"))
    )
    store = find(stack).stores().rejects
    wanted = (reject for reject in store.list(first, last) if reason in (None, reject.reason))
    found = [_row(reject) for reject in islice(wanted, limit + 1)]
    show.records(found[:limit], fmt, output)
    if len(found) > limit:
        show.note(f"There are more than {limit:,}; raise --limit or narrow --from and --to.")


@app.command("show")
def show_reject(
    reject_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the reject, from `rejects ls`.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write only the original bytes.")] = False,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Show one reject: why it was refused, what to do, and its original bytes."""
    from ingest.reject import REASONS

    found = find(stack).stores().rejects.get(reject_id)
    if raw:
        with show.destination(output) as out:
            out.write(found.payload)
        return
    text = found.payload[:2_000].decode(errors="replace")
    row = _row(found) | {"meaning": REASONS.get(found.reason, ""), "payload": text, "shard": found.shard_id}
    show.records([row | {"sequence": found.sequence, "sha256": found.sha256}], fmt, output)
    if len(found.payload) > len(text.encode()) and sys.stderr.isatty():
        show.note("The payload is longer; --raw writes all of it.")


def _row(reject: Reject) -> dict[str, Any]:
    from cli.times import format_time

    return {
        "id": reject.id,
        "reason": reject.reason,
        "detail": reject.detail,
        "sensor_id": reject.sensor_id,
        "arrived": format_time(reject.arrival_ms * 1000),
        "count": reject.count,
        "size_bytes": len(reject.payload),
        "offset": reject.offset,
    }
