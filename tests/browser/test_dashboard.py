"""The dashboard as a user meets it: the real page of a real stack, in Chromium."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest

from ingest.times import parse_duration
from tests.local.command import processes_of

pytest.importorskip("playwright.sync_api", reason="playwright is not installed (`make dev`)")

from pyarrow import parquet

from tests.browser.site import (
    CHROMIUM,
    NARROW,
    Site,
    Watched,
    browser,
    rfc3339,
    site,
    watched,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [
    pytest.mark.local,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (`apt-get install chromium`)"),
]
HOT_RETENTION_S = 20
HOSTILE = "<img src=x onerror=\"document.title='taken'\">אבג"
DENSE = 100_000
"""Readings of the sensor that is drawn whole."""
WORST_FRAME_MS = 100
MOST_PAGE_BYTES = 80_000


@dataclass(frozen=True)
class Seeded:
    """The site, and the spans (seconds) of what it was sent."""

    site: Site
    dense: tuple[float, float]
    usual: tuple[float, float]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def seeded() -> Iterator[Seeded]:
    with tempfile.TemporaryDirectory(prefix="thermocline-test-") as folder:
        retention = f"{HOT_RETENTION_S}s"
        options = ("--archive-after", "5s", "--hot-retention", retention, "--bucket", "10m")
        with site(Path(folder), *options) as running:
            now_s = int(time.time())
            usual, dense = now_s - 3000, now_s - 86_400
            simulate = ("simulate", "--no-wait", "--start")
            running.cli.run(*simulate, str(dense), "--sensors", "1", "--rate", "100", "--duration", "1000s")
            running.cli.run("simulate", "--start", str(usual), "--sensors", "3", "--duration", "40m")
            evil = running.api("PUT", "/v1/sensors/evil:1", {"name": HOSTILE, "units": {"value": "<b>"}})
            assert evil["name"] == HOSTILE
            running.send_bytes(b'{"sensor_id": "bad", "ts": 1000, "metrics": {"<i>": 1}}')
            yield Seeded(running, (dense, dense + 1000), (usual, usual + 2400))
        assert not processes_of(Path(folder)), "a process was left behind"


@pytest.fixture
def page(chromium: Browser, seeded: Seeded) -> Iterator[Watched]:
    """A page that must do nothing wrong: no error, no violation of the policy, no other host."""
    with watched(chromium, seeded.site, accept_downloads=True) as found:
        yield found
        assert found.faults == []
        assert found.hosts <= {urlsplit(seeded.site.url).netloc}


def told(text: str) -> None:
    """Show a measured figure beside the test's outcome (`pytest -s`)."""
    sys.stdout.write(f"{text}\n")


def usual_view(seeded: Seeded, more: str = "") -> str:
    start, end = seeded.usual
    return f"view=chart&s=sim-0001&m=temperature&from={rfc3339(start)}&to={rfc3339(end)}{more}"


def asked(query: dict[str, Any]) -> tuple[float, float]:
    """Length of the range and of a window, in seconds."""
    start, end = (datetime.fromisoformat(query[name]).timestamp() for name in ("from", "to"))
    return end - start, parse_duration(query["every"]) / 1e6 if "every" in query else 0.0


# --- the chart ------------------------------------------------------------------------------


def test_a_new_reading_is_drawn_within_two_seconds_of_being_stored(page: Watched, seeded: Seeded) -> None:
    where, last = seeded.site, page.page.locator("#legend td.at").first
    now_s = round(time.time(), 3)
    where.send("live-1", now_s, value=1.5)
    where.stored("live-1", now_s)
    page.open("view=chart&s=live-1&r=5m").drawn()
    took: list[float] = []
    for value in (20.25, 30.75, 40.5):
        now_s = round(time.time(), 3)
        where.send("live-1", now_s, value=value)
        stored_s = where.stored("live-1", now_s)
        page.until(lambda value=value: last.inner_text() == str(value), f"{value} in the legend")
        took.append(time.monotonic() - stored_s)
    told(f"drawn {', '.join(f'{one:.2f}' for one in took)} s after being stored")
    assert sorted(took)[1] < 2.0, "the median: other tests run beside it"
    page.page.keyboard.press("p")
    assert page.page.locator("#live").inner_text() == "Paused"
    before = len(page.queries)
    page.page.wait_for_timeout(1300)
    assert len(page.queries) == before, "a paused chart asks for nothing"


