"""The packed codec: exact for whatever the list codec takes, smaller where it is chosen, safe where damaged."""

import base64
import json
import random
import re
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest import chunk_column, chunk_list, chunk_packed, keys
from ingest.chunk import MOST_CHUNK_BYTES, Chunk, decode_item, encode, item_size, write_units
from ingest.errors import Corrupt, ThermoclineError
from ingest.keys import US
from ingest.reading import Run, merge
from tests import strategies as make

BUCKET_S = 1_795_212_000
START_US = BUCKET_S * US
END_US = START_US + 3600 * US
BATCH = "abcdefghijklmnop"
FORMATS = Path(__file__).parent.parent.parent / "ingest" / "FORMATS.md"

in_bucket = make.runs(first_us=START_US, last_us=END_US - 1)


def at(times: list[int], **metrics: list) -> Run:
    return Run("press-7", [START_US + t for t in times], metrics, make.ARRIVAL_MS)


def packed_item(run: Run) -> dict:
    """The run packed, whether or not that pays, as a table answers."""
    body = chunk_packed.body(run, BUCKET_S)
    key = keys.chunk_key(run.sensor_id, BUCKET_S, BATCH, 0)
    head: dict[str, dict[str, object]] = {
        "pk": {"S": key.pk},
        "sk": {"S": key.sk},
        "n": {"N": str(len(run.ts_us))},
        "c": {"S": "p"},
        "at": {"N": str(run.arrival_ms)},
        "ttl": {"N": "1"},
    }
    item = head | json.loads(f"{{{body.json}}}")
    assert item_size(item) == item_size(head) + body.size_bytes
    return item


def chunks_of(run: Run) -> list[Chunk]:
    found: list[Chunk] = []
    for part, item in enumerate(encode(run, BUCKET_S, BATCH, 1, "packed")):
        stored = json.loads(item.body)
        assert item.size_bytes == item_size(stored)
        assert item.key == keys.chunk_key(run.sensor_id, BUCKET_S, BATCH, part)
        found.append(decode_item(stored))
    return found


def wandering(count: int, decimals: int, seed: int, step: float = 0.05) -> list[float]:
    rng = random.Random(seed)
    steps = (rng.gauss(0, step) for _ in range(count))
    return list(accumulate(steps, lambda a, b: round(a + b, decimals), initial=20.0))[1:]


def units(run: Run, codec: str) -> int:
    return sum(write_units(item.size_bytes) for item in encode(run, BUCKET_S, BATCH, 1, codec))


def form_of(column: list) -> str:
    """How a column of these values is stored beside one that is packed."""
    stored = packed_item(at([i * US for i in range(len(column))], a=column))["v"]["M"]["a"]
    if "B" in stored:
        return "packed"
    if "L" not in stored:
        return "one value"
    return "choice" if "B" in stored["L"][0] else "list"


