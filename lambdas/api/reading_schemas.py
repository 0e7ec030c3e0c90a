"""JSON Schemas of answers that hold readings, and of the question POST /v1/query takes."""

from __future__ import annotations

from ingest import cursor
from lambdas.api import limits
from lambdas.api.schemas import (
    FLAG,
    INTEGER,
    METRIC,
    PAGE,
    SENSOR_ID,
    TEXT,
    TIME,
    VALUE,
    Schema,
    array,
    nullable,
    record,
    ref,
)

READING: Schema = {
    "type": "object",
    "description": "A reading, or a window beginning at `timestamp`; metrics that are absent are left out.",
    "properties": {"timestamp": TIME},
    "required": ["timestamp"],
    "additionalProperties": VALUE,
}
STRETCH = record({"from": TIME, "to": TIME, "tier": {"enum": ["hot", "cold", "both"]}})
_OF_ONE_SENSOR = {
    "sensor_id": SENSOR_ID,
    "from": TIME,
    "to": TIME,
    "metrics": {**array(TEXT), "description": "The columns that hold a value on this page."},
    "every": nullable({"type": "string", "description": "Width of the windows."}),
    "units": {"type": "object", "additionalProperties": TEXT},
    "hot_rows": {**INTEGER, "description": "Readings the hot tier gave of this page, before merging."},
    "cold_rows": {**INTEGER, "description": "Readings the cold tier gave of this page, before merging."},
    "beyond_double": {
        **array(TEXT),
        "description": "Columns with an integer that a double would round; in the answer it has every digit.",
    },
    "cost": ref("Cost"),
    "tiers": {
        **array(STRETCH, maxItems=500),
        "description": "With tiers=true: where the readings of this page came from.",
    },
    "readings": {**array(READING), "description": "With shape=rows."},
    "ts_us": {
        **array({"type": "integer"}),
        "description": "With shape=columns: microseconds since the epoch.",
    },
    "columns": {
        "type": "object",
        "additionalProperties": array(VALUE),
        "description": "With shape=columns: as long as ts_us; null is absent.",
    },
}
_SOMETIMES = ("tiers", "readings", "ts_us", "columns")
READINGS = record({**_OF_ONE_SENSOR, **PAGE}, optional=_SOMETIMES)
RESULT = record({**_OF_ONE_SENSOR, "count": INTEGER, "truncated": FLAG}, optional=_SOMETIMES)
RESULTS = record({"results": array(RESULT), **PAGE, "cost": ref("Cost")})
LATEST = record(
    {
        "sensor_id": SENSOR_ID,
        "timestamp": TIME,
        "metrics": {"type": "object", "additionalProperties": VALUE},
    }
)
_TIME_ASKED: Schema = {"type": ["string", "integer"], "maxLength": 64, "minimum": 0, "maximum": 10**19}
QUESTION: Schema = {
    "type": "object",
    "description": "Give `sensors` or `prefix`.",
    "properties": {
        "sensors": array(SENSOR_ID, minItems=1, maxItems=limits.QUERY_SENSORS_MOST),
        "prefix": {"type": "string", "maxLength": 128},
        "from": _TIME_ASKED,
        "to": _TIME_ASKED,
        "metrics": array(METRIC, maxItems=100),
        "every": {"type": "string", "maxLength": 64},
        "agg": array({"type": "string", "maxLength": 16}, maxItems=20),
        "tier": {"enum": ["auto", "hot", "cold"]},
        "limit": {"type": "integer", "minimum": 1, "maximum": limits.LIMIT_MOST},
        "order": {"enum": ["asc", "desc"]},
        "shape": {"enum": ["rows", "columns"]},
        "tiers": FLAG,
        "cursor": {"type": "string", "maxLength": cursor.MOST_CHARACTERS},
    },
    "additionalProperties": False,
}
