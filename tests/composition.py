"""The compose file, the Dockerfile and the broker's settings, read for tests, and how a service becomes a process."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
BROKER_SETTINGS = ROOT / "infra/compose/mosquitto.conf"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, rest in lines]


def variables(service: str) -> dict[str, str]:
    """What compose sets for the service; what it passes on from the shell is left out."""
    given: Mapping[str, Any] = SERVICES[service].get("environment", {})
    return {name: str(value) for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Machine:
    """This machine in place of the compose network: what stands there for names, ports and folders."""

    replaced: Mapping[str, str]

    def here(self, text: str) -> str:
        """A word of the compose file as it reads here; `$$` is compose's way to write `$`."""
        text = text.replace("$$", "$")
        for there, here in self.replaced.items():
            text = text.replace(there, here)
        return text

    def command(self, words: list[Any]) -> list[str]:
        """A command of the compose file as one to start here: the image's programs are this interpreter's."""
        first, *rest = (self.here(str(word)) for word in words)
        programs = {"thermocline": [sys.executable, "-m", "cli.main"], "python": [sys.executable]}
        return [*programs.get(first, [first]), *rest]

    def run(self, service: str) -> list[str]:
        """How the service is started."""
        words = SERVICES[service]["command"]
        return self.command(["thermocline", *words] if service in OURS else words)

    def check(self, service: str) -> list[str]:
        """How the service's health is checked."""
        kind, *words = SERVICES[service]["healthcheck"]["test"]
        assert kind == "CMD"
        return self.command(words)

    def environment(self, service: str, folder: Path) -> dict[str, str]:
        """What a container would find: compose's variables and little else. Its folders lie in `folder`."""
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LD_"))}
        places = {name: str(folder) for name in ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME")}
        path = os.pathsep.join([os.environ.get("PATH", "/usr/bin:/bin"), "/usr/sbin"])
        given = {name: self.here(value) for name, value in variables(service).items()}
        return kept | places | {"PATH": path, "PYTHONPATH": str(ROOT)} | given
