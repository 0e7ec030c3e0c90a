"""Routes about the cold tier: its segments listed, counted by day, shown and downloaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response, Router
from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from ingest import cursor
from ingest.errors import NotFound
from ingest.keys import US
from ingest.reading import EARLIEST_US, Span, is_sensor_id
from ingest.stores import Segment
from ingest.times import format_time
from lambdas.api import params, schemas
from lambdas.api.answer import json_answer
from lambdas.api.auth import Guard
from lambdas.api.limits import CURSOR_LIFE_S, LINK_LIFE_S
from lambdas.api.operation import Answer, operation
from lambdas.api.paging import page_fields
from lambdas.api.params import CURSOR, FROM, LIST_LIMIT, TO, flag, in_path, text
from lambdas.api.problems import Problem, problem
from lambdas.api.services import Services

ROUTE = "segments"
FOOTERS_MOST = 500
"""How many objects one request looks into for the bytes of a prefix; the rest is estimated from those."""
READ_AT_ONCE = 16
AHEAD_US = 2 * 86_400 * US
"""The end of the range where none is given: readings may be a day ahead of the clock."""
SENSOR = text("sensor", "Only segments that may hold this sensor.", most=128)
PREFIX = text(
    "prefix", "Only segments that may hold sensors whose ids begin with this; adds their bytes.", most=128
)
UPLOADED_FROM = text("uploaded_from", "Only segments written at this time or later.", most=64)
UPLOADED_TO = text("uploaded_to", "Only segments written before this time.", most=64)
SEGMENT_ID = in_path("segment_id", "A segment's `id`.", {"type": "string", "maxLength": 100})
REDIRECT = flag(
    "redirect", "Answer 307 with the link as `Location`, for programs that follow it by themselves."
)
_TIMES = ("from", "to", "uploaded_from", "uploaded_to")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list was asked for; times in µs."""

    from_us: int
    to_us: int
    uploaded_from_us: int | None
    uploaded_to_us: int | None
    sensor: str | None
    prefix: str | None

    def json(self) -> dict[str, Any]:
        """As a cursor carries it."""
        return {
            "from": self.from_us,
            "to": self.to_us,
            "uploaded_from": self.uploaded_from_us,
            "uploaded_to": self.uploaded_to_us,
            "sensor": self.sensor,
            "prefix": self.prefix,
        }


def routes(services: Services, guard: Guard) -> Router:
    """The routes under /v1/archive."""
    router = Router()
    _list_route(router, services, guard)
    _days_route(router, services, guard)
    _segment_routes(router, services, guard)
    return router


def _list_route(router: Router, services: Services, guard: Guard) -> None:
    @router.get("/v1/archive/segments")
    @operation(
        "listSegments",
        tag="archive",
        summary="The segments",
        text="Oldest first, of the dates of the range. `totals` counts all pages. With `prefix` (or `sensor`) the "
        "answer says how many bytes these sensors take.",
        needs="read",
        parameters=(FROM, TO, SENSOR, PREFIX, UPLOADED_FROM, UPLOADED_TO, LIST_LIMIT, CURSOR),
        answers={200: Answer("A page of them.", schemas.SEGMENT_LIST, headers={"Link": "The next page."})},
        problems=("invalid-cursor",),
        example="/v1/archive/segments?from=-30d&prefix=site1/",
    )
    def list_segments() -> Response[str]:
        event = router.current_event
        limit = LIST_LIMIT.of(event)
        asked, after = _asked(event, services)
        wanted = _wanted(asked, guard)
        found = [one for one in _segments(services, asked) if _may_hold(one, wanted)]
        ahead = [one for one in found if (one.date, one.name) > after]
        page = ahead[:limit]
        follow = None
        if len(ahead) > limit:
            expires_s = services.now_s() + CURSOR_LIFE_S
            position = [page[-1].date, page[-1].name]
            follow = cursor.seal(ROUTE, asked.json(), position, services.cursor_key(), expires_s)
        fields, headers = page_fields(event, len(page), follow)
        body = {"segments": [shown(one, guard) for one in page], **fields, "totals": _totals(found)}
        if asked.sensor is not None or asked.prefix is not None:
            body |= _prefix_bytes(services, found, wanted, whole=asked.sensor is not None)
        return json_answer(body, headers=headers)


