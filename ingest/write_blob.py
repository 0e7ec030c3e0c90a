"""Stores a blob: whole or in parts, checked against its sha256 before anybody can find it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ingest.blob import MOST_BLOB_BYTES, PART_BYTES, Blob, blob_name
from ingest.errors import BadInput, NotFound
from ingest.stores._blobs import BlobStore


class TooLarge(BadInput):
    """There are more bytes than a blob may hold."""


class Mismatch(BadInput):
    """The bytes are not those that were announced; nothing of them is kept."""


def store_blob(
    store: BlobStore,
    sensor_id: str,
    pieces: Iterable[bytes],
    content_type: str,
    *,
    staging: str,
    sha256: str | None = None,
    most_bytes: int = MOST_BLOB_BYTES,
) -> Blob:
    """Store the pieces, in order, as a blob of the sensor; what it is. Never holds more than two parts.

    Up to PART_BYTES they are put whole. A longer blob is uploaded in parts under the object name `staging`,
    which must be nobody else's, and copied to its own name when it is complete. `sha256` is what the digest
    must be, where it is known. Whatever is raised, nothing is left behind but what the store could not be told to
    remove. Raises TooLarge, Mismatch, Unavailable.
    """
    upload = _Upload(store, staging)
    digest = hashlib.sha256()
    size_bytes = 0
    waiting = bytearray()
    try:
        for piece in pieces:
            size_bytes += len(piece)
            if size_bytes > most_bytes:
                raise TooLarge(
                    f"The blob has more than {most_bytes} bytes, which is the most that one may hold."
                )
            digest.update(piece)
            waiting += piece
            while len(waiting) > PART_BYTES:
                upload.add(bytes(memoryview(waiting)[:PART_BYTES]))
                del waiting[:PART_BYTES]
        if not size_bytes:
            raise BadInput("body: it is empty. Send the blob's bytes.")
        blob = Blob(digest.hexdigest(), size_bytes, content_type)
        _check(blob, sha256)
        if not upload.parts:
            store.put(blob_name(sensor_id, blob.sha256), bytes(waiting), blob)
        else:
            upload.add(bytes(waiting))
            upload.complete()
            store.settle(staging, blob_name(sensor_id, blob.sha256), blob)
    finally:
        upload.clear()
    return blob


class _Upload:
    """An upload in parts that is begun with its first part."""

    def __init__(self, store: BlobStore, name: str) -> None:
        self._store = store
        self._name = name
        self._id: str | None = None
        self._is_complete = False
        self.parts = 0

    def add(self, data: bytes) -> None:
        """Upload one more part."""
        if self._id is None:
            self._id = self._store.begin(self._name)
        self.parts += 1
        self._store.put_part(self._name, self._id, self.parts, data)

    def complete(self) -> None:
        """Make an object of the parts."""
        if self._id is not None:
            self._store.complete(self._name, self._id)
            self._is_complete = True

    def clear(self) -> None:
        """Remove what is left under the staging name."""
        if self._is_complete:
            self._store.delete(self._name)
        elif self._id is not None:
            self._store.abort(self._name, self._id)


def finish_upload(store: BlobStore, sensor_id: str, staging: str, upload: str, announced: Blob) -> Blob:
    """Make a blob of what was uploaded in parts by links; what it is, the same again when it is repeated.

    Every byte is read and checked before the blob has its name. Raises Mismatch, after which the upload is
    over; NotFound where the upload has no part, was given up or never begun; Unavailable.
    """
    name = blob_name(sensor_id, announced.sha256)
    try:
        store.complete(staging, upload)
    except NotFound:
        if not _exists(store, staging):
            return _stored_before(store, name, announced)
    try:
        size_bytes = store.size(staging)
        if size_bytes != announced.size_bytes:
            raise Mismatch(
                f"size_bytes: {announced.size_bytes} bytes were announced and {size_bytes} arrived. Begin again."
            )
        digest = hashlib.sha256()
        for piece in store.pieces(staging):
            digest.update(piece)
        _check(Blob(digest.hexdigest(), size_bytes, announced.content_type), announced.sha256)
    except Mismatch:
        store.delete(staging)
        raise
    store.settle(staging, name, announced)
    store.delete(staging)
    return announced


def _exists(store: BlobStore, name: str) -> bool:
    try:
        store.size(name)
    except NotFound:
        return False
    return True


def _stored_before(store: BlobStore, name: str, announced: Blob) -> Blob:
    try:
        store.size(name)
    except NotFound as error:
        raise NotFound(
            "The upload has no parts, was given up, or is over. Send its parts, or begin another one."
        ) from error
    return announced


def _check(blob: Blob, sha256: str | None) -> None:
    if sha256 is not None and blob.sha256 != sha256:
        raise Mismatch(
            f"sha256: {sha256} was announced, and what arrived has {blob.sha256}. Nothing was kept; send it again."
        )
