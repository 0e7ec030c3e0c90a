"""Commands about the registry: sensors ls, show, set and rm."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options, show
from cli.target import Target, find, layout_of, now_us
from ingest.errors import BadInput, Conflict, NotFound, Refused

if TYPE_CHECKING:
    from ingest.sensor import Sensor
    from ingest.stores import Registry

app = typer.Typer(
    help="The registry: which sensors there are, and what is known of them.", no_args_is_help=True
)
ATTEMPTS = 5
"""How often a change without --if-version is made again where somebody else makes one at the same moment."""
NEVER_SEEN = "Sensor {!r} was never seen. `thermocline sensors ls` lists the known ones."

Name = Annotated[str, typer.Argument(metavar="SENSOR", help="Id of the sensor.")]
IfVersion = Annotated[
    int | None,
    typer.Option(
        "--if-version",
        min=0,
        metavar="N",
        help="Only if the sensor still has this version, as `sensors show` told it; 0: only if it is unknown.",
    ),
]


@app.command("ls")
def list_sensors(
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="TEXT", help="Only ids that begin with this.")
    ] = "",
    label: Annotated[
        list[str] | None,
        typer.Option("--label", metavar="K:V", help="Only sensors with this label; repeat it for several."),
    ] = None,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """List the known sensors, sorted by id.

    A sensor is known from its first reading on, or from `sensors set`.
    """
    wanted = [_pair(text, ":", "--label", "site:hall2") for text in label or ()]
    registry = find(stack).stores().registry
    found = [
        sensor
        for sensor in registry.all(prefix)
        if all(sensor.labels.get(name) == text for name, text in wanted)
    ]
    show.records([_row(sensor) for sensor in found], fmt, output)


@app.command("show")
def show_sensor(
    sensor: Name,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Show what is known of one sensor. Its version is what --if-version compares."""
    known = find(stack).stores().registry.get(sensor)
    if known is None:
        raise NotFound(NEVER_SEEN.format(sensor))
    show.records([_whole_row(known)], fmt, output)


# --- set --------------------------------------------------------------------------------


SET_EXAMPLES = """\b
Such as:
  thermocline sensors set press-7 --name "Press 7" --label site=hall2
  thermocline sensors set press-7 --unit temperature=°C --place lat=52.1,lon=5.2
  thermocline sensors set press-7 --label site= --if-version 3
"""


