"""A fleet through the whole stack: faults in the sending change no answer, and packing holds."""

from __future__ import annotations

import json

from ingest.reading import Run, canonical
from sensors import simulator
from tests.local.command import Cli

START_S = 1_763_676_000


def test_late_and_duplicate_readings_of_a_fleet_are_answered_once(stack: Cli) -> None:
    faults = "late=0.02,duplicate=0.02,dropout=0.05"
    arguments = ["--sensors", "6", "--rate", "2", "--duration", "20m", "--start", str(START_S), "--seed", "3"]
    extras = "pressure,counter,switch,state"
    summary = json.loads(stack.run("simulate", *arguments, "--faults", faults, "--with", extras))
    fleet = simulator.Fleet(
        6, 2.0, START_S * 1_000_000, 1_200_000_000, 3, faults=simulator.parse_faults(faults)
    )
    truth = simulator.truth(simulator.with_extras(fleet, extras))
    assert summary["sent"] > sum(len(run.ts_us) for run in truth.values()), "duplicates were sent"
    stack.run("flush")
    for name, run in truth.items():
        rows = stack.rows(name, "--from", str(START_S), "--to", str(START_S + 1200))
        assert [list(row.values())[1:] for row in rows] == as_text(run), name


def as_text(run: Run) -> list[list[str]]:
    columns = [run.metrics[name] for name in sorted(run.metrics)]
    return [
        ["" if cell is None else canonical(cell) for cell in cells] for cells in zip(*columns, strict=True)
    ]


def test_a_dense_fleet_packs_sixty_readings_into_a_write_unit(stack: Cli) -> None:
    before = stack.json("status")
    stack.run("simulate", "--sensors", "60", "--rate", "1", "--duration", "600s", "--start", str(START_S))
    stack.run("flush")
    after = stack.json("status")
    readings = after["readings"] - before["readings"]
    assert readings == 36_000
    assert readings / (after["write_units"] - before["write_units"]) > 60
