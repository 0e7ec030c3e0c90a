"""The Lambda handlers: real-shaped events in, stores changed, one log line and metrics out, no payload in either."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ingest import keys
from ingest.errors import Unavailable
from ingest.keys import DAY_S, US
from ingest.settings import Settings
from ingest.stores.memory import MemoryHotStore
from lambdas import _door, archive_expired, compact_archive, index_segment, store_readings
from tests.world import ALWAYS, GRACE_S, NOW_S, NOW_US, USUAL, World, plenty, readings

EVENTS = Path(__file__).parent.parent / "events"
SLOT_S = NOW_S + 3600 + DAY_S
CONTEXT = SimpleNamespace(get_remaining_time_in_millis=plenty)
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish:UserWarning")


def event(name: str) -> dict[str, Any]:
    return json.loads((EVENTS / f"{name}.json").read_text())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """A deployment that the doors find in place of AWS, at a time of the test's."""
    made = World()
    made.hot.save_layout(USUAL, None)
    found = Settings("table", "archive", "rejects", chunk_grace_s=GRACE_S)
    monkeypatch.setattr(_door, "deployment", lambda: (found, made))
    monkeypatch.setattr(_door, "now_s", lambda: float(made.now_s))
    monkeypatch.setattr(_door, "_layout", [])
    return made


