"""The cost model: bills add up and never fall as fleets grow, and units are those the code that stores really takes."""

import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks import workload
from cli.cost import samples_of
from cli.main import app
from cli.send import LANES_PER_SHARD as PUBLISHERS_LANES
from infra.cost import compacted, sample, written
from infra.cost import fleet as flow
from infra.cost.advice import advice
from infra.cost.bill import bill
from infra.cost.elsewhere import item_per_reading, timestream
from infra.cost.fleet import Fleet, batching, pieces, traffic
from infra.cost.measured import compare, read_shards
from infra.cost.prices import OWN_TABLE, UNITS, load
from infra.deploy import TEMPLATE
from infra.local.batching import Record as StreamRecord
from infra.local.journal import MOST_BATCHES, Journal, StoredBatch, stored_line
from infra.local.shards import Page
from ingest import archive, chunk
from ingest.errors import BadInput
from ingest.item import write_units
from ingest.keys import DAY_S, US, Period, chunk_key, first_layout
from ingest.manifest import encode_manifests
from ingest.reading import Span, clip
from ingest.stores import hot, registry
from ingest.stores.memory import MemoryColdStore, MemoryHotStore, MemoryRegistry
from ingest.stores.rejects import S3RejectStore
from lambdas import store_readings
from sensors import lanes, simulator

PRICES = load("us-east-1")
ASSUMED = PRICES.assumed
LONG_MS = 10**9


@pytest.fixture(autouse=True)
def _small_samples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sample, "SEGMENT_VALUES", 2_000)
    monkeypatch.setattr(sample, "VALUES_PER_SAMPLE", 600)


def samples(fleet: Fleet, codec: str | None = None):
    return samples_of(fleet.sensors, fleet.metrics, fleet.step_us, codec or fleet.codec)


def price(fleet: Fleet):
    return bill(fleet, samples(fleet), PRICES)


fleets = st.builds(
    Fleet,
    sensors=st.integers(1, 300_000),
    interval_s=st.sampled_from([0.1, 1.0, 10.0, 60.0]),
    metrics=st.integers(1, 5),
    edge_s=st.sampled_from([0.0, 60.0, 300.0]),
    window_s=st.sampled_from([1.0, 60.0, 300.0]),
    bucket_s=st.sampled_from([3_600, 86_400]),
    iot_core=st.booleans(),
    align=st.booleans(),
)


# --- bills ------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(fleets)
def test_parts_and_lines_sum_to_the_total_and_nothing_is_negative(fleet: Fleet):
    one = price(fleet)
    assert all(line.usd >= 0 and line.steady_usd >= 0 and line.quantity > 0 for line in one.lines)
    parts = one.parts().values()
    assert sum(usd for usd, _ in parts) == pytest.approx(one.usd)
    assert sum(usd for _, usd in parts) == pytest.approx(one.steady_usd)
    for line in one.lines:
        assert sum(other.usd for other in one.lines if other.part == line.part) == pytest.approx(
            one.parts()[line.part][0]
        )
    assert one.steady_usd >= one.usd


@settings(max_examples=12, deadline=None)
@given(fleets, st.integers(1, 200_000))
def test_the_bill_never_falls_when_sensors_are_added(fleet: Fleet, more: int):
    larger = replace(fleet, sensors=fleet.sensors + more)
    assert price(larger).steady_usd >= price(fleet).steady_usd * (1 - 1e-9)


@settings(max_examples=15, deadline=None)
@given(fleets)
def test_packed_never_takes_more_write_units_than_list(fleet: Fleet):
    pytest.importorskip("pcodec")
    sent = traffic(fleet, samples(fleet).message_bytes(fleet.per_message), ASSUMED)
    listed = written.written(fleet, sent, samples(fleet, "list"))
    packed = written.written(fleet, sent, samples(fleet, "packed"))
    assert packed.write_units <= listed.write_units


def test_the_stream_is_paid_in_its_cheaper_mode():
    one = price(Fleet(1_000, 1.0))
    shown = sum(line.usd for line in one.lines if line.part == "Kinesis")
    assert 0 < shown <= sum(line.usd for line in one.other_stream)
    assert {
        line.what.split(":")[0] for line in (*one.lines, *one.other_stream) if line.part == "Kinesis"
    } == {
        "provisioned",
        "on demand",
    }


