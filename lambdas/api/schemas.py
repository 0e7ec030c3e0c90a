"""JSON Schemas of what the API answers with and takes; the OpenAPI document refers to them by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.reading import METRIC_PATTERN, SENSOR_ID_PATTERN
from ingest.sensor import (
    MOST_LABEL_CHARACTERS,
    MOST_LABELS,
    MOST_NAME_CHARACTERS,
    MOST_UNIT_CHARACTERS,
    MOST_UNITS,
    RANGES,
)

Schema = Mapping[str, Any]

INTEGER: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number", "minimum": 0}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
TIME: Schema = {"type": "string", "format": "date-time", "examples": ["2013-12-02T21:15:00.25Z"]}
SENSOR_ID: Schema = {"type": "string", "pattern": f"^{SENSOR_ID_PATTERN}$", "examples": ["site1/hall-2:temp"]}
METRIC: Schema = {"type": "string", "pattern": f"^{METRIC_PATTERN}$"}
VALUE: Schema = {"type": ["number", "boolean", "string", "null"]}
_LABEL_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]{0,63}$"}


def ref(name: str) -> Schema:
    """A reference to a schema of COMPONENTS."""
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema, **more: Any) -> Schema:
    """A list of one kind of thing."""
    return {"type": "array", "items": items, **more}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    if isinstance(schema.get("type"), str):
        return {**schema, "type": [schema["type"], "null"]}
    return {"anyOf": [schema, {"type": "null"}]}


def record(properties: Mapping[str, Schema], optional: tuple[str, ...] = (), **more: Any) -> Schema:
    """An object with these members, all of them but the optional ones always there."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required, **more}


def texts(most: int, characters: int, names: Schema) -> Schema:
    """An object of texts by name."""
    return {
        "type": "object",
        "maxProperties": most,
        "propertyNames": names,
        "additionalProperties": {"type": "string", "maxLength": characters},
    }


