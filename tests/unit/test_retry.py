"""What was refused comes back: stored once nothing is wrong with it any more, and only then off the list."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from aws_kinesis_agg import aggregator
from hypothesis import given
from hypothesis import strategies as st

from ingest import gather, keys, retry, retry_event
from ingest.envelope import MOST_ADDRESS_BYTES, address
from ingest.errors import Refused, ThermoclineError, Unavailable
from ingest.keys import DAY_S
from ingest.reject import Reject
from ingest.retry import Outcome
from tests.reject_site import NOW_MS, TODAY, Site, given_up, lines, reading, reading_of
from tests.world import NOW_S, STREAM, record


def reason_of(outcome: Outcome) -> str:
    """The reason of the reject that the outcome is about."""
    assert isinstance(outcome.of, Reject)
    return outcome.of.reason


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A release that refuses texts beyond 5 bytes; calling it deploys the one without that fault."""
    with pytest.MonkeyPatch.context() as fault:
        fault.setattr(gather, "MOST_TEXT_BYTES", 5)
        yield fault.undo


def results(outcomes: Sequence[Outcome]) -> list[str]:
    return [one.result for one in outcomes]


# --- the way back -----------------------------------------------------------------------


def test_after_the_fix_it_is_found_and_off_the_list(site: Site, strict: Callable[[], None]) -> None:
    site.store([record(1, reading(note="long enough", a=1), NOW_MS)])
    assert site.reasons() == ["reading_too_large"]
    assert results(site.retry()) == ["still rejected"]
    assert site.values("press-7", "note") == {}
    strict()
    site.now_s += 3 * DAY_S
    (outcome,) = site.retry()
    assert (outcome.result, outcome.why) == ("stored", "")
    assert site.values("press-7", "note") == {NOW_S: "long enough"}
    assert site.values("press-7", "a") == {NOW_S: 1}
    assert site.listed() == []
    assert site.retry() == []
    kept = site.rejects.get(outcome.of.id)
    assert kept == outcome.of
    assert site.rejects.stored_again(kept) == site.now_s * 1000


def test_it_counts_as_having_arrived_when_it_did(site: Site, strict: Callable[[], None]) -> None:
    """A correction that came after the reject wins over it, whatever else is retried with it."""
    site.store([record(1, reading(note="first text"), NOW_MS)])
    site.store([record(2, reading(note="fixed"), NOW_MS + 60_000)])
    site.store([record(3, reading(at_s=NOW_S + 5, note="another text"), NOW_MS + 120_000)])
    strict()
    site.now_s += 9 * DAY_S
    assert results(site.retry()) == ["stored", "stored"]
    assert len(site.events) == 1
    assert site.values("press-7", "note") == {NOW_S: "fixed", NOW_S + 5: "another text"}
    site.archive_all()
    site.expire()
    assert site.values("press-7", "note") == {NOW_S: "fixed", NOW_S + 5: "another text"}


def aggregate(*payloads: bytes) -> bytes:
    packed = aggregator.RecordAggregator()
    for payload in payloads:
        packed.add_user_record("lane", payload)
    made = packed.clear_and_get()
    assert made is not None
    return made.get_contents()[2]


@pytest.mark.parametrize("together", [lines, aggregate])
def test_what_was_stored_beside_it_stays(
    site: Site, strict: Callable[[], None], together: Callable[..., bytes]
) -> None:
    """Alone in a batch, under its own shard and sequence, it would take the place of the batch's chunk."""
    site.store([record(1, together(reading(a=1), reading(at_s=NOW_S + 1, a=2, note="long enough")))])
    site.store([record(2, together(reading(at_s=NOW_S + 2, note="too long"), reading(at_s=NOW_S + 3, a=4)))])
    strict()
    assert results(site.retry()) == ["stored", "stored"]
    assert site.values("press-7", "a") == {NOW_S: 1, NOW_S + 1: 2, NOW_S + 3: 4}
    assert site.values("press-7", "note") == {NOW_S + 1: "long enough", NOW_S + 2: "too long"}


