"""Commands about the local stack: up, down, status, expire, flush."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from cli import options, show
from cli.target import Target, find, local_state, now_us, of_outputs
from ingest.errors import BadInput, Refused, ThermoclineError

if TYPE_CHECKING:
    from infra.local.stack import LocalOptions

READY_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0


Port = Annotated[
    int | None,
    typer.Option(
        "--port",
        min=1,
        max=65535,
        metavar="N",
        help="Port of the AWS endpoint. Default: 4566 or the next free one.",
    ),
]
ApiPort = Annotated[
    int | None,
    typer.Option(
        "--api-port",
        min=1,
        max=65535,
        metavar="N",
        help="Port of the HTTP API. Default: 8086 or the next free one.",
    ),
]


def up(
    port: Port = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Run in the background; return when healthy.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Keep the state here (saved on a clean stop only)."),
    ] = None,
    bucket: options.Bucket = "1h",
    window: options.Window = "1s",
    archive_after: options.ArchiveAfter = "24h",
    hot_retention: options.HotRetention = "7d",
    cold_retention: options.ColdRetention = "5y",
    codec: options.Codec = "list",
    unknown_sensors: options.UnknownSensors = "register",
    api: Annotated[
        bool, typer.Option("--api/--no-api", help="Whether to serve the HTTP API and the dashboard.")
    ] = True,
    api_port: ApiPort = None,
    announce_to: Annotated[int | None, typer.Option("--announce-to", hidden=True, help="For -d.")] = None,
) -> None:
    """Start a local stack. The same template as on AWS, on an embedded emulator, on loopback.

    In the foreground until ^C, or in the background with -d. Everything else finds it by itself. The
    address of its dashboard is printed once, with a token that may do everything.
    """
    from infra.local.stack import LocalOptions
    from ingest.times import parse_duration

    period = options.period(bucket, archive_after, hot_retention, cold_retention)
    chosen = LocalOptions(
        port=port,
        data_dir=data,
        bucket_s=period.bucket_s,
        window_s=parse_duration(window, "--window") / 1e6,
        archive_after_s=period.archive_after_s,
        hot_retention_s=period.hot_retention_s,
        cold_retention_s=period.cold_retention_s,
        codec=codec,
        unknown_sensors=unknown_sensors,
        api=api,
        api_port=api_port,
    )
    if detach:
        _start_detached(sys.argv[1:])
    else:
        _run(chosen, announce_to)


def _run(chosen: LocalOptions, announce_to: int | None) -> None:
    from cli.dashboard import first_link
    from infra.local.stack import LocalStack

    stopped = LocalStack(chosen)
    try:
        stopped.start(show.note)
        state = local_state()
        link = first_link(of_outputs(state.outputs, state.endpoint_url, state.region, state))
        if announce_to is not None:  # the token is for the one who typed `up -d`, not for the log
            with os.fdopen(announce_to, "w") as waiting:
                waiting.write(link or "")
        show.note(f"Ready: {state.endpoint_url}  (stop with ^C or `thermocline down`)")
        if announce_to is None and link is not None:
            show.note(f"Dashboard: {link}")
        show.note("Next:  thermocline simulate --sensors 20 && thermocline query sim-0001 --from -10m --plot")
        stopped.wait()
    finally:
        stopped.stop()


def _start_detached(arguments: list[str]) -> None:
    """Start the same command in a session of its own and wait until it says it is healthy."""
    from infra.local import control

    running = control.find_running()
    if running is not None:
        raise Refused(
            f"A local stack already runs at {running.endpoint_url}. Stop it with `thermocline down`."
        )
    kept = [word for word in arguments if word not in ("-d", "--detach")]
    log_path = control.state_folder() / "up.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    announced, to_announce = os.pipe()
    command = [sys.executable, "-m", "cli.main", *kept, "--announce-to", str(to_announce)]
    with log_path.open("wb") as log:
        child = subprocess.Popen(  # noqa: S603 - our own command, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(to_announce,),
        )
    os.close(to_announce)
    try:
        deadline_s = time.monotonic() + READY_LIMIT_S
        while (state := control.find_running()) is None:
            if child.poll() is not None or time.monotonic() > deadline_s:
                raise ThermoclineError(
                    f"The stack did not start.\n{log_path.read_text(errors='replace')[-2000:]}"
                )
            time.sleep(0.05)
        with os.fdopen(announced) as answer:
            link = answer.read()
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait(STOP_LIMIT_S)
        raise
    show.note(f"Ready: {state.endpoint_url}  (log: {log_path}; stop with `thermocline down`)")
    if link:
        show.note(f"Dashboard: {link}")


def down() -> None:
    """Stop the local stack. Without --data its contents are gone with it."""
    from infra.local import control

    state = local_state()
    control.stop(state, STOP_LIMIT_S)
    show.note("Stopped.")


def status(
    fmt: Annotated[
        str | None,
        typer.Option("--format", metavar="table|json", help="Default: table on a terminal, else json."),
    ] = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Show what runs and what it consumed. Also how far behind it is and how much it holds.

    `health` tells what threatens readings: how long records wait in either stream, how late the oldest
    unarchived manifest is and how much of its margin that uses up, rejects, batches that were given up,
    throttles, failed invocations and lost chunks of the last 24 h. What a target cannot tell is null,
    with the reason under `unknown`. On AWS one call asks CloudWatch for all of it.
    """
    if fmt not in (None, "table", "json"):
        raise BadInput(f"--format: {fmt!r} cannot be used here; use table or json.")
    target = find(stack)
    found = _local_status(target) if target.local else _deployed_status(target, stack)
    if fmt == "json" or (fmt is None and not sys.stdout.isatty()):
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    for name, value in found.items():
        lines = _health_lines(value) if name == "health" else _lines(name.replace("_", " "), value)
        for label, text in lines:
            sys.stdout.write(f"{label:<28}{text}\n")


