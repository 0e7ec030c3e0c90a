"""The compaction's schedule, as the local stack keeps it: the function is invoked every few minutes."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable

from infra.local.invoker import Answer

_log = logging.getLogger(__name__)
EVERY_S = 300.0
EVENT = json.dumps({"source": "thermocline.schedule"}).encode()


class Compactor:
    """Has the archive compacted every `every_s` seconds, in a thread of its own. `invoke` waits for the answer."""

    def __init__(self, invoke: Callable[[bytes], Answer], every_s: float = EVERY_S) -> None:
        self._invoke = invoke
        self._every_s = every_s
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin; the first turn is one period from now."""
        threading.Thread(target=self._run, name="compactor", daemon=True).start()

    def stop(self) -> None:
        """Begin no further turn; a function that was invoked goes on by itself."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            answer = self._invoke(EVENT)
            if answer.reason and not self._stopping.is_set():
                _log.warning("the archive was not compacted: %s", answer.reason)
