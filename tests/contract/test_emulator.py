"""The emulator as a child process: what it gets, what it leaves, and that it never outlives its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from infra.local import emulator
from infra.local.emulator import REGION, Emulator, EmulatorOptions
from ingest.errors import BadInput, Refused, Unavailable
from ingest.stores.connect import client

PARENT = """
import sys, time
from infra.local.emulator import Emulator
child = Emulator().start()
print(child.pid, child.work_dir, flush=True)
time.sleep(60)
"""


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def gone_within(pid: int, limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if not runs(pid):
            return True
        time.sleep(0.02)
    return False


def test_it_starts_answers_and_leaves_nothing() -> None:
    started = Emulator()
    with started:
        pid, folder = started.pid, started.work_dir
        s3: Any = client("s3", endpoint_url=started.endpoint_url, region=REGION)
        s3.create_bucket(Bucket="bucket")
        assert started.endpoint_url.startswith("http://127.0.0.1:")
        assert started.memory_bytes() > 20_000_000
        assert folder.is_dir()
    assert pid is not None
    assert not runs(pid)
    assert not folder.exists()
    assert not started.alive()
    started.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_its_parent_however_that_ends(how: signal.Signals) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid_text, folder = parent.stdout.readline().split()
    assert runs(int(pid_text))
    parent.send_signal(how)
    parent.communicate()
    assert gone_within(int(pid_text), 5)
    assert not Path(folder).exists()


def test_a_given_port_is_used_and_a_taken_one_refused() -> None:
    port = emulator.free_port()
    with Emulator(EmulatorOptions(port)) as started:
        assert started.port == port
        with pytest.raises(BadInput, match=f"Port {port} is in use"):
            Emulator(EmulatorOptions(port)).start()
        assert emulator.free_port(port) > port


def test_what_was_kept_is_there_after_a_clean_stop(tmp_path: Path) -> None:
    options = EmulatorOptions(data_dir=tmp_path)
    with Emulator(options) as first:
        s3: Any = client("s3", endpoint_url=first.endpoint_url, region=REGION)
        s3.create_bucket(Bucket="kept")
        s3.put_object(Bucket="kept", Key="a/b", Body=b"content")
    with Emulator(options) as second:
        s3 = client("s3", endpoint_url=second.endpoint_url, region=REGION)
        assert s3.get_object(Bucket="kept", Key="a/b")["Body"].read() == b"content"


def test_nothing_of_the_users_aws_settings_reaches_it(tmp_path: Path) -> None:
    parent = {
        "PATH": "/bin",
        "AWS_PROFILE": "production",
        "AWS_ACCESS_KEY_ID": "real",
        "AWS_SESSION_TOKEN": "real",
        "AWS_ENDPOINT_URL": "https://example.com",
        "SERVICES": "s3",
        "PYTHONPATH": "/elsewhere",
    }
    env = emulator.child_environment(parent, 1234, tmp_path, EmulatorOptions())
    assert {name: env[name] for name in env if name.startswith("AWS_")} == {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    assert (env["PATH"], env["BIND_HOST"], env["TMPDIR"]) == ("/bin", "127.0.0.1", str(tmp_path))
    assert not {"SERVICES", "PYTHONPATH"} & env.keys()


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator.metadata, "version", lambda _: "1.6.0")
    with pytest.raises(Refused, match=r"checked against ministack 1\.5\.33 and found 1\.6\.0"):
        Emulator().start()


def test_one_that_cannot_start_says_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    port = emulator.free_port()
    monkeypatch.setattr(emulator, "port_is_free", lambda _: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(Unavailable, match="already in use"):
            Emulator(EmulatorOptions(port)).start()


def test_two_that_start_at_once_never_share_a_port() -> None:
    """What one claims is refused to the other, before either child listens."""
    port = emulator.free_port()
    first = emulator.claim_port(port)
    assert first is not None
    try:
        assert emulator.port_is_free(port), "nobody listens yet"
        with pytest.raises(BadInput, match=str(port)):
            Emulator(EmulatorOptions(port)).start()
    finally:
        first.close()
    again = emulator.claim_port(port)
    assert again is not None
    again.close()
