"""What API Gateway and function URLs hand to serve_api: an HTTP request as an event of payload format 2.0."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qsl, urlsplit


def http_event(method: str, url: str, token: str | None = None, body: bytes | None = None) -> dict[str, Any]:
    """A request to a path with its query string ("Create AWS Lambda proxy integrations for HTTP APIs")."""
    parts = urlsplit(url)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": parts.path,
        "rawQueryString": parts.query,
        "headers": {"host": "api.example"} | ({"authorization": f"Bearer {token}"} if token else {}),
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "api",
            "http": {"method": method, "path": parts.path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            "requestId": "request-1",
            "routeKey": "$default",
            "stage": "$default",
        },
        "isBase64Encoded": body is not None,
    }
    if parts.query:
        event["queryStringParameters"] = dict(parse_qsl(parts.query))
    if body is not None:
        event["body"] = base64.b64encode(body).decode()
    return event