def test_only_what_piles_up_differs_between_the_first_year_and_the_steady_state():
    one = price(Fleet(10_000, 10.0))
    differ = {line.what for line in one.lines if line.usd != line.steady_usd}
    assert differ == {
        "table",
        "point-in-time recovery",
        "segments stored",
        "compaction: the catalog listed",
    }
    stored = next(line for line in one.lines if line.what == "segments stored")
    assert stored.steady_quantity == pytest.approx(stored.quantity * 5)
    short = price(replace(one.fleet, cold_s=180 * 86_400.0))
    assert short.usd == short.steady_usd


def test_compaction_is_paid_with_what_it_reads_writes_and_takes():
    """A day's 24 hourly segments become one: each is read once, and each row is written anew once."""
    one = price(Fleet(100, 10.0, lanes=1))
    found = compacted.compacted(one.fleet, one.written)
    assert found.segments == pytest.approx(730)
    assert (found.read, found.made, found.kept) == pytest.approx((730, 730 / 24, 730 / 24))
    assert found.passes == 1
    lines = {line.what: line for line in one.lines if line.part == "Compaction"}
    assert lines["compaction: segments put"].quantity == pytest.approx(730 / 24)
    assert lines["compaction: catalog"].quantity == pytest.approx(2 * (730 + 730 + 2 * 730 / 24) + 730 / 24)
    assert lines["compaction: objects read and looked at"].quantity >= 730
    assert one.parts()["Compaction"][0] < 0.05 * one.usd


def test_a_date_with_more_segments_than_a_swap_takes_is_compacted_in_steps():
    large = price(Fleet(100_000, 10.0, metrics=3))
    found = compacted.compacted(large.fleet, large.written)
    assert found.passes == 3
    assert found.read > found.segments
    took = next(line for line in large.lines if line.what.endswith("compact_archive and index_segment"))
    assert "CompactSchedule" not in took.how
    larger = price(Fleet(1_000_000, 5.0, metrics=3))
    took = next(line for line in larger.lines if line.what.endswith("compact_archive and index_segment"))
    assert "CompactSchedule" in took.how


def test_where_a_day_is_one_segment_nothing_is_compacted():
    one = price(Fleet(10, 60.0, bucket_s=86_400))
    assert compacted.compacted(one.fleet, one.written).passes == 0
    assert "compaction: segments put" not in {line.what for line in one.lines}


def test_iot_core_is_paid_by_message_and_takes_away_the_packing_of_records():
    plain = price(Fleet(1_000, 10.0, edge_s=60.0))
    cloud = price(Fleet(1_000, 10.0, edge_s=60.0, iot_core=True))
    assert "IoT Core" not in plain.parts()
    messages = next(line for line in cloud.lines if line.price == "$1 per million")
    assert messages.quantity == pytest.approx(1_000 * 730 * 60)
    assert cloud.written.sent.records_ps == pytest.approx(1_000 / 60)
    assert plain.written.sent.records_ps < cloud.written.sent.records_ps


def test_the_figures_of_a_billion_readings():
    """At 1 Hz in batches of 300 s, one value: what is written costs less than 6 dollars, an item each 625."""
    fleet = Fleet(100_000, 1.0, edge_s=300.0)
    one = price(fleet)
    writes, _ = one.parts()["DynamoDB writes"]
    assert 4 < writes / fleet.readings * 1e9 < 6
    items = next(line for line in item_per_reading(one, PRICES) if line.what == "items")
    assert items.usd / fleet.readings * 1e9 == pytest.approx(625)
    first = timestream(fleet, "sim-100000", PRICES, ASSUMED["timestream_memory_s"])[0]
    assert 10 < first.usd / fleet.readings * 1e9 < 42


def test_messages_that_end_by_the_clock_save_what_bucket_bounds_cut():
    """Packed, one value a second: what is written costs less than 2.1 dollars for a billion, and 8 per cent more
    where messages end at any moment."""
    pytest.importorskip("pcodec")
    fleet = Fleet(100_000, 1.0, edge_s=300.0, codec="packed", align=True)
    writes, anywhere = (
        price(one).parts()["DynamoDB writes"][0] for one in (fleet, replace(fleet, align=False))
    )
    assert 1e9 / 300 * 0.625e-6 < writes / fleet.readings * 1e9 < 2.1
    assert anywhere / writes == pytest.approx(1 + 299 / 3_600, abs=0.002)


