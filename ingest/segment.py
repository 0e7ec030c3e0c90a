"""Segments: many sensors' runs as one Parquet object, its facts, and reading part of it by byte ranges."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from ingest.reading import Run, Span
from ingest.segment_file import VERSION, footer_length
from ingest.segment_pages import COMPRESSION_LEVEL, THOROUGH_LEVEL
from ingest.segment_read import Footer, ReadRange, Source, corrupt, read_footer
from ingest.segment_rows import runs_of
from ingest.segment_write import parquet


@dataclass(frozen=True, slots=True)
class SegmentFacts:
    """What is known of a segment without its rows. Times are inclusive.

    `footer_bytes` counts from the footer's first byte to the object's end; `sha256` is of
    the whole object, empty where only the footer was read.
    """

    rows: int
    sensors: int
    first_us: int
    last_us: int
    first_sensor: str
    last_sensor: str
    footer_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class EncodedSegment(SegmentFacts):
    """A segment ready to be stored, and its facts."""

    data: bytes


def encode(runs: Sequence[Run], *, thorough: bool = False) -> EncodedSegment:
    """One segment from one merged run per sensor, in any order; `thorough` takes several times as long, for
    fewer bytes.

    The same runs give the same bytes (with one version of pyarrow). Raises ValueError
    where there is no value, a sensor comes twice, or a number is not finite.
    """
    present = sorted((run for run in runs if _has_value(run)), key=lambda run: run.sensor_id)
    if not present:
        raise ValueError("a segment needs at least one value")
    if len({run.sensor_id for run in present}) != len(present):
        raise ValueError("a segment takes one run per sensor: merge the runs first")
    known = {
        "version": VERSION,
        "sensors": str(len(present)),
        "first-us": str(min(run.ts_us[0] for run in present)),
        "last-us": str(max(run.ts_us[-1] for run in present)),
        "first-sensor": present[0].sensor_id,
        "last-sensor": present[-1].sensor_id,
    }
    data, rows = parquet(present, known, THOROUGH_LEVEL if thorough else COMPRESSION_LEVEL)
    known["rows"] = str(rows)
    facts = _facts(known, footer_length(data[-8:]), hashlib.sha256(data).hexdigest())
    return EncodedSegment(*facts, data)


def _has_value(run: Run) -> bool:
    return any(any(cell is not None for cell in column) for column in run.metrics.values())


def metadata(encoded: SegmentFacts) -> dict[str, str]:
    """What a segment's object carries as S3 metadata; all ASCII."""
    return {
        "version": VERSION,
        "rows": str(encoded.rows),
        "sensors": str(encoded.sensors),
        "first-us": str(encoded.first_us),
        "last-us": str(encoded.last_us),
        "first-sensor": encoded.first_sensor,
        "last-sensor": encoded.last_sensor,
        "footer-bytes": str(encoded.footer_bytes),
        "sha256": encoded.sha256,
    }


def facts_of(object_metadata: Mapping[str, str]) -> SegmentFacts | None:
    """The inverse of `metadata`; None where an object does not carry all of it (see `summary`)."""
    try:
        if object_metadata["version"] != VERSION:
            return None
        footer_bytes = int(object_metadata["footer-bytes"])
        return SegmentFacts(*_facts(object_metadata, footer_bytes, object_metadata["sha256"]))
    except (KeyError, ValueError):
        return None


def summary(read_range: ReadRange, size_bytes: int) -> SegmentFacts:
    """The facts of an object from its footer alone, one or two ranged reads; `sha256` stays empty.

    Raises Corrupt where the object is no segment of this project's, or is damaged.
    """
    footer = read_footer(Source(read_range, size_bytes), 0)
    try:
        return SegmentFacts(*_facts(footer.known, footer.size_bytes, ""))
    except (KeyError, ValueError) as error:
        raise corrupt(f"its footer lacks a fact ({error})") from error


def decode(
    data: bytes | BinaryIO,
    sensor_id: str | None = None,
    span: Span | None = None,
    metrics: Sequence[str] = (),
) -> list[Run]:
    """The runs of a segment held in memory or in a seekable file, sorted by sensor.

    Only rows of the sensor, of the half-open span, and of the metrics, where given. Numbers
    come back as `reading.number` would read their canonical text. Raises Corrupt.
    """
    file: BinaryIO = io.BytesIO(data) if isinstance(data, bytes) else data
    size_bytes = file.seek(0, io.SEEK_END)

    def read_range(start: int, end: int) -> bytes:
        file.seek(start)
        return file.read(end - start)

    return read_runs(read_range, size_bytes, 0, sensor_id, span, metrics)


def read_runs(
    read_range: ReadRange,
    size_bytes: int,
    footer_bytes: int,
    sensor_id: str | None = None,
    span: Span | None = None,
    metrics: Sequence[str] = (),
    coming: Callable[[Footer, Sequence[int]], None] | None = None,
) -> list[Run]:
    """As `decode`, reading only what is needed: the footer, then the row groups that may match.

    One read for an object of at most WHOLE_BYTES, else one for the footer and one for each
    stretch of neighbouring row groups. `footer_bytes` is a guess that costs one more read
    where it is too small; 0 where unknown. Every byte read is checked. `coming` is told the
    row groups before they are read, and may raise. Raises Corrupt.
    """
    source = Source(read_range, size_bytes)
    footer = read_footer(source, footer_bytes)
    picked = footer.pick(sensor_id, span, metrics)
    if coming is not None:
        coming(footer, picked)
    return runs_of(source, footer, picked, sensor_id, span, metrics) if picked else []


def read_groups(source: Source, footer: Footer, picked: Sequence[int], span: Span | None) -> list[Run]:
    """The runs of the row groups (at least one), of the half-open span where given, by sensor. Raises Corrupt."""
    return runs_of(source, footer, picked, None, span, ())


def _facts(
    known: Mapping[str, str], footer_bytes: int, sha256: str
) -> tuple[int, int, int, int, str, str, int, str]:
    return (
        int(known["rows"]),
        int(known["sensors"]),
        int(known["first-us"]),
        int(known["last-us"]),
        known["first-sensor"],
        known["last-sensor"],
        footer_bytes,
        sha256,
    )
