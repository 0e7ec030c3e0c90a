"""What the environment says: the only file that reads it, one field per variable, each documented."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ingest.errors import BadInput

MOST_LANES = 100_000

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
    "THERMOCLINE_UNKNOWN_SENSORS": "What becomes of readings of a sensor that the registry does not know: "
    "`register` (default) adds it, `refuse` keeps them as rejects until it is registered and they are retried.",
    "THERMOCLINE_STREAM": "Name of the Kinesis stream that the API writes to. Set by the template.",
    "THERMOCLINE_AUTH": "Who lets requests in to the API: `token` (default), it asks for a bearer token itself; "
    "`jwt` or `iam`, an authorizer of API Gateway in front of it did.",
    "THERMOCLINE_LANES": "How many partition keys the API spreads sensors over, a multiple of the stream's shards "
    "times the parallelization factor. Default 20.",
    "THERMOCLINE_WRITE_UNIT_USD": "Price of a million write units in US dollars, for the API's estimate of a month. "
    "Set by deploy; without it no estimate is given.",
    "THERMOCLINE_CONTROL_URL": "Local stack only: where the API asks for counters.",
    "THERMOCLINE_CONTROL_TOKEN": "Local stack only: what the API shows where it asks for counters.",
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
    unknown_sensors: str = "register"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """What the API needs to know beside Settings. `write_unit_usd` is the price of a million;
    it and the control address are None where nobody gave them."""

    stream: str
    auth: str = "token"
    lanes: int = 20
    write_unit_usd: float | None = None
    control_url: str | None = None
    control_token: str | None = None


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
    unknown_sensors = values.get("THERMOCLINE_UNKNOWN_SENSORS") or "register"
    if unknown_sensors not in ("register", "refuse"):
        raise BadInput(f"THERMOCLINE_UNKNOWN_SENSORS: {unknown_sensors!r}; use register or refuse.")
    return Settings(
        table=needed("THERMOCLINE_TABLE"),
        archive_bucket=needed("THERMOCLINE_ARCHIVE_BUCKET"),
        rejects_bucket=needed("THERMOCLINE_REJECTS_BUCKET"),
        codec=codec,
        chunk_grace_s=seconds("THERMOCLINE_CHUNK_GRACE_S", "900"),
        compact_grace_s=seconds("THERMOCLINE_COMPACT_GRACE_S", "86400"),
        unknown_sensors=unknown_sensors,
    )


def api_from_env(environ: Mapping[str, str] | None = None) -> ApiSettings:
    """What the API reads beside `from_env`. Raises BadInput naming the variable that is missing or wrong."""
    values = os.environ if environ is None else environ
    stream = values.get("THERMOCLINE_STREAM")
    if not stream:
        raise BadInput(
            "THERMOCLINE_STREAM is not set. It is the name of the Kinesis stream the API writes to."
        )
    auth = values.get("THERMOCLINE_AUTH") or "token"
    if auth not in ("token", "jwt", "iam"):
        raise BadInput(f"THERMOCLINE_AUTH: {auth!r}; use token, jwt or iam.")
    lanes = values.get("THERMOCLINE_LANES") or "20"
    if not lanes.isdecimal() or not 1 <= int(lanes) <= MOST_LANES:
        raise BadInput(f"THERMOCLINE_LANES: {lanes!r} is no whole number from 1 to {MOST_LANES}.")
    price = values.get("THERMOCLINE_WRITE_UNIT_USD")
    try:
        write_unit_usd = float(price) if price else None
    except ValueError as error:
        raise BadInput(f"THERMOCLINE_WRITE_UNIT_USD: {price!r} is no price in US dollars.") from error
    if write_unit_usd is not None and not 0 <= write_unit_usd < float("inf"):
        raise BadInput(f"THERMOCLINE_WRITE_UNIT_USD: {price!r} is no price in US dollars.")
    return ApiSettings(
        stream=stream,
        auth=auth,
        lanes=int(lanes),
        write_unit_usd=write_unit_usd,
        control_url=values.get("THERMOCLINE_CONTROL_URL") or None,
        control_token=values.get("THERMOCLINE_CONTROL_TOKEN") or None,
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


def hand_over(variables: Mapping[str, str]) -> None:
    """Set variables of this process, for a door that is to run in it."""
    os.environ.update(variables)
