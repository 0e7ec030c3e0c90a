"""The benchmarks as far as they are not timed: the page follows from the results, and both sides do the same work."""

import base64
import json
import random
import re
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks import packing, soak_packed, workload
from benchmarks.measure import Paired, Row, rounded
from benchmarks.page import FIELDS, page
from ingest.kinesis_records import records, user_records
from ingest.reading import Column, Run
from ingest.wire import decode

HERE = Path(__file__).resolve().parents[2] / "benchmarks"
RESULTS = json.loads((HERE / "results.json").read_text())


# --- what is kept in the repository -----------------------------------------------------


def test_the_page_is_made_from_the_results():
    assert (HERE / "README.md").read_text() == page(RESULTS), (
        "run `make bench`, or make README.md from results.json"
    )


@pytest.mark.parametrize("row", RESULTS["rows"], ids=lambda row: row["figure"])
def test_a_row_says_what_it_measured_and_whether_its_goal_is_met(row):
    assert tuple(row) == FIELDS
    assert row["figure"]
    assert row["against"]
    assert row["value"] > 0
    assert (row["goal"] is None) == (row["met"] is None)
    assert row["met"] in (None, True, False)
    if row["spread"] is not None:
        low, high = row["spread"]
        assert low <= row["value"] <= high
    assert row["numbers"]
    assert all(isinstance(number, int | float) for number in row["numbers"].values())


def test_every_figure_stands_once():
    figures = [row["figure"] for row in RESULTS["rows"]]
    assert len(set(figures)) == len(figures)


