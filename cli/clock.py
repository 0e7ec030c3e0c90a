"""The command that lets time pass on LocalStack: clock."""

from __future__ import annotations

import random
import time
from typing import Annotated

import typer

from cli import options, show


def clock(
    every: Annotated[
        str, typer.Option("--every", metavar="D", help="How often to look for what is due.")
    ] = "10s",
    once: Annotated[bool, typer.Option("--once", help="Look once and return.")] = False,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Let expiry happen on LocalStack, until ^C. LocalStack deletes what is past its time when asked to.

    Asks its expiry endpoint, checks that the tickets that were due are gone, deletes those that are
    not (on condition that their time is past), and has slots archived that stay overdue. Chunks that
    are not archived yet are never let go. AWS and `thermocline up` do this by themselves.
    """
    from infra import deploy as deploying
    from infra import localstack, localstack_clock
    from ingest.errors import BadInput
    from ingest.settings import endpoint_from_env
    from ingest.stores.hot import DynamoHotStore
    from ingest.times import parse_duration

    every_s = parse_duration(every, "--every") / 1e6
    if every_s <= 0:
        raise BadInput(f"--every: {every!r} must be longer than nothing, such as 10s.")
    endpoint_url = localstack.check_endpoint(endpoint_from_env())
    clients = localstack.connect(endpoint_url)
    found = deploying.outputs(clients, stack)
    hot = DynamoHotStore(clients.dynamodb, found.table, time.sleep, random.random)
    ticking = localstack_clock.make(found, hot, endpoint_url, time.time)

    def wait(pause_s: float) -> bool:
        if not once:
            time.sleep(pause_s)
        return once

    show.note(f"Clock: {found.table} at {endpoint_url}, every {every_s:g} s.")
    try:
        ticking.run(every_s, wait, show.note)
    finally:
        ticking.stop()
