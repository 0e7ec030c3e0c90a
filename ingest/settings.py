"""What the environment says: the only file that reads it, one field per variable, each documented."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import BadInput

SETTINGS: dict[str, str] = {
    "THERMOCLINE_TABLE": "Name of the DynamoDB table that is the hot tier. Set by the template.",
    "THERMOCLINE_ARCHIVE_BUCKET": "Bucket of the segments, the cold tier. Set by the template.",
    "THERMOCLINE_REJECTS_BUCKET": "Bucket that keeps what was refused. Set by the template.",
    "THERMOCLINE_CODEC": "Codec of new chunks: `list` (default) or `packed`.",
    "THERMOCLINE_CHUNK_GRACE_S": "Seconds after which a chunk that a manifest names and the table lacks counts as "
    "never written; at least as long as a function may run. Default 900.",
    "THERMOCLINE_COMPACT_GRACE_S": "Seconds for which a segment that was compacted is kept for those who hold an "
    "older listing. Default 86400.",
    "THERMOCLINE_STACK": "Name of the deployment: the dimension `stack` of every metric. Set by the template.",
}
"""Every variable the functions read, with its meaning."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a function needs to know of its deployment."""

    table: str
    archive_bucket: str
    rejects_bucket: str
    codec: str = "list"
    chunk_grace_s: int = 900
    compact_grace_s: int = 86_400


def from_env(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process. Raises BadInput naming the variable that is missing or wrong."""
    values = os.environ if environ is None else environ

    def needed(name: str) -> str:
        if not values.get(name):
            raise BadInput(f"{name} is not set. It is {SETTINGS[name][0].lower()}{SETTINGS[name][1:]}")
        return values[name]

    def seconds(name: str, default: str) -> int:
        text = values.get(name) or default
        if not text.isdigit():
            raise BadInput(f"{name}: {text!r} is no whole number of seconds.")
        return int(text)

    codec = values.get("THERMOCLINE_CODEC") or "list"
    if codec not in ("list", "packed"):
        raise BadInput(f"THERMOCLINE_CODEC: {codec!r} is no codec; use list or packed.")
    return Settings(
        table=needed("THERMOCLINE_TABLE"),
        archive_bucket=needed("THERMOCLINE_ARCHIVE_BUCKET"),
        rejects_bucket=needed("THERMOCLINE_REJECTS_BUCKET"),
        codec=codec,
        chunk_grace_s=seconds("THERMOCLINE_CHUNK_GRACE_S", "900"),
        compact_grace_s=seconds("THERMOCLINE_COMPACT_GRACE_S", "86400"),
    )


def stack_from_env(environ: Mapping[str, str] | None = None) -> str:
    """The name of the deployment a function belongs to, `thermocline` where none is given."""
    values = os.environ if environ is None else environ
    return values.get("THERMOCLINE_STACK") or "thermocline"


def endpoint_from_env(environ: Mapping[str, str] | None = None) -> str | None:
    """The endpoint AWS_ENDPOINT_URL names; None where the user named none."""
    values = os.environ if environ is None else environ
    return values.get("AWS_ENDPOINT_URL") or None


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Where things are kept that can be made again: `$XDG_CACHE_HOME/thermocline`, else `~/.cache/thermocline`."""
    values = os.environ if environ is None else environ
    base = values.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "thermocline"
