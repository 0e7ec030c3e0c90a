"""Readings: the one rule for duplicates, the one text of a value, and cutting runs without losing any."""

import math
import random
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.reading import (
    Run,
    Span,
    canonical,
    clip,
    concat,
    is_metric_name,
    is_sensor_id,
    merge,
    number,
    number_problem,
    select,
    settle,
    take,
)
from tests import strategies as make

T0 = 1_795_212_000_000_000


def run(times: list[int], arrival_ms: int = 1, **metrics: list) -> Run:
    return Run("s", [T0 + t for t in times], metrics, arrival_ms)


def naive_merge(runs: list[Run]) -> dict[tuple[int, str], tuple[str, str, int]]:
    """The rule, value by value."""
    best: dict[tuple[int, str], tuple[tuple[int, str, str], tuple[str, str, int]]] = {}
    for held in runs:
        for cell, (kind, text, arrival) in make.ranked_cells(held).items():
            order = {"text": "0", "flag": "1", "number": "2"}[kind]
            rank = (arrival, text, order)
            if cell not in best or rank > best[cell][0]:
                best[cell] = (rank, (kind, text, arrival))
    return {cell: value for cell, (_, value) in best.items()}


overlapping_runs = st.lists(
    st.one_of(
        make.runs(sensor_id="s", arrival_ms=None, max_size=6, first_us=T0, last_us=T0 + 9, max_metrics=2),
        st.builds(
            lambda held, arrival: Run(held.sensor_id, held.ts_us, held.metrics, arrival),
            make.runs(sensor_id="s", max_size=6, first_us=T0, last_us=T0 + 30, max_metrics=2),
            st.integers(make.ARRIVAL_MS - 2, make.ARRIVAL_MS),
        ),
    ),
    min_size=1,
    max_size=6,
)


class TestMerge:
    @given(overlapping_runs)
    def test_keeps_the_greatest_arrival_then_the_greatest_text(self, runs):
        assert make.ranked_cells(merge(runs)) == naive_merge(runs)

    @given(overlapping_runs, st.randoms(use_true_random=False))
    def test_the_outcome_depends_on_neither_order_nor_grouping(self, runs, rng: random.Random):
        expected = make.ranked_cells(merge(runs))
        shuffled = rng.sample(runs, len(runs))
        assert make.ranked_cells(merge(shuffled)) == expected
        cuts = sorted(rng.randrange(len(runs) + 1) for _ in range(2))
        groups = [shuffled[: cuts[0]], shuffled[cuts[0] : cuts[1]], shuffled[cuts[1] :]]
        merged = [merge(group) for group in groups if group]
        assert make.ranked_cells(merge(rng.sample(merged, len(merged)))) == expected

    @given(overlapping_runs)
    def test_repeating_it_changes_nothing(self, runs):
        once = merge(runs)
        assert make.ranked_cells(merge([once, *runs, once])) == make.ranked_cells(once)

    @given(overlapping_runs)
    def test_the_result_is_a_valid_run(self, runs):
        merged = merge(runs)
        assert merged.ts_us == sorted(set(merged.ts_us))
        assert all(len(column) == len(merged.ts_us) for column in merged.metrics.values())
        assert all(
            any(cell is not None for cell in row) for row in zip(*merged.metrics.values(), strict=True)
        )

    def test_a_later_arrival_corrects_an_earlier_one(self):
        merged = merge([run([0, 1], 5, a=[1.5, 2.5]), run([1], 6, a=[0.5])])
        assert merged.metrics == {"a": [1.5, 0.5]}

    def test_of_one_arrival_the_greatest_text_stays(self):
        assert merge([run([0], a=[9]), run([0], a=[10])]).metrics == {"a": [9]}

    def test_metrics_are_ranked_apart(self):
        merged = merge([run([0], 5, a=[1], b=[1]), run([0], 6, a=[2])])
        assert merged.metrics == {"a": [2], "b": [1]}

    def test_a_number_and_a_text_that_look_alike_are_ordered_too(self):
        runs = [run([0], a=["1"]), run([0], a=[1]), run([0], a=["true"]), run([0], a=[True])]
        assert merge(runs).metrics == merge(runs[::-1]).metrics == {"a": [True]}

    def test_nothing_to_merge_is_an_error(self):
        with pytest.raises(ValueError, match="at least one"):
            merge([run([])])

    def test_a_run_inside_another_one_is_found_although_a_third_lies_between(self):
        wide = run([0, 50, 100], a=[1, 2, 3])
        merged = merge([wide, run([10], a=[4]), run([100], 2, a=[5])])
        assert [ts - T0 for ts in merged.ts_us] == [0, 10, 50, 100]
        assert merged.metrics["a"] == [1, 4, 2, 5]


class TestSettle:
    def test_the_last_value_of_an_instant_wins_within_a_record(self):
        settled = settle("s", [3, 1, 3], {"a": [9, 2, 1], "b": [4, None, None]}, 7)
        assert (settled.ts_us, settled.metrics) == ([1, 3], {"a": [2, 1], "b": [None, 4]})

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1))
    def test_equals_a_dictionary_filled_in_order(self, pairs):
        settled = settle("s", [ts for ts, _ in pairs], {"a": [value for _, value in pairs]}, 1)
        assert dict(zip(settled.ts_us, settled.metrics["a"], strict=True)) == dict(pairs)
        assert settled.ts_us == sorted(set(settled.ts_us))


