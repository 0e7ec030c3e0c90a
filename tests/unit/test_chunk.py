"""Chunks: a run comes back from its items exactly, whatever it holds; no item is too large or weighed wrongly."""

import json
import random
from itertools import accumulate
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest import keys
from ingest.chunk import MOST_CHUNK_BYTES, Chunk, decode_item, encode, item_size, write_units
from ingest.errors import Corrupt
from ingest.keys import US
from ingest.reading import Run, merge
from tests import strategies as make

BUCKET_S = 1_795_212_000
START_US = BUCKET_S * US
END_US = START_US + 3600 * US
BATCH = "abcdefghijklmnop"
EXPIRES_AT_S = BUCKET_S + 8 * 86_400
GOLDEN = sorted((Path(__file__).parent.parent / "golden" / "chunk").glob("*.json"))

in_bucket = make.runs(first_us=START_US, last_us=END_US - 1)


def chunks_of(run: Run) -> list[Chunk]:
    """Encoded, checked for size and numbering, sent as JSON, and decoded."""
    found: list[Chunk] = []
    for part, item in enumerate(encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)):
        stored = json.loads(item.body)
        assert item.size_bytes == item_size(stored)
        assert item.key == keys.chunk_key(run.sensor_id, BUCKET_S, BATCH, part)
        assert (stored["pk"]["S"], stored["sk"]["S"]) == item.key
        found.append(decode_item(stored))
    return found


def shape(run: Run) -> set[str]:
    (item,) = encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)
    return set(json.loads(item.body)) - {"pk", "sk", "n", "c", "at", "ttl", "t0", "v"}


def at(times: list[int], **metrics: list) -> Run:
    return Run("press-7", [START_US + t for t in times], metrics, make.ARRIVAL_MS)


class TestRoundTrip:
    @given(in_bucket)
    @settings(max_examples=200)
    def test_exact(self, run):
        (chunk,) = chunks_of(run)
        assert chunk.run.ts_us == run.ts_us
        assert make.ranked_cells(chunk.run) == make.ranked_cells(run)
        assert (chunk.run.sensor_id, chunk.expires_at_s) == (run.sensor_id, EXPIRES_AT_S)

    @given(in_bucket)
    def test_again_gives_the_same_items(self, run):
        (chunk,) = chunks_of(run)
        again = make.cells(chunks_of(chunk.run)[0].run)
        assert again == make.cells(run)

    @given(make.runs(arrival_ms=None, first_us=START_US, last_us=END_US - 1))
    def test_a_chunk_has_one_arrival_the_greatest(self, run):
        (chunk,) = chunks_of(run)
        greatest = max(arrival for _, _, arrival in make.ranked_cells(run).values())
        assert chunk.run.arrival_ms == greatest
        assert make.cells(chunk.run) == make.cells(run)

    @given(
        st.lists(st.sampled_from([1e23, int(1e23), 10**23, 2.0**70, 2**70, 1.0, 1]), min_size=1, max_size=5)
    )
    def test_equal_numbers_of_different_digits_are_weighed_apart(self, cells):
        chunks_of(at(list(range(len(cells))), a=cells))

    def test_a_metric_absent_throughout_is_not_stored(self):
        run = at([0, 1], a=[None, None], b=[1, 2])
        (item,) = encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)
        assert set(json.loads(item.body)["v"]["M"]) == {"b"}

    def test_ints_stay_ints_and_bools_stay_bools(self):
        (chunk,) = chunks_of(at([0, 1, 2], a=[1, 1, 1], b=[True, True, True], c=[2**60 + 1, 5, 7]))
        assert chunk.run.metrics == {"a": [1, 1, 1], "b": [True] * 3, "c": [2**60 + 1, 5, 7]}
        assert all(cell is True for cell in chunk.run.metrics["b"])

    def test_one_and_true_are_no_constant(self):
        (chunk,) = chunks_of(at([0, 1], a=[1, True]))
        assert [type(cell) for cell in chunk.run.metrics["a"]] == [int, bool]


