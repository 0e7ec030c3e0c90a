"""The cold tier in S3: objects by name, whole or by byte range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.errors import Unavailable
from ingest.stores import ObjectHead
from ingest.stores._boto_errors import code_of, translated
from ingest.stores._line import RangeLine

NAMES_PER_DELETE = 1_000
"""DeleteObjects takes at most 1,000 keys (API reference, DeleteObjects)."""


class S3ColdStore:
    """Objects of one bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        self._line = RangeLine(client, bucket)

    def put(self, name: str, data: bytes, metadata: Mapping[str, str]) -> str:
        """Store an object whole; its etag, without quotes."""
        with translated(f"Writing object {name} to bucket {self._bucket}"):
            answer = self._client.put_object(
                Bucket=self._bucket, Key=name, Body=data, Metadata=dict(metadata)
            )
        return str(answer["ETag"]).strip('"')

    def read(self, name: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes `[start, end)` of an object, as many as there are; all of it without bounds."""
        first = start or 0
        if end is not None and end <= first:
            return b""
        found = None if end is None else self._line.read(name, first, end)
        if found is not None:
            return found
        request = {"Bucket": self._bucket, "Key": name}
        if first or end is not None:
            request["Range"] = f"bytes={first}-{'' if end is None else end - 1}"
        with translated(f"Reading object {name} of bucket {self._bucket}"):
            try:
                return self._client.get_object(**request)["Body"].read()
            except self._client.exceptions.ClientError as error:
                if code_of(error) == "InvalidRange":  # begins past the object's end
                    return b""
                raise

    def head(self, name: str) -> ObjectHead:
        """Size, etag, time and metadata of an object."""
        with translated(f"Looking at object {name} of bucket {self._bucket}"):
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
        return ObjectHead(
            size_bytes=int(answer["ContentLength"]),
            etag=str(answer["ETag"]).strip('"'),
            modified_s=int(answer["LastModified"].timestamp()),
            metadata={str(key).lower(): str(value) for key, value in answer.get("Metadata", {}).items()},
        )

    def presign(self, name: str, seconds: int) -> str:
        """A link by which anybody can read the object for that many seconds, whether it is there or not."""
        request = {"Bucket": self._bucket, "Key": name}
        with translated(f"Making a link to object {name} of bucket {self._bucket}"):
            return str(self._client.generate_presigned_url("get_object", Params=request, ExpiresIn=seconds))

    def names(self, prefix: str) -> Iterator[str]:
        """Names of the objects under a prefix, sorted."""
        request = {"Bucket": self._bucket, "Prefix": prefix}
        while True:
            with translated(f"Listing {prefix} in bucket {self._bucket}"):
                page = self._client.list_objects_v2(**request)
            yield from (str(entry["Key"]) for entry in page.get("Contents", []))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; missing ones are no error."""
        for start in range(0, len(names), NAMES_PER_DELETE):
            group = [{"Key": name} for name in names[start : start + NAMES_PER_DELETE]]
            with translated(f"Deleting {len(group)} objects of bucket {self._bucket}"):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": group, "Quiet": True}
                )
            if errors := answer.get("Errors", []):
                raise Unavailable(
                    f"S3 left {len(errors)} of {len(group)} objects of bucket {self._bucket} undeleted "
                    f"(first: {errors[0].get('Code')}). Try again later."
                )
