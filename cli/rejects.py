"""Commands about what was refused or given up: rejects ls, show and retry."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import find, now_us
from ingest.errors import BadInput, NotFound, Partial, ThermoclineError

if TYPE_CHECKING:
    from ingest.failed_batch import FailedBatch
    from ingest.reject import Reject
    from ingest.retry import Invoke, Outcome
    from ingest.stores import RejectStore

app = typer.Typer(help="What was refused, with its reason, and how it comes back.", no_args_is_help=True)

Reason = Annotated[
    str | None,
    typer.Option("--reason", metavar="CODE", help="Only this reason code, or batch_given_up."),
]


@app.command("ls")
def list_rejects(
    since: options.Since = "-30d",
    until: options.Until = "now+1d",
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="At most so many.")] = 10_000,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """List rejects by the date on which they arrived, each once, with its reason.

    Batches that the stream's event source mapping gave up come first, with the reason
    batch_given_up and the date of that. What `rejects retry` has stored is not listed any more.
    """
    from itertools import islice

    first, last = _dates(since, until)
    store = find(stack).stores().rejects
    found = [_row(one) for one in islice(_listed(store, first, last, reason), limit + 1)]
    show.records(found[:limit], fmt, output)
    if len(found) > limit:
        show.note(f"There are more than {limit:,}; raise --limit or narrow --from and --to.")


def _dates(since: str | None, until: str | None) -> tuple[str | None, str | None]:
    from ingest.keys import date_of
    from ingest.times import parse_time

    now = now_us()

    def date(text: str | None, name: str) -> str | None:
        return None if text is None else date_of(parse_time(text, now, name))

    return date(since, "--from"), date(until, "--to")


def _listed(
    store: RejectStore, first: str | None, last: str | None, reason: str | None
) -> Iterator[Reject | FailedBatch]:
    from ingest.retry import GIVEN_UP

    if reason in (None, GIVEN_UP):
        yield from store.failed_batches(first, last)
    if reason != GIVEN_UP:
        for rejects in store.kept(first, last):
            yield from (reject for reject in rejects if reason in (None, reject.reason))


@app.command("show")
def show_reject(
    reject_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the reject, from `rejects ls`.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write only the original bytes.")] = False,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Show one reject: why it was refused, what to do, and its original bytes.

    One that `rejects retry` has stored is found as well; stored_again tells when that was.
    """
    from ingest.reject import REASONS
    from ingest.times import format_time

    store = find(stack).stores().rejects
    batch = store.failed_batch(reject_id)
    if batch is not None:
        _show_batch(batch, raw, fmt, output)
        return
    found = store.get(reject_id)
    if raw:
        with show.destination(output) as out:
            out.write(found.payload)
        return
    text = found.payload[:2_000].decode(errors="replace")
    row = _row(found) | {"meaning": REASONS.get(found.reason, ""), "payload": text, "shard": found.shard_id}
    stored_ms = store.stored_again(found)
    row["stored_again"] = None if stored_ms is None else format_time(stored_ms * 1000)
    show.records([row | {"sequence": found.sequence, "sha256": found.sha256}], fmt, output)
    if len(found.payload) > len(text.encode()) and sys.stderr.isatty():
        show.note("The payload is longer; --raw writes all of it.")


def _show_batch(batch: FailedBatch, raw: bool, fmt: str | None, output: options.Output) -> None:
    import json

    from ingest.retry import GIVEN_UP_MEANING

    if raw:
        with show.destination(output) as out:
            out.write(json.dumps(batch.event).encode())
        return
    told = {
        "meaning": GIVEN_UP_MEANING,
        "shard": batch.shard_id,
        "sequence": batch.first_sequence,
        "last_sequence": batch.last_sequence,
        "object": batch.name,
    }
    show.records([_row(batch) | told], fmt, output)


# --- retry ------------------------------------------------------------------------------


