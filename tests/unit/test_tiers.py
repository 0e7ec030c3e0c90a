"""Stretches of time by tier: what holds readings and where they are, in at most 500 pieces, whatever there is."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.keys import US
from ingest.reading import Run, Span
from ingest.tiers import MOST_STRETCHES, TierMap

DAY_US = 86_400 * US


def run(instants: list[int], metric: str = "a") -> Run:
    return Run("press-7", instants, {metric: list(range(len(instants)))}, 0)


def stretches(
    span: Span, hot: list[int], cold: list[int], kept: Span | None = None
) -> list[tuple[int, int, str]]:
    tiers = TierMap(span)
    tiers.add([run(hot)] if hot else [], [run(cold)] if cold else [], kept or span)
    return [(one.span.start_us, one.span.end_us, one.tier) for one in tiers.stretches()]


def test_the_border_between_the_tiers_shows() -> None:
    span = Span(0, 500 * US)
    cold = list(range(0, 300 * US, US))
    hot = list(range(200 * US, 500 * US, US))
    assert stretches(span, hot, cold) == [
        (0, 200 * US, "cold"),
        (200 * US, 300 * US, "both"),
        (300 * US, 500 * US, "hot"),
    ]


def test_a_gap_is_in_no_stretch_and_sparse_readings_are_in_one() -> None:
    span = Span(0, 1_000 * US)
    every_ten_s = [*range(0, 300 * US, 10 * US), *range(700 * US, 1_000 * US, 10 * US)]
    assert stretches(span, every_ten_s, []) == [(0, 292 * US, "hot"), (700 * US, 992 * US, "hot")]


def test_nothing_is_no_stretch_and_one_reading_is_one() -> None:
    assert stretches(Span(0, DAY_US), [], []) == []
    assert stretches(Span(0, 0), [], []) == []
    ((start_us, end_us, tier),) = stretches(Span(0, DAY_US), [], [DAY_US - 1])
    assert (tier, end_us) == ("cold", DAY_US)
    assert start_us <= DAY_US - 1


def test_only_what_was_kept_and_what_was_asked_for_counts() -> None:
    assert stretches(Span(0, 10 * US), [1 * US, 9 * US], [], Span(0, 5 * US)) == [
        (1 * US, 1 * US + 20_000, "hot")
    ]
    tiers = TierMap(Span(0, 10 * US), ("b",))
    tiers.add([run([US])], [run([2 * US], "b")], Span(0, 10 * US))
    assert [stretch.tier for stretch in tiers.stretches()] == ["cold"]


INSTANTS = st.lists(st.integers(0, 10**6), max_size=80, unique=True).map(sorted)


@given(hot=INSTANTS, cold=INSTANTS, start=st.integers(-5, 10**6), length=st.integers(1, 10**6))
def test_stretches_are_few_apart_in_order_and_hold_every_reading(
    hot: list[int], cold: list[int], start: int, length: int
) -> None:
    span = Span(start, start + length)
    found = stretches(span, hot, cold)
    assert len(found) <= MOST_STRETCHES
    for (_, end_us, tier), (next_start_us, _, next_tier) in pairwise(found):
        assert end_us < next_start_us or (end_us == next_start_us and tier != next_tier)
    assert all(start <= low < high <= start + length for low, high, _ in found)
    for instants, own in ((hot, "hot"), (cold, "cold")):
        for ts_us in instants:
            if span.holds(ts_us):
                (tier,) = [tier for low, high, tier in found if low <= ts_us < high]
                assert tier in (own, "both")
    for _, _, tier in found:
        assert tier != "both" or (hot and cold)
