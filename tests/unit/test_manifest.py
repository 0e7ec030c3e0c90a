"""Manifests, tickets, open slots and the layout: what is written about chunks is read back as it was."""

import base64
import json
import random
import string
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest import keys
from ingest.errors import Corrupt
from ingest.item import item_size
from ingest.keys import Key, Period, first_layout
from ingest.manifest import (
    CHUNKS_PER_MANIFEST,
    decode_layout,
    decode_manifest,
    encode_layout,
    encode_manifests,
    encode_open_slot,
    encode_ticket,
    layout_text,
)
from tests import strategies as make

SLOT_S = 1_795_298_400
WRITTEN_S = 1_795_212_000
BATCH = "abcdefghijklmnop"
FAR_BELOW_AN_ITEM = 150 * 1024
ID_CHARACTERS = string.ascii_letters + string.digits
GOLDEN = sorted((Path(__file__).parent.parent / "golden" / "manifest").glob("*.json"))

PERIOD = Period(0, 900, 3600, 7 * 86_400, 365 * 86_400)
buckets = st.integers(500_000, 600_000).map(lambda hours: hours * 3600)
hostile_ids = st.one_of(
    make.sensor_ids(),
    st.text("Zz0", min_size=128, max_size=128),
    st.sampled_from(["a", "a.", "a-", "a/b", "A", "z" * 128, "0", "00", "0" * 127 + "z"]),
)
named = st.dictionaries(st.tuples(hostile_ids, buckets), st.integers(1, 4), min_size=1, max_size=20)


def chunk_keys(parts: dict[tuple[str, int], int]) -> list[Key]:
    return [
        keys.chunk_key(sensor_id, bucket_s, BATCH, part)
        for (sensor_id, bucket_s), count in parts.items()
        for part in range(count)
    ]


class TestManifests:
    @given(named)
    def test_name_exactly_the_chunks(self, parts):
        (item,) = encode_manifests(SLOT_S, BATCH, WRITTEN_S, chunk_keys(parts), PERIOD)
        manifest = decode_manifest(json.loads(item.body))
        assert sorted(manifest.chunks) == sorted(chunk_keys(parts))
        assert (manifest.key, manifest.slot_s, manifest.batch) == (item.key, SLOT_S, BATCH)
        assert manifest.written_s == WRITTEN_S
        assert item.size_bytes == item_size(json.loads(item.body))

    def test_very_many_chunks_make_several_far_below_the_limit_of_an_item(self):
        count = 2 * CHUNKS_PER_MANIFEST + 1
        dice = random.Random(1)
        sensors = ["".join(dice.choices(ID_CHARACTERS, k=128)) for _ in range(count)]
        chunks = [keys.chunk_key(sensor_id, 3600 * 500_000, BATCH, 0) for sensor_id in sensors]
        items = encode_manifests(SLOT_S, BATCH, WRITTEN_S, chunks, PERIOD)
        assert [item.key.sk for item in items] == [f"{BATCH}#{part}" for part in range(3)]
        assert max(item.size_bytes for item in items) < FAR_BELOW_AN_ITEM
        found = [key for item in items for key in decode_manifest(json.loads(item.body)).chunks]
        assert sorted(found) == sorted(chunks)
        assert len(set(found)) == count

    def test_chunks_of_one_fleet_take_two_bytes_each(self):
        chunks = [
            keys.chunk_key(f"sim-{number:05d}", 1_795_208_400, BATCH, 0) for number in range(0, 40_000, 47)
        ]
        (item,) = encode_manifests(SLOT_S, BATCH, WRITTEN_S, chunks, PERIOD)
        assert item.size_bytes < 2 * len(chunks)

    @given(st.permutations(chunk_keys({("b", 3600): 2, ("a", 7200): 1, ("a", 3600): 3, ("a/b", 3600): 1})))
    def test_the_order_of_the_chunks_does_not_change_the_items(self, chunks):
        in_order = encode_manifests(SLOT_S, BATCH, 5, sorted(chunks), PERIOD)
        assert encode_manifests(SLOT_S, BATCH, 5, chunks, PERIOD) == in_order

    def test_the_stored_shape(self):
        (item,) = encode_manifests(7200, BATCH, 99, chunk_keys({("press-7", 3600): 2}), PERIOD)
        body = json.loads(item.body)
        packed = base64.b64decode(body.pop("chunks")["B"])
        assert packed[:1] == b"\x02"
        assert zlib.decompress(packed[1:]) == (
            b"\1\0\0\0" + b"\7\0" + b"press-7" + b"\x3c\0\0\0" + b"\2\0\0\0"
        ), "one entry, ids of seven, the id, minute 60, two parts"
        assert body == {
            "pk": {"S": "m#7200"},
            "sk": {"S": f"{BATCH}#0"},
            "written": {"N": "99"},
            "bucket": {"N": "900"},
            "hot": {"N": "604800"},
        }

    def test_one_of_an_older_release_does_not_say_what_its_writer_went_by(self):
        (item,) = encode_manifests(7200, BATCH, 99, chunk_keys({("press-7", 3600): 2}), PERIOD)
        known = json.loads(item.body)
        assert (decode_manifest(known).bucket_s, decode_manifest(known).hot_retention_s) == (900, 604_800)
        older = {name: known[name] for name in ("pk", "sk", "chunks", "written")}
        found = decode_manifest(older)
        assert (found.bucket_s, found.hot_retention_s, found.written_s) == (None, None, 99)

    def test_they_never_expire(self):
        (item,) = encode_manifests(7200, BATCH, 99, chunk_keys({("press-7", 3600): 2}), PERIOD)
        assert "ttl" not in json.loads(item.body)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_what_was_once_written_is_read_for_ever(path):
    golden = json.loads(path.read_text())
    found = decode_manifest(golden["item"])
    assert sorted(map(list, found.chunks)) == golden["chunks"]
    told = (found.slot_s, found.batch, found.written_s, found.bucket_s, found.hot_retention_s)
    assert told == tuple(
        golden[name] for name in ("slot_s", "batch", "written_s", "bucket_s", "hot_retention_s")
    )
    form = golden["item"]["chunks"]
    assert ("L" in form) == path.stem.startswith("v1_")