class Spoken:
    """What a door wrote to its log: its own lines, and the metrics (embedded metric format)."""

    def __init__(self, door: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._stream = io.StringIO()
        self._handler: logging.StreamHandler = door._logger.registered_handler
        self._before = self._handler.setStream(self._stream)

    def close(self) -> None:
        if self._before is not None:
            self._handler.setStream(self._before)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def metrics(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for line in self._capsys.readouterr().out.splitlines():
            entry = json.loads(line)
            (described,) = entry["_aws"]["CloudWatchMetrics"]
            assert described["Namespace"] == "Thermocline"
            assert set(described["Dimensions"][0]) == {"stack", "reason" if "reason" in entry else "service"}
            assert entry["stack"] == "thermocline"
            label = f"{entry['reason']}: " if "reason" in entry else ""
            for metric in described["Metrics"]:
                (value,) = entry[metric["Name"]]
                found[label + metric["Name"]] = value
        return found


@pytest.fixture
def spoken(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]):
    heard = Spoken(request.param, capsys)
    yield heard
    heard.close()


class TestStoreReadings:
    def test_plain_and_aggregated_records_are_stored_and_bad_ones_kept(self, world):
        stored = store_readings.handle(
            event("kinesis"), world.hot, world.registry, world.rejects, USUAL, NOW_S + 5, plenty
        )
        assert (stored.records, stored.readings, stored.sensors) == (3, 5, 2)
        assert stored.rejects == {"not_json": 1, "ts_out_of_range": 1}
        run = world.ask("press-7").run
        assert run.ts_us == [NOW_US + i * US for i in range(4)]
        assert run.metrics == {"temperature": [21.4, 21.5, 21.6, 21.7], "on": [True, True, False, False]}
        kept = {reject.reason: reject for reject in world.rejects.list("2026-11-20", "2026-11-20")}
        assert kept["not_json"].payload == b"not JSON"
        assert kept["ts_out_of_range"].sensor_id == "press-9"
        assert kept["ts_out_of_range"].offset.startswith("2")
        assert all(reject.shard_id == "shardId-000000000002" for reject in kept.values())

    @pytest.mark.parametrize("spoken", [store_readings], indirect=True)
    def test_the_handler_answers_and_speaks(self, world, spoken):
        world.now_s = NOW_S + 5
        assert store_readings.handler(event("kinesis"), CONTEXT) == {"batchItemFailures": []}
        (line,) = spoken.lines()
        assert (line["message"], line["service"], line["level"]) == ("stored", "store_readings", "INFO")
        assert (line["records"], line["readings"], line["chunks"], line["new_sensors"]) == (3, 5, 2, 2)
        assert line["oldest_age_ms"] == 877
        assert line["rejects"] == {"not_json": 1, "ts_out_of_range": 1}
        assert "not JSON" not in json.dumps(line)
        assert "21.4" not in json.dumps(line)
        metrics = spoken.metrics()
        assert metrics["ReadingsStored"] == 5
        assert metrics["ChunksStored"] == 2
        assert metrics["WriteUnits"] == line["write_units"] > 0
        assert metrics["Rejects"] == 2
        assert metrics["not_json: RejectsByReason"] == metrics["ts_out_of_range: RejectsByReason"] == 1

    @pytest.mark.parametrize("spoken", [store_readings], indirect=True)
    def test_where_unknown_sensors_are_refused_the_handler_registers_none(self, world, spoken, monkeypatch):
        world.registry.register({"press-7": 1}, plenty)
        closed = Settings("table", "archive", "rejects", unknown_sensors="refuse")
        monkeypatch.setattr(_door, "deployment", lambda: (closed, world))
        store_readings.handler(event("kinesis"), CONTEXT)
        (line,) = spoken.lines()
        assert (line["readings"], line["new_sensors"]) == (4, 0)
        assert line["rejects"] == {"not_json": 1, "ts_out_of_range": 1, "unknown_sensor": 1}
        assert list(world.registry.sensors) == ["press-7"]

    @pytest.mark.parametrize("spoken", [store_readings], indirect=True)
    @pytest.mark.parametrize(
        "odd", [{}, {"Records": []}, {"Records": [{}]}, {"Records": [None, 5]}, {"Records": 7}]
    )
    def test_odd_events_stop_nothing(self, world, spoken, odd):
        assert store_readings.handler(odd, CONTEXT) == {"batchItemFailures": []}

    @pytest.mark.parametrize("spoken", [store_readings], indirect=True)
    def test_records_that_time_ran_short_for_are_reported_back(self, world, spoken, monkeypatch):
        monkeypatch.setattr("ingest.write.MOST_VALUES_AT_ONCE", 1)
        batch = event("kinesis")
        left = [60_000] * 3 + [1_000]
        hurried = SimpleNamespace(
            get_remaining_time_in_millis=lambda: left.pop(0) if len(left) > 1 else left[0]
        )
        answer = store_readings.handler(batch, hurried)
        (failed,) = answer["batchItemFailures"]
        assert failed["itemIdentifier"] == batch["Records"][1]["kinesis"]["sequenceNumber"]
        assert spoken.lines()[0]["failed_sequence"] == failed["itemIdentifier"]

    @pytest.mark.parametrize("spoken", [store_readings], indirect=True)
    def test_a_store_that_fails_fails_the_invocation(self, world, spoken, monkeypatch):
        def put(*_: object) -> float:
            raise Unavailable("throttled")

        monkeypatch.setattr(world.hot, "put", put)
        with pytest.raises(Unavailable):
            store_readings.handler(event("kinesis"), CONTEXT)

    @pytest.mark.parametrize("spoken", [store_readings], indirect=True)
    def test_without_a_layout_the_batch_is_repeated(self, world, spoken):
        world.hot.items.clear()
        with pytest.raises(Unavailable, match="layout"):
            store_readings.handler(event("kinesis"), CONTEXT)


class TestArchiveExpired:
    def test_the_order_is_the_removal_of_a_ticket_each_slot_once(self):
        assert archive_expired.slots_of(event("dynamodb_remove")) == [SLOT_S]
        assert archive_expired.slots_of({}) == []
        assert archive_expired.slots_of({"Records": [{}, {"eventName": "REMOVE"}]}) == []

    def test_the_removal_archives_the_slot(self, world):
        world.send(readings("press-7", NOW_US, US, a=[1, 2, 3]))
        world.now_s = SLOT_S
        done = archive_expired.handle(event("dynamodb_remove"), world.stack())
        assert (done.slots, done.manifests, len(done.segments)) == (1, 1, 1)
        assert world.slots() == []

    def test_the_schedule_archives_what_is_overdue(self, world):
        world.send(readings("press-7", NOW_US, US, a=[1, 2, 3]))
        world.now_s = SLOT_S + 3599
        assert archive_expired.handle(event("schedule"), world.stack()).segments == []
        world.now_s = SLOT_S + 3600
        assert len(archive_expired.handle(event("schedule"), world.stack()).segments) == 1

    def test_the_local_clock_may_say_up_to_when(self, world):
        world.send(readings("press-7", NOW_US, US, a=[1, 2, 3]))
        done = archive_expired.handle(event("schedule") | {"until_s": SLOT_S}, world.stack())
        assert len(done.segments) == 1

    @pytest.mark.parametrize("spoken", [archive_expired], indirect=True)
    def test_the_handler_answers_and_speaks(self, world, spoken):
        world.send(readings("press-7", NOW_US, US, a=[1, 2, 3]))
        world.send(readings("press-7", NOW_US - 3600 * US, US, a=[1, 2, 3]))
        world.now_s = SLOT_S + 60
        answer = archive_expired.handler(event("dynamodb_remove"), CONTEXT)
        assert answer == {"waiting": 0, "unfinished": False, "segments": 1}
        (line,) = spoken.lines()
        assert (line["message"], line["level"], line["chunks"], line["rows"]) == ("archived", "INFO", 1, 3)
        assert line["segments"] == [segment.name for segment in world.catalog.find(ALWAYS)]
        assert line["lag_s"] == 3660
        metrics = spoken.metrics()
        assert metrics == {"ArchiveLagS": 3660, "ChunksArchived": 1, "SegmentsWritten": 1, "ChunksLost": 0}

    @pytest.mark.parametrize("spoken", [archive_expired], indirect=True)
    def test_a_loss_is_an_error_with_the_chunks_key(self, world, spoken):
        world.send(readings("press-7", NOW_US, US, a=[1]))
        (key,) = world.chunk_keys()
        world.hot.delete([key])
        world.now_s = NOW_S + 30 * DAY_S
        archive_expired.handler(event("dynamodb_remove"), CONTEXT)
        (line,) = spoken.lines()
        assert (line["level"], line["lost"]) == ("ERROR", [f"{key.pk} {key.sk}"])
        assert spoken.metrics()["ChunksLost"] == 1

    @pytest.mark.parametrize("spoken", [archive_expired], indirect=True)
    def test_a_store_that_fails_fails_the_invocation(self, world, spoken, monkeypatch):
        world.send(readings("press-7", NOW_US, US, a=[1]))

        def put(*_: object) -> str:
            raise Unavailable("slow down")

        monkeypatch.setattr(world.cold, "put", put)
        with pytest.raises(Unavailable):
            archive_expired.handler(event("dynamodb_remove"), CONTEXT)
        assert world.slots() == [SLOT_S]


class TestCompactArchive:
    def archived(self, world):
        """A date of which three slots were archived, and which is complete."""
        for minute in (0, 60, 120):
            start_us = NOW_US - (minute + 61) * 60 * US
            world.send(*(readings(sensor, start_us, US, t=[1.5, 2.5]) for sensor in ("press-7", "press-8")))
            world.now_s += 3600
        world.archive_all()
        world.now_s += 3 * DAY_S
        assert len(world.catalog.find(ALWAYS)) == 3

    @pytest.mark.parametrize("spoken", [compact_archive], indirect=True)
    def test_the_handler_compacts_deletes_and_speaks(self, world, spoken):
        self.archived(world)
        done = compact_archive.handler(event("schedule"), CONTEXT)
        assert (done["dates"], done["segments_before"], done["segments_after"]) == (1, 3, 1)
        assert (done["deleted"], done["unfinished"]) == (0, False)
        (line,) = spoken.lines()
        assert (line["message"], line["service"], line["level"]) == ("compacted", "compact_archive", "ERROR")
        assert spoken.metrics() == {"SegmentsCompacted": 3, "SegmentsDeleted": 0, "DatesOverdue": 1}
        assert line["overdue"] == ["2026-11-20"], "it has been waiting for days"
        world.now_s += 86_400
        assert compact_archive.handler(event("schedule"), CONTEXT)["deleted"] == 3
        assert spoken.metrics() == {"SegmentsCompacted": 0, "SegmentsDeleted": 3, "DatesOverdue": 0}
        assert len(world.cold.objects) == 1

    def test_a_date_that_fails_is_an_error_and_the_rest_is_done(self, world, monkeypatch):
        self.archived(world)

        def refuse(*_: Any) -> str:
            raise Unavailable("no")

        monkeypatch.setattr(world.cold, "put", refuse)
        with pytest.raises(Unavailable):
            compact_archive.handler(event("schedule"), CONTEXT)


class TestIndexSegment:
    NAME = "readings/v1/date=2026-11-20/a copy of=1.parquet"

    def restored(self, world: World) -> World:
        world.send(readings("press-7", NOW_US, US, a=[1, 2, 3]))
        (segment,) = world.archive_all().segments
        world.cold.put(self.NAME, world.cold.read(segment.name), {})
        world.cold.put("readings/v1/date=2026-11-20/damaged.parquet", b"PAR1 or not", {})
        world.catalog.remove([segment])
        return world

    def test_names_are_url_encoded(self):
        assert index_segment.names_of(event("s3_object_created"))[0] == self.NAME
        assert index_segment.names_of(event("s3_object_created"))[3] == "readings/v1/notes ä.txt"

    def test_what_is_a_segment_is_catalogued(self, world):
        self.restored(world)
        done = index_segment.handle(event("s3_object_created"), world.cold, world.catalog, USUAL)
        assert done == {
            "indexed": [self.NAME],
            "skipped": ["readings/v1/date=2026-11-20/damaged.parquet", "readings/v1/notes ä.txt"],
            "gone": ["readings/v1/date=2026-11-20/gone.parquet"],
        }
        assert [segment.name for segment in world.catalog.find(ALWAYS)] == [self.NAME]
        world.expire()
        assert world.found("press-7").metrics == {"a": [1, 2, 3]}

    @pytest.mark.parametrize("spoken", [index_segment], indirect=True)
    def test_the_handler_answers_and_speaks(self, world, spoken):
        self.restored(world)
        assert index_segment.handler(event("s3_object_created"), CONTEXT) == {
            "indexed": 1,
            "skipped": 2,
            "gone": 1,
        }
        (line,) = spoken.lines()
        assert (line["message"], line["indexed"]) == ("indexed", [self.NAME])
        assert spoken.metrics() == {"SegmentsIndexed": 1, "SegmentsSkipped": 2}

    def test_the_test_event_that_s3_sends_once_is_no_error(self, world):
        sent_once = {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "archive"}
        done = index_segment.handle(sent_once, world.cold, world.catalog, USUAL)
        assert done == {"indexed": [], "skipped": [], "gone": []}


class TestLayout:
    def test_is_read_again_after_half_a_minute(self, monkeypatch):
        monkeypatch.setattr(_door, "_layout", [])
        hot = MemoryHotStore()
        hot.save_layout(USUAL, None)
        assert _door.layout(hot, 100.0) == USUAL
        changed = USUAL.changed(keys.Period(NOW_S, 900, 3600, DAY_S, 999 * DAY_S))
        hot.save_layout(changed, USUAL)
        assert _door.layout(hot, 129.0) == USUAL
        assert _door.layout(hot, 131.0) == changed
