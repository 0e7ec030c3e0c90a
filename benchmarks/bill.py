"""Rows on bills: what a fleet would pay here and elsewhere, by the cost model, with chunks really encoded."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from benchmarks.measure import Row
from infra.cost.bill import Bill, bill
from infra.cost.elsewhere import item_per_reading, timestream
from infra.cost.fleet import Fleet
from infra.cost.lines import PART_WRITES, Line
from infra.cost.prices import Prices, load
from infra.cost.sample import Samples
from ingest.chunk import encode
from sensors.series import MadeUp
from sensors.simulator import sensor_id

REGION = "us-east-1"
BILLION = 1e9
DENSE = Fleet(100_000, 1.0, edge_s=300.0, align=True)
"""A reading of one value a second, sent in messages of 300 that end by the clock, as `gateway --flush 300s --align`
ends them: each batch has one of a sensor."""
SPARSE = Fleet(100_000, 10.0, metrics=3, edge_s=60.0, window_s=300.0)
GOAL_USD = {"list": 6.0, "packed": 2.1}
GOAL_SHARE = 0.2


def rows() -> list[Row]:
    """What is written for a billion readings, by codec; the whole bill of a large slow fleet."""
    prices = load(REGION)
    return [*(_writes_row(codec, prices) for codec in GOAL_USD), _whole_row(prices)]


def _bill(fleet: Fleet, prices: Prices) -> Bill:
    series = MadeUp(fleet.metrics, fleet.step_us)
    encoder = partial(encode, codec=fleet.codec)
    samples = Samples(series, encoder, sensors=fleet.sensors, metrics=fleet.metrics, step_us=fleet.step_us)
    return bill(fleet, samples, prices)


def _writes_row(codec: str, prices: Prices) -> Row:
    fleet = replace(DENSE, codec=codec)
    one = _bill(fleet, prices)
    anywhere = _bill(replace(fleet, align=False), prices)
    daily = _bill(replace(fleet, bucket_s=86_400), prices)
    usd = _per_billion(one, "")
    items = next(line for line in item_per_reading(one, prices) if line.part == PART_WRITES)
    other = timestream(fleet, sensor_id(fleet.sensors - 1), prices, prices.assumed["timestream_memory_s"])[0]
    return Row(
        figure=f"DynamoDB writes, a billion readings at 1 Hz in batches of 300 s by the clock, {codec} codec",
        value=usd,
        unit="dollars",
        against="an item per reading and Timestream LiveAnalytics, batched: in the numbers",
        goal=f"<= {GOAL_USD[codec]:g} dollars",
        met=usd <= GOAL_USD[codec],
        numbers={
            "an item per reading": items.usd / fleet.readings * BILLION,
            "Timestream's writes": other.usd / fleet.readings * BILLION,
            "chunks alone": _per_billion(one, "chunks"),
            "manifests": _per_billion(one, "manifests"),
            "their deletion": _per_billion(one, "manifests deleted, slots closed"),
            "with batches at any moment": _per_billion(anywhere, ""),
            "with buckets of a day": _per_billion(daily, ""),
            "readings per write unit": fleet.readings / one.written.write_units,
        },
    )


def _per_billion(one: Bill, what: str) -> float:
    found = [line.usd for line in one.lines if line.part == PART_WRITES and what in ("", line.what)]
    return sum(found) / one.fleet.readings * BILLION


def _whole_row(prices: Prices) -> Row:
    one = _bill(SPARSE, prices)
    short = _bill(Fleet(SPARSE.sensors, SPARSE.interval_s, metrics=3, edge_s=60.0, window_s=60.0), prices)
    last = sensor_id(SPARSE.sensors - 1)
    other = timestream(SPARSE, last, prices, prices.assumed["timestream_memory_s"])
    as_hot = timestream(SPARSE, last, prices, SPARSE.hot_s)
    share = one.steady_usd / _steady(other)
    return Row(
        figure="whole bill of 100,000 sensors, 3 values at 0.1 Hz, 60 s at the edge, 7 d hot, 5 y cold, once steady",
        value=share,
        unit="x",
        against="Timestream LiveAnalytics, memory store 12 h, 5 y magnetic; windows of 300 s here",
        goal=f"<= {GOAL_SHARE:g}x",
        met=share <= GOAL_SHARE,
        numbers={
            "dollars a month": one.steady_usd,
            "Timestream": _steady(other),
            "in the twelfth month": one.usd,
            "Timestream then": sum(line.usd for line in other),
            "share then": one.usd / sum(line.usd for line in other),
            "Timestream with 7 d in memory": _steady(as_hot),
            "with windows of 60 s": short.steady_usd,
            "an item per reading": _steady(item_per_reading(one, prices)),
        },
    )


def _steady(lines: tuple[Line, ...]) -> float:
    return sum(line.steady_usd for line in lines)
