"""Blobs through the API: what is stored, told and found, in one piece or in parts, and what is left behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from ingest import blob
from ingest.blob import PART_BYTES, Blob, blob_metrics, blob_name, part_sizes, sha256_of_link
from ingest.errors import BadInput, Unavailable
from ingest.reading import is_metric_name
from ingest.stores.memory_blobs import MemoryBlobStore
from ingest.write_blob import Mismatch, TooLarge, store_blob
from tests.api_world import Answered, Api, sensor_path
from tests.world import NOW_S, NOW_US

SENSOR = "site1/cam:2"
BLOBS = sensor_path(SENSOR, "/blobs")
SMALL = b"\x89PNG" + bytes(range(256))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def large(size_bytes: int = 2 * PART_BYTES + 5) -> bytes:
    return hashlib.shake_128(b"picture").digest(size_bytes)


def pieces(data: bytes, size: int = 100_000) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.fixture
def api() -> Api:
    return Api()


def put(api: Api, body: Any, query: str = "name=camera", **named: str) -> Answered:
    return api.call("PUT", BLOBS, body, query=query, content_type="image/png", **named)


# --- in one piece ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data", [SMALL, large(PART_BYTES), large()], ids=["small", "one part", "three parts"]
)
def test_a_blob_is_stored_told_and_found(api: Api, data: bytes) -> None:
    answer = put(api, pieces(data), "name=camera&ts=2026-11-20T21:00:00.25Z")
    digest = sha256(data)
    metrics = {"camera": f"blob:{digest}", "camera.content_type": "image/png", "camera.size_bytes": len(data)}
    assert answer.status == 201
    assert answer.json == {
        "sensor_id": SENSOR,
        "timestamp": "2026-11-20T21:00:00.25Z",
        "metrics": metrics,
        "sha256": digest,
        "size_bytes": len(data),
        "content_type": "image/png",
        "url": f"{BLOBS}/{digest}",
    }
    (run,) = api.sent
    assert (run.sensor_id, run.ts_us) == (SENSOR, [NOW_US - 3600 * 10**6 + 250_000])
    assert run.metrics == {name: [value] for name, value in metrics.items()}
    assert api.blobs.objects == {blob_name(SENSOR, digest): (data, Blob(digest, len(data), "image/png"))}
    assert not api.blobs.uploads
    found = api.call("GET", answer.json["url"])
    assert (found.status, found.json["sha256"], found.json["size_bytes"]) == (200, digest, len(data))
    assert blob_name(SENSOR, digest) in found.json["url"]
    away = api.call("GET", answer.json["url"], query="redirect=true")
    assert (away.status, away.headers["Location"]) == (307, found.json["url"])


def test_the_same_again_is_harmless(api: Api) -> None:
    first, second = put(api, SMALL), put(api, SMALL)
    assert first.json == second.json
    assert len(api.blobs.objects) == 1


def test_a_body_that_breaks_off_leaves_nothing(api: Api) -> None:
    def broken() -> Iterator[bytes]:
        yield large()
        raise ConnectionError("gone")

    assert put(api, broken()).status == 500
    assert not api.blobs.objects
    assert not api.blobs.uploads
    assert not api.sent


@pytest.mark.parametrize("data", [SMALL, large()], ids=["whole", "parts"])
def test_bytes_that_are_not_those_announced_leave_nothing(api: Api, data: bytes) -> None:
    answer = put(api, pieces(data), x_content_sha256=sha256(b"other"))
    assert (answer.status, answer.json["type"]) == (422, "/docs#problem-checksum-mismatch")
    assert not api.blobs.objects
    assert not api.blobs.uploads
    assert not api.sent
    assert put(api, pieces(data), x_content_sha256=sha256(data).upper()).status == 201


def test_the_reading_is_not_sent_before_the_object_is_there_and_503_says_try_again(api: Api) -> None:
    api.refusal = Unavailable("the stream is away")
    assert put(api, SMALL).status == 503
    api.refusal = None
    assert put(api, SMALL).status == 201
    assert len(api.sent) == 1


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("", "name"),
        ("name=", "name"),
        ("name=9", "name"),
        (f"name={'x' * 52}", "name"),
        ("name=a&ts=soon", "ts"),
        ("name=a&ts=1999-01-01", "ts"),
        ("name=a&ts=2026-11-22", "ts"),
        ("name=a&nmae=b", "nmae"),
    ],
)
def test_a_request_that_cannot_be_used_names_the_field(api: Api, query: str, field: str) -> None:
    answer = put(api, SMALL, query)
    assert answer.status == 422
    assert answer.json["errors"][0]["field"] == field
    assert not api.blobs.objects


def test_an_empty_body_and_a_strange_type_are_refused(api: Api) -> None:
    assert put(api, b"").status == 422
    answer = api.call("PUT", BLOBS, SMALL, query="name=a", content_type="<script>")
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, "content_type")
    assert api.call("PUT", BLOBS, SMALL, query="name=a").json["content_type"] == blob.DEFAULT_TYPE


def test_scopes_hold_for_every_route_of_blobs(api: Api) -> None:
    stored = put(api, SMALL).json
    api.sent.clear()
    stranger = api.token("write:site2/", "read:site2/")
    reader = api.token("read:site1/")
    begun = begin(api, SMALL).json
    abort = f"{BLOBS}/uploads/{begun['upload']}"
    announced = json.dumps(announcement(SMALL))
    calls = [
        ("PUT", BLOBS, SMALL, "name=a"),
        ("POST", f"{BLOBS}/uploads", announced.encode(), ""),
        ("POST", begun["complete_url"], b"", ""),
        ("DELETE", abort, b"", ""),
    ]
    for method, path, body, query in calls:
        assert [
            api.call(method, path, body, query=query, token=who).status for who in (stranger, reader, "")
        ] == [
            403,
            403,
            401,
        ]
    assert [api.call("GET", stored["url"], token=who).status for who in (stranger, reader, "")] == [
        403,
        200,
        401,
    ]
    assert not api.sent
    assert len(api.blobs.uploads) == 1


# --- in parts -------------------------------------------------------------------------------


def announcement(data: bytes, **more: Any) -> dict[str, Any]:
    return {
        "name": "camera",
        "size_bytes": len(data),
        "sha256": sha256(data),
        "content_type": "image/png",
        **more,
    }


def begin(api: Api, data: bytes, **more: Any) -> Answered:
    return api.call("POST", f"{BLOBS}/uploads", json.dumps(announcement(data, **more)))


def upload_parts(api: Api, begun: dict[str, Any], data: bytes) -> None:
    ((upload, (name, _)),) = api.blobs.uploads.items()
    start = 0
    for part in begun["parts"]:
        api.blobs.put_part(name, upload, part["number"], data[start : start + part["size_bytes"]])
        start += part["size_bytes"]


def test_a_blob_in_parts_is_stored_once_it_is_complete(api: Api) -> None:
    data = large()
    answer = begin(api, data, ts=str(NOW_S - 60))
    assert answer.status == 201
    assert [part["size_bytes"] for part in answer.json["parts"]] == [PART_BYTES, PART_BYTES, 5]
    upload_parts(api, answer.json, data)
    assert not api.sent
    assert api.call("GET", f"{BLOBS}/{sha256(data)}").status == 404
    done = api.call("POST", answer.json["complete_url"])
    assert done.status == 201
    assert done.json["timestamp"] == "2026-11-20T21:59:00Z"
    assert api.blobs.objects == {
        blob_name(SENSOR, sha256(data)): (data, Blob(sha256(data), len(data), "image/png"))
    }
    again = api.call("POST", answer.json["complete_url"])
    assert (again.status, again.json) == (201, done.json)
    assert api.sent[0] == api.sent[1]


@pytest.mark.parametrize("wrong", [large()[:-1], large()[:-1] + b"?"], ids=["size", "bytes"])
def test_parts_that_are_not_those_announced_are_removed(api: Api, wrong: bytes) -> None:
    begun = begin(api, large()).json
    upload_parts(api, begun, wrong)
    assert api.call("POST", begun["complete_url"]).status == 422
    assert not api.blobs.objects
    assert not api.blobs.uploads
    assert not api.sent
    assert api.call("POST", begun["complete_url"]).status == 404


def test_an_upload_that_is_given_up_is_gone(api: Api) -> None:
    begun = begin(api, SMALL).json
    assert api.call("POST", begun["complete_url"]).status == 404  # no part yet
    path = f"{BLOBS}/uploads/{begun['upload']}"
    assert [api.call("DELETE", path).status for _ in range(2)] == [204, 204]
    assert not api.blobs.uploads
    assert api.call("POST", begun["complete_url"]).status == 404


def test_an_upload_is_bound_to_its_sensor_and_lasts_an_hour(api: Api) -> None:
    begun = begin(api, SMALL).json
    upload_parts(api, begun, SMALL)
    other = sensor_path("site1/other", f"/blobs/uploads/{begun['upload']}/complete")
    forged = f"{BLOBS}/uploads/{begun['upload'][:-2]}AA/complete"
    assert [api.call("POST", path).status for path in (other, forged, f"{BLOBS}/uploads/x/complete")] == [
        404
    ] * 3
    api.world.now_s += 3601
    assert api.call("POST", begun["complete_url"]).status == 404
    assert not api.sent


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": blob.MOST_BLOB_BYTES + 1}, "size_bytes"),
        ({"size_bytes": "7"}, "size_bytes"),
        ({"size_bytes": True}, "size_bytes"),
        ({"sha256": "x"}, "sha256"),
        ({"sha256": None}, "sha256"),
        ({"name": "a b"}, "name"),
        ({"content_type": 5}, "content_type"),
        ({"ts": "soon"}, "ts"),
        ({"colour": 1}, "colour"),
    ],
)
def test_an_announcement_that_cannot_be_used_names_the_field(
    api: Api, change: dict[str, Any], field: str
) -> None:
    answer = begin(api, SMALL, **change)
    assert (answer.status, answer.json["errors"][0]["field"]) == (422, field)
    assert not api.blobs.uploads


# --- without the API --------------------------------------------------------------------------


def test_a_blob_is_never_held_whole() -> None:
    """What waits between two parts, and the parts themselves, are at most one part and one piece long."""
    longest: list[int] = []

    class Watching(MemoryBlobStore):
        def put_part(self, name: str, upload: str, number: int, data: bytes) -> None:
            longest.append(len(data))
            super().put_part(name, upload, number, b"")

        def complete(self, name: str, upload: str) -> None:
            del self.uploads[upload]

        def settle(self, source: str, name: str, blob: Blob) -> None:
            del source
            self.objects[name] = (b"", blob)

    store = Watching()
    block = bytes(1_000_000)
    stored = store_blob(store, "s", (block for _ in range(100)), "a/b", staging="x")
    assert stored.size_bytes == 100_000_000
    assert longest[:-1] == [PART_BYTES] * (len(longest) - 1)
    assert longest[-1] <= PART_BYTES


def test_more_bytes_than_a_blob_may_hold() -> None:
    store = MemoryBlobStore()
    endless = (bytes(1_000_000) for _ in range(10**9))
    with pytest.raises(TooLarge):
        store_blob(store, "s", endless, "a/b", staging="x", most_bytes=20_000_000)
    assert not store.objects
    assert not store.uploads


def test_names_and_metrics() -> None:
    longest = "n" * blob.MOST_NAME
    assert all(map(is_metric_name, blob_metrics(longest, Blob("0" * 64, 1, "a/b"))))
    assert sha256_of_link(blob_metrics("n", Blob("0" * 64, 1, "a/b"))["n"]) == "0" * 64
    assert [sha256_of_link(value) for value in ("blob:", "blob:xyz", 5, None, "0" * 64)] == [None] * 5
    assert [sum(part_sizes(size)) for size in (1, PART_BYTES, PART_BYTES + 1)] == [
        1,
        PART_BYTES,
        PART_BYTES + 1,
    ]
    with pytest.raises(BadInput):
        blob.check_name("a b")
    assert issubclass(Mismatch, BadInput)
