"""What payloads are wrapped in: gzip and zstd, taken off within fixed limits, and the address a gateway adds."""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
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

ADDRESS_MAGIC = b"\xa5TCa"
"""How an addressed payload begins; no other format that is understood begins so."""
MOST_ADDRESS_BYTES = 512 * 1024
"""What of a payload an address takes along; a longer one is cut (a Kinesis record holds 1 MiB)."""
_SIZE_BYTES = 4

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


@dataclass(frozen=True, slots=True)
class Addressed:
    """A payload and the sensor that its topic named. `size_bytes` is what the payload had before
    it was cut; it equals the payload's length where it is whole."""

    sensor_id: str
    payload: bytes
    size_bytes: int


def address(sensor_id: str, payload: bytes) -> bytes:
    """A payload as a user record that says which sensor it must be of; cut where it is too long to be kept.

    For what a gateway cannot use: the batch door decodes it again, stores what is good of it
    and rejects the rest with its reason.
    """
    name = sensor_id.encode(errors="replace")
    sizes = len(name).to_bytes(_SIZE_BYTES, "big") + len(payload).to_bytes(_SIZE_BYTES, "big")
    return b"".join((ADDRESS_MAGIC, sizes, name, payload[:MOST_ADDRESS_BYTES]))


def is_addressed(data: bytes) -> bool:
    """Whether the bytes begin as an addressed payload does."""
    return data.startswith(ADDRESS_MAGIC)


def open_address(data: bytes) -> Addressed:
    """What `address` made. Raises Unopened (`unknown_format`) where the bytes are not that."""
    head = len(ADDRESS_MAGIC) + 2 * _SIZE_BYTES
    name_bytes = int.from_bytes(data[len(ADDRESS_MAGIC) : head - _SIZE_BYTES], "big")
    size_bytes = int.from_bytes(data[head - _SIZE_BYTES : head], "big")
    name, payload = data[head : head + name_bytes], data[head + name_bytes :]
    try:
        sensor_id = name.decode()
    except UnicodeDecodeError as error:
        raise Unopened("unknown_format", "the address of a payload is not UTF-8") from error
    whole = len(data) >= head and len(name) == name_bytes
    if not whole or len(payload) != min(size_bytes, MOST_ADDRESS_BYTES):
        raise Unopened("unknown_format", "the address of a payload is cut short")
    return Addressed(sensor_id, payload, size_bytes)


def is_wrapped(data: bytes) -> bool:
    """Whether the bytes begin as gzip or zstd do."""
    return data.startswith((GZIP_MAGIC, ZSTD_MAGIC))


def may_hold_wrapped(data: bytes) -> bool:
    """Whether gzip or zstd may begin anywhere in the bytes; quick, since JSON in ASCII has neither of their marks."""
    return GZIP_MAGIC[1:] in data or ZSTD_MAGIC[3:] in data


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