@app.command("retry")
def retry_rejects(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids of rejects, from `rejects ls`.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that is listed.")] = False,
    reason: Reason = None,
    since: Annotated[
        str | None, typer.Option("--from", metavar="T", help="Only what arrived on this date or later.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", metavar="T", help="Only what arrived on this date or earlier.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be put through the door again.")
    ] = False,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Put the original bytes of rejects through the same door again. What is stored leaves the list.

    Do this after a fix was deployed, or after a sensor or a limit was allowed: the deployed function
    store_readings decides. The readings are stored under the time at which they first arrived, so a correction
    that came later still wins. A reject whose payload still has its problem stays as it is. Batches
    that were given up (batch_given_up) are invoked again as they were, and deleted once all of them is stored.

    Doing it twice, or again after it was interrupted, changes no answer. One row per reject tells the outcome:
    stored, still rejected, or failed, and why. Exit code 0 when all have left the list, 5 when some
    are still rejected, 1 when some failed.

    Whoever runs it needs lambda:InvokeFunction on store_readings, s3:ListBucket on the bucket of rejects,
    s3:GetObject on its objects, s3:PutObject under rejects/ and s3:DeleteObject under aws/lambda/.
    """
    from itertools import chain

    chosen = everything or reason is not None or since is not None or until is not None
    if ids and chosen:
        raise BadInput("rejects retry: name ids, or choose with --all, --reason, --from and --to; not both.")
    if not ids and not chosen:
        raise BadInput(
            "rejects retry: say which. Name ids from `thermocline rejects ls`, choose with --reason, --from "
            "and --to, or take --all. --dry-run shows what would be retried."
        )
    first, last = _dates(since, until)
    target = find(stack)
    store = target.stores().rejects
    at_ms = now_us() // 1000
    work = _by_id(store, set(ids)) if ids else _by_filter(store, first, last, reason)
    if dry_run:
        wanted = (reject for rejects in work.kept for reject in rejects if work.is_wanted(reject))
        found = [_row(one) for one in chain(work.batches, wanted)]
        show.records(found, fmt, output)
        show.note(f"{len(found):,} would be retried.")
        return
    _retry(work, store, target.batch_door(), at_ms, fmt, output)


@dataclass(slots=True)
class _Work:
    """What is to be retried: batches that were given up, and rejects object by object.

    `stored` are rejects that were asked for and stored before, with the time of that (epoch ms);
    `total` is how many outcomes there will be, None where that is not known beforehand.
    """

    batches: Iterator[FailedBatch]
    kept: Iterator[list[Reject]]
    is_wanted: Callable[[Reject], bool]
    stored: Sequence[tuple[Reject, int]] = ()
    total: int | None = None


def _by_filter(store: RejectStore, first: str | None, last: str | None, reason: str | None) -> _Work:
    from ingest.retry import GIVEN_UP

    return _Work(
        store.failed_batches(first, last) if reason in (None, GIVEN_UP) else iter(()),
        store.kept(first, last) if reason != GIVEN_UP else iter(()),
        lambda reject: reason in (None, reject.reason),
    )


def _by_id(store: RejectStore, ids: set[str]) -> _Work:
    """Raises NotFound for an id that is neither a reject's nor a batch's, before anything is retried."""
    batches = [batch for name in sorted(ids) if (batch := store.failed_batch(name)) is not None]
    asked = ids - {batch.id for batch in batches}
    kept = list(store.kept_with(asked))
    stored: list[tuple[Reject, int]] = []
    for name in sorted(asked - {reject.id for rejects in kept for reject in rejects}):
        reject = store.get(name)
        stored_ms = store.stored_again(reject)
        if stored_ms is None:
            raise NotFound(f"Reject {name} was kept just now. Try again.")
        stored.append((reject, stored_ms))
    total = len(ids) - len(stored)
    return _Work(iter(batches), iter(kept), lambda reject: reject.id in asked, stored, total)


def _retry(
    work: _Work, store: RejectStore, door: Invoke, at_ms: int, fmt: str | None, output: options.Output
) -> None:
    from itertools import chain

    from ingest import retry
    from ingest.times import format_time

    before = "stored at {} already"
    rows = [
        _row(one) | {"outcome": "stored", "why": before.format(format_time(ms * 1000))}
        for one, ms in work.stored
    ]
    counts = {"stored": len(rows), "still rejected": 0, "failed": 0}
    retry.check_door(door)
    try:
        with show.progress("rejects") as bar:
            task = bar.add_task("retrying", total=work.total)
            done: Iterator[Outcome] = chain(
                retry.replay(work.batches, store=store, invoke=door),
                retry.retry(work.kept, store=store, invoke=door, at_ms=at_ms, wanted=work.is_wanted),
            )
            for one in done:
                rows.append(_row(one.of) | {"outcome": one.result, "why": one.why})
                counts[one.result] += 1
                bar.advance(task)
    finally:
        show.records(rows, fmt, output)
    show.note(", ".join(f"{count:,} {result}" for result, count in counts.items()) + ".")
    if counts["failed"]:
        raise ThermoclineError(f"{counts['failed']:,} could not be retried; the column why tells the reason.")
    if counts["still rejected"]:
        raise Partial(f"{counts['still rejected']:,} are still rejected, and stay on the list as they were.")


# --- rows -------------------------------------------------------------------------------


def _row(one: Reject | FailedBatch) -> dict[str, Any]:
    from ingest.reject import Reject
    from ingest.retry import GIVEN_UP
    from ingest.times import format_time

    if isinstance(one, Reject):
        return {
            "id": one.id,
            "reason": one.reason,
            "detail": one.detail,
            "sensor_id": one.sensor_id,
            "arrived": format_time(one.arrival_ms * 1000),
            "count": one.count,
            "size_bytes": len(one.payload),
            "offset": one.offset,
        }
    detail = f"given up on {one.date or 'an unknown date'}: {one.condition or 'no reason was given'}"
    return {
        "id": one.id,
        "reason": GIVEN_UP,
        "detail": f"{one.name} cannot be used: {one.problem}" if one.problem else detail,
        "sensor_id": None,
        "arrived": format_time(one.arrival_ms * 1000) if one.arrival_ms else None,
        "count": one.count,
        "size_bytes": one.size_bytes,
        "offset": "",
    }
