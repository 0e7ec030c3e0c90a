"""MiniStack as a child process on loopback: started, watched, measured and stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Self

from ingest.errors import BadInput, Refused, ThermoclineError, Unavailable

VERSION = "1.5.33"
"""The one version of ministack this stack is checked against (tests/contract)."""
HOST = "127.0.0.1"
REGION = "us-east-1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
HEALTH_PATH = "/_ministack/health"
START_LIMIT_S = 30.0
STOP_LIMIT_S = 10.0
LOG_NAME = "emulator.log"
_NOTHING_TO_SAVE_S = 1.0

INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT")
_LAUNCHER = """
import os, runpy, shutil, signal, sys, threading, time
lifeline, grace_s, folder = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
os.set_inheritable(lifeline, False)
orphaned = False
def follow():
    global orphaned
    os.read(lifeline, 1)
    orphaned = True
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    os.killpg(os.getpgrp(), signal.SIGKILL)
threading.Thread(target=follow, daemon=True).start()
sys.argv = ["ministack"]
try:
    runpy.run_module("ministack", run_name="__main__", alter_sys=True)
finally:
    if orphaned:
        shutil.rmtree(folder, ignore_errors=True)
"""
"""The child reads a pipe whose other end only its parent holds: when the parent is gone, however it
went, the read returns and the child ends itself and deletes its folder. No operating system's own
call is needed for it."""


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """How to start the emulator. `port` None means any free one; `data_dir` None means nothing is kept."""

    port: int | None = None
    data_dir: Path | None = None
    region: str = REGION
    log_file: Path | None = None


class Emulator:
    """One MiniStack process. Use as a context manager, or call `start` and `stop`.

    Its state is kept only with a data directory and only on a clean `stop`: what was
    written before a crash or a SIGKILL is lost. Times, sizes and process groups are the
    operating system's; nothing in here knows the project's own items.
    """

    def __init__(self, options: EmulatorOptions | None = None) -> None:
        self.options = options or EmulatorOptions()
        self.region = self.options.region
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._claim: socket.socket | None = None
        self._temp_dir: Path | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def endpoint_url(self) -> str:
        """Where every AWS service of the emulator answers."""
        return f"http://{HOST}:{self.port}"

    @property
    def work_dir(self) -> Path:
        """A folder that goes with the emulator. Raises Unavailable while it does not run."""
        if self._temp_dir is None:
            raise Unavailable("The emulator is not running.")
        return self._temp_dir

    @property
    def pid(self) -> int | None:
        """The child's process id; None while it does not run."""
        return self._process.pid if self._process is not None else None

    @property
    def log_file(self) -> Path | None:
        """Where the emulator's own log goes; inside its temporary folder unless the options say otherwise."""
        if self.options.log_file is not None:
            return self.options.log_file
        return self._temp_dir / LOG_NAME if self._temp_dir is not None else None

    def start(self) -> Self:
        """Start the child and wait until it answers.

        Raises Refused for another version of ministack, BadInput where the port is taken,
        Unavailable where it does not answer within 30 s.
        """
        check_version()
        given = self.options.port
        for attempt in range(3):
            self.port = given if given is not None else free_port()
            self._claim = claim_port(self.port) if port_is_free(self.port) else None
            if self._claim is None:
                if given is None and attempt < 2:
                    continue
                raise BadInput(
                    f"Port {self.port} is in use on {HOST}. Choose another with --port, or leave --port out "
                    "to take the next free one."
                )
            self._spawn()
            try:
                self._wait_healthy()
            except Unavailable:
                self.stop()
                if given is not None or attempt == 2:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def alive(self) -> bool:
        """Whether the child runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """End the child (SIGTERM, then SIGKILL to its whole group) and delete its temporary folder.

        Safe to call at any time and more than once.
        """
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_LIMIT_S if self.options.data_dir is not None else _NOTHING_TO_SAVE_S)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)
        claim, self._claim = self._claim, None
        if claim is not None:
            claim.close()
        temp_dir, self._temp_dir = self._temp_dir, None
        if temp_dir is not None:
            _delete_tree(temp_dir)

    def memory_bytes(self) -> int:
        """Resident memory of the emulator and its Lambda workers together; 0 where it cannot be told."""
        if not self.alive() or self.pid is None:
            return 0
        page = os.sysconf("SC_PAGE_SIZE")
        total = 0
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
                if group == self.pid:
                    total += int((folder / "statm").read_text().split()[1]) * page
        return total

    def _spawn(self) -> None:
        temp_dir = self._temp_dir = Path(tempfile.mkdtemp(prefix="thermocline-"))
        work = temp_dir / "tmp"
        work.mkdir()
        log_file = self.options.log_file or temp_dir / LOG_NAME
        log_file.parent.mkdir(parents=True, exist_ok=True)
        reader, self._lifeline = os.pipe()
        command = [sys.executable, "-c", _LAUNCHER, str(reader), str(STOP_LIMIT_S), str(temp_dir)]
        try:
            with log_file.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    env=child_environment(os.environ, self.port, work, self.options),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=work,
                    pass_fds=(reader,),
                    start_new_session=True,
                )
        finally:
            os.close(reader)

    def _wait_healthy(self) -> None:
        limit = time.monotonic() + START_LIMIT_S
        while time.monotonic() < limit:
            if not self.alive():
                raise Unavailable(f"The emulator ended while starting. Its last words: {self._last_words()}")
            if _is_healthy(self.port):
                return
            time.sleep(0.01)
        raise Unavailable(
            f"The emulator did not answer on {self.endpoint_url} within {START_LIMIT_S:.0f} s. "
            f"Its last words: {self._last_words()}"
        )

    def _last_words(self) -> str:
        log_file = self.log_file
        if log_file is None or not log_file.exists():
            return "(none)"
        return " | ".join(log_file.read_text(errors="replace").strip().splitlines()[-4:]) or "(none)"


def check_version() -> None:
    """Raise where the installed ministack is missing (ThermoclineError) or another version (Refused)."""
    try:
        found = metadata.version("ministack")
    except metadata.PackageNotFoundError:
        raise ThermoclineError(
            "The local stack needs MiniStack, which is not installed. Install the extra `local`: "
            "pip install 'thermocline[local]'."
        ) from None
    if found != VERSION:
        raise Refused(
            f"The local stack is checked against ministack {VERSION} and found {found}. "
            f"Install the version it knows: pip install ministack=={VERSION}."
        )


def child_environment(
    parent: Mapping[str, str], port: int, temp_dir: Path, options: EmulatorOptions
) -> dict[str, str]:
    """The environment of the emulator and of every Lambda worker below it.

    Nothing of the user's AWS settings reaches it, neither variables nor files: only test
    credentials, so no function can reach a real account.
    """
    env = {name: parent[name] for name in INHERITED if name in parent}
    env |= CREDENTIALS
    env |= {
        "AWS_DEFAULT_REGION": options.region,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "MINISTACK_REGION": options.region,
        "GATEWAY_PORT": str(port),
        "BIND_HOST": HOST,
        "TMPDIR": str(temp_dir),
        "LOG_LEVEL": "WARNING",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    if options.data_dir is not None:
        data = options.data_dir.resolve()
        env |= {
            "PERSIST_STATE": "1",
            "STATE_DIR": str(data / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(data / "s3"),
        }
    return env


def port_is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def claim_port(port: int) -> socket.socket | None:
    """Keep other stacks off a port until the socket is closed; None where another has claimed it.

    Between finding a TCP port free and the child's binding it, another stack may find it free,
    too, and take the first one's emulator for its own. The UDP port of the same number, which
    nothing here uses, is bound meanwhile: the operating system gives it to one process only.
    """
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        claim.bind((HOST, port))
    except OSError:
        claim.close()
        return None
    return claim


def free_port(first: int = 0) -> int:
    """The first free loopback port from `first` on; any free one for 0. Raises Unavailable."""
    if first == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((HOST, 0))
            return int(probe.getsockname()[1])
    for port in range(first, min(first + 200, 65_536)):
        if port_is_free(port):
            return port
    raise Unavailable(f"No port from {first} to {first + 199} is free on {HOST}. Name one with --port.")


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", HEALTH_PATH)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def _delete_tree(folder: Path) -> None:
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)
