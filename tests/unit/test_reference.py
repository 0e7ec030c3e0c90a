"""The page of commands is the one the commands themselves make."""

from __future__ import annotations

from pathlib import Path

from cli.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "commands.md"


def test_the_page_of_commands_is_up_to_date() -> None:
    assert PAGE.read_text() == reference(), "run: python -m cli.reference > docs/commands.md"