class TestShapes:
    def test_on_a_grid_only_the_step_is_stored(self):
        assert shape(at([5, 10, 15, 20], a=[1, 2, 3, 4])) == {"dt"}

    def test_one_reading_has_no_step(self):
        assert shape(at([5], a=[1])) == set()

    def test_a_missing_instant_is_a_null(self):
        steps = [i * US for i in range(40) if i != 20]
        run = at(steps, a=[i + 0.5 for i in range(39)])
        assert shape(run) == {"dt"}
        (item,) = encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)
        cells = json.loads(item.body)["v"]["M"]["a"]["L"]
        assert [i for i, cell in enumerate(cells) if "NULL" in cell] == [20]

    def test_irregular_times_are_steps(self):
        assert shape(at([0, 1, 1_000_000, 1_000_003, 90_000_000], a=[1, 2, 3, 4, 5])) == {"t"}

    def test_jitter_around_a_grid_is_small_distances(self):
        rng = random.Random(1)
        times = [i * US + rng.randrange(100) for i in range(60)]
        assert shape(at(times, a=list(range(60)))) == {"dt", "t"}

    def test_a_constant_is_one_value(self):
        (item,) = encode(at([0, 1, 2], a=["on"] * 3, b=[1, 2, 3]), BUCKET_S, BATCH, EXPIRES_AT_S)
        assert json.loads(item.body)["v"]["M"]["a"] == {"S": "on"}

    def test_sixty_readings_of_a_usual_sensor_fit_one_write_unit(self):
        """What the prices rest on: a minute at 1 Hz costs one write unit."""
        rng = random.Random(2)
        column = list(
            accumulate((rng.choice([-0.1, 0, 0.1]) for _ in range(60)), lambda a, b: round(a + b, 1))
        )
        (item,) = encode(
            at([i * US for i in range(60)], temperature=column, humidity=column), BUCKET_S, BATCH, 1
        )
        assert write_units(item.size_bytes) == 1


