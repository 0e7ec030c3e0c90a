"""What ListEventSourceMappings says, read into one value per mapping; nothing here calls a service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast

from infra.local.batching import Rules
from infra.local.filters import compile_filters
from ingest.errors import BadInput

Service = Literal["kinesis", "dynamodb"]
DEFAULT_BATCH_SIZE = 100
MOST_LANES = 10


@dataclass(frozen=True, slots=True)
class SourceMapping:
    """One event source mapping of a Kinesis or DynamoDB stream, all its documented properties applied.

    `lanes` is ParallelizationFactor; `patterns` the filter patterns as text; `on_failure`
    the ARN of the destination, or "".
    """

    uuid: str
    service: Service
    source_arn: str
    function_arn: str
    start: str
    start_at_s: float | None
    lanes: int
    rules: Rules
    patterns: tuple[str, ...]
    on_failure: str

    @property
    def function_name(self) -> str:
        """The function's name without account or qualifier."""
        return self.function_arn.split(":")[6] if self.function_arn.count(":") >= 6 else self.function_arn

    def wanted(self) -> Callable[[Mapping[str, Any]], bool] | None:
        """The test a record must pass; None where every record is wanted. Raises BadInput."""
        return compile_filters(self.patterns)


def read_mapping(described: Mapping[str, Any]) -> SourceMapping:
    """The mapping a list entry describes.

    Raises BadInput where a source or property is not supported here: a mapping is never
    run with a part of it left out. MiniStack keeps no TumblingWindowInSeconds and no
    StartingPositionTimestamp; the first cannot be noticed here, the second is asked for.
    """
    arn = str(described.get("EventSourceArn") or "")
    service = arn.split(":")[2] if arn.count(":") >= 5 else ""
    if service not in ("kinesis", "dynamodb"):
        raise BadInput(f"The event source {arn or '(none)'} is neither a Kinesis nor a DynamoDB stream.")
    if _number(described, "TumblingWindowInSeconds", 0):
        raise BadInput("TumblingWindowInSeconds is not supported by the local event sources.")
    start = str(described.get("StartingPosition") or "TRIM_HORIZON")
    start_at_s = _epoch(described.get("StartingPositionTimestamp"))
    if start == "AT_TIMESTAMP" and start_at_s is None:
        raise BadInput("StartingPosition AT_TIMESTAMP came without a timestamp; the emulator keeps none.")
    retries = int(_number(described, "MaximumRetryAttempts", -1))
    age_s = _number(described, "MaximumRecordAgeInSeconds", -1)
    reported = cast(list[str], described.get("FunctionResponseTypes") or [])
    rules = Rules(
        batch_size=max(1, int(_number(described, "BatchSize", DEFAULT_BATCH_SIZE))),
        window_s=_number(described, "MaximumBatchingWindowInSeconds", 0),
        most_retries=None if retries < 0 else retries,
        most_age_s=None if age_s < 0 else age_s,
        bisect=str(described.get("BisectBatchOnFunctionError") or "").lower() == "true",
        report_failures="ReportBatchItemFailures" in reported,
    )
    filters = cast(list[dict[str, str]], _inside(described, "FilterCriteria").get("Filters") or [])
    on_failure = _inside(_inside(described, "DestinationConfig"), "OnFailure").get("Destination")
    mapping = SourceMapping(
        uuid=str(described["UUID"]),
        service=service,
        source_arn=arn,
        function_arn=str(described["FunctionArn"]),
        start=start,
        start_at_s=start_at_s,
        lanes=min(MOST_LANES, max(1, int(_number(described, "ParallelizationFactor", 1)))),
        rules=rules,
        patterns=tuple(one["Pattern"] for one in filters),
        on_failure=str(on_failure or ""),
    )
    _check_destination(mapping.on_failure)
    mapping.wanted()
    return mapping


def _check_destination(arn: str) -> None:
    if arn and arn.split(":")[2:3] not in (["s3"], ["sqs"]):
        raise BadInput(f"The on-failure destination {arn} is neither an S3 bucket nor an SQS queue.")


def _inside(described: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], described.get(name) or {})


def _number(described: Mapping[str, Any], name: str, default: float) -> float:
    value = described.get(name)
    return default if value is None or value == "" else float(value)


def _epoch(value: Any) -> float | None:
    if value is None or isinstance(value, int | float):
        return value
    return value.timestamp() if isinstance(value, datetime) else None
