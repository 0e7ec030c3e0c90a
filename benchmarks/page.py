"""The page README.md, made from results.json alone: the ratio table and what stands around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

FIELDS = ("figure", "value", "unit", "against", "goal", "met", "spread", "numbers")
"""What every row of results.json has."""

TEXT_BEFORE = """\
# Benchmarks

Made by `make bench` from [results.json](results.json); do not edit it. What a profile says is in [NOTES.md](NOTES.md).

Every figure is a ratio (or a count) inside one run on one machine: both sides of it were measured in turns.
Absolute numbers differ from machine to machine; ratios much less. Goals are what we aim at; *met* says
whether this run met them, and no goal is left out because it was missed.
"""

TEXT_AFTER = """\
## What is measured, and how

- **Time** is CPU time of the measuring process, user and system, all its threads, kept on one core where the system
  allows it. Both sides of a ratio take turns; the figure is the median of the rounds' ratios, in brackets the least
  and the greatest. Each side runs once before, unmeasured. Answers and counts are compared with what went in.
- **Storing.** `lambdas.store_readings.handle` with a Lambda event, through `store_batch` and the real DynamoDB stores,
  into a server on loopback that answers BatchWriteItem, BatchGetItem and PutItem with canned successes, in a process
  (and on a core) of its own: DynamoDB's own time is not in it, and an emulator's neither. 100 sensors x 100 readings of
  two metrics, packed into KPL-aggregated records by our own publisher's code; the sensors are registered already. The
  usual handler gets the same readings as single JSON objects, one plain record each (the cheapest form for it): base64,
  `json.loads(parse_float=Decimal)`, `Table.batch_writer`, an item per reading. Tickets, manifests and rejects are
  our side's extra work and counted. `json.loads` of the event, which Lambda's runtime does,
  is counted on both sides where the row says so.
- **Readings per write unit** are counted, not timed: `item_size` by AWS's page, one unit per started KB. The real
  series are cut into {offered} readings each, and each piece is offered to one chunk, whatever bucket it spans.
  Layout f7 (a step and a list of values with NULL for gaps, else a step and a list of distances from the grid) is
  weighed with the same readings and with the fixed part of our own item; on a grid our codec is that layout. So is
  layout g9, pcodec's wrapped format with its defaults for times (none where they are regular) and values. The
  fleet, each reading up to 5 ms early or late, goes through the batch door from columnar runs, in 20 batches, and
  counts tickets, open slots and manifests too; registering the sensors, once in their life, is told beside it.
- **Hot query.** `ingest.query.answer` for one sensor-hour of two metrics, over the real DynamoDB store, from the bytes
  of one canned Query page to columns of ints and floats: decode, read units, merge, clip. boto3's resource gets the
  page of the same chunks, or one of an item per reading; its own parser and deserializer make items of Decimals of it,
  and a plain loop columns of floats. Neither figure has the call in it; beside each stands what it becomes with the
  call (made, signed, sent to loopback and answered), where botocore's part, the same for both, outweighs ours.
- **Beside other databases.** The same `answer`, call included, and with means by minute, against VictoriaMetrics (its
  own process on loopback, asked over a kept connection, its JSON parsed by msgspec) and SQLite (in this process), both
  holding 100 such sensors. Wall time, in turns, until the client holds lists. DynamoDB's own time is not in ours, so
  this is the cost of our client beside the whole cost of theirs. VictoriaMetrics is left out where it is not installed.
- **Cold query.** The same `answer` for one sensor-hour out of one segment of 1,000 sensors x 1 hour x two metrics,
  nearly twice as large as the archiver makes them; requests and bytes of the object store are counted. The catalog's
  own Query is not among them.
- **Compaction.** 24 hourly segments of 1,000 sensors at 1 Hz, one metric, each hour different, are compacted as the
  function does it; then `answer` is asked for one sensor's day. Requests and bytes of the object store are counted, the
  catalog's own Query is not among them.