class TestCut:
    def big(self, count: int, seed: int, jitter: int, metrics: int) -> Run:
        rng = random.Random(seed)
        times = list(accumulate((1000 + rng.randrange(jitter + 1) for _ in range(count)), initial=0))[:count]
        return at(times, **{f"m{i}": [rng.random() for _ in range(count)] for i in range(metrics)})

    @pytest.mark.parametrize(
        ("count", "jitter", "metrics"), [(9_000, 0, 1), (40_000, 0, 1), (12_000, 500, 3)]
    )
    def test_long_runs_become_chunks_of_at_most_64_kb_that_hold_everything(self, count, jitter, metrics):
        run = self.big(count, 3, jitter, metrics)
        items = encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)
        assert len(items) > 1
        assert max(item.size_bytes for item in items) <= MOST_CHUNK_BYTES
        parts = [chunk.run for chunk in chunks_of(run)]
        assert make.ranked_cells(merge(parts)) == make.ranked_cells(run)
        assert sum(len(part.ts_us) for part in parts) == count

    def test_all_but_the_last_chunk_use_their_write_units(self):
        items = encode(self.big(40_000, 4, 0, 1), BUCKET_S, BATCH, EXPIRES_AT_S)
        used = [item.size_bytes / (write_units(item.size_bytes) * 1024) for item in items[:-1]]
        assert min(used) > 0.98

    @settings(max_examples=25)
    @given(st.integers(1, 60), st.integers(0, 12_000), st.integers(0, 3), st.booleans())
    @example(7, 12_000, 3, True)
    def test_texts_of_any_length(self, count, length, extra, varied):
        texts = [
            ("ü" if varied and i % 3 else "x") * (length // (1 + (i % 5 if varied else 0)))
            for i in range(count)
        ]
        metrics = {f"m{i}": texts if i == 0 else [f"{i}{text}" for text in texts] for i in range(extra + 1)}
        run = at([i * i for i in range(count)], **metrics)
        chunks = chunks_of(run)
        items = encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)
        largest = max(len(cell.encode()) for column in metrics.values() for cell in column)
        assert largest > 60_000 or max(item.size_bytes for item in items) <= MOST_CHUNK_BYTES
        assert make.ranked_cells(merge([chunk.run for chunk in chunks])) == make.ranked_cells(run)

    def test_one_reading_of_many_metrics_is_cut_by_metric(self):
        run = at([0], **{f"m{i:05d}": ["x" * 90] for i in range(3_000)})
        items = encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)
        assert max(item.size_bytes for item in items) <= MOST_CHUNK_BYTES
        assert make.cells(merge([chunk.run for chunk in chunks_of(run)])) == make.cells(run)

    def test_a_value_larger_than_a_chunk_stands_alone(self):
        run = at([0, 1, 2], a=["s", "x" * 100_000, "s"], b=[1, 2, 3])
        sizes = [item.size_bytes for item in encode(run, BUCKET_S, BATCH, EXPIRES_AT_S)]
        assert [size for size in sizes if size > MOST_CHUNK_BYTES] == [max(sizes)]
        assert make.cells(merge([chunk.run for chunk in chunks_of(run)])) == make.cells(run)

    @settings(max_examples=30)
    @given(make.runs(first_us=START_US, last_us=END_US - 1, max_size=20), st.integers(300, 900))
    def test_any_run_however_small_the_limit(self, run, most_bytes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ingest.chunk.MOST_CHUNK_BYTES", most_bytes)
            chunks = chunks_of(run)
        assert make.ranked_cells(merge([chunk.run for chunk in chunks])) == make.ranked_cells(run)


class TestCorrupt:
    ITEM = json.loads(encode(at([0, 1, 5], a=[1, 2, 3], b=[1.5, None, "x"]), BUCKET_S, BATCH, 1)[0].body)

    @pytest.mark.parametrize(
        "changes",
        [
            {"c": {"S": "z"}},
            {"c": None},
            {"n": {"N": "2"}},
            {"n": {"N": "4"}},
            {"n": {"S": "x"}},
            {"t": {"L": [{"N": "1"}]}},
            {"t": {"L": [{"N": "1"}, {"N": "0"}]}},
            {"t": {"L": [{"N": "5"}, {"N": "-1"}]}},
            {"t0": None},
            {"v": {"M": {"a": {"L": [{"N": "1"}]}, "b": {"L": [{"N": "1"}, {"N": "2"}, {"N": "3"}]}}}},
            {"v": {"M": {"a": {"L": [{"SS": ["1"]}, {"N": "2"}, {"N": "3"}]}}}},
            {"v": {"L": []}},
            {"at": None},
            {"ttl": None},
            {"sk": {"S": "2026-11-20T22:00Z"}},
        ],
    )
    def test_contradictions_are_named_not_guessed(self, changes):
        item = {name: value for name, value in (self.ITEM | changes).items() if value is not None}
        with pytest.raises(Corrupt, match="press-7"):
            decode_item(item)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_was_once_written_is_read_for_ever(path):
    golden = json.loads(path.read_text())
    stated = golden["readings"]
    chunk = decode_item(golden["item"])
    expected = Run(stated["sensor_id"], stated["ts_us"], stated["metrics"], stated["arrival_ms"])
    assert chunk.run.ts_us == expected.ts_us
    assert make.ranked_cells(chunk.run) == make.ranked_cells(expected)
    assert chunk.expires_at_s == stated["expires_at_s"]
    assert keys.parse_chunk_key(chunk.key) == (stated["sensor_id"], stated["bucket_start_s"], BATCH, 0)


def test_there_is_a_golden_item_for_every_shape():
    assert len([path for path in GOLDEN if path.stem.startswith("v1_")]) == 10
    assert len([path for path in GOLDEN if path.stem.startswith("p1_")]) == 7
