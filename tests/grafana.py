"""Grafana's dashboard and provisioning files, read for tests, and Grafana's way of filling in variables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

FOLDER = Path(__file__).resolve().parents[1] / "infra" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboards/thermocline.json").read_text())
SOURCES: dict[str, Any] = yaml.safe_load((FOLDER / "provisioning/datasources/thermocline.yaml").read_text())
LOADER: dict[str, Any] = yaml.safe_load((FOLDER / "provisioning/dashboards/thermocline.yaml").read_text())
_VARIABLE = re.compile(r"\$\{(\w+)(?::(\w+))?\}")


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every request of the dashboard, with the name of the variable or the title of the panel it is for."""
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["infinityQuery"]
    for panel in DASHBOARD["panels"]:
        yield from ((panel["title"], target) for target in panel["targets"])


def filled_in(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables' values ("Variable syntax", advanced format options: percentencode)."""

    def value(found: re.Match[str]) -> str:
        name, how = found.groups()
        assert how in (None, "percentencode"), how
        return quote(values[name], safe="") if how else values[name]

    return _VARIABLE.sub(value, text)


def at(answer: Any, selector: str) -> Any:
    """The part of an answer a root selector names; all of it where it is empty."""
    for name in selector.split(".") if selector else ():
        answer = answer[name]
    return answer
