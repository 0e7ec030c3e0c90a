"""Grafana's files against the API's own document: every request is one it answers, every column one it gives."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest

from tests.api_world import Api
from tests.grafana import DASHBOARD, FOLDER, LOADER, SOURCES, at, filled_in, targets

VALUES = {
    "sensor": "plant-1/press-7",
    "aggregate": "mean",
    "__from": "1795284440000",
    "__to": "1795288040000",
    "__interval_ms": "2000",
}
TARGETS = [pytest.param(target, id=name) for name, target in targets()]
CONVERTED = {"integer": int, "number": float, "boolean": lambda text: {"true": True, "false": False}[text]}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return Api().call("GET", "/openapi.json").json


def operation(document: dict[str, Any], path: str) -> dict[str, Any]:
    """What answers GET on a path whose sensor ids are percent-encoded."""
    found = [
        methods["get"]
        for template, methods in document["paths"].items()
        if "get" in methods and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path)
    ]
    assert len(found) == 1, f"{path} is answered by {len(found)} routes"
    return found[0]


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The schema a reference leads to; of a choice, the one that is no null."""
    while True:
        if "$ref" in schema:
            schema = at(document, schema["$ref"].removeprefix("#/").replace("/", "."))
        elif choices := schema.get("anyOf") or schema.get("oneOf"):
            schema = next(one for one in choices if one.get("type") != "null")
        else:
            return schema


def answer(document: dict[str, Any], target: dict[str, Any]) -> dict[str, Any]:
    """The schema of one row of what a request gets."""
    path = urlsplit(filled_in(target["url"], VALUES)).path
    content = operation(document, path)["responses"]["200"]["content"]
    schema = resolved(document, content["application/json"]["schema"])
    if target["root_selector"]:
        schema = resolved(document, schema["properties"][target["root_selector"]])
    return resolved(document, schema["items"]) if schema.get("type") == "array" else schema


@pytest.mark.parametrize("target", TARGETS)
def test_a_request_is_one_the_api_answers(document: dict[str, Any], target: dict[str, Any]) -> None:
    assert target["url_options"]["method"] == "GET"
    url = urlsplit(filled_in(target["url"], VALUES))
    assert (url.scheme, url.netloc) == ("", ""), "the data source says where"
    asked = operation(document, url.path)
    known = {one["name"]: one for one in asked.get("parameters", ()) if one["in"] == "query"}
    given = dict(parse_qsl(url.query, strict_parsing=True)) if url.query else {}
    assert set(given) <= set(known)
    assert {name for name, one in known.items() if one.get("required")} <= set(given)
    for name, text in given.items():
        schema = resolved(document, known[name]["schema"])
        if schema.get("type") == "array":
            schema = resolved(document, schema["items"])
        value = CONVERTED.get(schema["type"], str)(text)
        assert jsonschema_rs.is_valid(schema, value), f"{name}={text}"


@pytest.mark.parametrize("target", TARGETS)
def test_every_column_is_one_of_the_answer(document: dict[str, Any], target: dict[str, Any]) -> None:
    row = answer(document, target)
    for column in target["columns"]:
        schema = resolved(document, row["properties"][column["selector"]])
        kind = schema["type"]
        kinds = set([kind] if isinstance(kind, str) else kind) - {"null"}
        assert kinds <= {"number": {"integer", "number"}, "string": {"string"}}[column["type"]], column


def test_the_chart_s_times_are_taken_for_times(document: dict[str, Any]) -> None:
    (chart,) = [panel for panel in DASHBOARD["panels"] if panel["type"] == "timeseries"]
    (target,) = chart["targets"]
    assert target["columns"] == [], "which metrics there are depends on the sensor"
    (change,) = [one for one in chart["transformations"] if one["id"] == "convertFieldType"]
    (time,) = change["options"]["conversions"]
    assert time["destinationType"] == "time"
    assert answer(document, target)["properties"][time["targetField"]]["format"] == "date-time"
    assert chart["maxDataPoints"] <= 20_000, "more windows are refused"


def test_every_variable_is_defined_and_used() -> None:
    text = json.dumps(DASHBOARD["panels"])
    used = {name for name in re.findall(r"\$\{(\w+)", text) if not name.startswith("__")}
    assert used == {variable["name"] for variable in DASHBOARD["templating"]["list"]}


def test_dashboard_and_data_source_belong_together() -> None:
    (source,) = SOURCES["datasources"]
    named = [json.loads(found) for found in re.findall(r'"datasource": (\{[^}]*\})', json.dumps(DASHBOARD))]
    assert len(named) > len(TARGETS)
    assert all(one == {"type": source["type"], "uid": source["uid"]} for one in named)
    (provider,) = LOADER["providers"]
    assert provider["options"]["path"] in (FOLDER / "README.md").read_text()


def test_address_and_token_come_from_the_environment() -> None:
    (source,) = SOURCES["datasources"]
    assert source["jsonData"]["auth_method"] == "bearerToken"
    assert source["secureJsonData"] == {"bearerToken": "$THERMOCLINE_API_TOKEN"}
    assert source["jsonData"]["allowedHosts"] == [source["url"]] == ["$THERMOCLINE_API_URL"]
    for path in FOLDER.rglob("*"):
        if path.is_file():
            assert "thc_" not in path.read_text(), path