class TestExact:
    @given(in_bucket)
    @settings(max_examples=300)
    def test_every_run_comes_back(self, run):
        chunk = decode_item(packed_item(run))
        assert chunk.run.ts_us == run.ts_us
        assert make.ranked_cells(chunk.run) == make.ranked_cells(run)
        assert (chunk.run.sensor_id, chunk.expires_at_s) == (run.sensor_id, 1)

    @given(in_bucket)
    def test_values_are_of_the_types_that_canonical_lists_give(self, run):
        """Ints without a fraction, else floats: what the list codec reads from a table, which keeps no `.0`."""
        item = packed_item(run)
        metrics = decode_item(item).run.metrics
        for column in [metrics[name] for name, stored in item["v"]["M"].items() if "B" in stored]:
            spelled = json.loads(f"[{','.join(chunk_list.cell_text(cell).json for cell in column)}]")
            expected = chunk_list.decode_list(spelled)
            assert [(type(cell), cell) for cell in column] == [(type(cell), cell) for cell in expected]

    @given(st.lists(st.one_of(make.numbers(), st.none()), min_size=1, max_size=400))
    @example([2.0**53, 1])
    @example([2**53, 0.5])
    @example([2**53 + 1, 0.5])
    @example([-(2**63), 2**63 - 1])
    @example([2**63, 1])
    @example([-0.0, 0.5])
    @example([1e22, 1e23, 9.999999999999998e125])
    @example([0.1, 0.1 + 2**-56])
    def test_numbers_with_holes(self, column):
        run = at([i * 1000 for i in range(len(column))], a=column, b=list(range(len(column))))
        assert make.cells(decode_item(packed_item(run)).run) == make.cells(run)

    @given(st.integers(0, 17), st.integers(1, 300), st.integers(0, 2**32), st.integers(-30, 40))
    def test_decimals_of_any_length(self, decimals, count, seed, magnitude):
        rng = random.Random(seed)
        column = [round(rng.uniform(-1, 1) * 10.0**magnitude, decimals) for _ in range(count)]
        run = at(list(range(count)), a=column)
        assert make.cells(decode_item(packed_item(run)).run) == make.cells(run)

    @given(st.lists(st.integers(1, 8_000_000), min_size=1, max_size=400), st.sampled_from([1, 1000, 7]))
    def test_times_of_any_gaps(self, gaps, factor):
        times = list(accumulate((gap * factor for gap in gaps), initial=0))
        run = at([t % (3600 * US) if len(times) == 1 else t for t in times], a=list(range(len(times))))
        assert decode_item(packed_item(run)).run.ts_us == run.ts_us

    @given(in_bucket, in_bucket)
    def test_both_codecs_merge_as_one(self, first, second):
        first.sensor_id = second.sensor_id
        lists = [
            decode_item(json.loads(encode(run, BUCKET_S, BATCH, 1)[0].body)).run for run in (first, second)
        ]
        mixed = [lists[0], decode_item(packed_item(second)).run]
        assert make.ranked_cells(merge(mixed)) == make.ranked_cells(merge(lists))


class TestForms:
    @pytest.mark.parametrize(
        ("form", "column"),
        [
            ("packed", wandering(200, 2, 1)),
            ("packed", [random.Random(i).random() for i in range(200)]),
            ("packed", [i if i % 3 else i / 4 for i in range(200)]),
            ("packed", [None if i % 7 else i for i in range(200)]),
            ("packed", [2**62 - i * i for i in range(200)]),
            ("one value", [21.5] * 200),
            ("one value", ["idle"] * 200),
            ("choice", ["idle" if i % 50 < 20 else "running" for i in range(200)]),
            ("choice", [i % 9 > 3 for i in range(200)]),
            ("choice", [None if i % 5 else "fault" for i in range(200)]),
            ("choice", [(1, "1", True, None, 2**70)[i % 5] for i in range(200)]),
            ("list", [f"text {i}" for i in range(200)]),
            ("list", [10**30 + i for i in range(200)]),
            ("list", [2**53 + 1 + i if i % 2 else i + 0.5 for i in range(200)]),
        ],
    )
    def test_each_column_takes_the_form_that_suits_it(self, form, column):
        assert form_of(column) == form

    def test_a_grid_is_a_step_jitter_is_distances_and_the_rest_gaps(self):
        column = wandering(300, 1, 2)
        rng = random.Random(3)
        grid = [i * US for i in range(300)]
        jitter = [i * US + rng.randrange(5) * 1000 for i in range(300)]
        gaps = list(accumulate(rng.choice((1, 1, 1, 60)) * US for _ in range(300)))
        shapes = [set(packed_item(at(times, a=column))) & {"dt", "t"} for times in (grid, jitter, gaps)]
        assert shapes == [{"dt"}, {"dt", "t"}, {"t"}]

    def test_a_column_pcodec_would_not_give_back_is_a_list(self, monkeypatch):
        """The only copy is never one that was not read back."""
        honest = chunk_column._expand

        def forgetful(data, place, width, count):
            found, behind = honest(data, place, width, count)
            found[-1:] += 1
            return found, behind

        run = at([0, 1, 5, 9], a=[1.5, 2.25, 3.5, 9.75])
        monkeypatch.setattr(chunk_column, "_expand", forgetful)
        item = packed_item(run)
        monkeypatch.undo()
        assert "L" in item["v"]["M"]["a"]
        assert "L" in item["t"]
        assert decode_item(item).run == run

    def test_a_pcodec_that_writes_another_format_packs_nothing(self, monkeypatch):
        monkeypatch.setattr(chunk_column, "WRITES_KNOWN_FORMAT", False)
        run = at([i * US for i in range(900)], a=wandering(900, 2, 4))
        assert form_of(run.metrics["a"]) == "list"
        (item,) = encode(run, BUCKET_S, BATCH, 1, "packed")
        assert json.loads(item.body)["c"] == {"S": "l"}


