"""The real stack while calls fail and processes are killed: in the end, and all along, every answer is right."""

from __future__ import annotations

import itertools
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pytest

from ingest.plan import Query, Tier
from ingest.query import Answer, Sources, answer
from ingest.reading import Run, Span, canonical
from ingest.settings import Settings
from ingest.stores import connect
from sensors import simulator
from tests.local.command import Cli
from tests.local.violence import Killer, Prey, Violence, short_stack

pytestmark = [pytest.mark.local, pytest.mark.timeout(300)]
SEED = 20
START_S = 1_763_676_000
SENSORS, RATE_HZ, SECONDS = 20, 10, 30
LATE = "late=0.02,duplicate=0.02"
FLEET = simulator.Fleet(
    SENSORS, RATE_HZ, START_S * 1_000_000, SECONDS * 1_000_000, SEED, faults=simulator.parse_faults(LATE)
)
SPAN = Span(START_S * 1_000_000, (START_S + 3_600) * 1_000_000)
TIMES_S = ("2", "600", "6")
"""Archived after, kept hot for, longest life of a function."""
VIOLENCE_LIMIT_S = 200.0
"""On a machine that does much else; alone it takes a quarter of it."""
LOOK_EVERY_S = 0.2
REPLIES = {"lost": 0.1, "error": 0.1, "throttle": 0.1}
DEATHS = ["kill_after", "kill_before"]
PARTS: dict[str, dict[str, Any]] = {
    "store_readings": {
        "rates": {"unprocessed": 0.2, **REPLIES},
        "deaths": DEATHS,
        "calls": 20,
        "refused": [("BatchWriteItem", text) for text in ("t#", "m#", "s#")],
    },
    "archive_expired": {
        "rates": {"unprocessed": 0.2, **REPLIES},
        "deaths": DEATHS,
        "calls": 12,
        "refused": 3 * [("PutObject", "readings/")] + [("BatchWriteItem", "a#")],
    },
    "index_segment": {
        "rates": {"lost": 0.15, "error": 0.15, "throttle": 0.15},
        "deaths": DEATHS[:1],
        "calls": 4,
    },
    "event_sources": {"rates": {"lost": 0.02, "error": 0.02, "throttle": 0.02}},
    "publisher": {"rates": {"unprocessed": 0.2, **REPLIES}},
}
LEAST = {"store_readings": 4, "archive_expired": 1, "index_segment": 1, "event_sources": 5, "publisher": 5}
"""So many faults of each of its kinds must at least have struck each part."""
EVENT_SOURCES = Prey("infra.local.runner", times=3, cpu_s=0.8)
PREYS = (
    EVENT_SOURCES,
    Prey("thermocline-store-readings-", times=2, cpu_s=0.3),
    Prey("thermocline-archive-expired-", times=1, cpu_s=0.3),
    Prey("thermocline-index-segment-", times=1, cpu_s=0.3),
)

Values = dict[tuple[int, str], str]


def values(run: Run | None) -> Values:
    """What an answer says, by instant and metric."""
    if run is None:
        return {}
    return {
        (ts_us, metric): canonical(cell)
        for metric, column in run.metrics.items()
        for ts_us, cell in zip(run.ts_us, column, strict=True)
        if cell is not None
    }


class Watch:
    """Asks for every sensor and remembers what was ever shown."""

    def __init__(self, status: dict[str, Any]) -> None:
        settings = Settings(status["table"], status["archive_bucket"], status["rejects_bucket"])
        self.table = status["table"]
        self.stores = connect.stores(settings, endpoint_url=status["endpoint_url"], region=status["region"])
        self.dynamodb = connect.client(
            "dynamodb", endpoint_url=status["endpoint_url"], region=status["region"]
        )
        self.truth = {name: values(run) for name, run in simulator.truth(FLEET).items()}
        self.seen: dict[str, Values] = {name: {} for name in self.truth}

    def ask(self, sensor_id: str, tier: Tier = "auto") -> Answer:
        layout = self.stores.hot.load_layout()
        assert layout is not None
        sources = Sources(self.stores.hot, self.stores.catalog, self.stores.cold, layout, time.perf_counter)
        return answer(Query(sensor_id, SPAN, tier=tier), sources, time.time())

    def look(self, sensor_id: str) -> None:
        """Ask for a sensor. Nothing that was shown is gone or changed, and nothing is wrong."""
        found = self.ask(sensor_id)
        shown = values(found.run)
        gone = self.seen[sensor_id].keys() - shown.keys()
        assert not gone, f"{sensor_id}: {len(gone)} values were shown and are gone, such as {min(gone)}"
        assert shown.items() <= self.truth[sensor_id].items(), f"{sensor_id}: values that were never sent"
        self.seen[sensor_id] = shown

    def hidden(self) -> int:
        """How many values have not been shown yet."""
        return sum(len(truth) - len(self.seen[sensor_id]) for sensor_id, truth in self.truth.items())

    def check(self, *tiers: Tier) -> None:
        """Each tier's answer for every sensor is exactly what was sent."""
        for tier in tiers:
            for sensor_id, truth in self.truth.items():
                assert values(self.ask(sensor_id, tier).run) == truth, (tier, sensor_id)

    def left(self) -> Counter[str]:
        """How many items the table holds, by the beginning of their key."""
        pages = self.dynamodb.get_paginator("scan").paginate(TableName=self.table)
        return Counter(item["pk"]["S"][:2] for page in pages for item in page["Items"])


