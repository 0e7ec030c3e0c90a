"""Builds the function packages: our code, and for AWS the locked dependencies, trimmed to what is used."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Literal

from ingest.errors import BadInput, ThermoclineError

Architecture = Literal["arm64", "x86_64"]
ROOT = Path(__file__).resolve().parent.parent
LOCKS = Path(__file__).resolve().parent / "lambda-requirements"
CODE_FOLDERS = ("ingest", "lambdas", "sensors")
PACKAGES = ("store", "archive", "api")
"""One package per lock file: `store` for store_readings, `archive` for what archives, indexes and compacts,
`api` for serve_api."""
_BASES: Mapping[str, str] = {"archive": "store", "api": "archive"}
"""Packages whose lock holds everything of another one's: only the rest is installed for them."""
_ONLY_API = ("sensors", "lambdas/api", "lambdas/dashboard")
"""Our files that the other packages have no use for: they would be deployed again for a change of the dashboard."""
PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
MOST_UNZIPPED_BYTES = 250 * 1024 * 1024
"""A function's unzipped package and layers together ("Lambda quotas")."""
_MACHINES: Mapping[Architecture, str] = {"arm64": "aarch64", "x86_64": "x86_64"}
_NEWEST_GLIBC_MINOR = 34
"""Amazon Linux 2023, which python3.12 and later run on, has glibc 2.34."""
_EPOCH = (1980, 1, 1, 0, 0, 0)

# --- what is left out -------------------------------------------------------------------

_DROPPED_FOLDERS = frozenset({"__pycache__", "tests", "bin"})
_DROPPED_SUFFIXES = frozenset(
    {".pyc", ".pyi", ".pyx", ".pxd", ".pxi", ".h", ".hpp", ".c", ".cc", ".a", ".lib", ".pc", ".cmake", ".md"}
)
_DROPPED_TREES = (
    "boto3/data",
    "boto3/examples",
    "numpy/f2py",
    "numpy/_pyinstaller",
    "pyarrow/include",
    "pyarrow/includes",
    "pyarrow/src",
)
_BOTOCORE_SERVICES = frozenset({"dynamodb", "s3", "sts", "kinesis", "cloudwatch"})
_BOTOCORE_FILES = frozenset(
    {"endpoints.json", "partitions.json", "sdk-default-configuration.json", "_retry.json"}
)
# Reading and writing Parquet needs libarrow, its compute, acero, dataset and substrait libraries (pyarrow.lib
# is linked against all of them) and libparquet. The rest is other formats and other people's object stores.
_PYARROW_DROPPED = re.compile(
    r"""(_flight|_s3fs|_gcsfs|_azurefs|_hdfs|_orc|_dataset_orc|_csv|_json|_feather|_substrait|_cuda|_gandiva|gandiva
        |_parquet_encryption|_dataset_parquet_encryption|_pyarrow_cpp_tests)\.
      |lib(arrow_flight|arrow_python_flight|arrow_python_parquet_encryption|arrow_s3|gandiva)\.so
      |lib\w+\.so$              # the same bytes again under the name a linker looks for
      |lib\w+\.so\.\d+\.\d""",  # and under the full version; loaders ask for .so.N
    re.VERBOSE,
)


def keep(path: PurePosixPath) -> bool:
    """Whether a file of the installed dependencies goes into a package; paths begin at its root."""
    parts = path.parts
    if not _DROPPED_FOLDERS.isdisjoint(parts[:-1]) or path.suffix in _DROPPED_SUFFIXES:
        return False
    if any(path.is_relative_to(tree) for tree in _DROPPED_TREES):
        return False
    if parts[0].endswith(".dist-info"):
        return path.name == "METADATA" or "licenses" in parts or path.name.startswith(("LICENSE", "NOTICE"))
    if parts[:2] == ("botocore", "data"):
        wanted = _BOTOCORE_FILES if len(parts) == 3 else _BOTOCORE_SERVICES
        return parts[2] in wanted and not path.name.startswith("examples-")
    return not (parts[0] == "pyarrow" and len(parts) == 2 and _PYARROW_DROPPED.match(path.name))


# --- building ---------------------------------------------------------------------------


def build_local(out_dir: Path) -> dict[str, Path]:
    """One package with our code only, under every name: locally the emulator's interpreter has the rest.

    The file's name holds a digest of the content: equal names are equal packages.
    """
    code = _code("api")
    path = out_dir / f"code-{_digest(code)}.zip"
    if not path.exists():
        out_dir.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as draft:
            _write_zip(draft, code)
    return dict.fromkeys(PACKAGES, path)


