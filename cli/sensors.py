"""Commands about the registry: sensors ls and show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import find
from ingest.errors import NotFound

if TYPE_CHECKING:
    from ingest.stores import Sensor

app = typer.Typer(help="The sensors that were ever seen.", no_args_is_help=True)


@app.command("ls")
def list_sensors(
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="Only ids that begin with this.")
    ] = "",
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """List the known sensors, sorted by id."""
    registry = find(stack).stores().registry
    show.records([_row(sensor) for sensor in registry.all(prefix)], fmt, output)


@app.command("show")
def show_sensor(
    sensor: Annotated[str, typer.Argument(metavar="SENSOR", help="Id of the sensor.")],
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Show what is known of one sensor."""
    known = find(stack).stores().registry.get(sensor)
    if known is None:
        raise NotFound(f"Sensor {sensor!r} was never seen. `thermocline sensors ls` lists the known ones.")
    show.records(
        [_row(known) | {"units": known.units, "labels": known.labels, "place": known.place}], fmt, output
    )


def _row(sensor: Sensor) -> dict[str, Any]:
    from cli.times import format_time

    return {
        "sensor_id": sensor.sensor_id,
        "name": sensor.name,
        "first_seen": format_time(sensor.first_seen_ms * 1000),
        "version": sensor.version,
    }
