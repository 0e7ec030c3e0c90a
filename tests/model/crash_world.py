"""A deployment so small that all its crash points can be tried: the doors behind a gate, and the truth about it."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ingest import keys
from ingest.archive import OVERDUE_MOST_S, Archived, Stack
from ingest.errors import Unavailable
from ingest.keys import Key, Layout
from ingest.kinesis_records import Record
from ingest.manifest import Manifest
from ingest.plan import Query, Tier
from ingest.query import Answer, Sources, answer
from ingest.reading import Run
from ingest.stores.memory import MemoryCatalog, MemoryColdStore, MemoryHotStore, MemoryRegistry
from ingest.stores.rejects import S3RejectStore
from lambdas import archive_expired, index_segment, store_readings
from tests.model.crash import Gate, Open, Through
from tests.model.crash_truth import Truth
from tests.world import ALWAYS, GRACE_S, NOW_S, USUAL, plenty


class PagedHot(MemoryHotStore):
    """The table with one item on a page, each page read as the table stands when it is asked for."""

    def __init__(self) -> None:
        super().__init__(page_bytes=1)

    def manifests(self, slot_s: int) -> Iterator[list[Manifest]]:
        """The slot's manifests, one on a page."""
        for page in super().manifests(slot_s):
            yield from ([manifest] for manifest in page)

    def _query(self, partition: str, low: str = "", high: str = "\U0010ffff") -> Any:
        after = None
        while True:
            left = [
                k
                for k in self.items
                if k.pk == partition and low <= k.sk <= high and (not after or k > after)
            ]
            if not left:
                return
            after = min(left)
            yield self.items[after]


