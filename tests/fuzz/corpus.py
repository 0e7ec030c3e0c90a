"""What fuzzing starts from: valid payloads of every format with what they hold, and the records that carry payloads."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ingest.envelope import address, zstd
from ingest.kinesis_records import KPL_MAGIC
from ingest.reading import Column, Run
from ingest.wire_encode import encode_run
from sensors.lanes import Delivery, Lane
from tests.line_writer import line
from tests.strategies import cells
from tests.world import NOW_S, NOW_US

Cells = dict[tuple[int, str], tuple[str, str]]
"""Values by (instant, metric), as kind and canonical text."""

SENSOR = "5eed0000deadbeef"
"""Stands for the sensor in a seed: a payload is sent with a text of the same length in its place."""
NOW_MS = NOW_S * 1000


@dataclass(frozen=True, slots=True)
class Seed:
    """A valid payload of the sensor SENSOR. `cells` are what it holds, worked out without the decoder."""

    kind: str
    data: bytes
    cells: Cells


@dataclass(frozen=True, slots=True)
class Payload:
    """A user record as it is sent. `cells` are what must be found of `sensor_id` afterwards, None where
    nothing is known; `whole` says that nothing of it may be refused."""

    kind: str
    data: bytes
    sensor_id: str = ""
    cells: Cells | None = None
    whole: bool = False


# --- seeds ------------------------------------------------------------------------------

_NUMBERS: list[dict[str, Any]] = [{"temperature": 21.4, "humidity": 40}, {"temperature": 21.5}]
_MIXED: list[dict[str, Any]] = [
    {"a": -0.5, "on": True, "state": "run"},
    {"a": 9007199254740993, "on": False, "state": 'é\u2028 "\\\u0000'},
]
_LONG: list[dict[str, Any]] = [{"v": n / 8, "n": n} for n in range(3)]
TABLES = (_NUMBERS, _MIXED, _LONG)
STEP_US = 250_000


def _run(rows: Sequence[dict[str, Any]]) -> Run:
    names = dict.fromkeys(name for row in rows for name in row)
    columns: dict[str, Column] = {name: [row.get(name) for row in rows] for name in names}
    return Run(SENSOR, [NOW_US + i * STEP_US for i in range(len(rows))], columns, NOW_MS)


def _objects(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {"sensor_id": SENSOR, "ts": NOW_MS + i * (STEP_US // 1000), "metrics": row}
        for i, row in enumerate(rows)
    ]


def _senml(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    field = {bool: "vb", str: "vs", int: "v", float: "v"}
    pack: list[dict[str, Any]] = [
        {"n": name, "t": i * (STEP_US / 1e6), field[type(value)]: value}
        for i, row in enumerate(rows)
        for name, value in row.items()
    ]
    pack[0] = {"bn": f"{SENSOR}/", "bt": NOW_S, **pack[0]}
    return pack


def text(value: object, *, tight: bool = True) -> bytes:
    """A value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=not tight, separators=(",", ":") if tight else None).encode()


