"""Asking the API over a deployment in memory: the routes that read, as callers with some scopes use them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from tests.api_world import Answered, Api, sensor_path

ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Told:
    """One answer, its body as text."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        """The body as JSON, every digit kept."""
        return json.loads(self.text)


class Asking:
    """Somebody who asks the API of `world`. Scopes stand in one text; None is no token at all."""

    def __init__(self) -> None:
        self.api = Api()
        self.world = self.api.world
        self.world.hot.save_layout(self.world.layout, None)
        self._tokens: dict[str | None, str] = {ADMIN: self.api.admin, None: ""}

    def get(self, path: str, scopes: str | None = ADMIN, **parameters: Any) -> Told:
        """GET; `from_` stands for `from`, a list for a parameter given several times."""
        named = {name.rstrip("_"): value for name, value in parameters.items()}
        return _told(
            self.api.call("GET", path, token=self._token(scopes), query=urlencode(named, doseq=True))
        )

    def readings(self, sensor_id: str, scopes: str | None = ADMIN, **parameters: Any) -> Told:
        """GET of a sensor's readings."""
        return self.get(sensor_path(sensor_id, "/readings"), scopes, **parameters)

    def post(self, path: str, body: Any, scopes: str | None = ADMIN) -> Told:
        """POST of JSON."""
        return _told(self.api.call("POST", path, json.dumps(body), token=self._token(scopes)))

    def follow(self, url: str, scopes: str | None = ADMIN) -> Told:
        """GET of a relative URL, such as `next_url`."""
        path, _, query = url.partition("?")
        return _told(self.api.call("GET", path, token=self._token(scopes), query=query))

    def _token(self, scopes: str | None) -> str:
        if scopes not in self._tokens:
            self._tokens[scopes] = self.api.token(*str(scopes).split())
        return self._tokens[scopes]


def _told(answered: Answered) -> Told:
    return Told(answered.status, dict(answered.headers), answered.body.decode())
