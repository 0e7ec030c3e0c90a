"""Puts a deployment in place, says what it consists of, and takes it away, on any target."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from infra import stack
from infra.cost import prices
from infra.stack import Clock, message_of, status_of
from ingest import keys
from ingest.errors import BadInput, NotFound, Refused, ThermoclineError
from ingest.keys import Period
from ingest.stores import HotStore
from ingest.stores.connect import client

Target = Literal["local", "localstack", "aws"]
TEMPLATE = Path(__file__).resolve().parent / "template.yaml"
LEAST_MARGIN_S = 48 * 3600
"""The least time on AWS between a chunk's slot and its expiry: a weekend in which nobody looks."""
LAYOUT_LEAD_S = 60
"""A changed layout comes into force so much later: by then every door has read it, which one does every
30 s, and none writes by rules that another does not know yet. A local stack starts with its layout."""
MOST_STACK_NAME = 24
"""Leaves a bucket's name, `<stack>-archive-<account>-<region>`, within S3's 63 characters."""
TTL_ATTRIBUTE = "ttl"
AWS_DOMAINS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
_DELETES_PER_CALL = 1000

MakeHot = Callable[[Any, str], HotStore]
"""Makes the hot store from a DynamoDB client and the table's name."""
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Clients:
    """The low-level clients that deploying needs."""

    cloudformation: Any
    s3: Any
    dynamodb: Any
    sts: Any


@dataclass(frozen=True, slots=True)
class DeployOptions:
    """What to deploy. `period.from_s` is ignored: a changed period holds from a minute after the deploy.

    `packages` are what `infra.package` built. `parameters` are further template
    parameters by name. `code_bucket` is made where none is given.
    """

    packages: Mapping[str, Path]
    period: Period
    target: Target = "aws"
    stack_name: str = "thermocline"
    code_bucket: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a deployment consists of, as its stack says."""

    stack_name: str
    region: str
    stream: str
    stream_arn: str
    table: str
    archive_bucket: str
    rejects_bucket: str
    store_readings: str
    archive_expired: str
    index_segment: str
    compact_archive: str
    serve_api: str
    store_readings_mapping: str
    archive_expired_mapping: str
    api_url: str | None = None
    """Where the HTTP API answers; None where nothing stands in front of serve_api."""


_OUTPUT_KEYS: Mapping[str, str] = {
    "region": "Region",
    "stream": "StreamName",
    "stream_arn": "StreamArn",
    "table": "TableName",
    "archive_bucket": "ArchiveBucket",
    "rejects_bucket": "RejectsBucket",
    "store_readings": "StoreReadingsFunction",
    "archive_expired": "ArchiveExpiredFunction",
    "index_segment": "IndexSegmentFunction",
    "compact_archive": "CompactArchiveFunction",
    "serve_api": "ServeApiFunction",
    "store_readings_mapping": "StoreReadingsMapping",
    "archive_expired_mapping": "ArchiveExpiredMapping",
}


def connect(endpoint_url: str | None = None, region: str | None = None) -> Clients:
    """Clients for a target; without an endpoint the usual AWS variables and files decide."""
    made = {
        name: client(name, endpoint_url=endpoint_url, region=region)
        for name in ("cloudformation", "s3", "dynamodb", "sts")
    }
    return Clients(**made)


def refuse_elsewhere(clients: Clients) -> None:
    """Raise Refused where a client would talk to something that is not AWS: a variable such as
    AWS_ENDPOINT_URL that was left in the shell, or an `endpoint_url` in the AWS settings."""
    for one in (clients.cloudformation, clients.s3, clients.dynamodb, clients.sts):
        url = str(one.meta.endpoint_url)
        host = urlsplit(url).hostname or ""
        if not host.endswith(AWS_DOMAINS):
            raise Refused(
                f"--target aws: {url} is not AWS, and AWS_ENDPOINT_URL or the AWS settings send requests there. Unset "
                "it, use --target localstack, or name the endpoint with --endpoint-url if it is meant."
            )


# --- deploy -----------------------------------------------------------------------------


def deploy(clients: Clients, options: DeployOptions, log: Log, *, hot: MakeHot, clock: Clock) -> Outputs:
    """Create the deployment or bring it up to date; doing it again changes nothing.

    Raises BadInput and Refused (a margin under 48 h on AWS) before anything is touched,
    ThermoclineError with the failing resources' reasons where CloudFormation fails.
    """
    check_options(options)
    bucket = options.code_bucket or _default_code_bucket(clients, options.stack_name)
    _ensure_code_bucket(clients.s3, bucket, log)
    code_keys = {
        name: _upload(clients.s3, bucket, f"{options.stack_name}/{path.name}", path, log)
        for name, path in sorted(options.packages.items())
    }
    parameters = _parameters(options, bucket, code_keys, clients.s3.meta.region_name)
    changed = stack.apply(clients.cloudformation, options.stack_name, template(), parameters, clock)
    log(f"Stack {options.stack_name}: {'in place' if changed else 'unchanged'}.")
    found = outputs(clients, options.stack_name)
    if options.target != "local":
        ensure_ttl(clients.dynamodb, found.table, log)
    lead_s = 0 if options.target == "local" else LAYOUT_LEAD_S
    _ensure_layout(hot(clients.dynamodb, found.table), options.period, lead_s, clock.now, log)
    return found


def template() -> str:
    """The template as it is sent: without its comments, so that it stays within CreateStack's 51,200 bytes."""
    return re.sub(r"^ *#.*\n", "", TEMPLATE.read_text(), flags=re.MULTILINE)


