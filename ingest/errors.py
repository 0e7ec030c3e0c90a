"""What can go wrong, and what to do next; one class per answer a caller can give."""

from __future__ import annotations

from typing import ClassVar


class ThermoclineError(Exception):
    """Something failed. The message says what, why, and what to do next.

    `exit_code` is what the command line answers with; `retry` says whether the same
    call may succeed later without anybody changing anything.
    """

    exit_code: ClassVar[int] = 1
    retry: ClassVar[bool] = False


class BadInput(ThermoclineError):
    """The caller is wrong: an option, a setting or an argument cannot be used."""

    exit_code = 2


class NotFound(ThermoclineError):
    """The thing asked for by name does not exist."""

    exit_code = 3


class Refused(ThermoclineError):
    """The call is understood and not allowed (a guard such as the 48 h margin)."""

    exit_code = 4


class Conflict(Refused):
    """The thing was changed since the caller read it. `current` is what it is now; None where the caller
    cannot be told."""

    def __init__(self, message: str, current: object = None) -> None:
        super().__init__(message)
        self.current = current


class Partial(ThermoclineError):
    """Some of the work was done; the message says what was not."""

    exit_code = 5


class Corrupt(ThermoclineError):
    """Stored bytes contradict themselves (checksum, identity, shape). Carries the key."""


class Unavailable(ThermoclineError):
    """A service refused, throttled or did not answer, and waiting longer may help."""

    retry = True


class Throttled(Unavailable):
    """A service is there and refuses what exceeds its provisioned throughput."""
