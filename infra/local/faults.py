"""What a call to a service may raise, under one name each."""

from __future__ import annotations

from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

SERVICE_FAULTS = (BotoCoreError, ClientError, ResponseParserError)
"""A service refused, was not reached, or answered with something that is no answer."""


def error_code(error: Exception) -> str:
    """The service's own name for what went wrong; "" where it gave none."""
    if not isinstance(error, ClientError):
        return ""
    response: dict[str, Any] = cast(Any, error).response
    return str(response.get("Error", {}).get("Code", ""))
