"""One suite for the store of blobs, run on memory and on AWS's interface (the emulator)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from urllib.request import Request, urlopen

import pytest

from ingest.blob import PART_BYTES, Blob, blob_name, staging_name
from ingest.errors import NotFound, Unavailable
from ingest.stores.blobs import BlobStore, S3BlobStore
from ingest.stores.memory_blobs import MemoryBlobStore
from ingest.write_blob import Mismatch, finish_upload, store_blob

SENSOR = "site1/cam:2"
DATA = hashlib.shake_128(b"picture").digest(PART_BYTES + 1000)
BLOB = Blob(hashlib.sha256(DATA).hexdigest(), len(DATA), "image/png; q=1")
NAME = blob_name(SENSOR, BLOB.sha256)
STAGING = staging_name("abc")


@pytest.fixture(params=["memory", "emulator"])
def store(request: pytest.FixtureRequest) -> BlobStore:
    if request.param == "memory":
        return MemoryBlobStore()
    client = request.getfixturevalue("emulator_client")("s3")
    return S3BlobStore(client, request.getfixturevalue("bucket_name"))


def held(store: BlobStore, name: str) -> bytes:
    return b"".join(store.pieces(name))


def test_an_object_is_put_whole_and_carries_what_it_is(store: BlobStore) -> None:
    store.put(NAME, b"one", Blob("0" * 64, 3, "a/b"))
    store.put(NAME, DATA, BLOB)
    assert (store.head(NAME), store.size(NAME), held(store, NAME)) == (BLOB, len(DATA), DATA)
    for _ in range(2):
        store.delete(NAME)
    for look in (store.head, store.size, lambda name: list(store.pieces(name))):
        with pytest.raises(NotFound):
            look(NAME)


def test_parts_are_nothing_before_they_are_complete(store: BlobStore) -> None:
    upload = store.begin(STAGING)
    with pytest.raises(NotFound):
        store.complete(STAGING, upload)
    store.put_part(STAGING, upload, 2, DATA[PART_BYTES:])
    store.put_part(STAGING, upload, 1, b"x" * PART_BYTES)
    store.put_part(STAGING, upload, 1, DATA[:PART_BYTES])
    with pytest.raises(NotFound):
        store.size(STAGING)
    store.complete(STAGING, upload)
    assert held(store, STAGING) == DATA
    store.settle(STAGING, NAME, BLOB)
    assert (store.head(NAME), held(store, NAME)) == (BLOB, DATA)
    with pytest.raises(NotFound):
        store.complete(STAGING, upload)
    store.abort(STAGING, upload)
    assert held(store, STAGING) == DATA


def test_an_upload_that_is_given_up_is_over(store: BlobStore) -> None:
    upload = store.begin(STAGING)
    store.put_part(STAGING, upload, 1, b"x")
    for _ in range(2):
        store.abort(STAGING, upload)
    with pytest.raises(NotFound):
        store.complete(STAGING, upload)
    with pytest.raises(NotFound):
        store.put_part(STAGING, upload, 1, b"x")


def test_a_long_blob_is_streamed_and_leaves_no_staging_behind(store: BlobStore) -> None:
    pieces = (DATA[start : start + 100_000] for start in range(0, len(DATA), 100_000))
    assert store_blob(store, SENSOR, pieces, BLOB.content_type, staging=STAGING) == BLOB
    assert (store.head(NAME), held(store, NAME)) == (BLOB, DATA)
    with pytest.raises(NotFound):
        store.size(STAGING)


def test_a_stream_that_breaks_off_leaves_nothing(store: BlobStore) -> None:
    def broken() -> Iterator[bytes]:
        yield DATA
        raise Unavailable("gone")

    with pytest.raises(Unavailable, match="gone"):
        store_blob(store, SENSOR, broken(), BLOB.content_type, staging=STAGING)
    for name in (NAME, STAGING):
        with pytest.raises(NotFound):
            store.size(name)


def test_an_upload_is_finished_once_however_often_it_is_asked(store: BlobStore) -> None:
    upload = store.begin(STAGING)
    with pytest.raises(NotFound, match="no parts"):
        finish_upload(store, SENSOR, STAGING, upload, BLOB)
    store.put_part(STAGING, upload, 1, DATA[:PART_BYTES])
    store.put_part(STAGING, upload, 2, DATA[PART_BYTES:])
    for _ in range(2):
        assert finish_upload(store, SENSOR, STAGING, upload, BLOB) == BLOB
    assert (store.head(NAME), held(store, NAME)) == (BLOB, DATA)


def test_an_upload_goes_on_where_its_completion_broke_off(store: BlobStore) -> None:
    upload = store.begin(STAGING)
    store.put_part(STAGING, upload, 1, DATA)
    store.complete(STAGING, upload)
    assert finish_upload(store, SENSOR, STAGING, upload, BLOB) == BLOB
    assert held(store, NAME) == DATA


def test_an_upload_of_other_bytes_is_removed(store: BlobStore) -> None:
    upload = store.begin(STAGING)
    store.put_part(STAGING, upload, 1, DATA[:-1] + b"?")
    with pytest.raises(Mismatch):
        finish_upload(store, SENSOR, STAGING, upload, BLOB)
    with pytest.raises(NotFound):
        finish_upload(store, SENSOR, STAGING, upload, BLOB)


def test_parts_are_put_by_links_that_need_no_credentials(
    emulator_client: Callable[[str], Any], bucket_name: str
) -> None:
    client = emulator_client("s3")
    store = S3BlobStore(client, bucket_name)
    upload = store.begin(STAGING)
    links = store.part_links(STAGING, upload, 2, 600)
    for link, data in zip(links, (DATA[:PART_BYTES], DATA[PART_BYTES:]), strict=True):
        assert "X-Amz-Signature" in link
        with urlopen(Request(link, data=data, method="PUT"), timeout=30) as answer:
            assert answer.status == 200
    assert finish_upload(store, SENSOR, STAGING, upload, BLOB) == BLOB
    assert held(store, NAME) == DATA
