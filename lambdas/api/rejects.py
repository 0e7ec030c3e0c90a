"""Routes about what was refused: rejects with their reasons, and batches that were given up."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from aws_lambda_powertools.event_handler.api_gateway import Response, Router
from aws_lambda_powertools.utilities.data_classes.common import BaseProxyEvent

from ingest import cursor, keys
from ingest.errors import NotFound
from ingest.failed_batch import FailedBatch
from ingest.keys import US
from ingest.reading import EARLIEST_US
from ingest.reject import REASONS, Reject
from ingest.times import format_time
from lambdas.api import params, schemas
from lambdas.api.answer import json_answer
from lambdas.api.auth import Guard
from lambdas.api.limits import CURSOR_LIFE_S
from lambdas.api.operation import Answer, operation
from lambdas.api.paging import page_fields
from lambdas.api.params import CURSOR, FROM, LIST_LIMIT, TO, choice, in_path, text
from lambdas.api.problems import Problem, problem
from lambdas.api.services import Services

ROUTE = "rejects"
GIVEN_UP = "batch_given_up"
DAYS_MOST = 400
"""The longest range of one list, days: each costs a look into the bucket."""
DAYS_DEFAULT = 30
LATEST_MS = 253_402_300_799_999
PAYLOAD_MOST_BYTES = 2_000_000
"""A longer payload is not shown; `thermocline rejects show` has it."""
REASON = text("reason", f"Only this reason code, or {GIVEN_UP}.", most=64)
ORDER = choice("order", "By arrival: the newest first (`desc`) or the oldest.", ("desc", "asc"), "desc")
REJECT_ID = in_path("reject_id", "A reject's `id`.", {"type": "string", "maxLength": 64})
NEXT_STEP = "Look at the function's log, then store it again: `thermocline rejects retry`."


@dataclass(frozen=True, slots=True)
class Asked:
    """What a list was asked for; dates include both ends."""

    first: str
    last: str
    reason: str | None
    order: str

    def json(self) -> dict[str, Any]:
        """As a cursor carries it."""
        return {"from": self.first, "to": self.last, "reason": self.reason, "order": self.order}


def routes(services: Services, guard: Guard) -> Router:
    """The routes under /v1/rejects."""
    router = Router()

    @router.get("/v1/rejects")
    @operation(
        "listRejects",
        tag="rejects",
        summary="What was refused",
        text="By the date of arrival (both ends included), without what was stored again since. Rejects that name a "
        "sensor are shown to tokens that may read it, all others to `admin` only.",
        needs="read",
        parameters=(FROM, TO, REASON, ORDER, LIST_LIMIT, CURSOR),
        answers={200: Answer("A page of them.", schemas.REJECT_LIST, headers={"Link": "The next page."})},
        problems=("invalid-cursor", "range-too-long"),
        example="/v1/rejects?from=-7d",
    )
    def list_rejects() -> Response[str]:
        event = router.current_event
        guard.prefixes()
        limit = LIST_LIMIT.of(event)
        asked, after = _asked(event, services)
        page, more = _page(services, guard, asked, after, limit)
        follow = None
        if more:
            expires_s = services.now_s() + CURSOR_LIFE_S
            follow = cursor.seal(ROUTE, asked.json(), list(page[-1][0]), services.cursor_key(), expires_s)
        fields, headers = page_fields(event, len(page), follow)
        return json_answer({"rejects": [entry for _, entry in page], **fields}, headers=headers)

    @router.get("/v1/rejects/<reject_id>")
    @operation(
        "showReject",
        tag="rejects",
        summary="One reject",
        text="With its bytes for `admin`: they may hold what other sensors sent.",
        needs="read",
        parameters=(REJECT_ID,),
        answers={200: Answer("The reject.", schemas.REJECT)},
        problems=("unknown-reject",),
        example="/v1/rejects/abcdefghijklmnopqrstuvwx",
    )
    def show_reject(reject_id: str) -> Response[str]:
        guard.prefixes()
        admin = guard.is_admin()
        try:
            found = services.rejects.get(reject_id) if _may_name(reject_id) else None
        except NotFound:
            found = services.rejects.failed_batch(reject_id) if admin else None
        if found is None or not (admin or _visible(found, guard)):
            raise _unknown(reject_id)
        body = _shown(found) | {"next_step": REASONS.get(_reason(found), NEXT_STEP)}
        if admin and isinstance(found, Reject) and len(found.payload) <= PAYLOAD_MOST_BYTES:
            body |= _payload(found.payload)
        return json_answer(body)

    return router


def _may_name(reject_id: str) -> bool:
    return len(reject_id) == 24 and reject_id.isascii() and reject_id.isalnum()


def _unknown(reject_id: str) -> Problem:
    return problem(
        "unknown-reject", f"There is no reject {reject_id[:64]!r}. GET /v1/rejects lists those that are kept."
    )


def _payload(payload: bytes) -> dict[str, Any]:
    try:
        as_text = payload.decode()
    except UnicodeDecodeError:
        as_text = None
    return {"payload_base64": base64.b64encode(payload).decode(), "payload_text": as_text}


# --- what is asked for -----------------------------------------------------------------------


def _asked(event: BaseProxyEvent, services: Services) -> tuple[Asked, tuple[str, int, str] | None]:
    """What the list is to hold, and the place behind which it begins."""
    now_us = int(services.now_s() * US)
    from_us, to_us = params.instant(event, FROM, now_us), params.instant(event, TO, now_us)
    params.check_order(from_us, to_us)
    last_us = now_us + 86_400 * US if to_us is None else min(to_us, now_us + 2 * 86_400 * US)
    first_us = last_us - DAYS_DEFAULT * 86_400 * US if from_us is None else max(from_us, EARLIEST_US)
    asked = Asked(_date(first_us), _date(last_us), REASON.of(event), ORDER.of(event))
    sealed = CURSOR.of(event)
    if sealed is not None:
        stated = {
            parameter.name: asked.json()[parameter.name]
            for parameter in (FROM, TO, REASON, ORDER)
            if parameter.given(event)
        }
        opened = cursor.unseal(sealed, ROUTE, stated, services.cursor_key(), services.now_s())
        held = opened.asked
        after = (str(opened.at[0]), int(opened.at[1]), str(opened.at[2]))
        return Asked(held["from"], held["to"], held["reason"], held["order"]), after
    days = (date.fromisoformat(asked.last) - date.fromisoformat(asked.first)).days + 1
    if days > DAYS_MOST:
        raise problem(
            "range-too-long",
            f"from: {days} days are too many; ask for at most {DAYS_MOST}.",
            "from",
            most_days=DAYS_MOST,
        )
    return asked, None


def _date(ts_us: int) -> str:
    return keys.date_of(min(max(ts_us, 0), LATEST_MS * 1000))


def _days(asked: Asked) -> Iterator[str]:
    first, last = date.fromisoformat(asked.first), date.fromisoformat(asked.last)
    days = [(first + timedelta(days=place)).isoformat() for place in range((last - first).days + 1)]
    return iter(days if asked.order == "asc" else reversed(days))


# --- what is answered ------------------------------------------------------------------------


Placed = tuple[tuple[str, int, str], dict[str, Any]]
"""An entry with its place: date, arrival (ms) and id."""


def _page(
    services: Services, guard: Guard, asked: Asked, after: tuple[str, int, str] | None, limit: int
) -> tuple[list[Placed], bool]:
    """A page, and whether there is more."""
    page: list[Placed] = []
    down = asked.order == "desc"
    given_up = _given_up(services, asked) if guard.is_admin() else {}
    for day in _days(asked):
        if after is not None and (day > after[0] if down else day < after[0]):
            continue
        placed = sorted(_of_day(services, guard, asked, day, given_up.get(day, ())), key=_place, reverse=down)
        for one in placed:
            if after is not None and (one[0] >= after if down else one[0] <= after):
                continue
            if len(page) == limit:
                return page, True
            page.append(one)
    return page, False


def _place(one: Placed) -> tuple[str, int, str]:
    return one[0]


def _of_day(
    services: Services, guard: Guard, asked: Asked, day: str, given_up: Iterable[FailedBatch]
) -> Iterator[Placed]:
    admin = guard.is_admin()
    for batch in given_up:
        yield (day, batch.arrival_ms, batch.id), _shown(batch)
    if asked.reason == GIVEN_UP:
        return
    for rejects in services.rejects.kept(day, day):
        for one in rejects:
            if asked.reason in (None, one.reason) and (admin or _visible(one, guard)):
                yield (day, one.arrival_ms, one.id), _shown(one)


def _given_up(services: Services, asked: Asked) -> dict[str, list[FailedBatch]]:
    """Batches that were given up, by date; one whose object does not tell it is found under its arrival's."""
    found: dict[str, list[FailedBatch]] = {}
    if asked.reason in (None, GIVEN_UP):
        for batch in services.rejects.failed_batches(asked.first, asked.last):
            found.setdefault(batch.date or _date(batch.arrival_ms * 1000), []).append(batch)
    return found


def _visible(one: Reject | FailedBatch, guard: Guard) -> bool:
    return isinstance(one, Reject) and one.sensor_id is not None and guard.readable(one.sensor_id)


def _reason(one: Reject | FailedBatch) -> str:
    return one.reason if isinstance(one, Reject) else GIVEN_UP


def _shown(one: Reject | FailedBatch) -> dict[str, Any]:
    arrived = format_time(min(max(one.arrival_ms, 0), LATEST_MS) * 1000)
    entry: dict[str, Any] = {"id": one.id, "reason": _reason(one)}
    if isinstance(one, Reject):
        entry |= {"detail": one.detail, "sensor_id": one.sensor_id, "count": one.count, "arrived": arrived}
        return entry | {"sha256": one.sha256, "size_bytes": len(one.payload)}
    said = f"given up on {one.date or 'an unknown date'}: {one.condition or 'no reason was given'}"
    detail = f"it cannot be used: {one.problem}" if one.problem else said
    entry |= {"detail": detail, "sensor_id": None, "count": one.count, "arrived": arrived}
    return entry | {"sha256": "", "size_bytes": one.size_bytes}
