"""What LocalStack does otherwise than AWS, against stubs of it: its expiry endpoint, and starting slowly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from infra import localstack
from infra.deploy import Clock
from infra.local.invoker import Answer
from infra.local.sweep import ExpiringTable
from infra.local.ttl_clock import ClockOptions, TtlClock
from infra.localstack import Expiry, expire_now
from infra.localstack_clock import LocalStackClock, Tick
from ingest import keys
from ingest.errors import BadInput, Refused, Unavailable
from ingest.item import Item, make_item
from ingest.keys import Key, Period, first_layout
from ingest.manifest import encode_manifests, encode_open_slot, encode_ticket
from ingest.stores.hot import DynamoHotStore

NOW_S = 1_800_000_000
BATCH = "aaaaaaaaaaaaaaaa"
PERIOD = Period(0, 60, 60, 600, 86_400)
HALF_MARGIN_S = PERIOD.margin_s // 2


@contextmanager
def answering(
    status: int, body: bytes, act: Callable[[], None] = lambda: None
) -> Generator[tuple[str, list[str]]]:
    """A server that does `act` and answers alike to everything; its address, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            asked.append(f"DELETE {self.path}")
            act()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Rig:
    """The clock over a real table, an archiver that does what the clock relies on, and any expiry endpoint."""

    def __init__(self, client: Any, streams: Any, table: str) -> None:
        self.client, self.streams, self.name = client, streams, table
        self.now_s = float(NOW_S)
        self.archived: list[bytes] = []
        self.hot = DynamoHotStore(client, table, time.sleep, lambda: 0.5)
        self.hot.save_layout(first_layout(PERIOD), None)
        self.table = ExpiringTable(client, table)
        self.ttl = TtlClock(
            self.hot,
            client,
            table,
            self.archive,
            drain=lambda: None,
            idle=lambda: True,
            options=ClockOptions(grace_s=300, overdue_s=30),
            clock=lambda: self.now_s,
        )

    def archive(self, event: bytes) -> Answer:
        self.archived.append(event)
        return Answer(reached=True)

    def tick(self, expire: Callable[[], Expiry]) -> Tick:
        return LocalStackClock(self.hot, self.table, self.ttl, expire, lambda: self.now_s).tick()

    def open(self, slot_s: int) -> Key:
        """What a batch writes for a slot; the key of its one chunk, which expires a margin later."""
        chunk = keys.chunk_key("press-7", slot_s - slot_s % 60, BATCH, 0)
        self.put(encode_open_slot(slot_s), encode_ticket(slot_s))
        self.put(*encode_manifests(slot_s, BATCH, slot_s - 60, [chunk], PERIOD))
        self.put(
            make_item(
                {"pk": {"S": chunk.pk}, "sk": {"S": chunk.sk}, "ttl": {"N": str(slot_s + PERIOD.margin_s)}}
            )
        )
        return chunk

    def put(self, *items: Item) -> None:
        self.hot.put(items, lambda: 60_000)

    def delete_expired(self) -> None:
        """What LocalStack's endpoint does: everything past its `ttl`, unconditionally, archived or not."""
        for item in self.client.scan(TableName=self.name)["Items"]:
            if "ttl" in item and int(item["ttl"]["N"]) <= self.now_s:
                self.client.delete_item(TableName=self.name, Key={"pk": item["pk"], "sk": item["sk"]})

    def held(self) -> set[Key]:
        items = self.client.scan(TableName=self.name)["Items"]
        return {Key(item["pk"]["S"], item["sk"]["S"]) for item in items}

    def removed(self) -> list[dict[str, Any]]:
        """The REMOVE records in the table's stream."""
        arn = self.client.describe_table(TableName=self.name)["Table"]["LatestStreamArn"]
        shard = self.streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"][0]["ShardId"]
        start = {"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
        iterator = self.streams.get_shard_iterator(**start)["ShardIterator"]
        records = self.streams.get_records(ShardIterator=iterator)["Records"]
        return [one for one in records if one["eventName"] == "REMOVE"]


@pytest.fixture
def rig(emulator_client: Callable[[str], Any], table_name: str) -> Iterator[Rig]:
    made = Rig(emulator_client("dynamodb"), emulator_client("dynamodbstreams"), table_name)
    yield made
    made.ttl.stop()


def test_an_endpoint_that_does_its_work_is_believed_because_it_was_checked(rig: Rig) -> None:
    chunk = rig.open(NOW_S - 1)
    later = rig.open(NOW_S + 60)
    with answering(200, b'{"ExpiredItems": 1}', rig.delete_expired) as (url, asked):
        assert rig.tick(lambda: expire_now(url)) == Tick(due=1, by_endpoint=1, left=0)
    assert asked == ["DELETE /_aws/dynamodb/expired"]
    assert [one["dynamodb"]["Keys"]["pk"]["S"] for one in rig.removed()] == [f"t#{NOW_S - 1}"]
    assert {chunk, later, keys.ticket_key(NOW_S + 60)} <= rig.held()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b'{"ExpiredItems": 7}', ""),
        (200, b'{"ExpiredItems": 0}', ""),
        (200, b"ok", "an answer without a count"),
        (200, b"[]", "an answer without a count"),
        (404, b"<Error/>", "status 404"),
        (500, b"", "status 500"),
    ],
    ids=["lies", "finds nothing", "no json", "other json", "is not there", "fails"],
)
def test_an_endpoint_that_deletes_nothing_is_made_up_for(
    rig: Rig, status: int, body: bytes, reason: str
) -> None:
    rig.open(NOW_S - 1)
    rig.open(NOW_S + 60)
    with answering(status, body) as (url, _):
        tick = rig.tick(lambda: expire_now(url))
    assert tick == Tick(due=1, by_endpoint=0, left=1, asked=status == 200, reason=reason)
    removed = rig.removed()
    assert [one["dynamodb"]["Keys"]["pk"]["S"] for one in removed] == [f"t#{NOW_S - 1}"]
    assert "userIdentity" not in removed[0]
    assert keys.ticket_key(NOW_S + 60) in rig.held()


