"""Commands that put the stack on AWS or LocalStack and take it away: deploy and destroy."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cli import options, show
from ingest.errors import BadInput, Refused
from ingest.settings import cache_folder, endpoint_from_env

Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture",
        metavar="arm64|x86_64",
        help="Processor of the functions. Default: arm64 on AWS, this machine's on LocalStack.",
    ),
]
Region = Annotated[
    str | None, typer.Option("--region", metavar="NAME", help="AWS region. Default: the usual AWS settings.")
]


def deploy(
    target: Annotated[
        str, typer.Option("--target", metavar="aws|localstack", help="Where to deploy.")
    ] = "aws",
    stack: options.Stack = options.DEFAULT_STACK,
    region: Region = None,
    bucket: options.Bucket = "1h",
    window: options.Window = "60s",
    archive_after: options.ArchiveAfter = "24h",
    hot_retention: options.HotRetention = "7d",
    cold_retention: options.ColdRetention = "5y",
    codec: options.Codec = "list",
    unknown_sensors: options.UnknownSensors = "register",
    architecture: Architecture = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", metavar="NAME=VALUE", help="A further parameter of the template."),
    ] = None,
) -> None:
    """Deploy to AWS or LocalStack, or bring a deployment up to date. Doing it again changes nothing.

    Builds the function packages from the locked wheels, uploads them to a bucket of their own, creates or
    updates the CloudFormation stack, makes sure that TTL is on, and writes the layout. Refuses
    times that leave less than 48 h between archiving and expiry on AWS; on LocalStack they may be short.
    LocalStack is where AWS_ENDPOINT_URL says, else on port 4566, and is waited for. Prints the stack's
    outputs as JSON.
    """
    import json
    from dataclasses import asdict

    from infra import deploy as deploying
    from infra import package
    from infra.stack import Clock

    if target not in ("aws", "localstack"):
        raise BadInput(
            f"--target: {target!r} cannot be deployed to; use aws or localstack, or `thermocline up` for the "
            "embedded stack."
        )
    kind: Any = target
    period = options.period(bucket, archive_after, hot_retention, cold_retention)
    further = dict(_pair(text) for text in parameter or ())
    runtime = further.get("Runtime", "python3.13").removeprefix("python")
    deploying.check_times(period, kind)
    deploying.check_front(further)
    clock = Clock(time.time, time.sleep)
    clients, processor, given = _place(target, region, architecture, clock)
    given |= {"WindowS": str(options.whole_s(window, "--window")), "Architecture": processor, "Codec": codec}
    given |= {"UnknownSensors": unknown_sensors}
    with tempfile.TemporaryDirectory(prefix="thermocline-") as folder:
        show.note(f"Building packages for {processor}, Python {runtime} (the first time takes a while).")
        cache = cache_folder() / "packages"
        packages = package.build_aws(Path(folder), processor, runtime, cache_dir=cache)
        wanted = deploying.DeployOptions(packages, period, kind, stack, parameters=given | further)
        found = deploying.deploy(clients, wanted, show.note, hot=_hot, clock=clock)
    sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")


def _place(
    target: str, region: str | None, architecture: str | None, clock: Any
) -> tuple[Any, Any, dict[str, str]]:
    """Clients for the target, the functions' processor, and what only this target is given."""
    from infra import deploy as deploying

    if target == "aws":
        return deploying.connect(region=region), architecture or "arm64", {}
    from infra import localstack

    endpoint_url = localstack.check_endpoint(endpoint_from_env() or localstack.ENDPOINT_URL)
    processor = architecture or localstack.architecture()
    show.note(f"Waiting for LocalStack at {endpoint_url}.")
    localstack.wait_until_healthy(endpoint_url, clock, region or localstack.REGION)
    return (
        localstack.connect(endpoint_url, region or localstack.REGION),
        processor,
        dict(localstack.PARAMETERS),
    )


def destroy(
    stack: options.Stack = options.DEFAULT_STACK,
    region: Region = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the data it holds, too. It is gone for good.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a deployment away. Refuses while it holds data, unless --force says to delete that, too."""
    from infra import deploy as deploying
    from infra.stack import Clock

    what = f"Delete stack {stack} and all the data in it?" if force else f"Delete stack {stack}?"
    if not yes and not (sys.stdin.isatty() and typer.confirm(what, err=True)):
        raise Refused("Nothing was deleted. Say --yes to delete without being asked.")
    clients = deploying.connect(region=region)
    clock = Clock(time.time, time.sleep)
    deploying.destroy(clients, stack, show.note, hot=_hot, clock=clock, force=force)


def _hot(client: Any, table: str) -> Any:
    from ingest.stores.hot import DynamoHotStore

    return DynamoHotStore(client, table, time.sleep, random.random)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise BadInput(f"--parameter: {text!r} is no NAME=VALUE, such as ShardCount=4.")
    return name, value
