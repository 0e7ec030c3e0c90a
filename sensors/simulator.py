"""A made-up fleet: which readings it takes and in what order it sends them; pure, seeded, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ingest.errors import BadInput
from ingest.reading import EARLIEST_US, Column, Run, concat

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bits = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]

US = 1_000_000
DEFAULT_METRICS = ("temperature", "humidity")
EXTRA_METRICS = ("pressure", "counter", "switch", "state")
STATES = ("idle", "running", "paused", "fault")
MOST_SENSORS = 10_000_000
MOST_RATE_HZ = 1_000.0
BLOCK_READINGS = 100_000
"""Readings computed at once, and the most a list from `runs` holds (before faults)."""
FARTHEST_SLICES = 3
"""A late reading is sent 1 to this many slices after its own."""
USUAL_DROPOUT = 0.05
"""Fraction lost where drop-outs are asked for by name alone."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Fractions, each 0 to 1, of all readings on which a fault falls.

    `late`: sent 1 to 3 slices after its own. `duplicate`: sent twice with the same values,
    the copy up to 2 slices later. `dropout`: never taken. `jitter`: taken off the grid,
    by up to the fleet's `jitter_ms`.
    """

    late: float = 0.0
    duplicate: float = 0.0
    dropout: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        for name in FAULTS:
            fraction = getattr(self, name)
            if not 0.0 <= fraction <= 1.0:
                raise BadInput(f"faults: {name}={fraction} is no fraction; give a number from 0 to 1.")


FAULTS = tuple(field.name for field in fields(Faults))


@dataclass(frozen=True, slots=True)
class Fleet:
    """Which sensors there are and what they measure.

    Readings are taken from `start_us` (epoch, UTC) for `duration_us` (half-open), every
    `step_us`, all sensors at the same instants. `jitter_ms` is the farthest a reading hit
    by jitter is moved, in whole milliseconds; it never reaches the next instant.
    Raises BadInput, naming the option, where a value cannot be used.
    """

    sensors: int
    rate_hz: float
    start_us: int
    duration_us: int
    seed: int = 0
    metrics: tuple[str, ...] = DEFAULT_METRICS
    faults: Faults = Faults()
    jitter_ms: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.sensors <= MOST_SENSORS:
            raise BadInput(f"sensors: {self.sensors} cannot be used; give 1 to {MOST_SENSORS}.")
        if not 0.0 < self.rate_hz <= MOST_RATE_HZ:
            raise BadInput(
                f"rate: {self.rate_hz} Hz cannot be used; give more than 0 and at most {MOST_RATE_HZ:g} Hz."
            )
        if self.duration_us <= 0:
            raise BadInput("duration: must be longer than nothing, such as 60s or 24h.")
        if self.start_us < EARLIEST_US:
            raise BadInput("start: lies before 2000-01-01, and no reading may; give a later time.")
        if self.jitter_ms < 0:
            raise BadInput(f"jitter: {self.jitter_ms} ms cannot be used; give 0 or more.")
        known = (*DEFAULT_METRICS, *EXTRA_METRICS)
        for name in self.metrics:
            if name not in known:
                raise BadInput(f"metrics: {name!r} is not known; the known ones are {', '.join(known)}.")
        if not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise BadInput("metrics: at least one is needed, and each may be named once.")

    @property
    def step_us(self) -> int:
        """Microseconds between two readings of a sensor, rounded down to whole ones."""
        return int(US / self.rate_hz)

    @property
    def instants(self) -> int:
        """Readings each sensor takes, drop-outs included."""
        return max(1, math.ceil(self.duration_us * self.rate_hz / US - 1e-6))

    @property
    def readings(self) -> int:
        """Readings the fleet takes, drop-outs included: what a progress bar counts up to."""
        return self.sensors * self.instants


def sensor_id(index: int) -> str:
    """Name of the sensor at a position, counted from 0: `sim-0001` is the first."""
    return f"sim-{index + 1:04d}"


def parse_faults(text: str) -> Faults:
    """Faults from `late=0.01,duplicate=0.01`; an empty text means none. Raises BadInput."""
    found: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if name not in FAULTS:
            raise BadInput(f"faults: {name!r} is not a fault; the known ones are {', '.join(FAULTS)}.")
        if name in found:
            raise BadInput(f"faults: {name} is given twice; give it once.")
        try:
            found[name] = float(number)
        except ValueError:
            given = f"{name}={number}" if equals else name
            raise BadInput(f"faults: {given!r} has no fraction; write it as {name}=0.01.") from None
    return Faults(**found)


def with_extras(fleet: Fleet, text: str) -> Fleet:
    """The fleet with what the comma-separated names ask for on top of the default metrics.

    Names: the extra metrics, `jitter` (every reading off the grid) and `dropout` (5 % of
    readings are missing); a fraction already given for those stays. Raises BadInput.
    """
    metrics, faults = list(fleet.metrics), fleet.faults
    known = (*EXTRA_METRICS, "jitter", "dropout")
    for name in filter(None, (part.strip() for part in text.split(","))):
        if name not in known:
            raise BadInput(f"with: {name!r} is not known; the known ones are {', '.join(known)}.")
        if name == "jitter":
            faults = faults if faults.jitter else replace(faults, jitter=1.0)
        elif name == "dropout":
            faults = faults if faults.dropout else replace(faults, dropout=USUAL_DROPOUT)
        elif name not in metrics:
            metrics.append(name)
    return replace(fleet, metrics=tuple(metrics), faults=faults)


def runs(fleet: Fleet, batch_s: float) -> Iterator[list[Run]]:
    """What the fleet sends, in the order it sends it: slices of `batch_s` seconds, oldest first.

    A slice ends where a multiple of `batch_s` since the epoch is reached, or comes with each instant where these
    are farther apart. It comes as one or more lists, bounded in size whatever the fleet. In each slice
    a sensor's punctual readings are one run; late readings and second copies follow as runs
    of their own, some after the last slice. Arrival is 0: nothing has arrived yet.
    What is sent depends on the seed and on each sensor's position alone, not on `batch_s`
    nor on how many sensors there are. Raises BadInput where `batch_s` is not positive.
    """
    if not batch_s > 0:
        raise BadInput(f"batch: {batch_s} s cannot be used; give more than 0 seconds.")
    waiting: dict[int, list[Run]] = {}
    for number, (first, end) in enumerate(_slices(fleet, max(1, round(batch_s * US)))):
        for block in _blocks(fleet, first, end):
            punctual = block.keep & ~block.late
            for after in range(1, FARTHEST_SLICES + 1):
                late = block.runs(block.keep & block.late & (block.delay == after))
                waiting.setdefault(number + after, []).extend(late)
            for after in range(FARTHEST_SLICES):
                copies = block.runs(block.keep & block.twice & (block.delay == after + 1))
                waiting.setdefault(number + after, []).extend(copies)
            if ready := block.runs(punctual):
                yield ready
        if belated := waiting.pop(number, None):
            yield belated
    for number in sorted(waiting):
        if waiting[number]:
            yield waiting[number]


def _slices(fleet: Fleet, batch_us: int) -> Iterator[tuple[int, int]]:
    """The instants of each slice, by number from the first on: `[first, end)`."""
    first = 0
    while first < fleet.instants:
        at_us = fleet.start_us + first * fleet.step_us
        left_us = batch_us - at_us % batch_us
        end = min(first + -(-left_us // fleet.step_us), fleet.instants)
        yield first, end
        first = end


def truth(fleet: Fleet) -> dict[str, Run]:
    """Every reading a store that loses nothing must return, as one run per sensor.

    Drop-outs are left out and duplicates stand once; a sensor without a reading is absent.
    """
    whole: dict[str, list[Run]] = {}
    for block in _blocks(fleet, 0, fleet.instants):
        for run in block.runs(block.keep):
            whole.setdefault(run.sensor_id, []).append(run)
    return {name: concat(parts) for name, parts in whole.items()}


# --- one block: some sensors at some instants -------------------------------------------


@dataclass(frozen=True, slots=True)
class _Block:
    """Readings as matrices, one row per sensor from `first_sensor` on, one column per instant."""

    first_sensor: int
    ts_us: Ints
    metrics: dict[str, npt.NDArray[Any]]
    keep: Mask
    late: Mask
    twice: Mask
    delay: Ints

    def runs(self, mask: Mask) -> list[Run]:
        """One run per sensor of the readings the mask picks; sensors without any are left out."""
        counts = mask.sum(axis=1)
        whole = mask.shape[1]
        found: list[Run] = []
        for row in np.flatnonzero(counts).tolist():
            picked: Any = slice(None) if counts[row] == whole else np.flatnonzero(mask[row])
            columns = {
                name: cast(Column, matrix[row, picked].tolist()) for name, matrix in self.metrics.items()
            }
            ts_us = self.ts_us[row % len(self.ts_us), picked].tolist()
            found.append(Run(sensor_id(self.first_sensor + row), ts_us, columns, 0))
        return found


def _blocks(fleet: Fleet, first: int, end: int) -> Iterator[_Block]:
    """The fleet's readings at instants `[first, end)`: sensor by sensor, each in time order."""
    width = min(end - first, BLOCK_READINGS)
    height = max(1, BLOCK_READINGS // width)
    for sensor in range(0, fleet.sensors, height):
        for instant in range(first, end, width):
            yield _block(
                fleet, range(sensor, min(sensor + height, fleet.sensors)), instant, min(instant + width, end)
            )


def _block(fleet: Fleet, sensors: range, first: int, end: int) -> _Block:
    grid_us = fleet.start_us + np.arange(first, end, dtype=np.int64) * fleet.step_us
    dice = _Dice(fleet.seed, sensors, grid_us)
    metrics = {name: _MAKERS[name](dice) for name in fleet.metrics}
    faults = fleet.faults
    ts_us = grid_us.reshape(1, -1)
    most_ms = min(fleet.jitter_ms, (fleet.step_us - 1) // 1000)
    if faults.jitter and most_ms:
        moved_ms = 1 + (dice.cells("jitter-by") % np.uint64(most_ms)).astype(np.int64)
        ts_us = ts_us + np.where(dice.hit("jitter", faults.jitter), moved_ms * 1000, 0)
    keep = ~dice.hit("dropout", faults.dropout)
    late = dice.hit("late", faults.late)
    twice = dice.hit("duplicate", faults.duplicate)
    rare = bool(faults.late or faults.duplicate)
    delay = (
        (dice.cells("delay") % np.uint64(FARTHEST_SLICES)).astype(np.int64) + 1
        if rare
        else np.zeros((1, 1), np.int64)
    )
    return _Block(sensors.start, ts_us, metrics, keep, late, twice, delay)


class _Dice:
    """Chance as a function: the same seed, sensor, instant and purpose give the same number.

    Nothing is drawn in sequence, so neither slicing nor the number of sensors matters.
    """

    def __init__(self, seed: int, sensors: range, grid_us: Ints) -> None:
        self.grid_us = grid_us
        self.shape = (len(sensors), len(grid_us))
        index = np.arange(sensors.start, sensors.stop, dtype=np.uint64)
        base = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF], dtype=np.uint64)
        self._rows = _mix(_mix(base) ^ _mix(index + np.uint64(1)))

    def rows(self, purpose: str) -> Bits:
        """64 bits per sensor, as one column."""
        return _mix(self._rows ^ _salt(purpose)).reshape(-1, 1)

    def cells(self, purpose: str, every_us: int = 1) -> Bits:
        """64 bits per sensor and stretch of `every_us` (aligned to the epoch)."""
        stretch = (self.grid_us // every_us).astype(np.uint64) * np.uint64(0x9E37_79B9_7F4A_7C15)
        return _mix(self.rows(purpose) ^ stretch)

    def between(self, purpose: str, low: float, high: float) -> Floats:
        """A number per sensor in `[low, high)`, as one column."""
        return low + (high - low) * _unit(self.rows(purpose))

    def noise(self, purpose: str, size: float) -> Floats:
        """A number per reading, centred on 0 and bell-like, at most `size` away from it."""
        bits = self.cells(purpose)
        halves = (bits >> np.uint64(32)).astype(np.float64) + (bits & np.uint64(0xFFFF_FFFF)).astype(
            np.float64
        )
        return (halves / 2.0**32 - 1.0) * size

    def hit(self, purpose: str, fraction: float) -> Mask:
        """Which readings a fault of that frequency falls on."""
        if not fraction:
            return np.zeros(self.shape, np.bool_)
        return _unit(self.cells(purpose)) < fraction

    def day(self, purpose: str) -> Floats:
        """Where in its day each sensor is, in radians; phases differ by up to an hour."""
        turn = (self.grid_us % (86_400 * US)) / (86_400.0 * US)
        return 2.0 * np.pi * (turn + self.between(purpose, -1 / 24, 1 / 24))


def _mix(bits: Bits) -> Bits:
    """The finalizer of SplitMix64 (Steele, Lea and Flood 2014): every bit depends on every other."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
    return bits ^ (bits >> np.uint64(31))


def _salt(purpose: str) -> np.uint64:
    return np.uint64(int.from_bytes(purpose.encode()[-8:].rjust(8, b"\0"), "big"))


def _unit(bits: Bits) -> Floats:
    """Numbers in `[0, 1)`."""
    return (bits >> np.uint64(11)).astype(np.float64) / 2.0**53


# --- what is measured -------------------------------------------------------------------


def _temperature(dice: _Dice) -> npt.NDArray[Any]:
    """Degrees Celsius, two decimals: warmest in the afternoon."""
    level, swing = dice.between("t-level", 16.0, 24.0), dice.between("t-swing", 2.0, 6.0)
    return np.round(level - swing * np.cos(dice.day("phase") - np.pi / 6) + dice.noise("t-noise", 0.08), 2)


def _humidity(dice: _Dice) -> npt.NDArray[Any]:
    """Per cent, one decimal: driest when it is warmest."""
    level, swing = dice.between("h-level", 45.0, 60.0), dice.between("h-swing", 5.0, 15.0)
    return np.round(level + swing * np.cos(dice.day("phase") - np.pi / 6) + dice.noise("h-noise", 0.3), 1)


def _pressure(dice: _Dice) -> npt.NDArray[Any]:
    """Hectopascal, two decimals: two small tides a day."""
    level = dice.between("p-level", 1005.0, 1020.0)
    return np.round(level + 1.5 * np.cos(2.0 * dice.day("phase")) + dice.noise("p-noise", 0.1), 2)


def _counter(dice: _Dice) -> npt.NDArray[Any]:
    """Watt-hours since 2000-01-01, whole and never falling: more by day than by night."""
    hours = (dice.grid_us - EARLIEST_US) / (3600.0 * US)
    watts = dice.between("c-watts", 100.0, 2000.0)
    bulge = 0.6 * 24.0 / (2.0 * np.pi) * np.sin(dice.day("phase"))
    return np.floor(watts * (hours - bulge + 24.0)).astype(np.int64)


def _switch(dice: _Dice) -> npt.NDArray[Any]:
    """On or off, for whole stretches of five minutes."""
    return _unit(dice.cells("switch", 300 * US)) < dice.between("duty", 0.1, 0.9)


def _state(dice: _Dice) -> npt.NDArray[Any]:
    """One of four texts, for whole stretches of ten minutes."""
    shares = np.searchsorted(np.array([0.3, 0.85, 0.97]), _unit(dice.cells("state", 600 * US)))
    return np.array(STATES, dtype=object)[shares]


_MAKERS = {
    "temperature": _temperature,
    "humidity": _humidity,
    "pressure": _pressure,
    "counter": _counter,
    "switch": _switch,
    "state": _state,
}
