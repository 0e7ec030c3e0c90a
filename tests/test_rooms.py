"""Holds the rooms and arrows: who may import whom, and what only one place may know."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# --- the table --------------------------------------------------------------------------
#
# One row per room, from the outside in: what it holds, and the rooms it may import besides
# itself. A file belongs to the first row that matches it. What is not allowed is forbidden.

ROOMS: list[tuple[str, str, str]] = [
    # room         files                                       may import
    ("benchmarks", "benchmarks/*",                             "infra sensors lambdas ingest"),
    ("cli",        "cli/*",                                    "infra sensors lambdas ingest"),
    ("infra",      "infra/*",                                  "ingest"),
    ("lambdas",    "lambdas/*",                                "sensors ingest"),
    ("sensors",    "sensors/*",                                "ingest"),
    ("use_cases",  "ingest/{write,archive,query,paging,retry,compact}*.py", "plan protocols codecs keys base"),
    ("plan",       "ingest/{plan,aggregate,rows,tiers}*.py",   "protocols codecs keys base"),
    ("protocols",  "ingest/stores/{__init__,_people,_blobs}.py", "codecs keys base"),
    ("stores",     "ingest/stores/*",                          "protocols settings codecs keys base"),
    ("settings",   "ingest/settings.py",                       "keys base"),
    ("codecs",     "ingest/{wire,senml,columnar,usual,gather,instant,number_text}*.py", "keys base"),
    ("codecs",     "ingest/{line_*,blob}.py",                   "keys base"),
    ("codecs",     "ingest/{kinesis_records,envelope,reject,failed_batch}*.py", "keys base"),
    ("codecs",     "ingest/{chunk,item,manifest,segment}*.py", "keys base"),
    ("keys",       "ingest/keys.py",                           "base"),
    ("base",       "ingest/{reading,errors,times,layout,sensor,token,cursor,__init__}.py", ""),
]  # fmt: skip
INSIDE_INGEST = {"use_cases", "protocols", "stores", "settings", "plan", "codecs", "keys", "base"}
"""What "ingest" in the table stands for."""

ONLY_IN: dict[str, str] = {
    # package                 the only files that may import it
    "boto3":                  "ingest/stores/* sensors/publisher.py infra/* benchmarks/usual.py",
    "botocore":               "ingest/stores/* sensors/publisher.py infra/*",
    "aws_lambda_powertools":  "lambdas/*",
    "uvicorn":                "lambdas/serve.py",
    "aws_kinesis_agg":        "sensors/lanes.py",
    "ministack":              "infra/*",
    "paho":                   "sensors/mqtt_*.py benchmarks/mqtt_side.py",
    "localstack_client":      "infra/localstack.py",
    "pcodec":                 "ingest/chunk_column.py benchmarks/packing.py",
    "typer":                  "cli/*",
    "rich":                   "cli/*",
}  # fmt: skip

KEY_SYNTAX = "ingest/keys.py ingest/blob.py"
"""The only files that build or parse a table key or an object name; blob.py those of blobs."""
ATTRIBUTES = "ingest/{item,chunk,manifest}*.py ingest/stores/* infra/local/*"
"""The only files that read or write AttributeValues (`{"S": ...}`); infra/local for its TTL clock."""
ENVIRONMENT = "ingest/settings.py infra/local/*"
"""The only files that read the environment; infra/local because it hands one to its child processes."""
CLOCKLESS = "ingest/* sensors/*"
"""Files that are given clocks, sleep and randomness. The edges (lambdas, cli, infra) have their own."""

CLOCK_OR_CHANCE = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time)(_ns)?|time\.sleep"
    r"|datetime\.(datetime\.(now|utcnow|today)|date\.today)"
    r"|random\.\w+|secrets\.\w+|uuid\.uuid[14]|os\.urandom"
)
"""Calls that answer differently each time; `random.Random(seed)` does not."""

MOST_FUNCTION_LINES = 60
MOST_FILE_LINES = 400


# --- reading the tree -------------------------------------------------------------------


@dataclass(frozen=True)
class Module:
    """One source file; `path` is relative to the root, with forward slashes."""

    path: str
    source: str
    tree: ast.Module


def module(path: str, source: str) -> Module:
    return Module(path, source, ast.parse(source))


@cache
def house() -> tuple[Module, ...]:
    """Every source file of every room; tests are not a room."""
    folders = sorted({files.split("/")[0] for _, files, _ in ROOMS})
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(module(path.relative_to(ROOT).as_posix(), path.read_text()) for path in paths)


def matches(path: str, patterns: str) -> bool:
    """Whether the path fits one of the patterns: words with `*`, and `{a,b}` for either."""
    return any(fnmatchcase(path, plain) for pattern in patterns.split() for plain in braces(pattern))


def braces(pattern: str) -> Iterator[str]:
    """The pattern once for every choice its braces give."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        yield pattern
        return
    for choice in found[1].split(","):
        yield from braces(pattern[: found.start()] + choice + pattern[found.end() :])


def room_of(path: str) -> str | None:
    return next((room for room, files, _ in ROOMS if matches(path, files)), None)


