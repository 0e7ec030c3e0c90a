"""Rejects in a cold store: one object per batch and date, found by date or by id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, timedelta

from ingest import keys
from ingest.errors import BadInput, NotFound
from ingest.reject import Reject, decode_rejects, encode_rejects
from ingest.stores import ColdStore


class S3RejectStore:
    """Rejects kept through any ColdStore."""

    def __init__(self, cold: ColdStore) -> None:
        self._cold = cold

    def keep(self, name: str, rejects: Sequence[Reject]) -> None:
        """Keep a batch's rejects under an object name (`keys.reject_name`); the same again replaces it."""
        self._cold.put(name, encode_rejects(rejects), {"rejects": str(len(rejects))})

    def list(self, from_date: str, to_date: str) -> Iterator[Reject]:
        """Rejects kept on the dates (`YYYY-MM-DD`, both inclusive), oldest first, each id once.

        Raises BadInput where a date is none.
        """
        seen: set[str] = set()
        for day in _days(from_date, to_date):
            for name in self._cold.names(_folder(day)):
                for reject in self._load(name):
                    if reject.id not in seen:
                        seen.add(reject.id)
                        yield reject

    def get(self, reject_id: str) -> Reject:
        """One reject by its id, looked for from the newest on. Raises NotFound."""
        for name in sorted(self._cold.names(keys.REJECT_PREFIX), reverse=True):
            for reject in self._load(name):
                if reject.id == reject_id:
                    return reject
        raise NotFound(f"There is no reject {reject_id}. `thermocline rejects ls` lists those that are kept.")

    def _load(self, name: str) -> Sequence[Reject]:
        try:
            data = self._cold.read(name)
        except NotFound:  # gone since it was listed: past its retention
            return []
        return decode_rejects(data)


def _folder(day: str) -> str:
    """The part of their names that a date's reject objects share."""
    return keys.reject_name(day, "").rpartition("/")[0] + "/"


def _days(from_date: str, to_date: str) -> Iterator[str]:
    try:
        day, last = date.fromisoformat(from_date), date.fromisoformat(to_date)
    except ValueError as error:
        raise BadInput(f"{from_date} to {to_date} are not two dates such as 2026-11-20 ({error}).") from error
    while day <= last:
        yield day.isoformat()
        day += timedelta(days=1)
