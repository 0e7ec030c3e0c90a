"""The reference of every command as Markdown, made from the commands themselves: docs/commands.md."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, cast

import typer.main

from cli.main import app

HEAD = """# Commands

Made by `python -m cli.reference > docs/commands.md`; a test compares it with the commands.
"""


def commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command below one, by what is typed, groups before their members."""
    yield path, command
    for name, child in cast(dict[str, Any], getattr(command, "commands", {})).items():
        yield from commands(f"{path} {name}", child)


def section(path: str, command: Any) -> str:
    """One command: its help, its arguments and its options with defaults and variables."""
    lines = [f"## {path}", "", " ".join((command.help or "").split("\n\n")[0].split()), ""]
    lines += [f"{' '.join(part.split())}\n" for part in (command.help or "").split("\n\n")[1:]]
    examples = (command.epilog or "").strip("\b\n").splitlines()
    if examples:
        lines += [examples[0], "", "```", *(line.strip() for line in examples[1:]), "```", ""]
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    if rows:
        lines += ["| | meaning | default |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _row(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    name = ", ".join(parameter.opts) if is_option else parameter.metavar or parameter.name.upper()
    default = parameter.default
    shown = "" if callable(default) or default in (None, "", False, ()) else f"`{default}`"
    if parameter.required:
        shown = "needed"
    variable = f" (`{parameter.envvar}`)" if getattr(parameter, "envvar", None) else ""
    return f"| `{name}` | {(parameter.help or '').replace('|', chr(92) + '|')}{variable} | {shown} |"


def reference() -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    found = list(commands("thermocline", root))[1:]
    return "\n".join([HEAD, *(section(path, command) for path, command in found)])


if __name__ == "__main__":
    sys.stdout.write(reference())
