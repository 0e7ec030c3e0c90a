"""MQTT topics: which sensor a topic names, and which topics a sensor has; pure."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.errors import BadInput

DEFAULT_PATTERN = "iot/v1/{sensor}/data"
SENSOR = "{sensor}"
STATUS = "status"
ONLINE = b"online"
OFFLINE = b"offline"


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics as a pattern gives them: the sensor's id is what stands between `prefix` and `suffix`.

    An id may hold `/`, so the filter that is subscribed to ends in `#`.
    """

    prefix: str
    suffix: str

    @property
    def filter(self) -> str:
        """What to subscribe to: every topic below the prefix."""
        return f"{self.prefix}#"

    def shared_filter(self, share: str) -> str:
        """The filter as a shared subscription; plain where the share has no name (MQTT 5, section 4.8.2)."""
        return f"$share/{share}/{self.filter}" if share else self.filter

    def sensor_of(self, topic: str) -> str | None:
        """The sensor a data topic names; None for other topics, a status for example. Not checked as an id."""
        if not (topic.startswith(self.prefix) and topic.endswith(self.suffix)):
            return None
        end = len(topic) - len(self.suffix)
        return topic[len(self.prefix) : end] if end > len(self.prefix) else None

    def data(self, sensor_id: str) -> str:
        """The topic that a sensor's readings are sent to."""
        return f"{self.prefix}{sensor_id}{self.suffix}"

    def status(self, name: str) -> str:
        """The topic that retains whether a sensor or a client is online."""
        return f"{self.prefix}{name}/{STATUS}"


def parse_topics(pattern: str) -> Topics:
    """The topics of a pattern such as `iot/v1/{sensor}/data`. Raises BadInput.

    `{sensor}` stands for one or more whole levels, and something must follow it, so that
    data and status are told apart.
    """
    prefix, found, suffix = pattern.partition(SENSOR)
    whole = found and (not prefix or prefix.endswith("/")) and len(suffix) > 1 and suffix.startswith("/")
    if not whole or any(sign in prefix + suffix for sign in ("+", "#", "\0", SENSOR)) or prefix[:1] == "$":
        raise BadInput(
            f"--topic: {pattern!r} cannot be used; write {SENSOR} once in place of whole levels, with at "
            f"least one level after it and no wildcard, such as {DEFAULT_PATTERN}."
        )
    if suffix == f"/{STATUS}":
        raise BadInput(f"--topic: {pattern!r} is where status is kept; let it end otherwise.")
    return Topics(prefix, suffix)
