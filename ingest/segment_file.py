"""A segment file out of its row groups: their bytes, the footer, and the checks over all of it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from ingest.errors import Corrupt
from ingest.segment_footer import Element, Group, footer
from ingest.segment_pages import Chunk

VERSION = "1"
GROUP_CHECKS = "groups-crc32"
FOOTER_CHECK = "footer-sha256"
FOOTER_MARK = FOOTER_CHECK.encode() + b"\x18\x40"
"""What precedes the footer's digest: its name, then Thrift compact's "next field, binary" and the length
64. No name or id may hold such bytes, so it stands once in a footer ("Thrift Compact protocol encoding")."""
UNSIGNED = b"0" * 64
"""What stands in the footer where its own digest goes, while that digest is computed."""
_MAGIC = b"PAR1"
CREATED_BY = f"thermocline version 1 (parquet-cpp-arrow {pa.__version__})"
"""Some readers distrust the statistics of a file that does not say who wrote it."""


def joined(
    groups: Iterable[tuple[int, Sequence[Chunk]]], elements: Sequence[Element], known: Mapping[str, str]
) -> tuple[bytes, int]:
    """A file with these row groups (how many rows, and a chunk for each element), and its rows."""
    parts = [_MAGIC]
    stored: list[Group] = []
    checks: list[str] = []
    at = len(_MAGIC)
    for rows, chunks in groups:
        data = b"".join(chunk.data for chunk in chunks)
        stored.append(Group(rows, at, chunks))
        checks.append(f"{zlib.crc32(data):08x}")
        parts.append(data)
        at += len(data)
    total = sum(group.rows for group in stored)
    facts = {**known, "rows": str(total), GROUP_CHECKS: ",".join(checks), FOOTER_CHECK: UNSIGNED.decode()}
    parts.append(signed(footer(elements, stored, facts, CREATED_BY)))
    return b"".join(parts), total


def signed(ending: bytes) -> bytes:
    """The footer, up to the object's end, with its digest in the place kept for it; the length stays."""
    place = ending.rindex(FOOTER_MARK) + len(FOOTER_MARK)
    digest = hashlib.sha256(ending).hexdigest()
    return ending[:place] + digest.encode() + ending[place + len(digest) :]


def footer_length(tail: bytes) -> int:
    """Bytes of the footer with its length and magic, from an object's last 8 bytes. Raises Corrupt."""
    if len(tail) != 8 or tail[4:] != _MAGIC:
        raise Corrupt("The object does not end as a Parquet file does. Restore it, or remove it and reindex.")
    return int.from_bytes(tail[:4], "little") + 8
