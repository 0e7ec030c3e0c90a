"""Every service of the compose file as a process: its own command, environment and health check, without Docker."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from infra import localstack, package
from infra.local.emulator import Emulator
from infra.local.sweep import ExpiringTable
from ingest import keys
from ingest.manifest import encode_open_slot, encode_ticket
from ingest.stores.hot import DynamoHotStore
from tests.composition import BROKER_SETTINGS, ROOT, SERVICES, Machine
from tests.local.command import Cli, processes_of

pytestmark = pytest.mark.local
SCHEMA = Path("/usr/lib/python3/dist-packages/compose/config/compose_spec.json")
"""The Compose Specification's schema as docker-compose 1.29 (Debian) carries it."""
USER, WORD = "machine", "of the test's own"
COMPOSE = shutil.which("docker-compose")
MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/bin")
CLIENTS = shutil.which("mosquitto_pub")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
RUNTIME = ["--parameter", f"Runtime=python{PYTHON}"] if PYTHON in ("3.12", "3.13") else []
"""The one thing added to the deployer's command: the emulator runs functions by this interpreter."""
needs_compose = pytest.mark.skipif(COMPOSE is None, reason="docker-compose (Debian package) is not installed")
needs_broker = pytest.mark.skipif(
    MOSQUITTO is None or CLIENTS is None,
    reason="mosquitto and mosquitto-clients (Debian packages) are not installed",
)


# --- the file, by an independent parser -------------------------------------------------------