def _days_route(router: Router, services: Services, guard: Guard) -> None:
    @router.get("/v1/archive/days")
    @operation(
        "archiveDays",
        tag="archive",
        summary="What each day's segments hold",
        text="Only days that have segments; those that may hold sensors the token may read.",
        needs="read",
        parameters=(FROM, TO, SENSOR, PREFIX),
        answers={200: Answer("The days, oldest first.", schemas.DAY_LIST)},
        example="/v1/archive/days?from=-365d",
    )
    def archive_days() -> Response[str]:
        asked = _given(router.current_event, int(services.now_s() * US))
        wanted = _wanted(asked, guard)
        found = [one for one in _segments(services, asked) if _may_hold(one, wanted)]
        by_day: dict[str, list[Segment]] = {}
        for one in found:
            by_day.setdefault(one.date, []).append(one)
        days = [{"date": date, **_totals(held)} for date, held in sorted(by_day.items())]
        return json_answer({"days": days, "count": len(days), "totals": _totals(found)})


def _segment_routes(router: Router, services: Services, guard: Guard) -> None:
    @router.get("/v1/archive/segments/<segment_id>")
    @operation(
        "showSegment",
        tag="archive",
        summary="One segment",
        needs="read",
        parameters=(SEGMENT_ID,),
        answers={200: Answer("What the catalog knows of it.", schemas.ref("Segment"))},
        problems=("unknown-segment",),
        example="/v1/archive/segments/2013-12-02.abcdef",
    )
    def show_segment(segment_id: str) -> Response[str]:
        prefixes = guard.prefixes()
        found = _segment(services, segment_id)
        if not _may_hold(found, prefixes):
            raise _unknown(segment_id)
        return json_answer(shown(found, guard))

    @router.get("/v1/archive/segments/<segment_id>/download")
    @operation(
        "downloadSegment",
        tag="archive",
        summary="A link to a segment's object",
        text="A segment holds many sensors, so this needs a scope that covers all of them: `read:` or `admin`.",
        needs="read",
        parameters=(SEGMENT_ID, REDIRECT),
        answers={
            200: Answer(f"A link that can be used for {LINK_LIFE_S // 60} min.", schemas.LINK),
            307: Answer("With `redirect`: the link.", headers={"Location": "The link."}),
        },
        problems=("unknown-segment",),
        example="/v1/archive/segments/2013-12-02.abcdef/download",
    )
    def download_segment(segment_id: str) -> Response[str]:
        guard.read_all()
        redirect = REDIRECT.of(router.current_event)
        found = _segment(services, segment_id)
        try:
            services.cold.head(found.name)
        except NotFound as error:
            raise _unknown(segment_id) from error
        url = services.presign(found.name, LINK_LIFE_S)
        expires_us = int((services.now_s() + LINK_LIFE_S) * US)
        body = {
            "url": url,
            "expires": format_time(expires_us),
            "size_bytes": found.size_bytes,
            "sha256": found.sha256,
        }
        return json_answer(body, 307, {"Location": url}) if redirect else json_answer(body)


# --- what is asked for -----------------------------------------------------------------------


def _given(event: BaseProxyEvent, now_us: int) -> Asked:
    found = {
        parameter.name: params.instant(event, parameter, now_us)
        for parameter in (FROM, TO, UPLOADED_FROM, UPLOADED_TO)
    }
    sensor, prefix = SENSOR.of(event), PREFIX.of(event)
    if sensor is not None and prefix is not None:
        raise problem("invalid-parameter", "prefix: sensor is given, too; give one of them.", "prefix")
    if sensor is not None and not is_sensor_id(sensor):
        raise problem("invalid-parameter", "sensor: cannot name a sensor.", "sensor")
    from_us, to_us = found["from"], found["to"]
    params.check_order(from_us, to_us)
    params.check_order(found["uploaded_from"], found["uploaded_to"], "uploaded_from", "uploaded_to")
    return Asked(
        max(EARLIEST_US, EARLIEST_US if from_us is None else from_us),
        min(now_us + AHEAD_US, now_us + AHEAD_US if to_us is None else to_us),
        found["uploaded_from"],
        found["uploaded_to"],
        sensor,
        prefix,
    )


def _asked(event: BaseProxyEvent, services: Services) -> tuple[Asked, tuple[str, str]]:
    """What the list is to hold, and the date and name behind which it begins."""
    given = _given(event, int(services.now_s() * US))
    sealed = CURSOR.of(event)
    if sealed is None:
        return given, ("", "")
    stated = {
        parameter.name: given.json()[parameter.name]
        for parameter in (FROM, TO, UPLOADED_FROM, UPLOADED_TO, SENSOR, PREFIX)
        if parameter.given(event)
    }
    opened = cursor.unseal(sealed, ROUTE, stated, services.cursor_key(), services.now_s())
    held = {name if name not in _TIMES else f"{name}_us": value for name, value in opened.asked.items()}
    return Asked(**held), (str(opened.at[0]), str(opened.at[1]))


