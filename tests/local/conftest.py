"""Local stacks for tests: one command line per test, or one short-lived stack per module."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local.command import Cli, processes_of


@pytest.fixture
def cli() -> Iterator[Cli]:
    with tempfile.TemporaryDirectory(prefix="thermocline-test-") as folder:
        yield Cli(Path(folder))
        assert not processes_of(Path(folder)), "a process was left behind"


@pytest.fixture(scope="module")
def stack() -> Iterator[Cli]:
    """A local stack with short times, shared by the tests of a module."""
    with tempfile.TemporaryDirectory(prefix="thermocline-test-") as folder:
        found = Cli(Path(folder))
        with socket.socket() as probe:  # two stacks that start at once would both take 4566 for free
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        times = ["--archive-after", "5s", "--hot-retention", "60s", "--bucket", "1h"]
        found.run("up", "-d", "--port", port, *times)
        try:
            yield found
        finally:
            found.run("down")
        assert not processes_of(Path(folder)), "a process was left behind"
