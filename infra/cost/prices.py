"""The dated table of prices and assumptions: read, completed from a user's file, and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ingest.errors import BadInput

OWN_TABLE = Path(__file__).with_name("prices.toml")
UNITS: dict[str, str] = {
    "dynamodb_write": "write units",
    "dynamodb_read": "read units",
    "dynamodb_gb_month": "GB-months",
    "dynamodb_backup_gb_month": "GB-months",
    "kinesis_shard_hour": "shard-hours",
    "kinesis_put_unit": "PUT units of 25 KB",
    "kinesis_stream_hour": "stream-hours",
    "kinesis_gb_in": "GB in",
    "kinesis_gb_out": "GB out",
    "lambda_request": "invocations",
    "lambda_gb_s": "GB-seconds",
    "s3_put": "PUT requests",
    "s3_get": "GET requests",
    "s3_gb_month": "GB-months",
    "logs_gb": "GB of logs",
    "metric_month": "metrics",
    "alarm_month": "alarms",
    "iot_message": "messages of 5 KB",
    "iot_minute": "connection-minutes",
    "iot_rule": "rules triggered",
    "iot_action": "rule actions",
    "timestream_write": "writes of 1 KiB",
    "timestream_memory_gb_hour": "GB-hours",
    "timestream_magnetic_gb_month": "GB-months",
}
"""Every price a region must have, and what it is the price of."""


@dataclass(frozen=True, slots=True)
class Price:
    """`usd` for `per` units."""

    usd: float
    per: float
    source: str

    def of(self, quantity: float) -> float:
        """What a quantity costs, in dollars."""
        return quantity * self.usd / self.per

    def __str__(self) -> str:
        scale = {1.0: "each", 1e3: "per thousand", 1e6: "per million"}.get(self.per, f"per {self.per:g}")
        return f"${self.usd:.10f}".rstrip("0").rstrip(".") + f" {scale}"


@dataclass(frozen=True, slots=True)
class Prices:
    """One region's prices, and the assumptions, each with where it comes from."""

    region: str
    date: str
    table: Mapping[str, Price]
    assumed: Mapping[str, float]
    reasons: Mapping[str, str]

    def __getitem__(self, name: str) -> Price:
        return self.table[name]


def load(region: str, override: Path | None = None) -> Prices:
    """The prices of a region, single entries replaced by the file's.

    Raises BadInput where the file cannot be read or holds what the table does not know, and
    where the region is unknown (naming those known) or lacks a price.
    """
    own = _read(OWN_TABLE)
    regions = {name: dict(entries) for name, entries in _tables(own, "regions", OWN_TABLE).items()}
    assumed = dict(_mapping(own.get("assumed", {}), "assumed", OWN_TABLE))
    date = str(own["date"])
    if override is not None:
        given = _read(override)
        known = set(assumed)
        for name, entries in _tables(given, "regions", override).items():
            regions.setdefault(name, {}).update(entries)
        assumed |= _mapping(given.get("assumed", {}), "assumed", override)
        _refuse(set(assumed) - known, known, "assumption", override)
        date = str(given.get("date", date))
    if region not in regions:
        raise BadInput(
            f"--region: no prices of {region!r} are known; known: {', '.join(sorted(regions))}. Give your own with "
            f"--prices FILE, in the form of infra/cost/prices.toml."
        )
    entries = regions[region]
    place = override or OWN_TABLE
    _refuse(set(entries) - set(UNITS), set(UNITS), "price", place)
    missing = sorted(set(UNITS) - set(entries))
    if missing:
        raise BadInput(f"--prices: region {region} lacks {', '.join(missing)}.")
    table = {name: _price(name, entry, place) for name, entry in entries.items()}
    values = {name: _number(name, entry, "value", place) for name, entry in assumed.items()}
    reasons = {name: str(_mapping(entry, name, place).get("source", "")) for name, entry in assumed.items()}
    return Prices(region, date, table, values, reasons)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"--prices: {path} cannot be read ({error}).") from error


def _tables(document: Mapping[str, Any], name: str, path: Path) -> dict[str, Mapping[str, Any]]:
    return {
        key: _mapping(value, key, path) for key, value in _mapping(document.get(name, {}), name, path).items()
    }


def _mapping(value: object, name: str, path: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(f"--prices: {name} in {path} must be a table, as in infra/cost/prices.toml.")
    return cast(Mapping[str, Any], value)


def _refuse(unknown: set[str], known: set[str], what: str, path: Path) -> None:
    if unknown:
        raise BadInput(
            f"--prices: {path} has the {what} {min(unknown)!r}, which is not known; known: {', '.join(sorted(known))}."
        )


def _price(name: str, entry: object, path: Path) -> Price:
    per = _number(name, entry, "per", path)
    source = str(_mapping(entry, name, path).get("source", ""))
    return Price(_number(name, entry, "usd", path, least=0.0), per, source)


def _number(name: str, entry: object, part: str, path: Path, least: float = 1e-12) -> float:
    value = _mapping(entry, name, path).get(part)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < 1e15:
        raise BadInput(f"--prices: {name} in {path} needs `{part}`, a number above zero (not {value!r}).")
    return float(value)
