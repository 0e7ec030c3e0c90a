"""I1 to I7 under faults, seed after seed; and what a failure tells.

`SEED=17 pytest tests/model/test_simulation.py` replays one seed, `make sim` lives through a thousand.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection

import pytest

from tests.model.__main__ import Totals, table, thin_classes
from tests.model.faults import FATES
from tests.model.live import Lived, live, parsed, shrink, told, written
from tests.model.world import STEPS

SEEDS = 200
PARTS = 8
LEAST_READINGS = 2_000
LEAST_FAULTS = 800


def seeds(part: int) -> list[int]:
    """The part's share of the seeds; one, if SEED names it."""
    if "SEED" in os.environ:
        return [int(os.environ["SEED"])] if part == 0 else []
    return list(range(part, SEEDS, PARTS))


def hold(lived: Lived) -> None:
    """Fail with the shortest trace that can be found."""
    if lived.failure:
        pytest.fail(told(shrink(lived), lived), pytrace=False)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_promise_holds_under_every_seed(part: int) -> None:
    totals = Totals()
    for seed in seeds(part):
        lived = live(seed)
        totals.add(lived)
        hold(lived)
    if totals.seeds >= SEEDS // PARTS:
        assert totals.readings > LEAST_READINGS * totals.seeds
        assert totals.faults.total() > LEAST_FAULTS * totals.seeds
        assert totals.queries > 20 * totals.seeds
        assert {fate for _, fate in totals.faults} == set(FATES)


def test_a_seed_always_tells_the_same_story() -> None:
    assert live(6, keep_trace=True).trace == live(6, keep_trace=True).trace


def test_a_seed_with_the_real_ranged_reader_is_among_them() -> None:
    hold(live(0))


# --- what a failure tells ---------------------------------------------------------------


def breaks_with(needed: Collection[int], loud: Collection[int]):
    """Stands for `live`: breaks where the needed steps take place and the loud ones are not quiet."""

    def run(seed: int, steps: Collection[int], quiet: Collection[int]) -> Lived:
        broken = set(needed) <= set(steps) and not set(loud) & set(quiet)
        return Lived(seed, failure="AssertionError: I1: lost" if broken else "")

    return run


def test_a_failure_is_shrunk_to_the_steps_and_faults_it_takes() -> None:
    failed = Lived(17, failure="AssertionError: I1: lost much")
    shrunk = shrink(failed, breaks_with({3, 40, 41, 99}, {41}))
    assert shrunk.steps == [3, 40, 41, 99]
    assert shrunk.quiet == [3, 40, 99]
    assert shrunk.command == "SEED=17 STEPS=3,40-41,99 QUIET=3,40,99 make sim"
    assert "replay: SEED=17 make sim" in told(shrunk, failed)


def test_shrinking_keeps_to_the_same_broken_promise() -> None:
    def run(seed: int, steps: Collection[int], quiet: Collection[int]) -> Lived:
        del quiet
        return Lived(seed, failure="AssertionError: I1: lost" if 5 in steps else "AssertionError: I2: twice")

    assert shrink(Lived(1, failure="AssertionError: I2: twice"), run).steps == []
    assert shrink(Lived(1, failure="AssertionError: I1: lost"), run).steps == [5]


def test_a_replayed_part_of_a_seed_is_that_part() -> None:
    whole = live(9, keep_trace=True).trace
    part = live(9, range(4), keep_trace=True).trace
    until = next(place for place, line in enumerate(whole) if int(line[:4]) >= 4)
    assert part[:until] == whole[:until]
    assert len(part) < len(whole)
    assert not live(9, range(STEPS), range(STEPS)).faults


@pytest.mark.parametrize("numbers", [[], [1], [1, 2, 3], [0, 2, 3, 9, 10, 124]])
def test_step_numbers_are_written_as_ranges(numbers: list[int]) -> None:
    assert parsed(written(numbers)) == numbers


def test_faults_are_told_by_call_and_by_fate() -> None:
    counts = Counter(
        {("publish", "failed"): 9_000, ("publish", "reply lost"): 2_000, ("head", "failed"): 1_500}
    )
    shown = "\n".join(table(counts))
    assert "11,000" in shown
    assert "12,500" in shown
    assert thin_classes(counts) == ["head 1,500", "reply lost 2,000"]


def test_what_broke_is_counted_by_what_a_user_loses() -> None:
    totals = Totals()
    for failure in ("I1: x", "I4: x", "I1/I3: x", "I2: x", "I7: x"):
        totals.add(Lived(0, failure=f"AssertionError: {failure}"))
    assert totals.line().endswith("faults=0 lost=2 doubled=1 vanished=1 other=1")