def _health_lines(health: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a person reads of the vital signs: a line each, or why it is not known."""
    unknown: dict[str, str] = health["unknown"]
    yield "health", "what threatens readings; `thermocline doctor` says what to do"
    for name, value in health.items():
        if name != "unknown":
            yield f"  {name.replace('_', ' ')}", f"- ({unknown[name]})" if name in unknown else _text(value)


def _lines(label: str, value: Any) -> Iterator[tuple[str, str]]:
    """What a person reads of one fact; a list or mapping takes a line per member."""
    if isinstance(value, dict):
        members = cast(dict[str, Any], value)
        shown = ", ".join(
            f"{name} {_text(member)}" for name, member in members.items() if not isinstance(member, dict)
        )
        if shown:
            yield label, shown
        for name, member in members.items():
            if isinstance(member, dict):
                yield from _lines(f"  {name.removeprefix('thermocline-')}", member)
    elif isinstance(value, list):
        for member in cast(list[Any], value):
            yield from _lines(label, member)
    else:
        yield label, _text(value)


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return f"{value:,}".removesuffix(".0")
    return str(value)


def _local_status(target: Target) -> dict[str, Any]:
    from infra.local import control

    if target.local is None:
        raise ThermoclineError("No local stack.")
    return control.status(target.local)


def _deployed_status(target: Target, stack: str) -> dict[str, Any]:
    """What can be read of a deployment through its table and buckets, and from CloudWatch."""
    from cli.doctor import sources
    from infra.doctor.examine import vitals
    from infra.doctor.vitals import as_json
    from ingest import keys
    from ingest.reading import EARLIEST_US, Span

    stores = target.stores()
    now = now_us()
    due = [slot_s for slot_s in stores.hot.open_slots(now // keys.US) if any(stores.hot.manifests(slot_s))]
    segments = stores.catalog.find(Span(EARLIEST_US, now + keys.DAY_S * keys.US))
    return {
        "endpoint_url": target.endpoint_url,
        "api_url": target.api_url,
        "region": target.region,
        "stream": target.stream,
        "table": target.table,
        "archive_bucket": target.archive_bucket,
        "slots_due": len(due),
        "oldest_due_s": max((now // keys.US - slot_s for slot_s in due), default=0),
        "segments": len(segments),
        "segment_rows": sum(segment.rows for segment in segments),
        "segment_bytes": sum(segment.size_bytes for segment in segments),
        "health": as_json(vitals(sources(target, stack))),
    }


def flush() -> None:
    """Wait until all is where it belongs. Everything sent so far is then stored, archived where due,
    and indexed. Local only."""
    from infra.local import control

    state = local_state()
    with show.console().status("flushing") as spinner:
        control.flush(state, spinner.update)
    show.note("Everything sent is stored; what was due is archived and indexed.")


def expire(
    now: Annotated[
        str,
        typer.Option("--now", metavar="T", help="Run the clock as if it were this time, such as now+10d."),
    ] = "now",
) -> None:
    """Let time pass at once. Runs the TTL clock: tickets go first, then due slots are archived, then
    chunks go. Local only."""
    from infra.local import control
    from ingest.times import parse_time

    at_us = parse_time(now, now_us(), "--now")
    state = local_state()
    with show.console().status("expiring") as spinner:
        told = control.expire(state, at_us // 1_000_000, spinner.update)
    show.note(
        f"{told.get('tickets', 0):,} tickets and {told.get('chunks', 0):,} chunks expired; "
        "what they held is in the archive."
    )
