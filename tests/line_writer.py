"""Writes InfluxDB line protocol, by its specification alone: for tests of what reads it."""

from __future__ import annotations

from collections.abc import Mapping

from ingest.reading import Value


def escaped(text: str, special: str) -> str:
    """The text with a backslash before each special character."""
    return "".join(f"\\{character}" if character in special else character for character in text)


def value_text(value: Value) -> str:
    """A field's value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        return repr(value)
    return '"' + escaped(value, '"\\') + '"'


def line(
    measurement: str, tags: Mapping[str, str], fields: Mapping[str, Value], at: int | None = None
) -> str:
    """One line; `at` is its time in the unit that the reader is told."""
    head = [escaped(measurement, ", ")]
    head += [f"{escaped(name, ',= ')}={escaped(text, ',= ')}" for name, text in tags.items()]
    body = [f"{escaped(name, ',= ')}={value_text(value)}" for name, value in fields.items()]
    pieces = [",".join(head), ",".join(body)] + ([] if at is None else [str(at)])
    return " ".join(pieces)
