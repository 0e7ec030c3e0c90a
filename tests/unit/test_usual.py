"""Many user records decoded together give exactly what each gives alone."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import wire, wire_encode
from ingest.reading import Run, canonical
from tests.strategies import ARRIVAL_MS


def usual_payloads() -> st.SearchStrategy[bytes]:
    instants = st.integers(ARRIVAL_MS - 10_000, ARRIVAL_MS)
    numbers = st.one_of(
        st.floats(-1e6, 1e6), st.integers(-5, 5), st.booleans(), st.none(), st.text(max_size=3)
    )
    metrics = st.dictionaries(st.sampled_from(["t", "h", "b"]), numbers, max_size=3)
    return st.builds(
        lambda sensor, ts, found: json.dumps({"sensor_id": sensor, "ts": ts, "metrics": found}).encode(),
        st.sampled_from(["a", "b", "c/d"]),
        instants,
        metrics,
    )


def odd_payloads() -> st.SearchStrategy[bytes]:
    return st.sampled_from(
        [
            b"",
            b"{",
            b"}",
            b"{}",
            b"{}{}",
            b"[]",
            b'{"sensor_id":"a"',
            b'"x"',
            b"\n",
            b'{"a":1}\n{"b":2}',
            b"nan",
        ]
    )


def last_cells(runs: list[Run]) -> dict[tuple[str, int, str], str]:
    """Each value by sensor, instant and metric, the last one given winning."""
    return {
        (run.sensor_id, ts_us, name): f"{type(value).__name__ == 'str'}{canonical(value)}"
        for run in runs
        for name, column in run.metrics.items()
        for ts_us, value in zip(run.ts_us, column, strict=True)
        if value is not None
    }


class TestTogether:
    @given(st.data())
    def test_decoding_together_gives_what_decoding_one_by_one_gives(self, data: st.DataObject) -> None:
        payloads = data.draw(st.lists(st.one_of(usual_payloads(), odd_payloads()), min_size=1, max_size=12))
        runs, problems = wire.decode_all(payloads, ARRIVAL_MS)
        single = [wire.decode(payload, ARRIVAL_MS) for payload in payloads]
        wrong = [(position, problem) for position, (_, found) in enumerate(single) for problem in found]
        assert problems == wrong
        assert last_cells(runs) == last_cells([run for found, _ in single for run in found])

    @given(
        st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 40), st.integers(-3, 3)),
            min_size=4,
            max_size=700,
        )
    )
    def test_many_readings_of_the_same_numbers_give_what_one_by_one_gives(
        self, found: list[tuple[str, int, int]]
    ) -> None:
        payloads = [
            wire_encode.encode_reading(
                sensor, (ARRIVAL_MS - second * 1_000) * 1_000, {"t": value / 2, "h": value}
            )
            for sensor, second, value in found
        ]
        runs, problems = wire.decode_all(payloads, ARRIVAL_MS)
        assert problems == []
        assert len(runs) == len({run.sensor_id for run in runs})
        single = [run for payload in payloads for run in wire.decode(payload, ARRIVAL_MS)[0]]
        assert last_cells(runs) == last_cells(single)
        assert all(run.ts_us == sorted(set(run.ts_us)) for run in runs)

    def test_usual_readings_of_a_sensor_become_one_run(self) -> None:
        payloads = [
            wire_encode.encode_reading("a", (ARRIVAL_MS - 60_000) * 1000 + i * 1_000_000, {"t": i})
            for i in range(9)
        ]
        runs, problems = wire.decode_all(payloads, ARRIVAL_MS)
        assert (len(runs), problems) == (1, [])

    @pytest.mark.parametrize(
        "parts",
        [
            [b'{"sensor_id":"a","ts":1763676000000,', b'"metrics":{"t":1}}', b"{}{}", b"{}"],
            [b'{"sensor_id":"a","ts":1763676000000,"metrics":{"t":1}}{}', b"", b"{}", b"{}"],
            [b'{"sensor_id":"a","ts":1763676000000,"metrics":{"t":1', b"}}", b"{}", b"{}"],
        ],
    )
    def test_no_record_is_completed_by_its_neighbour(self, parts: list[bytes]) -> None:
        runs, problems = wire.decode_all(parts, ARRIVAL_MS)
        assert runs == []
        assert {position for position, _ in problems} == set(range(len(parts)))
