"""The gateway's pure parts: which sensor a topic names, what is joined, what is acknowledged and when."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.envelope import MOST_ADDRESS_BYTES, address
from ingest.errors import BadInput
from ingest.reading import Run
from ingest.wire import decode
from sensors.ends import Ends
from sensors.gathering import Gathering, Message
from sensors.joining import addressed, join
from sensors.mqtt_client import LONGEST_WAIT_S, parse_broker, wait_s
from sensors.topics import DEFAULT_PATTERN, parse_topics

TOPICS = parse_topics(DEFAULT_PATTERN)
NOW_MS = 1_763_676_000_000
TS_MS = NOW_MS - 1_000


def message(sensor_id: str, payload: Any, mid: int = 1) -> Message:
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(mid, TOPICS.data(sensor_id), body)


def reading(second: int, **metrics: Any) -> dict[str, Any]:
    return {"ts": TS_MS + second * 1000, "metrics": metrics}


# --- topics -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "sensor_id"),
    [
        ("iot/v1/press-7/data", "press-7"),
        ("iot/v1/plant-1/press-7/data", "plant-1/press-7"),
        ("iot/v1/data/data", "data"),
        ("iot/v1/press-7/status", None),
        ("iot/v1//data", None),
        ("iot/v1/data", None),
        ("iot/v2/press-7/data", None),
    ],
)
def test_the_sensor_is_what_stands_between(topic, sensor_id):
    assert TOPICS.sensor_of(topic) == sensor_id


def test_what_is_subscribed_to():
    assert TOPICS.filter == "iot/v1/#"
    assert TOPICS.shared_filter("fleet") == "$share/fleet/iot/v1/#"
    assert TOPICS.shared_filter("") == "iot/v1/#"
    own = parse_topics("plant/{sensor}/telemetry/v2")
    assert own.sensor_of("plant/line-1/press-7/telemetry/v2") == "line-1/press-7"
    assert own.status("press-7") == "plant/press-7/status"


@pytest.mark.parametrize(
    "pattern",
    ["iot/v1/data", "iot/{sensor}", "iot/x{sensor}/data", "iot/+/{sensor}/data", "{sensor}/{sensor}/data"],
)
def test_a_pattern_that_leaves_doubt_is_refused(pattern):
    with pytest.raises(BadInput, match="--topic"):
        parse_topics(pattern)


# --- joining ----------------------------------------------------------------------------


def test_messages_of_a_sensor_become_one_run():
    messages = [
        message("a", reading(1, t=1.5)),
        message("b", reading(1, t=9)),
        message("a", reading(0, t=0.5, h=40)),
        message("a", {"sensor_id": "a"} | reading(2, h=41)),
        message("a", {"ts": TS_MS + 3000, "t": 2.5}),
    ]
    joined = join(messages, TOPICS, NOW_MS)
    first, second = joined.runs
    assert [ts // 1000 - TS_MS for ts in first.ts_us] == [0, 1000, 2000, 3000]
    assert first.metrics == {"t": [0.5, 1.5, None, 2.5], "h": [40, None, 41, None]}
    assert (second.sensor_id, second.metrics) == ("b", {"t": [9]})
    assert joined.addressed == []


def test_of_a_value_that_is_sent_twice_the_last_one_holds():
    joined = join([message("a", reading(0, t=1)), message("a", reading(0, t=2))], TOPICS, NOW_MS)
    assert joined.runs == [Run("a", [TS_MS * 1000], {"t": [2]}, NOW_MS)]


def test_a_columnar_run_and_senml_need_not_name_the_sensor():
    columns = {"t0_us": TS_MS * 1000, "dt_us": 1_000_000, "metrics": {"t": [1, 2]}}
    pack = [{"n": "h", "bt": TS_MS / 1000 + 5, "v": 40}]
    (run,) = join([message("a/b", columns), message("a/b", pack)], TOPICS, NOW_MS).runs
    assert run.sensor_id == "a/b"
    assert run.metrics == {"t": [1, 2, None], "h": [None, None, 40]}


BAD: list[tuple[Any, str]] = [
    ({"sensor_id": "other"} | reading(0, t=1), "sensor_mismatch"),
    ([{"bn": "other/", "n": "t", "bt": TS_MS / 1000, "v": 1}], "sensor_mismatch"),
    ({"sensor_id": "other", "t0_us": TS_MS * 1000, "dt_us": 1, "metrics": {"t": [1]}}, "sensor_mismatch"),
    (b"hello", "not_json"),
    (b"", "empty_record"),
    (reading(10**9, t=1), "ts_out_of_range"),
]


@pytest.mark.parametrize(("payload", "reason"), BAD)
def test_what_cannot_be_used_is_a_reject_of_the_batch_door_with_its_own_bytes(payload, reason):
    sent = message("a", payload)
    joined = join([sent, message("a", reading(0, t=1))], TOPICS, NOW_MS)
    assert len(joined.runs) == 1, "its neighbours are not held up"
    [(sensor_id, record)] = joined.addressed
    assert sensor_id == "a"
    runs, [problem] = decode(record, NOW_MS)
    assert runs == []
    assert (problem.reason, problem.payload, problem.sensor_id) == (reason, sent.payload, "a")


def test_the_good_values_of_a_bad_message_are_stored_by_the_batch_door():
    joined = join([message("a", reading(0, t=1, x=[1]))], TOPICS, NOW_MS)
    assert joined.runs == []
    [run], [problem] = decode(joined.addressed[0][1], NOW_MS)
    assert (run.sensor_id, run.metrics) == ("a", {"t": [1]})
    assert problem.reason == "wrong_type"


def test_a_topic_whose_sensor_cannot_be_one_is_a_reject():
    joined = join([message("no spaces", reading(0, t=1))], TOPICS, NOW_MS)
    runs, [problem] = decode(joined.addressed[0][1], NOW_MS)
    assert (runs, problem.reason, problem.sensor_id) == ([], "bad_sensor_id", None)


def test_a_message_that_no_record_holds_is_kept_in_part():
    [(_, record)] = addressed([message("a", b"x" * 2_000_000)], TOPICS, "a")
    assert len(record) < 1_000_000
    runs, [problem] = decode(record, NOW_MS)
    assert (runs, problem.reason) == ([], "too_large")
    assert problem.payload == b"x" * MOST_ADDRESS_BYTES


@given(st.binary(max_size=40), st.integers(0, 60))
def test_no_bytes_make_joining_or_reading_an_address_fail(data, cut):
    join([Message(1, "iot/v1/a/data", data)], TOPICS, NOW_MS)
    decode(address("a", data)[:cut], NOW_MS)
    decode(address("a", data)[:4] + data, NOW_MS)


def test_other_topics_are_counted_and_nothing_else():
    joined = join([Message(1, "iot/v1/a/status", b"online")], TOPICS, NOW_MS)
    assert (joined.runs, joined.addressed, joined.ignored) == ([], [], 1)


# --- acknowledging ----------------------------------------------------------------------


def gathering(window: int = 100, flush_s: float = 5.0, flush_bytes: int = 10_000) -> Gathering:
    return Gathering(window=window, flush_s=flush_s, flush_bytes=flush_bytes)


def test_only_what_was_settled_is_acknowledged_and_in_the_order_of_receipt():
    held = gathering()
    for mid in (7, 3, 9):
        held.add(message("a", b"x", mid), 0.0)
    held.take(0.0)
    held.add(message("a", b"x", 4), 0.0)
    held.take(0.0)
    assert held.unacknowledged == 4
    assert held.settle(0.0) == [7, 3, 9]
    assert held.settle(0.0) == [4]
    assert (held.unacknowledged, held.held_bytes) == (0, 0)


def test_nothing_of_a_lost_connection_is_acknowledged_on_the_next():
    held = gathering()
    held.add(message("a", b"taken", 1), 0.0)
    held.take(0.0)
    held.add(message("a", b"waiting", 2), 0.0)
    assert held.connection_lost() == 2
    assert held.due_in_s(9.0) is None, "what waited comes again"
    held.add(message("a", b"taken", 1), 1.0)
    assert held.settle(0.0) == [], "the packet identifier means another message by now"
    held.take(6.0)
    assert held.settle(0.0) == [1]
    assert held.unacknowledged == 0


def test_a_message_that_awaits_no_answer_is_not_lost_with_its_connection():
    held = gathering()
    held.add(message("a", b"qos 0", 0), 0.0)
    held.add(message("a", b"qos 1", 5), 0.0)
    assert held.connection_lost() == 1
    assert [found.payload for found in held.take(0.0).messages] == [b"qos 0"]
    assert held.settle(0.0) == []


def test_a_flush_is_due_by_time_by_size_and_by_half_of_the_window():
    held = gathering(window=8)
    assert held.due_in_s(0.0) is None
    held.add(message("a", b"x"), 10.0)
    assert held.due_in_s(12.0) == 3.0
    assert held.due_in_s(15.5) == 0.0
    for mid in (2, 3, 4):
        held.add(message("a", b"x", mid), 12.0)
    assert held.due_in_s(12.0) == 0.0
    large = gathering()
    large.add(message("a", b"x" * 10_000), 0.0)
    assert large.due_in_s(0.0) == 0.0


def test_a_broker_that_allows_less_than_it_was_asked_for_is_found_out():
    held = gathering(window=1000)
    for mid in range(1, 21):
        held.add(message("a", b"x", mid), 0.0)
    assert held.due_in_s(0.1) == pytest.approx(0.4), "silence with twenty waiting"
    held.take(0.5)
    held.settle(0.0)
    for mid in range(1, 11):
        held.add(message("a", b"x", mid), 0.6)
    assert held.due_in_s(0.6) == 0.0, "half of what it sends at once"
    held.take(0.6)
    for mid in range(11, 31):
        held.add(message("a", b"x", mid), 0.7)
    assert held.window == 1000, "it allows more than that after all"


@given(st.lists(st.sampled_from(["add", "take", "settle", "lose"]), max_size=60), st.integers(0, 9))
def test_no_message_is_acknowledged_before_it_is_settled_or_twice(steps, seed):
    held, dice = gathering(window=6), random.Random(seed)
    open_mids: list[int] = []
    taken: list[tuple[int, list[int]]] = []
    session = 0
    for step in steps:
        if step == "add":
            mid = dice.choice([mid for mid in range(1, 90) if mid not in open_mids])
            open_mids.append(mid)
            held.add(message("a", b"x", mid), 0.0)
        elif step == "take" and held.due_in_s(0.0) is not None:
            taken.append((session, [found.mid for found in held.take(0.0).messages]))
        elif step == "settle" and taken:
            came, mids = taken.pop(0)
            answered = held.settle(0.0)
            assert answered == (mids if came == session else [])
            open_mids = [mid for mid in open_mids if mid not in answered]
        elif step == "lose":
            held.connection_lost()
            session, open_mids = session + 1, []
        assert held.unacknowledged == len(open_mids)


# --- ends by the clock ------------------------------------------------------------------


class Clock:
    """The time of day, and a gateway's messages by it; the gathering counts its own seconds from anywhere."""

    BEGIN_MS = 1_763_676_000_000  # a full hour

    def __init__(self, every_s: float = 300.0, window: int = 1000) -> None:
        self.s = 0.0
        ends = Ends(every_s, TOPICS, lambda: self.BEGIN_MS + round(self.s * 1000))
        self.held = Gathering(window=window, flush_s=every_s, flush_bytes=10**6, ends=ends)
        self.mid = 0

    def receive(self, at_s: float, *taken_s: float) -> int:
        """A message that is received now and holds readings taken then."""
        self.s = at_s
        self.mid += 1
        values = [{"ts": self.BEGIN_MS + round(ts * 1000), "metrics": {"a": 1}} for ts in taken_s]
        self.held.add(message("a", values[0] if len(values) == 1 else values, self.mid), 5_000 + at_s)
        return self.mid

    def due_in_s(self, at_s: float) -> float | None:
        self.s = at_s
        return self.held.due_in_s(5_000 + at_s)

    def take(self, at_s: float) -> list[int]:
        self.s = at_s
        return [found.mid for found in self.held.take(5_000 + at_s).messages]