METRICS: Schema = {
    "type": "object",
    "additionalProperties": VALUE,
    "examples": [{"temperature": 21.4, "open": False}],
}
PAGE: Mapping[str, Schema] = {
    "count": {"type": "integer", "minimum": 0, "description": "Entries on this page."},
    "truncated": {"type": "boolean", "description": "Whether there are more."},
    "next": {"type": ["string", "null"], "description": "The cursor to go on with."},
    "next_url": {"type": ["string", "null"], "description": "The same request with that cursor, relative."},
}
"""Members of every list and page."""
COST = record(
    {
        "items": {**INTEGER, "description": "Items read from the table."},
        "read_units": {**NUMBER, "description": "DynamoDB read units these took."},
        "objects": {**INTEGER, "description": "Segments read."},
        "requests": {**INTEGER, "description": "Calls of DynamoDB and S3."},
        "bytes": {**INTEGER, "description": "Bytes these answered with."},
        "ms": {**NUMBER, "description": "Milliseconds."},
    }
)
_PLACE: Schema = {
    "type": "object",
    "properties": {
        name: {"type": "number", "minimum": low, "maximum": high} for name, (low, high) in RANGES.items()
    },
    "propertyNames": _LABEL_NAME,
    "additionalProperties": {"type": ["string", "number"]},
    "dependentRequired": {"lat": ["lon"], "lon": ["lat"]},
}
_CHANGEABLE: Mapping[str, Schema] = {
    "name": {"type": "string", "maxLength": MOST_NAME_CHARACTERS},
    "labels": texts(MOST_LABELS, MOST_LABEL_CHARACTERS, _LABEL_NAME),
    "place": _PLACE,
    "units": texts(MOST_UNITS, MOST_UNIT_CHARACTERS, METRIC),
}
_VERSION: Schema = {"type": "integer", "minimum": 1}
SENSOR = record({"sensor_id": SENSOR_ID, **_CHANGEABLE, "version": _VERSION, "first_seen": TIME})
SENSOR_CHANGED = record(
    SENSOR["properties"],
    optional=tuple(name for name in SENSOR["properties"] if name not in ("sensor_id", "version")),
)
LATEST = record({"sensor_id": SENSOR_ID, "timestamp": TIME, "metrics": METRICS})
LISTED_SENSOR = record(
    {
        **SENSOR["properties"],
        "latest": nullable(record({"timestamp": TIME, "metrics": METRICS})),
    },
    optional=("latest",),
)
SENSOR_LIST = record({"sensors": array(ref("ListedSensor")), **PAGE})
SENSOR_DOCUMENT: Schema = {
    "type": "object",
    "properties": {**_CHANGEABLE, "version": _VERSION},
    "additionalProperties": False,
}
SENSOR_PATCH: Schema = {
    "type": "object",
    "properties": {
        **{name: nullable(schema) for name, schema in _CHANGEABLE.items()},
        **{
            name: {
                **_CHANGEABLE[name],
                "type": ["object", "null"],
                "additionalProperties": nullable(_CHANGEABLE[name]["additionalProperties"]),
            }
            for name in ("labels", "units")
        },
        "place": {
            **_PLACE,
            "type": ["object", "null"],
            "properties": {name: nullable(schema) for name, schema in _PLACE["properties"].items()},
            "additionalProperties": {"type": ["string", "number", "null"]},
        },
        "version": _VERSION,
    },
    "additionalProperties": False,
}
SENSOR_DELETED = record(
    {
        "sensor_id": SENSOR_ID,
        "deleted": FLAG,
        "remains": record({"hot_items": INTEGER, "segments": INTEGER, "note": TEXT}),
    }
)
SEGMENT = record(
    {
        "id": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\d\.[A-Za-z0-9_-]+$"},
        "name": TEXT,
        "date": {"type": "string", "format": "date"},
        "size_bytes": INTEGER,
        "rows": INTEGER,
        "from": TIME,
        "to": {**TIME, "description": "The last reading's time, included."},
        "first_sensor": nullable(TEXT),
        "last_sensor": nullable(TEXT),
        "uploaded": TIME,
        "sha256": TEXT,
    }
)
TOTALS = record({"segments": INTEGER, "size_bytes": INTEGER, "rows": INTEGER})
SEGMENT_LIST = record(
    {
        "segments": array(ref("Segment")),
        **PAGE,
        "totals": TOTALS,
        "prefix_bytes": {**INTEGER, "description": "Bytes of the rows of the sensors asked for."},
        "estimated": {**FLAG, "description": "Whether `prefix_bytes` is shared out from row groups by rows."},
    },
    optional=("prefix_bytes", "estimated"),
)
DAY = record(
    {
        "date": {"type": "string", "format": "date"},
        "segments": INTEGER,
        "rows": INTEGER,
        "size_bytes": INTEGER,
    }
)
DAY_LIST = record({"days": array(DAY), "count": INTEGER, "totals": TOTALS})
LINK = record(
    {
        "url": {"type": "string", "format": "uri"},
        "expires": TIME,
        "size_bytes": INTEGER,
        "sha256": TEXT,
    }
)
LISTED_REJECT = record(
    {
        "id": TEXT,
        "reason": TEXT,
        "detail": TEXT,
        "sensor_id": nullable(TEXT),
        "count": INTEGER,
        "arrived": TIME,
        "sha256": TEXT,
        "size_bytes": INTEGER,
    }
)
REJECT_LIST = record({"rejects": array(ref("ListedReject")), **PAGE})
REJECT = record(
    {
        **LISTED_REJECT["properties"],
        "next_step": TEXT,
        "payload_base64": TEXT,
        "payload_text": nullable(TEXT),
    },
    optional=("payload_base64", "payload_text"),
)
_UNKNOWN_NUMBER = nullable({"type": "number"})
COUNTED = ("readings", "chunks", "write_units", "readings_per_write_unit", "rejects")
STATUS = record(
    {
        "now": TIME,
        "layout": record(
            dict.fromkeys(("bucket_s", "archive_after_s", "hot_retention_s", "cold_retention_s"), INTEGER)
        ),
        "manifests_due": INTEGER,
        "oldest_due_s": nullable(INTEGER),
        "segments": INTEGER,
        "segment_rows": INTEGER,
        "segment_bytes": INTEGER,
        "counters": nullable(
            record(
                {
                    **dict.fromkeys(COUNTED, _UNKNOWN_NUMBER),
                    "since": nullable(TIME),
                }
            )
        ),
        "estimated_month_usd": nullable(
            record(
                {
                    "write_units": nullable(NUMBER),
                    "basis": {**TEXT, "description": "How it was reckoned, or why it is null."},
                }
            )
        ),
        "health": {"type": ["object", "null"]},
    }
)
HEALTH = record({"name": TEXT, "status": {"const": "ok"}, "message": TEXT})
PROBLEM: Schema = {
    "type": "object",
    "description": "Problem details (RFC 9457).",
    "properties": {
        "type": {"type": "string", "description": "Where /docs describes the code."},
        "title": TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong, why, and what to do next."},
        "instance": {"type": "string", "description": "The request's path."},
        "errors": array(record({"field": TEXT, "detail": TEXT})),
        "request_id": TEXT,
    },
    "required": ["type", "title", "status", "detail", "instance", "errors", "request_id"],
    "additionalProperties": True,
}

COMPONENTS: Mapping[str, Schema] = {
    "Problem": PROBLEM,
    "Cost": COST,
    "Sensor": SENSOR,
    "ListedSensor": LISTED_SENSOR,
    "Segment": SEGMENT,
    "ListedReject": LISTED_REJECT,
    "InfluxError": record({"code": TEXT, "message": TEXT}, additionalProperties=True),
}
"""Schemas that have a name of their own in the document."""