def gzipped(data: bytes) -> bytes:
    """The bytes in a gzip envelope, made in little time."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 16 + 9, 1)
    return packer.compress(data) + packer.flush()


def zstandard(data: bytes) -> bytes:
    """The bytes in a zstd envelope."""
    return zstd.compress(data, 1)


def _rfc_3339(reading: dict[str, Any], offset_ms: int) -> dict[str, Any]:
    return reading | {"ts": f"2026-11-21T00:00:{offset_ms / 1000:06.3f}+02:00"}


def _seeds(rows: list[dict[str, Any]]) -> list[Seed]:
    run = _run(rows)
    whole, first = cells(run), cells(_run(rows[:1]))
    objects = _objects(rows)
    flat = [{"sensor_id": SENSOR, "ts": one["ts"], **one["metrics"]} for one in objects]
    texts = [_rfc_3339(one, one["ts"] - NOW_MS) for one in objects]
    lines = b"\r\n".join(map(text, texts))
    columns: dict[str, Any] = {
        "sensor_id": SENSOR,
        "t0_us": NOW_US,
        "dt_us": [STEP_US] * (len(rows) - 1),
        "metrics": run.metrics,
    }
    by_line = [
        line("w", {"sensor_id": SENSOR}, row, (NOW_US + i * STEP_US) * 1000) for i, row in enumerate(rows)
    ]
    of_lines = {(ts_us, f"w.{name}"): value for (ts_us, name), value in whole.items()}
    unnamed = {"ts": NOW_MS, "metrics": rows[0]}
    made = [
        ("object", text(objects[0]), first),
        ("object", text(texts[0], tight=False), first),
        ("flat", text(flat[0]), first),
        ("array", text(objects), whole),
        ("array", text(flat, tight=False), whole),
        ("lines", lines, whole),
        ("lines", b"\n\n".join([text(columns), text(flat[0]), b""]), whole),
        ("columns", encode_run(run), whole),
        ("columns", text(columns | {"dt_us": STEP_US}), whole),
        ("columns", text(columns, tight=False), whole),
        ("senml", text(_senml(rows)), whole),
        ("senml", text(_senml(rows), tight=False), whole),
        ("protocol", "\n".join(by_line).encode(), of_lines),
        ("protocol", "\r\n".join(["# w", *by_line, ""]).encode(), of_lines),
        ("gzip", text(objects), whole),
        ("zstd", encode_run(run), whole),
        ("both", lines, whole),
        ("addressed", text(unnamed), first),
    ]
    return [Seed(kind, data, held) for kind, data, held in made]


SEEDS = tuple(seed for rows in TABLES for seed in _seeds(rows))
KINDS = tuple(dict.fromkeys(seed.kind for seed in SEEDS))


def dressed(kind: str, data: bytes, sensor_id: str) -> bytes:
    """A seed's data, or what became of it, in the envelope that its kind says."""
    if kind == "gzip":
        return gzipped(data)
    if kind == "zstd":
        return zstandard(data)
    if kind == "both":
        return gzipped(zstandard(data))
    if kind == "addressed":
        return address(sensor_id, data)
    return data


def sent(seed: Seed, sensor_id: str) -> Payload:
    """The seed as a payload of a sensor, whose id must be as long as SENSOR."""
    data = dressed(seed.kind, seed.data.replace(SENSOR.encode(), sensor_id.encode()), sensor_id)
    return Payload(seed.kind, data, sensor_id, seed.cells, whole=True)


# --- aggregates -------------------------------------------------------------------------


def varint(value: int) -> bytes:
    """A base-128 number ("Protocol Buffers: Encoding")."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def message(payloads: Sequence[bytes], key: bytes = b"lane-1") -> bytes:
    """The message of a KPL aggregate of the payloads, without magic and checksum."""
    pieces = [b"\x0a", varint(len(key)), key]
    for payload in payloads:
        record = b"\x08\x00\x1a" + varint(len(payload)) + payload
        pieces += (b"\x1a", varint(len(record)), record)
    return b"".join(pieces)


def framed(body: bytes) -> bytes:
    """A message between magic and the checksum that it has."""
    return KPL_MAGIC + body + hashlib.md5(body, usedforsecurity=False).digest()


def published(payloads: Sequence[bytes]) -> bytes:
    """The payloads in one aggregate, as the publisher packs them."""
    lane = Lane("lane-7")
    delivery = Delivery(_run(_NUMBERS), None, len(payloads))
    for payload in payloads:
        lane.add(payload, 1, delivery)
    lane.close()
    return lane.accepted().data


AGGREGATES = (
    published([sent(seed, SENSOR).data for seed in SEEDS[:5]]),
    published([SEEDS[0].data]),
    framed(message([seed.data for seed in SEEDS[:3]]) + b"\x12\x01" + b"9"),
)
"""Whole stream records to damage."""


# --- stream records ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sent:
    """One stream record. `text` is its data as the event has it, `raw` in base64 where `is_coded`; `payloads` are
    its user records, None where only the library can tell them (it is a damaged aggregate)."""

    raw: bytes
    text: str
    payloads: tuple[Payload, ...] | None
    is_coded: bool = True

    @property
    def count(self) -> int:
        """How many payloads it counts as."""
        return len(self.payloads) if self.payloads is not None else 1


def unknown(raw: bytes) -> Sent:
    """A stream record of which only the library can tell what it holds."""
    return Sent(raw, base64.b64encode(raw).decode(), None)


def plain(payload: Payload) -> Sent:
    """A stream record that is not aggregated."""
    if not payload.data or payload.data.startswith(KPL_MAGIC):
        return unknown(payload.data)
    return Sent(payload.data, base64.b64encode(payload.data).decode(), (payload,))


def aggregated(payloads: Sequence[Payload]) -> Sent:
    """A valid KPL aggregate of the payloads."""
    raw = framed(message([payload.data for payload in payloads]))
    return Sent(raw, base64.b64encode(raw).decode(), tuple(payloads))
