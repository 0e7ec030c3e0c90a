"""The image's build steps, replayed as the Dockerfile states them, in a clean folder with a virtual environment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.composition import ROOT, instructions

PLACES = ("/opt/thermocline", "/var/cache/thermocline", "/src")
"""Folders of the image that its first stage makes."""
pytestmark = pytest.mark.local


class Replay:
    """The image's file system under one folder; only the places above exist in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.workdir = root
        self.environment: dict[str, str] = {}

    def here(self, text: str) -> str:
        return re.sub("|".join(rf"{place}(?=[/:\s]|$)" for place in PLACES), rf"{self.root}\g<0>", text)

    def step(self, name: str, rest: str) -> None:
        match name:
            case "WORKDIR":
                self.workdir = Path(self.here(rest)) if rest in PLACES else self.root
                self.workdir.mkdir(parents=True, exist_ok=True)
            case "COPY" if rest.startswith("--from"):
                _, source, target = rest.split()
                assert source == target, "a virtual environment cannot be moved"
            case "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self.copy(ROOT / source, self.workdir / target)
            case "RUN":
                (self.root / "var/cache").mkdir(parents=True, exist_ok=True)
                self.run(["sh", "-ec", self.here(rest)])
            case "ENV":
                for pair in rest.split():
                    variable, _, value = pair.partition("=")
                    self.environment[variable] = self.here(value)
            case _:
                assert name in ("FROM", "USER", "ENTRYPOINT", "CMD"), f"{name} is not replayed"

    def copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / source.name)

    def run(self, words: list[str]) -> str:
        kept = {name: os.environ[name] for name in ("HOME", "TMPDIR") if name in os.environ}
        kept |= {
            name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LD_"))
        }
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        inside = {name: value.replace("$PATH", path) for name, value in self.environment.items()}
        done = subprocess.run(
            words,
            cwd=self.workdir,
            env=kept | {"PATH": path, "PIP_NO_COMPILE": "1"} | inside,  # bytecode would take half the time
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Replay:
    """Where every instruction was replayed."""
    made = Replay(tmp_path_factory.mktemp("image"))
    for name, rest in instructions():
        made.step(name, rest)
    return made


def test_the_image_s_command_runs_from_what_was_built_alone(image: Replay) -> None:
    shown = image.run(["thermocline", "--help"])
    assert "deploy" in shown
    assert "clock" in shown
    where = image.run(
        ["python", "-c", "import cli, infra, sys; print(cli.__file__, infra.__file__, sys.prefix)"]
    )
    assert all(path.startswith(f"{image.root}/opt/thermocline") for path in where.split())
    assert (image.root / "opt/thermocline/bin/thermocline").is_file()


def test_what_deploying_needs_is_in_the_image(image: Replay) -> None:
    code = (
        "from infra import deploy, localstack, package\n"
        "assert 'Resources' in deploy.TEMPLATE.read_text()\n"
        "assert all((package.LOCKS / f'{name}.lock').is_file() for name in package.PACKAGES)\n"
        "names = package._code('api')\n"
        "assert 'lambdas/store_readings.py' in names and 'ingest/write.py' in names, sorted(names)\n"
        "assert 'lambdas/dashboard/index.html' in names and 'lambdas/api/app.py' in names, sorted(names)\n"
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-m', 'pip', '--version'], check=True)\n"
    )
    assert "pip" in image.run(["python", "-c", code])


def test_what_is_installed_is_what_is_locked(image: Replay) -> None:
    listed = image.run(["python", "-m", "pip", "list", "--format=freeze"])
    pairs = [line.split("==") for line in listed.split()]
    installed = {canonicalize_name(name): version for name, version in pairs}
    locked = re.findall(r"^([\w.-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(locked) > 20
    versions: dict[str, set[str]] = {}
    for name, version in locked:
        versions.setdefault(canonicalize_name(name), set()).add(version)
    for name, found in installed.items():
        assert found in versions.get(name, {found})
    assert {"boto3", "paho-mqtt", "pyarrow"} <= set(installed)
    extra = set(installed) - set(versions)
    assert extra <= {"thermocline", "pip", "setuptools"}
