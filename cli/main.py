"""The command `thermocline`: its commands by name, and how errors become messages and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from cli import (
    archive,
    clock,
    cost,
    dashboard,
    demo,
    deploy,
    doctor,
    gateway,
    read,
    rejects,
    send,
    sensors,
    serve,
    stack,
    token,
)
from ingest.errors import ThermoclineError

HELP = """Sensor readings warm in DynamoDB, cold in S3, and one query that sees through both.

Begin with `thermocline demo`, or step by step:

\b
  thermocline up -d                 # a local stack, no Docker
  thermocline simulate --sensors 20 --rate 1 --duration 10m
  thermocline query sim-0001 --from -10m --to now --plot
  thermocline archive ls            # what has sunk into S3
  thermocline down

\b
Times are -1h, now-5m, RFC 3339, a date, or epoch digits.
Data goes to stdout, all else to stderr.
Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 partial.
"""


class Commands(TyperGroup):
    """The group of all commands; turns the project's errors into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except ThermoclineError as error:
            sys.stderr.write(f"thermocline: {error}\n")
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:
            if not type(error).__module__.startswith("botocore"):
                raise
            sys.stderr.write(f"thermocline: AWS: {error} Check credentials, region and AWS_ENDPOINT_URL.\n")
            raise typer.Exit(1) from error
        except KeyboardInterrupt:
            sys.stderr.write("thermocline: stopped.\n")
            raise typer.Exit(130) from None


app = typer.Typer(
    name="thermocline",
    help=HELP,
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo.demo)
app.command()(stack.up)
app.command()(stack.down)
app.command()(stack.status)
app.command()(doctor.doctor)
app.command()(send.simulate)
app.command()(send.replay)
app.command()(gateway.gateway)
app.command()(serve.serve)
app.command()(dashboard.dashboard)
app.command()(read.query)
app.command()(read.latest)
app.add_typer(sensors.app, name="sensors")
app.add_typer(archive.app, name="archive")
app.add_typer(rejects.app, name="rejects")
app.add_typer(token.app, name="token")
app.command()(cost.cost)
app.command()(stack.expire)
app.command()(stack.flush)
app.command()(clock.clock)
app.command()(deploy.deploy)
app.command()(deploy.destroy)


def _stop(_signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry of the console script. SIGTERM stops a command the way ^C does, cleaning up."""
    signal.signal(signal.SIGTERM, _stop)
    app()


if __name__ == "__main__":
    main()