def test_an_endpoint_that_is_not_reached_is_made_up_for(rig: Rig, unused_tcp_port: int) -> None:
    rig.open(NOW_S - 1)
    tick = rig.tick(lambda: expire_now(f"http://127.0.0.1:{unused_tcp_port}"))
    assert (tick.left, tick.asked) == (1, False)
    assert "refused" in tick.reason
    assert keys.ticket_key(NOW_S - 1) not in rig.held()


def test_the_endpoint_is_never_asked_while_it_would_take_what_is_not_archived(rig: Rig) -> None:
    """As after a night with the containers stopped: tickets and chunks are past their time together."""
    chunk = rig.open(NOW_S - PERIOD.margin_s - 5)
    asked: list[int] = []
    for _ in range(2):
        tick = rig.tick(lambda: asked.append(1) or Expiry(answered=True))
        assert not tick.asked
    assert asked == []
    assert [one["dynamodb"]["Keys"]["pk"]["S"] for one in rig.removed()] == [
        f"t#{NOW_S - PERIOD.margin_s - 5}"
    ]
    assert chunk in rig.held()


@pytest.mark.parametrize(("late_s", "asked"), [(HALF_MARGIN_S - 1, True), (HALF_MARGIN_S, False)])
def test_half_the_margin_is_how_late_a_slot_may_be(rig: Rig, late_s: int, asked: bool) -> None:
    rig.open(NOW_S - late_s)
    assert rig.tick(lambda: Expiry(answered=True)).asked is asked


def test_a_slot_that_was_archived_late_does_not_keep_the_endpoint_away(rig: Rig) -> None:
    slot_s = NOW_S - PERIOD.margin_s - 5
    rig.open(slot_s)
    rig.hot.delete([manifest.key for page in rig.hot.manifests(slot_s) for manifest in page])
    assert rig.tick(lambda: Expiry(answered=True)).asked


def test_an_overdue_slot_is_handed_to_the_archiver(rig: Rig) -> None:
    rig.open(NOW_S - 5)
    rig.tick(lambda: Expiry(answered=True))
    assert rig.archived == []
    rig.now_s += 31
    rig.tick(lambda: Expiry(answered=True))
    deadline = time.monotonic() + 5
    while not rig.archived and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(rig.archived) == 1
    assert b"thermocline.schedule" in rig.archived[0]


def test_turns_that_fail_are_told_once_and_do_not_end_the_clock(rig: Rig) -> None:
    told: list[str] = []
    waits = iter([False, False, False, True])
    failing = iter([True, True, False, False])

    def expire() -> Expiry:
        if next(failing):
            raise Unavailable("LocalStack went away.")
        return Expiry(answered=True)

    rig.open(NOW_S - 1)
    clock = LocalStackClock(rig.hot, rig.table, rig.ttl, expire, lambda: rig.now_s)
    clock.run(5.0, lambda _: next(waits), told.append)
    assert told == [
        "A turn was missed: LocalStack went away.",
        "1 tickets expired, 1 of them deleted by the clock itself (it answered and left them).",
    ]


# --- reaching it ----------------------------------------------------------------------------


def test_clients_are_those_of_localstack_client(emulator_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    made = localstack.client("kinesis", emulator_url)
    assert made.meta.endpoint_url == emulator_url
    assert made.list_streams()["ResponseMetadata"]["HTTPStatusCode"] == 200
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(BadInput, match="AWS_ENDPOINT_URL"):
        localstack.client("kinesis", emulator_url)


def test_it_is_waited_for_until_every_service_answers(
    emulator_url: str, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    slept: list[float] = []
    time_s = [0.0]

    def sleep(pause_s: float) -> None:
        slept.append(pause_s)
        time_s[0] += pause_s

    clock = Clock(lambda: time_s[0], sleep)
    localstack.wait_until_healthy(emulator_url, clock)
    assert slept == []
    with pytest.raises(Unavailable, match=r"sts within 20 s .*AWS_ENDPOINT_URL"):
        localstack.wait_until_healthy(f"http://127.0.0.1:{unused_tcp_port}", clock, limit_s=20)
    assert 15 < sum(slept) <= 20
    assert max(slept) <= 5


@pytest.mark.parametrize("url", [None, "https://dynamodb.us-east-1.amazonaws.com", "https://s3.eu.api.aws"])
def test_aws_itself_is_left_alone(url: str | None) -> None:
    with pytest.raises(Refused, match="by itself"):
        localstack.check_endpoint(url)


@pytest.mark.parametrize("url", ["localstack:4566", "ftp://x", "http://", "http://x:y", "http://x/path"])
def test_an_endpoint_that_is_none_is_named(url: str) -> None:
    with pytest.raises(BadInput, match="endpoint"):
        localstack.check_endpoint(url)


def test_functions_run_on_this_machine_s_processor() -> None:
    assert localstack.architecture("AMD64") == "x86_64"
    assert localstack.architecture("aarch64") == "arm64"
    assert localstack.architecture() in ("x86_64", "arm64")
    with pytest.raises(BadInput, match="riscv64"):
        localstack.architecture("riscv64")
