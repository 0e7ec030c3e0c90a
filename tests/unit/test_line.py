"""Prebuilt bodies on their way to DynamoDB: through botocore's client, or through its signer and session alone."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

from ingest.errors import ThermoclineError, Unavailable
from ingest.item import Item
from ingest.keys import Key
from ingest.stores.hot import DynamoHotStore
from tests import answered
from tests.world import plenty

DONE = b'{"UnprocessedItems":{},"ConsumedCapacity":[{"CapacityUnits":2.0}]}'


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def items(count: int) -> list[Item]:
    return [Item(Key("s#a", str(n)), f'{{"pk":{{"S":"s#a"}},"sk":{{"S":"{n}"}}}}') for n in range(count)]


class Site:
    """A store over a real client whose attempts are answered here; `calls` counts calls of the client itself."""

    def __init__(self, answer: Any, workers: int = 4) -> None:
        self.requests: list[Any] = []
        self.calls = 0
        self._answer = answer
        self.client = answered.client("dynamodb", self._take)
        self.client.meta.events.register("before-call.dynamodb.BatchWriteItem", self._count)
        self.store = DynamoHotStore(self.client, "table", lambda _: None, lambda: 0.5, workers=workers)

    def _count(self, **_: object) -> None:
        self.calls += 1

    def _take(self, operation: str, request: Any) -> Any:
        self.requests.append(request)
        return self._answer(len(self.requests))

    def put(self, count: int = 1) -> float:
        return self.store.put(items(count), plenty)


class TestOneRequest:
    def test_the_second_goes_without_the_client_and_is_the_same_request(self) -> None:
        site = Site(lambda _: answered.reply(200, DONE))
        assert [site.put(), site.put()] == [2.0, 2.0]
        first, second = site.requests
        assert site.calls == 1
        assert first.body == second.body
        assert first.url == second.url
        assert first.method == second.method
        for name in ("X-Amz-Target", "Content-Type", "Content-Length"):
            assert text(first.headers[name]) == text(second.headers[name])
        assert text(first.headers["User-Agent"]).startswith(
            text(second.headers["User-Agent"])
        )  # hooks may add

    def test_it_is_signed_as_botocore_signs_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        site = Site(lambda _: answered.reply(200, DONE))
        site.put()
        site.put()
        sent = site.requests[1]
        signed = text(sent.headers["Authorization"])
        assert "SignedHeaders=content-type;host;x-amz-date;x-amz-target" in signed
        at = text(sent.headers["X-Amz-Date"])
        names = ("X-Amz-Target", "Content-Type")
        again = AWSRequest("POST", sent.url, {name: text(sent.headers[name]) for name in names}, sent.body)
        again.context["timestamp"] = at
        again.headers["X-Amz-Date"] = at
        signer = SigV4Auth(site.client._request_signer._credentials, "dynamodb", "us-east-1")
        canonical = signer.canonical_request(again)
        expected = signer.signature(signer.string_to_sign(again, canonical), again)
        assert signed.endswith(f"Signature={expected}")

    @pytest.mark.parametrize("status", [400, 500, 503])
    def test_what_fails_is_tried_again_by_the_client(
        self, status: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answered.without_waiting(monkeypatch)
        troubled = answered.problem(status, "ProvisionedThroughputExceededException")
        site = Site(lambda number: troubled if number in (2, 3) else answered.reply(200, DONE))
        assert [site.put(), site.put(), site.put()] == [2.0, 2.0, 2.0]
        assert (len(site.requests), site.calls) == (5, 2)

    def test_a_lost_connection_is_tried_again_by_the_client(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answered.without_waiting(monkeypatch)

        def answer(number: int) -> Any:
            if number == 2:
                raise answered._errors.ConnectionClosedError(endpoint_url=answered.NOWHERE)
            return answered.reply(200, DONE)

        site = Site(answer)
        assert [site.put(), site.put()] == [2.0, 2.0]
        assert len(site.requests) == 3

    def test_an_answer_that_is_no_json_is_no_success(self) -> None:
        site = Site(lambda number: answered.reply(200, b"<html>" if number == 2 else DONE))
        assert [site.put(), site.put()] == [2.0, 2.0]
        assert len(site.requests) == 3

    def test_a_denied_request_says_so(self) -> None:
        site = Site(
            lambda number: (
                answered.reply(200, DONE) if number == 1 else answered.problem(400, "AccessDeniedException")
            )
        )
        site.put()
        with pytest.raises(ThermoclineError, match="AccessDenied"):
            site.put()

    def test_credentials_are_those_of_the_moment(self) -> None:
        site = Site(lambda _: answered.reply(200, DONE))
        site.put()
        site.client._request_signer._credentials.access_key = "RENEWED"
        site.put()
        assert "Credential=RENEWED/" in text(site.requests[1].headers["Authorization"])


class TestManyRequests:
    def test_as_many_go_at_once_as_there_are_workers_and_no_more(self) -> None:
        inside, most = 0, 0
        lock, meet = threading.Lock(), threading.Barrier(3, timeout=10)

        def answer(number: int) -> Any:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            if 1 < number <= 4:
                meet.wait()
            with lock:
                inside -= 1
            return answered.reply(200, DONE)

        site = Site(answer, workers=3)
        site.put()
        assert site.put(9 * 25) == 18.0
        assert most == 3
        sent = [
            entry
            for request in site.requests[1:]
            for entry in json.loads(request.body)["RequestItems"]["table"]
        ]
        assert len({entry["PutRequest"]["Item"]["sk"]["S"] for entry in sent}) == len(sent) == 225

    def test_when_one_fails_the_others_are_over_before_it_is_told(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answered.without_waiting(monkeypatch)
        site = Site(lambda number: answered.problem(500, "InternalServerError"))
        with pytest.raises(Unavailable):
            site.put(20 * 25)
        sent = len(site.requests)
        assert sent <= 4 * 5, "groups that had not begun were given up"
        assert threading.active_count() < 20
        assert len(site.requests) == sent
