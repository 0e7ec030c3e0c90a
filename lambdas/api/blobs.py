"""The routes of blobs: put whole, put in parts by presigned links, and found again."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from ingest import blob as blobs
from ingest import cursor
from ingest.blob import Blob
from ingest.cursor import InvalidCursor
from ingest.errors import BadInput, NotFound
from ingest.keys import US
from ingest.reading import AHEAD_US, EARLIEST_US
from ingest.times import format_time, parse_time
from ingest.write_blob import Mismatch, TooLarge, finish_upload, store_blob
from lambdas.api import params
from lambdas.api.answer import empty_answer, json_answer
from lambdas.api.auth import Guard
from lambdas.api.blob_schemas import (
    ANNOUNCED,
    BEGUN,
    DIGEST,
    FOUND,
    MEMBERS,
    NAME,
    REDIRECT,
    SHA256,
    STORED,
    TS,
    UPLOAD,
)
from lambdas.api.limits import LINK_LIFE_S
from lambdas.api.operation import Answer, Body, operation
from lambdas.api.params import SENSOR_ID
from lambdas.api.problems import Problem, problem
from lambdas.api.services import Services

UPLOAD_LIFE_S = 3600
"""For how long an upload in parts can be sent and completed."""
_UPLOAD_ROUTE = "blob-upload"
_BLOB_PATH = "/v1/sensors/<sensor_id>/blobs"


def routes(services: Services, guard: Guard) -> Router:
    """The routes under /v1/sensors/<sensor_id>/blobs."""
    router = Router()
    _put_route(router, services, guard)
    _begin_route(router, services, guard)
    _end_routes(router, services, guard)
    _find_route(router, services, guard)
    return router


def _put_route(router: Router, services: Services, guard: Guard) -> None:
    @router.put(_BLOB_PATH)
    @operation(
        "putBlob",
        tag="blobs",
        summary="Store a blob",
        text="The body is kept as an object, and a reading tells of it: the metric `name` holds its link, "
        "`name.content_type` and `name.size_bytes` the rest. Under a server the body is streamed; through Lambda it "
        "may hold some 4.5 MB, and larger ones go in parts. The same again is harmless.",
        needs="write",
        parameters=(SENSOR_ID, NAME, TS, SHA256),
        body=Body({"*/*": {}}, "The bytes; their Content-Type is kept."),
        answers={201: Answer("The object is complete and Kinesis has accepted the reading.", STORED)},
        problems=("body-too-large", "body-incomplete", "checksum-mismatch", "too-many-requests"),
    )
    def put_blob(sensor_id: str) -> Response[str]:
        event = router.current_event
        sensor_id = params.sensor_id(sensor_id)
        guard.write(sensor_id)
        name = blobs.check_name(NAME.of(event) or "")
        ts_us = _instant(TS.of(event), services.now_s())
        content_type = blobs.check_type(params.header(event, "content-type") or "")
        announced = SHA256.of(event)
        try:
            stored = store_blob(
                services.blobs,
                sensor_id,
                params.body_chunks(event),
                content_type,
                staging=blobs.staging_name(secrets.token_hex(16)),
                sha256=None if announced is None else blobs.check_sha256(announced),
            )
        except (TooLarge, Mismatch) as error:
            raise _told(error) from error
        return _tell_of(services, sensor_id, ts_us, name, stored)


def _begin_route(router: Router, services: Services, guard: Guard) -> None:
    @router.post(f"{_BLOB_PATH}/uploads")
    @operation(
        "beginBlobUpload",
        tag="blobs",
        summary="Begin to store a blob in parts",
        text=f"For blobs of up to {blobs.MOST_BLOB_BYTES} bytes. The links are for the parts' bytes and need no token. "
        "An upload that is not completed is removed by itself.",
        needs="write",
        parameters=(SENSOR_ID,),
        body=Body(
            {"application/json": ANNOUNCED},
            "What is going to be sent.",
            example={
                "name": "camera",
                "size_bytes": 20_000_000,
                "sha256": "0" * 64,
                "content_type": "image/png",
            },
        ),
        answers={201: Answer("The links of the parts.", BEGUN)},
        problems=("invalid-body", "body-too-large", "body-incomplete"),
    )
    def begin_upload(sensor_id: str) -> Response[str]:
        event = router.current_event
        sensor_id = params.sensor_id(sensor_id)
        guard.write(sensor_id)
        now_s = services.now_s()
        asked = _announced(params.body_json(event), sensor_id, now_s)
        staging = blobs.staging_name(secrets.token_hex(16))
        upload = services.blobs.begin(staging)
        sizes = blobs.part_sizes(asked["size_bytes"])
        links = services.blobs.part_links(staging, upload, len(sizes), UPLOAD_LIFE_S)
        expires_s = int(now_s) + UPLOAD_LIFE_S
        sealed = cursor.seal(_UPLOAD_ROUTE, asked, [staging, upload], services.cursor_key(), expires_s)
        parts = [
            {"number": number, "size_bytes": size_bytes, "url": url}
            for number, (size_bytes, url) in enumerate(zip(sizes, links, strict=True), 1)
        ]
        body = {
            "upload": sealed,
            "part_bytes": blobs.PART_BYTES,
            "parts": parts,
            "complete_url": f"{_path(sensor_id)}/uploads/{sealed}/complete",
            "expires": format_time(expires_s * US),
        }
        return json_answer(body, 201)


def _end_routes(router: Router, services: Services, guard: Guard) -> None:
    @router.post(f"{_BLOB_PATH}/uploads/<upload>/complete")
    @operation(
        "completeBlobUpload",
        tag="blobs",
        summary="Store the blob whose parts were sent",
        text="The bytes are read and checked against what was announced before the blob can be found. The same again "
        "is harmless.",
        needs="write",
        parameters=(SENSOR_ID, UPLOAD),
        answers={201: Answer("The object is complete and Kinesis has accepted the reading.", STORED)},
        problems=("unknown-upload", "checksum-mismatch", "too-many-requests"),
    )
    def complete_upload(sensor_id: str, upload: str) -> Response[str]:
        sensor_id = params.sensor_id(sensor_id)
        guard.write(sensor_id)
        asked, staging, upload_id = _opened(services, sensor_id, upload)
        announced = Blob(asked["sha256"], asked["size_bytes"], asked["content_type"])
        try:
            stored = finish_upload(services.blobs, sensor_id, staging, upload_id, announced)
        except Mismatch as error:
            raise _told(error) from error
        except NotFound as error:
            raise problem("unknown-upload", str(error)) from error
        return _tell_of(services, sensor_id, asked["ts_us"], asked["name"], stored)

    @router.delete(f"{_BLOB_PATH}/uploads/<upload>")
    @operation(
        "abortBlobUpload",
        tag="blobs",
        summary="Give an upload up",
        needs="write",
        parameters=(SENSOR_ID, UPLOAD),
        answers={204: Answer("Its parts are removed; a blob that was completed stays.")},
        problems=("unknown-upload",),
    )
    def abort_upload(sensor_id: str, upload: str) -> Response[str]:
        sensor_id = params.sensor_id(sensor_id)
        guard.write(sensor_id)
        _, staging, upload_id = _opened(services, sensor_id, upload)
        services.blobs.abort(staging, upload_id)
        return empty_answer()


def _find_route(router: Router, services: Services, guard: Guard) -> None:
    @router.get(f"{_BLOB_PATH}/<sha256>")
    @operation(
        "readBlob",
        tag="blobs",
        summary="A link to a blob",
        needs="read",
        parameters=(SENSOR_ID, DIGEST, REDIRECT),
        answers={
            200: Answer("The link.", FOUND),
            307: Answer("The link, with `redirect=true`.", headers={"Location": "The link."}),
        },
        problems=("unknown-blob",),
    )
    def read_blob(sensor_id: str, sha256: str) -> Response[str]:
        event = router.current_event
        sensor_id = params.sensor_id(sensor_id)
        guard.read(sensor_id)
        redirect = REDIRECT.of(event)
        digest = blobs.check_sha256(sha256)
        name = blobs.blob_name(sensor_id, digest)
        try:
            found = services.blobs.head(name)
        except NotFound as error:
            raise problem("unknown-blob", f"Sensor {sensor_id} has no blob {digest}.") from error
        url = services.presign(name, LINK_LIFE_S)
        if redirect:
            return empty_answer(307, {"Location": url})
        body = {
            "sensor_id": sensor_id,
            "sha256": digest,
            "size_bytes": found.size_bytes,
            "content_type": found.content_type,
            "url": url,
            "expires": format_time((int(services.now_s()) + LINK_LIFE_S) * US),
        }
        return json_answer(body)


# --- pieces -----------------------------------------------------------------------------


def _path(sensor_id: str) -> str:
    return f"/v1/sensors/{quote(sensor_id, safe='')}/blobs"


def _tell_of(services: Services, sensor_id: str, ts_us: int, name: str, stored: Blob) -> Response[str]:
    """Send the reading that tells of a blob; the answer once Kinesis has accepted it."""
    run = blobs.blob_run(sensor_id, ts_us, name, stored, int(services.now_s() * 1000))
    services.send([run])
    url = f"{_path(sensor_id)}/{stored.sha256}"
    body = {
        "sensor_id": sensor_id,
        "timestamp": format_time(ts_us),
        "metrics": blobs.blob_metrics(name, stored),
        "sha256": stored.sha256,
        "size_bytes": stored.size_bytes,
        "content_type": stored.content_type,
        "url": url,
    }
    return json_answer(body, 201, {"Location": url})


def _instant(given: str | None, now_s: float) -> int:
    """The instant of a blob, microseconds. Raises BadInput where no reading may have it."""
    now_us = int(now_s * US)
    ts_us = now_us if given is None else parse_time(given, now_us, "ts")
    if not EARLIEST_US <= ts_us < now_us + AHEAD_US:
        raise BadInput("ts: a reading's time lies between 2000-01-01 and 24 h from now.")
    return ts_us


def _announced(body: Mapping[str, Any], sensor_id: str, now_s: float) -> dict[str, Any]:
    """What is going to be uploaded, checked. Raises Problem, BadInput."""
    unknown = next((name for name in body if name not in MEMBERS), None)
    if unknown is not None:
        raise problem("invalid-body", f"{unknown[:60]!a} is no member of this body.", unknown[:60])
    texts = {name: body.get(name) for name in ("name", "sha256", "content_type", "ts")}
    for name, value in texts.items():
        if not isinstance(value, str) and (value is not None or name in ("name", "sha256")):
            raise problem("invalid-body", f"{name}: is needed as text.", name)
    size_bytes = body.get("size_bytes")
    if type(size_bytes) is not int:
        raise problem("invalid-body", "size_bytes: is needed as a whole number.", "size_bytes")
    return {
        "sensor_id": sensor_id,
        "name": blobs.check_name(cast(str, texts["name"])),
        "size_bytes": blobs.check_size(size_bytes),
        "sha256": blobs.check_sha256(cast(str, texts["sha256"])),
        "content_type": blobs.check_type(texts["content_type"] or ""),
        "ts_us": _instant(texts["ts"], now_s),
    }


def _opened(services: Services, sensor_id: str, upload: str) -> tuple[dict[str, Any], str, str]:
    """What was announced for an upload, the name it is staged under and its id. Raises Problem."""
    try:
        found = cursor.unseal(
            upload, _UPLOAD_ROUTE, {"sensor_id": sensor_id}, services.cursor_key(), services.now_s()
        )
    except InvalidCursor as error:
        said = "upload: it was never begun here, or has expired. Begin another one."
        raise problem("unknown-upload", said) from error
    staging, upload_id = found.at
    return found.asked, staging, upload_id


def _told(error: TooLarge | Mismatch) -> Problem:
    if isinstance(error, TooLarge):
        return problem("body-too-large", str(error), most_bytes=blobs.MOST_BLOB_BYTES)
    return problem("checksum-mismatch", str(error))