def test_a_message_is_uncut_only_where_its_length_divides_the_bucket():
    aligned = Fleet(10, 1.0, edge_s=300.0, align=True)
    assert aligned.uncut == 300
    assert replace(aligned, align=False).uncut == 1
    assert replace(aligned, edge_s=420.0).uncut == 1, "seven minutes do not divide an hour"
    assert replace(aligned, interval_s=0.7, edge_s=300.0).uncut == 1, "nor do 429 readings of 0.7 s"
    assert replace(aligned, edge_s=7_200.0).uncut == 1


def test_a_large_fleet_costs_a_fifth_of_timestream_once_it_is_steady():
    fleet = Fleet(100_000, 10.0, metrics=3, edge_s=60.0, window_s=300.0)
    one = price(fleet)
    other = timestream(fleet, "sim-100000", PRICES, ASSUMED["timestream_memory_s"])
    assert one.steady_usd < sum(line.steady_usd for line in other) / 5
    assert one.usd < sum(line.usd for line in other) / 2.5


def test_advice_is_sorted_and_each_change_really_gives_the_bill_it_names():
    fleet = Fleet(20_000, 10.0)
    one = price(fleet)
    found = advice(one, lambda codec: samples(fleet, codec), PRICES)
    assert 1 <= len(found) <= 3
    assert all(before.saves_usd >= after.saves_usd > 0 for before, after in pairwise(found))
    assert all(change.usd + change.saves_usd == pytest.approx(one.steady_usd) for change in found)
    longer = next(change for change in found if change.what.startswith("window 300 s"))
    assert longer.usd == pytest.approx(price(replace(fleet, window_s=300.0)).steady_usd)


# --- traffic and batches ----------------------------------------------------------------


def test_a_sensor_s_readings_per_batch_follow_from_window_and_edge():
    fleet = Fleet(1_000, 1.0, edge_s=60.0, window_s=295.0)
    found = batching(fleet, traffic(fleet, 500.0, ASSUMED))
    assert found.period_s == 300.0
    assert found.runs == ((300, 1.0),)
    assert found.sensors_per_batch == 100.0
    slow = replace(fleet, interval_s=600.0, edge_s=0.0)
    seldom = batching(slow, traffic(slow, 100.0, ASSUMED))
    assert [length for length, _ in seldom.runs] == [1]
    assert seldom.readings_per_run == 1.0


def test_a_batch_that_is_full_before_its_window_is_closed_by_its_bytes():
    fleet = Fleet(50_000, 1.0, edge_s=60.0, window_s=300.0, shards=1)
    found = batching(fleet, traffic(fleet, 500.0, ASSUMED))
    assert found.limit == "6 MB of payload"
    assert found.period_s < 300
    roomy = replace(fleet, shards=40)
    assert batching(roomy, traffic(roomy, 500.0, ASSUMED)).period_s > found.period_s


def test_a_stream_has_as_many_shards_as_its_bytes_and_records_need():
    small = traffic(Fleet(100, 1.0), 500.0, ASSUMED)
    assert small.shards == small.shards_needed == 1
    by_bytes = traffic(Fleet(1_000_000, 1.0), 500.0, ASSUMED)
    assert by_bytes.shards == by_bytes.shards_needed >= by_bytes.bytes_ps / 1e6
    by_records = traffic(Fleet(100_000, 10.0, edge_s=0.0, iot_core=True), 100.0, ASSUMED)
    assert by_records.shards_needed == 13
    too_few = traffic(Fleet(1_000_000, 1.0, shards=1), 500.0, ASSUMED)
    assert too_few.shards == 1 < too_few.shards_needed


def test_a_bound_cuts_a_run_between_two_messages_as_often_as_it_falls_there():
    """Five messages of a minute: four gaps of which the hour's end is one, once in sixty minutes each."""
    assert sum(count for _, count in pieces(300, 1.0, 3_600, 60)) == pytest.approx(1 + 4 / 60)
    assert sum(count for _, count in pieces(300, 1.0, 3_600)) == pytest.approx(1 + 299 / 3_600)
    assert pieces(300, 1.0, 3_600, 300) == [(300, 1.0)]