def test_a_piece_under_the_name_of_its_record_takes_nobodys_place(
    site: Site, strict: Callable[[], None]
) -> None:
    """Even with the record's own shard and sequence: the batch's name tells how much was read from it."""
    first = record(1, lines(reading(a=1), reading(at_s=NOW_S + 1, note="long enough")))
    site.store([first])
    strict()
    (reject,) = site.listed()
    site.store([replace(first, data=reject.payload)])
    assert site.values("press-7", "a") == {NOW_S: 1}


def test_an_attempt_never_takes_the_place_of_another(site: Site, strict: Callable[[], None]) -> None:
    """Stored by one release, retried by an earlier one for its neighbour's sake: what was stored stays."""
    site.store([record(1, reading_of({"note": "long enough", "bad name": 5, "a": 1}))])
    assert site.reasons() == ["bad_metric_name", "reading_too_large"]
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(gather, "MOST_TEXT_BYTES", 500)
        site.now_s += 60
        assert sorted(results(site.retry())) == ["still rejected", "stored"]
    site.now_s += 60
    site.retry()
    assert site.values("press-7", "note") == {NOW_S: "long enough"}
    assert "bad_metric_name" in site.reasons()


def test_a_batch_that_is_repeated_later_lists_nothing_again(site: Site, strict: Callable[[], None]) -> None:
    bad = record(1, reading(note="long enough"), NOW_MS)
    other = record(2, reading(at_s=NOW_S - 2 * DAY_S, b=2), NOW_MS - 2 * DAY_S * 1000)
    site.store([bad])
    with pytest.MonkeyPatch.context() as newer:
        newer.setattr(gather, "MOST_TEXT_BYTES", 500)
        site.retry()
    site.store([bad])
    site.store([other, bad])
    assert site.listed() == []
    assert len([name for name in site.objects.objects if keys.parse_reject_name(name)]) == 2
    assert site.values("press-7", "note") == {NOW_S: "long enough"}
    strict()
    site.now_s += 1
    assert site.retry() == []


# --- what is still wrong ----------------------------------------------------------------

BAD = {
    "not json": b"{",
    "empty": b"",
    "aggregate with a bad checksum": aggregate(reading(a=1))[:-1] + b"?",
    "aggregate within an aggregate": aggregate(aggregate(reading(a=1)), reading(b=2)),
    "gzip cut short": gzip.compress(reading(a=1))[:-4],
    "a line that begins as gzip does": lines(reading(a=1), b"\x1f\x8bx"),
    "a line that begins as an address does": lines(reading(a=1), address("press-8", reading(b=1))),
    "two bad metrics": reading_of({"a": float("nan"), "bad name": 1, "c": 3}),
    "wrong type in a column": json.dumps(
        {"sensor_id": "press-7", "t0_us": NOW_S * 10**6, "dt_us": 1, "metrics": {"a": [1, {}, 2, {}]}}
    ).encode(),
    "packed lines": gzip.compress(lines(*[b"{"] * 50, reading(a=1))),
    "another sensor than its topic": address("press-7", reading("press-8", a=1)),
    "a topic no sensor may have": address("../x", reading("press-8", a=1)),
    "a message that was cut": address("press-7", reading(a=1) + b" " * MOST_ADDRESS_BYTES),
    "a bad line of another sensor": address("press-7", lines(reading("press-8", b=1), reading(a=1))),
    "future": reading(at_s=NOW_S + 3 * DAY_S, a=1),
}


@pytest.mark.parametrize("payload", BAD.values(), ids=BAD)
def test_without_a_fix_everything_stays_as_it_is(site: Site, payload: bytes) -> None:
    site.store([record(1, payload)])
    before = site.listed()
    answers = [site.found_cells(sensor) for sensor in ("press-7", "press-8")]
    assert before
    site.now_s += 5 * DAY_S
    assert set(results(site.retry())) == {"still rejected"}
    assert site.listed() == before
    assert [site.found_cells(sensor) for sensor in ("press-7", "press-8")] == answers


PIECES = st.one_of(
    st.sampled_from([*BAD.values(), reading(a=1), reading(note="fits"), b"\n", b"[]", b"7"]),
    st.binary(max_size=20),
    st.dictionaries(
        st.text(max_size=3),
        st.one_of(
            st.none(),
            st.floats(),
            st.integers(-(10**40), 10**40),
            st.text(max_size=8),
            st.lists(st.floats(), max_size=2),
        ),
        max_size=3,
    ).map(reading_of),
)


