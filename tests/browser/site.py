"""The dashboard on a local stack, in a real browser: what its tests and its pictures share."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit

import boto3
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, sync_playwright

from infra.local.emulator import free_port
from tests.local.command import Cli

CHROMIUM = shutil.which("chromium")
SWITCHES = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
WIDE = (1440, 900)
NARROW = (390, 844)


def rfc3339(ts_s: float) -> str:
    """The instant as the API writes it, to the millisecond."""
    return datetime.fromtimestamp(ts_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Site:
    """A running stack, its API, and an admin token."""

    cli: Cli
    url: str
    token: str

    def api(self, method: str, path: str, body: object = None) -> Any:
        """The decoded answer; raises HTTPError where the API refuses."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def send(self, sensor_id: str, ts_s: float, **metrics: object) -> None:
        """Send one reading by way of the API."""
        self.api(
            "POST", "/v1/readings", {"sensor_id": sensor_id, "ts": round(ts_s * 1000), "metrics": metrics}
        )

    def send_bytes(self, payload: bytes) -> None:
        """Put bytes into the stream behind the API's back."""
        state = self.cli.json("status")
        secrets = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        kinesis = boto3.client(
            "kinesis", endpoint_url=state["endpoint_url"], region_name=state["region"], **secrets
        )
        kinesis.put_record(StreamName=state["stream"], Data=payload, PartitionKey="lane")

    def stored(self, sensor_id: str, ts_s: float) -> float:
        """When (by time.monotonic) the reading was first seen to be stored."""
        wanted = rfc3339(ts_s).rstrip("0Z").rstrip(".")
        for _ in range(600):
            asked_s = time.monotonic()
            with suppress(HTTPError):  # 404 before the first one
                latest = self.api("GET", f"/v1/sensors/{quote(sensor_id, safe='')}/latest")
                if latest["timestamp"].startswith(wanted):
                    return asked_s
            time.sleep(0.02)
        raise AssertionError(f"{sensor_id} at {wanted} was not stored")


@contextmanager
def site(folder: Path, *options: str) -> Generator[Site]:
    """A stack of one's own, stopped at the end."""
    cli = Cli(folder)
    ports = ("--port", str(free_port()), "--api-port", str(free_port()))
    cli.run("up", "-d", *ports, *options)
    try:
        token = cli.run("token", "new", "--scope", "admin").strip()
        yield Site(cli, cli.json("status")["api_url"].rstrip("/"), token)
    finally:
        cli.run("down")


@contextmanager
def browser() -> Generator[Browser]:
    """Debian's Chromium without a window."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(SWITCHES))
        try:
            yield running
        finally:
            running.close()


@dataclass
class Watched:
    """A page, what went wrong in it, whom it asked, and the queries of its chart (sparklines left out)."""

    page: Page
    site: Site
    faults: list[str] = field(default_factory=list[str])
    hosts: set[str] = field(default_factory=set[str])
    queries: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def begin(self) -> None:
        """Listen to what happens."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning", "assert"):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if request.url.startswith(("http:", "https:")):
            self.hosts.add(urlsplit(request.url).netloc)
        body = request.post_data_json if request.url.endswith("/v1/query") else None
        if body and "tiers" in body:
            self.queries.append(body)

    def open(self, view: str) -> Watched:
        """Open the page with the token, as `thermocline dashboard` does, at a view (`view=chart&s=…`)."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.site.url}/#token={self.site.token}&{view}")
        return self

    def until(self, holds: Callable[[], object], what: str, within_s: float = 10.0) -> None:
        """Wait, at least as often as every 20 ms, until it holds."""
        give_up = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < give_up, f"{what}, not within {within_s} s; {self.page.url}"
            self.page.wait_for_timeout(20)

    def drawn(self) -> Watched:
        """Wait for lines on the chart."""
        self.page.locator("#legend tbody tr").first.wait_for(timeout=15_000)
        self.page.locator("#progress").wait_for(state="hidden")
        return self

    @property
    def address(self) -> str:
        """What the address holds behind the `#`."""
        return self.page.evaluate("location.hash.slice(1)")

    @property
    def plot(self) -> Locator:
        """Where points are drawn."""
        return self.page.locator(".u-over")

    def drag(self, start: float, end: float, steps: int = 6) -> None:
        """Drag over the plot from one share of its width to another."""
        box = self.plot.bounding_box()
        assert box is not None
        height = box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] * start, height)
        self.page.mouse.down()
        self.page.mouse.move(box["x"] + box["width"] * end, height, steps=steps)
        self.page.mouse.up()


@contextmanager
def watched(
    chromium: Browser, where: Site, size: tuple[int, int] = WIDE, scheme: Any = "light", **more: Any
) -> Generator[Watched]:
    """A fresh page in a context of its own."""
    viewport: Any = {"width": size[0], "height": size[1]}
    context = chromium.new_context(viewport=viewport, color_scheme=scheme, **more)
    found = Watched(context.new_page(), where)
    found.begin()
    try:
        yield found
    finally:
        context.close()
