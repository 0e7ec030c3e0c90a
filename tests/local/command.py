"""Runs the command line as a user does: a process of its own, with its own runtime folder."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
LIMIT_S = 120


@dataclass(frozen=True)
class Cli:
    """The command with a private place for its state and temporary files."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "THERMOCLINE_"))
        }
        places = {"XDG_RUNTIME_DIR": "run", "XDG_STATE_HOME": "state", "TMPDIR": "tmp"}
        for name, leaf in places.items():
            (self.folder / leaf).mkdir(exist_ok=True, mode=0o700)
            kept[name] = str(self.folder / leaf)
        return kept | {"COLUMNS": "100"}

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cli.main", *arguments]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def run(self, *arguments: str, expect: int = 0) -> str:
        """What the command writes to stdout; fails where its exit code is not the expected one."""
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"{arguments} took more than {LIMIT_S} s\n{out}\n{err}")
        assert process.returncode == expect, (
            f"{arguments}: exit {process.returncode}\n{out[-2000:]}\n{err[-4000:]}"
        )
        return out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--format", "json"))

    def rows(self, *arguments: str) -> list[dict[str, str]]:
        """A query's answer as CSV rows."""
        return list(csv.DictReader(io.StringIO(self.run("query", *arguments, "--format", "csv"))))


def processes_of(folder: Path) -> list[str]:
    """Processes whose environment or command line names the folder."""
    found: list[str] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text and int(entry.name) != os.getpid():
            found.append(f"{entry.name} {(entry / 'cmdline').read_text().replace(chr(0), ' ')}")
    return found
