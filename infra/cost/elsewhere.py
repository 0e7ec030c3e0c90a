"""The same fleet on what it would otherwise run on: an item per reading, and Timestream for LiveAnalytics."""

from __future__ import annotations

import math

from infra.cost.bill import MONTHS_A_YEAR, Bill
from infra.cost.fleet import KB, MONTH_S, Fleet
from infra.cost.lines import (
    GB,
    HOURS,
    ITEM_BYTES,
    PART_IOT,
    PART_LAMBDA,
    PART_STREAM,
    PART_TABLE,
    PART_WRITES,
    STORE_GB,
    Line,
    Lines,
)
from infra.cost.prices import Prices

PART_TIMESTREAM = "Timestream"
DIMENSION_NAME_BYTES = len("sensor_id")
MEASURE_BYTES = len("readings")
METRIC_NAME_BYTES = 10
DOUBLE_BYTES = TIME_BYTES = 8
REQUEST_RECORDS = 100
"""WriteRecords takes at most 100 records (API reference, WriteRecords)."""
ITEM_OF_READING_BYTES, METRIC_OF_READING_BYTES = 38, 12
"""An item with a 12-character sensor, an instant, one value and a ttl; each further value."""


def item_per_reading(one: Bill, prices: Prices) -> tuple[Line, ...]:
    """The same fleet with an item per reading: the same stream and batches, no archive at all."""
    fleet, lines = one.fleet, Lines(prices)
    size_bytes = ITEM_OF_READING_BYTES + METRIC_OF_READING_BYTES * (fleet.metrics - 1)
    units = fleet.readings * math.ceil(size_bytes / KB)
    lifetime_s = fleet.hot_s + prices.assumed["ttl_delay_s"]
    stored_gb = units / MONTH_S * lifetime_s * (size_bytes + ITEM_BYTES) / GB
    store_s = fleet.readings / prices.assumed["usual_readings_per_core_s"]
    stream = [line for line in one.lines if line.part in (PART_STREAM, PART_IOT)]
    return (
        *stream,
        lines.line(
            PART_WRITES, "items", "dynamodb_write", units, f"{fleet.readings:,.0f} readings, an item each"
        ),
        lines.line(
            PART_TABLE,
            "table",
            "dynamodb_gb_month",
            stored_gb,
            f"{size_bytes:,.0f} + {ITEM_BYTES} B an item, {lifetime_s / 86_400:.1f} d",
        ),
        lines.line(
            PART_LAMBDA,
            "the usual handler",
            "lambda_gb_s",
            store_s * STORE_GB,
            f"{store_s:,.0f} s x {STORE_GB:.2f} GB",
        ),
    )


def timestream(fleet: Fleet, sensor_id: str, prices: Prices, memory_s: float) -> tuple[Line, ...]:
    """The same fleet on Timestream for LiveAnalytics: writes, a memory store of `memory_s`, the magnetic store
    for the cold retention; queries and whatever writes into it are left out.

    One multi-measure record per reading. Writes are counted the cheapest way: a request per
    message, sensor and measure name being common attributes, or requests of 100 records of many sensors,
    a dimension that comes again being charged once ("Writes", "Storage", Amazon Timestream developer
    guide; "Automatic detection of repeated data", Amazon Timestream pricing).
    """
    lines = Lines(prices)
    dimension = DIMENSION_NAME_BYTES + len(sensor_id)
    values = TIME_BYTES + fleet.metrics * (METRIC_NAME_BYTES + DOUBLE_BYTES)
    event_bytes = dimension + MEASURE_BYTES + values
    alone = MEASURE_BYTES + dimension + fleet.per_message * values
    mixed = MEASURE_BYTES + REQUEST_RECORDS * (values + dimension / fleet.per_message)
    writes = min(math.ceil(alone / KB) / fleet.per_message, math.ceil(mixed / KB) / REQUEST_RECORDS)
    a_month = fleet.readings * event_bytes / GB
    cold_months = fleet.cold_s / MONTH_S
    memory_gb = a_month / MONTH_S * memory_s
    return (
        lines.line(
            PART_TIMESTREAM,
            "writes",
            "timestream_write",
            fleet.readings * writes,
            f"{fleet.readings:,.0f} readings, {1 / writes:,.1f} in a write",
        ),
        lines.line(
            PART_TIMESTREAM,
            "memory store",
            "timestream_memory_gb_hour",
            memory_gb * HOURS,
            f"{memory_gb:,.1f} GB ({event_bytes} B a reading, {memory_s / 3600:g} h) x {HOURS:g} h",
        ),
        lines.line(
            PART_TIMESTREAM,
            "magnetic store",
            "timestream_magnetic_gb_month",
            a_month * min(MONTHS_A_YEAR, cold_months),
            f"{a_month:,.1f} GB a month, kept {cold_months:,.0f} months",
            a_month * cold_months,
        ),
    )
