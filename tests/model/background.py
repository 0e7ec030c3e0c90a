"""What goes on beside sending and asking: TTL, the table's stream, S3's events, the schedule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ingest import keys
from ingest.archive import Archived, Stack
from ingest.chunk import decode_item
from ingest.keys import DAY_S, Key
from ingest.manifest import decode_manifest
from ingest.reading import Run
from lambdas import archive_expired, index_segment
from tests.model.oracle import Cell
from tests.model.stream import FUNCTION_S

if TYPE_CHECKING:
    from tests.model.world import Actor, World

TTL_LAG_S = 2 * DAY_S
"""How long DynamoDB may take to delete what has expired ("Expired items and TTL": within a few days)."""

TOO_LATE_S = 3000
"""Whatever else is broken, what expires sooner than this is archived first."""


class Background:
    """Everything that acts on the two tiers besides the batch door and the readers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.removals: list[tuple[float, str]] = []
        self.created_events: list[tuple[float, str]] = []
        self.lost: list[Key] = []
        self.just_left: tuple[str, int] | None = None
        self.archiver_down = world.rng.random() < 0.4
        self._archiving = False
        self._slow: dict[Key, float] = {}
        self._manifests: dict[Key, tuple[Any, tuple[Key, ...], int]] = {}
        self._archived: dict[tuple[str, Cell], list[tuple[int, str]]] = {}
        self._counted: set[str] = set()

    # --- archive --------------------------------------------------------------------------

    def _stack(self, actor: Actor) -> Stack:
        world = self._world
        return Stack(
            hot=world.hot,
            cold=world.cold,
            catalog=world.catalog,
            layout=world.layout("archive"),
            now_s=int(world.skewed_s()),
            grace_s=FUNCTION_S,
            remaining_ms=world.remaining_ms(actor),
        )

    def _archive(self, name: str, event: dict[str, Any], limit_s: float) -> Archived | None:
        def archive(actor: Actor) -> Archived:
            done = archive_expired.handle(event, self._stack(actor))
            self.lost.extend(done.lost)
            if done.failed is not None:
                raise done.failed
            return done

        return self._world.act(name, archive, limit_s, kill=0.015, ease=0.6)

    def schedule(self) -> None:
        """EventBridge's call."""
        world = self._world
        if not self.archiver_down or world.calm:
            limit_s = world.rng.choice([FUNCTION_S, 120, 40])
            self._archive("schedule", {"source": archive_expired.SCHEDULE_SOURCE}, limit_s)

    def deliver_removals(self) -> None:
        """The table's stream, one batch at a time; a failed one is repeated, later."""
        world = self._world
        due = [entry for entry in sorted(self.removals) if entry[0] <= world.now_s][:3]
        if not due or self._archiving or (self.archiver_down and not world.calm):
            return
        self._archiving = True
        records = [
            {"eventName": "REMOVE", "dynamodb": {"Keys": {"pk": {"S": pk}, "sk": {"S": "t"}}}}
            for _, pk in due
        ]
        done = self._archive(f"archive {[pk for _, pk in due]}", {"Records": records}, FUNCTION_S)
        self._archiving = False
        if done is not None:
            for entry in due:
                self.removals.remove(entry)

    def before_it_is_too_late(self) -> None:
        """Faults end before the first chunk expires that is archived nowhere: somebody has heard the alarm."""
        world = self._world
        if not world.calm:
            at_s = min((first_s for _, first_s in self._manifests_left()), default=1 << 60)
            if at_s < world.now_s + TOO_LATE_S:
                self.archive_calmly()

    def _manifests_left(self) -> Iterator[tuple[tuple[Key, ...], int]]:
        """What each manifest names, and when the first of it expires (epoch seconds)."""
        world = self._world
        for place, item in world.table.items():
            if place.pk[:2] == keys.MANIFEST_PREFIX:
                known = self._manifests.get(place)
                if known is None or known[0] is not item:
                    found = decode_manifest(item)
                    assert found.bucket_s is not None
                    assert found.hot_retention_s is not None
                    ends = [keys.parse_chunk_key(key)[1] + found.bucket_s for key in found.chunks]
                    first_s = max(found.written_s, min(ends)) + found.hot_retention_s
                    known = self._manifests[place] = (item, found.chunks, first_s)
                yield known[1], known[2]

    def archive_calmly(self) -> None:
        """The schedule runs through, undisturbed."""
        world = self._world
        world.note("--- mended ---")
        calm, world.calm = world.calm, True
        event = {"source": archive_expired.SCHEDULE_SOURCE, "until_s": int(world.now_s)}
        self._archive("schedule", event, FUNCTION_S)
        world.calm = calm

    def leave_meanwhile(self, expires_s: float) -> None:
        """What is due is archived, and expires, while somebody reads."""
        world = self._world
        self.archive_calmly()
        world.now_s = max(world.now_s, expires_s + 1.0)
        self.before_it_is_too_late()
        self.remove_expired(prompt=True)

    def due_meanwhile(self, deadline_s: float) -> None:
        """A slot comes due, and is archived, while somebody still writes chunks for it."""
        world = self._world
        slots = [
            int(key.pk[len(keys.MANIFEST_PREFIX) :])
            for key in world.table
            if key.pk[:2] == keys.MANIFEST_PREFIX
        ]
        next_s = min((slot_s for slot_s in slots if slot_s >= world.now_s), default=1 << 60)
        if next_s < deadline_s - 30:
            world.now_s = next_s + 1.0
            self.archive_calmly()

    def about_to_leave(self, within_s: float) -> tuple[float, str, int] | None:
        """A chunk that is archived nowhere, must be found, and expires soon: when, whose, its first instant (us)."""
        world = self._world
        latest_s = world.now_s + within_s
        named = {
            key
            for chunks, first_s in self._manifests_left()
            if first_s < latest_s
            for key in chunks
            if key in world.table and world.now_s < ttl_of(world.table[key]) < latest_s
        }
        names = self._catalogued() if named else set[str]()
        for key in sorted(named):
            run = decode_item(world.table[key]).run
            due = world.oracle.least.get(run.sensor_id, {})
            if any(
                cell in due and not self._is_archived((sensor, cell), 0, names)
                for sensor, cell in arrivals_of(run)
            ):
                return float(ttl_of(world.table[key])), run.sensor_id, run.ts_us[0]
        return None

    # --- TTL ------------------------------------------------------------------------------

    def remove_expired(self, *, prompt: bool = False) -> None:
        """DynamoDB's TTL: some time after it is past, some sooner than others, some days later; at once if
        `prompt`."""
        world = self._world
        rng = world.rng
        names: set[str] | None = None
        for key, item in list(world.table.items()):
            if "ttl" not in item or ttl_of(item) > world.now_s:
                continue
            if not world.calm and not prompt:
                if key not in self._slow:
                    self._slow[key] = world.now_s + (TTL_LAG_S if rng.random() < 0.15 else 0)
                if world.now_s < self._slow[key] or rng.random() < 0.3:
                    continue
            if key.pk.startswith(keys.CHUNK_PREFIX):
                names = self._catalogued() if names is None else names
                self.just_left = self._check_archived(key, names)
            world.note(f"expired {key.pk} {key.sk}")
            del world.table[key]
            self._slow.pop(key, None)
            if key.pk.startswith(keys.TICKET_PREFIX) and rng.random() < 0.85:
                for _ in range(rng.choice([1, 1, 1, 2])):
                    self.removals.append((world.now_s + rng.choice([1, 30, 2000, 20_000]), key.pk))

    def _check_archived(self, key: Key, names: set[str]) -> tuple[str, int]:
        """I4: everything in the chunk, or what arrived later in its place, is in segments that the catalog
        names. Its sensor and first instant."""
        run = decode_item(self._world.table[key]).run
        missing = [
            cell for cell, rank in arrivals_of(run).items() if not self._is_archived(cell, rank, names)
        ]
        assert not missing, f"I4: {key} expired, and {len(missing)} of its values are not archived"
        return run.sensor_id, run.ts_us[0]

    def _is_archived(self, cell: tuple[str, Cell], rank: int, names: set[str]) -> bool:
        """Whether one of the objects holds the cell's value of that arrival, or a later one."""
        return any(held >= rank and name in names for held, name in self._archived.get(cell, ()))

    def _catalogued(self) -> set[str]:
        """The objects in which queries look now; what each of them holds is noted once."""
        world = self._world
        names = set(world.catalogued())
        gone = names - world.objects.keys()
        assert not gone, f"I4: the catalog names {sorted(gone)[:3]}, which are not there"
        for name in sorted(names - self._counted):
            for run in world.decoded(world.objects[name][0]):
                for cell, rank in arrivals_of(run).items():
                    self._archived.setdefault(cell, []).append((rank, name))
        self._counted |= names
        return names

    # --- the index ------------------------------------------------------------------------

    def created(self, name: str) -> None:
        """S3 tells of an object: late, twice, or never."""
        rng = self._world.rng
        for _ in range(rng.choice([0, 1, 1, 2])):
            self.created_events.append((self._world.now_s + rng.choice([1, 10, 5000]), name))

    def deliver_created(self) -> None:
        """S3's events, in any order; those of a failed call come again, up to a point."""
        world = self._world
        due = [entry for entry in self.created_events if entry[0] <= world.now_s][:4]
        if not due:
            return
        self.created_events = [entry for entry in self.created_events if entry not in due]
        event = {"Records": [{"s3": {"object": {"key": name.replace("=", "%3D")}}} for _, name in due]}

        def index(_: object) -> dict[str, list[str]]:
            return index_segment.handle(event, world.cold, world.catalog, world.layout("index"))

        if world.act("index", index) is None and world.rng.random() < 0.7:
            self.created_events.extend((world.now_s + 60, name) for _, name in due)


def arrivals_of(run: Run) -> dict[tuple[str, Cell], int]:
    """The arrival of each of the run's values."""
    found: dict[tuple[str, Cell], int] = {}
    for name, column in run.metrics.items():
        ranks = [run.arrival_ms] * len(column) if isinstance(run.arrival_ms, int) else run.arrival_ms[name]
        for ts_us, value, rank in zip(run.ts_us, column, ranks, strict=True):
            if value is not None:
                found[run.sensor_id, (ts_us, name)] = rank
    return found


def ttl_of(item: Any) -> int:
    """An item's `ttl`, epoch seconds."""
    return int(item["ttl"]["N"])
