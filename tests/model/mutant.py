"""What a broken design is to the simulation: which lines it has instead of the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is broken, and by what: pairs of place and name are given `instead`. `seeds` are those
    with a part in it, `failure` how what is noticed begins."""

    name: str
    places: tuple[tuple[Any, str], ...]
    instead: Any
    seeds: Sequence[int] = range(200)
    failure: str = "AssertionError"
