"""Parameters, bodies and answers of the routes of blobs, as the OpenAPI document tells them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest import blob as blobs
from ingest import cursor
from lambdas.api import schemas
from lambdas.api.params import flag, in_header, in_path, text

_TIME = "RFC 3339, epoch digits, `now`, or a duration before now; now where it is left out."
NAME = text(
    "name", "The metric that is to hold the blob's link, such as camera.", required=True, most=blobs.MOST_NAME
)
TS = text("ts", f"When it was taken: {_TIME}", most=64)
SHA256 = in_header(
    "X-Content-Sha256",
    "SHA-256 of the body in hex; where it is sent the blob is only stored if it fits.",
    {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
)
DIGEST = in_path("sha256", "The blob's SHA-256 in hex.", {"type": "string", "pattern": "^[0-9a-f]{64}$"})
UPLOAD = in_path(
    "upload", "What beginning the upload answered.", {"type": "string", "maxLength": cursor.MOST_CHARACTERS}
)
REDIRECT = flag("redirect", "Answer 307 to the link instead of telling it.")

STORED = schemas.record(
    {
        "sensor_id": schemas.SENSOR_ID,
        "timestamp": schemas.TIME,
        "metrics": schemas.METRICS,
        "sha256": schemas.TEXT,
        "size_bytes": schemas.INTEGER,
        "content_type": schemas.TEXT,
        "url": {**schemas.TEXT, "description": "Where this API hands out a link to it."},
    }
)
FOUND = schemas.record(
    {
        "sensor_id": schemas.SENSOR_ID,
        "sha256": schemas.TEXT,
        "size_bytes": schemas.INTEGER,
        "content_type": schemas.TEXT,
        "url": {**schemas.TEXT, "description": "A link to the bytes that needs no token."},
        "expires": {**schemas.TIME, "description": "Until when the link can be used."},
    }
)
BEGUN = schemas.record(
    {
        "upload": {**schemas.TEXT, "description": "Names the upload when it is completed or given up."},
        "part_bytes": {**schemas.INTEGER, "description": "What every part but the last must hold."},
        "parts": schemas.array(
            schemas.record({"number": schemas.INTEGER, "size_bytes": schemas.INTEGER, "url": schemas.TEXT}),
            description="PUT each part's bytes to its link, in any order.",
        ),
        "complete_url": {**schemas.TEXT, "description": "POST here when every part is there."},
        "expires": schemas.TIME,
    }
)
_ANNOUNCED: Mapping[str, schemas.Schema] = {
    "name": {"type": "string", "maxLength": blobs.MOST_NAME, "pattern": schemas.METRIC["pattern"]},
    "size_bytes": {"type": "integer", "minimum": 1, "maximum": blobs.MOST_BLOB_BYTES},
    "sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
    "content_type": {"type": ["string", "null"], "maxLength": 200},
    "ts": {"type": ["string", "null"], "maxLength": 64, "description": _TIME},
}
MEMBERS = tuple(_ANNOUNCED)
ANNOUNCED = schemas.record(_ANNOUNCED, ("content_type", "ts"), additionalProperties=False)
EXAMPLE: Mapping[str, Any] = {
    "name": "camera",
    "size_bytes": 20_000_000,
    "sha256": "0" * 64,
    "content_type": "image/png",
}
