"""Fixtures that several suites share: the emulator, clients for it, and fresh tables and buckets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REGION = "us-east-1"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start_emulator(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    port = _free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    settings = {"GATEWAY_PORT": str(port), "BIND_HOST": "127.0.0.1", "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            env=inherited | settings,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return child, f"http://127.0.0.1:{port}"


def _wait_until_healthy(child: subprocess.Popen[bytes], url: str) -> bool:
    """Whether it answers within 30 s; False as soon as the child is gone (its port was taken)."""
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and child.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    return False


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


@pytest.fixture
def unused_tcp_port() -> int:
    """A loopback port nobody listens on."""
    return _free_port()


@pytest.fixture(scope="session")
def emulator_url() -> Iterator[str]:
    """A private MiniStack on a free loopback port, one per test process, gone at the end."""
    pytest.importorskip("ministack", reason="the embedded stack is the extra `local`")
    with tempfile.TemporaryDirectory(prefix="thermocline-tests-", ignore_cleanup_errors=True) as name:
        for _ in range(3):
            child, url = _start_emulator(Path(name))
            try:
                if _wait_until_healthy(child, url):
                    yield url
                    return
            finally:
                _stop(child)
        pytest.fail(f"MiniStack did not start:\n{(Path(name) / 'log').read_text(errors='replace')[-2000:]}")


@pytest.fixture(scope="session")
def emulator_client(emulator_url: str) -> Callable[[str], Any]:
    """Makes (once each) the low-level client of a service, as the library makes them."""
    from ingest.stores import connect

    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = connect.client(service, endpoint_url=emulator_url, region=REGION)
        return made[service]

    return client


@pytest.fixture
def table_name(emulator_client: Callable[[str], Any]) -> Iterator[str]:
    """A fresh, empty table with the one table's keys and stream."""
    dynamodb = emulator_client("dynamodb")
    name = f"table-{uuid.uuid4().hex[:12]}"
    dynamodb.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "pk", "KeyType": "HASH"},
            {"AttributeName": "sk", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
    )
    yield name
    dynamodb.delete_table(TableName=name)


@pytest.fixture
def bucket_name(emulator_client: Callable[[str], Any]) -> Iterator[str]:
    """A fresh, empty bucket."""
    s3 = emulator_client("s3")
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    yield name
    while keys := s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": entry["Key"]} for entry in keys]})
    s3.delete_bucket(Bucket=name)
