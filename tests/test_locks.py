"""Holds the locks to pyproject.toml: everything hashed, nothing missing, no address in any of them."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
RUN, DEV, BUILD = "requirements.lock", "requirements-dev.lock", "requirements-build.lock"
LAMBDA = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("infra/lambda-requirements/*.lock"))


@cache
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def wanted(lock: str) -> list[Requirement]:
    if lock == BUILD:
        return [Requirement(name) for name in project()["dependency-groups"]["build"]]
    extras = project()["project"]["optional-dependencies"]
    names = project()["project"]["dependencies"] + extras["local"] + extras["packed"]
    if lock == DEV:
        names = names + extras["sql"] + project()["dependency-groups"]["dev"]
    return [Requirement(name) for name in names]


@cache
def locked(lock: str) -> dict[str, list[tuple[str, int]]]:
    """Per package the entries of a lock: version (with its marker) and how many hashes it has."""
    found: dict[str, list[tuple[str, int]]] = {}
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, rest = line.split("==", 1)
            entry = (rest.split("--hash", 1)[0].strip(), line.count("--hash=sha256:"))
            found.setdefault(canonicalize_name(name), []).append(entry)
    return found


def test_every_entry_is_hashed() -> None:
    for lock in (RUN, DEV, BUILD, *LAMBDA):
        assert len(locked(lock)) > (0 if lock == BUILD else 5)
        bare = [name for name, entries in locked(lock).items() if not all(hashes for _, hashes in entries)]
        assert bare == [], f"{lock}: without a hash"


def test_every_dependency_is_locked_at_a_version_that_fits() -> None:
    for lock in (RUN, DEV, BUILD):
        for requirement in wanted(lock):
            entries = locked(lock).get(canonicalize_name(requirement.name))
            assert entries, f"{lock} lacks {requirement}; run `make lock`"
            for entry, _ in entries:
                version = Version(entry.split(";")[0].strip())
                assert version in requirement.specifier, f"{lock} has {version}; run `make lock`"


def test_the_two_locks_agree() -> None:
    run = {name: [entry for entry, _ in entries] for name, entries in locked(RUN).items()}
    dev = {name: [entry for entry, _ in entries] for name, entries in locked(DEV).items()}
    assert {name: dev.get(name) for name in run} == run


def test_functions_run_what_was_tested_locally() -> None:
    assert LAMBDA
    for lock in LAMBDA:
        for name, [(entry, _)] in locked(lock).items():
            tested = [version.split(";")[0].strip() for version, _ in locked(RUN).get(name, [])]
            assert entry.split(";")[0].strip() in tested, f"{lock}: {name}; {RUN} has {tested}"


def test_no_file_of_the_frame_names_an_address() -> None:
    for name in (RUN, DEV, BUILD, *LAMBDA, "pyproject.toml", "Makefile", ".ci/run"):
        text = (ROOT / name).read_text()
        assert not re.search(r"\w+://|--(extra-)?index-url|--find-links", text), name
