"""Plans: which tier a query reads over which span, as the golden file states it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import BadInput
from ingest.keys import DAY_S, US, Period, first_layout
from ingest.plan import Plan, Query, check, plan
from ingest.reading import EARLIEST_US, Span

GOLDEN = Path(__file__).parent.parent / "golden" / "plans.txt"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW_S = 1_795_212_000
USUAL = Period(0, 3600, DAY_S, 7 * DAY_S, 999 * DAY_S)
LAYOUTS = {
    "usual": first_layout(USUAL),
    "shortened": first_layout(Period(0, 3600, DAY_S, 3 * DAY_S, 999 * DAY_S)).changed(
        Period(9, 3600, DAY_S, 30 * DAY_S, 999 * DAY_S)
    ),
    "widened": first_layout(USUAL).changed(Period(9, DAY_S, DAY_S, 7 * DAY_S, 999 * DAY_S)),
    "local": first_layout(Period(0, 3600, 5, 60, 999 * DAY_S)),
    "emptied": first_layout(USUAL).expired_early(10 * DAY_S),
}


def instant_us(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def text(span: Span | None) -> str:
    if span is None:
        return "none"
    moments = (EPOCH + timedelta(microseconds=edge) for edge in (span.start_us, span.end_us))
    return " ".join(moment.isoformat().replace("+00:00", "Z") for moment in moments)


def golden() -> list[tuple[str, str]]:
    lines = [line for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    blocks = [block.splitlines() for block in "\n".join(lines).strip().split("\n\n")]
    return [(question, expected) for question, expected in (filter(None, block) for block in blocks)]


@pytest.mark.parametrize(("question", "expected"), golden())
def test_golden_plans(question, expected):
    sensor_id, start, end, tier, layout = question.split()
    query = Query(sensor_id, Span(instant_us(start), instant_us(end)), tier=tier)
    check(query)
    planned = plan(query, LAYOUTS[layout], NOW_S)
    assert (
        f"hot {text(planned.hot)}, cold {text(planned.cold)}, buckets {planned.widest_bucket_s} s" == expected
    )


edges = st.integers(EARLIEST_US - US, (NOW_S + 3 * DAY_S) * US)


@given(edges, edges, st.sampled_from(sorted(LAYOUTS)))
def test_auto_reads_hot_wherever_anything_is_read_and_cold_wherever_hot_may_lack_something(start, end, name):
    span = Span(min(start, end), max(start, end))
    planned = plan(Query("s", span), LAYOUTS[name], NOW_S)
    possible = span.overlap(Span(EARLIEST_US, (NOW_S + 2 * DAY_S) * US))
    assert planned.hot == (None if possible.is_empty() else possible)
    gone = possible.overlap(Span(EARLIEST_US, LAYOUTS[name].cold_until_us(NOW_S)))
    assert planned.cold == (None if gone.is_empty() else gone)


def test_a_plan_is_a_value():
    assert Plan(None, None, 1) == Plan(None, None, 1)


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (Query("../x", Span(0, 1)), "sensor"),
        (Query("", Span(0, 1)), "sensor"),
        (Query("s", Span(0, 1), metrics=("ok", "not ok")), "metric: 'not ok'"),
        (Query("s", Span(0, 1), every_us=0), "every"),
        (Query("s", Span(0, 1), every_us=-5), "every"),
        (Query("s", Span(0, 1), limit=0), "limit"),
    ],
)
def test_what_cannot_be_answered_is_named(query, part):
    with pytest.raises(BadInput, match=part):
        check(query)
