"""Rows on packing: readings per write unit of the real series and of a fleet, counted and never timed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pcodec as untyped_pcodec

from benchmarks import workload
from benchmarks.measure import Row
from ingest import chunk, keys
from ingest.item import Item, number_size, write_units
from ingest.reading import Run, canonical, take
from ingest.stores.memory import MemoryColdStore, MemoryHotStore, MemoryRegistry
from ingest.stores.rejects import S3RejectStore
from lambdas.store_readings import handle

pcodec = cast(Any, untyped_pcodec)

OFFERED = 300
F7_GOAL = 0.98
G9_GOAL = 0.97
FLEET_SENSORS = 1_000
FLEET_SECONDS = 600
FLEET_JITTER_MS = 5
FLEET_LANES = 20
FLEET_GOALS = {"list": 75, "packed": 500}
BATCH = "abcdefghijklmnop"
EXPIRES_AT_S = 1_763_679_600
LONG_MS = 600_000
LIST_BYTES = 3
ELEMENT_BYTES = 1


def rows() -> list[Row]:
    """The real series where their folder is there, then the fleet; each in both codecs."""
    series = workload.series()
    return [*map(_series_row, series), *map(_packed_row, series), *map(_fleet_row, FLEET_GOALS)]


# --- the real series --------------------------------------------------------------------


def _series_row(run: Run) -> Row:
    pieces = [take(run, start, start + OFFERED) for start in range(0, len(run.ts_us), OFFERED)]
    sizes = [[item.size_bytes for item in _chunks(piece)] for piece in pieces]
    f7_sizes = [f7_bytes(piece) for piece in pieces]
    ours = sum(write_units(size) for parts in sizes for size in parts)
    f7 = sum(map(write_units, f7_sizes))
    per_unit = len(run.ts_us) / ours
    ratio = f7 / ours
    return Row(
        figure=f"readings per write unit, {run.sensor_id}, {OFFERED} offered per chunk",
        value=per_unit,
        unit="x",
        against=f"1, an item per reading; layout f7 holds {len(run.ts_us) / f7:.1f}",
        goal="within 2 % of f7, or better",
        met=ratio >= F7_GOAL,
        numbers={
            "over f7": ratio,
            "bytes over f7's": sum(map(sum, sizes)) / sum(f7_sizes),
            "readings": len(run.ts_us),
            "write units": ours,
        },
    )


def _packed_row(run: Run) -> Row:
    pieces = [take(run, start, start + OFFERED) for start in range(0, len(run.ts_us), OFFERED)]
    sizes = [[item.size_bytes for item in _chunks(piece, "packed")] for piece in pieces]
    bodies = [item.body for piece in pieces for item in _chunks(piece, "packed")]
    packed = sum(f'"c":{{"S":"{chunk.TAGS["packed"]}"}}' in body for body in bodies)
    g9_sizes = [g9_bytes(piece) for piece in pieces]
    ours = sum(write_units(size) for parts in sizes for size in parts)
    g9 = sum(map(write_units, g9_sizes))
    ratio = g9 / ours
    return Row(
        figure=f"readings per write unit, packed, {run.sensor_id}, {OFFERED} offered per chunk",
        value=len(run.ts_us) / ours,
        unit="x",
        against=f"1, an item per reading; layout g9 holds {len(run.ts_us) / g9:.1f}",
        goal="within 3 % of g9, or better",
        met=ratio >= G9_GOAL,
        numbers={
            "over g9": ratio,
            "bytes over g9's": sum(map(sum, sizes)) / sum(g9_sizes),
            "readings": len(run.ts_us),
            "write units": ours,
            "chunks that were packed": packed / len(bodies),
        },
    )


def g9_bytes(run: Run) -> int:
    """What a chunk of one numeric metric weighs in layout g9, with the fixed part of our item.

    g9: pcodec's wrapped format with its defaults, one file for the times in milliseconds (none where they
    are regular) and the values as doubles. The fixed part is that of `f7_bytes`, without the list.
    """
    (cells,) = run.metrics.values()
    gaps = {later - earlier for earlier, later in pairwise(run.ts_us)}
    times = [np.array(run.ts_us, np.int64) // 1_000] if len(gaps) > 1 else []
    file = pcodec.wrapped.FileCompressor()
    size = len(file.write_header())
    for column in (*times, np.array(cells, np.float64)):
        packed = file.chunk_compressor(column, pcodec.ChunkConfig())
        size += len(packed.write_meta()) + len(packed.write_page(0))
    return _fixed_bytes(run) + size


def _chunks(run: Run, codec: str = "list") -> Sequence[Item]:
    bucket_s = keys.bucket_start_s(run.ts_us[0], 3_600)
    return chunk.encode(run, bucket_s, BATCH, EXPIRES_AT_S, codec)


def _fixed_bytes(run: Run) -> int:
    """What our own item of the first reading weighs without its value, but for the digits of the count."""
    (cells,) = run.metrics.values()
    (first,) = _chunks(take(run, 0, 1))
    count_bytes = number_size(str(len(cells))) - number_size("1")
    one = number_size(canonical(next(cell for cell in cells if cell is not None)))
    return first.size_bytes + count_bytes - LIST_BYTES - ELEMENT_BYTES - one


def f7_bytes(run: Run) -> int:
    """What a chunk of one numeric metric weighs in layout f7, with the fixed part of our item.

    f7: the step `dt`, and the values as a list with NULL for a missing reading where every gap is a
    multiple of the step; else the step and a list `t` of each reading's distance from its place on
    the grid. The step is the most frequent gap. The fixed part (key, count, tag, arrival, ttl, first
    instant, names) is what our own item of the first reading weighs without its value.
    """
    (cells,) = run.metrics.values()
    sizes = [number_size(canonical(cell)) for cell in cells if cell is not None]
    values = LIST_BYTES + sum(sizes) + ELEMENT_BYTES * len(sizes)
    return _fixed_bytes(run) + values + _f7_time_bytes(run.ts_us)


def _f7_time_bytes(ts_us: Sequence[int]) -> int:
    """The step, and what gaps cost: NULLs in the values, or a list of distances from the grid."""
    gaps = [later - earlier for earlier, later in pairwise(ts_us)]
    if not gaps:
        return 0
    ((step_us, _),) = Counter(gaps).most_common(1)
    step_bytes = len("dt") + number_size(str(step_us))
    if all(gap % step_us == 0 for gap in gaps):
        missing = (ts_us[-1] - ts_us[0]) // step_us + 1 - len(ts_us)
        return step_bytes + missing * (ELEMENT_BYTES + 1)
    distances = [ts - ts_us[0] - place * step_us for place, ts in enumerate(ts_us)][1:]
    return step_bytes + len("t") + LIST_BYTES + sum(ELEMENT_BYTES + number_size(str(d)) for d in distances)


# --- a fleet through the batch door -----------------------------------------------------


def _fleet_row(codec: str) -> Row:
    fleet = workload.fleet(FLEET_SENSORS, FLEET_SECONDS, FLEET_JITTER_MS)
    goal = FLEET_GOALS[codec]
    arrived_ms = workload.arrival_ms(fleet)
    readings = FLEET_SENSORS * FLEET_SECONDS
    registry = MemoryRegistry()
    registered = registry.register({run.sensor_id: arrived_ms for run in fleet}, lambda: LONG_MS)[1]
    hot = MemoryHotStore()
    chunks = stored = 0
    units = 0.0
    for lane in workload.aggregated(workload.columnar(fleet), FLEET_LANES):
        done = handle(
            workload.event(lane, arrived_ms),
            hot,
            registry,
            S3RejectStore(MemoryColdStore()),
            workload.layout(),
            arrived_ms // 1000 + 1,
            lambda: LONG_MS,
            codec,
        )
        stored += done.readings
        chunks += done.chunks
        units += done.write_units
    if stored != readings:
        raise RuntimeError(f"the door stored {stored} of {readings} readings")
    return Row(
        figure=f"readings per write unit, {codec}, 1,000 sensors at 1 Hz with jitter in chunks of 600, all items",
        value=readings / units,
        unit="x",
        against="1, an item per reading",
        goal=f">= {goal}",
        met=readings / units >= goal,
        numbers={
            "write units": units,
            "chunks": cast(float, chunks),
            "registering the fleet, once": registered,
            "with that": readings / (units + registered),
        },
    )
