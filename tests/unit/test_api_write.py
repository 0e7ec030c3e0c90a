"""What a sender is told by POST /v1/readings and POST /api/v2/write, and what Kinesis is handed."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from ingest.envelope import zstd
from ingest.errors import BadInput, Throttled, Unavailable
from ingest.kinesis_records import user_records
from ingest.reading import Run
from ingest.wire import decode_all
from lambdas.api.limits import BODY_MOST_BYTES, INFLATED_MOST_BYTES
from lambdas.api.sending import Sender
from sensors.publisher import Publisher
from tests.api_world import Answered, Api
from tests.strategies import cells
from tests.world import NOW_S, NOW_US

NOW_MS = NOW_S * 1000
LINE = f"w,sensor_id=site1/a v=1.5 {NOW_US * 1000}"
READINGS, LINES = "/v1/readings", "/api/v2/write"
SAME = [
    f'{{"sensor_id":"site1/a","ts":{NOW_MS},"metrics":{{"w.v":1.5}}}}',
    f'{{"sensor_id":"site1/a","ts":"2026-11-20T22:00:00Z","w.v":1.5}}\n{{"sensor_id":"site1/a","ts":{NOW_MS},"w.v":1.5}}',
    f'{{"sensor_id":"site1/a","t0_us":{NOW_US},"dt_us":[],"metrics":{{"w.v":[1.5]}}}}',
    f'[{{"bn":"site1/a:","n":"w.v","bt":{NOW_S},"v":1.5}}]',
    LINE,
]


@pytest.fixture
def api() -> Api:
    return Api()


def sent(api: Api) -> dict[str, dict[tuple[int, str], tuple[str, str]]]:
    return {run.sensor_id: cells(run) for run in api.sent}


def influx_error(answer: Answered) -> tuple[int, str]:
    """Status and code of an error in InfluxDB's form."""
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json.keys() >= {"code", "message"}
    return answer.status, answer.json["code"]


# --- POST /v1/readings ------------------------------------------------------------------


@pytest.mark.parametrize("body", SAME, ids=["object", "lines", "columns", "senml", "line protocol"])
@pytest.mark.parametrize("coding", ["", "gzip", "zstd", "gzip, zstd"])
def test_every_format_in_every_encoding_is_accepted(api: Api, body: str, coding: str) -> None:
    raw = body.encode()
    for one in coding.split(", "):
        raw = {"": lambda data: data, "gzip": gzip.compress, "zstd": zstd.compress}[one](raw)
    answer = api.call("POST", READINGS, raw, content_encoding=coding, content_type="text/plain")
    assert (answer.status, answer.json) == (202, {"accepted": 1, "rejected": [], "rejected_count": 0})
    assert sent(api) == {"site1/a": {(NOW_US, "w.v"): ("number", "1.5")}}


def test_what_cannot_be_used_is_told_and_the_rest_is_sent(api: Api) -> None:
    answer = api.call("POST", READINGS, f"{LINE}\nw,sensor_id=b v=nan,x=2 {NOW_US * 1000}\nbroken")
    assert answer.status == 202
    assert answer.json["accepted"] == 2
    assert answer.json["rejected_count"] == 2
    first, second = answer.json["rejected"]
    assert (first["reason"], first["part"], first["sensor_id"]) == ("not_finite", "line 2, metric w.v", "b")
    assert (second["reason"], second["part"]) == ("bad_line", "line 3")
    assert sent(api).keys() == {"site1/a", "b"}


@pytest.mark.parametrize(
    ("body", "reason"),
    [("", "empty_record"), ("hello", "not_json"), ('{"x":1}', "unknown_format"), ("w v=nan", "not_finite")],
)
def test_a_body_of_which_nothing_can_be_used_is_422_with_the_reasons(
    api: Api, body: str, reason: str
) -> None:
    answer = api.call("POST", READINGS, body)
    assert answer.status == 422
    assert answer.json["type"].endswith("#problem-all-rejected")
    assert reason in answer.json["detail"]
    assert [one["reason"] for one in answer.json["rejected"]] == [reason]
    assert not api.sent


def test_many_refusals_are_told_up_to_a_limit_and_counted_all(api: Api) -> None:
    answer = api.call("POST", READINGS, "\n".join([LINE, *["broken"] * 500]))
    assert len(answer.json["rejected"]) == 100
    assert answer.json["rejected_count"] == 500


