"""One operation of an AWS client, called again and again with prebuilt bodies, at little of botocore's cost."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, cast

import botocore.auth as _auth
import botocore.awsrequest as _awsrequest
import botocore.exceptions as _exceptions
import msgspec

_sigv4: Any = cast(Any, _auth).SigV4Auth
_request: Any = cast(Any, _awsrequest).AWSRequest
_failed: Any = cast(Any, _exceptions).BotoCoreError
_HEADERS = ("X-Amz-Target", "Content-Type", "User-Agent")
_body: ContextVar[bytes | None] = ContextVar("_body", default=None)


@dataclass(frozen=True, slots=True)
class _Open:
    """What botocore resolved for the operation: its signer, and the address and headers of a request."""

    signer: Any
    url: str
    headers: dict[str, str]
    signing: tuple[str, str]


class Line:
    """`send` posts a body as the operation's request, whatever botocore would have made of parameters.

    The first request goes through the client with the body put in its place (the documented
    event `before-call`), which also shows address, headers and signer. Further ones are signed by
    that signer with the credentials then current and sent by the client's own session (connections,
    proxies, certificates, timeouts). Anything but a success sends the body through the client, whose
    retries and errors then apply; so one failed attempt more than the client counts is possible.
    A request must be such that it may be repeated.
    """

    def __init__(self, client: Any, service: str, operation: str, method: str) -> None:
        self._client = client
        self._call = method
        self._event = f"{service}.{operation}"
        self._seen: _Open | None = None
        self._open: _Open | None = None
        self._session: Any = getattr(getattr(client, "_endpoint", None), "http_session", None)
        client.meta.events.register(
            f"before-call.{self._event}", self._put_body, unique_id=f"line-{self._event}"
        )

    def send(self, body: bytes, **parameters: Any) -> dict[str, Any]:
        """The answer to the body; `parameters` are what the client is called with to make a request.

        Raises what the client raises.
        """
        content = self._sent(body)
        if content is not None:
            try:
                return msgspec.json.decode(content)
            except msgspec.MsgspecError:
                self._open = None
        return self._called(body, parameters)

    def send_raw(self, body: bytes, **parameters: Any) -> bytes:
        """As `send`, the answer as bytes; called, the client is expected to leave them under `Raw`."""
        content = self._sent(body)
        return self._called(body, parameters)["Raw"] if content is None else content

    def _sent(self, body: bytes) -> bytes | None:
        """The answer's bytes; None where there is no address yet, or the answer is no success."""
        opened = self._open
        content = None if opened is None else self._post(opened, body)
        if content is None:
            self._open = None
        return content

    def _called(self, body: bytes, parameters: dict[str, Any]) -> dict[str, Any]:
        with _replaced(body):
            answer = getattr(self._client, self._call)(**parameters)
        self._open = self._seen
        return answer

    def _put_body(self, params: dict[str, Any], request_signer: Any = None, **_: object) -> None:
        body = _body.get()
        if body is None:
            return
        params["body"] = body
        if request_signer is None or self._session is None:
            return
        signing = params.get("context", {}).get("signing", {})
        name = str(signing.get("signing_name", request_signer.signing_name))
        region = str(signing.get("region", request_signer.region_name))
        headers = {name: str(params["headers"][name]) for name in _HEADERS if name in params["headers"]}
        self._seen = _Open(request_signer, str(params["url"]), headers, (name, region))

    def _post(self, opened: _Open, body: bytes) -> bytes | None:
        """The answer; None where it is anything but a success."""
        try:
            name, region = opened.signing
            signer = opened.signer.get_auth_instance(name, region)
            if type(signer) is not _sigv4:
                return None
            request = _request("POST", opened.url, dict(opened.headers), body)
            signer.add_auth(request)
            prepared = request.prepare()
            event = f"before-send.{self._event}"
            answer = self._client.meta.events.emit_until_response(event, request=prepared)[1]
            if answer is None:
                answer = self._session.send(prepared)
        except _failed:
            return None
        return answer.content if answer.status_code == 200 else None


@contextmanager
def _replaced(body: bytes) -> Generator[None]:
    token = _body.set(body)
    try:
        yield
    finally:
        _body.reset(token)