class Deployment:
    """Everything there is of one deployment. `now_s` is everybody's time."""

    def __init__(self, layout: Layout = USUAL) -> None:
        self.now_s = NOW_S
        self.hot = PagedHot()
        self.catalog = MemoryCatalog()
        self.cold = MemoryColdStore(lambda: self.now_s)
        self.reject_objects = MemoryColdStore(lambda: self.now_s)
        self.registry = MemoryRegistry()
        self.truth = Truth()
        self.told: set[str] = set()
        """Objects of which S3 has told the index door."""
        self.known: dict[str, list[Run | None]] = {}
        """The answers per sensor for all that they depend on: shared by all copies."""
        self.hot.save_layout(layout, None)

    def copy(self) -> Deployment:
        """The same deployment over again."""
        other = Deployment()
        other.now_s = self.now_s
        other.hot.items = dict(self.hot.items)
        other.catalog.items = dict(self.catalog.items)
        other.cold.objects = dict(self.cold.objects)
        other.reject_objects.objects = dict(self.reject_objects.objects)
        other.registry.sensors = dict(self.registry.sensors)
        other.truth = self.truth.copy()
        other.told = set(self.told)
        other.known = self.known
        return other

    def state(self) -> str:
        """All that later events can depend on, as a text."""
        truth = (sorted(self.truth.floor.items()), sorted(self.truth.sent.items()), sorted(self.told))
        table = sorted(self.hot.items.items(), key=lambda pair: pair[0])
        rejects = sorted((name, head.etag) for name, (_, head) in self.reject_objects.objects.items())
        known = sorted(self.registry.sensors)
        return repr((self.now_s, table, self._cold_state(), rejects, known, truth))

    def _cold_state(self) -> tuple[object, object]:
        objects = [(name, head) for name, (_, head) in sorted(self.cold.objects.items())]
        return sorted(self.catalog.items.items(), key=lambda pair: pair[0]), objects

    @property
    def layout(self) -> Layout:
        """The layout in force."""
        found = self.hot.load_layout()
        assert found is not None
        return found

    # --- the doors ------------------------------------------------------------------------

    def store(self, records: Sequence[Record], gate: Gate | None = None) -> None:
        """The batch door gets the records; what it does not store is an error."""
        gate = gate or Open()
        self.truth.send(records)
        stored = store_readings.handle(
            kinesis_event(records),
            Through(self.hot, gate),  # pyright: ignore[reportArgumentType]
            Through(self.registry, gate),  # pyright: ignore[reportArgumentType]
            S3RejectStore(Through(self.reject_objects, gate)),  # pyright: ignore[reportArgumentType]
            self.layout,
            self.now_s,
            plenty,
        )
        if stored.failed_sequence is not None:
            raise Unavailable(stored.failed_sequence)

    def acknowledged(self, *records: Record) -> None:
        """The batch door gets the records and returns."""
        self.store(records)
        self.truth.stored(records)

    def archive(self, event: Mapping[str, Any], gate: Gate | None = None) -> Archived:
        """The archive door gets the event; raises what is to have it repeated. Nothing may be lost."""
        gate = gate or Open()
        hot: Any = Through(self.hot, gate)
        cold: Any = Through(self.cold, gate)
        catalog: Any = Through(self.catalog, gate)
        done = archive_expired.handle(
            event, Stack(hot, cold, catalog, self.layout, self.now_s, GRACE_S, plenty)
        )
        assert not done.lost, f"the archiver says that it lost {done.lost}"
        assert not done.unreadable
        if done.failed is not None:
            raise done.failed
        return done

    def index(self, names: Sequence[str], gate: Gate | None = None) -> dict[str, list[str]]:
        """The index door is told of the objects."""
        gate = gate or Open()
        cold: Any = Through(self.cold, gate)
        catalog: Any = Through(self.catalog, gate)
        return index_segment.handle(created_event(names), cold, catalog, self.layout)

    def tell_index(self) -> None:
        """S3 tells of every object that it has not told of."""
        self.index(sorted(self.cold.objects.keys() - self.told))
        self.told |= self.cold.objects.keys()

    # --- what time does -------------------------------------------------------------------

    def tickets(self) -> list[int]:
        """Slots that have a ticket."""
        slots = [keys.parse_ticket(key.pk) for key in self.hot.items]
        return sorted(slot_s for slot_s in slots if slot_s is not None)

    def held(self, prefix: str) -> list[Key]:
        """Keys of the items whose partition begins so."""
        return sorted(key for key in self.hot.items if key.pk.startswith(prefix))

    def expired(self) -> list[Key]:
        """Items whose `ttl` is past: TTL may delete them now, or in days."""
        items = self.hot.items.items()
        return sorted(key for key, item in items if "ttl" in item and _ttl(item) <= self.now_s)

    def ttls(self) -> list[int]:
        """When items expire."""
        return [_ttl(item) for item in self.hot.items.values() if "ttl" in item]

    def ttls_of_chunks(self) -> list[int]:
        """When chunks expire."""
        return [_ttl(self.hot.items[key]) for key in self.held(keys.CHUNK_PREFIX)]

    def last_ttl(self) -> int:
        """When the last item expires, or now."""
        return max([self.now_s, *self.ttls()])

    # --- what must hold -------------------------------------------------------------------

    def sources(self, gate: Gate) -> Sources:
        """What a query reads, behind a gate."""
        hot: Any = Through(self.hot, gate)
        catalog: Any = Through(self.catalog, gate)
        cold: Any = Through(self.cold, gate)
        return Sources(hot, catalog, cold, self.layout, lambda: 0.0)

    def ask(self, sensor_id: str, tier: Tier = "auto") -> Answer:
        """The answer to a query over everything."""
        return answer(Query(sensor_id, ALWAYS, tier=tier), self.sources(Open()), self.now_s)

    def check(self, tier: Tier = "auto") -> None:
        """Every value that must be visible is, once, and no other; no reject is listed twice."""
        sensors = sorted({cell[0] for cell in self.truth.sent})
        chunks = [(key, self.hot.items[key]) for key in self.held(keys.CHUNK_PREFIX)]
        state = repr(
            (tier, self.now_s, sensors, chunks, self.hot.items[keys.layout_key()], *self._cold_state())
        )
        if state not in self.known:
            self.known[state] = [self.ask(sensor_id, tier).run for sensor_id in sensors]
        for sensor_id, run in zip(sensors, self.known[state], strict=True):
            self.truth.check(sensor_id, run, dict(self.truth.floor))
            assert run is None or sensor_id in self.registry.sensors, (
                f"{sensor_id} is found and not registered"
            )
        self.rejects()

    def rejects(self) -> list[bytes]:
        """The payloads in the list of rejects, each id once."""
        listed = list(S3RejectStore(self.reject_objects).list("2026-11-19", "2026-11-22"))
        assert len({one.id for one in listed}) == len(listed)
        payloads = sorted(one.payload for one in listed)
        assert len(set(payloads)) == len(payloads), "a reject is listed twice"
        return payloads


