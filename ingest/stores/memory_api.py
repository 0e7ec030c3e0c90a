"""The registry and the tokens in dictionaries: for tests, and the plainest statement of each contract."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from ingest import keys
from ingest.errors import Conflict, NotFound, Refused
from ingest.item import item_size, write_units
from ingest.sensor import Sensor, same_parts
from ingest.stores import RemainingMs
from ingest.stores.registry_entry import changed_meanwhile, encode_sensor, exists_already, never_seen
from ingest.stores.tokens import ID_TAKEN, no_token
from ingest.token import Token


class MemoryRegistry:
    """Which sensors exist."""

    def __init__(self) -> None:
        self.sensors: dict[str, Sensor] = {}

    def register(self, first_seen_ms: Mapping[str, int], remaining_ms: RemainingMs) -> tuple[int, float]:
        """Add the sensors that are unknown; how many were new, and the write units."""
        del remaining_ms
        new = [Sensor(name, seen) for name, seen in first_seen_ms.items() if name not in self.sensors]
        self.sensors |= {sensor.sensor_id: sensor for sensor in new}
        return len(new), float(sum(write_units(item_size(encode_sensor(sensor))) for sensor in new))

    def known(self, sensor_ids: Collection[str]) -> set[str]:
        """Those of the sensors that are registered."""
        return {name for name in sensor_ids if name in self.sensors}

    def get(self, sensor_id: str) -> Sensor | None:
        """One sensor, or None."""
        return self.sensors.get(sensor_id)

    def all(self, prefix: str = "") -> Iterable[Sensor]:
        """Every sensor whose id begins with the prefix, sorted by id."""
        return [self.sensors[name] for name in sorted(self.sensors) if name.startswith(prefix)]

    def page(self, prefix: str, after: str, limit: int) -> list[Sensor]:
        """The first `limit` sensors whose ids begin with the prefix and sort behind `after`."""
        bounds = keys.registry_range(prefix, after)
        if bounds is None:
            return []
        found = [name for name in sorted(self.sensors) if bounds[0] <= name <= bounds[1]]
        return [self.sensors[name] for name in found[:limit]]

    def update(self, sensor: Sensor, if_version: int | None) -> Sensor:
        """Put the sensor's parts in the place of those of version `if_version`; None: it must be unknown.
        Raises Conflict, NotFound."""
        held = self.sensors.get(sensor.sensor_id)
        if if_version is None:
            changed = replace(sensor, version=1)
        elif held is None:
            raise NotFound(never_seen(sensor.sensor_id))
        else:
            changed = replace(sensor, version=if_version + 1, first_seen_ms=held.first_seen_ms)
        if held is not None and held.version != if_version:
            if held.version == changed.version and same_parts(held, changed):
                return held
            raise Conflict(
                exists_already(held) if if_version is None else changed_meanwhile(held, if_version), held
            )
        self.sensors[sensor.sensor_id] = changed
        return changed

    def delete(self, sensor_id: str, if_version: int | None = None) -> Sensor:
        """Forget a sensor, of that version where one is given; the sensor as it was. Raises NotFound, Conflict."""
        held = self.sensors.get(sensor_id)
        if held is None:
            raise NotFound(never_seen(sensor_id))
        if if_version not in (None, held.version):
            raise Conflict(changed_meanwhile(held, if_version), held)
        return self.sensors.pop(sensor_id)


class MemoryTokens:
    """The tokens, and the secret that cursors are signed with; `random_bytes` makes it."""

    def __init__(self, random_bytes: Callable[[int], bytes] = bytes) -> None:
        self.tokens: dict[str, Token] = {}
        self._random_bytes = random_bytes
        self._signing_key = b""

    def put(self, token: Token) -> None:
        """Keep a new token; the same again changes nothing. Raises Refused where the id is taken."""
        if self.tokens.setdefault(token.id, token) != token:
            raise Refused(ID_TAKEN)

    def get(self, token_id: str) -> Token | None:
        """One token, valid or not; None where there is none."""
        return self.tokens.get(token_id)

    def all(self) -> list[Token]:
        """Every token, valid or not, oldest first."""
        return sorted(self.tokens.values(), key=lambda token: (token.created_s, token.id))

    def revoke(self, token_id: str, now_s: int) -> Token:
        """Withdraw a token for good. Raises NotFound."""
        held = self.tokens.get(token_id)
        if held is None:
            raise NotFound(no_token(token_id))
        if held.revoked_s is None:
            self.tokens[token_id] = replace(held, revoked_s=now_s)
        return self.tokens[token_id]

    def signing_key(self) -> bytes:
        """The secret that cursors are signed with, made at the first call."""
        self._signing_key = self._signing_key or self._random_bytes(32)
        return self._signing_key