class TestChoice:
    @given(in_bucket)
    def test_short_runs_stay_lists(self, run):
        listed = encode(run, BUCKET_S, BATCH, 1)
        chosen = encode(run, BUCKET_S, BATCH, 1, "packed")
        assert len(chosen) == 1
        assert write_units(chosen[0].size_bytes) <= write_units(listed[0].size_bytes)
        if write_units(listed[0].size_bytes) == 1:
            assert chosen == listed

    @settings(max_examples=40, deadline=None)
    @given(
        st.integers(1, 900), st.integers(0, 9), st.integers(0, 30_000), st.integers(1, 3), st.integers(0, 99)
    )
    def test_packed_exactly_where_it_takes_fewer_write_units(self, count, decimals, jitter, metrics, seed):
        rng = random.Random(seed)
        times = [i * US + rng.randrange(jitter + 1) for i in range(count)]
        run = at(times, **{f"m{i}": wandering(count, decimals, seed + i, 0.1) for i in range(metrics)})
        (chosen,) = encode(run, BUCKET_S, BATCH, 1, "packed")
        (listed,) = encode(run, BUCKET_S, BATCH, 1)
        packed_units = write_units(item_size(packed_item(run)))
        listed_units = write_units(listed.size_bytes)
        assert write_units(chosen.size_bytes) == min(packed_units, listed_units)
        assert json.loads(chosen.body)["c"]["S"] == ("p" if packed_units < listed_units else "l")
        assert make.cells(decode_item(json.loads(chosen.body)).run) == make.cells(run)

    def test_ten_minutes_of_a_usual_sensor_fit_one_write_unit(self):
        """What the packed prices rest on: jitter of 5 ms, a hundredth of a degree, a tenth of a per cent."""
        rng = random.Random(7)
        phase = rng.randrange(1000)
        times = [(i * 1000 + phase + rng.randint(-5, 5)) * 1000 for i in range(600)]
        times = [t - min(times) for t in times]
        run = at(times, temperature=wandering(600, 2, 8), humidity=wandering(600, 1, 9, 0.1))
        assert (units(run, "packed"), units(run, "list")) == (1, 7)

    def test_the_same_run_gives_the_same_bytes(self):
        run = at([i * US for i in range(900)], a=wandering(900, 2, 4))
        assert encode(run, BUCKET_S, BATCH, 1, "packed") == encode(run, BUCKET_S, BATCH, 1, "packed")


