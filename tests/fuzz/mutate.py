"""Payloads made up from one seeded generator: damaged seeds, near-readings, and aggregates of both."""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from ingest.envelope import ADDRESS_MAGIC, address
from ingest.kinesis_records import KPL_MAGIC
from tests.fuzz.corpus import (
    AGGREGATES,
    NOW_MS,
    SEEDS,
    SENSOR,
    Payload,
    Sent,
    aggregated,
    dressed,
    framed,
    gzipped,
    message,
    plain,
    sent,
    unknown,
    zstandard,
)
from tests.fuzz.hostile import HOSTILE_IDS
from tests.world import NOW_S, NOW_US

T = TypeVar("T")

TOKENS: tuple[bytes, ...] = (
    *(b"null|NaN|Infinity|-Infinity|true|false|1e400|-1e400|1e-400|-0.0|0|-1|1E+5|0x1|01|1.|.5|-|+").split(
        b"|"
    ),
    *(b'"|\'|[|]|{|}|,|:|\n|\r\n|\t|""|[]|{}|[[|]]|,,|\\|\\"|\\u0000|\\ud800|\\udfff|\\u202e|//|/*').split(
        b"|"
    ),
    *(b'"ts":|"metrics":|"t0_us":|"dt_us":|"sensor_id":|"n":|"bn":|"v":|"t":|"bver":11|"vd":""').split(b"|"),
    *(b"9223372036854775807|9223372036854775808|18446744073709551616|4294967296|1e308|1e-323").split(b"|"),
    *(b"9007199254740993|2.5e-131|9.99e125|1e126|946684799999|1795298400000|1795298399999999").split(b"|"),
    *(b"\xff|\xc0\x80|\xed\xa0\x80|\xf4\x90\x80\x80|\xef\xbb\xbf|\x00|\xe2\x80\xa8|\xfe\xff").split(b"|"),
    *(b"../|#|%00|%2e%2e|__proto__|2026-11-20T22:00:00Z|2026-11-20T23:59:60Z|9999-12-31T23:59:59Z").split(
        b"|"
    ),
    KPL_MAGIC,
    ADDRESS_MAGIC,
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"9" * 39,
    b"9" * 400,
    b"[" * 60,
    b'{"a":' * 30,
    b"|",
)
"""What decoders stumble over."""


def _words(text: str) -> list[str]:
    return text.split("|")


NUMBERS = (
    *_words(
        "0|-1|1|-0|-0.0|0.1|1e5|1e22|1e125|9.99e125|1e126|1e308|1e400|-1e400|1e-130|9e-131|1e-400|2e-308"
    ),
    *_words("2147483648|4294967296|9007199254740993|9223372036854775808|18446744073709551616|268435456"),
    *(
        str(NOW_MS),
        str(NOW_US),
        str(NOW_S),
        str(NOW_MS + 86_400_000),
        str(NOW_MS + 86_399_999),
        "946684800000",
    ),
    *("946684799999.9995", f"{NOW_MS}.123", f"{NOW_S}.5", f"-{NOW_US}", "9" * 38, "9" * 39, "-" + "9" * 300),
)
VALUES = (
    *NUMBERS,
    *_words("null|true|false|[]|{}|[1]|[null]|[[1]]|[1,2,3]|[1.5,null,true]|NaN|Infinity|-Infinity"),
    *_words('""|"x"|"21.4"|"\\u0000"|"\\ud800"|"\\ud83c\\udf21"|"é\u202e"|"NaN"|"2026-11-20T22:00:00Z"'),
    *_words('"2026-11-20 21:00:00.123456789+00:00"|"2026-13-01T00:00:00Z"|"2016-12-31T23:59:60Z"|"0"'),
    *_words('{"v":1}|{"metrics":{"a":1}}|[{"n":"a","v":1}]|{"":1}|{"a":{"b":[{}]}}|"' + "x" * 300 + '"'),
)
FIELDS = (
    *_words(
        "sensor_id|ts|metrics|t0_us|dt_us|temperature|a|n|bn|v|vs|vb|s|t|bt|bv|_|a b|é||\\u0000|9|__proto__"
    ),
    *("ts_us", "SENSOR_ID", "a.b-c", "m" * 64, "m" * 65),
)
SENML = _words("n|bn|t|bt|v|vs|vb|vd|s|bv|bs|bver|u|bu|ut|x_|l")

