"""Predicted against measured on a running stack: write units agree to the unit, part by part."""

from __future__ import annotations

from ingest import keys
from ingest.chunk import encode
from ingest.item import write_units
from sensors import simulator
from tests.local.command import Cli

START_S = 1_763_676_000


def test_write_units_predicted_for_what_took_place_are_those_consumed(stack: Cli) -> None:
    fleet = ["--sensors", "25", "--rate", "1", "--duration", "20m", "--start", str(START_S - 600)]
    faults = ["--with", "switch,state,jitter", "--faults", "late=0.02,duplicate=0.02,dropout=0.05"]
    stack.run("simulate", *fleet, *faults)
    stack.run("simulate", "--sensors", "40", "--rate", "0.1", "--duration", "30m", "--start", str(START_S))
    stack.run("flush")  # slots of this stack are due after seconds: manifests are gone by now, chunks soon
    found = stack.json("cost", "--measured")
    status = stack.json("status")
    assert found["predicted"] == found["measured"]
    assert found["equal"] is True
    assert set(found["difference"].values()) == {0.0}
    assert found["measured"]["write_units"] == status["write_units"] == found["write_units_of_status"]
    assert found["measured"]["readings"] == status["readings"] > 25 * 1_100
    assert found["measured"]["registry"] == 40
    assert found["measured"]["chunk_items"] == status["chunks"]
    assert found["batches_not_compared"] == 0
    assert found["batches"] == status["functions"]["thermocline-store-readings"]["Invocations"]
    parts = ("chunks", "manifests", "tickets", "registry")
    assert sum(found["measured"][part] for part in parts) == found["measured"]["write_units"]


def test_units_of_chunks_follow_from_the_fleet_alone_where_every_sensor_sends_one_record(cli: Cli) -> None:
    """Each sensor's hour travels in one record, so its chunk is one whatever the batch: nothing is read back."""
    cli.run("up", "-d", "--window", "5s")
    try:
        cli.run("simulate", "--sensors", "8", "--rate", "0.5", "--duration", "590s", "--start", str(START_S))
        cli.run("flush")
        found = cli.json("cost", "--measured")
    finally:
        cli.run("down")
    whole = simulator.truth(simulator.Fleet(8, 0.5, START_S * 1_000_000, 590_000_000)).values()
    batch = "a" * 16
    units = [
        write_units(item.size_bytes)
        for run in whole
        for item in encode(run, keys.bucket_start_s(run.ts_us[0], 3_600), batch, START_S)
    ]
    assert found["measured"]["chunks"] == found["predicted"]["chunks"] == sum(units)
    assert found["measured"]["registry"] == 8
    assert found["measured"]["tickets"] == 2 * found["batches"]
    assert found["measured"]["readings"] == 8 * 295


def test_the_comparison_is_readable(stack: Cli) -> None:
    stack.run("simulate", "--sensors", "2", "--rate", "1", "--duration", "60s")
    text = stack.run("cost", "--measured", "--format", "table")
    lines = [line for line in text.splitlines() if line.startswith("write units together")]
    assert lines[0].split()[-1] == "0"
    assert "readings a write unit" in text
