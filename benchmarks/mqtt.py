"""The row on the MQTT gateway: messages per second through Mosquitto, against plain paho in the same run."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.measure import Row
from benchmarks.noop_server import NoopServer

MESSAGES = 40_000
ROUNDS = 3
GOAL = 0.6
ROOT = Path(__file__).resolve().parent.parent


def rows() -> list[Row]:
    """The row; none, with a word why, where Mosquitto is not installed."""
    program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        print("  left out: mosquitto is not installed (Debian: apt install mosquitto)", flush=True)
        return []
    plain: list[float] = []
    ours: list[float] = []
    with NoopServer() as kinesis, _broker(program) as port:
        for _ in range(ROUNDS):
            plain.append(_seconds(port, "receive"))
            ours.append(_seconds(port, "carry", kinesis.endpoint_url))
    ratios = [paho_s / gateway_s for paho_s, gateway_s in zip(plain, ours, strict=True)]
    return [
        Row(
            figure="MQTT gateway, QoS 1 messages through Mosquitto into Kinesis, acknowledged",
            value=median(ratios),
            unit="x",
            against="messages per second of plain paho publish and subscribe at QoS 1",
            goal=f">= {GOAL}x",
            met=median(ratios) >= GOAL,
            spread=(min(ratios), max(ratios)),
            numbers={
                "messages per second": MESSAGES / median(ours),
                "plain paho": MESSAGES / median(plain),
            },
        )
    ]


def _seconds(port: int, role: str, *more: str) -> float:
    """Seconds from the first message to the last, as the receiving process saw it."""
    command = [sys.executable, "-m", "benchmarks.mqtt_side"]
    receiver = subprocess.Popen(
        [*command, role, str(port), str(MESSAGES), *more], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8"
    )
    try:
        if receiver.stdout is None or receiver.stdout.readline() != "ready\n":
            raise RuntimeError(f"the side {role} did not start")
        subprocess.run([*command, "send", str(port), str(MESSAGES)], cwd=ROOT, check=True, timeout=120)
        out, _ = receiver.communicate(timeout=120)
        if receiver.returncode:
            raise RuntimeError(f"the side {role} failed")
        return float(out)
    finally:
        receiver.kill()
        receiver.wait()


@contextmanager
def _broker(program: str) -> Generator[int]:
    """Mosquitto on a free loopback port, without persistence, open to this machine only."""
    with tempfile.TemporaryDirectory(prefix="thermocline-bench-") as folder:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        config = Path(folder) / "mosquitto.conf"
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            "max_inflight_messages 0\nlog_type none\n"
        )
        Path(folder).chmod(0o755)
        process = subprocess.Popen([program, "-c", str(config)], stdin=subprocess.DEVNULL)
        try:
            _wait_for(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < give_up_s:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError("Mosquitto did not start")
