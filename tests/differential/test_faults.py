"""The harness is tested: it must find every planted fault.

Faults are planted in skrub's evaluator, standing in for an engine that has them, and in stratum
itself wherever the build allows it (``make test`` points ``STRATUM_FAULTS`` at a build with planted
faults; without one the faults of the C library are not planted there).
"""

from __future__ import annotations

import os

import pytest

from tests.differential import faults
from tests.differential.hunt import Hunter

ENGINES = ["skrub"] + (["stratum"] if os.environ.get("STRATUM_FAULTS") else [])


def test_the_table_is_large_and_complete() -> None:
    """At least 40 faults, each with a text, a place, and words of recipes that show it."""
    assert len(faults.FAULTS) >= 40
    for fault in faults.FAULTS.values():
        assert fault.description and fault.where and fault.exercises, fault.name
    numbers = [f.number for f in faults.FAULTS.values() if f.number is not None]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_planted_fault_is_found(engine: str) -> None:
    """The harness sees each of them within a few recipes."""
    names = list(faults.FAULTS)
    assert all(faults.can_plant(n, engine) for n in names)
    found = Hunter(engine).all(names)
    for name, where in found.items():
        print(f"{name:36} {where}")
    missed = [n for n in names if found[n] is None]
    assert not missed
