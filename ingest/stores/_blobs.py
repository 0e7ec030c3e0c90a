"""Protocol of the store of blobs: objects put whole or in parts, in the bucket of the cold tier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ingest.blob import Blob


class BlobStore(Protocol):
    """Objects that carry their sha256 and content type. Raises Unavailable; NotFound where an object or an upload
    is gone."""

    def put(self, name: str, data: bytes, blob: Blob) -> None:
        """Store an object whole, in place of the one of that name."""
        ...

    def begin(self, name: str) -> str:
        """Begin an upload in parts; its id. Nothing is visible under the name before it is complete."""
        ...

    def put_part(self, name: str, upload: str, number: int, data: bytes) -> None:
        """Store a part, numbered from 1; the same number again replaces it."""
        ...

    def part_links(self, name: str, upload: str, count: int, seconds: int) -> Sequence[str]:
        """Links by which anybody can PUT the parts 1 to `count` for that many seconds."""
        ...

    def complete(self, name: str, upload: str) -> None:
        """Make an object of all parts, in the order of their numbers. Raises NotFound where the upload has no part
        or is over."""
        ...

    def abort(self, name: str, upload: str) -> None:
        """Forget an upload and its parts; one that is over is no error."""
        ...

    def size(self, name: str) -> int:
        """How many bytes an object has, of whatever kind."""
        ...

    def head(self, name: str) -> Blob:
        """What is known of a blob that `put` or `settle` stored."""
        ...

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of an object, some at a time."""
        ...

    def settle(self, source: str, name: str, blob: Blob) -> None:
        """Copy an object, within the store, to its name, in place of the one there."""
        ...

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        ...