@app.command("set", epilog=SET_EXAMPLES)
def set_sensor(
    sensor: Name,
    name: Annotated[
        str | None, typer.Option("--name", metavar="TEXT", help="What people call it; empty to remove it.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", metavar="K=V", help="A label, such as site=hall2; K= removes it. Repeatable."
        ),
    ] = None,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            "--unit",
            metavar="METRIC=UNIT",
            help="Unit of a metric, such as temperature=°C; METRIC= removes it. Repeatable.",
        ),
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            "--place",
            metavar="K=V,...",
            help="Where it is: lat=52.1,lon=5.2 in degrees, alt=30 in metres, others as text (room=2b); K= "
            "removes one.",
        ),
    ] = None,
    if_version: IfVersion = None,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Change what is known of a sensor, or add one that was never seen.

    Only what is named changes, and the version grows by one. With --if-version a change is
    refused (exit code 4) where somebody else was quicker, and what stands there now stays.
    """
    from ingest.reading import is_sensor_id

    if not is_sensor_id(sensor):
        raise BadInput(
            f"SENSOR: {sensor!r} cannot be an id; it must match [A-Za-z0-9][A-Za-z0-9._:/-]{{0,127}} without "
            "`..` and empty path parts."
        )
    patch = _patch(name, label or (), unit or (), place or ())
    registry = find(stack).stores().registry
    before, after = _change(registry, sensor, patch, if_version)
    show.records([_whole_row(after)], fmt, output)
    if before is None:
        show.note(f"{sensor}: added, version {after.version}.")
    elif before.version == after.version:
        show.note(f"{sensor}: nothing to change, still version {after.version}.")
    else:
        show.note(f"{sensor}: version {before.version} -> {after.version}.")


def _patch(
    name: str | None, labels: Iterable[str], units: Iterable[str], places: Iterable[str]
) -> dict[str, Any]:
    """What the options ask for, as `ingest.sensor.merged` takes it. Raises BadInput naming the option."""
    patch: dict[str, Any] = {} if name is None else {"name": name}
    for part, option, texts, example in (
        ("labels", "--label", labels, "site=hall2"),
        ("units", "--unit", units, "temperature=°C"),
    ):
        members = dict(_pair(text, "=", option, example) for text in texts)
        if members:
            patch[part] = {key: text or None for key, text in members.items()}
    members = dict(_pair(text, "=", "--place", "lat=52.1,lon=5.2") for one in places for text in _commas(one))
    if members:
        patch["place"] = {key: _place(key, text) for key, text in members.items()}
    return patch


def _commas(text: str) -> list[str]:
    """The pairs of one --place; a text without a further `=` behind a comma keeps the comma."""
    pieces: list[str] = []
    for piece in text.split(","):
        if "=" in piece or not pieces:
            pieces.append(piece.strip())
        else:
            pieces[-1] += f",{piece}"
    return pieces


def _place(key: str, text: str) -> str | float | None:
    from ingest.sensor import RANGES

    if not text or key not in RANGES:
        return text or None
    try:
        number = float(text)
    except ValueError as error:
        raise BadInput(f"--place: {key}={text} is no number; write it such as {key}=52.1.") from error
    return int(number) if number.is_integer() else number


def _change(
    registry: Registry, sensor_id: str, patch: Mapping[str, Any], if_version: int | None
) -> tuple[Sensor | None, Sensor]:
    """The sensor before and after. Raises Conflict, NotFound and BadInput naming the option."""
    for attempt in range(ATTEMPTS):
        before = registry.get(sensor_id)
        if before is None and if_version:
            raise NotFound(f"{NEVER_SEEN.format(sensor_id)} Leave --if-version out to add it.")
        if before is not None and if_version not in (None, before.version):
            raise _conflict(before, if_version)
        after = _merged(before, sensor_id, patch)
        if after == before:
            return before, after
        try:
            return before, registry.update(after, None if before is None else before.version)
        except (Conflict, NotFound) as error:
            if if_version is not None or attempt == ATTEMPTS - 1:
                current = registry.get(sensor_id)
                raise _conflict(current, if_version) from error
    raise AssertionError("not reached")


def _merged(before: Sensor | None, sensor_id: str, patch: Mapping[str, Any]) -> Sensor:
    from ingest.sensor import Sensor, merged

    try:
        return merged(before or Sensor(sensor_id, now_us() // 1000), patch)
    except BadInput as error:
        part, _, rest = str(error).partition(":")
        word, _, member = part.partition(".")
        option = {"labels": "--label", "units": "--unit", "place": "--place", "name": "--name"}.get(
            word, word
        )
        raise BadInput(f"{option}: {member + ': ' if member else ''}{rest.strip()}") from error


def _conflict(current: Sensor | None, if_version: int | None) -> Refused:
    if current is None:
        return Conflict("The sensor was deleted at this moment. Nothing was changed; set it again to add it.")
    why = "it keeps changing" if if_version is None else f"not {if_version}: somebody changed it"
    return Conflict(
        f"Sensor {current.sensor_id} has version {current.version}, {why}. Nothing was changed. Look at it with "
        f"`thermocline sensors show {current.sensor_id}`, then say --if-version {current.version}.",
        current,
    )


# --- rm ---------------------------------------------------------------------------------


@app.command("rm")
def remove_sensor(
    sensor: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    if_version: IfVersion = None,
    fmt: options.Format = None,
    output: options.Output = None,
    stack: options.Stack = options.DEFAULT_STACK,
) -> None:
    """Take a sensor out of the registry. Its readings stay, and this says how many items and segments hold them.

    They stay until they expire, and queries that name the sensor find them. When it sends again it is
    registered again, without name, labels, place and units; a deployment with --unknown-sensors refuse
    keeps what it sends as rejects instead.
    """
    target = find(stack)
    stores = target.stores()
    held = stores.registry.get(sensor)
    if held is None:
        raise NotFound(NEVER_SEEN.format(sensor))
    if if_version not in (None, held.version):
        raise _conflict(held, if_version)
    hot_items, segments = _remains(target, sensor)
    left = (
        f"{hot_items:,} hot items and {segments:,} segments that may hold its readings stay until they expire"
    )
    question = f"Take sensor {sensor} (version {held.version}) out of the registry? {left}."
    if not yes and not (sys.stdin.isatty() and typer.confirm(question, err=True)):
        raise Refused("Nothing was removed. Say --yes to remove without being asked.")
    gone = stores.registry.delete(sensor, held.version if if_version is not None else None)
    row = {"sensor_id": sensor, "deleted": True, "version": gone.version}
    show.records([row | {"hot_items": hot_items, "segments": segments}], fmt, output)
    show.note(f"{sensor}: removed. {left}.")


def _remains(target: Target, sensor_id: str) -> tuple[int, int]:
    """How many hot items and segments may hold readings of the sensor."""
    from ingest.keys import DAY_S
    from ingest.reading import EARLIEST_US, Span

    stores = target.stores()
    span = Span(EARLIEST_US, now_us() + 2 * DAY_S * 1_000_000)
    pages = stores.hot.read(sensor_id, span, layout_of(stores).widest_bucket_s)
    return sum(page.items for page in pages), len(stores.catalog.find(span, sensor_id))


# --- rows -------------------------------------------------------------------------------


def _pair(text: str, between: str, option: str, example: str) -> tuple[str, str]:
    name, found, value = text.partition(between)
    if not found or not name.strip():
        raise BadInput(f"{option}: {text!r} is no pair; write it such as {example}.")
    return name.strip(), value.strip()


def _row(sensor: Sensor) -> dict[str, Any]:
    from ingest.times import format_time

    return {
        "sensor_id": sensor.sensor_id,
        "name": sensor.name,
        "labels": sensor.labels,
        "first_seen": format_time(sensor.first_seen_ms * 1000),
        "version": sensor.version,
    }


def _whole_row(sensor: Sensor) -> dict[str, Any]:
    return _row(sensor) | {"units": sensor.units, "place": sensor.place}
