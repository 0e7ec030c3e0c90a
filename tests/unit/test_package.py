"""The function packages: repeatable, trimmed, and complete in an interpreter that has nothing else."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Literal, cast

import pytest

from infra import package
from ingest.errors import BadInput, ThermoclineError

MACHINES = {"x86_64": "x86_64", "aarch64": "arm64"}
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
MIB = 1024 * 1024

needs_lambda_like_host = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in MACHINES or HERE not in package.PYTHON_VERSIONS,
    reason="the packages hold Linux wheels; only such a host can import them",
)

ISOLATED = """
import sys
sys.path.insert(0, sys.argv[1])
"""

STORE = """
import lambdas.store_readings
assert callable(lambdas.store_readings.handler)
assert not {"numpy", "pyarrow"} & set(sys.modules), "the store package has no Parquet library"
from backports import zstd
assert zstd.decompress(zstd.compress(b"reading")) == b"reading"
"""

PACKED = """
import json
from ingest import chunk
from ingest.reading import Run
hour = 1_795_000_000_000_000
times = [hour + i * 1_000_000 + i % 3 for i in range(600)]
run = Run("press-7", times, {"temperature": [round(20 + i % 50 / 10, 1) + i * 1e-4 for i in range(600)]}, 1)
(item,) = chunk.encode(run, hour // 3_600_000_000 * 3600, "abcdefghijklmnop", 1, "packed")
assert json.loads(item.body)["c"]["S"] == "p"
back = chunk.decode_item(json.loads(item.body)).run
assert back.ts_us == run.ts_us and back.metrics == run.metrics
"""

ARCHIVE = """
import lambdas.archive_expired, lambdas.compact_archive, lambdas.index_segment, lambdas.store_readings
for door in (
    lambdas.archive_expired, lambdas.compact_archive, lambdas.index_segment, lambdas.store_readings
):
    assert callable(door.handler)

from ingest import segment
from ingest.reading import Run
hour = 1_795_000_000_000_000
run = Run(
    "press-7",
    [hour, hour + 1_000_000, hour + 2_000_000],
    {
        "temperature": [21.5, None, -3.25],
        "count": [2**60 + 1, 1, 2],
        "on": [True, None, False],
        "state": ["a", "b", None],
    },
    1_795_000_000_000,
)
data = segment.encode([run]).data
(back,) = segment.decode(data)
assert back.ts_us == run.ts_us and back.metrics == run.metrics, back

import io
import pyarrow, pyarrow.parquet, pyarrow.compute
table = pyarrow.parquet.read_table(io.BytesIO(data))
assert table.num_rows == run.value_count(), table.num_rows
assert pyarrow.compute.max(table["ts"]).as_py().microsecond == 0
"""

API = """
import lambdas.serve_api
assert callable(lambdas.serve_api.handler)

import os
for name in ("TABLE", "ARCHIVE_BUCKET", "REJECTS_BUCKET", "STREAM"):
    os.environ["THERMOCLINE_" + name] = "x"
event = {
    "version": "2.0", "routeKey": "$default", "rawPath": "/health", "rawQueryString": "", "headers": {},
    "requestContext": {
        "http": {"method": "GET", "path": "/health"}, "stage": "$default", "requestId": "r", "apiId": "a"
    },
    "isBase64Encoded": False,
}
def ask(path):
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    return lambdas.serve_api.handler(event, None)

assert ask("/health")["statusCode"] == 200
document = ask("/openapi.json")
assert document["statusCode"] == 200 and '"/v1/sensors"' in document["body"]
assert ask("/")["statusCode"] == 200, "the dashboard is in the package"
assert ask("/v1/sensors")["statusCode"] == 401

from ingest.reading import Run
from sensors.publisher import Publisher
sent = []
class Kinesis:
    def put_records(self, StreamName, Records):
        sent.extend(Records)
        return {"FailedRecordCount": 0, "Records": [{"SequenceNumber": "1"}] * len(Records)}
publisher = Publisher(Kinesis(), "s", lanes=20, now=lambda: 0.0, sleep=print, random=lambda: 0.5)
publisher.publish([Run("press-7", [1_795_000_000_000_000], {"t": [1.5]}, 1)])
assert len(sent) == 1
"""

CLIENTS = """
from ingest.stores.connect import client
for service, host, operation, request in (
    ("dynamodb", "dynamodb", "get_item", {"TableName": "t", "Key": {"pk": {"S": "c"}, "sk": {"S": "layout"}}}),
    ("s3", "s3", "get_object", {"Bucket": "b", "Key": "k"}),
    ("kinesis", "kinesis", "put_records", {"StreamName": "s", "Records": []}),
    ("cloudwatch", "monitoring", "get_metric_data", {}),
):
    made = client(service, region="eu-west-2")
    url = made.generate_presigned_url(operation, Params=request)
    assert "eu-west-2" in url and host in url, url
strangers = [
    name for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "")
]
assert not strangers, strangers
"""


def run_isolated(folder: Path, *parts: str) -> None:
    """Run code in an interpreter that sees the standard library and the unpacked package, nothing more."""
    environment = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    environment |= dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), "eu-west-2")  # as Lambda sets both
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", "\n".join([ISOLATED, *parts]), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stderr


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


# --- our code only ----------------------------------------------------------------------


def test_the_local_package_holds_our_code_and_nothing_else(tmp_path: Path) -> None:
    built = package.build_local(tmp_path)
    assert set(built) == {"store", "archive", "api"}
    assert built["store"] == built["archive"] == built["api"]
    names = names_in(built["store"])
    assert {"ingest/keys.py", "lambdas/store_readings.py", "lambdas/__init__.py"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"ingest", "lambdas", "sensors"}
    assert {"lambdas/serve_api.py", "lambdas/dashboard/index.html", "sensors/publisher.py"} <= set(names)
    assert [name for name in names if "__pycache__" in name or "/." in name or name.endswith(".md")] == []


def test_the_same_code_gives_the_same_bytes(tmp_path: Path) -> None:
    first = package.build_local(tmp_path / "one")["store"]
    time.sleep(0.01)
    second = package.build_local(tmp_path / "two")["store"]
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert re.fullmatch(r"code-[0-9a-f]{24}\.zip", first.name)
    assert [path.name for path in second.parent.iterdir()] == [second.name]


def test_other_code_gives_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = tmp_path / "house"
    for folder in package.CODE_FOLDERS:
        (house / folder).mkdir(parents=True)
        (house / folder / "__init__.py").write_text("one = 1\n")
    monkeypatch.setattr(package, "ROOT", house)
    before = package.build_local(tmp_path / "out")["store"]
    (house / "ingest" / "__init__.py").write_text("one = 2\n")
    after = package.build_local(tmp_path / "out")["store"]
    assert before.name != after.name
    assert before.exists()


# --- with dependencies ------------------------------------------------------------------


@pytest.mark.parametrize("lock", package.PACKAGES)
def test_locks_are_hashed_pinned_and_name_no_address(lock: str) -> None:
    text = (package.LOCKS / f"{lock}.lock").read_text()
    assert not re.search(r"://|--index|--find-links|--extra", text)
    entries = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==\S+ .*--hash=sha256:", entry), entry
        assert ";" not in entry, f"pip would read the marker for the building interpreter: {entry}"


def versions(lock: Path) -> set[str]:
    return set(re.findall(r"^\S+==\S+", lock.read_text(), re.MULTILINE))


def test_all_packages_hold_versions_that_are_tested_here() -> None:
    store, archive, api = (versions(package.LOCKS / f"{name}.lock") for name in package.PACKAGES)
    assert store < archive < api
    assert {entry.split("==")[0] for entry in archive - store} == {"pyarrow"}
    more = {entry.split("==")[0] for entry in api - archive}
    assert "aws-kinesis-agg" in more
    assert "pydantic" not in more, "Powertools asks for it only where it validates"
    assert api - versions(package.ROOT / "requirements.lock") == set()


def test_only_the_api_s_package_changes_with_the_dashboard() -> None:
    alone = {"lambdas/api/app.py", "lambdas/dashboard/index.html", "sensors/publisher.py"}
    assert alone <= set(package._code("api"))
    for name in ("store", "archive"):
        kept = set(package._code(name))
        assert {
            path for path in kept if path.startswith(("sensors/", "lambdas/api/", "lambdas/dash"))
        } == set()
        assert "lambdas/store_readings.py" in kept


@pytest.mark.parametrize(
    ("path", "kept"),
    [
        ("pyarrow/libarrow.so.2600", True),
        ("pyarrow/libarrow_python.so.2600", True),
        ("pyarrow/libarrow_python.so", False),
        ("pyarrow/libarrow_python.so.2600.1.0", False),
        ("pyarrow/libarrow_substrait.so.2600", True),  # pyarrow.lib is linked against it
        ("pyarrow/libarrow_flight.so.2600", False),
        ("pyarrow/libarrow_s3.so.2600", False),
        ("pyarrow/_s3fs.cpython-313-aarch64-linux-gnu.so", False),
        ("pyarrow/_parquet.cpython-313-aarch64-linux-gnu.so", True),
        ("pyarrow/_parquet_encryption.cpython-313-aarch64-linux-gnu.so", False),
        ("pyarrow/parquet/encryption.py", True),
        ("pyarrow/tests/test_io.py", False),
        ("pyarrow/lib.pyx", False),
        ("numpy/_core/tests/test_numeric.py", False),
        ("numpy.libs/libscipy_openblas64_-32a4b2a6.so", True),
        ("botocore/cacert.pem", True),
        ("botocore/data/endpoints.json", True),
        ("botocore/data/s3/2006-03-01/service-2.json.gz", True),
        ("botocore/data/s3/2006-03-01/examples-1.json", False),
        ("botocore/data/ec2/2016-11-15/service-2.json.gz", False),
        ("bin/jp.py", False),
        ("six.py", True),
        ("six-1.17.0.dist-info/METADATA", True),
        ("six-1.17.0.dist-info/LICENSE", True),
        ("six-1.17.0.dist-info/RECORD", False),  # names the machine's paths
    ],
)
def test_what_is_trimmed(path: str, *, kept: bool) -> None:
    assert bool(package.keep(PurePosixPath(path))) is kept


@pytest.mark.parametrize(("architecture", "version"), [("mips", "3.13"), ("arm64", "3.9")])
def test_a_target_that_cannot_be_built_is_named(tmp_path: Path, architecture: str, version: str) -> None:
    known = cast(Literal["arm64"], architecture)
    with pytest.raises(BadInput, match="use"):
        package.build_aws(tmp_path / "out", known, version, cache_dir=tmp_path / "cache")


def test_pip_s_own_words_are_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locks = tmp_path / "locks"
    locks.mkdir()
    (locks / "store.lock").write_text("six==1.17.0 --hash=sha256:00\n")
    monkeypatch.setattr(package, "LOCKS", locks)
    with pytest.raises(ThermoclineError, match=r"store\.lock could not be installed.*pip said: \S"):
        package.build_aws(tmp_path / "out", "arm64", "3.13", cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Path], Path]]:
    """The packages for the interpreter and machine that run the tests, and the cache they came from."""
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        architecture = cast(package.Architecture, MACHINES[platform.machine()])
        cache = Path(folder) / "cache"
        yield package.build_aws(Path(folder) / "out", architecture, HERE, cache_dir=cache), cache


@needs_lambda_like_host
@pytest.mark.parametrize(
    ("name", "parts", "most_mib"),
    [("store", (STORE, PACKED), 80), ("archive", (ARCHIVE, PACKED), 180), ("api", (API,), 190)],
)
def test_a_package_alone_runs_its_handlers(
    built: tuple[dict[str, Path], Path], tmp_path: Path, name: str, parts: tuple[str, ...], most_mib: int
) -> None:
    path = built[0][name]
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder, zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
        run_isolated(Path(folder), *parts, CLIENTS)
    assert package.unzipped_bytes(path) < most_mib * MIB


@needs_lambda_like_host
def test_the_parquet_library_is_trimmed(built: tuple[dict[str, Path], Path]) -> None:
    with zipfile.ZipFile(built[0]["archive"]) as archive:
        size = sum(entry.file_size for entry in archive.infolist() if entry.filename.startswith("pyarrow/"))
    assert 50 * MIB < size < 105 * MIB


@needs_lambda_like_host
def test_a_second_build_installs_nothing_and_gives_the_same(
    built: tuple[dict[str, Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, cache = built
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip was called again"))
    architecture = cast(package.Architecture, MACHINES[platform.machine()])
    again = package.build_aws(tmp_path, architecture, HERE, cache_dir=cache)
    assert {name: path.name for name, path in again.items()} == {n: p.name for n, p in first.items()}
    assert again["store"].read_bytes() == first["store"].read_bytes()
    for path in again.values():
        names = names_in(path)
        assert len(names) == len(set(names))
