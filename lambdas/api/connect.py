"""The services of one deployment, made from its settings: stores, the stream, links, counters."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ingest import settings as environment
from ingest.errors import Unavailable
from ingest.layout import Layout
from ingest.stores import HotStore, connect
from lambdas.api import sending, vitals
from lambdas.api.services import Auth, Services

LAYOUT_AGE_S = 1.0
"""A layout read longer ago is read again. It tells from when on readings may be in the archive alone, and a local
stack's `expire` changes it just before chunks go."""
VITALS_AGE_S = 10.0
T = TypeVar("T")


def services(endpoint_url: str | None = None) -> Services:
    """Everything the routes need, of the deployment that the environment names. Raises BadInput.

    With an endpoint AWS is there, and the credentials are those of a local stack.
    """
    settings = environment.from_env()
    own = environment.api_from_env()
    stores = connect.stores(settings, endpoint_url=endpoint_url)
    sender = sending.kinesis_sender(own.stream, own.lanes, endpoint_url=endpoint_url)
    told = vitals.source(own, environment.stack_from_env(), endpoint_url)
    return Services(
        hot=stores.hot,
        catalog=stores.catalog,
        cold=stores.cold,
        rejects=stores.rejects,
        registry=stores.registry,
        tokens=stores.tokens,
        blobs=stores.blobs,
        layout=remembered(functools.partial(_layout, stores.hot), LAYOUT_AGE_S, time.monotonic),
        now_s=time.time,
        clock=time.perf_counter,
        send=sender.send,
        presign=stores.cold.presign,
        cursor_key=functools.cache(stores.tokens.signing_key),
        vitals=remembered(told, VITALS_AGE_S, time.monotonic),
        auth=cast(Auth, own.auth),
    )


def _layout(hot: HotStore) -> Layout:
    found = hot.load_layout()
    if found is None:
        raise Unavailable("The table has no layout item yet. Run `thermocline deploy` (or `up`) to the end.")
    return found


def remembered(ask: Callable[[], T], age_s: float, clock: Callable[[], float]) -> Callable[[], T]:
    """The same call, answered with what it said at most `age_s` seconds ago."""
    held: list[tuple[float, Any]] = []

    def told() -> T:
        latest = held[-1:]
        began_s = clock()
        if latest and began_s - latest[0][0] < age_s:
            return cast(T, latest[0][1])
        answer = ask()
        held[:] = [(began_s, answer)]
        return answer

    return told
