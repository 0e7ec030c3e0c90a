"""What the answer of an invoked function means, by what the service says of it."""

from __future__ import annotations

import io
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from ingest.errors import NotFound, ThermoclineError, Unavailable
from ingest.stores.functions import LambdaFunction


class Service:
    def __init__(
        self, payload: bytes = b"", error: str | None = None, raises: Exception | None = None
    ) -> None:
        self.payload = payload
        self.error = error
        self.raises = raises
        self.sent: list[dict[str, Any]] = []

    def invoke(self, **request: Any) -> dict[str, Any]:
        self.sent.append(request)
        if self.raises is not None:
            raise self.raises
        answer: dict[str, Any] = {"Payload": io.BytesIO(self.payload)}
        return answer if self.error is None else answer | {"FunctionError": self.error}


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Invoke")


def test_the_event_goes_as_json_and_the_answer_comes_back() -> None:
    service = Service(b'{"batchItemFailures": []}')
    assert LambdaFunction(service, "store").invoke({"Records": []}) == {"batchItemFailures": []}
    (sent,) = service.sent
    assert (sent["FunctionName"], sent["InvocationType"], sent["Payload"]) == (
        "store",
        "RequestResponse",
        b'{"Records":[]}',
    )


@pytest.mark.parametrize("payload", [b"", b"null", b"[]"])
def test_an_empty_answer_is_empty(payload: bytes) -> None:
    assert LambdaFunction(Service(payload), "store").invoke({}) == {}


@pytest.mark.parametrize(
    ("service", "kind", "retry"),
    [
        (
            Service(b'{"errorType": "Unavailable", "errorMessage": "throttled"}', "Unhandled"),
            Unavailable,
            True,
        ),
        (Service(b'{"errorType": "Runtime.ExitError"}', "Unhandled"), ThermoclineError, False),
        (Service(b"not JSON"), ThermoclineError, False),
        (Service(raises=refused("TooManyRequestsException")), Unavailable, True),
        (Service(raises=ReadTimeoutError(endpoint_url="x")), Unavailable, True),
        (Service(raises=refused("AccessDeniedException")), ThermoclineError, False),
        (Service(raises=refused("ResourceNotFoundException")), NotFound, False),
    ],
)
def test_what_fails_says_whether_it_would_always_fail(service: Service, kind: type, retry: bool) -> None:
    with pytest.raises(kind, match="store") as caught:
        LambdaFunction(service, "store").invoke({})
    assert caught.value.retry is retry
