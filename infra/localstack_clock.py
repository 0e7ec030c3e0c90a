"""Expiry on LocalStack: its own endpoint, asked on a period, checked by looking, and made up for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from infra import localstack
from infra.deploy import Outputs
from infra.local.counters import Counters
from infra.local.faults import SERVICE_FAULTS
from infra.local.invoker import Invoker
from infra.local.sweep import ExpiringTable
from infra.local.ttl_clock import ClockOptions, TtlClock
from infra.localstack import Expiry
from ingest import keys
from ingest.errors import ThermoclineError
from ingest.keys import Layout
from ingest.stores import HotStore

OVERDUE_S = 30.0
"""How long a slot's manifests may stay after its ticket is gone: a first invocation pulls an image."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What one turn found and did.

    `due`: tickets that were past their time. `by_endpoint` and `left`: how many of them were
    gone after the endpoint was asked, and how many were not and got the conditional delete.
    `asked` False: the endpoint was left alone, since it would have deleted what is not archived yet.
    """

    due: int = 0
    by_endpoint: int = 0
    left: int = 0
    asked: bool = True
    reason: str = ""


class LocalStackClock:
    """Lets tickets expire when their slot is due, and chunks when they are past their time.

    The endpoint deletes whatever is past its `ttl`, chunks too, whether archived or not. So it
    is asked only while every slot that is due has at least half of the margin left until
    its chunks expire. `ttl` does the rest: conditional deletes of tickets that stayed, a
    sweep that spares chunks until they are catalogued, and the schedule for overdue slots.
    """

    def __init__(
        self,
        hot: HotStore,
        table: ExpiringTable,
        ttl: TtlClock,
        expire_now: Callable[[], Expiry],
        now: Callable[[], float],
    ) -> None:
        self._hot = hot
        self._table = table
        self._ttl = ttl
        self._expire_now = expire_now
        self._now = now

    def tick(self) -> Tick:
        """One turn. Raises what the services raise."""
        now_s = self._now()
        slots = self._hot.open_slots(int(now_s))
        due = self._table.present([keys.ticket_key(slot_s) for slot_s in slots])
        if not self._is_safe(slots, now_s):
            self._ttl.tick()
            return Tick(len(due), left=len(due), asked=False, reason="what is due is not archived yet")
        told = self._expire_now()
        left = self._table.present(list(due)) if due else due
        self._ttl.tick()
        return Tick(len(due), len(due) - len(left), len(left), told.answered, told.reason)

    def run(self, every_s: float, wait: Callable[[float], bool], log: Callable[[str], None]) -> None:
        """Tick every `every_s` seconds until `wait` says that it is enough; a turn that failed is told of."""
        before = ""
        while True:
            try:
                tick = self.tick()
                text = _told(tick)
            except (*SERVICE_FAULTS, ThermoclineError) as error:
                text = f"A turn was missed: {error}"
                tick = Tick(due=1)
            if text != before and (tick.due or tick.reason):
                log(text)
            before = text
            if wait(every_s):
                return

    def stop(self) -> None:
        """Stop; an archiver that was asked goes on by itself."""
        self._ttl.stop()

    def _is_safe(self, slots: list[int], now_s: float) -> bool:
        late = [slot_s for slot_s in slots if slot_s <= now_s - _half_margin_s(self._hot.load_layout())]
        return not any(page for slot_s in late for page in self._hot.manifests(slot_s))


def make(
    outputs: Outputs,
    hot: HotStore,
    endpoint_url: str,
    now: Callable[[], float],
    region: str = localstack.REGION,
) -> LocalStackClock:
    """The clock of a deployment on LocalStack."""
    dynamodb = localstack.client("dynamodb", endpoint_url, region)
    patient: dict[str, Any] = {
        "retries": {"total_max_attempts": 1},
        "read_timeout": localstack.FUNCTION_LIMIT_S + 60,
    }
    invoker = Invoker(localstack.client("lambda", endpoint_url, region, **patient), Counters())
    ttl = TtlClock(
        hot,
        dynamodb,
        outputs.table,
        lambda event: invoker.invoke(outputs.archive_expired, event),
        drain=lambda: None,
        idle=lambda: True,
        options=ClockOptions(grace_s=localstack.FUNCTION_LIMIT_S, overdue_s=OVERDUE_S),
        clock=now,
    )
    table = ExpiringTable(dynamodb, outputs.table)
    return LocalStackClock(hot, table, ttl, lambda: localstack.expire_now(endpoint_url), now)


def _half_margin_s(layout: Layout | None) -> float:
    """Half of the least time that was ever in force between a slot and the expiry of its chunks."""
    return 0.0 if layout is None else min(period.margin_s for period in layout.periods) / 2


def _told(tick: Tick) -> str:
    if not tick.due:
        return "" if tick.asked else f"The expiry endpoint was not used: {tick.reason}."
    if tick.asked and not tick.left:
        return f"{tick.due} tickets expired."
    why = tick.reason or "it answered and left them"
    return f"{tick.due} tickets expired, {tick.left} of them deleted by the clock itself ({why})."