TAGS = _words("sensor_id|sensor|host|cpu|room|cpu|room|a\\ b|°|")
WORDS = _words("v|w|a\\ b|a_b|hall\\ 2|é|x=y|..|" + "m" * 70)
LITERALS = _words('nan|-Inf|1e999|5u|-5u|T|FALSE|"a b"|"\\""|"|"two\nlines"|1_0|0x1|1.|' + "9" * 40 + "i")

SHORT = tuple(seed for seed in SEEDS if len(seed.data) < 140)
"""Seeds that are damaged more often than the others: a change is more likely to be where it matters."""
SHARED_SENSORS = 8
"""Sensors that all payloads of one Maker are of, but for those that must be found as they were sent."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_HOSTILE_JSON = tuple(json.dumps(text) for text in HOSTILE_IDS if len(text) < 1_000)
_HOSTILE_SHORT = tuple(text for text in HOSTILE_IDS if len(text) < 1_000)


class Maker:
    """Makes stream records without end; the same random.Random makes the same ones."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._random = chance.random
        self._shared = [self._sensor() for _ in range(SHARED_SENSORS)]
        self._kinds: tuple[Callable[[], Payload], ...] = (
            *(self._damaged,) * 18,
            *(self._object,) * 12,
            *(self._columns,) * 8,
            *(self._senml,) * 6,
            *(self._protocol,) * 6,
            *(self._odd,) * 8,
            *(self._hostile,) * 4,
            *(self._whole, self._whole, self._neighbours, self._wrapped, self._wrapped, self._addressed),
        )

    def _below(self, end: int) -> int:
        return int(self._random() * end)

    def _pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def _sensor(self) -> str:
        return f"{self._chance.getrandbits(64):016x}"

    # --- stream records -----------------------------------------------------------------

    def record(self) -> Sent:
        """The next stream record: plain, aggregated, damaged, or not even base64."""
        which = self._random()
        if which < 0.5:
            return plain(self.payload())
        if which < 0.9:
            return aggregated([self.payload() for _ in range(2 + self._below(18))])
        if which < 0.99:
            return unknown(self._damaged_aggregate())
        raw = self.payload().data
        coded = base64.b64encode(raw).decode()
        at = self._below(len(coded) + 1)
        coded = coded[:at] + self._pick(("!", "=!", "\n", "é", "\ud800", " ", "-_")) + coded[at:]
        return Sent(raw, coded, None, is_coded=False)

    def _damaged_aggregate(self) -> bytes:
        """An aggregate with damage behind a right checksum (mostly), or anywhere."""
        body = self._pick(AGGREGATES) if self._random() < 0.3 else framed(message([self.payload().data]))
        which = self._random()
        if which < 0.1:
            return body[: 4 + self._below(24)]
        if which < 0.2:
            return framed(self._pick((b"", b"\x0a\x01a", body[4:-16].replace(b"\x08\x00", b"\x08\x05", 1))))
        return framed(self.mutated(body[4:-16])) if which < 0.75 else self.mutated(body)

    # --- payloads -----------------------------------------------------------------------

    def payload(self) -> Payload:
        """The next user record."""
        return self._kinds[int(self._random() * len(self._kinds))]()

    def _whole(self) -> Payload:
        return sent(self._pick(SEEDS), self._sensor())

    def _damaged(self) -> Payload:
        """A seed of any format, damaged; in its envelope, if it has one, or with it."""
        seed = self._pick(SHORT if self._random() < 0.5 else SEEDS)
        sensor_id = self._pick(self._shared)
        data = seed.data.replace(SENSOR.encode(), sensor_id.encode())
        if self._random() < 0.6:
            return Payload(seed.kind, dressed(seed.kind, self.mutated(data), sensor_id))
        return Payload(seed.kind, self.mutated(dressed(seed.kind, data, sensor_id)))

    def _neighbours(self) -> Payload:
        """A damaged line between good ones, which must survive it."""
        first, second = self._pick(SEEDS[:6]), self._pick(SEEDS[:2])
        sensor_id, other = self._sensor(), self._pick(self._shared)
        good = first.data.replace(SENSOR.encode(), sensor_id.encode())
        bad = self.mutated(second.data.replace(SENSOR.encode(), other.encode())).replace(b"\n", b" ")
        rest = second.data.replace(SENSOR.encode(), other.encode())
        return Payload("lines", b"\n".join((good, bad, rest)), sensor_id, first.cells)

    def _hostile(self) -> Payload:
        """A good reading of a sensor whose id is hostile."""
        sensor = self._pick(_HOSTILE_JSON)
        shape = self._pick(
            (
                '{"sensor_id":%s,"ts":%d,"metrics":{"a":1}}',
                '{"ts":%d,"a":1,"sensor_id":%s}',
                '[{"bn":%s,"bt":%d,"n":"a","v":1}]',
                '[{"n":%s,"t":%d,"v":1}]',
                '{"sensor_id":%s,"t0_us":%d000,"dt_us":[],"metrics":{"a":[1]}}',
            )
        )
        at = NOW_MS if "ts" in shape or "t0_us" in shape else NOW_S
        given = (at, sensor) if shape.startswith('{"ts') else (sensor, at)
        return Payload("hostile", (shape % given).encode())

    def _wrapped(self) -> Payload:
        """Anything in one to four envelopes, damaged now and then, or several members in one."""
        data = self.payload().data
        for _ in range(1 + self._below(4) * self._below(2)):
            data = gzipped(data) if self._random() < 0.7 else zstandard(data)
            if self._random() < 0.1:
                data += gzipped(b"\n")
        return Payload("wrapped", self.mutated(data) if self._random() < 0.3 else data)

    def _addressed(self) -> Payload:
        """A payload with the sensor that its topic named, which may be hostile, or another one's."""
        sensor_id = self._pick(_HOSTILE_SHORT) if self._random() < 0.3 else self._pick(self._shared)
        inner = self._pick(
            (b'{"ts":%d,"a":1}', b'{"ts":%d,"metrics":{"a":1.5}}', b'[{"n":"a","v":1,"t":%d}]')
        )
        data = inner % NOW_MS if self._random() < 0.5 else self.payload().data
        data = address(sensor_id, data)
        return Payload("addressed", self.mutated(data) if self._random() < 0.3 else data)

    def _odd(self) -> Payload:
        """Noise, emptiness, depth, length."""
        which = self._below(80)
        if which < 50:
            data = self._chance.randbytes(self._below(60))
        elif which == 4:
            data = self._pick(
                (b"", b" ", b"\n", b"\r\n \t", b"[]", b"{}", b"0", b'""', b"null", b"\xef\xbb\xbf{}")
            )
        elif which == 64:
            data = self._pick((b"[", b'{"a":', b'[{"metrics":', b"[[],")) * (1 + self._below(60) ** 2)
        elif which < 70:
            names = b",".join(b'"m%d":%d' % (i, i) for i in range(self._below(25)))
            data = b'{"sensor_id":"%016x","ts":%d,"metrics":{%s}}' % (self._below(9), NOW_MS, names)
        else:
            data = self._pick((b"{x\n", b"[1]\n", b'{"sensor_id":"a"}\n', b"\n", b"x\r\n")) * self._below(12)
        return Payload("odd", data)

    # --- near-readings ------------------------------------------------------------------

    def _value(self) -> str:
        return self._pick(VALUES)

    def _id_text(self) -> str:
        which = self._random()
        if which < 0.9:
            return f'"{self._pick(self._shared)}"'
        return self._pick(_HOSTILE_JSON) if which < 0.95 else self._value()

    def _metrics(self, usual: Callable[[], str]) -> str:
        named: list[str] = []
        for _ in range(self._below(4) or 1):
            name = self._pick(FIELDS) if self._random() < 0.12 else self._pick(("temperature", "a", "b"))
            named.append(f'"{name}":{self._value() if self._random() < 0.12 else usual()}')
        return "{" + ",".join(named) + "}"

    def _number(self) -> str:
        return f"{self._random() * 100:.2f}"

    def _object(self) -> Payload:
        """What looks nearly like a reading: a field more, a field less, a value of another kind."""
        fields: list[str] = []
        if self._random() < 0.97:
            fields.append(f'"sensor_id":{self._id_text()}')
        if self._random() < 0.97:
            usual = self._random() < 0.9
            fields.append(f'"ts":{NOW_MS + self._below(9_999) if usual else self._value()}')
        if self._random() < 0.7:
            inner = self._value() if self._random() < 0.1 else self._metrics(self._number)
            fields.append(f'"metrics":{inner}')
        while self._random() < 0.2:
            fields.append(f'"{self._pick(FIELDS)}":{self._value()}')
        one = "{" + ",".join(fields) + "}"
        if self._random() < 0.15:
            one = f"[{one},{self._value()},{one}]"
        return Payload("near object", one.encode(errors="surrogatepass"))

    def _columns(self) -> Payload:
        """A run whose lengths, types, steps or values may be wrong."""
        length = self._below(8)

        def column() -> str:
            count = length if self._random() < 0.92 else self._below(10)
            cells = [self._value() if self._random() < 0.04 else self._number() for _ in range(count)]
            return f"[{','.join(cells)}]"

        which = self._random()
        if which < 0.5:
            steps = "[" + ",".join([str(self._below(2_000_000) - 9) for _ in range(max(0, length - 1))]) + "]"
        elif which < 0.8:
            steps = str(self._below(2_000_000) - 9)
        else:
            steps = self._pick((column(), self._value(), f"[{self._value()},1]"))
        start = str(NOW_US + self._below(9_999_999)) if self._random() < 0.85 else self._value()
        data = f'{{"sensor_id":{self._id_text()},"t0_us":{start},"dt_us":{steps},"metrics":{self._metrics(column)}}}'
        return Payload("near columns", data.encode(errors="surrogatepass"))

    def _senml(self) -> Payload:
        """A pack of random fields."""
        records: list[str] = []
        for position in range(1 + self._below(4)):
            fields: list[str] = [] if position else [f'"bn":"{self._pick(self._shared)}/"']
            if self._random() < 0.85:
                fields += ('"n":"a"', f'"v":{self._number()}', f'"t":{NOW_S + position}')
            while self._random() < 0.3:
                fields.append(f'"{self._pick(SENML)}":{self._value()}')
            records.append("{" + ",".join(fields) + "}")
        return Payload("near senml", ("[" + ",".join(records) + "]").encode(errors="surrogatepass"))

    def _protocol(self) -> Payload:
        """Line protocol with tags that name the sensor or do not, and values of every kind."""
        lines: list[str] = []
        for _ in range(1 + self._below(4)):
            head = self._pick(("w", "w", "°C", "a\\ b", "#", ""))
            while self._random() < 0.5:
                head += f",{self._pick(TAGS)}={self._pick((*self._shared, *WORDS))}"
            fields = [f"{self._pick(('v', *WORDS))}={self._pick((self._number(), '1i', 't', *LITERALS))}"]
            while self._random() < 0.3:
                fields.append(f"{self._pick(WORDS)}={self._pick((*LITERALS, *VALUES))}")
            at = self._pick(
                (str(NOW_US * 1000), str(NOW_US * 1000 + self._below(9_999)), self._pick(NUMBERS), "")
            )
            lines.append(f"{head} {','.join(fields)} {at}")
        return Payload("near protocol", "\n".join(lines).encode(errors="surrogatepass"))

    # --- bytes --------------------------------------------------------------------------

    def mutated(self, data: bytes) -> bytes:
        """The bytes with one to four changes."""
        changed = bytearray(data)
        changes = 1
        while self._random() < 0.25 and changes < 4:
            changes += 1
        for _ in range(changes):
            self._change(changed)
        return bytes(changed)

    def _change(self, changed: bytearray) -> None:
        size = len(changed)
        at = self._below(size + 1)
        which = self._below(12)
        if which <= 1 and at < size:
            changed[at] ^= 1 << self._below(8)
        elif which == 2 and at < size:
            changed[at] = self._below(256)
        elif which == 3:
            del changed[at : at + 1 + self._below(9)]
        elif which == 4:
            changed[at:at] = changed[at : at + 1 + self._below(40)]
        elif which == 5 and self._random() < 0.3:
            del changed[at:]
        elif which == 6:
            other = self._pick(SEEDS).data
            start = self._below(len(other))
            changed[at : at + self._below(20)] = other[start : start + 1 + self._below(30)]
        elif which <= 8:
            found = _NUMBER.search(changed, at) or _NUMBER.search(changed)
            if found:
                changed[found.start() : found.end()] = self._pick(NUMBERS).encode()
        elif which == 9:
            token = self._pick(TOKENS)
            changed[at : at + len(token)] = token
        else:
            changed[at:at] = self._pick(TOKENS)