def check_options(options: DeployOptions) -> None:
    """Raise BadInput or Refused where the options cannot or must not be deployed."""
    if not re.fullmatch(rf"[a-z][a-z0-9-]{{0,{MOST_STACK_NAME - 1}}}", options.stack_name):
        raise BadInput(
            f"stack name: {options.stack_name!r} cannot begin a bucket's name; use up to {MOST_STACK_NAME} "
            "lower-case letters, digits and hyphens, a letter first."
        )
    missing = {"store", "archive", "api"} - set(options.packages)
    if missing:
        raise BadInput(
            f"packages: {', '.join(sorted(missing))} missing; build them with infra.package first."
        )
    check_times(options.period, options.target)
    check_front(options.parameters)


def check_front(parameters: Mapping[str, str]) -> None:
    """Raise BadInput where nothing would check the API's callers in the way that is asked for."""
    if parameters.get("ApiAuth") != "jwt":
        return
    if parameters.get("ApiFront", "http-api") != "http-api":
        raise BadInput("ApiAuth: jwt needs ApiFront=http-api; a function URL has no JWT authorizer.")
    if not parameters.get("JwtIssuer", "").startswith("https://"):
        raise BadInput("JwtIssuer: name the issuer of the JWTs (an https address), which ApiAuth=jwt needs.")


def check_times(period: Period, target: Target) -> None:
    """Raise BadInput where the times cannot work together, Refused where they are too tight for AWS."""
    keys.check_period(period)
    if target == "aws" and period.margin_s < LEAST_MARGIN_S:
        raise Refused(
            f"hot-retention: chunks would expire {period.margin_s} s after their slot, and at least "
            f"{LEAST_MARGIN_S} s (48 h) are needed to notice and mend an archiver that is down. Raise "
            "hot-retention or lower archive-after."
        )


def write_unit_usd(region: str) -> str:
    """The price of a million write units in a region, in dollars, as text; empty where it is not known."""
    try:
        price = prices.load(region)["dynamodb_write"]
    except BadInput:
        return ""
    return f"{price.of(1e6):.6f}".rstrip("0").rstrip(".")


