"""Who calls and what they may: tokens and claims to scopes, and the guard every route has to ask."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, cast

from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from ingest import token as tokens
from ingest.errors import BadInput
from ingest.stores import TokenStore
from ingest.token import Scope, Token
from lambdas.api import params
from lambdas.api.limits import TOKEN_AGE_S
from lambdas.api.problems import Problem, problem
from lambdas.api.services import Auth

_ASKED = "guardAsked"
_SCOPES = "guardScopes"
_MOST_REMEMBERED = 10_000
_EVERYTHING = (Scope("admin"),)


class TokenCache:
    """Tokens looked up a short while ago. A token that is not there is asked for anew each time,
    so that one that was just made works at once."""

    def __init__(self, store: TokenStore, now_s: Callable[[], float]) -> None:
        self._store = store
        self._now_s = now_s
        self._held: dict[str, tuple[float, Token]] = {}
        self._lock = threading.Lock()

    def get(self, token_id: str) -> Token | None:
        """The token as it was at most TOKEN_AGE_S seconds ago. Raises Unavailable."""
        now_s = self._now_s()
        held = self._held.get(token_id)
        if held is not None and 0 <= now_s - held[0] < TOKEN_AGE_S:
            return held[1]
        found = self._store.get(token_id)
        with self._lock:
            if len(self._held) >= _MOST_REMEMBERED:
                self._held.clear()
            if found is None:
                self._held.pop(token_id, None)
            else:
                self._held[token_id] = (now_s, found)
        return found


class Guard:
    """Says whether the request under way may do what its route is about to. Every method raises Problem: 401 without
    valid credentials, 403 where their scopes do not cover it."""

    def __init__(
        self,
        event: Callable[[], BaseProxyEvent],
        auth: Auth,
        store: TokenStore,
        now_s: Callable[[], float],
    ) -> None:
        self._event = event
        self._auth = auth
        self._cache = TokenCache(store, now_s)
        self._now_s = now_s

    def known(self) -> tuple[Scope, ...]:
        """The caller's scopes: of whoever holds valid credentials."""
        raw = self._event().raw_event
        found = raw.get(_SCOPES)
        if found is None:
            found = raw[_SCOPES] = self._scopes(raw)
        return cast("tuple[Scope, ...]", found)

    def read(self, sensor_id: str) -> None:
        """May read what this sensor sent."""
        self._allow("read", sensor_id)

    def write(self, sensor_id: str) -> None:
        """May send readings of this sensor."""
        self._allow("write", sensor_id)

    def read_all(self) -> None:
        """May read what every sensor sent, now and later."""
        self.asked()
        if not tokens.covers_all(self.known(), "read"):
            raise _forbidden("read:", "it covers every sensor")

    def admin(self) -> None:
        """May do everything."""
        self.asked()
        if not tokens.covers_all(self.known(), "admin"):
            raise _forbidden("admin", "it changes or shows what no prefix covers")

    def readable(self, sensor_id: str) -> bool:
        """Whether the caller may read what this sensor sent; raises only where there is no caller."""
        self.asked()
        return tokens.may(self.known(), "read", sensor_id)

    def writable(self, sensor_id: str) -> bool:
        """Whether the caller may send readings of this sensor; raises only where there is no caller."""
        self.asked()
        return tokens.may(self.known(), "write", sensor_id)

    def is_admin(self) -> bool:
        """Whether the caller may do everything."""
        self.asked()
        return tokens.covers_all(self.known(), "admin")

    def reads_all(self) -> bool:
        """Whether the caller may read what every sensor sent."""
        self.asked()
        return tokens.covers_all(self.known(), "read")

    def prefixes(self) -> tuple[str, ...]:
        """What the ids of the sensors begin with that the caller may read: at least one, sorted, none within
        another."""
        self.asked()
        found = tokens.prefixes(self.known(), "read")
        if not found:
            raise _forbidden("read:", "or one for some sensors")
        return found

    def asked(self) -> None:
        """Note that the route under way looked at what its caller may."""
        self._event().raw_event[_ASKED] = True

    def was_asked(self) -> bool:
        """Whether the route under way asked."""
        return bool(self._event().raw_event.get(_ASKED))

    def _allow(self, action: str, sensor_id: str) -> None:
        self.asked()
        if not tokens.may(self.known(), action, sensor_id):
            raise _forbidden(f"{action}:{sensor_id}", "or one that is a beginning of it")

    # --- credentials ----------------------------------------------------------------------

    def _scopes(self, raw: dict[str, Any]) -> tuple[Scope, ...]:
        if self._auth == "token":
            return self._of_token()
        context = cast(dict[str, Any], raw.get("requestContext") or {})
        authorizer = cast(dict[str, Any], context.get("authorizer") or {})
        if self._auth == "iam" and authorizer.get("iam"):
            return _EVERYTHING
        if self._auth == "jwt" and authorizer.get("jwt"):
            return scopes_of_claims(cast(dict[str, Any], authorizer["jwt"].get("claims") or {}))
        raise _unauthorized("API Gateway's authorizer, which this deployment relies on, let nobody in.")

    def _of_token(self) -> tuple[Scope, ...]:
        sent = params.header(self._event(), "authorization")
        if not sent:
            raise _unauthorized("The request carries no token.")
        scheme, _, text = sent.strip().partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            raise _unauthorized("The Authorization header is neither `Bearer` nor `Token`.")
        parts = tokens.parse(text.strip())
        found = None if parts is None else self._cache.get(parts[0])
        if parts is None or not tokens.holds(found, parts[1], self._now_s()) or found is None:
            raise _unauthorized("The token is unknown, has expired or was revoked.")
        return found.scopes


def scopes_of_claims(claims: dict[str, Any]) -> tuple[Scope, ...]:
    """What a JWT's claims allow: the words of `thermocline` (or of `scope` and `scp`) that are scopes.

    API Gateway hands every claim over as text, an array as its items in brackets ("Controlling and managing access to
    HTTP APIs with JWT authorizers"); words of other applications are passed over. `admin` counts in `thermocline` only:
    in a scope that several applications share it may mean another one.
    """
    named = claims.get("thermocline")
    if named is not None:
        return tuple(dict.fromkeys(_words(named)))
    shared = (scope for source in (claims.get("scope"), claims.get("scp")) for scope in _words(source))
    return tuple(dict.fromkeys(scope for scope in shared if scope.action != "admin"))


def _words(source: Any) -> Iterable[Scope]:
    listed = cast("list[Any]", source) if isinstance(source, list) else [source]
    for text in listed:
        if not isinstance(text, str):
            continue
        for word in text.strip("[]").replace(",", " ").split():
            try:
                yield tokens.parse_scope(word)
            except BadInput:
                continue


def _unauthorized(why: str) -> Problem:
    found = problem(
        "unauthorized",
        f"{why} Send `Authorization: Bearer <token>`; `thermocline token new --scope read:` makes one.",
    )
    found.headers["WWW-Authenticate"] = 'Bearer realm="thermocline"'
    return found


def _forbidden(needed: str, what: str) -> Problem:
    return problem(
        "forbidden",
        f"The token's scopes do not cover this. It needs the scope {needed} ({what}).",
        needed_scope=needed,
    )