def _wanted(asked: Asked, guard: Guard) -> tuple[str, ...]:
    """What the ids begin with of the sensors that are asked for and may be read."""
    if asked.sensor is not None:
        guard.read(asked.sensor)
        return (asked.sensor,)
    prefixes = guard.prefixes()
    if asked.prefix:
        met = [one for one in prefixes if one.startswith(asked.prefix) or asked.prefix.startswith(one)]
        return tuple(max(one, asked.prefix, key=len) for one in met)
    return prefixes


def _segments(services: Services, asked: Asked) -> list[Segment]:
    """The catalogued segments of the range, without what is past its retention, by date and name."""
    now_s = services.now_s()
    oldest_s = now_s - services.layout().at(now_s).cold_retention_s
    from_us, to_us = asked.uploaded_from_us, asked.uploaded_to_us
    found = services.catalog.find(Span(asked.from_us, asked.to_us), asked.sensor)
    return [
        one
        for one in found
        if one.written_s > oldest_s
        and (from_us is None or one.written_s * US >= from_us)
        and (to_us is None or one.written_s * US < to_us)
    ]


def _may_hold(segment: Segment, prefixes: Iterable[str]) -> bool:
    """Whether the segment may hold a sensor whose id begins with one of the prefixes."""
    low, high = segment.first_sensor, segment.last_sensor
    return any(high >= prefix and (low <= prefix or low.startswith(prefix)) for prefix in prefixes)


def _segment(services: Services, segment_id: str) -> Segment:
    date, dot, digest = segment_id.partition(".")
    plain = date.replace("-", "").isascii() and date.replace("-", "").isdigit() and len(date) == 10
    found = services.catalog.look_up(date, digest) if dot and plain and digest.isalnum() else None
    if not isinstance(found, Segment):
        raise _unknown(segment_id)
    return found


def _unknown(segment_id: str) -> Problem:
    return problem(
        "unknown-segment",
        f"There is no segment {segment_id[:100]!r}; it may have been compacted. List the segments again.",
    )


# --- what is answered ------------------------------------------------------------------------


def shown(segment: Segment, guard: Guard) -> dict[str, Any]:
    """A segment as an answer shows it; names of sensors only where the caller may read both."""
    ends: list[str | None] = [segment.first_sensor, segment.last_sensor]
    if not (guard.readable(segment.first_sensor) and guard.readable(segment.last_sensor)):
        ends = [None, None]
    return {
        "id": f"{segment.date}.{segment.digest}",
        "name": segment.name,
        "date": segment.date,
        "size_bytes": segment.size_bytes,
        "rows": segment.rows,
        "from": format_time(segment.first_us),
        "to": format_time(segment.last_us),
        "first_sensor": ends[0],
        "last_sensor": ends[1],
        "uploaded": format_time(segment.written_s * US),
        "sha256": segment.sha256,
    }


def _totals(segments: Sequence[Segment]) -> dict[str, int]:
    return {
        "segments": len(segments),
        "size_bytes": sum(one.size_bytes for one in segments),
        "rows": sum(one.rows for one in segments),
    }


def _prefix_bytes(
    services: Services, segments: Sequence[Segment], prefixes: Sequence[str], *, whole: bool
) -> dict[str, Any]:
    """The bytes that the sensors of the prefixes (with `whole`: of these ids) take in the segments.

    Beyond FOOTERS_MOST objects the rest is taken to hold as large a part of them as those do.
    """
    from ingest.segment_prefix import Share, share  # loads what reads segments

    looked_at, rest = segments[:FOOTERS_MOST], segments[FOOTERS_MOST:]

    def read(one: Segment) -> Share:
        try:
            return share(
                lambda start, end: services.cold.read(one.name, start, end),
                one.size_bytes,
                one.footer_bytes,
                prefixes,
                whole=whole,
            )
        except NotFound:  # compacted since it was listed: its rows are in another one
            return Share(estimated=True)

    if not looked_at:
        return {"prefix_bytes": 0, "estimated": False}
    with ThreadPoolExecutor(min(READ_AT_ONCE, len(looked_at))) as pool:
        shares = list(pool.map(read, looked_at))
    size_bytes = sum(one.size_bytes for one in shares)
    if rest:
        everything = sum(one.size_bytes for one in looked_at)
        size_bytes += size_bytes * sum(one.size_bytes for one in rest) // max(everything, 1)
    return {"prefix_bytes": size_bytes, "estimated": bool(rest) or any(one.estimated for one in shares)}
