"""Cursors: where a paged answer goes on, signed, bound to its query and good for a limited time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ingest.errors import BadInput

VERSION = 1
MOST_CHARACTERS = 32_768
"""A longer text is no cursor. The longest there is carries 16 labels of 330 characters."""
_SIGNATURE_BYTES = 32
_NEXT = "Ask again without a cursor."


class InvalidCursor(BadInput):
    """The cursor was altered, has expired, or belongs to another query."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What a cursor carries: the parameters of its query, and the position to go on at."""

    asked: dict[str, Any]
    at: Any


def seal(route: str, asked: Mapping[str, Any], at: Any, key: bytes, expires_s: float) -> str:
    """A cursor for the page at `at` of what `route` was asked.

    `asked` holds every parameter that shapes the answer, resolved (a time as the instant it meant), and like
    `at` JSON values only. `expires_s` is epoch seconds. The text is URL-safe; who holds it can read what it carries,
    but change nothing.
    """
    said = json.dumps(
        {"v": VERSION, "q": _digest(route, asked), "asked": asked, "at": at, "exp": int(expires_s)},
        ensure_ascii=False,
        separators=(",", ":"),
        sort_keys=True,
    ).encode(errors="surrogatepass")
    return base64.urlsafe_b64encode(_signature(said, key) + said).decode().rstrip("=")


def unseal(text: str, route: str, given: Mapping[str, Any], key: bytes, now_s: float) -> Opened:
    """What the cursor carries.

    `given` holds what the request states besides the cursor; each must be what the cursor's query was asked, and
    what is not given is taken from there. Raises InvalidCursor.
    """
    said = _verified(text, key)
    if said.get("v") != VERSION or int(said.get("exp", 0)) <= now_s:
        raise InvalidCursor(f"cursor: it has expired. {_NEXT}")
    asked = cast(dict[str, Any], said["asked"])
    if not hmac.compare_digest(str(said["q"]), _digest(route, asked)):
        raise InvalidCursor(f"cursor: it belongs to another route. {_NEXT}")
    for name, value in given.items():
        if asked.get(name) != value:
            raise InvalidCursor(
                f"cursor: it belongs to a query with another {name}. Repeat the request as `next_url` has it, "
                "or ask again without a cursor."
            )
    return Opened(asked, said["at"])


def _verified(text: str, key: bytes) -> dict[str, Any]:
    try:
        if len(text) > MOST_CHARACTERS:
            raise ValueError("too long")
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        signature, said = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") != text:
            raise ValueError("not the text it was")
    except (ValueError, binascii.Error) as error:
        raise InvalidCursor(f"cursor: {text[:40]!r} is none. {_NEXT}") from error
    if not hmac.compare_digest(signature, _signature(said, key)):
        raise InvalidCursor(f"cursor: it was altered, or made by another deployment. {_NEXT}")
    return cast(dict[str, Any], json.loads(said))


def _signature(said: bytes, key: bytes) -> bytes:
    return hmac.new(key, b"thermocline cursor\0" + said, hashlib.sha256).digest()


def _digest(route: str, asked: Mapping[str, Any]) -> str:
    canonical = json.dumps([route, asked], separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]
