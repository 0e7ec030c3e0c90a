"""What botocore raises, as the errors of this project: one table, used by every store on AWS."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

import botocore.exceptions as _exceptions

from ingest.errors import NotFound, Refused, ThermoclineError, Unavailable

_botocore: Any = cast(Any, _exceptions)

_GONE = "Check the name; if it was deleted, deploy or restore it."
_BUSY = "The service is busy or throttling; the same call may succeed later."
_DENIED = "Give the caller's role this permission and try again."
_CREDENTIALS = "Renew or correct the AWS credentials and try again."

TABLE: dict[str, tuple[type[ThermoclineError], str]] = {
    "NoSuchKey": (NotFound, _GONE),
    "NoSuchBucket": (NotFound, _GONE),
    "NoSuchUpload": (NotFound, "It is complete, was given up, or was never begun. Begin another one."),
    "NotFound": (NotFound, _GONE),
    "404": (NotFound, _GONE),
    "ResourceNotFoundException": (NotFound, _GONE),
    "ConditionalCheckFailedException": (
        Refused,
        "Somebody else changed it at the same time. Read it again and repeat.",
    ),
    "PreconditionFailed": (Refused, "Somebody else changed it at the same time. Read it again and repeat."),
    "AccessDenied": (ThermoclineError, _DENIED),
    "AccessDeniedException": (ThermoclineError, _DENIED),
    "403": (ThermoclineError, _DENIED),
    "ExpiredToken": (ThermoclineError, _CREDENTIALS),
    "ExpiredTokenException": (ThermoclineError, _CREDENTIALS),
    "UnrecognizedClientException": (ThermoclineError, _CREDENTIALS),
    "InvalidAccessKeyId": (ThermoclineError, _CREDENTIALS),
    "InvalidSignatureException": (ThermoclineError, _CREDENTIALS),
    "SignatureDoesNotMatch": (ThermoclineError, _CREDENTIALS),
    "ValidationException": (ThermoclineError, "The request itself is wrong: report this as a defect."),
}
"""By error code: the class, and what to do next. Any other code counts as Unavailable."""


def code_of(error: BaseException) -> str:
    """The service's code for an error; empty where the error is not a service's answer."""
    if not isinstance(error, _botocore.ClientError):
        return ""
    return str(cast(Any, error).response.get("Error", {}).get("Code", ""))


def is_lost_race(error: BaseException) -> bool:
    """Whether a transaction was cancelled because an item is not as it must be."""
    if code_of(error) != "TransactionCanceledException":
        return False
    reasons: list[Any] = cast(Any, error).response.get("CancellationReasons") or []
    return any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons)


@contextmanager
def translated(action: str) -> Generator[None]:
    """Run AWS calls; what botocore raises comes out as one of `ingest.errors`.

    `action` says what was tried ("Reading object x of bucket y"). Messages carry the
    service's code and never its text, which may quote what was sent.
    """
    try:
        yield
    except _botocore.ClientError as error:
        code = code_of(error)
        kind, advice = TABLE.get(code, (Unavailable, _BUSY))
        raise kind(f"{action} failed: {code}. {advice}") from error
    except (_botocore.NoCredentialsError, _botocore.PartialCredentialsError) as error:
        raise ThermoclineError(f"{action} failed: there are no AWS credentials. {_CREDENTIALS}") from error
    except _botocore.BotoCoreError as error:
        name = type(error).__name__
        raise Unavailable(f"{action} failed: {name}. The service did not answer; try again later.") from error
