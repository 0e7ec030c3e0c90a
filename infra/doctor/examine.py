"""Asks a deployment's services one by one and yields what the judges make of the answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, cast

from botocore.exceptions import ClientError

from infra.doctor import archive, data, services
from infra.doctor.attempt import attempt, is_gone
from infra.doctor.compaction import compaction
from infra.doctor.data import Compared
from infra.doctor.finding import Finding, Names
from infra.doctor.remote import NEEDS_LISTING, NEEDS_METRICS, NEEDS_TABLE, read_vitals
from infra.doctor.vitals import Vitals, from_json
from ingest import keys
from ingest.archive import ALL_DATES
from ingest.errors import ThermoclineError
from ingest.reading import EARLIEST_US, Span
from ingest.stores.cold import S3ColdStore
from ingest.stores.connect import Stores

MOST_REJECTS = 10_000
"""Rejects are read up to here."""

Described = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sources:
    """What is asked: `client` makes a low-level client of a service; `local_status` is what a local stack
    says of itself, and raises where it does not answer; None elsewhere."""

    client: Callable[[str], Any]
    stores: Stores
    names: Names
    local_status: Callable[[], dict[str, Any]] | None
    now_s: Callable[[], float]


@dataclass(frozen=True, slots=True)
class Progress:
    """Told how many segments are to be read, and of each that was."""

    total: Callable[[int], None]
    advance: Callable[[], None]


def examine(sources: Sources, sample: int | None, progress: Progress) -> Iterator[Finding]:
    """Every check in turn; `sample` is how many segments are read, None for all."""
    told: dict[str, Any] = {}
    if sources.local_status is not None:
        finding = attempt("local-stack", "", lambda: _local(told, sources))
        yield finding
        if finding.result == "error":
            return
    yield from _table(sources, told)
    yield from _streams(sources, told)
    yield from _resources(sources)
    yield from _flow(sources, told)
    yield from _archive(sources, sample, progress)


def _local(told: dict[str, Any], sources: Sources) -> Finding:
    try:
        told |= cast(Callable[[], dict[str, Any]], sources.local_status)()
    except ThermoclineError as error:
        return Finding(
            "local-stack", "error", str(error), "Restart it: `thermocline down`, then `thermocline up` again."
        )
    return services.local_stack(told)


# --- the table --------------------------------------------------------------------------


def _table(sources: Sources, told: Described) -> Iterator[Finding]:
    names, dynamodb = sources.names, sources.client("dynamodb")
    described: dict[str, Any] = {}
    skew_s: list[float] = []

    def table() -> Finding:
        asked_s = sources.now_s()
        answer: dict[str, Any] = dynamodb.describe_table(TableName=names.table)
        here_s = (asked_s + sources.now_s()) / 2
        described.update(answer["Table"])
        there = _sent_at(answer)
        if there is not None:
            skew_s.append(here_s - there)
        return services.table(described, names)

    yield attempt("table", "dynamodb:DescribeTable", table)
    yield attempt(
        "layout",
        "dynamodb:GetItem",
        lambda: services.layout(sources.stores.hot.load_layout(), int(sources.now_s()), names),
    )
    if described:
        yield services.table_stream(described, names)
    if names.kind == "local":
        yield services.ttl_clock(cast("dict[str, Any] | None", told.get("ttl_clock")))
    else:
        yield attempt(
            "ttl",
            "dynamodb:DescribeTimeToLive",
            lambda: services.ttl(
                dynamodb.describe_time_to_live(TableName=names.table)["TimeToLiveDescription"], names
            ),
        )
    yield services.clock(skew_s[0] if skew_s else None)


def _sent_at(answer: Described) -> float | None:
    """When the service answered, by its Date header, epoch seconds."""
    headers: Mapping[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None


# --- the streams and what hangs on them -------------------------------------------------


def _streams(sources: Sources, told: Described) -> Iterator[Finding]:
    names, kinesis, functions = sources.names, sources.client("kinesis"), sources.client("lambda")
    yield attempt(
        "stream",
        "kinesis:DescribeStreamSummary",
        lambda: services.stream(
            kinesis.describe_stream_summary(StreamName=names.stream)["StreamDescriptionSummary"], names
        ),
    )
    kinds = (("store-mapping", names.store, True), ("archive-mapping", names.archiver, False))
    for (check, function, keeps), uuid in zip(kinds, names.mappings, strict=True):
        yield attempt(
            check,
            "lambda:GetEventSourceMapping",
            lambda check=check, function=function, keeps=keeps, uuid=uuid: _mapping(
                check,
                function,
                _found(lambda: functions.get_event_source_mapping(UUID=uuid)),
                sources,
                told,
                keeps=keeps,
            ),
        )


def _mapping(
    check: str, function: str, described: Described | None, sources: Sources, told: Described, *, keeps: bool
) -> Finding:
    if described is None or sources.names.kind != "local":
        return services.mapping(check, described, sources.names, keeps=keeps)
    return services.local_mapping(check, function, told.get("event_sources", []), told.get("problems", []))


def _found(call: Callable[[], Described]) -> Described | None:
    """What the call answers; None where the thing does not exist."""
    try:
        return call()
    except ClientError as error:
        if is_gone(error):
            return None
        raise


def _resources(sources: Sources) -> Iterator[Finding]:
    names = sources.names
    s3, events = sources.client("s3"), sources.client("events")
    yield attempt(
        "notification",
        "s3:GetBucketNotification",
        lambda: services.notification(
            s3.get_bucket_notification_configuration(Bucket=names.archive_bucket), names
        ),
    )
    physical: dict[str, list[str]] = {}

    def schedule() -> Finding:
        physical.update(_physical(sources.client("cloudformation"), names.stack))
        rule_name = next(iter(physical.get("OverdueSchedule", [])), None)
        if rule_name is None:
            return services.schedule(None, [], names)
        rule_name = rule_name.rpartition("/")[2]
        rule = _found(lambda: events.describe_rule(Name=rule_name))
        targets: list[Described] = (
            events.list_targets_by_rule(Rule=rule_name)["Targets"] if rule is not None else []
        )
        return services.schedule(rule, targets, names)

    needs = "cloudformation:ListStackResources, events:DescribeRule and events:ListTargetsByRule"
    yield attempt("schedule", needs, schedule)
    if names.kind != "aws":
        yield Finding("alarms", "skipped", "no metric reaches them here; they ring on AWS")
        return

    def alarms() -> Finding:
        wanted = physical.get("AWS::CloudWatch::Alarm", [])
        cloudwatch = sources.client("cloudwatch")
        found: list[Described] = (
            cloudwatch.describe_alarms(AlarmNames=wanted)["MetricAlarms"] if wanted else []
        )
        return services.alarms(found, names)

    if physical:
        yield attempt("alarms", "cloudwatch:DescribeAlarms", alarms)
    else:
        yield Finding("alarms", "skipped", "the stack's resources could not be listed")


def _physical(cloudformation: Any, stack: str) -> dict[str, list[str]]:
    """Names of the stack's resources by their type, and by what the template calls them."""
    found: dict[str, list[str]] = {}
    for page in cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack):
        for one in page["StackResourceSummaries"]:
            for label in (one["ResourceType"], one["LogicalResourceId"]):
                found.setdefault(label, []).append(str(one.get("PhysicalResourceId", "")))
    return found


