"""Puts stream records through the batch door and checks what must hold of them, whatever their bytes."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from ingest import keys
from ingest.chunk import decode_item
from ingest.envelope import Unopened, is_addressed, is_wrapped, open_address, unwrap
from ingest.errors import ThermoclineError
from ingest.kinesis_records import user_records
from ingest.manifest import decode_manifest
from ingest.reading import is_metric_name, is_sensor_id
from ingest.reject import REASONS, Reject
from ingest.wire import decode
from lambdas import store_readings
from tests.fuzz.corpus import NOW_MS, Cells, Sent
from tests.fuzz.mutate import Maker
from tests.strategies import cells
from tests.world import NOW_S, STREAM, World, plenty

MOST_MS = 50.0
"""CPU time that a stream record may take, from the event to the last put."""
TRIES = 3
"""How often a record is measured that seems slower than all before it: the machine is not ours alone."""
BATCH_PAYLOADS = 320
"""About how many payloads one batch holds."""
SHARD = "shardId-000000000000"
FIRST_SEQUENCE = 49_600_000_000_000_000_000
ENVELOPES = 3
"""How often a payload is opened to find what a reject holds: as it is, without its address, without compression."""
SAMPLED = 8
"""One in so many refused payloads is compared with what the decoder says of it alone; of others every one."""


class Broken(Exception):
    """Something that must hold does not. `at` is the position of the stream record, where it is known."""

    def __init__(self, what: str, at: int | None = None) -> None:
        super().__init__(what)
        self.at = at


@dataclass(slots=True)
class Tally:
    """What went through. `accepted` payloads had no reject, `rejected` ones at least one."""

    payloads: int = 0
    accepted: int = 0
    rejected: int = 0
    slowest_ms: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter[str])
    reasons: Counter[str] = field(default_factory=Counter[str])

    def add(self, other: Tally) -> None:
        """Count what another tally counted."""
        self.payloads += other.payloads
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.kinds += other.kinds
        self.reasons += other.reasons


def batch(seed: int, number: int) -> list[Sent]:
    """The stream records of one batch of a run; the same for the same seed and number."""
    maker = Maker(random.Random(f"{seed}/{number}"))
    made: list[Sent] = []
    payloads = 0
    while payloads < BATCH_PAYLOADS:
        made.append(maker.record())
        payloads += made[-1].count
    return made


def event(batch_of: Sequence[Sent]) -> dict[str, Any]:
    """The records as Lambda delivers them ("Using AWS Lambda with Amazon Kinesis")."""
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "lane-1",
                    "sequenceNumber": _sequence(position),
                    "data": sent.text,
                    "approximateArrivalTimestamp": float(NOW_S),
                },
                "eventSource": "aws:kinesis",
                "eventID": f"{SHARD}:{_sequence(position)}",
                "eventSourceARN": STREAM,
            }
            for position, sent in enumerate(batch_of)
        ]
    }


def _sequence(position: int) -> str:
    return str(FIRST_SEQUENCE + position)


# --- through the door -------------------------------------------------------------------


class Door:
    """The batch door over fresh stores for every batch. Records of a batch that takes longer than one record
    may are measured one by one, and in the end those of the slowest batch."""

    def __init__(self, most_ms: float = MOST_MS) -> None:
        self.tally = Tally()
        self._most_ms = most_ms
        self._batches = 0
        self.slowest: tuple[float, Sequence[Sent]] = (0.0, ())

    def put(self, batch_of: Sequence[Sent]) -> World:
        """Put a batch through and check everything; the world it is stored in. Raises Broken."""
        whole = event(batch_of)
        world = World()
        began = time.process_time()
        stored = _handle(whole, world)
        took_ms = (time.process_time() - began) * 1000
        if stored.records != len(batch_of) or stored.failed_sequence is not None:
            raise Broken(f"{stored.records} of {len(batch_of)} records done")
        self._batches += 1
        try:
            Inspection(world, batch_of, self.tally).all(stored.rejects, by_id=self._batches % SAMPLED == 1)
        except ThermoclineError as error:
            raise Broken(f"what is stored cannot be read: {type(error).__name__}: {error}") from error
        if took_ms > self._most_ms:
            self._one_by_one(batch_of)
        elif took_ms > self.slowest[0]:
            self.slowest = took_ms, batch_of
        return world

    def finish(self) -> Tally:
        """What went through. Raises Broken where a record of the slowest batch is too slow."""
        self._one_by_one(self.slowest[1])
        return self.tally

    def _one_by_one(self, batch_of: Sequence[Sent]) -> None:
        """Measure each record by itself. Raises Broken where one is too slow."""
        for position, sent in enumerate(batch_of):
            one = event([sent])
            took_ms = cpu_ms(lambda one=one: _handle(one, World()))
            for _ in range(TRIES - 1):
                if took_ms > self.tally.slowest_ms:
                    took_ms = min(took_ms, cpu_ms(lambda one=one: _handle(one, World())))
            self.tally.slowest_ms = max(self.tally.slowest_ms, took_ms)
            if took_ms > self._most_ms:
                raise Broken(f"slow: it takes {took_ms:.0f} ms of CPU time", position)


def cpu_ms(call: Callable[[], object]) -> float:
    """CPU time of this process that the call takes."""
    began = time.process_time()
    call()
    return (time.process_time() - began) * 1000


def _handle(whole: dict[str, Any], world: World) -> Any:
    try:
        return store_readings.handle(
            whole, world.hot, world.registry, world.rejects, world.layout, world.now_s, plenty
        )
    except Exception as error:
        raise Broken(f"raised: {type(error).__name__}: {error}") from error


# --- what must hold afterwards ----------------------------------------------------------


class Inspection:
    """Looks at everything that one batch left behind."""

    def __init__(self, world: World, batch_of: Sequence[Sent], tally: Tally) -> None:
        self._world = world
        self._batch = batch_of
        self._tally = tally
        self._found: dict[str, Cells] = {}
        self._refused: dict[tuple[int, int], set[str]] = {}
        self._refused_records: set[int] = set()

    def all(self, counted: Counter[str], *, by_id: bool) -> None:
        """Every check; `counted` are the rejects that the door told, `by_id` says whether one is also looked
        for by its id, which reads them all again. Raises Broken."""
        self._keys()
        kept = self._rejects(counted)
        if by_id and kept is not None and self._world.rejects.get(kept.id) != kept:
            raise Broken("a reject is not found by its id")
        for position, sent in enumerate(self._batch):
            self._record(position, sent)
        self._queries()

    def _keys(self) -> None:
        """Every key parses, every name may be one, and what a manifest lists is there."""
        listed: set[keys.Key] = set()
        chunks: set[keys.Key] = set()
        for key, item in self._world.hot.items.items():
            if key.pk.startswith(keys.CHUNK_PREFIX):
                run = decode_item(item).run
                if not is_sensor_id(run.sensor_id) or not all(map(is_metric_name, run.metrics)):
                    raise Broken(f"stored under a name that is none: {run.sensor_id!a}")
                chunks.add(key)
                self._found.setdefault(run.sensor_id, {}).update(cells(run))
            elif key.pk.startswith(keys.MANIFEST_PREFIX):
                listed.update(decode_manifest(item).chunks)
            elif keys.parse_ticket(key.pk) is None and not (
                key.pk == keys.OPEN_SLOTS_PARTITION and keys.parse_open_slot(key)
            ):
                raise Broken(f"a key that is none of ours: {key!a}")
        if listed != chunks:
            raise Broken(f"manifests list {len(listed)} chunks, the table holds {len(chunks)}")
        if self._found.keys() != self._world.registry.sensors.keys():
            raise Broken("the registry does not hold the sensors that have chunks")

    def _rejects(self, counted: Counter[str]) -> Reject | None:
        """Every reject is found again with a known reason and bytes that were sent; the last of them."""
        date = keys.date_of(NOW_MS * 1000)
        told: Counter[str] = Counter()
        kept: Reject | None = None
        for kept in self._world.rejects.list(date, date):
            position = int(kept.sequence) - FIRST_SEQUENCE
            index = int(kept.offset.partition("/")[0])
            self._refused.setdefault((position, index), set()).add(kept.reason)
            self._refused_records.add(position)
            told[kept.reason] += kept.count
            if kept.reason not in REASONS or kept.reason == "unexpected":
                raise Broken(f"reason {kept.reason}: {kept.detail}", position)
            if sha256(kept.payload).hexdigest() != kept.sha256:
                raise Broken("a reject does not have its sha256", position)
            if not _holds(_user_record(self._batch[position], index), kept.payload):
                raise Broken(f"a reject ({kept.reason}) holds bytes that were not sent", position)
        if told != counted:
            raise Broken(f"rejects told {dict(counted)}, kept {dict(told)}")
        self._tally.reasons += told
        return kept

    def _record(self, position: int, sent: Sent) -> None:
        """What of a record was not refused is stored: nothing is neither."""
        self._tally.payloads += sent.count
        if sent.payloads is None:
            refused = position in self._refused_records
            self._count("damaged record", refused)
            found = user_records(sent.raw)[0] if sent.is_coded else []
            if not found and not refused:
                raise Broken("neither stored nor refused", position)
            for index, data in enumerate(found):
                self._accounted(position, index, data)
            return
        for index, payload in enumerate(sent.payloads):
            refused = (position, index) in self._refused
            self._count(payload.kind, refused)
            if payload.cells is not None:
                if refused and payload.whole:
                    raise Broken(f"a valid {payload.kind} was refused", position)
                if not payload.cells.items() <= self._found.get(payload.sensor_id, {}).items():
                    raise Broken(f"what a {payload.kind} held is not stored", position)
            elif not refused or not (position + index) % SAMPLED:
                self._accounted(position, index, payload.data)

    def _count(self, kind: str, refused: bool) -> None:
        self._tally.kinds[kind] += 1
        self._tally.rejected += refused
        self._tally.accepted += not refused

    def _accounted(self, position: int, index: int, data: bytes) -> None:
        """What the decoder says of a payload by itself is what became of it in the batch."""
        runs, problems = decode(data, NOW_MS)
        reasons = {problem.reason for problem in problems}
        if not runs and not reasons:
            raise Broken("neither stored nor refused", position)
        if reasons != self._refused.get((position, index), set()):
            raise Broken(
                f"alone it is refused for {sorted(reasons)}, in the batch for other reasons", position
            )
        for run in runs:
            found = self._found.get(run.sensor_id, {})
            for name, column in run.metrics.items():
                for ts_us, value in zip(run.ts_us, column, strict=True):
                    if value is not None and (ts_us, name) not in found:
                        raise Broken("what could be read is not stored", position)

    def _queries(self) -> None:
        """What is stored is also found: the first and the last sensor by a query."""
        for sensor_id in {*list(self._found)[:1], *list(self._found)[-1:]}:
            if cells(self._world.found(sensor_id)) != self._found[sensor_id]:
                raise Broken(f"a query of {sensor_id} does not answer what is stored")


def _user_record(sent: Sent, index: int) -> bytes:
    """The bytes that a reject of a record's user record is about; the record where it could not be opened."""
    if not sent.is_coded:
        return sent.text.encode(errors="surrogatepass")
    if sent.payloads is not None:
        return sent.payloads[index].data
    found = user_records(sent.raw)[0]
    return found[index] if found else sent.raw


def _holds(data: bytes, piece: bytes) -> bool:
    """Whether the bytes hold the piece, as they are or in their envelopes."""
    try:
        for _ in range(ENVELOPES):
            if piece in data:
                return True
            if is_addressed(data):
                data = open_address(data).payload
            elif is_wrapped(data):
                data = unwrap(data)
    except Unopened:
        return False
    return False
