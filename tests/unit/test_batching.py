"""The pure rules of the local event sources: batches, verdicts on invocations, filters, settings, metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.local import batching
from infra.local.batching import MOST_PAYLOAD_BYTES, Record, Rules, Work
from infra.local.counters import embedded_metrics
from infra.local.filters import compile_filters
from infra.local.lanes import Tracker
from infra.local.mappings import read_mapping
from ingest.errors import BadInput

REPORTING = Rules(report_failures=True)


def record(number: int, size_bytes: int = 20, arrived_s: float = 0.0) -> Record:
    return Record(f"{number:030d}", f"key-{number}", arrived_s, b'"' + b"x" * (size_bytes - 2) + b'"')


def work(count: int, retries: int = 0) -> Work:
    return Work(tuple(record(i) for i in range(count)), retries)


def numbers(records: Sequence[Record]) -> list[int]:
    return [int(one.sequence) for one in records]


# --- batches ----------------------------------------------------------------------------


@given(
    sizes=st.lists(st.integers(2, 1_600_000), min_size=1, max_size=40),
    batch_size=st.integers(1, 50),
)
def test_a_batch_is_as_large_as_both_limits_allow_and_never_empty(sizes: list[int], batch_size: int) -> None:
    records = [record(i, size) for i, size in enumerate(sizes)]
    count = batching.fitting(records, batch_size)
    assert 1 <= count <= batch_size
    body = batching.event_body(records[:count])
    assert count == 1 or len(body) <= MOST_PAYLOAD_BYTES
    if count < min(batch_size, len(records)):
        assert len(batching.event_body(records[: count + 1])) > MOST_PAYLOAD_BYTES


def test_the_event_is_the_records_in_order() -> None:
    made = [Record(str(i), "k", 0.0, json.dumps({"n": i}).encode()) for i in range(3)]
    assert json.loads(batching.event_body(made)) == {"Records": [{"n": 0}, {"n": 1}, {"n": 2}]}


@pytest.mark.parametrize(
    ("count", "size_bytes", "waited_s", "left_s"),
    [
        (1, 10, 0.0, 5.0),
        (1, 10, 4.0, 1.0),
        (1, 10, 6.0, 0.0),
        (9, 10, 0.0, 0.0),
        (2, MOST_PAYLOAD_BYTES, 0.0, 0.0),
    ],
)
def test_a_batch_closes_at_the_first_of_size_bytes_and_window(
    count: int, size_bytes: int, waited_s: float, left_s: float
) -> None:
    assert batching.seconds_to_close(count, size_bytes, waited_s, Rules(9, 5.0)) == left_s


@given(st.text(), st.integers(1, 10))
def test_a_key_has_one_lane(key: str, lanes: int) -> None:
    assert batching.lane_of(key, lanes) == batching.lane_of(key, lanes) in range(lanes)


def test_keys_are_spread_over_all_lanes() -> None:
    assert {batching.lane_of(f"lane-{i}", 10) for i in range(200)} == set(range(10))


# --- what the function answered -------------------------------------------------------


@pytest.mark.parametrize(
    "answer", [b"", b"null", b"{}", b'{"batchItemFailures":[]}', b'{"batchItemFailures":null}', b'""']
)
def test_these_answers_are_success(answer: bytes) -> None:
    assert batching.first_failure(work(3).records, answer, REPORTING) == 3


@pytest.mark.parametrize(
    "failures",
    [
        [{"itemIdentifier": ""}],
        [{"itemIdentifier": None}],
        [{"itemIdentifer": f"{1:030d}"}],
        [{"itemIdentifier": "77"}],
        [{"itemIdentifier": f"{2:030d}"}, {"itemIdentifier": "77"}],
        ["x"],
        "x",
    ],
)
def test_these_reports_fail_the_whole_batch(failures: Any) -> None:
    answer = json.dumps({"batchItemFailures": failures}).encode()
    assert batching.first_failure(work(3).records, answer, REPORTING) == 0


@pytest.mark.parametrize("answer", [b"not json", b"[1]", b'"text"'])
def test_an_answer_that_is_no_report_fails_the_batch(answer: bytes) -> None:
    assert batching.first_failure(work(3).records, answer, REPORTING) == 0


def test_the_lowest_reported_record_is_the_checkpoint() -> None:
    named = [{"itemIdentifier": f"{number:030d}"} for number in (4, 2, 3)]
    answer = json.dumps({"batchItemFailures": named}).encode()
    assert batching.first_failure(work(6).records, answer, REPORTING) == 2
    assert batching.first_failure(work(6).records, answer, Rules()) == 6


# --- failures ---------------------------------------------------------------------------


def test_without_bisect_the_rest_is_retried_until_the_retries_are_used() -> None:
    rules = Rules(most_retries=1)
    first = batching.after_failure(work(4), 0, rules)
    assert ([numbers(one.records) for one in first.again], first.wait) == ([[0, 1, 2, 3]], True)
    last = batching.after_failure(first.again[0], 3, rules)
    assert (numbers(last.done), numbers(last.given_up), last.again) == ([0, 1, 2], [3], ())


def test_bisect_halves_without_using_a_retry() -> None:
    verdict = batching.after_failure(work(5), 0, Rules(most_retries=0, bisect=True))
    assert [(numbers(one.records), one.retries) for one in verdict.again] == [([0, 1, 2], 0), ([3, 4], 0)]
    assert (verdict.given_up, verdict.wait) == ((), False)


def test_bisect_splits_at_the_reported_record() -> None:
    verdict = batching.after_failure(work(5), 2, Rules(most_retries=0, bisect=True))
    assert numbers(verdict.done) == [0, 1]
    assert [(numbers(one.records), one.retries) for one in verdict.again] == [([2, 3, 4], 0)]


@given(
    poison=st.sets(st.integers(0, 30), max_size=6),
    count=st.integers(1, 31),
    retries=st.integers(0, 3),
    reports=st.booleans(),
)
def test_bisect_gives_up_exactly_the_poison_and_keeps_the_order(
    poison: set[int], count: int, retries: int, *, reports: bool
) -> None:
    rules = Rules(most_retries=retries, bisect=True, report_failures=reports)
    todo, done, given_up, invocations = [work(count)], [], [], 0
    while todo:
        one = todo.pop()
        invocations += 1
        bad = [place for place, found in enumerate(one.records) if int(found.sequence) in poison]
        failed_at = bad[0] if bad and reports else 0
        verdict = batching.after_failure(one, failed_at, rules) if bad else batching.after_success(one)
        done += numbers(verdict.done)
        given_up += numbers(verdict.given_up)
        todo.extend(reversed(verdict.again))
    present = sorted(poison & set(range(count)))
    assert given_up == present
    assert done == [number for number in range(count) if number not in poison]
    assert invocations <= 1 + len(present) * (retries + 1 + 2 * count.bit_length())


def test_only_the_oldest_records_expire() -> None:
    records = [record(i, arrived_s=float(i)) for i in range(5)]
    assert batching.expired(records, 12.5, 10.0) == 3
    assert batching.expired(records, 12.5, None) == 0


def test_waits_double_up_to_the_most() -> None:
    assert [batching.backoff_s(n, 0.2, 1.0) for n in (1, 2, 3, 4, 1000)] == [0.2, 0.4, 0.8, 1.0, 1.0]


@given(st.permutations(list(range(12))))
def test_the_checkpoint_never_passes_an_unfinished_record(order: list[int]) -> None:
    tracker = Tracker(None)
    tracker.begin([str(i) for i in range(12)])
    finished: set[int] = set()
    for number in order:
        tracker.finish([str(number)])
        finished.add(number)
        first_open = next((i for i in range(12) if i not in finished), 12)
        assert tracker.after == (str(first_open - 1) if first_open else None)
        assert tracker.pending == 12 - first_open
    assert tracker.wait_done(12, 0)


# --- filters ----------------------------------------------------------------------------

EVENT = {
    "eventName": "REMOVE",
    "dynamodb": {"Keys": {"pk": {"S": "t#1799"}}, "n": 5, "none": None, "empty": "", "tags": ["a", "b"]},
    "flag": True,
}


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ({"eventName": ["REMOVE"], "dynamodb": {"Keys": {"pk": {"S": [{"prefix": "t#"}]}}}}, True),
        ({"eventName": ["INSERT", "REMOVE"]}, True),
        ({"eventName": ["INSERT"]}, False),
        ({"dynamodb": {"Keys": {"pk": {"S": [{"suffix": "99"}]}}}}, True),
        ({"dynamodb": {"Keys": {"pk": {"S": [{"prefix": "s#"}, {"suffix": "9"}]}}}}, True),
        ({"eventName": [{"equals-ignore-case": "remove"}]}, True),
        ({"eventName": [{"anything-but": ["INSERT", "MODIFY"]}]}, True),
        ({"eventName": [{"anything-but": "REMOVE"}]}, False),
        ({"eventName": [{"anything-but": {"prefix": "REM"}}]}, False),
        ({"missing": [{"anything-but": "x"}]}, False),
        ({"missing": [{"exists": False}]}, True),
        ({"missing": {"deeper": [{"exists": False}]}}, True),
        ({"eventName": [{"exists": False}]}, False),
        ({"dynamodb": {"n": [{"exists": True}]}}, True),
        ({"dynamodb": {"n": [{"numeric": [">", 4, "<=", 5]}]}}, True),
        ({"dynamodb": {"n": [{"numeric": ["=", 5.0]}]}}, True),
        ({"dynamodb": {"n": [{"numeric": ["<", 5]}]}}, False),
        ({"dynamodb": {"n": ["5"]}}, False),
        ({"dynamodb": {"n": [5]}}, True),
        ({"dynamodb": {"none": [None]}}, True),
        ({"dynamodb": {"missing": [None]}}, False),
        ({"dynamodb": {"empty": [""]}}, True),
        ({"dynamodb": {"tags": ["b"]}}, True),
        ({"dynamodb": {"tags": ["c"]}}, False),
        ({"flag": [True]}, True),
        ({"flag": [1]}, False),
        ({"$or": [{"eventName": ["INSERT"]}, {"dynamodb": {"n": [5]}}]}, True),
        ({"$or": [{"eventName": ["INSERT"]}, {"dynamodb": {"n": [6]}}]}, False),
        ({"flag": [True], "$or": [{"eventName": ["REMOVE"]}, {"flag": [False]}]}, True),
    ],
)
def test_patterns_mean_what_the_page_says(pattern: dict[str, Any], *, wanted: bool) -> None:
    test = compile_filters([json.dumps(pattern)])
    assert test is not None
    assert test(EVENT) is wanted


def test_any_of_several_patterns_is_enough_and_none_lets_all_through() -> None:
    test = compile_filters(['{"eventName":["INSERT"]}', '{"flag":[true]}'])
    assert test is not None
    assert test(EVENT)
    assert compile_filters([]) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "{",
        "[]",
        '{"a":"x"}',
        '{"a":[]}',
        '{"a":[{"wildcard":"x*"}]}',
        '{"a":[{"numeric":["~",1]}]}',
        '{"a":[{"numeric":["<"]}]}',
        '{"a":[{"prefix":"x","suffix":"y"}]}',
        '{"a":[{"exists":"yes"}]}',
        '{"$or":[{"a":["x"]}]}',
    ],
)
def test_a_pattern_that_is_not_understood_is_refused(pattern: str) -> None:
    with pytest.raises(BadInput):
        compile_filters([pattern])


# --- mappings and metrics -----------------------------------------------------------------

DESCRIBED: dict[str, Any] = {
    "UUID": "u",
    "EventSourceArn": "arn:aws:kinesis:us-east-1:000000000000:stream/s",
    "FunctionArn": "arn:aws:lambda:us-east-1:000000000000:function:f",
}


def test_a_mapping_has_the_documented_defaults() -> None:
    mapping = read_mapping(DESCRIBED)
    assert (mapping.rules, mapping.lanes, mapping.function_name) == (Rules(), 1, "f")


def test_texts_from_a_template_are_numbers_and_switches() -> None:
    mapping = read_mapping(
        DESCRIBED
        | {
            "BatchSize": "10000",
            "MaximumBatchingWindowInSeconds": "1",
            "ParallelizationFactor": "10",
            "MaximumRetryAttempts": "-1",
            "MaximumRecordAgeInSeconds": "72000",
            "BisectBatchOnFunctionError": "true",
            "FunctionResponseTypes": ["ReportBatchItemFailures"],
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::b"}},
        }
    )
    rules = Rules(10_000, 1.0, None, 72_000.0, bisect=True, report_failures=True)
    assert (mapping.rules, mapping.lanes, mapping.on_failure) == (rules, 10, "arn:aws:s3:::b")


@pytest.mark.parametrize(
    "change",
    [
        {"EventSourceArn": "arn:aws:sqs:us-east-1:000000000000:q"},
        {"TumblingWindowInSeconds": 30},
        {"StartingPosition": "AT_TIMESTAMP"},
        {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:us-east-1:000000000000:t"}}},
        {"FilterCriteria": {"Filters": [{"Pattern": '{"a":[{"cidr":"x"}]}'}]}},
    ],
)
def test_a_mapping_that_cannot_be_run_whole_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        read_mapping(DESCRIBED | change)


def test_metrics_are_read_from_the_log_and_other_lines_are_not() -> None:
    def line(namespace: str, **values: Any) -> str:
        metrics = [{"Name": name, "Unit": "Count"} for name in values]
        head = {"Timestamp": 1, "CloudWatchMetrics": [{"Namespace": namespace, "Metrics": metrics}]}
        return json.dumps({"_aws": head, **values})

    log = "\n".join(
        [
            "START",
            'cut off "_aws" {"x"',
            line("Thermocline", ReadingsStored=[3.0], WriteUnits=2),
            line("Other", ReadingsStored=9),
            line("Thermocline", ReadingsStored=4),
        ]
    )
    assert list(embedded_metrics(log)) == [
        ("ReadingsStored", 3.0),
        ("WriteUnits", 2.0),
        ("ReadingsStored", 4.0),
    ]
