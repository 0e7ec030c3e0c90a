"""DynamoDB's condition and update expressions, as far as the stores write them, over items in dictionaries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from ingest.item import Attribute

Attributes = dict[str, Attribute]
_TOKEN = re.compile(r"[()]|[=<]|[#:\w]+")


def holds(request: Mapping[str, Any], item: Attributes | None) -> bool:
    """Whether the request's condition holds of the item that is there ("Condition and filter expressions")."""
    condition = request.get("ConditionExpression")
    if condition is None:
        return True
    tokens = list(_tokens(condition))
    found = _either(tokens, item or {}, request)
    if tokens:
        raise ValueError(f"{condition}: {tokens} is not understood here")
    return found


def updated(request: Mapping[str, Any], item: Attributes | None) -> Attributes:
    """The item after the request's UpdateExpression: `SET a = :x, b = :y`, and `REMOVE c` after it."""
    changed: Attributes = {**request["Key"], **(item or {})}
    settings, _, removed = request["UpdateExpression"].removeprefix("SET ").partition(" REMOVE ")
    for setting in settings.split(", "):
        name, value = setting.split(" = ")
        changed[_named(name, request)] = request["ExpressionAttributeValues"][value]
    if removed:
        changed.pop(_named(removed, request), None)
    return changed


@lru_cache(64)
def _tokens(condition: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(condition))


def _named(name: str, request: Mapping[str, Any]) -> str:
    return request.get("ExpressionAttributeNames", {})[name] if name[0] == "#" else name


def _either(tokens: list[str], item: Attributes, request: Mapping[str, Any]) -> bool:
    found = _both(tokens, item, request)
    while tokens[:1] == ["OR"]:
        del tokens[0]
        found = _both(tokens, item, request) or found
    return found


def _both(tokens: list[str], item: Attributes, request: Mapping[str, Any]) -> bool:
    found = _one(tokens, item, request)
    while tokens[:1] == ["AND"]:
        del tokens[0]
        found = _one(tokens, item, request) and found
    return found


def _one(tokens: list[str], item: Attributes, request: Mapping[str, Any]) -> bool:
    token = tokens.pop(0)
    if token == "(":
        found = _either(tokens, item, request)
        del tokens[0]
        return found
    if token in ("attribute_exists", "attribute_not_exists"):
        name = _named(tokens[1], request)
        del tokens[:3]
        return (name in item) == (token == "attribute_exists")
    sign, value = tokens[0], request["ExpressionAttributeValues"][tokens[1]]
    del tokens[:2]
    held = item.get(_named(token, request))
    if held is None:
        return False
    return held == value if sign == "=" else int(str(held["N"])) < int(value["N"])