def test_an_aligned_flush_is_due_a_little_after_a_multiple_of_its_interval():
    clock = Clock()
    clock.receive(17.0, 16.9)
    assert clock.due_in_s(17.0) == pytest.approx(300 + 2 - 17)
    assert clock.due_in_s(301.0) == pytest.approx(1.0)
    assert clock.due_in_s(302.0) == 0.0
    short = Clock(every_s=5.0)
    short.receive(1.0, 1.0)
    assert short.due_in_s(1.0) == pytest.approx(4.5), "a tenth of the interval"


def test_of_what_comes_after_the_end_only_readings_from_before_it_are_sent():
    clock = Clock()
    first = clock.receive(299.0, 298.0)
    late, new, across = (
        clock.receive(300.2, 299.9),
        clock.receive(300.6, 300.0),
        clock.receive(300.9, 299.5, 300.5),
    )
    latest = clock.receive(301.9, 299.99)
    assert clock.take(302.0) == [first, late, latest]
    assert clock.held.settle(0.0) == [first, late], "the last is acknowledged in its turn"
    assert clock.held.unacknowledged == 3
    assert clock.due_in_s(302.0) == pytest.approx(300.0)
    further = clock.receive(400.0, 399.0)
    assert clock.take(602.0) == [new, across, further]
    assert clock.held.settle(0.0) == [new, across, latest, further]
    assert (clock.held.unacknowledged, clock.held.held_bytes) == (0, 0)


