"""The hot store in DynamoDB without DynamoDB: what it works out by itself."""

import json

from hypothesis import given

from ingest.chunk import encode
from ingest.item import item_size
from ingest.stores.hot import _size
from tests import strategies as make

BUCKET_S = 1_763_676_000
END_US = (BUCKET_S + 3_600) * 1_000_000


@given(make.runs(first_us=BUCKET_S * 1_000_000, last_us=END_US - 1))
def test_a_page_is_weighed_to_the_byte_as_its_items_are(run):
    for item in encode(run, BUCKET_S, "abcdefghijklmnop", 1_764_000_000):
        attributes = json.loads(item.body)
        assert _size(attributes) == item_size(attributes) == item.size_bytes
