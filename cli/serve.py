"""The command that serves the HTTP API of any deployment from this machine: serve."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Annotated

import typer

from cli import options, show
from cli.target import Target, find
from ingest.errors import BadInput

LANES = 20
"""Partition keys the API spreads sensors over; as many as its function uses."""


def serve(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; every one with 0.0.0.0.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, metavar="N", help="Port to listen on.")
    ] = 8086,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Serve the HTTP API and the dashboard from this machine. For any deployment, local or on AWS, with the
    rights of your own AWS credentials.

    Who calls it needs a token of the deployment (`thermocline token new`). Stop with ^C or SIGTERM. It
    speaks plain HTTP: before it listens to more than this machine, put something with TLS in front.
    """
    from ingest import settings
    from lambdas import serve as server

    target = find(stack)
    _check_free(host, port)
    settings.hand_over(_variables(target, stack))
    place = f"http://{host}:{port}"
    show.note(f"Serving {target.table} at {place}  (stop with ^C)")
    show.note(f"Dashboard: thermocline dashboard --url {place}")
    if not _is_loopback(host):
        show.note("Others can reach this address, and it speaks plain HTTP: tokens can be read on the way.")
    raise typer.Exit(server.main(["--host", host, "--port", str(port)]))


def _variables(target: Target, stack: str) -> dict[str, str]:
    """What the API's function is told of its deployment, and where the local stack counts."""
    from infra.deploy import write_unit_usd

    region = target.region or str(target.client("dynamodb").meta.region_name)
    found = {
        "AWS_DEFAULT_REGION": region,
        "THERMOCLINE_TABLE": target.table,
        "THERMOCLINE_ARCHIVE_BUCKET": target.archive_bucket,
        "THERMOCLINE_REJECTS_BUCKET": target.rejects_bucket,
        "THERMOCLINE_STREAM": target.stream,
        "THERMOCLINE_STACK": stack,
        "THERMOCLINE_AUTH": "token",
        "THERMOCLINE_LANES": str(LANES),
        "THERMOCLINE_WRITE_UNIT_USD": write_unit_usd(region),
    }
    if target.endpoint_url is not None:
        found |= {
            "AWS_ENDPOINT_URL": target.endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
    if target.local is not None:
        found |= {
            "THERMOCLINE_CONTROL_URL": target.local.control_url,
            "THERMOCLINE_CONTROL_TOKEN": target.local.token,
        }
    return found


def _check_free(host: str, port: int) -> None:
    """Raise BadInput where nothing can listen on the address."""
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        where = (
            f"--port: {port} is in use on {host}"
            if taken
            else f"--host: {host} cannot be listened on ({error.strerror})"
        )
        raise BadInput(f"{where}; choose another one.") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
