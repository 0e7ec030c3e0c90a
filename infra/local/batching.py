"""The rules by which records become batches and failed batches become retries; pure, no clocks, no calls."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

MOST_PAYLOAD_BYTES = 6 * 1024 * 1024
"""The largest event of a synchronous invocation ("Lambda quotas", "Invocation payload")."""
_OPEN, _COMMA, _CLOSE = b'{"Records":[', b",", b"]}"
_ENVELOPE_BYTES = len(_OPEN) + len(_CLOSE)


@dataclass(frozen=True, slots=True)
class Record:
    """One stream record: `body` is its JSON inside a Lambda event, `order_key` what must stay in order
    (the partition key, or the item's key), `arrived_s` when the stream took it (epoch seconds)."""

    sequence: str
    order_key: str
    arrived_s: float
    body: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """What an event source mapping says of batches. None for retries or age means without limit.

    Source: "Lambda parameters for Amazon Kinesis Data Streams event source mappings".
    """

    batch_size: int = 100
    window_s: float = 0.0
    most_retries: int | None = None
    most_age_s: float | None = None
    bisect: bool = False
    report_failures: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """Records to be invoked together, the retries they have used, and how often they were sent."""

    records: tuple[Record, ...]
    retries: int = 0
    invocations: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from one invocation: records that are done, records to give up, work to do next
    (in this order), and whether to wait before it."""

    done: tuple[Record, ...] = ()
    given_up: tuple[Record, ...] = ()
    again: tuple[Work, ...] = ()
    wait: bool = False


def lane_of(order_key: str, lanes: int) -> int:
    """Which of a shard's concurrent lanes a key belongs to; the same key always the same lane.

    ParallelizationFactor keeps order per partition key (or item key), not per shard.
    """
    if lanes == 1:
        return 0
    digest = hashlib.blake2b(order_key.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % lanes


def event_body(records: Iterable[Record]) -> bytes:
    """The JSON of the Lambda event that carries the records."""
    return _OPEN + _COMMA.join(record.body for record in records) + _CLOSE


def fitting(records: Iterable[Record], batch_size: int) -> int:
    """How many of the records, from the first on, one batch holds: batch size and 6 MB both kept.

    At least one where there is one: a single record is always sent.
    """
    count = 0
    size_bytes = _ENVELOPE_BYTES
    for record in records:
        size_bytes += len(record.body) + (1 if count else 0)
        if count and (count >= batch_size or size_bytes > MOST_PAYLOAD_BYTES):
            break
        count += 1
    return count


def seconds_to_close(count: int, size_bytes: int, waited_s: float, rules: Rules) -> float:
    """How long an open batch may still gather; 0 where it must be sent now.

    A batch closes at the batch size, at 6 MB, or when its first record has waited for the
    window, whichever is first ("Batching behavior"). `size_bytes` counts the records' bodies.
    """
    if count >= rules.batch_size or size_bytes + count + _ENVELOPE_BYTES > MOST_PAYLOAD_BYTES:
        return 0.0
    return max(0.0, rules.window_s - waited_s)


def first_failure(records: Sequence[Record], payload: bytes, rules: Rules) -> int:
    """Index of the first record that failed, judged by what the function returned; the number of
    records where none did.

    Source: "Configuring partial batch response with Kinesis Data Streams and Lambda": an
    empty or null answer, or an empty or null list, is success; an empty, null, misnamed or
    unknown identifier fails the whole batch; else the lowest reported number is the checkpoint.
    """
    if not rules.report_failures:
        return len(records)
    try:
        answer: Any = json.loads(payload) if payload else None
    except ValueError:
        return 0
    if answer is None or answer == "":
        return len(records)
    if not isinstance(answer, dict):
        return 0
    failures: Any = cast(dict[str, Any], answer).get("batchItemFailures")
    if failures is None:
        return len(records)
    if not isinstance(failures, list):
        return 0
    places = {record.sequence: place for place, record in enumerate(records)}
    first = len(records)
    for failure in cast(list[Any], failures):
        named: Any = None
        if isinstance(failure, dict):
            named = cast(dict[str, Any], failure).get("itemIdentifier")
        place = places.get(named) if isinstance(named, str) else None
        if place is None:
            return 0
        first = min(first, place)
    return first


def after_success(work: Work) -> Verdict:
    """What follows where every record of the work is done."""
    return Verdict(done=work.records)


def after_failure(work: Work, failed_at: int, rules: Rules) -> Verdict:
    """What follows where the records from index `failed_at` on failed.

    Where some succeeded, only the rest is sent again; with bisect on, that counts as a
    split. Where none did and bisect is on, the batch is halved. Splitting uses no retry
    ("Retain discarded batch records for a Kinesis Data Streams event source").
    """
    done, rest = work.records[:failed_at], work.records[failed_at:]
    sent = work.invocations + 1
    if rules.bisect and failed_at:
        return Verdict(done, again=(Work(rest, work.retries, sent),))
    if rules.bisect and len(rest) > 1:
        half = (len(rest) + 1) // 2
        halves = (Work(rest[:half], work.retries, sent), Work(rest[half:], work.retries, sent))
        return Verdict(again=halves)
    if rules.most_retries is not None and work.retries >= rules.most_retries:
        return Verdict(done, given_up=rest)
    return Verdict(done, again=(Work(rest, work.retries + 1, sent),), wait=True)


def expired(records: Sequence[Record], now_s: float, most_age_s: float | None) -> int:
    """How many records, from the first on, are older than the mapping allows."""
    if most_age_s is None:
        return 0
    count = 0
    for record in records:
        if now_s - record.arrived_s <= most_age_s:
            break
        count += 1
    return count


def backoff_s(failures: int, first_s: float, most_s: float) -> float:
    """How long to wait after that many failures in a row: doubling from `first_s`, at most `most_s`."""
    return min(most_s, first_s * 2 ** min(max(failures - 1, 0), 30))
