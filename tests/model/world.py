"""One deployment and everything around it in one thread under one seed: a virtual clock, and a step at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import Context
from dataclasses import dataclass
from random import Random
from typing import Any

from ingest.errors import Refused, Unavailable
from ingest.keys import Key, Layout
from ingest.reading import Run
from ingest.stores.catalog import DynamoCatalog
from ingest.stores.cold import S3ColdStore
from ingest.stores.hot import DynamoHotStore
from ingest.stores.memory import MemoryColdStore
from ingest.stores.registry import DynamoRegistry
from ingest.stores.rejects import S3RejectStore
from tests.model import segments
from tests.model.background import Background
from tests.model.compactor import Compactor
from tests.model.faults import Faults, Killed
from tests.model.memory_stores import FaultyCatalog, FaultyCold, FaultyHot, FaultyRegistry
from tests.model.operators import Operators
from tests.model.oracle import Cells, Oracle
from tests.model.producers import BrokerAndGateway, Producer
from tests.model.readers import Readers
from tests.model.sender import Sender
from tests.model.stream import FUNCTION_S, Stream
from tests.model.wire_clients import TABLE, WireDynamo, WireS3

STORE, KEEP = "store object", "keep rejects"
START_S = 1_795_212_000
"""2026-11-20T22:00:00Z."""
HOUR_S = 3600
STEPS = 121
RATES = [0.3, 0.5, 0.6, 0.67]
KILL = 0.025
CATALOG_CHANGES = 0.15


@dataclass(slots=True)
class Actor:
    """A call of a function that is under way; around its call number `ambush_at` the worst happens to it."""

    name: str
    deadline_s: float
    rate: float
    kill: float
    ambush_at: int = 0
    ambush: Callable[[float], None] | None = None


class World:
    """`calm` switches faults and interruptions off. `steps` says which of its steps take place (None: all);
    in `quiet` ones nothing goes wrong: both are for making a failure's trace short. Every step draws from a
    generator of its own, so that leaving one out changes no other."""

    def __init__(self, seed: int, steps: Collection[int] | None = None, quiet: Collection[int] = ()) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.began_s = START_S
        self.now_s = float(START_S)
        self.calm = True
        self.history: list[str] = []
        self.step_number = -1
        self._steps = range(STEPS) if steps is None else sorted(steps)
        self._quiet = frozenset(quiet)
        self._rate = self.rng.choice(RATES)
        self._actors: list[Actor] = []
        self._layouts: dict[str, tuple[float, Layout]] = {}
        self.oracle = Oracle()
        self.faults = Faults(self)
        self._make_stores()
        self.rejects = S3RejectStore(self.reject_objects)
        self.bad: set[tuple[str, bytes]] = set()
        self.held_back: dict[tuple[str, bytes], tuple[int, Cells]] = {}
        self.sensors = [f"sensor-{n}" for n in range(6)]
        self.stream = Stream(self)
        self.operators = Operators(self)
        self.background = Background(self)
        self.readers = Readers(self)
        self.compactor = Compactor(self)
        self.sender = Sender(self)
        self.producer = Producer(self)
        self.codec = "packed" if seed % 8 == 5 else "list"
        self.gateway = BrokerAndGateway(self) if seed % 4 == 1 else None
        if self.gateway is not None:
            self.sensors.append("behind-a-gateway")
        self.calm = False

    def _make_stores(self) -> None:
        """The memory stores; in every eighth world those on AWS, over clients that stand for the services."""
        faults = self.faults
        objects, rejected = MemoryColdStore(self.clock), MemoryColdStore(self.clock)
        self.entries: dict[Key, Any] = {}
        if self.seed % 8 == 2:
            self.table: dict[Key, Any] = {}
            client = WireDynamo(faults, {"a": self.entries, "r": {}}, self.table, self)
            self.hot: Any = DynamoHotStore(client, TABLE, self._sleep, self.random, workers=1)
            self.catalog: Any = DynamoCatalog(client, TABLE)
            self.registry: Any = DynamoRegistry(client, TABLE)
            self.cold: Any = S3ColdStore(WireS3(faults, objects, self._created, STORE), "archive")
            self.reject_objects: Any = S3ColdStore(WireS3(faults, rejected, lambda _: None, KEEP), "rejects")
        else:
            self.hot = FaultyHot(faults)
            self.table = self.hot.items
            self.catalog = FaultyCatalog(faults, self.entries)
            self.registry = FaultyRegistry(faults)
            self.cold = FaultyCold(faults, objects, self._created, STORE)
            self.reject_objects = FaultyCold(faults, rejected, lambda _: None, KEEP)
        self.objects, self.rejected = objects.objects, rejected

    def random(self) -> float:
        """A number in [0, 1) from the step's generator."""
        return self.rng.random()

    def _sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def _created(self, name: str) -> None:
        self.background.created(name)

    # --- running ----------------------------------------------------------------------

    def run(self) -> None:
        """Everything at once for a day or two, then no more faults, and then the truth."""
        for number in self._steps:
            self.step_number = number
            self.rng = Random(self.seed * 1_000_003 + number)
            self.calm = number in self._quiet
            self.step()
            self.background.before_it_is_too_late()
            if self.stream.is_late and self.rng.random() < 0.4:
                self.stream.repeat()
            if self.background.archiver_down and self.rng.random() < 0.3:
                self.readers.ask()
            self.now_s += self.rng.choice([1, 20, 120, 600, 1500])
        self.settle()

    def step(self) -> None:
        """One thing that happens."""
        background = self.background
        actions: list[tuple[int, Callable[[], object]]] = [
            (24, self.sender.send),
            (28, self.stream.deliver),
            (3, self.stream.repeat),
            (1, self.stream.reshard),
            (2, self.stream.change_parallelization),
            (16, background.remove_expired),
            (12, background.deliver_removals),
            (16, background.schedule),
            (8, background.deliver_created),
            (2, self.operators.reindex),
            (2, self.operators.retry),
            (3, self.operators.change_layout),
            (1, self.operators.fix),
            (self.compactor.weight, self.compactor.compact),
            (24, self.readers.ask),
            (4, self.readers.latest),
        ]
        self.rng.choices([do for _, do in actions], [weight for weight, _ in actions])[0]()

    def settle(self) -> None:
        """Faults stop: everything drains in bounded time, and every answer is whole, from both tiers."""
        self.calm = True
        self.operators.fix()
        self.rng = Random(self.seed * 1_000_003 - 1)
        self.note("--- calm ---")
        for turn in range(50):
            self.sender.flush()
            for lane in self.stream.lanes:
                self.stream.deliver(lane)
            if turn % 12 == 4:
                self.operators.retry()
            self.background.deliver_removals()
            self.background.deliver_created()
            self.background.schedule()
            self.background.remove_expired()
            self.now_s += 1900
        left = sorted(key for key in self.table if key.pk[0] in "msto")
        assert not left, f"I5: did not drain: {left[:5]}"
        assert self.producer.is_drained, "I5: the publisher did not drain"
        assert self.gateway is None or self.gateway.is_drained, "I5: the gateway did not drain"
        assert self.stream.is_drained, "I5: the stream did not drain"
        assert not self.background.lost, f"I4: recorded as lost: {sorted(self.background.lost)}"
        self.compactor.settle()
        self.readers.at_rest()
        kept = [(reject.sequence, reject.payload) for reject in self.rejects.list("2026-11-19", "2026-12-05")]
        missing = self.bad - set(kept)
        assert not missing, f"I1: neither stored nor rejected: {sorted(missing)[:5]}"
        assert len(kept) == len(set(kept)), "I2: a reject is listed twice"
        assert set(kept) <= self.bad, f"I1: rejected, though nothing is wrong with it: {set(kept) - self.bad}"

    # --- time and faults --------------------------------------------------------------

    def between(self) -> None:
        """Around a call: time passes, at times others act meanwhile, and functions time out."""
        if self.calm or not self._actors:
            return
        rng = self.rng
        chance = rng.random()
        self.now_s += 3.0 if chance < 0.1 else 0.05
        actor = self._actors[-1]
        actor.ambush_at -= 1
        if actor.ambush_at == 0 and actor.ambush is not None:
            Context().run(actor.ambush, actor.deadline_s)
        elif chance > 0.97 and len(self._actors) < 3:
            self.now_s += rng.choice([0, 5, 60, 400])
            Context().run(self._meanwhile)  # in other processes: they share no context
        if self.now_s >= self._actors[-1].deadline_s:
            raise Killed("timed out")

    def _meanwhile(self) -> None:
        self.step()
        self.background.before_it_is_too_late()

    def page_turned(self) -> None:
        """Between two pages of the catalog: while a query reads it, it changes at times."""
        asking = not self.calm and self._actors and self._actors[-1].name.startswith("query")
        if asking and self.compactor.has_work and self.rng.random() < CATALOG_CHANGES:
            Context().run(self.compactor.meanwhile)

    def hazard(self) -> tuple[float, float]:
        """How likely the present call goes wrong, and is its caller's last."""
        if self.calm or not self._actors:
            return 0.0, 0.0
        actor = self._actors[-1]
        return actor.rate, actor.kill

    def act(
        self,
        name: str,
        do: Callable[[Actor], Any],
        limit_s: float = FUNCTION_S,
        *,
        kill: float = KILL,
        ease: float = 1.0,
        ambush_at: int = 0,
        ambush: Callable[[float], None] | None = None,
    ) -> Any:
        """Call a function as Lambda does; None where it failed, died or ran out of time.

        `kill` is how likely a call is its last; `ease` below 1 makes faults rarer. `ambush` is told its
        deadline, and called around its call number `ambush_at`.
        """
        actor = Actor(name, self.now_s + limit_s, self._rate * ease, kill, ambush_at, ambush)
        self._actors.append(actor)
        try:
            done = do(actor)
        except (Unavailable, Refused, Killed) as error:
            self.note(f"{name}: {type(error).__name__} {error}")
            return None
        else:
            self.note(f"{name}: done")
            return done
        finally:
            self._actors.pop()

    def note(self, text: str) -> None:
        """Add a line to the history."""
        indent = "  " * len(self._actors)
        self.history.append(f"{self.step_number:4d} {self.now_s - START_S:10.2f} {indent}{text}")

    def clock(self) -> float:
        """The time."""
        return self.now_s

    def skewed_s(self) -> float:
        """The time by the clock of some function."""
        return self.now_s if self.calm else self.now_s + self.rng.uniform(-20, 20)

    def remaining_ms(self, actor: Actor) -> Callable[[], int]:
        """What Lambda's context tells a function."""
        return lambda: max(0, int((actor.deadline_s - self.now_s) * 1000))

    # --- what a door knows, and what is so ------------------------------------------------

    def layout(self, door: str) -> Layout:
        """The layout as a door knows it: at most 30 s old."""
        known = self._layouts.get(door)
        if known is None or self.now_s - known[0] >= 30:
            found = self.hot.load_layout()
            assert found is not None, "I1: the layout is gone"
            known = self._layouts[door] = (self.now_s, found)
        return known[1]

    def catalogued(self) -> list[str]:
        """The objects that the catalog names and that are not superseded."""
        entries = self.entries.values()
        return [str(entry["name"]["S"]) for entry in entries if "superseded_s" not in entry]

    def decoded(self, data: bytes) -> list[Run]:
        """What an object holds."""
        return segments.runs_of(data)
