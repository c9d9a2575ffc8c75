"""Random graphs through skrub and through stratum: nothing may differ, and everything must be covered.

A fresh seed is printed at each run; ``STRATUM_DIFF_SEED`` repeats one, ``STRATUM_DIFF_COUNT`` asks for
another number of graphs (coverage is asserted from 300 on).
"""

from __future__ import annotations

import json
import os

import pytest

from tests.differential import compare, generate
from tests.differential.run import AT_LEAST, Outcome, compare_seeds, expected

COUNT = int(os.environ.get("STRATUM_DIFF_COUNT", "300"))
# Where part of a graph may be left to skrub's own evaluator: the rest must run in the engine.
FALLBACKS_ALLOWED = 0.05


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    """What came of the random graphs of this run."""
    chosen = os.environ.get("STRATUM_DIFF_SEED")
    seed = int(chosen) if chosen else int.from_bytes(os.urandom(4), "big")
    print(f"\nSTRATUM_DIFF_SEED={seed}")
    result = compare_seeds(range(seed, seed + COUNT))
    print(result.table())
    return result


def test_nothing_differs(outcome: Outcome) -> None:
    """Values, cv_results_, fitted state and exceptions are those of skrub, bit by bit."""
    assert not outcome.differences, "\n\n".join(outcome.differences)
    assert outcome.graphs == COUNT


def test_everything_is_covered(outcome: Outcome) -> None:
    """Each kind of node, choice, splitter, scorer, entry point and type; half of the graphs join branches."""
    if outcome.differences or COUNT < 300:
        pytest.skip("the run was cut short")
    assert not outcome.missing(), f"covered less than {AT_LEAST} times: {outcome.missing()}"
    assert outcome.coverage["join"] >= 0.45 * COUNT
    # Errors are compared too, but most entries must get somewhere.
    assert outcome.entries_failed <= 0.1 * outcome.entries


def test_the_engine_did_the_work(outcome: Outcome) -> None:
    """Few entries fall back to skrub's own evaluator."""
    assert sum(outcome.fallbacks.values()) <= FALLBACKS_ALLOWED * outcome.entries, outcome.fallbacks


@pytest.mark.parametrize("seed", [0, 1, 300, 4_000_000_000])
def test_a_recipe_is_json_and_depends_on_its_seed_alone(seed: int) -> None:
    """The same seed gives the same recipe, and nothing of it is lost in JSON."""
    recipe = generate.generate(seed)
    assert json.loads(json.dumps(recipe)) == recipe
    assert json.dumps(generate.generate(seed)) == json.dumps(recipe)
    assert json.dumps(generate.generate(seed + 1)) != json.dumps(recipe)


def test_rotation_is_even() -> None:
    """Any window of turns contains every kind nearly equally often."""
    items = list("abcdefg")
    for start in (0, 3, 1000):
        drawn = [x for turn in range(start, start + 70) for x in generate.rotate("name", turn, items, 2)]
        counts = [drawn.count(i) for i in items]
        assert min(counts) >= 17, counts


def test_expected_kinds_have_unique_names() -> None:
    """The list of what must be covered names nothing twice."""
    names = expected()
    assert len(names) == len(set(names)) > 70


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"float": "8000000000000000"}, {"float": "0000000000000000"}),
        ({"a": [1, 2]}, {"a": [1, 3]}),
        ({"a": [1, 2]}, {"a": [1]}),
        ({"a": True}, {"a": 1}),
        ({"error": {}}, {"eval": 1}),
        ([["x", 1], ["y", 2]], [["y", 2], ["x", 1]]),
    ],
)
def test_comparison_sees_small_things(left: object, right: object) -> None:
    """Zeros with another sign, lengths, types, order."""
    assert compare.first_difference(left, right) is not None
    assert compare.first_difference(left, left) is None
