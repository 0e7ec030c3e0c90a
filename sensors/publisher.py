"""What puts runs into Kinesis: PutRecords calls, resending what was refused, acknowledgement."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from ingest.errors import BadInput, NotFound, Refused, ThermoclineError, Throttled, Unavailable
from ingest.reading import Run
from sensors.lanes import RECORD_BYTES, Delivery, Lane, OnAccepted, lane_keys, lane_of, pieces

CALL_RECORDS = 500
CALL_BYTES = 5 * 1024 * 1024
"""Limits of one call, partition keys counted in ("PutRecords", Amazon Kinesis API Reference)."""
LEAST_CALL_BYTES = 512 * 1024
"""While records are refused calls shrink to what was accepted, though not below this; a call that is
accepted whole lets the next be larger by this."""
SEND_AT_BYTES = 2 * 1024 * 1024
"""Full records that wait before `submit` sends some."""
OPEN_BYTES = 16 * 1024 * 1024
"""Payload in records that are not full before `submit` closes them early: bounds memory."""
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0

_PASSING = frozenset(
    {
        "InternalFailure",
        "InternalFailureException",
        "KMSThrottlingException",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
    }
)
_THROTTLED = _PASSING & {
    "LimitExceededException",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
}
_FORBIDDEN = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "UnrecognizedClientException",
    }
)


@dataclass(frozen=True, slots=True)
class Sent:
    """What a publisher has done: readings and bytes (payload and framing) that Kinesis accepted,
    in how many records; PutRecords calls, failed ones included; records sent more than once."""

    readings: int = 0
    records: int = 0
    size_bytes: int = 0
    calls: int = 0
    resent: int = 0

    def since(self, earlier: Sent) -> Sent:
        """What was done after `earlier`."""
        return Sent(*(getattr(self, name.name) - getattr(earlier, name.name) for name in fields(Sent)))


class Publisher:
    """Sends runs to one stream and says which of them Kinesis has accepted.

    `client` is a boto3 Kinesis client. `lanes` is how many partition keys are used, best a
    multiple of shards times the parallelization of whoever reads the stream: the sensors of
    a lane are read together and in order. Of each lane one record at a time is on its way,
    so nothing overtakes a refused one. A record refused for `patience_s` seconds ends the
    call with Unavailable. `now` and `sleep` are in seconds, `random` gives `[0, 1)`.
    `on_progress` is told the totals after every PutRecords call.

    A reading may reach Kinesis twice (a reply that was lost); it is acknowledged once.
    One caller at a time: not for use from several threads without a lock.
    """

    def __init__(
        self,
        client: Any,
        stream_name: str,
        *,
        lanes: int,
        now: Callable[[], float],
        sleep: Callable[[float], None],
        random: Callable[[], float],
        patience_s: float = 60.0,
        on_progress: Callable[[Sent], None] | None = None,
    ) -> None:
        self._client = client
        self._stream_name = stream_name
        self._lanes = [Lane(key) for key in lane_keys(lanes)]
        self._now = now
        self._sleep = sleep
        self._random = random
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._busy: dict[str, Lane] = {}
        self._ready_bytes = 0
        self._open_bytes = 0
        self._call_bytes = CALL_BYTES
        self._finished: deque[Delivery] = deque()
        self.sent = Sent()

    def publish(self, runs: Iterable[Run], on_accepted: OnAccepted | None = None) -> Sent:
        """Send every run and return when all are accepted: what that took. Raises as `flush` does."""
        before = self.sent
        for run in runs:
            self.submit(run, on_accepted)
        self.flush()
        return self.sent.since(before)

    def submit(self, run: Run, on_accepted: OnAccepted | None = None) -> None:
        """Take a run over; sends only where enough is waiting, so that memory stays bounded.

        `on_accepted` is called once, during this or a later call, when Kinesis has accepted
        every reading of the run. Runs of a sensor are accepted in the order of submission.
        Raises BadInput, taking nothing over, where one reading exceeds a record; else as `flush` does.
        """
        self._take(run, list(pieces(run)), on_accepted)

    def submit_payload(self, sensor_id: str, payload: bytes, on_accepted: OnAccepted | None = None) -> None:
        """Take over a user record as it is, in its place among the runs of the sensor; else as `submit`.

        It counts as no reading, and is acknowledged as a run of the sensor that holds none.
        Raises BadInput, taking nothing over, where it exceeds a record.
        """
        if len(payload) > RECORD_BYTES - 1024:
            raise BadInput(f"A payload of {len(payload)} bytes exceeds a Kinesis record, which holds 1 MiB.")
        self._take(Run(sensor_id, [], {}, 0), [(payload, 0)], on_accepted)

    def _take(self, run: Run, payloads: list[tuple[bytes, int]], on_accepted: OnAccepted | None) -> None:
        delivery = Delivery(run, on_accepted, len(payloads))
        lane = self._lanes[lane_of(run.sensor_id, len(self._lanes))]
        ready_bytes, open_bytes = lane.ready_bytes, lane.open_bytes
        for payload, readings in payloads:
            lane.add(payload, readings, delivery)
        self._ready_bytes += lane.ready_bytes - ready_bytes
        self._open_bytes += lane.open_bytes - open_bytes
        if lane.ready:
            self._busy.setdefault(lane.key, lane)
        if not payloads:
            self._finished.append(delivery)
            self._acknowledge()
        if self._open_bytes > OPEN_BYTES:
            self._close_all()
        while self._ready_bytes >= SEND_AT_BYTES:
            self._call()

    def flush(self) -> None:
        """Send all that is held; return when Kinesis has accepted it.

        Raises Unavailable where it has not within the patience, NotFound where there is no such
        stream, Refused where the caller may not write to it. What was not accepted stays held,
        in order: `pending` names it, and another `flush` goes on with it, with new patience.
        """
        self._close_all()
        for lane in self._busy.values():
            lane.ready[0].tried_s = None
        while self._busy:
            self._call()

    def pending(self) -> list[Run]:
        """The runs taken over and not acknowledged, those of a sensor in order."""
        found = {id(delivery): delivery.run for lane in self._lanes for delivery in lane.deliveries()}
        return list(found.values())

    def _close_all(self) -> None:
        for lane in self._lanes:
            lane.close()
            if lane.ready:
                self._busy.setdefault(lane.key, lane)
        self._ready_bytes = sum(lane.ready_bytes for lane in self._lanes)
        self._open_bytes = 0

    def _call(self) -> None:
        """One PutRecords call, or one wait where every lane is waiting to send again."""
        begun_s = self._now()
        lanes = self._due(begun_s)
        if not lanes:
            wait_s = min(lane.ready[0].not_before_s for lane in self._busy.values()) - begun_s
            self._sleep(wait_s)
            return
        again = sum(1 for lane in lanes if lane.ready[0].tries)
        for lane in lanes:
            record = lane.ready[0]
            record.tries += 1
            record.tried_s = begun_s if record.tried_s is None else record.tried_s
        self.sent = replace(self.sent, calls=self.sent.calls + 1, resent=self.sent.resent + again)
        answers = self._put(lanes)
        accepted_bytes = sum(
            self._accept(lane) for lane, code in zip(lanes, answers, strict=True) if not code
        )
        refused = [(lane, code) for lane, code in zip(lanes, answers, strict=True) if code]
        if refused:
            self._call_bytes = min(CALL_BYTES, max(accepted_bytes, LEAST_CALL_BYTES))
        else:
            self._call_bytes = min(CALL_BYTES, max(self._call_bytes, accepted_bytes + LEAST_CALL_BYTES))
        self._acknowledge()
        if self._on_progress is not None:
            self._on_progress(self.sent)
        self._hold_back(refused)

    def _due(self, now_s: float) -> list[Lane]:
        """Lanes whose first record goes into the next call, the longest unserved first."""
        due: list[Lane] = []
        total = 0
        for lane in self._busy.values():
            if lane.ready[0].not_before_s > now_s:
                continue
            if not due or total + lane.next_bytes() <= self._call_bytes:
                due.append(lane)
                total += lane.next_bytes()
            if len(due) == CALL_RECORDS:
                break
        for lane in due:
            self._busy[lane.key] = self._busy.pop(lane.key)
        return due

    def _put(self, lanes: Sequence[Lane]) -> list[str]:
        """The error code of each lane's first record, empty where it was accepted."""
        records = [{"Data": lane.ready[0].data, "PartitionKey": lane.key} for lane in lanes]
        try:
            reply = self._client.put_records(StreamName=self._stream_name, Records=records)
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            if not _passes(error):
                raise _failure(error, self._stream_name) from error
            return [_code(error)] * len(lanes)
        answers = cast(list[dict[str, Any]], reply.get("Records", []))
        if len(answers) != len(lanes):
            return ["IncompleteReply"] * len(lanes)
        return [str(answer.get("ErrorCode") or "") for answer in answers]

    def _accept(self, lane: Lane) -> int:
        record = lane.accepted()
        size_bytes = len(record.data)
        self._ready_bytes -= size_bytes
        if not lane.ready:
            del self._busy[lane.key]
        for delivery in record.deliveries:
            delivery.left -= 1
            if not delivery.left:
                self._finished.append(delivery)
        done = self.sent
        self.sent = replace(
            done,
            readings=done.readings + record.readings,
            records=done.records + 1,
            size_bytes=done.size_bytes + size_bytes,
        )
        return size_bytes

    def _acknowledge(self) -> None:
        while self._finished:
            delivery = self._finished.popleft()
            if delivery.on_accepted is not None:
                delivery.on_accepted(delivery.run)

    def _hold_back(self, refused: Sequence[tuple[Lane, str]]) -> None:
        """Let each refused record wait, with full jitter; give up where one has waited too long.

        What was refused together is tried again together: one throw of the dice per call.
        """
        now_s, share = self._now(), self._random()
        for lane, _ in refused:
            record = lane.ready[0]
            longest_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(record.tries, 16))
            record.not_before_s = now_s + share * longest_s
        for lane, code in refused:
            if now_s - cast(float, lane.ready[0].tried_s) >= self._patience_s:
                raise self._given_up(code)

    def _given_up(self, code: str) -> Unavailable:
        runs = self.pending()
        sensors = {run.sensor_id for run in runs}
        readings = sum(len(run.ts_us) for run in runs)
        kind = Throttled if code in _THROTTLED else Unavailable
        return kind(
            f"stream {self._stream_name}: for {self._patience_s:g} s it did not accept what it was sent "
            f"(last answer: {code}). Not accepted: {len(runs)} runs with up to {readings} readings of "
            f"{len(sensors)} sensors, such as {min(sensors)}. They can be sent again; add shards if it was "
            "throttled, else check that the stream can be reached."
        )


