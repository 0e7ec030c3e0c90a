"""How an answer is put together: JSON and text bodies, and what every answer carries in its headers."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from typing import Any

import msgspec
from aws_lambda_powertools.event_handler.api_gateway import Response

JSON_TYPE = "application/json"
COMPRESS_FROM_BYTES = 1_000
_LEVEL = 2
"""Of gzip: JSON shrinks to a tenth at little more than the cost of reading it."""
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
_encoder = msgspec.json.Encoder()


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response[str]:
    """JSON, compact, as UTF-8."""
    return text_answer(_encoder.encode(body).decode(), JSON_TYPE, status, headers)


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
            response.body = gzip.compress(raw, _LEVEL, mtime=0)
            headers["Content-Encoding"] = "gzip"
            headers["Vary"] = "Accept-Encoding"
    return response


def _takes_gzip(accepts: str) -> bool:
    for word in accepts.lower().split(","):
        name, _, weight = word.strip().partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False
