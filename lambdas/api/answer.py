"""How an answer is put together: JSON and text bodies, and what every answer carries in its headers."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from aws_lambda_powertools.event_handler.api_gateway import Response

JSON_TYPE = "application/json"
COMPRESS_FROM_BYTES = 1_000
_LEVEL = 2
"""Of gzip: JSON shrinks to a tenth at little more than the cost of reading it."""
_LEVEL_OF_PAGES = 9
"""What a browser keeps is worth a few milliseconds more: the dashboard is an eighth smaller."""
_PAGES = "no-cache"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_encoder = msgspec.json.Encoder()


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[str]:
    """JSON, compact, as UTF-8."""
    try:
        encoded = _encoder.encode(body)
    except (
        UnicodeEncodeError
    ):  # a body may name what is wrong by halves of characters, as `\\ud800` in JSON does
        encoded = _encoder.encode(_sendable(body))
    return text_answer(encoded.decode(), JSON_TYPE, status, headers)


def _sendable(body: Any) -> Any:
    """The same with halves of characters, which no encoding has, as escapes."""
    if isinstance(body, str):
        return body.encode(errors="backslashreplace").decode()
    if isinstance(body, dict):
        members = cast("dict[Any, Any]", body)
        return {_sendable(name): _sendable(value) for name, value in members.items()}
    if isinstance(body, list | tuple):
        return [_sendable(one) for one in cast("list[Any]", body)]
    return body


def text_answer(
    body: str, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[str]:
    """Text of a media type."""
    return Response(status_code=status, content_type=content_type, body=body, headers=dict(headers or {}))


def bytes_answer(
    body: bytes, content_type: str, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Bytes of a media type."""
    return Response(status_code=status, content_type=content_type, body=body, headers=dict(headers or {}))


def empty_answer(status: int = 204, headers: Mapping[str, str] | None = None) -> Response[str]:
    """No body."""
    return Response(status_code=status, content_type=None, body="", headers=dict(headers or {}))


def finish(response: Response[Any], request_id: str, accepts: str) -> Response[Any]:
    """The answer with what every answer carries, compressed where the caller takes gzip and it is worth it."""
    headers = response.headers
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Request-Id"] = request_id
    if "Content-Encoding" not in headers and _takes_gzip(accepts):
        body = response.body
        raw = body.encode() if isinstance(body, str) else body
        if isinstance(raw, bytes) and len(raw) >= COMPRESS_FROM_BYTES:
            level = _LEVEL_OF_PAGES if headers["Cache-Control"] == _PAGES else _LEVEL
            response.body = gzip.compress(raw, level, mtime=0)
            headers["Content-Encoding"] = "gzip"
            headers["Vary"] = "Accept-Encoding"
    return response


def _takes_gzip(accepts: str) -> bool:
    for word in accepts.lower().split(","):
        name, _, weight = word.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