# --- who may ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [READINGS, LINES])
def test_one_sensor_outside_the_scopes_and_nothing_is_sent(api: Api, path: str) -> None:
    token = api.token("write:site1/", "read:")
    body = f"{LINE}\nw,sensor_id=site2/b v=1 {NOW_US * 1000}"
    assert api.call("POST", path, body, token=token).status == 403
    assert api.call("POST", path, "w v=nan", token=api.token("read:")).status == 403
    assert not api.sent
    assert api.call("POST", path, LINE, token=token).status in (202, 204)
    assert len(api.sent) == 1


@pytest.mark.parametrize("token", ["", "nonsense", "thc_aaaaaaaaaaaa_AAAA"])
def test_without_a_valid_token_nothing_is_read(api: Api, token: str) -> None:
    answer = api.call("POST", READINGS, LINE, token=token)
    assert (answer.status, answer.json["status"]) == (401, 401)
    answer = api.call("POST", LINES, LINE, token=token)
    assert influx_error(answer) == (401, "unauthorized")
    assert "Bearer" in answer.headers["WWW-Authenticate"]
    assert not api.sent


# --- limits -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [READINGS, LINES])
def test_a_body_that_is_too_large_is_413_and_says_how_much_is_allowed(api: Api, path: str) -> None:
    whole = api.call("POST", path, b" " * (BODY_MOST_BYTES + 1))
    bomb = api.call("POST", path, gzip.compress(b" " * (INFLATED_MOST_BYTES + 1)), content_encoding="gzip")
    lines = api.call("POST", path, gzip.compress(b"w v=1\n" * 200_001), content_encoding="gzip")
    assert [whole.status, bomb.status, lines.status] == [413, 413, 413]
    assert str(BODY_MOST_BYTES).encode() in whole.body
    assert str(INFLATED_MOST_BYTES).encode() in bomb.body
    assert b"200000" in lines.body
    assert not api.sent


def test_an_encoding_that_is_unknown_or_not_what_it_says(api: Api) -> None:
    assert api.call("POST", READINGS, LINE, content_encoding="br").status == 415
    assert influx_error(api.call("POST", LINES, LINE, content_encoding="br")) == (415, "invalid")
    for raw in (LINE.encode(), gzip.compress(LINE.encode())[:-9], zstd.compress(LINE.encode())):
        assert api.call("POST", READINGS, raw, content_encoding="gzip").status == 422
        assert influx_error(api.call("POST", LINES, raw, content_encoding="gzip")) == (400, "invalid")
    assert not api.sent


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [(Throttled("slow"), 429, "too many requests"), (Unavailable("gone"), 503, "unavailable")],
)
def test_what_kinesis_did_not_accept_is_not_acknowledged(
    api: Api, error: Any, status: int, code: str
) -> None:
    api.refusal = error
    for path in (READINGS, LINES):
        answer = api.call("POST", path, LINE)
        assert answer.status == status
        assert int(answer.headers["Retry-After"]) > 0
    assert influx_error(answer) == (status, code)


# --- POST /api/v2/write -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "at"),
    [
        ("org=o&bucket=b&precision=s", NOW_S),
        ("orgID=1&bucket=b&precision=ms", NOW_MS),
        ("bucket=telegraf%2Fautogen&precision=us", NOW_US),
        ("precision=ns", NOW_US * 1000),
        ("", NOW_US * 1000),
    ],
)
def test_influxdb_clients_write_in_every_precision(api: Api, query: str, at: int) -> None:
    body = f"w,sensor_id=a v=1.5 {at}\nw,sensor_id=b v=2i\n"
    answer = api.call("POST", LINES, body, query=query, authorization=f"Token {api.admin}")
    assert (answer.status, answer.body) == (204, b"")
    assert sent(api) == {
        "a": {(NOW_US, "w.v"): ("number", "1.5")},
        "b": {(NOW_US, "w.v"): ("number", "2")},
    }


def test_a_bad_line_is_named_in_influxdbs_form_and_the_others_are_stored(api: Api) -> None:
    answer = api.call("POST", LINES, f"# lines\n{LINE}\nw v= 1\nw v=nan")
    assert influx_error(answer) == (400, "invalid")
    assert answer.json["line"] == 3
    assert "line 3" in answer.json["message"]
    assert "column 5" in answer.json["message"]
    assert sent(api).keys() == {"site1/a"}


