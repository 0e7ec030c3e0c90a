"""Options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="table|csv|json|ndjson|parquet",
        help="How to write the answer. Default: by the suffix of -o, else table on a terminal, ndjson when piped.",
        envvar="THERMOCLINE_FORMAT",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the answer to this file instead of stdout."),
]
Stack = Annotated[
    str,
    typer.Option(
        "--stack",
        metavar="NAME",
        help="Name of the deployed stack (used where no local stack runs).",
        envvar="THERMOCLINE_STACK",
    ),
]
Since = Annotated[
    str,
    typer.Option(
        "--from", metavar="T", help="Start of the range, inclusive: -1h, 2026-11-20, RFC 3339, epoch."
    ),
]
Until = Annotated[str, typer.Option("--to", metavar="T", help="End of the range, exclusive.")]
DEFAULT_STACK = "thermocline"
