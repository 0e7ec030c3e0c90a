"""Puts what requests bring into Kinesis: publishers shared by the threads of a server, one caller at a time each."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ingest.errors import BadInput, NotFound, Refused, Unavailable
from ingest.reading import Run
from ingest.stores import connect

if TYPE_CHECKING:
    from sensors.publisher import Publisher

PATIENCE_S = 4.0
"""How long records are sent again that the stream refuses. With one call of CALL_TIMEOUT_S it stays below the 10 s
after which influxdb-client gives up, and the 30 s that API Gateway waits ("Amazon API Gateway quotas")."""
CALL_TIMEOUT_S = 4


class Sender:
    """Sends runs and returns when Kinesis has accepted every one of their readings.

    `make` gives a new publisher. As many exist as requests are sent at the same time; each serves
    one request, then waits for the next. One that failed is dropped with whatever it still held:
    its caller is told, and sends again.
    """

    def __init__(self, make: Callable[[], Publisher]) -> None:
        self._make = make
        self._idle: deque[Publisher] = deque()

    def send(self, runs: Sequence[Run]) -> int:
        """How many readings were accepted: all of them.

        Raises Unavailable where the stream did not accept them in time; part of them may be stored by then,
        and sending them again is harmless. Raises BadInput where a reading exceeds a record; the others were sent.
        """
        try:
            publisher = self._idle.pop()
        except IndexError:
            publisher = self._make()
        too_large: BadInput | None = None
        try:
            for run in runs:
                try:
                    publisher.submit(run)
                except BadInput as error:
                    too_large = error
            publisher.flush()
        except (NotFound, Refused) as error:
            raise Unavailable(f"What was sent could not be handed on: {error}") from error
        self._idle.append(publisher)
        if too_large is not None:
            raise BadInput(f"readings: {too_large} The others were stored.")
        return sum(len(run.ts_us) for run in runs)


def kinesis_sender(
    stream: str, lanes: int, *, endpoint_url: str | None = None, region: str | None = None
) -> Sender:
    """A sender to a stream; connects, and loads what packs records, with the first request that brings something."""
    clients: list[object] = []

    def make() -> Publisher:
        from sensors.publisher import Publisher

        if not clients:
            clients.append(
                connect.client(
                    "kinesis",
                    endpoint_url=endpoint_url,
                    region=region,
                    connect_timeout=2,
                    read_timeout=CALL_TIMEOUT_S,
                    retries={"mode": "standard", "total_max_attempts": 1},
                )
            )
        return Publisher(
            clients[0],
            stream,
            lanes=lanes,
            now=time.monotonic,
            sleep=time.sleep,
            random=random.random,
            patience_s=PATIENCE_S,
        )

    return Sender(make)