@pytest.mark.parametrize(
    "body", ["", "\n", "# nothing", '{"sensor_id":"a","ts":1,"metrics":{"v":1}}', "hello"]
)
def test_a_body_without_a_usable_line_is_400(api: Api, body: str) -> None:
    assert influx_error(api.call("POST", LINES, body)) == (400, "invalid")
    assert not api.sent


def test_a_precision_that_is_none_is_400(api: Api) -> None:
    assert influx_error(api.call("POST", LINES, LINE, query="precision=h")) == (400, "invalid")


# --- the sender -------------------------------------------------------------------------


class Stream:
    """Stands for Kinesis: refuses the first calls with a code, then keeps what it is sent."""

    def __init__(self, refusals: int = 0, code: str = "InternalFailure") -> None:
        self.records: list[bytes] = []
        self.refusals = refusals
        self._code = code
        self._lock = threading.Lock()

    def put_records(self, StreamName: str, Records: Sequence[Any]) -> dict[str, Any]:  # noqa: N803 - as boto3 has it
        del StreamName
        with self._lock:
            if self.refusals:
                self.refusals -= 1
                return {"Records": [{"ErrorCode": self._code} for _ in Records]}
            self.records.extend(bytes(record["Data"]) for record in Records)
            return {"Records": [{"SequenceNumber": "1", "ShardId": "s"} for _ in Records]}

    def held(self) -> dict[str, dict[tuple[int, str], tuple[str, str]]]:
        """What the records hold, by sensor."""
        found: dict[str, dict[tuple[int, str], tuple[str, str]]] = {}
        for data in self.records:
            for run in decode_all(user_records(data)[0] or [data], NOW_MS)[0]:
                found.setdefault(run.sensor_id, {}).update(cells(run))
        return found


def sender(stream: Stream, made: list[Publisher] | None = None) -> Sender:
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def make() -> Publisher:
        publisher = Publisher(
            stream, "s", lanes=4, now=lambda: now[0], sleep=sleep, random=lambda: 1.0, patience_s=4.0
        )
        if made is not None:
            made.append(publisher)
        return publisher

    return Sender(make)


def _run(sensor_id: str, at_us: int = NOW_US, **metrics: Any) -> Run:
    return Run(sensor_id, [at_us], {name: [value] for name, value in metrics.items()}, NOW_MS)


def test_sending_returns_when_the_stream_has_accepted_everything() -> None:
    stream = Stream(refusals=3)
    assert sender(stream).send([_run("a", v=1.5), _run("b", v=2)]) == 2
    assert stream.held() == {"a": {(NOW_US, "v"): ("number", "1.5")}, "b": {(NOW_US, "v"): ("number", "2")}}


def test_what_was_refused_for_long_is_told_and_never_sent_behind_the_callers_back() -> None:
    stream = Stream(refusals=1000, code="ProvisionedThroughputExceededException")
    made: list[Publisher] = []
    door = sender(stream, made)
    with pytest.raises(Throttled):
        door.send([_run("a", v=1)])
    stream.refusals = 0
    assert door.send([_run("b", v=2)]) == 1
    assert stream.held().keys() == {"b"}
    assert len(made) == 2


def test_a_reading_that_exceeds_a_record_is_told_and_costs_no_other() -> None:
    stream = Stream()
    huge = Run("a", [NOW_US], {f"m{n}": ["x" * 32_000] for n in range(40)}, NOW_MS)
    with pytest.raises(BadInput, match=r"^readings: .*The others were stored"):
        sender(stream).send([huge, _run("b", v=2)])
    assert stream.held().keys() == {"b"}


def test_requests_at_the_same_time_do_not_mix() -> None:
    stream = Stream(refusals=5)
    made: list[Publisher] = []
    door = sender(stream, made)
    counts: list[int] = []

    def work(number: int) -> None:
        for step in range(20):
            sent_now = door.send([_run(f"s{number}", NOW_US + step, v=step)])
            counts.append(sent_now)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1] * 160
    assert sum(map(len, stream.held().values())) == 160
    assert len(made) <= 8


def test_the_document_declares_both_routes(api: Api) -> None:
    document = json.loads(api.call("GET", "/openapi.json", token="").body)
    statuses = {path: set(document["paths"][path]["post"]["responses"]) for path in (READINGS, LINES)}
    assert statuses[READINGS] >= {"202", "401", "403", "413", "415", "422", "429", "503"}
    assert statuses[LINES] >= {"204", "400", "401", "403", "413", "415", "429", "503"}
