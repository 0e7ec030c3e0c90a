"""The command cost: the monthly bill of a fleet by part, and what a running stack consumed beside what is predicted."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import options
from ingest.errors import BadInput

if TYPE_CHECKING:
    from infra.cost.fleet import Fleet
    from infra.cost.prices import Prices
    from infra.cost.sample import Samples

DEFAULT_REGION = "us-east-1"


Sensors = Annotated[
    int | None,
    typer.Option("--sensors", min=1, metavar="N", help="How many sensors. Needed, except with --measured."),
]
Interval = Annotated[
    str,
    typer.Option("--interval", metavar="D", help="Time between two readings of a sensor, such as 10s."),
]
Metrics = Annotated[int, typer.Option("--metrics", min=1, metavar="N", help="Values in one reading.")]
EdgeBatch = Annotated[
    str, typer.Option("--batch", metavar="D", help="What a sensor gathers before it sends; 0s: nothing.")
]
Align = Annotated[
    bool,
    typer.Option(
        "--align", help="What is gathered ends at whole multiples of --batch, as by gateway --align."
    ),
]
BatchWindow = Annotated[
    str,
    typer.Option("--window", metavar="D", help="How long a batch of the function may gather, up to 300s."),
]
Hot = Annotated[str, typer.Option("--hot", metavar="D", help="How long readings stay in DynamoDB.")]
Cold = Annotated[str, typer.Option("--cold", metavar="D", help="How long they stay in S3.")]
Shards = Annotated[
    str,
    typer.Option("--shards", metavar="auto|N", help="Shards of the stream; auto: the cheapest number."),
]
Lanes = Annotated[
    str, typer.Option("--lanes", metavar="auto|N", help="Partition keys in all; auto: ten a shard.")
]
Region = Annotated[str, typer.Option("--region", metavar="NAME", help="Whose prices.")]
PricesFile = Annotated[
    Path | None,
    typer.Option("--prices", metavar="FILE", help="Your own prices, in the form of infra/cost/prices.toml."),
]
IotCore = Annotated[
    bool, typer.Option("--iot-core", help="Sensors speak to AWS IoT Core; each message is a record.")
]
Explain = Annotated[
    bool,
    typer.Option("--explain", help="Also the arithmetic of every line, prices, sources, assumptions."),
]
Measured = Annotated[
    bool,
    typer.Option("--measured", help="What the running local stack consumed, beside what is predicted."),
]
TableOrJson = Annotated[
    str | None,
    typer.Option("--format", metavar="table|json", help="Default: table on a terminal, else json."),
]


def cost(
    sensors: Sensors = None,
    interval: Interval = "10s",
    metrics: Metrics = 1,
    batch: EdgeBatch = "60s",
    align: Align = False,
    window: BatchWindow = "60s",
    hot: Hot = "7d",
    cold: Cold = "5y",
    bucket: options.Bucket = "1h",
    codec: options.Codec = "list",
    shards: Shards = "auto",
    lanes: Lanes = "auto",
    region: Region = DEFAULT_REGION,
    prices: PricesFile = None,
    iot_core: IotCore = False,
    explain: Explain = False,
    measured: Measured = False,
    fmt: TableOrJson = None,
) -> None:
    """Tell what a fleet costs a month, by part. And what it would cost elsewhere, and how to make it less.

    Write units, segment sizes and payloads are those of made-up series, really encoded by the code that
    stores readings: smooth values on a steady grid. Yours may pack better or worse. Times of functions and
    calls are assumed; --explain names every assumption and where each price is from. Free tiers, taxes,
    queries, data transfer and KMS requests are left out.

    --measured reads the batches a running local stack stored since it was started: it takes their records
    from the stream once more, encodes them with the same code, counts write units by AWS's rules, and sets
    them beside the units the table reported for each write. Nothing is written.
    """
    if fmt not in (None, "table", "json"):
        raise BadInput(f"--format: {fmt!r} cannot be used here; use table or json.")
    as_json = fmt == "json" or (fmt is None and not sys.stdout.isatty())
    if measured:
        _measured(region, prices, as_json)
        return
    if sensors is None:
        raise BadInput("--sensors: is needed, such as --sensors 1000 (or --measured for a running stack).")
    from infra.cost.fleet import Fleet
    from infra.cost.prices import load

    fleet = Fleet(
        sensors=sensors,
        interval_s=_seconds(interval, "--interval"),
        metrics=metrics,
        edge_s=_seconds(batch, "--batch"),
        window_s=_seconds(window, "--window"),
        hot_s=_seconds(hot, "--hot"),
        cold_s=_seconds(cold, "--cold"),
        bucket_s=options.whole_s(bucket, "--bucket"),
        codec=codec,
        shards=_count(shards, "--shards"),
        lanes=_count(lanes, "--lanes"),
        iot_core=iot_core,
        align=align,
    )
    table = load(region, prices)
    _told(fleet, table, as_json=as_json, explain=explain)


def _told(fleet: Fleet, table: Prices, *, as_json: bool, explain: bool) -> None:
    from cli import cost_page
    from infra.cost.advice import advice
    from infra.cost.bill import bill
    from infra.cost.elsewhere import item_per_reading, timestream
    from sensors.simulator import sensor_id

    made: dict[str, Samples] = {}

    def samples(codec: str) -> Samples:
        if codec not in made:
            made[codec] = samples_of(fleet.sensors, fleet.metrics, fleet.step_us, codec)
        return made[codec]

    one = bill(fleet, samples(fleet.codec), table)
    last = sensor_id(fleet.sensors - 1)
    peers = {
        "an item per reading, no archive": item_per_reading(one, table),
        "Timestream LiveAnalytics, memory store 12 h": timestream(
            fleet, last, table, table.assumed["timestream_memory_s"]
        ),
        "Timestream LiveAnalytics, memory store as long as hot": timestream(fleet, last, table, fleet.hot_s),
    }
    changes = advice(one, samples, table)
    told = cost_page.document(one, peers, changes, table)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(cost_page.page(one, peers, changes, table, explain=explain)) + "\n")


def _measured(region: str, prices: Path | None, as_json: bool) -> None:
    from cli import cost_page
    from cli.target import layout_of, local_state, of_outputs
    from infra.cost.measured import compare, read_shards
    from infra.cost.prices import load
    from infra.local import control
    from infra.local.journal import StoredBatch
    from infra.local.mappings import read_mapping
    from infra.local.shards import KinesisSource

    table = load(region, prices)
    state = local_state()
    target = of_outputs(state.outputs, state.endpoint_url, state.region, state)
    stores = target.stores()
    status = control.status(state)
    journal = control.batches(state)
    batches = [StoredBatch(**batch) for batch in journal["batches"]]
    listed = target.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    mapping = next(
        found
        for found in map(read_mapping, listed)
        if found.service == "kinesis" and target.stream in found.source_arn
    )
    shards = read_shards(KinesisSource(mapping, target.client("kinesis")), batches)
    first_seen = {sensor.sensor_id: sensor.first_seen_ms for sensor in stores.registry.all()}
    codec = str(state.options.get("codec", "list"))
    found = compare(batches, shards, layout_of(stores), codec, first_seen)
    told = cost_page.measured_document(found, status, int(journal["dropped"]), _modelled(found, codec), table)
    if as_json:
        sys.stdout.write(json.dumps(told, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(cost_page.measured_page(told)) + "\n")


def _modelled(found: Any, codec: str) -> float | None:
    """Write units of chunks of the same shapes made of the model's own series; None where there are too many shapes."""
    shapes = found.shapes
    if not shapes or len(shapes) > 60:
        return None
    bucket_s = 86_400
    units = 0.0
    for (readings, metrics, step_us), count in shapes.items():
        samples = samples_of(1_000, metrics, step_us or 1_000_000, codec)
        units += count * samples.weight(readings, bucket_s).write_units
    return units


def samples_of(sensors: int, metrics: int, step_us: int, codec: str) -> Samples:
    """Weights of made-up series with so many metrics at that pace."""
    from infra.cost.sample import Samples
    from ingest.chunk import encode
    from sensors.series import MadeUp

    made = MadeUp(metrics, step_us)
    return Samples(made, partial(encode, codec=codec), sensors=sensors, metrics=metrics, step_us=step_us)


def _seconds(text: str, name: str) -> float:
    from ingest.times import parse_duration

    return parse_duration(text, name) / 1e6


def _count(text: str, name: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or not int(text):
        raise BadInput(f"{name}: {text!r} cannot be used; give auto or a whole number from 1 on.")
    return int(text)