def _parameters(
    options: DeployOptions, bucket: str, code_keys: Mapping[str, str], region: str
) -> dict[str, str]:
    period = options.period
    parameters = {
        "CodeBucket": bucket,
        "StoreCodeKey": code_keys["store"],
        "ArchiveCodeKey": code_keys["archive"],
        "ApiCodeKey": code_keys["api"],
        "EventSourcesEnabled": "false" if options.target == "local" else "true",
        "DeletionProtection": "true" if options.target == "aws" else "false",
        "LateAfterS": str(max(1, period.margin_s // 4)),
        "ColdRetentionDays": str(-(-period.cold_retention_s // keys.DAY_S)),
        "WriteUnitUsd": write_unit_usd(region),
    }
    return parameters | dict(options.parameters)


def _default_code_bucket(clients: Clients, stack_name: str) -> str:
    account = clients.sts.get_caller_identity()["Account"]
    return f"{stack_name}-code-{account}-{clients.s3.meta.region_name}"


def _ensure_code_bucket(s3: Any, bucket: str, log: Log) -> None:
    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if status_of(error) != 404:
            raise Refused(
                f"Bucket {bucket} exists and cannot be used ({message_of(error)}). Name another as "
                "code_bucket."
            ) from error
    else:
        return
    region = s3.meta.region_name
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **place)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    log(f"Bucket {bucket}: created, for the function packages.")


def _upload(s3: Any, bucket: str, key: str, path: Path, log: Log) -> str:
    """Put a package where it is not there yet; its key, which names its content."""
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if status_of(error) != 404:
            raise
        with path.open("rb") as body:
            s3.put_object(Bucket=bucket, Key=key, Body=body)
        log(f"Package {path.name}: uploaded, {path.stat().st_size} bytes.")
    return key


def ensure_ttl(dynamodb: Any, table: str, log: Log) -> None:
    """Make sure that expiry is on; some targets leave it out when the template asks for it."""
    described = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    if described["TimeToLiveStatus"] in ("ENABLED", "ENABLING"):
        return
    dynamodb.update_time_to_live(
        TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
    )
    log(f"Table {table}: expiry switched on.")


def _ensure_layout(hot: HotStore, period: Period, lead_s: int, now: Callable[[], float], log: Log) -> None:
    """Have the period in force `lead_s` from now. Should its saving take longer, some functions write by the old
    rules for a while after it began, which harms nothing: each manifest tells by which it was written."""
    held = hot.load_layout()
    from_s = int(now()) + lead_s
    period = Period(
        from_s, period.bucket_s, period.archive_after_s, period.hot_retention_s, period.cold_retention_s
    )
    wanted = keys.first_layout(period) if held is None else held.changed(period)
    if wanted is not held:
        hot.save_layout(wanted, held)
        log("Layout: written." if held is None else "Layout: changed; what is stored keeps its own.")


# --- outputs --------------------------------------------------------------------------


def outputs(clients: Clients, stack_name: str) -> Outputs:
    """What the deployment consists of. Raises NotFound where there is none, or none that is whole."""
    found = stack.describe(clients.cloudformation, stack_name) or {}
    said = {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}
    if not set(_OUTPUT_KEYS.values()) <= set(said):
        raise NotFound(f"There is no deployment named {stack_name} here. Deploy it, or name the right one.")
    named = {name: said[key] for name, key in _OUTPUT_KEYS.items()}
    return Outputs(stack_name=stack_name, **named, api_url=(said.get("ApiUrl") or "").rstrip("/") or None)


# --- destroy ----------------------------------------------------------------------------


def destroy(
    clients: Clients, stack_name: str, log: Log, *, hot: MakeHot, clock: Clock, force: bool = False
) -> None:
    """Take the deployment away, with its packages.

    Raises NotFound, and Refused while a segment, a reject or an unarchived chunk is held,
    unless `force` says that all of it is to be deleted too.
    """
    found = outputs(clients, stack_name)
    buckets = (found.archive_bucket, found.rejects_bucket)
    if not force:
        _refuse_while_held(clients, found, buckets, hot)
    described = stack.describe(clients.cloudformation, stack_name) or {}
    _unprotect(clients.dynamodb, found.table, clock)
    for bucket in buckets:
        _empty(clients.s3, bucket, "")
    try:
        stack.delete(clients.cloudformation, described["StackId"], clock)
    except ThermoclineError:
        if not force:
            raise
        for bucket in buckets:  # what was still being written when they were emptied
            _empty(clients.s3, bucket, "")
        stack.delete(clients.cloudformation, described["StackId"], clock)
    _delete_code(clients, described, stack_name)
    log(f"Stack {stack_name}: deleted.")


def _unprotect(dynamodb: Any, table: str, clock: Clock) -> None:
    """Let the table be deleted; one that is gone already is no error."""
    try:
        if not dynamodb.describe_table(TableName=table)["Table"].get("DeletionProtectionEnabled"):
            return
        dynamodb.update_table(TableName=table, DeletionProtectionEnabled=False)
        while dynamodb.describe_table(TableName=table)["Table"]["TableStatus"] == "UPDATING":
            clock.sleep(1)
    except dynamodb.exceptions.ResourceNotFoundException:
        return


def _refuse_while_held(clients: Clients, found: Outputs, buckets: tuple[str, ...], hot: MakeHot) -> None:
    held = [
        bucket for bucket in buckets if clients.s3.list_objects_v2(Bucket=bucket, MaxKeys=1).get("Contents")
    ]
    if hot(clients.dynamodb, found.table).open_slots():
        held.append(f"table {found.table} (slots not archived yet)")
    if held:
        raise Refused(
            f"Data is held in {', '.join(held)}. Save it, or destroy with force to delete all of it."
        )


def _delete_code(clients: Clients, described: Mapping[str, Any], stack_name: str) -> None:
    """Delete the stack's packages, and their bucket where `deploy` made it."""
    given = {p["ParameterKey"]: p["ParameterValue"] for p in described.get("Parameters", [])}
    bucket = given.get("CodeBucket", "")
    _empty(clients.s3, bucket, f"{stack_name}/")
    if bucket == _default_code_bucket(clients, stack_name):
        clients.s3.delete_bucket(Bucket=bucket)


def _empty(s3: Any, bucket: str, prefix: str) -> None:
    """Delete every object under a prefix; a bucket that is gone is empty."""
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(
            Bucket=bucket, Prefix=prefix, PaginationConfig={"PageSize": _DELETES_PER_CALL}
        ):
            names = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if names:
                s3.delete_objects(Bucket=bucket, Delete={"Objects": names, "Quiet": True})
    except ClientError as error:
        if status_of(error) != 404:
            raise
