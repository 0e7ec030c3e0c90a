"""The use case of `rejects retry`: what was refused or given up goes through the batch door again, and leaves
the list once it is stored."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from ingest.errors import Refused, ThermoclineError
from ingest.failed_batch import FailedBatch
from ingest.kinesis_records import records
from ingest.reject import Reject
from ingest.retry_event import SOURCE, Payload, Told, mark, payloads_of, place_of
from ingest.stores import RejectStore

GIVEN_UP = "batch_given_up"
"""Stands for a reason where a whole batch was given up by the stream's event source mapping."""
GIVEN_UP_MEANING = (
    "The function kept failing on this batch until Lambda gave it up: what it holds may be in no query. "
    "Mend the cause, then retry it."
)
MOST_EVENT_BYTES = 4_000_000
"""What an event of rejects may weigh; a synchronous invocation takes and answers 6 MB ("Lambda quotas"). A single
payload that is larger goes alone: it came in an event of at most 6 MB."""
MOST_REPLAYED_BYTES = 6_000_000
"""A batch that was given up and weighs more is sent in halves."""
MOST_PAYLOADS = 200
"""How many payloads an event may carry, so that the answer stays below 6 MB whatever is wrong with them."""
_NOTHING_STORED = "The function stored none of it. Look at the log of store_readings, then try again."