class Fleet:
    """Sends the fleet's readings, in part again and again if need be: the same again changes no answer."""

    def __init__(self, cli: Cli, violence: Violence) -> None:
        self._cli = cli
        self._environment = violence.environment
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.send(SECONDS, 5)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    def send(self, seconds: int, speed: int) -> None:
        numbers = {"sensors": SENSORS, "rate": RATE_HZ, "duration": f"{seconds}s", "speed": speed}
        numbers |= {"start": START_S, "seed": SEED, "faults": LATE}
        words = [word for name, value in numbers.items() for word in (f"--{name}", f"{value}")]
        self._process = self._cli.start("simulate", *words, "--no-wait", environment=self._environment)

    def is_done(self) -> bool:
        """Whether all was sent. Fails where the command did."""
        assert self._process is not None
        if self._process.poll() is None:
            return False
        _, said = self._process.communicate()
        assert self._process.returncode == 0, said
        return True


def missing(violence: Violence, killer: Killer) -> list[str]:
    """What has not been done yet of what has to be."""
    faults = violence.faults()
    wanted = {(name, kind): least for name, least in LEAST.items() for kind in PARTS[name]["rates"]}
    wanted |= {(name, kind): 1 for name, part in PARTS.items() for kind in part.get("deaths", ())}
    short = [f"{name} {kind}" for (name, kind), least in wanted.items() if faults[name, kind] < least]
    return short + killer.left()


class Endurance:
    """Asks all the time, and does what is to be done meanwhile: one part after the other."""

    def __init__(self, cli: Cli, violence: Violence, watch: Watch, killer: Killer) -> None:
        self._cli = cli
        self._violence = violence
        self._watch = watch
        self._killer = killer
        self._sensors = itertools.cycle(watch.truth)
        self._give_up_s = time.monotonic() + VIOLENCE_LIMIT_S

    def _look(self) -> list[str]:
        """Ask once; what is missing yet."""
        self._watch.look(next(self._sensors))
        time.sleep(LOOK_EVERY_S)
        short = missing(self._violence, self._killer)
        in_time = time.monotonic() < self._give_up_s
        assert in_time, (short, self._watch.hidden(), self._violence.faults(), self._killer.killed)
        return short

    def until_stored(self, fleet: Fleet) -> None:
        """Until every kind of harm has been done and every reading is shown."""
        while (short := self._look()) or not fleet.is_done() or self._watch.hidden():
            if short and fleet.is_done():
                fleet.send(1, 1)

    def until_expired(self) -> None:
        """Until the command `expire` has come to its end once; it may fail before, as its calls do."""
        while True:
            with self._cli.start("expire", "--now", "now+1h") as expiring:
                try:
                    while expiring.poll() is None:
                        self._look()
                finally:
                    expiring.kill()
            if expiring.returncode == 0:
                return


def test_no_answer_is_wrong_while_calls_fail_and_processes_die(
    cli: Cli, unused_tcp_port: int, tmp_path: Path
) -> None:
    violence = Violence(tmp_path, SEED, PARTS)
    with short_stack(cli, violence, str(unused_tcp_port), *TIMES_S) as process:
        status = cli.json("status")
        watch = Watch(status)
        violence.reach_functions(
            connect.client("lambda", endpoint_url=status["endpoint_url"], region=status["region"])
        )
        violence.begin()
        with Fleet(cli, violence) as fleet, Killer(process.pid, SEED, *PREYS) as killer:
            endurance = Endurance(cli, violence, watch, killer)
            endurance.until_stored(fleet)
            watch.check("auto", "hot")
            endurance.until_expired()
            watch.check("auto", "cold")
        violence.end()
        cli.run("flush")
        check_at_rest(cli, watch, killer)


def check_at_rest(cli: Cli, watch: Watch, killer: Killer) -> None:
    """What must hold once everything has come to where it belongs and the hot tier has expired."""
    cli.run("expire", "--now", "now+10d")
    watch.check("auto", "cold")
    assert all(watch.ask(sensor_id, "hot").run is None for sensor_id in watch.truth)
    left = watch.left()
    assert not {"s#", "m#", "t#"} & left.keys(), left
    status = cli.json("status")
    assert status["event_source_restarts"] >= killer.killed[EVENT_SOURCES.words]
    assert (status["records_pending"], status["manifests_due"], status["rejects"]) == (0, 0, 0)
    assert status["problems"] == []
    assert status["segments"] == left["a#"]
    assert status["readings"] >= sum(len({ts for ts, _ in truth}) for truth in watch.truth.values())
