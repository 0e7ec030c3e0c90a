"""A deployment to be checked, by its names, and services that refuse to tell of it."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

from botocore.exceptions import ClientError

from infra.doctor.finding import Names

NAMES = Names(
    kind="aws",
    stack="plant",
    table="plant-Table-1",
    stream="plant-Stream-1",
    archive_bucket="plant-archive",
    rejects_bucket="plant-rejects",
    store="plant-store-readings",
    archiver="plant-archive-expired",
    indexer="plant-index-segment",
    mappings=("uuid-store", "uuid-archive"),
)


def refused(code: str) -> ClientError:
    """What boto3 raises where a service answers with this code."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "AnyCall")


class Refusing:
    """A client of a service that refuses every call."""

    def __init__(self, code: str) -> None:
        self._code = code
        self.meta = Mock()
        self.exceptions = self
        self.ClientError = ClientError

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            raise refused(self._code)

        return call