@given(st.lists(PIECES, min_size=1, max_size=4), st.sampled_from([lines, aggregate, "single"]), st.booleans())
def test_no_bytes_leave_the_list_without_a_fix(pieces: list[bytes], how: Any, addressed: bool) -> None:
    site = Site()
    if addressed:
        pieces = [address("press-7", piece) for piece in pieces]
    for number, data in enumerate(pieces if how == "single" else [how(*pieces)]):
        site.store([record(number, data, NOW_MS + number)])
    before = site.listed()
    for outcome in site.retry():
        assert outcome.result == "still rejected", outcome.of
    assert site.listed() == before


@pytest.mark.parametrize("beside", [[], [reading(a=1)]], ids=["alone", "a line"])
def test_each_part_of_a_payload_for_itself(
    site: Site, strict: Callable[[], None], beside: list[bytes]
) -> None:
    site.store([record(1, lines(*beside, reading_of({"note": "long enough", "bad name": 5})))])
    strict()
    outcomes = {reason_of(one): one for one in site.retry()}
    assert outcomes["reading_too_large"].result == "stored"
    assert (outcomes["bad_metric_name"].result, outcomes["bad_metric_name"].why) == (
        "still rejected",
        "bad_metric_name",
    )
    assert site.reasons() == ["bad_metric_name"]
    assert site.values("press-7", "note") == {NOW_S: "long enough"}


