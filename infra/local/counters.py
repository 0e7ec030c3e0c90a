"""What the functions counted: their embedded metrics, invocations and errors, added up per function."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

NAMESPACE = "Thermocline"
KEPT_HOURS = 25
Recent = dict[str, dict[str, float]]
"""Per metric, the sum over all functions in each hour (hours since the epoch, as text)."""


class Counters:
    """Sums per function and metric. Every method may be called from any thread.

    Beside the functions' own metrics stand `Invocations` and `Errors`, as in CloudWatch.
    A batch that is sent again counts again, as it does there. Beside the sums since the stack was
    made stand those of the last hours (`recent`).
    """

    def __init__(
        self,
        sums: Mapping[str, Mapping[str, float]] | None = None,
        recent: Mapping[str, Mapping[str, float]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._sums: dict[str, dict[str, float]] = {name: dict(of) for name, of in (sums or {}).items()}
        self._recent: Recent = {name: dict(of) for name, of in (recent or {}).items()}

    def add(self, function: str, metric: str, value: float) -> None:
        """Add to one sum."""
        with self._lock:
            of = self._sums.setdefault(function, {})
            of[metric] = of.get(metric, 0.0) + value
            hour = int(self._clock() // 3600)
            hours = self._recent.setdefault(metric, {})
            hours[str(hour)] = hours.get(str(hour), 0.0) + value
            for old in [one for one in hours if int(one) <= hour - KEPT_HOURS]:
                del hours[old]

    def add_log(self, function: str, log: str) -> None:
        """Add every metric that the log's lines carry in CloudWatch's embedded metric format."""
        for metric, value in embedded_metrics(log):
            self.add(function, metric, value)

    def total(self, metric: str) -> float:
        """The metric's sum over all functions."""
        with self._lock:
            return sum(of.get(metric, 0.0) for of in self._sums.values())

    def last_day(self, metric: str) -> float:
        """The metric's sum over all functions in the last 24 h, to the hour."""
        hour = int(self._clock() // 3600)
        with self._lock:
            return sum(value for at, value in self._recent.get(metric, {}).items() if int(at) > hour - 25)

    def recent(self) -> Recent:
        """The sums of the last hours, to be handed to a later process."""
        with self._lock:
            return {name: dict(of) for name, of in self._recent.items()}

    def snapshot(self) -> dict[str, dict[str, float]]:
        """All sums, by function and metric."""
        with self._lock:
            return {name: dict(of) for name, of in self._sums.items()}


def embedded_metrics(log: str) -> Iterator[tuple[str, float]]:
    """Name and value of each metric of the project's namespace in a log.

    Source: "Specification: Embedded metric format": a line is a JSON object whose
    `_aws.CloudWatchMetrics` names members of the same object; a value is a number or a
    list of them. Lines that are anything else are passed over.
    """
    for line in log.splitlines():
        if '"_aws"' not in line:
            continue
        try:
            document: Any = json.loads(line[line.index("{") :])
            for directive in document["_aws"]["CloudWatchMetrics"]:
                if directive["Namespace"] != NAMESPACE:
                    continue
                for metric in directive["Metrics"]:
                    value: Any = document[metric["Name"]]
                    values = cast(list[float], value) if isinstance(value, list) else [value]
                    yield metric["Name"], float(sum(values))
        except (ValueError, KeyError, TypeError):
            continue
