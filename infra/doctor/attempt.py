"""Runs one check; what keeps it from running becomes its finding, with the permission that is missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from botocore.exceptions import BotoCoreError, ClientError

from infra.doctor.finding import Finding
from infra.doctor.vitals import Vital
from ingest.errors import Corrupt, NotFound, ThermoclineError

FAULTS = (ClientError, BotoCoreError, ThermoclineError, OSError)
_DENIED = (
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "UnauthorizedOperation",
    "Forbidden",
    "403",
)
_GONE = (
    "ResourceNotFoundException",
    "NoSuchBucket",
    "NoSuchKey",
    "404",
    "NotFound",
)


def code_of(error: BaseException | None) -> str:
    """The service's code for an error or for what caused it; "" where a service did not answer."""
    if isinstance(error, ClientError):
        return str(cast(Any, error).response.get("Error", {}).get("Code", ""))
    return code_of(error.__cause__) if error is not None and error.__cause__ is not error else ""


def is_gone(error: BaseException) -> bool:
    """Whether what was asked for does not exist."""
    return isinstance(error, NotFound) or code_of(error) in _GONE


def reason_of(error: BaseException, needs: str) -> str:
    """In a few words why something could not be read; `needs` names the permission it takes."""
    if code_of(error) in _DENIED:
        return f"not allowed: {needs}"
    return f"{code_of(error) or type(error).__name__}: {error}"


def attempt(check: str, needs: str, run: Callable[[], Finding]) -> Finding:
    """What `run` finds. It never raises what a service or a store raises: a permission that is missing is a
    warning, something that is gone or damaged an error, and anything else a warning."""
    try:
        return run()
    except FAULTS as error:
        if code_of(error) in _DENIED:
            return Finding(
                check,
                "warning",
                f"could not be checked: {needs} is not allowed",
                f"Allow {needs} to whoever runs this command, or run it as somebody who may.",
            )
        if is_gone(error) or isinstance(error, Corrupt):
            advice = "" if isinstance(error, ThermoclineError) else "Deploy again, or restore it."
            return Finding(check, "error", str(error), advice or "See what it says.")
        return Finding(check, "warning", f"could not be checked: {error}", "Run the command again.")


def measured(needs: str, run: Callable[[], Vital]) -> Vital:
    """What `run` measures; unknown, with the reason, where it could not."""
    try:
        return run()
    except FAULTS as error:
        return Vital.unknown(reason_of(error, needs))