def test_there_are_golden_items_of_both_forms():
    assert [path.stem for path in GOLDEN] == [
        "v1_buckets_and_parts",
        "v1_usual",
        "v1_without_times",
        "v2_buckets_and_parts",
        "v2_usual",
    ]


class TestDamage:
    CHUNKS = chunk_keys({(f"press-{number}", 3600): 1 + number % 2 for number in range(30)})

    def whole(self) -> tuple[dict[str, Any], bytes]:
        (item,) = encode_manifests(7200, BATCH, 99, self.CHUNKS, PERIOD)
        body = json.loads(item.body)
        return body, base64.b64decode(body["chunks"]["B"])

    def refused(self, body: dict[str, Any], chunks: dict[str, Any]) -> None:
        with pytest.raises(Corrupt, match=f"m#7200 {BATCH}#0"):
            decode_manifest(body | {"chunks": chunks})

    @given(st.integers(0, 10_000), st.integers(1, 255))
    def test_no_flipped_byte_gives_other_chunks(self, place, flip):
        body, data = self.whole()
        place %= len(data)
        damaged = data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :]
        try:
            body["chunks"] = {"B": damaged}
            found = decode_manifest(body)
        except Corrupt:
            return
        assert sorted(found.chunks) == sorted(self.CHUNKS), "zlib's header has bits that say nothing"

    @given(st.binary(max_size=60))
    @example(b"")
    @example(b"\x02")
    def test_any_other_bytes_are_corrupt(self, data):
        body, _ = self.whole()
        self.refused(body, {"B": data})
        self.refused(body, {"B": b"\x02" + zlib.compress(data)})

    def test_what_is_cut_off_longer_or_of_a_later_form_is_corrupt(self):
        body, data = self.whole()
        for cut in range(len(data)):
            self.refused(body, {"B": data[:cut]})
        self.refused(body, {"B": data + b"\0"})
        self.refused(body, {"B": b"\x03" + data[1:]})
        self.refused(body, {"B": "no base64"})

    @pytest.mark.parametrize(
        "inside",
        [
            b"\0\0\0\0\1\0",
            b"\1\0\0\0\0\0" + bytes(8),
            b"\1\0\0\0\1\0a" + bytes(7),
            b"\1\0\0\0\1\0a" + b"\0\0\0\x80" + b"\1\0\0\0",
            b"\1\0\0\0\1\0\xff" + bytes(4) + b"\1\0\0\0",
            b"\1\0\0\0\1\0a" + bytes(8),
            bytes(20_000_000),
        ],
        ids=["nothing", "no width", "too short", "before all time", "no ASCII", "no part", "a bomb"],
    )
    def test_contradictions_are_named_not_guessed(self, inside):
        body, _ = self.whole()
        self.refused(body, {"B": b"\x02" + zlib.compress(inside)})

    @pytest.mark.parametrize(
        "chunks", [{}, {"S": "x"}, {"L": [{"S": "x"}]}, {"L": [{"L": []}]}, {"L": [{"L": [{"N": "1"}] * 3}]}]
    )
    def test_a_damaged_first_form_is_corrupt(self, chunks):
        body, _ = self.whole()
        self.refused(body, chunks)

    def test_what_stands_beside_the_chunks_must_be_there(self):
        body, _ = self.whole()
        changes: list[dict[str, Any]] = [{"written": {"S": "x"}}, {"bucket": {"N": "x"}}, {"hot": {}}]
        for change in changes:
            self.refused(body | change, body["chunks"])


