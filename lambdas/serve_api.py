"""The API's door on AWS: an event of API Gateway's HTTP API or of a Function URL comes in, the answer goes out."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from lambdas import _door
from lambdas.api.app import make
from lambdas.api.connect import services
from lambdas.api.doors import LambdaDoor

SERVICE = "serve_api"
_logger = _door.logger(SERVICE)


def _log(method: str, route: str, status: int, ms: float, request_id: str) -> None:
    told = {"method": method, "route": route, "status": status, "ms": round(ms, 1), "request": request_id}
    _logger.info("answered", extra=told)


def _failed(error: Exception, request_id: str) -> None:
    _logger.error("failed", extra={"request": request_id, "error": type(error).__name__}, exc_info=error)


@cache
def _api() -> LambdaDoor:
    return make(LambdaDoor(time.perf_counter, _log), services(), _failed)


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry: the answer in payload format 2.0 ("Create AWS Lambda proxy integrations for HTTP APIs")."""
    return _api().resolve(event, context)
