"""The route that asks several sensors at once, and how their pages share one answer."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

import msgspec
from aws_lambda_powertools.event_handler.api_gateway import Response, Router

from ingest.cursor import MOST_CHARACTERS
from ingest.errors import BadInput
from ingest.reading import is_metric_name, is_sensor_id
from lambdas.api import params
from lambdas.api import reading_schemas as schemas
from lambdas.api.answer import JSON_TYPE, text_answer
from lambdas.api.asked import Asked, ask, sources_of
from lambdas.api.auth import Guard
from lambdas.api.limits import ANSWER_MOST_BYTES, LIMIT_MOST, QUERY_SENSORS_MOST, QUESTION_MOST_BYTES
from lambdas.api.operation import Answer, Body, operation
from lambdas.api.problems import problem
from lambdas.api.sensor_list import readable
from lambdas.api.services import Services

if TYPE_CHECKING:
    from ingest.query import Cost
    from lambdas.api.answers import Position, Written

ROUTE = "query"
AT_ONCE = 4
"""How many sensors are read at the same time; each may hold a page."""
PATIENCE_S = 15.0
"""After this no further sensors are begun: the answer ends, and says so."""
_NAMES = {"metrics": "metric"}
"""Members that are called otherwise here than in a query string."""
_CHOICES = {
    "tier": ("auto", "hot", "cold"),
    "order": ("asc", "desc"),
    "shape": ("rows", "columns"),
}


def routes(services: Services, guard: Guard) -> Router:
    """The route /v1/query."""
    router = Router()

    @router.post("/v1/query")
    @operation(
        "query",
        tag="readings",
        summary="Readings of several sensors",
        text="The sensors named, in that order, or all that may be read and begin with a prefix. `limit` counts the "
        "rows of all of them together. To go on, send the same body with `cursor` added; times keep the "
        "meaning they had at first. A sensor that a page ended in comes again on the next one.",
        needs="read",
        body=Body(
            {"application/json": schemas.QUESTION},
            "What is asked.",
            example={"sensors": ["site1/boiler", "site1/hall"], "from": "-1h", "every": "1m"},
        ),
        answers={200: Answer("A page of them.", schemas.RESULTS)},
        problems=(
            "invalid-body",
            "body-too-large",
            "invalid-cursor",
            "range-too-long",
            "too-many-windows",
            "too-many-sensors",
        ),
        example="/v1/query",
    )
    def query() -> Response[str]:
        body = params.body_json(router.current_event, QUESTION_MOST_BYTES)
        given = stated(body)
        named: list[str] = given.pop("sensors", [])
        for sensor_id in named:
            guard.read(sensor_id)
        if named:
            given["sensors"] = _digest(named)
        sealed: str | None = given.pop("cursor", None)
        asked = ask(ROUTE, given, sealed, services)
        return _answer(asked, named, services, guard)

    return router


def _digest(sensors: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sensors).encode()).hexdigest()[:32]


# --- what the body states -------------------------------------------------------------------


def stated(body: Mapping[str, Any]) -> dict[str, Any]:
    """The members of a body that are given, checked, under the names they have in a query string.
    Raises Problem naming the member."""
    given: dict[str, Any] = {}
    for name, value in body.items():
        if name not in schemas.QUESTION["properties"]:
            known = ", ".join(schemas.QUESTION["properties"])
            raise problem(
                "invalid-body", f"{name[:60]}: is no member of a query; there is {known}.", name[:60]
            )
        if value is not None:
            given[_NAMES.get(name, name)] = _member(name, value)
    if ("sensors" in given) == ("prefix" in given):
        raise problem("invalid-body", "sensors: give either `sensors` or `prefix`.", "sensors")
    return given


def _member(name: str, value: Any) -> Any:
    if name in ("sensors", "metrics", "agg"):
        return _listed(name, value)
    if name in _CHOICES:
        if value not in _CHOICES[name]:
            raise _wrong(name, f"must be one of {', '.join(_CHOICES[name])}")
    elif name == "limit":
        if type(value) is not int or not 1 <= value <= LIMIT_MOST:
            raise _wrong(name, f"must be a whole number from 1 to {LIMIT_MOST}")
    elif name == "tiers":
        if type(value) is not bool:
            raise _wrong(name, "must be true or false")
    elif name in ("from", "to") and type(value) is int and 0 <= value <= 10**19:
        return str(value)
    elif not isinstance(value, str) or len(value) > (MOST_CHARACTERS if name == "cursor" else 128):
        raise _wrong(name, "must be a text, and not so long")
    return value


def _listed(name: str, value: Any) -> list[str]:
    words = cast("list[Any]", value) if isinstance(value, list) else [None]
    if not all(isinstance(word, str) for word in words):
        raise _wrong(name, "must be a list of texts")
    unique = list(dict.fromkeys(cast("list[str]", words)))
    if name == "sensors":
        if len(unique) > QUERY_SENSORS_MOST:
            raise problem(
                "too-many-sensors",
                f"sensors: {len(unique)} are too many; ask for at most {QUERY_SENSORS_MOST} at once.",
                name,
                most=QUERY_SENSORS_MOST,
            )
        if not unique or not all(map(is_sensor_id, unique)):
            raise _wrong(name, "must name at least one sensor, and each by an id that a sensor can have")
    elif len(unique) > (100 if name == "metrics" else 20):
        raise _wrong(name, "has too many entries")
    elif name == "metrics" and not all(map(is_metric_name, unique)):
        raise _wrong(name, "must hold names of metrics: letters, digits and _ . -, 64 at most")
    return unique


def _wrong(name: str, what: str) -> Exception:
    return problem("invalid-body", f"{name}: {what}.", name)


# --- sensors share an answer ------------------------------------------------------------------


@dataclass(slots=True)
class _Answer:
    """An answer being made: results as text, what is left of rows and bytes, and where it goes on."""

    rows_left: int
    cost: Cost
    bytes_left: int
    results: list[str] = field(default_factory=list[str])
    count: int = 0
    follow: list[Any] | None = None


def _answer(asked: Asked, named: Sequence[str], services: Services, guard: Guard) -> Response[str]:
    from ingest.query import Cost

    first, at = asked.at or ("", None)
    if first and not guard.readable(
        first
    ):  # the position is that sensor's, and of no use for the one behind it
        at = None
    sensors = _following(asked, named, first, services, guard)
    made = _Answer(asked.limit, Cost(), ANSWER_MOST_BYTES - 20_000)
    began_s = services.clock()
    while made.follow is None and (group := list(itertools.islice(sensors, AT_ONCE))):
        is_late = bool(made.results) and services.clock() - began_s > PATIENCE_S
        if made.rows_left <= 0 or is_late or len(made.results) >= QUERY_SENSORS_MOST:
            made.follow = [group[0], None]
            break
        _take_group(made, asked, group, at, services)
        at = None
    made.cost.ms = (services.clock() - began_s) * 1000
    return _written(asked, made, services)


def _following(
    asked: Asked, named: Sequence[str], first: str, services: Services, guard: Guard
) -> Iterator[str]:
    """The sensors from `first` on (empty: from the beginning): those named, in their order, or those of the prefix."""
    if named:
        if first and first not in named:
            raise BadInput("cursor: it names a sensor that is not asked for. Ask again without a cursor.")
        return iter(named[named.index(first) if first else 0 :])
    prefix: str = asked.said["prefix"]
    found = (
        sensor.sensor_id
        for sensor in readable(services.registry, guard.prefixes(), prefix, first, QUERY_SENSORS_MOST)
    )
    # A sensor is read on where the page ended, even if it is no longer registered; `readable` goes on behind it.
    return itertools.chain([first], found) if first and guard.readable(first) else found


def _take_group(
    made: _Answer, asked: Asked, group: Sequence[str], at: Position | None, services: Services
) -> None:
    """Read the sensors together, and take them in order until the answer is full."""
    from lambdas.api import answers

    sources = sources_of(services)

    def read(sensor_id: str, place: Position | None, rows: int, most_bytes: int) -> Written:
        wanted = answers.wanted_of(asked, sensor_id)
        wanted = replace(wanted, query=replace(wanted.query, limit=min(rows, asked.limit)))
        return answers.write(wanted, place, sources, services.now_s, most_bytes - answers.ENVELOPE_BYTES)

    places: list[Position | None] = [at, *[None] * (len(group) - 1)]
    rows, most_bytes = made.rows_left, made.bytes_left
    if len(group) == 1:
        pages = [read(group[0], at, rows, most_bytes)]
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            pages = list(pool.map(read, group, places, itertools.repeat(rows), itertools.repeat(most_bytes)))
    for sensor_id, place, written in zip(group, places, pages, strict=True):
        if made.rows_left <= 0 or (made.results and made.bytes_left < 2 * answers.ENVELOPE_BYTES):
            made.follow = [sensor_id, place]
            return
        fits = written
        if (
            len(written.found) > made.rows_left
            or len(written.text) > made.bytes_left - answers.ENVELOPE_BYTES
        ):
            fits = read(sensor_id, place, made.rows_left, made.bytes_left)
        _take(made, asked, sensor_id, fits, services)
        after = answers.position(fits)
        if after is not None:
            made.follow = [sensor_id, after]
            return


def _take(made: _Answer, asked: Asked, sensor_id: str, written: Written, services: Services) -> None:
    from lambdas.api import answers

    sensor = services.registry.get(sensor_id)
    told = answers.members(answers.wanted_of(asked, sensor_id), written, sensor.units if sensor else {})
    text = answers.joined(told, written.text)
    made.results.append(text)
    made.bytes_left -= len(text) if text.isascii() else len(text.encode())
    made.rows_left -= len(written.found)
    made.count += len(written.found)
    answers.charge(made.cost, written.cost)


def _written(asked: Asked, made: _Answer, services: Services) -> Response[str]:
    from lambdas.api.answers import cost_members

    follow = None if made.follow is None else asked.following(made.follow, services)
    told = {
        "count": made.count,
        "truncated": follow is not None,
        "next": follow,
        "next_url": None,
        "cost": cost_members(made.cost),
    }
    head = msgspec.json.encode(told).decode()[:-1]
    return text_answer(f'{head},"results":[{",".join(made.results)}]}}', JSON_TYPE)
