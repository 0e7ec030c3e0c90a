"""Keys, buckets, slots and expiry: where a reading lives, and that it is found there again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import keys
from ingest.errors import BadInput, Corrupt
from ingest.keys import DAY_S, US, Key, Layout, Period, first_layout
from ingest.reading import EARLIEST_US, Span
from tests import strategies as make

HOUR_S = 3600
PERIOD = Period(0, HOUR_S, DAY_S, 7 * DAY_S, 5 * 365 * DAY_S)
T0_S = 1_795_212_000
BATCH = "abcdefghijklmnop"

bucket_widths = st.sampled_from([minutes * 60 for minutes in range(1, 1441) if 1440 % minutes == 0])
instants = st.integers(EARLIEST_US, make.LATEST_US)
seconds = st.integers(T0_S - 10_000_000, T0_S + 10_000_000)


@st.composite
def periods(draw: st.DrawFn) -> Period:
    bucket_s = draw(bucket_widths)
    archive_after_s = draw(st.integers(1, 3 * DAY_S))
    margin_s = draw(st.integers(1, 10 * DAY_S))
    hot_s = archive_after_s + min(bucket_s, archive_after_s) + margin_s
    return Period(draw(seconds), bucket_s, archive_after_s, hot_s, hot_s + DAY_S)


class TestBuckets:
    @given(instants, bucket_widths)
    def test_a_bucket_holds_its_instant_and_is_aligned(self, ts_us, bucket_s):
        start_s = keys.bucket_start_s(ts_us, bucket_s)
        assert start_s * US <= ts_us < (start_s + bucket_s) * US
        assert start_s % bucket_s == 0

    @given(instants, bucket_widths)
    def test_its_text_comes_back_and_sorts_by_time(self, ts_us, bucket_s):
        start_s = keys.bucket_start_s(ts_us, bucket_s)
        assert keys.bucket_from_text(keys.bucket_text(start_s)) == start_s
        assert keys.bucket_text(start_s) < keys.bucket_text(start_s + bucket_s)

    def test_the_text(self):
        start = datetime(2026, 11, 20, 22, tzinfo=UTC)
        assert keys.bucket_text(int(start.timestamp())) == "2026-11-20T22:00Z"


class TestSlots:
    @given(seconds, seconds, periods())
    def test_a_slot_is_the_first_multiple_of_the_step_after_the_wait(self, bucket_end_s, now_s, period):
        due_s = max(bucket_end_s, now_s) + period.archive_after_s
        slot_s = keys.slot_of(bucket_end_s, now_s, period)
        assert slot_s % period.slot_step_s == 0
        assert due_s <= slot_s < due_s + period.slot_step_s

    @given(seconds, seconds, periods())
    def test_a_chunk_outlives_its_slot_by_more_than_the_margin(self, bucket_end_s, now_s, period):
        expires_at_s = keys.expires_at_s(bucket_end_s, now_s, period)
        assert expires_at_s - keys.slot_of(bucket_end_s, now_s, period) > period.margin_s
        assert expires_at_s >= bucket_end_s + period.hot_retention_s

    def test_recent_old_and_late_data(self):
        end_s = T0_S + HOUR_S
        assert keys.slot_of(end_s, T0_S + 60, PERIOD) == end_s + DAY_S
        assert keys.slot_of(end_s, end_s, PERIOD) == end_s + DAY_S
        assert keys.slot_of(end_s, end_s + 1, PERIOD) == end_s + DAY_S + HOUR_S
        assert keys.slot_of(end_s, end_s + 400 * DAY_S, PERIOD) == end_s + 401 * DAY_S
        assert keys.expires_at_s(end_s, end_s + 400 * DAY_S, PERIOD) == end_s + 407 * DAY_S

    def test_short_waits_step_by_the_wait(self):
        short = Period(0, HOUR_S, 5, 60, DAY_S)
        assert short.slot_step_s == 5
        assert keys.slot_of(T0_S, T0_S + 11, short) == T0_S + 20
        assert short.margin_s == 50


class TestPeriods:
    @given(periods())
    def test_usable_ones_pass(self, period):
        keys.check_period(period)
        assert period.margin_s >= 1

    @pytest.mark.parametrize("bucket_s", [0, 30, 59, 90, 7 * 60, 2 * DAY_S, -60])
    def test_a_bucket_is_whole_minutes_that_divide_a_day(self, bucket_s):
        with pytest.raises(BadInput, match="bucket"):
            keys.check_period(Period(0, bucket_s, DAY_S, 7 * DAY_S, 99 * DAY_S))

    def test_a_margin_that_is_too_small_is_named(self):
        with pytest.raises(BadInput, match="hot-retention"):
            keys.check_period(Period(0, HOUR_S, DAY_S, DAY_S + HOUR_S, 9 * DAY_S))
        keys.check_period(Period(0, HOUR_S, DAY_S, 3 * DAY_S + HOUR_S, 9 * DAY_S), 2 * DAY_S)
        with pytest.raises(BadInput, match=f"{2 * DAY_S} s are needed"):
            keys.check_period(Period(0, HOUR_S, DAY_S, 3 * DAY_S + HOUR_S - 1, 9 * DAY_S), 2 * DAY_S)

    def test_other_wrong_times(self):
        with pytest.raises(BadInput, match="archive-after"):
            keys.check_period(Period(0, HOUR_S, 0, DAY_S, 9 * DAY_S))
        with pytest.raises(BadInput, match="cold-retention"):
            keys.check_period(Period(0, HOUR_S, DAY_S, 7 * DAY_S, 7 * DAY_S))


class TestLayout:
    def test_each_period_holds_from_its_date(self):
        later = Period(T0_S, 900, HOUR_S, 2 * DAY_S, 99 * DAY_S)
        layout = first_layout(PERIOD).changed(later)
        assert layout.at(T0_S - 1) == PERIOD
        assert layout.at(T0_S) == later
        assert layout.at(-5) == PERIOD

    def test_a_change_that_changes_nothing_is_none(self):
        layout = first_layout(PERIOD)
        assert layout.changed(Period(T0_S, HOUR_S, DAY_S, 7 * DAY_S, 5 * 365 * DAY_S)) is layout

    def test_readings_are_looked_for_cold_from_the_smallest_retention_ever_in_force(self):
        layout = first_layout(PERIOD)
        assert layout.cold_until_us(T0_S) == (T0_S - 7 * DAY_S + (6 * DAY_S - HOUR_S) // 2) * US
        shorter = layout.changed(Period(1, HOUR_S, DAY_S, 3 * DAY_S, 99 * DAY_S))
        longer = shorter.changed(Period(2, HOUR_S, DAY_S, 30 * DAY_S, 99 * DAY_S))
        assert longer.shortest_hot_s == 3 * DAY_S
        assert longer.cold_until_us(T0_S) >= shorter.cold_until_us(T0_S) > layout.cold_until_us(T0_S)

    @given(st.lists(periods(), min_size=1, max_size=4), instants, st.integers(0, 40 * DAY_S), seconds)
    def test_whatever_has_expired_is_looked_for_cold(self, held, ts_us, late_s, wait_s):
        layout = first_layout(held[0])
        for period in held[1:]:
            layout = layout.changed(period)
        for period in held:
            end_s = keys.bucket_start_s(ts_us, period.bucket_s) + period.bucket_s
            expires_at_s = keys.expires_at_s(end_s, end_s + late_s, period)
            assert ts_us < layout.cold_until_us(expires_at_s)

    def test_chunks_expired_before_their_time_are_looked_for_cold(self):
        layout = first_layout(PERIOD).expired_early(10 * DAY_S)
        assert layout.cold_until_us(T0_S) > T0_S * US
        assert layout.expired_early(DAY_S).shortest_hot_s == layout.shortest_hot_s
        assert layout.changed(Period(9, 900, HOUR_S, 99 * DAY_S, 999 * DAY_S)).shortest_hot_s == -3 * DAY_S

    def test_the_widest_bucket_and_margin(self):
        layout = Layout((PERIOD, Period(1, DAY_S, DAY_S, 3 * DAY_S, 99 * DAY_S)), 3 * DAY_S)
        assert layout.widest_bucket_s == DAY_S
        assert layout.half_margin_s == (6 * DAY_S - HOUR_S) // 2


class TestChunkKeys:
    @given(make.sensor_ids(), instants, bucket_widths, st.integers(0, 200))
    def test_come_back(self, sensor_id, ts_us, bucket_s, part):
        start_s = keys.bucket_start_s(ts_us, bucket_s)
        key = keys.chunk_key(sensor_id, start_s, BATCH, part)
        assert keys.parse_chunk_key(key) == (sensor_id, start_s, BATCH, part)

    def test_example(self):
        key = keys.chunk_key("site/1:x", T0_S, BATCH, 2)
        assert key == ("s#site/1:x", f"{keys.bucket_text(T0_S)}#{BATCH}#2")

    @pytest.mark.parametrize(
        "key", [Key("m#1", "2026-11-20T22:00Z#b#0"), Key("s#a", "x#b#0"), Key("s#a", "2026-11-20T22:00Z#b")]
    )
    def test_others_are_refused(self, key):
        with pytest.raises(Corrupt):
            keys.parse_chunk_key(key)

    @given(
        instants, st.lists(bucket_widths, min_size=1, max_size=3), st.integers(1, 3 * DAY_S * US), st.data()
    )
    def test_the_range_finds_the_chunk_of_every_bucket_width(self, start_us, widths, length_us, data):
        span = Span(start_us, start_us + length_us)
        ts_us = data.draw(st.one_of(st.just(start_us), st.integers(start_us, span.end_us - 1)))
        partition, low, high = keys.chunk_range("s", span, max(widths))
        for bucket_s in widths:
            key = keys.chunk_key("s", keys.bucket_start_s(ts_us, bucket_s), BATCH, 0)
            assert key.pk == partition
            assert low <= key.sk <= high

    @given(instants, bucket_widths)
    def test_the_range_of_one_instant_is_one_bucket(self, ts_us, bucket_s):
        _, low, high = keys.chunk_range("s", Span(ts_us, ts_us + 1), bucket_s)
        start_s = keys.bucket_start_s(ts_us, bucket_s)
        outside = [keys.chunk_key("s", start_s + shift, BATCH, 0).sk for shift in (-bucket_s, bucket_s)]
        assert not any(low <= sk <= high for sk in outside)


class TestOtherKeys:
    @given(st.integers(0, 10**11))
    def test_tickets_and_open_slots_come_back(self, slot_s):
        assert keys.parse_ticket(keys.ticket_key(slot_s).pk) == slot_s
        assert keys.parse_open_slot(keys.open_slot_key(slot_s)) == slot_s
        assert keys.open_slot_key(slot_s).sk < keys.open_slot_key(slot_s + 1).sk

    @pytest.mark.parametrize("pk", ["", "s#1", "t#", "t#x", "t#-1", "m#1", "1"])
    def test_what_is_no_ticket(self, pk):
        assert keys.parse_ticket(pk) is None

    def test_the_filter_of_the_stream_matches_tickets_only(self):
        every = [
            keys.chunk_key("t", 0, BATCH, 0),
            keys.manifest_key(5, BATCH, 0),
            keys.open_slot_key(5),
            keys.layout_key(),
            keys.sensor_key("t"),
            keys.catalog_key("2026-11-20", "d"),
        ]
        assert not any(key.pk.startswith(keys.TICKET_PREFIX) for key in every)
        assert keys.ticket_key(5).pk.startswith(keys.TICKET_PREFIX)

    @given(make.sensor_ids())
    def test_a_sensor_has_its_place_among_the_registry_partitions(self, sensor_id):
        key = keys.sensor_key(sensor_id)
        assert key.pk in keys.registry_partitions()
        assert key == keys.sensor_key(sensor_id)

    def test_catalog_ranges_hold_every_segment_of_their_dates(self):
        ranges = keys.catalog_ranges("2025-12-30", "2027-01-02")
        assert [partition for partition, _, _ in ranges] == ["a#2025", "a#2026", "a#2027"]

        def found(date: str) -> bool:
            pk, sk = keys.catalog_key(date, "zz77")
            return any(pk == partition and low <= sk <= high for partition, low, high in ranges)

        assert all(map(found, ["2025-12-30", "2025-12-31", "2026-01-01", "2026-12-31", "2027-01-02"]))
        assert not any(map(found, ["2025-12-29", "2027-01-03"]))


class TestDigests:
    """The definitions of FORMATS.md; what is stored under them must be found for ever."""

    def test_fixed_values(self):
        arn = "arn:aws:kinesis:eu-central-1:000000000000:stream/readings"
        assert keys.batch_id(arn, "shardId-000000000000", 3600, ["1", "2"]) == "3gqymwfbpdkog4a7"
        packed = keys.batch_id(arn, "shardId-000000000000", 3600, ["1", "2"], "packed 1.1.0")
        assert packed == "tay2cumemm5wsqpy"
        assert keys.reject_id(arn, "shardId-000000000000", "1", "0") == "h3n3rfulp74ewfbavu5bqvk6"
        assert keys.chunks_digest([Key("s#a", "k1"), Key("s#b", "k0")]) == "mjuxxfqjrsvq42ufu4vpmyn3kccecmou"

    def test_batches_differ_by_stream_shard_width_records_and_their_grouping(self):
        names = {
            keys.batch_id("a", "s", 3600, ["1", "2"]),
            keys.batch_id("b", "s", 3600, ["1", "2"]),
            keys.batch_id("a", "t", 3600, ["1", "2"]),
            keys.batch_id("a", "s", 3600, ["1"]),
            keys.batch_id("a", "s", 3600, ["12"]),
            keys.batch_id("as", "", 3600, ["1", "2"]),
            keys.batch_id("a", "s", 900, ["1", "2"]),
            keys.batch_id("a", "s", 900, ["1", "2"], "packed 1.1.0"),
            keys.batch_id("a", "s", 900, ["1", "2"], "packed 1.2.0"),
        }
        assert len(names) == 9
        assert all(len(name) == 16 and name.isalnum() and name.islower() for name in names)

    def test_the_digest_of_chunks_does_not_depend_on_their_order(self):
        chunks = [Key("s#a", "1"), Key("s#a", "2"), Key("s#b", "1")]
        assert keys.chunks_digest(chunks) == keys.chunks_digest(reversed(chunks))
        assert keys.chunks_digest(chunks[:2]) != keys.chunks_digest(chunks)


class TestObjectNames:
    def test_segments_come_back(self):
        name = keys.segment_name("2026-11-20", "abc")
        assert name == "readings/v1/date=2026-11-20/abc.parquet"
        assert keys.parse_segment_name(name) == ("2026-11-20", "abc")

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "abc.parquet",
            "rejects/date=2026-11-20/abc.json.gz",
            "readings/v1/date=2026-11-20/abc.json",
            "readings/v1/date=2026-13-20/abc.parquet",
            "readings/v1/date=2026-1-2/abc.parquet",
            "readings/v1/2026-11-20/abc.parquet",
            "readings/v1/date=2026-11-20/x/abc.parquet",
            "readings/v1/abc.parquet",
            "other/readings/v1/date=2026-11-20/abc.parquet",
        ],
    )
    def test_others_are_none(self, name):
        assert keys.parse_segment_name(name) is None

    def test_dates(self):
        span = keys.date_span("2026-11-20")
        assert keys.date_of(span.start_us) == keys.date_of(span.end_us - 1) == "2026-11-20"
        assert keys.date_of(span.end_us) == "2026-11-21"

    def test_rejects(self):
        assert keys.reject_name("2026-11-20", BATCH) == f"rejects/date=2026-11-20/{BATCH}.json.gz"
        assert keys.parse_reject_name(keys.reject_name("2026-11-20", BATCH)) == "2026-11-20"

    def test_what_is_stored_again(self):
        name = keys.stored_again_name("2026-11-20", ["b", "a"])
        assert name == keys.stored_again_name("2026-11-20", ["a", "b"])
        assert name != keys.stored_again_name("2026-11-20", ["ab"])
        assert name.startswith(keys.stored_again_prefix("2026-11-20"))
        assert name.startswith("rejects/date=2026-11-20/retried-")

    @pytest.mark.parametrize(
        "name",
        [
            keys.stored_again_name("2026-11-20", ["a"]),
            "rejects/date=2026-11-20/x/abc.json.gz",
            "rejects/date=2026-11-20/abc",
            "rejects/abc.json.gz",
            "date=2026-11-20/abc.json.gz",
        ],
    )
    def test_other_objects_keep_no_rejects(self, name):
        assert keys.parse_reject_name(name) is None

    def test_batches_given_up(self):
        name = "aws/lambda/a1b2/shardId-0/2026/11/20/2026-11-20T22.00.00-x"
        assert keys.parse_failed_batch_name(name) == "2026-11-20"
        assert keys.parse_failed_batch_name("aws/lambda/a1b2/2026/11/20") is None
        assert len(keys.failed_batch_id(name)) == 24
