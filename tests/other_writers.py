"""Segments as another program, or a later release, would write them: any columns, by pyarrow, with valid checks."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from ingest import segment_file


def signed_file(table: Any, known: Mapping[str, str]) -> bytes:
    """One row group of the table with the key-value metadata, checksums added."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, write_page_checksum=True, store_schema=False) as writer:
        writer.write_table(table)
        group = zlib.crc32(sink.getbuffer()[4:])
        checks = {
            segment_file.GROUP_CHECKS: f"{group:08x}",
            segment_file.FOOTER_CHECK: segment_file.UNSIGNED.decode(),
        }
        writer.add_key_value_metadata({**known, **checks})
    data = sink.getvalue()
    start = len(data) - segment_file.footer_length(data[-8:])
    return data[:start] + segment_file.signed(data[start:])
