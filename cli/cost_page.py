"""How the answers of the command cost are laid out: one document for JSON, lines of text for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from infra.cost.advice import Change
from infra.cost.bill import Bill
from infra.cost.lines import PART_STREAM, PART_WRITES, Line
from infra.cost.measured import Comparison
from infra.cost.prices import Prices

Peers = Mapping[str, Sequence[Line]]
_WIDE = 44
_LEFT_OUT = "Left out: free tiers, taxes, queries, data transfer, KMS requests, your own broker or gateway."


# --- the bill ---------------------------------------------------------------------------


def document(one: Bill, peers: Peers, changes: Sequence[Change], prices: Prices) -> dict[str, Any]:
    """Every number of the bill."""
    done, sent, batched = one.written, one.written.sent, one.written.batched
    return {
        "fleet": asdict(one.fleet),
        "region": prices.region,
        "prices_date": prices.date,
        "readings": one.fleet.readings,
        "usd": one.usd,
        "steady_usd": one.steady_usd,
        "usd_per_billion_readings": one.steady_usd / one.fleet.readings * 1e9,
        "write_usd_per_billion_readings": write_usd(one) / one.fleet.readings * 1e9,
        "readings_per_write_unit": one.fleet.readings / done.write_units,
        "readings_per_chunk": one.fleet.readings / done.chunks.chunks,
        "write_units": done.write_units,
        "chunks": done.chunks.chunks,
        "registration_write_units_once": done.registry_units,
        "shards": sent.shards,
        "shards_needed": sent.shards_needed,
        "lanes": sent.lanes,
        "record_bytes": sent.record_bytes,
        "message_bytes": sent.message_bytes,
        "records": sent.records_ps * 730 * 3600,
        "batches": batched.batches,
        "batch_closes_after_s": batched.period_s,
        "batch_closed_by": batched.limit,
        "sensors_per_batch": batched.sensors_per_batch,
        "segments": done.segments,
        "segment_bytes": done.segment_bytes,
        "archive_bytes_per_value": done.bytes_per_value,
        "parts": {name: {"usd": now, "steady_usd": steady} for name, (now, steady) in one.parts().items()},
        "lines": [asdict(line) for line in one.lines],
        "other_stream_mode": [asdict(line) for line in one.other_stream],
        "elsewhere": {
            name: {
                "usd": sum(line.usd for line in lines),
                "steady_usd": sum(line.steady_usd for line in lines),
                "ours_over_it": one.usd / sum(line.usd for line in lines),
                "steady_ours_over_it": one.steady_usd / sum(line.steady_usd for line in lines),
                "lines": [asdict(line) for line in lines],
            }
            for name, lines in peers.items()
        },
        "changes": [asdict(change) for change in changes],
        "assumed": {
            name: {"value": prices.assumed[name], "why": why} for name, why in prices.reasons.items()
        },
        "prices": {name: asdict(price) for name, price in prices.table.items()},
        "left_out": _LEFT_OUT,
    }


def write_usd(one: Bill) -> float:
    """Dollars a month for every write unit."""
    return sum(line.usd for line in one.lines if line.part == PART_WRITES)


def page(
    one: Bill, peers: Peers, changes: Sequence[Change], prices: Prices, *, explain: bool
) -> Iterator[str]:
    """The bill for people: parts, what it rests on, elsewhere, what to change."""
    fleet, done = one.fleet, one.written
    sent, batched = done.sent, done.batched
    yield (
        f"{fleet.sensors:,} sensors, {_count(fleet.metrics, 'value')} every {fleet.interval_s:g} s: "
        f"{fleet.readings:,.0f} readings a month. {prices.region}, prices of {prices.date}."
    )
    yield ""
    yield f"{'a month':<{_WIDE}}{'year 1':>14}{'steady':>14}"
    for name, (now, steady) in one.parts().items():
        yield f"{name:<{_WIDE}}{_usd(now)}{_usd(steady)}"
        for line in one.lines:
            if line.part == name and (explain or line.part == PART_STREAM):
                yield from _line(line, explain=explain)
        if name == PART_STREAM:
            yield from _other(one, explain=explain)
    yield f"{'together':<{_WIDE}}{_usd(one.usd)}{_usd(one.steady_usd)}"
    yield f"{'for a billion readings':<{_WIDE}}{_usd(_billion(one, one.usd))}{_usd(_billion(one, one.steady_usd))}"
    yield ""
    yield "Year 1 is its twelfth month; steady, once as much leaves the archive as enters it."
    yield (
        f"A write unit carries {fleet.readings / done.write_units:,.1f} readings: {batched.readings_per_run:,.0f} of a "
        f"sensor meet in a batch, which is closed every {batched.period_s:,.0f} s ({batched.limit})."
    )
    short = "; it will throttle" if sent.shards < sent.shards_needed else ""
    yield (
        f"The stream needs {_count(sent.shards_needed, 'shard')} and gets {sent.shards}, with "
        f"{_count(sent.lanes, 'lane')}{short}."
    )
    megabytes = done.segment_bytes / done.segments / 1e6
    yield f"{done.segments:,.0f} segments a month of {megabytes:,.1f} MB, before compaction."
    yield f"Registering the sensors takes {done.registry_units:,} write units, once."
    yield ""
    yield f"{'the same fleet elsewhere':<{_WIDE + 8}}{'year 1':>14}{'steady':>14}   here is"
    for name, lines in peers.items():
        now, steady = sum(line.usd for line in lines), sum(line.steady_usd for line in lines)
        share = f"{one.usd / now:.0%} and {one.steady_usd / steady:.0%} of it"
        yield f"{name:<{_WIDE + 8}}{_usd(now)}{_usd(steady)}   {share}"
        if explain:
            for line in lines:
                yield from _line(line, explain=True)
    yield ""
    yield from _changes(one, changes)
    yield _LEFT_OUT
    if explain:
        yield from _sources(prices)
    else:
        yield "--explain shows the arithmetic, the sources of the prices, and what is assumed."


def _line(line: Line, *, explain: bool) -> Iterator[str]:
    yield f"  {line.what:<{_WIDE - 2}}{_usd(line.usd)}{_usd(line.steady_usd)}"
    if explain:
        amount = f"{line.quantity:,.6g}" if line.quantity < 1_000 else f"{line.quantity:,.0f}"
        yield f"      {amount} {line.unit} at {line.price}: {line.how}"


def _other(one: Bill, *, explain: bool) -> Iterator[str]:
    mode = one.other_stream[0].what.split(":")[0]
    usd = sum(line.usd for line in one.other_stream)
    dearer = usd - one.parts()[PART_STREAM][0]
    yield f"  ({mode} instead: {usd:,.2f}, {dearer:,.2f} more; not in the sum)"
    if explain:
        for line in one.other_stream:
            yield f"      {line.quantity:,.2f} {line.unit} at {line.price}: {line.how}"


def _changes(one: Bill, changes: Sequence[Change]) -> Iterator[str]:
    if not changes:
        yield "No single change tried here makes it cheaper by half a per cent."
        return
    yield "What would make it cheaper, each alone (steady state)."
    yield "What decides is how many readings of one sensor meet in a batch."
    for change in changes:
        share = change.saves_usd / one.steady_usd
        yield (
            f"  {change.what}: {change.saves_usd:,.2f} less a month ({share:.0%}), "
            f"{change.readings_per_write_unit:,.1f} readings a write unit"
        )
        if change.asks:
            yield f"      its price: {change.asks}"


def _sources(prices: Prices) -> Iterator[str]:
    yield ""
    yield f"Prices of {prices.region} ({prices.date}):"
    for name, price in prices.table.items():
        yield f"  {name:<30}{price!s:<28}{price.source}"
    yield "Assumed:"
    for name, why in prices.reasons.items():
        yield f"  {name:<30}{prices.assumed[name]:<14g}{why}"


def _billion(one: Bill, usd: float) -> float:
    return usd / one.fleet.readings * 1e9


def _usd(amount: float) -> str:
    return f"{amount:>14,.2f}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


# --- what was measured ------------------------------------------------------------------


def measured_document(
    found: Comparison, status: Mapping[str, Any], dropped: int, modelled: float | None, prices: Prices
) -> dict[str, Any]:
    """Predicted beside measured, part by part, and what the stack consumed otherwise."""
    predicted, measured = found.predicted, found.measured
    rows = {
        **{name: (predicted.units[name], measured.units.get(name, 0.0)) for name in predicted.units},
        "write_units": (predicted.write_units, measured.write_units),
        "chunk_items": (float(predicted.chunk_items), float(measured.chunk_items)),
        "readings": (float(predicted.readings), float(measured.readings)),
    }
    functions: Mapping[str, Mapping[str, float]] = status.get("functions", {})
    invocations = sum(of.get("Invocations", 0.0) for of in functions.values())
    segments, segment_bytes = int(status.get("segments", 0)), int(status.get("segment_bytes", 0))
    return {
        "predicted": {name: ours for name, (ours, _) in rows.items()},
        "measured": {name: theirs for name, (_, theirs) in rows.items()},
        "difference": {name: ours - theirs for name, (ours, theirs) in rows.items()},
        "equal": all(ours == theirs for ours, theirs in rows.values()),
        "batches": found.batches,
        "batches_not_compared": found.unreadable + dropped,
        "records": found.records,
        "write_units_of_status": status.get("write_units"),
        "readings_per_write_unit": measured.readings / measured.write_units if measured.write_units else 0.0,
        "model_chunk_write_units": modelled,
        "failed_invocations": sum(of.get("Errors", 0.0) for of in functions.values()),
        "consumed": {
            "write_units": _consumed(measured.write_units, "dynamodb_write", prices),
            "invocations": _consumed(invocations, "lambda_request", prices),
            "segments_put": _consumed(segments, "s3_put", prices),
            "segment_bytes": _consumed(segment_bytes / 1e9, "s3_gb_month", prices),
        },
    }


def _consumed(quantity: float, price: str, prices: Prices) -> dict[str, float]:
    return {"quantity": quantity, "usd": prices[price].of(quantity)}


def measured_page(told: Mapping[str, Any]) -> Iterator[str]:
    """The comparison for people."""
    names = {
        "chunks": "write units: chunks",
        "manifests": "write units: manifests",
        "tickets": "write units: tickets and open slots",
        "registry": "write units: sensors registered",
        "write_units": "write units together",
        "chunk_items": "chunks",
        "readings": "readings",
    }
    yield f"{'':<40}{'predicted':>14}{'measured':>14}{'difference':>14}"
    for name, shown in names.items():
        cells = (told[side][name] for side in ("predicted", "measured", "difference"))
        yield f"{shown:<40}" + "".join(
            f"{cell:>14,.6g}" if cell < 1e6 else f"{cell:>14,.0f}" for cell in cells
        )
    yield ""
    packed = f"{told['readings_per_write_unit']:,.1f} readings a write unit"
    yield f"{told['batches']:,} batches, {told['records']:,} records; {packed}."
    if told["model_chunk_write_units"] is not None and told["measured"]["chunks"]:
        share = told["model_chunk_write_units"] / told["measured"]["chunks"] - 1
        yield f"Chunks of the same shapes made of the model's own series would take {share:+.1%} write units."
    if told["batches_not_compared"]:
        yield (
            f"{told['batches_not_compared']:,} batches are not compared: their records are no longer in the stream, or "
            "there were more than are remembered."
        )
    if told["failed_invocations"]:
        failed = f"{told['failed_invocations']:,.0f} invocations failed"
        yield f"{failed}; what they consumed before that nobody knows, and it is on neither side."
    if told["write_units_of_status"] not in (None, told["measured"]["write_units"]):
        yield f"`status` counts {told['write_units_of_status']:,} write units, with earlier runs of this stack."
    yield "Predicted: the same batches encoded once more, sizes by AWS's rules."
    yield "Measured: what the table said each write consumed."