class TestCanonical:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (21.4, "21.4"),
            (21.0, "21"),
            (-0.0, "0"),
            (0, "0"),
            (-5, "-5"),
            (1e15, "1000000000000000"),
            (1e22, "10000000000000000000000"),
            (1e37, "1" + "0" * 37),
            (1e38, "1e+38"),
            (9007199254740993, "9007199254740993"),
            (10**38 - 1, "9" * 38),
            (1e-7, "1e-07"),
            (0.1 + 0.2, "0.30000000000000004"),
            (True, "true"),
            (False, "false"),
            ("", ""),
            ("21.0", "21.0"),
        ],
    )
    def test_examples(self, value, text):
        assert canonical(value) == text

    @given(make.ints())
    def test_ints_come_back(self, value):
        assert number(canonical(value)) == value
        assert type(number(canonical(value))) is int

    @given(make.floats())
    def test_floats_come_back_to_the_last_bit(self, value):
        back = number(canonical(value))
        assert float(back) == value
        assert canonical(back) == canonical(value)

    @given(make.floats().filter(float.is_integer))
    def test_an_int_and_a_float_of_the_same_digits_have_one_text(self, value):
        whole = int(Decimal(repr(value)))
        if abs(whole) < 10**38:
            assert canonical(value) == canonical(whole)

    @given(st.integers(-(2**53), 2**53))
    def test_an_int_and_the_equal_float_have_one_text(self, value):
        assert canonical(float(value)) == canonical(value)

    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("1E+2", 100),
            ("12.0", 12),
            ("1.2345678901234567890123E+30", 1234567890123456789012300000000),
            ("1E-7", 1e-7),
            ("-0", 0),
            ("1e+38", 1e38),
        ],
    )
    def test_other_spellings_of_a_number_are_read(self, text, value):
        assert number(text) == value
        assert type(number(text)) is type(value)

    @pytest.mark.parametrize("text", ["", "-", "1,5", "x", "--1"])
    def test_what_is_no_number_is_an_error(self, text):
        with pytest.raises(ValueError):  # noqa: PT011 - the text is Python's own
            number(text)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (math.nan, "not_finite"),
        (-math.inf, "not_finite"),
        (9.9e-131, "number_out_of_range"),
        (1e126, "number_out_of_range"),
        (10**38, "int_too_long"),
        (-(10**38), "int_too_long"),
        (10**38 - 1, None),
        (1e-130, None),
        (9.99e125, None),
        (0.0, None),
        (-0.0, None),
    ],
)
def test_numbers_that_dynamodb_cannot_hold_are_named(value, problem):
    assert number_problem(value) == problem


@pytest.mark.parametrize("text", ["a", "press-7", "site/hall.2/press:7", "0", "A" * 128, "a.b"])
def test_sensor_ids(text):
    assert is_sensor_id(text)


@pytest.mark.parametrize(
    "text", ["", "-a", "/a", "a/", "a//b", "a..b", "a b", "a#b", "A" * 129, "a\n", "é", "a/../b", "a\x00"]
)
def test_hostile_sensor_ids_are_refused(text):
    assert not is_sensor_id(text)


@pytest.mark.parametrize(("text", "fits"), [("t", True), ("_", True), ("a.b-c", True), ("m" * 64, True)])
def test_metric_names(text, fits):
    assert is_metric_name(text) is fits


@pytest.mark.parametrize("text", ["", "9a", "m" * 65, "a b", "a\n", ".a", "é"])
def test_hostile_metric_names_are_refused(text):
    assert not is_metric_name(text)


class TestSpan:
    def test_is_half_open(self):
        span = Span(10, 20)
        assert [span.holds(ts) for ts in (9, 10, 19, 20)] == [False, True, True, False]

    def test_what_two_spans_share(self):
        assert Span(0, 10).overlap(Span(5, 20)) == Span(5, 10)
        assert Span(0, 5).overlap(Span(5, 9)).is_empty()


class TestCutting:
    @given(make.runs(arrival_ms=None), st.data())
    def test_clip_keeps_exactly_what_the_span_holds(self, held, data):
        edge = st.one_of(st.sampled_from(held.ts_us), st.integers(held.ts_us[0] - 1, held.ts_us[-1] + 1))
        span = Span(*sorted([data.draw(edge), data.draw(edge)]))
        kept = {cell: value for cell, value in make.ranked_cells(held).items() if span.holds(cell[0])}
        assert make.ranked_cells(clip(held, span)) == kept

    @given(make.runs(arrival_ms=None), st.data())
    def test_pieces_put_together_again_are_the_run(self, held, data):
        cut = data.draw(st.integers(1, len(held.ts_us)))
        pieces = [piece for piece in (take(held, 0, cut), take(held, cut, len(held.ts_us))) if piece.ts_us]
        assert make.ranked_cells(concat(pieces)) == make.ranked_cells(held)

    @given(make.runs(arrival_ms=None), st.data())
    def test_select_keeps_the_named_metrics_and_their_instants(self, held, data):
        names = data.draw(st.lists(st.sampled_from([*held.metrics, "unknown"]), unique=True))
        chosen = select(held, names)
        wanted = {cell: v for cell, v in make.ranked_cells(held).items() if not names or cell[1] in names}
        assert make.ranked_cells(chosen) == wanted
        assert chosen.ts_us == sorted({ts for ts, _ in wanted})

    def test_value_count_leaves_out_what_is_absent(self):
        assert run([0, 1], a=[1, None], b=[None, None]).value_count() == 1
