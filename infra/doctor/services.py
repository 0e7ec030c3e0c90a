"""Judges what AWS describes of a deployment's services: pure functions from a description to a finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from infra.deploy import LEAST_MARGIN_S, TTL_ATTRIBUTE
from infra.doctor.finding import Finding, Names, Result, span_text
from ingest.keys import Layout

LEAST_RECORD_AGE_S = 72_000
"""After which the template's mapping gives a record up: the stream must keep it longer than that."""
MOST_FAILING_S = 300
"""A local event source that fails for longer than this is no hiccup."""
QUIET_CLOCK_S = 120
SKEW_S, REFUSED_SKEW_S = 300, 900
"""AWS refuses a signed request 15 min from its own time ("Troubleshoot Signature Version 4 signing for AWS API
requests")."""

Described = Mapping[str, Any]


def table(described: Described, names: Names) -> Finding:
    """Whether the table can be written (DescribeTable)."""
    state = str(described.get("TableStatus"))
    if state in ("ACTIVE", "UPDATING"):
        return Finding("table", "ok", f"{names.table} is {state}")
    return Finding("table", "error", f"{names.table} is {state}", "Wait until it is ACTIVE, or restore it.")


def table_stream(described: Described, names: Names) -> Finding:
    """Whether the table tells of its changes by their keys (DescribeTable)."""
    stream: Described = described.get("StreamSpecification") or {}
    if not stream.get("StreamEnabled"):
        return Finding(
            "table-stream",
            "error",
            "the table has no stream: no expired ticket reaches the archiver, only the schedule does",
            f"Put it back by {names.restore()}.",
        )
    view = str(stream.get("StreamViewType"))
    if view != "KEYS_ONLY":
        return Finding(
            "table-stream",
            "warning",
            f"the stream carries {view}: more than keys, at a higher price",
            f"Put KEYS_ONLY back by {names.restore()}.",
        )
    return Finding("table-stream", "ok", "on, KEYS_ONLY")


def layout(held: Layout | None, now_s: int, names: Names) -> Finding:
    """Whether the layout is there, and leaves time enough between archiving and expiry."""
    if held is None:
        return Finding(
            "layout", "error", "the layout item is missing: every function fails", f"Run {names.deploy()}."
        )
    period = held.at(now_s)
    told = f"{span_text(period.margin_s)} between a slot and the expiry of its chunks"
    if names.kind == "aws" and period.margin_s < LEAST_MARGIN_S:
        return Finding(
            "layout",
            "error",
            f"only {told}; 48 h are the least",
            "Deploy with a longer --hot-retention or a shorter --archive-after.",
        )
    return Finding("layout", "ok", told)


def ttl(described: Described, names: Names) -> Finding:
    """Whether DynamoDB lets items expire (DescribeTimeToLive)."""
    state, attribute = str(described.get("TimeToLiveStatus")), described.get("AttributeName")
    if state in ("ENABLED", "ENABLING") and attribute == TTL_ATTRIBUTE:
        return Finding("ttl", "ok", f"{state}, by {attribute}")
    return Finding(
        "ttl",
        "error",
        f"{state}{f', by {attribute}' if attribute else ''}: nothing expires, and slots wait for the schedule",
        f"Switch it on with {names.deploy()}.",
    )


def ttl_clock(told: Described | None) -> Finding:
    """Whether the local stack's own clock ticks; `told` is what `status` says of it."""
    if told is None:
        return Finding("ttl", "skipped", "this local stack does not tell of its TTL clock")
    quiet_s = float(told.get("quiet_s") or 0)
    if not told.get("alive"):
        return Finding("ttl", "error", "the TTL clock has ended: nothing expires", "Restart the local stack.")
    if quiet_s > QUIET_CLOCK_S:
        return Finding(
            "ttl",
            "warning",
            f"the TTL clock last ticked {span_text(quiet_s)} ago",
            "Where no `thermocline flush` or `expire` runs, look at the local stack's log.",
        )
    return Finding("ttl", "ok", "the TTL clock ticks")


def mapping(check: str, described: Described | None, names: Names, *, keeps: bool) -> Finding:
    """Whether an event source mapping polls its stream (GetEventSourceMapping; None where there is none).
    `keeps`: what it gives up must go to a failure destination."""
    if described is None:
        return Finding(
            check, "error", "the event source mapping is gone", f"Put it back by {names.restore()}."
        )
    state, uuid = str(described.get("State")), str(described.get("UUID"))
    if state not in ("Enabled", "Enabling", "Updating", "Creating"):
        return Finding(
            check,
            "error",
            f"the mapping is {state}: nothing is read from its stream",
            f"Run `aws lambda update-event-source-mapping --uuid {uuid} --enabled`.",
        )
    to: Described = described.get("DestinationConfig") or {}
    destination: Described = to.get("OnFailure") or {}
    if keeps and not destination.get("Destination"):
        return Finding(
            check,
            "error",
            "the mapping has no failure destination: what it gives up is lost",
            f"Put it back by {names.restore()}.",
        )
    last = str(described.get("LastProcessingResult") or "")
    if last.startswith("PROBLEM"):
        function = names.store if keeps else names.archiver
        return Finding(check, "warning", last, f"See why with {names.logs(function)}.")
    return Finding(check, "ok", f"{state}{f', {last}' if last else ''}")


def local_stack(told: Described) -> Finding:
    """Whether what runs around the emulator stays up; `told` is what `status` says."""
    restarts = int(told.get("event_source_restarts") or 0)
    if restarts:
        return Finding(
            "local-stack",
            "warning",
            f"the event sources ended and were started again, times: {restarts}",
            "Nothing is lost by it. The local stack's log says why they ended.",
        )
    return Finding("local-stack", "ok", f"answers at {told.get('endpoint_url')}")


