"""What an item weighs: AWS's published rules, literals measured on AWS, and boto3's own shape of an item."""

import json
from decimal import Decimal

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import given
from hypothesis import strategies as st

from ingest.item import Attribute, item_size, make_item, number_size, value_size, write_units
from ingest.keys import Key
from ingest.reading import canonical
from tests import strategies as make


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 1),
        ("-0", 1),
        ("0.0", 1),
        ("1", 2),
        ("9", 2),
        ("-1", 3),
        ("10", 2),
        ("99", 2),
        ("100", 2),
        ("123", 3),
        ("1000", 2),
        ("0.1", 2),
        ("0.01", 2),
        ("12.3456", 4),
        ("-12.3456", 5),
        ("1700000000", 2),
        ("1700000000000", 3),
        ("73.96732207", 6),
        ("9" * 38, 20),
        ("-" + "9" * 38, 21),
        ("1e-130", 2),
        ("1E+125", 2),
        ("1e22", 2),
    ],
)
def test_numbers(text, size_bytes):
    assert number_size(text) == size_bytes


@given(make.numbers())
def test_how_a_number_is_written_does_not_change_its_size(value):
    text = canonical(value)
    assert number_size(text) == number_size(format(Decimal(text), "f")) == number_size(f"{Decimal(text):e}")


@pytest.mark.parametrize(
    ("attribute", "size_bytes"),
    [
        ({"S": ""}, 0),
        ({"S": "grün"}, 5),
        ({"S": "😀"}, 4),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"B": b"abc"}, 3),
        ({"L": []}, 3),
        ({"M": {}}, 3),
        ({"L": [{"N": "1"}, {"NULL": True}]}, 3 + 1 + 2 + 1 + 1),
        ({"M": {"ab": {"S": "c"}}}, 3 + 1 + 2 + 1),
    ],
)
def test_values(attribute, size_bytes):
    assert value_size(attribute) == size_bytes


def test_an_unknown_type_is_an_error():
    with pytest.raises(ValueError, match="SS"):
        value_size({"SS": ["a"]})


def test_an_item_of_exactly_one_unit_and_one_byte_more():
    # 1,024 bytes consume 1 write unit and 1,025 bytes 2, the number 12.3456 weighing 4 (measured).
    item: dict[str, Attribute] = {"a": {"S": "x" * 1018}, "b": {"N": "12.3456"}}
    assert item_size(item) == 1024
    assert write_units(item_size(item)) == 1
    item["a"] = {"S": "x" * 1019}
    assert write_units(item_size(item)) == 2


@pytest.mark.parametrize(
    ("size_bytes", "units"), [(0, 1), (1, 1), (1024, 1), (1025, 2), (65536, 64), (65537, 65)]
)
def test_write_units(size_bytes, units):
    assert write_units(size_bytes) == units


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.text(max_size=8),
        st.binary(max_size=8),
        make.ints().map(Decimal),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def weigh(value: object) -> int:
    """The rules once more, from Python values instead of AttributeValues."""
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, list):
        return 3 + sum(1 + weigh(element) for element in value)
    if isinstance(value, dict):
        return 3 + sum(1 + len(name.encode()) + weigh(member) for name, member in value.items())
    assert isinstance(value, Decimal)
    digits = str(abs(int(value)))
    pairs = (digits.zfill(len(digits) + len(digits) % 2)).encode()
    hundreds = [pairs[i : i + 2] for i in range(0, len(pairs), 2)]
    while hundreds and hundreds[-1] == b"00":
        hundreds.pop()
    return 1 + len(hundreds) + (value < 0) if value else 1


@given(st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=5))
def test_items_as_boto3_shapes_them(item):
    shaped: dict[str, Attribute] = {n: TypeSerializer().serialize(value) for n, value in item.items()}
    expected = sum(len(name.encode()) + weigh(value) for name, value in item.items())
    assert item_size(shaped) == expected


def test_an_item_carries_key_body_and_size():
    item = make_item({"pk": {"S": "p"}, "sk": {"S": "grün"}, "n": {"N": "12"}})
    assert item.key == Key("p", "grün")
    assert json.loads(item.body) == {"pk": {"S": "p"}, "sk": {"S": "grün"}, "n": {"N": "12"}}
    assert item.size_bytes == 2 + 1 + 2 + 5 + 1 + 2
