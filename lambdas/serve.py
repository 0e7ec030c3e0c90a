"""The API outside Lambda: `python -m lambdas.serve`, an ASGI server on one address, run by its settings' variables."""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from typing import Any

import uvicorn
from aws_lambda_powertools import Logger

from ingest.errors import ThermoclineError
from ingest.settings import endpoint_from_env
from lambdas.api.app import make
from lambdas.api.connect import services
from lambdas.api.doors import ServerDoor

SERVICE = "serve_api"
STOP_WITHIN_S = 1
"""How long requests under way may go on once the server was asked to stop."""
KEEP_ALIVE_S = 30
READS_SEGMENTS = "lambdas.api.answers"
HEAD_MOST_BYTES = 256 * 1024
"""A request's line and headers: enough for the API, not the server, to say what is too long."""


def application(logger: Logger) -> ServerDoor:
    """The API of the deployment that the environment names. Raises BadInput."""

    def log(method: str, route: str, status: int, ms: float, request_id: str) -> None:
        told = {"method": method, "route": route, "status": status, "ms": round(ms, 1), "request": request_id}
        logger.info("answered", extra=told)

    def failed(error: Exception, request_id: str) -> None:
        logger.error("failed", extra={"request": request_id, "error": type(error).__name__}, exc_info=error)

    door = ServerDoor(time.perf_counter, log, lambda: uuid.uuid4().hex)
    return make(door, services(endpoint_from_env()), failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 0 then. Nothing is written to stdout, one line a request to stderr."""
    parser = argparse.ArgumentParser(
        "python -m lambdas.serve", description="Serve the HTTP API and dashboard."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8086, help="port to listen on")
    parser.add_argument(
        "--log-level", default="INFO", help="ERROR writes no line for requests that went well"
    )
    chosen = parser.parse_args(arguments)
    logger = Logger(service=SERVICE, stream=sys.stderr, level=chosen.log_level.upper())
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    try:
        door = application(logger)
    except ThermoclineError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return run(door, chosen.host, chosen.port)


def run(door: Any, host: str, port: int) -> int:
    """Serve one application until a signal ends it: 0 then, 1 where the address cannot be listened on."""
    config = uvicorn.Config(
        door,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        proxy_headers=False,
        h11_max_incomplete_event_size=HEAD_MOST_BYTES,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOP_WITHIN_S,
    )
    threading.Thread(target=_load, name="load", daemon=True).start()
    server = uvicorn.Server(config)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _nothing)  # uvicorn raises the signal again once it has stopped
    try:
        server.run()
    except SystemExit:  # it could not listen, has said so, and leaves with a code of its own
        return 1
    return 0 if server.started else 1


def _load() -> None:
    """Import what reads segments, which takes longer than an answer, before somebody waits for it."""
    importlib.import_module(READS_SEGMENTS)


def _nothing(*_: object) -> None:
    return None


if __name__ == "__main__":
    sys.exit(main())
