"""Holds the documentation to the code: commands, options, settings, reject reasons, links."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("ingest", "sensors", "lambdas", "infra", "cli")
PAGES = "README.md, docs/*.md or ingest/FORMATS.md"


class Command(NamedTuple):
    """A command as it is typed after `thermocline`, empty for the program itself."""

    path: str
    command: Any
    is_group: bool


@cache
def documentation() -> str:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "ingest" / "FORMATS.md"]
    return "\n".join(page.read_text() for page in pages if page.is_file())


def says(word: str) -> bool:
    """Whether the documentation holds the word, not merely as a part of a longer one."""
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", documentation()) is not None


@cache
def commands() -> tuple[Command, ...]:
    try:
        main = importlib.import_module("cli.main")
    except ImportError as error:
        pytest.fail(f"cli/main.py with the Typer app `app` cannot be imported: {error}")
    return tuple(walk("", typer.main.get_command(main.app)))


def walk(path: str, command: Any) -> Iterator[Command]:
    children = getattr(command, "commands", None)
    yield Command(path, command, children is not None)
    for name, child in (children or {}).items():
        if not child.hidden:
            yield from walk(f"{path} {name}".strip(), child)


def parameters(of: Command) -> Iterator[tuple[str, Any]]:
    """What a user calls each parameter (`--port`, `SENSOR`), and the parameter."""
    for parameter in of.command.params:
        if getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        is_option = parameter.param_type_name == "option"
        long = [name for name in parameter.opts if name.startswith("--")] or parameter.opts
        yield (long[0] if is_option else parameter.name.upper()), parameter


@cache
def settings() -> tuple[str, ...]:
    """Every THERMOCLINE_ variable that the code, the template or an option names."""
    found = {name for of in commands() for _, parameter in parameters(of) for name in envvars(parameter)}
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*")):
            if path.suffix in (".py", ".yaml"):
                found |= set(re.findall(r"\bTHERMOCLINE_[A-Z0-9_]*[A-Z0-9]\b", path.read_text()))
    return tuple(sorted(found))


def envvars(parameter: Any) -> list[str]:
    given = parameter.envvar
    return [] if given is None else [given] if isinstance(given, str) else list(given)


def reasons() -> list[str]:
    reject = importlib.import_module("ingest.reject")
    found = getattr(reject, "REASONS", None)
    assert found, "ingest/reject.py must name every reject reason in REASONS (reason: what it means)"
    return sorted(found)


def report(missing: list[str], what: str) -> None:
    assert not missing, f"{len(missing)} {what}:\n  " + "\n  ".join(missing)


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "DECISIONS.md", "LICENSE", "ingest/FORMATS.md"]
)
def test_the_page_is_written(page: str) -> None:
    assert (ROOT / page).is_file(), f"{page} is missing"
    assert len((ROOT / page).read_text()) > 500, f"{page} is all but empty"


def test_every_command_and_parameter_has_help_text() -> None:
    silent = [f"thermocline {of.path}".strip() for of in commands() if not (of.command.help or "").strip()]
    for of in commands():
        silent += [f"thermocline {of.path} {name}" for name, given in parameters(of) if not given.help]
    report(silent, "without help text")


def test_every_command_is_documented() -> None:
    paths = [of.path for of in commands() if of.path and not of.is_group]
    assert len(paths) >= 10, "the command line lost its commands"
    missing = [path for path in paths if not says(f"thermocline {path}") and not says(f"`{path}")]
    report(missing, f"commands that {PAGES} does not mention")


def test_every_option_is_documented() -> None:
    missing = [
        f"{name} of thermocline {of.path}"
        for of in commands()
        for name, option in parameters(of)
        if of.path and name.startswith("-") and not any(says(given) for given in option.opts)
    ]
    report(missing, f"options that {PAGES} does not mention")


def test_every_setting_is_documented() -> None:
    assert settings()
    report([name for name in settings() if not says(name)], f"settings that {PAGES} does not mention")


def test_every_reject_reason_is_documented() -> None:
    report([name for name in reasons() if not says(name)], f"reject reasons that {PAGES} does not mention")


def test_every_documented_command_exists() -> None:
    is_group = {of.path: of.is_group for of in commands()}
    unknown: list[str] = []
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", documentation(), re.MULTILINE | re.DOTALL)
    typed = re.compile(r"^\s*(?:\$ )?(?:\S*/)?thermocline ([a-z][a-z-]*(?: [a-z][a-z-]*)?)", re.MULTILINE)
    for words in typed.findall("".join(blocks)):
        path = words if is_group.get(words.split()[0]) else words.split()[0]
        if path not in is_group:
            unknown.append(f"thermocline {words}")
    assert blocks
    report(unknown, "commands in the documentation that do not exist")


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "ingest").glob("*.md")]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    ]
    ours = [(page, link) for page, link in links if "://" not in link and not link.startswith("mailto:")]
    broken = [f"{page.name}: {link}" for page, link in ours if not (page.parent / link).exists()]
    assert ours
    report(broken, "links to files that do not exist")
