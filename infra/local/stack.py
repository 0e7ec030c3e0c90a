"""The whole local stack under one supervisor: started in order, asked, stopped with nothing left behind."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from infra import deploy, package
from infra.local import control, state_file
from infra.local.api_server import LOG_NAME, ApiServer, Facts
from infra.local.control import ControlServer
from infra.local.counters import Counters
from infra.local.emulator import REGION, Emulator, EmulatorOptions, free_port
from infra.local.keeper import Keeper
from infra.local.runner import Task
from infra.local.signals import Signals, undisturbed
from infra.local.state_file import State
from infra.stack import Clock, describe
from ingest import keys
from ingest.errors import BadInput, Refused, Unavailable
from ingest.keys import Period
from ingest.stores.hot import DynamoHotStore

STACK_NAME = "thermocline"
USUAL_PORT = 4566
PORTS_TRIED = 20
SOURCES_FILE = "event-sources.json"
LANES_EACH = 5
"""Partition keys of the API per concurrent batch: enough that a few sensors spread over all of them."""
COMPACT_GRACE_S = 60
"""No local query or download is thought to last for longer."""
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LocalOptions:
    """What kind of local stack to run; the defaults are the command line's.

    `port` None means 4566 or the next free one, and any free one for a `private` stack,
    which no other process finds. `window_s` may be under a second. `grace_s` is how long a
    function may run, and so how long a chunk is waited for. `api_port` None means 8086 or the
    next free one; a private stack has no API outside its Lambda.
    """

    port: int | None = None
    data_dir: Path | None = None
    bucket_s: int = 3_600
    window_s: float = 1.0
    archive_after_s: int = 86_400
    hot_retention_s: int = 7 * 86_400
    cold_retention_s: int = 5 * 365 * 86_400
    codec: str = "list"
    shard_count: int = 2
    parallelization: int = 2
    grace_s: int = 300
    unknown_sensors: str = "register"
    api: bool = True
    api_port: int | None = None
    private: bool = False

    @property
    def period(self) -> Period:
        """Widths and retentions, as the deployment wants them."""
        return Period(0, self.bucket_s, self.archive_after_s, self.hot_retention_s, self.cold_retention_s)


class LocalStack:
    """One local stack. Three children: the emulator, what runs event sources and clock around it, and the API.

    The last two are started again whenever they end. Call `start`, then `wait` (a server) or the other
    methods (a private one), and in any case `stop`. The emulator's state is saved on `stop`
    only, and only with a data folder.
    """

    def __init__(self, options: LocalOptions) -> None:
        keys.check_period(options.period)
        self.options = options
        self.region = REGION
        self._started_s = time.time()
        self.endpoint_url = ""
        self.outputs: dict[str, str] = {}
        self._emulator: Emulator | None = None
        self._keeper: Keeper | None = None
        self._api: ApiServer | None = None
        self._control: ControlServer | None = None
        self._state: State | None = None
        self._stop_wanted = threading.Event()
        self._stopped = False
        self._signals: Signals | None = None

    def start(self, log: Progress) -> None:
        """Start everything, deploy, and (unless private) tell other processes.

        Raises Refused where another local stack runs, BadInput where the port is taken,
        Unavailable and ThermoclineError where a step fails; `stop` cleans up after any.
        """
        self._signals = Signals(self._stop_wanted)
        if not self.options.private:
            self._refuse_second()
        self._keeper = Keeper()
        self._keeper.launch()
        self._launch_api()
        self._emulator = self._start_emulator()
        self.endpoint_url = self._emulator.endpoint_url
        log(f"Emulator: {self.endpoint_url}.")
        self._deploy(self._emulator.work_dir, log)
        if not self.options.private:
            self._control = ControlServer(self)
            if self._api is not None:
                self._api.tell(self._facts(self._control))
        self._keeper.begin(self._task(self._emulator.work_dir))
        log("Event sources and TTL clock: running.")
        if self._api is not None:
            self._api.wait_healthy()
            log(f"API and dashboard: {self._api.url}.")
        if self._control is not None:
            self._state = self._publish(self._control)

    def wait(self) -> None:
        """Return when the stack is to stop: by `request_stop`, ^C, or SIGTERM made into one.

        Raises Unavailable where the emulator ended by itself.
        """
        try:
            while not self._stop_wanted.wait(0.5):
                if self._emulator is not None and not self._emulator.alive():
                    raise Unavailable(
                        "The emulator ended by itself; what it held since its last clean stop is gone. "
                        "Start the stack again."
                    )
        except KeyboardInterrupt:
            return

    def request_stop(self) -> None:
        """Make `wait` return."""
        self._stop_wanted.set()

    def stop(self) -> None:
        """Stop everything that was started; signals are held off meanwhile. Safe to call more than once."""
        if self._stopped:
            return
        self._stopped = True
        with undisturbed():
            if self._api is not None:
                self._api.stop()
            if self._control is not None:
                self._control.stop()
            if self._keeper is not None:
                self._keeper.stop(0.3 if self.options.data_dir is None else 5.0)
            if self._emulator is not None:
                self._emulator.stop()
            if self._state is not None:
                state_file.withdraw(self._state)
        if self._signals is not None:
            self._signals.release()

    @property
    def api_url(self) -> str | None:
        """Where the HTTP API and the dashboard answer; None where they are left out."""
        return self._api.url if self._api is not None else None

    # --- what it is asked -------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What runs, how far behind it is, what it holds and what it consumed. Raises Unavailable."""
        keeper, emulator = self._running()
        told = keeper.ask(control.status)
        sources = told["sources"]
        counters = Counters(sources["counters"])
        readings, units = counters.total("ReadingsStored"), counters.total("WriteUnits")
        return {
            "endpoint_url": self.endpoint_url,
            "api_url": self.api_url,
            "started_s": int(self._started_s),
            "region": self.region,
            "stream": self.outputs["StreamName"],
            "table": self.outputs["TableName"],
            "archive_bucket": self.outputs["ArchiveBucket"],
            "rejects_bucket": self.outputs["RejectsBucket"],
            "readings": int(readings),
            "chunks": int(counters.total("ChunksStored")),
            "write_units": round(units, 1),
            "readings_per_write_unit": round(readings / units, 2) if units else 0.0,
            "rejects": int(counters.total("Rejects")),
            "records_pending": sum(one["pending"] for one in sources["mappings"]),
            "manifests_due": told["manifests_due"],
            "segments": told["segments"],
            "segment_rows": told["segment_rows"],
            "segment_bytes": told["segment_bytes"],
            "memory_bytes": emulator.memory_bytes(),
            "data_dir": str(self.options.data_dir) if self.options.data_dir is not None else None,
            "state_saved": "on a clean stop" if self.options.data_dir is not None else "never",
            "event_sources": sources["mappings"],
            "event_source_restarts": keeper.restarts,
            "api_restarts": self._api.restarts if self._api is not None else 0,
            "problems": list(sources["problems"].values()),
            "functions": sources["counters"],
            "ttl_clock": told["ttl_clock"],
            "health": told["health"],
        }

    def batches(self) -> dict[str, Any]:
        """Which batches were stored since the start. Raises Unavailable."""
        keeper, _ = self._running()
        return keeper.ask(control.batches)

    def store(self, progress: Progress) -> None:
        """Return when everything sent so far is stored; open windows are closed. Raises Unavailable."""
        keeper, _ = self._running()
        keeper.ask(lambda server: control.store(server, progress))

    def flush(self, progress: Progress) -> None:
        """Return when everything sent so far is stored, archived where due, and indexed.

        Open windows are closed. Raises Unavailable with the reason where a step keeps failing.
        """
        keeper, _ = self._running()
        keeper.ask(lambda server: control.flush(server, progress))

    def expire(self, now_s: int, progress: Progress) -> dict[str, int]:
        """Run the TTL clock as if it were `now_s`: how many `tickets`, `chunks` and catalog `entries` went.

        What was sent is stored first. Where the event sources had to be started again meanwhile, what
        went before that is not counted. Raises Unavailable with the reason where a step keeps failing.
        """
        keeper, _ = self._running()
        return keeper.ask(lambda server: control.expire(server, now_s, progress))

    # --- starting ---------------------------------------------------------------------

    def _refuse_second(self) -> None:
        running = state_file.find_running()
        if running is not None:
            raise Refused(
                f"A local stack already runs at {running.endpoint_url}. Use it, or stop it with "
                "`thermocline down`."
            )

    def _start_emulator(self) -> Emulator:
        options = self.options
        log_file = None
        if options.data_dir is not None:
            options.data_dir.mkdir(parents=True, exist_ok=True)
            log_file = options.data_dir / "emulator.log"
        port = options.port
        for first in range(USUAL_PORT, USUAL_PORT + PORTS_TRIED):
            if options.port is None and not options.private:
                port = free_port(first)
            settings = EmulatorOptions(port, options.data_dir, self.region, log_file)
            emulator = self._emulator = Emulator(settings)
            try:
                return emulator.start()
            except BadInput:  # another stack claimed the port first
                if options.port is not None or options.private:
                    raise
        raise Unavailable(f"Other stacks took every port tried from {USUAL_PORT} on. Name one with --port.")

    def _deploy(self, work_dir: Path, log: Progress) -> None:
        options = self.options
        clients = deploy.connect(self.endpoint_url, self.region)
        parameters = {
            "ShardCount": options.shard_count,
            "ParallelizationFactor": options.parallelization,
            "WindowS": math.ceil(options.window_s),
            "FunctionTimeoutS": options.grace_s,
            "ChunkGraceS": options.grace_s,
            "CompactGraceS": COMPACT_GRACE_S,
            "Codec": options.codec,
            "UnknownSensors": options.unknown_sensors,
        }
        wanted = deploy.DeployOptions(
            packages=package.build_local(work_dir),
            period=options.period,
            target="local",
            stack_name=STACK_NAME,
            parameters={name: str(value) for name, value in parameters.items()},
        )
        deploy.deploy(clients, wanted, log, hot=_hot_store, clock=Clock(time.time, time.sleep))
        found = describe(clients.cloudformation, STACK_NAME) or {}
        self.outputs = {one["OutputKey"]: one["OutputValue"] for one in found.get("Outputs", [])}

    def _task(self, work_dir: Path) -> Task:
        """What the event sources' process is to do; where it notes how far it has read goes with the data."""
        folder = self.options.data_dir if self.options.data_dir is not None else work_dir
        return Task(
            endpoint_url=self.endpoint_url,
            region=self.region,
            outputs=self.outputs,
            state_file=str(folder.resolve() / SOURCES_FILE),
            window_s=self.options.window_s,
            grace_s=self.options.grace_s,
        )

    def _launch_api(self) -> None:
        """Start the API's process, which imports what it needs while the rest is put in place."""
        options = self.options
        if options.private or not options.api:
            return
        folder = options.data_dir if options.data_dir is not None else state_file.state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._api = ApiServer(folder / LOG_NAME)
        self._api.choose_port(options.api_port)
        self._api.launch()

    def _facts(self, server: ControlServer) -> Facts:
        options = self.options
        return Facts(
            endpoint_url=self.endpoint_url,
            region=self.region,
            outputs=self.outputs,
            stack_name=STACK_NAME,
            unknown_sensors=options.unknown_sensors,
            lanes=options.shard_count * options.parallelization * LANES_EACH,
            write_unit_usd=deploy.write_unit_usd(self.region),
            control_url=server.url,
            control_token=server.token,
        )

    def _publish(self, server: ControlServer) -> State:
        pid = os.getpid()
        options = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in asdict(self.options).items()
        }
        state = State(
            endpoint_url=self.endpoint_url,
            control_url=server.url,
            token=server.token,
            pid=pid,
            process_started=state_file.process_started(pid),
            region=self.region,
            outputs=self.outputs,
            options=options,
            started_at=self._started_s,
            data_dir=str(self.options.data_dir) if self.options.data_dir is not None else None,
            api_url=self.api_url,
        )
        state_file.publish(state)
        return state

    def _running(self) -> tuple[Keeper, Emulator]:
        if self._keeper is None or self._emulator is None or self._stopped:
            raise Unavailable("The local stack is not running.")
        if self._signals is not None and self._signals.caught:
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            raise Unavailable("The local stack is stopping.")
        return self._keeper, self._emulator


def _hot_store(client: Any, table: str) -> DynamoHotStore:
    return DynamoHotStore(client, table, time.sleep, random.random)
