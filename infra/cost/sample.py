"""What a fleet's chunks, manifests, segments and messages weigh: made-up series, encoded by the product's own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np

from ingest import chunk, keys, segment
from ingest.item import item_size, write_units
from ingest.manifest import CHUNKS_PER_MANIFEST, encode_manifests, encode_open_slot, encode_ticket
from ingest.reading import Run
from ingest.stores import Segment, Sensor
from ingest.stores.catalog_entry import encode_entry
from ingest.stores.registry import encode_sensor
from ingest.wire_encode import encode_run

MOST_VALUES = 12_000
"""Values of one run that are really encoded; what is longer is cut into whole 64 KB anyway, and scaled."""
VALUES_PER_SAMPLE = 6_000
LEAST_RUNS, MOST_RUNS = 3, 12
SEGMENT_VALUES = 60_000
READ_UNIT_BYTES = 4096
BATCH = "abcdefghijklmnop"
NOW_S = 1_763_679_599
"""A time with no trailing zeros, so that no number is shorter than usual."""
LONG_NAME = "f" * 32
GOLDEN = 0.618034
SEGMENT_SENSORS = 9_999


class Series(Protocol):
    """Makes series: `runs` of so many sensors and readings, each from a start (epoch µs) on; and their names."""

    def runs(self, sensors: int, readings: int, start_us: int) -> Sequence[Run]:
        """One run per sensor, exactly so many readings each."""
        ...

    def sensor_id(self, index: int) -> str:
        """The name of a sensor."""
        ...


Encode = Callable[[Run, int, str, int], Sequence["chunk.Item"]]


@dataclass(frozen=True, slots=True)
class Weight:
    """What a run becomes, on average: chunks, their write units, read units (consistent), and billed bytes."""

    chunks: float
    write_units: float
    read_units: float
    size_bytes: float

    def times(self, factor: float) -> Weight:
        """So many of them."""
        return Weight(*(factor * part for part in self.parts()))

    def plus(self, other: Weight) -> Weight:
        """Both together."""
        return Weight(*(a + b for a, b in zip(self.parts(), other.parts(), strict=True)))

    def parts(self) -> tuple[float, float, float, float]:
        """The four numbers."""
        return self.chunks, self.write_units, self.read_units, self.size_bytes


NOTHING = Weight(0.0, 0.0, 0.0, 0.0)


class Samples:
    """Weights of one kind of series (step, metrics, codec); each is measured once and kept."""

    def __init__(self, series: Series, encode: Encode, *, sensors: int, metrics: int, step_us: int) -> None:
        self._series = series
        self._encode = encode
        self._sensors = sensors
        self._metrics = metrics
        self._step_us = step_us
        self._weights: dict[tuple[int, int], Weight] = {}
        self._messages: dict[int, float] = {}
        self._manifests: dict[tuple[int, int], tuple[float, float]] = {}
        self._segments: dict[int, float] = {}

    def sensor_id(self, index: int) -> str:
        """The name of a sensor of this fleet."""
        return self._series.sensor_id(index)

    def weight(self, readings: int, bucket_s: int) -> Weight:
        """A run of so many readings inside one bucket, in chunks."""
        most = max(1, MOST_VALUES // self._metrics)
        if readings > most:
            return self.weight(most, bucket_s).times(readings / most)
        known = self._weights.get((readings, bucket_s))
        if known is None:
            known = self._weights[readings, bucket_s] = self._weigh(readings, bucket_s)
        return known

    def _weigh(self, readings: int, bucket_s: int) -> Weight:
        count = max(LEAST_RUNS, min(MOST_RUNS, VALUES_PER_SAMPLE // (readings * self._metrics)))
        total = NOTHING
        for run in self._spread(count, readings, bucket_s, self._sensors - 1):
            start_s = keys.bucket_start_s(run.ts_us[0], bucket_s)
            items = self._encode(run, start_s, BATCH, NOW_S + keys.DAY_S)
            sizes = [item.size_bytes for item in items]
            reads = sum(-(-size // READ_UNIT_BYTES) for size in sizes)
            total = total.plus(Weight(len(sizes), sum(map(write_units, sizes)), reads, sum(sizes)))
        return total.times(1 / count)

    def _spread(self, count: int, readings: int, bucket_s: int, last: int) -> Sequence[Run]:
        """Runs of the sensors up to `last` at three times of the day, each a third into what its bucket leaves free."""
        found: list[Run] = []
        free_us = max(0, bucket_s * keys.US - readings * self._step_us)
        for hour in (3, 11, 19):
            start_s = keys.bucket_start_s(
                (NOW_S // keys.DAY_S * keys.DAY_S + hour * 3600) * keys.US, bucket_s
            )
            start_us = start_s * keys.US + free_us // 3 // self._step_us * self._step_us
            found += self._series.runs(-(-count // 3), readings, start_us)
        spread_us = min(self._step_us, free_us)
        return [
            _moved(
                run,
                self._series.sensor_id(max(0, last - place)),
                int(place * GOLDEN % 1 * spread_us) // 1000 * 1000,
            )
            for place, run in enumerate(islice(found, count))
        ]

    def message_bytes(self, readings: int) -> float:
        """A columnar payload of so many readings, as the publisher and the gateway make them."""
        if readings not in self._messages:
            most = max(1, MOST_VALUES // self._metrics)
            runs = self._spread(6, min(readings, most), keys.DAY_S, self._sensors - 1)
            bytes_per_run = sum(len(encode_run(run)) for run in runs) / len(runs)
            self._messages[readings] = bytes_per_run * max(1.0, readings / len(runs[0].ts_us))
        return self._messages[readings]

    def manifest(self, entries: int, bucket_s: int, apart: int = 1) -> tuple[float, float]:
        """Write units and bytes of one batch's manifests that name so many chunks of different sensors.

        `apart`: every how many-th sensor of the fleet is in the batch on average, by chance, as lanes pick them.
        """
        whole, rest = divmod(entries, CHUNKS_PER_MANIFEST)
        units, size_bytes = self._manifest(CHUNKS_PER_MANIFEST, bucket_s, apart) if whole else (0.0, 0.0)
        more_units, more_bytes = self._manifest(rest, bucket_s, apart) if rest else (0.0, 0.0)
        return whole * units + more_units, whole * size_bytes + more_bytes

    def _manifest(self, entries: int, bucket_s: int, apart: int) -> tuple[float, float]:
        known = entries, apart
        if known not in self._manifests:
            start_s = keys.bucket_start_s(NOW_S * keys.US, bucket_s)
            places = np.cumsum(np.random.default_rng(1).geometric(1 / apart, entries)).tolist()
            last = max(self._sensors, places[-1])
            named = [
                keys.chunk_key(self._series.sensor_id(last - place), start_s, BATCH, 0) for place in places
            ]
            period = keys.Period(0, bucket_s, keys.DAY_S, 7 * keys.DAY_S, 5 * 365 * keys.DAY_S)
            sizes = [item.size_bytes for item in encode_manifests(NOW_S, BATCH, NOW_S, named, period)]
            self._manifests[known] = float(sum(map(write_units, sizes))), float(sum(sizes))
        return self._manifests[known]

    def bytes_per_value(self, readings: int) -> float:
        """Bytes in a segment per value, with runs of so many readings per sensor: what a slot has of one."""
        length = max(1, min(readings, MOST_VALUES // self._metrics))
        if length not in self._segments:
            count = max(3, min(600, SEGMENT_VALUES // (length * self._metrics)))
            runs = self._spread(count, length, keys.DAY_S, SEGMENT_SENSORS)
            encoded = segment.encode(runs)
            self._segments[length] = len(encoded.data) / encoded.rows
        return self._segments[length]


def _moved(run: Run, sensor_id: str, by_us: int) -> Run:
    """The run as another sensor's, whose readings are taken a little later: no two sensors keep step."""
    ts_us = [ts + by_us for ts in run.ts_us]
    return replace(run, sensor_id=sensor_id, ts_us=ts_us, arrival_ms=ts_us[-1] // 1000 + 777)


def ticket_units() -> int:
    """Write units of the ticket and the open slot a batch puts for a slot."""
    return write_units(encode_ticket(NOW_S).size_bytes) + write_units(encode_open_slot(NOW_S).size_bytes)


def sensor_bytes(sensor_id: str) -> int:
    """Bytes of a sensor's entry in the registry."""
    return item_size(encode_sensor(Sensor(sensor_id, NOW_S * 1000 + 777)))


def catalog_bytes(sensor_id: str) -> int:
    """Bytes of a segment's entry in the catalog."""
    name = keys.segment_name("2026-11-20", LONG_NAME)
    us = NOW_S * keys.US + 777
    entry = Segment(
        name,
        "2026-11-20",
        LONG_NAME,
        1_234_567,
        765_432,
        us,
        us,
        sensor_id,
        sensor_id,
        LONG_NAME,
        34_567,
        "0" * 64,
        NOW_S,
    )
    return item_size(encode_entry(entry, NOW_S))
