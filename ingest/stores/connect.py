"""Makes clients and stores; the only place in the library where a client is made."""

from __future__ import annotations

import random
import secrets
import time
from dataclasses import dataclass
from typing import Any, cast

import boto3 as _boto3
from botocore.config import Config

from ingest.settings import Settings, endpoint_from_env
from ingest.stores.blobs import S3BlobStore
from ingest.stores.catalog import DynamoCatalog
from ingest.stores.cold import S3ColdStore
from ingest.stores.hot import DynamoHotStore
from ingest.stores.registry import DynamoRegistry
from ingest.stores.rejects import S3RejectStore
from ingest.stores.tokens import DynamoTokens

_boto: Any = cast(Any, _boto3)


@dataclass(frozen=True, slots=True)
class Stores:
    """Every store of one deployment."""

    hot: DynamoHotStore
    catalog: DynamoCatalog
    cold: S3ColdStore
    rejects: S3RejectStore
    registry: DynamoRegistry
    tokens: DynamoTokens
    blobs: S3BlobStore


def client(
    service: str, *, endpoint_url: str | None = None, region: str | None = None, **options: Any
) -> Any:
    """A low-level client: five attempts in botocore's standard mode, no parameter validation.

    Without an endpoint and region the usual AWS variables and files decide. Further
    keywords go to botocore's Config.
    """
    defaults: dict[str, Any] = {
        "retries": {"mode": "standard", "total_max_attempts": 5},
        "parameter_validation": False,
        "connect_timeout": 5,
        "read_timeout": 30,
        "max_pool_connections": 32,
        "user_agent": "thermocline",  # botocore's own text is put together anew, twice, for each request
    }
    if service == "s3":
        # A link is signed for the host that it names: the region's own, in the version that every region takes.
        here = endpoint_url or endpoint_from_env()
        defaults |= {"signature_version": "s3v4", "s3": {"addressing_style": "path" if here else "virtual"}}
    local: dict[str, Any] = {}
    if endpoint_url is not None:
        local = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return _boto.client(
        service, endpoint_url=endpoint_url, region_name=region, config=Config(**(defaults | options)), **local
    )


def stores(settings: Settings, *, endpoint_url: str | None = None, region: str | None = None) -> Stores:
    """The stores of a deployment, over one DynamoDB and one S3 client."""
    dynamodb = client("dynamodb", endpoint_url=endpoint_url, region=region)
    s3 = client("s3", endpoint_url=endpoint_url, region=region)
    return Stores(
        hot=DynamoHotStore(dynamodb, settings.table, time.sleep, random.random),
        catalog=DynamoCatalog(dynamodb, settings.table),
        cold=S3ColdStore(s3, settings.archive_bucket),
        rejects=S3RejectStore(S3ColdStore(s3, settings.rejects_bucket)),
        registry=DynamoRegistry(dynamodb, settings.table),
        tokens=DynamoTokens(dynamodb, settings.table, secrets.token_bytes),
        blobs=S3BlobStore(s3, settings.archive_bucket),
    )
