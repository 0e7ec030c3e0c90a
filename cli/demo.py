"""The command demo: the whole path once, on a private local stack, with every answer checked."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import Target, layout_of, now_us
from ingest.errors import ThermoclineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.stack import LocalStack
    from ingest.plan import Tier
    from ingest.query import Answer, Sources
    from ingest.reading import Run
    from ingest.stores.connect import Stores
    from sensors.simulator import Fleet

RATE_HZ = 1.0
OLDER_S = 2_400
NEWER_S = 1_200
ARCHIVE_AFTER_S = 2
HOT_RETENTION_S = 8
EXPIRY_LIMIT_S = 40.0
SEED = 7


class Demo:
    """One run of the demo over a started stack; counts what was compared and what differed."""

    def __init__(self, stack: LocalStack, sensors: int) -> None:
        from sensors.simulator import Fleet, truth

        self.stack = stack
        self.target = _target(stack)
        self.stores: Stores = self.target.stores()
        start_us = (now_us() // 1_000_000 - 2 * (OLDER_S + NEWER_S)) * 1_000_000
        whole = Fleet(sensors, RATE_HZ, start_us, (OLDER_S + NEWER_S) * 1_000_000, SEED)
        self.whole = whole
        self.older = replace(whole, duration_us=OLDER_S * 1_000_000)
        self.truth: Mapping[str, Run] = truth(whole)
        self.border_us = start_us + OLDER_S * 1_000_000
        self.mismatches = 0
        self.checked = 0
        self.hot_rows = 0
        self.cold_rows = 0

    def send(self, fleet: Fleet, since_us: int) -> int:
        """Send the fleet's readings from an instant on and wait until they are stored."""
        from cli.send import open_publisher
        from ingest.reading import Span, clip
        from sensors import simulator

        publisher = open_publisher(self.target)
        span = Span(since_us, fleet.start_us + fleet.duration_us)
        for runs in simulator.runs(fleet, 600.0):
            publisher.publish(clipped for run in runs if (clipped := clip(run, span)).ts_us)
        self.stack.store(lambda _: None)
        return publisher.sent.readings

    def ask(self, sensor_id: str, start_us: int, end_us: int, tier: Tier = "auto") -> Answer:
        """Query one sensor and compare the answer with what was sent."""
        from ingest.plan import Query
        from ingest.query import answer
        from ingest.reading import Span, clip

        span = Span(start_us, end_us)
        found = answer(Query(sensor_id, span, tier=tier), self.sources(), time.time())
        expected = clip(self.truth[sensor_id], span)
        self.checked += len(expected.ts_us)
        self.mismatches += _differences(expected, found.run)
        return found

    def sources(self) -> Sources:
        """What queries read from; the layout is read anew."""
        from ingest.query import Sources

        return Sources(
            self.stores.hot, self.stores.catalog, self.stores.cold, layout_of(self.stores), time.perf_counter
        )


def _target(stack: LocalStack) -> Target:
    from cli.target import of_outputs

    return of_outputs(stack.outputs, stack.endpoint_url, stack.region)


def _differences(expected: Run, found: Run | None) -> int:
    """How many readings are missing, extra or not the same to the last digit."""
    from ingest.reading import canonical

    def rows(run: Run | None) -> set[tuple[object, ...]]:
        if run is None:
            return set()
        return {
            (ts_us, name, canonical(value))
            for name, column in run.metrics.items()
            for ts_us, value in zip(run.ts_us, column, strict=True)
            if value is not None
        }

    return len(rows(expected) ^ rows(found))


def demo(
    sensors: Annotated[
        int, typer.Option("--sensors", min=1, max=200, metavar="N", help="How many sensors the fleet has.")
    ] = 20,
    codec: options.Codec = "list",
) -> None:
    """Show the whole path once, checked. On a private stack: send, query hot, expire, archive,
    query cold, compare.

    Takes under a minute, needs no account and no Docker, and leaves nothing behind. The last line on
    stdout is JSON; exit code 0 only if every answer is exactly what was sent.
    """
    from infra.local.stack import LocalOptions, LocalStack

    chosen = LocalOptions(
        private=True,
        bucket_s=600,
        window_s=0.5,
        archive_after_s=ARCHIVE_AFTER_S,
        hot_retention_s=HOT_RETENTION_S,
        codec=codec,
    )
    began_s = time.monotonic()
    stack = LocalStack(chosen)
    try:
        stack.start(lambda _: None)
        _say(1, f"stack up in {time.monotonic() - began_s:.1f} s: {stack.endpoint_url}")
        summary = _play(Demo(stack, sensors))
    finally:
        stack.stop()
    show.note(f"   all stopped, nothing left behind; {time.monotonic() - began_s:.0f} s in all\n")
    sys.stdout.write(json.dumps(summary) + "\n")
    if summary["mismatches"]:
        raise ThermoclineError(f"{summary['mismatches']} values differ from what was sent.")