@given(st.integers(1, 400), st.sampled_from([10, 60, 300, 3_600]), st.sampled_from([3_600, 86_400]))
def test_pieces_of_whole_messages_hold_every_reading_and_are_cut_only_between_them(
    messages: int, uncut: int, bucket_s: int
):
    found = pieces(messages * uncut, 1.0, bucket_s, uncut)
    assert sum(length * count for length, count in found) == pytest.approx(messages * uncut, rel=1e-6)
    assert all(length % uncut == 0 and count >= 0 for length, count in found)
    assert sum(count for _, count in found) <= sum(
        count for _, count in pieces(messages * uncut, 1.0, bucket_s)
    ) * (1 + 1e-9)


@given(
    st.integers(1, 50_000),
    st.sampled_from([0.01, 0.1, 1.0, 10.0, 60.0, 7_200.0]),
    st.sampled_from([60, 3_600, 86_400]),
)
def test_pieces_hold_every_reading_of_the_run(readings: int, interval_s: float, bucket_s: int):
    found = pieces(readings, interval_s, bucket_s)
    assert sum(length * count for length, count in found) == pytest.approx(readings, rel=1e-6)
    assert all(length >= 1 and count >= 0 for length, count in found)
    chunks = sum(count for _, count in found)
    assert chunks >= max(1.0, readings * interval_s / bucket_s * 0.98 - 1) or interval_s >= bucket_s


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"sensors": 0}, "--sensors"),
        ({"interval_s": 0.0}, "--interval"),
        ({"metrics": 0}, "--metrics"),
        ({"window_s": 301.0}, "--window"),
        ({"hot_s": 86_400.0}, "--hot"),
        ({"cold_s": 86_400.0}, "--cold"),
        ({"bucket_s": 77}, "--bucket"),
        ({"codec": "zip"}, "--codec"),
        ({"shards": 10**9}, "--shards"),
    ],
)
def test_what_cannot_be_used_is_refused_by_the_name_of_its_option(wrong, named):
    with pytest.raises(BadInput, match=named):
        Fleet(**{"sensors": 10, "interval_s": 1.0} | wrong)


def test_the_model_uses_the_limits_of_the_code_it_describes():
    assert flow.AGGREGATE_BYTES == lanes.AIM_BYTES
    assert flow.LANES_PER_SHARD == PUBLISHERS_LANES
    assert written.KEYS_PER_GET == hot.KEYS_PER_GET
    assert written.ITEMS_PER_WRITE == hot.ITEMS_PER_WRITE
    assert (written.CALLS_REMEMBERED, written.MOST_KNOWN) == (registry.CALLS_REMEMBERED, registry.MOST_KNOWN)
    assert written.CHUNKS_PER_ROUND == archive.CHUNKS_PER_ROUND
    template = TEMPLATE.read_text()
    assert ASSUMED["alarms"] == template.count("AWS::CloudWatch::Alarm")
    for name, value in (
        ("CompactGraceS", compacted.GRACE_S),
        ("MemoryCompactMb", compacted.MEMORY_GB * 1024),
    ):
        assert re.search(rf"  {name}:\n    Type: Number\n    Default: {value:.0f}\n", template), name


# --- units against the code that stores -------------------------------------------------

START_S = workload.START_S
PERIOD = Period(0, 3_600, DAY_S, 7 * DAY_S, 5 * 365 * DAY_S)
LAYOUT = first_layout(PERIOD)


def store(records, now_s, table, known, codec="list"):
    return store_readings.handle(
        workload.event(records, now_s * 1000),
        table,
        known,
        S3RejectStore(MemoryColdStore()),
        LAYOUT,
        now_s,
        lambda: LONG_MS,
        codec,
    )


@pytest.mark.parametrize("metrics", [1, 2])
def test_predicted_units_are_those_a_simulated_fleet_takes_at_the_batch_door(metrics: int):
    """An hour of 20 sensors at 1 Hz in batches of 300 s that begin anywhere: within two per cent."""
    names = simulator.DEFAULT_METRICS[:metrics]
    begin_s = START_S + 150
    runs = simulator.truth(simulator.Fleet(20, 1.0, begin_s * US, 3_600 * US, 4, names)).values()
    known = MemoryRegistry()
    known.register({run.sensor_id: 1 for run in runs}, lambda: LONG_MS)
    units = 0.0
    for batch_s in range(begin_s, begin_s + 3_600, 300):
        span = Span(batch_s * US, (batch_s + 300) * US)
        (records,) = workload.aggregated(workload.columnar(clip(run, span) for run in runs), 1)
        units += store(records, batch_s + 301, MemoryHotStore(), known).write_units
    fleet = Fleet(20, 1.0, metrics=metrics, edge_s=60.0, window_s=295.0, lanes=1)
    predicted = price(fleet).written
    assert predicted.batched.runs == ((300, 1.0),)
    assert predicted.write_units / 730 == pytest.approx(units, rel=0.02)


