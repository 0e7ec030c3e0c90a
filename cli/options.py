"""Options that several commands share, so that each is spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingest.errors import BadInput

if TYPE_CHECKING:
    from ingest.keys import Period

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
        help="Name of a deployed stack. Without it, a running local stack comes first.",
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

# --- the codec of a deployment ----------------------------------------------------------


def check_codec(codec: str) -> str:
    """The codec. Raises BadInput where there is no such one, or where what it needs is not installed here."""
    from importlib.util import find_spec

    if codec not in ("list", "packed"):
        raise BadInput(f"--codec: {codec!r} is no codec; use list or packed.")
    if codec == "packed" and find_spec("pcodec") is None:
        raise BadInput(
            "--codec: packed needs pcodec, which is not installed here. Install thermocline with the extra "
            "`packed` (pip install 'thermocline[packed]'), or use list."
        )
    return codec


Codec = Annotated[
    str,
    typer.Option(
        "--codec",
        metavar="list|packed",
        callback=check_codec,
        help="Codec of new chunks: readable lists, or packed where that takes fewer write units.",
    ),
]

# --- what becomes of sensors that nobody knows ------------------------------------------


def check_unknown_sensors(choice: str) -> str:
    """The choice. Raises BadInput where there is no such one."""
    if choice not in ("register", "refuse"):
        raise BadInput(f"--unknown-sensors: {choice!r} is no choice; use register or refuse.")
    return choice


UnknownSensors = Annotated[
    str,
    typer.Option(
        "--unknown-sensors",
        metavar="register|refuse",
        callback=check_unknown_sensors,
        help="Sensors that are not registered: register them on first sight, or keep what they send as rejects.",
    ),
]

# --- times of a deployment --------------------------------------------------------------

Bucket = Annotated[str, typer.Option("--bucket", metavar="D", help="Width of a bucket.")]
Window = Annotated[str, typer.Option("--window", metavar="D", help="How long a batch may gather.")]
ArchiveAfter = Annotated[
    str, typer.Option("--archive-after", metavar="D", help="When a bucket is archived, after its end.")
]
HotRetention = Annotated[
    str,
    typer.Option(
        "--hot-retention", metavar="D", help="When a chunk leaves the hot tier, after its bucket's end."
    ),
]
ColdRetention = Annotated[
    str, typer.Option("--cold-retention", metavar="D", help="How long segments are kept.")
]


def whole_s(text: str, name: str) -> int:
    """A duration in whole seconds, at least one. Raises BadInput naming the option."""
    from ingest.times import parse_duration

    us = parse_duration(text, name)
    if us < 1_000_000 or us % 1_000_000:
        raise BadInput(f"{name}: {text!r} must be whole seconds, at least 1s.")
    return us // 1_000_000


def period(bucket: str, archive_after: str, hot_retention: str, cold_retention: str) -> Period:
    """The widths and retentions the options ask for. Raises BadInput where they cannot work together."""
    from ingest.keys import Period, check_period

    found = Period(
        from_s=0,
        bucket_s=whole_s(bucket, "--bucket"),
        archive_after_s=whole_s(archive_after, "--archive-after"),
        hot_retention_s=whole_s(hot_retention, "--hot-retention"),
        cold_retention_s=whole_s(cold_retention, "--cold-retention"),
    )
    check_period(found)
    return found
