"""What the routes work with: every store and service a request may need, passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ingest.keys import Layout
from ingest.reading import Run
from ingest.stores import Catalog, ColdStore, HotStore, Registry, RejectStore, TokenStore

if TYPE_CHECKING:
    from ingest.stores.blobs import BlobStore

Auth = Literal["token", "jwt", "iam"]
"""Who lets a request in: this code by its token, or an authorizer of API Gateway in front of it."""


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a route needs of the outside; made once per process (`connect.services`) or by a test.

    `now_s` is the time (epoch seconds), `clock` what calls are timed with. `send` puts runs into Kinesis and returns
    how many readings that were when all are accepted; it raises Unavailable. `presign` makes a link to an
    object of the archive bucket, good for that many seconds. `cursor_key` is the secret cursors are signed
    with. `vitals` is what GET /v1/status adds to what the stores know, each None where unknown.
    """

    hot: HotStore
    catalog: Catalog
    cold: ColdStore
    rejects: RejectStore
    registry: Registry
    tokens: TokenStore
    blobs: BlobStore
    layout: Callable[[], Layout]
    now_s: Callable[[], float]
    clock: Callable[[], float]
    send: Callable[[Sequence[Run]], int]
    presign: Callable[[str, int], str]
    cursor_key: Callable[[], bytes]
    vitals: Callable[[], dict[str, Any]]
    auth: Auth = "token"
