"""Real series through the whole local stack: exact while hot, archived, and cold; repeated; aggregated."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest

from tests.local.command import DATA, Cli

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real series are not here (../shared/data)")

RANGE = ("--from", "2006-01-01", "--to", "2015-01-01")
FILES = ("nab_machine_temp", "nab_ambient_temp", "nab_elb_requests", "house_voltage", "house_energy_counter")


def expected(name: str) -> dict[int, float]:
    """Milliseconds and value of every row of a file."""
    with (DATA / f"{name}.csv").open() as file:
        return {int(row["ts_ms"]): float(row["value"]) for row in csv.DictReader(file)}


def texts(name: str) -> list[str]:
    with (DATA / f"{name}.csv").open() as file:
        return [row["value"] for row in csv.DictReader(file)]


def answered(cli: Cli, sensor: str, *options: str) -> dict[int, float]:
    rows = cli.rows(sensor, *RANGE, *options)
    instants = [round(datetime.fromisoformat(row["timestamp"]).timestamp() * 1000) for row in rows]
    assert instants == sorted(set(instants))
    return dict(zip(instants, (float(row["value"]) for row in rows), strict=True))


def left_in_table(cli: Cli, *prefixes: str) -> int:
    state = cli.json("status")
    client = boto3.client(
        "dynamodb",
        endpoint_url=state["endpoint_url"],
        region_name=state["region"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    pages = client.get_paginator("scan").paginate(TableName=state["table"], ProjectionExpression="pk")
    return sum(item["pk"]["S"].startswith(prefixes) for page in pages for item in page["Items"])


@pytest.fixture(scope="module")
def replayed(stack: Cli) -> Cli:
    for name in FILES:
        summary = json.loads(stack.run("replay", str(DATA / f"{name}.csv"), "--sensor", name))
        assert summary["sent"] == len(expected(name))
        assert summary["rejected"] == 0
    return stack


def test_every_row_comes_back_from_every_tier_with_every_digit(replayed: Cli, tmp_path: Path) -> None:
    cli = replayed
    wanted = {name: expected(name) for name in FILES}
    cli.run("flush")
    assert {name: answered(cli, name) for name in FILES} == wanted, "after flush"
    cli.run("replay", str(DATA / "house_voltage.csv"), "--sensor", "house_voltage")
    cli.run("expire", "--now", "now+10d")
    assert left_in_table(cli, "s#", "m#") == 0
    assert {name: answered(cli, name, "--tier", "cold") for name in FILES} == wanted, "cold"
    assert {name: answered(cli, name) for name in FILES} == wanted, "auto, once cold"
    assert answered(cli, FILES[0], "--tier", "hot") == {}

    shortest = [repr(float(text)).removesuffix(".0") for text in texts("nab_machine_temp")]
    rows = cli.rows("nab_machine_temp", *RANGE)
    assert [row["value"] for row in rows] == shortest

    cli.run("replay", str(DATA / "nab_machine_temp.csv"), "--sensor", "nab_machine_temp")
    cli.run("flush")
    assert answered(cli, "nab_machine_temp") == wanted["nab_machine_temp"], "hot and cold at once"

    check_windows(cli)
    cli.run("expire", "--now", "now+10d")  # nothing is left to be archived while it is listed and fetched
    check_engines(cli, tmp_path / "tree", wanted)


def check_windows(cli: Cli) -> None:
    """Hourly mean, max and count are what pandas computes from the file."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_csv(DATA / "nab_machine_temp.csv")
    frame.index = pandas.to_datetime(frame["ts_ms"], unit="ms", utc=True)
    wanted = frame["value"].resample("1h").agg(["mean", "max", "count"])
    wanted = wanted[wanted["count"] > 0]
    rows = cli.rows("nab_machine_temp", *RANGE, "--every", "1h", "--agg", "mean,max,count")
    assert [row["timestamp"] for row in rows] == [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in wanted.index]
    assert [int(row["value_count"]) for row in rows] == list(wanted["count"])
    assert [float(row["value_max"]) for row in rows] == list(wanted["max"])
    assert [float(row["value_mean"]) for row in rows] == pytest.approx(list(wanted["mean"]), rel=1e-12)


def check_engines(cli: Cli, tree: Path, wanted: dict[str, dict[int, float]]) -> None:
    """The listing is right, and four engines read the same rows from the downloaded tree."""
    listed = cli.json("archive", "ls")
    assert all(row["size_bytes"] > 0 and row["first"] <= row["last"] for row in listed)
    cli.run("archive", "get", str(tree))
    files = sorted(tree.rglob("*.parquet"))
    assert len(files) == len(listed)
    assert sum(row["size_bytes"] for row in listed) == sum(file.stat().st_size for file in files)
    engines = {"duckdb": by_duckdb, "pandas": by_pandas, "polars": by_polars, "pyarrow": by_pyarrow}
    for engine, read in engines.items():
        pytest.importorskip(engine)
        rows = read(tree)
        assert len(rows) >= sum(len(series) for series in wanted.values())
        found = {(sensor, ts_ms): value for sensor, ts_ms, value in rows}
        truth = {(name, ts_ms): value for name, series in wanted.items() for ts_ms, value in series.items()}
        assert found == truth, engine


Row = tuple[str, int, float]


def by_duckdb(tree: Path) -> list[Row]:
    import duckdb

    query = (
        "select sensor_id, epoch_ms(ts), value from "
        f"read_parquet('{tree}/readings/v1/*/*.parquet', hive_partitioning=true)"
    )
    return duckdb.execute(query).fetchall()


def by_pandas(tree: Path) -> list[Row]:
    import pandas as pd

    frame = pd.read_parquet(tree / "readings" / "v1")
    instants = [round(t.timestamp() * 1000) for t in frame["ts"]]
    return list(zip(frame["sensor_id"], instants, frame["value"], strict=True))


def by_polars(tree: Path) -> list[Row]:
    import polars as pl

    frame = pl.scan_parquet(f"{tree}/readings/v1/**/*.parquet", hive_partitioning=True)
    chosen = frame.select("sensor_id", pl.col("ts").dt.epoch("ms"), "value").collect()
    return chosen.rows()


def by_pyarrow(tree: Path) -> list[Row]:
    import pyarrow.dataset

    table = pyarrow.dataset.dataset(
        tree / "readings" / "v1", format="parquet", partitioning="hive"
    ).to_table()
    instants = [round(t.replace(tzinfo=UTC).timestamp() * 1000) for t in table["ts"].to_pylist()]
    return list(zip(table["sensor_id"].to_pylist(), instants, table["value"].to_pylist(), strict=True))
