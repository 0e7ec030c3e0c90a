"""Operations of an AWS client that are called again and again, at little of botocore's cost."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import quote

import botocore.auth as _auth
import botocore.awsrequest as _awsrequest
import botocore.exceptions as _exceptions
import msgspec

_sigv4: Any = cast(Any, _auth).SigV4Auth
_s3_sigv4: Any = cast(Any, _auth).S3SigV4Auth
_request: Any = cast(Any, _awsrequest).AWSRequest
_failed: Any = cast(Any, _exceptions).BotoCoreError
_HEADERS = ("X-Amz-Target", "Content-Type", "User-Agent")
_OK, _PARTIAL = 200, 206
_body: ContextVar[bytes | None] = ContextVar("_body", default=None)


@dataclass(frozen=True, slots=True)
class _Open:
    """What botocore resolved for the operation: its signer, and the address and headers of a request."""

    signer: Any
    url: str
    headers: dict[str, str]
    signing: tuple[str, str]

    @classmethod
    def of(cls, params: dict[str, Any], signer: Any) -> _Open:
        """What the event `before-call` shows."""
        signing = params.get("context", {}).get("signing", {})
        name = str(signing.get("signing_name", signer.signing_name))
        region = str(signing.get("region", signer.region_name))
        headers = {name: str(params["headers"][name]) for name in _HEADERS if name in params["headers"]}
        return cls(signer, str(params["url"]), headers, (name, region))


@dataclass(frozen=True, slots=True)
class _Transport:
    """A client's own session and its events, and the one kind of signature that is made here."""

    client: Any
    session: Any
    before_send: str
    kind: Any

    def answer(self, opened: _Open, make: Callable[[], Any]) -> Any:
        """What the request, once signed, is answered with; None where it does not come so far."""
        try:
            signer = opened.signer.get_auth_instance(*opened.signing)
            if type(signer) is not self.kind:
                return None
            request = make()
            signer.add_auth(request)
            prepared = request.prepare()
            answer = self.client.meta.events.emit_until_response(self.before_send, request=prepared)[1]
            return self.session.send(prepared) if answer is None else answer
        except _failed:
            return None


def _session_of(client: Any) -> Any:
    return getattr(getattr(client, "_endpoint", None), "http_session", None)


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
        self._transport = _Transport(client, _session_of(client), f"before-send.{self._event}", _sigv4)
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
        if request_signer is not None and self._transport.session is not None:
            self._seen = _Open.of(params, request_signer)

    def _post(self, opened: _Open, body: bytes) -> bytes | None:
        """The answer; None where it is anything but a success."""
        answer = self._transport.answer(
            opened, lambda: _request("POST", opened.url, dict(opened.headers), body)
        )
        return answer.content if answer is not None and answer.status_code == _OK else None


class RangeLine:
    """`read` gets a range of an object of one bucket, as `Line` posts: with the address and signer that an
    earlier call of the client's showed. It gives None where there is none yet, or the answer is no success:
    then the client is to be asked, whose retries and errors apply."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._transport = _Transport(client, _session_of(client), "before-send.s3.GetObject", _s3_sigv4)
        self._bucket = bucket
        self._open: _Open | None = None
        if self._transport.session is not None:
            client.meta.events.register(
                "before-call.s3.GetObject", self._see, unique_id=f"range-line-{bucket}"
            )

    def read(self, name: str, start: int, end: int) -> bytes | None:
        """Bytes `[start, end)` of the object, fewer where it ends before; at least one is asked for."""
        opened = self._open
        if opened is None:
            return None
        headers = {**opened.headers, "Range": f"bytes={start}-{end - 1}"}
        answer = self._transport.answer(
            opened, lambda: _request("GET", opened.url + quote(name, safe="/~"), headers)
        )
        if answer is None or answer.status_code != _PARTIAL:
            self._open = None
            return None
        return answer.content

    def _see(self, params: dict[str, Any], request_signer: Any = None, **_: object) -> None:
        context = params.get("context", {})
        asked = context.get("input_params", {})
        name = quote(str(asked.get("Key", "")), safe="/~")
        if asked.get("Bucket") != self._bucket or not name or not str(params["url"]).endswith(f"/{name}"):
            return
        opened = _Open.of(params, request_signer)
        if opened.signing[0] == "s3" and not params.get("query_string"):
            self._open = replace(opened, url=opened.url.removesuffix(name))


@contextmanager
def _replaced(body: bytes) -> Generator[None]:
    token = _body.set(body)
    try:
        yield
    finally:
        _body.reset(token)
