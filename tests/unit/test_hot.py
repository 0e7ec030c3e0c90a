"""The hot store in DynamoDB without DynamoDB: what it works out by itself."""

import json
from types import SimpleNamespace

import pytest
from hypothesis import given

from ingest import keys
from ingest.chunk import encode
from ingest.chunk_page import decode_query
from ingest.item import item_size
from ingest.reading import Run, Span
from ingest.stores.hot import DynamoHotStore
from tests import strategies as make

BUCKET_S = 1_763_676_000
END_US = (BUCKET_S + 3_600) * 1_000_000


@given(make.runs(first_us=BUCKET_S * 1_000_000, last_us=END_US - 1))
def test_a_page_is_weighed_to_the_byte_as_its_items_are(run):
    for item in encode(run, BUCKET_S, "abcdefghijklmnop", 1_764_000_000):
        attributes = json.loads(item.body)
        weight = decode_query(f'{{"Items":[{item.body}]}}'.encode()).weigh()
        assert weight == item_size(attributes) == item.size_bytes


# --- what a page says it took -----------------------------------------------------------


class Answers:
    """A client that answers each Query with the next of some pages, and keeps what it was asked."""

    def __init__(self, *pages: dict) -> None:
        self._pages = list(pages)
        self.asked: list[dict] = []
        self.meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_, **__: None))

    def query(self, **request) -> dict[str, bytes]:
        self.asked.append(dict(request))
        return {"Raw": json.dumps(self._pages.pop(0)).encode()}


def item_of(count: int, batch: str = "batch") -> dict:
    times = [(BUCKET_S + second) * keys.US for second in range(count)]
    run = Run("press-7", times, {"a": [20 + second / 7 for second in range(count)]}, 1)
    (item,) = encode(run, BUCKET_S, batch, 1_764_000_000)
    return json.loads(item.body)


def read(*pages: dict):
    client = Answers(*pages)
    hot = DynamoHotStore(client, "readings", lambda _: None, lambda: 0.5)
    found = list(hot.read("press-7", Span(BUCKET_S * keys.US, END_US), 3600))
    return found, client.asked


def told(units: float) -> dict:
    return {"ConsumedCapacity": {"TableName": "readings", "CapacityUnits": units}}


def test_read_units_are_those_the_service_tells():
    (page,), (asked,) = read({"Items": [item_of(3_000)]} | told(9.0))
    assert asked["ReturnConsumedCapacity"] == "TOTAL"
    assert (page.read_units, page.size_bytes) == (9.0, 9 * 4096)


@pytest.mark.parametrize("said", [{}, told(1.0), told(0.5)])
def test_where_the_service_tells_one_unit_or_nothing_the_page_is_weighed(said):
    item = item_of(3_000)
    (page,), _ = read({"Items": [item]} | said)
    size_bytes = item_size(item)
    assert size_bytes > 4 * 4096
    assert (page.size_bytes, page.read_units) == (size_bytes, -(-size_bytes // 4096))


def test_an_empty_page_takes_one_unit():
    (page,), _ = read({"Items": []} | told(0.5))
    assert (page.runs, page.items, page.read_units, page.size_bytes) == ([], 0, 1, 0)


def test_a_read_goes_on_where_the_page_ended():
    last = {"pk": {"S": "s#press-7"}, "sk": {"S": "x"}}
    pages, asked = read({"Items": [item_of(3)], "LastEvaluatedKey": last}, {"Items": [item_of(4, "batch2")]})
    assert [len(run.ts_us) for page in pages for run in page.runs] == [3, 4]
    assert [request.get("ExclusiveStartKey") for request in asked] == [None, last]
