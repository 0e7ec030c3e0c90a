"""Event filter patterns, as far as "Control which events Lambda sends to your function" documents them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from ingest.errors import BadInput

Test = Callable[[Any], bool]
"""Says of one value, or of `MISSING`, whether it is wanted."""

MISSING: Any = object()
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda value, bound: value == bound,
    ">": lambda value, bound: value > bound,
    ">=": lambda value, bound: value >= bound,
    "<": lambda value, bound: value < bound,
    "<=": lambda value, bound: value <= bound,
}


def compile_filters(patterns: Sequence[str]) -> Callable[[Mapping[str, Any]], bool] | None:
    """One test for a record from a mapping's patterns, of which any one may match; None without patterns.

    Raises BadInput for a pattern that is no JSON object or uses an operator that is not
    documented: a filter must never be half understood.
    """
    if not patterns:
        return None
    tests = [_compile_text(pattern) for pattern in patterns]
    return lambda event: any(test(event) for test in tests)


def _compile_text(text: str) -> Test:
    try:
        pattern: Any = json.loads(text)
    except ValueError as error:
        raise BadInput(f"A filter pattern is no JSON ({error}): {text}") from error
    if not isinstance(pattern, dict):
        raise BadInput(f"A filter pattern must be a JSON object: {text}")
    return _compile_object(cast(dict[str, Any], pattern), "pattern")


def _compile_object(pattern: dict[str, Any], path: str) -> Test:
    tests: list[Test] = []
    for name, wanted in pattern.items():
        if name == "$or":
            tests.append(_compile_or(wanted, f"{path}.$or"))
        elif isinstance(wanted, dict):
            tests.append(_under(name, _compile_object(cast(dict[str, Any], wanted), f"{path}.{name}")))
        elif isinstance(wanted, list):
            tests.append(_under(name, _compile_rules(cast(list[Any], wanted), f"{path}.{name}")))
        else:
            raise BadInput(f"{path}.{name} must be an object or a list of rules.")
    return lambda value: all(test(value) for test in tests)


def _compile_or(branches: Any, path: str) -> Test:
    if not isinstance(branches, list) or len(cast(list[Any], branches)) < 2:
        raise BadInput(f"{path} must be a list of two or more patterns.")
    tests: list[Test] = []
    for branch in cast(list[Any], branches):
        if not isinstance(branch, dict):
            raise BadInput(f"{path} must hold objects only.")
        tests.append(_compile_object(cast(dict[str, Any], branch), path))
    return lambda value: any(test(value) for test in tests)


def _under(name: str, test: Test) -> Test:
    def look(value: Any) -> bool:
        if isinstance(value, dict):
            return test(cast(dict[str, Any], value).get(name, MISSING))
        if isinstance(value, list):
            return any(look(element) for element in cast(list[Any], value))
        return test(MISSING)

    return look


def _compile_rules(rules: list[Any], path: str) -> Test:
    if not rules:
        raise BadInput(f"{path} is an empty list of rules, which nothing could match.")
    tests = [_compile_rule(rule, path) for rule in rules]

    def look(value: Any) -> bool:
        if isinstance(value, list):
            elements = cast(list[Any], value)
            return any(test(element) for test in tests for element in (elements or [MISSING]))
        return any(test(value) for test in tests)

    return look


def _compile_rule(rule: Any, path: str) -> Test:
    if not isinstance(rule, dict):
        return lambda value: _same(value, rule)
    operators = cast(dict[str, Any], rule)
    if len(operators) != 1:
        raise BadInput(f"{path}: a rule holds exactly one operator, not {sorted(operators)}.")
    ((operator, operand),) = operators.items()
    if operator == "exists" and isinstance(operand, bool):
        return lambda value: (value is not MISSING) == operand
    if operator == "prefix" and isinstance(operand, str):
        return lambda value: isinstance(value, str) and value.startswith(operand)
    if operator == "suffix" and isinstance(operand, str):
        return lambda value: isinstance(value, str) and value.endswith(operand)
    if operator == "equals-ignore-case" and isinstance(operand, str):
        folded = operand.casefold()
        return lambda value: isinstance(value, str) and value.casefold() == folded
    if operator == "anything-but":
        return _anything_but(operand, path)
    if operator == "numeric" and isinstance(operand, list):
        return _numeric(cast(list[Any], operand), path)
    raise BadInput(
        f"{path}: the operator {operator!r} with {json.dumps(operand)} is not supported by the local event "
        "sources. Known: exists, prefix, suffix, equals-ignore-case, anything-but, numeric."
    )


def _anything_but(operand: Any, path: str) -> Test:
    if isinstance(operand, dict):
        inner = _compile_rule(cast(Any, operand), path)
        return lambda value: isinstance(value, str) and not inner(value)
    unwanted = cast(list[Any], operand) if isinstance(operand, list) else [operand]
    if not unwanted:
        raise BadInput(f"{path}: anything-but needs at least one value.")
    return lambda value: value is not MISSING and not any(_same(value, one) for one in unwanted)


def _numeric(operand: list[Any], path: str) -> Test:
    pairs = list(zip(operand[::2], operand[1::2], strict=False))
    understood = all(op in _COMPARE and _is_number(bound) for op, bound in pairs)
    if not pairs or len(operand) % 2 or not understood:
        raise BadInput(f"{path}: numeric needs pairs of an operator and a number, not {json.dumps(operand)}.")
    return lambda value: _is_number(value) and all(_COMPARE[op](value, bound) for op, bound in pairs)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(value: Any, wanted: Any) -> bool:
    if _is_number(value) and _is_number(wanted):
        return bool(value == wanted)
    return type(value) is type(wanted) and bool(value == wanted)
