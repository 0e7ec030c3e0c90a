"""A real Mosquitto for tests: on a free loopback port, with a password and a persistent state, stopped at the end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

USER = "sensors"
PASSWORD = "only-for-this-test"
READY_LIMIT_S = 10


def missing() -> str:
    """Which of the programs a test needs is not installed; empty where all are."""
    return ", ".join(
        name for name in ("mosquitto", "mosquitto_passwd", "mosquitto_pub") if program(name) is None
    )


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Mosquitto:
    """A broker whose sessions and queues outlive a restart, as the project's own configuration has it."""

    def __init__(self, folder: Path, settings: str = "max_inflight_messages 0\n") -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        passwords = folder / "passwords"
        subprocess.run(
            [program("mosquitto_passwd") or "", "-c", "-b", str(passwords), USER, PASSWORD],
            check=True,
            capture_output=True,
        )
        self.config = folder / "mosquitto.conf"
        owner = "user root\n" if os.getuid() == 0 else ""
        self.config.write_text(
            f"{owner}listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
            f"persistence true\npersistence_location {folder}/\nmax_queued_messages 0\n"
            f"{settings}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://{USER}:{PASSWORD}@127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program("mosquitto") or "", "-c", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        give_up = time.monotonic() + READY_LIMIT_S
        while time.monotonic() < give_up and self._process.poll() is None:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"Mosquitto did not start:\n{(self.folder / 'log').read_text()}")

    def stop(self) -> None:
        """Stop it in order, so that it saves what it holds."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(20)
            finally:
                self._process.kill()
                self._process.wait()
                self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def publish(self, topic: str, payload: str, *options: str) -> None:
        """Send one message with a client that is not ours."""
        login = ["-h", "127.0.0.1", "-p", str(self.port), "-u", USER, "-P", PASSWORD]
        command = [program("mosquitto_pub") or "", *login, "-q", "1", "-t", topic, "-m", payload, *options]
        subprocess.run(command, check=True, capture_output=True, timeout=20)

    def retained(self, topic: str) -> str:
        """What is retained under a topic, as another client sees it; empty where nothing is."""
        login = ["-h", "127.0.0.1", "-p", str(self.port), "-u", USER, "-P", PASSWORD]
        command = [program("mosquitto_sub") or "", *login, "-t", topic, "-C", "1", "-W", "3"]
        done = subprocess.run(command, check=False, capture_output=True, timeout=20, encoding="utf-8")
        return done.stdout.strip()
