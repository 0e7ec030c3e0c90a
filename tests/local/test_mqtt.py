"""Sensors that speak MQTT, by way of a real Mosquitto: nothing is lost, nothing doubled, whatever is killed."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.kinesis_records import user_records
from ingest.plan import Query
from ingest.query import Sources, answer
from ingest.reading import Run, Span
from ingest.settings import Settings
from ingest.stores.connect import client, stores
from ingest.wire import decode_all
from sensors import simulator
from tests.local import broker as brokers
from tests.local.broker import Mosquitto
from tests.local.command import Cli
from tests.local.refusing_proxy import RefusingProxy

pytestmark = [
    pytest.mark.local,
    pytest.mark.skipif(
        bool(brokers.missing()), reason=f"not installed: {brokers.missing()} (Debian: mosquitto)"
    ),
]
START_S = 1_763_676_000
SENSORS, SECONDS = 100, 600


class Running:
    """A gateway as a process; what it says on stderr is read as it comes."""

    def __init__(self, cli: Cli, *arguments: str, endpoint_url: str | None = None) -> None:
        extra = ["--metrics-interval", "200ms", *arguments]
        self.process = cli.start(
            "gateway", *extra, environment={} if endpoint_url is None else {"AWS_ENDPOINT_URL": endpoint_url}
        )
        self.events: list[dict[str, Any]] = []
        self.other: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if line.startswith("{"):
                self.events.append(json.loads(line))
            else:
                self.other.append(line)

    def metrics(self) -> dict[str, Any]:
        return next((event for event in reversed(self.events) if event["event"] == "metrics"), {})

    def wait(self, what: Callable[[dict[str, Any]], bool], limit_s: float = 30) -> dict[str, Any]:
        """The first metrics that are as wanted."""
        give_up = time.monotonic() + limit_s
        while not what(found := self.metrics()):
            assert self.process.poll() is None, (
                f"the gateway ended\n{''.join(self.other)}\n{self.events[-5:]}"
            )
            assert time.monotonic() < give_up, f"not reached: {found}\n{self.events[-5:]}"
            time.sleep(0.02)
        return found

    def wait_until_connected(self) -> None:
        """Return when it has had its own status back: then it is connected and subscribed."""
        self.wait(lambda found: found.get("received", 0) > 0)

    def wait_until_idle(self) -> None:
        """Return when everything was acknowledged and nothing has come for a while."""
        since_s, before = time.monotonic(), -1
        while time.monotonic() - since_s < 1.5:
            found = self.wait(lambda found: found.get("unacknowledged") == 0 and found["connected"])
            if found["received"] != before:
                since_s, before = time.monotonic(), found["received"]
            time.sleep(0.1)

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self._end()

    def _end(self) -> int:
        code = self.process.wait(40)
        self._reader.join(10)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return code


@pytest.fixture
def broker(stack: Cli, tmp_path: Path) -> Iterator[Mosquitto]:
    found = Mosquitto(tmp_path / "broker")
    found.start()
    try:
        yield found
    finally:
        found.stop()


@pytest.fixture
def proxy(stack: Cli) -> Iterator[RefusingProxy]:
    found = RefusingProxy(stack.json("status")["endpoint_url"], nth=20)
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def gateway(stack: Cli) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(*arguments: str, **more: Any) -> Running:
        started.append(Running(stack, *arguments, **more))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.kill()


def answers(cli: Cli) -> Callable[[str], Any]:
    """What a query gives for a sensor of the fleet, without a process for each."""
    status = cli.json("status")
    settings = Settings(status["table"], status["archive_bucket"], "")
    found = stores(settings, endpoint_url=status["endpoint_url"], region=status["region"])
    layout = found.hot.load_layout()
    assert layout is not None
    sources = Sources(found.hot, found.catalog, found.cold, layout, time.perf_counter)
    span = Span(START_S * 1_000_000, (START_S + 86_400) * 1_000_000)
    return lambda sensor_id: answer(Query(sensor_id, span), sources, time.time()).run


def test_what_another_client_publishes_is_answered_or_rejected(
    stack: Cli, broker: Mosquitto, gateway: Callable[..., Running]
) -> None:
    running = gateway("--mqtt", broker.url, "--flush", "200ms", "--client-id", "first")
    running.wait_until_connected()
    assert broker.retained("iot/v1/gateway/first/status") == "online"
    topic = "iot/v1/plant-1/press-7/data"
    broker.publish(topic, json.dumps({"ts": START_S * 1000, "metrics": {"temperature": 21.4}}))
    broker.publish(topic, json.dumps({"sensor_id": "press-8", "ts": START_S * 1000, "temperature": 1}))
    broker.publish(topic, "no reading at all")
    broker.publish("iot/v1/plant-1/press-7/other", "not ours")
    running.wait(lambda found: found["acknowledged"] >= 5)
    assert running.stop() == 0, running.other
    assert broker.retained("iot/v1/gateway/first/status") == "offline"
    assert "reading at all" not in json.dumps(running.events), "a payload in the log"
    stack.run("flush")
    rows = stack.rows("plant-1/press-7", "--from", str(START_S), "--to", str(START_S + 60))
    assert [row["temperature"] for row in rows] == ["21.4"]
    assert stack.rows("press-8", "--from", str(START_S), "--to", str(START_S + 60)) == []
    rejects = stack.json("rejects", "ls")
    assert sorted(found["reason"] for found in rejects) == ["not_json", "sensor_mismatch"]
    assert {found["sensor_id"] for found in rejects} == {"plant-1/press-7"}


def test_a_killed_gateway_is_offline_for_all_to_see(
    stack: Cli, broker: Mosquitto, gateway: Callable[..., Running]
) -> None:
    running = gateway("--mqtt", broker.url, "--client-id", "second", "--mqtt-version", "3.1.1")
    running.wait_until_connected()
    running.kill()
    give_up = time.monotonic() + 10
    while broker.retained("iot/v1/gateway/second/status") != "offline":
        assert time.monotonic() < give_up


def test_a_wrong_password_is_told_at_once(stack: Cli, broker: Mosquitto) -> None:
    url = f"mqtt://{brokers.USER}@127.0.0.1:{broker.port}"
    stack.run("gateway", "--mqtt", url, "--password", "wrong", expect=4)
    stack.run("simulate", "--via", "mqtt", "--mqtt", url, "--password", "wrong", expect=4)


def test_what_is_unacknowledged_stays_bounded(
    stack: Cli, broker: Mosquitto, gateway: Callable[..., Running]
) -> None:
    running = gateway("--mqtt", broker.url, "--flush", "1h", "--receive-maximum", "40")
    running.wait_until_connected()
    arguments = ["--sensors", "20", "--duration", "60s", "--start", str(START_S + 172_800)]
    stack.run("simulate", "--via", "mqtt", "--mqtt", broker.url, *arguments)
    statuses = 1 + 2 + 2 * 20  # the gateway's, and what the client and its sensors are, online and offline
    running.wait(lambda found: found["received"] == 1200 + statuses)
    assert running.stop() == 0
    counts = [event["unacknowledged"] for event in running.events if event["event"] == "metrics"]
    assert max(counts) <= 80, (
        "Mosquitto 2.0.11 sends more than it was asked to; no more than twice that is read"
    )
    assert running.metrics()["readings"] == 1200


def test_an_aligned_gateway_ends_what_it_sends_by_the_clock(
    stack: Cli, broker: Mosquitto, gateway: Callable[..., Running]
) -> None:
    every_us = 3_000_000
    running = gateway("--mqtt", broker.url, "--flush", "3s", "--align", "--client-id", "third")
    running.wait(lambda found: found.get("connected", False))
    time.sleep(0.3)
    arguments = ["--sensors", "1", "--rate", "2", "--duration", "14s", "--speed", "1"]
    stack.run("simulate", "--via", "mqtt", "--mqtt", broker.url, *arguments)
    begin_us = int(time.time() - 60) * 1_000_000
    assert running.stop() == 0, running.other
    assert running.metrics()["readings"] == 28
    runs = [run for run in sent_to(stack) if run.ts_us[0] >= begin_us]
    assert sum(len(run.ts_us) for run in runs) == 28
    whole = [run for run in runs if run.ts_us[0] // every_us == run.ts_us[-1] // every_us]
    assert len(whole) >= 0.75 * len(runs), "without --align one flush in six would happen to end there"
    assert max(len(run.ts_us) for run in whole) == 6


def sent_to(cli: Cli) -> list[Run]:
    """Every run that is in the stream."""
    status = cli.json("status")
    kinesis = client("kinesis", endpoint_url=status["endpoint_url"], region=status["region"])
    found: list[Run] = []
    for shard in kinesis.list_shards(StreamName=status["stream"])["Shards"]:
        place = {"StreamName": status["stream"], "ShardId": shard["ShardId"]}
        following = kinesis.get_shard_iterator(**place, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        while page := kinesis.get_records(ShardIterator=following):
            for record in page["Records"]:
                payloads, _ = user_records(record["Data"])
                found += decode_all(payloads, int(time.time() * 1000))[0]
            following = page.get("NextShardIterator")
            if not page["Records"] or following is None:
                break
    return found


def test_gateways_of_one_share_divide_the_messages(
    stack: Cli, broker: Mosquitto, gateway: Callable[..., Running]
) -> None:
    options = ["--mqtt", broker.url, "--flush", "200ms", "--share", "fleet"]
    both = [gateway(*options, "--client-id", name) for name in ("left", "right")]
    for running in both:
        running.wait(lambda found: found.get("connected", False))
    time.sleep(0.3)  # a member of a share sees no message of its own by which its subscription could be known
    arguments = ["--sensors", "20", "--duration", "50s", "--start", str(START_S + 259_200)]
    stack.run("simulate", "--via", "mqtt", "--mqtt", broker.url, "--mqtt-version", "3.1.1", *arguments)
    give_up = time.monotonic() + 20
    while sum(running.metrics()["readings"] for running in both) < 1000:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    assert all(running.metrics()["readings"] > 100 for running in both)
    assert [running.stop() for running in both] == [0, 0]


@pytest.mark.timeout(120)
def test_a_fleet_arrives_exactly_while_everything_is_killed(
    stack: Cli, broker: Mosquitto, proxy: RefusingProxy, gateway: Callable[..., Running]
) -> None:
    began_s = time.monotonic()
    options = ["--mqtt", broker.url, "--flush", "300ms", "--client-id", "carrier"]
    running = gateway(*options, endpoint_url=proxy.url)
    running.wait_until_connected()
    size = ["--sensors", str(SENSORS), "--rate", "1", "--duration", f"{SECONDS}s", "--start", str(START_S)]
    sender = stack.start("simulate", "--via", "mqtt", "--mqtt", broker.url, "--clients", "2", *size)
    try:
        running.wait(lambda found: found["received"] > 3_000)
        kill_between_accepting_and_answering(proxy, running)
        running = gateway(*options, endpoint_url=proxy.url)
        running.wait(lambda found: found.get("received", 0) > 5_000)
        broker.restart()
        running.wait(lambda found: found["connects"] == 2 and found["received"] > 6_000)
        running.kill()
        broker.restart()
        running = gateway(*options, endpoint_url=proxy.url)
        running.wait(lambda found: found.get("received", 0) > 1_000)
        kill_between_accepting_and_answering(proxy, running)
        running = gateway(*options, endpoint_url=proxy.url)
        out, err = sender.communicate(timeout=60)
    finally:
        sender.kill()
        sender.communicate()
    assert sender.returncode == 0, err
    assert json.loads(out)["sent"] == SENSORS * SECONDS
    running.wait_until_idle()
    assert running.stop() == 0
    stack.run("flush")
    assert proxy.refused >= 10
    query = answers(stack)
    fleet = simulator.Fleet(SENSORS, 1.0, START_S * 1_000_000, SECONDS * 1_000_000)
    truth = simulator.truth(fleet)
    found = {sensor_id: query(sensor_id) for sensor_id in truth}
    missing = {
        sensor_id: lost
        for sensor_id, sent in truth.items()
        if (lost := sorted(set(sent.ts_us) - set(found[sensor_id].ts_us)))
    }
    assert missing == {}, f"{sum(map(len, missing.values()))} readings are missing"
    for sensor_id, sent in truth.items():
        assert found[sensor_id].ts_us == sent.ts_us
        assert found[sensor_id].metrics == sent.metrics
    assert time.monotonic() - began_s < 90


def kill_between_accepting_and_answering(proxy: RefusingProxy, running: Running) -> None:
    """Kill the gateway when Kinesis has accepted records and the gateway does not know yet."""
    done = threading.Event()

    def kill() -> None:
        if not done.is_set():
            running.process.kill()
            done.set()

    proxy.accepted = kill
    try:
        assert done.wait(20), "nothing was sent"
    finally:
        proxy.accepted = None
    running.kill()
