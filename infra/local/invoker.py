"""Invokes a function and waits for its answer; what it logs is counted."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from infra.local.counters import Counters
from infra.local.faults import SERVICE_FAULTS, error_code
from infra.local.journal import Journal


@dataclass(frozen=True, slots=True)
class Answer:
    """How one invocation ended.

    `reached` False: the function never ran (throttled, deleted, service not there), which
    uses no retry. `function_error` None: it returned. `reason` says in words what failed; `log` is
    the end of what the function logged.
    """

    reached: bool
    payload: bytes = b""
    function_error: str | None = None
    request_id: str = ""
    reason: str = ""
    log: str = ""


class Invoker:
    """Synchronous invocations over one Lambda client, which must not retry by itself."""

    def __init__(self, functions: Any, counters: Counters) -> None:
        self._functions = functions
        self._counters = counters
        self.journal = Journal()

    def invoke(self, function_arn: str, body: bytes) -> Answer:
        """Invoke the function with the event and wait. Never raises for what the service or function does."""
        name = function_arn.split(":")[6] if function_arn.count(":") >= 6 else function_arn
        try:
            response: dict[str, Any] = self._functions.invoke(
                FunctionName=function_arn, InvocationType="RequestResponse", LogType="Tail", Payload=body
            )
            payload: bytes = response["Payload"].read()
        except SERVICE_FAULTS as error:
            if error_code(error) == "TooManyRequestsException":
                self._counters.add(name, "Throttles", 1)
            return Answer(reached=False, reason=f"{name} could not be invoked: {error}")
        tail = base64.b64decode(response.get("LogResult") or "").decode("utf-8", "replace")
        self._counters.add_log(name, tail)
        self._counters.add(name, "Invocations", 1)
        request_id = str(response["ResponseMetadata"].get("RequestId", ""))
        function_error: str | None = response.get("FunctionError")
        if function_error is None:
            return Answer(reached=True, payload=payload, request_id=request_id, log=tail)
        self._counters.add(name, "Errors", 1)
        reason = f"{name} failed: {payload[:500].decode('utf-8', 'replace')}"
        return Answer(
            reached=True, payload=payload, function_error=function_error, request_id=request_id, reason=reason
        )
