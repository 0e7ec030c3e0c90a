"""One CloudFormation stack: create or update, describe, delete, and what failed where it failed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from ingest.errors import ThermoclineError, Unavailable

_FIRST_POLL_S = 0.05
_LONGEST_POLL_S = 5.0
_LONGEST_WAIT_S = 3600.0
_NEVER_WAS = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED")
"""How a stack ends whose creation failed: it can only be deleted ("Stack status codes")."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The time in epoch seconds, and how to wait for some seconds."""

    now: Callable[[], float]
    sleep: Callable[[float], None]


def apply(cloudformation: Any, name: str, template: str, parameters: Mapping[str, str], clock: Clock) -> bool:
    """Create or update the stack and wait; whether anything was changed.

    What is left of a failed creation is deleted first. Raises ThermoclineError with the
    reasons of the resources that failed, Unavailable after an hour.
    """
    stack = settled(cloudformation, name, clock)
    if stack is not None and stack["StackStatus"] in _NEVER_WAS:
        delete(cloudformation, stack["StackId"], clock)
        stack = None
    request: dict[str, Any] = {
        "StackName": name,
        "TemplateBody": template,
        "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in sorted(parameters.items())],
        "Capabilities": ["CAPABILITY_IAM"],
        "Tags": [{"Key": "application", "Value": "thermocline"}],
    }
    try:
        if stack is None:
            cloudformation.create_stack(**request)
        else:
            cloudformation.update_stack(**request)
    except ClientError as error:
        if "No updates are to be performed" in message_of(error):
            return False
        raise ThermoclineError(f"CloudFormation refused stack {name}: {message_of(error)}") from error
    after = settled(cloudformation, name, clock)
    if after is None or after["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise ThermoclineError(_failure(cloudformation, name, after))
    return True


def delete(cloudformation: Any, stack_id: str, clock: Clock) -> None:
    """Delete the stack and wait. Raises ThermoclineError with the reasons where something stayed."""
    cloudformation.delete_stack(StackName=stack_id)
    after = settled(cloudformation, stack_id, clock)
    if after is not None:
        raise ThermoclineError(_failure(cloudformation, after["StackName"], after))


def describe(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """The stack as it is, by name or id; None where there is none."""
    try:
        stack: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in message_of(error):
            return None
        raise
    return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack


def settled(cloudformation: Any, name: str, clock: Clock) -> dict[str, Any] | None:
    """The stack once nothing is in progress. Raises Unavailable after an hour."""
    pause_s, until_s = _FIRST_POLL_S, clock.now() + _LONGEST_WAIT_S
    while clock.now() < until_s:
        stack = describe(cloudformation, name)
        if stack is None or not stack["StackStatus"].endswith("_IN_PROGRESS"):
            return stack
        clock.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_POLL_S)
    raise Unavailable(f"Stack {name} has been in progress for an hour. Look at its events and try again.")


def _failure(cloudformation: Any, name: str, stack: Mapping[str, Any] | None) -> str:
    """What went wrong, resource by resource, in the order it happened."""
    if stack is None:
        return f"Stack {name} is gone; somebody deleted it meanwhile. Deploy again."
    reasons: list[str] = []
    for event in _last_operation(cloudformation, stack["StackId"]):
        reason = str(event.get("ResourceStatusReason", ""))
        if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
            reasons.append(f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason}")
    if any("DescribeEvents" in reason for reason in reasons):  # where the reasons are said to be
        reasons = list(_validation_errors(cloudformation, stack["StackId"])) or reasons
    told = "; ".join(reversed(reasons)) or str(stack.get("StackStatusReason") or "no reason was given")
    return f"Stack {name} ended as {stack['StackStatus']}. {told.rstrip('.')}. Mend that and try again."


def _last_operation(cloudformation: Any, stack_id: str) -> Iterator[dict[str, Any]]:
    """Events of the last create, update or delete, newest first."""
    begins = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS")
    for page in cloudformation.get_paginator("describe_stack_events").paginate(StackName=stack_id):
        for event in page["StackEvents"]:
            if event.get("PhysicalResourceId") == stack_id and event["ResourceStatus"] in begins:
                return
            yield event


def _validation_errors(cloudformation: Any, stack_id: str) -> Iterator[str]:
    """What the check before the last operation found wrong, newest first ("DescribeEvents")."""
    operation = ""
    for page in cloudformation.get_paginator("describe_events").paginate(StackName=stack_id):
        for event in page["OperationEvents"]:
            if event.get("EventType") == "VALIDATION_ERROR":
                operation = operation or event["OperationId"]
                if event["OperationId"] == operation:
                    yield f"{event.get('LogicalResourceId', stack_id)}: {event['ValidationStatusReason']}"


def status_of(error: ClientError) -> int:
    """The HTTP status AWS answered with; 0 where there was none."""
    answer: Any = error.response
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def message_of(error: ClientError) -> str:
    """What AWS said."""
    answer: Any = error.response
    return str(answer.get("Error", {}).get("Message", error))
