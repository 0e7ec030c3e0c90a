"""`python -m benchmarks`: runs every measurement, writes results.json, and README.md from it."""

from __future__ import annotations

import json
import os
import platform
import time
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import archive, bill, cold_query, compaction, hot_query, mqtt, packing, peers, stack, store
from benchmarks.measure import Row
from benchmarks.page import page

HERE = Path(__file__).resolve().parent
PACKAGES = (
    "aws-kinesis-agg",
    "boto3",
    "botocore",
    "ministack",
    "msgspec",
    "numpy",
    "paho-mqtt",
    "pcodec",
    "pyarrow",
)


def main() -> None:
    """Run everything; nothing is written unless all of it succeeded."""
    began_s = time.monotonic()
    rows = _told("storing", store.rows)
    rows += _told("packing", packing.rows)
    rows += _told("hot query", hot_query.rows)
    rows += _told("hot query beside other databases", peers.rows)
    rows += _told("cold query and archive", archive.rows)
    rows += _told("time of a cold query", cold_query.rows)
    rows += _told("compaction", compaction.rows)
    door_per_core_s = rows[0].numbers[store.PER_CORE]
    rows += _told("embedded stack", lambda: stack.rows(door_per_core_s))
    rows += _told("MQTT gateway", mqtt.rows)
    rows += _told("bills", bill.rows)
    results = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - began_s),
        "machine": {
            "cpus": os.cpu_count(),
            "python": platform.python_version(),
            "platform": f"{platform.system()} {platform.machine()}",
        },
        "versions": _versions(),
        "offered": packing.OFFERED,
        "rows": [row.as_json() for row in rows],
    }
    text = json.dumps(results, indent=2) + "\n"
    (HERE / "results.json").write_text(text)
    (HERE / "README.md").write_text(page(json.loads(text)))
    print(f"{results['seconds']} s. Written: benchmarks/results.json, benchmarks/README.md")


def _told(what: str, measure: Callable[[], list[Row]]) -> list[Row]:
    """The rows of one part, each printed as soon as it is there."""
    print(f"{what} ...", flush=True)
    rows = measure()
    for row in rows:
        plain: dict[str, Any] = row.as_json()
        goal = f" (goal {row.goal}: {'met' if row.met else 'not met'})" if row.goal else ""
        print(f"  {row.figure}: {plain['value']:,} {row.unit}{goal}", flush=True)
    return rows


def _versions() -> dict[str, str]:
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    found = {"thermocline": str(project["project"]["version"])}
    return found | {name: metadata.version(name) for name in PACKAGES}


if __name__ == "__main__":
    main()