Invoke = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Has the batch door work on an event; what it answers. Raises ThermoclineError where the door failed on the
event, with `retry` set (Unavailable) where it would fail on any."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one reject, or of one batch that was given up.

    `stored`: it has left the list. `still rejected`: it is as it was, and `why` names what is wrong
    with its payload now. `failed`: nothing is known of it, for the reason that `why` gives.
    """

    of: Reject | FailedBatch
    result: Literal["stored", "still rejected", "failed"]
    why: str = ""


# --- rejects through the door -----------------------------------------------------------


def check_door(invoke: Invoke) -> None:
    """Raise Refused where the door does not know retries: it would keep the rejects a second time.

    Also raises what `invoke` raises where the door cannot be reached at all.
    """
    if not isinstance(invoke({"source": SOURCE, "Records": []}).get("retried"), Mapping):
        raise Refused("The deployed store_readings is older than `rejects retry`. Deploy this release first.")


def retry(
    kept: Iterable[Sequence[Reject]],
    *,
    store: RejectStore,
    invoke: Invoke,
    at_ms: int,
    wanted: Callable[[Reject], bool] = lambda _: True,
) -> Iterator[Outcome]:
    """Put the payloads of rejects through the door again; take off the list what is stored.

    `kept` are the listed rejects of one object after another (`RejectStore.kept`). A payload is
    sent where one of its rejects is `wanted`; each of those has an outcome, and others of the same
    payload where they have left the list too. `at_ms` is the time of the attempt (epoch ms).

    The door stores, then answers, then the list is changed: whatever fails in between is done
    again by the next attempt, and changes no answer. Once the door says that it would fail on
    anything, the rest is not tried. Raises Unavailable where the list cannot be changed.
    """
    stopped: list[ThermoclineError] = []
    for payloads in _events(kept, wanted):
        for answered in _told(payloads, invoke, at_ms, stopped):
            yield from _settled(answered, store, at_ms, wanted)


def _events(kept: Iterable[Sequence[Reject]], wanted: Callable[[Reject], bool]) -> Iterator[list[Payload]]:
    """The payloads as they fit into events."""
    event: list[Payload] = []
    names: set[str] = set()
    size_bytes = 0
    for rejects in kept:
        for payload in payloads_of(rejects):
            if not any(map(wanted, payload.rejects)):
                continue
            full = len(event) >= MOST_PAYLOADS or size_bytes + payload.size_bytes > MOST_EVENT_BYTES
            if event and (full or payload.sequence in names):
                yield event
                event, size_bytes = [], 0
                names.clear()
            event.append(payload)
            names.add(payload.sequence)
            size_bytes += payload.size_bytes
    if event:
        yield event


_Answered = list[tuple[Payload, Told | ThermoclineError]]


def _told(
    payloads: list[Payload], invoke: Invoke, at_ms: int, stopped: list[ThermoclineError]
) -> Iterator[_Answered]:
    """What the door says of each payload, invocation by invocation: an event it fails on is halved."""
    waiting = deque([payloads])
    while waiting:
        group = waiting.popleft()
        try:
            if stopped:
                raise stopped[0]
            answer = invoke({"source": SOURCE, "Records": [payload.record(at_ms) for payload in group]})
            told = cast(Mapping[str, Told], answer.get("retried") or {})
            left = [payload for payload in group if payload.sequence not in told]
            if len(left) == len(group):
                raise ThermoclineError(_NOTHING_STORED)
        except ThermoclineError as error:
            if error.retry and not stopped:
                stopped.append(error)
            if error.retry or len(group) == 1:
                yield [(payload, error) for payload in group]
            else:
                half = len(group) // 2
                waiting.extendleft([group[half:], group[:half]])
            continue
        yield [(payload, told[payload.sequence]) for payload in group if payload.sequence in told]
        if left:
            waiting.appendleft(left)


def _settled(
    answered: _Answered, store: RejectStore, at_ms: int, wanted: Callable[[Reject], bool]
) -> Iterator[Outcome]:
    """The outcomes of one invocation, given when the list is changed."""
    outcomes: list[Outcome] = []
    for payload, told in answered:
        if isinstance(told, ThermoclineError):
            outcomes.extend(Outcome(reject, "failed", str(told)) for reject in payload.rejects)
        else:
            outcomes.extend(outcomes_of(payload.rejects, told))
    stored = [one.of for one in outcomes if one.result == "stored" and isinstance(one.of, Reject)]
    if stored:
        store.mark_stored(stored, at_ms)
    for one in outcomes:
        if one.result == "stored" or (isinstance(one.of, Reject) and wanted(one.of)):
            yield one


_LINE = re.compile(r"line \d+(, )?")


def outcomes_of(rejects: Sequence[Reject], told: Told) -> list[Outcome]:
    """Which of the rejects that share a payload are stored, by what is wrong with the payload now.

    A reject stays while its payload has a problem of its reason at its part (anywhere, where it
    stands for the whole payload). All of them stay while there is a problem that no listed reject
    stands for, or stands for fewer values: otherwise what is refused for another reason now would
    be neither stored nor listed.
    """
    unlisted = {(reason, part) for reason, parts in told.items() for part in parts}
    staying: set[str] = set()
    for reject in rejects:
        now = told.get(reject.reason, {})
        part = place_of(reject)[1]
        alone = _LINE.sub("", part, count=1)  # a line that is kept alone has no number when it comes back
        same = [one for one in {mark(part), mark(alone)} if one in now] if part else list(now)
        if same:
            staying.add(reject.id)
        if sum(now[one] for one in same) <= reject.count:
            unlisted.difference_update((reject.reason, one) for one in same)
    reasons = ", ".join(sorted({reason for reason, _ in unlisted}))
    return [
        Outcome(reject, "still rejected", reject.reason if reject.id in staying else reasons)
        if reject.id in staying or unlisted
        else Outcome(reject, "stored")
        for reject in rejects
    ]


# --- batches given up -------------------------------------------------------------------


def replay(batches: Iterable[FailedBatch], *, store: RejectStore, invoke: Invoke) -> Iterator[Outcome]:
    """Have the door work on batches that were given up, and delete those that are stored whole.

    An event is invoked as it was, so that the same items are written again, and regrouped only
    where that fails. What it refuses is kept as for any batch. Raises Unavailable where a batch that
    is stored cannot be deleted; it is then stored again by the next attempt, which changes no answer.
    """
    stopped: ThermoclineError | None = None
    for batch in batches:
        error = stopped
        if batch.problem:
            error = ThermoclineError(f"The object {batch.name} cannot be used: {batch.problem}.")
        elif error is None:
            error = _replayed(batch, invoke)
            stopped = error if error is not None and error.retry else None
        if error is None:
            store.forget(batch)
        yield Outcome(batch, "stored") if error is None else Outcome(batch, "failed", str(error))


def _replayed(batch: FailedBatch, invoke: Invoke) -> ThermoclineError | None:
    """What kept a part of the batch from being stored; None where all of it is."""
    failed: list[ThermoclineError] = []
    waiting: deque[list[Any]] = deque([batch.event["Records"]])
    while waiting:
        group = waiting.popleft()
        event = {**batch.event, "Records": group}
        halves = [group[len(group) // 2 :], group[: len(group) // 2]] if len(group) > 1 else []
        if halves and batch.size_bytes > MOST_EVENT_BYTES and len(json.dumps(event)) > MOST_REPLAYED_BYTES:
            waiting.extendleft(halves)
            continue
        try:
            left = _first_failed(group, invoke(event))
            if left == 0:
                raise ThermoclineError(_NOTHING_STORED)
        except ThermoclineError as error:
            if error.retry:
                return error
            waiting.extendleft(halves)
            if not halves:
                failed.append(error)
            continue
        if left < len(group):
            waiting.appendleft(group[left:])
    return failed[0] if failed else None


def _first_failed(group: Sequence[Any], answer: Mapping[str, Any]) -> int:
    """Position of the first record that the partial batch response names; the length where it names none."""
    named = [str(one["itemIdentifier"]) for one in answer.get("batchItemFailures") or ()]
    sequences = [record.sequence for record in records({"Records": list(group)})]
    return min((sequences.index(one) if one in sequences else 0 for one in named), default=len(group))
