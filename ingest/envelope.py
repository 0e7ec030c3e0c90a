"""Compressed payloads: gzip and zstd envelopes taken off within fixed limits; nothing else is known here."""

from __future__ import annotations

import sys
import zlib
from typing import Any, Protocol, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MOST_INFLATED_BYTES = 8 * 1024 * 1024
"""What one user record may inflate to, per layer."""
MOST_LAYERS = 2
"""How many envelopes one user record may wear."""
MOST_MEMBERS = 1_000
"""How many gzip members or zstd frames may follow each other in one envelope."""

_GZIP_ONLY = 16 + zlib.MAX_WBITS


class Unopened(Exception):
    """An envelope that cannot be taken off: `reason` is a reject code, the message the detail."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class _Stream(Protocol):
    """What zlib's and zstd's decompressors have in common."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def is_wrapped(data: bytes) -> bool:
    """Whether the bytes begin as gzip or zstd do."""
    return data.startswith((GZIP_MAGIC, ZSTD_MAGIC))


def unwrap(data: bytes) -> bytes:
    """The bytes inside up to MOST_LAYERS envelopes; the same object where there is none.

    Never holds more than MOST_INFLATED_BYTES of output. Raises Unopened: `inflate_failed`
    for bytes that are not what their first bytes say, `inflate_limit` where a limit is passed.
    """
    for _ in range(MOST_LAYERS):
        if not is_wrapped(data):
            return data
        data = inflate(data, MOST_INFLATED_BYTES)
    if is_wrapped(data):
        raise Unopened("inflate_limit", f"more than {MOST_LAYERS} envelopes, one inside the other")
    return data


def inflate(data: bytes, most_bytes: int) -> bytes:
    """The content of one gzip or zstd envelope (one or more members or frames). Raises Unopened."""
    wrapping = "gzip" if data.startswith(GZIP_MAGIC) else "zstd"
    parts: list[bytes] = []
    size_bytes = 0
    while data:
        if len(parts) == MOST_MEMBERS:
            raise Unopened("inflate_limit", f"{wrapping}: more than {MOST_MEMBERS} members")
        stream = _stream(wrapping)
        try:
            part = stream.decompress(data, most_bytes - size_bytes + 1)
        except (zlib.error, zstd.ZstdError) as error:
            raise Unopened("inflate_failed", f"{wrapping}: {error}") from error
        size_bytes += len(part)
        if size_bytes > most_bytes:
            raise Unopened("inflate_limit", f"{wrapping}: inflates to more than {most_bytes} bytes")
        if not stream.eof:
            raise Unopened("inflate_failed", f"{wrapping}: the compressed bytes end too early")
        parts.append(part)
        data = stream.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _stream(wrapping: str) -> _Stream:
    if wrapping == "gzip":
        return cast(Any, zlib.decompressobj(_GZIP_ONLY))
    return cast(Any, zstd.ZstdDecompressor())
