"""The path of a request in one form: whatever a door hands over leads to the same route and sensor."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.api.paths import canonical
from tests import strategies

SHA = "0123456789abcdef" * 4
SUFFIXES = [
    "",
    "/readings",
    "/latest",
    "/blobs",
    f"/blobs/{SHA}",
    "/blobs/uploads",
    "/blobs/uploads/u1/complete",
]


@pytest.mark.parametrize(
    ("sent", "one_form"),
    [
        ("/", "/"),
        ("", "/"),
        ("/health", "/health"),
        ("/v1/sensors", "/v1/sensors"),
        ("/v1/sensors/a", "/v1/sensors/a"),
        ("/v1/sensors/a/b", "/v1/sensors/a%2Fb"),
        ("/v1/sensors/a%2Fb", "/v1/sensors/a%2Fb"),
        ("/v1/sensors/a%2fb/readings", "/v1/sensors/a%2Fb/readings"),
        ("/v1/sensors/a/b/readings", "/v1/sensors/a%2Fb/readings"),
        ("/v1/sensors/a:b.c-d_e/latest", "/v1/sensors/a%3Ab.c-d_e/latest"),
        ("/v1/sensors/a/latest/latest", "/v1/sensors/a%2Flatest/latest"),
        ("/v1/sensors/a%2Freadings", "/v1/sensors/a%2Freadings"),
        ("/v1/sensors/a%2Freadings/readings", "/v1/sensors/a%2Freadings/readings"),
        ("/v1/sensors/a/b/blobs/uploads/u/complete", "/v1/sensors/a%2Fb/blobs/uploads/u/complete"),
        ("/v1/sensors/a/b/blobs/uploads/u", "/v1/sensors/a%2Fb/blobs/uploads/u"),
        (f"/v1/sensors/a/blobs/{SHA}", f"/v1/sensors/a/blobs/{SHA}"),
        ("/v1/sensors/../status", "/v1/sensors/..%2Fstatus"),
        ("/v1/sensors/a b/é", "/v1/sensors/a%20b%2F%C3%A9"),
        ("/v1/archive/segments/2013-12-02.abc", "/v1/archive/segments/2013-12-02.abc"),
    ],
)
def test_a_path_has_one_form(sent: str, one_form: str) -> None:
    assert canonical(sent) == one_form


@given(strategies.sensor_ids(), st.sampled_from(SUFFIXES))
def test_an_encoded_id_is_found_again_whatever_it_ends_with(sensor_id: str, suffix: str) -> None:
    path = canonical(f"/v1/sensors/{quote(sensor_id, safe='')}{suffix}")
    name, rest = re.fullmatch("/v1/sensors/([^/]*)(.*)", path).groups()  # type: ignore[union-attr]
    if "/" in sensor_id:
        assert (unquote(name), rest) == (sensor_id, suffix)
    assert canonical(path) == path


@given(st.text(max_size=60))
def test_no_path_is_too_strange(text: str) -> None:
    path = canonical(f"/v1/sensors/{text}")
    assert canonical(path) == path
