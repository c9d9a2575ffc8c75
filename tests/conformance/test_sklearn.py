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

# Module -> how many of its tests pass at least (so that a run that collects nothing is no success).
MODULES = {"test_search": 130, "test_validation": 110, "test_successive_halving": 95}

EXPECTED = {
    "test_base_estimator_inputs[HalvingGridSearchCV]": "counts set_params: once a candidate, not once a fold",
    "test_base_estimator_inputs[HalvingRandomSearchCV]": "counts set_params: once a candidate, not once a fold",
}


@pytest.mark.slow
@pytest.mark.parametrize("module", MODULES)
def test_scikit_learn(module: str, tmp_path: pathlib.Path) -> None:
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "stratum.testing.sklearn_plugin", "-p", "no:cacheprovider", "-rf",
        "--pyargs", f"sklearn.model_selection.tests.{module}", "-W", "ignore::ResourceWarning",
    ]  # fmt: skip
    env = dict(os.environ, OMP_NUM_THREADS="1")
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=1500)
    failed = set(re.findall(r"^(?:FAILED|ERROR) \S*?::(\S+)", run.stdout, re.M))
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None and int(passed.group(1)) >= MODULES[module], run.stdout[-3000:] + run.stderr[-3000:]
    batches = re.search(r"stratum: (\d+) batches, (\d+) by scikit-learn itself", run.stdout)
    assert batches is not None and int(batches.group(1)) > 5 * int(batches.group(2)), run.stdout[-3000:]
    assert failed <= set(EXPECTED), run.stdout[-6000:]
