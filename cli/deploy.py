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
_NOT_ASKED = "Nothing was deleted. Say --yes to delete without being asked."
EndpointUrl = Annotated[
    str | None,
    typer.Option(
        "--endpoint-url",
        metavar="URL",
        help="For --target aws: an endpoint that is not AWS's own, and is meant. AWS_ENDPOINT_URL alone is refused.",
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
    endpoint_url: EndpointUrl = None,
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
    from infra import deploy as deploying
    from infra import package
    from infra.stack import Clock

    if target not in ("aws", "localstack"):
        raise BadInput(
            f"--target: {target!r} cannot be deployed to; use aws or localstack, or `thermocline up` for the "
            "embedded stack."
        )
    period = options.period(bucket, archive_after, hot_retention, cold_retention)
    further = dict(_pair(text) for text in parameter or ())
    runtime = further.get("Runtime", "python3.13").removeprefix("python")
    kind: Any = target
    deploying.check_times(period, kind)
    deploying.check_front(further)
    clock = Clock(time.time, time.sleep)
    clients, processor, given = _place(target, endpoint_url, region, architecture, clock)
    given |= {"WindowS": str(options.whole_s(window, "--window")), "Architecture": processor, "Codec": codec}
    given |= {"UnknownSensors": unknown_sensors}
    with tempfile.TemporaryDirectory(prefix="thermocline-") as folder:
        show.note(f"Building packages for {processor}, Python {runtime} (the first time takes a while).")
        cache = cache_folder() / "packages"
        packages = package.build_aws(Path(folder), processor, runtime, cache_dir=cache)
        wanted = deploying.DeployOptions(packages, period, kind, stack, parameters=given | further)
        found = deploying.deploy(clients, wanted, show.note, hot=_hot, clock=clock)
    _say(found)


def _say(found: Any) -> None:
    import json
    from dataclasses import asdict

    sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")


def _place(
    target: str, endpoint_url: str | None, region: str | None, architecture: str | None, clock: Any
) -> tuple[Any, Any, dict[str, str]]:
    """Clients for the target, the functions' processor, and what only this target is given."""
    if target == "aws":
        return _aws(endpoint_url, region), architecture or "arm64", {}
    from infra import localstack

    given_url = endpoint_url or endpoint_from_env() or localstack.ENDPOINT_URL
    endpoint_url = localstack.check_endpoint(given_url)
    processor = architecture or localstack.architecture()
    show.note(f"Waiting for LocalStack at {endpoint_url}.")
    localstack.wait_until_healthy(endpoint_url, clock, region or localstack.REGION)
    return (
        localstack.connect(endpoint_url, region or localstack.REGION),
        processor,
        dict(localstack.PARAMETERS),
    )


def _aws(endpoint_url: str | None, region: str | None) -> Any:
    """Clients of AWS, or of the endpoint that was named in so many words."""
    from infra import deploy as deploying

    clients = deploying.connect(endpoint_url, region)
    if endpoint_url is None:
        deploying.refuse_elsewhere(clients)
    return clients


def _standing(target: str | None, endpoint_url: str | None, region: str | None) -> Any:
    """Clients of the target a deployment stands on."""
    from infra import deploy as deploying
    from infra import localstack

    if target == "aws":
        return _aws(endpoint_url, region)
    given_url = endpoint_url or endpoint_from_env()
    if target == "localstack":
        return localstack.connect(given_url or localstack.ENDPOINT_URL, region or localstack.REGION)
    return deploying.connect(given_url, region)


def destroy(
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="aws|localstack",
            help="Where it is. Default: where AWS_ENDPOINT_URL says, else on AWS.",
        ),
    ] = None,
    stack: options.Stack = options.DEFAULT_STACK,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the data it holds, too. It is gone for good.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take a deployment away. Refuses while it holds data, unless --force says to delete that, too."""
    from infra import deploy as deploying
    from infra.stack import Clock

    if target not in (None, "aws", "localstack"):
        raise BadInput(f"--target: {target!r} holds no deployment to delete; use aws or localstack.")
    if not yes and not sys.stdin.isatty():
        raise Refused(_NOT_ASKED)
    clients = _standing(target, endpoint_url, region)
    named = f"stack {stack} at {clients.cloudformation.meta.endpoint_url}"
    what = f"Delete {named} and all the data in it?" if force else f"Delete {named}?"
    if not yes and not typer.confirm(what, err=True):
        raise Refused(_NOT_ASKED)
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
