"""Rejects and batches given up, in a cold store: by date, by id, and which rejects were stored again."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import date, timedelta
from typing import TypeVar

from ingest import keys
from ingest.errors import BadInput, Corrupt, NotFound
from ingest.failed_batch import FailedBatch, decode_failed_batch
from ingest.reject import (
    Reject,
    StoredAgain,
    decode_rejects,
    decode_stored_again,
    encode_rejects,
    encode_stored_again,
)
from ingest.stores import ColdStore

_LATEST_MS = 253_402_300_799_999
"""The last millisecond that has a date: the end of the year 9999."""
T = TypeVar("T")


class S3RejectStore:
    """Rejects kept through any ColdStore.

    A reject is never changed or deleted: a batch that is repeated may put its object again. That it
    was stored again is said by a further object, under the date on which the reject arrived.
    """

    def __init__(self, cold: ColdStore) -> None:
        self._cold = cold

    def keep(self, name: str, rejects: Sequence[Reject]) -> None:
        """Keep a batch's rejects under an object name (`keys.reject_name`); the same again replaces it."""
        self._cold.put(name, encode_rejects(rejects), {"rejects": str(len(rejects))})

    def list(self, from_date: str, to_date: str) -> Iterator[Reject]:
        """Rejects kept on the dates (`YYYY-MM-DD`, both inclusive), oldest first, each id once.

        Raises BadInput where a date is none.
        """
        for rejects in self.kept(from_date, to_date):
            yield from rejects

    def kept(
        self, from_date: str | None = None, to_date: str | None = None
    ) -> Iterator[builtins.list[Reject]]:
        """As `list`, those of one object together, without bounds where none is given."""
        return self._listed(self._names(from_date, to_date))

    def kept_with(self, ids: Collection[str]) -> Iterator[builtins.list[Reject]]:
        """What is listed of each object that keeps one of the ids, newest first, until all are found."""
        wanted = set(ids)
        held = self._listed(self._newest_first(), wanted)
        while wanted:
            rejects = next(held, None)
            if rejects is None:
                return
            yield rejects

    def get(self, reject_id: str) -> Reject:
        """One reject by its id, looked for from the newest on, listed or not. Raises NotFound."""
        for name in self._newest_first():
            for reject in self._load(name, decode_rejects) or ():
                if reject.id == reject_id:
                    return reject
        raise NotFound(f"There is no reject {reject_id}. `thermocline rejects ls` lists those that are kept.")

    # --- stored again -----------------------------------------------------------------

    def mark_stored(self, rejects: Sequence[Reject], at_ms: int) -> None:
        """Take rejects off the list for good: they were stored again at that time (epoch ms)."""
        by_date: dict[str, set[str]] = {}
        for reject in rejects:
            by_date.setdefault(_arrived_on(reject), set()).add(reject.id)
        for day, ids in by_date.items():
            data = encode_stored_again(StoredAgain(frozenset(ids), at_ms))
            self._cold.put(keys.stored_again_name(day, ids), data, {"stored-again": str(len(ids))})

    def stored_again(self, reject: Reject) -> int | None:
        """When the reject was stored again (epoch ms); None where it is on the list."""
        return self._stored_of(_arrived_on(reject)).get(reject.id)

    def _stored_of(self, day: str) -> dict[str, int]:
        """The ids of the rejects that arrived on a date and are stored, with the time of that."""
        found: dict[str, int] = {}
        for name in self._cold.names(keys.stored_again_prefix(day)):
            marker = self._load(name, decode_stored_again)
            if marker is not None:
                found |= dict.fromkeys(marker.ids, marker.at_ms)
        return found

    # --- batches given up -------------------------------------------------------------

    def failed_batches(
        self, from_date: str | None = None, to_date: str | None = None
    ) -> Iterator[FailedBatch]:
        """Batches given up on the dates, those whose name tells no date among them; oldest first."""
        first, last = from_date or "", to_date or "9999-12-31"
        dated = ((keys.parse_failed_batch_name(name), name) for name in self._failed_names())
        for day, name in sorted(dated, key=lambda pair: (pair[0] or "", pair[1].rpartition("/")[2])):
            if day is None or first <= day <= last:
                found = self._load(name, lambda data, name=name: decode_failed_batch(name, data))
                if found is not None:
                    yield found

    def failed_batch(self, batch_id: str) -> FailedBatch | None:
        """One batch that was given up, by its id; None where there is none."""
        for name in self._failed_names():
            if keys.failed_batch_id(name) == batch_id:
                return self._load(name, lambda data, name=name: decode_failed_batch(name, data))
        return None

    def forget(self, batch: FailedBatch) -> None:
        """Delete a batch that was given up and is stored now; a missing one is no error."""
        self._cold.delete([batch.name])

    def _failed_names(self) -> Iterator[str]:
        return self._cold.names(keys.FAILED_BATCH_PREFIX)

    # --- objects ----------------------------------------------------------------------

    def _names(self, from_date: str | None, to_date: str | None) -> Iterator[str]:
        """Names of the objects of rejects of the dates, oldest first."""
        if from_date is not None and to_date is not None:
            for day in _days(from_date, to_date):
                yield from filter(keys.parse_reject_name, self._cold.names(keys.reject_folder(day)))
            return
        first, last = from_date or "", to_date or "9999-12-31"
        for name in self._cold.names(keys.REJECT_PREFIX):
            day = keys.parse_reject_name(name)
            if day is not None and first <= day <= last:
                yield name

    def _newest_first(self) -> Iterator[str]:
        return reversed(builtins.list(self._names(None, None)))

    def _listed(
        self, names: Iterable[str], wanted: set[str] | None = None
    ) -> Iterator[builtins.list[Reject]]:
        """What is listed of each object, each id once; only of objects that keep one of the ids
        `wanted`, from which those that were met are taken."""
        seen: set[str] = set()
        stored: dict[str, dict[str, int]] = {}
        for name in names:
            held = self._load(name, decode_rejects) or ()
            if wanted is not None:
                if wanted.isdisjoint(reject.id for reject in held):
                    continue
                wanted.difference_update(reject.id for reject in held)
            for day in {_arrived_on(reject) for reject in held} - stored.keys():
                stored[day] = self._stored_of(day)
            listed: list[Reject] = []
            for reject in held:
                if reject.id not in seen and reject.id not in stored[_arrived_on(reject)]:
                    listed.append(reject)
                seen.add(reject.id)
            yield listed

    def _load(self, name: str, decode: Callable[[bytes], T]) -> T | None:
        try:
            return decode(self._cold.read(name))
        except NotFound:  # gone since it was listed: past its retention, or stored meanwhile
            return None
        except Corrupt as error:
            raise Corrupt(f"{name}: {error}") from error


def _arrived_on(reject: Reject) -> str:
    return keys.date_of(min(reject.arrival_ms, _LATEST_MS) * 1000)


def _days(from_date: str, to_date: str) -> Iterator[str]:
    try:
        day, last = date.fromisoformat(from_date), date.fromisoformat(to_date)
    except ValueError as error:
        raise BadInput(f"{from_date} to {to_date} are not two dates such as 2026-11-20 ({error}).") from error
    while day <= last:
        yield day.isoformat()
        day += timedelta(days=1)