@needs_compose
@pytest.mark.parametrize("profile", [[], ["--profile", "simulate"]], ids=["plain", "simulate"])
def test_docker_compose_understands_the_file(profile: list[str], tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = ["docker-compose", *profile, "config"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "not even a warning"
    assert [name for name in SERVICES if f"\n  {name}:\n" not in done.stdout] == []


@pytest.mark.skipif(not SCHEMA.is_file(), reason="docker-compose (Debian package) is not installed")
def test_the_file_is_valid_by_the_compose_specification() -> None:
    code = "import json, sys, yaml, jsonschema; jsonschema.validate(*map(yaml.safe_load, map(open, sys.argv[1:])))"
    command = ["/usr/bin/python3", "-I", "-c", code, str(ROOT / "docker-compose.yml"), str(SCHEMA)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


# --- processes --------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def within(limit_s: float, what: Callable[[], Any], why: str) -> Any:
    """What `what` gives as soon as it gives something."""
    deadline_s = time.monotonic() + limit_s
    while time.monotonic() < deadline_s:
        if found := what():
            return found
        time.sleep(0.2)
    return pytest.fail(f"{why} within {limit_s:.0f} s")


class Services:
    """Services as processes of one machine; whatever was started is stopped in the end."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.exports: dict[str, str] = {}
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, service: str) -> dict[str, str]:
        return self.machine.environment(service, self.folder) | self.exports

    def start(self, service: str) -> None:
        with (self.folder / f"{service}.log").open("ab") as log:
            self._running[service] = subprocess.Popen(
                self.machine.run(service),
                cwd=self.folder,
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def finish(self, service: str, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop a service as `docker compose stop` does; its exit code."""
        process = self._running.pop(service)
        assert process.poll() is None, f"{service} ended by itself\n{self.log(service)}"
        process.send_signal(number)
        return process.wait(10)

    def completes(self, service: str, *more: str) -> str:
        """Run a one-shot service to its end; what it wrote to stdout."""
        words = [*self.machine.run(service), *more]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment(service), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def completes_as(self, service: str, *arguments: str) -> str:
        """What a command writes to stdout inside the service, as by `docker compose exec`."""
        words = self.machine.command(["thermocline", *arguments])
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment(service), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def is_well(self, service: str) -> bool:
        """What the service's health check says; one that takes longer than compose allows has failed."""
        limit_s = float(SERVICES[service]["healthcheck"]["timeout"].removesuffix("s"))
        words, environment = self.machine.check(service), self.environment(service)
        try:
            done = subprocess.run(
                words, cwd=self.folder, env=environment, capture_output=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def becomes_well(self, service: str, limit_s: float = 60) -> None:
        within(limit_s, lambda: self.is_well(service), f"{service} did not become healthy")

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def services(replaced: dict[str, str]) -> Generator[Services]:
    with tempfile.TemporaryDirectory(prefix="thermocline-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the broker leaves root behind
        made = Services(Machine(replaced), folder)
        try:
            yield made
        finally:
            made.stop()
            assert not processes_of(folder), "a process was left behind"


# --- LocalStack's part, with a bare emulator in its place ---------------------------------------


def test_the_deployer_and_the_clock_against_an_endpoint_in_localstack_s_place() -> None:
    with Emulator() as emulator:
        port, api = str(emulator.port), str(free_port())
        replaced = {"localstack:4566": f"127.0.0.1:{port}", "127.0.0.1:4566": f"127.0.0.1:{port}"}
        with services(replaced | {"8086": api, "0.0.0.0": "127.0.0.1"}) as here:
            assert here.is_well("localstack")
            assert not here.is_well("clock"), "nothing is deployed yet"
            found = json.loads(here.completes("deployer", *RUNTIME))
            assert json.loads(here.completes("deployer", *RUNTIME)) == found, "again changes nothing"
            check_deployment(emulator.endpoint_url, found)
            check_functions(emulator.endpoint_url, found, here)
            here.start("clock")
            here.becomes_well("clock")
            check_clock(emulator.endpoint_url, found["table"], here)
            assert here.finish("clock") == 130
            here.start("api")
            here.becomes_well("api")
            check_api(f"http://127.0.0.1:{api}", found, here)
            assert here.finish("api") == 0


def check_deployment(endpoint_url: str, found: dict[str, str]) -> None:
    """What is LocalStack's alone: native event sources, expiry switched on, short times, whole packages."""
    functions = localstack.client("lambda", endpoint_url)
    listed = functions.list_event_source_mappings()["EventSourceMappings"]
    assert {one["UUID"] for one in listed} >= {
        found["store_readings_mapping"],
        found["archive_expired_mapping"],
    }
    assert all(one["State"] in ("Enabled", "Enabling") for one in listed)
    for name in ("store_readings", "archive_expired", "index_segment"):
        configuration = functions.get_function_configuration(FunctionName=found[name])
        assert configuration.get("Layers", []) == []
        assert configuration["Architectures"] == [localstack.architecture()]
        assert configuration["CodeSize"] > 1_000_000, "the dependencies are in the package"
    parameters = localstack.connect(endpoint_url).cloudformation.describe_stacks(StackName="thermocline")
    given = {p["ParameterKey"]: p["ParameterValue"] for p in parameters["Stacks"][0]["Parameters"]}
    assert (given["EventSourcesEnabled"], given["DeletionProtection"]) == ("true", "false")
    dynamodb = localstack.client("dynamodb", endpoint_url)
    expiry = dynamodb.describe_time_to_live(TableName=found["table"])["TimeToLiveDescription"]
    assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "ttl")
    layout = DynamoHotStore(dynamodb, found["table"], time.sleep, lambda: 0.5).load_layout()
    assert layout is not None
    assert layout.at(time.time()).archive_after_s == 120


def check_functions(endpoint_url: str, found: dict[str, str], here: Services) -> None:
    """The target's own event sources run the functions, from the packages that were deployed if this
    interpreter can (tests/unit/test_package.py has them run alone); else from our code in their place."""
    functions = localstack.client("lambda", endpoint_url, read_timeout=120)
    if not RUNTIME:
        code = package.build_local(here.folder)["store"].read_bytes()
        for name in ("store_readings", "archive_expired", "index_segment"):
            functions.update_function_code(FunctionName=found[name], ZipFile=code)
    here.completes_as("gateway", "simulate", "--sensors", "3", "--duration", "2m", "--no-wait")
    assert len(rows(here, "sim-0001")) == 120
    order = json.dumps({"source": "thermocline.schedule", "until_s": int(time.time()) + 600})
    answer = functions.invoke(FunctionName=found["archive_expired"], Payload=order.encode())
    told = answer["Payload"].read()
    assert "FunctionError" not in answer, told
    assert json.loads(told)["segments"] >= 1
    listed = here.completes_as("gateway", "archive", "ls", "--format", "ndjson")
    assert "readings/v1/date=" in listed


def check_api(url: str, found: dict[str, str], here: Services) -> None:
    """A function URL in front of the function, and the service itself, which answers who has a token."""
    assert ".lambda-url." in found["api_url"]
    link = here.completes_as("api", "dashboard", "--print", "--url", url).strip()
    place, _, token = link.partition("/#token=")
    assert place == url
    request = Request(f"{url}/v1/sensors", headers={"Authorization": f"Bearer {token}"})
    with urlopen(request, timeout=20) as answer:
        listed = json.loads(answer.read())["sensors"]
    assert "sim-0001" in {sensor["sensor_id"] for sensor in listed}
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"{url}/v1/sensors", timeout=20)


def check_clock(endpoint_url: str, table: str, here: Services) -> None:
    """A ticket that comes due goes, one that is not due stays, and the log says who did it.

    The emulator has an expiry of its own, once a minute: where that was first, another ticket is put.
    """
    dynamodb = localstack.client("dynamodb", endpoint_url)
    hot = DynamoHotStore(dynamodb, table, time.sleep, lambda: 0.5)
    due_s, later_s = int(time.time()) - 1, int(time.time()) + 3600
    due, later = keys.ticket_key(due_s), keys.ticket_key(later_s)
    look = ExpiringTable(dynamodb, table)
    hot.put([encode_open_slot(later_s), encode_ticket(later_s), encode_open_slot(due_s)], lambda: 60_000)

    def taken() -> bool:
        hot.put([encode_ticket(due_s)], lambda: 60_000)
        within(20, lambda: look.present([due, later]) == {later}, "the ticket that was due did not go")
        return "of them deleted by the clock itself (status 404)" in here.log("clock")

    within(40, taken, "the clock took no ticket")


# --- from the broker to a query -----------------------------------------------------------------


@pytest.fixture(scope="module")
def composed() -> Iterator[Services]:
    """The embedded stack where LocalStack would be, and the broker by its own command."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="thermocline-test-")))
        cli = Cli(folder)
        cli.run("up", "-d", "--bucket", "1m", "--window", "200ms")
        stack.callback(cli.run, "down")
        endpoint = cli.json("status")["endpoint_url"].removeprefix("http://")
        inside, published = free_port(), free_port()
        replaced = {
            "localstack:4566": endpoint,
            "mosquitto:1883": f"127.0.0.1:{inside}",
            'hostname="mosquitto", port=1883': f'hostname="127.0.0.1", port={inside}',
        }
        here = stack.enter_context(services(replaced))
        (here.folder / "data").mkdir()
        (here.folder / "data").chmod(0o777)
        settings = BROKER_SETTINGS.read_text().replace("/mosquitto/data", str(here.folder / "data"))
        settings = settings.replace("listener 1883", f"listener {inside} 127.0.0.1")
        settings = settings.replace("listener 1884", f"listener {published} 127.0.0.1")
        (here.folder / "mosquitto.conf").write_text(settings)
        here.machine = Machine(
            {
                **replaced,
                "/mosquitto/data": str(here.folder / "data"),
                "/mosquitto/config": str(here.folder),
                "1883": str(inside),
            }
        )
        here.exports = {"MQTT_USERNAME": USER, "MQTT_PASSWORD": WORD, "PUBLISHED": str(published)}
        here.start("mosquitto")
        here.becomes_well("mosquitto")
        yield here


def publish(here: Services, topic: str, payload: str, *who: str) -> int:
    """`mosquitto_pub` from the host; its exit code."""
    command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", here.exports["PUBLISHED"], "-q", "1"]
    command += ["-t", topic, "-m", payload, *who]
    return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode


@needs_broker
def test_the_host_needs_a_name_and_a_password(composed: Services) -> None:
    assert publish(composed, "iot/v1/a/other", "x", "-u", USER, "-P", WORD) == 0
    assert publish(composed, "iot/v1/a/other", "x", "-u", USER, "-P", "guessed") != 0
    assert publish(composed, "iot/v1/a/other", "x") != 0
    kept = (composed.folder / "data/passwords").read_text()
    assert WORD not in kept
    assert kept.startswith(f"{USER}:$")


@needs_broker
def test_readings_go_from_the_simulator_and_from_a_foreign_client_to_a_query(composed: Services) -> None:
    assert not composed.is_well("gateway"), "there is none yet"
    composed.start("gateway")
    composed.becomes_well("gateway")
    composed.start("simulator")
    now_ms = time.time_ns() // 1_000_000
    reading = json.dumps({"ts": now_ms, "metrics": {"temperature": 21.4}})
    assert publish(composed, "iot/v1/plant-1/press-7/data", reading, "-u", USER, "-P", WORD) == 0
    assert rows(composed, "plant-1/press-7")[0]["temperature"] == 21.4
    assert len(rows(composed, "sim-0020")) >= 1
    assert composed.finish("simulator") != 0
    assert composed.finish("gateway") == 0
    assert not composed.is_well("gateway"), "a gateway that left is not online"


def rows(here: Services, sensor: str) -> list[dict[str, Any]]:
    """The sensor's readings as a query from inside the composition finds them, as soon as there are any."""
    words = ["query", sensor, "--from", "-10m", "--to", "now+1m", "--format", "ndjson"]

    def ask() -> list[dict[str, Any]]:
        return [json.loads(line) for line in here.completes_as("gateway", *words).splitlines()]

    return within(60, ask, f"no reading of {sensor} was found")
