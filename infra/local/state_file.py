"""The file by which other processes find a running local stack: where it is, what it says, who may trust it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ingest.errors import Refused

FILE_NAME = "stack.json"


@dataclass(frozen=True, slots=True)
class State:
    """A running local stack. `outputs` are those of its CloudFormation stack, by their names;
    `process_started` tells its process from a later one with the same id."""

    endpoint_url: str
    control_url: str
    token: str
    pid: int
    process_started: str
    region: str
    outputs: dict[str, str]
    options: dict[str, Any]
    started_at: float
    data_dir: str | None
    api_url: str | None = None


def state_folder(environ: Mapping[str, str] | None = None) -> Path:
    """The only place outside a data directory where the stack keeps anything:
    `$XDG_RUNTIME_DIR/thermocline`, else `$XDG_STATE_HOME/thermocline`, else `~/.local/state/thermocline`."""
    values = os.environ if environ is None else environ
    base = values.get("XDG_RUNTIME_DIR") or values.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "thermocline"


def publish(state: State, folder: Path | None = None) -> Path:
    """Write the state, readable by its owner only. Raises Refused where another stack got there first."""
    folder = folder or state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    path, draft = folder / FILE_NAME, folder / f".{FILE_NAME}.{state.pid}"
    with contextlib.suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(state), file, indent=1)
        os.link(draft, path)
    except FileExistsError:
        other = find_running(folder)
        where = other.endpoint_url if other is not None else "an address it has not told yet"
        raise Refused(
            f"A local stack already runs at {where}. Use it, or stop it with `thermocline down`."
        ) from None
    finally:
        draft.unlink()
    return path


def withdraw(state: State, folder: Path | None = None) -> None:
    """Remove the state file where it is this stack's."""
    path = (folder or state_folder()) / FILE_NAME
    held = _read(path)
    if held is not None and held.token == state.token:
        path.unlink(missing_ok=True)


def find_running(folder: Path | None = None) -> State | None:
    """The local stack that runs now, or None. A file left by one that is gone is removed."""
    path = (folder or state_folder()) / FILE_NAME
    state = _read(path)
    if state is not None and process_started(state.pid) == state.process_started:
        return state
    path.unlink(missing_ok=True)
    return None


def process_started(pid: int) -> str:
    """When the process began, as text that no later process of the same id shares; "" where none runs."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)],  # noqa: S607 - ps is found by PATH on every system
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout.strip()


def _read(path: Path) -> State | None:
    try:
        return State(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
