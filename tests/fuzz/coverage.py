"""Fuzzing led by coverage, without end or for some seconds: `python -m tests.fuzz.coverage --seconds 60`."""

from __future__ import annotations

import argparse
import importlib
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path("build/fuzz/coverage")
"""Where what was found interesting is kept (`corpus`), and what fails."""
MISSING = (
    "atheris is not installed; `uv pip install atheris` (or pip) gets it, for CPython on Linux and macOS."
)
PLAIN, REFRAMED, ADDRESSED, ZIPPED = range(4)
"""What the first byte of an input makes of the rest, modulo 4."""
LONGEST_BYTES = 4_096
MOST_MS = 1_000.0
"""CPU time an input may take here: counting what is covered makes everything many times slower."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; 2 where atheris is missing. On a failure libFuzzer ends the process, with the input kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.coverage", description=__doc__)
    parser.add_argument("--seconds", type=int, default=0, help="how long; 0 is without end (0)")
    parser.add_argument("--input", type=Path, help="only this input, to see a failure again")
    asked = parser.parse_args(arguments)
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.stderr.write(f"{MISSING}\n")
        return 2
    with atheris.instrument_imports(include=["ingest", "lambdas"]):
        one_input = _target()
    _write_seeds(FOLDER / "corpus")
    options = [f"-artifact_prefix={FOLDER}/", f"-max_len={LONGEST_BYTES}", f"-max_total_time={asked.seconds}"]
    inputs = [str(asked.input or FOLDER / "corpus")]
    atheris.Setup([sys.argv[0], *options, *inputs], one_input, custom_mutator=_mutator(atheris))
    atheris.Fuzz()
    return 0


def _target() -> Any:
    """The function that atheris calls with each input; it raises where something does not hold."""
    corpus = importlib.import_module("tests.fuzz.corpus")
    door = importlib.import_module("tests.fuzz.door")

    def one_input(data: bytes) -> None:
        way, rest = (data[0] % 4, data[1:]) if data else (PLAIN, b"")
        if way == REFRAMED:
            rest = corpus.framed(rest)
        elif way == ADDRESSED:
            rest = corpus.address("press-7", rest)
        elif way == ZIPPED:
            rest = corpus.gzipped(rest)
        door.Door(MOST_MS).put([corpus.unknown(rest)])

    return one_input


def _mutator(atheris: Any) -> Any:
    """What changes an input: by turns libFuzzer's mutations and ours, which know numbers and tokens."""
    mutate = importlib.import_module("tests.fuzz.mutate")

    def changed(data: bytes, most_bytes: int, seed: int) -> bytes:
        if seed % 2:
            return atheris.Mutate(data, most_bytes)
        return mutate.Maker(random.Random(seed)).mutated(data)[:most_bytes]

    return changed


def _write_seeds(folder: Path) -> None:
    """The seeds, each as an input; what an earlier run found stays."""
    corpus = importlib.import_module("tests.fuzz.corpus")
    hostile = importlib.import_module("tests.fuzz.hostile")
    folder.mkdir(parents=True, exist_ok=True)
    inputs: list[tuple[int, bytes]] = [
        (PLAIN, corpus.sent(seed, corpus.SENSOR).data) for seed in corpus.SEEDS
    ]
    inputs += [(ZIPPED, seed.data) for seed in corpus.SEEDS[:16]]
    inputs += [(REFRAMED, aggregate[4:-16]) for aggregate in corpus.AGGREGATES]
    inputs += [(ADDRESSED, b'{"ts":%d,"a":1}' % corpus.NOW_MS), (PLAIN, b"")]
    inputs += [(PLAIN, corpus.text({"sensor_id": name})) for name in hostile.HOSTILE_IDS[1:200:20]]
    for number, (way, data) in enumerate(inputs):
        (folder / f"seed-{number:03d}").write_bytes(bytes([way]) + data)


if __name__ == "__main__":
    sys.exit(main())
