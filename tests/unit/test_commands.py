"""What the command line does before it talks to anything: refusals, exit codes, start-up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cli import deploy as deploy_command
from ingest.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"XDG_RUNTIME_DIR": str(folder), "HOME": str(folder), "PATH": "/usr/bin:/bin", **variables}
    command = [sys.executable, "-m", "cli.main", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["query", "a b"], 2, "sensor:"),
        (["query", "a", "--from", "someday"], 2, "--from"),
        (["query", "a", "--from", "now", "--to", "-1h"], 2, "half-open"),
        (["query", "a", "--tier", "warm"], 2, "--tier"),
        (["query", "a", "--every", "0s"], 2, "every"),
        (["simulate", "--faults", "gremlins=1"], 2, "gremlins"),
        (["simulate", "--speed", "-3"], 2, "--speed"),
        (["replay", "nowhere.csv"], 3, "nowhere.csv"),
        (["up", "--bucket", "7m"], 2, "bucket"),
        (["up", "--archive-after", "8d"], 2, "hot-retention"),
        (["up", "--codec", "zip"], 2, "--codec"),
        (["deploy", "--codec", "zip"], 2, "--codec"),
        (["deploy", "--hot-retention", "48h"], 4, "48 h"),
        (["deploy", "--target", "moon"], 2, "--target"),
        (["deploy", "--parameter", "ShardCount"], 2, "NAME=VALUE"),
        (["clock"], 4, "AWS_ENDPOINT_URL"),
        (["clock", "--every", "0s"], 2, "--every"),
        (["destroy"], 4, "--yes"),
        (["destroy", "--target", "moon", "--yes"], 2, "--target"),
        (["status"], 3, "thermocline up -d"),
        (["down"], 3, "thermocline up -d"),
        (["flush"], 3, "thermocline up -d"),
        (["latest"], 3, "thermocline up -d"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_says_why_and_what_next(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "command", [["deploy"], ["deploy", "--target", "aws"], ["destroy", "--target", "aws", "--yes"]]
)
@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_aws_is_not_mistaken_for_an_endpoint_that_was_left_in_the_shell(
    tmp_path: Path, command: list[str], name: str
) -> None:
    done = run(tmp_path, *command, "--region", "eu-central-1", **{name: "http://127.0.0.1:1"})
    assert done.returncode == 4, done.stderr
    assert "http://127.0.0.1:1 is not AWS" in done.stderr
    assert "--endpoint-url" in done.stderr


def test_an_endpoint_that_is_named_is_taken_for_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that an emulator, or a private endpoint, can stand in."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:2")
    clients = deploy_command._aws("http://127.0.0.1:1", "eu-central-1")
    assert clients.s3.meta.endpoint_url == "http://127.0.0.1:1"
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    real = deploy_command._aws(None, "eu-central-1")
    assert str(real.dynamodb.meta.endpoint_url).endswith(".amazonaws.com")


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, cli.main; heavy = {'boto3', 'botocore', 'pyarrow', 'numpy', 'rich', 'msgspec'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_packed_is_refused_where_pcodec_is_not_installed(monkeypatch):
    import importlib.util

    from cli.options import check_codec

    assert check_codec("packed") == "packed"
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert check_codec("list") == "list"
    with pytest.raises(BadInput, match=r"--codec: packed needs pcodec.*thermocline\[packed\]"):
        check_codec("packed")