class Courses:
    """What AWS does after a crash, until all is at rest. Ends that were seen before are not tried again."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self.ends = 0

    def settle(self, world: Deployment, *, tickets: bool = True, events: bool = True) -> None:
        """Slots fall due, everything is archived, tidied and expired, and each answer stays right.

        Without `tickets` no REMOVE of one ever reaches the archiver, without `events` S3 never tells
        of an object: the schedule and the archiver's own catalog entries must do.
        """
        state = f"{tickets}{events}{world.state()}"
        if state in self._seen:
            return
        self._seen.add(state)
        self.ends += 1
        slots = sorted({*world.tickets(), *map(keys.parse_open_slot, world.held(keys.OPEN_SLOTS_PARTITION))})
        world.now_s = max([world.now_s, *slots])
        due = world.tickets()
        world.hot.delete([keys.ticket_key(slot_s) for slot_s in due])
        if tickets and due:
            world.archive(removes(due))
            world.check()
        if events:
            world.tell_index()
        world.now_s += OVERDUE_MOST_S + GRACE_S
        world.archive(archive_event())
        world.check()
        assert not world.held(keys.MANIFEST_PREFIX), "a manifest is left"
        assert not world.held(keys.OPEN_SLOTS_PARTITION), "a slot is left open"
        assert not world.tickets(), "a ticket is left"
        world.now_s = world.last_ttl()
        world.hot.delete(world.expired())
        assert set(world.hot.items) == {keys.layout_key()}, "something stays in the table for ever"
        world.check()
        world.check("cold")


# --- events ---------------------------------------------------------------------------------


def kinesis_event(records: Sequence[Record]) -> dict[str, Any]:
    """The batch as Lambda delivers it."""
    return {
        "Records": [
            {
                "eventID": f"{one.shard_id}:{one.sequence}",
                "eventSourceARN": one.stream_arn,
                "kinesis": {
                    "sequenceNumber": one.sequence,
                    "approximateArrivalTimestamp": one.arrival_ms / 1000,
                    "data": base64.b64encode(one.data).decode(),
                },
            }
            for one in records
        ]
    }


def removes(slots: Sequence[int]) -> dict[str, Any]:
    """The stream's records of tickets that TTL removed."""
    made = [keys.ticket_key(slot_s) for slot_s in slots]
    return {"Records": [remove(key) for key in made]}


def remove(key: Key, **more: Any) -> dict[str, Any]:
    """The stream's record of an item that is gone."""
    return {"eventName": "REMOVE", "dynamodb": {"Keys": {"pk": {"S": key.pk}, "sk": {"S": key.sk}}}, **more}


def archive_event(**more: Any) -> dict[str, Any]:
    """What the schedule sends."""
    return {"source": archive_expired.SCHEDULE_SOURCE, **more}


def created_event(names: Sequence[str]) -> dict[str, Any]:
    """What S3 sends when objects were created."""
    return {"Records": [{"s3": {"object": {"key": quote(name)}}} for name in names]}


def _ttl(item: Mapping[str, Any]) -> int:
    return int(item["ttl"]["N"])


Step = Callable[[Deployment, Gate], None]