def test_what_is_refused_for_another_reason_now_stays(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sensor is allowed, and now a value of it is seen to be bad: that is neither stored nor listed."""
    monkeypatch.setattr(gather, "good_sensor_id", lambda _: False)
    site.store([record(1, reading("press-7", a=1, b=float("nan")))])
    assert site.reasons() == ["bad_sensor_id"]
    monkeypatch.undo()
    (outcome,) = site.retry()
    assert (outcome.result, outcome.why) == ("still rejected", "not_finite")
    assert site.values("press-7", "a") == {NOW_S: 1}
    assert site.reasons() == ["bad_sensor_id"]


def test_more_of_the_same_than_a_reject_stands_for_keeps_all(site: Site) -> None:
    site.store([record(1, reading(a=float("nan"), b=[]))])
    one, other = sorted(site.listed(), key=lambda reject: reject.reason)
    marks = {reject.id: retry_event.mark(retry_event.place_of(reject)[1]) for reject in (one, other)}
    kept = retry.outcomes_of([one, other], {one.reason: {marks[one.id]: one.count}})
    assert results(kept) == ["still rejected", "stored"]
    kept = retry.outcomes_of([one, other], {one.reason: {marks[one.id]: one.count + 1}})
    assert results(kept) == ["still rejected", "still rejected"]
    assert results(retry.outcomes_of([one, other], {})) == ["stored", "stored"]


# --- what it came in --------------------------------------------------------------------


def test_a_message_belongs_to_the_sensor_of_its_topic(site: Site, strict: Callable[[], None]) -> None:
    unnamed = json.dumps({"ts": NOW_MS, "metrics": {"note": "long enough"}}).encode()
    site.store([record(1, address("press-7", lines(unnamed, reading("press-8", note="spoofed"))))])
    assert sorted(one.addressed_to or "" for one in site.listed()) == ["press-7", "press-7"]
    strict()
    outcomes = {reason_of(one): one.result for one in site.retry()}
    assert outcomes == {"reading_too_large": "stored", "sensor_mismatch": "still rejected"}
    assert site.values("press-7", "note") == {NOW_S: "long enough"}
    assert site.ask("press-8").run is None


def test_a_topic_that_is_allowed_now(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.wire.good_sensor_id", lambda _: False)
    payload = json.dumps({"ts": NOW_MS, "metrics": {"a": 1}}).encode() + b"\n"
    monkeypatch.setattr("ingest.usual.good_sensor_id", lambda _: False)
    site.store([record(1, address("press-7", payload))])
    (reject,) = site.listed()
    assert (reject.reason, reject.sensor_id, reject.payload) == ("bad_sensor_id", None, payload)
    monkeypatch.undo()
    assert results(site.retry()) == ["stored"]
    assert site.values("press-7", "a") == {NOW_S: 1}


def test_a_message_with_too_many_problems_to_tell_apart(
    site: Site, strict: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rejects keep the user record as it came, address and all."""
    monkeypatch.setattr("ingest.wire.MOST_TOLD_APART", 1)
    own = [reading(at_s=NOW_S + i, note="too long") for i in range(3)]
    others = [reading("press-8", a=i) for i in range(3)]
    site.store([record(1, address("press-7", lines(*own, *others)))])
    assert {one.addressed_to for one in site.listed()} == {None}
    strict()
    assert {reason_of(one): one.result for one in site.retry()} == {
        "reading_too_large": "stored",
        "sensor_mismatch": "still rejected",
    }
    assert len(site.values("press-7", "note")) == 3
    assert site.ask("press-8").run is None


def test_a_mismatch_kept_by_an_earlier_release_is_not_stored_for_another_sensor(site: Site) -> None:
    site.store([record(1, address("press-7", reading("press-8", a=1)))])
    (reject,) = site.listed()
    site.rejects.keep(keys.reject_name(TODAY, "earlier"), [replace(reject, id="earlier", addressed_to=None)])
    assert results(site.retry()) == ["still rejected"] * 2
    assert site.ask("press-8").run is None


def test_a_whole_aggregate_comes_back_with_all_it_holds(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.kinesis_records.MOST_USER_RECORDS", 2)
    site.store([record(1, aggregate(*[reading(at_s=NOW_S + i, a=i) for i in range(5)]))])
    assert site.reasons() == ["kpl_limit"]
    monkeypatch.undo()
    assert results(site.retry()) == ["stored"]
    assert site.values("press-7", "a") == {NOW_S + i: i for i in range(5)}


@pytest.mark.parametrize("text", [reading(a=1).decode(), "ä", "AAA"])
def test_what_was_no_base64_is_none_the_second_time(site: Site, text: str) -> None:
    entry = {
        "eventID": "shardId-0:1",
        "eventSourceARN": STREAM,
        "kinesis": {"sequenceNumber": "1", "data": text, "approximateArrivalTimestamp": NOW_S},
    }
    site.door({"Records": [entry]})
    assert site.reasons() == ["bad_base64"]
    assert results(site.retry()) == ["still rejected"]


def test_what_lacked_its_arrival_lacks_it_again(site: Site) -> None:
    kinesis = {"sequenceNumber": "1", "data": base64.b64encode(reading(a=1)).decode()}
    site.door({"Records": [{"eventID": "shardId-0:1", "eventSourceARN": STREAM, "kinesis": kinesis}]})
    assert site.reasons() == ["missing_field"]
    assert results(site.retry()) == ["still rejected"]


# --- events -----------------------------------------------------------------------------


def many(site: Site, count: int, size: int = 10) -> None:
    text = "x" * size
    for i in range(count):
        site.store([record(i, reading(f"press-{i}", note=f"{text}{i}"), NOW_MS + i)])


def test_events_stay_small_whatever_there_is(site: Site, strict: Callable[[], None]) -> None:
    many(site, 30, 300_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gather, "MOST_TEXT_BYTES", 10**6)
        assert results(site.retry()) == ["stored"] * 30
    assert len(site.events) == 4
    assert max(len(json.dumps(event)) for event in site.events) <= retry.MOST_EVENT_BYTES


def test_an_answer_stays_small_whatever_is_wrong(site: Site) -> None:
    wrong = reading_of({"é" * 60: float("nan")} | {f"{k}": 0 for k in range(1_100)})
    for i in range(6):
        site.store([record(i, wrong, NOW_MS + i)])
    assert set(results(site.retry())) == {"still rejected"}
    (event,) = site.events
    answer = len(json.dumps(site.door(event)))
    assert answer / 6 > 19_000, "this is not the worst"
    assert answer / 6 * retry.MOST_PAYLOADS < 6_000_000


def test_only_what_is_wanted_is_sent(site: Site, strict: Callable[[], None]) -> None:
    many(site, 3)
    chosen = site.listed()[1]
    strict()
    assert [one.of for one in site.retry(wanted=lambda reject: reject.id == chosen.id)] == [chosen]
    assert len(site.events[0]["Records"]) == 1
    assert len(site.listed()) == 2


def test_a_door_that_runs_out_of_time_is_called_again(site: Site, strict: Callable[[], None]) -> None:
    many(site, 5)
    strict()

    def hurried(event: Mapping[str, Any]) -> Mapping[str, Any]:
        left = [60_000] * 6
        return site.door(event, lambda: left.pop() if left else 1)

    assert results(site.retry(hurried)) == ["stored"] * 5
    assert len(site.events) > 1
    assert site.listed() == []


def test_an_event_the_door_fails_on_is_halved(site: Site, strict: Callable[[], None]) -> None:
    many(site, 8)
    strict()
    poison = site.listed()[5]

    def door(event: Mapping[str, Any]) -> Mapping[str, Any]:
        if any(base64.b64decode(one["kinesis"]["data"]) == poison.payload for one in event["Records"]):
            raise ThermoclineError("Function failed with Runtime.ExitError.")
        return site.door(event)

    outcomes = site.retry(door)
    assert [one.of for one in outcomes if one.result == "failed"] == [poison]
    assert results(outcomes).count("stored") == 7
    assert site.listed() == [poison]


def test_where_the_service_is_gone_the_rest_is_not_tried(site: Site, strict: Callable[[], None]) -> None:
    many(site, 3)
    strict()
    calls: list[int] = []

    def door(event: Mapping[str, Any]) -> Mapping[str, Any]:
        calls.append(1)
        raise Unavailable("throttled")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retry, "MOST_PAYLOADS", 1)
        outcomes = site.retry(door)
    assert [(one.result, one.why) for one in outcomes] == [("failed", "throttled")] * 3
    assert len(calls) == 1
    assert len(site.listed()) == 3


def test_an_older_door_is_not_sent_anything(site: Site) -> None:
    retry.check_door(site.door)
    with pytest.raises(Refused, match="Deploy"):
        retry.check_door(lambda _: {"batchItemFailures": []})


# --- crashes ----------------------------------------------------------------------------


class Crash(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("lands", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(12))
def test_a_crash_anywhere_is_made_good_by_the_next_attempt(
    site: Site, strict: Callable[[], None], at: int, lands: bool
) -> None:
    """Every call to a store and to the door, before it lands and after."""
    many(site, 2)
    site.store([record(9, lines(reading("press-9", a=1), reading("press-9", NOW_S + 1, note="too long")))])
    strict()
    calls = 0

    def crashing(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*args: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls - 1 != at:
                return call(*args, **named)
            if lands:
                call(*args, **named)
            raise Crash

        return made

    with pytest.MonkeyPatch.context() as patch:
        for holder, name in (
            (site.hot, "put"),
            (site.registry, "register"),
            (site.objects, "put"),
            (site, "door"),
        ):
            patch.setattr(holder, name, crashing(getattr(holder, name)))
        if calls_needed(site) > at:
            with pytest.raises(Crash):
                site.retry()
    for sensor, value in (("press-0", "x" * 10 + "0"), ("press-1", "x" * 10 + "1")):
        left = {one.payload for one in site.listed()}
        found = site.values(sensor, "note") == {NOW_S: value}
        assert found or reading(sensor, note=value) in left, "neither stored nor listed"
    site.now_s += 5
    assert set(results(site.retry())) <= {"stored"}
    assert site.listed() == []
    assert site.values("press-0", "note") == {NOW_S: "x" * 10 + "0"}
    assert site.values("press-9", "note") == {NOW_S + 1: "too long"}
    assert site.values("press-9", "a") == {NOW_S: 1}


def calls_needed(site: Site) -> int:
    """How many calls an undisturbed retry of the three payloads makes: the door, per arrival the registry and
    three puts (two payloads arrived at once), and the marker."""
    return 1 + 4 * len({one.arrival_ms for one in site.listed()}) + 1


# --- batches given up -------------------------------------------------------------------


def replayed(site: Site, invoke: retry.Invoke | None = None) -> list[Outcome]:
    return list(retry.replay(site.rejects.failed_batches(), store=site.rejects, invoke=invoke or site.door))


def test_a_batch_that_was_given_up_is_stored_and_deleted(site: Site) -> None:
    given_up(site, reading(a=1), b"{", reading(at_s=NOW_S + 1, a=2))
    (batch,) = site.rejects.failed_batches("2026-11-21", "2026-11-21")
    assert (batch.problem, batch.count, batch.condition, batch.arrival_ms, batch.date) == (
        "",
        3,
        "RetryAttemptsExhausted",
        NOW_MS,
        "2026-11-21",
    )
    assert list(site.rejects.failed_batches("2026-11-22", "2026-12-31")) == []
    assert site.rejects.failed_batch(batch.id) == batch
    assert [one.result for one in replayed(site)] == ["stored"]
    assert site.values("press-7", "a") == {NOW_S: 1, NOW_S + 1: 2}
    assert site.reasons() == ["not_json"]
    assert list(site.rejects.failed_batches()) == []
    assert replayed(site) == []


def test_it_writes_the_items_it_would_have_written(site: Site) -> None:
    payloads = [reading(a=1), reading(at_s=NOW_S + 1, a=2)]
    site.store([record(i, payload, (NOW_S + i) * 1000) for i, payload in enumerate(payloads)])
    before = site.chunk_keys()
    given_up(site, *payloads)
    replayed(site)
    assert site.chunk_keys() == before


def test_it_is_deleted_only_when_all_of_it_is_stored(site: Site) -> None:
    given_up(site, *[reading(at_s=NOW_S + i, a=i) for i in range(5)])

    def fails_on_the_third(event: Mapping[str, Any]) -> Mapping[str, Any]:
        if any(
            base64.b64decode(one["kinesis"]["data"]) == reading(at_s=NOW_S + 2, a=2)
            for one in event["Records"]
        ):
            raise ThermoclineError("Function failed.")
        return site.door(event)

    (outcome,) = replayed(site, fails_on_the_third)
    assert (outcome.result, outcome.why) == ("failed", "Function failed.")
    assert site.values("press-7", "a") == {NOW_S + i: i for i in (0, 1, 3, 4)}
    assert len(list(site.rejects.failed_batches())) == 1
    assert [one.result for one in replayed(site)] == ["stored"]
    assert len(site.values("press-7", "a")) == 5


def test_what_time_ran_short_for_is_sent_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.write.MOST_VALUES_AT_ONCE", 1)
    given_up(site, *[reading(at_s=NOW_S + i, a=i) for i in range(4)])

    def hurried(event: Mapping[str, Any]) -> Mapping[str, Any]:
        left = [60_000] * 4
        return site.door(event, lambda: left.pop() if left else 1)

    assert [one.result for one in replayed(site, hurried)] == ["stored"]
    assert len(site.events) == 2
    assert len(site.values("press-7", "a")) == 4


def test_a_batch_too_large_to_be_sent_again_at_once_is_halved(site: Site) -> None:
    given_up(site, *[reading(f"press-{i}", note="x" * 30_000, at_s=NOW_S) for i in range(200)])
    assert [one.result for one in replayed(site)] == ["stored"]
    assert len(site.events) == 2
    assert all(len(json.dumps(event)) <= retry.MOST_REPLAYED_BYTES for event in site.events)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"payload": "no JSON", "KinesisBatchInfo": {"shardId": 5}}',
        b'{"payload": {"Records": []}, "KinesisBatchInfo": {"shardId": "s"}}',
        b'{"payload": "{\\"Records\\": [{}]}", "DDBStreamBatchInfo": {"shardId": "s"}}',
        b"[" * 100_000,
    ],
    ids=range(8),
)
def test_an_object_that_cannot_be_used_is_told_and_stays(site: Site, data: bytes) -> None:
    site.objects.put("aws/lambda/a1b2/odd", data, {})
    given_up(site, reading(a=1))
    outcomes = {one.of.name: one for one in replayed(site)}  # type: ignore[union-attr]
    assert outcomes.pop("aws/lambda/a1b2/odd").why.startswith("The object aws/lambda/a1b2/odd cannot be used")
    assert [one.result for one in outcomes.values()] == ["stored"]
    assert list(site.objects.names("aws/")) == ["aws/lambda/a1b2/odd"]
