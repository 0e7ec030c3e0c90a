"""How commands speak: answers to stdout or a file, notes and progress to stderr."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from ingest.rows import Rows


def console() -> Console:
    """The console for everything that is not data; it writes to stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """One line to stderr."""
    sys.stderr.write(f"{text}\n")


@contextmanager
def destination(output: Path | None) -> Generator[BinaryIO, None, None]:
    """Where data goes: stdout, or the file, which appears only when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    partial = output.with_name(f".{output.name}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)


def write(rows: Rows, asked: str | None, output: Path | None) -> None:
    """Write an answer in the format asked for, or the one that suits where it goes."""
    from cli import output as render

    fmt = render.choose_format(asked, output, sys.stdout.isatty())
    with destination(output) as out:
        render.write_rows(rows, fmt, out)


def records(found: list[dict[str, Any]], asked: str | None, output: Path | None) -> None:
    """Write a listing."""
    from ingest import rows as render

    write(render.rows_of_records(found), asked, output)


@contextmanager
def progress(unit: str) -> Generator[Progress, None, None]:
    """A progress bar on stderr; silent where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=console(), transient=True, disable=not sys.stderr.isatty())
    with bar:
        yield bar
