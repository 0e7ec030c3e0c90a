"""^C and SIGTERM: remembered while a stack starts and runs, held off while it stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Signals:
    """Remembers ^C and SIGTERM beside what they do anyway.

    An exception raised by a signal's handler is lost where it happens to strike inside a
    destructor or a callback of the interpreter; the memory of it is not.
    """

    def __init__(self, wanted: threading.Event) -> None:
        self._wanted = wanted
        self._before: dict[int, Any] = {}
        self.caught = False
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            if before is not signal.SIG_IGN:
                self._before[number] = before
                signal.signal(number, self._note)

    def release(self) -> None:
        """Put back the handlers there were."""
        while self._before:
            number, before = self._before.popitem()
            signal.signal(number, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = True
        self._wanted.set()
        before = self._before.get(number)
        if not callable(before):
            raise KeyboardInterrupt
        before(number, frame)


@contextmanager
def undisturbed() -> Generator[None]:
    """Hold off ^C and SIGTERM, where this is the thread that they interrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    }
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