def build_aws(
    out_dir: Path, architecture: Architecture, python_version: str, *, cache_dir: Path
) -> dict[str, Path]:
    """The packages for Lambda, by name: our code and the locked dependencies as wheels for the target.

    Trimmed dependencies are kept in `cache_dir` under a digest of lock, target and rules,
    so that only the first build installs anything. File names as in `build_local`.
    Raises BadInput for a target that cannot be built, ThermoclineError where pip fails or
    a package is larger than Lambda takes.
    """
    if architecture not in _MACHINES:
        raise BadInput(f"architecture: {architecture!r} is none of Lambda's; use {' or '.join(_MACHINES)}.")
    if python_version not in PYTHON_VERSIONS:
        raise BadInput(f"python version: {python_version!r} is not supported; use one of {PYTHON_VERSIONS}.")
    built: dict[str, Path] = {}
    for name in PACKAGES:
        code = _code(name)
        dependencies = _dependencies(name, architecture, python_version, cache_dir)
        path = out_dir / f"{name}-{_digest(code, dependencies.stem)}.zip"
        if not path.exists():
            out_dir.mkdir(parents=True, exist_ok=True)
            with _replacing(path) as draft:
                shutil.copyfile(dependencies, draft)
                _write_zip(draft, code)
        _check_size(path)
        built[name] = path
    return built


def _code(package: str) -> dict[str, bytes]:
    """Our files by their names in the package; `api` holds them all."""
    without = () if package == "api" else _ONLY_API
    return {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for folder in CODE_FOLDERS
        for path in sorted((ROOT / folder).rglob("*"))
        if path.is_file()
        and _is_code(path.relative_to(ROOT))
        and not any(path.is_relative_to(ROOT / left_out) for left_out in without)
    }


def _is_code(path: Path) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and path.suffix not in {".pyc", ".md"}


def _dependencies(name: str, architecture: Architecture, python_version: str, cache_dir: Path) -> Path:
    """A zip of the trimmed dependencies of one lock file, made where the cache has none."""
    lock, below = LOCKS / f"{name}.lock", _BASES.get(name)
    base = _dependencies(below, architecture, python_version, cache_dir) if below is not None else None
    before = base.stem if base is not None else ""
    rules = Path(__file__).read_bytes()
    state = hashlib.sha256(rules + lock.read_bytes() + f"{architecture} {python_version} {before}".encode())
    path = cache_dir / f"{name}-{state.hexdigest()[:24]}.zip"
    if not path.exists():
        cache_dir.mkdir(parents=True, exist_ok=True)
        wanted = _entries(lock)
        if below is not None:
            wanted = [entry for entry in wanted if entry not in set(_entries(LOCKS / f"{below}.lock"))]
        with tempfile.TemporaryDirectory(dir=cache_dir) as work:
            folder, left = Path(work) / "installed", Path(work) / lock.name
            left.write_text("".join(wanted))
            _install(left, architecture, python_version, folder)
            files = {
                found.as_posix(): folder / found
                for found in sorted(_files(folder))
                if keep(PurePosixPath(found))
            }
            with _replacing(path) as draft:
                if base is not None:
                    shutil.copyfile(base, draft)
                _write_zip(draft, files)
    return path


def _entries(lock: Path) -> list[str]:
    """The entries of a lock file, each with its hashes on the lines that follow it."""
    return re.findall(r"^\w.*\n(?:[ \t].*\n)*", lock.read_text(), re.MULTILINE)


def _files(folder: Path) -> Iterator[Path]:
    return (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def _install(lock: Path, architecture: Architecture, python_version: str, target: Path) -> None:
    """Let pip put the locked wheels for the target platform into a folder. Raises ThermoclineError."""
    machine = _MACHINES[architecture]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(_NEWEST_GLIBC_MINOR, 16, -1)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--target", str(target), "--no-compile", "--no-deps", "--require-hashes", "-r", str(lock)]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", python_version]
    command += [word for tag in [*tags, f"manylinux2014_{machine}"] for word in ("--platform", tag)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ThermoclineError(
            f"The dependencies of {lock.name} could not be installed for {architecture}, Python "
            f"{python_version}. pip said: {done.stderr.strip()[-2000:]}"
        )


# --- zip files --------------------------------------------------------------------------


def _digest(files: Mapping[str, bytes], *before: str) -> str:
    """What names a package: 24 hex digits over the names and contents of its files."""
    state = hashlib.sha256("\n".join(before).encode())
    for name, data in sorted(files.items()):
        state.update(f"\n{name} {hashlib.sha256(data).hexdigest()}".encode())
    return state.hexdigest()[:24]


def _write_zip(path: Path, files: Mapping[str, bytes | Path]) -> None:
    """Add the files to a zip, sorted by name, without times and owners: equal files, equal bytes."""
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, source in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, source if isinstance(source, bytes) else source.read_bytes())


@contextmanager
def _replacing(path: Path) -> Generator[Path, None, None]:
    """A draft that becomes the file at the end: builds that run at once do not see each other's halves."""
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=path.parent) as folder:
        draft = Path(folder) / path.name
        yield draft
        draft.replace(path)


def unzipped_bytes(path: Path) -> int:
    """What the package takes when unpacked."""
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _check_size(path: Path) -> None:
    size = unzipped_bytes(path)
    if size > MOST_UNZIPPED_BYTES:
        raise ThermoclineError(
            f"{path.name} unpacks to {size} bytes and Lambda takes {MOST_UNZIPPED_BYTES}. Trim its "
            f"dependencies further (infra/package.py, keep)."
        )
