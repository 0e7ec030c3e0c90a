"""A server of a benchmark as a child process: started, asked over a pipe, stopped."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"


class SideServer:
    """A server as a child process; use as a context manager. It ends with its parent, however that ends.

    `serve` runs in the child: it sends its port over the pipe once, then answers what it is asked.
    """

    def __init__(self, serve: Callable[[Connection], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, self._childs_pipe = context.Pipe()
        self._process = context.Process(target=serve, args=(self._childs_pipe,), daemon=True)
        self.endpoint_url = ""

    def __enter__(self) -> Self:
        self._process.start()
        self._childs_pipe.close()
        try:
            self.endpoint_url = f"http://{HOST}:{self._pipe.recv()}"
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        self._process.join()
        self._pipe.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid or 0

    def _ask(self, question: tuple[str, object]) -> object:
        self._pipe.send(question)
        return self._pipe.recv()