def test_a_ticket_expires_at_its_slot():
    item = encode_ticket(SLOT_S)
    assert json.loads(item.body) == {"pk": {"S": f"t#{SLOT_S}"}, "sk": {"S": "t"}, "ttl": {"N": str(SLOT_S)}}


def test_an_open_slot_never_expires():
    assert json.loads(encode_open_slot(5).body) == {"pk": {"S": "o"}, "sk": {"S": "000000000005"}}


class TestLayout:
    LAYOUT = (
        first_layout(Period(0, 3600, 86_400, 7 * 86_400, 5 * 365 * 86_400))
        .changed(Period(99, 900, 3600, 86_400, 365 * 86_400))
        .expired_early(10)
    )

    def test_comes_back_with_its_whole_history(self):
        item = json.loads(encode_layout(self.LAYOUT).body)
        assert decode_layout(item) == self.LAYOUT
        assert (item["pk"]["S"], item["sk"]["S"]) == ("c", "layout")

    def test_equal_layouts_have_equal_texts(self):
        again = decode_layout(json.loads(encode_layout(self.LAYOUT).body))
        assert layout_text(again) == layout_text(self.LAYOUT)

    def test_version_one_is_read_for_ever(self):
        text = (
            '{"version": 1, "shortest_hot_s": 604800, "periods": [{"from_s": 0, "bucket_s": 3600, '
            '"archive_after_s": 86400, "hot_retention_s": 604800, "cold_retention_s": 157680000}]}'
        )
        layout = decode_layout({"layout": {"S": text}})
        assert layout == first_layout(Period(0, 3600, 86_400, 604_800, 157_680_000))
        assert layout_text(layout) == text

    @pytest.mark.parametrize(
        "item",
        [
            {},
            {"layout": {"S": "no JSON"}},
            {"layout": {"S": '{"version": 1}'}},
            {"layout": {"S": '{"version": 1, "shortest_hot_s": 1, "periods": []}'}},
            {"layout": {"S": '{"version": 2, "shortest_hot_s": 1, "periods": [1]}'}},
            {"layout": {"S": '{"version": 1, "shortest_hot_s": 1, "periods": [{"from_s": 0}]}'}},
            {"layout": {"S": "[]"}},
        ],
    )
    def test_what_cannot_be_read_is_corrupt(self, item):
        with pytest.raises(Corrupt):
            decode_layout(item)