# --- what the service answers -----------------------------------------------------------


def shard_count(client: Any, stream_name: str) -> int:
    """How many open shards the stream has. Raises NotFound, Refused, Unavailable."""
    try:
        reply = client.describe_stream_summary(StreamName=stream_name)
    except (BotoCoreError, ClientError, ResponseParserError) as error:
        raise _failure(error, stream_name) from error
    return int(reply["StreamDescriptionSummary"]["OpenShardCount"])


def _code(error: Exception) -> str:
    if isinstance(error, ClientError):
        return str(cast(Any, error).response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def _passes(error: Exception) -> bool:
    """Whether the same call may succeed later without anybody changing anything."""
    if isinstance(error, ClientError):
        status = int(cast(Any, error).response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return _code(error) in _PASSING or status >= 500 or status == 429
    return not isinstance(
        error, NoCredentialsError | PartialCredentialsError | NoRegionError | ParamValidationError
    )


def _failure(error: Exception, stream_name: str) -> ThermoclineError:
    code = _code(error)
    if code == "ResourceNotFoundException":
        return NotFound(
            f"stream {stream_name}: does not exist where AWS_ENDPOINT_URL and the region point. "
            "Start the stack (`thermocline up`), deploy, or name another stream."
        )
    if code in _FORBIDDEN or isinstance(error, NoCredentialsError | PartialCredentialsError):
        return Refused(
            f"stream {stream_name}: access was denied ({code}). Check the AWS credentials and role."
        )
    return Unavailable(f"stream {stream_name}: the call failed ({error}). Check that Kinesis can be reached.")
