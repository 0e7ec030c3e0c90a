"""Bearer tokens: what they look like, what is kept of them, and which sensors their scopes cover."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from ingest.errors import BadInput

Action = Literal["read", "write", "admin"]

MOST_SCOPES = 32
MOST_NOTE_CHARACTERS = 200
MOST_PREFIX_CHARACTERS = 128
ID_BYTES = 8
"""How many random bytes an id is made of; 60 of their bits are shown."""
SECRET_BYTES = 32
"""How many random bytes a secret has."""
_ID_CHARACTERS = 12

_TEXT = re.compile(r"thc_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")
_ID = re.compile(r"[a-z2-7]{12}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
_SCOPE_HELP = (
    "use read:<prefix>, write:<prefix> or admin. The prefix is what the ids of the sensors begin with, such as "
    "site1/; read: and write: without one cover every sensor."
)


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """What a token allows: an action on the sensors whose ids begin with `prefix` (empty: all of them).

    `admin` has no prefix; it allows everything.
    """

    action: Action
    prefix: str = ""

    def __str__(self) -> str:
        return self.action if self.action == "admin" else f"{self.action}:{self.prefix}"


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token. The secret is not: `digest` is the SHA-256 of its text, in hex.

    Times are epoch seconds; `expires_s` is the first second at which it no longer counts,
    `revoked_s` when it was withdrawn.
    """

    id: str
    digest: str
    scopes: tuple[Scope, ...]
    note: str
    created_s: int
    expires_s: int | None = None
    revoked_s: int | None = None


def parse_scope(text: str) -> Scope:
    """The scope that `read:<prefix>`, `write:<prefix>` or `admin` stands for. Raises BadInput."""
    action, colon, prefix = text.partition(":")
    if action == "admin" and not colon:
        return Scope("admin")
    if action not in ("read", "write") or not colon:
        raise BadInput(f"scope: {text!r} is no scope; {_SCOPE_HELP}")
    impossible = (
        _PREFIX.fullmatch(prefix) is None
        or len(prefix) > MOST_PREFIX_CHARACTERS
        or ".." in prefix
        or "//" in prefix
    )
    if prefix and impossible:
        raise BadInput(
            f"scope: no sensor id begins with {prefix!r}, so {text!r} would cover none; {_SCOPE_HELP}"
        )
    return Scope(cast(Action, action), prefix)


def parse_scopes(texts: Iterable[str]) -> tuple[Scope, ...]:
    """The scopes, sorted, each once. Raises BadInput where there is none, or more than MOST_SCOPES."""
    scopes = tuple(sorted(set(map(parse_scope, texts))))
    if not scopes:
        raise BadInput(f"scope: a token needs at least one; {_SCOPE_HELP}")
    if len(scopes) > MOST_SCOPES:
        raise BadInput(
            f"scope: {len(scopes)} scopes; a token holds at most {MOST_SCOPES}. Make several tokens."
        )
    return scopes


def make(
    token_id: bytes,
    secret: bytes,
    scopes: Sequence[Scope],
    note: str,
    now_s: int,
    expires_s: int | None = None,
) -> tuple[str, Token]:
    """The text of a new token, to be shown once, and what is kept of it.

    `token_id` and `secret` are ID_BYTES and SECRET_BYTES of good randomness. Raises BadInput where
    there is no scope, the note is too long or the token would have expired already.
    """
    if len(token_id) != ID_BYTES or len(secret) != SECRET_BYTES:
        raise ValueError(f"a token is made of {ID_BYTES} and {SECRET_BYTES} random bytes")
    if not scopes:
        raise BadInput(f"scope: a token needs at least one; {_SCOPE_HELP}")
    if len(note) > MOST_NOTE_CHARACTERS or not note.isprintable():
        raise BadInput(
            f"note: must be at most {MOST_NOTE_CHARACTERS} characters that can be shown on one line."
        )
    if expires_s is not None and expires_s <= now_s:
        raise BadInput("expires: the token would have expired already; choose a later time.")
    identity = base64.b32encode(token_id).decode().lower()[:_ID_CHARACTERS]
    shown = base64.urlsafe_b64encode(secret).decode().rstrip("=")
    token = Token(identity, _digest(shown), tuple(sorted(set(scopes))), note, now_s, expires_s)
    return f"thc_{identity}_{shown}", token


def parse(text: str) -> tuple[str, str] | None:
    """Id and secret of a token's text; None where the text is no token."""
    found = _TEXT.fullmatch(text)
    return (found[1], found[2]) if found else None


def is_token_id(text: str) -> bool:
    """Whether the text may be a token's id."""
    return _ID.fullmatch(text) is not None


def holds(token: Token | None, secret: str, now_s: float) -> bool:
    """Whether the secret is that of the token, which is neither revoked nor expired. No token: False,
    after as long a comparison."""
    same = hmac.compare_digest(_digest(secret), token.digest if token else "0" * 64)
    return same and token is not None and is_valid(token, now_s)


def is_valid(token: Token, now_s: float) -> bool:
    """Whether the token is neither revoked nor expired."""
    return token.revoked_s is None and (token.expires_s is None or now_s < token.expires_s)


def may(scopes: Iterable[Scope], action: str, sensor_id: str) -> bool:
    """Whether one of the scopes allows the action on the sensor; `admin` allows every action,
    and no other scope allows the action `admin`."""
    return any(
        scope.action == "admin"
        or (scope.action == action and action != "admin" and sensor_id.startswith(scope.prefix))
        for scope in scopes
    )


def covers_all(scopes: Iterable[Scope], action: str) -> bool:
    """Whether the scopes allow the action on every sensor there may ever be."""
    return any(
        scope.action == "admin" or (scope.action == action and action != "admin" and not scope.prefix)
        for scope in scopes
    )


def prefixes(scopes: Iterable[Scope], action: str) -> tuple[str, ...]:
    """What the ids begin with on which the scopes allow the action: sorted, none beginning with another one.

    `("",)` means every sensor, `()` none.
    """
    held = list(scopes)
    if covers_all(held, action):
        return ("",)
    kept: list[str] = []
    for prefix in sorted({scope.prefix for scope in held if scope.action == action and action != "admin"}):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return tuple(kept)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()
