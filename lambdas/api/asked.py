"""From what a request states, or its cursor carries, to the question: span, windows, order, shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ingest import cursor
from ingest.keys import US
from ingest.plan import Query, check
from ingest.reading import Span
from ingest.times import format_duration, parse_duration, parse_time
from lambdas.api.limits import CURSOR_LIFE_S, LIMIT_DEFAULT, RANGE_MOST_S, WINDOWS_MOST
from lambdas.api.params import check_order
from lambdas.api.problems import problem

if TYPE_CHECKING:
    from ingest.query import Sources
    from lambdas.api.services import Services

DEFAULTS: Mapping[str, Any] = {
    "from": None,
    "to": None,
    "metric": [],
    "every": None,
    "agg": [],
    "tier": "auto",
    "limit": LIMIT_DEFAULT,
    "order": "asc",
    "format": "json",
    "shape": "rows",
    "tiers": False,
}
"""What a request asks where it states nothing: the last hour before `to`, which is now."""
_HOUR_US = 3600 * US


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as a cursor carries it (`said`), and the position to begin at (None: at the beginning)."""

    route: str
    said: dict[str, Any]
    at: Any

    @property
    def span(self) -> Span:
        """The range, resolved when it was first asked."""
        return Span(self.said["from_us"], self.said["to_us"])

    def query(self, sensor_id: str) -> Query:
        """The question to one sensor."""
        said = self.said
        every_us = None if said["every"] is None else parse_duration(said["every"], "every")
        aggregates = tuple(said["agg"]) or (("mean",) if every_us else ())
        return Query(
            sensor_id, self.span, tuple(said["metric"]), every_us, aggregates, said["tier"], self.limit
        )

    @property
    def limit(self) -> int:
        """Rows on a page."""
        limit: int = self.said["limit"]
        return limit if self.said["every"] is None else min(limit, WINDOWS_MOST)

    def following(self, at: Any, services: Services) -> str:
        """The cursor to go on with."""
        expires_s = services.now_s() + CURSOR_LIFE_S
        return cursor.seal(self.route, self.said, at, services.cursor_key(), expires_s)


def ask(route: str, given: Mapping[str, Any], sealed: str | None, services: Services) -> Asked:
    """The question of a request that states `given` (names of DEFAULTS, and what else binds a cursor).

    With a cursor, what is stated must be what was stated then; times stay what they meant then. Raises Problem,
    BadInput and InvalidCursor, each naming the parameter at fault.
    """
    if sealed is not None:
        opened = cursor.unseal(sealed, route, given, services.cursor_key(), services.now_s())
        return Asked(route, opened.asked, opened.at)
    said = {**DEFAULTS, **given}
    now_us = round(services.now_s() * US)
    to_us = now_us if said["to"] is None else parse_time(said["to"], now_us, "to")
    from_us = to_us - _HOUR_US if said["from"] is None else parse_time(said["from"], now_us, "from")
    check_order(from_us, to_us)
    if to_us - from_us > RANGE_MOST_S * US:
        raise problem(
            "range-too-long",
            f"from: the range is {format_duration(to_us - from_us)} long; ask for at most "
            f"{format_duration(RANGE_MOST_S * US)} at once.",
            "from",
            most_s=RANGE_MOST_S,
        )
    asked = Asked(route, {**said, "from_us": from_us, "to_us": to_us}, None)
    _check(asked)
    return asked


def _check(asked: Asked) -> None:
    if asked.said["every"] is None:
        if asked.said["agg"]:
            raise problem("invalid-parameter", "agg: needs `every`, the width of its windows.", "agg")
    elif asked.said["limit"] > WINDOWS_MOST:
        raise problem(
            "too-many-windows",
            f"limit: an answer holds at most {WINDOWS_MOST} windows; lower it and go on with `next`.",
            "limit",
            most=WINDOWS_MOST,
        )
    check(asked.query("any"))


def sources_of(services: Services) -> Callable[[], Sources]:
    """What a query reads, each time with the layout as the table has it: a retention that was shortened
    must not hide what moved to the cold tier since."""
    from ingest.query import Sources

    def sources() -> Sources:
        layout = services.hot.load_layout() or services.layout()
        return Sources(services.hot, services.catalog, services.cold, layout, services.clock)

    return sources