def test_a_failed_poll_is_shown_and_polling_goes_on(page: Watched, seeded: Seeded) -> None:
    live = page.page.locator("#live")
    page.open("view=chart&s=sim-0001&r=1h").drawn()
    page.page.route("**/v1/query", lambda route: route.abort())
    page.until(lambda: "No answer since" in live.inner_text(), "the failure")
    assert page.page.locator("#legend tbody tr").count() == 2, "what was drawn stays"
    assert "does not answer" in (live.get_attribute("title") or "")
    page.page.unroute("**/v1/query")
    page.until(lambda: live.inner_text() == "Live", "polling again")
    assert all("ERR_FAILED" in fault for fault in page.faults), page.faults
    page.faults.clear()


def test_zooming_asks_for_finer_windows_and_has_its_way_back(page: Watched, seeded: Seeded) -> None:
    start, end = seeded.dense
    page.open(f"view=chart&s=sim-0001&m=temperature&from={rfc3339(start)}&to={rfc3339(end)}").drawn()
    whole_s, coarse_s = asked(page.queries[-1])
    assert coarse_s > 0, "a hundred thousand readings are asked for as windows"
    assert whole_s / coarse_s <= 1440, "no more windows than pixels"
    first = page.address
    page.drag(0.2, 0.5)
    page.until(lambda: asked(page.queries[-1])[0] < whole_s, "the next query")
    page.drawn()
    nearer_s, fine_s = asked(page.queries[-1])
    assert nearer_s == pytest.approx(whole_s * 0.3, rel=0.02)
    assert 0 < fine_s < coarse_s
    assert {"mean", "min", "max"} <= set(page.queries[-1]["agg"])
    page.drag(0.4, 0.45)
    page.until(lambda: "every" not in page.queries[-1], "few readings are asked for as they are")
    page.page.keyboard.press("Escape")
    page.plot.dblclick()
    page.until(lambda: page.address == first, "the way back")


def test_several_sensors_and_metrics_share_the_chart(page: Watched, seeded: Seeded) -> None:
    page.open(usual_view(seeded)).drawn()
    page.page.locator('.row[data-id="sim-0002"] .box').click()
    page.page.get_by_role("button", name="humidity", exact=True).click()
    page.until(lambda: page.page.locator("#legend tbody tr").count() == 4, "two sensors, two metrics")
    found = parse_qs(page.address)
    assert (found["s"], found["m"]) == (["sim-0001,sim-0002"], ["temperature,humidity"])
    rows = page.page.locator("#legend tbody th").all_inner_texts()
    assert [row.split() for row in rows] == [
        [sensor, metric] for sensor in ("sim-0001", "sim-0002") for metric in ("temperature", "humidity")
    ]
    page.plot.hover(position={"x": 300, "y": 100})
    page.until(
        lambda: re.match(r"\d{4}-", page.page.locator("#at-cursor").inner_text()), "a time at the cursor"
    )


def test_the_view_survives_a_reload(page: Watched, seeded: Seeded) -> None:
    page.open(usual_view(seeded, "&every=10s&q=sim-")).drawn()
    page.drag(0.3, 0.6)
    page.page.mouse.move(5, 5)
    page.page.wait_for_timeout(300)
    before, legend = page.address, page.page.locator("#legend").inner_text
    assert "every=10s" in before
    assert "token" not in before
    shown = legend()
    page.page.reload()
    page.drawn()
    assert (page.address, legend()) == (before, shown)
    assert page.page.locator("#filter").input_value() == "sim-"


def test_gaps_stay_gaps_and_lines_of_different_times_are_joined(page: Watched) -> None:
    page.open("view=chart")
    data, alone = page.page.evaluate(
        """async () => {
          const { Kept, build, lonely } = await import("/series.js");
          const one = new Kept(), two = new Kept();
          const us = (...seconds) => seconds.map((s) => s * 1e6);
          one.take({ ts_us: us(0, 1, 2, 3, 10, 20, 21), columns: { a: [1, 2, 3, 4, 5, 6, 7] } }, 0);
          two.take({ ts_us: us(0.5, 1, 1.5), columns: { b: [7, null, true] } }, 0);
          const data = build([{ kept: one, metric: "a" }, { kept: two, metric: "b" }], 0);
          one.take({ ts_us: us(20, 22), columns: { a: [60, 80] } }, 20);
          const later = build([{ kept: one, metric: "a" }], 0);
          const told = (columns) => columns.map((column) => column.map((v) => (v === undefined ? "-" : v)));
          return [[told(data), told(later)], lonely(data[1])];
        }"""
    )
    first, later = data
    assert first[0] == [0, 0.5, 1, 1.5, 2, 3, 6.5, 10, 15, 20, 21]
    assert first[1] == [1, "-", 2, "-", 3, 4, None, 5, None, 6, 7]
    assert first[2] == ["-", 7, "-", 1, *["-"] * 7]
    assert alone == [7], "the reading between two gaps is drawn as a dot"
    assert later[1] == [1, 2, 3, 4, None, 5, None, 60, 80]


