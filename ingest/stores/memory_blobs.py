"""Blobs in dictionaries: for tests, and the plainest statement of their store's contract."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ingest.blob import DEFAULT_TYPE, Blob
from ingest.errors import NotFound


class MemoryBlobStore:
    """`objects` holds what is stored, `uploads` what is on its way, by its id."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, Blob]] = {}
        self.uploads: dict[str, tuple[str, dict[int, bytes]]] = {}
        self._begun = 0

    def put(self, name: str, data: bytes, blob: Blob) -> None:
        """Store an object whole."""
        self.objects[name] = (bytes(data), blob)

    def begin(self, name: str) -> str:
        """Begin an upload in parts; its id."""
        self._begun += 1
        upload = f"upload-{self._begun}"
        self.uploads[upload] = (name, {})
        return upload

    def put_part(self, name: str, upload: str, number: int, data: bytes) -> None:
        """Store a part, numbered from 1."""
        self._parts(name, upload)[number] = bytes(data)

    def part_links(self, name: str, upload: str, count: int, seconds: int) -> Sequence[str]:
        """Texts that stand for the links."""
        self._parts(name, upload)
        return [f"memory:{name}?upload={upload}&part={n}&seconds={seconds}" for n in range(1, count + 1)]

    def complete(self, name: str, upload: str) -> None:
        """Make an object of all parts. Raises NotFound where the upload has none or is over."""
        parts = self._parts(name, upload)
        if not parts:
            raise NotFound("The upload has no part yet. Send the parts, then complete it.")
        data = b"".join(parts[number] for number in sorted(parts))
        self.objects[name] = (data, Blob("", len(data), DEFAULT_TYPE))
        del self.uploads[upload]

    def abort(self, name: str, upload: str) -> None:
        """Forget an upload and its parts; one that is over is no error."""
        del name
        self.uploads.pop(upload, None)

    def size(self, name: str) -> int:
        """How many bytes an object has."""
        return len(self._object(name)[0])

    def head(self, name: str) -> Blob:
        """What is known of a blob."""
        return self._object(name)[1]

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of an object, some at a time."""
        data = self._object(name)[0]
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    def settle(self, source: str, name: str, blob: Blob) -> None:
        """Copy an object to its name."""
        self.objects[name] = (self._object(source)[0], blob)

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        self.objects.pop(name, None)

    def _object(self, name: str) -> tuple[bytes, Blob]:
        try:
            return self.objects[name]
        except KeyError as error:
            raise NotFound(f"There is no object {name}. Check the name.") from error

    def _parts(self, name: str, upload: str) -> dict[int, bytes]:
        held = self.uploads.get(upload)
        if held is None or held[0] != name:
            raise NotFound(f"There is no upload {upload}. Begin another one.")
        return held[1]
