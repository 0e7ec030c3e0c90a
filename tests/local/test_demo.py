"""The demo is what a new user sees first: it must show every step and find nothing wrong."""

from __future__ import annotations

import json
import time

from tests.local.command import Cli


def test_the_demo_shows_the_whole_path_and_every_answer_is_exact(cli: Cli) -> None:
    began_s = time.monotonic()
    process = cli.start("demo", "--sensors", "5")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    summary = json.loads(out.splitlines()[-1])
    assert summary["mismatches"] == 0
    assert summary["readings"] == 5 * 3600
    assert summary["segments"] > 0
    assert summary["hot_rows"] == summary["cold_rows"] == 2400
    assert summary["readings"] / summary["write_units"] > 10
    steps = [
        "stack up",
        "sent",
        "per write unit",
        "hot:",
        "expired",
        "segments",
        "cold:",
        "across:",
        "checked",
    ]
    lines = [line for line in err.splitlines() if line[:1].isdigit()]
    assert len(lines) == len(steps)
    assert all(step in line for step, line in zip(steps, lines, strict=True)), err
    assert time.monotonic() - began_s < 60
