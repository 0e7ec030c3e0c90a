"""Fuzzing of the batch door: 100,000 payloads, every hostile sensor id by every way in, and checks that can fail."""

from __future__ import annotations

import base64
import gzip
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from ingest import keys, wire, write
from ingest.errors import BadInput
from ingest.plan import Query, check
from ingest.reading import is_sensor_id
from ingest.reject import REASONS, Problem
from ingest.stores.memory import MemoryHotStore
from ingest.stores.rejects import S3RejectStore
from ingest.wire_encode import encode_run
from sensors.gathering import Message
from sensors.joining import join
from sensors.topics import DEFAULT_PATTERN, parse_topics
from tests.fuzz import coverage
from tests.fuzz.__main__ import main
from tests.fuzz.corpus import (
    KINDS,
    NOW_MS,
    SEEDS,
    SENSOR,
    Payload,
    aggregated,
    framed,
    gzipped,
    message,
    plain,
    sent,
    text,
    unknown,
)
from tests.fuzz.door import Broken, Door, batch, cpu_ms
from tests.fuzz.hostile import HOSTILE_IDS, may_name
from tests.fuzz.run import fewest, run
from tests.strategies import cells
from tests.world import ALWAYS, NOW_S, NOW_US, World

PAYLOADS = 100_000
SEED = 20_261_120


def test_a_hundred_thousand_payloads_are_stored_or_refused():
    done = run(PAYLOADS, SEED, processes=1)
    assert not done.failures, [(failure.batch, failure.what) for failure in done.failures]
    tally = done.tally
    assert tally.payloads >= PAYLOADS
    assert tally.accepted + tally.rejected == tally.payloads
    assert 0.2 < tally.accepted / tally.payloads < 0.8, "both sides are met"
    assert tally.kinds.keys() >= {
        *KINDS,
        "near object",
        "near columns",
        "near senml",
        "near protocol",
        "damaged record",
    }
    assert min(tally.kinds.values()) > 500
    rare = {"unexpected", "kpl_limit", "too_large", "reading_too_large", "unknown_sensor"}
    assert tally.reasons.keys() - rare == REASONS.keys() - rare


def test_a_run_is_the_same_however_it_is_shared():
    one, two = run(2_000, 5, processes=1).tally, run(2_000, 5, processes=2).tally
    assert (one.kinds, one.reasons, one.accepted) == (two.kinds, two.reasons, two.accepted)
    assert batch(5, 3) == batch(5, 3) != batch(6, 3)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: seed.kind)
def test_a_seed_holds_what_it_says(seed):
    payload = sent(seed, "press-0123456789")
    runs, problems = wire.decode(payload.data, NOW_MS)
    assert ([(one.sensor_id, cells(one)) for one in runs], problems) == (
        [("press-0123456789", seed.cells)],
        [],
    )


# --- hostile ids ------------------------------------------------------------------------


def test_the_hostile_ids_are_many_and_mostly_no_names():
    assert len(HOSTILE_IDS) == len(set(HOSTILE_IDS)) >= 500
    assert 500 < sum(not may_name(name) for name in HOSTILE_IDS) < len(HOSTILE_IDS) - 30


