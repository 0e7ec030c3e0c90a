"""What would make a fleet's bill smaller: single changes, each priced as a whole, the best first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from infra.cost.bill import Bill, bill
from infra.cost.fleet import MOST_WINDOW_S, Fleet
from infra.cost.prices import Prices
from infra.cost.sample import Samples
from ingest.errors import ThermoclineError

LEAST_SHARE = 0.005
"""A change that saves less than this share of the bill is not told of."""
SHORTEST_HOT_S = 4 * 86_400
EDGES_S = (60, 300, 900, 3_600)


@dataclass(frozen=True, slots=True)
class Change:
    """One change: what to do, what it asks of the owner, and the bill with it (steady state, dollars a month)."""

    what: str
    asks: str
    usd: float
    saves_usd: float
    readings_per_write_unit: float


SamplesFor = Callable[[str], Samples]
"""The samples of a codec."""


def advice(one: Bill, samples: SamplesFor, prices: Prices, most: int = 3) -> list[Change]:
    """The changes that save most, at most so many, each tried alone. A codec that is not installed is left out."""
    found: list[Change] = []
    for what, asks, fleet in _changes(one):
        try:
            other = bill(fleet, samples(fleet.codec), prices)
        except ThermoclineError:  # the packed codec is not installed here
            continue
        saves = one.steady_usd - other.steady_usd
        if saves > LEAST_SHARE * one.steady_usd:
            per_unit = fleet.readings / other.written.write_units
            found.append(Change(what, asks, other.steady_usd, saves, per_unit))
    return sorted(found, key=lambda change: -change.saves_usd)[:most]


def _changes(one: Bill) -> Iterator[tuple[str, str, Fleet]]:
    fleet = one.fleet
    if fleet.window_s < MOST_WINDOW_S:
        yield (
            f"window {MOST_WINDOW_S} s instead of {fleet.window_s:g} s",
            f"readings can be queried up to {MOST_WINDOW_S} s after they were sent",
            replace(fleet, window_s=float(MOST_WINDOW_S)),
        )
    for edge_s in EDGES_S:
        if edge_s > fleet.message_s and edge_s >= 2 * fleet.interval_s:
            yield (
                f"batch {edge_s} s at the edge instead of {fleet.message_s:g} s",
                "sensors or gateway hold readings so long; what a sensor holds is gone if it fails",
                replace(fleet, edge_s=float(edge_s)),
            )
            break
    if replace(fleet, align=True).uncut > fleet.uncut:
        yield (
            "messages that end by the clock (gateway --align)",
            "what sensors or gateway gathered is sent by all at the same moment",
            replace(fleet, align=True),
        )
    other = "packed" if fleet.codec == "list" else "list"
    yield (
        f"codec {other}",
        "" if other == "list" else "chunks cannot be read in the console",
        replace(fleet, codec=other),
    )
    if fleet.shards is not None:
        yield "shards auto: as many as are cheapest", "", replace(fleet, shards=None)
    lanes = one.written.sent.lanes
    for fewer in (lanes // 2, lanes // 4, max(1, lanes // 10)):
        if fewer >= 1:
            yield (
                f"{fewer} lanes instead of {lanes}",
                "fewer batches are worked on at once, so a backlog is caught up with more slowly",
                replace(fleet, lanes=fewer),
            )
    if fleet.lanes is not None:
        yield "lanes auto: ten a shard", "", replace(fleet, lanes=None)
    if fleet.bucket_s < 86_400:
        yield (
            "buckets of 24h",
            "a slot is a day: segments come once a day, and a short query reads longer chunks",
            replace(fleet, bucket_s=86_400),
        )
    if fleet.hot_s > SHORTEST_HOT_S:
        yield (
            f"hot {SHORTEST_HOT_S // 86_400}d instead of {fleet.hot_s / 86_400:g}d",
            "older readings are answered from S3",
            replace(fleet, hot_s=float(SHORTEST_HOT_S)),
        )
    if fleet.iot_core:
        yield (
            "MQTT to a broker and our gateway instead of IoT Core",
            "a broker and a gateway that you run; their cost is not in this bill",
            replace(fleet, iot_core=False),
        )