def allowed(room: str) -> set[str]:
    named = next(may.split() for name, _, may in ROOMS if name == room)
    return {room, *named} | (INSIDE_INGEST if "ingest" in named else set())


def imports(of: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything a file imports, wherever in the file it does."""
    for node in ast.walk(of.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def file_of(dotted: str) -> str | None:
    """The file a dotted name leads to (a name in a module leads to the module), if it is one of ours."""
    parts = dotted.split(".")
    if not any(files.startswith(f"{parts[0]}/") for _, files, _ in ROOMS):
        return None
    for end in range(len(parts), 0, -1):
        stem = "/".join(parts[:end])
        for path in (f"{stem}.py", f"{stem}/__init__.py"):
            if (ROOT / path).is_file():
                return path
    return f"{'/'.join(parts)}.py"


def names(of: Module) -> dict[str, str]:
    """What each imported name stands for: `{"now": "datetime.datetime.now", "t": "time"}`."""
    known: dict[str, str] = {}
    for node in ast.walk(of.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split(".")[0]
                known[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom):
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def dotted(node: ast.expr, known: dict[str, str]) -> str:
    """The full name an expression reads, `time.time` for `t.time` after `import time as t`; else empty."""
    if isinstance(node, ast.Name):
        return known.get(node.id, "")
    if isinstance(node, ast.Attribute):
        base = dotted(node.value, known)
        return base and f"{base}.{node.attr}"
    return ""


def texts(of: Module) -> Iterator[tuple[int, str]]:
    """Every string in the code, f-strings in their constant pieces, docstrings left out."""
    prose = {
        id(node.value)
        for node in ast.walk(of.tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(of.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value


# --- the rules: each yields what is wrong, as "line: what; what next" ---------------------


def arrows(of: Module) -> Iterator[str]:
    room = room_of(of.path)
    if room is None:
        yield "1: has no room; give it one in ROOMS, or move what it holds to a file that has one"
        return
    for line, name in imports(of):
        path = file_of(name)
        if path is None:
            continue
        other = room_of(path)
        if other and other not in allowed(room):
            may = " ".join(sorted(allowed(room) - {room})) or "nothing else of ours"
            yield f"{line}: imports {name}, which is in {other}; {room} may import {may}"


def outside_packages(of: Module) -> Iterator[str]:
    for line, name in imports(of):
        files = ONLY_IN.get(name.split(".")[0])
        if files and not matches(of.path, files):
            yield f"{line}: imports {name}; only {files} may"


def key_syntax(of: Module) -> Iterator[str]:
    if matches(of.path, KEY_SYNTAX):
        return
    for line, text in texts(of):
        name = re.search(r"(readings|blobs|staging)/v\d|rejects/date=", text) and not re.search(r"\s", text)
        if name or re.match(r"[smtar]#", text):
            yield f"{line}: {text!r} is key syntax; call ingest.keys, which alone builds and parses keys"


def attribute_values(of: Module) -> Iterator[str]:
    if matches(of.path, ATTRIBUTES):
        return
    kinds = {"S", "N", "B", "L", "M", "BOOL", "NULL", "SS", "NS", "BS"}
    what = "is an AttributeValue; items are made and read by the codecs and stores alone"
    for node in ast.walk(of.tree):
        if isinstance(node, ast.Dict) and len(node.keys) == 1:
            key = node.keys[0]
        elif isinstance(node, ast.Subscript):
            key = node.slice
        else:
            continue
        if isinstance(key, ast.Constant) and key.value in kinds:
            yield f"{node.lineno}: {ast.unparse(node)} {what}"


def environment(of: Module) -> Iterator[str]:
    if matches(of.path, ENVIRONMENT):
        return
    readers = {"os.environ", "os.environb", "os.getenv", "os.putenv", "os.unsetenv"}
    known = names(of)
    for node in ast.walk(of.tree):
        if isinstance(node, ast.Attribute | ast.Name) and dotted(node, known) in readers:
            yield f"{node.lineno}: reads {ast.unparse(node)}; take it as an argument, only {ENVIRONMENT} may"


def clocks_and_randomness(of: Module) -> Iterator[str]:
    if not matches(of.path, CLOCKLESS):
        return
    known = names(of)
    for node in ast.walk(of.tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func, known)
        seeded = name == "random.Random" and node.args
        if CLOCK_OR_CHANCE.fullmatch(name) and not seeded:
            yield f"{node.lineno}: calls {name}; take it as an argument, so that a test decides what it gives"


def heading(of: Module) -> Iterator[str]:
    text = ast.get_docstring(of.tree)
    if not text:
        yield "1: has no docstring; open with one sentence that says what may live in the file"
        return
    first = " ".join(text.split("\n\n")[0].split())
    sentences = len(re.findall(r"[.!?](?=\s+[A-Z`]|$)", first))
    most = 2 if of.path.count("/") == 1 and of.path.endswith("/__init__.py") else 1
    if not first.endswith("."):
        yield "1: the docstring's opening does not end with a full stop"
    elif sentences > most:
        yield f"1: the docstring opens with {sentences} sentences; one says what may live here"


def lengths(of: Module) -> Iterator[str]:
    count = len(of.source.splitlines())
    if count > MOST_FILE_LINES:
        yield f"1: has {count} lines, over {MOST_FILE_LINES}; split it by meaning"
    for node in ast.walk(of.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MOST_FUNCTION_LINES:
                yield f"{node.lineno}: {node.name} has {size} lines, over {MOST_FUNCTION_LINES}; split it"


Rule = Callable[[Module], Iterator[str]]
RULES: list[Rule] = [
    arrows,
    outside_packages,
    key_syntax,
    attribute_values,
    environment,
    clocks_and_randomness,
    heading,
    lengths,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_the_rule(rule: Rule) -> None:
    broken = [f"{of.path}:{what}" for of in house() for what in rule(of)]
    assert not broken, f"{len(broken)} places break the rule:\n  " + "\n  ".join(broken)


def test_every_row_of_the_table_names_files_and_rooms_that_exist() -> None:
    rooms = {room for room, _, _ in ROOMS}
    assert {word for _, _, may in ROOMS for word in may.split()} <= rooms | {"ingest"}
    assert rooms == {room for of in house() if (room := room_of(of.path))}


BROKEN: list[tuple[Rule, str, str]] = [
    (arrows, "ingest/chunk.py", "from ingest.stores import HotStore"),
    (arrows, "ingest/chunk.py", "import ingest.query"),
    (arrows, "ingest/reading.py", "from ingest import keys"),
    (arrows, "ingest/plan.py", "from ingest.stores.hot import DynamoHotStore"),
    (arrows, "ingest/query.py", "from ingest.stores.connect import stores"),
    (arrows, "ingest/write.py", "def f():\n    import sensors"),
    (arrows, "ingest/newcomer.py", "x = 1"),
    (arrows, "sensors/replay.py", "from cli.main import main"),
    (arrows, "lambdas/store_readings.py", "from infra.local import emulator"),
    (arrows, "infra/deploy.py", "import lambdas.store_readings"),
    (outside_packages, "ingest/query.py", "import boto3"),
    (outside_packages, "cli/main.py", "from botocore.config import Config"),
    (outside_packages, "ingest/wire.py", "import rich.progress"),
    (key_syntax, "ingest/stores/hot.py", 'def f(x): return f"s#{x}"'),
    (key_syntax, "cli/main.py", 'prefix = "readings/v1/date="'),
    (attribute_values, "ingest/write.py", 'item = {"S": "x"}'),
    (attribute_values, "cli/main.py", 'ttl = item["ttl"]["N"]'),
    (environment, "cli/main.py", "import os\nx = os.environ['A']"),
    (environment, "ingest/wire.py", "from os import getenv as g\nx = g('A')"),
    (clocks_and_randomness, "ingest/write.py", "import time as t\nx = t.time()"),
    (clocks_and_randomness, "ingest/write.py", "from datetime import datetime, UTC\nx = datetime.now(UTC)"),
    (clocks_and_randomness, "sensors/simulator.py", "import random\nx = random.Random()"),
    (clocks_and_randomness, "ingest/keys.py", "from uuid import uuid4\nx = uuid4()"),
    (heading, "ingest/wire.py", "x = 1"),
    (heading, "ingest/wire.py", '"""No stop"""'),
    (heading, "ingest/wire.py", '"""One. Two."""'),
    (lengths, "ingest/wire.py", "x = 1\n" * (MOST_FILE_LINES + 1)),
    (lengths, "ingest/wire.py", "def f():\n" + "    x = 1\n" * MOST_FUNCTION_LINES),
]


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_a_rule_sees_what_breaks_it(rule: Rule, path: str, source: str) -> None:
    assert list(rule(module(path, source)))


KEPT: list[tuple[Rule, str, str]] = [
    (arrows, "ingest/query.py", "from ingest import keys\nfrom ingest.stores import Catalog\nimport json"),
    (arrows, "cli/main.py", "from ingest.stores.connect import stores\nimport infra.local"),
    (outside_packages, "ingest/stores/hot.py", "import boto3"),
    (key_syntax, "cli/archive.py", 'help = "Folder to write the tree to (readings/v1/date=...)."'),
    (key_syntax, "ingest/chunk.py", '"""Keys look like `s#press-7`."""\nx = "a b#c"'),
    (attribute_values, "ingest/write.py", 'x = {"S": 1, "total": 2}'),
    (environment, "ingest/settings.py", "import os\nx = os.environ"),
    (clocks_and_randomness, "sensors/simulator.py", "import random\nx = random.Random(7).random()"),
    (clocks_and_randomness, "ingest/write.py", "import time\ndef f(clock=time.time): return clock()"),
    (clocks_and_randomness, "cli/main.py", "import time\nx = time.time()"),
    (heading, "ingest/wire.py", '"""One thing; at 1.5 MB.\n\nMore. And more."""'),
]


@pytest.mark.parametrize(("rule", "path", "source"), KEPT)
def test_a_rule_lets_pass_what_keeps_it(rule: Rule, path: str, source: str) -> None:
    assert list(rule(module(path, source))) == []