@pytest.mark.parametrize("codec", ["list", "packed"])
def test_predicted_units_are_those_of_a_simulated_fleet_whose_slices_end_by_the_clock(codec: str):
    """Three hours of 20 sensors at 1 Hz, begun anywhere, in the slices that the simulator makes of them."""
    if codec == "packed":
        pytest.importorskip("pcodec")
    made = simulator.Fleet(20, 1.0, (START_S + 150) * US, 3 * 3_600 * US, 4, ("temperature",))
    slices = list(simulator.runs(made, 300.0))
    known = MemoryRegistry()
    known.register({run.sensor_id: 1 for run in slices[0]}, lambda: LONG_MS)
    done = []
    for runs in slices:
        (records,) = workload.aggregated(workload.columnar(runs), 1)
        done.append(store(records, runs[0].ts_us[-1] // US + 2, MemoryHotStore(), known, codec))
    assert sum(stored.readings for stored in done) == made.readings
    assert [stored.chunks for stored in done] == [20] * 37, "none is cut; the first and the last are half"
    fleet = Fleet(20, 1.0, edge_s=300.0, window_s=285.0, lanes=1, codec=codec, align=True)
    predicted = price(fleet).written
    assert predicted.batched.runs == ((300, 1.0),)
    assert predicted.write_units / 730 * 3 == pytest.approx(
        sum(stored.write_units for stored in done[1:-1]) * 36 / 35, rel=0.001
    )


def test_a_weight_is_what_the_chunks_of_a_run_weigh():
    made = samples_of(1_000, 2, 1_000_000, "list")
    weight = made.weight(60, 3_600)
    assert weight.chunks == weight.write_units == weight.read_units == 1.0
    long = made.weight(1_800, 3_600)
    assert long.write_units == pytest.approx(long.size_bytes / 1024, abs=1.0)
    scaled = made.weight(60_000, 86_400)
    assert scaled.write_units == pytest.approx(10 * made.weight(6_000, 86_400).write_units)


def test_manifests_weigh_what_they_are():
    made = samples_of(1_000, 1, 1_000_000, "list")
    one, size = made.manifest(1, 3_600)
    assert one == 1.0
    assert 60 < size < 200
    both, larger = made.manifest(2_001, 3_600)
    assert both == 2 * made.manifest(1_000, 3_600)[0] + 1
    assert larger == 2 * made.manifest(1_000, 3_600)[1] + size


def test_a_manifest_of_a_lane_weighs_what_the_model_says():
    """A fifth of a lane's sensors, of ten lanes, as the publisher picks them."""
    names = [simulator.sensor_id(place) for place in range(100_000)]
    lane = [name for name in names if lanes.lane_of(name, 10) == 3][::5]
    items = encode_manifests(
        START_S, "b" * 16, START_S, [chunk_key(n, START_S, "b" * 16, 0) for n in lane], PERIOD
    )
    made = samples_of(100_000, 1, 1_000_000, "list")
    units, size_bytes = made.manifest(len(lane), 3_600, 64)
    assert units == sum(write_units(item.size_bytes) for item in items)
    assert size_bytes == pytest.approx(sum(item.size_bytes for item in items), rel=0.1)


# --- prices -----------------------------------------------------------------------------


def test_every_price_and_assumption_says_where_it_is_from():
    assert set(PRICES.table) == set(UNITS)
    assert all(len(price.source) > 20 for price in PRICES.table.values())
    assert all(len(why) > 20 for why in PRICES.reasons.values())
    assert "http" not in OWN_TABLE.read_text()


def test_an_own_file_replaces_single_prices_and_assumptions(tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(
        'date = "2027-01-01"\n[regions.us-east-1]\ndynamodb_write = { usd = 1.25, per = 1e6, source = "ours" }\n'
        '[assumed]\nttl_delay_s = { value = 1, source = "ours" }\n'
    )
    found = load("us-east-1", own)
    assert found.date == "2027-01-01"
    assert found["dynamodb_write"].of(2e6) == pytest.approx(2.5)
    assert found["dynamodb_read"] == PRICES["dynamodb_read"]
    assert found.assumed["ttl_delay_s"] == 1
    assert str(found["dynamodb_write"]) == "$1.25 per million"


def test_an_unknown_region_names_those_that_are_known():
    with pytest.raises(BadInput, match=r"'mars-1' are known; known: us-east-1\."):
        load("mars-1")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("not toml", "cannot be read"),
        ('[regions.mars-1]\ns3_put = { usd = 1, per = 1, source = "" }', "lacks alarm_month"),
        ('[regions.us-east-1]\ns4_put = { usd = 1, per = 1, source = "" }', "'s4_put'"),
        ('[assumed]\nluck = { value = 1, source = "" }', "'luck'"),
        ("[regions.us-east-1]\ns3_put = { usd = -1, per = 1 }", "needs `usd`"),
        ("[regions.us-east-1]\ns3_put = 3", "must be a table"),
    ],
)
def test_an_own_file_that_cannot_be_used_is_told_by_what_is_wrong(tmp_path, text, what):
    own = tmp_path / "own.toml"
    own.write_text(text)
    region = "mars-1" if "mars" in text else "us-east-1"
    with pytest.raises(BadInput, match=what):
        load(region, own)


# --- what was measured ------------------------------------------------------------------


def stream_records(datas, arrived_s):
    entries = workload.event(datas, arrived_s * 1000)["Records"]
    return [
        StreamRecord(
            entry["kinesis"]["sequenceNumber"], "lane-0", float(arrived_s), json.dumps(entry).encode()
        )
        for entry in entries
    ]


def batch_of(records, told):
    return StoredBatch(
        "shardId-000000000000", 0, 1, records[0].sequence, records[-1].sequence, len(records), told
    )


def told_of(stored, now_s):
    return {
        "units": stored.units,
        "readings": stored.readings,
        "chunks": stored.chunks,
        "written_s": now_s,
    }


def a_stored_batch(codec="list"):
    runs = workload.fleet(5, 900)
    now_s = START_S + 901
    (datas,) = workload.aggregated(workload.columnar(runs), 1)
    stored = store(datas, now_s, MemoryHotStore(), MemoryRegistry(), codec)
    records = stream_records(datas, now_s)
    return records, batch_of(records, told_of(stored, now_s))


def test_what_is_predicted_for_a_batch_is_what_it_took():
    records, batch = a_stored_batch()
    found = compare([batch], {batch.shard_id: records}, LAYOUT, "list", {})
    assert found.predicted == found.measured
    assert found.predicted.units["registry"] == 5
    assert set(found.predicted.units) == {"chunks", "manifests", "tickets", "registry"}
    assert found.shapes == {(900, 2, 1_000_000): 5}


def test_another_number_of_units_is_seen():
    records, batch = a_stored_batch()
    batch.told["units"] = batch.told["units"] | {"chunks": batch.told["units"]["chunks"] + 1}
    found = compare([batch], {batch.shard_id: records}, LAYOUT, "list", {})
    assert found.measured.write_units - found.predicted.write_units == 1


def test_sensors_that_were_known_before_are_not_registered_again():
    records, batch = a_stored_batch()
    before = {"sim-0001": 1, "sim-0002": (START_S + 901) * 1000}
    found = compare([batch], {batch.shard_id: records}, LAYOUT, "list", before)
    assert found.predicted.units["registry"] == 4


def test_a_batch_whose_records_or_log_line_are_gone_is_on_neither_side():
    records, batch = a_stored_batch()
    lost = compare([batch], {batch.shard_id: records[1:]}, LAYOUT, "list", {})
    silent = compare([replace(batch, told={})], {batch.shard_id: records}, LAYOUT, "list", {})
    for found in (lost, silent):
        assert found.unreadable == 1
        assert found.predicted.write_units == found.measured.write_units == 0


class Shards:
    """A stream of one shard in pages of two records, with an empty page between them."""

    def __init__(self, records):
        self.records = records
        self.reads = 0

    def shards(self):
        return []

    def iterator(self, shard_id, after, *, from_horizon):
        assert from_horizon
        return "0"

    def read(self, shard_id, iterator, wanted):
        self.reads += 1
        place = int(iterator)
        part = self.records[place // 2 * 2 : place // 2 * 2 + 2] if place % 2 else []
        return Page([one.sequence for one in part], part, str(place + 1), None)


def test_a_shard_is_read_to_the_last_record_that_is_needed():
    records = stream_records([b"a", b"b", b"c", b"d", b"e"], START_S)
    source = Shards(records)
    found = read_shards(source, [batch_of(records[:3], {})])
    assert found == {"shardId-000000000000": records[:4]}
    endless = Shards(records)
    assert (
        len(
            read_shards(endless, [batch_of([replace(records[0], sequence="9" * 60)], {})])[
                "shardId-000000000000"
            ]
        )
        == 5
    )
    assert endless.reads < 20


# --- the journal ------------------------------------------------------------------------


def test_the_journal_keeps_what_the_function_said_of_a_batch():
    journal = Journal()
    records = stream_records([b"a", b"b"], START_S)
    said = {"message": "stored", "units": {"chunks": 2.0}, "readings": 7, "level": "INFO"}
    log = f'START\n{{"message":"stored"}}\n2026 {json.dumps(said)}\n{{"_aws":{{}}}}\nREPORT "stored"\n'
    journal.add("shardId-1", 2, records, log)
    told = journal.snapshot()
    assert told["dropped"] == 0
    (batch,) = told["batches"]
    assert batch["told"] == {"units": {"chunks": 2.0}, "readings": 7}
    assert (batch["first"], batch["last"], batch["records"]) == (records[0].sequence, records[1].sequence, 2)
    assert StoredBatch(**batch).lanes == 2


def test_the_journal_forgets_the_oldest_and_says_how_many():
    journal = Journal()
    records = stream_records([b"a"], START_S)
    for _ in range(MOST_BATCHES + 3):
        journal.add("shardId-1", 1, records, "")
    told = journal.snapshot()
    assert len(told["batches"]) == MOST_BATCHES
    assert told["dropped"] == 3


@pytest.mark.parametrize(
    "log", ["", "nothing", '{"message": "archived"}', '"stored" {broken', '{"stored": 1}']
)
def test_a_log_without_the_line_says_nothing(log):
    assert stored_line(log) == {}


def test_chunks_of_both_codecs_can_be_predicted():
    pytest.importorskip("pcodec")
    records, batch = a_stored_batch("packed")
    found = compare([batch], {batch.shard_id: records}, LAYOUT, "packed", {})
    assert found.predicted == found.measured
    assert chunk.TAGS["packed"]


# --- the command ------------------------------------------------------------------------


def run(*arguments: str):
    return CliRunner().invoke(app, ["cost", *arguments])


def test_the_command_prints_a_bill_that_people_can_read():
    text = run("--sensors", "1000", "--interval", "10s", "--format", "table").stdout
    for words in (
        "1,000 sensors, 1 value every 10 s",
        "DynamoDB writes",
        "together",
        "on demand instead",
        "Timestream LiveAnalytics",
        "window 300 s instead of 60 s",
        "--explain",
    ):
        assert words in text, words
    assert "Sources" not in text
    explained = run("--sensors", "1000", "--interval", "10s", "--format", "table", "--explain").stdout
    assert "$0.625 per million" in explained
    assert "Amazon DynamoDB pricing" in explained
    assert "guessed" in explained
    assert len(explained.splitlines()) > 2 * len(text.splitlines())


def test_the_document_has_every_number_of_the_bill():
    told = json.loads(
        run("--sensors", "1000", "--metrics", "3", "--window", "300s", "--format", "json").stdout
    )
    assert sum(line["usd"] for line in told["lines"]) == pytest.approx(told["usd"])
    assert sum(part["steady_usd"] for part in told["parts"].values()) == pytest.approx(told["steady_usd"])
    assert told["readings"] == 1_000 * 730 * 360
    assert told["readings"] / told["write_units"] == pytest.approx(told["readings_per_write_unit"])
    assert told["shards"] == 1
    assert len(told["elsewhere"]) == 3
    assert all(change["saves_usd"] > 0 for change in told["changes"])
    assert set(told["prices"]) == set(UNITS)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "--sensors: is needed"),
        (["--sensors", "5", "--region", "mars-1"], "known: us-east-1"),
        (["--sensors", "5", "--shards", "many"], "--shards"),
        (["--sensors", "5", "--window", "10m"], "--window"),
        (["--sensors", "5", "--hot", "2d"], "--hot"),
        (["--sensors", "5", "--format", "csv"], "--format"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_to_do(arguments, says):
    done = run(*arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert done.stdout == ""
