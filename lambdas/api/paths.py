"""The path of a request brought into one form, so that every door routes it alike."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

PATH_AS_SENT = "pathInOneForm"
"""The member of an event that holds the canonical path: percent-encoded, to be shown and linked to."""
_SENSORS = "/v1/sensors/"
_SUFFIX = re.compile(
    r"(.+?)(/readings|/latest|/blobs(?:/uploads(?:/[^/]+(?:/complete)?)?|/[^/]+)?)?", re.DOTALL
)
"""A sensor's id, and what of the sensor is asked for; the earliest suffix wins."""


def canonical(raw: str) -> str:
    """The path with its sensor id as one part, whatever it holds being percent-encoded.

    API Gateway's HTTP API hands over a decoded path ("Working with AWS Lambda proxy integrations for HTTP
    APIs"), a server and a Function URL the path as sent. An id whose slashes are encoded is taken
    as it stands; else it is what lies between the prefix and a known suffix, so an id that itself ends like a suffix
    (`a/readings`) can only be named with encoded slashes, and not through HTTP API.
    """
    path = raw if raw.startswith("/") else f"/{raw}"
    if not path.startswith(_SENSORS) or len(path) == len(_SENSORS):
        return "/".join(_encoded(part) for part in path.split("/"))
    rest = path[len(_SENSORS) :]
    first, slash, after = rest.partition("/")
    if "%2f" in first.lower() and (not slash or _is_suffix(f"/{after}")):
        sensor, suffix = first, f"{slash}{after}"
    else:
        found = _SUFFIX.fullmatch(rest)
        sensor, suffix = (found[1], found[2] or "") if found else (rest, "")
    return f"{_SENSORS}{_encoded(sensor)}" + "/".join(_encoded(part) for part in suffix.split("/"))


def _is_suffix(text: str) -> bool:
    found = _SUFFIX.fullmatch(f"x{text}")
    return found is not None and found[1] == "x"


def _encoded(part: str) -> str:
    return quote(unquote(part), safe="", errors="replace")
