"""Ranges of objects on their way from S3: through botocore's client, or through its signer and session alone."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest

from ingest.errors import NotFound, Unavailable
from ingest.stores.cold import S3ColdStore
from tests import answered

NAME = "readings/v1/date=2026-11-20/a b.parquet"
DATA = bytes(range(100))


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Site:
    """A store over a real client whose attempts are answered here; `calls` counts calls of the client itself."""

    def __init__(self, answer: Any = None) -> None:
        self.requests: list[Any] = []
        self.calls = 0
        self._answer = answer or (lambda _: None)
        self.client = answered.client("s3", self._take)
        self.client.meta.events.register("before-call.s3.GetObject", self._count)
        self.store = S3ColdStore(self.client, "bucket")

    def _count(self, **_: object) -> None:
        self.calls += 1

    def _take(self, _: str, request: Any) -> Any:
        self.requests.append(request)
        return self._answer(len(self.requests)) or part_of(request)


def part_of(request: Any) -> Any:
    low, _, high = text(request.headers["Range"]).removeprefix("bytes=").partition("-")
    body = DATA[int(low) : int(high) + 1]
    return answered.reply(206, body, {"Content-Length": str(len(body))})


def test_the_second_goes_without_the_client_and_is_the_same_request() -> None:
    site = Site()
    assert [site.store.read(NAME, 5, 9), site.store.read(NAME, 5, 9)] == [DATA[5:9], DATA[5:9]]
    first, second = site.requests
    assert site.calls == 1
    assert (first.method, first.url) == (second.method, second.url)
    assert text(first.headers["Range"]) == text(second.headers["Range"]) == "bytes=5-8"
    assert text(first.headers["User-Agent"]).startswith(text(second.headers["User-Agent"]))


def test_another_object_has_its_own_address() -> None:
    site = Site()
    for name in ("a", "date=1/ü ~+.parquet", "date=1/b"):
        assert site.store.read(name, 0, 3) == DATA[:3]
    plain = Site()
    for name in ("a", "date=1/ü ~+.parquet", "date=1/b"):
        plain.client.get_object(Bucket="bucket", Key=name, Range="bytes=0-2")
    assert [one.url for one in site.requests] == [one.url for one in plain.requests]
    assert (site.calls, plain.calls) == (1, 3)


def test_it_is_signed_as_botocore_signs_it() -> None:
    site = Site()
    for _ in range(2):
        site.store.read(NAME, 0, 3)
    sent = site.requests[1]
    signed = text(sent.headers["Authorization"])
    assert "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date" in signed
    at = text(sent.headers["X-Amz-Date"])
    names = ("Range", "X-Amz-Content-SHA256")
    again = AWSRequest("GET", sent.url, {name: text(sent.headers[name]) for name in names})
    again.context["timestamp"] = at
    again.headers["X-Amz-Date"] = at
    signer = S3SigV4Auth(site.client._request_signer._credentials, "s3", "us-east-1")
    canonical = signer.canonical_request(again)
    expected = signer.signature(signer.string_to_sign(again, canonical), again)
    assert signed.endswith(f"Signature={expected}")


@pytest.mark.parametrize("status", [301, 403, 500, 503])
def test_what_fails_is_tried_again_by_the_client(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    answered.without_waiting(monkeypatch)
    site = Site(lambda number: answered.s3_problem(status, "SlowDown") if number == 2 else None)
    assert [site.store.read(NAME, 0, 3) for _ in range(3)] == [DATA[:3]] * 3
    assert (len(site.requests), site.calls) == (4, 2)


def test_a_lost_connection_is_tried_again_by_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    answered.without_waiting(monkeypatch)

    def answer(number: int) -> Any:
        if number == 2:
            raise answered._errors.ConnectionClosedError(endpoint_url=answered.NOWHERE)
        return None

    site = Site(answer)
    assert [site.store.read(NAME, 0, 3) for _ in range(2)] == [DATA[:3]] * 2
    assert len(site.requests) == 3


def test_an_object_that_is_gone_or_ends_before_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answered.without_waiting(monkeypatch)
    gone = answered.s3_problem(404, "NoSuchKey")
    site = Site(lambda number: None if number == 1 else gone)
    site.store.read(NAME, 0, 3)
    with pytest.raises(NotFound):
        site.store.read(NAME, 0, 3)
    short = Site(lambda number: None if number == 1 else answered.s3_problem(416, "InvalidRange"))
    short.store.read(NAME, 0, 3)
    assert short.store.read(NAME, 500, 600) == b""
    away = Site(lambda number: None if number == 1 else answered.s3_problem(503, "SlowDown"))
    away.store.read(NAME, 0, 3)
    with pytest.raises(Unavailable):
        away.store.read(NAME, 0, 3)


def test_what_no_range_bounds_goes_through_the_client() -> None:
    site = Site(lambda _: answered.reply(200, DATA, {"Content-Length": str(len(DATA))}))
    assert [site.store.read(NAME), site.store.read(NAME), site.store.read(NAME, 0)] == [DATA] * 3
    assert site.calls == 3
    assert site.store.read(NAME, 3, 3) == b""


def test_two_buckets_of_one_client_are_not_confused() -> None:
    site = Site()
    other = S3ColdStore(site.client, "other")
    assert [other.read(NAME, 0, 3), site.store.read(NAME, 0, 3), other.read(NAME, 0, 3)] == [DATA[:3]] * 3
    buckets = [one.url.removeprefix(f"{answered.NOWHERE}/").partition("/")[0] for one in site.requests]
    assert buckets == ["other", "bucket", "other"]
    assert site.calls == 2
