"""Blobs (images, snapshots): object names, the reading that tells of one, and what such a reading may say."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ingest.errors import BadInput
from ingest.gather import good_metric_name
from ingest.reading import Run, Value

BLOB_PREFIX = "blobs/v1/"
"""What the names of stored blobs begin with; they are kept as long as the cold tier."""
STAGING_PREFIX = "staging/v1/"
"""What the names of objects begin with that are not checked yet; whatever stays is removed after a day."""
LINK_SCHEME = "blob:"
MOST_BLOB_BYTES = 512 * 1024 * 1024
PART_BYTES = 8 * 1024 * 1024
"""A longer blob is stored in parts of this size, the last one shorter (S3 takes parts from 5 MiB on, "Amazon
S3 multipart upload limits")."""
MOST_NAME = 51
"""Characters of a blob's name: with `.content_type` it must still name a metric."""
DEFAULT_TYPE = "application/octet-stream"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60}(?:; ?[ -~]{1,80})?")


@dataclass(frozen=True, slots=True)
class Blob:
    """What is known of a blob; `sha256` in lower-case hex."""

    sha256: str
    size_bytes: int
    content_type: str


def blob_name(sensor_id: str, sha256: str) -> str:
    """Object name of a sensor's blob: the same bytes of the same sensor are one object."""
    return f"{BLOB_PREFIX}{sensor_id}/{sha256}"


def staging_name(token: str) -> str:
    """Object name of a blob on its way; `token` is a text that nobody else has."""
    return f"{STAGING_PREFIX}{token}"


def blob_metrics(name: str, blob: Blob) -> dict[str, Value]:
    """The metrics of the reading that tells of a blob: its link, its content type and its size."""
    return {
        name: f"{LINK_SCHEME}{blob.sha256}",
        f"{name}.content_type": blob.content_type,
        f"{name}.size_bytes": blob.size_bytes,
    }


def blob_run(sensor_id: str, ts_us: int, name: str, blob: Blob, arrival_ms: int) -> Run:
    """The one reading that tells of a blob, as a run."""
    columns = {metric: [value] for metric, value in blob_metrics(name, blob).items()}
    return Run(sensor_id, [ts_us], {metric: list(column) for metric, column in columns.items()}, arrival_ms)


def sha256_of_link(value: object) -> str | None:
    """The sha256 in a metric's value; None where the value is no link to a blob."""
    if not isinstance(value, str) or not value.startswith(LINK_SCHEME):
        return None
    digest = value.removeprefix(LINK_SCHEME)
    return digest if _SHA256.fullmatch(digest) else None


def check_name(name: str) -> str:
    """The blob's name. Raises BadInput where it may not name a metric, or is too long to."""
    if len(name) > MOST_NAME or not good_metric_name(name):
        raise BadInput(
            f"name: {name[:60]!a} cannot name a blob; use at most {MOST_NAME} letters, digits and _ . -, "
            "beginning with a letter or _, such as camera."
        )
    return name


def check_sha256(text: str) -> str:
    """The digest in lower case. Raises BadInput where it is none."""
    digest = text.lower()
    if not _SHA256.fullmatch(digest):
        raise BadInput("sha256: is no SHA-256 digest; send its 64 hexadecimal digits.")
    return digest


def check_type(text: str) -> str:
    """The content type; DEFAULT_TYPE for an empty text. Raises BadInput where it is none."""
    if text and not _TYPE.fullmatch(text):
        raise BadInput("content_type: is no media type such as image/jpeg; correct it or leave it out.")
    return text or DEFAULT_TYPE


def part_sizes(size_bytes: int) -> list[int]:
    """How a blob of that size is cut into parts; one empty part where it is empty."""
    whole, rest = divmod(size_bytes, PART_BYTES)
    return [PART_BYTES] * whole + ([rest] if rest or not whole else [])


def check_size(size_bytes: int) -> int:
    """The size. Raises BadInput where it is below 1 or above MOST_BLOB_BYTES."""
    if not 1 <= size_bytes <= MOST_BLOB_BYTES:
        raise BadInput(f"size_bytes: {size_bytes} cannot be used; a blob holds 1 to {MOST_BLOB_BYTES} bytes.")
    return size_bytes