- **Archive.** `segment.encode` of 200 sensors x 1 hour against one JSON object per reading (`sensor_id`, `ts`, both
  metrics), in the same order, which suits gzip: in the order the readings were taken it needs more. Our side also holds
  arrivals and checksums.
- **Embedded stack.** The publisher sends 1,000 sensors x 100 s at 1 Hz into a private local stack and the clock stops
  when all of it is stored; then one answer is compared with what was sent. Its speed is the emulator's and that of
  starting function workers, which is why the other figures are measured without it.
- **MQTT gateway.** One process sends single readings of 100 sensors at QoS 1 to a Mosquitto on loopback, with plain
  paho; the receiver is plain paho, or one gateway that sends into a Kinesis that takes everything, in turns. The clock
  runs in the receiver, from the first message to the last: received, or, for the gateway, accepted by Kinesis
  and acknowledged to the broker. Wall time, as several processes share the cores. Left out where Mosquitto is missing.
- **Bills** are counted, not timed, by the cost model (`thermocline cost`), whose chunks, manifests and segments are
  made-up series really encoded; prices and assumptions stand in `infra/cost/prices.toml`. What is written counts
  everything that takes a write unit, the deletion of manifests too, and batches that begin at any time, so that one
  in twelve is cut by the end of an hour. The bills' arithmetic, line by line:
  `thermocline cost --sensors 100000 --interval 1s --batch 300s --codec packed --explain` and
  `thermocline cost --sensors 100000 --interval 10s --metrics 3 --batch 60s --window 300s --explain`.

## How to repeat it

`make bench`, with nothing else running; about two minutes on two cores, no account, no network. It writes
`results.json` and this page anew and stops every process it started. The real series are read from `../shared/data`
beside the checkout; where that folder is missing, their rows are left out.
"""

_MET = {None: "", True: "yes", False: "**no**"}


def page(results: Mapping[str, Any]) -> str:
    """The whole page as Markdown."""
    rows: Sequence[Mapping[str, Any]] = results["rows"]
    after = TEXT_AFTER.replace("{offered}", str(results["offered"]))
    return "\n".join([TEXT_BEFORE, *_run(results), "", *_table(rows), "", *_behind(rows), "", after])


def _run(results: Mapping[str, Any]) -> Iterator[str]:
    machine = results["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(results["versions"].items()))
    yield (
        f"Run of {results['date']}, {results['seconds']} s: {machine['cpus']} CPUs, {machine['platform']}, "
        f"Python {machine['python']}."
    )
    yield f"Versions: {versions}."


def _table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| | figure | value | against | goal | met |"
    yield "|---|---|---|---|---|---|"
    for place, row in enumerate(rows, 1):
        cells: list[str] = [
            str(place),
            row["figure"],
            _value(row),
            row["against"],
            row["goal"] or "none",
            _MET[row["met"]],
        ]
        yield f"| {' | '.join(cells)} |"
    with_goal = [row for row in rows if row["met"] is not None]
    yield ""
    yield f"{sum(bool(row['met']) for row in with_goal)} of {len(with_goal)} goals are met."


def _value(row: Mapping[str, Any]) -> str:
    text = _with_unit(row["value"], row["unit"])
    if row["spread"] is None:
        return text
    low, high = row["spread"]
    return f"{text} ({_shown(low)} to {_shown(high)})"


def _with_unit(value: float, unit: str) -> str:
    return f"{_shown(value)}{unit}" if unit in ("", "x") else f"{_shown(value)} {unit}"


def _behind(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "The numbers behind the figures, good for this machine only:"
    yield ""
    yield "| | numbers |"
    yield "|---|---|"
    for place, row in enumerate(rows, 1):
        told = "; ".join(f"{name} {_shown(number)}" for name, number in row["numbers"].items())
        yield f"| {place} | {told} |"


def _shown(number: float) -> str:
    return f"{number:,}" if abs(number) >= 1_000 else f"{number:g}"