def test_what_cannot_be_read_or_is_no_reading_does_not_wait_for_the_next_end():
    clock = Clock()
    clock.receive(299.0, 298.0)
    clock.held.add(message("a", b"no json", 8), 5_000 + 300.5)
    clock.held.add(Message(9, "iot/v1/a/status", b"online"), 5_000 + 300.5)
    assert clock.take(302.0) == [1, 8, 9]


def test_an_early_flush_takes_all_and_the_next_one_ends_by_the_clock_again():
    clock = Clock(window=8)
    for second in range(4):
        clock.receive(100.0 + second, 100.0 + second)
    assert clock.due_in_s(103.0) == 0.0, "half of the window waits"
    assert clock.take(103.0) == [1, 2, 3, 4]
    clock.receive(104.0, 104.0)
    assert clock.due_in_s(104.0) == pytest.approx(198.0)


def test_a_message_that_was_kept_back_is_forgotten_with_its_connection():
    clock = Clock()
    clock.receive(299.0, 298.0)
    clock.receive(300.5, 300.4)
    clock.receive(300.6, 299.9)
    assert clock.take(302.0) == [1, 3]
    assert clock.held.settle(0.0) == [1]
    assert clock.held.connection_lost() == 2
    assert clock.due_in_s(700.0) is None
    assert clock.held.held_bytes == 0