def test_a_hundred_thousand_points_zoom_and_pan_without_a_stutter(page: Watched, seeded: Seeded) -> None:
    start, end = seeded.dense
    span = f"from={rfc3339(start)}&to={rfc3339(end)}"
    page.open(f"view=chart&s=sim-0001&m=temperature&every=raw&{span}").drawn()
    assert f"{DENSE:,} readings" in page.page.locator("#answer").inner_text()
    box = page.plot.bounding_box()
    assert box is not None
    mouse, keys = page.page.mouse, page.page.keyboard
    mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    frames(page)
    keys.down("Control")
    for step in (-40,) * 20 + (40,) * 20:
        mouse.wheel(0, step)
    keys.up("Control")
    zooming = frames(page)
    keys.down("Shift")
    for _ in range(2):
        page.drag(0.6, 0.4, steps=20)
    keys.up("Shift")
    panning = frames(page)
    for name, took in (("zoom", zooming), ("pan", panning)):
        told(f"{name}: {len(took)} frames, median {took[len(took) // 2]:.1f} ms, worst {took[-1]:.1f} ms")
        assert len(took) > 10
        assert took[len(took) // 2] < WORST_FRAME_MS / 2
        assert took[int(len(took) * 0.95)] < WORST_FRAME_MS, (
            "a guard, not a benchmark: other tests run beside it"
        )
    assert "every" not in page.queries[-1]


def frames(page: Watched) -> list[float]:
    """Sorted milliseconds between the frames since the last call."""
    return sorted(
        page.page.evaluate(
            """() => {
              const found = window.frames_ms || [];
              cancelAnimationFrame(window.frame);
              window.frames_ms = [];
              let last = performance.now();
              const next = () => {
                const now = performance.now();
                window.frames_ms.push(now - last);
                last = now;
                window.frame = requestAnimationFrame(next);
              };
              window.frame = requestAnimationFrame(next);
              return found.slice(1);
            }"""
        )
    )


# --- the other views ------------------------------------------------------------------------


def test_rejects_are_shown_with_reason_and_bytes(page: Watched) -> None:
    page.open("view=rejects")
    row = page.page.locator("#reject-list tbody").first
    row.wait_for()
    assert "ts_out_of_range" in row.inner_text()
    row.get_by_role("button", name="Bytes").click()
    page.until(lambda: row.locator("pre").count(), "the bytes")
    assert '"metrics": {"<i>": 1}' in row.locator("pre").inner_text()
    page.page.locator("#reason").select_option("ts_out_of_range")
    page.until(lambda: "reason=ts_out_of_range" in page.address, "the reason in the address")


def test_cost_is_shown(page: Watched, seeded: Seeded) -> None:
    page.open(usual_view(seeded)).drawn()
    page.page.keyboard.press("4")
    tiles = page.page.locator("#tiles")
    page.until(lambda: "Readings per write unit" in tiles.inner_text(), "the tiles")
    counters = seeded.site.api("GET", "/v1/status")["counters"]
    assert f"{counters['readings']:,}" in tiles.inner_text()
    queries = page.page.locator("#queries").inner_text()
    assert "windows of 5 s" in queries
    assert f"DynamoDB, {HOT_RETENTION_S} s" in page.page.locator("#life").inner_text()


def test_a_hostile_name_stays_text(page: Watched) -> None:
    page.open("view=chart&s=evil:1")
    name = page.page.locator('.row[data-id="evil:1"] .name bdi')
    name.wait_for()
    assert name.inner_text() == HOSTILE
    assert page.page.locator("main img").count() == 0
    page.until(lambda: page.page.title().startswith(HOSTILE), "the name in the title")
    escaped = page.page.evaluate("""async () => (await import("/text.js")).plain("a\\u202Egpj.exe\\u0000")""")
    assert escaped == "a\\u202egpj.exe\\u0000"


def test_a_token_is_asked_for_kept_for_the_tab_and_never_in_the_address(
    chromium: Browser, seeded: Seeded
) -> None:
    with watched(chromium, seeded.site) as found:
        page = found.page
        page.goto(seeded.site.url)
        dialog = page.locator("#token-dialog")
        dialog.wait_for()
        assert found.hosts == {urlsplit(seeded.site.url).netloc}
        page.fill("#token", "thc_wrong")
        page.keyboard.press("Enter")
        found.until(lambda: "did not take the token" in dialog.inner_text(), "the refusal")
        page.fill("#token", seeded.site.token)
        page.keyboard.press("Enter")
        page.locator(".row[data-id]").first.wait_for()
        assert not dialog.is_visible()
        page.reload()
        page.locator(".row[data-id]").first.wait_for()
        found.open("view=chart&s=sim-0001")
        page.locator(".row[data-id]").first.wait_for()
        assert "token" not in page.url
        assert all("401" in fault for fault in found.faults), found.faults


def test_without_a_sensor_the_page_says_how_to_send(page: Watched) -> None:
    page.page.route(
        "**/v1/sensors?**", lambda route: route.fulfill(json={"sensors": [], "count": 0, "next": None})
    )
    page.open("view=chart")
    page.until(
        lambda: "thermocline simulate" in page.page.locator("#sensor-more").inner_text(), "the next step"
    )


def test_a_range_without_readings_leads_to_the_last_one(page: Watched) -> None:
    page.open("view=chart&s=sim-0002&m=temperature&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z")
    page.page.get_by_role("button", name="To the last one").click()
    page.drawn()


def test_keys_filter_help_and_theme(page: Watched, seeded: Seeded) -> None:
    page.open(usual_view(seeded)).drawn()
    keys = page.page.keyboard
    keys.press("/")
    keys.type("sim-0003")
    rows = page.page.locator(".row[data-id]")
    page.until(lambda: rows.count() == 1, "the filter")
    keys.press("ArrowDown")
    keys.press("Space")
    page.until(lambda: "s=sim-0001,sim-0003" in page.address, "the second sensor")
    keys.press("?")
    assert page.page.locator("#help-dialog").is_visible()
    keys.press("Escape")
    span = parse_qs(page.address)["from"]
    keys.press("ArrowLeft")
    page.until(lambda: parse_qs(page.address)["from"] < span, "panning")
    keys.press("+")
    keys.press("d")
    assert page.page.evaluate("document.documentElement.dataset.theme") == "dark"
    keys.press("0")
    page.until(lambda: page.page.locator("#live").inner_text() == "Live", "back to live")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_both_themes(page: Watched, theme: str) -> None:
    """Contrast as WCAG 2.2 asks (AA): 4.5 for text, 3 for what is drawn."""
    page.page.emulate_media(color_scheme=cast(Any, theme))
    page.open("view=chart")
    text = ("ink", "muted", "hot-text", "cold-text", "bad")
    names = [*text, "paper", "panel", "rise", "hot-soft", "cold-soft", "bad-soft", "hot", "cold"]
    names += [f"line-{i}" for i in range(6)]
    found: list[str] = page.page.evaluate(
        """(names) => {
          const style = getComputedStyle(document.documentElement);
          return names.map((name) => style.getPropertyValue("--" + name).trim());
        }""",
        names,
    )
    colour = dict(zip(names, found, strict=True))
    pairs = [*itertools.product(("ink", "muted"), ("paper", "panel", "rise"))]
    pairs += [
        ("hot-text", "hot-soft"),
        ("cold-text", "cold-soft"),
        ("bad", "bad-soft"),
        ("cold-text", "panel"),
    ]
    pairs += [("hot-text", "panel"), ("bad", "panel")]
    poor = {pair: contrast(*map(colour.__getitem__, pair)) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}
    drawn = {
        name: contrast(colour[name], colour["panel"])
        for name in names
        if name.startswith(("line", "hot", "cold"))
    }
    assert {n: r for n, r in drawn.items() if r < 3 and not n.endswith("soft")} == {}


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        digits = colour.lstrip("#")
        digits = "".join(c * 2 for c in digits) if len(digits) == 3 else digits
        parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_a_narrow_screen_has_no_horizontal_scroll(chromium: Browser, seeded: Seeded) -> None:
    with watched(chromium, seeded.site, NARROW, has_touch=True) as found:
        for view in (usual_view(seeded), "view=sensors", "view=archive", "view=rejects", "view=cost"):
            found.open(view)
            found.page.locator(".view:visible, #sensors:visible").first.wait_for()
            found.page.wait_for_load_state("networkidle") if "chart" in view else found.page.wait_for_timeout(
                250
            )
            width = found.page.evaluate("document.documentElement.scrollWidth")
            assert width == NARROW[0], f"{view}: {width}"
        found.page.locator("nav").get_by_text("Sensors").click()
        found.page.locator('.row[data-id="sim-0002"]').tap()
        found.until(lambda: "view=chart&s=sim-0002" in found.address, "the chart of the sensor tapped on")
        assert found.faults == []


def test_the_page_is_light(chromium: Browser, seeded: Seeded) -> None:
    with watched(chromium, seeded.site) as found:
        bodies: dict[str, int] = {}
        heads: dict[str, int] = {}

        def weigh(request: Any) -> None:
            if "/v1/" not in request.url:
                sizes = request.sizes()
                bodies[request.url] = sizes["responseBodySize"]
                heads[request.url] = sizes["responseHeadersSize"]

        found.page.on("requestfinished", weigh)
        found.open(usual_view(seeded)).drawn()
        first = sum(bodies.values())
        for key in "234":  # the other views come when they are asked for
            found.page.keyboard.press(key)
            found.page.wait_for_load_state("networkidle")
        whole = sum(bodies.values())
        told(
            f"page: {len(bodies)} files, {first:,} bytes to the chart, {whole:,} with every view, "
            f"{whole + sum(heads.values()):,} with headers"
        )
        assert len(bodies) > 10
        assert whole + sum(heads.values()) < MOST_PAGE_BYTES


# --- what has sunk: last, for it lets time pass -----------------------------------------------


@pytest.fixture(scope="module")
def sunk(seeded: Seeded) -> float:
    """When fresh readings were sent, after all older ones had left the hot tier."""
    where = seeded.site
    where.cli.run("flush")
    where.cli.run("expire", "--now", f"now+{HOT_RETENTION_S + 5}s")
    now_s = int(time.time())
    for back_s in range(60, 0, -4):
        where.send("sim-0001", now_s - back_s, temperature=20 + back_s / 60)
    where.cli.run("flush")
    return now_s


def test_the_ribbon_shows_the_border_of_the_tiers(page: Watched, seeded: Seeded, sunk: float) -> None:
    page.open(f"view=chart&s=sim-0001&m=temperature&from={rfc3339(sunk - 3000)}&to={rfc3339(sunk)}").drawn()
    groups = page.page.locator("#ribbon g")
    page.until(lambda: groups.count() >= 2, "two stretches")
    tiers = [group.get_attribute("data-tier") for group in groups.all()]
    assert tiers[0] == "cold"
    assert tiers[-1] in ("hot", "both")
    plot, last = page.plot.bounding_box(), groups.last.bounding_box()
    assert plot is not None
    assert last is not None
    fresh_x = plot["x"] + plot["width"] * (3000 - 60) / 3000
    assert last["x"] == pytest.approx(fresh_x, abs=plot["width"] / 500 + 2), "aligned with the time axis"
    ribbon = page.page.locator("#ribbon").bounding_box()
    assert ribbon is not None
    assert (ribbon["x"], ribbon["width"]) == pytest.approx((plot["x"], plot["width"]), abs=1)
    assert "cold" in (page.page.locator("#ribbon").get_attribute("aria-label") or "")
    assert page.page.locator("#tier-text li").first.get_attribute("data-tier") == "cold"


def test_the_archive_lists_days_and_downloads_segments(page: Watched, seeded: Seeded, sunk: float) -> None:
    page.open("view=archive")
    button = page.page.locator("#segments").get_by_role("button", name="Download").first
    button.wait_for()
    day = parse_qs(page.address)["day"][0]
    assert page.page.locator('.day[aria-pressed="true"]').get_attribute("data-date") == day
    with page.page.expect_download() as started:
        button.click()
    content = Path(started.value.path()).read_bytes()
    listed = seeded.site.api("GET", f"/v1/archive/segments?from={day}T00:00:00Z")["segments"]
    by_digest = {one["sha256"]: one for one in listed}
    segment = by_digest[hashlib.sha256(content).hexdigest()]
    table = cast(Any, parquet).read_table(io.BytesIO(content))
    assert table.num_rows == segment["rows"]
    page.hosts = {
        urlsplit(seeded.site.url).netloc
    }  # the link leads to the object store, which is where the file is
