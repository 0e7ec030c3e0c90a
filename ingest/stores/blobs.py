"""Blobs in S3: objects put whole or in parts, copied within the bucket, links for parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ingest.blob import DEFAULT_TYPE, Blob
from ingest.errors import NotFound
from ingest.stores._blobs import BlobStore
from ingest.stores._boto_errors import code_of, translated

__all__ = ["BlobStore", "S3BlobStore"]

PIECE_BYTES = 1024 * 1024
_SHA256 = "sha256"


class S3BlobStore:
    """Blobs in one bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, name: str, data: bytes, blob: Blob) -> None:
        """Store an object whole."""
        with translated(f"Writing object {name} to bucket {self._bucket}"):
            self._client.put_object(Bucket=self._bucket, Key=name, Body=data, **_described(blob))

    def begin(self, name: str) -> str:
        """Begin an upload in parts; its id."""
        with translated(f"Beginning an upload to bucket {self._bucket}"):
            return str(self._client.create_multipart_upload(Bucket=self._bucket, Key=name)["UploadId"])

    def put_part(self, name: str, upload: str, number: int, data: bytes) -> None:
        """Store a part, numbered from 1."""
        with translated(f"Writing part {number} of object {name} to bucket {self._bucket}"):
            self._client.upload_part(
                Bucket=self._bucket, Key=name, UploadId=upload, PartNumber=number, Body=data
            )

    def part_links(self, name: str, upload: str, count: int, seconds: int) -> Sequence[str]:
        """Links by which anybody can PUT the parts 1 to `count` for that many seconds."""
        request = {"Bucket": self._bucket, "Key": name, "UploadId": upload}
        with translated(f"Making links for an upload to bucket {self._bucket}"):
            return [
                str(
                    self._client.generate_presigned_url(
                        "upload_part", Params=request | {"PartNumber": number}, ExpiresIn=seconds
                    )
                )
                for number in range(1, count + 1)
            ]

    def complete(self, name: str, upload: str) -> None:
        """Make an object of all parts. Raises NotFound where the upload has none or is over."""
        with translated(f"Completing an upload to bucket {self._bucket}"):
            parts = list(self._parts(name, upload))
            if not parts:
                raise NotFound("The upload has no part yet. Send the parts, then complete it.")
            self._client.complete_multipart_upload(
                Bucket=self._bucket, Key=name, UploadId=upload, MultipartUpload={"Parts": parts}
            )

    def _parts(self, name: str, upload: str) -> Iterator[dict[str, Any]]:
        request = {"Bucket": self._bucket, "Key": name, "UploadId": upload}
        while True:
            page = self._client.list_parts(**request)
            for part in page.get("Parts", []):
                yield {"PartNumber": part["PartNumber"], "ETag": part["ETag"]}
            if not page.get("IsTruncated"):
                return
            request["PartNumberMarker"] = page["NextPartNumberMarker"]

    def abort(self, name: str, upload: str) -> None:
        """Forget an upload and its parts; one that is over is no error."""
        with translated(f"Giving up an upload to bucket {self._bucket}"):
            try:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload)
            except self._client.exceptions.ClientError as error:
                if code_of(error) != "NoSuchUpload":
                    raise

    def size(self, name: str) -> int:
        """How many bytes an object has."""
        return int(self._head(name)["ContentLength"])

    def head(self, name: str) -> Blob:
        """What is known of a blob."""
        answer = self._head(name)
        kept = {str(key).lower(): str(value) for key, value in answer.get("Metadata", {}).items()}
        content_type = str(answer.get("ContentType") or DEFAULT_TYPE)
        return Blob(kept.get(_SHA256, ""), int(answer["ContentLength"]), content_type)

    def _head(self, name: str) -> Any:
        with translated(f"Looking at object {name} of bucket {self._bucket}"):
            return self._client.head_object(Bucket=self._bucket, Key=name)

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of an object, some at a time."""
        with translated(f"Reading object {name} of bucket {self._bucket}"):
            body = self._client.get_object(Bucket=self._bucket, Key=name)["Body"]
            try:
                yield from body.iter_chunks(PIECE_BYTES)
            finally:
                body.close()

    def settle(self, source: str, name: str, blob: Blob) -> None:
        """Copy an object, within the bucket, to its name (up to 5 GB, "CopyObject")."""
        with translated(f"Copying object {source} of bucket {self._bucket}"):
            self._client.copy_object(
                Bucket=self._bucket,
                Key=name,
                CopySource={"Bucket": self._bucket, "Key": source},
                MetadataDirective="REPLACE",
                **_described(blob),
            )

    def delete(self, name: str) -> None:
        """Delete an object; a missing one is no error."""
        with translated(f"Deleting object {name} of bucket {self._bucket}"):
            self._client.delete_object(Bucket=self._bucket, Key=name)


def _described(blob: Blob) -> dict[str, Any]:
    return {"ContentType": blob.content_type, "Metadata": {_SHA256: blob.sha256}}
