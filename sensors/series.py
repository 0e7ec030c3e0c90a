"""Made-up series of any number of metrics at any pace, for what is to be weighed and not sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ingest.reading import Run
from sensors.simulator import Fleet, sensor_id, truth

SEED = 11
KNOWN_METRICS = ("temperature", "humidity", "pressure", "counter")
LEAST_STEP_US = 1_000
"""The simulator takes at most a reading a millisecond; its values are put on a finer grid afterwards."""


class MadeUp:
    """What the simulator's sensors measure: its numeric metrics, then the same again of other sensors."""

    def __init__(self, metrics: int, step_us: int) -> None:
        self._metrics = metrics
        self._step_us = step_us

    def sensor_id(self, index: int) -> str:
        """The name of a sensor, as the simulator names it."""
        return sensor_id(index)

    def runs(self, sensors: int, readings: int, start_us: int) -> Sequence[Run]:
        """One run per sensor, exactly so many readings each, from `start_us` on."""
        parts = [
            self._some(sensors, readings, start_us, first)
            for first in range(0, self._metrics, len(KNOWN_METRICS))
        ]
        return [_joined(same) for same in zip(*parts, strict=True)]

    def _some(self, sensors: int, readings: int, start_us: int, first: int) -> Sequence[Run]:
        names = KNOWN_METRICS[: self._metrics - first]
        step_us = max(LEAST_STEP_US, self._step_us)
        fleet = Fleet(sensors, 1e6 / step_us, start_us, readings * step_us, SEED + first, names)
        grid_us = [start_us + place * self._step_us for place in range(readings)]
        return [
            replace(
                run, ts_us=grid_us, metrics={name: column[:readings] for name, column in run.metrics.items()}
            )
            for run in truth(fleet).values()
        ]


def _joined(same: Sequence[Run]) -> Run:
    """One run with the metrics of all; names that come again are numbered."""
    columns = {
        name if not turn else f"{name}_{turn + 1}": column
        for turn, run in enumerate(same)
        for name, column in run.metrics.items()
    }
    return replace(same[0], metrics=columns)
