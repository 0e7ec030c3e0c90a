"""Manifests, tickets, open slots and the layout: what is written about chunks is read back as it was."""

import json

import pytest
from hypothesis import given
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
HALF_AN_ITEM = 200 * 1024

PERIOD = Period(0, 900, 3600, 7 * 86_400, 365 * 86_400)
buckets = st.integers(500_000, 600_000).map(lambda hours: hours * 3600)
named = st.dictionaries(st.tuples(make.sensor_ids(), buckets), st.integers(1, 4), min_size=1, max_size=20)


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
        sensors = [f"{'x' * 120}{number:08d}" for number in range(count)]
        chunks = [keys.chunk_key(sensor_id, 3600 * 500_000, BATCH, 0) for sensor_id in sensors]
        items = encode_manifests(SLOT_S, BATCH, WRITTEN_S, chunks, PERIOD)
        assert [item.key.sk for item in items] == [f"{BATCH}#{part}" for part in range(3)]
        assert max(item.size_bytes for item in items) < HALF_AN_ITEM
        found = [key for item in items for key in decode_manifest(json.loads(item.body)).chunks]
        assert sorted(found) == sorted(chunks)
        assert len(set(found)) == count

    def test_the_order_of_the_chunks_does_not_change_the_items(self):
        chunks = chunk_keys({("b", 3600): 2, ("a", 7200): 1, ("a", 3600): 1})
        backwards = encode_manifests(SLOT_S, BATCH, 5, chunks[::-1], PERIOD)
        assert encode_manifests(SLOT_S, BATCH, 5, chunks, PERIOD) == backwards

    def test_the_stored_shape(self):
        (item,) = encode_manifests(7200, BATCH, 99, chunk_keys({("press-7", 3600): 2}), PERIOD)
        assert json.loads(item.body) == {
            "pk": {"S": "m#7200"},
            "sk": {"S": f"{BATCH}#0"},
            "chunks": {"L": [{"L": [{"S": "press-7"}, {"N": "3600"}, {"N": "2"}]}]},
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