def local_mapping(
    check: str, function: str, sources: Sequence[Described], problems: Sequence[str]
) -> Finding:
    """Whether the local stack polls the stream of a function; `sources` is `event_sources` of `status`."""
    restart = "Restart the local stack: `thermocline down`, then `thermocline up` again."
    if problems:
        return Finding(check, "error", problems[0], restart)
    found = next((one for one in sources if one.get("function") == function), None)
    if found is None:
        return Finding(check, "error", f"no event source runs for {function}", restart)
    failing_s = float(found.get("failing_s") or 0)
    if found.get("failing"):
        grave: Result = "error" if failing_s > MOST_FAILING_S else "warning"
        return Finding(
            check,
            grave,
            f"has been failing for {span_text(failing_s)}: {found['failing']}",
            "It is tried again by itself. Mend what it says; records are given up after 20 h.",
        )
    return Finding(check, "ok", f"the event source polls its stream, shards: {found.get('shards', '?')}")


def stream(described: Described, names: Names) -> Finding:
    """Whether the stream takes records and keeps them long enough (DescribeStreamSummary)."""
    state = str(described.get("StreamStatus"))
    kept_s = int(described.get("RetentionPeriodHours") or 0) * 3600
    if state not in ("ACTIVE", "UPDATING"):
        return Finding("stream", "error", f"{names.stream} is {state}", f"Put it back by {names.restore()}.")
    if kept_s <= LEAST_RECORD_AGE_S:
        return Finding(
            "stream",
            "error",
            f"records are kept for {span_text(kept_s)}, and given up after {span_text(LEAST_RECORD_AGE_S)}",
            f"Put it back by {names.restore()}.",
        )
    return Finding("stream", "ok", f"{state}, keeps records for {span_text(kept_s)}")


def notification(described: Described, names: Names) -> Finding:
    """Whether the archive's bucket tells index_segment of new objects (GetBucketNotificationConfiguration)."""
    told: Sequence[Described] = described.get("LambdaFunctionConfigurations") or []
    for one in told:
        ours = str(one.get("LambdaFunctionArn")).split(":")[6:7] == [names.indexer]
        events = cast(Sequence[str], one.get("Events") or [])
        if ours and any(event.startswith("s3:ObjectCreated:") for event in events):
            return Finding("notification", "ok", f"new objects are told to {names.indexer}")
    return Finding(
        "notification",
        "error",
        f"{names.archive_bucket} does not tell {names.indexer} of new objects: restored ones stay unseen",
        f"Put it back by {names.restore()}. Then run `thermocline archive reindex`.",
    )


def schedule(rule: Described | None, targets: Sequence[Described], names: Names) -> Finding:
    """Whether overdue slots are looked for (DescribeRule, ListTargetsByRule). A local stack's clock does it."""
    if rule is None:
        return Finding("schedule", "error", "the schedule is gone", f"Put it back by {names.restore()}.")
    name, state = str(rule.get("Name")), str(rule.get("State"))
    if not any(str(one.get("Arn")).split(":")[6:7] == [names.archiver] for one in targets):
        return Finding(
            "schedule",
            "error",
            f"rule {name} does not call {names.archiver}",
            f"Put it back by {names.restore()}.",
        )
    if names.kind == "local":
        return Finding("schedule", "ok", "the TTL clock runs it")
    if state != "ENABLED":
        return Finding(
            "schedule",
            "error",
            f"rule {name} is {state}: a slot whose ticket's REMOVE is lost stays unarchived",
            f"Run `aws events enable-rule --name {name}`.",
        )
    return Finding("schedule", "ok", f"{rule.get('ScheduleExpression')}, ENABLED")


def alarms(described: Sequence[Described], names: Names) -> Finding:
    """Whether an alarm rings, and whether anybody would hear it (DescribeAlarms)."""
    if not described:
        return Finding(
            "alarms", "warning", "the deployment has no alarms", f"Put them in place with {names.deploy()}."
        )
    ringing = [one for one in described if one.get("StateValue") == "ALARM"]
    if ringing:
        told = "; ".join(str(one.get("AlarmName")) for one in ringing)
        advice = " ".join(dict.fromkeys(str(one.get("AlarmDescription") or "").strip() for one in ringing))
        return Finding("alarms", "error", f"{len(ringing)} of {len(described)} ring: {told}", advice)
    if names.kind == "aws" and not any(one.get("AlarmActions") for one in described):
        return Finding(
            "alarms",
            "warning",
            f"none of {len(described)} rings, and nobody would be told",
            f"Name an SNS topic: --parameter AlarmTopicArn=ARN with {names.deploy()}.",
        )
    return Finding("alarms", "ok", f"none of {len(described)} rings")


def clock(skew_s: float | None) -> Finding:
    """How far this machine's clock is from the service's; positive where this one is ahead."""
    if skew_s is None:
        return Finding("clock", "skipped", "the service sent no time")
    side = "ahead of" if skew_s > 0 else "behind"
    told = f"this machine is {span_text(abs(skew_s))} {side} the service"
    if abs(skew_s) <= SKEW_S:
        return Finding("clock", "ok", told)
    return Finding(
        "clock",
        "error" if abs(skew_s) > REFUSED_SKEW_S else "warning",
        told,
        "Set this machine's clock (NTP): times such as -1h mean another hour, and AWS refuses requests that "
        "are 15 min off. Stored readings are not touched by it.",
    )