class TestCut:
    @pytest.mark.parametrize(("count", "metrics"), [(30_000, 1), (40_000, 3), (150_000, 1)])
    def test_long_runs_become_chunks_of_at_most_64_kb_that_hold_everything(self, count, metrics):
        rng = random.Random(count)
        times = list(accumulate((rng.randrange(1, 20_000) for _ in range(count - 1)), initial=0))
        run = at(times, **{f"m{i}": [rng.random() for _ in range(count)] for i in range(metrics)})
        items = encode(run, BUCKET_S, BATCH, 1, "packed")
        assert len(items) > 1
        assert max(item.size_bytes for item in items) <= MOST_CHUNK_BYTES
        used = [item.size_bytes / (write_units(item.size_bytes) * 1024) for item in items[:-1]]
        assert min(used) > 0.98
        assert make.ranked_cells(merge([chunk.run for chunk in chunks_of(run)])) == make.ranked_cells(run)

    def test_many_constant_readings_are_lists_or_packed_up_to_the_limit(self):
        count = 3 * chunk_column.MOST_VALUES
        run = at(list(range(count)), a=[5] * count)
        assert merge([chunk.run for chunk in chunks_of(run)]).ts_us == run.ts_us

    @settings(max_examples=30, deadline=None)
    @given(make.runs(first_us=START_US, last_us=END_US - 1, max_size=20), st.integers(300, 900))
    def test_any_run_however_small_the_limit(self, run, most_bytes):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ingest.chunk.MOST_CHUNK_BYTES", most_bytes)
            chunks = chunks_of(run)
        assert make.ranked_cells(merge([chunk.run for chunk in chunks])) == make.ranked_cells(run)


class TestDamage:
    RUN = at(
        [i * US + random.Random(i).randrange(200) * 1000 for i in range(80)],
        a=wandering(80, 2, 5),
        b=[None if i % 3 else i * 1000 for i in range(80)],
        c=["on" if i % 20 < 9 else "off" for i in range(80)],
        d=[random.Random(6).random() + i for i in range(80)],
    )

    def binaries(self, item: dict[str, dict]) -> list[dict]:
        columns = item["v"]["M"].values()
        nested = [column["L"][0] if "L" in column else column for column in columns]
        return [part for part in [item["t"], item["k"], *nested] if "B" in part]

    def test_every_flipped_bit_of_a_binary_is_seen(self):
        item = packed_item(self.RUN)
        found = self.binaries(item)
        assert len(found) == 6
        for part in found:
            whole = base64.b64decode(part["B"])
            for bit in range(len(whole) * 8):
                changed = bytearray(whole)
                changed[bit // 8] ^= 1 << bit % 8
                part["B"] = base64.b64encode(changed).decode()
                with pytest.raises(Corrupt, match="press-7"):
                    decode_item(item)
            part["B"] = base64.b64encode(whole).decode()
        assert make.cells(decode_item(item).run) == make.cells(self.RUN)

    @pytest.mark.parametrize(
        "changes",
        [
            {"n": {"N": "79"}},
            {"n": {"N": "81"}},
            {"n": {"N": "0"}},
            {"n": {"N": "-80"}},
            {"n": {"N": "1" + "0" * 12}},
            {"at": {"N": "1795212000001"}},
            {"at": {"N": "9" * 38}},
            {"t0": {"N": "1"}},
            {"t0": {"N": "9" * 38}},
            {"dt": {"N": "1000001"}},
            {"dt": {"N": "-1"}},
            {"dt": None},
            {"t": None},
            {"t": {"L": [{"N": "1"}] * 79}},
            {"t": {"B": "AAAA"}},
            {"t": {"B": "not base64"}},
            {"t": {"B": ""}},
            {"k": None},
            {"k": {"B": ""}},
            {"k": {"S": "x"}},
            {"v": {"M": {}}},
            {"v": {"L": []}},
            {"c": {"S": "l"}},
            {"c": {"S": "q"}},
        ],
    )
    def test_contradictions_are_named_not_guessed(self, changes):
        item = {name: value for name, value in (packed_item(self.RUN) | changes).items() if value is not None}
        with pytest.raises(Corrupt, match="press-7"):
            decode_item(item)

    @pytest.mark.parametrize(
        "column",
        [
            {"L": [{"N": "1"}] * 79},
            {"L": []},
            {"N": "1"},
            {"L": [{"B": "AAAA"}, {"S": "on"}]},
            {"SS": ["x"]},
        ],
    )
    def test_a_changed_column_is_seen(self, column):
        item = packed_item(self.RUN)
        for name in "abcd":
            damaged = json.loads(json.dumps(item))
            damaged["v"]["M"][name] = column
            with pytest.raises(Corrupt, match="press-7"):
                decode_item(damaged)

    @given(in_bucket, st.data())
    @settings(max_examples=100)
    def test_what_comes_of_random_damage_is_the_run_or_an_error(self, run, data):
        text = json.dumps(packed_item(run)["v"])
        place = data.draw(st.integers(0, len(text) - 1))
        letter = data.draw(st.characters(min_codepoint=32, max_codepoint=126))
        try:
            item = packed_item(run) | {"v": json.loads(text[:place] + letter + text[place + 1 :])}
        except ValueError:
            return
        try:
            found = decode_item(item)
        except Corrupt:
            return
        assert make.cells(found.run) == make.cells(run)

    @settings(max_examples=500)
    @given(st.binary(max_size=120), st.integers(-1, 3000))
    def test_any_bytes_are_numbers_or_an_error(self, data, count):
        try:
            present, numbers = chunk_column.unpack(data, count)
        except ValueError:
            return
        assert len(numbers) == (count if present is None else int(present.sum())) > 0

    @settings(max_examples=500)
    @given(
        st.lists(make.numbers(), min_size=1, max_size=300),
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=12),
        st.integers(1, 131_072),
    )
    def test_changed_bytes_are_numbers_or_an_error(self, column, changes, count):
        packed = chunk_column.pack_column(list(column))
        if packed is None:
            return
        data = bytearray(packed[0])
        for place, byte in changes:
            data[place % len(data)] = byte
        for asked in (len(column), count):
            try:
                found = chunk_column.unpack(bytes(data), asked)
            except ValueError:
                continue
            assert len(found.numbers) <= asked

    def test_a_panic_inside_pcodec_is_an_error_like_any_other(self, monkeypatch):
        class PanicException(BaseException):
            """As pyo3 raises: no Exception."""

        class Panicking:
            def chunk_decompressor(self, data, width):
                raise PanicException("index out of bounds")

        item = packed_item(self.RUN)
        monkeypatch.setattr(chunk_column, "_decompressor", Panicking())
        with pytest.raises(Corrupt, match="index out of bounds"):
            decode_item(item)


