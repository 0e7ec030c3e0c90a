"""What `thermocline doctor` makes of what it was told: each check of something good and of something bad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cli import doctor
from infra.doctor import data, services
from infra.doctor.compaction import compaction
from infra.doctor.data import Compared, Sampled
from infra.doctor.finding import Finding, exit_code, kind_of, span_text
from infra.doctor.vitals import Vital, oldest_manifest
from ingest.errors import BadInput
from ingest.keys import DAY_S, Layout, Period, first_layout
from ingest.stores import Superseded
from tests.checkup import NAMES
from tests.world import HOUR_S, NOW_S, USUAL, World, readings

LOCAL = replace(NAMES, kind="local")
LOCALSTACK = replace(NAMES, kind="localstack")
ARN = "arn:aws:lambda:eu-central-1:000000000000:function:"
MAPPING = {
    "UUID": "uuid-store",
    "State": "Enabled",
    "LastProcessingResult": "OK",
    "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:s3:::plant-rejects"}},
}
NOTIFICATION = {
    "LambdaFunctionConfigurations": [
        {"LambdaFunctionArn": f"{ARN}plant-index-segment", "Events": ["s3:ObjectCreated:*"]}
    ]
}
RULE = {"Name": "plant-rule", "State": "ENABLED", "ScheduleExpression": "rate(15 minutes)"}
TARGETS = [{"Id": "archive-expired", "Arn": f"{ARN}plant-archive-expired"}]
SOURCES = [{"function": "plant-store-readings", "shards": 2, "failing": "", "failing_s": 0}]
ALARM = {"AlarmName": "late", "StateValue": "OK", "AlarmActions": ["arn:topic"], "AlarmDescription": "Look."}
TIGHT = first_layout(Period(0, HOUR_S, DAY_S, 2 * DAY_S, 365 * DAY_S))
FAILING = [{**SOURCES[0], "failing": "broken", "failing_s": 40}]
PASSED = Vital(0)


def lines(**changes: Any) -> Mapping[str, Any]:
    return {**MAPPING, **changes}


WELL: dict[str, Finding] = {
    "table": services.table({"TableStatus": "ACTIVE"}, NAMES),
    "stream on the table": services.table_stream(
        {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}}, NAMES
    ),
    "layout": services.layout(USUAL, NOW_S, NAMES),
    "a short local layout": services.layout(TIGHT, NOW_S, LOCAL),
    "ttl": services.ttl({"TimeToLiveStatus": "ENABLED", "AttributeName": "ttl"}, NAMES),
    "local ttl": services.ttl_clock({"alive": True, "quiet_s": 0.4}),
    "mapping": services.mapping("m", MAPPING, NAMES, keeps=True),
    "mapping without destination": services.mapping("m", lines(DestinationConfig={}), NAMES, keeps=False),
    "local mapping": services.local_mapping("m", NAMES.store, SOURCES, []),
    "local stack": services.local_stack({"endpoint_url": "http://here", "event_source_restarts": 0}),
    "stream": services.stream({"StreamStatus": "ACTIVE", "RetentionPeriodHours": 24}, NAMES),
    "notification": services.notification(NOTIFICATION, NAMES),
    "schedule": services.schedule(RULE, TARGETS, NAMES),
    "local schedule": services.schedule({**RULE, "State": "DISABLED"}, TARGETS, LOCAL),
    "alarms": services.alarms([ALARM], NAMES),
    "clock": services.clock(-2.0),
    "nothing overdue": data.overdue(Vital(0), Vital(5 * DAY_S), NAMES),
    "a little overdue": data.overdue(Vital(DAY_S), Vital(5 * DAY_S), NAMES),
    "age": data.age("stream-age", Vital(30.0), NAMES.store, NAMES),
    "rejects": data.rejects(0, {}, more=False),
    "failed batches": data.failed_batches(Vital(0), NAMES),
    "lost": data.chunks_lost(Vital(0.0), NAMES),
    "errors": data.errors(Vital(0), NAMES),
    "throttles": data.throttles(Vital(0), Vital.unknown("none here"), Vital(0)),
    "catalog": data.catalog(Compared(objects=3, entries=3)),
    "compaction": compaction([], USUAL, NOW_S, NAMES),
    "segments": data.segments(Sampled(segments=3), 9),
    "no segments": data.segments(Sampled(), 0),
}


@pytest.mark.parametrize("what", WELL)
def test_what_is_well_needs_no_advice(what: str) -> None:
    finding = WELL[what]
    assert (finding.result, finding.advice) == ("ok", ""), finding
    assert finding.found


def test_what_compaction_leaves_undone_is_told_by_date() -> None:
    left = Superseded("2026-11-02", "old", ("new",), NOW_S - 4 * DAY_S)
    finding = compaction([left], USUAL, NOW_S, NAMES)
    assert (finding.check, finding.result) == ("compaction", "warning")
    assert "1 dates (2026-11-02)" in finding.found
    assert "archive compact" in finding.advice
    assert "CompactSchedule" in finding.advice
    assert compaction([left], None, NOW_S, NAMES).result == "skipped"
    fresh = replace(left, superseded_s=NOW_S - 2 * DAY_S)
    assert compaction([fresh], USUAL, NOW_S, NAMES).result == "ok"


def faulty(**counts: list[str]) -> Compared:
    compared = Compared(objects=9, entries=9)
    for kind, names in counts.items():
        for name in names:
            getattr(compared, kind).add(name)
    return compared


ILL: list[tuple[Finding, str, str, str]] = [
    # finding                                             result     found holds            advice holds
    (services.table({"TableStatus": "DELETING"}, NAMES), "error", "DELETING", "restore"),
    (services.table_stream({}, NAMES), "error", "no stream", "REVERT_DRIFT"),
    (
        services.table_stream(
            {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}}, NAMES
        ),
        "warning",
        "NEW_IMAGE",
        "KEYS_ONLY",
    ),
    (
        services.layout(None, NOW_S, NAMES),
        "error",
        "missing",
        "thermocline deploy --target aws --stack plant",
    ),
    (services.layout(TIGHT, NOW_S, NAMES), "error", "48 h", "--hot-retention"),
    (services.ttl({"TimeToLiveStatus": "DISABLED"}, NAMES), "error", "DISABLED", "thermocline deploy"),
    (
        services.ttl({"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}, NAMES),
        "error",
        "by expires",
        "thermocline deploy",
    ),
    (services.ttl_clock({"alive": False, "quiet_s": 9}), "error", "ended", "Restart"),
    (services.ttl_clock({"alive": True, "quiet_s": 900}), "warning", "15 min", "log"),
    (services.mapping("m", None, NAMES, keeps=True), "error", "gone", "REVERT_DRIFT"),
    (
        services.mapping("m", lines(State="Disabled"), NAMES, keeps=True),
        "error",
        "Disabled",
        "--uuid uuid-store --enabled",
    ),
    (
        services.mapping("m", lines(DestinationConfig={"OnFailure": {}}), NAMES, keeps=True),
        "error",
        "no failure destination",
        "REVERT_DRIFT",
    ),
    (
        services.mapping("m", lines(LastProcessingResult="PROBLEM: Function call failed"), NAMES, keeps=True),
        "warning",
        "PROBLEM",
        "aws logs tail /aws/lambda/plant-store-readings",
    ),
    (services.local_mapping("m", NAMES.store, [], []), "error", "no event source", "Restart"),
    (services.local_mapping("m", NAMES.store, SOURCES, ["unreadable"]), "error", "unreadable", "Restart"),
    (services.local_mapping("m", NAMES.store, FAILING, []), "warning", "40 s: broken", "by itself"),
    (
        services.local_mapping("m", NAMES.store, [{**FAILING[0], "failing_s": 900}], []),
        "error",
        "15 min",
        "20 h",
    ),
    (services.local_stack({"event_source_restarts": 2}), "warning", "2", "log"),
    (
        services.stream({"StreamStatus": "ACTIVE", "RetentionPeriodHours": 20}, NAMES),
        "error",
        "20 h",
        "REVERT_DRIFT",
    ),
    (services.stream({"StreamStatus": "DELETING"}, NAMES), "error", "DELETING", "REVERT_DRIFT"),
    (services.notification({}, NAMES), "error", "plant-index-segment", "archive reindex"),
    (
        services.notification(
            {
                "LambdaFunctionConfigurations": [
                    {"LambdaFunctionArn": f"{ARN}other", "Events": ["s3:ObjectCreated:*"]}
                ]
            },
            NAMES,
        ),
        "error",
        "does not tell",
        "REVERT_DRIFT",
    ),
    (services.schedule(None, [], NAMES), "error", "gone", "REVERT_DRIFT"),
    (services.schedule(RULE, [], NAMES), "error", "does not call", "REVERT_DRIFT"),
    (
        services.schedule({**RULE, "State": "DISABLED"}, TARGETS, NAMES),
        "error",
        "DISABLED",
        "aws events enable-rule --name plant-rule",
    ),
    (services.alarms([], NAMES), "warning", "no alarms", "thermocline deploy"),
    (services.alarms([{**ALARM, "StateValue": "ALARM"}], NAMES), "error", "1 of 1 ring: late", "Look."),
    (services.alarms([{**ALARM, "AlarmActions": []}], NAMES), "warning", "nobody", "AlarmTopicArn"),
    (services.clock(400.0), "warning", "ahead of", "NTP"),
    (services.clock(-1000.0), "error", "behind", "NTP"),
    (data.age("stream-age", Vital(7 * HOUR_S), NAMES.store, NAMES), "warning", "7 h", "plant-store-readings"),
    (data.age("stream-age", Vital(13 * HOUR_S), NAMES.store, NAMES), "error", "13 h", "ShardCount"),
    (
        data.rejects(12, {"not_json": 2, "bad_timestamp": 10}, more=False),
        "warning",
        "12 in the last 24 h: bad_timestamp 10, not_json 2",
        "rejects retry",
    ),
    (data.rejects(10_000, {"not_json": 10_000}, more=True), "warning", "over 10,000", "rejects ls"),
    (data.failed_batches(Vital(3), NAMES), "error", "3 batches", "rejects retry"),
    (data.chunks_lost(Vital(7), NAMES), "error", "7 chunks", "point-in-time recovery"),
    (data.errors(Vital(5), NAMES), "warning", "5 invocations", "aws logs tail"),
    (
        data.throttles(Vital(40), Vital(0), Vital(2)),
        "warning",
        "40 writes to the table, 2 invocations",
        "1,000 write units",
    ),
    (data.catalog(faulty(unlisted=["a", "b", "c", "d"])), "error", "4 (a, b, c, ...)", "archive reindex"),
    (data.catalog(faulty(changed=["a"])), "error", "another object: 1 (a)", "archive reindex"),
    (data.catalog(faulty(gone=["a"])), "error", "object is gone: 1 (a)", "Restore the objects"),
    (data.catalog(faulty(foreign=["notes.txt"])), "warning", "notes.txt", "Move them"),
    (data.catalog(faulty(gone=["a"], foreign=["notes.txt"])), "error", "notes.txt", "Restore"),
    (data.segments(Sampled(4, 0, [("a", "its sha256")]), 9), "error", "4 of 9 read, 1 damaged: a", "Restore"),
]


@pytest.mark.parametrize(("finding", "result", "found", "advice"), ILL)
def test_what_is_ill_is_graded_and_says_what_to_do(
    finding: Finding, result: str, found: str, advice: str
) -> None:
    assert finding.result == result, finding
    assert found in finding.found
    assert advice in finding.advice


class TestOverdue:
    def test_a_quarter_of_the_margin_warns_and_half_of_it_is_an_error(self):
        margin = Vital(4 * DAY_S)
        results = [
            data.overdue(Vital(late * DAY_S), margin, NAMES).result for late in (0.99, 1, 1.99, 2, 4, 9)
        ]
        assert results == ["ok", "warning", "warning", "error", "error", "error"]

    def test_the_error_says_exactly_what_to_do_and_how_long_there_is(self):
        finding = data.overdue(Vital(3 * DAY_S), Vital(4 * DAY_S), NAMES)
        assert "24 h are left" in finding.found
        assert "aws logs tail /aws/lambda/plant-archive-expired" in finding.advice
        assert "aws lambda invoke --function-name plant-archive-expired" in finding.advice
        assert '{"source":"thermocline.schedule"}' in finding.advice
        assert "update-time-to-live --table-name plant-Table-1" in finding.advice
        assert "Enabled=false,AttributeName=ttl" in finding.advice
        assert "thermocline deploy --target aws --stack plant" in finding.advice

    def test_expiry_is_switched_off_on_aws_alone(self):
        for names in (LOCAL, LOCALSTACK):
            advice = data.overdue(Vital(3 * DAY_S), Vital(4 * DAY_S), names).advice
            assert "update-time-to-live" not in advice
        assert "`thermocline flush`" in data.overdue(Vital(3 * DAY_S), Vital(4 * DAY_S), LOCAL).advice
        assert "thermocline clock" in data.overdue(Vital(3 * DAY_S), Vital(4 * DAY_S), LOCALSTACK).advice

    def test_it_is_seen_from_the_table(self):
        world = World()
        assert oldest_manifest(world.hot, USUAL, NOW_S) == (Vital(0), Vital(6 * DAY_S - HOUR_S))
        world.send(readings("press-7", NOW_S * 1_000_000, 1_000_000, t=[1.0, 2.0]))
        (slot_s,) = world.hot.open_slots()
        assert oldest_manifest(world.hot, USUAL, slot_s - 1)[0] == Vital(0)
        assert oldest_manifest(world.hot, USUAL, slot_s + 500) == (Vital(500), Vital(6 * DAY_S - HOUR_S))

    def test_the_margin_is_the_least_in_force_since_the_manifest_was_written(self):
        world = World()
        world.send(readings("press-7", NOW_S * 1_000_000, 1_000_000, t=[1.0]))
        (slot_s,) = world.hot.open_slots()
        shorter = replace(USUAL.periods[0], from_s=NOW_S + 60, hot_retention_s=4 * DAY_S)
        earlier = Layout((replace(USUAL.periods[0], hot_retention_s=3 * DAY_S), USUAL.periods[0]), 3 * DAY_S)
        assert oldest_manifest(world.hot, USUAL.changed(shorter), slot_s + 9)[1] == Vital(shorter.margin_s)
        assert oldest_manifest(world.hot, earlier, slot_s + 9)[1] == Vital(USUAL.periods[0].margin_s)


def test_unknown_numbers_are_skipped_with_their_reason() -> None:
    unknown = Vital.unknown("nobody knows")
    skipped = [
        data.overdue(unknown, PASSED, NAMES),
        data.chunks_lost(unknown, NAMES),
        data.age("a", unknown, "f", NAMES),
        data.failed_batches(unknown, NAMES),
        data.errors(unknown, NAMES),
        data.throttles(unknown, unknown, unknown),
    ]
    assert {(one.result, one.found) for one in skipped} == {("skipped", "nobody knows")}
    assert services.clock(None).result == services.ttl_clock(None).result == "skipped"


# --- small things ---------------------------------------------------------------------------


def test_exit_codes_follow_the_gravest_finding() -> None:
    found = {result: Finding("c", result, "f") for result in ("ok", "warning", "error", "skipped")}
    assert exit_code([]) == exit_code([found["ok"], found["skipped"]]) == 0
    assert exit_code([found["ok"], found["warning"]]) == 5
    assert exit_code([found["warning"], found["error"], found["ok"]]) == 1


def test_a_target_is_told_by_its_endpoint() -> None:
    assert kind_of(None, is_local=False) == "aws"
    assert kind_of("https://dynamodb.eu-central-1.amazonaws.com", is_local=False) == "aws"
    assert kind_of("http://127.0.0.1:4566", is_local=False) == "localstack"
    assert kind_of("http://127.0.0.1:4566", is_local=True) == "local"


def test_spans_read_well() -> None:
    assert [span_text(s) for s in (0, 90, 600, 86_400, 5.5 * DAY_S)] == [
        "0 s",
        "90 s",
        "10 min",
        "24 h",
        "5.5 days",
    ]


def test_on_a_terminal_each_finding_is_a_row_with_its_advice_beside_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    found = [Finding("ttl", "ok", "on"), Finding("catalog", "error", "1 gone [a]\x1b[2J", "Restore " * 20)]
    doctor._write(found, "table", None)
    heading, _, ttl, first, *more = capsys.readouterr().out.splitlines()
    assert heading.split("  ")[0] == "check"
    assert ttl.split() == ["ttl", "ok", "on"]
    assert first.startswith("catalog")
    assert "[a]\\x1b[2J" in first
    assert sum(line.count("Restore") for line in (first, *more)) == 20


def test_all_and_a_sample_size_contradict_each_other() -> None:
    with pytest.raises(BadInput, match="--all"):
        doctor.doctor(sample=3, everything=True)
