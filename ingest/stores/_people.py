"""Protocols of what people change through the doors: the registry of sensors, and tokens."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Protocol

from ingest.sensor import Sensor
from ingest.token import Token

RemainingMs = Callable[[], int]
"""How many milliseconds a call may still take before its caller is stopped."""


class Registry(Protocol):
    """Which sensors exist. Every read is consistent. Raises Unavailable."""

    def register(self, first_seen_ms: Mapping[str, int], remaining_ms: RemainingMs) -> tuple[int, float]:
        """Add the sensors that are unknown, leaving known ones as they are; how many were new,
        and the write units consumed."""
        ...

    def known(self, sensor_ids: Collection[str]) -> set[str]:
        """Those of the sensors that are registered. What was registered before the call is never missing;
        what was deleted may be among them until the process reads the count of deletions again."""
        ...

    def get(self, sensor_id: str) -> Sensor | None:
        """One sensor, or None."""
        ...

    def all(self, prefix: str = "") -> Iterable[Sensor]:
        """Every sensor whose id begins with the prefix, sorted by id."""
        ...

    def page(self, prefix: str, after: str, limit: int) -> list[Sensor]:
        """The first `limit` sensors whose ids begin with the prefix and sort behind `after` (empty: from
        the first one on), sorted by id; reads about as many as it gives."""
        ...

    def update(self, sensor: Sensor, if_version: int | None) -> Sensor:
        """Put the sensor's name, units, labels and place in the place of what is kept of version `if_version`;
        the result, of the next version, first seen when it was. With None the sensor must be unknown; it
        is then added as it is, with version 1.

        The same update again changes nothing and is no conflict. Raises Conflict with the current
        sensor where that has another version, NotFound where it is unknown.
        """
        ...

    def delete(self, sensor_id: str, if_version: int | None = None) -> Sensor:
        """Forget a sensor, of that version where one is given; the sensor as it was. Its readings stay.
        Raises NotFound, and Conflict with the current sensor."""
        ...


class TokenStore(Protocol):
    """The tokens of a deployment, and the secret its cursors are signed with. Raises Unavailable."""

    def put(self, token: Token) -> None:
        """Keep a new token; the same again changes nothing. Raises Refused where the id is taken."""
        ...

    def get(self, token_id: str) -> Token | None:
        """One token, valid or not; None where there is none; consistent."""
        ...

    def all(self) -> list[Token]:
        """Every token, valid or not, oldest first; consistent."""
        ...

    def revoke(self, token_id: str, now_s: int) -> Token:
        """Withdraw a token for good; one that is revoked stays so since the first time. Raises NotFound."""
        ...

    def signing_key(self) -> bytes:
        """The secret that cursors are signed with, 32 bytes; made at the first call, the same for every
        process from then on."""
        ...
