"""LocalStack as a target: clients for it, waiting until it answers, and what has to be said to it only."""

from __future__ import annotations

import http.client
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from localstack_client import session as _session

from infra.deploy import Clients
from infra.package import Architecture
from infra.stack import Clock
from ingest.errors import BadInput, Refused, Unavailable

ENDPOINT_URL = "http://127.0.0.1:4566"
"""Where LocalStack answers unless AWS_ENDPOINT_URL says otherwise ("Configuration", GATEWAY_LISTEN)."""
REGION = "us-east-1"
EXPIRY_PATH = "/_aws/dynamodb/expired"
HEALTHY_LIMIT_S = 180.0
PARAMETERS: Mapping[str, str] = {
    "FunctionTimeoutS": "300",
    "ChunkGraceS": "300",
    "ApiFront": "function-url",
}
"""What the template is given here beyond what every target is; its free edition has no HTTP APIs."""
FUNCTION_LIMIT_S = int(PARAMETERS["FunctionTimeoutS"])

_PROBES: Mapping[str, str] = {
    "sts": "get_caller_identity",
    "s3": "list_buckets",
    "kinesis": "list_streams",
    "dynamodb": "list_tables",
    "lambda": "list_functions",
    "events": "list_rules",
    "cloudformation": "list_stacks",
}
"""A reading call per service that the template needs; the first one to a service starts it."""
_ARCHITECTURES: Mapping[str, Architecture] = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "aarch64": "arm64",
    "arm64": "arm64",
}
_FAULTS = (BotoCoreError, ClientError, ResponseParserError, OSError)
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_sessions: Any = cast(Any, _session)


def client(service: str, endpoint_url: str, region: str = REGION, **options: Any) -> Any:
    """A low-level client of LocalStack; further keywords go to botocore's Config.

    Raises BadInput where the endpoint is none, or another than AWS_ENDPOINT_URL, which
    localstack-client puts first.
    """
    host = _authority(endpoint_url)
    defaults: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": 5},
        "parameter_validation": False,
        "connect_timeout": 5,
        "read_timeout": 90,
        "s3": {"addressing_style": "path"} if service == "s3" else None,
    }
    made = _sessions.Session("test", "test", region_name=region, localstack_host=host).client(
        service, config=Config(**(defaults | options))
    )
    if made.meta.endpoint_url.rstrip("/") != endpoint_url.rstrip("/"):
        raise BadInput(
            f"endpoint: {endpoint_url} was asked for and AWS_ENDPOINT_URL is {made.meta.endpoint_url}. "
            "Set AWS_ENDPOINT_URL to the one that is meant."
        )
    return made


def connect(endpoint_url: str, region: str = REGION) -> Clients:
    """The clients that deploying needs."""
    made = {name: client(name, endpoint_url, region) for name in ("cloudformation", "s3", "dynamodb", "sts")}
    return Clients(**made)


def wait_until_healthy(
    endpoint_url: str, clock: Clock, region: str = REGION, limit_s: float = HEALTHY_LIMIT_S
) -> None:
    """Return when every service that the template needs has answered a call.

    Raises Unavailable with the last reason after `limit_s`.
    """
    until_s, pause_s = clock.now() + limit_s, _FIRST_PAUSE_S
    for service, call in _PROBES.items():
        made = client(service, endpoint_url, region, retries={"total_max_attempts": 1}, read_timeout=60)
        while True:
            try:
                getattr(made, call)()
                break
            except _FAULTS as error:
                if clock.now() + pause_s > until_s:
                    raise Unavailable(
                        f"LocalStack at {endpoint_url} did not answer for {service} within {limit_s:.0f} s "
                        f"({error}). Look at its log, or set AWS_ENDPOINT_URL."
                    ) from error
            clock.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


def architecture(machine: str | None = None) -> Architecture:
    """The processor functions run on: the machine's own. Raises BadInput for one Lambda does not have."""
    found = (machine or platform.machine()).lower()
    if found not in _ARCHITECTURES:
        raise BadInput(f"architecture: there are no packages for {found!r}; name one with --architecture.")
    return _ARCHITECTURES[found]


def check_endpoint(endpoint_url: str | None) -> str:
    """The endpoint, where it is not AWS itself. Raises Refused where it is."""
    if endpoint_url is None or (urlsplit(endpoint_url).hostname or "").endswith((".aws", ".amazonaws.com")):
        raise Refused(
            "AWS lets items expire by itself, so nothing is to be done there. For LocalStack, set "
            f"AWS_ENDPOINT_URL, such as {ENDPOINT_URL}."
        )
    _authority(endpoint_url)
    return endpoint_url


def _authority(endpoint_url: str) -> str:
    """`host:port` of an endpoint. Raises BadInput where it is no plain HTTP address."""
    try:
        parts = urlsplit(endpoint_url)
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port, parts = None, 0, urlsplit("")
    if not host or parts.scheme != "http" or parts.path not in ("", "/"):
        raise BadInput(f"endpoint: {endpoint_url!r} is no address such as {ENDPOINT_URL}.")
    return f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class Expiry:
    """What the expiry endpoint said. It may say that all is well and have deleted nothing."""

    answered: bool
    items: int = 0
    reason: str = ""


def expire_now(endpoint_url: str, limit_s: float = 30.0) -> Expiry:
    """Ask LocalStack to delete every item that is past its `ttl`, in all tables. Never raises for what it answers.

    One call covers at most the first 1 MB of a table.
    """
    connection = http.client.HTTPConnection(_authority(endpoint_url), timeout=limit_s)
    try:
        connection.request("DELETE", EXPIRY_PATH)
        answer = connection.getresponse()
        body = answer.read(65_536)
    except (OSError, http.client.HTTPException) as error:
        return Expiry(answered=False, reason=f"{type(error).__name__}: {error}")
    finally:
        connection.close()
    if answer.status != 200:
        return Expiry(answered=False, reason=f"status {answer.status}")
    try:
        told: Any = json.loads(body)
        return Expiry(answered=True, items=int(told["ExpiredItems"]))
    except (ValueError, TypeError, KeyError):
        return Expiry(answered=True, reason="an answer without a count")