def test_sensors_that_are_silent_between_their_messages_still_fill_an_interval():
    """Twenty messages each minute, then silence: after some intervals a batch holds all five minutes of them."""
    clock = Clock()
    sizes: list[int] = []
    for second in range(1, 12 * 300):
        if second % 60 == 40:
            for _ in range(20):
                clock.receive(float(second), float(second))
        if clock.due_in_s(float(second)) == 0.0:
            sizes.append(len(clock.take(float(second))))
            clock.held.settle(5_000.0 + second)
    assert sizes[0] == 20, "it cannot know yet whose silence it is"
    assert sizes[-5:] == [100] * 5
    assert clock.held.window == 1000


def test_a_broker_that_allows_less_is_found_out_by_what_comes_once_it_is_answered():
    clock = Clock()
    for _ in range(20):
        clock.receive(10.0, 10.0)
    assert clock.due_in_s(10.0) == pytest.approx(30.0), "a tenth of the interval, for fear of a full window"
    clock.take(40.0)
    assert clock.held.window == 1000
    clock.held.settle(5_040.1)
    for _ in range(10):
        clock.receive(40.2, 20.0)
    assert clock.held.window == 20
    assert clock.due_in_s(40.2) == 0.0, "half of what it sends at once"


@given(
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 3)), min_size=1, max_size=60),
    st.integers(0, 9),
)
def test_every_message_is_sent_once_acknowledged_in_order_and_punctual_ones_keep_to_their_interval(
    sent, seed
):
    """Readings at any times, each under way for up to 3 s; intervals of 10 s, so what takes at most 1 s is punctual."""
    clock, dice = Clock(every_s=10.0, window=10_000), random.Random(seed)
    waiting = sorted((ts + delay, ts) for ts, delay in sent)
    taken: list[list[int]] = []
    acknowledged: list[int] = []
    came: dict[int, tuple[float, float]] = {}
    for tenth in range(700):
        now_s = tenth / 10
        while waiting and waiting[0][0] <= now_s:
            _, ts = waiting.pop(0)
            came[clock.receive(now_s, ts)] = now_s, ts
        if clock.due_in_s(now_s) == 0.0:
            taken.append(clock.take(now_s))
        if taken and dice.random() < 0.1:
            while clock.held._taken:
                acknowledged += clock.held.settle(0.0)
    while clock.held._taken:
        acknowledged += clock.held.settle(0.0)
    assert sorted(mid for batch in taken for mid in batch) == sorted(came)
    assert acknowledged == sorted(came)
    assert clock.held.unacknowledged == 0
    if any(at_s - ts > 0.8 for at_s, ts in came.values()) or len(came) >= 10:
        return  # ten that wait and silence: the broker's window may be full
    for batch in taken:
        assert len({round(came[mid][1] * 1000) // 10_000 for mid in batch}) == 1


# --- where the broker is ----------------------------------------------------------------


def test_a_broker_by_its_url():
    found = parse_broker("mqtt://user:p%40ss@broker.example:1884")
    assert (found.host, found.port, found.tls) == ("broker.example", 1884, False)
    assert (found.username, found.password) == ("user", "p@ss")
    assert "p@ss" not in f"{found} {found!r}"
    assert parse_broker("mqtts://h").port == 8883
    assert parse_broker("mqtt://h").port == 1883
    assert parse_broker("mqtt://u:a@h", password="b").password == "b"


@pytest.mark.parametrize(
    "url", ["h:1883", "http://h", "mqtt://", "mqtt://h/topic", "mqtt://h:x", "mqtt://:p@h"]
)
def test_a_url_that_is_none_is_refused_without_repeating_it(url):
    with pytest.raises(BadInput) as told:
        parse_broker(url)
    assert ":p@" not in str(told.value)


def test_waits_grow_with_jitter_up_to_a_bound():
    assert wait_s(0, 0.0) == 0.0
    assert wait_s(1, 0.5) < wait_s(3, 0.5) < wait_s(30, 0.5) == LONGEST_WAIT_S / 2