def _say(step: int, text: str) -> None:
    show.note(f"{step}. {text}")


def _play(run: Demo) -> dict[str, Any]:
    first, last = min(run.truth), max(run.truth)
    start_us, end_us = run.whole.start_us, run.whole.start_us + run.whole.duration_us
    began_s = time.monotonic()
    sent = run.send(run.older, start_us)
    _say(
        2,
        f"sent {sent:,} readings of {run.whole.sensors} sensors through Kinesis "
        f"in {time.monotonic() - began_s:.1f} s",
    )
    status = run.stack.status()
    _say(
        3,
        f"stored as {status['chunks']:,} chunks, "
        f"{status['readings_per_write_unit']:.0f} readings per write unit "
        f"({status['write_units']:,.0f} units; one item per reading would take {sent:,})",
    )
    hot = run.ask(first, start_us, run.border_us)
    run.hot_rows = hot.hot_rows
    _say(4, f"query {first}, hot:   {_told(hot)}")
    _draw(hot)
    waited_s, gone = _wait_for_expiry(run)
    _say(5, f"buckets expired: archived, then deleted from the hot tier, {gone} after {waited_s:.0f} s")
    segments = run.stack.status()["segments"]
    size = sum(segment.size_bytes for segment in run.stores.catalog.find(_everything(run)))
    _say(6, f"in S3: {segments} segments of Parquet, {size / max(sent, 1):.1f} bytes per reading")
    cold = run.ask(first, start_us, run.border_us)
    run.cold_rows = cold.cold_rows
    _say(7, f"same query, cold:      {_told(cold)}")
    sent += run.send(run.whole, run.border_us)
    across = run.ask(last, start_us, end_us)
    _say(8, f"query {last}, across: {_told(across)}")
    for name in run.truth:
        run.ask(name, start_us, end_us)
    verdict = "all equal to what was sent" if not run.mismatches else f"{run.mismatches} VALUES DIFFER"
    _say(9, f"checked {run.checked:,} readings in {len(run.truth) + 3} answers: {verdict}")
    return _summary(run, sent)


def _everything(run: Demo) -> Any:
    from ingest.reading import Span

    return Span(run.whole.start_us, run.whole.start_us + run.whole.duration_us)


def _told(found: Answer) -> str:
    rows = 0 if found.run is None else len(found.run.ts_us)
    cost = found.cost
    return (
        f"{rows:,} rows ({found.hot_rows:,} hot, {found.cold_rows:,} cold) in {cost.ms:.0f} ms, "
        f"{cost.read_units:g} read units, {cost.objects} objects"
    )


def _draw(found: Answer) -> None:
    """A small picture of the first answer, where a person is looking."""
    from cli import plot

    if found.run is not None and sys.stderr.isatty():
        width = min(100, shutil.get_terminal_size().columns)
        show.note(plot.plot(found.run, ("temperature",), width, 8, color=True))


def _wait_for_expiry(run: Demo) -> tuple[float, str]:
    """Wait until no chunk of the older readings is left in the hot tier."""
    began_s = time.monotonic()
    names = sorted(run.truth)
    while names:
        if time.monotonic() - began_s > EXPIRY_LIMIT_S:
            raise ThermoclineError(
                "The chunks did not expire in time; look at the log of the stack with `up`."
            )
        time.sleep(0.25)
        query = _everything(run)
        width = layout_of(run.stores).widest_bucket_s
        names = [
            name for name in names if any(page.items for page in run.stores.hot.read(name, query, width))
        ]
    return time.monotonic() - began_s, "every chunk"


def _summary(run: Demo, sent: int) -> dict[str, Any]:
    status = run.stack.status()
    return {
        "readings": sent,
        "chunks": status["chunks"],
        "write_units": status["write_units"],
        "segments": status["segments"],
        "hot_rows": run.hot_rows,
        "cold_rows": run.cold_rows,
        "mismatches": run.mismatches,
    }
