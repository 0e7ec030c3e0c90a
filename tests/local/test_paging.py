"""A million readings, page by page through the API, while they are archived and leave the hot tier."""

from __future__ import annotations

import json
import math
import random
import socket
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from ingest.reading import Column, Run
from ingest.stores import connect
from sensors.publisher import Publisher
from tests.local.command import Cli

pytestmark = pytest.mark.local
SENSOR = "mill/one"
COUNT = 1_000_000
STEP_US = 100_000
START_US = 1_763_676_000_000_000
AT_ONCE = 20_000
LIMIT = 10_000
EXPIRE_AT_PAGE = 10
EXPIRED_AT_PAGE = 70


def value(place: int) -> float:
    return round(20 + 5 * math.sin(place / 5_000) + place % 7 / 100, 2)


@pytest.fixture
def packed(cli: Cli) -> Iterator[Cli]:
    """A stack whose chunks are packed: a million readings are a few dozen items."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    times = ["--archive-after", "1h", "--hot-retention", "8h", "--bucket", "1h"]
    cli.run("up", "-d", "--port", port, "--codec", "packed", *times)
    try:
        yield cli
    finally:
        cli.run("down")


def send(status: dict[str, Any]) -> Column:
    """Put the readings into the stream; the values."""
    values: Column = [value(place) for place in range(COUNT)]
    runs = [
        Run(
            SENSOR,
            [START_US + place * STEP_US for place in range(first, first + AT_ONCE)],
            {"level": values[first : first + AT_ONCE]},
            0,
        )
        for first in range(0, COUNT, AT_ONCE)
    ]
    kinesis = connect.client("kinesis", endpoint_url=status["endpoint_url"], region=status["region"])
    publisher = Publisher(
        kinesis, status["stream"], lanes=2, now=time.monotonic, sleep=time.sleep, random=random.random
    )
    assert publisher.publish(runs).readings == COUNT
    return values


def pages(api_url: str, token: str, options: str) -> Iterator[dict[str, Any]]:
    end_s = (START_US + COUNT * STEP_US) // 1_000_000
    url = f"/v1/sensors/{SENSOR}/readings?from={START_US // 1_000_000}&to={end_s}&shape=columns&{options}"
    while url:
        request = urllib.request.Request(api_url + url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            page = json.load(answer)
        yield page
        url = page["next_url"]


def test_a_million_readings_without_a_gap_or_a_repeat_while_they_move_to_the_cold_tier(
    packed: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    status = packed.json("status")
    token = packed.run("token", "new", "--scope", "read:mill/").strip()
    values = send(status)
    packed.run("flush")

    expiring = None
    told: list[dict[str, Any]] = []
    during: list[int] = []
    for number, page in enumerate(pages(status["api_url"], token, f"limit={LIMIT}&tiers=true")):
        if number == EXPIRE_AT_PAGE:
            expiring = packed.start("expire", "--now", "now+10d")
        if expiring is not None and expiring.poll() is None:
            during.append(number)
            if number == EXPIRED_AT_PAGE:
                expiring.wait(60)
        told.append(page)
    assert expiring is not None
    _, said = expiring.communicate(timeout=60)
    assert expiring.returncode == 0, said

    assert [page["count"] for page in told] == [LIMIT] * (COUNT // LIMIT)
    assert [ts_us for page in told for ts_us in page["ts_us"]] == [
        START_US + place * STEP_US for place in range(COUNT)
    ]
    assert [cell for page in told for cell in page["columns"]["level"]] == values
    assert len(during) > 10, "the pages were read before the readings moved"
    assert sum(page["hot_rows"] for page in told) >= EXPIRE_AT_PAGE * LIMIT
    assert sum(page["cold_rows"] for page in told) >= COUNT - (EXPIRED_AT_PAGE + 1) * LIMIT
    hours = COUNT * STEP_US // 3_600_000_000 + 1
    assert sum(page["cost"]["items"] for page in told) < 12 * hours, "chunks are read again and again"
    told = []

    again = list(pages(status["api_url"], token, "order=desc&limit=100000"))
    assert sum(page["hot_rows"] for page in again) == 0
    assert sum(page["cold_rows"] for page in again) == COUNT
    assert [cell for page in again for cell in page["columns"]["level"]] == values[::-1]
    assert all(len(json.dumps(page, separators=(",", ":"))) <= 5_000_000 for page in again)
