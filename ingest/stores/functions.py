"""A deployed function, invoked and waited for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from ingest.errors import ThermoclineError, Unavailable
from ingest.stores._boto_errors import translated

CLIENT_OPTIONS: Mapping[str, Any] = {
    "read_timeout": 910,
    "tcp_keepalive": True,
    "retries": {"mode": "standard", "total_max_attempts": 3},
}
"""For a client that waits as long as a function may run: 900 s ("Lambda quotas")."""
_MOST_TOLD = 300


class LambdaFunction:
    """One function, by name."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def invoke(self, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the function answers to the event; an empty mapping where that is nothing.

        Raises ThermoclineError where the function failed, Unavailable where it failed because a
        service could not be outlasted or could not be reached, NotFound where there is none.
        """
        body = json.dumps(event, separators=(",", ":")).encode()
        with translated(f"Invoking function {self._name}"):
            response = self._client.invoke(
                FunctionName=self._name, InvocationType="RequestResponse", Payload=body
            )
            raw: bytes = response["Payload"].read()
        try:
            answer: object = json.loads(raw or b"null")
        except ValueError as error:
            raise ThermoclineError(f"Function {self._name} answered something that is not JSON.") from error
        told: dict[str, Any] = cast(dict[str, Any], answer) if isinstance(answer, dict) else {}
        if response.get("FunctionError") is None:
            return told
        what = f"{told.get('errorType', 'an error')}: {str(told.get('errorMessage', ''))[:_MOST_TOLD]}"
        kind = Unavailable if told.get("errorType") == Unavailable.__name__ else ThermoclineError
        raise kind(f"Function {self._name} failed with {what.rstrip('.')}. Its log says more.")