def raw_text(value: object) -> bytes:
    """JSON with every character as it is, lone surrogates in what would be their UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


WAYS: dict[str, Callable[[str], Any]] = {
    "object": lambda name: {"sensor_id": name, "ts": NOW_MS, "metrics": {"m": 1.5}},
    "flat": lambda name: {"m": 1.5, "ts": NOW_MS, "sensor_id": name},
    "array": lambda name: [{"sensor_id": name, "ts": NOW_MS, "m": 1.5}],
    "columns": lambda name: {"sensor_id": name, "t0_us": NOW_US, "dt_us": [], "metrics": {"m": [1.5]}},
    "step": lambda name: {"sensor_id": name, "t0_us": NOW_US, "dt_us": 1, "metrics": {"m": [1.5, None]}},
}
DRESSES: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "lines": lambda data: b"\n" + data + b"\r\n" + text({"sensor_id": "other", "ts": NOW_MS, "m": 1}),
    "gzip": gzipped,
    "aggregate": lambda data: framed(message([data])),
}


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("way", WAYS)
def test_a_hostile_id_is_refused_or_found_again_by_every_format(way, dress):
    records = []
    for name in HOSTILE_IDS:
        document = WAYS[way](name)
        records += [
            unknown(DRESSES[dress](json.dumps(document).encode())),
            unknown(DRESSES[dress](raw_text(document))),
        ]
    world = Door(most_ms=20_000).put(records)
    valid = {name for name in HOSTILE_IDS if may_name(name)}
    assert world.registry.sensors.keys() - {"other"} == valid
    for name in valid:
        assert 1.5 in world.found(name).metrics["m"]
    refused = [one for one in all_rejects(world) if one.reason in ("bad_sensor_id", "not_utf8", "not_json")]
    assert len(refused) == 2 * (len(HOSTILE_IDS) - len(valid))


def all_rejects(world):
    today = keys.date_of(NOW_MS * 1000)
    return list(world.rejects.list(today, today))


@pytest.mark.parametrize("base", [True, False], ids=["bn and n", "n alone"])
def test_a_hostile_id_reaches_no_key_by_senml(base):
    """Joined names are taken apart, so that a sensor may come of them whose id is the beginning of theirs."""
    for name in HOSTILE_IDS:
        named = {"bn": name, "n": "m"} if base else {"n": name}
        world = Door(most_ms=2_000).put([unknown(json.dumps([{**named, "t": NOW_S, "v": 1.5}]).encode())])
        stored = set(world.registry.sensors)
        if not stored:
            assert all_rejects(world), ascii(name[:50])
            continue
        (sensor_id,) = stored
        assert is_sensor_id(sensor_id)
        assert may_name(sensor_id)
        assert (f"{name}/m" if name else "m").startswith(sensor_id)


def test_a_hostile_topic_becomes_an_addressed_payload_that_is_refused():
    topics = parse_topics(DEFAULT_PATTERN)
    body = b'{"ts":%d,"m":1.5}' % NOW_MS
    joined = join([Message(1, topics.data(name), body) for name in HOSTILE_IDS], topics, NOW_MS)
    valid = {name for name in HOSTILE_IDS if may_name(name)}
    assert {one.sensor_id for one in joined.runs} == valid
    assert len(joined.addressed) + joined.ignored == len(HOSTILE_IDS) - len(valid)
    assert joined.ignored == 1, "the empty level names no sensor"
    records = [unknown(encode_run(one)) for one in joined.runs]
    records.append(aggregated([Payload("addressed", data) for _, data in joined.addressed]))
    world = Door(most_ms=20_000).put(records)
    assert world.registry.sensors.keys() == valid
    refused = all_rejects(world)
    assert {(one.reason, one.payload, one.sensor_id) for one in refused} == {("bad_sensor_id", body, None)}
    assert len(refused) == len(joined.addressed)


@pytest.mark.parametrize("hostile", [True, False])
def test_a_query_of_a_hostile_id_is_refused_before_anything_is_read(hostile):
    world = World()
    for name in (one for one in HOSTILE_IDS if may_name(one) is not hostile):
        if hostile:
            with pytest.raises(BadInput, match="sensor: "):
                world.ask(name)
            with pytest.raises(BadInput, match="sensor: "):
                world.latest(name)
        else:
            check(Query(name, ALWAYS))
            assert (world.ask(name).run, world.latest(name)) == (None, None)


def test_ids_that_look_like_keys_and_paths_are_archived_under_names_that_parse():
    names = [name for name in HOSTILE_IDS if may_name(name)]
    world = Door().put([unknown(text(WAYS["object"](name))) for name in names])
    world.archive_all()
    world.expire()
    assert world.chunk_keys() == []
    assert world.cold.objects
    assert all(keys.parse_segment_name(name) for name in world.cold.objects)
    assert {name: world.found(name).metrics for name in names} == {name: {"m": [1.5]} for name in names}


# --- what fuzzing found once ------------------------------------------------------------

FOUND: dict[str, tuple[bytes, str]] = {
    "an empty column beside a bad one": (
        b'{"sensor_id":"a","t0_us":%d,"dt_us":0,"metrics":{"a":[],"b":5}}' % NOW_US,
        "wrong_type",
    ),
    "SenML of base fields only": (b'[{"bn":"a/","bt":1},{}]', "empty_record"),
    "millions of lines": (gzip.compress(b"{\n" * 4_000_000, 9), "too_large"),
    "millions of brackets": (gzip.compress(b"[\n" * 4_000_000, 9), "too_large"),
    "millions of empty lines": (gzip.compress(b"x" + b"\n" * 8_000_000 + b"x", 9), "too_large"),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name):
    payload, reason = FOUND[name]
    world = World()
    took_ms = cpu_ms(lambda: Door(most_ms=2_000).put([unknown(payload)]))
    assert took_ms < 2_000
    world = Door(most_ms=2_000).put([unknown(payload)])
    assert [(one.reason, one.payload) for one in all_rejects(world)] == [(reason, payload)]


def test_a_single_document_may_have_more_lines_than_a_record_may_hold_readings(monkeypatch):
    monkeypatch.setattr(wire, "MOST_READINGS", 20)
    pretty = json.dumps(
        {"sensor_id": "a", "t0_us": NOW_US, "dt_us": 1, "metrics": {"m": [1] * 30}}, indent=1
    ).encode()
    assert [len(one.ts_us) for one in wire.decode(pretty, NOW_MS)[0]] == [30]
    assert wire.decode(pretty + b"\n{}", NOW_MS)[1][0].reason == "too_large"


# --- the checks can fail ----------------------------------------------------------------

GOOD = sent(SEEDS[0], SENSOR)
BAD = Payload("object", b"{")


def raising(*_: object) -> object:
    raise ValueError("broken")


def other_bytes(problem_of):
    def made(record, offset, payload, *rest):
        return problem_of(record, offset, b"never sent", *rest)

    return made


def losing(decode):
    return lambda payloads, arrival_ms: decode(payloads[:-1], arrival_ms)


def slow(decode):
    def decoded(payloads, arrival_ms):
        until = time.process_time() + 0.06
        while time.process_time() < until:
            pass
        return decode(payloads, arrival_ms)

    return decoded


def refusing(payloads, arrival_ms):
    return [], [(at, Problem("not_json", "all of it")) for at in range(len(payloads))]


DESIGNS = {
    "the door raises": (write, "user_records", raising, "neither|unexpected|raised"),
    "a decoder that raises": (write, "decode_all", raising, "unexpected"),
    "a payload is lost": (write, "decode_all", losing(write.decode_all), "not stored|neither|other reasons"),
    "a good payload is refused": (write, "decode_all", refusing, "refused"),
    "a slow decoder": (write, "decode_all", slow(write.decode_all), "slow"),
    "other bytes are kept": (write, "_reject", other_bytes(write._reject), "not sent"),
    "rejects are not kept": (S3RejectStore, "keep", lambda *_: None, "kept"),
    "an unknown reason": (
        write,
        "decode_all",
        lambda payloads, _: ([], [(0, Problem("odd", ""))]),
        "reason odd|refused",
    ),
    "chunks are not put": (
        MemoryHotStore,
        "put",
        lambda self, items, _: 0.0,
        "registry|not stored|manifests",
    ),
    "manifests are not put": (write, "encode_manifests", lambda *_: [], "manifests"),
    "any sensor id will do": (
        wire.Gather,
        "sensor",
        lambda self, sensor_id: str(sensor_id),
        "name that is none|raised",
    ),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_a_broken_design_is_caught(monkeypatch, design):
    place, name, instead, said = DESIGNS[design]
    monkeypatch.setattr(place, name, instead)
    hostile = Payload("hostile", b'[{"sensor_id":"../a","ts":%d,"a":1}]' % NOW_MS)
    with pytest.raises(Broken, match=said):
        Door().put([plain(GOOD), plain(BAD), aggregated([GOOD, hostile])])


def test_a_failure_is_shrunk_to_its_payload_and_kept(monkeypatch, tmp_path, capsys):
    decode_all = write.decode_all

    def broken(payloads, arrival_ms):
        if any(b"NaN" in payload for payload in payloads):
            raise ValueError("NaN")
        return decode_all(payloads, arrival_ms)

    monkeypatch.setattr(write, "decode_all", broken)
    monkeypatch.setattr("tests.fuzz.run.MOST_FAILURES", 2)
    monkeypatch.chdir(tmp_path)
    assert main(["--payloads", "2000", "--seed", "3", "--processes", "1"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("fuzz: payloads=")
    assert out.splitlines()[-1].endswith("failures=2")
    assert "python -m tests.fuzz --seed 3 --batch " in err
    kept = [base64.b64decode(path.read_text()) for path in (tmp_path / "build/fuzz").iterdir()]
    assert kept == [b"NaN"] * 2
    number = int(err.rpartition("--batch ")[2])
    assert main(["--seed", "3", "--batch", str(number)]) == 1
    monkeypatch.undo()
    assert main(["--seed", "3", "--batch", str(number)]) == 0


def test_shrinking_leaves_what_is_needed():
    assert fewest(b"a lot of words (one) and more words", lambda data: b"(one)" in data) == b"(one)"
    assert fewest(b"abc", lambda data: True) == b""


def test_fuzzing_by_coverage_says_what_it_lacks(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert coverage.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1
