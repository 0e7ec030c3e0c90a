"""What a chart shows: peaks, gaps, steps, states, axes that tell the truth, and lines that fit."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from cli.plot import LEAST_WIDTH, NOTHING, plot, plot_windows
from ingest.aggregate import aggregate
from ingest.reading import Column, Run
from tests.strategies import runs

T0_US = 1_386_018_900_000_000  # 2013-12-02T21:15:00Z
SECOND_US = 1_000_000
HOUR_US = 3600 * SECOND_US


def a_run(step_us: int = SECOND_US, **metrics: Column) -> Run:
    length = max(map(len, metrics.values()))
    return Run("press-7", [T0_US + i * step_us for i in range(length)], metrics, 0)


def panel(chart: str) -> list[str]:
    """What stands right of the value axis, line by line."""
    return [re.split("[│┤]", line, maxsplit=1)[1] for line in chart.splitlines() if re.search("[│┤]", line)]


def is_blank(lines: list[str], low: int, high: int) -> bool:
    """Whether nothing is drawn in the columns `[low, high)`."""
    return all(not line[low:high].strip() for line in lines)


def wave(length: int) -> Column:
    return [50 + 10 * math.sin(i / 40) for i in range(length)]


def test_a_chart_has_a_heading_a_legend_and_two_axes() -> None:
    chart = plot(a_run(value=[0, 10, 20, 30, 40]), width=48, height=9)
    assert chart.splitlines() == [
        "press-7, 5 readings, 2013-12-02T21:15:00Z to",
        "2013-12-02T21:15:04Z",
        "value  0 to 40",
        "40┤                                  ⢀⣀⣀⣠⠤⠤⠖⠒⠒⠋⠉",
        "  │                       ⢀⣀⣀⡤⠤⠤⠖⠒⠚⠉⠉⠉",
        "20┤         ⢀⣀⣀⣀⡤⠤⠤⠴⠒⠒⠒⠋⠉⠉⠉",
        " 0┤⣀⣠⠤⠤⠖⠒⠒⠋⠉⠉",
        "  └┬─────────────────────┬─────────────────────┬",
        "21:15:00             21:15:02           21:15:04",
    ]


def test_one_reading_among_a_hundred_thousand_stays_visible() -> None:
    values = wave(100_000)
    values[40_000], values[80_000] = 1000.0, -1000.0
    lines = panel(plot(a_run(value=values), width=80, height=20))
    assert lines[0].strip()
    assert lines[-1].strip()
    columns = len(lines[0].rstrip()), len(lines[-1].rstrip())
    share = [column / 75 for column in columns]
    assert share == pytest.approx([0.4, 0.8], abs=0.03)


def test_a_hundred_thousand_readings_are_drawn_quickly() -> None:
    run = a_run(value=wave(100_000))
    started_s = time.process_time()
    plot(run, width=200, height=50)
    assert time.process_time() - started_s < 1.5


def test_a_silence_is_a_gap() -> None:
    run = a_run(value=wave(300))
    run.ts_us[150:] = [ts_us + 300 * SECOND_US for ts_us in run.ts_us[150:]]
    lines = panel(plot(run, width=80, height=20))
    assert is_blank(lines, 22, 54)
    assert not is_blank(lines, 0, 18)
    assert not is_blank(lines, 57, 77)


def test_absent_values_are_a_gap_too() -> None:
    values = wave(300)
    values[100:200] = [None] * 100
    lines = panel(plot(a_run(value=values, other=wave(300)), ["value"], width=80, height=20))
    assert is_blank(lines, 28, 50)


def test_a_metric_that_is_measured_less_often_than_others_is_one_line() -> None:
    slow: Column = [i if i % 10 == 0 else None for i in range(600)]
    lines = panel(plot(a_run(fast=wave(600), slow=slow), ["slow"], width=80, height=20))
    assert not any(is_blank(lines, column, column + 1) for column in range(75))


def test_booleans_are_steps() -> None:
    on: Column = [i // 100 % 2 == 0 for i in range(400)]
    assert plot(a_run(on=on), width=46, height=20).splitlines()[2:5] == [
        "on",
        " true┤⠉⠉⠉⠉⠉⠉⠉⠉⠉⢹         ⢸⠉⠉⠉⠉⠉⠉⠉⠉⠉⢹",
        "false┤         ⢸⣀⣀⣀⣀⣀⣀⣀⣀⣀⣸         ⢸⣀⣀⣀⣀⣀⣀⣀⣀⣀⣀",
    ]


def test_texts_are_a_lane_of_changes() -> None:
    state: Column = [
        *["idle"] * 100,
        *["running"] * 200,
        *["日本語"] * 100,
        *["stopped by an operator"] * 100,
    ]
    chart = plot(a_run(state=state), width=61, height=20)
    assert "│idle──────│running────────────────│日本語─────│stopped by …" in chart


def test_a_text_that_is_only_told_when_it_changes_holds_while_its_sensor_speaks() -> None:
    state: Column = [None] * 400
    state[0], state[5], state[350] = "idle", "running", "idle"
    chart = plot(a_run(value=wave(400), state=state), width=60)
    assert re.search(r"running─{20,}", chart)


def test_many_changes_in_one_column_are_marked() -> None:
    chatter: Column = ["ab"[i % 2] for i in range(1000)]
    assert "▒▒▒▒▒▒▒▒" in plot(a_run(state=chatter), width=60)


def test_texts_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in plot(a_run(state=["\x1b[2J"] * 2), width=60)


def test_series_share_a_panel_only_where_their_ranges_are_alike_and_colours_tell_them_apart() -> None:
    run = a_run(
        inside=wave(100),
        outside=[value + 3 for value in wave(100) if isinstance(value, float)],
        pressure=[100_000 + i for i in range(100)],
    )
    coloured = plot(run, width=80, height=30, color=True).splitlines()
    assert "\x1b[36minside\x1b[0m   \x1b[33moutside\x1b[0m" in coloured
    assert any("pressure" in line and "100000 to 100099" in line for line in coloured)
    plain = plot(run, width=80, height=30)
    assert "\x1b" not in plain
    assert [line.split()[0] for line in plain.splitlines() if " to " in line] == [
        "press-7,",
        "inside",
        "outside",
        "pressure",
    ]


def test_only_the_metrics_asked_for_are_drawn() -> None:
    run = a_run(value=[1, 2], other=[3, 4])
    assert "other" not in plot(run, ["value"])
    assert plot(run, ["missing"]) == NOTHING


def test_nothing_to_draw_is_said() -> None:
    assert plot(Run("press-7", [], {}, 0)) == NOTHING
    assert plot_windows(aggregate(Run("press-7", [], {}, 0), SECOND_US, ["mean"])) == NOTHING


@pytest.mark.parametrize(
    ("span_us", "expected"),
    [
        (1_000, ["21:15:00", "21:15:00.0002", "21:15:00.0004"]),
        (SECOND_US, ["21:15:00", "21:15:00.2", "21:15:00.4"]),
        (60 * SECOND_US, ["21:15:00", "21:15:15", "21:15:30", "21:15:45", "21:16:00"]),
        (HOUR_US, ["21:15", "21:30", "21:45", "22:00", "22:15"]),
        (12 * HOUR_US, ["2013-12-03", "03:00", "06:00", "09:00"]),
        (30 * 24 * HOUR_US, ["2013-12-09", "2013-12-16", "2013-12-23", "2013-12-30"]),
        (120 * 24 * HOUR_US, ["2014-01", "2014-02", "2014-03", "2014-04"]),
        (3 * 365 * 24 * HOUR_US, ["2014-01", "2015-01", "2016-01"]),
        (150 * 365 * 24 * HOUR_US, ["2050-01", "2100-01", "2150-01"]),
    ],
)
def test_the_time_axis_has_round_labels(span_us: int, expected: list[str]) -> None:
    run = Run("press-7", [T0_US, T0_US + span_us], {"value": [0, 10]}, 0)
    labels = plot(run, width=80).splitlines()[-1].split()
    assert labels[: len(expected)] == expected


def test_a_time_label_stands_under_its_instant() -> None:
    values: Column = [0] * 1000
    values[900] = 1  # 21:30:00
    chart = plot(a_run(value=values), width=80, height=20).splitlines()
    peak = re.search("[\u2801-\u28ff]", next(line for line in chart if "┤" in line or "│" in line))
    assert peak is not None
    tick = chart[-1].index("21:30") + 2
    assert abs(peak.start() - tick) <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5, 5], {"5.0"}),
        ([0, 0], {"0.0"}),
        ([0.001, 0.002], {"0.0010", "0.0020"}),
        ([12_345_748, 12_423_118], {"12360000", "12400000", "12420000"}),
        ([1234567890123456, 1234567890123466], {"1234567890123460"}),
        ([-1e125, 1e125], {"0"}),
        ([1e-130, 2e-130], {"2e-130"}),
        ([0.1, 0.3], {"0.10", "0.15", "0.20", "0.25", "0.30"}),
    ],
)
def test_the_value_axis_has_round_labels(values: Column, expected: set[str]) -> None:
    chart = plot(a_run(value=values), width=60, height=20)
    assert expected <= {line.split("┤")[0].strip() for line in chart.splitlines() if "┤" in line}


def test_a_value_label_stands_at_its_value() -> None:
    lines = plot(a_run(value=[*[0] * 50, *[20] * 50, *[100] * 50]), width=80, height=30).splitlines()
    row = next(line for line in lines if line.lstrip().startswith("20┤"))
    assert re.search("[\u2801-\u28ff]{10}", row)


def test_windows_are_drawn_and_missing_ones_left_blank() -> None:
    run = a_run(value=wave(300))
    run.ts_us[150:] = [ts_us + 300 * SECOND_US for ts_us in run.ts_us[150:]]
    windows = aggregate(run, 10 * SECOND_US, ["min", "max"])
    chart = plot_windows(windows, width=80, height=30)
    assert chart.startswith("30 windows of 10s, 2013-12-02T21:15:00Z to 2013-12-02T21:24:50Z\n")
    assert "value_min  " in chart
    assert "value_max  " in chart
    assert is_blank(panel(chart), 24, 52)


@given(runs(), st.sampled_from([1, LEAST_WIDTH, 40, 200]), st.integers(0, 60), st.booleans())
def test_every_run_can_be_drawn_and_fits(run: Run, width: int, height: int, color: bool) -> None:
    chart = re.sub("\x1b\\[[0-9]+m", "", plot(run, width=width, height=height, color=color))
    assert chart.endswith("\n")
    for line in chart.split("\n"):
        assert line.isprintable()
        assert cell_len(line) <= max(width, LEAST_WIDTH)


@given(runs(), st.sampled_from([SECOND_US, 24 * HOUR_US, 365 * 24 * HOUR_US]))
def test_all_windows_can_be_drawn_and_fit(run: Run, every_us: int) -> None:
    windows = aggregate(run, every_us, ["mean", "count", "last"])
    for line in plot_windows(windows, width=40).split("\n"):
        assert cell_len(line) <= 40
