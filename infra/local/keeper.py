"""Keeps the event sources' process running: started, asked, started again whenever it ends, stopped."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from infra.local import control
from infra.local.control import ConnectionLost
from infra.local.runner import Task
from ingest.errors import Unavailable

_log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[2]
START_LIMIT_S = 30.0
ANSWER_LIMIT_S = 60.0
"""How long a question waits for a process that is being started again."""
FIRST_BACKOFF_S = 0.1
MOST_BACKOFF_S = 5.0
STEADY_S = 10.0
"""A process that ran for so long is started again at once; one that ended sooner, a little later each time."""
_LAUNCHER = "import sys; sys.path.append(sys.argv[1]); from infra.local.runner import main; main()"
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a process answers; `number` counts the processes."""

    control_url: str
    token: str
    number: int


class Keeper:
    """One process after the other, each running the same task from where the last one had noted it was.

    `launch` may be called early: starting an interpreter takes half a second. Then `begin`,
    then `ask`, and in any case `stop`.
    """

    def __init__(self) -> None:
        self._task = ""
        self._process: subprocess.Popen[str] | None = None
        self._address: Address | None = None
        self._failed: dict[str, Any] | None = None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = 0

    @property
    def restarts(self) -> int:
        """How often the process was started again."""
        return max(0, self._started - 1)

    @property
    def pid(self) -> int | None:
        """The id of the process that answers now; None while none does."""
        with self._changed:
            return self._process.pid if self._process is not None and self._address is not None else None

    def launch(self) -> None:
        """Start the process; it does nothing before `begin`."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _LAUNCHER, str(ROOT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def begin(self, task: Task) -> None:
        """Give the process its task and return when it runs. Raises its error, or Unavailable after 30 s."""
        self._task = json.dumps(asdict(task)) + "\n"
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_LIMIT_S
        with self._changed:
            while self._address is None and self._failed is None and time.monotonic() < deadline:
                self._changed.wait(0.2)
            if self._address is not None:
                return
        if self._failed is not None:
            raise control.raised(self._failed)
        raise Unavailable(f"The event sources did not start within {START_LIMIT_S:.0f} s. See the log.")

    def ask(self, call: Callable[[Address], Answer]) -> Answer:
        """What the call returns. Where the process ends in the middle, the next one is asked again, so the
        call must bear repeating. Raises Unavailable where none answers for a minute."""
        while True:
            address = self._wait_for_address()
            try:
                return call(address)
            except ConnectionLost as error:
                if not self._has_ended(address):
                    raise Unavailable(str(error)) from error

    def stop(self, limit_s: float) -> None:
        """Stop the process, which may end within `limit_s` what it is at. Safe to call more than once."""
        self._stopping.set()
        with self._changed:
            self._address = None
            self._changed.notify_all()
            process = self._process
        if process is not None:
            with contextlib.suppress(OSError, ValueError):
                if self._task:
                    cast(Any, process.stdin).write(f"{limit_s}\n")
                cast(Any, process.stdin).close()
            try:
                process.wait(2 * limit_s + 1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._thread is not None:
            self._thread.join(5.0)
        elif process is not None:
            _close(process)

    # --- keeping ----------------------------------------------------------------------

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            process = self._process
            if process is None:
                return
            began_s = time.monotonic()
            told = self._instruct(process)
            with self._changed:
                self._started += 1
                if "control_url" in told:
                    self._address = Address(told["control_url"], told["token"], self._started)
                elif self._started == 1 and not self._stopping.is_set():
                    self._failed = told
                self._changed.notify_all()
            code = process.wait()
            _close(process)
            with self._changed:
                self._address = None
                self._changed.notify_all()
            if self._failed is not None or self._stopping.is_set():
                return
            failures = 0 if time.monotonic() - began_s > STEADY_S else failures + 1
            _log.warning(
                "the event sources ended (%s), restart %d: what was under way is read again",
                told.get("message") or _how(code),
                self._started,
            )
            if self._stopping.wait(min(MOST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** min(failures, 10))):
                return
            with self._changed:  # `stop` sees either no process or the one it has to end
                if self._stopping.is_set():
                    return
                self.launch()

    def _instruct(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """What the process says when it has its task: where it answers, or what went wrong."""
        try:
            stdin, stdout = cast(Any, process.stdin), cast(Any, process.stdout)
            stdin.write(self._task)
            stdin.flush()
            return cast(dict[str, Any], json.loads(stdout.readline()))
        except (OSError, ValueError):
            return {"error": "Unavailable", "message": "The event sources ended while starting. See the log."}

    # --- asking -----------------------------------------------------------------------

    def _wait_for_address(self) -> Address:
        deadline = time.monotonic() + ANSWER_LIMIT_S
        with self._changed:
            while self._address is None:
                if self._stopping.is_set():
                    raise Unavailable("The local stack is stopping.")
                if time.monotonic() > deadline:
                    raise Unavailable("The event sources keep ending; the stack's log says why.")
                self._changed.wait(0.2)
            return self._address

    def _has_ended(self, address: Address) -> bool:
        """Whether the process that was asked is gone; it is given a moment to be seen to be."""
        deadline = time.monotonic() + 1.0
        with self._changed:
            while self._address == address and time.monotonic() < deadline:
                self._changed.wait(0.1)
            return self._address != address


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _close(process: subprocess.Popen[str]) -> None:
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
