"""What a route says of itself: its parameters, body and answers, by which it is checked and documented."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

if TYPE_CHECKING:
    from lambdas.api.params import Parameter

Schema = Mapping[str, Any]
"""A JSON Schema (2020-12), as OpenAPI 3.1 takes it."""
Needs = Literal["read", "write", "admin", "any", "none"]
"""What a caller must hold: a scope of that action, any valid token, or nothing."""
Function = TypeVar("Function", bound=Callable[..., Any])
_ATTRIBUTE = "thermocline_operation"


@dataclass(frozen=True, slots=True)
class Answer:
    """One status a route answers with: JSON of the schema, else the media types of `content`; neither: no body."""

    text: str
    schema: Schema | None = None
    content: Mapping[str, Schema] | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    example: Any = None


@dataclass(frozen=True, slots=True)
class Body:
    """What a route takes: media types with their schemas (an empty one: any bytes). `example` is of the first."""

    content: Mapping[str, Schema]
    text: str
    required: bool = True
    example: Any = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One route. `problems` are the codes it answers with besides those that every route has."""

    id: str
    tag: str
    summary: str
    needs: Needs
    parameters: tuple[Parameter[Any], ...]
    answers: Mapping[int, Answer]
    body: Body | None
    problems: tuple[str, ...]
    text: str
    example: str
    strict: bool


def operation(  # noqa: PLR0913 - a declaration, by keywords
    name: str,
    *,
    tag: str,
    summary: str,
    needs: Needs,
    answers: Mapping[int, Answer],
    parameters: tuple[Parameter[Any], ...] = (),
    body: Body | None = None,
    problems: tuple[str, ...] = (),
    text: str = "",
    example: str = "",
    strict: bool = True,
) -> Callable[[Function], Function]:
    """Declare a route: what stands between its Powertools decorator and its function.

    `text` is a paragraph for the documentation, `example` the path (and query) of an example request; `strict`
    refuses query parameters that are not declared.
    """
    declared = Operation(
        name, tag, summary, needs, parameters, answers, body, problems, text, example, strict
    )

    def declare(function: Function) -> Function:
        setattr(function, _ATTRIBUTE, declared)
        return function

    return declare


def operation_of(function: Callable[..., Any]) -> Operation | None:
    """What the function's route says of itself; None where it says nothing, and is then never called."""
    return cast("Operation | None", getattr(function, _ATTRIBUTE, None))
