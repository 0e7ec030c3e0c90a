"""The simulation notices every broken design; and what only costs, and breaks no promise, passes."""

from __future__ import annotations

from contextlib import ExitStack
from unittest import mock

import pytest

from tests.model.live import live
from tests.model.mutants import MUTANTS, Mutant


def broken(mutant: Mutant) -> ExitStack:
    """The design as the mutant has it, while the context lasts."""
    stack = ExitStack()
    for place, name in mutant.places:
        stack.enter_context(mock.patch.object(place, name, mutant.instead))
    return stack


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_broken_design_is_noticed(mutant: Mutant) -> None:
    with broken(mutant):
        found = next((lived for seed in mutant.seeds if (lived := live(seed)).failure), None)
    assert found is not None, f"no seed of {mutant.seeds} notices that {mutant.name}"
    assert found.failure.startswith(mutant.failure), found.failure


def test_there_are_mutants_enough() -> None:
    assert len({mutant.name for mutant in MUTANTS}) >= 20
