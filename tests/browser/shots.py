"""Takes the pictures of the dashboard that the documentation shows: `python -m tests.browser.shots [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tests.browser.site import NARROW, WIDE, Site, browser, rfc3339, site, watched

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOUR_S = 3600
NAMES = ("Boiler room", "North façade", "Greenhouse", "Cold store", "Attic", "Workshop")
RETENTION_S = 120


def main(folder: Path) -> None:
    """Fill a stack with a day of readings in all tiers, and take the pictures."""
    with tempfile.TemporaryDirectory(prefix="thermocline-shots-") as place:
        options = ("--archive-after", "5s", "--hot-retention", f"{RETENTION_S}s", "--bucket", "10m")
        with site(Path(place), *options) as running, browser() as chromium:
            _fill(running)
            now_s = time.time()
            day = f"from={rfc3339(now_s - 12 * HOUR_S)}&to={rfc3339(now_s)}"
            pictures = {
                "dashboard-wide": (WIDE, "light", "view=chart&s=sim-0001&r=6h"),
                "dashboard-narrow": (NARROW, "light", "view=chart&s=sim-0003&m=temperature&r=6h"),
                "dashboard-dark": (
                    WIDE,
                    "dark",
                    f"view=chart&s=sim-0001,sim-0003,sim-0005&m=temperature&{day}",
                ),
                "dashboard-archive": (WIDE, "light", "view=archive"),
            }
            for name, (size, scheme, view) in pictures.items():
                with watched(chromium, running, size, scheme) as found:
                    found.open(view)
                    if "chart" in view:
                        found.drawn()
                        if size == WIDE:
                            found.page.locator(".spark path").first.wait_for(state="attached")
                    else:
                        found.page.locator("#segments table").wait_for()
                    found.page.wait_for_timeout(700)
                    target = folder / f"{name}.png"
                    found.page.screenshot(path=target)
                    sys.stdout.write(f"{target}: {target.stat().st_size:,} bytes\n")
                    assert not found.faults


def _fill(running: Site) -> None:
    now_s = int(time.time()) // 10 * 10
    cli = running.cli

    def simulate(start_s: int, end_s: int, rate: str = "0.1", *more: str) -> None:
        arguments = ("--start", str(start_s), "--duration", f"{end_s - start_s}s", "--rate", rate, *more)
        cli.run("simulate", "--sensors", str(len(NAMES)), *arguments)

    for back in range(16, 2, -1):
        start_s = now_s - back * 24 * HOUR_S
        simulate(start_s, start_s + (back * 7 % 17 + 3) * HOUR_S, "0.005", "--no-wait")
    simulate(now_s - 36 * HOUR_S, now_s - 2 * HOUR_S - 1200)
    for number, name in enumerate(NAMES, 1):
        units = {"temperature": "°C", "humidity": "%"}
        entry = {"name": name, "units": units, "labels": {"site": "lyon"}}
        version = running.api("GET", f"/v1/sensors/sim-{number:04d}")["version"]
        running.api("PUT", f"/v1/sensors/sim-{number:04d}", entry | {"version": version})
    cli.run("expire", "--now", f"now+{RETENTION_S + 10}s")
    simulate(now_s - 2 * HOUR_S - 1200, now_s - 2400)
    cli.run("expire", "--now", "now+10s")
    simulate(now_s - 2400, int(time.time()) // 10 * 10 + 10)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