def test_a_table_client_that_gives_bytes_is_read_too():
    run = TestDamage.RUN
    item = packed_item(run)
    for part in TestDamage().binaries(item):
        part["B"] = base64.b64decode(part["B"])
    assert make.cells(decode_item(item).run) == make.cells(run)
    assert item_size(item) == item_size(packed_item(run))


def test_without_pcodec_lists_work_and_packed_chunks_say_what_to_install(monkeypatch):
    import sys

    import ingest

    run = at([i * US for i in range(900)], a=wandering(900, 2, 4))
    (packed,) = encode(run, BUCKET_S, BATCH, 1, "packed")
    (listed,) = encode(run, BUCKET_S, BATCH, 1)
    for name in ("chunk_packed", "chunk_column"):
        monkeypatch.delitem(sys.modules, f"ingest.{name}")
        monkeypatch.delattr(ingest, name)
    monkeypatch.setitem(sys.modules, "pcodec", None)
    assert decode_item(json.loads(listed.body)).run == run
    with pytest.raises(ThermoclineError, match="extra `packed`") as caught:
        decode_item(json.loads(packed.body))
    assert not isinstance(caught.value, Corrupt)
    with pytest.raises(ThermoclineError, match="extra `packed`"):
        encode(run, BUCKET_S, BATCH, 1, "packed")


def test_the_document_states_the_numbers_of_the_code():
    text = FORMATS.read_text()
    assert re.search(rf"\b{chunk_column.MOST_VALUES:,} readings", text)
    assert bytes.fromhex("0401") == chunk_column._STREAM_HEADER
    assert "`04 01`" in text
    assert np.float64(1).tobytes()[-1] == 0x3F, "checksums are over little-endian numbers"