def test_results_tell_of_the_machine_only_what_it_is():
    assert set(RESULTS["machine"]) == {"cpus", "python", "platform"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", RESULTS["date"])
    assert RESULTS["versions"]["boto3"]
    assert not re.search(r"(?<![\w.])/\w|https?:|@", json.dumps(RESULTS)), "a path or a host"


def test_a_missed_goal_is_shown_as_missed():
    missed = Row("a figure", 12.34, "x", "another", goal=">= 20x", met=False, spread=(11.9, 13.21)).as_json()
    told = page(RESULTS | {"rows": [missed]})
    assert "| 1 | a figure | 12.3x (11.9 to 13.2) | another | >= 20x | **no** |" in told
    assert "0 of 1 goals are met." in told


def test_a_figure_without_a_goal_is_not_counted():
    free = Row("a figure", 2.0, "requests", "another").as_json()
    told = page(RESULTS | {"rows": [free]})
    assert "| 1 | a figure | 2 requests | another | none |  |" in told
    assert "0 of 0 goals are met." in told


# --- measuring --------------------------------------------------------------------------


def test_a_ratio_is_the_median_of_the_rounds_and_tells_their_spread():
    paired = Paired(ours_s=[1.0, 2.0, 1.0], usual_s=[10.0, 10.0, 40.0])
    assert paired.ratio() == (10.0, (5.0, 40.0))
    assert (paired.ours_median_s, paired.usual_median_s) == (1.0, 10.0)


@pytest.mark.parametrize(
    ("number", "short"),
    [(0.03912, 0.0391), (43.78, 43.8), (2.0, 2), (999.6, 1000), (734_398.4, 734_398), (0, 0)],
)
def test_numbers_are_cut_to_what_a_reader_can_use(number, short):
    assert rounded(number) == short
    assert type(rounded(number)) is type(short)


# --- both sides get the same readings ---------------------------------------------------


def cells_of(event):
    found = {}
    for record in records(event):
        assert record.problem is None
        payloads, problem = user_records(record.data)
        assert problem is None
        for payload in payloads:
            runs, problems = decode(payload, record.arrival_ms)
            assert not problems
            for run in runs:
                for name, column in run.metrics.items():
                    found |= {
                        (run.sensor_id, ts, name): cell for ts, cell in zip(run.ts_us, column, strict=True)
                    }
    return found


def test_every_form_of_a_fleet_holds_the_same_readings():
    fleet = workload.fleet(3, 5)
    arrived_ms = workload.arrival_ms(fleet)
    objects = workload.single(fleet)
    (aggregate,) = workload.aggregated(objects, 1)
    (runs,) = workload.aggregated(workload.columnar(fleet), 1)
    plain = workload.event([payload for _, payload in objects], arrived_ms)
    assert len(plain["Records"]) == 15
    expected = cells_of(plain)
    assert len(expected) == 3 * 5 * 2
    assert cells_of(workload.event(aggregate, arrived_ms)) == expected
    assert cells_of(workload.event(runs, arrived_ms)) == expected


def test_the_usual_handler_finds_one_object_in_each_plain_record():
    fleet = workload.fleet(2, 2)
    plain = workload.event([payload for _, payload in workload.single(fleet)], workload.arrival_ms(fleet))
    for record in plain["Records"]:
        reading = json.loads(base64.b64decode(record["kinesis"]["data"]), parse_float=Decimal)
        assert set(reading) == {"sensor_id", "ts", "metrics"}
        assert set(map(type, reading["metrics"].values())) <= {Decimal, int}


# --- layout f7 --------------------------------------------------------------------------

START_US = workload.START_S * 1_000_000


def heavier_by(ts_us: list[int]) -> int:
    """What times cost beyond two numbers of two bytes each, element bytes included."""
    run = Run("s", ts_us, {"value": [1.0] * len(ts_us)}, 0)
    single = packing.f7_bytes(Run("s", ts_us[:1], {"value": [1.0]}, 0))
    return packing.f7_bytes(run) - single - 3 * (len(ts_us) - 1)


@pytest.mark.parametrize(
    ("seconds", "size_bytes"),
    [
        ([0], 0),
        ([0, 60, 120, 180], 2 + 2),  # dt: 60 s is one pair of digits
        ([0, 60, 180, 240], 2 + 2 + 2),  # a NULL for the missing one
        ([0, 60, 120, 181], 2 + 2 + 1 + 3 + 2 + 2 + 3),  # a list of distances: 0, 0, 1 s
    ],
)
def test_f7_takes_a_step_and_pays_for_gaps_with_nulls_or_distances(seconds, size_bytes):
    assert heavier_by([START_US + second * 1_000_000 for second in seconds]) == size_bytes


def test_f7_on_a_grid_weighs_what_our_own_chunk_weighs():
    ts_us = [START_US + place * 300_000_000 for place in range(300) if place != 7]
    run = Run("s", ts_us, {"value": [20 + place / 16 for place in range(299)]}, 0)
    (item,) = packing._chunks(run)
    assert packing.f7_bytes(run) == item.size_bytes


# --- the soak of the packed codec -------------------------------------------------------


def test_a_short_soak_compares_every_point_it_packs(monkeypatch):
    monkeypatch.setattr(soak_packed, "DAMAGED", 1)
    done = soak_packed.soak(5, 60_000)
    assert done.packed_points >= 60_000
    assert done.packed_chunks > 3
    assert done.damaged == done.packed_chunks


@pytest.mark.parametrize("what", ["ts_us", "metrics"])
def test_the_soak_stops_at_the_first_difference(monkeypatch, what):
    honest = soak_packed.chunk.decode_item

    def wrong(item):
        found = honest(item)
        if what == "ts_us":
            found.run.ts_us[-1] += 1
        else:
            next(reversed(found.run.metrics.values()))[-1] = "else"
        return found

    monkeypatch.setattr(soak_packed.chunk, "decode_item", wrong)
    monkeypatch.setattr(soak_packed, "DAMAGED", 0)
    with pytest.raises(RuntimeError, match="differ"):
        soak_packed.soak(5, 1)


def test_the_soak_stops_where_damage_goes_unseen(monkeypatch):
    monkeypatch.setattr(soak_packed, "DAMAGED", 1)
    monkeypatch.setattr(soak_packed.chunk, "decode_item", lambda item: None)
    with pytest.raises(RuntimeError, match="without complaint"):
        soak_packed._expect_corrupt('{"v":{"B":"AAAAAAAAAAAA"}}', random.Random(1))


# --- layout g9 --------------------------------------------------------------------------


def test_a_packed_chunk_is_as_small_as_layout_g9_but_for_shape_and_checksum():
    rng = random.Random(1)
    times = [i * 1_000_000 + rng.randrange(9) * 1000 for i in range(300)]
    column: Column = [rng.random() for _ in times]
    run = Run("s", [workload.START_S * 1_000_000 + t for t in times], {"value": column}, 0)
    (item,) = packing._chunks(run, "packed")
    assert '"c":{"S":"p"}' in item.body
    assert item.size_bytes <= packing.g9_bytes(run) + 20