# --- how far behind it is, and what was refused ---------------------------------------------


def vitals(sources: Sources) -> Vitals:
    """The vital signs of a deployment on AWS or LocalStack."""
    bucket = S3ColdStore(sources.client("s3"), sources.names.rejects_bucket)
    cloudwatch = sources.client("cloudwatch")
    return read_vitals(cloudwatch, sources.names, sources.stores.hot, bucket, sources.now_s())


def _flow(sources: Sources, told: Described) -> Iterator[Finding]:
    names = sources.names
    signs = from_json(told.get("health", {})) if names.kind == "local" else vitals(sources)
    reasons = {
        NEEDS_METRICS: signs.chunks_lost,
        NEEDS_TABLE: signs.late_s,
        NEEDS_LISTING: signs.failed_batches,
    }
    for needs, vital in reasons.items():
        if vital.reason == f"not allowed: {needs}":
            yield Finding(
                "health",
                "warning",
                f"could not be read: {needs} is not allowed",
                f"Allow {needs} to whoever runs this command, or run it as somebody who may.",
            )
    yield data.overdue(signs.late_s, signs.margin_s, names)
    yield data.chunks_lost(signs.chunks_lost, names)
    yield data.age("stream-age", signs.stream_age_s, names.store, names)
    yield data.age("table-stream-age", signs.table_stream_age_s, names.archiver, names)
    yield data.failed_batches(signs.failed_batches, names)
    yield attempt(
        "rejects", "s3:ListBucket and s3:GetObject on the rejects bucket", lambda: _rejects(sources)
    )
    yield data.errors(signs.function_errors, names)
    yield data.throttles(signs.table_throttles, signs.stream_throttles, signs.function_throttles)


def _rejects(sources: Sources) -> Finding:
    now_s = sources.now_s()
    first, last = (keys.date_of(int(at_s * keys.US)) for at_s in (now_s - keys.DAY_S, now_s + keys.DAY_S))
    since_ms = (now_s - keys.DAY_S) * 1000
    recent = (reject for reject in sources.stores.rejects.list(first, last) if reject.arrival_ms >= since_ms)
    reasons = Counter(reject.reason for reject in islice(recent, MOST_REJECTS))
    return data.rejects(reasons.total(), reasons, more=reasons.total() == MOST_REJECTS)


# --- the archive ------------------------------------------------------------------------


def _archive(sources: Sources, sample: int | None, progress: Progress) -> Iterator[Finding]:
    names, s3, catalog = sources.names, sources.client("s3"), sources.stores.catalog
    sampler = archive.Sampler(sample)
    found = Compared()

    def compare() -> Finding:
        nonlocal found
        now_s = int(sources.now_s())
        held = sources.stores.hot.load_layout()
        cold_s = held.periods[-1].cold_retention_s if held is not None else now_s
        found = archive.compare(
            archive.listing(s3, names.archive_bucket),
            catalog.entries(Span(EARLIEST_US, (now_s + 2 * keys.DAY_S) * keys.US)),
            sampler,
            lambda date: (
                archive.listing(
                    s3, names.archive_bucket, keys.segment_name(date, "").rpartition("/")[0] + "/"
                ),
                catalog.entries(keys.date_span(date)),
            ),
            keep_from_s=now_s - cold_s + archive.GONE_SOON_S,
        )
        return data.catalog(found)

    yield attempt("catalog", "s3:ListBucket on the archive bucket and dynamodb:Query", compare)
    yield attempt(
        "compaction",
        "dynamodb:Query",
        lambda: compaction(
            catalog.entries(ALL_DATES), sources.stores.hot.load_layout(), sources.now_s(), names
        ),
    )
    picked = sampler.picked()
    progress.total(len(picked))
    yield attempt(
        "segments",
        "s3:GetObject on the archive bucket",
        lambda: data.segments(
            archive.read_sample(picked, sources.stores.cold, progress.advance), found.objects
        ),
    )
