"""The dashboard over hours and in unlucky moments: late refusals, slow answers, other zones, fingers, new metrics."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed (`make dev`)")

import uvicorn

from tests.api_doors import Doors
from tests.browser.site import CHROMIUM, NARROW, Site, Watched, browser, watched
from tests.world import NOW_US, readings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (`apt-get install chromium`)"),
]
HOUR_US = 3_600_000_000
CALLS_OF_LABELS = """
  window.labels = [];
  const draw = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    window.labels.push(String(text));
    return draw.call(this, text, ...rest);
  };
"""


@dataclass
class Small:
    """A server over stores in memory, whose clock stands still."""

    doors: Doors
    site: Site

    def send(self, sensor_id: str, ago_s: int, **columns: list[Any]) -> None:
        """Store readings, one a second."""
        self.doors.api.world.send(readings(sensor_id, NOW_US - ago_s * 1_000_000, 1_000_000, **columns))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def small() -> Iterator[Small]:
    doors = Doors()
    config = uvicorn.Config(doors.server, port=0, log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    made = Small(doors, Site(cast(Any, None), f"http://127.0.0.1:{port}", doors.api.admin))
    made.send("a/1", 3000, t=[float(value % 7) for value in range(2990)])
    made.send("b/1", 3000, t=[1.5] * 2990)
    yield made
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(chromium: Browser, small: Small) -> Iterator[Watched]:
    with watched(chromium, small.site) as found:
        yield found


def _pressed(page: Watched) -> list[str]:
    return sorted(page.page.locator("#metrics [aria-pressed=true]").all_inner_texts())


def test_a_late_refusal_of_the_token_before_keeps_the_new_one(page: Watched, small: Small) -> None:
    held: list[Route] = []

    def answer(route: Route) -> None:
        if "wrong" not in (route.request.headers.get("authorization") or ""):
            route.continue_()
        elif "status" in route.request.url:
            held.append(route)
        else:
            route.fulfill(status=401, json={"title": "no"})

    page.page.route("**/v1/**", answer)
    page.page.goto(f"{small.site.url}/#token=wrong")
    dialog = page.page.locator("#token-dialog")
    dialog.wait_for()
    page.page.fill("#token", small.site.token)
    page.page.keyboard.press("Enter")
    page.drawn()
    assert held
    for route in held:
        route.fulfill(status=401, json={"title": "no"})
    page.page.wait_for_timeout(300)
    assert not dialog.is_visible()


def test_a_sensor_that_sends_its_metrics_in_turn_keeps_them_all(page: Watched, small: Small) -> None:
    page.open("view=chart&s=a/1&r=1h").drawn()
    assert _pressed(page) == ["t"]
    small.send("a/1", 5, humidity=[50.0])
    page.page.fill("#filter", "a/")
    page.until(lambda: page.page.locator(".row[data-id]").count() == 1, "the filtered list")
    page.page.select_option("#detail", "raw")
    page.until(lambda: _pressed(page) == ["humidity", "t"], "both metrics")


def test_a_metric_that_comes_later_is_drawn_once_the_list_tells_of_it(page: Watched, small: Small) -> None:
    page.page.clock.install()
    page.open("view=chart&s=a/1&r=1h").drawn()
    small.send("a/1", 5, humidity=[50.0], state=["on"])
    page.page.clock.fast_forward(10_500)
    page.until(lambda: _pressed(page) == ["humidity", "t"], "the metric that came later")
    assert page.page.locator("#metrics button").count() == 3
    before = len(page.queries)
    page.page.clock.fast_forward(10_500)
    page.until(lambda: len(page.queries) > before, "another poll")
    orders = {tuple(query["metrics"]) for query in page.queries[before:]}
    assert orders == {("t", "humidity")}, "the one that was there keeps its axis"


def test_a_charted_sensor_that_is_not_listed_is_asked_about_again(page: Watched, small: Small) -> None:
    page.page.clock.install()
    page.open("view=chart&s=a/1&r=1h&q=b/").drawn()
    small.send("a/1", 5, humidity=[50.0])
    page.page.clock.fast_forward(31_000)
    page.until(lambda: _pressed(page) == ["humidity", "t"], "the metric that came later")


def test_a_slow_list_is_waited_for_and_not_asked_for_anew(page: Watched) -> None:
    page.page.clock.install()
    page.open("view=chart&s=a/1&r=1h").drawn()
    held: list[Route] = []
    page.page.route("**/v1/sensors?**", lambda route: held.append(route))  # noqa: PLW0108 - playwright marks it
    page.page.clock.fast_forward(10_500)
    page.until(lambda: len(held) == 1, "the next reading of the list")
    for _ in range(3):
        page.page.clock.fast_forward(10_500)
        page.page.wait_for_timeout(50)
    assert len(held) == 1
    held[0].continue_()
    page.page.wait_for_timeout(200)
    page.page.clock.fast_forward(10_500)
    page.until(lambda: len(held) == 2, "the one after it")


def test_what_is_being_written_as_range_is_not_written_over(page: Watched) -> None:
    page.open("view=chart&s=a/1&r=1h").drawn()
    page.page.fill("#from", "-3h")
    page.page.keyboard.press("Tab")
    before = len(page.queries)
    page.until(lambda: len(page.queries) >= before + 2, "two polls")
    assert page.page.input_value("#from") == "-3h"
    page.page.keyboard.press("Enter")
    page.until(lambda: "r=3h" in page.address, "the range that was written")
    page.page.fill("#from", "2026-11-20 21:10")
    page.page.fill("#to", "2026-11-20 21:20")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.page.input_value("#from") == "2026-11-20 21:10:00", "the range in full")
    page.page.click("#ranges [data-range='6h']")
    page.until(lambda: page.page.input_value("#from") == "-6h", "the range of the button")


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/St_Johns"])
def test_the_axis_has_whole_hours_of_the_zone_that_is_shown(
    chromium: Browser, small: Small, zone: str
) -> None:
    with watched(chromium, small.site, timezone_id=zone) as page:
        page.page.add_init_script(CALLS_OF_LABELS)
        page.open("view=chart&s=a/1&r=6h").drawn()

        def hours() -> set[str]:
            texts: list[str] = page.page.evaluate("window.labels.splice(0)")
            lines = [text.split("\n")[0] for text in texts]
            return {line[-3:] for line in lines if line[:2].isdigit() and line[2:3] == ":"}

        assert hours() == {":00"}
        page.page.keyboard.press("u")
        page.until(lambda: page.page.locator("#zone").inner_text() == "Local", "local time")
        page.page.wait_for_timeout(100)
        assert hours() == {":00"}


def test_nothing_is_asked_for_while_a_finger_is_down(chromium: Browser, small: Small) -> None:
    with watched(chromium, small.site, NARROW, has_touch=True) as page:
        page.open("view=chart&s=a/1&r=15m").drawn()
        box = page.plot.bounding_box()
        assert box is not None
        touches = page.page.context.new_cdp_session(page.page)

        def touch(kind: str, share: float) -> None:
            points = [{"x": box["x"] + box["width"] * share, "y": box["y"] + 40}]
            touches.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [] if kind == "touchEnd" else points},
            )

        touch("touchStart", 0.2)
        for step in range(1, 5):
            touch("touchMove", 0.2 + step / 10)
        page.until(lambda: "from=" in page.address, "the view to move")
        before, there = len(page.queries), page.address
        page.page.wait_for_timeout(500)
        assert len(page.queries) == before
        touch("touchMove", 0.8)
        page.until(lambda: page.address != there, "the view to move on")
        touch("touchEnd", 0)
        page.until(lambda: len(page.queries) > before, "what is in view now")


def test_readings_that_do_not_fit_an_answer_are_not_asked_for_over_and_over(page: Watched) -> None:
    """An answer may be cut by its bytes or its time though it holds few rows."""

    def cut(route: Route) -> None:
        body = route.request.post_data_json or {}
        answer = route.fetch()
        if "every" in body:
            route.fulfill(response=answer)
        else:
            route.fulfill(response=answer, json={**answer.json(), "truncated": True, "next": "later"})

    page.page.route("**/v1/query", cut)
    page.open("view=chart&s=b/1&from=2026-11-20T21:15:00Z&to=2026-11-20T21:40:00Z").drawn()
    page.page.wait_for_timeout(500)
    assert 2 <= len(page.queries) <= 4
    assert "every" in page.queries[-1]


def test_hours_of_polling_hold_no_more_than_what_is_in_view(page: Watched) -> None:
    """The arithmetic of a live chart, without its hours: what is kept after each poll."""
    page.open("view=chart&s=a/1&r=5m").drawn()
    most = page.page.evaluate(
        """async () => {
          const { Kept } = await import("./series.js");
          const kept = new Kept();
          let most = 0;
          for (let second = 0; second < 20000; second += 5) {
            const ts = Array.from({ length: 10 }, (_, i) => (second - 5 + i) * 1e6);
            const [from, to] = [second - 5, second + 5].map((at) => new Date(at * 1000).toISOString());
            const tiers = [{ from, to, tier: second % 100 ? "hot" : "both" }];
            kept.take({ ts_us: ts, columns: { t: ts }, tiers }, second - 5);
            kept.prune(second - 330);
            most = Math.max(most, kept.ts.length, kept.columns.get("t").length, kept.tiers.length);
          }
          return most;
        }"""
    )
    assert most < 1000
