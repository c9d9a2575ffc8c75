"""scikit-learn's own tests of its searches, run against `stratum.sklearn`.

They ship in scikit-learn's wheel. Each must pass that passes with scikit-learn alone, except those listed
here with their reason.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest
import sklearn

VERSION = ".".join(sklearn.__version__.split(".")[:2])
# Version -> module -> how many tests it has.
ITEMS = {
    "1.8": {"test_search": 141, "test_validation": 186, "test_successive_halving": 102},
    "1.9": {"test_search": 171, "test_validation": 211, "test_successive_halving": 102},
}
# The same of a version that is not known: how many pass at least.
MODULES = {"test_search": 130, "test_validation": 110, "test_successive_halving": 95}

EXPECTED = {
    "test_base_estimator_inputs[HalvingGridSearchCV]": "counts set_params: once a candidate, not once a fold",
    "test_base_estimator_inputs[HalvingRandomSearchCV]": "counts set_params: once a candidate, not once a fold",
}
# The only reason for which a test may be skipped: libraries of arrays that are not installed.
SKIPPED = ": not checking array_api input"


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_scikit_learn(module: str, tmp_path: pathlib.Path) -> None:
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "stratum.testing.sklearn_plugin", "-p", "no:cacheprovider", "-rfEs",
        "--pyargs", f"sklearn.model_selection.tests.{module}", "-W", "ignore::ResourceWarning",
    ]  # fmt: skip
    env = dict(os.environ, OMP_NUM_THREADS="1")
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1500)
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*?::(\S+)", run.stdout, re.M))
    last = run.stdout.rstrip().rpartition("\n")[2]
    counts = {what: int(n) for n, what in re.findall(r"(\d+) (passed|failed|skipped|xfailed|xpassed|errors?)\b", last)}
    if VERSION in ITEMS:
        assert sum(counts.values()) == ITEMS[VERSION][module], run.stdout[-3000:] + run.stderr[-3000:]
    assert counts.get("passed", 0) >= MODULES[module], run.stdout[-3000:] + run.stderr[-3000:]
    assert counts.get("failed", 0) + counts.get("error", 0) + counts.get("errors", 0) == len(failed), run.stdout[-3000:]
    skipped = re.findall(r"^SKIPPED \[(\d+)\] (.*)$", run.stdout, re.M)
    assert sum(int(n) for n, _ in skipped) == counts.get("skipped", 0)
    others = [why for _, why in skipped if not why.endswith(SKIPPED)]
    assert not others, others
    batches = re.search(r"stratum: (\d+) batches, (\d+) by scikit-learn itself", run.stdout)
    assert batches is not None and int(batches.group(1)) > 5 * int(batches.group(2)), run.stdout[-3000:]
    assert failed <= set(EXPECTED), run.stdout[-6000:]
