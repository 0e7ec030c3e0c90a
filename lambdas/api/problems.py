"""Problem details (RFC 9457): every code an answer can carry, and how an error becomes an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.cursor import InvalidCursor
from ingest.errors import BadInput, Corrupt, NotFound, Refused, ThermoclineError, Throttled, Unavailable

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
"""What an answer of 503 asks a caller to wait."""

PROBLEMS: dict[str, tuple[int, str, str]] = {
    "invalid-body": (
        422,
        "The body cannot be used",
        "Send what the route's schema says; `errors` names the field.",
    ),
    "invalid-parameter": (422, "A parameter cannot be used", "`errors` names it and says what is allowed."),
    "missing-parameter": (422, "A parameter is missing", "Add the parameter that `errors` names."),
    "unknown-parameter": (422, "There is no such parameter", "Correct its name; nothing was done."),
    "invalid-cursor": (
        400,
        "The cursor cannot be used",
        "It was altered, has expired (24 h), or belongs to another query. Ask again without a cursor.",
    ),
    "range-too-long": (
        422,
        "The range is too long",
        "Ask for a shorter range, or several; the answer says how long.",
    ),
    "too-many-windows": (422, "Too many windows", "Choose a wider `every` or a shorter range."),
    "too-many-sensors": (422, "Too many sensors", "Ask for fewer sensors at once."),
    "all-rejected": (422, "Nothing could be stored", "`rejected` gives the reasons; correct the sender."),
    "body-too-large": (
        413,
        "The body is too large",
        "Send less at once; the answer says how much is allowed.",
    ),
    "bad-lines": (400, "Lines cannot be used", "The message names the first one; what is good was stored."),
    "too-many-requests": (
        429,
        "The stream is throttled",
        "Wait as `Retry-After` says and repeat the request.",
    ),
    "body-incomplete": (400, "The body did not arrive", "Send the request again."),
    "unsupported-encoding": (415, "Unknown Content-Encoding", "Use gzip, zstd or identity."),
    "unauthorized": (
        401,
        "A valid token is needed",
        "Send `Authorization: Bearer <token>`; `thermocline token new` makes one.",
    ),
    "forbidden": (403, "The token does not cover this", "Use a token with the scope that the answer names."),
    "unknown-route": (404, "There is no such route", "Compare the path with /docs."),
    "unknown-sensor": (404, "The sensor is not known", "`GET /v1/sensors` lists those you may read."),
    "no-readings": (404, "The sensor has no readings", "Neither tier holds any; look at its sender."),
    "unknown-segment": (
        404,
        "There is no such segment",
        "It was compacted or is past its retention; list again.",
    ),
    "unknown-reject": (404, "There is no such reject", "`GET /v1/rejects` lists those that are kept."),
    "unknown-blob": (404, "There is no such blob", "It was never stored or is past its retention."),
    "unknown-upload": (
        404,
        "There is no such upload",
        "It was completed, given up or never begun; begin again.",
    ),
    "not-found": (404, "There is no such thing", "The detail says what was looked for."),
    "method-not-allowed": (405, "The method is not allowed here", "The header `Allow` lists those that are."),
    "conflict": (409, "It was changed meanwhile", "Read it again and repeat the change."),
    "version-conflict": (
        409,
        "The sensor was changed meanwhile",
        "`current` is the sensor as it is; apply the change to it and send its version.",
    ),
    "version-required": (
        428,
        "The version is needed",
        "The sensor exists: send `If-Match` with its version, so that nobody's change is lost.",
    ),
    "checksum-mismatch": (
        422,
        "The bytes are not those announced",
        "Send them again, with their own sha256.",
    ),
    "unavailable": (503, "A service did not answer", "Wait as `Retry-After` says and repeat the request."),
    "corrupt": (500, "Stored bytes contradict themselves", "`thermocline doctor` says what is damaged."),
    "internal": (500, "The request failed", "It is an error of ours; report it with `request_id`."),
}
"""Status, title and next step of every code; /docs lists them."""


_CODES: dict[type[Exception], str] = {
    InvalidCursor: "invalid-cursor",
    BadInput: "invalid-parameter",
    NotFound: "not-found",
    Refused: "conflict",
    Throttled: "too-many-requests",
    Unavailable: "unavailable",
    Corrupt: "corrupt",
    ThermoclineError: "internal",
}
"""What an error of the library is answered with: the first class it is of."""


class Problem(Exception):
    """An answer that is an error. `field` is the parameter or member at fault; `more` adds members to the body."""

    def __init__(
        self,
        status: int,
        code: str,
        title: str,
        detail: str,
        field: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.title = title
        self.detail = detail
        self.field = field
        self.more = dict(more or {})
        self.headers: dict[str, str] = {}

    def body(self, instance: str, request_id: str) -> dict[str, Any]:
        """The problem details object."""
        errors = [] if self.field is None else [{"field": self.field, "detail": self.detail}]
        return {
            "type": f"/docs#problem-{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "instance": instance,
            "errors": errors,
            "request_id": request_id,
            **self.more,
        }


def problem(code: str, detail: str, field: str | None = None, **more: Any) -> Problem:
    """A problem of the table: what, why and next step in `detail`; further members of the body as keywords."""
    status, title, _ = PROBLEMS[code]
    return Problem(status, code, title, detail, field, more)


def of_error(error: Exception) -> Problem:
    """The problem that an error of any kind is answered with; what is not ours to tell is not told."""
    if isinstance(error, Problem):
        return error
    said = str(error)
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    if code is None:
        return problem(
            "internal", "Something unexpected happened while the request was answered; the log says more."
        )
    found = problem(code, said, _field(said) if isinstance(error, BadInput) else None)
    if isinstance(error, Unavailable):
        found.headers["Retry-After"] = str(RETRY_AFTER_S)
    return found


def _field(said: str) -> str | None:
    """What stands before the first colon, where that is one word."""
    name, colon, _ = said.partition(":")
    return name if colon and 0 < len(name) <= 64 and " " not in name else None
