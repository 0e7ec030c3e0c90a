"""What every door shares: one logger, one set of metrics, stores made once per process, the clock."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, cast

from aws_lambda_powertools import Logger, Metrics

from ingest import settings
from ingest.errors import Unavailable
from ingest.keys import Layout
from ingest.settings import Settings
from ingest.stores import HotStore
from ingest.stores.connect import Stores
from ingest.stores.connect import stores as connect

NAMESPACE = "Thermocline"
LAYOUT_AGE_S = 30
"""A layout read longer ago than this is read again."""


def logger(service: str) -> Logger:
    """The structured logger of a door; it writes one line per invocation and never a payload."""
    return Logger(service=service)


def metrics(service: str) -> Metrics:
    """The metrics of a door, written to the log in CloudWatch's embedded metric format.

    Their dimensions are `service` and `stack`, so that two deployments of one account stay apart.
    """
    made = Metrics(namespace=NAMESPACE, service=service)
    cast(Any, made).set_default_dimensions(**dimensions())
    return made


def dimensions() -> dict[str, str]:
    """What every metric carries beside its own dimensions: the name of the deployment."""
    return {"stack": settings.stack_from_env()}


@cache
def deployment() -> tuple[Settings, Stores]:
    """Settings from the environment and the stores they name."""
    found = settings.from_env()
    return found, connect(found)


_layout: list[tuple[float, Layout]] = []


def layout(hot: HotStore, now_s: float) -> Layout:
    """The layout in force, read at most every 30 s. Raises Unavailable where none was written yet."""
    if _layout and now_s - _layout[0][0] < LAYOUT_AGE_S:
        return _layout[0][1]
    found = hot.load_layout()
    if found is None:
        raise Unavailable("The table has no layout item yet. Run `thermocline deploy` (or `up`) to the end.")
    _layout[:] = [(now_s, found)]
    return found


def now_s() -> float:
    """The time, in epoch seconds."""
    return time.time()
