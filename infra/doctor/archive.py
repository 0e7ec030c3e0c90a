"""Compares the archive's listing with the catalog, date by date, and reads a sample of segments."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any, cast

from infra.doctor.data import Compared, Sampled
from ingest import keys
from ingest.errors import Corrupt, NotFound
from ingest.segment_read import Source, fetch_groups, read_footer, read_table
from ingest.stores import ColdStore, Entry, Segment, Superseded

READERS = 4
"""How many segments are read at a time; each is held in memory whole."""
GONE_SOON_S = 3 * keys.DAY_S
"""S3's lifecycle and the catalog's TTL do not forget in the same hour: what is so near its end is not compared."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One object as the bucket lists it."""

    name: str
    size_bytes: int
    etag: str
    modified_s: int


@dataclass(frozen=True, slots=True)
class Pick:
    """A segment to be read; `sha256` is empty where the catalog has none."""

    name: str
    sha256: str


Entries = Iterable[Entry]
Recheck = Callable[[str], tuple[Iterable[Listed], Entries]]
"""Lists one date anew: the objects, and the entries."""


def listing(s3: Any, bucket: str, prefix: str = keys.SEGMENT_PREFIX) -> Iterator[Listed]:
    """The bucket's objects in the order of their names, page by page. Raises what boto3 raises."""
    request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
    while True:
        page: dict[str, Any] = s3.list_objects_v2(**request)
        for entry in cast(list[dict[str, Any]], page.get("Contents") or []):
            modified_s = int(entry["LastModified"].timestamp())
            yield Listed(entry["Key"], int(entry["Size"]), str(entry["ETag"]).strip('"'), modified_s)
        if not page.get("IsTruncated"):
            return
        request["ContinuationToken"] = page["NextContinuationToken"]


@dataclass(slots=True)
class Sampler:
    """Picks up to `most` of the segments (None: all), the same ones for the same listing: those whose names
    have the least digests."""

    most: int | None
    _kept: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])

    def offer(self, pick: Pick) -> None:
        """Consider one segment."""
        digest = hashlib.blake2b(pick.name.encode(), digest_size=8).digest()
        entry = (-int.from_bytes(digest), pick.name, pick.sha256)
        if self.most is None or len(self._kept) < self.most:
            heapq.heappush(self._kept, entry)
        elif self._kept:
            heapq.heappushpop(self._kept, entry)

    def picked(self) -> list[Pick]:
        """What was picked, by name."""
        return sorted((Pick(name, sha256) for _, name, sha256 in self._kept), key=lambda pick: pick.name)


@dataclass(slots=True)
class _Date:
    """Objects and entries of one date, by digest, without what is superseded: its objects come and go."""

    objects: dict[str, Listed]
    entries: dict[str, Segment]

    @classmethod
    def of(cls, objects: Iterable[tuple[str, str, Listed]], entries: Entries) -> _Date:
        """Both sides of one date."""
        known = {entry.digest: entry for entry in entries}
        superseded = {digest for digest, entry in known.items() if isinstance(entry, Superseded)}
        return cls(
            {digest: listed for _, digest, listed in objects if digest not in superseded},
            {digest: entry for digest, entry in known.items() if isinstance(entry, Segment)},
        )

    def suspects(self) -> set[str]:
        """Digests of which only one side knows, or the two tell different things."""
        both = self.objects.keys() & self.entries.keys()
        one_sided = self.objects.keys() ^ self.entries.keys()
        return one_sided | {
            digest for digest in both if not _same(self.objects[digest], self.entries[digest])
        }


def _same(listed: Listed, entry: Segment) -> bool:
    return (listed.size_bytes, listed.etag) == (entry.size_bytes, entry.etag)


def compare(
    objects: Iterable[Listed], entries: Entries, sampler: Sampler, recheck: Recheck, keep_from_s: int
) -> Compared:
    """Both sides, each sorted by date, held one date at a time.

    What differs is looked at once more (`recheck`), since segments come and go while they are
    listed; what was written before `keep_from_s` is about to be forgotten and may differ.
    """
    compared = Compared()
    for date, found in _dates(objects, entries, compared):
        compared.objects += len(found.objects)
        compared.entries += len(found.entries)
        for digest, listed in found.objects.items():
            entry = found.entries.get(digest)
            sampler.offer(Pick(listed.name, entry.sha256 if entry is not None else ""))
        suspects = found.suspects()
        if suspects:
            listed_now, entries_now = recheck(date)
            anew = _Date.of(_segments(listed_now, Compared()), entries_now)
            _blame(suspects & anew.suspects(), anew, compared, keep_from_s)
    return compared


def _blame(digests: Iterable[str], date: _Date, compared: Compared, keep_from_s: int) -> None:
    for digest in sorted(digests):
        listed, entry = date.objects.get(digest), date.entries.get(digest)
        if listed is None and entry is not None and entry.written_s >= keep_from_s:
            compared.gone.add(entry.name)
        elif listed is not None and entry is None and listed.modified_s >= keep_from_s:
            compared.unlisted.add(listed.name)
        elif listed is not None and entry is not None:
            compared.changed.add(listed.name)


def _dates(objects: Iterable[Listed], entries: Entries, compared: Compared) -> Iterator[tuple[str, _Date]]:
    """Both sides merged by date."""
    left = groupby(_segments(objects, compared), key=lambda one: one[0])
    right = groupby(entries, key=lambda entry: entry.date)
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        date = min(side[0] for side in (one, other) if side is not None)
        listed = list(one[1]) if one is not None and one[0] == date else []
        known = list(other[1]) if other is not None and other[0] == date else []
        one = next(left, None) if one is not None and one[0] == date else one
        other = next(right, None) if other is not None and other[0] == date else other
        yield date, _Date.of(listed, known)


def _segments(objects: Iterable[Listed], compared: Compared) -> Iterator[tuple[str, str, Listed]]:
    for listed in objects:
        name = keys.parse_segment_name(listed.name)
        if name is None:
            compared.foreign.add(listed.name)
        else:
            yield (*name, listed)


# --- the sample -------------------------------------------------------------------------


def read_sample(picks: Iterable[Pick], cold: ColdStore, advance: Callable[[], None]) -> Sampled:
    """Read each segment whole: its sha256 and its footer. `advance` is called after each."""
    sampled = Sampled()
    with ThreadPoolExecutor(READERS, "doctor") as pool:
        for pick, (why, signed) in pool.map(partial(_read, cold=cold), picks):
            sampled.segments += 1
            sampled.unsigned += not signed
            if why:
                sampled.damaged.append((pick.name, why))
            advance()
    return sampled


def _read(pick: Pick, cold: ColdStore) -> tuple[Pick, tuple[str, bool]]:
    return pick, _fault(pick, cold)


def _fault(pick: Pick, cold: ColdStore) -> tuple[str, bool]:
    """What is wrong with a segment ("" where nothing is), and whether there was a sha256 to compare with."""
    try:
        wanted = pick.sha256 or cold.head(pick.name).metadata.get("sha256", "")
        data = cold.read(pick.name)
        if wanted and hashlib.sha256(data).hexdigest() != wanted:
            return "its sha256 is not the one that was catalogued", True
        source = Source(lambda start, end: data[start:end], len(data))
        footer = read_footer(source, 0)
        groups = range(footer.parquet.num_row_groups)
        if not wanted and groups:
            fetch_groups(source, footer, groups)
            read_table(source, footer, groups, footer.present(groups))
    except NotFound:  # deleted since it was listed; the comparison tells of it
        return "", True
    except Corrupt as error:
        return str(error), bool(pick.sha256)
    return "", bool(wanted)
