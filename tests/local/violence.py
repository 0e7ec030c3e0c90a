"""What does violence to a running stack: faults in its calls to AWS, SIGKILL to its processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.local.command import ROOT, Cli

INJECTED = Path(__file__).resolve().parent / "injected"
VARIABLE = "THERMOCLINE_TEST_VIOLENCE"
WORKERS = ("store_readings", "archive_expired", "index_segment")
KILL_EVERY_S = (0.5, 1.5)
ARCHIVER_LIMIT_S = 60
"""The short life of functions is for those that write chunks; with it the archiver would do a slot at a time."""
READY_LIMIT_S = 30.0


@dataclass(frozen=True)
class Violence:
    """Switches the faults on and off and counts them."""

    folder: Path
    seed: int
    parts: dict[str, dict[str, Any]]

    @property
    def environment(self) -> dict[str, str]:
        """What makes a Python process that is started with it fail as ordered."""
        order = {"folder": str(self.folder), "seed": self.seed, "parts": self.parts}
        return {"PYTHONPATH": str(INJECTED), VARIABLE: json.dumps(order)}

    def begin(self) -> None:
        """Faults on."""
        (self.folder / "on").touch()

    def end(self) -> None:
        """Faults off."""
        (self.folder / "on").unlink(missing_ok=True)

    def faults(self) -> Counter[tuple[str, str]]:
        """How many faults there were, by component and kind."""
        found: Counter[tuple[str, str]] = Counter()
        with suppress(FileNotFoundError):
            for line in (self.folder / "faults").read_text().splitlines():
                component, kind, _ = line.split()
                found[component, kind] += 1
        return found

    def reach_functions(self, functions: Any) -> None:
        """Have the emulator start its Lambda workers with the faults in them; by Lambda's own API."""
        for component in WORKERS:
            name = "thermocline-" + component.replace("_", "-")
            held = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
            more = {"Timeout": ARCHIVER_LIMIT_S} if component == "archive_expired" else {}
            functions.update_function_configuration(
                FunctionName=name, Environment={"Variables": held | self.environment}, **more
            )


@contextmanager
def short_stack(cli: Cli, violence: Violence, *options: str) -> Generator[subprocess.Popen[bytes]]:
    """A stack in a process of its own, found by `cli`; stopped at the end."""
    command = [sys.executable, "-m", "tests.local.short_stack", *options]
    environment = cli.environment | violence.environment
    with (cli.folder / "stack.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        give_up = time.monotonic() + READY_LIMIT_S
        while not (cli.folder / "run" / "thermocline" / "stack.json").exists():
            said = (cli.folder / "stack.log").read_text()
            assert process.poll() is None, f"the stack ended\n{said}"
            assert time.monotonic() < give_up, f"the stack did not start\n{said}"
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Prey:
    """Processes to kill: those whose command line holds `words`, `times` in all, none before it has used
    `cpu_s` of processor time. One that has used less is still starting, however slow the machine."""

    words: str
    times: int
    cpu_s: float


class Killer:
    """Every second, by SIGKILL, kills one process of its prey, found by the process tree below one process."""

    def __init__(self, stack_pid: int, seed: int, *preys: Prey) -> None:
        self._stack_pid = stack_pid
        self._random = random.Random(seed)
        self._preys = preys
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.killed: Counter[str] = Counter()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def left(self) -> list[str]:
        """What has not been killed often enough."""
        return [prey.words for prey in self._preys if self.killed[prey.words] < prey.times]

    def _run(self) -> None:
        while not self._over.wait(self._random.uniform(*KILL_EVERY_S)) and (left := self.left()):
            found = [
                (prey.words, process.pid)
                for process in below(self._stack_pid)
                for prey in self._preys
                if prey.words in left and prey.words in process.command and cpu_s(process.pid) > prey.cpu_s
            ]
            if found:
                words, pid = self._random.choice(sorted(found))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    self.killed[words] += 1


@dataclass(frozen=True)
class Process:
    pid: int
    command: str


def below(pid: int) -> list[Process]:
    """The processes below one, at any depth."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int(_stat(int(entry.name))[1])
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            children.setdefault(parent, []).append(Process(int(entry.name), command))
    found: list[Process] = []
    todo = [pid]
    while todo:
        nearest = children.get(todo.pop(), [])
        found += nearest
        todo += [child.pid for child in nearest]
    return found


def cpu_s(pid: int) -> float:
    """The processor time a process has used; 0 where it is gone."""
    with suppress(OSError):
        return sum(map(int, _stat(pid)[11:13])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _stat(pid: int) -> list[str]:
    """What follows the name in /proc/<pid>/stat: state, parent and so on ("proc", manual page)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
